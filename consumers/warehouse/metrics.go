package warehouse

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/consumers/stream"
)

// lagEvery is how often the lag is measured: also while ClickHouse is away and nothing is polled.
const lagEvery = 2 * time.Second

type metrics struct {
	rows    *prometheus.CounterVec
	batch   prometheus.Histogram
	resent  prometheus.Counter
	retries prometheus.Counter
	lag     *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	return &metrics{
		rows: stream.Register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_warehouse_rows_total", Help: "Rows sent to ClickHouse, those of batches sent again included."}, []string{"table"})),
		batch: stream.Register(r, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_warehouse_batch_seconds", Help: "Time to convert and insert one partition's batch.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 16)})),
		resent: stream.Register(r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_warehouse_resent_total", Help: "Batches planned by an earlier owner of the partition and sent again."})),
		retries: stream.Register(r, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_warehouse_retries_total", Help: "Inserts that failed and were sent again."})),
		lag: stream.Lag(r),
	}
}

// watchLag measures the lag until ctx ends.
func (w *warehouse) watchLag(ctx context.Context) {
	tick := time.NewTicker(lagEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.measureLag(ctx)
		}
	}
}

// measureLag compares the ends of the partitions, as readers of committed records see them, with what is in ClickHouse.
// A broker that does not answer leaves the last figure.
func (w *warehouse) measureLag(ctx context.Context) {
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = w.c.Topic(t)
	}
	ctx, cancel := context.WithTimeout(ctx, lagEvery)
	defer cancel()
	ends, err := w.admin.ListCommittedOffsets(ctx, names...)
	if err != nil {
		return
	}
	lag := map[string]int64{}
	w.mu.Lock()
	for _, p := range w.partitions {
		end, ok := ends.Lookup(p.topic, p.partition)
		if !ok || end.Err != nil {
			continue
		}
		lag[w.c.Base(p.topic)] += max(0, end.Offset-max(p.next, 0))
	}
	w.mu.Unlock()
	for _, t := range topics {
		w.metrics.lag.WithLabelValues(part, t).Set(float64(lag[t]))
	}
}
