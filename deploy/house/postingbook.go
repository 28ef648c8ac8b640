package house

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/deploy/config"
	"sluice/pipelines/posting"
)

// postingEntry is a row of the book's posting rules.
type postingEntry struct {
	ID, Checksum string
	Source       []byte
	Since        time.Time
	By           string
}

// takePostings returns what the house's posters post by: the rules that --postings names, else the last that were recorded, else
// the standard ones. What differs from the last recorded is recorded. An id that was recorded with another text is refused.
func (h *House) takePostings(ctx context.Context) (*posting.Rules, error) {
	var r *posting.Rules
	err := h.withPostgres(ctx, func(conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
			// One poster at a time: two that start together agree.
			if _, err := tx.Exec(ctx, "LOCK TABLE posting_rules IN SHARE ROW EXCLUSIVE MODE"); err != nil {
				return err
			}
			last, err := lastPostings(ctx, tx)
			if err != nil {
				return err
			}
			if h.Config.Postings == "" && last != nil {
				r, err = posting.Load(last.ID, last.Source)
				return err
			}
			if r, err = LoadPostings(h.Config.Postings); err != nil {
				return err
			}
			return recordPostings(ctx, tx, r, last)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("posting rules: %w", err)
	}
	return r, nil
}

// recordPostings writes rules down, unless they are the last recorded.
func recordPostings(ctx context.Context, tx pgx.Tx, r *posting.Rules, last *postingEntry) error {
	if last != nil && last.ID == r.ID() && last.Checksum == r.Checksum() {
		return nil
	}
	var other string
	err := tx.QueryRow(ctx, "SELECT checksum FROM posting_rules WHERE id = $1 AND checksum <> $2 LIMIT 1", r.ID(), r.Checksum()).Scan(&other)
	switch {
	case err == nil:
		return fmt.Errorf("the book was posted by %s with checksum %s, this text has checksum %s: give the file another version, version: %d",
			r.ID(), other, r.Checksum(), r.Version+1)
	case !errors.Is(err, pgx.ErrNoRows):
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO posting_rules (id, checksum, source, by) VALUES ($1, $2, $3, $4)", r.ID(), r.Checksum(), r.Source, starter())
	return err
}

// lastPostings is what was recorded last, nil if nothing was.
func lastPostings(ctx context.Context, tx pgx.Tx) (*postingEntry, error) {
	all, err := postingEntries(ctx, tx, 1)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

// postingEntries are the last n entries, the newest first.
func postingEntries(ctx context.Context, tx pgx.Tx, n int) ([]postingEntry, error) {
	rows, err := tx.Query(ctx, "SELECT id, checksum, source, since, by FROM posting_rules ORDER BY number DESC LIMIT $1", n)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[postingEntry])
}

// starter is who started this process, as far as it can be told.
func starter() string {
	if name := os.Getenv("SLUICE_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}

func (h *House) withPostgres(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, h.Addresses.Postgres)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return do(conn)
}

// maxPostings bounds the history that is shown.
const maxPostings = 1000

// recordedPostings are the entries of the house's book, the newest first.
func (h *House) recordedPostings(ctx context.Context, n int) (all []postingEntry, err error) {
	err = h.withPostgres(ctx, func(conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
			all, err = postingEntries(ctx, tx, n)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the book's posting rules: %w", err)
	}
	return all, nil
}

// PostingHistory prints by which rules the book was posted, since when and who said so, the newest first.
func PostingHistory(ctx context.Context, c config.Config, out io.Writer, log *slog.Logger) error {
	h, err := Open(ctx, c, Options{Needs: Postgres, Attach: true, Log: log})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	all, err := h.recordedPostings(ctx, maxPostings)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(out, "no poster has started on this book yet")
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "SINCE\tRULES\tCHECKSUM\tBY")
	for _, e := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", e.Since.UTC().Format(time.RFC3339), e.ID, e.Checksum, e.By)
	}
	return t.Flush()
}

// ShowBookPostings prints what the book posts by, or what a new house would, if there is no house to ask.
func ShowBookPostings(ctx context.Context, c config.Config, out io.Writer, log *slog.Logger) error {
	h, err := Open(ctx, c, Options{Needs: Postgres, Attach: true, Log: log})
	if err != nil {
		if c.Postgres != "" {
			return err
		}
		fmt.Fprintln(out, "no house runs on", c.Data+"; a new one would post by")
		return ShowPostings(c.Postings, out)
	}
	defer h.CloseQuietly()
	all, err := h.recordedPostings(ctx, 1)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(out, "no poster has started on this book yet; the first would post by")
		return ShowPostings(c.Postings, out)
	}
	r, err := posting.Load(all[0].ID, all[0].Source)
	if err != nil {
		return fmt.Errorf("the book's posting rules: %w", err)
	}
	fmt.Fprintf(out, "the book is posted since %s by\n", all[0].Since.UTC().Format(time.RFC3339))
	return showPostings(r, out)
}
