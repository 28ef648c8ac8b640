package poster

import (
	"testing"

	"sluice/pipelines/posting"
	"sluice/schemas/events"
)

// TestEffectsInTheBook: what posting rules link to a payment stands in the database from batch to batch, goes back with it, and never
// stops a refund: points that were spent are given up.
func TestEffectsInTheBook(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	w, conn := newWriter(t, url, payments0), reader(t, url)
	rewards, err := posting.Load("rewards.yaml", posting.RewardsFile)
	if err != nil {
		t.Fatal(err)
	}
	w.opts.postings = rewards
	later := func(kind events.Kind, amount int64) events.Decision {
		d := payment(purchase, byWallet, "A", "M", amount)
		d.Event.Kind, d.Event.PaymentID = kind, "P"
		return d
	}
	buy := later(events.PaymentInitiated, 20_000)
	buy.Tier = "platinum"
	w.must(t, decided(t, 0, 0, payment(topUp, byBank, "A", "", 50_000)), decided(t, 0, 1, payment(purchase, byWallet, "A", "M", 10_000)), decided(t, 0, 2, buy))
	balances := func() map[string]int64 {
		all := map[string]int64{}
		for _, name := range []string{"points:A:CNY", "wallet:A:CNY", "merchant:M:CNY", "fees/0:CNY", "tax/0:CNY", "rewards/0:CNY"} {
			all[name] = one[int64](t, conn, "SELECT abs(debits_posted - credits_posted) FROM accounts WHERE key = $1", name)
		}
		return all
	}
	same := func(want map[string]int64) {
		t.Helper()
		got := balances()
		for name, n := range want {
			if got[name] != n {
				t.Errorf("%s has %d, want %d", name, got[name], n)
			}
		}
	}
	// 10,000: a fee of 60, tax 3, 100 points, cashback 100. 20,000 for platinum: a fee of 80, tax 5, 400 points, cashback 200.
	same(map[string]int64{"points:A:CNY": 500, "wallet:A:CNY": 20_300, "merchant:M:CNY": 29_860, "fees/0:CNY": 132, "tax/0:CNY": 8, "rewards/0:CNY": 300})
	// The customer withdraws everything; a third goes back, then the rest.
	b := w.must(t, decided(t, 0, 3, later(events.PaymentRefunded, 5_000)))
	if b.entries[0].code != "posted" {
		t.Fatal(codes(b))
	}
	same(map[string]int64{"points:A:CNY": 400, "wallet:A:CNY": 25_250, "rewards/0:CNY": 250})
	b = w.must(t, decided(t, 0, 4, payment(withdrawal, byBank, "A", "", 25_250)), decided(t, 0, 5, later(events.PaymentRefunded, 15_000)))
	if got := codes(b); got[1] != "posted" {
		t.Fatal(got)
	}
	same(map[string]int64{"points:A:CNY": 100, "wallet:A:CNY": 14_850, "rewards/0:CNY": 100, "merchant:M:CNY": 9_860, "fees/0:CNY": 132})
	if extra := one[string](t, conn, "SELECT extra::text FROM payments WHERE id = 'P'"); extra == "" {
		t.Error("nothing stands of the tax, which was kept")
	}
	checkBook(t, conn)
}

// TestSpentPointsStopNoRefund: the points of a purchase that was refunded are taken as far as they are there.
func TestSpentPointsStopNoRefund(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	w, conn := newWriter(t, url, payments0), reader(t, url)
	rules, err := posting.Load("house.yaml", []byte(`
postings: house
version: 1
effects:
  - {id: points, on: moved, when: payment.purpose == "purchase", post: {debit: points_issued, credit: points(customer), amount: floor(amount), kind: points}, back: share}
  - {id: spent, on: moved, when: payment.purpose == "transfer", post: {debit: points(customer), credit: points_issued, amount: floor(amount), kind: points_spent}, back: keep}
`))
	if err != nil {
		t.Fatal(err)
	}
	w.opts.postings = rules
	refund := payment(purchase, byWallet, "A", "M", 10_000)
	refund.Event.Kind, refund.Event.PaymentID = events.PaymentRefunded, "p0.1"
	again := refund
	again.Event.PaymentID = "p0.2"
	b := w.must(t, decided(t, 0, 0, payment(topUp, byBank, "A", "", 50_000)), decided(t, 0, 1, payment(purchase, byWallet, "A", "M", 10_000)),
		decided(t, 0, 2, payment(purchase, byWallet, "A", "M", 10_000)), decided(t, 0, 3, payment(transfer, byWallet, "A", "B", 15_000)),
		decided(t, 0, 4, payment(transfer, byWallet, "A", "B", 9_000)), // more points than there are
		decided(t, 0, 5, refund), decided(t, 0, 6, again))
	want := []string{"posted", "posted", "posted", "posted", "insufficient_funds", "posted", "posted"}
	for i, code := range codes(b) {
		if code != want[i] {
			t.Errorf("event %d is %s, want %s", i, code, want[i])
		}
	}
	if got := one[int64](t, conn, "SELECT count(*) FROM transfers WHERE kind = 'points_return'"); got != 1 {
		t.Errorf("%d times points were taken back", got)
	}
	if got := one[int64](t, conn, "SELECT credits_posted - debits_posted FROM accounts WHERE key = 'points:A:CNY'"); got != 0 {
		t.Errorf("%d points are left", got)
	}
	checkBook(t, conn)
}
