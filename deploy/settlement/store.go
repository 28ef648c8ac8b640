// Package settlement keeps what pipelines/settlement decides: batches, their lines, the payments they order and the files
// that tell a bank to pay, in Postgres beside the book. It reads the book and posts nothing: orders are published as events, and
// the gate and the poster make payments of them, exactly once.
package settlement

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/reconcile"
	"sluice/pipelines/routing"
	"sluice/pipelines/settlement"
)

// Limits of a run.
const (
	// chunk is how many merchants' accounts are settled in one transaction.
	chunk = 500
	// maxLines bounds the transfers that one transaction takes into batches: they are in memory, some 200 bytes each.
	maxLines = 5_000_000
	// tell is after how many rows progress is told.
	tell = 1 << 14
)

// Store is where settlement is kept. Its methods may be called by any number of processes at once: runs wait for each other.
type Store struct {
	Postgres string // URL; its tables are those of schemas/ledger
	Terms    *settlement.Terms
	Progress func(stage string, done, total int64) // may be nil

	crash func(step string) error // for tests: ends a run at a step
}

func (s *Store) progress(stage string, done, total int64) {
	if s.Progress != nil {
		s.Progress(stage, done, total)
	}
}

// at ends a run at a step, if a test says so.
func (s *Store) at(step string) error {
	if s.crash == nil {
		return nil
	}
	return s.crash(step)
}

func (s *Store) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, s.Postgres)
	if err != nil {
		return nil, fmt.Errorf("open the settlement: %w", err)
	}
	return conn, nil
}

// alone does something while no other run is under way. The lock is the session's: a transaction that waited for it would see the
// book as it was before it waited.
func (s *Store) alone(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // lets go of the lock
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(hashtextextended('sluice settlement ' || current_schema(), 0))"); err != nil {
		return fmt.Errorf("wait for other runs of the settlement: %w", err)
	}
	return do(conn)
}

// Options says what to settle.
type Options struct {
	Until  settlement.Day // business day whose cut-off is the last; 0: the last that the book has passed
	Terms  bool           // although the batches so far were made by terms of another name
	Anyway bool           // although shards have not passed it: what comes late falls into the next batch

	Channels *routing.Table // that gates choose payment channels by: payouts must be over one of them; nil: none is live
}

// Outcome is what a run has done.
type Outcome struct {
	Clock    time.Time // event time that the book has passed
	Batches  int
	Lines    int64
	Orders   int
	Accounts int // looked at

	Before int64 // the newest batch before the run; 0: there was none
}

// Settle makes the batches of every merchant and payment channel, up to a cut-off that the book has passed. What is there already
// changes nothing. Batches are written some hundred at a time: a run that was killed goes on where it was.
func (s *Store) Settle(ctx context.Context, o Options) (out Outcome, err error) {
	err = s.alone(ctx, func(conn *pgx.Conn) error {
		if err := s.sameTerms(ctx, conn, o); err != nil {
			return err
		}
		if err := s.routable(o.Channels); err != nil {
			return err
		}
		if err := conn.QueryRow(ctx, "SELECT coalesce(max(id), 0) FROM settlement_batches").Scan(&out.Before); err != nil {
			return fmt.Errorf("read the last batch: %w", err)
		}
		if out.Clock, err = clock(ctx, conn, o.Anyway); err != nil {
			return err
		}
		if err := s.settleMerchants(ctx, conn, o, &out); err != nil {
			return fmt.Errorf("settle the merchants: %w", err)
		}
		if err := s.settleChannels(ctx, conn, o, &out); err != nil {
			return fmt.Errorf("settle the channels: %w", err)
		}
		return nil
	})
	return out, err
}

// sameTerms refuses terms of another name than the last batch's: most likely the file was forgotten, and merchants would be paid
// what was to be held back.
func (s *Store) sameTerms(ctx context.Context, conn *pgx.Conn, o Options) error {
	var last *string
	err := conn.QueryRow(ctx, "SELECT (SELECT terms FROM settlement_batches ORDER BY id DESC LIMIT 1)").Scan(&last)
	if err != nil || last == nil || *last == s.Terms.Name || o.Terms {
		return err
	}
	return fmt.Errorf("the last batch was made by the terms %q, these are %q: give --settlement FILE, or --new-terms if they are meant", *last, s.Terms.Name)
}

// clock is the event time that every shard which has posted anything has passed; anyway: that one has.
func clock(ctx context.Context, conn *pgx.Conn, anyway bool) (time.Time, error) {
	var slow, fast *time.Time
	if err := conn.QueryRow(ctx, "SELECT min(clock), max(clock) FROM shards WHERE sequence > 0").Scan(&slow, &fast); err != nil {
		return time.Time{}, fmt.Errorf("read how far the book is: %w", err)
	}
	switch {
	case slow == nil:
		return time.Time{}, fmt.Errorf("the book is empty: there is nothing to settle")
	case anyway:
		return fast.UTC(), nil
	}
	return slow.UTC(), nil
}

// until is the last business day of a schedule to settle, as the options and the clock say.
func (o Options) until(c settlement.CutOffs, clock time.Time) (settlement.Day, error) {
	if o.Until == 0 {
		return c.Last(clock), nil
	}
	day := c.Until(o.Until)
	at := c.At(day)
	switch {
	case !at.After(clock):
		return day, nil
	case o.Anyway:
		return 0, fmt.Errorf("no shard of the book has passed the cut-off of %s (%s): they are at %s; run it later", day, at.Format(time.RFC3339), clock.Format(time.RFC3339))
	}
	return 0, fmt.Errorf("the book has not passed the cut-off of %s (%s): its slowest shard is at %s; run it later, or with --anyway, so that what comes late falls into the next batch",
		day, at.Format(time.RFC3339), clock.Format(time.RFC3339))
}

// merchantOf and channelOf take an account's key apart.
func merchantOf(key string) (party, currency string) {
	rest, at := strings.TrimPrefix(key, "merchant:"), strings.LastIndexByte(key, ':')-len("merchant:")
	return rest[:at], rest[at+1:]
}

func channelOf(key string) (party, currency string) {
	key = strings.TrimPrefix(key, "clearing:")
	colon := strings.LastIndexByte(key, ':')
	return key[:strings.LastIndexByte(key[:colon], '/')], key[colon+1:]
}

func day(t time.Time) settlement.Day { return reconcile.DayOf(t.UTC()) }
