package results

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"sluice/consumers/poster"
	"sluice/consumers/stream"
	"sluice/deploy/embedded/enginestest"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

const (
	partitions = 2
	// patience bounds the wait for something that must happen; no test depends on how long it takes.
	patience = 2 * time.Minute
)

// world is Kafka and a book that a poster fills.
type world struct {
	t      *testing.T
	config Config
	client *kgo.Client
	book   *pgx.Conn
	sent   int64 // by partition
}

func newWorld(t *testing.T) *world {
	t.Helper()
	env := enginestest.New(t, enginestest.Kafka, enginestest.Postgres)
	w := &world{t: t, config: Config{Config: stream.Config{Brokers: env.Kafka, Prefix: env.Prefix, Partitions: partitions}.Fill(), Postgres: env.PostgresURL}}
	if err := poster.Migrate(t.Context(), env.PostgresURL); err != nil {
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
	if w.book, err = pgx.Connect(t.Context(), env.PostgresURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.book.Close(context.Background()) })
	w.start(func(ctx context.Context) error {
		return w.config.Supervise(ctx, "poster", func(ctx context.Context) error {
			return poster.Run(ctx, poster.Config{Config: w.config.Config, Postgres: env.PostgresURL})
		})
	})
	return w
}

// start runs something until the returned function is called or the test ends.
func (w *world) start(run func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	w.t.Cleanup(func() { _ = stop() })
	return stop
}

