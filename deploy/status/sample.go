package status

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// The metrics that the page shows; what each means is said where it is registered and in deploy/prometheus/METRICS.md.
const (
	eventsIn        = "sluice_gate_events_total"
	decisions       = "sluice_gate_decisions_total"
	decisionSeconds = "sluice_gate_decision_seconds"
	ruleHits        = "sluice_gate_rule_hits_total"
	rulesetInfo     = "sluice_gate_ruleset_info"
	entities        = "sluice_gate_entities"
	posted          = "sluice_poster_decisions_total"
	transfers       = "sluice_poster_transfers_total"
	rejected        = "sluice_poster_rejected_total"
	rows            = "sluice_warehouse_rows_total"
	lagRecords      = "sluice_lag_records"
	resultsLag      = "sluice_results_lag"
	deadLetters     = "sluice_deadletters_total"
	restarts        = "sluice_part_restarts_total"
)

// tracked says which labels of a metric tell its values apart on the page; values that differ in other labels are added.
var tracked = map[string][2]string{
	eventsIn: {"topic"}, decisions: {"verdict"}, ruleHits: {"rule"}, rulesetInfo: {"ruleset"}, entities: {},
	posted: {}, transfers: {}, rejected: {"code"}, rows: {"table"}, lagRecords: {"part", "topic"}, resultsLag: {},
	deadLetters: {"reason"}, restarts: {"part"},
}

const (
	sampleEvery = time.Second
	// keptSamples is the length of the page's little curves: two minutes.
	keptSamples = 120
	// maxSeries bounds one sample: hundreds of rules are drawn, more would only cost memory.
	maxSeries = 2000
)

// series is one value of a tracked metric.
type series struct{ metric, label, second string }

// bucket of a histogram: how many observations were at most le seconds.
type bucket struct {
	le    float64
	count uint64
}

// sample is what the metrics said at one moment.
type sample struct {
	at      time.Time
	values  map[series]float64
	latency []bucket // ascending, the last at +Inf; nil when this process decides nothing
}

// has says whether the process has the metric at all, and sum adds its values up.
func (s *sample) has(metric string) bool {
	for key := range s.values {
		if key.metric == metric {
			return true
		}
	}
	return false
}

func (s *sample) sum(metric string) float64 {
	total := 0.0
	for key, value := range s.values {
		if key.metric == metric {
			total += value
		}
	}
	return total
}

// by adds the values of a metric up by its first label.
func (s *sample) by(metric string) map[string]float64 {
	out := map[string]float64{}
	for key, value := range s.values {
		if key.metric == metric {
			out[key.label] += value
		}
	}
	return out
}

// sampler keeps the last keptSamples samples.
type sampler struct {
	mu   sync.Mutex
	ring [keptSamples]sample
	next int
	full bool
}

// take reads the metrics. What can be read is kept even if the error says that some cannot.
func (s *sampler) take(at time.Time, from prometheus.Gatherer) error {
	families, err := from.Gather()
	if err != nil {
		err = fmt.Errorf("gather the metrics: %w", err)
	}
	taken := read(at, families)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring[s.next] = taken
	s.next = (s.next + 1) % keptSamples
	s.full = s.full || s.next == 0
	return err
}

// window returns the samples kept, oldest first.
func (s *sampler) window() []sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.full {
		return append([]sample(nil), s.ring[:s.next]...)
	}
	return append(append([]sample(nil), s.ring[s.next:]...), s.ring[:s.next]...)
}

func read(at time.Time, families []*dto.MetricFamily) sample {
	taken := sample{at: at, values: map[series]float64{}}
	for _, family := range families {
		name := family.GetName()
		if name == decisionSeconds {
			taken.latency = readHistogram(family)
			continue
		}
		labels, ok := tracked[name]
		if !ok {
			continue
		}
		for _, m := range family.GetMetric() {
			if len(taken.values) == maxSeries {
				return taken
			}
			key := series{name, labelOf(m, labels[0]), labelOf(m, labels[1])}
			taken.values[key] += m.GetCounter().GetValue() + m.GetGauge().GetValue() // one of them is nil, and so 0
		}
	}
	return taken
}

func labelOf(m *dto.Metric, name string) string {
	for _, pair := range m.GetLabel() {
		if pair.GetName() == name && name != "" {
			return pair.GetValue()
		}
	}
	return ""
}

// readHistogram adds up the histograms of a family, which all have the same buckets.
func readHistogram(family *dto.MetricFamily) []bucket {
	var out []bucket
	for _, m := range family.GetMetric() {
		h := m.GetHistogram()
		bounds := h.GetBucket()
		if out == nil {
			out = make([]bucket, 0, len(bounds)+1)
			for _, b := range bounds {
				if !math.IsInf(b.GetUpperBound(), 1) {
					out = append(out, bucket{le: b.GetUpperBound()})
				}
			}
			out = append(out, bucket{le: math.Inf(1)})
		}
		for i := range min(len(bounds), len(out)-1) {
			out[i].count += bounds[i].GetCumulativeCount()
		}
		out[len(out)-1].count += h.GetSampleCount()
	}
	return out
}

// between returns what was observed from one reading of a histogram to a later one.
func between(from, to []bucket) []bucket {
	out := append([]bucket(nil), to...)
	for i := range out {
		if i < len(from) && from[i].le == out[i].le && from[i].count <= out[i].count {
			out[i].count -= from[i].count
		}
	}
	return out
}

// quantile estimates the q-quantile in seconds, taking observations to lie evenly within their bucket, as Prometheus does.
// above: it lies above the largest finite bound, which is what is returned. ok is false without observations.
func quantile(q float64, buckets []bucket) (seconds float64, above, ok bool) {
	if len(buckets) == 0 || buckets[len(buckets)-1].count == 0 {
		return 0, false, false
	}
	rank := q * float64(buckets[len(buckets)-1].count)
	below, lower := 0.0, 0.0
	for _, b := range buckets {
		if float64(b.count) < rank || b.count == 0 {
			below, lower = float64(b.count), b.le
			continue
		}
		if math.IsInf(b.le, 1) {
			return lower, true, true
		}
		return lower + (b.le-lower)*(rank-below)/(float64(b.count)-below), false, true
	}
	return lower, true, true
}
