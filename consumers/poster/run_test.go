package poster

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/stream"
	"sluice/deploy/embedded/enginestest"
	"sluice/schemas"
)

// patience bounds the wait for something that must happen; no test depends on how long it takes.
const patience = 2 * time.Minute

// world is Kafka, a book and posters between them.
type world struct {
	t      *testing.T
	config Config
	url    string
	book   *pgx.Conn
	client *kgo.Client
	sent   map[int32]int64 // next event by partition
	group  sync.WaitGroup
}

func newWorld(t *testing.T, partitions int32) *world {
	t.Helper()
	env := enginestest.New(t, enginestest.Kafka, enginestest.Postgres)
	w := &world{t: t, url: env.PostgresURL, sent: map[int32]int64{}}
	w.config = Config{Config: stream.Config{Brokers: env.Kafka, Prefix: env.Prefix, Partitions: partitions}.Fill(), Postgres: env.PostgresURL}
	if err := Migrate(t.Context(), w.url); err != nil {
		t.Fatal(err)
	}
	if err := w.config.EnsureTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.client, err = w.config.Client(kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	t.Cleanup(w.group.Wait)
	w.book = reader(t, w.url)
	return w
}

// start runs a poster as the house does, until the returned function is called or the test ends.
func (w *world) start(change func(*Config)) (stop func(), ready <-chan struct{}) {
	w.t.Helper()
	c := w.config
	c.Metrics = prometheus.NewRegistry()
	announced := make(chan struct{}, 1)
	c.Ready = func() {
		select {
		case announced <- struct{}{}:
		default:
		}
	}
	if change != nil {
		change(&c)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan struct{})
	w.group.Add(1)
	go func() {
		defer w.group.Done()
		defer close(ended)
		if err := c.Supervise(ctx, "poster", func(ctx context.Context) error { return Run(ctx, c) }); err != nil {
			w.t.Errorf("the poster ended: %v", err)
		}
	}()
	return func() { cancel(); <-ended }, announced
}

// send publishes n top-ups of 1.00 on each partition, each into a wallet of its own partition.
func (w *world) send(n int) {
	w.t.Helper()
	var records []*kgo.Record
	for p := range w.config.Partitions {
		for range n {
			r := decided(w.t, p, w.sent[p], payment(topUp, byBank, fmt.Sprintf("C%d", p), "", 100))
			r.Topic = w.config.Topic(schemas.PaymentsDecided)
			r.Timestamp = time.Time{} // now: retention goes by it, and a real broker takes away what is old
			w.sent[p]++
			records = append(records, r)
		}
	}
	if err := w.client.ProduceSync(w.t.Context(), records...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

// posted waits until everything sent is in the book, and holds the book against it.
func (w *world) posted() {
	w.t.Helper()
	var want int64
	for _, n := range w.sent {
		want += n
	}
	await(w.t, fmt.Sprintf("%d results in the book", want), func() bool {
		return one[int64](w.t, w.book, "SELECT count(*) FROM results") >= want
	})
	posted, all := one[int64](w.t, w.book, "SELECT count(*) FROM results WHERE code = 'posted'"), one[int64](w.t, w.book, "SELECT count(*) FROM results")
	if posted != want || all != want {
		w.t.Errorf("%d events posted of %d answered, want %d: %v", posted, all, want, list(w.t, w.book, "SELECT code || ' ' || count(*) FROM results GROUP BY code"))
	}
	for p, n := range w.sent {
		if got := one[int64](w.t, w.book, "SELECT balance FROM accounts WHERE key = $1", fmt.Sprintf("wallet:C%d:CNY", p)); got != 100*n {
			w.t.Errorf("partition %d: balance %d, want %d", p, got, 100*n)
		}
		if got := one[int64](w.t, w.book, `SELECT next_offset FROM offsets WHERE topic = 'payments.decided' AND "partition" = $1`, p); got != n {
			w.t.Errorf("partition %d: offset %d, want %d", p, got, n)
		}
	}
	checkBook(w.t, w.book)
}

// await looks until it is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func restarts(c *Config) float64 {
	families, err := c.Metrics.(*prometheus.Registry).Gather()
	if err != nil {
		return 0
	}
	for _, f := range families {
		if f.GetName() == "sluice_part_restarts_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}

func TestPosterGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	for range 3 {
		w.send(40)
		stop, _ := w.start(nil)
		w.posted()
		stop()
	}
}

// Partitions move between posters that come and go under load.
func TestPartitionsMove(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	stopFirst, ready := w.start(nil)
	<-ready
	w.send(50)
	stopSecond, ready := w.start(nil)
	w.send(50)
	<-ready
	w.send(50)
	stopFirst()
	w.send(50)
	stopThird, ready := w.start(nil)
	w.send(50)
	<-ready
	w.posted()
	w.send(10)
	w.posted()
	stopSecond()
	w.send(10)
	w.posted()
	stopThird()
}

// A database that falls silent is noticed; once it speaks again nothing is lost or doubled.
func TestDatabaseHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	u, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	wire := newWire(t, u.Host)
	var config Config
	stop, ready := w.start(func(c *Config) {
		c.Dial, c.Timeout = wire.dial, time.Second
		config = *c
	})
	defer stop()
	<-ready
	w.send(20)
	w.posted()
	before := restarts(&config)
	wire.hold()
	w.send(20)
	await(t, "the poster notices", func() bool { return restarts(&config) > before })
	wire.release()
	w.posted()
}

// Another session that locks the accounts away is waited for, again and again.
func TestTableIsLocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	var config Config
	stop, ready := w.start(func(c *Config) {
		c.Timeout = 300 * time.Millisecond
		config = *c
	})
	defer stop()
	<-ready
	w.send(20)
	w.posted()
	tx, err := reader(t, w.url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE accounts IN EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	before := restarts(&config)
	w.send(20)
	await(t, "the poster gives up waiting", func() bool { return restarts(&config) > before })
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.posted()
}

// A database without tables is a fatal error that says what to do.
func TestTablesAreMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	c := w.config
	c.Postgres = enginestest.New(t, enginestest.Postgres).PostgresURL
	err := c.Supervise(t.Context(), "poster", func(ctx context.Context) error { return Run(ctx, c) })
	if err == nil {
		t.Error("the poster runs without tables")
	}
}
