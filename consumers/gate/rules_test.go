package gate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/rules/lists"
	"sluice/schemas"
	"sluice/schemas/events"
)

// Rules of these tests. What is on the list "deny" is declined; the shadow declines everything.
const (
	denyRule = `
rules:
  - id: denied
    when: listed("deny", device.id)
    missing: skip
    then: {score: 90, reason: R1, say: "listed"}
`
	allRule = `
rules:
  - id: all
    when: payment.amount > 0
    missing: skip
    then: {score: 90, reason: R1, say: "everything"}
`
	brakedRule = `
rules:
  - id: all
    when: payment.amount > 0
    missing: skip
    then: {score: 90, reason: R1, say: "everything"}
    brake: {share: 0.1, window: 1h, after: 20}
`
)

// control publishes a record on a control topic; a nil value is a tombstone.
func (h *house) control(topic, key string, value []byte) {
	h.t.Helper()
	h.must(h.producer.ProduceSync(h.ctx, &kgo.Record{Topic: h.Topic(topic), Key: []byte(key), Value: value}).FirstErr())
}

// list puts a value on a list, until a time if there is one.
func (h *house) list(list, value string, expires time.Time) lists.Entry {
	h.t.Helper()
	e, err := lists.New(list, lists.Value, value)
	h.must(err)
	e.Added, e.Expires = began.Add(-time.Hour), expires
	key, record, err := e.Encode()
	h.must(err)
	h.control(schemas.Lists, string(key), record)
	return e
}

// shadows reads every committed shadow verdict, by "decision shadow".
func (h *house) shadows() map[string][]events.ShadowVerdict {
	h.t.Helper()
	all := map[string][]events.ShadowVerdict{}
	for _, r := range h.records(schemas.VerdictsShadow) {
		v, err := events.DecodeShadowVerdict(r.Value)
		h.must(err)
		if string(r.Key) != v.CustomerID {
			h.t.Errorf("the verdict of %s on %s has key %q", v.Shadow, v.DecisionID, r.Key)
		}
		id := v.DecisionID + " " + v.Shadow
		all[id] = append(all[id], v)
	}
	return all
}

