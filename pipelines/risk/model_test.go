package risk_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/pipelines/risk"
	"sluice/rules"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// everything has an aggregate of each function, private and shared, and a rule for each that always fires and has read
// it; and a rule with a brake. 96 minutes make tiles of one minute.
const everything = `
ruleset: everything
version: 1
aggregates:
  count_customer: {count: payment.initiated, by: customer, window: 96m}
  count_pair: {count: payment.initiated, by: [device, customer], window: 96m}
  count_device: {count: [payment.initiated, behavior.signed_in], by: device, window: 96m}
  count_large: {count: payment.initiated, where: payment.amount >= 5, by: customer, window: 96m}
  sum_customer: {sum: payment.amount, of: payment.initiated, by: customer, window: 96m}
  sum_merchant: {sum: payment.amount, of: payment.initiated, by: merchant, window: 192m}
  sum_pair: {sum: payment.amount, of: payment.initiated, by: [merchant, device], window: 96m}
  received: {sum: payment.amount, of: payment.initiated, by: counterparty, for: customer, window: 96m}
  avg_device: {avg: payment.amount, of: payment.initiated, by: device, window: 96m}
  min_device: {min: payment.amount, of: payment.initiated, by: device, window: 96m}
  max_device: {max: payment.amount, of: payment.initiated, by: device, window: 96m}
  customers_device: {distinct: customer, of: [payment.initiated, behavior.signed_in], by: device, window: 96m}
  devices_merchant: {distinct: device, of: payment.initiated, by: merchant, window: 96m}
  since_customer: {since: [payment.initiated, behavior.signed_in], by: customer, window: 96m}
  since_device: {since: behavior.signed_in, by: device, window: 96m}
  age_device: {age: [payment.initiated, behavior.signed_in], by: device, window: 96m}
  stddev_customer: {stddev: payment.amount, of: payment.initiated, by: customer, window: 96m}
  stddev_merchant: {stddev: payment.amount, of: payment.initiated, by: merchant, window: 96m}
  count_before: {count: payment.initiated, by: customer, window: 96m, delay: 96m}
  sum_before: {sum: payment.amount, of: payment.initiated, by: merchant, window: 96m, delay: 600m}
  devices_before: {distinct: device, of: payment.initiated, by: merchant, window: 96m, delay: 100m}
  cycle: {cycle: payment.initiated, where: payment.amount >= 2, window: 96m, hops: 4}
rules:
  - {id: stop, when: payment.amount >= 10, brake: {share: 0.3, window: 96m, after: 3}, then: {verdict: decline, reason: R, say: s}}
`

