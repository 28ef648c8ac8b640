package routing_test

import (
	"os"
	"strings"
	"testing"

	"sluice/pipelines/routing"
	"sluice/rules"
)

// whole has every key of the language.
const whole = `routing: main
version: 3
window: 15m
attempts: 20
down_below: 0.5
probe: 0.01
explore: 0.02
penalty: 0.01
expected: 0.95
weight: 20
good: [payment.settled]
bad: payment.failed
channels:
  - name: acquirer-a
    enabled: true
    priority: 5
    methods: [card]
    purposes: [purchase]
    can: [sale, refund]
    currencies: [CNY, USD]
    limits: {CNY: {min: 1.00, max: 50000.00}}
    fees:
      - {method: card, currency: CNY, bps: 55.25, fixed: 0.10, min: 0.20, max: 50.00}
      - {bps: 90}
    hours: {zone: Asia/Shanghai, days: [mon, tue], from: "08:00", to: "20:00", holidays: [2026-10-01]}
  - {name: bank-a, methods: [bank_transfer], purposes: [top_up], currencies: [CNY], fees: [{bps: 0}]}
rules:
  - {id: large, when: payment.amount > 10000, use: [acquirer-a], avoid: [bank-a]}
`

// TestWrongFilesAreRefused: each with its place and what to write instead.
func TestWrongFilesAreRefused(t *testing.T) {
	t.Parallel()
	if _, err := routing.Load("f.yaml", []byte(whole)); err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct{ from, to, says string }{
		{"routing: main", "routing: Main", `f.yaml:1:10: routing: "Main" is no name`},
		{"version: 3\n", "", "needs a name and a version"},
		{"version: 3", "version: 0", "f.yaml:2:10: version is a whole number from 1"},
		{"window: 15m", "window: 15", `f.yaml:3:9: window: "15" is no length of time`},
		{"window: 15m", "window: 2d", "up to 24h"},
		{"attempts: 20", "attempt: 20", "did you mean attempts?"},
		{"down_below: 0.5", "down_below: 50%", "f.yaml:5:13: down_below:"},
		{"probe: 0.01", "probe: 0.6", "no share from 0 to 0.5"},
		{"explore: 0.02", "explore: -0.02", "f.yaml:7:10: explore:"},
		{"expected: 0.95", "expected: 95", "0.02 is 2 %"},
		{"weight: 20", "weight: 0", "weight is a whole number from 1"},
		{"good: [payment.settled]", "good: [payment.settle]", `f.yaml:11:1: good, bad: "payment.settle" is no kind of payment event`},
		{"good: [payment.settled]", "good: [payment.failed]", "among good: and bad:"},
		{"good: [payment.settled]", "good: []", "name kinds of events"},
		{"name: acquirer-a", "name: Acquirer A", "use small letters, digits, _ and dashes"},
		{"name: acquirer-a", "name: card", "whose clearing account is another"},
		{"name: bank-a", "name: acquirer-a", "is there twice, first on line 14"},
		{"enabled: true", "enabled: yes", `enabled: "yes" is not understood`},
		{"priority: 5", "priority: 10", "priority is a whole number from 1 to 9"},
		{"methods: [card]", "methods: [cards]", "did you mean card?"},
		{"methods: [card]", "methods: [card, wallet]", `f.yaml:17:14: methods: "wallet" is not understood`},
		{"purposes: [purchase]", "purposes: [reserve]", "purposes:"},
		{"can: [sale, refund]", "can: [sell]", "did you mean sale?"},
		{"currencies: [CNY, USD]", "currencies: [CNY, YUAN]", `"YUAN" is no ISO 4217 currency`},
		{"min: 1.00, max: 50000.00", "min: 1.001, max: 50000.00", "more decimals than CNY has"},
		{"min: 1.00, max: 50000.00", "min: 2.00, max: 1.00", "the min of CNY is above its max"},
		{"max: 50000.00", "max: 0", "0 takes nothing"},
		{"limits: {CNY:", "limits: {JPY:", "JPY is not among the channel's currencies"},
		{"bps: 55.25", "bps: 55.255", "at most two decimals"},
		{"bps: 55.25", "bps: 10001", "no number from 0 to 10000"},
		{"fixed: 0.10, min: 0.20", "fixed: -0.10, min: 0.20", "fixed: amount"},
		{"min: 0.20, max: 50.00", "min: 0.20, max: 0.10", "a fee's min is above its max"},
		{"- {bps: 90}", "- {bps: 90, fixed: 1}", "an amount needs the currency it is in"},
		{"      - {bps: 90}\n", "", "acquirer-a has no fee for card in USD"},
		{"- {bps: 90}", "- {bps: 90}\n      - {bps: 91}", "never charges this fee"},
		{"zone: Asia/Shanghai", "zone: Asia/Shangai", "is no time zone"},
		{"zone: Asia/Shanghai, ", "", "needs zone:"},
		{"days: [mon, tue]", "days: [monday]", "days:"},
		{`from: "08:00"`, `from: "8"`, "is no time of day"},
		{`to: "20:00"`, `to: "24:01"`, "is no time of day"},
		{`to: "20:00"`, `to: "08:00"`, "is never open"},
		{"holidays: [2026-10-01]", "holidays: [2026-13-01]", "is no day"},
		{"use: [acquirer-a]", "use: [acquirer-x]", "did you mean acquirer-a?"},
		{"use: [acquirer-a], avoid: [bank-a]", "use: []", "a rule has id:, when: and use: or avoid:"},
		{"payment.amount > 10000", "payment.amont > 10000", "f.yaml:28:23: when:"},
		{"payment.amount > 10000", "loan.amount > 10000", "never known on payment.initiated"},
		{"fees: [{bps: 0}]", "fee: [{bps: 0}]", "did you mean fees?"},
		{"fees: [{bps: 0}]", "fees: []", "bank-a has no fee"},
	} {
		if strings.Count(whole, k.from) == 0 {
			t.Fatalf("no %q to replace", k.from)
		}
		_, err := routing.Load("f.yaml", []byte(strings.Replace(whole, k.from, k.to, 1)))
		if err == nil || !strings.Contains(err.Error(), k.says) || !strings.HasPrefix(err.Error(), "f.yaml:") {
			t.Errorf("%s:\n%v\nwant %s", k.to, err, k.says)
		}
	}
	for source, says := range map[string]string{"": "the file is empty", "- a": "mapping", "routing: m\nversion: 1\n": "channels: has 0", "\xff": "not UTF-8",
		"routing: m\nversion: 1\nchannels: {}": "is a list"} {
		if _, err := routing.Load("f.yaml", []byte(source)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", source, err)
		}
	}
}

