package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/rules/packs"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// drawn is a rule as it was drawn, and what its condition comes to.
type drawn struct {
	id, missing, verdict string
	score                int
	final, brake         bool
	truth                Truth
	snoozed, held        bool
}

// decided is what the definition says of some rules.
type decided struct {
	verdict                                string
	score                                  int
	hits, errors, snoozed, braked, charged []string
}

// define works the verdict out as the language's definition puts it, one step after another.
func define(rules []drawn, review, decline int) decided {
	var d decided
	var fired []drawn
	for _, r := range rules {
		if r.truth == False || r.truth == Unknown && r.missing == "skip" {
			continue
		}
		if r.truth == Unknown && r.missing == "" {
			d.errors = append(d.errors, r.id)
			continue
		}
		if r.truth == Unknown && r.missing == "review" {
			r.score, r.verdict = 0, "review"
		}
		if r.snoozed {
			d.snoozed = append(d.snoozed, r.id)
			continue
		}
		r.held = r.held && r.brake
		fired = append(fired, r)
		d.hits = append(d.hits, r.id)
		d.score += r.score
		if r.held {
			d.braked = append(d.braked, r.id)
		}
	}
	rank := []string{"approve", "review", "decline"}
	verdictOf := func(some []drawn) int {
		sum, least, final, override := 0, 0, 0, false
		for _, r := range some {
			sum += r.score
			least = max(least, slices.Index(rank, r.verdict))
			override = override || r.verdict == "approve"
			if r.final {
				final = max(final, slices.Index(rank, r.verdict))
			}
		}
		if review > 0 && sum >= review {
			least = max(least, 1)
		}
		if decline > 0 && sum >= decline {
			least = 2
		}
		if override {
			return final
		}
		return least
	}
	free := slices.DeleteFunc(slices.Clone(fired), func(r drawn) bool { return r.held })
	d.verdict = rank[max(verdictOf(free), min(verdictOf(fired), 1))]
	for _, r := range fired {
		if d.verdict == "decline" && r.brake && (r.score > 0 || r.verdict == "decline") {
			d.charged = append(d.charged, r.id)
		}
	}
	return d
}

func drawRules(t *rapid.T) []drawn {
	all := make([]drawn, rapid.IntRange(0, 7).Draw(t, "rules"))
	for i := range all {
		r := &all[i]
		r.id = fmt.Sprint("r", i)
		r.missing = rapid.SampledFrom([]string{"", "skip", "fire", "review"}).Draw(t, "missing")
		r.verdict = rapid.SampledFrom([]string{"", "", "approve", "review", "decline"}).Draw(t, "verdict")
		r.score = rapid.SampledFrom([]int{-40, 0, 30, 50, 80}).Draw(t, "score")
		if r.verdict == "" && r.score == 0 {
			r.score = 20
		}
		r.final = (r.verdict == "review" || r.verdict == "decline") && rapid.Bool().Draw(t, "final")
		r.brake = (r.score > 0 || r.verdict == "decline") && rapid.Bool().Draw(t, "brake")
		r.truth = Truth(rapid.IntRange(0, 2).Draw(t, "truth"))
		r.snoozed = rapid.IntRange(0, 4).Draw(t, "snoozed") == 0
		r.held = rapid.Bool().Draw(t, "held")
	}
	return all
}

// write makes a ruleset of drawn rules: each reads an aggregate of its own.
func write(rules []drawn, review, decline int) string {
	aggregates, text := "", ""
	for i, r := range rules {
		aggregates += fmt.Sprintf("  a%d: {count: payment, by: card, window: %dm}\n", i, i+1)
		text += fmt.Sprintf("  - id: %s\n    when: a%d >= 1 && (listed(\"all\", customer.id) || device.known)\n    then: {score: %d, reason: R, say: s", r.id, i, r.score)
		if r.verdict != "" {
			text += ", verdict: " + r.verdict
		}
		if r.final {
			text += ", block: final"
		}
		text += "}\n"
		if r.missing != "" {
			text += "    missing: " + r.missing + "\n"
		}
		if r.brake {
			text += "    brake: {share: 0.05, window: 1h, after: 10}\n"
		}
	}
	return fmt.Sprintf("ruleset: drawn\nversion: 1\naggregates:\n%srules:\n%soutcomes: {review: %d, decline: %d}\n", aggregates, text, review, decline)
}

// around is what is known beside the event: the drawn rules as aggregates, lists and brakes.
type around []drawn

func (a around) Aggregate(i int) Value {
	return Value{Int(int64(a[i].truth & 1)), a[i].truth != Unknown}
}
func (a around) Held(i int) bool { return a[i].held }
func (a around) Similarity(string, string, time.Time) Decimal {
	return Decimal{}
}
func (a around) Listed(list, value string, _ time.Time) bool {
	id, rest, _ := strings.Cut(value, "/")
	return list == "all" || list == SnoozeList && slices.ContainsFunc(a, func(r drawn) bool { return r.snoozed && r.id == id && rest == "card/4711" })
}

func idsOf(rules []*Rule) []string {
	var all []string
	for _, r := range rules {
		all = append(all, r.ID)
	}
	return all
}

