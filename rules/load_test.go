package rules

import (
	"errors"
	"os"
	"strings"
	"testing"

	"sluice/rules/packs"
	"sluice/schemas/events"
)

// file wraps what a case is about into a ruleset. Its first line is line 3 of the file.
func file(part string) string { return "ruleset: test\nversion: 1\n" + part }

// ruleWhen is a ruleset of one rule, whose condition is on line 5, from column 11.
func ruleWhen(when string) string {
	return file("rules:\n  - id: a\n    when: " + when + "\n    then: {score: 10, reason: R1, say: something}\n")
}

// withAggregate is a ruleset of one aggregate, on line 4.
func withAggregate(a string) string { return file("aggregates:\n  a: " + a + "\n") }

func TestLoadRefusesWithPlaceAndRemedy(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, text, want string }{
		{"nothing", "", "rules.yaml: the file is empty; a ruleset starts with ruleset: and version:"},
		{"no mapping", "- a\n", "rules.yaml:1:1: a ruleset is a mapping"},
		{"no YAML", "ruleset: [\n", "not YAML"},
		{"two documents", "ruleset: a\n---\nruleset: b\n", "2 YAML documents"},
		{"no name", "version: 1\n", "no name; write ruleset: fraud"},
		{"no version", "ruleset: a\n", "no version; write version: 1"},
		{"bad name", "ruleset: Ä\nversion: 1\n", "rules.yaml:1:10: ruleset: \"Ä\" is no name"},
		{"bad version", "ruleset: a\nversion: 0\n", "rules.yaml:2:10: version is a whole number"},
		{"misspelt section", file("agregates: {}\n"), `rules.yaml:3:1: a ruleset has no "agregates"; did you mean aggregates?`},
		{"section twice", file("rules: []\nrules: []\n"), "rules.yaml:4:1"},
		{"misspelt variable", ruleWhen("payment.amout < 20"), `rules.yaml:5:11: when: unknown name "payment.amout"; did you mean payment.amount?`},
		{"misspelt aggregate", file("aggregates:\n  tries: {count: payment, by: card, window: 10m}\nrules:\n  - id: a\n    when: payment.amount < 20 && tires > 3\n    then: {score: 1, reason: R, say: s}\n"),
			`rules.yaml:7:34: when: unknown name "tires"; did you mean tries?`},
		{"misspelt in a quoted condition", ruleWhen(`"device.knwon"`), `rules.yaml:5:12: when: unknown name "device.knwon"; did you mean device.known?`},
		{"misspelt in a block", ruleWhen("|\n      payment.amount > 1 &&\n        devise.known"), `rules.yaml:7:9: when: unknown name "devise.known"; did you mean device.known?`},
		{"misspelt in known()", ruleWhen("known(payment.amoun)"), "did you mean payment.amount?"},
		{"known() of an expression", ruleWhen("known(1 + 2)"), "takes the name of a variable"},
		{"has()", ruleWhen("has(device.id)"), "write known(loan.age) or device.known"},
		{"no truth", ruleWhen("payment.amount"), "the condition is a money; it must be true or false"},
		{"words as money", ruleWhen(`payment.amount > "5"`), "rules.yaml:5:26: when: > cannot be used on (money, string); a number is written without quotes: payment.amount > 200"},
		{"and", ruleWhen("payment.amount > 5 and event.hour > 3"), `rules.yaml:5:30: when: write && for "and"`},
		{"OR", ruleWhen("payment.amount > 5 OR event.hour > 3"), `write || for "or"`},
		{"one ampersand", ruleWhen("payment.amount > 5 & device.known"), `write && for "and"`},
		{"not", ruleWhen("not device.known"), "write ! for \"not\""},
		{"one equals sign", ruleWhen(`payment.purpose = "purchase"`), "rules.yaml:5:27: when: write == to compare"},
		{"at most, turned round", ruleWhen("payment.amount =< 5"), "write <= for at most"},
		{"unlike in SQL", ruleWhen(`payment.purpose <> "purchase"`), "write != for unlike"},
		{"commas in a number", ruleWhen("payment.amount >= 5,000"), "numbers have no commas: write 5000"},
		{"a bare time span", ruleWhen("payment.amount > 24h"), `a time span is written duration("24h")`},
		{"a bare word", ruleWhen("payment.purpose == purchase"), `unknown name "purchase"; a text stands in double quotes`},
		{"amount on the right", ruleWhen("5 == payment.amount"), "write the amount on the left"},
		{"money and rate", ruleWhen("payment.amount > ratio(1, 2)"), "cannot be used on (money, decimal)"},
		{"whole division", ruleWhen("event.hour / 2 > 3"), "write ratio(a, b)"},
		{"number as time span", file("aggregates:\n  p: {since: behavior.signed_in, by: customer, window: 1h}\nrules:\n  - id: a\n    when: p < 30\n    then: {score: 1, reason: R, say: s}\n"),
			`a time span is written duration("30m")`},
		{"no such word", ruleWhen(`payment.method == "crad"`), `rules.yaml:5:29: when: payment.method is never "crad"; did you mean card?`},
		{"no such word in a list", ruleWhen(`payment.purpose in ["transfer", "gift"]`), `payment.purpose is never "gift"`},
		{"regular expression", ruleWhen(`device.id.matches("(")`), "rules.yaml:5:"},
		{"syntax", ruleWhen("payment.amount > "), "when:"},
		{"number too long", ruleWhen("payment.amount > 0.12345678901234567"), "more than 15 digits"},
		{"variable of another kind", ruleWhen("loan.age < 18"), "loan.age is never known on payment.initiated"},
		{"unquoted !", ruleWhen("!device.known"), "put the text in single quotes"},
		{"no then", file("rules:\n  - id: a\n    when: 'true'\n"), "a rule has id:, when: and then:"},
		{"no effect", file("rules:\n  - id: a\n    when: 'true'\n    then: {reason: R, say: s}\n"), "needs score: or verdict:"},
		{"no reason", file("rules:\n  - id: a\n    when: 'true'\n    then: {score: 1, say: s}\n"), "needs reason:"},
		{"bad verdict", file("rules:\n  - id: a\n    when: 'true'\n    then: {verdict: refuse, reason: R, say: s}\n"), `verdict: "refuse" is not understood; it is one of approve, decline, review`},
		{"bad kind", file("rules:\n  - id: a\n    on: payments\n    when: 'true'\n    then: {score: 1, reason: R, say: s}\n"), `"payments" is no kind of event; did you mean payment?`},
		{"rule twice", file("rules:\n  - {id: a, when: 'true', then: {score: 1, reason: R, say: s}}\n  - {id: a, when: 'true', then: {score: 1, reason: R, say: s}}\n"), "rules.yaml:5:5: the rule a is there twice, first on line 4"},
		{"window", withAggregate("{count: payment, by: card, window: 10s}"), `"10s" is no length of time; write 10m, 24h or 30d`},
		{"window too long", withAggregate("{count: payment, by: card, window: 31d}"), "longer than 30d"},
		{"key", withAggregate("{count: payment, by: crad, window: 1h}"), `"crad" is no field; did you mean card?`},
		{"pair of three", withAggregate("{count: payment, by: [card, merchant, device], window: 1h}"), "one field or a pair"},
		{"two functions", withAggregate("{count: payment, sum: payment.amount, by: card, window: 1h}"), "a is one of count, sum"},
		{"no window", withAggregate("{count: payment, by: card}"), "needs what it computes"},
		{"no events", withAggregate("{sum: payment.amount, by: card, window: 1h}"), "say of which events"},
		{"no amount", withAggregate("{sum: amount, of: payment, by: card, window: 1h}"), `"amount" is no amount`},
		{"nothing to count", withAggregate("{count: behavior, by: card, window: 1h}"), "never counts anything"},
		{"filter on tier", withAggregate(`{count: payment, where: customer.tier == "gold", by: card, window: 1h}`), "customer.tier changes with time"},
		{"filter of another kind", withAggregate("{count: behavior, where: payment.amount > 5, by: customer, window: 1h}"), "payment.amount is never known on behavior.registered"},
		{"private read for another", withAggregate("{count: payment, by: customer, for: counterparty, window: 1h}"), "can only be read for the customer"},
		{"reserved name", file("aggregates:\n  payment: {count: payment, by: card, window: 1h}\n"), "cannot name an aggregate"},
		{"no list", ruleWhen("listed(watch, payment.card)"), "lists are asked by name: write listed(\"watch-cards\", payment.card)"},
		{"list of a bad name", ruleWhen(`listed("Watch", payment.card)`), "a name has small letters"},
		{"list of snoozes", ruleWhen(`listed("snooze", payment.card)`), "no condition asks it"},
		{"list about a literal", ruleWhen(`listed("watch", "4711")`), "lists are asked about a variable"},
		{"list about a number", ruleWhen(`listed("watch", payment.amount)`), "listed() takes a list and a text"},
		{"list about a misspelt variable", ruleWhen(`listed("watch", payment.crad)`), `unknown name "payment.crad"; did you mean payment.card?`},
		{"similar to a misspelt variable", ruleWhen(`similarity("watch", customer.nane) > 0.5`), `did you mean customer.name?`},
		{"list in a filter", withAggregate(`{count: payment, where: 'listed("watch", payment.card)', by: card, window: 1h}`), "lists change with time, what was counted does not"},
		{"no rates", ruleWhen("converted(payment.amount) > 5"), "converted() needs rates; write conversion:"},
		{"conversion of a number", file("conversion: {to: CNY, as_of: 2026-11-01, rates: {USD: 7}}\nrules:\n  - id: a\n    when: converted(5) > 5\n    then: {score: 10, reason: R1, say: s}\n"), "converted() takes an amount"},
		{"converted twice", file("conversion: {to: CNY, as_of: 2026-11-01, rates: {USD: 7}}\nrules:\n  - id: a\n    when: converted(converted(payment.amount)) > 5\n    then: {score: 10, reason: R1, say: s}\n"), "rules.yaml:6:30: when: it is converted already"},
		{"converted and not", file("conversion: {to: CNY, as_of: 2026-11-01, rates: {USD: 7}}\nrules:\n  - id: a\n    when: converted(payment.amount) > 3 * payment.amount\n    then: {score: 10, reason: R1, say: s}\n"), "one side is converted, the other is in the event's currency"},
		{"conversion without a day", file("conversion: {to: CNY, rates: {USD: 7}}\n"), "rules.yaml:3:13: conversion: needs to: (a currency), as_of:"},
		{"conversion on no day", file("conversion: {to: CNY, as_of: yesterday, rates: {USD: 7}}\n"), `"yesterday" is no day; write it as 2026-11-01`},
		{"conversion to itself", file("conversion: {to: CNY, as_of: 2026-11-01, rates: {CNY: 7}}\n"), "CNY is what everything is converted to"},
		{"no currency", file("conversion: {to: yuan, as_of: 2026-11-01, rates: {USD: 7}}\n"), `"yuan" is no ISO 4217 currency`},
		{"rate of zero", file("conversion: {to: CNY, as_of: 2026-11-01, rates: {USD: 0}}\n"), "a rate is greater than zero"},
		{"rate of too many digits", file("conversion: {to: CNY, as_of: 2026-11-01, rates: {USD: 7.1234567891}}\n"), "more than 9 digits; round it"},
		{"rate that is no number", file("conversion: {to: CNY, as_of: 2026-11-01, rates: {USD: 7e3}}\n"), `"7e3" is no plain number`},
		{"bad missing", file("rules:\n  - id: a\n    when: 'true'\n    missing: ignore\n    then: {score: 1, reason: R, say: s}\n"), `rules.yaml:6:14: missing: "ignore" is not understood; it is one of fire, review, skip`},
		{"bad block", file("rules:\n  - id: a\n    when: 'true'\n    then: {score: 1, block: finall, reason: R, say: s}\n"), "did you mean final?"},
		{"block of nothing", file("rules:\n  - id: a\n    when: 'true'\n    then: {score: 1, block: final, reason: R, say: s}\n"), "block: final makes a verdict final"},
		{"half a brake", file("rules:\n  - id: a\n    when: 'true'\n    then: {score: 1, reason: R, say: s}\n    brake: {share: 0.05}\n"), "brake: needs share:, window: and after:"},
		{"brake of all", file("rules:\n  - id: a\n    when: 'true'\n    then: {score: 1, reason: R, say: s}\n    brake: {share: 1, window: 1h, after: 5}\n"), "more than 0 and less than 1"},
		{"brake of an approval", file("rules:\n  - id: a\n    when: 'true'\n    then: {verdict: approve, reason: R, say: s}\n    brake: {share: 0.1, window: 1h, after: 5}\n"), "the rule cannot cause a decline"},
		{"one language", file("reasons:\n  R1: {customer: {en: a}, analyst: {en: a, zh: b}}\n"), "rules.yaml:4:8: customer: has no zh; both languages are needed"},
		{"one reader", file("reasons:\n  R1: {customer: {en: a, zh: b}}\n"), "reason R1 needs customer: and analyst:"},
		{"another language", file("reasons:\n  R1: {customer: {en: a, zh: b, fr: c}, analyst: {en: a, zh: b}}\n"), `customer has no "fr"`},
		{"too many hops", withAggregate("{cycle: payment, window: 1h, hops: 7}"), "hops is a whole number from 2 to 6"},
		{"hops of a count", withAggregate("{count: payment, by: card, window: 1h, hops: 3}"), "hops: is for cycle; leave it out"},
		{"cycle by another", withAggregate("{cycle: payment, by: card, window: 1h}"), "a cycle is kept by counterparty"},
		{"cycle for another", withAggregate("{cycle: payment, for: card, window: 1h}"), "a cycle is read for the customer"},
		{"delay of since", withAggregate("{since: payment, by: card, window: 1h, delay: 1h}"), "since looks at the newest events; leave delay: out"},
		{"delay too long", withAggregate("{count: payment, by: card, window: 20d, delay: 11d}"), "looks back more than 30d"},
		{"outcomes", file("outcomes: {review: 80, decline: 50}\n"), "review at 80 is never reached"},
		{"mixed outcomes", file("outcomes: {review: 80, loan: {decline: 50}}\n"), "review stands beside payment or loan"},
		{"deep", file("rules: " + strings.Repeat("[", 100) + "\n"), "nested more than 64 deep"},
		{"large", strings.Repeat("# comment\n", MaxSourceBytes), "a ruleset has at most"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rs, err := Load("rules.yaml", []byte(c.text))
			var mistakes Mistakes
			if rs != nil || !errors.As(err, &mistakes) {
				t.Fatalf("got %v, %v; want mistakes", rs, err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got\n%v\nwant\n%s", err, c.want)
			}
		})
	}
}

