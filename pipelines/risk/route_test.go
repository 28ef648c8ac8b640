package risk_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/pipelines/risk"
	"sluice/pipelines/routing"
	"sluice/rules"
	"sluice/schemas/events"
)

// twoChannels differ by their fee; answers count for 96 minutes, in tiles of one.
const twoChannels = `
routing: two
version: 1
window: 96m
attempts: 5
explore: 0
probe: 0
penalty: 0.001
channels:
  - {name: a, methods: [card], purposes: [purchase], currencies: [CNY], fees: [{bps: 60}]}
  - {name: b, methods: [card], purposes: [purchase], currencies: [CNY], fees: [{bps: 70}]}
`

// askingChannels has the aggregates of the table, and a rule that reads them.
const askingChannels = `
ruleset: asking
version: 1
aggregates:
  good: {count: [payment.authorized, payment.captured, payment.settled], by: payment_channel, window: 96m}
  bad: {count: payment.failed, by: payment_channel, window: 96m}
rules:
  - {id: read-good, when: 'known(good)', then: {score: 1, reason: R, say: s}}
  - {id: read-bad, when: 'known(bad)', then: {score: 1, reason: R, say: s}}
`

func routed(t interface{ Fatal(...any) }, ruleset, table string) *risk.Engine {
	rs, err := rules.Load("test.yaml", []byte(ruleset))
	if err != nil {
		t.Fatal(err)
	}
	channels, err := routing.Load("channels.yaml", []byte(table))
	if err != nil {
		t.Fatal(err)
	}
	return risk.NewEngine(rs).Route(channels)
}

// answered is a payment's event that a payment channel published.
func answered(kind events.Kind, customer, channel string) *events.Event {
	e := carried(customer, channel)
	e.Kind = kind
	return e
}

// carried is a card payment; channel "" lets the house choose.
func carried(customer, channel string) *events.Event {
	return &events.Event{Source: "s", Kind: events.PaymentInitiated, CustomerID: customer, PaymentID: "p", Method: card, Purpose: purchase, MerchantID: "m",
		Amount: 100_00, Currency: events.MustCurrency("CNY"), PaymentChannel: channel}
}

// TestHealthIsTheAggregates: what a choice reads of a channel is what a rule with the same aggregates reads, whatever is
// committed, aborted, restored, moved between two gates or comes late. (What lies more than the window behind the newest answer
// of any partition is no longer seen by late payments; rules may still see it.)
func TestHealthIsTheAggregates(t *testing.T) {
	t.Parallel()
	engine := routed(t, askingChannels, twoChannels)
	rapid.Check(t, func(t *rapid.T) {
		states := []*risk.State{owner(engine, 0), owner(engine, 1)}
		disk := gateState{}
		now, newest := noon, noon
		commit := func(i int) {
			disk.take(states[i])
			states[i].Staged(func(p int32, key, value []byte) {
				if err := states[1-i].Follow(p, key, value); err != nil {
					t.Fatal(err)
				}
			})
			states[i].Commit()
		}
		for n := range rapid.IntRange(1, 80).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(-1, 12).Draw(t, "minutes")) * time.Minute)
			if now.After(newest) {
				newest = now
			}
			i := rapid.IntRange(0, 1).Draw(t, "gate")
			switch rapid.IntRange(0, 12).Draw(t, "what") {
			case 0:
				commit(i)
			case 1:
				states[i].Abort()
			case 2: // restart of a gate, from what is committed
				states[i] = owner(engine, int32(i))
				disk.give(t, states[i], int32(i))
				for key, value := range disk[int32(1-i)] {
					if err := states[i].Follow(int32(1-i), []byte(key), value); err != nil {
						t.Fatal(err)
					}
				}
			case 3, 4, 5, 6:
				channel := rapid.SampledFrom([]string{"a", "b", "elsewhere"}).Draw(t, "channel")
				e := answered(rapid.SampledFrom([]events.Kind{events.PaymentSettled, events.PaymentCaptured, events.PaymentFailed, events.PaymentRefunded}).Draw(t, "kind"), fmt.Sprint("c", i), channel)
				e.ID, e.Time = fmt.Sprint("e", n), now
				if d := states[i].Decide(int32(i), e); d.Route.Reason != "" {
					t.Fatalf("an answer is routed: %+v", d.Route)
				}
			default:
				e := carried(fmt.Sprint("c", i), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "channel"))
				e.ID, e.Time = fmt.Sprint("e", n), newest
				d := states[i].Decide(int32(i), e)
				value := map[string]int{}
				for _, v := range d.Evidence {
					var count int
					fmt.Sscan(v.Text, &count)
					value[v.Name] = count
				}
				all := value["good"] + value["bad"]
				want := "no answers yet"
				if all > 0 {
					permille := value["good"] * 1000 / all
					want = fmt.Sprintf("success %d.%d %% of %d;", permille/10, permille%10, all)
				}
				if !strings.Contains(d.Route.Reason, want) {
					t.Fatalf("step %d: %q, rules read %v", n, d.Route.Reason, value)
				}
			}
		}
	})
}

