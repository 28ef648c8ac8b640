package backtest

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"sluice/rules"
	"sluice/schemas/events"
)

// Schema names the form of a Report in JSON. Within one number fields are only added. Ratios are null where they divide by
// zero, amounts are decimal strings in major units.
const Schema = "sluice.backtest/1"

// Report is what a run measured.
type Report struct {
	Schema  string     `json:"schema"`
	From    time.Time  `json:"from"` // of the first and the last day with events that ask for a verdict
	To      time.Time  `json:"to"`   // exclusive
	Unit    Unit       `json:"unit"` // what confusions, precision, recall and curves count
	Counts  Counts     `json:"counts"`
	Labels  LabelCount `json:"labels"`
	Rules   Side       `json:"rules"`   // the new ruleset
	Against *Side      `json:"against"` // null: there is nothing to compare with
	Changes []Change   `json:"changes"` // verdicts that become others, from those compared with to the new ones
	Days    []DayCount `json:"days"`
	Again   Agreement  `json:"again"` // whether running again gives what was recorded
}

// LabelCount is how much is known to be true.
type LabelCount struct {
	Fraud int64 `json:"fraud"` // units
	Good  int64 `json:"good"`
}

// Side is what one ruleset says.
type Side struct {
	Ruleset          string           `json:"ruleset"` // "fraud@4", or "recorded"
	Flagged          Measure          `json:"flagged"` // reviewed or declined
	Declined         Measure          `json:"declined"`
	Verdicts         map[string]int64 `json:"verdicts"`
	Rules            []RuleMeasure    `json:"rules"`             // in the ruleset's order; none for recorded verdicts
	Overlap          [][]int64        `json:"overlap"`           // events on which two rules fired, in the order of rules; the diagonal is all
	Scores           []ScoreCount     `json:"scores"`            // ascending
	Curve            []CurvePoint     `json:"curve"`             // by falling threshold
	AveragePrecision Ratio            `json:"average_precision"` // area under the precision-recall curve of the score
	PSI              Ratio            `json:"psi"`               // population stability index of the score between the halves of the days
}

// Measure is how well something tells fraud from good.
type Measure struct {
	Confusion
	Precision         Ratio    `json:"precision"`
	PrecisionInterval Interval `json:"precision_95"` // Wilson
	Recall            Ratio    `json:"recall"`
	RecallInterval    Interval `json:"recall_95"`
	FalsePositiveRate Ratio    `json:"false_positive_rate"`
	F1                Ratio    `json:"f1"`
	Money             []Money  `json:"money"`          // of events, whatever the unit
	Inconvenienced    int64    `json:"inconvenienced"` // good customers, of whom nothing is fraud, with an event that was flagged
}

// RuleMeasure is how well one rule does: flagged means that it fired.
type RuleMeasure struct {
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
	Score  int32  `json:"score"`
	Fired  int64  `json:"fired"` // events
	Alone  int64  `json:"alone"` // events on which no other rule fired
	Measure
}

// Change is verdicts that become others.
type Change struct {
	From  string        `json:"from"`
	To    string        `json:"to"`
	Good  int64         `json:"good"`  // events
	Fraud int64         `json:"fraud"` // events
	Money []ChangeMoney `json:"money"`
}

// ChangeMoney is the amounts of changed verdicts, in major units.
type ChangeMoney struct {
	Currency string `json:"currency"`
	Good     string `json:"good"`
	Fraud    string `json:"fraud"`
}

// DayCount is one day of events, UTC.
type DayCount struct {
	Day     string   `json:"day"` // 2026-01-31
	Asked   int64    `json:"asked"`
	Fraud   int64    `json:"fraud"`
	Rules   DaySide  `json:"rules"`
	Against *DaySide `json:"against"`
}

// DaySide is what one ruleset says on a day, in events.
type DaySide struct {
	Confusion
	Declined int64 `json:"declined"`
}

// Report sums up what was run so far.
func (r *Run) Report() *Report {
	out := &Report{Schema: Schema, From: r.options.From, To: r.options.To, Unit: r.options.Unit, Counts: r.counts, Again: r.again, Changes: []Change{}, Days: []DayCount{}}
	r.truth()
	out.Labels = r.labelled()
	out.Rules = r.side(r.rules, 0)
	if r.against.known {
		side := r.side(r.against, 1)
		out.Against = &side
	}
	out.Changes = r.changes()
	out.Days = r.days()
	if days := slices.Sorted(maps.Keys(r.meter.days)); len(days) > 0 {
		if out.From.IsZero() {
			out.From = time.Unix(days[0]*dayLength, 0).UTC()
		}
		if out.To.IsZero() {
			out.To = time.Unix((days[len(days)-1]+1)*dayLength, 0).UTC()
		}
	}
	return out
}

// truth applies what is known of customers themselves.
func (r *Run) truth() {
	if len(r.options.Labels.customers) == 0 {
		return
	}
	for _, of := range []map[uint64]*person{r.meter.customers, r.meter.accounts} {
		for key, p := range of {
			p.fraud = r.options.Labels.customers[key]
		}
	}
}