func TestLoadNamesEveryMistakeInOrder(t *testing.T) {
	t.Parallel()
	_, err := Load("f.yaml", []byte("ruleset: a\nversion: x\nrules:\n  - id: a\n    when: payment.amout > 1 && devise.known\n    then: {scoer: 1}\n"))
	var places []string
	for line := range strings.Lines(err.Error()) {
		places = append(places, strings.SplitN(line, ": ", 2)[0])
	}
	want := "f.yaml:2:10 f.yaml:5:11 f.yaml:5:32 f.yaml:6:11 f.yaml:6:11 f.yaml:6:12"
	if got := strings.Join(places, " "); got != want {
		t.Fatalf("got  %s\nwant %s\n%v", got, want, err)
	}
}

func TestPacksLoadLoweredWithEachAggregateRead(t *testing.T) {
	t.Parallel()
	for name, source := range map[string][]byte{"fraud": packs.Fraud, "credit": packs.Credit, "empty": packs.Empty, "aml": packs.AML,
		"sanctions": packs.Sanctions, "compliance": packs.Compliance, "default": packs.Default()} {
		rs, err := Load(name+".yaml", source)
		if err != nil {
			t.Fatal(err)
		}
		if rs.ID() != name+"@1" {
			t.Errorf("%s is called %s", name, rs.ID())
		}
		read := map[int]bool{}
		for _, r := range rs.Rules {
			if !r.When.Lowered {
				t.Errorf("%s: the condition of %s is not lowered", name, r.ID)
			}
			for _, i := range r.Reads {
				read[i] = true
			}
		}
		for i, a := range rs.Aggregates {
			if !read[i] {
				t.Errorf("%s: no rule reads %s", name, a.Name)
			}
		}
	}
}

