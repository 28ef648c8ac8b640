package books

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// sqlRollUp adds the days from $1 to before $2 to the balances of days: what an account made before, and each day's sums.
const sqlRollUp = `
	INSERT INTO daily_balances (account, day, debits, credits, transfers)
	WITH moved AS MATERIALIZED (
		SELECT a.name AS account, m.day, sum(m.debit) AS debits, sum(m.credit) AS credits, sum(m.transfers)::bigint AS transfers FROM (
			SELECT account, (event_time AT TIME ZONE 'UTC')::date AS day, sum(debit) AS debit, sum(credit) AS credit, count(*) AS transfers FROM (
				SELECT debit_account AS account, event_time, amount AS debit, 0 AS credit FROM transfers WHERE event_time >= $1 AND event_time < $2
				UNION ALL SELECT credit_account, event_time, 0, amount FROM transfers WHERE event_time >= $1 AND event_time < $2) both_sides
			GROUP BY 1, 2) m
		JOIN ` + named + ` a ON a.id = m.account GROUP BY 1, 2),
	before AS MATERIALIZED (
		SELECT d.* FROM (SELECT DISTINCT account FROM moved) a
		CROSS JOIN LATERAL (SELECT * FROM daily_balances d WHERE d.account = a.account ORDER BY day DESC LIMIT 1) d)
	SELECT account, m.day, coalesce(b.debits, 0) + sum(m.debits) OVER days, coalesce(b.credits, 0) + sum(m.credits) OVER days,
		coalesce(b.transfers, 0) + sum(m.transfers) OVER days
	FROM moved m LEFT JOIN before b USING (account)
	WINDOW days AS (PARTITION BY account ORDER BY m.day) ORDER BY account, m.day`

// RollUp writes the balances of the closed days that are not rolled up yet, a month in each transaction. Nobody waits for it:
// what is closed does not change. It returns up to when the days are rolled up, the zero time where none is.
func (b *Book) RollUp(ctx context.Context) (time.Time, error) {
	for {
		until, more, err := b.rollUpMonth(ctx)
		if err != nil {
			return until, fmt.Errorf("roll the closed days up: %w", err)
		}
		if !more {
			return until, nil
		}
	}
}

// rollUpMonth rolls up to the end of a month, or of what is closed, and says whether there may be more.
func (b *Book) rollUpMonth(ctx context.Context) (until time.Time, more bool, err error) {
	err = pgx.BeginFunc(ctx, b.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "LOCK TABLE daily_rollups IN SHARE ROW EXCLUSIVE MODE"); err != nil { // one rolls up at a time
			return err
		}
		var done, closed *time.Time
		if err := tx.QueryRow(ctx, "SELECT (SELECT max(until) FROM daily_rollups), (SELECT max(until) FROM closed_periods)").Scan(&done, &closed); err != nil {
			return err
		}
		if done != nil {
			until = done.UTC()
		}
		if closed == nil || done != nil && !closed.After(*done) {
			return nil
		}
		if done == nil {
			if err := tx.QueryRow(ctx, "SELECT least(min(event_time), $1) FROM transfers", *closed).Scan(&done); err != nil {
				return err
			}
		}
		from := done.UTC()
		until = time.Date(from.Year(), from.Month()+1, 1, 0, 0, 0, 0, time.UTC)
		if more = until.Before(*closed); !more {
			until = closed.UTC()
		}
		tag, err := tx.Exec(ctx, sqlRollUp, from, until)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO daily_rollups (until, rows) VALUES ($1, $2)", until, tag.RowsAffected())
		return err
	})
	return until, more, err
}

// rolled is the midnight from which transfers are to be added to the balances of days, to know what was at a moment: that of
// its day, or an earlier one up to which the days are rolled up. nil: from the beginning.
func (b *Book) rolled(ctx context.Context, q querier, before time.Time) (*time.Time, error) {
	if b.fromBeginning || before.IsZero() {
		return nil, nil
	}
	var until *time.Time
	if err := q.QueryRow(ctx, "SELECT max(until) FROM daily_rollups").Scan(&until); err != nil || until == nil {
		return nil, err
	}
	if day := before.UTC().Truncate(24 * time.Hour); day.Before(*until) {
		return &day, nil
	}
	return until, nil
}

// querier is a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}
