package rules

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sluice/rules/packs"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// checked is a ruleset whose one rule has the condition given, on line 7 from column 11, and reads every aggregate beside.
func checked(when string, more ...string) string {
	return "ruleset: test\nversion: 1\nrules:\n  - id: a\n    on: payment.initiated\n    # the condition\n    when: " + when + "\n" +
		strings.Join(more, "") + "    then: {verdict: review, reason: R1, say: something}\n"
}

const aggregatesOfChecks = `aggregates:
  tries: {count: payment.initiated, by: card, window: 10m}
  mine: {count: payment.initiated, by: customer, window: 10m}
  usual: {avg: payment.amount, of: payment.initiated, by: customer, window: 1h}
  bought: {avg: payment.amount, of: payment.initiated, where: payment.purpose == "purchase", by: customer, window: 1h}
  changed: {since: behavior.password_changed, by: customer, window: 1h}
  old: {count: payment.initiated, by: customer, window: 7d, delay: 7d}
`

// useAll makes the other aggregates used.
const useAll = `  - id: uses
    when: known(tries) && known(mine) && known(usual) && known(bought) && known(changed) && known(old)
    then: {verdict: review, reason: R1, say: something}
`

// modelOf is a model of one feature that may not be missing.
func modelOf(feature string) string {
	return "models:\n  pd:\n    kind: logistic\n    features: {f: '" + feature + "'}\n    model: '{\"kind\": \"logistic\", \"intercept\": 0, \"features\": [{\"name\": \"f\", \"coefficient\": 1}]}'\n"
}

