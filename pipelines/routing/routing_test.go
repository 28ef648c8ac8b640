package routing_test

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/pipelines/routing"
	"sluice/rules"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

const (
	card     = eventsv1.PaymentMethod_PAYMENT_METHOD_CARD
	bank     = eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER
	quick    = eventsv1.PaymentMethod_PAYMENT_METHOD_QUICK_PAY
	wallet   = eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET
	purchase = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE
	transfer = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER
	topUp    = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP
	payout   = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) // a Tuesday

// answers is routing.Health from two numbers for each channel.
type answers [][2]int64

func (a answers) Answers(i int) (good, all int64) {
	if i >= len(a) {
		return 0, 0
	}
	return a[i][0], a[i][1]
}

func load(t testing.TB, source string) *routing.Table {
	t.Helper()
	table, err := routing.Load("channels.yaml", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// three are channels that differ by their fee alone.
const three = `
routing: main
version: 3
channels:
  - {name: a, methods: [card], purposes: [purchase], currencies: [CNY], fees: [{bps: 60}]}
  - {name: b, methods: [card], purposes: [purchase], currencies: [CNY], fees: [{bps: 70}]}
  - {name: c, methods: [card], purposes: [purchase], currencies: [CNY], fees: [{bps: 80}]}
`

func pay(id string, amount int64) *events.Event {
	return &events.Event{ID: id, Source: "s", Kind: events.PaymentInitiated, Time: noon, CustomerID: "c1", PaymentID: id, Method: card, Purpose: purchase, MerchantID: "m",
		Amount: amount, Currency: events.MustCurrency("CNY")}
}

// ordinary is an id whose payment neither explores nor probes.
func ordinary(t testing.TB, c *routing.Chooser) string {
	t.Helper()
	for i := range 1000 {
		id := fmt.Sprint("p", i)
		if strings.HasPrefix(c.Choose(pay(id, 100_00), rules.Context{}, answers{{1, 1000}}).Reason, "cheapest") {
			return id
		}
	}
	t.Fatal("every payment explores")
	return ""
}

func TestWhatAReasonSays(t *testing.T) {
	t.Parallel()
	c := load(t, three).NewChooser()
	id := ordinary(t, c)
	for _, k := range []struct {
		h         answers
		change    func(*events.Event)
		channel   string
		reason    string
		fallbacks []string
	}{
		{nil, nil, "a", "cheapest of 3 healthy: a 0.60 %, no answers yet; main@3", []string{"b", "c"}},
		{answers{{1000, 1204}, {1204, 1204}}, nil, "b", "cheapest of 3 healthy: b 0.70 %, success 100.0 % of 1204; main@3", []string{"a", "c"}},
		{answers{{10, 20}, {9, 20}}, nil, "c", "cheapest of 2 healthy: c 0.80 %, no answers yet; main@3", []string{"a", "b"}},
		{answers{{1, 100}, {30, 100}, {20, 100}}, nil, "b", "least bad of 3, all down: b 0.70 %, success 30.0 % of 100; main@3", []string{"a", "c"}},
		{nil, func(e *events.Event) { e.PaymentChannel = "c" }, "c", "asked for by the event: c 0.80 %, no answers yet; main@3", []string{"a", "b"}},
		{nil, func(e *events.Event) { e.PaymentChannel = "d" }, "", "none: the event asks for d, which is no channel; main@3", nil},
		{nil, func(e *events.Event) { e.PaymentChannel, e.Method = "c", quick }, "", "none: the event asks for c, which is not that method and currency; main@3", nil},
		{nil, func(e *events.Event) { e.Currency = events.MustCurrency("EUR") }, "", "none can carry it: a (not that method and currency), b (not that method and currency), c (not that method and currency); main@3", nil},
	} {
		e := pay(id, 100_00)
		if k.change != nil {
			k.change(e)
		}
		got := c.Choose(e, rules.Context{}, k.h)
		if got.Channel != k.channel || got.Reason != k.reason || !slices.Equal(got.Fallbacks, k.fallbacks) {
			t.Errorf("%v: %+v, want %s, %s, %v", k.h, got, k.channel, k.reason, k.fallbacks)
		}
		if routing.ReasonWord(got.Reason) == "" {
			t.Errorf("%s has no word", got.Reason)
		}
	}
}

// TestTheChannelCanCarryIt: over any table and payment, the chosen channel and all fallbacks can carry it, by a naive reading
// of the table; where there is none, none is chosen.
func TestTheChannelCanCarryIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := drawn{t: t, rejects: map[string]bool{}}
		table, err := routing.Load("drawn.yaml", []byte(d.table()))
		if err != nil {
			t.Fatal(err)
		}
		c := table.NewChooser()
		for range 10 {
			e := d.payment()
			h := answers{}
			for range table.Channels {
				all := rapid.Int64Range(0, 200).Draw(t, "answers")
				h = append(h, [2]int64{rapid.Int64Range(0, all).Draw(t, "good"), all})
			}
			got := c.Choose(e, rules.Context{}, h)
			var able []string
			for i := range d.channels {
				if d.channels[i].able(e, d.avoided(e)) {
					able = append(able, d.channels[i].name)
				}
			}
			named := append(slices.Clone(got.Fallbacks), got.Channel)
			for _, name := range named {
				if name != "" && !slices.Contains(able, name) {
					t.Fatalf("%s was named for %s of %d, able are %v", name, e.PaymentID, e.Amount, able)
				}
			}
			if i := table.Index(got.Channel); i >= 0 {
				down, word := table.Down(h[i][0], h[i][1]), routing.ReasonWord(got.Reason)
				if down != (word == "probed" || word == "least") {
					t.Fatalf("%s with %v answers: %s", got.Channel, h[i], got.Reason)
				}
			}
			slices.Sort(named)
			switch {
			case len(able) == 0 && got.Channel != "", len(able) > 0 && got.Channel == "":
				t.Fatalf("%+v, able are %v", got, able)
			case len(slices.Compact(named)) != len(named), len(named) < min(len(able), 1+routing.MaxFallbacks):
				t.Fatalf("named are %v of %v", named, able)
			}
			if again := table.NewChooser().Choose(e, rules.Context{}, h); again.Channel != got.Channel || again.Reason != got.Reason {
				t.Fatalf("the same gives %+v and %+v", got, again)
			}
		}
	})
}