func load(t interface{ Fatal(...any) }, source string) *risk.Engine {
	rs, err := rules.Load("test.yaml", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	return risk.NewEngine(rs)
}

// withRules adds a rule that reads each aggregate named, for payments.
func withRules(source string, names ...string) string {
	for _, n := range names {
		source += fmt.Sprintf("  - {id: read-%s, when: 'known(%s) || true', then: {score: 1, reason: R, say: s}}\n", n, n)
	}
	return source
}

var all = []string{"count_customer", "count_pair", "count_device", "count_large", "sum_customer", "sum_merchant", "sum_pair", "received", "avg_device", "min_device",
	"max_device", "customers_device", "devices_merchant", "since_customer", "since_device", "age_device", "stddev_customer", "stddev_merchant", "count_before", "sum_before", "devices_before", "cycle"}

// model answers an aggregate from the list of all events, as far as the promise goes: values between the events surely
// in the window and those perhaps in it.
type model struct {
	key, forKey func(*events.Event) string
	of          func(*events.Event) bool
	window      time.Duration
	delay, tile time.Duration                                                                       // tile: 1/96 of the window, unless said
	answer      func(m *model, got string, sure, perhaps []*events.Event, now *events.Event) string // "" is right
	past        []*events.Event                                                                     // all there were so far
	unordered   bool                                                                                // some of them came late
	members     bool                                                                                // what is counted are values, not events
	except      bool                                                                                // the present event is left out
}

func customer(e *events.Event) string { return e.CustomerID }
func device(e *events.Event) string   { return e.DeviceID }
func merchant(e *events.Event) string { return e.MerchantID }
func paid(e *events.Event) bool       { return e.Kind == events.PaymentInitiated }
func signedIn(e *events.Event) bool   { return e.Kind == events.BehaviorSignedIn }
func anyKind(*events.Event) bool      { return true }

const window = 96 * time.Minute

var models = map[string]model{
	"count_customer": {key: customer, of: paid, window: window, answer: between(countOf)},
	"count_pair": {key: func(e *events.Event) string {
		if e.DeviceID == "" {
			return ""
		}
		return e.DeviceID + e.CustomerID
	}, of: paid, window: window, answer: between(countOf)},
	"count_device": {key: device, of: anyKind, window: window, answer: between(countOf)},
	"count_large":  {key: customer, of: func(e *events.Event) bool { return paid(e) && major(e) >= 5 }, window: window, answer: between(countOf)},
	"sum_customer": {key: customer, of: paid, window: window, answer: between(sumOf)},
	"sum_merchant": {key: merchant, of: paid, window: 2 * window, answer: between(sumOf)},
	"sum_pair": {key: func(e *events.Event) string {
		if e.MerchantID == "" || e.DeviceID == "" {
			return ""
		}
		return e.MerchantID + "+" + e.DeviceID
	}, of: paid, window: window, answer: between(sumOf)},
	"received":         {key: func(e *events.Event) string { return e.CounterpartyID }, forKey: customer, of: paid, window: window, answer: between(sumOf)},
	"avg_device":       {key: device, of: paid, window: window, answer: average},
	"min_device":       {key: device, of: paid, window: window, answer: signed(-1, func(es []*events.Event, now *events.Event) float64 { return -minOf(es, now) })},
	"max_device":       {key: device, of: paid, window: window, answer: between(maxOf)},
	"customers_device": {key: device, of: anyKind, window: window, answer: distinct(customer), members: true},
	"devices_merchant": {key: merchant, of: func(e *events.Event) bool { return paid(e) && e.DeviceID != "" }, window: window, answer: distinct(device), members: true},
	"since_customer":   {key: customer, of: anyKind, window: window, answer: since, except: true},
	"since_device":     {key: device, of: signedIn, window: window, answer: since, except: true},
	"age_device":       {key: device, of: anyKind, window: window, answer: age},
	"stddev_customer":  {key: customer, of: paid, window: window, answer: deviation},
	"stddev_merchant":  {key: merchant, of: paid, window: window, answer: deviation},
	"count_before":     {key: customer, of: paid, window: window, delay: window, answer: between(countOf)},
	"sum_before":       {key: merchant, of: paid, window: window, delay: 10 * time.Hour, tile: 2 * time.Minute, answer: between(sumOf)},
	"devices_before": {key: merchant, of: func(e *events.Event) bool { return paid(e) && e.DeviceID != "" }, window: window, delay: 100 * time.Minute,
		answer: distinct(device), members: true},
	"cycle": {key: func(*events.Event) string { return "one graph" }, of: func(e *events.Event) bool { return paid(e) && major(e) >= 2 }, window: window, answer: cycleWithin(4)},
}

type answer = func(*model, string, []*events.Event, []*events.Event, *events.Event) string

// between wants a value from what the sure events come to, up to what the possible ones do. f grows with more events.
func between(f func([]*events.Event, *events.Event) float64) answer { return signed(1, f) }

// signed is between for a value that shrinks with more events, when sign is -1.
func signed(sign float64, f func([]*events.Event, *events.Event) float64) answer {
	return func(_ *model, got string, sure, perhaps []*events.Event, now *events.Event) string {
		low, high := f(sure, now), f(perhaps, now)
		n, err := strconv.ParseFloat(got, 64)
		if n *= sign; err != nil {
			n = unknown
		}
		if n < low-1e-9 || n > high+1e-9 {
			return fmt.Sprintf("want %v to %v", sign*low, sign*high)
		}
		return ""
	}
}

// unknown is what min, max and age of nothing come to here: less than any value.
const unknown = -1e18

func countOf(es []*events.Event, _ *events.Event) float64 { return float64(len(es)) }

func sumOf(es []*events.Event, now *events.Event) float64 {
	n := 0.0
	for _, e := range sameCurrency(es, now) {
		n += major(e)
	}
	return n
}

func major(e *events.Event) float64 {
	f, _ := strconv.ParseFloat(events.FormatAmount(e.Amount, e.Currency), 64)
	return f
}

func sameCurrency(es []*events.Event, now *events.Event) []*events.Event {
	return slices.DeleteFunc(slices.Clone(es), func(e *events.Event) bool { return e.Currency != now.Currency })
}

func maxOf(es []*events.Event, now *events.Event) float64 {
	n := unknown
	for _, e := range sameCurrency(es, now) {
		n = max(n, major(e))
	}
	return n
}

func minOf(es []*events.Event, now *events.Event) float64 {
	n := -unknown
	for _, e := range sameCurrency(es, now) {
		n = min(n, major(e))
	}
	return n
}

// age wants the time since the first event after the last gap as long as the window, in each partition by itself; a late
// event's may be any that was.
func age(m *model, got string, _, _ []*events.Event, now *events.Event) string {
	n, err := strconv.ParseFloat(got, 64)
	if err != nil {
		return "it includes the present event"
	}
	firstAfter := func(gap time.Duration) float64 {
		var oldest float64
		for p := range int32(2) {
			var first, last time.Time
			for _, e := range m.past {
				if m.key(e) != m.key(now) || partitionOf(e) != p {
					continue
				}
				if e.Time.Sub(last) > gap {
					first = e.Time
				}
				last = e.Time
			}
			if now.Time.Sub(last) <= gap {
				oldest = max(oldest, now.Time.Sub(first).Seconds())
			}
		}
		return oldest
	}
	low, high := firstAfter(m.window), firstAfter(m.window+m.window/96)
	if m.unordered {
		low, high = 0, now.Time.Sub(noon.Add(-24*time.Hour)).Seconds()
	}
	if n < low-1e-9 || n > high+1e-9 {
		return fmt.Sprintf("want %v to %v", low, high)
	}
	return ""
}

func average(_ *model, got string, sure, perhaps []*events.Event, now *events.Event) string {
	n, err := strconv.ParseFloat(got, 64)
	switch {
	case err != nil && len(sameCurrency(sure, now)) > 0:
		return "want an average"
	case err != nil:
		return ""
	case len(sure) == len(perhaps):
		if want := sumOf(sure, now) / float64(len(sameCurrency(sure, now))); n > want+1e-9 || n < want-1e-8 {
			return fmt.Sprintf("want %v", want)
		}
	case n < minOf(perhaps, now)-1e-8 || n > maxOf(perhaps, now)+1e-8:
		return "outside of what was paid"
	}
	return ""
}

// deviation wants the population's, as far as the window is sure; it is rounded down to two decimals beyond the currency's.
func deviation(_ *model, got string, sure, perhaps []*events.Event, now *events.Event) string {
	n, err := strconv.ParseFloat(got, 64)
	switch {
	case err != nil && len(sameCurrency(sure, now)) > 0:
		return "want a deviation"
	case err != nil:
		return ""
	case len(sure) == len(perhaps):
		mean, squares := sumOf(sure, now)/float64(len(sameCurrency(sure, now))), 0.0
		for _, e := range sameCurrency(sure, now) {
			squares += (major(e) - mean) * (major(e) - mean)
		}
		want := math.Sqrt(squares / float64(len(sameCurrency(sure, now))))
		if unit := math.Pow10(-now.Currency.Exponent() - 2); n > want+1e-6 || n < want-unit-1e-6 {
			return fmt.Sprintf("want %v", want)
		}
	case n < 0 || n > (maxOf(perhaps, now)-minOf(perhaps, now))/2+1e-9:
		return "further apart than what was paid"
	}
	return ""
}

func distinct(of func(*events.Event) string) answer {
	values := func(es []*events.Event) float64 {
		seen := map[string]bool{}
		for _, e := range es {
			seen[of(e)] = true
		}
		return float64(len(seen))
	}
	return between(func(es []*events.Event, _ *events.Event) float64 { return values(es) })
}

// since wants the time since the newest event before; a late event may be told of an older one in the same tile.
func since(_ *model, got string, sure, perhaps []*events.Event, now *events.Event) string {
	newest := func(es []*events.Event) float64 {
		n := -1.0
		for _, e := range es {
			if ago := now.Time.Sub(e.Time).Seconds(); ago >= 0 && (n < 0 || ago < n) {
				n = ago
			}
		}
		return n
	}
	n, err := strconv.ParseFloat(got, 64)
	switch low, high := newest(perhaps), newest(sure); {
	case err != nil && high >= 0:
		return fmt.Sprintf("want %v", high)
	case err != nil:
		return ""
	case low < 0:
		return "there was none"
	case n < low-1e-9 || high >= 0 && n > high+60+1e-9:
		return fmt.Sprintf("want %v to %v", low, high)
	}
	return ""
}

// drawEvents draws what a few customers do over some hours; late is how far an event may lie behind the newest.
func drawEvents(t *rapid.T, n int, late time.Duration) []events.Event {
	pick := func(what string, of ...string) string { return rapid.SampledFrom(of).Draw(t, what) }
	out := make([]events.Event, n)
	now := noon
	for i := range out {
		now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, 20 * time.Second, time.Minute, 7 * time.Minute, time.Hour,
			window - time.Millisecond, window, window + 61*time.Second, 5 * time.Hour}).Draw(t, "pause"))
		e := events.Event{ID: fmt.Sprint(i), Source: "test", Kind: events.PaymentInitiated, Time: now, CustomerID: pick("customer", "c0", "c1", "c2", "c3"),
			DeviceID: pick("device", "", "d0", "d1"), MerchantID: pick("merchant", "", "m0"), CounterpartyID: pick("payee", "", "c0", "c1", "c2", "c3"),
			Amount: rapid.Int64Range(1, 2000).Draw(t, "amount"), Currency: events.MustCurrency(pick("currency", "CNY", "CNY", "JPY")),
			Method: eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET}
		if late > 0 && rapid.Bool().Draw(t, "late") {
			e.Time = e.Time.Add(-time.Duration(rapid.Int64Range(0, late.Milliseconds()).Draw(t, "by")) * time.Millisecond)
		}
		if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
			e.Kind, e.Amount, e.Currency, e.MerchantID, e.CounterpartyID = events.BehaviorSignedIn, 0, 0, "", ""
		}
		out[i] = e
	}
	return out
}