func TestCheckRefusesWithPlaceAndRemedy(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("(a|b)*", 60)
	then := ", then: {score: 50, reason: R1, say: s}}\n"
	for _, c := range []struct{ name, text, want string }{
		{"a constant out of reach", checked("event.hour > 23"), "rules.yaml:7:11: when: the rule a can never fire: on payment.initiated event.hour > 23 never holds; correct it"},
		{"two parts exclude each other", checked("payment.amount < 50 && device.known && payment.amount >= 50"),
			"rules.yaml:7:50: when: the rule a can never fire: payment.amount >= 50 excludes payment.amount < 50; correct one of them"},
		{"no whole number between", checked("event.hour > 3 && event.hour < 4"), "excludes event.hour > 3"},
		{"two words at once", checked(`payment.purpose == "transfer" && payment.purpose == "purchase"`), "excludes"},
		{"a word and none", checked(`payment.card == "" && payment.card.startsWith("4")`), "excludes"},
		{"known and unknown", checked("device.known && device.id == ''"), "excludes device.known"},
		{"three parts exclude each other", checked("(payment.amount < 5 || payment.amount > 10) && payment.amount >= 5 && payment.amount <= 10"), "its parts exclude each other"},
		{"another kind", checked(`payment.status == "failed"`), "never holds"},
		{"a literal", checked("false"), "on payment.initiated false never holds"},
		{"denied itself", checked("'!(payment.amount > 5 || payment.amount <= 5)'"), "can never fire"},
		{"a comparison and its opposite", checked("payment.amount > usual && usual >= payment.amount") + useAll + aggregatesOfChecks, "excludes"},
		{"a count below what the event makes it", checked("mine < 1") + useAll + aggregatesOfChecks, "mine < 1 never holds"},
		{"a span beyond the window", checked(`known(changed) && changed > duration("10h")`) + useAll + aggregatesOfChecks, "changed > duration(\"10h\") never holds"},
		{"a list of no name", checked(`payment.counterparty_name == "" && similarity("sanctions", payment.counterparty_name) > 0.5`), "excludes"},
		{"similar beyond all", checked(`similarity("sanctions", customer.name) > 1`), "never holds"},
		{"missing data", checked("tries >= 3") + useAll + aggregatesOfChecks, "rules.yaml:7:11: when: tries can be unknown; write missing: skip, missing: fire or missing: review under it, or guard it with known(…)"},
		{"missing data of one side", checked(`payment.purpose != "transfer" && bought > 5`) + useAll + aggregatesOfChecks, "bought can be unknown"},
		{"division by what can be zero", checked("payment.amount / 2 > 3 && ratio(mine, old) > 2") + useAll + aggregatesOfChecks, "old can be zero"},
		{"no rate", "conversion: {to: CNY, as_of: 2026-11-01, rates: {USD: 7.1}}\n" + checked("converted(payment.amount) > 5"), "the rate of the event's currency can be unknown"},
		{"verdict on what wants none", file("rules:\n  - id: a\n    on: payment.failed\n    when: payment.amount > 5\n    then: {verdict: review, reason: R, say: s}\n"), "rules.yaml:5:5: on: payment.failed wants no verdict"},
		{"score without outcomes", file("rules:\n  - {id: a, when: payment.amount > 5" + then), "rules.yaml:4:5: the rule a adds a score, but outcomes: say nothing"},
		{"costly expression", checked(`device.id.matches("` + long + `")`), "rules.yaml:7:11: when: it can cost"},
		{"same condition", file("rules:\n  - {id: a, when: payment.amount > 5" + then + "  - {id: b, when: payment.amount  >  5" + then + "outcomes: {review: 50}\n"),
			"rules.yaml:5:19: when: the rule a on line 4 has the same condition"},
		{"unused aggregate", file("aggregates:\n  n: {count: payment, by: card, window: 1h}\n"), "rules.yaml:4:3: no rule reads the aggregate n"},
		{"same aggregate", checked("n + m > 5", "    missing: skip\n") + "aggregates:\n  n: {count: payment, by: card, window: 1h}\n  m: {count: payment, by: card, window: 60m}\n", "rules.yaml:12:3: m is the same as n; keep one of them"},
		{"filter that never holds", checked("n > 5", "    missing: skip\n") + "aggregates:\n  n: {count: payment.failed, where: 'payment.amount < 0', by: card, window: 1h}\n", "n never counts anything: where: never holds"},
		{"reason without words", checked("payment.amount > 5") + "reasons:\n  R2: {customer: {en: a, zh: b}, analyst: {en: a, zh: b}}\n", "rules.yaml:8:37: reason: R1 has no words under reasons:; did you mean R2?"},
		{"words without a reason", checked("payment.amount > 5") + "reasons:\n  R2: {customer: {en: a, zh: b}, analyst: {en: a, zh: b}}\n", "rules.yaml:10:3: no rule or model gives the reason R2"},
		{"decline never reached", file("rules:\n  - {id: a, when: payment.amount > 5" + then + "outcomes: {review: 50, decline: 80}\n"), "rules.yaml:5:24: decline at 80 is never reached: the scores of all rules come to at most 50"},
		{"decline never reached by loans", file("rules:\n  - {id: a, when: payment.amount > 5" + then + "outcomes: {payment: {review: 50}, loan: {decline: 80}}\n"), "decline at 80 is never reached: the scores of loan rules come to at most 0"},
		{"a model's missing feature", checked("pd > 0.5") + useAll + aggregatesOfChecks + modelOf("payment.amount / bought"), "when: bought can be unknown"},
		{"a model that no rule asks", checked("payment.amount > 5") + modelOf("payment.amount"), "rules.yaml:10:1: no rule reads the model pd"},
		{"a probability beyond one", checked("known(pd) && pd > 1") + modelOf("payment.amount"), "pd > 1 never holds"},
		{"rates for nothing", checked("payment.amount > 5") + "conversion: {to: CNY, as_of: 2026-11-01, rates: {USD: 7.1}}\n", "rules.yaml:9:1: conversion: no condition calls converted()"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rs, err := Check("rules.yaml", []byte(c.text))
			var mistakes Mistakes
			if rs != nil || !errors.As(err, &mistakes) {
				t.Fatalf("got %v, %v; want mistakes", rs, err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got\n%v\nwant\n%s", err, c.want)
			}
			if _, err := Load("rules.yaml", []byte(c.text)); err != nil {
				t.Fatalf("what is in use is not refused: %v", err)
			}
		})
	}
}

