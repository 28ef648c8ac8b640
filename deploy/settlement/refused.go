package settlement

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/payments"
	"sluice/pipelines/routing"
	eventsv1 "sluice/schemas/events/v1"
)

// refusedAmong bounds in how many orders, the newest, what was refused is looked for.
const refusedAmong = 200_000

// Refused are orders that did not become payments, alike in why.
type Refused struct {
	Purpose string // "payout", "reserve" or "reserve_release"
	Status  string // "declined" by the gate, or "rejected" by the book
	Code    string // why the book rejected them
	Orders  int64
	First   string // the decision on the first of them, such as payments/3/1207; "" where the book has none
}

// sqlRefused reads the refused orders that no batch up to $1 has taken back.
const sqlRefused = `
	WITH refused AS (
		SELECT o.number, o.purpose, p.status, p.code, p.shard, p.sequence FROM settlement_orders o JOIN payments p ON p.id = o.id
		WHERE o.number > (SELECT coalesce(max(number), 0) FROM settlement_orders) - $2 AND (o.returned IS NULL OR o.returned > $1)
			AND o.purpose IN ('payout', 'reserve', 'reserve_release') AND p.status IN ('declined', 'rejected')),
	alike AS (SELECT purpose, status, code, count(*) AS n, min(number) AS first FROM refused GROUP BY purpose, status, code)
	SELECT a.purpose, a.status, a.code, a.n, coalesce((SELECT r.input_topic || '/' || r.input_partition || '/' || r.input_offset FROM results r
		WHERE r.shard = f.shard AND r.sequence = f.sequence), '')
	FROM alike a JOIN refused f ON f.number = a.first ORDER BY a.status, a.n DESC, a.first`

// Refused reads which orders the gate declined or the book rejected, and no batch up to one has taken back: those of the last
// batches, and what was ordered since.
func (s *Store) Refused(ctx context.Context, upTo int64) ([]Refused, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, sqlRefused, upTo, refusedAmong)
	if err != nil {
		return nil, fmt.Errorf("read which orders were refused: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Refused])
	if err != nil {
		return nil, fmt.Errorf("read which orders were refused: %w", err)
	}
	return all, nil
}

// PrintRefused says how many orders were refused and where it is told why. It returns how many of them the gate declined.
func PrintRefused(w io.Writer, all []Refused) (declined int64, err error) {
	for i := range all {
		r := &all[i]
		why := "declined by the gate"
		if r.Status == "declined" {
			declined += r.Orders
		} else {
			why = "refused by the book (" + r.Code + ")"
		}
		see := ""
		if r.First != "" {
			see = "; the first: sluice explain " + r.First
		}
		if _, err := fmt.Fprintf(w, "%d %s orders of this or the last batch: %s%s; the next batch takes them back\n", r.Orders, r.Purpose, why, see); err != nil {
			return declined, err
		}
	}
	return declined, nil
}

// routable refuses terms whose payouts no payment channel of the table would carry: each of them would be declined.
func (s *Store) routable(table *routing.Table) error {
	if table == nil {
		return nil
	}
	type pays struct {
		channel string
		method  eventsv1.PaymentMethod
	}
	whose := map[pays]string{}
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(s.Terms.Merchants))) { // the first of those alike is named
		m := s.Terms.Merchants[name]
		whose[pays{m.PaidBy, m.Method}] = "merchants: {" + name + ":"
	}
	whose[pays{s.Terms.Merchant.PaidBy, s.Terms.Merchant.Method}] = "defaults: {merchant:"
	for _, p := range slices.SortedFunc(maps.Keys(whose), func(a, b pays) int { return strings.Compare(whose[a], whose[b]) }) {
		if p.channel == "" { // the house chooses
			continue
		}
		why := table.Refuses(p.channel, p.method, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT)
		if why == "" {
			continue
		}
		remedy := "name a payment channel that carries payouts"
		if able := table.Carriers(p.method, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT); len(able) > 0 {
			remedy = fmt.Sprintf("name one that carries payouts (%s)", List(able))
		}
		return fmt.Errorf("the terms %q pay out by %s over the channel %s, which %s of the live table %s: every payout would be declined with %s; %s in the terms, %s {payout: {channel: NAME}}}, or publish a table that has it (sluice channels publish FILE)",
			s.Terms.Name, payments.MethodName(p.method), p.channel, why, table.ID(), routing.NoRoute, remedy, whose[p])
	}
	return nil
}

// listed is how many names a sentence has at most.
const listed = 5

// List names the first five, and says how many more there are: "m1, m2, m3, m4, m5 and 21 more".
func List(all []string) string {
	text := strings.Join(all[:min(len(all), listed)], ", ")
	if more := len(all) - listed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
