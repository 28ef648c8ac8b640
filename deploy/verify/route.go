package verify

import (
	"context"
	"fmt"
)

// routes proves that a payment stands on the clearing account of the payment channel that the gate chose for it: its first
// transfer, since another channel may carry it later. Both are read in ClickHouse, whose rows are held against Kafka and the book.
func (v *verifier) routes(ctx context.Context, _ *decided) (Row, error) {
	f := finding{promise: "a payment is booked on the channel chosen for it"}
	const query = `SELECT count(), countIf(channel != route), groupArrayIf(5)(concat(id, ' was routed to ', route, ' and is booked on ', channel), channel != route)
		FROM (SELECT decision_id AS id, route FROM payments WHERE route != '' AND verdict = 'approve') AS chosen
		INNER JOIN (
			SELECT decision_id AS id, extract(if(startsWith(debit_account, 'clearing:'), debit_account, credit_account), '^clearing:([^/]+)/') AS channel
			FROM postings WHERE number = 1 AND (startsWith(debit_account, 'clearing:') OR startsWith(credit_account, 'clearing:'))
		) AS booked ON chosen.id = booked.id`
	var checked, broken uint64
	if err := v.ch.QueryRow(ctx, query).Scan(&checked, &broken, &f.breaches); err != nil {
		return Row{}, fmt.Errorf("read the routes of payments in ClickHouse: %w", err)
	}
	f.checked, f.broken = int64(checked), int64(broken)
	return f.row("%s routed payments, each on its channel's clearing account", thousands(f.checked)), nil
}