// TestFailOver: while a channel's failures stream in the choice goes to the next; when they have left the window it comes
// back. Events of all partitions count.
func TestFailOver(t *testing.T) {
	t.Parallel()
	state := owner(routed(t, one("{count: payment, by: customer, window: 1h}"), twoChannels), 0, 1)
	now, n := noon, 0
	decide := func(e *events.Event) events.Decision {
		n++
		e.ID, e.Time = fmt.Sprint("e", n), now
		d := state.Decide(partitionOf(e), e)
		state.Commit()
		return d
	}
	channel := func() string { return decide(carried("c0", "")).Route.Channel }
	if got := channel(); got != "a" {
		t.Fatal(got)
	}
	for i := range 5 { // the fifth failure makes it down
		decide(answered(events.PaymentFailed, fmt.Sprint("c", i%2), "a"))
		if got := channel(); (got == "a") != (i < 4) {
			t.Errorf("after %d failures: %s", i+1, got)
		}
		now = now.Add(time.Minute)
	}
	d := decide(carried("c1", ""))
	if !strings.HasPrefix(d.Route.Reason, "cheapest of 1 healthy: b") || len(d.Route.Fallbacks) != 1 || d.Verdict != events.Approve {
		t.Errorf("%+v", d.Route)
	}
	for range 5 { // five good answers of ten: not below one half
		decide(answered(events.PaymentSettled, "c1", "a"))
	}
	if got := decide(carried("c0", "")).Route.Reason; !strings.HasPrefix(got, "cheapest of 2 healthy: a") {
		t.Error(got)
	}
	decide(answered(events.PaymentFailed, "c0", "a"))
	if got := channel(); got != "b" {
		t.Errorf("after one more failure: %s", got)
	}
	now = now.Add(98 * time.Minute)
	if got := channel(); got != "a" {
		t.Errorf("after the window: %s", got)
	}
}

// TestNoChannelIsADecline: with its reason, and only where the rules would let the payment pass.
func TestNoChannelIsADecline(t *testing.T) {
	t.Parallel()
	state := owner(routed(t, `
ruleset: r
version: 1
rules:
  - {id: stop, when: payment.amount > 500, then: {verdict: review, reason: R, say: s}}
`, twoChannels), 0)
	e := carried("c0", "")
	e.ID, e.Time, e.Currency = "e1", noon, events.MustCurrency("EUR")
	d := state.Decide(0, e)
	if d.Verdict != events.Decline || d.Route.Channel != "" || len(d.Hits) != 1 || d.Hits[0].Reason != routing.NoRoute || !strings.HasPrefix(d.Route.Reason, "none can carry it") {
		t.Errorf("%s %+v %+v", d.Verdict, d.Hits, d.Route)
	}
	e.ID, e.Amount = "e2", 600_00
	if d := state.Decide(0, e); d.Verdict != events.Review || d.Route.Reason != "" {
		t.Errorf("%s %+v", d.Verdict, d.Route)
	}
	e.ID, e.Amount, e.Method = "e3", 100, wallet
	if d := state.Decide(0, e); d.Verdict != events.Approve || d.Route.Reason != "" {
		t.Errorf("a payment between wallets: %s %+v", d.Verdict, d.Route)
	}
}

// TestMovedToAnUnknownChannelIsADecline, where a table is live; to a known one it is observed, as before.
func TestMovedToAnUnknownChannelIsADecline(t *testing.T) {
	t.Parallel()
	ruleset := one("{count: payment, by: customer, window: 1h}")
	state := owner(routed(t, ruleset, twoChannels), 0)
	move := func(id, channel string) events.Decision {
		e := answered(events.PaymentRerouted, "c0", channel)
		e.ID, e.Time = id, noon
		return state.Decide(0, e)
	}
	if d := move("e1", "b"); d.Verdict != events.Observed || d.Route.Reason != "" {
		t.Errorf("to a known one: %s %+v", d.Verdict, d.Route)
	}
	d := move("e2", "nosuch")
	if d.Verdict != events.Decline || d.Hits[len(d.Hits)-1].Reason != routing.NoRoute || d.Route.Reason != "none: the event asks for nosuch, which is no channel; two@1" {
		t.Errorf("%s %+v %+v", d.Verdict, d.Hits, d.Route)
	}
	state.Commit()
	state.SetEngine(load(t, ruleset))
	if d := move("e3", "nosuch"); d.Verdict != events.Observed {
		t.Errorf("without a table: %s", d.Verdict)
	}
}