// drawn draws tables and keeps what they say in a plain form.
type drawn struct {
	t        *rapid.T
	channels []plain
	rejects  map[string]bool // avoided for amounts above 500.00
}

type plain struct {
	name               string
	enabled            bool
	method             string
	currency           string
	purpose            string
	least, most        int64
	from, to           int // hours in UTC, 0 and 24: always
	saturdaysAreClosed bool
}

func (d *drawn) table() string {
	var b strings.Builder
	b.WriteString("routing: drawn\nversion: 1\nchannels:\n")
	for i := range rapid.IntRange(1, 12).Draw(d.t, "channels") {
		p := plain{name: fmt.Sprint("ch", i), enabled: rapid.IntRange(0, 5).Draw(d.t, "enabled") > 0, method: rapid.SampledFrom([]string{"card", "bank_transfer"}).Draw(d.t, "method"),
			currency: rapid.SampledFrom([]string{"CNY", "JPY"}).Draw(d.t, "currency"), purpose: rapid.SampledFrom([]string{"purchase", "top_up"}).Draw(d.t, "purpose"),
			least: rapid.Int64Range(1, 10).Draw(d.t, "least") * 100, most: rapid.Int64Range(10, 2000).Draw(d.t, "most") * 100,
			from: rapid.IntRange(0, 23).Draw(d.t, "from"), to: rapid.IntRange(0, 24).Draw(d.t, "to"), saturdaysAreClosed: rapid.Bool().Draw(d.t, "saturdays")}
		if p.from == p.to {
			p.from, p.to = 0, 24
		}
		days := "[mon, tue, wed, thu, fri, sat, sun]"
		if p.saturdaysAreClosed {
			days = "[mon, tue, wed, thu, fri, sun]"
		}
		divisor := int64(100)
		if p.currency == "JPY" {
			divisor = 1
		}
		fmt.Fprintf(&b, "  - {name: %s, enabled: %v, methods: [%s], purposes: [%s], currencies: [%s], limits: {%s: {min: %d, max: %d}}, priority: %d, fees: [{bps: %d}], hours: {zone: UTC, days: %s, from: \"%02d:00\", to: \"%02d:00\"}}\n",
			p.name, p.enabled, p.method, p.purpose, p.currency, p.currency, p.least/divisor, p.most/divisor, rapid.IntRange(1, 3).Draw(d.t, "priority"), rapid.IntRange(0, 300).Draw(d.t, "bps"), days, p.from, p.to)
		d.channels = append(d.channels, p)
	}
	if rapid.Bool().Draw(d.t, "rule") {
		name := d.channels[0].name
		d.rejects[name] = true
		fmt.Fprintf(&b, "rules:\n  - {id: large, when: payment.amount > 500, avoid: [%s]}\n", name)
	}
	return b.String()
}