func TestCheckLetsThrough(t *testing.T) {
	t.Parallel()
	for _, when := range []string{
		"payment.amount >= 50 && payment.amount <= 50", "event.hour > 22 || event.hour < 1", "known(tries) && tries >= 3", "device.known || ip.known",
		`payment.card != "" && tries >= 3`, "payment.amount >= 3 * usual", `payment.purpose == "purchase" && bought > 5`, "known(changed)",
		`known(changed) && changed < duration("30m")`, "old > 0 && ratio(mine, old) > 2", "mine >= 1", `'!known(tries) || tries > 1'`,
		`payment.method in ["card", "wallet"] && payment.method != "card"`, `payment.card.startsWith("4") && payment.card != "4"`,
		`'(known(changed) ? changed < duration("1m") : payment.amount > 5)'`, "payment.amount - usual > 5", "payment.amount / payment.amount == 1",
		`payment.purpose == "transfer" && payment.counterparty > "m"`, `listed("friends", payment.counterparty)`, `similarity("sanctions", customer.name) >= 0.9`,
	} {
		if _, err := Check("rules.yaml", []byte(checked(when)+useAll+aggregatesOfChecks)); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	for _, feature := range []string{"payment.amount", "payment.amount / mine", "payment.amount / usual", "event.hour < 6 ? 1 : 2"} {
		if _, err := Check("rules.yaml", []byte(checked("pd > 0.5")+useAll+aggregatesOfChecks+modelOf(feature))); err != nil {
			t.Errorf("%s: %v", feature, err)
		}
	}
	for name, source := range map[string][]byte{"fraud": packs.Fraud, "credit": packs.Credit, "empty": packs.Empty, "aml": packs.AML,
		"sanctions": packs.Sanctions, "compliance": packs.Compliance, "default": packs.Default()} {
		if _, err := Check(name+".yaml", source); err != nil {
			t.Error(err)
		}
	}
}

// TestCheckMissesNoTruth: whatever a condition comes to on an event as package events lets it through, the check has found
// possible. What does not fit its type is left out: it is beyond what events can say.
func TestCheckMissesNoTruth(t *testing.T) {
	t.Parallel()
	rs := languageScope(t)
	rapid.Check(t, func(t *rapid.T) {
		text := expressions{t}.truth(2)
		c, mistakes := rs.scope.compile(text)
		if mistakes != nil {
			t.Fatal(text, mistakes)
		}
		set, _ := rs.scope.can(c.tree(), c.tree().Expr(), events.PaymentInitiated, rs.Aggregates, c.reads, rs.Conversion)
		for range 8 {
			f := drawLawful(t, rs)
			got := c.Eval(f)
			if got == Unknown && !set.has(Unknown) && overflows(t, rs, c, f) {
				continue
			}
			if !set.has(got) {
				t.Fatalf("%s\n%+v\n%+v\ncomes to %d, which is not in %03b", text, *f.event, f.source, got, set)
			}
		}
	})
}

func overflows(t *rapid.T, rs *Ruleset, c *Condition, f *Frame) bool {
	program, err := rs.scope.env.Program(c.checked)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = program.Eval(&f.activation)
	return err != nil && (strings.Contains(err.Error(), "does not fit") || strings.Contains(err.Error(), "overflow") || strings.Contains(err.Error(), "no number"))
}

// drawLawful draws a frame that keeps to what package events and the aggregates promise.
func drawLawful(t *rapid.T, rs *Ruleset) *Frame {
	f := drawFrame(t, rs)
	e := f.event
	e.Amount = rapid.SampledFrom([]int64{1, 499, 500, 501, 1250, events.MaxAmount}).Draw(t, "amount")
	e.ID, e.Source, e.PaymentID = "1", "s", "p1"
	e.Method = eventsv1.PaymentMethod(rapid.IntRange(1, 4).Draw(t, "method"))
	e.Purpose = eventsv1.PaymentPurpose(rapid.IntRange(1, 4).Draw(t, "purpose"))
	if e.Purpose == eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE {
		e.MerchantID = "m1"
	}
	exponent := uint8(e.Currency.Exponent())
	perhaps := func(v Value) Value { return Value{v.Decimal, rapid.Bool().Draw(t, "known")} }
	amount := func(name string) Value {
		return Value{Decimal{rapid.Int64Range(1, 2000).Draw(t, name), exponent}, true}
	}
	source := given{
		{Int(rapid.Int64Range(1, 4).Draw(t, "tries")), e.CardToken != ""}, amount("spent"), amount("usual"),
		perhaps(Value{Decimal{rapid.SampledFrom([]int64{0, 600_000, 1500, 7_200_000}).Draw(t, "changed"), 3}, true}),
		perhaps(Value{Decimal{rapid.Int64Range(0, 2000).Draw(t, "spread"), exponent}, true}), perhaps(Value{Int(rapid.Int64Range(2, 4).Draw(t, "hops")), true}),
	}
	f.Reset(e, Context{Tier: f.tier, Aggregates: source, Lists: f.lists})
	return f
}