// post sends n purchases by card and one record nobody can read to each partition, and waits until the book has them.
func (w *world) post(n int) {
	w.t.Helper()
	var records []*kgo.Record
	for p := range int32(partitions) {
		for i := range int64(n) {
			records = append(records, w.decided(p, w.sent+i))
		}
		records = append(records, &kgo.Record{Topic: w.config.Topic(schemas.PaymentsDecided), Partition: p, Key: []byte("C"),
			Value: []byte{0xff, byte(p)}, Headers: []kgo.RecordHeader{{Key: "note", Value: []byte("from nowhere")}}})
	}
	w.sent += int64(n) + 1
	if err := w.client.ProduceSync(w.t.Context(), records...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	w.await("the book has everything", func() bool {
		var got int64
		if err := w.book.QueryRow(w.t.Context(), "SELECT count(*) FROM results").Scan(&got); err != nil {
			w.t.Fatal(err)
		}
		return got == partitions*w.sent
	})
}

func (w *world) decided(p int32, at int64) *kgo.Record {
	w.t.Helper()
	id := fmt.Sprintf("%d-%d", p, at)
	d := events.Decision{Verdict: events.Approve, Topic: schemas.Payments, Partition: p, Offset: at, Event: events.Event{
		ID: id, Source: "app", Kind: events.PaymentInitiated, Time: time.Unix(1_800_000_000, 0), CustomerID: "C", MerchantID: "M",
		PaymentID: id, Amount: 1000, Currency: events.MustCurrency("CNY"),
		Method: eventsv1.PaymentMethod_PAYMENT_METHOD_CARD, Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE}}
	_, value, err := events.EncodeDecision(&d)
	if err != nil {
		w.t.Fatal(err)
	}
	return &kgo.Record{Topic: w.config.Topic(schemas.PaymentsDecided), Partition: p, Key: []byte("C"), Value: value}
}

func (w *world) await(what string, so func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(patience)
	for !so() {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// published waits until the publisher has nothing left to do, and holds the topics against the book.
func (w *world) published() {
	w.t.Helper()
	w.await("everything is published", func() bool {
		var behind int64
		if err := w.book.QueryRow(w.t.Context(), "SELECT sum(s.sequence - coalesce(p.sequence, 0))::bigint FROM shards s LEFT JOIN publications p USING (shard)").Scan(&behind); err != nil {
			w.t.Fatal(err)
		}
		return behind == 0
	})
	results := w.read(schemas.LedgerResults)
	if len(results) != int(partitions*w.sent) {
		w.t.Errorf("%d results are published, want %d", len(results), partitions*w.sent)
	}
	next := map[int32]int64{}
	unreadable := map[string]bool{}
	for _, r := range results {
		m := w.result(r)
		if next[r.Partition]++; m.Shard != r.Partition || m.Sequence != next[r.Partition] {
			w.t.Fatalf("partition %d: result %d of shard %d follows %d", r.Partition, m.Sequence, m.Shard, next[r.Partition]-1)
		}
		if m.Code == "unreadable" {
			unreadable[m.DecisionId] = true
		} else if m.Code != "posted" || len(m.Transfers) != 2 || m.Transfers[0].Amount != "10.00" || m.Transfers[0].CreditAccount != "merchant:M:CNY" || m.Transfers[1].Kind != "fee" {
			w.t.Fatalf("result %v", m)
		}
	}
	w.checkDeadLetters(unreadable)
}

// checkDeadLetters holds the dead letters against the results that say unreadable: each once, with its own bytes.
func (w *world) checkDeadLetters(unreadable map[string]bool) {
	w.t.Helper()
	for _, r := range w.read(schemas.DeadLetters) {
		h := map[string]string{}
		for _, x := range r.Headers {
			h[x.Key] = string(x.Value)
		}
		id := h[stream.HeaderTopic] + "/" + h[stream.HeaderPartition] + "/" + h[stream.HeaderOffset]
		if !unreadable[id] {
			w.t.Errorf("dead letter of %s, which was readable or is there already", id)
		}
		delete(unreadable, id)
		if len(r.Value) != 2 || r.Value[0] != 0xff || h["note"] != "from nowhere" || h[stream.HeaderReason] != "unreadable" {
			w.t.Errorf("dead letter %s: %x, %v", id, r.Value, h)
		}
	}
	if len(unreadable) > 0 {
		w.t.Errorf("no dead letter of %v", unreadable)
	}
}

func (w *world) result(r *kgo.Record) *eventsv1.LedgerResult {
	w.t.Helper()
	m := &eventsv1.LedgerResult{}
	if err := proto.Unmarshal(r.Value, m); err != nil {
		w.t.Fatal(err)
	}
	for _, h := range r.Headers {
		if h.Key == "sequence" && string(h.Value) != strconv.FormatInt(m.Sequence, 10) {
			w.t.Errorf("result %d has the header sequence %s", m.Sequence, h.Value)
		}
	}
	return m
}

// read returns every committed record of a topic.
func (w *world) read(topic string) []*kgo.Record {
	w.t.Helper()
	ends, err := kadm.NewClient(w.client).ListCommittedOffsets(w.t.Context(), w.config.Topic(topic))
	if err = errors.Join(err, ends.Error()); err != nil {
		w.t.Fatal(err)
	}
	client, err := w.config.Client(kgo.ConsumeTopics(w.config.Topic(topic)), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	var records []*kgo.Record
	next := map[int32]int64{}
	for {
		behind := false
		ends.Each(func(o kadm.ListedOffset) { behind = behind || next[o.Partition] < o.Offset })
		if !behind {
			return records
		}
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			w.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next[r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
		})
	}
}

var errKilled = errors.New("killed by the test")

// The publisher dies before and after the commit of a transaction, again and again: each result is there once, in order.
func TestKilledBetweenTransactions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, when := range []bool{false, true, false, true} {
		w.post(20)
		c := w.config
		c.Hook = func(_ context.Context, committed bool) error {
			if committed == when {
				return errKilled
			}
			return nil
		}
		if err := Run(t.Context(), c); !errors.Is(err, errKilled) {
			t.Fatalf("the publisher ended with %v", err)
		}
	}
	w.start(func(ctx context.Context) error { return Run(ctx, w.config) })
	w.published()
}

// Of two publishers one works; when it goes the other goes on.
func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ready := make(chan struct{}, 2)
	c := w.config
	c.Ready = func() { ready <- struct{}{} }
	stopFirst := w.start(func(ctx context.Context) error { return Run(ctx, c) })
	<-ready
	w.start(func(ctx context.Context) error { return Run(ctx, c) })
	<-ready
	w.post(30)
	w.published()
	if err := stopFirst(); err != nil {
		t.Errorf("the first publisher ended with %v", err)
	}
	w.post(30)
	w.published()
}

// A publisher that has lost its turn without noticing is fenced: what it still wants to commit does not count.
func TestLostTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post(20)
	c := w.config
	c.Hook = func(ctx context.Context, committed bool) error {
		if committed {
			return nil
		}
		if _, err := w.book.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() AND objid = (hashtextextended('sluice results ' || current_schema(), 0) & 4294967295)::bit(32)::bigint::oid"); err != nil {
			return err
		}
		w.start(func(ctx context.Context) error { return Run(ctx, w.config) })
		w.published()
		return nil
	}
	if err := Run(t.Context(), c); err == nil {
		t.Error("a fenced publisher goes on")
	}
	w.published()
}

// Once retention has emptied the topic, nothing is published again.
func TestTopicIsEmptied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post(10)
	stop := w.start(func(ctx context.Context) error { return Run(ctx, w.config) })
	w.published()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	admin := kadm.NewClient(w.client)
	topic := w.config.Topic(schemas.LedgerResults)
	ends, err := admin.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.DeleteRecords(t.Context(), ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	w.start(func(ctx context.Context) error { return Run(ctx, w.config) })
	w.post(5)
	w.await("the new results are published", func() bool {
		var n int64
		if err := w.book.QueryRow(t.Context(), "SELECT sum(s.sequence - p.sequence)::bigint FROM shards s JOIN publications p USING (shard)").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
	client, err := w.config.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	first := client.PollRecords(t.Context(), 1).Records()
	if len(first) != 1 || w.result(first[0]).Sequence != 12 {
		t.Errorf("the topic goes on with %v, want result 12", first)
	}
}
