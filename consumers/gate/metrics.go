package gate

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/stream"
	"sluice/pipelines/routing"
	"sluice/schemas/events"
)

// lagEvery is how often the lag figures are set.
const lagEvery = time.Second

type metrics struct {
	events, decisions, ruleHits, deadLetters *prometheus.CounterVec
	braked, shadows                          *prometheus.CounterVec
	aborted, misrouted, refused              prometheus.Counter
	listsRefused, channelsRefused            prometheus.Counter
	decision, transaction                    prometheus.Histogram
	entities                                 prometheus.Gauge
	ruleset, shadowInfo, listEntries, lag    *prometheus.GaugeVec
	channelSuccess, channelAnswers           *prometheus.GaugeVec
	channelDown, channelInfo                 *prometheus.GaugeVec
	routes                                   *prometheus.CounterVec

	byTopic   map[string]prometheus.Counter
	byVerdict [events.Duplicate + 1]prometheus.Counter
	byRule    map[string]prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return stream.Register(r, prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help}))
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return stream.Register(r, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return stream.Register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels))
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return stream.Register(r, prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}))
	}
	m := &metrics{
		events:      counters("sluice_gate_events_total", "Events decided, by input topic.", "topic"),
		decisions:   counters("sluice_gate_decisions_total", "Decisions, by verdict.", "verdict"),
		ruleHits:    counters("sluice_gate_rule_hits_total", "Decisions in which a rule fired.", "rule"),
		deadLetters: stream.DeadLetters(r),
		aborted:     counter("sluice_gate_transactions_aborted_total", "Transactions aborted; their events are decided again."),
		misrouted:   counter("sluice_gate_misrouted_total", "Events that stood in another partition than their key's."),
		refused:     counter("sluice_gate_rulesets_refused_total", "Published rulesets that did not load."),
		decision:    histogram("sluice_gate_decision_seconds", "From the event's Kafka timestamp to its committed decision.", decisionBuckets),
		transaction: histogram("sluice_gate_transaction_seconds", "From a poll's first record to the commit of its transaction.", prometheus.ExponentialBuckets(0.0005, 2, 16)),
		entities: stream.Register(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sluice_gate_entities", Help: "Entities whose aggregates are in memory."})),
		ruleset:         gauges("sluice_gate_ruleset_info", "1 for the ruleset in force.", "ruleset"),
		braked:          counters("sluice_gate_rule_braked_total", "Decisions in which a rule fired that its brake held: it could ask for review only.", "rule"),
		shadows:         counters("sluice_gate_shadow_decisions_total", "Verdicts of shadow rulesets, which have no effect.", "ruleset", "verdict"),
		shadowInfo:      gauges("sluice_gate_shadow_info", "1 for each shadow ruleset that is asked.", "shadow", "ruleset"),
		listEntries:     gauges("sluice_gate_list_entries", "Entries of each list, expired ones included.", "list"),
		listsRefused:    counter("sluice_gate_list_entries_refused_total", "Published list entries that could not be read or had no room."),
		lag:             stream.Lag(r),
		channelSuccess:  gauges("sluice_channel_success_ratio", "Good answers of a payment channel among all in the window of its table, all partitions together; none where there were no answers.", "channel"),
		channelAnswers:  gauges("sluice_channel_answers", "Answers of a payment channel in the window of its table.", "channel"),
		channelDown:     gauges("sluice_channel_down", "1 for a payment channel that counts as down and gets the probe's share alone.", "channel"),
		channelInfo:     gauges("sluice_channels_info", "1 for the table of payment channels in force.", "table"),
		channelsRefused: counter("sluice_gate_channels_refused_total", "Published tables of payment channels that did not load."),
		routes:          counters("sluice_route_choices_total", "Payments that the house looked for a payment channel for, by the channel and by why: cheapest, explored, probed, asked, least, none.", "channel", "reason"),
		byTopic:         map[string]prometheus.Counter{}, byRule: map[string]prometheus.Counter{},
	}
	for v := events.Observed; v <= events.Duplicate; v++ {
		m.byVerdict[v] = m.decisions.WithLabelValues(v.String())
	}
	return m
}

// committed counts a committed transaction.
func (m *metrics) committed(t *transaction, entities int) {
	now := time.Now()
	m.transaction.Observe(now.Sub(t.begun).Seconds())
	m.entities.Set(float64(entities))
	m.misrouted.Add(float64(t.misrouted))
	for _, code := range t.letters {
		m.deadLetters.WithLabelValues(string(code)).Inc()
	}
	for i := range t.decisions {
		d := &t.decisions[i]
		m.byVerdict[d.Verdict].Inc()
		cached(m.byTopic, m.events, d.Topic).Inc()
		m.decision.Observe(now.Sub(d.Received).Seconds())
		if d.Route.Reason != "" {
			m.routes.WithLabelValues(d.Route.Channel, routing.ReasonWord(d.Route.Reason)).Inc()
		}
		for j := range d.Hits {
			cached(m.byRule, m.ruleHits, d.Hits[j].Rule).Inc()
			if d.Hits[j].Braked {
				m.braked.WithLabelValues(d.Hits[j].Rule).Inc()
			}
		}
	}
	for _, s := range t.shadows {
		m.shadows.WithLabelValues(s.ruleset, s.verdict.String()).Inc()
	}
}

// inForce shows which rulesets decide and which are asked beside.
func (m *metrics) inForce(r *ruling) {
	m.ruleset.Reset()
	m.ruleset.WithLabelValues(r.live.ID()).Set(1)
	m.channelInfo.Reset()
	if r.table != nil {
		m.channelInfo.WithLabelValues(r.table.ID()).Set(1)
	}
	m.shadowInfo.Reset()
	for _, s := range r.asked {
		m.shadowInfo.WithLabelValues(s.name, s.rules.ID()).Set(1)
	}
}

// cached spares the hashing of a label value that comes with every event.
func cached(known map[string]prometheus.Counter, vec *prometheus.CounterVec, label string) prometheus.Counter {
	c, ok := known[label]
	if !ok {
		c = vec.WithLabelValues(label)
		known[label] = c
	}
	return c
}

// A lagMeter knows how far each input partition is from its end.
type lagMeter struct {
	behind map[string]map[int32]int64 // topic → partition → records
	set    time.Time
}

// observe takes the positions after a poll from what the fetch responses say of the ends.
func (l *lagMeter) observe(fetches kgo.Fetches, inputs map[string]string, m *metrics) {
	if l.behind == nil {
		l.behind = map[string]map[int32]int64{}
	}
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if len(p.Records) == 0 || p.Topic == "" {
			return
		}
		if l.behind[p.Topic] == nil {
			l.behind[p.Topic] = map[int32]int64{}
		}
		l.behind[p.Topic][p.Partition] = max(0, p.HighWatermark-1-p.Records[len(p.Records)-1].Offset)
	})
	if time.Since(l.set) < lagEvery {
		return
	}
	l.set = time.Now()
	for topic, base := range inputs {
		sum := int64(0)
		for _, n := range l.behind[topic] {
			sum += n
		}
		m.lag.WithLabelValues(part, base).Set(float64(sum))
	}
}

// forget drops the figures of partitions that are another gate's now.
func (l *lagMeter) forget() { l.behind = nil }

// decisionBuckets, in seconds: the budget of 50 ms is a bound of its own, so that a p99 against it is not interpolated.
var decisionBuckets = []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60}