func (d *drawn) payment() *events.Event {
	e := pay(fmt.Sprint("p", rapid.Uint64().Draw(d.t, "id")), rapid.Int64Range(1, 220_000).Draw(d.t, "amount"))
	e.Method = rapid.SampledFrom([]eventsv1.PaymentMethod{card, bank}).Draw(d.t, "method")
	e.Purpose = rapid.SampledFrom([]eventsv1.PaymentPurpose{purchase, topUp}).Draw(d.t, "purpose")
	e.Currency = events.MustCurrency(rapid.SampledFrom([]string{"CNY", "JPY"}).Draw(d.t, "currency"))
	e.Time = noon.Add(time.Duration(rapid.Int64Range(0, 14*24*60).Draw(d.t, "minutes")) * time.Minute)
	return e
}

func (d *drawn) avoided(e *events.Event) map[string]bool {
	limit := int64(500_00)
	if e.Currency.Exponent() == 0 {
		limit = 500
	}
	if e.Amount > limit {
		return d.rejects
	}
	return nil
}

// able reads the table naively.
func (p *plain) able(e *events.Event, avoided map[string]bool) bool {
	begins, hour := e.Time, e.Time.Hour()
	open := hour >= p.from && hour < p.to
	if p.from > p.to { // over midnight; it belongs to the day it began on
		open = hour >= p.from || hour < p.to
		if hour < p.to {
			begins = begins.AddDate(0, 0, -1)
		}
	}
	return p.enabled && !avoided[p.name] && (e.Method == card) == (p.method == "card") && (e.Purpose == purchase) == (p.purpose == "purchase") &&
		e.Currency.Code() == p.currency && e.Amount >= p.least && e.Amount <= p.most && open && (!p.saturdaysAreClosed || begins.Weekday() != time.Saturday)
}

// TestTheOrderIsTheExpectedCost: of channels that are up, the one chosen has the least fee and penalty for failing, in
// rational numbers; of equals the first.
func TestTheOrderIsTheExpectedCost(t *testing.T) {
	t.Parallel()
	table := load(t, three)
	c := table.NewChooser()
	id := ordinary(t, c)
	rapid.Check(t, func(t *rapid.T) {
		e := pay(id, rapid.Int64Range(1, events.MaxAmount).Draw(t, "amount"))
		h := answers{}
		best, least := 0, (*big.Rat)(nil)
		for i := range table.Channels {
			all := rapid.Int64Range(0, 3000).Draw(t, "all")
			good := rapid.Int64Range((all+1)/2, all).Draw(t, "good")
			h = append(h, [2]int64{good, all})
			fee := table.Channels[i].Terms(card, e.Currency).Fee(e.Amount)
			success := (good*routing.Whole + table.Expected*table.Weight) / (all + table.Weight) // millionths, cut off, as documented
			cost := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(e.Amount), big.NewInt((routing.Whole-success)*table.Penalty)), big.NewInt(routing.Whole*routing.Whole))
			cost.Add(cost, new(big.Rat).SetInt64(fee))
			if least == nil || cost.Cmp(least) < 0 {
				best, least = i, cost
			}
		}
		if got := c.Choose(e, rules.Context{}, h); got.Channel != table.Channels[best].Name {
			t.Fatalf("%s is chosen for %v, %s is cheapest", got.Channel, h, table.Channels[best].Name)
		}
	})
}

// TestFewAnswersDoNotDecide: one failure does not turn a channel down, and moves its expected rate by little.
func TestFewAnswersDoNotDecide(t *testing.T) {
	t.Parallel()
	c := load(t, three).NewChooser()
	id := ordinary(t, c)
	if got := c.Choose(pay(id, 100_00), rules.Context{}, answers{{0, 1}, {1, 1}, {1, 1}}); got.Channel != "a" {
		t.Error(got) // 0.60 % + 9.5 % of 1 % = 0.70 % against 0.70 % + 4.8 % of 1 % = 0.75 %
	}
	k := c.Candidates(pay(id, 100_00), rules.Context{}, answers{{0, 1}, {0, 19}, {9, 20}})
	if k[0].Success != 904_761 || k[0].Down || k[1].Down || !k[2].Down {
		t.Errorf("%+v", k)
	}
}

