package replay

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sluice/pipelines/risk"
	"sluice/rules"
	"sluice/rules/packs"
	"sluice/schemas/events"
)

// Where AMLSim's typologies lie in the sample "20K, fan-in 200, cycle 200": every transfer below 100 is planted, and every
// other is not; between 5 and 10 lies none, below are the fan-ins, above the cycles. Rules do not see this; it is the truth
// they are measured by.
const (
	ordinaryFrom = 100_00 // minor units
	cyclesFrom   = 7_00
)

// planted is the truth of a typology.
type planted struct {
	name      string
	transfers map[string]bool // event ids
	accounts  map[string]bool
	pattern   map[string]string // of an account: one account that stands for its connected part
}

func newPlanted(name string) *planted {
	return &planted{name, map[string]bool{}, map[string]bool{}, map[string]string{}}
}

func (p *planted) add(e *events.Event) {
	p.transfers[e.ID] = true
	for _, a := range []string{e.CustomerID, e.CounterpartyID} {
		p.accounts[a] = true
		if p.pattern[a] == "" {
			p.pattern[a] = a
		}
	}
	p.pattern[p.root(e.CustomerID)] = p.root(e.CounterpartyID)
}

func (p *planted) root(a string) string {
	for p.pattern[a] != a {
		a = p.pattern[a]
	}
	return a
}

func (p *planted) patterns() int {
	roots := map[string]bool{}
	for a := range p.accounts {
		roots[p.root(a)] = true
	}
	return len(roots)
}

// amlsimEvents reads the sample, or skips the test where it is not.
func amlsimEvents(t testing.TB) (all []events.Event, fanIn, cycle *planted) {
	folder := filepath.Join("..", "..", "..", "shared", "data", "amlsim")
	if _, err := os.Stat(folder); err != nil {
		t.Skip("the AMLSim sample is not there")
	}
	a, err := openAMLSim(Config{Path: folder})
	if err != nil {
		t.Fatal(err)
	}
	fanIn, cycle = newPlanted("fan-in"), newPlanted("cycle")
	for it, err := range a.items() {
		if err != nil || it.wrong != nil {
			t.Fatal(err, it.wrong)
		}
		all = append(all, *it.event)
		if e := it.event; e.CounterpartyID != "" && e.Amount < ordinaryFrom {
			if e.Label != LabelAMLSim {
				t.Fatalf("%s is small and its accounts are not fraudulent", e.ID)
			}
			if e.Amount < cyclesFrom {
				fanIn.add(e)
			} else {
				cycle.add(e)
			}
		}
	}
	return all, fanIn, cycle
}

// alerts are the transfers on which each rule fired.
func alerts(t testing.TB, source []byte, all []events.Event) map[string][]*events.Event {
	rs, err := rules.Load("aml.yaml", source)
	if err != nil {
		t.Fatal(err)
	}
	state := risk.NewState(risk.NewEngine(rs))
	state.Assign(0)
	found := map[string][]*events.Event{}
	for i := range all {
		d := state.Decide(0, &all[i])
		state.Commit()
		for _, h := range d.Hits {
			found[h.Rule] = append(found[h.Rule], &all[i])
		}
	}
	return found
}

// figures are what a rule finds.
type figures struct {
	alerts, right, accounts, rightAccounts int
	transfers, people, patterns            [2]int // found of fan-in, cycle
}

func measure(alerted []*events.Event, truth [2]*planted) (f figures) {
	accounts := map[string]bool{}
	roots := [2]map[string]bool{{}, {}}
	for _, e := range alerted {
		f.alerts++
		accounts[e.CustomerID], accounts[e.CounterpartyID] = true, true
		for i, p := range truth {
			if p.transfers[e.ID] {
				f.right++
				f.transfers[i]++
				roots[i][p.root(e.CustomerID)] = true
			}
		}
	}
	f.accounts = len(accounts)
	for a := range accounts {
		if truth[0].accounts[a] || truth[1].accounts[a] {
			f.rightAccounts++
		}
		for i, p := range truth {
			if p.accounts[a] {
				f.people[i]++
			}
		}
	}
	f.patterns = [2]int{len(roots[0]), len(roots[1])}
	return f
}

func percent(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", 100*float64(n)/float64(of))
}