// partitionOf spreads customers over two partitions.
func partitionOf(e *events.Event) int32 { return int32(e.CustomerID[1]-'0') % 2 }

func owner(engine *risk.Engine, partitions ...int32) *risk.State {
	s := risk.NewState(engine)
	for _, p := range partitions {
		s.Assign(p)
	}
	return s
}

// TestAggregatesAgainstModel: every aggregate lies between what is surely within its window, (t-w, t], and that with one
// tile more at the far edge. For late events the near edge is a tile coarse too, and what is older than the window behind
// the newest event may be forgotten.
func TestAggregatesAgainstModel(t *testing.T) {
	t.Parallel()
	engine := load(t, withRules(everything, all...))
	rapid.Check(t, func(t *rapid.T) {
		late := rapid.SampledFrom([]time.Duration{0, 0, 5 * time.Minute, 4 * time.Hour}).Draw(t, "lateness")
		sequence := drawEvents(t, rapid.IntRange(1, 60).Draw(t, "events"), late)
		state := owner(engine, 0, 1)
		for i := range sequence {
			now := &sequence[i]
			d := state.Decide(partitionOf(now), now)
			if rapid.IntRange(0, 2).Draw(t, "commit") == 0 {
				state.Commit()
			}
			if !paid(now) {
				continue
			}
			for _, v := range d.Evidence {
				m := models[v.Name]
				if wrong := m.check(v.Text, sequence[:i+1]); wrong != "" {
					t.Fatalf("%s at %s (event %d) is %q; %s", v.Name, now.Time.Format(time.TimeOnly), i, v.Text, wrong)
				}
			}
			if len(d.Evidence) != len(all) {
				t.Fatalf("%d of %d aggregates read: %+v", len(d.Evidence), len(all), d.Evidence)
			}
		}
	})
}

