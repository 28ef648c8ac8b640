package poster

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// holdsEvery is how often the holds are counted at most.
	holdsEvery = 15 * time.Second
	// holdsCounted bounds the open holds that are counted of a shard: more cost time and say no more.
	holdsCounted = 100_000
)

// sqlHoldFigures counts and finds by the index holds_due alone. Overdue is what the newest event of any shard has passed: a
// shard lets a hold expire before it answers its next event, and may have none for long.
const sqlHoldFigures = `
	SELECT s.shard,
		(SELECT count(*) FROM (SELECT FROM holds h WHERE h.shard = s.shard AND h.posted + h.voided + h.expired < h.amount LIMIT $2) open),
		coalesce((SELECT extract(epoch FROM newest.clock - h.expires_at)::float8 FROM holds h
			WHERE h.shard = s.shard AND h.expires_at <= newest.clock AND h.posted + h.voided + h.expired < h.amount ORDER BY h.expires_at LIMIT 1), 0)
	FROM shards s, (SELECT max(clock) AS clock FROM shards) newest WHERE s.shard = ANY ($1) ORDER BY s.shard`

// holdFigures are a shard's open holds.
type holdFigures struct {
	shard   int32
	open    int64   // at most holdsCounted
	overdue float64 // seconds of event time since the oldest should have ended; 0 for none
}

func readHoldFigures(ctx context.Context, conn *pgx.Conn, shards []int32) ([]holdFigures, error) {
	rows, err := conn.Query(ctx, sqlHoldFigures, shards, holdsCounted)
	if err != nil {
		return nil, fmt.Errorf("count the open holds: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (f holdFigures, err error) {
		return f, row.Scan(&f.shard, &f.open, &f.overdue)
	})
}

// watchHolds shows the open holds of the partitions that this poster owns, from soon after it got them until ctx ends.
// What goes wrong is left out: it is a display, and whoever posts meets the same database.
func (p *poster) watchHolds(ctx context.Context) {
	every := time.NewTicker(holdsEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.assignedNow:
		case <-every.C:
		}
		p.showHolds(ctx)
	}
}

func (p *poster) showHolds(ctx context.Context) {
	shards := p.shards()
	var figures []holdFigures
	if len(shards) > 0 {
		conn, err := connect(ctx, p.Postgres, "sluice-poster", p.Timeout, p.Dial)
		if err != nil {
			return
		}
		defer closeConn(conn)
		if figures, err = readHoldFigures(ctx, conn, shards); err != nil {
			return
		}
	}
	p.metrics.holds(figures)
}

// shards are those whose partitions this poster owns.
func (p *poster) shards() []int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []int32
	for at := range p.owned {
		all = append(all, at.partition)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// holds shows the figures; shards that are not among them are another poster's.
func (m *metrics) holds(figures []holdFigures) {
	seen := map[string]bool{}
	for _, f := range figures {
		shard := strconv.Itoa(int(f.shard))
		seen[shard], m.shown[shard] = true, true
		m.openHolds.WithLabelValues(shard).Set(float64(f.open))
		m.overdueHold.WithLabelValues(shard).Set(f.overdue)
	}
	for shard := range m.shown {
		if !seen[shard] {
			delete(m.shown, shard)
			m.openHolds.DeleteLabelValues(shard)
			m.overdueHold.DeleteLabelValues(shard)
		}
	}
}