// TestAuthorizationsAreRouted, where the ruleset has rules for them: to a channel that can hold money. One that is observed keeps
// what it has.
func TestAuthorizationsAreRouted(t *testing.T) {
	t.Parallel()
	table := strings.Replace(twoChannels, "{name: a, ", "{name: a, can: [sale], ", 1)
	e := answered(events.PaymentAuthorized, "c0", "")
	e.ID, e.Time = "e1", noon
	observing := owner(routed(t, "ruleset: r\nversion: 1\n", table), 0)
	if d := observing.Decide(0, e); d.Verdict != events.Observed || d.Route.Reason != "" {
		t.Errorf("observed: %s %+v", d.Verdict, d.Route)
	}
	unknown := *e
	unknown.ID, unknown.PaymentChannel = "e3", "nosuch"
	if d := observing.Decide(0, &unknown); d.Verdict != events.Decline || d.Hits[0].Reason != routing.NoRoute {
		t.Errorf("observed, by an unknown channel: %s %+v", d.Verdict, d.Route)
	}
	asking := owner(routed(t, `
ruleset: r
version: 1
rules:
  - {id: large, on: [payment.initiated, payment.authorized], when: payment.amount > 5000, then: {verdict: decline, reason: R, say: s}}
`, table), 0)
	if d := asking.Decide(0, e); d.Verdict != events.Approve || d.Route.Channel != "b" {
		t.Errorf("asked about: %s %+v", d.Verdict, d.Route)
	}
	e.ID, e.PaymentChannel = "e2", "nosuch"
	if d := asking.Decide(0, e); d.Verdict != events.Decline || d.Hits[0].Reason != routing.NoRoute {
		t.Errorf("by an unknown channel: %s %+v", d.Verdict, d.Route)
	}
}

// TestAnotherTableKeepsTheAnswers: health is kept by what is counted, not by the file; without a table nothing is chosen.
func TestAnotherTableKeepsTheAnswers(t *testing.T) {
	t.Parallel()
	ruleset := one("{count: payment, by: customer, window: 1h}")
	state := owner(routed(t, ruleset, twoChannels), 0)
	for i := range 3 {
		e := answered(events.PaymentFailed, "c0", "b")
		e.ID, e.Time = fmt.Sprint("e", i), noon
		state.Decide(0, e)
	}
	state.Commit()
	state.SetEngine(routed(t, ruleset, strings.NewReplacer("version: 1", "version: 2", "name: a,", "name: c,").Replace(twoChannels)))
	if good, all, ok := state.Answered("b"); good != 0 || all != 3 || !ok {
		t.Errorf("%d of %d, %v", good, all, ok)
	}
	if _, _, ok := state.Answered("a"); ok {
		t.Error("a is still there")
	}
	state.SetEngine(load(t, ruleset))
	e := carried("c0", "")
	e.ID, e.Time = "e9", noon
	if d := state.Decide(0, e); d.Route.Reason != "" || d.Verdict != events.Approve {
		t.Errorf("%+v", d.Route)
	}
}

// BenchmarkRoute decides payments among 20 channels, half of the events answers of them, over 16 partitions.
func BenchmarkRoute(b *testing.B) {
	table := "routing: t\nversion: 1\nwindow: 15m\nchannels:\n"
	for i := range 20 {
		table += fmt.Sprintf("  - {name: ch%d, methods: [card], purposes: [purchase], currencies: [CNY], fees: [{bps: %d}]}\n", i, 40+i)
	}
	const empty = "ruleset: empty\nversion: 1\n"
	for name, engine := range map[string]*risk.Engine{"channels=20": routed(b, empty, table), "channels=0": load(b, empty)} {
		b.Run(name, func(b *testing.B) {
			state := risk.NewState(engine)
			for p := range int32(16) {
				state.Assign(p)
			}
			at, n := noon, 0
			b.ReportAllocs()
			for b.Loop() {
				n++
				at = at.Add(5 * time.Millisecond)
				e := carried(fmt.Sprint("c", n%1000), "")
				e.ID, e.Time, e.PaymentID = fmt.Sprint(n), at, fmt.Sprint(n)
				if n%2 == 0 {
					e.Kind, e.PaymentChannel = events.PaymentSettled, fmt.Sprint("ch", n%20)
				}
				state.Decide(int32(n%16), e)
				if n%1000 == 0 {
					state.Commit()
				}
			}
		})
	}
}