func (m *model) check(got string, past []events.Event) string {
	now := &past[len(past)-1]
	forKey := m.forKey
	if forKey == nil {
		forKey = m.key
	}
	if forKey(now) == "" {
		if got != "" {
			return "there is no key"
		}
		return ""
	}
	newest := now.Time
	for i := range past {
		if past[i].Time.After(newest) {
			newest = past[i].Time
		}
	}
	tile := cmp.Or(m.tile, m.window/96)
	end := now.Time.Add(-m.delay)
	m.past, m.unordered = nil, false
	var sure, perhaps []*events.Event
	for i := range past {
		e := &past[i]
		m.past = append(m.past, e)
		m.unordered = m.unordered || i > 0 && e.Time.Before(past[i-1].Time)
		if !m.of(e) || m.key(e) != forKey(now) || m.except && e == now {
			continue
		}
		if e.Time.After(newest.Add(-m.window-m.delay)) && e.Time.After(end.Add(-m.window)) && !e.Time.After(end) {
			sure = append(sure, e)
		}
		nearEdge := end
		if newest.After(end) {
			nearEdge = end.Add(tile)
		}
		if e.Time.After(end.Add(-m.window-tile)) && !e.Time.After(nearEdge) || m.seenAgain(e, past, end) {
			perhaps = append(perhaps, e)
		}
	}
	return m.answer(m, got, sure, perhaps, now)
}