func TestDefaultHasTheRulesOfBothPacks(t *testing.T) {
	t.Parallel()
	ids := func(source []byte) (all []string) {
		rs, err := Load("p.yaml", source)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs.Rules {
			all = append(all, r.ID)
		}
		return all
	}
	want := strings.Join(append(ids(packs.Fraud), ids(packs.Credit)...), " ")
	if got := strings.Join(ids(packs.Default()), " "); got != want {
		t.Fatalf("got %s\nwant %s", got, want)
	}
	rs, _ := Load("p.yaml", packs.Default())
	if rs.Outcomes[events.Payment] != (Thresholds{50, 80}) || rs.Outcomes[events.Loan] != (Thresholds{50, 80}) {
		t.Fatalf("outcomes %v", rs.Outcomes)
	}
}

func TestAggregateIDStandsForTheDefinitionAlone(t *testing.T) {
	t.Parallel()
	id := func(name, body string) uint32 {
		rs, err := Load("a.yaml", []byte(file("aggregates:\n  "+name+": {"+body+"}\n")))
		if err != nil {
			t.Fatal(err)
		}
		return rs.Aggregates[0].ID
	}
	base := id("a", `count: payment, where: payment.method == "card", by: card, window: 60m`)
	if id("b", `window: 1h, count: payment, by: card, where: 'payment.method  ==  "card"'`) != base {
		t.Error("the same definition under another name, in other words, has another ID")
	}
	for _, other := range []string{
		`count: payment, where: payment.method == "card", by: card, window: 60m, delay: 60m`,
		`count: payment, by: card, window: 60m`, `count: payment, where: payment.method == "wallet", by: card, window: 60m`,
		`count: payment, where: payment.method == "card", by: device, window: 60m`, `count: payment, where: payment.method == "card", by: card, window: 61m`,
		`count: payment.initiated, where: payment.method == "card", by: card, window: 60m`,
	} {
		if id("a", other) == base {
			t.Errorf("{%s} has the same ID", other)
		}
	}
}