// one publishes an event and returns its decision.
func (h *house) one(e *events.Event) events.Decision {
	h.t.Helper()
	h.publish(e)
	for {
		for _, d := range h.decisions() {
			if d.Event.ID == e.ID {
				return d
			}
		}
		select {
		case <-h.ctx.Done():
			h.t.Fatalf("%s is not decided", e.ID)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// until publishes events of one customer until one is decided as wanted; it returns the number of the next.
func (h *house) until(customer string, from int, wanted func(*events.Decision) bool) int {
	h.t.Helper()
	for n := from; ; n++ {
		d := h.one(topUp(customer, n))
		if wanted(&d) {
			return n + 1
		}
		if h.ctx.Err() != nil {
			h.t.Fatal("no event is decided as wanted")
		}
	}
}

// A ruleset is changed while events flow: none is lost or decided twice, each verdict says its version, and of each
// partition the old version decides all events before the first of the new one.
func TestARuleChangesUnderLoad(t *testing.T) {
	h := newHouse(t)
	h.control(schemas.Rules, DefaultRuleset, ruleset(1, countRule))
	var changed atomic.Bool
	g := h.gate(func(c *Config) {
		before := c.OnDecision
		c.OnDecision = func(d *events.Decision) {
			before(d)
			if d.Ruleset == "default@2" {
				changed.Store(true)
			}
		}
	}).waitReady()
	n := 0
	for round := 0; round < 10 || !changed.Load(); round++ {
		if h.ctx.Err() != nil {
			t.Fatal("the new version never decided")
		}
		if round == 5 {
			h.control(schemas.Rules, DefaultRuleset, ruleset(2, countRule))
			h.control(schemas.Rules, DefaultRuleset, []byte("ruleset: default\nversion: 3\nrules: [{id: x, when: nonsense}]\n"))
		}
		h.publish(topUps(50, 4*n, 4*n+4)...)
		n++
	}
	h.publish(topUps(50, 4*n, 4*n+4)...)
	n++
	h.awaitDecided(200 * n)
	h.eventually("the third version is refused", func() bool { return testutil.ToFloat64(g.metrics.refused) == 1 })
	h.must(g.end())
	seen, newest := map[string]int{}, map[int32]string{}
	for _, d := range h.decisions() {
		seen[d.Event.ID]++
		if d.Ruleset != "default@1" && d.Ruleset != "default@2" || d.Ruleset < newest[d.Partition] {
			t.Errorf("%s is decided by %q after %q", d.ID(), d.Ruleset, newest[d.Partition])
		}
		newest[d.Partition] = d.Ruleset
	}
	for _, e := range topUps(50, 0, 4*n) {
		if seen[e.ID] != 1 {
			t.Errorf("%s was decided %d times", e.ID, seen[e.ID])
		}
	}
	for p, last := range newest {
		if last != "default@2" {
			t.Errorf("partition %d ends with %s", p, last)
		}
	}
	h.checkPayments(ruleset(1, countRule)) // the aggregate has the same definition in both
}

// An entry that is added while the gate runs takes effect, one that has expired at the event's time does not, and one that is
// removed does not any more. A gate that starts again knows the lists before its first decision.
func TestListsTakeEffect(t *testing.T) {
	h := newHouse(t)
	live := func(c *Config) { c.Ruleset = ruleset(1, denyRule) }
	g := h.gate(live).waitReady()
	if d := h.one(topUp("C1", 0)); d.Verdict != events.Approve {
		t.Errorf("before it is listed: %s", d.Verdict)
	}
	h.list("deny", "D-C2", topUp("C2", 100).Time)
	entry := h.list("deny", "D-C1", time.Time{})
	next := h.until("C1", 1, func(d *events.Decision) bool { return d.Verdict == events.Decline })
	if d := h.one(topUp("C2", 99)); d.Verdict != events.Decline {
		t.Errorf("a second before it expires: %s", d.Verdict)
	}
	if d := h.one(topUp("C2", 100)); d.Verdict != events.Approve {
		t.Errorf("when it expires: %s", d.Verdict)
	}
	h.control(schemas.Lists, "deny/cidr/10.0.0.1/8", []byte("{}"))
	h.eventually("what is no entry is refused", func() bool { return testutil.ToFloat64(g.metrics.listsRefused) == 1 })
	if n := testutil.ToFloat64(g.metrics.listEntries.WithLabelValues("deny")); n != 2 {
		t.Errorf("the metric says %v entries", n)
	}
	h.must(g.end())

	g = h.gate(live)
	if d := h.one(topUp("C1", next)); d.Verdict != events.Decline {
		t.Errorf("after the gate has started again: %s", d.Verdict)
	}
	h.control(schemas.Lists, entry.Key(), nil)
	h.until("C1", next+1, func(d *events.Decision) bool { return d.Verdict == events.Approve })
	h.must(g.end())
}

// A snoozed rule does not fire for the one entity, and the decision says so.
func TestASnoozedRuleIsQuiet(t *testing.T) {
	h := newHouse(t)
	h.list("snooze", "all/customer/C1", began.Add(24*time.Hour))
	g := h.gate(func(c *Config) { c.Ruleset = ruleset(1, allRule) })
	if d := h.one(topUp("C1", 0)); d.Verdict != events.Approve || len(d.Hits) > 0 || !slices.Equal(d.Snoozed, []string{"all"}) {
		t.Errorf("snoozed: %s, %v, %v", d.Verdict, d.Hits, d.Snoozed)
	}
	if d := h.one(topUp("C2", 0)); d.Verdict != events.Decline || len(d.Snoozed) > 0 {
		t.Errorf("another customer: %s, %v", d.Verdict, d.Snoozed)
	}
	h.must(g.end())
}

// Shadows say something of each event that asks for a verdict while they are published, once, also over a gate that dies
// between produce and commit, and change no live decision. Of five, four are asked.
func TestShadowsHaveNoEffect(t *testing.T) {
	h := newFaultyHouse(t)
	h.control(schemas.Rules, DefaultRuleset, ruleset(1, countRule))
	for i := range MaxShadows + 1 {
		h.control(schemas.Rules, schemas.ShadowKey(fmt.Sprintf("s%d", i)), ruleset(i+2, strings.Replace(allRule, "score: 90", fmt.Sprintf("score: %d", 60+i), 1)))
	}
	h.control(schemas.Rules, schemas.ShadowKey("broken"), []byte("ruleset: default\n"))
	signIn := &events.Event{ID: "B", Source: "test", Kind: events.BehaviorSignedIn, Time: began, CustomerID: "C1"}
	again := topUp("C1", 0)
	h.publish(append(topUps(10, 0, 10), signIn, again)...)
	nw := &network{}
	killed := make(chan struct{})
	first := h.once(func(c *Config) {
		c.hooks.client = append(slices.Clone(quick), nw.option(), kgo.SessionTimeout(500*time.Millisecond), kgo.TransactionTimeout(time.Second))
		c.hooks.beforeEnd = func(ctx context.Context) {
			nw.kill()
			close(killed)
			<-ctx.Done()
		}
	})
	<-killed
	second := h.gate(nil)
	h.awaitDecided(102)
	h.must(first.end())
	if n := testutil.ToFloat64(second.metrics.shadows.WithLabelValues("default@2", "review")); n != 100 {
		t.Errorf("the metric says %v verdicts of the first shadow", n)
	}
	if n := testutil.ToFloat64(second.metrics.refused); n != 1 {
		t.Errorf("%v rulesets were refused, not the broken one", n)
	}
	h.checkPayments(ruleset(1, countRule))
	h.checkShadows("s0", "s1", "s2", "s3")

	h.control(schemas.Rules, schemas.ShadowKey("s0"), nil)
	h.eventually("the fifth is asked in the place of the first", func() bool {
		return testutil.ToFloat64(second.metrics.shadowInfo.WithLabelValues("s4", "default@6")) == 1
	})
	d := h.one(topUp("C1", 10))
	h.must(second.end())
	all := h.shadows()
	for name, want := range map[string]int{"s0": 0, "s1": 1, "s4": 1} {
		if got := len(all[d.ID()+" "+name]); got != want {
			t.Errorf("%s said %d things of the last event, want %d", name, got, want)
		}
	}
}

// checkShadows holds what each shadow said against the decisions: once for each that asks, nothing else.
func (h *house) checkShadows(names ...string) {
	h.t.Helper()
	all := h.shadows()
	asked := 0
	for _, d := range h.decisions() {
		if d.Event.Kind != events.PaymentInitiated || d.Verdict == events.Duplicate {
			continue
		}
		asked++
		for i, name := range names {
			said := all[d.ID()+" "+name]
			if len(said) != 1 {
				h.t.Errorf("%s said %d things of %s", name, len(said), d.ID())
				continue
			}
			v := said[0]
			if v.Verdict != events.Review || v.Score != int32(60+i) || v.LiveVerdict != d.Verdict || v.LiveRuleset != d.Ruleset || v.EventID != d.Event.ID || len(v.Hits) != 1 {
				h.t.Errorf("%s said %+v of %s", name, v, d.ID())
			}
		}
	}
	if len(all) != asked*len(names) {
		h.t.Errorf("%d shadow verdicts of %d events by %d shadows", len(all), asked, len(names))
	}
}

// A rule that declines everything is held by its brake: no more than its share of decisions are declines, the others are
// reviews that say so, and the metric shows it.
func TestABrakeStopsABadRule(t *testing.T) {
	h := newHouse(t)
	g := h.gate(func(c *Config) { c.Ruleset = ruleset(1, brakedRule) })
	h.publish(topUps(20, 0, 20)...)
	h.awaitDecided(400)
	declined, braked := 0, 0
	for _, d := range h.decisions() {
		switch {
		case d.Verdict == events.Decline && !d.Hits[0].Braked:
			declined++
		case d.Verdict == events.Review && d.Hits[0].Braked:
			braked++
		default:
			t.Errorf("%s: %s, %+v", d.ID(), d.Verdict, d.Hits)
		}
	}
	if declined > 40 || declined+braked != 400 {
		t.Errorf("%d of 400 declined, %d braked", declined, braked)
	}
	h.eventually("the metric shows it", func() bool {
		return testutil.ToFloat64(g.metrics.braked.WithLabelValues("all")) == float64(braked)
	})
	h.must(g.end())
}
