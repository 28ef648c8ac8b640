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
	"sluice/rules/packs"
	"sluice/schemas/events"
)

// one is a ruleset whose one rule reads one aggregate, n.
func one(aggregate string) string {
	return "ruleset: one\nversion: 1\naggregates:\n  n: " + aggregate + "\nrules:\n" +
		"  - {id: read, on: [payment, behavior.signed_in], when: 'known(n) || true', then: {score: 1, reason: R, say: s}}\n"
}

// read is the value of n in a decision.
func read(d events.Decision) string {
	for _, v := range d.Evidence {
		if v.Name == "n" {
			return v.Text
		}
	}
	return "not read"
}

func TestTheSameEventTwiceIsADuplicate(t *testing.T) {
	t.Parallel()
	state := owner(load(t, one("{count: payment, by: customer, window: 1h}")), 0)
	s := &story{at: noon}
	s.pay("c1", 5, purchase).pay("c1", 5, purchase)
	s.all[1].ID, s.all[1].Source = s.all[0].ID, "another"
	steps := []struct {
		event   int
		verdict events.Verdict
		n       string
		after   func()
	}{
		{0, events.Approve, "1", func() {}},
		{0, events.Duplicate, "not read", state.Abort}, // staged
		{0, events.Approve, "1", state.Commit},
		{0, events.Duplicate, "not read", state.Commit},
		{1, events.Approve, "2", state.Commit}, // another source
	}
	for i, step := range steps {
		d := state.Decide(0, &s.all[step.event])
		if d.Verdict != step.verdict || read(d) != step.n {
			t.Fatalf("step %d: %s, n is %s; want %s, %s", i, d.Verdict, read(d), step.verdict, step.n)
		}
		step.after()
	}
}

func TestANewRulesetKeepsWhatDidNotChange(t *testing.T) {
	t.Parallel()
	state := owner(load(t, one("{count: payment, by: customer, window: 1h}")), 0)
	s := &story{at: noon}
	times(4, func(int) { s.pay("c1", 5, purchase) })
	decide := func(i int) string {
		d := state.Decide(0, &s.all[i])
		state.Commit()
		return read(d)
	}
	if got := decide(0); got != "1" {
		t.Fatal(got)
	}
	state.SetEngine(load(t, strings.ReplaceAll(one("{window: 60m, by: customer, count: payment}"), "one", "two")))
	if got := decide(1); got != "2" {
		t.Errorf("the same definition starts again: %s", got)
	}
	state.SetEngine(load(t, one("{count: payment, by: customer, window: 2h}")))
	if got := decide(2); got != "1" {
		t.Errorf("another definition has counted %s", got)
	}
}

func TestMisuseIsAPanic(t *testing.T) {
	t.Parallel()
	engine := load(t, one("{count: payment, by: customer, window: 1h}"))
	s := (&story{at: noon}).pay("c1", 5, purchase)
	for name, misuse := range map[string]func(*risk.State){
		"not assigned": func(state *risk.State) { state.Decide(1, &s.all[0]) },
		"within a transaction": func(state *risk.State) {
			state.Decide(0, &s.all[0])
			state.SetEngine(engine)
		},
	} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), name) {
					t.Errorf("%s: %v", name, r)
				}
			}()
			misuse(owner(engine, 0))
		}()
	}
}

func TestDistinctIsExactUpTo256(t *testing.T) {
	t.Parallel()
	engine := load(t, one("{distinct: customer, of: payment, by: device, window: 1h}"))
	state := owner(engine, 0)
	s := &story{at: noon}
	times(300, func(i int) { s.after(time.Second).pay(fmt.Sprint("c", i), 5, purchase, on("d1")) })
	disk := gateState{}
	for i := range s.all {
		want := fmt.Sprint(min(i+1, 256))
		if got := read(state.Decide(0, &s.all[i])); got != want {
			t.Fatalf("%d customers are counted as %s", i+1, got)
		}
	}
	disk.take(state)
	if size := len(disk[0]["device:d1"]); size > 256*9+100 {
		t.Errorf("a full set takes %d bytes", size)
	}
}

