// Package peers holds the rule language against engines in use: the same hundred rules over the same events, in one run.
// It is a module of its own, so that sluice itself depends on none of them.
//
//	cd rules/peers && go test -bench . -benchtime 2000x
package peers

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
	"github.com/hyperjumptech/grule-rule-engine/ast"
	"github.com/hyperjumptech/grule-rule-engine/builder"
	"github.com/hyperjumptech/grule-rule-engine/engine"
	"github.com/hyperjumptech/grule-rule-engine/pkg"

	"sluice/rules"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// ruleCount is how many rules every engine is asked.
const ruleCount = 100

// template is one kind of rule in the words of sluice; $n is a threshold that differs from rule to rule.
var templates = []struct {
	text        string
	first, step int
}{
	{`payment.method == "card" && payment.amount < 50 && small_10m >= $n`, 3, 1},
	{`count_10m >= $n`, 4, 1},
	{`spent_24h >= $n && (payment.purpose == "transfer" || payment.purpose == "withdrawal")`, 10_000, 5_000},
	{`payment.amount >= $n && payment.amount >= 3 * spent_24h && payment.purpose != "top_up"`, 1_000, 500},
	{`event.hour >= 17 && event.hour < 22 && payment.amount >= $n`, 2_000, 1_000},
	{`device.known && device_customers >= $n`, 3, 1},
	{`payment.purpose == "transfer" && payment.amount >= 0.5 * received_1h && payment.amount <= 2 * received_1h && received_1h >= $n`, 200, 300},
	{`location.country != "CN" && payment.amount >= $n`, 500, 500},
}

// conditions are the rules, in sluice's words.
func conditions() []string {
	all := make([]string, ruleCount)
	for i := range all {
		t := templates[i%len(templates)]
		all[i] = strings.ReplaceAll(t.text, "$n", fmt.Sprint(t.first+i/len(templates)*t.step))
	}
	return all
}

// fact is one event with its aggregates, flat, as the peers take it. Their amounts are floats of major units.
type fact struct {
	Method, Purpose, Country           string
	Known                              bool
	Hour                               int64
	Amount, Spent24h, Received1h       float64
	Small10m, Count10m, DeviceCustomer int64

	event  events.Event
	values given
}

// given are the aggregates' values, in the order of the ruleset.
type given []rules.Value

func (g *given) Aggregate(i int) rules.Value { return (*g)[i] }

func facts(n int) []fact {
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]fact, n)
	for i := range all {
		all[i] = newFact(r)
	}
	return all
}

var (
	methods  = []string{"wallet", "card"}
	purposes = []string{"top_up", "transfer", "purchase", "withdrawal"}
	cny      = events.MustCurrency("CNY")
)

func newFact(r *rand.Rand) fact {
	cents := func(most int64) int64 { return 1 + r.Int64N(most*100) }
	method, purpose := r.IntN(len(methods)), r.IntN(len(purposes))
	amount, spent, received := cents(4000), cents(40_000), cents(4000)
	f := fact{
		Method: methods[method], Purpose: purposes[purpose], Country: []string{"CN", "CN", "CN", "SG"}[r.IntN(4)], Known: r.IntN(10) > 0,
		Hour: r.Int64N(24), Amount: float64(amount) / 100, Spent24h: float64(spent) / 100, Received1h: float64(received) / 100,
		Small10m: r.Int64N(6), Count10m: r.Int64N(12), DeviceCustomer: r.Int64N(5),
	}
	f.event = events.Event{
		Kind: events.PaymentInitiated, Time: time.Date(2026, 3, 2, int(f.Hour), 0, 0, 0, time.UTC), CustomerID: "c", Country: f.Country,
		Amount: amount, Currency: cny, Method: eventsv1.PaymentMethod(method + 1), Purpose: eventsv1.PaymentPurpose(purpose + 1),
	}
	if f.Known {
		f.event.DeviceID = "d"
	}
	whole := func(n int64) rules.Value { return rules.Value{Decimal: rules.Int(n), Known: true} }
	money := func(n int64) rules.Value {
		return rules.Value{Decimal: rules.Decimal{Coefficient: n, Exponent: 2}, Known: true}
	}
	f.values = given{whole(f.Small10m), whole(f.Count10m), money(spent), whole(f.DeviceCustomer), money(received)}
	return f
}

// asker asks all rules of one fact and appends the numbers of those that fired.
type asker func(f *fact, fired []int) []int

