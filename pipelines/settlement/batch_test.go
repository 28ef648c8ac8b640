package settlement

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/pipelines/payments"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

var cny = events.MustCurrency("CNY")

// anyMerchant draws terms.
func anyMerchant(t *rapid.T) *Merchant {
	m := &Merchant{
		CutOffs: CutOffs{anyCalendar(t), rapid.IntRange(1, 24*60).Draw(t, "cut-off"), anyEvery(t)}, After: rapid.IntRange(0, 3).Draw(t, "after"),
		Minimum: map[events.Currency]int64{cny: rapid.Int64Range(0, 500).Draw(t, "minimum")}, Convention: Convention(rapid.IntRange(0, 2).Draw(t, "convention")),
	}
	if rapid.Bool().Draw(t, "reserve") {
		m.Reserve, m.Held = events.Rate(rapid.Int64Range(1, 1_000_000).Draw(t, "rate")), rapid.IntRange(1, 20).Draw(t, "held")
	}
	return m
}

var kinds = []string{"purchase", "purchase", "purchase", "fee", "refund", "charge_back", "failure", "fee_return", "dispute"}

// book is a merchant's account, and what a store would keep of its batches.
type book struct {
	t        *rapid.T
	m        *Merchant
	standing Standing
	begin    Day
	lines    []Line        // all of the account
	batchOf  map[int64]int // by version
	orders   []Order
	batches  []Batch
}

// post puts transfers on the account at times around a day, some of them late.
func (b *book) post(around Day) {
	for range rapid.IntRange(0, 12).Draw(b.t, "transfers") {
		at := around.Time().Add(time.Duration(rapid.Int64Range(-3*24*3600, 24*3600).Draw(b.t, "at")) * time.Second)
		l := Line{Version: int64(len(b.lines) + 1), Time: at, Kind: rapid.SampledFrom(kinds).Draw(b.t, "kind"), Amount: rapid.Int64Range(1, 1000).Draw(b.t, "amount")}
		if l.Kind != "purchase" && l.Kind != "fee_return" {
			l.Amount = -l.Amount
		}
		b.lines = append(b.lines, l)
	}
}

// settle runs up to a day and keeps what a store would.
func (b *book) settle(until Day) {
	var open []Line
	for _, l := range b.lines {
		if _, in := b.batchOf[l.Version]; !in && l.Time.Before(b.m.CutOffs.At(until)) {
			open = append(open, l)
		}
	}
	if until <= b.standing.Day {
		return
	}
	var orders []Order
	last := int64(len(b.lines))
	for _, x := range b.m.Settle(b.standing, cny, open, until) {
		want := b.naive(x.Day, last)
		if x.Opening+x.Net()-x.Held+x.Released-x.Payout != x.Carried {
			b.t.Fatalf("%+v does not add up", x)
		}
		if x.Sums != want.Sums || x.Held != want.Held || x.Released != want.Released || x.Payout != want.Payout || x.Carried != want.Carried || x.Count != want.Count {
			b.t.Fatalf("batch of %s\ngot  %+v\nwant %+v", x.Day, x, want)
		}
		for _, l := range x.Lines {
			if _, twice := b.batchOf[l.Version]; twice {
				b.t.Fatalf("transfer %d is in two batches", l.Version)
			}
			b.batchOf[l.Version] = len(b.batches)
		}
		for i := range x.Keeps {
			x.Keeps[i].Batch = int64(len(b.batches) + 1)
		}
		b.standing = Standing{Day: x.Day, Carried: x.Carried, Held: keep(append(b.standing.Held, x.Keeps...), x.Releases)}
		b.batches = append(b.batches, x)
		orders = append(orders, b.m.Orders(&x, "M", cny)...)
	}
	for v := range b.lines {
		if _, in := b.batchOf[int64(v+1)]; !in && b.lines[v].Class() != Own && b.lines[v].Time.Before(b.m.CutOffs.At(until)) {
			b.t.Fatalf("transfer %d of %s is in no batch though the cut-off of %s has passed", v+1, b.lines[v].Time, until)
		}
	}
	b.answer(orders)
}

// keep is what is held after releases, by what was held and how much.
func keep(held, released []Held) []Held {
	var left []Held
	for _, h := range held {
		found := false
		for i, r := range released {
			if r.Number == h.Number && r.Amount == h.Amount && r.ReleaseOn == h.ReleaseOn {
				released = append(append([]Held(nil), released[:i]...), released[i+1:]...)
				found = true
				break
			}
		}
		if !found {
			left = append(left, h)
		}
	}
	return left
}