// TestTheEdgesOfAWindow: an event counts while it is younger than the window and no more once it is a tile older, wherever in
// its tile it lies; one later than a late event's tile does not count. Own aggregates and foreign parts keep to the same edges.
func TestTheEdgesOfAWindow(t *testing.T) {
	t.Parallel()
	const tile = time.Minute
	for _, by := range []string{"customer", "device"} {
		engine := load(t, one("{count: payment, by: "+by+", window: 96m}"))
		for into := time.Duration(0); into < tile; into += 7 * time.Second {
			for _, c := range []struct {
				later time.Duration
				want  []string
			}{
				{window - time.Millisecond, []string{"2"}}, {window, []string{"1", "2"}}, {window + tile - time.Millisecond, []string{"1", "2"}},
				{window + tile, []string{"1"}}, {-tile, []string{"1"}}, {-window, []string{"1"}}, {-3 * window, []string{"1"}},
			} {
				state := owner(engine, 0, 1)
				s := &story{at: noon.Add(into)}
				s.pay("c0", 5, purchase, on("d")).after(c.later).pay("c0", 5, purchase, on("d"))
				s.all[1].CustomerID = map[string]string{"customer": "c0", "device": "c1"}[by]
				state.Decide(0, &s.all[0])
				state.Commit()
				if got := read(state.Decide(partitionOf(&s.all[1]), &s.all[1])); !slices.Contains(c.want, got) {
					t.Errorf("by %s, %s into the tile, %s later: %s, want %v", by, into, c.later, got, c.want)
				}
			}
		}
	}
}

// TestWhetherTheSweepCameByDoesNotShow: an idle entity counts for nothing, forgotten already or not.
func TestWhetherTheSweepCameByDoesNotShow(t *testing.T) {
	t.Parallel()
	engine := load(t, one("{count: payment, by: customer, window: 96m}"))
	for _, commit := range []bool{false, true} {
		state := owner(engine, 0)
		s := (&story{at: noon}).pay("c1", 5, purchase).after(5*time.Hour).pay("c2", 5, purchase)
		s.after(-5*time.Hour+time.Minute).pay("c1", 5, purchase) // late by all but five hours
		for i := range s.all {
			if got := read(state.Decide(0, &s.all[i])); got != "1" {
				t.Errorf("committing %v: event %d counts %s", commit, i, got)
			}
			if commit {
				state.Commit()
			}
		}
	}
}

// TestAFraudRateAsKnownBefore: chargebacks come days late. With a delay, those of a merchant are set against its sales of the
// same days, and a customer's day against a day a week ago.
func TestAFraudRateAsKnownBefore(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	state := owner(load(t, `
ruleset: past
version: 1
aggregates:
  sold: {count: payment.initiated, by: merchant, window: 7d, delay: 7d}
  back: {count: payment.charged_back, by: merchant, window: 7d}
  today: {sum: payment.amount, of: payment.initiated, by: customer, window: 1d}
  week_ago: {sum: payment.amount, of: payment.initiated, by: customer, window: 1d, delay: 7d}
rules:
  - {id: bad-merchant, when: 'sold >= 10 && back * 5 > sold', then: {score: 1, reason: R, say: s}}
  - {id: ten-times, when: 'week_ago > 0 && ratio(today, week_ago) >= 10', missing: skip, then: {score: 1, reason: R, say: s}}
`), 0, 1)
	decide := func(e events.Event) events.Decision {
		e.ID = fmt.Sprint(state.Entities(), e.ID, e.Time)
		d := state.Decide(partitionOf(&e), &e)
		state.Commit()
		return d
	}
	s := &story{at: noon}
	for i := range 20 { // in the first week: 20 sales at each merchant
		for _, m := range []string{"honest", "crooked"} {
			s.after(time.Hour).pay(fmt.Sprint("c", i%4), 5, purchase, at(m))
		}
	}
	s.at = noon.Add(10 * day)
	for i := range 5 { // in the second: the chargebacks, after as many new sales
		for _, m := range []string{"honest", "crooked"} {
			s.after(time.Hour).pay(fmt.Sprint("c", i%4), 5, purchase, at(m))
		}
		s.add(events.PaymentChargedBack, fmt.Sprint("c", i%4), at("crooked"))
	}
	s.at = noon.Add(14 * day)
	s.pay("c1", 5, purchase, at("honest")).pay("c1", 5, purchase, at("crooked"))
	var last events.Decision
	for i := range s.all {
		if last = decide(s.all[i]); fired(last, "bad-merchant") != (i == len(s.all)-1) {
			t.Errorf("event %d at %s: %+v", i, last.Event.MerchantID, last.Evidence)
		}
	}
	s = &story{at: noon.Add(40 * day)}
	s.pay("c3", 10, purchase).after(7*day).pay("c3", 90, purchase).after(time.Hour).pay("c3", 10, purchase)
	for i := range s.all {
		if d := decide(s.all[i]); fired(d, "ten-times") != (i == 2) {
			t.Errorf("payment %d: %+v", i, d)
		}
	}
}

