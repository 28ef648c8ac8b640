package poster

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/schemas/events"
)

// Open holds are counted by shard, and the oldest that another shard's events have passed is known by how long.
func TestHoldFigures(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	w, conn := newWriter(t, url, payments0, part{"payments.decided", 1}), reader(t, url)
	hold := func(after time.Duration) events.Decision {
		d := payment(purchase, byCard, "A", "M", 700)
		d.Event.Kind, d.Event.Time = events.PaymentAuthorized, start.Add(after)
		return d
	}
	const day = 24 * time.Hour
	w.must(t,
		decided(t, 0, 0, hold(0)), // would end on day 7
		decided(t, 0, 1, hold(day)),
		decided(t, 1, 0, hold(0)), // ended by its own shard's clock
		decided(t, 1, 1, hold(8*day+time.Hour)))
	got, err := readHoldFigures(t.Context(), conn, []int32{0, 1})
	if err != nil {
		t.Fatal(err)
	}
	if want := []holdFigures{{0, 2, (day + time.Hour).Seconds()}, {1, 1, 0}}; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// However many holds there were, only the index of the open ones is read.
func TestHoldFiguresReadTheIndex(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	conn, err := connect(t.Context(), url, "test", DefaultBatchTimeout, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(conn)
	plan := strings.Join(list(t, conn, "EXPLAIN "+strings.NewReplacer("$1", "'{0}'", "$2", "100000").Replace(sqlHoldFigures)), "\n")
	if n := strings.Count(plan, "Index Only Scan using holds_due"); n != 2 || strings.Contains(plan, "on holds_pkey") {
		t.Errorf("the plan:\n%s", plan)
	}
}

// Run shows the figures of what it owns, and no longer those of what it lost.
func TestHoldMetrics(t *testing.T) {
	t.Parallel()
	m := newMetrics(prometheus.NewRegistry())
	m.holds([]holdFigures{{0, 2, 60}, {3, 1, 0}})
	m.holds([]holdFigures{{3, 5, 0}})
	if len(m.shown) != 1 || !m.shown["3"] {
		t.Errorf("shown are %v", m.shown)
	}
	w := newWorld(t, 2)
	registry := prometheus.NewRegistry()
	stop, _ := w.start(func(c *Config) { c.Metrics = registry })
	shards := func() int { return values(t, registry, "sluice_ledger_open_holds") }
	await(t, "the open holds of both shards", func() bool { return shards() == 2 })
	stop()
	if n := shards(); n != 0 {
		t.Errorf("a poster that is gone shows the holds of %d shards", n)
	}
}

// values counts the values of a metric.
func values(t *testing.T, registry *prometheus.Registry, name string) int {
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return len(f.GetMetric())
		}
	}
	return 0
}