// ruleset is the hundred rules in sluice's language.
func ruleset() string {
	var b strings.Builder
	b.WriteString(`ruleset: peers
version: 1
aggregates:
  small_10m: {count: payment.initiated, where: payment.amount < 50, by: card, for: card, window: 10m}
  count_10m: {count: payment.initiated, by: customer, window: 10m}
  spent_24h: {sum: payment.amount, of: payment.initiated, by: customer, window: 24h}
  device_customers: {distinct: customer, of: payment.initiated, by: device, window: 24h}
  received_1h: {sum: payment.amount, of: payment.initiated, by: counterparty, for: customer, window: 1h}
rules:
`)
	for i, c := range conditions() {
		// The facts give every aggregate; a ruleset has to say what happens when one is unknown.
		fmt.Fprintf(&b, "  - {id: r%d, when: '%s', missing: skip, then: {score: 1, reason: R, say: s}}\n", i, c)
	}
	return b.String()
}

func sluice(t testing.TB) asker {
	rs, err := rules.Load("peers.yaml", []byte(ruleset()))
	if err != nil {
		t.Fatal(err)
	}
	first := rs.Rules[0].Line // each rule has a line of its own
	frame := rs.NewFrame()
	return func(f *fact, fired []int) []int {
		frame.Reset(&f.event, rules.Context{Aggregates: &f.values})
		for _, rule := range rs.Evaluate(frame).Hits {
			fired = append(fired, rule.Line-first)
		}
		return fired
	}
}

// words turns sluice's names into another engine's.
func words(text string, names map[string]string) string {
	for from, to := range names {
		text = strings.ReplaceAll(text, from, to)
	}
	return text
}

// celNames keeps to plain variables, the fastest a user of cel-go can do without types of their own.
var celNames = map[string]string{"payment.method": "method", "payment.purpose": "purpose", "payment.amount": "amount", "event.hour": "hour",
	"device.known": "known", "location.country": "country"}

// celActivation resolves names without a map.
type celActivation struct{ f *fact }

func (a *celActivation) Parent() cel.Activation { return nil }

func (a *celActivation) ResolveName(name string) (any, bool) {
	f := a.f
	switch name {
	case "method":
		return types.String(f.Method), true
	case "purpose":
		return types.String(f.Purpose), true
	case "country":
		return types.String(f.Country), true
	case "known":
		return types.Bool(f.Known), true
	case "hour":
		return types.Int(f.Hour), true
	case "amount":
		return types.Double(f.Amount), true
	case "spent_24h":
		return types.Double(f.Spent24h), true
	case "received_1h":
		return types.Double(f.Received1h), true
	case "small_10m":
		return types.Int(f.Small10m), true
	case "count_10m":
		return types.Int(f.Count10m), true
	case "device_customers":
		return types.Int(f.DeviceCustomer), true
	}
	return nil, false
}

func celGo(t testing.TB) asker {
	env, err := cel.NewEnv(cel.CrossTypeNumericComparisons(true),
		cel.Variable("method", cel.StringType), cel.Variable("purpose", cel.StringType), cel.Variable("country", cel.StringType),
		cel.Variable("known", cel.BoolType), cel.Variable("hour", cel.IntType), cel.Variable("amount", cel.DoubleType),
		cel.Variable("spent_24h", cel.DoubleType), cel.Variable("received_1h", cel.DoubleType), cel.Variable("small_10m", cel.IntType),
		cel.Variable("count_10m", cel.IntType), cel.Variable("device_customers", cel.IntType))
	if err != nil {
		t.Fatal(err)
	}
	var programs []cel.Program
	for _, c := range conditions() {
		tree, issues := env.Compile(doubles(words(c, celNames)))
		if issues.Err() != nil {
			t.Fatal(c, issues.Err())
		}
		p, err := env.Program(tree, cel.EvalOptions(cel.OptOptimize))
		if err != nil {
			t.Fatal(err)
		}
		programs = append(programs, p)
	}
	var a celActivation
	return func(f *fact, fired []int) []int {
		a.f = f
		for i, p := range programs {
			out, _, err := p.Eval(&a)
			if err != nil {
				t.Fatal(err)
			}
			if out == types.True {
				fired = append(fired, i)
			}
		}
		return fired
	}
}