func TestUnknownDataIsSaidNotGuessed(t *testing.T) {
	t.Parallel()
	source := one("{count: payment, by: device, window: 1h}")
	state := owner(load(t, strings.Replace(source, "known(n) || true", "n >= 1", 1)), 0)
	s := &story{at: noon}
	s.pay("c1", 5, purchase, on("d1")).pay("c1", 5, purchase)
	if d := state.Decide(0, &s.all[0]); !fired(d, "read") || read(d) != "1" {
		t.Errorf("with a device: %+v", d)
	}
	d := state.Decide(0, &s.all[1])
	if len(d.Hits) != 0 || len(d.Evidence) != 1 || d.Evidence[0].Name != risk.ErrorPrefix+"read" || d.Verdict != events.Approve {
		t.Errorf("without a device: %+v", d)
	}
}

func TestVerdictsAndTiers(t *testing.T) {
	t.Parallel()
	engine := load(t, `
ruleset: v
version: 7
rules:
  - {id: half, when: payment.amount >= 10, then: {score: 50, reason: R1, say: s}}
  - {id: more, when: payment.amount >= 20 && customer.tier != "gold", then: {score: 30, reason: R2, say: s}}
  - {id: look, when: payment.amount == 7, then: {verdict: review, reason: R3, say: s}}
  - {id: stop, when: payment.amount == 13, then: {verdict: decline, reason: R4, say: s}}
  - {id: trust, when: customer.tier == "gold", then: {score: -50, reason: R5, say: s}}
  - {id: seen, on: payment.failed, when: payment.amount > 1, then: {score: 99, reason: R6, say: s}}
outcomes: {review: 50, decline: 80}
`)
	state := owner(engine, 0)
	state.SetTier("rich", "gold")
	state.SetTier("poor", "gold")
	state.SetTier("poor", "")
	s := &story{at: noon}
	for i, c := range []struct {
		customer string
		yuan     int64
		verdict  events.Verdict
		score    int32
		tier     string
	}{
		{"c1", 5, events.Approve, 0, ""}, {"c1", 10, events.Review, 50, ""}, {"c1", 20, events.Decline, 80, ""}, {"c1", 7, events.Review, 0, ""},
		{"c1", 13, events.Decline, 50, ""}, {"rich", 20, events.Approve, 0, "gold"}, {"poor", 20, events.Decline, 80, ""},
	} {
		s.pay(c.customer, c.yuan, purchase)
		d := state.Decide(0, &s.all[i])
		if d.Verdict != c.verdict || d.Score != c.score || d.Tier != c.tier || d.Ruleset != "v@7" || !reflect.DeepEqual(d.Event, s.all[i]) {
			t.Errorf("%s pays %d: %+v", c.customer, c.yuan, d)
		}
	}
	s.add(events.PaymentFailed, "c1", func(e *events.Event) { e.Amount, e.Currency = 500, events.MustCurrency("CNY") })
	if d := state.Decide(0, &s.all[len(s.all)-1]); d.Verdict != events.Observed || !fired(d, "seen") {
		t.Errorf("an event that asks nothing: %+v", d)
	}
}