// seenAgain: a value seen before the window and again after it may count, though its earlier sighting has left the window.
func (m *model) seenAgain(e *events.Event, past []events.Event, end time.Time) bool {
	return m.members && slices.ContainsFunc(past, func(later events.Event) bool { return later.Time.After(end) }) &&
		!e.Time.After(end.Add(m.window/96))
}

// gateState is the compacted topic: the newest value of each key of each partition.
type gateState map[int32]map[string][]byte

func (g gateState) take(s *risk.State) {
	s.Staged(func(p int32, key, value []byte) {
		if g[p] == nil {
			g[p] = map[string][]byte{}
		}
		if value == nil {
			delete(g[p], string(key))
		} else {
			g[p][string(key)] = value
		}
	})
}

// give restores a partition, its keys in any order.
func (g gateState) give(t *rapid.T, s *risk.State, p int32) {
	keys := slices.Sorted(maps.Keys(g[p]))
	rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 0)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for _, k := range keys {
		if err := s.Restore(p, []byte(k), g[p][k]); err != nil {
			t.Fatal(err)
		}
	}
}

// uninterrupted is what is decided when each event is committed at once.
func uninterrupted(engine *risk.Engine, sequence []events.Event) []events.Decision {
	state := owner(engine, 0, 1)
	var out []events.Decision
	for i := range sequence {
		out = append(out, state.Decide(partitionOf(&sequence[i]), &sequence[i]))
		state.Commit()
	}
	return out
}

