package risk_test

import (
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/pipelines/risk"
	"sluice/schemas/events"
)

// cycleWithin wants the hops of the shortest cycle of transfers in time order that the present one closes, by a search of
// the graph.
func cycleWithin(most int) answer {
	return func(m *model, got string, sure, perhaps []*events.Event, now *events.Event) string {
		if !m.of(now) || now.CounterpartyID == "" || now.CounterpartyID == now.CustomerID {
			if got != "" {
				return "it closes no cycle"
			}
			return ""
		}
		n, err := strconv.Atoi(got)
		if err != nil {
			n = math.MaxInt
		}
		low, high := hopsBack(perhaps, now, most, false), hopsBack(sure, now, most, true)
		if m.unordered { // a late transfer may not have been carried on
			high = math.MaxInt
		}
		if n < low || n > high {
			return fmt.Sprintf("want %d to %d hops", low, high)
		}
		return ""
	}
}

// hopsBack searches backwards from the payer, breadth first, for the payee: among transfers that came before the one they
// lead to, in time order too, or at least by tile.
func hopsBack(es []*events.Event, now *events.Event, most int, strictly bool) int {
	ends := map[*events.Event]int{now: len(es)} // transfers that the next one back may lead to, and where they stand
	for length := 2; length <= most; length++ {
		more := map[*events.Event]int{}
		for to, at := range ends {
			for i, e := range es[:at] {
				if e == now || e.CounterpartyID != to.CustomerID || e.CustomerID == e.CounterpartyID ||
					e.Time.Truncate(time.Minute).After(to.Time) || strictly && e.Time.After(to.Time) {
					continue
				}
				if e.CustomerID == now.CounterpartyID {
					return length
				}
				more[e] = i
			}
		}
		ends = more
	}
	return math.MaxInt
}

// TestCyclesAgainstASearch: transfers among a few accounts, whose cycles are found as a search of the graph finds them: by
// one gate with all partitions, and by three that follow each other.
func TestCyclesAgainstASearch(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		hops := rapid.IntRange(2, 6).Draw(t, "hops")
		engine := load(t, one(fmt.Sprintf("{cycle: payment.initiated, window: 96m, hops: %d}", hops)))
		search := model{key: func(*events.Event) string { return "one graph" }, of: paid, window: window, answer: cycleWithin(hops)}
		accounts, late := rapid.IntRange(2, 8).Draw(t, "accounts"), rapid.Bool().Draw(t, "late")
		together, apart := owner(engine, 0, 1, 2), []*risk.State{owner(engine, 0), owner(engine, 1), owner(engine, 2)}
		now := noon
		var sequence []events.Event
		for i := range rapid.IntRange(1, 50).Draw(t, "transfers") {
			now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, 30 * time.Second, 5 * time.Minute, 30 * time.Minute, window}).Draw(t, "pause"))
			from := rapid.IntRange(0, accounts-1).Draw(t, "from")
			s := (&story{at: now}).pay(fmt.Sprint("c", from), 5, transfer, to(fmt.Sprint("c", rapid.IntRange(0, accounts-1).Draw(t, "to"))))
			e := s.all[0]
			e.ID = fmt.Sprint(i)
			if late && rapid.IntRange(0, 3).Draw(t, "is late") == 0 {
				e.Time = e.Time.Add(-time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "by")))
			}
			sequence = append(sequence, e)
			p := int32(from % 3)
			got := read(together.Decide(p, &e))
			if wrong := search.check(got, sequence); wrong != "" {
				t.Fatalf("transfer %d closes %q; %s", i, got, wrong)
			}
			if rapid.Bool().Draw(t, "commit") {
				together.Commit()
			}
			if other := read(apart[p].Decide(p, &e)); other != got && !late {
				t.Fatalf("transfer %d closes %q, for three gates %q", i, got, other)
			}
			tellOthers(t, apart, int(p))
		}
	})
}

// TestCycleSetsAreBounded: the 256 paths that started last are kept, once for each account.
func TestCycleSetsAreBounded(t *testing.T) {
	t.Parallel()
	state, disk := owner(load(t, one("{cycle: payment.initiated, window: 30d, hops: 3}")), 0), gateState{}
	s := &story{at: noon}
	times(300, func(i int) { // each again four steps later, a tile on
		s.after(2*time.Hour).pay(fmt.Sprint("c", i), 5, transfer, to("middle"))
		s.pay(fmt.Sprint("c", max(i-4, 0)), 5, transfer, to("middle"))
	})
	s.pay("middle", 5, transfer, to("end"))
	for i := range s.all {
		state.Decide(0, &s.all[i])
	}
	disk.take(state)
	for key, least := range map[string]int{"counterparty:middle": 256 * 9, "counterparty:end": 256 * 9} {
		if size := len(disk[0][key]); size < least || size > 256*11+100 {
			t.Errorf("%s takes %d bytes", key, size)
		}
	}
	s.pay("end", 5, transfer, to("c60")).pay("end", 5, transfer, to("c0"))
	among, beyond := &s.all[len(s.all)-2], &s.all[len(s.all)-1]
	if got := read(state.Decide(0, among)); got != "3" {
		t.Errorf("the 240th newest payer's cycle has %q hops", got)
	}
	if got := read(state.Decide(0, beyond)); got != "" {
		t.Errorf("the 300th newest payer's cycle has %q hops", got)
	}
}

// TestALongerCycleOutlivesAShorter: a path is not forgotten for a shorter one that started before it.
func TestALongerCycleOutlivesAShorter(t *testing.T) {
	t.Parallel()
	engine := load(t, one("{cycle: payment.initiated, window: 96m, hops: 4}"))
	for wait, want := range map[time.Duration]string{30 * time.Minute: "2", 40 * time.Minute: "3", 98 * time.Minute: ""} {
		s := (&story{at: noon}).pay("c0", 5, transfer, to("c1")).after(time.Hour).pay("c0", 5, transfer, to("c2"))
		s.pay("c2", 5, transfer, to("c1")).after(wait).pay("c1", 5, transfer, to("c0"))
		state, got := owner(engine, 0, 1), ""
		for i := range s.all {
			got = read(state.Decide(partitionOf(&s.all[i]), &s.all[i]))
		}
		if got != want {
			t.Errorf("after %s: %q hops, want %q", wait, got, want)
		}
	}
}
