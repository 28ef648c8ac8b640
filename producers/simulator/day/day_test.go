package day

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/pipelines/ledger"
	"sluice/pipelines/payments"
	"sluice/pipelines/posting"
	"sluice/pipelines/reconcile"
	"sluice/pipelines/reconcile/statement"
	"sluice/rules"
	"sluice/schemas/events"
)

func made(t testing.TB, c Config) *Day {
	t.Helper()
	d, err := Make(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// house is the book as the day should leave it, kept in memory: shards take the events of their customers in order, and
// any of them may be ahead of the others.
type house struct {
	book     *ledger.Book
	payments map[string]*payments.Payment
	seen     map[string]bool
	lines    map[string][]reconcile.Line // by channel
	n        int
	took     []ledger.Transfer // by the last event
}

const shards = 3

// run posts a part of the day; shards are interleaved by chance.
func (h *house) run(t testing.TB, d *Day, from, to int, random *rand.Rand) {
	queues := [shards][]events.Event{}
	for i := from; i < to; i++ {
		e := d.Event(i)
		s := int(e.CustomerID[len(e.CustomerID)-1]) % shards
		queues[s] = append(queues[s], e)
	}
	for {
		var left []int
		for s := range queues {
			if len(queues[s]) > 0 {
				left = append(left, s)
			}
		}
		if len(left) == 0 {
			return
		}
		s := left[random.IntN(len(left))]
		for range 1 + random.IntN(200) {
			if len(queues[s]) > 0 {
				h.post(t, &queues[s][0], int32(s))
				queues[s] = queues[s][1:]
			}
		}
	}
}

func (h *house) post(t testing.TB, e *events.Event, shard int32) {
	h.book.Advance(shard, e.Time)
	if h.seen[e.ID] {
		return
	}
	h.seen[e.ID] = true
	verdict := events.Observed
	if e.Kind == events.PaymentInitiated || e.Kind == events.PaymentAuthorized {
		verdict = events.Approve
		if e.MerchantMCC == "7995" {
			verdict = events.Decline
		}
	}
	before := h.payments[e.PaymentID]
	h.took = nil
	_, next := payments.Plan(&events.Decision{Event: *e, Verdict: verdict}, shard, before, posting.Standard(), h.book.Funds).Post(
		func(linked []ledger.Transfer) ledger.Code { return h.apply(t, linked) })
	for i := range h.took {
		h.note(&h.took[i], e)
	}
	if next != nil {
		h.payments[e.PaymentID] = next
	}
}

func (h *house) apply(t testing.TB, linked []ledger.Transfer) ledger.Code {
	for i := range linked {
		for _, key := range []ledger.AccountKey{linked[i].Debit, linked[i].Credit} {
			if h.book.Account(key) == nil {
				a, ok := ledger.NewAccount(key)
				if !ok {
					t.Fatalf("no account %s", key)
				}
				h.book.Load(a)
			}
		}
	}
	code := h.book.Apply(linked)
	if code == ledger.OK {
		h.took = linked
	}
	return code
}

// note keeps what moves on a clearing account, as the book's line.
func (h *house) note(x *ledger.Transfer, e *events.Event) {
	amount, channel, ok := int64(0), "", false
	if x.Action == ledger.Move || x.Action == ledger.Post {
		if channel, ok = clearing(x.Debit); ok {
			amount = x.Amount
		} else if channel, ok = clearing(x.Credit); ok {
			amount = -x.Amount
		}
	}
	if !ok {
		return
	}
	zone := time.UTC
	if channel == AcquirerA {
		zone = time.FixedZone("Asia/Shanghai", 8*3600)
	}
	h.n++
	h.lines[channel] = append(h.lines[channel], reconcile.Line{ID: fmt.Sprintf("%09d", h.n), Reference: e.PaymentID, Date: reconcile.DayOf(e.Time.In(zone)), Amount: amount, Currency: e.Currency})
}

func clearing(key ledger.AccountKey) (string, bool) {
	rest, ok := strings.CutPrefix(string(key), "clearing:")
	channel, _, _ := strings.Cut(rest, "/")
	return channel, ok
}

// The property: whatever the seed and the order in which shards come, reconciliation finds the planted errors, each with
// its class and place, and nothing else; and the channels carried what the book says.
func TestReconciliationFindsExactlyThePlantedErrors(t *testing.T) {
	t.Parallel()
	seeds := uint64(40)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			n := LeastPayments + random.IntN(4*LeastPayments)
			d := made(t, Config{Seed: seed, Payments: n, Errors: random.IntN(n / paymentsPerError)})
			h := &house{book: ledger.NewBook(0), payments: map[string]*payments.Payment{}, seen: map[string]bool{}, lines: map[string][]reconcile.Line{}}
			h.run(t, d, 0, d.Opening(), random)
			h.run(t, d, d.Opening(), d.Events(), random)
			if len(h.payments) != n {
				t.Errorf("%d payments, want %d", len(h.payments), n)
			}
			for _, s := range d.Statements() {
				checkMoved(t, d, s.Channel, h.lines[s.Channel])
				checkBreaks(t, d, &s, h.lines[s.Channel])
			}
		})
	}
}

func checkMoved(t *testing.T, d *Day, channel string, lines []reconcile.Line) {
	t.Helper()
	for _, c := range Currencies() {
		sum, n := int64(0), 0
		for i := range lines {
			if lines[i].Currency == c {
				sum += lines[i].Amount
				n++
			}
		}
		if want, moves := d.Moved(channel, c); sum != want || n != moves {
			t.Errorf("%s %s: the book has %d in %d lines, the day %d in %d", channel, c, sum, n, want, moves)
		}
	}
}

