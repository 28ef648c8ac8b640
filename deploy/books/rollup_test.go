package books

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// months posts n payments over a hundred days, one in five of an earlier day.
func (w *world) months(rng *rand.Rand, from, days, n int) {
	for i := range n {
		at := start.AddDate(0, 0, from).Add(time.Duration(i) * time.Duration(days) * 24 * time.Hour / time.Duration(n))
		if rng.IntN(5) == 0 {
			at = at.Add(-time.Duration(rng.IntN(20*24)) * time.Hour)
		}
		purposes := []eventsv1.PaymentPurpose{topUp, topUp, purchase, withdrawal}
		w.post(rng.IntN(2), at, events.PaymentInitiated, purposes[rng.IntN(4)], []eventsv1.PaymentMethod{wallet, card, bank}[rng.IntN(3)], 1+rng.Int64N(5000), []string{"CNY", "CNY", "JPY"}[rng.IntN(3)])
	}
}

// close closes the book up to a day counted from the start, and rolls up.
func (w *world) close(day int) {
	w.t.Helper()
	if _, err := w.book.ClosePeriod(w.t.Context(), Closing{Day: start.AddDate(0, 0, day), By: "tester", Now: start.AddDate(1, 0, 0), Anyway: true}); err != nil {
		w.t.Fatal(err)
	}
	until, err := w.book.RollUp(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if want := start.AddDate(0, 0, day+1); !until.Equal(want) {
		w.t.Errorf("rolled up to %s, want %s", until, want)
	}
}

// picture is all the book says of a moment and of the period before it.
func (w *world) picture(at, from time.Time) string {
	w.t.Helper()
	trial, err := w.book.TrialBalance(w.t.Context(), at, true)
	if err != nil {
		w.t.Fatal(err)
	}
	accounts, err := w.book.Accounts(w.t.Context(), Filter{}, at)
	if err != nil {
		w.t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintln(&b, trial.Rows, trial.Totals, accounts)
	for _, name := range []string{"wallet:C0:CNY", "fees:CNY", "clearing:card:JPY", "merchant:M:CNY"} {
		s := *w.read(name, Period{From: from, To: at}, Page{})
		s.since = nil
		fmt.Fprintln(&b, s)
	}
	return b.String()
}

// Whatever was closed when, the book says of every moment the same from the days rolled up as from its beginning.
func TestRolledUpIsFromTheBeginning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(9, 10))
	next := 0
	for _, closed := range []int{-1, 12, 13, 60, 75} { // -1: before there is anything
		w.months(rng, next, 20, 40)
		next += 20
		w.close(closed)
	}
	moments := []time.Time{start.AddDate(0, 0, 13), start.AddDate(0, 0, 14).Add(-time.Microsecond), start.AddDate(0, 0, 76), start.AddDate(-1, 0, 0), start.AddDate(1, 0, 0)}
	for range 20 {
		moments = append(moments, start.Add(time.Duration(rng.IntN(110*24*3600))*time.Second))
	}
	for _, at := range moments {
		from := at.Add(-time.Duration(rng.IntN(40*24)) * time.Hour)
		rolled := w.picture(at, from)
		w.book.fromBeginning = true
		whole := w.picture(at, from)
		w.book.fromBeginning = false
		if rolled != whole {
			t.Errorf("from %s to %s: from the days\n%s\nfrom the beginning\n%s", from, at, rolled, whole)
		}
	}
	if n := one[int](t, w, "SELECT count(*) FROM daily_rollups WHERE rows > 0"); n < 3 {
		t.Errorf("only %d roll-ups have rows: too few to prove anything", n)
	}
	if n := one[int](t, w, "SELECT count(*) FROM daily_balances WHERE account LIKE '%/%'"); n != 0 {
		t.Errorf("%d balances are of a stripe", n)
	}
}