// doubles writes the factors of amounts as CEL wants them.
func doubles(text string) string {
	return strings.NewReplacer("3 * ", "3.0 * ", "2 * ", "2.0 * ").Replace(text)
}

var exprNames = map[string]string{"payment.method": "Method", "payment.purpose": "Purpose", "payment.amount": "Amount", "event.hour": "Hour",
	"device.known": "Known", "location.country": "Country", "spent_24h": "Spent24h", "received_1h": "Received1h", "small_10m": "Small10m",
	"count_10m": "Count10m", "device_customers": "DeviceCustomer"}

func exprLang(t testing.TB) asker {
	var programs []*vm.Program
	for _, c := range conditions() {
		p, err := expr.Compile(words(c, exprNames), expr.Env(&fact{}), expr.AsBool())
		if err != nil {
			t.Fatal(err)
		}
		programs = append(programs, p)
	}
	var machine vm.VM
	return func(f *fact, fired []int) []int {
		for i, p := range programs {
			out, err := machine.Run(p, f)
			if err != nil {
				t.Fatal(err)
			}
			if out.(bool) {
				fired = append(fired, i)
			}
		}
		return fired
	}
}

// Fired is where rules of grule say that they fired.
type Fired struct{ Numbers []int }

// Fire notes a rule.
func (f *Fired) Fire(number int64) { f.Numbers = append(f.Numbers, int(number)) }

func grule(t testing.TB) asker {
	var text strings.Builder
	names := map[string]string{}
	for from, to := range exprNames {
		names[from] = "Fact." + to
	}
	for i, c := range conditions() {
		fmt.Fprintf(&text, "rule r%d { when %s then Out.Fire(%d); Retract(\"r%d\"); }\n", i, words(c, names), i, i)
	}
	library := ast.NewKnowledgeLibrary()
	if err := builder.NewRuleBuilder(library).BuildRuleFromResource("peers", "1", pkg.NewBytesResource([]byte(text.String()))); err != nil {
		t.Fatal(err)
	}
	base, err := library.NewKnowledgeBaseInstance("peers", "1")
	if err != nil {
		t.Fatal(err)
	}
	run := engine.NewGruleEngine()
	run.MaxCycle = 2 * ruleCount
	return func(f *fact, fired []int) []int {
		out := &Fired{}
		facts := ast.NewDataContext()
		if err := facts.Add("Fact", f); err != nil {
			t.Fatal(err)
		}
		if err := facts.Add("Out", out); err != nil {
			t.Fatal(err)
		}
		if err := run.Execute(facts, base); err != nil {
			t.Fatal(err)
		}
		return append(fired, out.Numbers...)
	}
}

var engines = []struct {
	name string
	open func(testing.TB) asker
}{{"sluice", sluice}, {"expr-lang", exprLang}, {"cel-go", celGo}, {"grule", grule}}

// All engines give the same answers, or their speeds could not be compared.
func TestPeersAgree(t *testing.T) {
	t.Parallel()
	all := facts(100)
	var asks []asker
	for _, e := range engines {
		asks = append(asks, e.open(t))
	}
	total := 0
	for i := range all {
		want := slices.Sorted(slices.Values(asks[0](&all[i], nil)))
		total += len(want)
		for j, ask := range asks[1:] {
			if got := slices.Sorted(slices.Values(ask(&all[i], nil))); !slices.Equal(got, want) {
				t.Fatalf("event %d: %s says %v, sluice %v", i, engines[j+1].name, got, want)
			}
		}
	}
	if total < 100 {
		t.Errorf("only %d rules fired on %d events: they are asked nothing", total, len(all))
	}
}

// processor is the processor time used so far, garbage collection included: on a busy machine it says more than the clock.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHundredRules is one event through a hundred rules; x-sluice is how many times sluice's processor time it takes.
func BenchmarkHundredRules(b *testing.B) {
	all := facts(1000)
	ours := 0.0
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			ask := e.open(b)
			fired := make([]int, 0, ruleCount)
			b.ReportAllocs()
			i, before := 0, processor(b)
			for b.Loop() {
				fired = ask(&all[i%len(all)], fired[:0])
				i++
			}
			each := float64(processor(b)-before) / float64(b.N)
			b.ReportMetric(each, "cpu-ns/op")
			if e.name == "sluice" {
				ours = each
			}
			if ours > 0 {
				b.ReportMetric(each/ours, "x-sluice")
			}
		})
	}
}
