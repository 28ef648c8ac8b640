package risk_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/pipelines/risk"
	"sluice/rules"
	"sluice/schemas/events"
)

func parse(t interface{ Fatal(...any) }, source string) *rules.Ruleset {
	rs, err := rules.Load("test.yaml", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// candidates are rulesets that could stand beside everything: the same aggregates and brake, others of the same entities
// with longer windows and other kinds of events, and none.
var candidates = []string{
	withRules(strings.NewReplacer("ruleset: everything", "ruleset: again", "share: 0.3", "share: 0.1").Replace(everything), all[:7]...),
	withRules(strings.NewReplacer("96m", "480m", "192m", "96m", "ruleset: everything", "ruleset: longer").Replace(everything), all...),
	withRules(strings.NewReplacer("behavior.signed_in", "payment.initiated", "ruleset: everything", "ruleset: other").Replace(everything), all...),
	strings.Replace(one("{count: [payment.initiated, behavior.signed_in], by: [device, customer], window: 30m}"), "one", "kinds", 1),
	"ruleset: bare\nversion: 1\nrules:\n  - {id: stop, when: payment.amount >= 4, brake: {share: 0.5, window: 5m, after: 2}, then: {score: 80, reason: R, say: s}}\n" +
		"outcomes: {decline: 80}\n",
}

// TestShadowsDoNotShow: with and without shadows, the decisions are equal, transactions, late events and repeated ones
// included; and what a shadow says is what it would decide if it were live alone.
func TestShadowsDoNotShow(t *testing.T) {
	t.Parallel()
	live := parse(t, withRules(everything, all...))
	rapid.Check(t, func(t *rapid.T) {
		sequence := drawEvents(t, rapid.IntRange(1, 50).Draw(t, "events"), rapid.SampledFrom([]time.Duration{0, 4 * time.Hour}).Draw(t, "lateness"))
		var shadows []*rules.Ruleset
		var alone []*risk.State
		for _, source := range rapid.SliceOfNDistinct(rapid.SampledFrom(candidates), 1, 3, rapid.ID[string]).Draw(t, "shadows") {
			shadows = append(shadows, parse(t, source))
			alone = append(alone, owner(risk.NewEngine(shadows[len(shadows)-1]), 0, 1))
		}
		without, with := owner(risk.NewEngine(live), 0, 1), owner(risk.NewEngine(live, shadows...), 0, 1)
		for i := range sequence {
			e := &sequence[i]
			if i > 0 && rapid.IntRange(0, 9).Draw(t, "again") == 0 {
				e = &sequence[i-1]
			}
			p := partitionOf(e)
			want, got := without.Decide(p, e), with.Decide(p, e)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("event %d\ngot  %+v\nwant %+v", i, got, want)
			}
			said := with.Shadows()
			for j, state := range alone {
				d := state.Decide(p, e)
				if d.Verdict == events.Duplicate {
					if len(said) != 0 {
						t.Fatalf("event %d is a duplicate, of which a shadow says %+v", i, said)
					}
					continue
				}
				s := said[j]
				if s.Ruleset != d.Ruleset || s.Verdict != d.Verdict || s.Score != d.Score || !slices.Equal(s.Hits, d.Hits) {
					t.Fatalf("event %d\nas a shadow %+v\nalone       %+v", i, s, d)
				}
			}
			if rapid.IntRange(0, 2).Draw(t, "commit") == 0 {
				for _, state := range append(alone, with, without) {
					state.Commit()
				}
			}
		}
	})
}

// TestTracesExplainDecisions: the trace of each decision, and of each shadow's, explains it with the ruleset and the event alone.
func TestTracesExplainDecisions(t *testing.T) {
	t.Parallel()
	live, shadow := parse(t, withRules(everything, all...)), parse(t, candidates[1])
	rapid.Check(t, func(t *rapid.T) {
		sequence := drawEvents(t, rapid.IntRange(1, 20).Draw(t, "events"), time.Hour)
		state := owner(risk.NewEngine(live, shadow), 0, 1)
		for i := range sequence {
			e := &sequence[i]
			d := state.Decide(partitionOf(e), e)
			if !paid(e) {
				if d.Trace != nil {
					t.Fatalf("%s asks nothing and no rule, its trace is %x", e.Kind, d.Trace)
				}
				continue
			}
			said := state.Shadows()[0]
			for _, c := range []struct {
				ruleset *rules.Ruleset
				trace   []byte
				verdict events.Verdict
				score   int32
			}{{live, d.Trace, d.Verdict, d.Score}, {shadow, said.Trace, said.Verdict, said.Score}} {
				x, err := rules.Explain(c.ruleset, e, c.trace)
				if err != nil {
					t.Fatal(err)
				}
				if x.Verdict != c.verdict || x.Score != c.score || len(x.Doubt) > 0 {
					t.Fatalf("event %d: %s at %d; explained: %+v", i, c.verdict, c.score, x)
				}
			}
		}
	})
}

// TestAShadowThatIsPromotedHasCounted: what it counted as a shadow stays when it becomes the live ruleset, also through
// gate.state; what nobody declares any more goes.
func TestAShadowThatIsPromotedHasCounted(t *testing.T) {
	t.Parallel()
	live, shadow := parse(t, one("{count: payment, by: customer, window: 1h}")), parse(t, strings.Replace(one("{count: payment, by: customer, window: 2h}"), "one", "two", 1))
	s := &story{at: noon}
	times(5, func(int) { s.pay("c1", 5, purchase) })
	state, disk := owner(risk.NewEngine(live), 0), gateState{}
	for i, step := range []struct {
		engine *risk.Engine
		want   string
	}{
		{risk.NewEngine(live), "1"}, {risk.NewEngine(live, shadow), "2"}, {risk.NewEngine(live, shadow), "3"}, {risk.NewEngine(shadow), "3"},
		{risk.NewEngine(live), "1"},
	} {
		if i%2 == 0 {
			state = owner(step.engine, 0)
			for key, value := range disk[0] {
				if err := state.Restore(0, []byte(key), value); err != nil {
					t.Fatal(err)
				}
			}
		}
		state.SetEngine(step.engine)
		if got := read(state.Decide(0, &s.all[i])); got != step.want {
			t.Errorf("event %d, live %s: %s, want %s", i, step.engine.Ruleset().ID(), got, step.want)
		}
		if n := len(state.Shadows()); n != len(step.engine.Shadows()) {
			t.Errorf("event %d: %d shadows", i, n)
		}
		disk.take(state)
		state.Commit()
	}
}

// lists is what conditions and snoozes ask, in a test.
type lists map[string]bool

func (l lists) Listed(list, value string, at time.Time) bool { return l[list+" "+value] }
func (l lists) Similarity(string, string, time.Time) rules.Decimal {
	return rules.Decimal{}
}

// TestListsAndSnoozesReachEveryRuleset: the live one and its shadows.
func TestListsAndSnoozesReachEveryRuleset(t *testing.T) {
	t.Parallel()
	source := "ruleset: %s\nversion: 1\nrules:\n  - {id: listed, when: 'listed(\"bad\", payment.merchant)', then: {score: 1, reason: R, say: s}}\n"
	state := owner(risk.NewEngine(parse(t, fmt.Sprintf(source, "live")), parse(t, fmt.Sprintf(source, "shadow"))), 0)
	s := &story{at: noon}
	times(4, func(int) { s.pay("c1", 5, purchase, at("m1")) })
	for i, c := range []struct {
		lists         rules.Lists
		fires, snooze bool
	}{
		{nil, false, false}, {lists{"bad m1": true}, true, false}, {lists{"bad m1": true, "snooze listed/merchant/m1": true}, false, true}, {nil, false, false},
	} {
		state.SetLists(c.lists)
		d := state.Decide(0, &s.all[i])
		shadow := state.Shadows()[0]
		if fired(d, "listed") != c.fires || len(shadow.Hits) > 0 != c.fires {
			t.Errorf("event %d: %+v, %+v", i, d.Hits, shadow.Hits)
		}
		if slices.Contains(d.Snoozed, "listed") != c.snooze || slices.Contains(shadow.Snoozed, "listed") != c.snooze {
			t.Errorf("event %d: snoozed are %v, %v", i, d.Snoozed, shadow.Snoozed)
		}
	}
}

// TestAShadowsEventsDoNotAgeLiveCounts: an event that only a shadow counts moves nothing of the live ruleset's out of sight of
// a late event, of the same entity or not.
func TestAShadowsEventsDoNotAgeLiveCounts(t *testing.T) {
	t.Parallel()
	live := parse(t, one("{count: payment, by: customer, window: 96m}"))
	shadow := parse(t, strings.Replace(one("{count: behavior.signed_in, by: customer, window: 10m}"), "one", "two", 1))
	s := (&story{at: noon}).pay("c1", 5, purchase).after(time.Hour).pay("c1", 5, purchase).after(50*time.Minute).add(events.BehaviorSignedIn, "c1")
	s.after(-49*time.Minute).pay("c1", 5, purchase)
	for _, engine := range []*risk.Engine{risk.NewEngine(live), risk.NewEngine(live, shadow)} {
		state, got := owner(engine, 0), ""
		for i := range s.all {
			got = read(state.Decide(0, &s.all[i]))
			state.Commit()
		}
		if got != "3" {
			t.Errorf("with %d shadows the late payment is the %s.", len(engine.Shadows()), got)
		}
	}
}