// TestTheSharesOfExploringAndProbing: over many ids the shares lie within five standard deviations of what is declared, and
// the others are spread evenly.
func TestTheSharesOfExploringAndProbing(t *testing.T) {
	t.Parallel()
	const n = 200_000
	within := func(what string, got int, share float64) {
		t.Helper()
		if sd := math.Sqrt(n * share * (1 - share)); math.Abs(float64(got)-n*share) > 5*sd {
			t.Errorf("%s: %d of %d, want %.0f ± %.0f", what, got, n, n*share, 5*sd)
		}
	}
	c := load(t, three+"  - {name: d, priority: 9, methods: [card], purposes: [purchase], currencies: [CNY], fees: [{bps: 1}]}\nexplore: 0.05\nprobe: 0.02\n").NewChooser()
	count := map[string]int{}
	for i := range n {
		r := c.Choose(pay(fmt.Sprint("payment-", i), 100_00), rules.Context{}, answers{{1000, 1000}, {1000, 1000}, {1000, 1000}, {1000, 1000}})
		count[routing.ReasonWord(r.Reason)]++
		count[r.Channel]++
	}
	within("explored", count["explored"], 0.05)
	within("explored with b", count["b"], 0.025)
	within("explored with c", count["c"], 0.025)
	if count["d"] != 0 || count["probed"] != 0 {
		t.Errorf("a backup was explored, or a healthy channel probed: %v", count)
	}
	count = map[string]int{}
	for i := range n {
		r := c.Choose(pay(fmt.Sprint("payment-", i), 100_00), rules.Context{}, answers{{10, 1000}, {20, 1000}, {1000, 1000}, {1000, 1000}})
		count[routing.ReasonWord(r.Reason)]++
		count[r.Channel]++
	}
	within("probed a", count["a"], 0.02)
	within("probed b", count["b"], 0.02)
	if count["explored"] != 0 || count["d"] != 0 {
		t.Errorf("explored without a peer: %v", count)
	}
}

// TestHours: by the clock of the zone, over midnight, around the days on which clocks are changed, and on holidays.
func TestHours(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		hours string
		at    string
		open  bool
	}{
		{`zone: Asia/Shanghai, from: "08:00", to: "20:00"`, "2026-11-24T00:00:00Z", true},
		{`zone: Asia/Shanghai, from: "08:00", to: "20:00"`, "2026-11-23T23:59:59Z", false},
		{`zone: Asia/Shanghai, from: "08:00", to: "20:00"`, "2026-11-24T11:59:59Z", true},
		{`zone: Asia/Shanghai, from: "08:00", to: "20:00"`, "2026-11-24T12:00:00Z", false},
		{`zone: Asia/Shanghai, days: [mon, tue, wed, thu, fri]`, "2026-11-27T15:59:59Z", true},  // Friday 23:59:59
		{`zone: Asia/Shanghai, days: [mon, tue, wed, thu, fri]`, "2026-11-27T16:00:00Z", false}, // Saturday
		{`zone: Asia/Shanghai, holidays: [2026-10-01]`, "2026-09-30T16:00:00Z", false},
		{`zone: Asia/Shanghai, holidays: [2026-10-01]`, "2026-10-01T15:59:59Z", false},
		{`zone: Asia/Shanghai, holidays: [2026-10-01]`, "2026-10-01T16:00:00Z", true},
		{`zone: UTC, days: [fri], from: "22:00", to: "06:00"`, "2026-11-27T22:00:00Z", true},
		{`zone: UTC, days: [fri], from: "22:00", to: "06:00"`, "2026-11-28T05:59:00Z", true},  // Saturday morning is Friday's
		{`zone: UTC, days: [fri], from: "22:00", to: "06:00"`, "2026-11-27T05:59:00Z", false}, // Friday morning is Thursday's
		{`zone: UTC, from: "22:00", to: "06:00", holidays: [2026-11-27]`, "2026-11-28T05:00:00Z", false},
		{`zone: UTC, from: "22:00", to: "06:00", holidays: [2026-11-27]`, "2026-11-27T05:00:00Z", true},
		// Berlin on 2026-03-29: 01:59:59 CET is followed by 03:00 CEST.
		{`zone: Europe/Berlin, from: "02:00", to: "03:00"`, "2026-03-29T00:59:59Z", false},
		{`zone: Europe/Berlin, from: "02:00", to: "03:00"`, "2026-03-29T01:00:00Z", false},
		{`zone: Europe/Berlin, from: "08:00", to: "20:00"`, "2026-03-28T07:00:00Z", true},
		{`zone: Europe/Berlin, from: "08:00", to: "20:00"`, "2026-03-29T06:00:00Z", true},
		{`zone: Europe/Berlin, from: "08:00", to: "20:00"`, "2026-03-28T06:59:59Z", false},
		// On 2026-10-25 the hour from 02:00 comes twice.
		{`zone: Europe/Berlin, from: "02:00", to: "03:00"`, "2026-10-25T00:30:00Z", true},
		{`zone: Europe/Berlin, from: "02:00", to: "03:00"`, "2026-10-25T01:30:00Z", true},
		{`zone: Europe/Berlin, from: "02:00", to: "03:00"`, "2026-10-25T02:00:00Z", false},
		{`zone: America/New_York, to: "24:00", from: "00:00"`, "1969-12-31T23:59:59Z", true},
	} {
		table := load(t, "routing: h\nversion: 1\nchannels:\n  - {name: a, methods: [card], purposes: [purchase], currencies: [CNY], fees: [{bps: 1}], hours: {"+k.hours+"}}\n")
		at, err := time.Parse(time.RFC3339, k.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := table.Channels[0].Hours.Open(at); got != k.open {
			t.Errorf("{%s} at %s is open: %v", k.hours, k.at, got)
		}
		e := pay("p", 100)
		e.Time = at
		if got := table.NewChooser().Choose(e, rules.Context{}, answers{}); (got.Channel == "a") != k.open {
			t.Errorf("{%s} at %s: %+v", k.hours, k.at, got)
		}
	}
}

