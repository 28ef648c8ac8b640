package rules

import (
	"fmt"
	"strings"
	"testing"

	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// largeRuleset has 100 rules over 40 aggregates, shaped like the shipped packs: most rules look at the kind of payment and
// its amount before they read an aggregate, and groups of five rules share how they begin.
func largeRuleset() string {
	var aggregates, rules strings.Builder
	for i := range 40 {
		by := []string{"card", "customer", "device", "merchant"}[i%4]
		what := []string{"count: payment.initiated", "sum: payment.amount, of: payment.initiated", "avg: payment.amount, of: payment.initiated", "distinct: customer, of: payment.initiated"}[i/10]
		fmt.Fprintf(&aggregates, "  a%d: {%s, by: %s, window: %dm}\n", i, what, by, i+1)
	}
	shared := []string{
		`payment.purpose in ["transfer", "withdrawal"] && payment.amount >= 500 && device.known`, `payment.method == "card" && payment.amount < 2 * a25`,
		`a20 > 0 && payment.amount / a20 > 0.7`, `(event.hour >= 22 || event.hour < 6) && payment.amount >= 1000`,
		`listed("watch", payment.card) || listed("watch", device.id)`,
	}
	for i := range 100 {
		when := fmt.Sprintf("a%d >= %d", i%10, 1+i%7)
		switch i % 10 {
		case 0, 1, 2, 3, 4:
			when = fmt.Sprintf("%s && %s && payment.amount > %d", shared[i/5%5], when, 10+i)
		case 5:
			when += fmt.Sprintf(" && payment.amount >= 3 * a%d", 20+i%10)
		case 6:
			when += fmt.Sprintf(" && a%d >= %d && payment.purpose != \"top_up\"", 10+i/10, 100*i)
		case 7:
			when += fmt.Sprintf(" && device.known && a%d >= 3 && location.country != \"CN\"", 30+i/10)
		}
		fmt.Fprintf(&rules, "  - {id: r%d, when: '%s', missing: skip, then: {score: %d, reason: R%d, say: s}}\n", i, when, 1+i%30, i)
	}
	return "ruleset: large\nversion: 1\naggregates:\n" + aggregates.String() + "rules:\n" + rules.String() + "outcomes: {review: 500, decline: 800}\n"
}

// largeFrame is an ordinary payment with all its aggregates given.
func largeFrame(tb testing.TB, rs *Ruleset) *Frame {
	source := make(given, len(rs.Aggregates))
	for i := range source {
		source[i] = Value{Decimal{int64(100_00 + i), 2}, true}
		if f := rs.Aggregates[i].Func; f == Count || f == Distinct {
			source[i].Decimal = Int(int64(1 + i%3))
		}
	}
	e := paymentBy("c1")
	e.DeviceID, e.MerchantID, e.Country = "d1", "m1", "CN"
	e.Method, e.Purpose = eventsv1.PaymentMethod_PAYMENT_METHOD_CARD, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER
	e.Amount = 1_234_56
	f := rs.NewFrame()
	f.Reset(e, Context{Tier: "gold", Aggregates: source, Lists: watched{}})
	return f
}

// BenchmarkEvaluate asks 100 rules over 40 aggregates, conditions alone, with sub-conditions that rules share answered once
// and answered in each rule.
func BenchmarkEvaluate(b *testing.B) {
	for _, way := range []string{"shared", "each"} {
		b.Run(way, func(b *testing.B) {
			rs, err := load("large.yaml", []byte(largeRuleset()), func(l *loader) { l.alone = way == "each" })
			if err != nil {
				b.Fatal(err)
			}
			f := largeFrame(b, rs)
			e, c := f.event, Context{Tier: f.tier, Aggregates: f.source, Lists: nil}
			b.ReportAllocs()
			for b.Loop() {
				f.Reset(e, c)
				rs.Evaluate(f)
			}
		})
	}
}

// BenchmarkTrace writes what one of these decisions read.
func BenchmarkTrace(b *testing.B) {
	rs, err := Load("large.yaml", []byte(largeRuleset()))
	if err != nil {
		b.Fatal(err)
	}
	f := largeFrame(b, rs)
	rs.Evaluate(f)
	out := f.Trace(nil)
	b.ReportAllocs()
	for b.Loop() {
		out = f.Trace(out[:0])
	}
	b.ReportMetric(float64(len(out)), "bytes")
}

var _ = events.Approve