// TestAllMistakesAreSaid: at once, each once, and nothing that only follows from another.
func TestAllMistakesAreSaid(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]struct {
		change []string
		says   []string
	}{
		"a channel's words": {[]string{"methods: [card]", "methods: [cards]", "purposes: [purchase]", "purposes: [purchas]", "currencies: [CNY, USD]", "currencies: [YUAN]",
			"priority: 5", "priority: 10", "bps: 55.25", "bps: 55.255"},
			[]string{"methods:", "purposes:", `"YUAN"`, "priority", "bps:"}},
		"a misspelt key":    {[]string{"fees: [{bps: 0}]", "fee: [{bps: 0}]"}, []string{"did you mean fees?"}},
		"a name":            {[]string{"name: acquirer-a", "name: [a]"}, []string{"name is one value"}},
		"a zone":            {[]string{"zone: Asia/Shanghai", "zone: Asia/Shangai"}, []string{"is no time zone"}},
		"hours":             {[]string{"days: [mon, tue]", "days: [monday]", `to: "20:00"`, `to: "8"`}, []string{"days:", "no time of day"}},
		"a limit":           {[]string{"max: 50000.00", "max: 50000.001"}, []string{"more decimals than CNY has"}},
		"a fee's currency":  {[]string{"- {method: card, currency: CNY", "- {method: card, currency: YUAN"}, []string{`"YUAN"`}},
		"a rule":            {[]string{"use: [acquirer-a], avoid: [bank-a]", "use: [acquirer-x]", "id: large", "id: [a]"}, []string{"did you mean acquirer-a?", "id is one value"}},
		"what is an answer": {[]string{"good: [payment.settled]", "good: [payment.settle, payment.capture]"}, []string{`"payment.settle"`, `"payment.capture"`}},
		"no list":           {[]string{"good: [payment.settled]", "good: {a: b}"}, []string{"good is one value"}},
		"channels":          {[]string{"channels:", "chanels:"}, []string{"did you mean channels?"}},
	} {
		_, err := routing.Load("f.yaml", []byte(strings.NewReplacer(k.change...).Replace(whole)))
		if err == nil || strings.Count(err.Error(), "\n")+1 != len(k.says) {
			t.Errorf("%s: %d mistakes wanted:\n%v", name, len(k.says), err)
			continue
		}
		for _, says := range k.says {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%s: no %s in\n%v", name, says, err)
			}
		}
	}
}

// FuzzLoad: no bytes make it panic, and what loads can be asked.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(whole))
	f.Add(routing.Standard)
	f.Add([]byte(three))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := routing.Load("f.yaml", data)
		if err != nil {
			return
		}
		r := table.NewChooser().Choose(pay("p1", 100_00), rules.Context{}, answers{})
		if r.Reason == "" || r.Channel != "" && table.Index(r.Channel) < 0 {
			t.Errorf("%+v", r)
		}
	})
}

// TestTheExampleOfThePageHolds: the file that the documentation shows loads, and its numbers are the defaults.
func TestTheExampleOfThePageHolds(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/channels.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	example, _, _ := strings.Cut(rest, "```\n")
	shown, plain := load(t, example), load(t, three)
	if len(shown.Rules) != 2 || shown.Window != plain.Window || shown.Attempts != plain.Attempts || shown.DownAt != plain.DownAt || shown.Probe != plain.Probe ||
		shown.Explore != plain.Explore || shown.Penalty != plain.Penalty || shown.Expected != plain.Expected || shown.Weight != plain.Weight {
		t.Errorf("the page shows %+v, the defaults are %+v", shown, plain)
	}
}