func TestEmptyPackApprovesAndKeepsNothing(t *testing.T) {
	t.Parallel()
	state := owner(load(t, string(packs.Empty)), 0)
	s := (&story{at: noon}).pay("c1", 1_000_000, transfer).apply("c1", func(e *events.Event) { e.Age = 3 })
	for i := range s.all {
		if d := state.Decide(0, &s.all[i]); d.Verdict != events.Approve || d.Score != 0 {
			t.Errorf("%+v", d)
		}
	}
	state.Commit()
	if n := state.Entities(); n != 0 {
		t.Errorf("%d entities", n)
	}
}

// TestIdleEntitiesAreForgotten: what cannot count any more goes, here and, by tombstones, on disk.
func TestIdleEntitiesAreForgotten(t *testing.T) {
	t.Parallel()
	state, disk := owner(load(t, withRules(everything, all...)), 0), gateState{}
	w := newTown(200)
	decide := func(e events.Event) {
		state.Decide(0, &e)
		disk.take(state)
		state.Commit()
	}
	times(400, func(int) { decide(w.next()) })
	if n := state.Entities(); n < 200 {
		t.Fatalf("%d entities", n)
	}
	// One customer goes on alone.
	times(60, func(int) {
		w.now = w.now.Add(time.Hour)
		e := w.next()
		e.CustomerID, e.DeviceID, e.CounterpartyID, e.MerchantID = "last", "last", "", ""
		decide(e)
	})
	disk.take(state)
	if n := state.Entities(); n > 5 { // customer, device and their pair; what the brake counts
		t.Errorf("%d entities are left", n)
	}
	left := 0
	for key := range disk[0] {
		if !strings.HasPrefix(key, "ids:") {
			left++
		}
	}
	if left != state.Entities() {
		t.Errorf("%d entities on disk, %d here", left, state.Entities())
	}
}

// TestAnyRecordIsTakenOrRefused: gate.state could hold anything; no bytes make a State panic, then or when they are read.
func TestAnyRecordIsTakenOrRefused(t *testing.T) {
	t.Parallel()
	engine := load(t, withRules(everything, all...))
	source, disk := owner(engine, 0), gateState{}
	w := newTown(3)
	for range 50 {
		e := w.next()
		source.Decide(0, &e)
	}
	disk.take(source)
	source.Commit()
	rapid.Check(t, func(t *rapid.T) {
		state := owner(engine, 0)
		for key, value := range disk[0] {
			broken := append([]byte(nil), value...)
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				broken[rapid.IntRange(0, len(broken)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
			}
			broken = broken[:rapid.IntRange(0, len(broken)).Draw(t, "length")]
			_ = state.Restore(0, []byte(key), broken)
			_ = state.Follow(1, []byte(key), broken)
			_ = state.Restore(0, rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "key"), broken)
		}
		again := newTown(3)
		for range 20 {
			e := again.next()
			state.Decide(0, &e)
		}
		state.Staged(func(int32, []byte, []byte) {})
		state.Commit()
	})
}

func TestFollowKeepsSharedEntitiesOfOthersOnly(t *testing.T) {
	t.Parallel()
	engine := load(t, withRules(everything, all...))
	there, here, disk := owner(engine, 1), owner(engine, 0), gateState{}
	s := (&story{at: noon}).pay("c1", 5, purchase, on("d1"), at("m1"))
	there.Decide(1, &s.all[0])
	disk.take(there)
	follow := func(p int32) {
		for key, value := range disk[1] {
			if err := here.Follow(p, []byte(key), value); err != nil {
				t.Fatal(err)
			}
		}
	}
	follow(0)
	if n := here.Entities(); n != 0 {
		t.Fatalf("%d entities of an owned partition followed", n)
	}
	follow(1)
	if n := here.Entities(); n != 4 { // device, merchant, merchant+device, and what the brake counts
		t.Fatalf("%d entities followed", n)
	}
	for key := range disk[1] {
		if err := here.Follow(1, []byte(key), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := here.Entities(); n != 0 {
		t.Fatalf("%d entities after their tombstones", n)
	}
	if err := here.Restore(5, []byte("customer:c1"), nil); err == nil {
		t.Error("a partition that is not assigned was restored")
	}
}