func paymentBy(customer string) *events.Event {
	return &events.Event{ID: "1", Source: "test", Kind: events.PaymentInitiated, Time: time.Unix(1e9, 0).UTC(), CustomerID: customer, CardToken: "4711",
		Amount: 1234, Currency: events.MustCurrency("CNY")}
}

// TestVerdictIsAsDefined: blocks, overrides, snoozes, brakes and missing data, against the definition in words; and what a
// trace is explained as is what was decided.
func TestVerdictIsAsDefined(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawRules(t)
		review, decline := rapid.SampledFrom([]int{20, 50}).Draw(t, "review"), rapid.SampledFrom([]int{80, 110}).Draw(t, "decline")
		rs, err := Load("drawn.yaml", []byte(write(all, review, decline)))
		if err != nil {
			t.Fatal(err)
		}
		f := rs.NewFrame()
		e := paymentBy("c1")
		f.Reset(e, Context{Tier: "gold", Aggregates: around(all), Lists: around(all), Brakes: around(all)})
		o := rs.Evaluate(f)
		got := decided{o.Verdict.String(), int(o.Score), idsOf(o.Hits), o.Errors, idsOf(o.Snoozed), idsOf(o.Braked), idsOf(o.Charged)}
		if want := define(all, review, decline); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%+v\ngot  %+v\nwant %+v", all, got, want)
		}
		x, err := Explain(rs, e, f.Trace(nil))
		if err != nil {
			t.Fatal(err)
		}
		if told := toldBy(x); fmt.Sprint(told) != fmt.Sprint(got) || len(x.Doubt) > 0 || x.Tier != "gold" {
			t.Fatalf("explained %+v\ndecided   %+v\n%s", told, got, x)
		}
		for i, r := range x.Rules {
			if want := (Reading{fmt.Sprint("a", i), around(all).Aggregate(i).text()}); r.Truth != all[i].truth || len(r.Parts) != 3 || len(r.Reads) != 1 || r.Reads[0] != want {
				t.Fatalf("%+v is explained as %+v", all[i], r)
			}
		}
		if last := x.Path[len(x.Path)-1]; !strings.HasSuffix(last, ": "+o.Verdict.String()) {
			t.Fatalf("%v does not end at %v", x.Path, o.Verdict)
		}
		e.Purpose = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE
		if o := rs.Evaluate(f); o.Verdict != events.Observed || len(o.Charged) > 0 {
			t.Fatalf("what is the house's own is %s, charging %d brakes", o.Verdict, len(o.Charged))
		}
	})
}

// toldBy reads an explanation back as an outcome.
func toldBy(x *Explanation) decided {
	d := decided{verdict: x.Outcome, score: int(x.Score)}
	for _, r := range x.Rules {
		for _, is := range []struct {
			holds bool
			of    *[]string
		}{{r.Fired, &d.hits}, {r.Truth == Unknown && r.Missing == "", &d.errors}, {r.Snoozed, &d.snoozed}, {r.Braked, &d.braked}, {r.Charged, &d.charged}} {
			if is.holds {
				*is.of = append(*is.of, r.ID)
			}
		}
	}
	return d
}

// FuzzExplain: any bytes in the place of a trace are explained or refused.
func FuzzExplain(f *testing.F) {
	rs, err := Load("default.yaml", packs.Default())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(traceOf(rs, paymentBy("c1")))
	f.Add([]byte{traceVersion, 14, 0, 0, 0, 0, 1, 200, 1})
	f.Fuzz(func(t *testing.T, trace []byte) {
		if x, err := Explain(rs, paymentBy("c1"), trace); (x == nil) == (err == nil) {
			t.Fatal(x, err)
		}
	})
}

// traceOf is the trace of an event on which every aggregate is known.
func traceOf(rs *Ruleset, e *events.Event) []byte {
	source := make(given, len(rs.Aggregates))
	for i := range source {
		source[i] = Value{Decimal{123_45 + int64(i), 2}, true}
		switch rs.Aggregates[i].Func {
		case Count, Distinct, Cycle:
			source[i].Decimal = Int(int64(i + 1))
		case Since, Age:
			source[i].Decimal = Decimal{3_600_000 * int64(i+1), 3}
		}
	}
	f := rs.NewFrame()
	f.Reset(e, Context{Tier: "gold", Aggregates: source})
	rs.Evaluate(f)
	return f.Trace(nil)
}

// TestTraceOfTheDefaultPackIsSmall: what every payment stores beside its verdict.
func TestTraceOfTheDefaultPackIsSmall(t *testing.T) {
	t.Parallel()
	rs, err := Load("default.yaml", packs.Default())
	if err != nil {
		t.Fatal(err)
	}
	const most = 100 // bytes
	e := paymentBy("c1")
	e.DeviceID, e.Country, e.Method, e.Purpose = "d1", "CN", 2, 2
	if n := len(traceOf(rs, e)); n > most {
		t.Errorf("%d bytes, more than %d", n, most)
	} else {
		t.Logf("%d bytes", n)
	}
}

