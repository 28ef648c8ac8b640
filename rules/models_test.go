package rules

import (
	"encoding/base64"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/schemas/events"
)

// withModel is a ruleset of one logistic regression of the amount and of what the customer has spent, and one rule.
const withModel = `ruleset: scored
version: 1
aggregates:
  spent_24h: {sum: payment.amount, of: payment.initiated, by: customer, window: 24h}
models:
  pd:
    kind: logistic
    features: {amount: payment.amount, share: "payment.amount / spent_24h", method: payment.method, night: event.hour < 6}
    reasons: {amount: M1, share: M2}
    model: |
      {"kind": "logistic", "intercept": -2, "features": [
        {"name": "amount", "coefficient": 0.001, "missing": 100},
        {"name": "share", "coefficient": 1.5},
        {"name": "method", "categories": [{"value": "card", "coefficient": 0.5}], "other": 0},
        {"name": "night", "coefficient": 1}]}
rules:
  - id: likely-bad
    when: known(pd) && pd >= 0.75
    then: {verdict: decline, reason: M, say: "the model expects a loss"}
outcomes: {review: 50, decline: 80}
`

func mustLoad(t testing.TB, text string) *Ruleset {
	t.Helper()
	rs, err := Load("rules.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// cardPayment is 1000 yuan by card at 3 in the morning.
func cardPayment() *events.Event {
	return &events.Event{Kind: events.PaymentInitiated, CustomerID: "c", Amount: 1000_00, Currency: events.MustCurrency("CNY"), Method: 2,
		Time: time.Date(2026, 3, 2, 3, 0, 0, 0, time.UTC)}
}

func TestModelIsADecimalInConditions(t *testing.T) {
	t.Parallel()
	rs := mustLoad(t, withModel)
	if got := rs.Reads(events.PaymentInitiated); len(got) != 1 || len(rs.Rules[0].Reads) != 1 {
		t.Errorf("the rule reads the aggregates %v and %v; the one that its model reads was expected", got, rs.Rules[0].Reads)
	}
	if !rs.Rules[0].When.Lowered {
		t.Error("the condition is not lowered")
	}
	f := rs.NewFrame()
	e := cardPayment()
	if methods[e.Method] != "card" {
		t.Fatalf("method 2 is %s", methods[e.Method])
	}
	f.Reset(e, Context{Aggregates: given{{Decimal{4000_00, 2}, true}}})
	o := rs.Evaluate(f)
	// -2 + 1 + 1.5·0.25 + 0.5 + 1 = 0.875, and 1/(1+e^-0.875) = 0.705785
	if v := f.Model(0); v.Decimal.String() != "0.705785" || !v.Known || o.Verdict != events.Approve {
		t.Errorf("pd = %v, verdict %v", v, o.Verdict)
	}
	f.Reset(e, Context{Aggregates: given{{Decimal{1000_00, 2}, true}}})
	if o := rs.Evaluate(f); o.Verdict != events.Decline { // share 1: 2, 0.880797
		t.Errorf("verdict %v at pd %v", o.Verdict, f.Model(0))
	}
	reasons := f.ModelReasons(0)
	if len(reasons) != 3 || reasons[0].Reason != "M2" || reasons[0].Adds != 1.5 || reasons[1].Feature != "amount" || reasons[2].Feature != "night" || reasons[2].Reason != "" {
		t.Errorf("reasons %+v", reasons)
	}
}

// A feature that is unknown makes the score unknown, unless the model says what a missing value counts as.
func TestModelWithUnknownFeatures(t *testing.T) {
	t.Parallel()
	rs := mustLoad(t, withModel)
	f := rs.NewFrame()
	f.Reset(cardPayment(), Context{Aggregates: given{{}}})
	o := rs.Evaluate(f)
	if v := f.Model(0); v.Known || o.Verdict != events.Approve || f.ModelReasons(0) != nil {
		t.Errorf("pd = %v, verdict %v without the share", v, o.Verdict)
	}
	e := cardPayment()
	e.Method = 0
	f.Reset(e, Context{Aggregates: given{{Decimal{1000_00, 2}, true}}})
	if v := f.Model(0); v.Decimal.String() != "0.817574" { // 1.5
		t.Errorf("pd = %v without the method", v)
	}
	if reasons := f.ModelReasons(0); len(reasons) != 3 || reasons[2].Feature != "night" {
		t.Errorf("reasons %v", reasons)
	}
	e.Time = e.Time.Add(9 * time.Hour)
	f.Reset(e, Context{Aggregates: given{{Decimal{1000_00, 2}, true}}})
	if reasons := f.ModelReasons(0); len(reasons) != 2 { // neither the method nor the hour adds anything
		t.Errorf("reasons %v", reasons)
	}
}

// counting says how often an aggregate was read.
type counting struct {
	given
	reads *int
}

func (c counting) Aggregate(i int) Value { *c.reads++; return c.given.Aggregate(i) }

func TestModelIsAskedOnceAnEventAndOnlyWhenNeeded(t *testing.T) {
	t.Parallel()
	text := strings.Replace(withModel, "when: known(pd)", "when: payment.amount > 500 && known(pd) && pd > 0 && pd < 2", 1)
	rs := mustLoad(t, text)
	f := rs.NewFrame()
	read := func() (n int) {
		f.ModelsRead(func(int, Value) { n++ })
		return n
	}
	reads := 0
	source := counting{given{{Decimal{4000_00, 2}, true}}, &reads}
	small := cardPayment()
	small.Amount = 100_00
	f.Reset(small, Context{Aggregates: source})
	rs.Evaluate(f)
	if reads != 0 || read() != 0 {
		t.Errorf("a condition settled before the model read %d aggregates", reads)
	}
	f.Reset(cardPayment(), Context{Aggregates: source})
	rs.Evaluate(f)
	if reads != 1 || read() != 1 {
		t.Errorf("%d aggregates, %d models read", reads, read())
	}
	f.Reset(cardPayment(), Context{})
	f.SetModel(0, Value{Decimal{5, 1}, true})
	if v := f.Model(0); v.Decimal.String() != "0.5" {
		t.Errorf("a score given beforehand is %v", v)
	}
}

// Deciding by a model takes no memory from event to event.
func TestModelAllocatesNothing(t *testing.T) {
	rs := mustLoad(t, withModel)
	f, e := rs.NewFrame(), cardPayment()
	var context Context
	context.Aggregates = given{{Decimal{4000_00, 2}, true}}
	if n := testing.AllocsPerRun(100, func() {
		f.Reset(e, context)
		rs.Evaluate(f)
	}); n != 0 {
		t.Errorf("%v allocations an event", n)
	}
}

// A challenger is a ruleset with another model over the same event and state: it changes nothing for the live one.
func TestChallengerModelRunsInAShadowRuleset(t *testing.T) {
	t.Parallel()
	champion := mustLoad(t, withModel)
	challenger := mustLoad(t, strings.Replace(withModel, `"intercept": -2`, `"intercept": 2`, 1))
	context := Context{Aggregates: given{{Decimal{4000_00, 2}, true}}}
	live, shadow := champion.NewFrame(), challenger.NewFrame()
	live.Reset(cardPayment(), context)
	shadow.Reset(cardPayment(), context)
	ours, theirs := champion.Evaluate(live), challenger.Evaluate(shadow)
	if ours.Verdict != events.Approve || theirs.Verdict != events.Decline {
		t.Errorf("champion %v, challenger %v", ours.Verdict, theirs.Verdict)
	}
	if a, b := live.Model(0), shadow.Model(0); a.Decimal.Compare(b.Decimal) >= 0 {
		t.Errorf("champion %v, challenger %v", a, b)
	}
}

// Trees come inline as text, or as base64, whose lines may be broken.
func TestTreesInARuleset(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../pipelines/models/testdata/lightgbm.txt")
	if err != nil {
		t.Fatal(err)
	}
	head := "models:\n  m:\n    kind: lightgbm\n    features: {pace: 'event.hour > 3 ? 1 : 2', amount: payment.amount, hour: event.hour, method: 3}\n"
	inline := head + "    model: |\n      " + strings.ReplaceAll(string(source), "\n", "\n      ") + "\n"
	packed := head + "    base64: |\n"
	for text := base64.StdEncoding.EncodeToString(source); text != ""; {
		n := min(100, len(text))
		packed += "      " + text[:n] + "\n"
		text = text[n:]
	}
	var scores []string
	for _, text := range []string{inline, packed} {
		rs := mustLoad(t, file(text))
		f := rs.NewFrame()
		f.Reset(cardPayment(), Context{})
		v := f.Model(0)
		if !v.Known {
			t.Fatal("no score")
		}
		scores = append(scores, v.Decimal.String())
	}
	if scores[0] != scores[1] {
		t.Errorf("scores %v", scores)
	}
}

func TestModelMistakes(t *testing.T) {
	t.Parallel()
	change := func(from, to string) string {
		if !strings.Contains(withModel, from) {
			t.Fatalf("no %q", from)
		}
		return strings.Replace(withModel, from, to, 1)
	}
	for _, c := range []struct{ text, want string }{
		{change("kind: logistic", "kind: logistics"), `rules.yaml:7:11: kind: "logistics" is no kind of model; did you mean logistic?`},
		{change("amount: payment.amount,", ""), `the model also needs "amount"`},
		{change("amount: payment.amount,", "amont: payment.amount,"), `has no "amont"; did you mean amount?`},
		{change("{amount: payment.amount,", "{amount: payment.amout,"), `rules.yaml:8:24: features: amount: unknown name "payment.amout"; did you mean payment.amount?`},
		{change("{amount: payment.amount,", "{amount: payment.method,"), "it is a word"},
		{change("method: payment.method", "method: payment.amount"), "the model has words for this feature"},
		{change("{amount: payment.amount,", "{amount: event.time,"), "a feature is a number"},
		{change("{amount: payment.amount,", "{amount: loan.amount,"), "no kind of event has all"},
		{change("\n  pd:", "\n  spent_24h:"), "cannot name a model"},
		{change(`"intercept": -2`, `"intersept": -2`), `unknown field "intersept"`},
		{change("    model: |", "    base64: |"), "base64: illegal"},
		{change("reasons: {amount: M1", "reasons: {amonut: M1"), "did you mean amount?"},
		{change("    kind: logistic\n", ""), "needs kind:"},
		{change("when: known(pd) && pd", "when: known(pd) && dp"), `unknown name "dp"`},
		{change("    when: known(pd)", "    on: loan.applied\n    when: known(pd)"), "pd is never known on loan.applied"},
		{change("when: known(pd) && pd >= 0.75", "when: pd > payment.amount"), "cannot be used on (decimal, money)"},
	} {
		_, err := Load("rules.yaml", []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v\nit should say %q", err, c.want)
		}
	}
}

// listing has one list with one value.
type listing string

func (l listing) Listed(_, value string, _ time.Time) bool { return value == string(l) }

func (l listing) Similarity(string, string, time.Time) Decimal { return Decimal{} }

// An explanation names what raised the score, from the event and the trace alone; a list may be a feature.
func TestExplanationNamesWhatRaisedTheScore(t *testing.T) {
	t.Parallel()
	rs := mustLoad(t, strings.Replace(withModel, "night: event.hour < 6", `night: 'listed("watch", customer.id)'`, 1))
	f := rs.NewFrame()
	f.Reset(cardPayment(), Context{Aggregates: given{{Decimal{1000_00, 2}, true}}, Lists: listing("c")})
	rs.Evaluate(f)
	score := f.Model(0).Decimal.String()
	explained, err := Explain(rs, cardPayment(), f.Trace(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := []Reading{{"spent_24h", "1000.00"}, {"pd", score}, {"pd: share", "M2 +1.500"}, {"pd: amount", "M1 +1.000"}, {"pd: night", "+1.000"}}
	if got := explained.Rules[0].Reads; !slices.Equal(got, want) {
		t.Errorf("the explanation reads %v, want %v", got, want)
	}
}