func checkBreaks(t *testing.T, d *Day, s *Statement, here []reconcile.Line) {
	t.Helper()
	var p *statement.Profile
	if s.Profile != "" {
		var err error
		if p, err = statement.ParseProfile("profile", []byte(s.Profile)); err != nil {
			t.Fatal(err)
		}
	}
	var there []reconcile.Line
	var at []int
	summary, err := statement.Read(s.Name, bytes.NewReader(s.Content), p, func(l statement.Line) error {
		l.ID = fmt.Sprintf("%09d", len(there))
		there, at = append(there, l.Line), append(at, l.Position)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if summary.Lines != s.Lines || len(summary.Balances) != len(currencies) {
		t.Errorf("%s: %d lines, want %d; balances %v", s.Name, summary.Lines, s.Lines, summary.Balances)
	}
	var got []Planted
	for _, c := range Currencies() {
		o, err := p.Options(c)
		if err != nil {
			t.Fatal(err)
		}
		o.From, o.To = summary.From, summary.To
		own := func(lines []reconcile.Line) (of []reconcile.Line, at []int) {
			for i := range lines {
				if lines[i].Currency == c {
					of, at = append(of, lines[i]), append(at, i)
				}
			}
			return of, at
		}
		h, _ := own(here)
		th, index := own(there)
		result := reconcile.Run(h, th, o)
		for _, b := range result.Breaks {
			e := Planted{Channel: s.Channel, Class: b.Class.String(), Amount: b.Amount, Currency: c}
			if b.There != reconcile.None {
				e.Line, e.Reference = at[index[b.There]], th[b.There].Reference
			}
			if b.Here != reconcile.None {
				e.Reference = h[b.Here].Reference
			}
			got = append(got, e)
		}
	}
	compare(t, d, s.Channel, got)
}

// compare wants each planted error once, and nothing else.
func compare(t *testing.T, d *Day, channel string, got []Planted) {
	t.Helper()
	for _, want := range d.Planted() {
		if want.Channel != channel {
			continue
		}
		i := slices.IndexFunc(got, func(e Planted) bool { return want.Is(&e) })
		if i < 0 {
			t.Errorf("not found: %+v", want)
			continue
		}
		got = slices.Delete(got, i, i+1)
	}
	for _, e := range got {
		t.Errorf("found, but not planted: %+v", e)
	}
}

// The same configuration gives the same bytes, another seed others; every event is read back as it was.
func TestADayIsAFunctionOfItsSeed(t *testing.T) {
	t.Parallel()
	c := Config{Seed: 5, Payments: 2_000, Errors: 20}
	a, b := made(t, c), made(t, c)
	c.Seed = 6
	other := made(t, c)
	if !reflect.DeepEqual(a, b) {
		t.Error("the same seed gave another day")
	}
	for i, s := range a.Statements() {
		if bytes.Equal(s.Content, other.Statements()[i].Content) {
			t.Errorf("%s is the same with another seed", s.Name)
		}
	}
	for i := range a.Events() {
		e := a.Event(i)
		headers, value, err := events.Encode(&e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := events.Decode(&events.Record{Topic: "payments", Key: []byte(e.CustomerID), Value: value, Headers: headers, Timestamp: DefaultDate.AddDate(0, 1, 0)})
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("%v\nput %+v\ngot %+v", err, e, got)
		}
	}
}

// A day has everything: every kind of event it may have, every class of error in both statements, every way to match.
func TestADayHasEverything(t *testing.T) {
	t.Parallel()
	d := made(t, Config{Seed: 1, Payments: 10_000, Errors: 100})
	if d.Payments() != 10_000 || len(d.Planted()) != 100 || d.Opening() == 0 || d.Opening() > d.Events()/3 {
		t.Errorf("%d payments, %d errors, opening %d of %d", d.Payments(), len(d.Planted()), d.Opening(), d.Events())
	}
	kinds := map[events.Kind]int{}
	last := time.Time{}
	for i := range d.Events() {
		e := d.Event(i)
		kinds[e.Kind]++
		if e.Time.Before(last) {
			t.Fatalf("event %d is out of order", i)
		}
		last = e.Time
	}
	for _, k := range []events.Kind{events.PaymentInitiated, events.PaymentAuthorized, events.PaymentCaptured, events.PaymentVoided, events.PaymentRefunded,
		events.PaymentChargedBack, events.PaymentSettled, events.PaymentFailed} {
		if kinds[k] < 10 {
			t.Errorf("%d of %s", kinds[k], k)
		}
	}
	planted := map[string]int{}
	for _, e := range d.Planted() {
		planted[e.Channel+" "+e.Class]++
	}
	for _, channel := range Channels() {
		for _, class := range reconcile.Classes() {
			if planted[channel+" "+class.String()] != 10 {
				t.Errorf("%s %s: %d", channel, class, planted[channel+" "+class.String()])
			}
		}
	}
}

func TestTheRulesetIsOne(t *testing.T) {
	t.Parallel()
	if _, err := rules.Check("day", []byte(Ruleset)); err != nil {
		t.Error(err)
	}
}

func TestMakeRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{Payments: LeastPayments - 1}, {Payments: MostPayments + 1}, {Payments: LeastPayments, Errors: -1},
		{Payments: LeastPayments, Errors: LeastPayments/paymentsPerError + 1}, {Date: time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC)}} {
		if _, err := Make(c); err == nil {
			t.Errorf("%+v was made", c)
		}
	}
}