// TestExplainOfAnAuthorization says what the ruleset does with it: the verdict where it has rules for it, observed where it has none.
func TestExplainOfAnAuthorization(t *testing.T) {
	t.Parallel()
	for on, want := range map[string]string{"[payment.initiated, payment.authorized]": "no rule fires: approve", "[payment.initiated]": "payment.authorized wants no verdict: observed"} {
		rs, err := Load("f.yaml", []byte("ruleset: f\nversion: 1\nrules:\n  - {id: large, on: "+on+", when: payment.amount > 100000, then: {verdict: decline, reason: R, say: s}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		e := paymentBy("c1")
		e.Kind = events.PaymentAuthorized
		f := rs.NewFrame()
		f.Reset(e, Context{})
		o := rs.Evaluate(f)
		x, err := Explain(rs, e, f.Trace(nil))
		if err != nil {
			t.Fatal(err)
		}
		if len(x.Path) != 1 || x.Path[0] != want || x.Outcome != o.Verdict.String() {
			t.Errorf("%s, on %s: %v", o.Verdict, on, x.Path)
		}
	}
}

// TestExplainReadsWell holds one explanation word for word.
func TestExplainReadsWell(t *testing.T) {
	t.Parallel()
	rs, err := Load("f.yaml", []byte(`ruleset: f
version: 7
conversion: {to: CNY, as_of: 2026-11-01, rates: {USD: 7.1}}
aggregates:
  tries: {count: payment, by: card, window: 10m}
  usual: {avg: payment.amount, of: payment, by: customer, window: 1h}
rules:
  - id: small
    when: payment.amount < 50 && (tries >= 5 || !device.known) && payment.amount > usual
    missing: review
    then: {score: 60, reason: R1, say: many small payments}
    brake: {share: 0.05, window: 1h, after: 10}
  - id: watched
    when: listed("watch", payment.card) && converted(payment.amount) > 100 && known(usual)
    then: {score: 40, reason: R2, say: a watched card}
  - id: friend
    when: customer.tier == "gold" && similarity("friends", customer.name) >= 0.9
    then: {verdict: approve, reason: R3, say: a friend}
reasons:
  R1: {customer: {en: Please call us., zh: 请致电。}, analyst: {en: Card testing., zh: 疑似盗刷测试。}}
outcomes: {review: 50, decline: 80}
`))
	if err != nil {
		t.Fatal(err)
	}
	e := paymentBy("c1")
	e.CustomerName = "Li Wei"
	f := rs.NewFrame()
	f.Reset(e, Context{Tier: "gold", Aggregates: given{{Int(7), true}, {}}, Lists: watched{}})
	rs.Evaluate(f)
	x, err := Explain(rs, e, f.Trace(nil))
	if err != nil {
		t.Fatal(err)
	}
	const want = `review by f@7 on payment.initiated, score 0
  small cannot be answered, something it reads is unknown: missing: review
  small gives at least review
  verdict: review
  payment.card "4711" is not on the list watch
  customer.name "Li Wei" is alike by 0.42 to a name on the list friends

small (line 8) fires, +0
  R1: many small payments
  to the customer (en): Please call us.
  to the customer (zh): 请致电。
  true     payment.amount < 50   (payment.amount = 12.34 CNY)
  true     tries >= 5   (tries = 7)
  -        device.known
  unknown  payment.amount > usual   (payment.amount = 12.34 CNY, usual = unknown)

watched (line 13) does not fire
  false    listed("watch", payment.card)   (payment.card = "4711")
  -        converted(payment.amount) > 100
  -        known(usual)

friend (line 16) does not fire
  true     customer.tier == "gold"   (customer.tier = "gold")
  false    similarity("friends", customer.name) >= 0.9   (customer.name = "Li Wei")
`
	if got := x.String(); got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}

// An authorization wants a verdict of rulesets that have rules for it; others observe it. What is the house's own is observed by
// all.
func TestAuthorizationsAreAskedAbout(t *testing.T) {
	t.Parallel()
	for on, want := range map[string]events.Verdict{
		"payment.authorized":                      events.Decline,
		"[payment.initiated, payment.authorized]": events.Decline,
		"payment.initiated":                       events.Observed,
	} {
		rs, err := Load("a.yaml", []byte(file("rules:\n  - {id: large, on: "+on+", when: payment.amount > 5, then: {verdict: decline, reason: R1, say: large}}\noutcomes: {review: 50, decline: 80}\n")))
		if err != nil {
			t.Fatal(err)
		}
		f := rs.NewFrame()
		e := events.Event{Kind: events.PaymentAuthorized, PaymentID: "p", CustomerID: "c", Amount: 1000, Currency: events.MustCurrency("CNY")}
		f.Reset(&e, Context{})
		if got := rs.Evaluate(f).Verdict; got != want {
			t.Errorf("on: %s: %s, want %s", on, got, want)
		}
		e.Kind, e.Purpose = events.PaymentInitiated, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE
		f.Reset(&e, Context{})
		if got := rs.Evaluate(f).Verdict; got != events.Observed {
			t.Errorf("a reserve, on: %s: %s", on, got)
		}
	}
}