func (r *Run) labelled() LabelCount {
	units := r.meter.units()
	if units == nil {
		c := r.meter.fraud.events
		return LabelCount{Fraud: c.FalseNegatives, Good: c.TrueNegatives}
	}
	var n LabelCount
	for _, p := range units {
		n.Fraud += int64(truth(p.fraud))
		n.Good += int64(1 - truth(p.fraud))
	}
	return n
}

// side sums up one ruleset's side.
func (r *Run) side(s *side, number int) Side {
	out := Side{Ruleset: "recorded", Verdicts: map[string]int64{}, Rules: []RuleMeasure{}, Overlap: s.overlap}
	if s.rules != nil {
		out.Ruleset = s.rules.ID()
	}
	if out.Overlap == nil {
		out.Overlap = [][]int64{}
	}
	for v := events.Approve; v <= events.Decline; v++ {
		out.Verdicts[v.String()] = s.verdicts[v]
	}
	out.Flagged = r.measured(&s.all, number, func(p *said) bool { return p.review || p.decline })
	out.Declined = r.measured(&s.declined, number, func(p *said) bool { return p.decline })
	for i, t := range s.byRule {
		rule := &s.rules.Rules[i]
		out.Rules = append(out.Rules, r.ruleMeasure(rule, t, number, i))
		out.Rules[i].Alone = s.alone[i]
	}
	out.Scores = sortedScores(r.scores(s, number))
	out.Curve = curve(out.Scores)
	out.AveragePrecision = averagePrecision(out.Curve)
	out.PSI = r.meter.stability(number)
	return out
}

// ruleMeasure completes what was counted of a rule: only where it fired was it looked at.
func (r *Run) ruleMeasure(rule *rules.Rule, t *tally, number, index int) RuleMeasure {
	whole := *t
	all := r.meter.fraud.events
	whole.events.FalseNegatives = all.FalseNegatives - t.events.TruePositives
	whole.events.TrueNegatives = all.TrueNegatives - t.events.FalsePositives
	m := RuleMeasure{Rule: rule.ID, Reason: rule.Reason, Score: rule.Score, Fired: t.events.TruePositives + t.events.FalsePositives}
	m.Measure = r.measured(&whole, number, func(p *said) bool { return p.fired(index) })
	return m
}

// measured sums up a tally of events, or the persons that flagged holds for.
func (r *Run) measured(t *tally, number int, flagged func(*said) bool) Measure {
	m := Measure{Confusion: t.events, Money: t.money.money(r.meter.fraud.money)}
	units := r.meter.units()
	if units != nil {
		m.Confusion = Confusion{}
		for _, p := range units {
			if p.said[number].known {
				m.count(p.fraud, flagged(&p.said[number]))
			}
		}
	}
	for _, p := range r.meter.customers {
		if !p.fraud && flagged(&p.said[number]) {
			m.Inconvenienced++
		}
	}
	c := m.Confusion
	m.Precision, m.Recall, m.FalsePositiveRate, m.F1 = c.Precision(), c.Recall(), c.FalsePositiveRate(), c.F1()
	m.PrecisionInterval = wilson(c.TruePositives, c.TruePositives+c.FalsePositives)
	m.RecallInterval = wilson(c.TruePositives, c.TruePositives+c.FalseNegatives)
	return m
}

// scores are those of events, or the highest of each person.
func (r *Run) scores(s *side, number int) map[int32]*[2]int64 {
	units := r.meter.units()
	if units == nil {
		return s.scores
	}
	out := map[int32]*[2]int64{}
	for _, p := range units {
		if !p.said[number].known {
			continue
		}
		n := out[p.said[number].score]
		if n == nil {
			n = &[2]int64{}
			out[p.said[number].score] = n
		}
		n[truth(p.fraud)]++
	}
	return out
}

func (r *Run) changes() []Change {
	out := []Change{}
	for c, n := range r.meter.changes {
		x := Change{From: c.from.String(), To: c.to.String(), Good: n.events[0], Fraud: n.events[1], Money: []ChangeMoney{}}
		for currency, s := range n.money {
			x.Money = append(x.Money, ChangeMoney{currency.Code(), s[0].text(currency), s[1].text(currency)})
		}
		slices.SortFunc(x.Money, func(a, b ChangeMoney) int { return cmp.Compare(a.Currency, b.Currency) })
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Change) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return out
}

func (r *Run) days() []DayCount {
	out := []DayCount{}
	for _, at := range slices.Sorted(maps.Keys(r.meter.days)) {
		d := r.meter.days[at]
		c := DayCount{Day: time.Unix(at*dayLength, 0).UTC().Format(time.DateOnly), Asked: d.asked, Fraud: d.fraud, Rules: DaySide{d.flagged[0], d.declined[0]}}
		if r.against.known {
			c.Against = &DaySide{d.flagged[1], d.declined[1]}
		}
		out = append(out, c)
	}
	return out
}

// JSON writes the report as one JSON object.
func (r *Report) JSON() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	return append(data, '\n'), err
}
