package poster

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"sluice/consumers/stream"
	"sluice/pipelines/payments"
)

const (
	// watchInterval is how often the book is asked what waits too long.
	watchInterval = 15 * time.Second
	// maxStuck bounds what is counted each time: a number above it says no more than that there is much to do.
	maxStuck = 100_000
)

const (
	sqlStuck    = `SELECT status, count(*) FROM (SELECT status FROM stuck_payments WHERE status <> 'early' OR due_at >= at - $2::interval LIMIT $1) s GROUP BY status`
	sqlDisputes = `
		SELECT count(*), count(*) FILTER (WHERE p.due_at < s.clock)
		FROM payments p JOIN shards s ON s.shard = p.shard WHERE p.status = 'disputed'`
)

// waiting are the metrics of what waits. Each poster shows those of the whole book: they are not to be added up.
type waiting struct {
	stuck         *prometheus.GaugeVec
	open, overdue prometheus.Gauge
}

func newWaiting(r prometheus.Registerer) *waiting {
	return &waiting{
		stuck: stream.Register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sluice_payments_stuck", Help: "Payments past their limit by status, and events that came early and wait too long."}, []string{"status"})),
		open: stream.Register(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sluice_disputes_open", Help: "Disputes that are not decided."})),
		overdue: stream.Register(r, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sluice_disputes_overdue", Help: "Open disputes whose evidence or decision is overdue."})),
	}
}

// look asks the book once.
func (w *waiting) look(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, sqlStuck, maxStuck, payments.EarlyListed)
	if err != nil {
		return fmt.Errorf("count what is stuck: %w", err)
	}
	stuck := map[string]float64{"early": 0}
	for _, l := range payments.Limits {
		stuck[l.Status.String()] = 0 // none is a number too: alerts compare
	}
	var status string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&status, &n}, func() error {
		stuck[status] = float64(n)
		return nil
	}); err != nil {
		return fmt.Errorf("count what is stuck: %w", err)
	}
	var open, overdue int64
	if err := conn.QueryRow(ctx, sqlDisputes).Scan(&open, &overdue); err != nil {
		return fmt.Errorf("count the disputes: %w", err)
	}
	for status, n := range stuck {
		w.stuck.WithLabelValues(status).Set(n)
	}
	w.open.Set(float64(open))
	w.overdue.Set(float64(overdue))
	return nil
}

// watchWaiting asks the book every watchInterval until ctx ends. What fails is tried again with the next: posting does not wait for it.
func (p *poster) watchWaiting(ctx context.Context) {
	w := newWaiting(p.Metrics)
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		if err := p.lookOnce(ctx, w); err != nil && ctx.Err() == nil {
			p.Log.Warn("poster: the book was not asked what waits too long", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *poster) lookOnce(ctx context.Context, w *waiting) error {
	ctx, cancel := context.WithTimeout(ctx, watchInterval)
	defer cancel()
	conn, err := connect(ctx, p.Postgres, "sluice-poster-watch", watchInterval, p.Dial)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	return w.look(ctx, conn)
}