// TestTransactionsAndRestoreChangeNothing: commits, aborts and partitions that are revoked and restored from gate.state at
// random moments lead to the decisions of an uninterrupted run. Events repeat, and lie hours apart, so that entities are
// forgotten on the way.
func TestTransactionsAndRestoreChangeNothing(t *testing.T) {
	t.Parallel()
	engine := load(t, withRules(everything, all...))
	rapid.Check(t, func(t *rapid.T) {
		sequence := drawEvents(t, rapid.IntRange(1, 50).Draw(t, "events"), 30*time.Minute)
		for i := range sequence {
			if i > 0 && rapid.IntRange(0, 5).Draw(t, "again") == 0 {
				sequence[i] = sequence[rapid.IntRange(0, i-1).Draw(t, "which")]
			}
		}
		want := uninterrupted(engine, sequence)
		state, disk := owner(engine, 0, 1), gateState{}
		committed := 0
		for committed < len(sequence) {
			n := rapid.IntRange(1, 5).Draw(t, "batch")
			end := min(committed+n, len(sequence))
			for i := committed; i < end; i++ {
				if got := state.Decide(partitionOf(&sequence[i]), &sequence[i]); !reflect.DeepEqual(got, want[i]) {
					t.Fatalf("event %d\ngot  %+v\nwant %+v", i, got, want[i])
				}
			}
			switch rapid.SampledFrom([]string{"commit", "commit", "abort", "restart", "rebalance"}).Draw(t, "then") {
			case "abort":
				state.Abort()
				continue
			case "restart":
				state = owner(engine, 0, 1)
				disk.give(t, state, 0)
				disk.give(t, state, 1)
				continue
			case "rebalance":
				state.Abort()
				p := rapid.Int32Range(0, 1).Draw(t, "partition")
				state.Revoke(p)
				state.Assign(p)
				disk.give(t, state, p)
				continue
			}
			disk.take(state)
			state.Commit()
			committed = end
		}
		again := owner(engine, 0, 1)
		disk.give(t, again, 0)
		disk.give(t, again, 1)
		if state.Entities()+forgotten(state) != again.Entities() {
			t.Fatalf("%d entities, %d being forgotten, %d on disk", state.Entities(), forgotten(state), again.Entities())
		}
	})
}

// forgotten is how many entities are gone whose tombstones go out with the next transaction.
func forgotten(s *risk.State) int {
	n := 0
	s.Staged(func(_ int32, _, value []byte) {
		if value == nil {
			n++
		}
	})
	return n
}

// TestTwoGatesAgreeWithOne: a gate for each partition, following the other's shared entities, decides as one gate does.
func TestTwoGatesAgreeWithOne(t *testing.T) {
	t.Parallel()
	engine := load(t, withRules(everything, all...))
	rapid.Check(t, func(t *rapid.T) {
		sequence := drawEvents(t, rapid.IntRange(1, 50).Draw(t, "events"), 0)
		want := uninterrupted(engine, sequence)
		gates, disk := []*risk.State{owner(engine, 0), owner(engine, 1)}, gateState{}
		for i := range sequence {
			p := partitionOf(&sequence[i])
			if got := gates[p].Decide(p, &sequence[i]); !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("event %d\ngot  %+v\nwant %+v", i, got, want[i])
			}
			disk.take(gates[p])
			tellOthers(t, gates, int(p))
		}
		// What the other gate shares goes when it is dropped, and nothing else.
		before := owner(engine, 0)
		disk.give(t, before, 0)
		gates[0].Drop(1)
		if got, want := gates[0].Entities()+forgotten(gates[0]), before.Entities(); got != want {
			t.Fatalf("%d entities of its own after Drop, want %d", got, want)
		}
	})
}

// tellOthers lets the other gates follow what one has staged, and commits it.
func tellOthers(t *rapid.T, gates []*risk.State, one int) {
	gates[one].Staged(func(p int32, key, value []byte) {
		for _, g := range gates { // its own is ignored
			if err := g.Follow(p, key, value); err != nil {
				t.Fatal(err)
			}
		}
	})
	gates[one].Commit()
}

// TestSameEventsSameBytes: decisions are equal to the byte, and so is what is kept.
func TestSameEventsSameBytes(t *testing.T) {
	t.Parallel()
	engine := load(t, withRules(everything, all...))
	rapid.Check(t, func(t *rapid.T) {
		sequence := drawEvents(t, 30, time.Hour)
		run := func() []byte {
			var out bytes.Buffer
			state := owner(engine, 0, 1)
			for i := range sequence {
				d := state.Decide(partitionOf(&sequence[i]), &sequence[i])
				headers, value, err := events.EncodeDecision(&d)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&out, "%q %q\n", headers, value)
				if i%7 == 0 {
					state.Staged(func(p int32, key, value []byte) { fmt.Fprintf(&out, "%d %q %q\n", p, key, value) })
					state.Commit()
				}
			}
			return out.Bytes()
		}
		if a, b := run(), run(); !bytes.Equal(a, b) {
			t.Fatalf("%s\n%s", a, b)
		}
	})
}