// TestAggregateIDHoldsHopsAndRates: what else an aggregate's state depends on; and the numbers under which states are kept
// stay as they are.
func TestAggregateIDHoldsHopsAndRates(t *testing.T) {
	t.Parallel()
	id := func(head, body string) uint32 {
		rs, err := Load("a.yaml", []byte(file(head+"aggregates:\n  a: {"+body+"}\n")))
		if err != nil {
			t.Fatal(err)
		}
		return rs.Aggregates[0].ID
	}
	if id("", "cycle: payment, window: 1h, hops: 3") == id("", "cycle: payment, window: 1h") || id("", "cycle: payment, window: 1h, hops: 4") != id("", "cycle: payment, window: 1h") {
		t.Error("a cycle's ID does not stand for its hops, 4 where none are said")
	}
	conversion := "conversion: {to: CNY, as_of: 2026-11-01, rates: {USD: 7.1}}\n"
	converted := "count: payment, where: converted(payment.amount) > 5, by: card, window: 1h"
	if id(conversion, converted) == id(strings.Replace(conversion, "7.1", "7.2", 1), converted) {
		t.Error("other rates count into the same state")
	}
	plain := "count: payment, where: payment.amount > 5, by: card, window: 1h"
	if id(conversion, plain) != id("", plain) {
		t.Error("rates that a filter does not use change its state")
	}
	if got := id("", `count: payment, where: payment.method == "card", by: card, window: 60m`); got != 0xd2580eba {
		t.Errorf("the state of an aggregate that is in use is lost: its ID is %#x", got)
	}
}

