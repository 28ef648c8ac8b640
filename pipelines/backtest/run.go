package backtest

import (
	"time"

	"sluice/pipelines/risk"
	"sluice/rules"
	"sluice/schemas/events"
)

// WarmUp is how long before the first event that is measured events should be given, so that every aggregate is full: the
// longest window.
const WarmUp = rules.MaxWindow

// transaction is how many events are run between two commits of the state: more keeps no more of it decoded.
const transaction = 256

// Unit is what is counted.
type Unit string

// The units.
const (
	ByEvent    Unit = "event"    // each event that asks for a verdict
	ByCustomer Unit = "customer" // a customer is flagged if any of its events is, and fraud if any is
	ByAccount  Unit = "account"  // the same for everybody who sends or receives: customers and counterparties
)

// Options says what is run.
type Options struct {
	Rules   *rules.Ruleset // the new ruleset
	Against *rules.Ruleset // what it is compared with; nil: the verdicts that were recorded
	Labels  *Labels        // beside the events' own; nil: none
	Unit    Unit           // "": ByEvent
	Lists   rules.Lists    // as they are now, with the expiry of each entry at the event's time; nil: empty
	From    time.Time      // events before only fill aggregates; zero: all are measured
	To      time.Time      // events from here on are left out; zero: none
}

// Item is one recorded event.
type Item struct {
	Event     events.Event
	Partition int32    // of its topic
	Tier      string   // value tier that the gate knew, "" unknown
	Recorded  Recorded // what the gate said
}

// Recorded is what the gate said of an event when it came.
type Recorded struct {
	Verdict events.Verdict // NoVerdict: unknown
	Score   int32
	Rules   []string // ids of the rules that fired
	Ruleset string   // "fraud@3"
}

// Run runs events again and measures what two rulesets say of them. Its memory grows with customers, rules and days, not
// with events. It is not safe for concurrent use.
type Run struct {
	options Options
	state   *risk.State
	owned   map[int32]bool
	staged  int
	last    time.Time
	counts  Counts
	meter   *meter
	rules   *side
	against *side
	again   Agreement
}

// Counts is what was read.
type Counts struct {
	Events     int64 `json:"events"`       // in the period
	WarmUp     int64 `json:"warm_up"`      // before it
	Asked      int64 `json:"asked"`        // in the period, asking for a verdict: what is measured
	Duplicates int64 `json:"duplicates"`   // left out
	OutOfOrder int64 `json:"out_of_order"` // older than the one before
}

// Agreement is how far verdicts run again are those recorded by the same version of the ruleset.
type Agreement struct {
	Ruleset  string       `json:"ruleset"`  // whose: the one compared with, else the new one
	Compared int64        `json:"compared"` // events that this very version decided
	Same     int64        `json:"same"`     // verdict, score and rules that fired
	Differ   []Difference `json:"differ,omitempty"`
}

// maxDifferences bounds Agreement.Differ; all are counted.
const maxDifferences = 20

// Difference is an event whose verdict is another when it is run again.
type Difference struct {
	Event           string   `json:"event"` // source/id
	Time            string   `json:"time"`
	RecordedVerdict string   `json:"recorded_verdict"`
	RecordedScore   int32    `json:"recorded_score"`
	RecordedRules   []string `json:"recorded_rules"`
	Verdict         string   `json:"verdict"`
	Score           int32    `json:"score"`
	Rules           []string `json:"rules"`
}

// NewRun makes a run ready.
func NewRun(o Options) *Run {
	if o.Unit == "" {
		o.Unit = ByEvent
	}
	if o.Labels == nil {
		o.Labels = NewLabels()
	}
	engine := risk.NewEngine(o.Rules)
	if o.Against != nil {
		engine = risk.NewEngine(o.Rules, o.Against)
	}
	r := &Run{options: o, state: risk.NewState(engine), owned: map[int32]bool{}, meter: newMeter(o.Unit), rules: newSide(o.Rules)}
	r.again.Ruleset = o.Rules.ID()
	r.against = newSide(o.Against)
	if o.Against != nil {
		r.again.Ruleset = o.Against.ID()
	}
	r.state.SetLists(o.Lists)
	return r
}

// Add runs one event. Events come in the order of their time; what the gate took in another order is run in this one.
func (r *Run) Add(it *Item) {
	e := &it.Event
	if !r.options.To.IsZero() && !e.Time.Before(r.options.To) || it.Recorded.Verdict == events.Duplicate {
		if it.Recorded.Verdict == events.Duplicate {
			r.counts.Duplicates++
		}
		return
	}
	if e.Time.Before(r.last) {
		r.counts.OutOfOrder++
	} else {
		r.last = e.Time
	}
	if !r.owned[it.Partition] {
		r.owned[it.Partition] = true
		r.state.Assign(it.Partition)
	}
	r.state.SetTier(e.CustomerID, it.Tier)
	d := r.state.Decide(it.Partition, e)
	if d.Verdict == events.Duplicate {
		r.counts.Duplicates++
		return
	}
	r.measure(it, &d)
	if r.staged++; r.staged == transaction {
		r.state.Commit()
		r.staged = 0
	}
}

// measure counts what both sides say of an event.
func (r *Run) measure(it *Item, d *events.Decision) {
	e := &it.Event
	if e.Time.Before(r.options.From) {
		r.counts.WarmUp++
		return
	}
	r.counts.Events++
	if !rules.AsksOf(e) && d.Verdict == events.Observed && it.Recorded.Verdict <= events.Observed {
		return
	}
	r.counts.Asked++
	now := answer{d.Verdict, d.Score, d.Hits}
	then := answer{it.Recorded.Verdict, it.Recorded.Score, nil}
	again := &now
	if shadows := r.state.Shadows(); len(shadows) > 0 {
		then = answer{shadows[0].Verdict, shadows[0].Score, shadows[0].Hits}
		again = &then
	}
	r.compare(it, again)
	fraud := r.options.Labels.fraud(e)
	r.meter.take(r, e, fraud, &now, &then)
}

// compare holds an answer against what this version of the ruleset said when the event came.
func (r *Run) compare(it *Item, a *answer) {
	was := &it.Recorded
	if was.Verdict == events.NoVerdict || was.Ruleset != r.again.Ruleset {
		return
	}
	r.again.Compared++
	same := was.Verdict == a.verdict && was.Score == a.score && len(was.Rules) == len(a.hits)
	for i := 0; same && i < len(a.hits); i++ {
		same = a.hits[i].Rule == was.Rules[i]
	}
	if same {
		r.again.Same++
		return
	}
	if len(r.again.Differ) < maxDifferences {
		ids := make([]string, len(a.hits))
		for i := range a.hits {
			ids[i] = a.hits[i].Rule
		}
		r.again.Differ = append(r.again.Differ, Difference{Event: it.Event.Source + "/" + it.Event.ID, Time: it.Event.Time.Format(time.RFC3339Nano),
			RecordedVerdict: was.Verdict.String(), RecordedScore: was.Score, RecordedRules: was.Rules, Verdict: a.verdict.String(), Score: a.score, Rules: ids})
	}
}

// answer is what one ruleset says of an event.
type answer struct {
	verdict events.Verdict
	score   int32
	hits    []events.Hit
}

// flagged says whether somebody was held up.
func (a *answer) flagged() bool { return a.verdict == events.Review || a.verdict == events.Decline }