// What lies before the last roll-up is not read again.
func TestBalancesStartFromTheDays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(11, 12))
	w.months(rng, 0, 40, 60)
	w.close(45)
	w.months(rng, 46, 5, 20)
	at, from := start.AddDate(0, 0, 60), start.AddDate(0, 0, 47)
	before := w.picture(at, from)
	for _, sql := range []string{"SET session_replication_role = replica", "UPDATE transfers SET amount = amount + 1 WHERE event_time < '2026-04-01Z'", "SET session_replication_role = origin"} {
		if _, err := w.book.conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if after := w.picture(at, from); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
	w.book.fromBeginning = true
	if after := w.picture(at, from); after == before {
		t.Error("from the beginning nothing has changed either: nothing is proved")
	}
}

// Only closed days are rolled up, each once, and what is written stays.
func TestRollupVetoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if until, err := w.book.RollUp(t.Context()); err != nil || !until.IsZero() {
		t.Errorf("an open book is rolled up to %s, %v", until, err)
	}
	w.months(rand.New(rand.NewPCG(13, 14)), 0, 20, 20)
	w.close(10)
	w.close(12)
	before := one[int](t, w, "SELECT count(*) FROM daily_balances")
	if _, err := w.book.RollUp(t.Context()); err != nil {
		t.Error(err)
	}
	if n := one[int](t, w, "SELECT count(*) FROM daily_balances"); n != before {
		t.Errorf("rolled up again there are %d balances, not %d", n, before)
	}
	for sql, want := range map[string]string{
		"UPDATE daily_balances SET debits = 0":                              "append-only",
		"DELETE FROM daily_rollups":                                         "append-only",
		"INSERT INTO daily_rollups (until, rows) VALUES ('2026-03-15Z', 0)": "only closed days",
		"INSERT INTO daily_balances SELECT * FROM daily_balances":           "daily_balances_pkey",
	} {
		if _, err := w.book.conn.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", sql, err, want)
		}
	}
	all, err := w.book.Closings(t.Context())
	if err != nil || len(all) != 2 || !all[0].RolledUp || !all[1].RolledUp {
		t.Errorf("closings %+v, %v", all, err)
	}
	if _, err := w.book.ClosePeriod(t.Context(), Closing{Day: start.AddDate(0, 0, 14), By: "tester", Now: start.AddDate(1, 0, 0), Anyway: true}); err != nil {
		t.Fatal(err)
	}
	if all, err = w.book.Closings(t.Context()); err != nil || len(all) != 3 || all[2].RolledUp {
		t.Errorf("closings %+v, %v", all, err)
	}
	var out bytes.Buffer
	if err := WriteClosings(&out, all, true); err != nil || !strings.Contains(out.String(), "2026-03-16,") || strings.Count(out.String(), "tester,yes\n") != 2 {
		t.Errorf("it says %q, %v", out.String(), err)
	}
}

// A statement that does not end with the account's balance says so, and why.
func TestStatementWarns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post(0, start, events.PaymentInitiated, topUp, bank, 10_000, "CNY")
	w.post(0, start.AddDate(0, 0, 2), events.PaymentInitiated, topUp, bank, 5000, "CNY")
	const name = "wallet:C0:CNY"
	for _, p := range []Period{{}, {From: start.AddDate(0, 0, 1)}, {To: start.AddDate(0, 0, 3)}} {
		if got := w.read(name, p, Page{}).Warning(); got != "" {
			t.Errorf("%+v: %q", p, got)
		}
	}
	if got := w.read(name, Period{To: start.AddDate(0, 0, 1)}, Page{}).Warning(); !strings.Contains(got, "ends with 100.00; its balance now is 150.00, by transfers dated 2026-03-02") {
		t.Errorf("it warns %q", got)
	}
	if _, err := w.book.conn.Exec(t.Context(), "UPDATE accounts SET credits_posted = credits_posted + 1 WHERE key = '"+name+"'"); err != nil {
		t.Fatal(err)
	}
	if got := w.read(name, Period{}, Page{}).Warning(); !strings.Contains(got, "make 150.00, its balance is 150.01: `sluice ledger verify`") {
		t.Errorf("it warns %q", got)
	}
}

func one[T any](t *testing.T, w *world, sql string) T {
	t.Helper()
	var v T
	if err := w.book.conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}
