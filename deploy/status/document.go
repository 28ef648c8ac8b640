package status

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"
)

// Status is what /status.json says. Numbers are null (absent parts' entries are missing) where this process does not
// measure them: a process that runs only the poster says nothing of decisions. Fields are added, never renamed.
type Status struct {
	Title   string    `json:"title"`
	Now     time.Time `json:"now"`
	Started time.Time `json:"started"`
	Ready   bool      `json:"ready"` // every part is ready and none has failed
	Parts   []Part    `json:"parts"`

	Rates    []Rate  `json:"rates"` // in the order an event meets them
	Latency  Latency `json:"latency"`
	Verdicts []Count `json:"verdicts"` // in a fixed order
	Lag      []Lag   `json:"lag"`

	Rules       []Count  `json:"rules"`        // rules that fired, most in the last minute first
	Rejections  []Count  `json:"rejections"`   // what the ledger refused, by code
	DeadLetters []Count  `json:"dead_letters"` // by reason
	Restarts    []Count  `json:"restarts"`     // by part
	Rulesets    []string `json:"rulesets"`     // live in this process, "fraud@3"
	Entities    *float64 `json:"entities"`     // customers, devices, … with aggregates in memory

	Decisions []*Decision `json:"decisions"` // newest first, at most 50, those that hit a rule preferred
	Links     []Address   `json:"links"`
}

// Part is one part of the process.
type Part struct {
	Name   string `json:"name"`
	Ready  bool   `json:"ready"`
	Failed bool   `json:"failed"` // for good
	Why    string `json:"why"`    // "" when ready
}

// Rate is how fast something goes.
type Rate struct {
	Name      string    `json:"name"`       // "events_in", "decided", "posted", "rows"
	PerSecond *float64  `json:"per_second"` // mean of the last 5 seconds
	Total     *float64  `json:"total"`      // since the process started
	History   []float64 `json:"history"`    // per second, each over one second, oldest first, at most two minutes
	By        []Count   `json:"by"`         // by topic or table
}

// Latency of decisions, from the moment Kafka took the event to the commit of its verdict, over the last minute.
type Latency struct {
	P50     *float64   `json:"p50_ms"`
	P99     *float64   `json:"p99_ms"`
	Above   bool       `json:"above"`          // p99 lies above p99_ms, which is the largest bucket's bound
	Count   uint64     `json:"count"`          // decisions measured
	History []*float64 `json:"p99_ms_history"` // each second's p99 of the 10 seconds before, oldest first; null without decisions
}

// Count is a number of things of one kind.
type Count struct {
	Name   string  `json:"name"`
	Minute float64 `json:"minute"` // in the last minute
	Total  float64 `json:"total"`  // since the process started
}

// Lag is how many records a part is behind; for "results", how many results of the ledger are not published yet.
type Lag struct {
	Part    string    `json:"part"`
	Records float64   `json:"records"`
	History []float64 `json:"history"` // each second, oldest first, at most two minutes
	Topics  []Count   `json:"topics"`  // total is the lag on the topic, minute its change in the last minute
}

// Decision is one decision as the page lists it.
type Decision struct {
	ID       string    `json:"id"`      // topic/partition/offset of the event
	Time     time.Time `json:"time"`    // when it happened, by the channel's clock
	Decided  time.Time `json:"decided"` // when it was decided
	Customer string    `json:"customer"`
	Kind     string    `json:"kind"`
	Channel  string    `json:"channel"`
	Amount   string    `json:"amount"` // decimal, major units; "" when the event has none
	Currency string    `json:"currency"`
	Verdict  string    `json:"verdict"`
	Score    int32     `json:"score"`
	Hits     []Hit     `json:"hits"`
	Ruleset  string    `json:"ruleset"`
	Tier     string    `json:"tier"` // value tier of the customer, "" unknown

	order uint64
}

// Hit is a rule that fired.
type Hit struct {
	Rule   string `json:"rule"`
	Score  int32  `json:"score"`
	Reason string `json:"reason"` // code
	Say    string `json:"say"`    // the code in words, "" if unknown
}

const (
	// smooth is over how many samples a rate is taken: parts work in batches, and a rate of one second jumps.
	smooth = 5
	// minute is the window of latency and counts, in samples.
	minute = 60
	// latencySpan is the window of one point of the latency curve, in samples.
	latencySpan = 10
	// shownCounts bounds a list of counts on the page: the most frequent are shown.
	shownCounts = 20
)

// Status returns what is known at a moment.
func (s *Server) Status(now time.Time) Status {
	window := s.samples.window()
	if len(window) == 0 {
		window = []sample{{at: now}}
	}
	last, before := &window[len(window)-1], &window[max(0, len(window)-1-minute)]
	status := Status{
		Title: s.config.Title, Now: now.UTC(), Started: s.started.UTC(), Latency: latency(window),
		Rates: []Rate{
			rate("events_in", eventsIn, window), rate("decided", decisions, window),
			rate("posted", posted, window), rate("rows", rows, window),
		},
		Verdicts: verdicts(before, last), Lag: lags(window), Rules: frequent(ruleHits, before, last),
		Rejections: frequent(rejected, before, last), DeadLetters: frequent(deadLetters, before, last),
		Restarts: frequent(restarts, before, last), Rulesets: live(last), Decisions: s.recent.list(),
		Links: addresses(s.config.Links),
	}
	if last.has(entities) {
		n := last.sum(entities)
		status.Entities = &n
	}
	status.Parts, status.Ready = s.parts()
	return status
}

