package poster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
)

// codeRefused is the reason of a dead letter whose decision the database will not take, whatever is tried.
const codeRefused = "refused_by_ledger"

// refusedShare bounds the entries of one batch that may be set aside: one, and one more for each refusedShare of them. Beyond
// that it is the database that is ill, not the records: the batch is tried again until somebody looks.
const refusedShare = 100

// refuses says whether the database will not take a row for what is in it, so that trying again cannot help: a data
// exception, a named constraint, a program limit such as the size of an index entry.
func refuses(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code[:2] {
	case "22", "54":
		return true
	case "23":
		return pg.ConstraintName != "" // a missing partition of a table has none
	}
	return false
}

// isolate finds the first entry that makes the database refuse the batch, by trying ever shorter heads of it without
// committing, and makes it a dead letter. The batch can then be posted without it. The session is in no transaction.
func (s *session) isolate(ctx context.Context, b *batch, o options, why error) error {
	if b.refused > len(b.entries)/refusedShare {
		return fmt.Errorf("after %d decisions were set aside: %w", b.refused, why)
	}
	taken, refused := 0, len(b.entries) // heads of these lengths
	for refused-taken > 1 {
		n := (taken + refused) / 2
		err := s.rehearse(ctx, b.head(n), o)
		switch {
		case err == nil:
			taken = n
		case refuses(err):
			refused, why = n, err
		default:
			return err
		}
	}
	e := &b.entries[refused-1]
	if e.reason != "" {
		return why // not even as a dead letter
	}
	e.refuse(codeRefused, why)
	b.refused++
	return nil
}

// rehearse does all of a batch but the commit.
func (s *session) rehearse(ctx context.Context, b *batch, o options) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	err := s.stage(ctx, b, o)
	if _, undo := s.conn.Exec(ctx, "ROLLBACK"); undo != nil {
		return errors.Join(undo, err)
	}
	return err
}

// head is a batch of the first n entries, to rehearse.
func (b *batch) head(n int) *batch {
	h := &batch{entries: slices.Clone(b.entries[:n]), claims: b.claims, checkPositions: b.checkPositions}
	for i := range h.entries {
		if shard := h.entries[i].shard; i == 0 || h.entries[i-1].shard != shard {
			h.shards = append(h.shards, shard)
		}
	}
	return h
}
