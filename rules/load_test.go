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
		{"words as money", ruleWhen(`payment.amount > "5"`), "rules.yaml:5:26: when: > cannot be used on (money, string)"},
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
	for name, source := range map[string][]byte{"fraud": packs.Fraud, "credit": packs.Credit, "empty": packs.Empty, "default": packs.Default()} {
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
		`count: payment, by: card, window: 60m`, `count: payment, where: payment.method == "wallet", by: card, window: 60m`,
		`count: payment, where: payment.method == "card", by: device, window: 60m`, `count: payment, where: payment.method == "card", by: card, window: 61m`,
		`count: payment.initiated, where: payment.method == "card", by: card, window: 60m`,
	} {
		if id("a", other) == base {
			t.Errorf("{%s} has the same ID", other)
		}
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
		ruleWhen(`payment.card.matches("a+") && 1.5 * payment.amount > 2`), file("outcomes: {review: 1}\n"), withModel,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
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