func (s *Server) parts() ([]Part, bool) {
	ready, failed := s.config.Ready(), s.config.Failed()
	names := map[string]bool{}
	for name := range ready {
		names[name] = true
	}
	for name := range failed {
		names[name] = true
	}
	parts, all := []Part{}, true
	for _, name := range slices.Sorted(maps.Keys(names)) {
		p := Part{Name: name, Why: ready[name]}
		if why, ok := failed[name]; ok {
			p.Failed, p.Why = true, why
		}
		p.Ready = !p.Failed && p.Why == ""
		all = all && p.Ready
		parts = append(parts, p)
	}
	return parts, all
}

func rate(name, metric string, window []sample) Rate {
	r := Rate{Name: name, History: make([]float64, 0, len(window)), By: []Count{}}
	last := &window[len(window)-1]
	if !last.has(metric) {
		return r
	}
	for i := 1; i < len(window); i++ {
		r.History = append(r.History, perSecond(metric, &window[i-1], &window[i]))
	}
	now, total := perSecond(metric, &window[max(0, len(window)-1-smooth)], last), last.sum(metric)
	r.PerSecond, r.Total = &now, &total
	if tracked[metric][0] != "" {
		r.By = counts(metric, &window[max(0, len(window)-1-minute)], last)
	}
	return r
}

// perSecond is rounded to a tenth; it is 0 for samples that are not apart, and for a counter that was set back.
func perSecond(metric string, from, to *sample) float64 {
	seconds := to.at.Sub(from.at).Seconds()
	if seconds <= 0 {
		return 0
	}
	return math.Round(10*max(0, to.sum(metric)-from.sum(metric))/seconds) / 10
}

func latency(window []sample) Latency {
	last := len(window) - 1
	l := Latency{History: make([]*float64, 0, len(window))}
	if window[last].latency == nil {
		return l
	}
	observed := between(window[max(0, last-minute)].latency, window[last].latency)
	l.Count = observed[len(observed)-1].count
	if p50, _, ok := quantile(0.50, observed); ok {
		l.P50 = milliseconds(p50)
	}
	if p99, above, ok := quantile(0.99, observed); ok {
		l.P99, l.Above = milliseconds(p99), above
	}
	for i := 1; i <= last; i++ {
		var point *float64
		if p99, _, ok := quantile(0.99, between(window[max(0, i-latencySpan)].latency, window[i].latency)); ok {
			point = milliseconds(p99)
		}
		l.History = append(l.History, point)
	}
	return l
}

// milliseconds rounds to the microsecond: the buckets know no better.
func milliseconds(seconds float64) *float64 {
	ms := math.Round(seconds*1e6) / 1e3
	return &ms
}

// verdictOrder is the order of the bar, from harmless to grave.
var verdictOrder = []string{"observed", "approve", "review", "decline", "duplicate"}

func verdicts(before, last *sample) []Count {
	then, now := before.by(decisions), last.by(decisions)
	out := []Count{}
	for _, v := range verdictOrder {
		if total, ok := now[v]; ok {
			out = append(out, Count{Name: v, Minute: max(0, total-then[v]), Total: total})
		}
	}
	return out
}

// counts lists a metric by its first label, by name.
func counts(metric string, before, last *sample) []Count {
	then, now := before.by(metric), last.by(metric)
	out := []Count{}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		out = append(out, Count{Name: name, Minute: max(0, now[name]-then[name]), Total: now[name]})
	}
	return out
}

// frequent lists what happened at all, most frequent in the last minute first.
func frequent(metric string, before, last *sample) []Count {
	all := slices.DeleteFunc(counts(metric, before, last), func(c Count) bool { return c.Total == 0 })
	slices.SortStableFunc(all, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Minute, a.Minute), cmp.Compare(b.Total, a.Total))
	})
	return all[:min(len(all), shownCounts)]
}

func live(last *sample) []string {
	out := []string{}
	for name, value := range last.by(rulesetInfo) {
		if value != 0 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func lags(window []sample) []Lag {
	last, before := &window[len(window)-1], &window[max(0, len(window)-1-minute)]
	out := []Lag{}
	for _, part := range slices.Sorted(maps.Keys(last.by(lagRecords))) {
		l := Lag{Part: part, Records: last.by(lagRecords)[part], Topics: []Count{}}
		for key, value := range last.values {
			if key.metric == lagRecords && key.label == part {
				l.Topics = append(l.Topics, Count{Name: key.second, Minute: value - before.values[key], Total: value})
			}
		}
		slices.SortFunc(l.Topics, func(a, b Count) int { return cmp.Compare(a.Name, b.Name) })
		for i := range window {
			l.History = append(l.History, window[i].by(lagRecords)[part])
		}
		out = append(out, l)
	}
	if last.has(resultsLag) { // rows of the ledger, not records of a topic
		l := Lag{Part: "results", Records: last.sum(resultsLag), Topics: []Count{}}
		for i := range window {
			l.History = append(l.History, window[i].sum(resultsLag))
		}
		out = append(out, l)
	}
	return out
}
