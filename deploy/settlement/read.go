package settlement

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/settlement"
)

// Row is a batch as it stands in Postgres. Amounts are minor units of Currency; what lessens is negative.
type Row struct {
	ID        int64
	Kind      string // "merchant" or "channel"
	Party     string
	Currency  string
	Exponent  int
	Day       settlement.Day
	CutOff    time.Time
	ValueDate settlement.Day
	Opening   int64
	Gross     int64
	Fees      int64
	Refunds   int64
	ChargeBacks,
	Other, Returned int64
	Held, Released, Payout, Carried int64
	Fee, Due                        int64 // of a channel
	Lines                           int32
	Status                          string // of its payout, or of the channel's clearing: ordered, or the payment's; "" for none
	Received                        int64  // of a channel
}

// sqlRows reads batches with what became of their main order.
const sqlRows = `
	SELECT b.id, b.kind, b.party, b.currency, b.exponent, b.day, b.cut_off, b.value_date, b.opening, b.gross, b.fees, b.refunds, b.charge_backs, b.other,
		b.returned, b.held, b.released, b.payout, b.carried, b.fee, b.due, b.lines,
		CASE WHEN o.id IS NULL THEN '' ELSE coalesce(p.status, 'ordered') END, CASE WHEN b.kind = 'channel' THEN coalesce(o.amount, 0) ELSE 0 END
	FROM settlement_batches b
	LEFT JOIN settlement_orders o ON o.batch = b.id AND o.purpose = CASE b.kind WHEN 'merchant' THEN 'payout' ELSE 'clearing' END
	LEFT JOIN payments p ON p.id = o.id`

func scanRow(row pgx.CollectableRow) (r Row, err error) {
	var on, value time.Time
	err = row.Scan(&r.ID, &r.Kind, &r.Party, &r.Currency, &r.Exponent, &on, &r.CutOff, &value, &r.Opening, &r.Gross, &r.Fees, &r.Refunds, &r.ChargeBacks, &r.Other,
		&r.Returned, &r.Held, &r.Released, &r.Payout, &r.Carried, &r.Fee, &r.Due, &r.Lines, &r.Status, &r.Received)
	r.Day, r.ValueDate, r.CutOff = day(on), day(value), r.CutOff.UTC()
	return r, err
}

// queryer is a connection or a transaction.
type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func readBatch(ctx context.Context, q queryer, id int64) (Row, error) {
	rows, err := q.Query(ctx, sqlRows+" WHERE b.id = $1", id)
	if err != nil {
		return Row{}, fmt.Errorf("read batch %d: %w", id, err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanRow)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, fmt.Errorf("there is no batch %d; `sluice settlement batches` lists them", id)
	}
	return r, err
}

// Batches lists batches of merchants, the newest first: of one, or of all for "". It stops at a limit, 0 for none; more says that it did.
func (s *Store) Batches(ctx context.Context, merchant string, limit int) (rows []Row, more bool, err error) {
	rows, err = s.rows(ctx, sqlRows+" WHERE b.kind = 'merchant' AND ($1 = '' OR b.party = $1) ORDER BY b.day DESC, b.party, b.currency LIMIT nullif($2, 0)", merchant, oneMore(limit))
	rows, more = cut(rows, limit)
	return rows, more, err
}

// oneMore is what is read to know whether a list stops at its limit, and cut takes it off.
func oneMore(limit int) int {
	if limit <= 0 {
		return 0
	}
	return limit + 1
}

func cut[T any](rows []T, limit int) ([]T, bool) {
	if limit <= 0 || len(rows) <= limit {
		return rows, false
	}
	return rows[:limit], true
}

// sqlOpen holds of a channel's batch b, whose clearing order is o, that it is not settled: it has not paid. What the house owes it is taken off
// the first payment for a later batch.
const sqlOpen = ` b.kind = 'channel' AND b.due <> 0 AND o.id IS NULL AND (b.due > 0 OR NOT EXISTS (SELECT FROM settlement_orders n
	JOIN settlement_batches l ON l.id = n.batch WHERE n.purpose = 'clearing' AND n.party = b.party AND n.currency = b.currency AND l.day > b.day))`

// Due lists the batches of payment channels that are not settled, by value date.
func (s *Store) Due(ctx context.Context) ([]Row, error) {
	return s.rows(ctx, sqlRows+" WHERE"+sqlOpen+" ORDER BY b.value_date, b.party, b.currency")
}

// owed is what the house owes a channel, by its batches before another one: zero, or negative as they have it.
func owed(ctx context.Context, conn *pgx.Conn, b *Row) (owed int64, err error) {
	err = conn.QueryRow(ctx, "SELECT coalesce(sum(due), 0)::bigint FROM (SELECT b.due FROM settlement_batches b LEFT JOIN settlement_orders o ON o.batch = b.id AND o.purpose = 'clearing' WHERE"+
		sqlOpen+" AND b.due < 0 AND b.party = $1 AND b.currency = $2 AND b.day < $3) d", b.Party, b.Currency, b.Day.Time()).Scan(&owed)
	if err != nil {
		return 0, fmt.Errorf("read what the house owes %s: %w", b.Party, err)
	}
	return owed, nil
}

// Today is the day of the book's clock, UTC: by it what is due is overdue.
func (s *Store) Today(ctx context.Context) (settlement.Day, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	now, err := clock(ctx, conn, true)
	return day(now), err
}

func (s *Store) rows(ctx context.Context, sql string, args ...any) ([]Row, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read the batches: %w", err)
	}
	return pgx.CollectRows(rows, scanRow)
}

// Item is a transfer of a batch.
type Item struct {
	Time    time.Time
	Class   string
	Kind    string
	Payment string
	Amount  int64 // minor units
}

// Show reads a batch and its first lines, at most limit of them; 0: all.
func (s *Store) Show(ctx context.Context, id int64, limit int) (Row, []Item, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return Row{}, nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	r, err := readBatch(ctx, conn, id)
	if err != nil {
		return r, nil, err
	}
	rows, err := conn.Query(ctx, `SELECT event_time, class, kind, payment_id, amount FROM settlement_lines WHERE batch = $1
		ORDER BY event_time, account, version LIMIT nullif($2, 0)`, id, limit)
	if err != nil {
		return r, nil, fmt.Errorf("read the lines of batch %d: %w", id, err)
	}
	items, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (i Item, err error) {
		err = row.Scan(&i.Time, &i.Class, &i.Kind, &i.Payment, &i.Amount)
		i.Time = i.Time.UTC()
		return i, err
	})
	return r, items, err
}
