package verify

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// settledOnce proves that settlement's batches are the book's transfers: each line is one, each batch the sum of its lines, what a
// batch covers is in batches without a hole, and each payment ordered is the batch's. That no transfer is in two batches is the primary
// key of the lines.
func settledOnce(ctx context.Context, tx pgx.Tx) (Row, error) {
	f := finding{promise: "each transfer is settled once"}
	for _, check := range []struct{ breach, sql string }{
		{"batch %d: its sums are not those of its lines", `
			SELECT b.id FROM settlement_batches b
			LEFT JOIN (SELECT batch, count(*) AS n, sum(amount) FILTER (WHERE class <> 'own' AND class <> 'returned') AS counted
				FROM settlement_lines GROUP BY batch) l ON l.batch = b.id
			WHERE b.lines <> coalesce(l.n, 0) OR b.gross + b.fees + b.refunds + b.charge_backs + b.other <> coalesce(l.counted, 0)`},
		{"batch %d: a line is no transfer of the book", `
			SELECT l.batch FROM settlement_lines l JOIN settlement_batches b ON b.id = l.batch
			LEFT JOIN transfers c ON c.credit_account = l.account AND c.credit_version = l.version AND c.event_time = l.event_time
			LEFT JOIN transfers d ON d.debit_account = l.account AND d.debit_version = l.version AND d.event_time = l.event_time
			WHERE CASE b.kind WHEN 'merchant' THEN 1 ELSE -1 END * coalesce(c.amount, -d.amount) IS DISTINCT FROM l.amount`},
		{"batch %d: it covers transfers that are in no batch", `
			SELECT c.batch FROM settlement_coverage c
			WHERE c.batch = (SELECT max(batch) FROM settlement_coverage x WHERE x.account = c.account)
				AND c.version <> (SELECT count(*) FROM settlement_lines l WHERE l.account = c.account AND l.version <= c.version)`},
		{"batch %d: its orders are not what it pays, holds back and releases", `
			SELECT b.id FROM settlement_batches b LEFT JOIN settlement_orders o ON o.batch = b.id
			WHERE b.kind = 'merchant' GROUP BY b.id HAVING b.payout + b.held + b.released <> coalesce(sum(o.amount), 0)`},
		{"batch %d: the book has a payment it ordered at another amount", `
			SELECT o.batch FROM settlement_orders o JOIN payments p ON p.id = o.id WHERE p.amount <> o.amount OR p.currency <> o.currency OR p.customer_id <> o.party`},
	} {
		rows, err := tx.Query(ctx, check.sql)
		if err != nil {
			return Row{}, err
		}
		var batch int64
		if _, err := pgx.ForEachRow(rows, []any{&batch}, func() error {
			f.breach(check.breach, batch)
			return nil
		}); err != nil {
			return Row{}, err
		}
	}
	var batches int64
	err := tx.QueryRow(ctx, "SELECT (SELECT count(*) FROM settlement_lines), (SELECT count(*) FROM settlement_batches)").Scan(&f.checked, &batches)
	return f.row("%s transfers in %s batches", thousands(f.checked), thousands(batches)), err
}
