package backtest_test

import (
	"strings"
	"testing"

	"sluice/pipelines/backtest"
	"sluice/rules"
	"sluice/schemas/events"
)

const caseRules = `
ruleset: cards
version: 1
aggregates:
  small_10m: {count: payment.initiated, where: payment.amount < 50, by: card, window: 10m}
  sign_ins_1h: {count: behavior.signed_in, by: customer, window: 1h}
rules:
  - id: testing
    when: payment.method == "card" && payment.amount < 50 && small_10m >= 5
    then: {score: 80, reason: R101, say: "many small payments"}
  - id: watched
    when: listed("watch-cards", payment.card)
    missing: skip
    then: {score: 50, reason: R102, say: "the card is watched"}
  - id: gold
    when: customer.tier == "gold" && sign_ins_1h >= 1
    then: {score: -30, reason: R103, say: "a known customer"}
outcomes: {review: 50, decline: 80}
`

func ruleset(t testing.TB, source string) *rules.Ruleset {
	t.Helper()
	rs, err := rules.Load("rules.yaml", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func run(t *testing.T, cases string) *backtest.CaseReport {
	t.Helper()
	rs := ruleset(t, caseRules)
	c, err := backtest.LoadCases("cards_test.yaml", []byte(cases), rs)
	if err != nil {
		t.Fatal(err)
	}
	r, err := backtest.RunCases(rs, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCases(t *testing.T) {
	t.Parallel()
	r := run(t, `
given: {payment.amount: 20.50, payment.card: T1, event.channel: app}
cases:
  - name: five small payments within ten minutes
    events:
      - {payment.method: card, times: 5, every: 2m, expect: {verdict: decline}}
      - {kind: payment.initiated, at: +20m, card_token: T1}
    expect: {verdict: approve, score: 0, quiet: [testing, watched]}
  - name: five within an hour
    events: [{kind: payment.initiated, times: 5, every: 12m}]
    expect: {verdict: approve}
  - name: a watched card
    lists: {watch-cards: [{prefix: T}], snooze: [watched/card/T2]}
    events:
      - {payment.card: T2, expect: {verdict: approve, quiet: watched}}
      - {payment.card: T1}
    expect: {verdict: review, score: 50, fires: watched, reasons: [R102]}
  - name: a watched card of a gold customer who has signed in
    tier: gold
    lists: {watch-cards: [T1]}
    events:
      - {kind: behavior.signed_in, expect: {verdict: observed}}
      - {kind: payment.initiated, at: 2026-01-05T12:30:00Z, amount: 10}
    expect: {verdict: approve, score: 20, fires: [watched, gold]}
  - name: the aggregate is empty in each case
    events: [{kind: payment.initiated}]
    expect: {verdict: decline, fires: [testing]}
`)
	if r.Passed != 4 || r.Failed != 1 || len(r.Uncovered) != 0 || r.Ruleset != "cards@1" {
		t.Errorf("%+v", r)
	}
	f := r.Cases[4].Failures
	if len(f) != 1 || f[0].Verdict != "approve" || strings.Join(f[0].Expected, "; ") != "verdict decline; testing fires" || f[0].Line != 27 {
		t.Errorf("%+v", f)
	}
}

func TestUncoveredRulesAreListed(t *testing.T) {
	t.Parallel()
	r := run(t, "cases:\n  - {name: one, lists: {watch-cards: [T1]}, events: [{payment.card: T1}], expect: {verdict: review}}\n")
	if strings.Join(r.Uncovered, " ") != "testing gold" {
		t.Error(r.Uncovered)
	}
}

func TestCaseDefaultsAreEventsOfEveryKind(t *testing.T) {
	t.Parallel()
	for _, k := range events.Kinds() {
		r := run(t, "cases:\n  - {name: one, events: [{kind: "+k.String()+"}], expect: {score: 0}}\n")
		if r.Passed != 1 {
			t.Errorf("%s: %+v", k, r)
		}
	}
}

func TestMistakesInCasesHaveTheirPlace(t *testing.T) {
	t.Parallel()
	for cases, want := range map[string]string{
		"": "c.yaml: there are no cases",
		"cases:\n  - name: x\n    events: [{payment.cart: T1}]\n    expect: {verdict: decline}":                             `c.yaml:3:15: payment.initiated has no field "payment.cart"; did you mean payment.card?`,
		"cases:\n  - name: x\n    events: [{payment.card: T1}]\n    expect: {verdict: declined}":                            `c.yaml:4:23: verdict: "declined" is none; did you mean decline?`,
		"cases:\n  - name: x\n    events: [{payment.card: T1}]\n    expect: {fires: [tasting]}":                             `c.yaml:4:21: fires: cards has no rule "tasting"; did you mean testing?`,
		"cases:\n  - name: x\n    events: [{payment.amount: 20.555}]\n    expect: {verdict: decline}":                       `c.yaml:3:31: amount:`,
		"cases:\n  - name: x\n    events: [{kind: payment.started}]\n    expect: {verdict: decline}":                        `c.yaml:3:21: kind: "payment.started" is no kind of event`,
		"cases:\n  - name: x\n    events: [{kind: loan.applied, at: 5m}]\n    expect: {verdict: decline}":                   `c.yaml:3:39: at: "5m" is no time; write +5m`,
		"cases:\n  - name: x\n    lists: {watch-card: [T1]}\n    events: [{amount: 1}]\n    expect: {verdict: decline}":     `c.yaml:3:13: no condition of cards asks the list "watch-card"; did you mean watch-cards?`,
		"cases:\n  - name: x\n    events: [{amount: 1}]":                                                                    `c.yaml:2:5: the case expects nothing`,
		"cases:\n  - name: x\n    events: [{amount: 1, payment.status: captured}]\n    expect: {score: 1}":                  `c.yaml:3:26: payment.initiated has no field "payment.status"`,
		"given: {colour: red}\ncases:\n  - {name: x, events: [{amount: 1}], expect: {score: 1}}":                            `c.yaml:1:9: no event has a field "colour"`,
		"cases:\n  - {name: x, events: [{amount: 1}], expect: {score: 1}}\n  - {name: x, events: [{}], expect: {score: 1}}": `the case "x" is there twice, first on line 2`,
		"cases:\n  - name: x\n    events: [{kind: loan.applied, term_months: twelve}]\n    expect: {score: 1}":              `c.yaml:3:48: term_months: "twelve" is no number`,
	} {
		_, err := backtest.LoadCases("c.yaml", []byte(cases), ruleset(t, caseRules))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %s", cases, err, want)
		}
	}
}

func FuzzLoadCases(f *testing.F) {
	rs := ruleset(f, caseRules)
	f.Add([]byte("cases:\n  - {name: x, events: [{amount: 1, times: 2, every: 1d}], expect: {score: 1}}"))
	f.Add([]byte("given: {latitude: 1}\ncases: [{lists: {snooze: [{cidr: 1}]}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		cases, err := backtest.LoadCases("f.yaml", data, rs)
		if err == nil {
			if _, err := backtest.RunCases(rs, cases); err != nil {
				t.Log(err)
			}
		}
	})
}