// answer is the book's: it posts an order on the account, or refuses it. Here none is refused while a run is under way.
func (b *book) answer(orders []Order) {
	for _, o := range orders {
		l := Line{Version: int64(len(b.lines) + 1), Time: o.At, Kind: payments.PurposeName(o.Purpose), Amount: -o.Amount, Ordered: o.Purpose, Payment: o.ID}
		if o.Purpose == eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE_RELEASE {
			l.Amount = o.Amount
		}
		b.lines = append(b.lines, l)
		b.orders = append(b.orders, o)
		if o.Purpose == eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT && rapid.IntRange(0, 5).Draw(b.t, "sent back") == 0 {
			b.lines = append(b.lines, Line{Version: int64(len(b.lines) + 1), Time: o.At.Add(48 * time.Hour), Kind: payments.KindFailure, Amount: o.Amount, Ordered: o.Purpose, Payment: o.ID})
		}
	}
}

// naive is what a business day's cut-off settles, by going through everything.
func (b *book) naive(day Day, last int64) (want Batch) {
	opening := b.standing.Carried
	for _, l := range b.lines {
		if _, in := b.batchOf[l.Version]; in || l.Version > last || !l.Time.Before(b.m.CutOffs.At(day)) {
			continue
		}
		want.Count++
		class := Own
		switch {
		case l.Ordered != 0 && l.Kind == payments.KindFailure:
			class = Returned
		case l.Ordered != 0:
		case l.Kind == "purchase":
			class = Gross
		case l.Kind == "fee", l.Kind == "fee_return":
			class = Fees
		case l.Kind == "refund", l.Kind == "failure":
			class = Refunds
		case l.Kind == "charge_back":
			class = ChargeBack
		default:
			class = Other
		}
		want.Sums[class] += l.Amount
	}
	net := want.Sums[Gross] + want.Sums[Fees] + want.Sums[Refunds] + want.Sums[ChargeBack] + want.Sums[Other] + want.Sums[Returned]
	if b.m.Reserve > 0 {
		want.Held = min((want.Sums[Gross]*int64(b.m.Reserve)+500_000)/1_000_000, max(0, opening+net))
	}
	for _, h := range b.standing.Held {
		if h.ReleaseOn <= day {
			want.Released += h.Amount
		}
	}
	owed := opening + net - want.Held + want.Released
	if owed > 0 && owed >= b.m.Minimum[cny] {
		want.Payout = owed
	}
	want.Carried = owed - want.Payout
	return want
}

// Whatever arrives and however late, and whenever it is settled: every transfer that a cut-off has passed is in exactly one
// batch (settlement's own may wait for the next), each batch is what going through everything says, what was paid, held and carried is what the transfers come to, and
// what was held is released or open.
func TestEveryTransferIsSettledOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := &book{t: t, m: anyMerchant(t), begin: date("2011-03-01"), batchOf: map[int64]int{}}
		for day := b.begin; day < b.begin+60; day += Day(rapid.IntRange(1, 6).Draw(t, "days")) {
			b.post(day)
			b.settle(b.m.CutOffs.Until(day))
		}
		var settled, paid, held, released, open int64
		for _, l := range b.lines {
			if _, in := b.batchOf[l.Version]; in && l.Class() != Own {
				settled += l.Amount
			}
		}
		for _, x := range b.batches {
			paid, held, released = paid+x.Payout, held+x.Held, released+x.Released
		}
		for _, h := range b.standing.Held {
			open += h.Amount
		}
		if paid+held-released+b.standing.Carried != settled || held != released+open {
			t.Fatalf("paid %d, held %d, released %d, open %d, carried %d of %d", paid, held, released, open, b.standing.Carried, settled)
		}
	})
}

// What the book refuses of a batch's orders comes back in the next batch, and no reserve is released that was never taken.
func TestRefusedOrdersComeBack(t *testing.T) {
	t.Parallel()
	m := Standard().Merchant
	m.Reserve, m.Held = 100_000, 10 // 10 %
	monday := date("2026-03-02")
	s := Standing{}
	lines := []Line{{Version: 1, Time: monday.Time(), Kind: "purchase", Amount: 1000}}
	first := m.Settle(s, cny, lines, monday)[0]
	if first.Held != 100 || first.Payout != 900 || first.Carried != 0 {
		t.Fatalf("%+v", first)
	}
	orders := m.Orders(&first, "M", cny)
	if len(orders) != 2 || orders[0].ID != "settlement/2026-03-02/M/CNY/reserve" || orders[1].ID != "settlement/2026-03-02/M/CNY/payout" {
		t.Fatalf("%+v", orders)
	}
	// Both are refused: the merchant is owed all of it again, of which nothing is a purchase to keep back of.
	s = Standing{Day: monday, Held: []Held{{Batch: 1, Number: 1, Amount: 100, ReleaseOn: monday + 10, Refused: true}}, Refused: orders}
	next := m.Settle(s, cny, nil, monday+1)
	if len(next) != 1 || next[0].Sums[Returned] != 1000 || next[0].Payout != 1000 || next[0].Held != 0 || next[0].Released != 0 || len(next[0].Releases) != 1 {
		t.Fatalf("%+v", next)
	}
	// A release that is refused is held on: what was counted as released is taken back, and released with the next batch.
	release := Order{Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE_RELEASE, Amount: 70}
	again := m.Settle(Standing{Day: monday, Refused: []Order{release}}, cny, nil, monday+2)
	if len(again) != 1 || again[0].Carried != -70 || len(again[0].Keeps) != 1 || again[0].Keeps[0].Number != 2 {
		t.Fatalf("%+v", again)
	}
}

