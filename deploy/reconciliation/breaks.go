package reconciliation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/reconcile"
)

// Break is a break as it stands.
type Break struct {
	ID        int64
	Channel   string
	Class     string
	Currency  string
	Exponent  int
	Amount    int64 // at stake, minor units
	Day       reconcile.Day
	Reference string
	File      string // the statement's file and line, "" and 0 for none
	Position  int
	Transfer  int64 // the book's transfers.id, 0 for none
	Status    string
	Steps     []Step
}

// Step is what happened to a break.
type Step struct {
	Action, Who, Why, Entry string
	At                      time.Time
}

// Breaks lists the open breaks of a channel, or of all for "", the oldest first; with all set, also those that are resolved or closed.
func (s *Store) Breaks(ctx context.Context, channel string, all bool) ([]Break, error) {
	conn, err := pgx.Connect(ctx, s.Postgres)
	if err != nil {
		return nil, fmt.Errorf("open the reconciliation: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, sqlBreaks+" WHERE ($1 = '' OR b.channel = $1) AND ($2 OR b.status = 'open') ORDER BY b.day, b.id", channel, all)
	if err != nil {
		return nil, fmt.Errorf("read the breaks: %w", err)
	}
	breaks, err := pgx.CollectRows(rows, scanBreak)
	if err != nil {
		return nil, fmt.Errorf("read the breaks: %w", err)
	}
	return breaks, readSteps(ctx, conn, breaks)
}

const sqlBreaks = `SELECT b.id, b.channel, b.class, b.currency, b.exponent, b.amount, b.day, b.reference, coalesce(f.name, ''), coalesce(l.position, 0), coalesce(b.transfer, 0), b.status
	FROM reconciliation_breaks b LEFT JOIN reconciliation_lines l ON l.id = b.line LEFT JOIN reconciliation_files f ON f.id = l.file`

func scanBreak(row pgx.CollectableRow) (Break, error) {
	var b Break
	var day time.Time
	err := row.Scan(&b.ID, &b.Channel, &b.Class, &b.Currency, &b.Exponent, &b.Amount, &day, &b.Reference, &b.File, &b.Position, &b.Transfer, &b.Status)
	b.Day = reconcile.DayOf(day)
	return b, err
}

func readSteps(ctx context.Context, conn interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}, breaks []Break) error {
	at := make(map[int64]*Break, len(breaks))
	ids := make([]int64, len(breaks))
	for i := range breaks {
		at[breaks[i].ID], ids[i] = &breaks[i], breaks[i].ID
	}
	rows, err := conn.Query(ctx, "SELECT break, action, who, why, entry, at FROM reconciliation_resolutions WHERE break = ANY($1) ORDER BY break, number", ids)
	if err != nil {
		return fmt.Errorf("read what became of the breaks: %w", err)
	}
	var id int64
	var step Step
	_, err = pgx.ForEachRow(rows, []any{&id, &step.Action, &step.Who, &step.Why, &step.Entry, &step.At}, func() error {
		at[id].Steps = append(at[id].Steps, step)
		return nil
	})
	return err
}

// Resolution is a person's word on a break.
type Resolution struct {
	Break   int64
	By, Why string
	Entry   string // the entry that corrects it, as its poster knows it; named, not posted. "": none
}

// Resolve ends an open break by a person's word, which is written down. It posts nothing.
func (s *Store) Resolve(ctx context.Context, r Resolution) (Break, error) {
	r.By, r.Why, r.Entry = strings.TrimSpace(r.By), strings.TrimSpace(r.Why), strings.TrimSpace(r.Entry)
	switch {
	case r.By == "":
		return Break{}, errors.New("who resolves it is written down: give --by NAME")
	case r.Why == "":
		return Break{}, errors.New("why it is resolved is written down: give --why TEXT")
	case strings.ContainsRune(r.By+r.Why+r.Entry, 0):
		return Break{}, errors.New("a zero byte cannot be written down")
	}
	conn, err := pgx.Connect(ctx, s.Postgres)
	if err != nil {
		return Break{}, fmt.Errorf("open the reconciliation: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var b Break
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		b, err = resolve(ctx, tx, r)
		return err
	})
	return b, err
}

func resolve(ctx context.Context, tx pgx.Tx, r Resolution) (Break, error) {
	if _, err := tx.Exec(ctx, "SELECT FROM reconciliation_breaks WHERE id = $1 FOR UPDATE", r.Break); err != nil {
		return Break{}, fmt.Errorf("read break %d: %w", r.Break, err)
	}
	rows, err := tx.Query(ctx, sqlBreaks+" WHERE b.id = $1", r.Break)
	if err != nil {
		return Break{}, fmt.Errorf("read break %d: %w", r.Break, err)
	}
	breaks, err := pgx.CollectRows(rows, scanBreak)
	if err != nil {
		return Break{}, fmt.Errorf("read break %d: %w", r.Break, err)
	}
	if len(breaks) == 0 {
		return Break{}, fmt.Errorf("there is no break %d; sluice reconcile breaks lists them", r.Break)
	}
	if err := readSteps(ctx, tx, breaks); err != nil {
		return Break{}, err
	}
	b := breaks[0]
	if b.Status != statusOpen {
		last := b.Steps[len(b.Steps)-1]
		return b, fmt.Errorf("break %d was %s by %s on %s: %s", b.ID, b.Status, last.Who, last.At.UTC().Format(time.DateTime), last.Why)
	}
	if _, err := tx.Exec(ctx, "INSERT INTO reconciliation_resolutions (break, number, action, who, why, entry) VALUES ($1, $2, 'resolved', $3, $4, $5)",
		b.ID, len(b.Steps)+1, r.By, r.Why, r.Entry); err != nil {
		return b, fmt.Errorf("resolve break %d: %w", b.ID, err)
	}
	if _, err := tx.Exec(ctx, "UPDATE reconciliation_breaks SET status = 'resolved' WHERE id = $1", b.ID); err != nil {
		return b, fmt.Errorf("resolve break %d: %w", b.ID, err)
	}
	b.Status = statusResolved
	return b, nil
}