// TestFees: against rational numbers, at the bounds too.
func TestFees(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		terms := routing.Terms{Rate: rapid.Int64Range(0, routing.Whole).Draw(t, "rate"), Fixed: rapid.Int64Range(0, 1000).Draw(t, "fixed"), Least: rapid.Int64Range(0, 500).Draw(t, "least"),
			Most: rapid.SampledFrom([]int64{0, 500, 100_000}).Draw(t, "most")}
		amount := rapid.Int64Range(1, events.MaxAmount).Draw(t, "amount")
		exact := new(big.Int).Mul(big.NewInt(amount), big.NewInt(terms.Rate))
		exact.Add(exact, big.NewInt(routing.Whole/2))
		want := exact.Quo(exact, big.NewInt(routing.Whole)).Int64() + terms.Fixed // half up
		want = max(want, terms.Least)
		if terms.Most > 0 {
			want = min(want, terms.Most)
		}
		if got := terms.Fee(amount); got != want {
			t.Fatalf("%+v of %d: %d, want %d", terms, amount, got, want)
		}
	})
}

func TestWhichPaymentsGoThroughAChannel(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		kind    events.Kind
		method  eventsv1.PaymentMethod
		purpose eventsv1.PaymentPurpose
		begins  bool
	}{
		{events.PaymentInitiated, card, purchase, true}, {events.PaymentInitiated, quick, transfer, true}, {events.PaymentInitiated, wallet, purchase, false},
		{events.PaymentInitiated, wallet, transfer, false}, {events.PaymentInitiated, wallet, topUp, true}, {events.PaymentInitiated, 0, payout, true},
		{events.PaymentInitiated, bank, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE, false}, {events.PaymentInitiated, bank, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_CLEARING, false},
		{events.PaymentAuthorized, card, purchase, true}, {events.PaymentCaptured, card, purchase, false}, {events.LoanApplied, 0, 0, false},
	} {
		if got := routing.Begins(&events.Event{Kind: k.kind, Method: k.method, Purpose: k.purpose}); got != k.begins {
			t.Errorf("%+v: %v", k, got)
		}
	}
	c := load(t, strings.Replace(three, "methods: [card], purposes: [purchase]", "methods: [bank_transfer], purposes: [top_up]", 1)).NewChooser()
	e := pay("p", 100)
	e.Method, e.Purpose = wallet, topUp
	if got := c.Choose(e, rules.Context{}, answers{}); got.Channel != "a" {
		t.Errorf("a top-up of no instrument does not go by bank: %+v", got)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	c := load(t, three+`
rules:
  - {id: large, when: payment.amount > 500, use: [b, c]}
  - {id: larger, when: payment.amount > 900, use: [a]}
  - {id: not-b, when: payment.amount > 700, avoid: [b]}
  - {id: none, when: payment.amount > 1000, avoid: [c]}
  - {id: unknown, when: payment.channel == "x", avoid: [a]}
`).NewChooser()
	id := ordinary(t, c)
	for amount, want := range map[int64]string{500_00: "a", 500_01: "b", 700_01: "c", 900_01: "c", 1000_01: ""} {
		if got := c.Choose(pay(id, amount), rules.Context{}, answers{}); got.Channel != want {
			t.Errorf("%d: %+v, want %s", amount, got, want)
		}
	}
}

