// Package backtest runs rulesets over given events with the engine of the gate, and measures them: cases that stand beside
// a ruleset, and recorded events whose truth is known. It is pure: what it reads it is given, a report is bytes.
package backtest

import (
	"fmt"
	"slices"
	"strings"

	"sluice/pipelines/risk"
	"sluice/rules"
	"sluice/rules/lists"
	"sluice/schemas/events"
)

// Limits of a file of cases.
const (
	// MaxCases bounds the cases of a file: some for each of the most rules.
	MaxCases = 5000
	// MaxCaseEvents bounds the events of a case, repeated ones counted each.
	MaxCaseEvents = 10_000
)

// Case is a short story and what the rules must say of it.
type Case struct {
	Name   string
	Line   int    // in the file
	Tier   string // value tier of every customer in it, "" unknown
	Lists  []lists.Entry
	Events []CaseEvent
}

// CaseEvent is one event of a case.
type CaseEvent struct {
	Event  events.Event
	Line   int
	Expect *Expectation // nil: nothing is asked of this one
}

// Expectation is what an event must be answered with. What it leaves out may be anything.
type Expectation struct {
	Line    int
	Verdict events.Verdict // NoVerdict: any
	Score   *int32         // nil: any
	Fires   []string       // ids of rules that must fire
	Quiet   []string       // ids of rules that must not
	Reasons []string       // reason codes that the rules that fired must give
}

// CaseReport is what became of all cases of a ruleset.
type CaseReport struct {
	Ruleset   string       `json:"ruleset"`
	Passed    int          `json:"passed"`
	Failed    int          `json:"failed"`
	Cases     []CaseResult `json:"cases"`
	Uncovered []string     `json:"uncovered"` // ids of rules that fire in no case, in the ruleset's order
}

// CaseResult is what became of one case.
type CaseResult struct {
	Name     string        `json:"name"`
	Line     int           `json:"line"`
	Passed   bool          `json:"passed"`
	Failures []CaseFailure `json:"failures,omitempty"`
}

// CaseFailure is an event that was answered otherwise than expected.
type CaseFailure struct {
	Line     int      `json:"line"`     // of the expectation
	Event    int      `json:"event"`    // number in the case, from 1
	Expected []string `json:"expected"` // each thing that did not hold
	Verdict  string   `json:"verdict"`  // what came
	Score    int32    `json:"score"`
	Fired    []string `json:"fired"`             // conditions that were true: the rules, with score and reason
	Read     []string `json:"read,omitempty"`    // what they read, "spent_24h = 51000"
	Snoozed  []string `json:"snoozed,omitempty"` // rules that would have fired
	Unknown  []string `json:"unknown,omitempty"` // rules that could not be evaluated, since something they read is unknown
}

// RunCases runs each case by itself, from an empty state, through the gate's engine. Its error is a list entry that no list
// takes.
func RunCases(rs *rules.Ruleset, cases []Case) (*CaseReport, error) {
	report := &CaseReport{Ruleset: rs.ID(), Cases: make([]CaseResult, 0, len(cases)), Uncovered: []string{}}
	engine := risk.NewEngine(rs)
	fired := map[string]bool{}
	for i := range cases {
		r, err := runCase(engine, &cases[i], fired)
		if err != nil {
			return nil, fmt.Errorf("case %q: %w", cases[i].Name, err)
		}
		if r.Passed {
			report.Passed++
		} else {
			report.Failed++
		}
		report.Cases = append(report.Cases, r)
	}
	for i := range rs.Rules {
		if !fired[rs.Rules[i].ID] {
			report.Uncovered = append(report.Uncovered, rs.Rules[i].ID)
		}
	}
	return report, nil
}

// runCase runs one case and notes in fired which rules did.
func runCase(engine *risk.Engine, c *Case, fired map[string]bool) (CaseResult, error) {
	state := risk.NewState(engine)
	state.Assign(0)
	set, err := listed(c.Lists)
	if err != nil {
		return CaseResult{}, err
	}
	state.SetLists(set)
	result := CaseResult{Name: c.Name, Line: c.Line}
	for i := range c.Events {
		e := &c.Events[i]
		state.SetTier(e.Event.CustomerID, c.Tier)
		d := state.Decide(0, &e.Event)
		state.Commit()
		for _, h := range d.Hits {
			fired[h.Rule] = true
		}
		if wrong := e.Expect.misses(&d); len(wrong) > 0 {
			result.Failures = append(result.Failures, failure(e, i, &d, wrong))
		}
	}
	result.Passed = len(result.Failures) == 0
	return result, nil
}

// listed are a case's lists.
func listed(entries []lists.Entry) (*lists.Set, error) {
	set := lists.NewSet()
	for _, e := range entries {
		if err := set.Put(e); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// misses says what of an expectation does not hold.
func (x *Expectation) misses(d *events.Decision) []string {
	if x == nil {
		return nil
	}
	var wrong []string
	if x.Verdict != events.NoVerdict && x.Verdict != d.Verdict {
		wrong = append(wrong, "verdict "+x.Verdict.String())
	}
	if x.Score != nil && *x.Score != d.Score {
		wrong = append(wrong, fmt.Sprintf("score %d", *x.Score))
	}
	has := func(id string) bool {
		return slices.ContainsFunc(d.Hits, func(h events.Hit) bool { return h.Rule == id })
	}
	for _, id := range x.Fires {
		if !has(id) {
			wrong = append(wrong, id+" fires")
		}
	}
	for _, id := range x.Quiet {
		if has(id) {
			wrong = append(wrong, id+" is quiet")
		}
	}
	for _, code := range x.Reasons {
		if !slices.ContainsFunc(d.Hits, func(h events.Hit) bool { return h.Reason == code }) {
			wrong = append(wrong, "reason "+code)
		}
	}
	return wrong
}

func failure(e *CaseEvent, i int, d *events.Decision, wrong []string) CaseFailure {
	f := CaseFailure{Line: e.Expect.Line, Event: i + 1, Expected: wrong, Verdict: d.Verdict.String(), Score: d.Score, Fired: []string{}, Snoozed: d.Snoozed}
	for _, h := range d.Hits {
		text := fmt.Sprintf("%s (%d, %s)", h.Rule, h.Score, h.Reason)
		if h.Braked {
			text += ", held by its brake"
		}
		f.Fired = append(f.Fired, text)
	}
	for _, v := range d.Evidence {
		if id, is := strings.CutPrefix(v.Name, risk.ErrorPrefix); is {
			f.Unknown = append(f.Unknown, id)
			continue
		}
		text := v.Text
		if text == "" {
			text = "unknown"
		}
		f.Read = append(f.Read, v.Name+" = "+text)
	}
	return f
}
