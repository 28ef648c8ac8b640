package tiers

import (
	"context"
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"sluice/consumers/stream"
	"sluice/deploy/embedded/enginestest"
	"sluice/schemas"
	eventsv1 "sluice/schemas/events/v1"
	schema "sluice/schemas/warehouse"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

const patience = 60 * time.Second

type house struct {
	*testing.T
	c     Config
	db    driver.Conn
	topic *kgo.Client       // reads customers.tiers from its start
	seen  map[string]string // customer: tier
}

func newHouse(t *testing.T) *house {
	t.Helper()
	env := enginestest.New(t, enginestest.Kafka, enginestest.ClickHouse)
	h := &house{T: t, seen: map[string]string{}, c: Config{ClickHouse: env.ClickHouseURL, Every: 20 * time.Millisecond,
		Config: stream.Config{Brokers: env.Kafka, Prefix: env.Prefix, Partitions: 3}}}
	if err := h.c.EnsureTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.db, err = schema.Open(env.ClickHouseURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.db.Close() })
	if h.topic, err = h.c.Client(kgo.ConsumeTopics(h.c.Topic(schemas.CustomerTiers)), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.topic.Close)
	return h
}

func (h *house) apply() {
	h.Helper()
	if err := schema.Apply(h.Context(), h.c.ClickHouse, schema.Options{TierRefresh: time.Hour}); err != nil {
		h.Fatal(err)
	}
}

// count adds a day of n payments of a customer.
func (h *house) count(customer string, n, spent int64) {
	h.Helper()
	if err := h.db.Exec(h.Context(), `INSERT INTO customer_days (day, customer_id, currency, payments, spent_minor, active, last_active)
		VALUES ('2026-09-01', ?, 'CNY', ?, ?, ?, '2026-09-01 10:00:00')`, customer, n, spent, n); err != nil {
		h.Fatal(err)
	}
}

// refresh computes the tiers anew and returns them.
func (h *house) refresh() map[string]string {
	h.Helper()
	for _, s := range []string{"SYSTEM REFRESH VIEW customer_tiers_refresh", "SYSTEM WAIT VIEW customer_tiers_refresh"} {
		if err := h.db.Exec(h.Context(), s); err != nil {
			h.Fatal(err)
		}
	}
	rows, err := h.db.Query(h.Context(), "SELECT customer_id, concat(tier, ' ', toString(recency), toString(frequency), toString(monetary)) FROM customer_tiers")
	if err != nil {
		h.Fatal(err)
	}
	tiers := map[string]string{}
	for rows.Next() {
		var customer, tier string
		if err := rows.Scan(&customer, &tier); err != nil {
			h.Fatal(err)
		}
		tiers[customer] = tier
	}
	return tiers
}

// start runs the part until the returned function is called.
func (h *house) start() (metrics *prometheus.Registry, stop func()) {
	h.Helper()
	ctx, cancel := context.WithCancel(h.Context())
	c := h.c
	ready := make(chan struct{})
	registry := prometheus.NewRegistry()
	c.Metrics = registry
	c.Ready = func() { close(ready) }
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, c) }()
	select {
	case <-ready:
	case err := <-ended:
		h.Fatalf("it ended before it was ready: %v", err)
	}
	return registry, func() {
		cancel()
		if err := <-ended; err != nil {
			h.Errorf("it ended with %v", err)
		}
	}
}

// expect reads the topic until it says what is wanted.
func (h *house) expect(want map[string]string) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	for !maps.Equal(h.seen, want) {
		fetches := h.topic.PollFetches(ctx)
		if ctx.Err() != nil {
			h.Fatalf("the topic says %v, want %v", h.seen, want)
		}
		for _, r := range fetches.Records() {
			var m eventsv1.CustomerTier
			if err := proto.Unmarshal(r.Value, &m); err != nil || m.CustomerId != string(r.Key) || m.AsOfUs == 0 || m.Recency < 1 || m.Recency > 5 {
				h.Fatalf("published %v, %v", &m, err)
			}
			h.seen[m.CustomerId] = fmt.Sprintf("%s %d%d%d", m.Tier, m.Recency, m.Frequency, m.Monetary)
		}
	}
}

func publishedBy(t *testing.T, r *prometheus.Registry) int {
	t.Helper()
	c := stream.Register(r, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sluice_tiers_published_total", Help: "Customers whose changed value tier was published."}))
	return int(testutil.ToFloat64(c))
}

// changes counts the customers whose standing differs.
func changes(before, after map[string]string) (n int) {
	for customer, standing := range after {
		if before[customer] != standing {
			n++
		}
	}
	return n
}

// Tiers are published when they are computed, again when they change, and not when they do not: also not by another run.
func TestPublishesWhatChanged(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	metrics, stop := h.start() // before there is any table
	h.apply()
	for i := range int64(10) {
		h.count(fmt.Sprintf("C%d", i), 1+i, 100*(1+i))
	}
	first := h.refresh()
	h.expect(first)
	stop()
	if n := publishedBy(t, metrics); n != 10 {
		t.Errorf("%d were published, want 10", n)
	}
	metrics, stop = h.start()
	h.refresh() // the same again
	h.count("C4", 3, 0)
	second := h.refresh()
	h.expect(second)
	stop()
	if n, want := publishedBy(t, metrics), changes(first, second); n != want || want == 0 || want == 10 {
		t.Errorf("%d were published, want the %d that changed", n, want)
	}
}