// TestLimitsIncludeTheirBounds, in the currency they are of alone.
func TestLimitsIncludeTheirBounds(t *testing.T) {
	t.Parallel()
	c := load(t, strings.Replace(three, "currencies: [CNY], fees: [{bps: 60}]", "currencies: [CNY, USD], limits: {CNY: {min: 1.00, max: 5.00}}, fees: [{bps: 60}]", 1)).NewChooser()
	able := func(amount int64, currency string) routing.Hindrance {
		e := pay("p", amount)
		e.Currency = events.MustCurrency(currency)
		return c.Candidates(e, rules.Context{}, answers{})[0].Hindrance
	}
	for amount, want := range map[int64]routing.Hindrance{99: routing.TooSmall, 100: routing.Able, 500: routing.Able, 501: routing.TooLarge} {
		if got := able(amount, "CNY"); got != want {
			t.Errorf("%d: %s, want %s", amount, got, want)
		}
		if got := able(amount, "USD"); got != routing.Able {
			t.Errorf("%d of another currency: %s", amount, got)
		}
	}
}

// onList says that one value is on the list "vip".
type onList string

func (l onList) Listed(list, value string, _ time.Time) bool {
	return list == "vip" && value == string(l)
}
func (onList) Similarity(string, string, time.Time) (none rules.Decimal) { return none }

// TestRulesAskListsAndTiers: what is known beside the event.
func TestRulesAskListsAndTiers(t *testing.T) {
	t.Parallel()
	c := load(t, three+`
rules:
  - {id: vip, when: 'listed("vip", customer.id)', use: [c]}
  - {id: gold, when: customer.tier == "gold", avoid: [a]}
`).NewChooser()
	id := ordinary(t, c)
	for want, x := range map[string]rules.Context{"a": {}, "b": {Tier: "gold", Lists: onList("c2")}, "c": {Tier: "gold", Lists: onList("c1")}} {
		if got := c.Choose(pay(id, 100_00), x, answers{}); got.Channel != want {
			t.Errorf("%+v: %+v", x, got)
		}
	}
}

// TestTheStandardFileLoads, and what it chooses.
func TestTheStandardFileLoads(t *testing.T) {
	t.Parallel()
	c := load(t, string(routing.Standard)).NewChooser()
	for amount, want := range map[int64]string{100_00: "acquirer-a", 30_000_00: "acquirer-b"} {
		if got := c.Choose(pay("p1", amount), rules.Context{}, answers{}); got.Channel != want {
			t.Errorf("%d: %+v", amount, got)
		}
	}
}

// twenty is a table of 20 channels, all of which can carry the payment.
func twenty(t testing.TB) *routing.Table {
	var b strings.Builder
	b.WriteString("routing: twenty\nversion: 1\nchannels:\n")
	for i := range 20 {
		fmt.Fprintf(&b, "  - {name: ch%d, methods: [card], purposes: [purchase], currencies: [CNY], limits: {CNY: {min: 1, max: 50000}}, fees: [{currency: CNY, bps: %d, min: 0.01}], hours: {zone: Asia/Shanghai, from: \"00:00\", to: \"23:00\"}}\n", i, 40+i*7%20)
	}
	b.WriteString("rules:\n  - {id: large, when: payment.amount > 1000, use: [ch1, ch2]}\n")
	return load(t, b.String())
}

// TestAChoiceAllocatesItsResultAlone: the reason and the list of fallbacks.
func TestAChoiceAllocatesItsResultAlone(t *testing.T) {
	c := twenty(t).NewChooser()
	e, h := pay("p1", 100_00), answers{{990, 1000}, {980, 1000}}
	var health routing.Health = h
	if n := testing.AllocsPerRun(100, func() { c.Choose(e, rules.Context{}, health) }); n > 2 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkChoose(b *testing.B) {
	c := twenty(b).NewChooser()
	e := pay("p1", 100_00)
	h := answers{}
	for i := range 20 {
		h = append(h, [2]int64{int64(900 + i*13%90), 1000})
	}
	var health routing.Health = h
	b.ReportAllocs()
	for b.Loop() {
		c.Choose(e, rules.Context{}, health)
	}
}
