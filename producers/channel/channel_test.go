package channel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"sluice/consumers/stream"
	"sluice/deploy/embedded/enginestest"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

// limit bounds a test that waits for something that never comes.
const limit = time.Minute

func payment(n int, customer string) *events.Event {
	return &events.Event{
		ID: fmt.Sprintf("e%d", n), Kind: events.PaymentInitiated, Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
		CustomerID: customer, PaymentID: fmt.Sprintf("p%d", n), Amount: int64(n) + 1, Currency: events.MustCurrency("CNY"),
		Method: eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET, Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP,
	}
}

func house(t *testing.T) stream.Config {
	t.Helper()
	env := enginestest.New(t, enginestest.Kafka)
	c := stream.Config{Brokers: env.Kafka, Prefix: env.Prefix, Partitions: 4}.Fill()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := c.EnsureTopics(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t *testing.T, c Config) *Publisher {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// read returns the next n records of the input topics, as they lie in their partitions.
func read(t *testing.T, c stream.Config, n int) []*kgo.Record {
	t.Helper()
	client, err := c.Client(kgo.ConsumeTopics(c.Topic(schemas.Payments), c.Topic(schemas.Loans), c.Topic(schemas.Behaviors)),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var all []*kgo.Record
	for len(all) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(all), n, err)
		}
		all = append(all, fetches.Records()...)
	}
	return all
}