func table(t testing.TB, found map[string][]*events.Event, truth [2]*planted) {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-22s %7s %6s | %6s %6s %6s | %6s %6s %6s  (recall in %%: transfers, accounts, patterns)\n", "rule", "alerts", "prec",
		"fan-in", "acc", "patt", "cycle", "acc", "patt")
	for _, rule := range slices.SortedFunc(maps.Keys(found), cmp.Compare) {
		f := measure(found[rule], truth)
		fmt.Fprintf(&b, "%-22s %7d %6s |", rule, f.alerts, percent(f.right, f.alerts))
		for i, p := range truth {
			fmt.Fprintf(&b, " %6s %6s %6s |", percent(f.transfers[i], len(p.transfers)), percent(f.people[i], len(p.accounts)), percent(f.patterns[i], p.patterns()))
		}
		fmt.Fprintf(&b, " accounts %d, %s %% right\n", f.accounts, percent(f.rightAccounts, f.accounts))
	}
	t.Log(b.String())
}

func length(window string) string { return strings.Replace(window, "1d", "24h", 1) }

// thresholds is a ruleset of one rule for each threshold.
func thresholds() []byte {
	var aggregates, all strings.Builder
	rule := func(id, when string) {
		fmt.Fprintf(&all, "  - {id: %s, when: '%s', missing: skip, then: {score: 50, reason: T1, say: a threshold}}\n", id, when)
	}
	for _, window := range []string{"1d", "7d", "30d"} {
		fmt.Fprintf(&aggregates, "  payers_%s: {distinct: customer, of: payment.initiated, where: payment.purpose == \"transfer\", by: counterparty, window: %s}\n", window, length(window))
		for _, n := range []int{3, 5, 10, 15, 20, 30} {
			rule(fmt.Sprintf("payers-%s-%02d", window, n), fmt.Sprintf(`payment.purpose == "transfer" && payers_%s >= %d`, window, n))
		}
		for hops := 3; hops <= 6; hops++ {
			name := fmt.Sprintf("cycle_%s_%d", window, hops)
			fmt.Fprintf(&aggregates, "  %s: {cycle: payment.initiated, where: payment.purpose == \"transfer\", window: %s, hops: %d}\n", name, length(window), hops)
			rule(fmt.Sprintf("cycle-%s-%d", window, hops), fmt.Sprintf("known(%s) && %s >= 3", name, name))
		}
		fmt.Fprintf(&aggregates, "  pair_%s: {count: payment.initiated, where: payment.purpose == \"transfer\", by: [customer, counterparty], window: %s}\n", window, length(window))
		for n := 2; n <= 5; n++ {
			rule(fmt.Sprintf("pair-%s-%d", window, n), fmt.Sprintf(`payment.purpose == "transfer" && pair_%s >= %d`, window, n))
		}
	}
	return []byte("ruleset: thresholds\nversion: 1\naggregates:\n" + aggregates.String() + "rules:\n" + all.String() + "outcomes:\n  payment: {review: 50}\n")
}

// TestAMLPackOnAMLSim holds what docs/decisions/0005-aml-on-amlsim.md says; with -v it prints the tables there.
func TestAMLPackOnAMLSim(t *testing.T) {
	t.Parallel()
	all, fanIn, cycle := amlsimEvents(t)
	truth := [2]*planted{fanIn, cycle}
	for _, p := range truth {
		t.Logf("%s: %d transfers, %d accounts, %d connected parts", p.name, len(p.transfers), len(p.accounts), p.patterns())
	}
	if testing.Verbose() {
		table(t, alerts(t, thresholds(), all), truth)
	}
	found := alerts(t, packs.AML, all)
	table(t, found, truth)

	split := measure(found["split-transfers"], truth)
	if split.right*100 < split.alerts*98 || split.patterns[0]*100 < fanIn.patterns()*90 || split.patterns[1]*100 < cycle.patterns()*85 {
		t.Errorf("split transfers: %+v", split)
	}
	// By accounts, a tenth of the sample's are fraudulent.
	for rule, least := range map[string]int{"cycle": 30, "fan-in": 10, "gather-scatter": 9} {
		if f := measure(found[rule], truth); f.rightAccounts*100 < f.accounts*least {
			t.Errorf("%s: %d of %d accounts are in a planted pattern", rule, f.rightAccounts, f.accounts)
		}
	}
}