// A reserve that was refused and, by the same run, released holds nothing back: neither has happened.
func TestAReserveThatNeverWasIsNotHeldOn(t *testing.T) {
	t.Parallel()
	m := Standard().Merchant
	m.Reserve, m.Held = 100_000, 2
	monday := date("2026-03-02")
	lines := []Line{{Version: 1, Time: monday.Time(), Kind: "purchase", Amount: 1000}}
	both := m.Settle(Standing{}, cny, lines, monday+2) // made up for: the reserve is kept and released at once
	if len(both) != 2 || both[0].Held != 100 || both[1].Released != 100 {
		t.Fatalf("%+v", both)
	}
	refused := append(m.Orders(&both[0], "M", cny), m.Orders(&both[1], "M", cny)...) // the money went into refunds meanwhile
	lines = []Line{{Version: 2, Time: (monday + 3).Time(), Kind: "refund", Amount: -950}}
	next := m.Settle(Standing{Day: monday + 2, Refused: refused}, cny, lines, monday+7)
	if len(next) != 1 || next[0].Payout != 50 || next[0].Carried != 0 {
		t.Fatalf("of 1000 less 950: %+v", next)
	}
}

func TestNegativeNetIsCarried(t *testing.T) {
	t.Parallel()
	m := Standard().Merchant
	monday := date("2026-03-02")
	b := m.Settle(Standing{}, cny, []Line{
		{Version: 1, Time: monday.Time(), Kind: "purchase", Amount: 100},
		{Version: 2, Time: monday.Time(), Kind: "charge_back", Amount: -300},
		{Version: 3, Time: monday.Time().Add(24 * time.Hour), Kind: "purchase", Amount: 500},
	}, monday+1)
	if len(b) != 2 || b[0].Carried != -200 || b[0].Payout != 0 || b[1].Opening != -200 || b[1].Payout != 300 {
		t.Fatalf("%+v", b)
	}
}

func TestChannelOwes(t *testing.T) {
	t.Parallel()
	c := Standard().Channel
	c.Points, c.Fixed, c.After = 50, map[events.Currency]int64{cny: 10}, 2
	friday := date("2026-03-06")
	lines := []Line{{Version: 1, Time: friday.Time(), Kind: "purchase", Amount: 10_001}, {Version: 2, Time: friday.Time(), Kind: "refund", Amount: -1000},
		{Version: 3, Time: friday.Time().Add(30 * time.Hour), Kind: "top_up", Amount: 500}}
	net := c.Settle(0, cny, lines, friday+3)
	if len(net) != 2 || net[0].Fee != 50+10 || net[0].Due != 9001-60 || net[0].ValueDate != date("2026-03-10") || net[1].Day != date("2026-03-09") {
		t.Fatalf("%+v", net)
	}
	// What another channel carries now it has not collected, nor is what it no longer pays out; a loss made good is no sale.
	moved := []Line{{Version: 1, Time: friday.Time(), Kind: "purchase", Payment: "A", Amount: 1000}, {Version: 2, Time: friday.Time(), Kind: "reroute", Payment: "A", Amount: -1000},
		{Version: 3, Time: friday.Time(), Kind: "withdrawal", Payment: "B", Amount: -700}, {Version: 4, Time: friday.Time(), Kind: "reroute", Payment: "B", Amount: 700},
		{Version: 5, Time: friday.Time(), Kind: "recovery", Payment: "C", Amount: 300}, {Version: 6, Time: friday.Time(), Kind: "reroute", Payment: "D", Amount: 2000}}
	if got := c.Settle(0, cny, moved, friday); len(got) != 1 || got[0].Fee != 10+10 {
		t.Fatalf("%+v", got)
	}
	c.Gross = true
	if gross := c.Settle(0, cny, lines, friday); len(gross) != 1 || gross[0].Due != 9001 {
		t.Fatalf("%+v", gross)
	}
}

func TestOrderIDsFit(t *testing.T) {
	t.Parallel()
	long := fmt.Sprintf("%0128d", 7)
	a, b := OrderID(1, long, cny, clearingPurpose), OrderID(1, long[1:]+"8", cny, clearingPurpose)
	if len(a) > events.MaxIDBytes || a == b {
		t.Fatalf("%q, %q", a, b)
	}
}

const clearingPurpose = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_CLEARING
