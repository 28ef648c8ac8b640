package poster

import (
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/consumers/stream"
	"sluice/pipelines/ledger"
	"sluice/pipelines/payments"
)

// metrics are the poster's; they outlive a run.
type metrics struct {
	decisions, transfers, fenced prometheus.Counter
	rejected                     *prometheus.CounterVec
	deadLetters                  *prometheus.CounterVec
	seconds                      prometheus.Histogram
	lag                          *prometheus.GaugeVec
	openHolds, overdueHold       *prometheus.GaugeVec

	shown map[string]bool // shards with figures of holds; watchHolds alone has it

	mu   sync.Mutex
	lags map[part]int64
}

func newMetrics(r prometheus.Registerer) *metrics {
	return &metrics{
		decisions: stream.Register(r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_poster_decisions_total", Help: "Decided events the book has answered."})),
		transfers: stream.Register(r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_poster_transfers_total", Help: "Transfers posted."})),
		fenced: stream.Register(r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_poster_fenced_total", Help: "Batches given up because another poster owns the partition."})),
		rejected: stream.Register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_poster_rejected_total", Help: "Decided events by the code with which the book moved no money for them."}, []string{"code"})),
		deadLetters: stream.DeadLetters(r),
		seconds: stream.Register(r, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_poster_batch_seconds", Help: "Duration of a batch, from its records in memory to its commit.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)})),
		lag: stream.Lag(r),
		openHolds: stream.Register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sluice_ledger_open_holds", Help: "Open holds, at most 100,000 of a shard are counted."}, []string{"shard"})),
		overdueHold: stream.Register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sluice_ledger_overdue_hold_seconds", Help: "Event time since the oldest open hold should have ended, by the newest event of any shard; 0 for none."}, []string{"shard"})),
		shown: map[string]bool{},
		lags:  map[part]int64{},
	}
}

// posted counts a committed batch.
func (m *metrics) posted(b *batch, took time.Duration) {
	m.seconds.Observe(took.Seconds())
	m.decisions.Add(float64(len(b.entries)))
	m.transfers.Add(float64(b.transfers()))
	for i := range b.entries {
		e := &b.entries[i]
		if e.reason != "" {
			m.deadLetters.WithLabelValues(e.reason).Inc()
		}
		switch e.code {
		case ledger.OK.String(), codeIgnored, codeRecorded, payments.CodeAuthorized, payments.CodeReleased, payments.CodeRerouted, payments.CodeEarly:
		default:
			m.rejected.WithLabelValues(e.code).Inc()
		}
	}
}

// read notes how far a partition has been read.
func (m *metrics) read(at part, end, next int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lags[at] = max(end-next, 0)
	m.show(at.topic)
}

// forget drops a partition that another poster has now.
func (m *metrics) forget(at part) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.lags, at)
	m.show(at.topic)
}

func (m *metrics) show(topic string) {
	var sum int64
	for p, lag := range m.lags {
		if p.topic == topic {
			sum += lag
		}
	}
	m.lag.WithLabelValues("poster", topic).Set(float64(sum))
}

// violates says whether err is the violation of a named constraint.
func violates(err error, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.ConstraintName == constraint
}