// What is published arrives as it was: decodable by the gate's rules, on its topic, keyed by customer to the partition
// that murmur2 gives, each customer's events in order, each once.
func TestPublishedEventsArrive(t *testing.T) {
	t.Parallel()
	c := house(t)
	p := open(t, Config{Config: c, Source: "test"})
	const n, customers = 3000, 50
	var failed sync.Map
	for i := range n {
		if err := p.PublishAsync(t.Context(), payment(i, fmt.Sprintf("C%d", i%customers)), func(err error) {
			if err != nil {
				failed.Store(i, err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	failed.Range(func(i, err any) bool { t.Errorf("event %v: %v", i, err); return true })
	newest := map[string]int{}
	partition := kgo.StickyKeyPartitioner(nil).ForTopic("")
	for _, r := range read(t, c, n) {
		rec := c.FromKafka(r, nil)
		e, err := events.Decode(&rec)
		if err != nil {
			t.Fatal(err)
		}
		i := int(e.Amount) - 1
		want := *payment(i, e.CustomerID)
		want.Source = "test"
		if !reflect.DeepEqual(e, want) {
			t.Fatalf("got %+v\nwant %+v", e, want)
		}
		if last, seen := newest[e.CustomerID]; seen && i != last+customers {
			t.Fatalf("customer %s: event %d follows %d", e.CustomerID, i, last)
		}
		newest[e.CustomerID] = i
		if want := int32(partition.Partition(&kgo.Record{Key: r.Key}, 4)); r.Partition != want {
			t.Fatalf("key %s is in partition %d, murmur2 says %d", r.Key, r.Partition, want)
		}
	}
	if len(newest) != customers {
		t.Fatalf("%d customers", len(newest))
	}
}

func TestEachFamilyHasItsTopic(t *testing.T) {
	t.Parallel()
	c := house(t)
	p := open(t, Config{Config: c, Source: "test"})
	loan := *payment(1, "C1")
	loan.Kind, loan.LoanID, loan.Source = events.LoanRepaid, "L1", "another-source"
	behavior := events.Event{ID: "b", Kind: events.BehaviorSignedIn, Time: loan.Time, CustomerID: "C1"}
	for _, e := range []*events.Event{payment(0, "C1"), &loan, &behavior} {
		if err := p.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	partitions := map[int32]bool{}
	got := map[string]string{}
	for _, r := range read(t, c, 3) {
		rec := c.FromKafka(r, nil)
		got[rec.Topic] = string(rec.Header("ce_source"))
		partitions[r.Partition] = true
	}
	want := map[string]string{schemas.Payments: "test", schemas.Loans: "another-source", schemas.Behaviors: "test"}
	if !reflect.DeepEqual(got, want) || len(partitions) != 1 {
		t.Fatalf("got %v in partitions %v, want %v in one", got, partitions, want)
	}
}

// A wrong event is answered at once by the decoder's own words; nothing is sent.
func TestWrongEventsAreRefused(t *testing.T) {
	t.Parallel()
	p := open(t, Config{Config: stream.Config{Brokers: []string{"127.0.0.1:1"}}, Source: "test"})
	f := func(code events.Code, spoil func(*events.Event)) {
		t.Helper()
		e := payment(1, "C1")
		spoil(e)
		err := p.Publish(t.Context(), e) // no broker answers: a call that sends would not return
		var rejection *events.Rejection
		if !errors.As(err, &rejection) || rejection.Code != code {
			t.Errorf("got %v, want %s", err, code)
		}
		if p.Check(e) == nil {
			t.Error("Check finds nothing")
		}
	}
	f(events.CodeMissing, func(e *events.Event) { e.ID = "" })
	f(events.CodeMissing, func(e *events.Event) { e.CustomerID = "" })
	f(events.CodeMissing, func(e *events.Event) { e.Amount = 0 })
	f(events.CodeAmount, func(e *events.Event) { e.Amount = events.MaxAmount + 1 })
	f(events.CodeMissing, func(e *events.Event) { e.Purpose = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER })
	f(events.CodeTime, func(e *events.Event) { e.Time = time.Now().Add(time.Hour) })
	f(events.CodeTime, func(e *events.Event) { e.Time = time.Time{} })
	f(events.CodeUnknownType, func(e *events.Event) { e.Kind = events.KindUnknown })
	f(events.CodeCardNumber, func(e *events.Event) { e.CardToken = "4111111111111111" })
	f(events.CodeInvalid, func(e *events.Event) { e.IP = "home" })
	if err := p.Check(payment(1, "C1")); err != nil {
		t.Errorf("a right event: %v", err)
	}
}

// At the bound PublishAsync waits; it goes on when an acknowledgement comes, and gives up when its ctx ends.
func TestInFlightIsBounded(t *testing.T) {
	t.Parallel()
	kafka := fake(t)
	release := holdProduce(kafka)
	p := open(t, Config{Config: stream.Config{Brokers: kafka.ListenAddrs()}, Source: "test", InFlight: 2})
	acked := make(chan error, 3)
	publish := func(ctx context.Context, n int) error {
		return p.PublishAsync(ctx, payment(n, "C1"), func(err error) { acked <- err })
	}
	for i := range 2 {
		if err := publish(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := publish(ctx, 2); err != nil || ctx.Err() == nil {
		t.Fatalf("the third did not wait: %v", err)
	}
	if err := <-acked; !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the third: %v", err)
	}
	close(release)
	for range 2 {
		if err := <-acked; err != nil {
			t.Fatal(err)
		}
	}
}

func fake(t *testing.T) *kfake.Cluster {
	t.Helper()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, schemas.Payments))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	return kafka
}

// holdProduce keeps every produce request unanswered until release is closed.
func holdProduce(kafka *kfake.Cluster) (release chan struct{}) {
	release = make(chan struct{})
	kafka.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		kafka.SleepControl(func() { <-release })
		return nil, nil, false
	})
	return release
}

// An answer lost on the way makes the client send again; the broker has the event once.
func TestALostAnswerWritesOnce(t *testing.T) {
	t.Parallel()
	kafka := fake(t)
	kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: 2})
	c := stream.Config{Brokers: kafka.ListenAddrs()}.Fill()
	p := open(t, Config{Config: c, Source: "test"})
	if err := p.Publish(t.Context(), payment(0, "C1")); err != nil {
		t.Fatal(err)
	}
	if got := kafka.PartitionInfo(schemas.Payments, 0).HighWatermark; got != 1 {
		t.Fatalf("the partition has %d records", got)
	}
}

// Close waits for what is on its way, calls every done, and takes nothing more.
func TestClose(t *testing.T) {
	t.Parallel()
	kafka := fake(t)
	p := open(t, Config{Config: stream.Config{Brokers: kafka.ListenAddrs()}, Source: "test"})
	var acked atomic.Int64
	for i := range 100 {
		if err := p.PublishAsync(t.Context(), payment(i, "C1"), func(err error) {
			if err == nil {
				acked.Add(1)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil || acked.Load() != 100 {
		t.Fatalf("%d acknowledged, %v", acked.Load(), err)
	}
	if err := p.Publish(t.Context(), payment(101, "C1")); !errors.Is(err, ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatalf("the second time: %v", err)
	}
}

func TestAMissingTopicIsNamed(t *testing.T) {
	t.Parallel()
	kafka := fake(t)
	p := open(t, Config{Config: stream.Config{Brokers: kafka.ListenAddrs(), Prefix: "nowhere."}, Source: "test"})
	err := p.Publish(t.Context(), payment(0, "C1"))
	if err == nil || !strings.Contains(err.Error(), "topic nowhere.payments does not exist") {
		t.Fatalf("got %v", err)
	}
}

func TestASourceIsRequired(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{Config: stream.Config{Brokers: []string{"127.0.0.1:1"}}}); err == nil {
		t.Fatal("a publisher without a name")
	}
}

func BenchmarkPublishAsync(b *testing.B) {
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(12, schemas.Payments))
	if err != nil {
		b.Fatal(err)
	}
	defer kafka.Close()
	p, err := New(Config{Config: stream.Config{Brokers: kafka.ListenAddrs()}, Source: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	customers := make([]string, 1000)
	for i := range customers {
		customers[i] = fmt.Sprintf("C%d", i)
	}
	n := 0
	for b.Loop() {
		if err := p.PublishAsync(b.Context(), payment(n, customers[n%len(customers)]), nil); err != nil {
			b.Fatal(err)
		}
		n++
	}
	if err := p.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}