// FuzzLoad: any bytes give a ruleset or mistakes with a message each, and a ruleset loads again to itself.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{"packs/fraud.yaml", "packs/credit.yaml", "packs/empty.yaml"} {
		source, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(source)
	}
	for _, s := range []string{
		"", "a", "- - - -", "? a", "&a [*a]", "!!binary x", "ruleset: {a: 1}\n", "rules: [{when: \"\\u0000\"}]", "\t", "a: |\n\n  x",
		ruleWhen("payment.amount > 5"), ruleWhen("|\n  known(payment.amount)"), withAggregate("{count: payment, by: [card, device], window: 5m}"),
		everyKey, ruleWhen(`listed("a", payment.card) || similarity("b", customer.name) > 0.5`), ruleWhen("ratio(event.hour, event.weekday) > 1 && payment.amount / payment.amount < 2"),
		ruleWhen(`payment.card.matches("a+") && 1.5 * payment.amount > 2`), file("outcomes: {review: 1}\n"),
		ruleWhen(`payment.card.matches("a+") && 1.5 * payment.amount > 2`), file("outcomes: {review: 1}\n"), withModel,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if checked, err := Check("fuzz.yaml", data); (checked == nil) == (err == nil) {
			t.Fatalf("%v and %v", checked, err)
		}
		rs, err := Load("fuzz.yaml", data)
		if (rs == nil) == (err == nil) {
			t.Fatalf("%v and %v", rs, err)
		}
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without a word")
			}
			return
		}
		if again, err := Load("fuzz.yaml", rs.Source); err != nil || again.ID() != rs.ID() {
			t.Fatalf("loaded again: %v, %v", again, err)
		}
	})
}
