package gate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/stream"
	"sluice/deploy/embedded/enginestest"
	"sluice/pipelines/risk"
	"sluice/rules"
	"sluice/rules/packs"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// newBenchHouse makes the house's topics on a Kafka of its own, kept on disk as in the house, or on the one that
// SLUICE_TEST_KAFKA names.
func newBenchHouse(b *testing.B) (stream.Config, *kgo.Client) {
	b.Helper()
	if os.Getenv(enginestest.KafkaVariable) != "" {
		env := enginestest.New(b, enginestest.Kafka)
		return openBenchHouse(b, stream.Config{Brokers: env.Kafka, Prefix: env.Prefix})
	}
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(kafka.Close)
	return openBenchHouse(b, stream.Config{Brokers: kafka.ListenAddrs()})
}

func openBenchHouse(b *testing.B, c stream.Config) (stream.Config, *kgo.Client) {
	b.Helper()
	c = c.Fill()
	if err := c.EnsureTopics(b.Context()); err != nil {
		b.Fatal(err)
	}
	producer, err := c.Client(kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(producer.Close)
	return c, producer
}

// traffic makes the n-th event of a population: three payments to each sign-in.
func traffic(r *rand.Rand, n, customers int) *events.Event {
	who := r.IntN(customers)
	e := &events.Event{
		ID: fmt.Sprintf("e-%d", n), Source: "bench", Kind: events.BehaviorSignedIn, Time: began.Add(time.Duration(n) * time.Millisecond),
		CustomerID: fmt.Sprintf("C%d", who), Channel: "app", DeviceID: fmt.Sprintf("D%d", who),
		IP: fmt.Sprintf("10.%d.%d.%d", who>>16&255, who>>8&255, who&255), Country: "CN",
	}
	if n%4 == 0 {
		return e
	}
	e.Kind, e.PaymentID = events.PaymentInitiated, fmt.Sprintf("P%d", n)
	e.Method, e.Purpose = eventsv1.PaymentMethod_PAYMENT_METHOD_CARD, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE
	e.Amount, e.Currency = 100+r.Int64N(50_000), events.MustCurrency("CNY")
	e.MerchantID, e.MerchantMCC, e.CardToken = fmt.Sprintf("M%d", r.IntN(500)), "5411", fmt.Sprintf("tok_%d", who)
	return e
}

func record(b *testing.B, c stream.Config, e *events.Event) *kgo.Record {
	headers, value, err := events.Encode(e)
	if err != nil {
		b.Fatal(err)
	}
	return c.ToKafka(e.Kind.Family().Topic(), e.CustomerID, headers, value)
}

// latencies collects how long decisions took, from Kafka's timestamp to the commit.
type latencies struct {
	mu   sync.Mutex
	all  []time.Duration
	want int
	done chan struct{}
}

func expect(n int) *latencies { return &latencies{want: n, done: make(chan struct{})} }

func (l *latencies) decided(d *events.Decision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, time.Since(d.Received))
	if len(l.all) == l.want {
		close(l.done)
	}
}

func (l *latencies) quantile(q float64) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.all)
	return l.all[int(q*float64(len(l.all)-1))].Seconds() * 1000
}

// running starts a gate with the default packs and returns it ready; stop waits for its end.
func running(b *testing.B, c stream.Config, l *latencies) (stop func()) {
	b.Helper()
	ready, done := make(chan struct{}, 10), make(chan error, 1)
	ctx, cancel := context.WithCancel(b.Context())
	config := Config{Config: c, Ruleset: packs.Default(), Ready: func() { ready <- struct{}{} }}
	registry := prometheus.NewRegistry()
	config.Metrics = registry
	if l != nil {
		config.OnDecision = l.decided
	}
	go func() { done <- Run(ctx, config) }()
	select {
	case <-ready:
	case err := <-done:
		b.Fatal(err)
	}
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		families, err := registry.Gather()
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "sluice_gate_transaction_seconds" {
				h := f.GetMetric()[0].GetHistogram()
				b.ReportMetric(1000*h.GetSampleSum()/float64(h.GetSampleCount()), "ms/transaction")
			}
		}
	}
}

// BenchmarkBacklog decides a backlog of events as fast as it goes. The broker runs in the same process.
func BenchmarkBacklog(b *testing.B) {
	const n = 200_000
	for _, customers := range []int{1000, 50_000} {
		b.Run(fmt.Sprintf("customers=%d", customers), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				c, producer := newBenchHouse(b)
				r := rand.New(rand.NewPCG(1, 2))
				for i := range n {
					producer.Produce(b.Context(), record(b, c, traffic(r, i, customers)), nil)
				}
				if err := producer.Flush(b.Context()); err != nil {
					b.Fatal(err)
				}
				l := expect(n)
				b.StartTimer()
				started := time.Now()
				stop := running(b, c, l)
				<-l.done
				b.ReportMetric(n/time.Since(started).Seconds(), "events/s")
				b.StopTimer()
				stop()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkLatency publishes at a steady rate and reports how long an event waits for its committed decision. The first
// second, in which connections are made, does not count.
func BenchmarkLatency(b *testing.B) {
	const warmUp, seconds = 1, 5
	for _, rate := range []int{100, 2000, 10_000} {
		b.Run(fmt.Sprintf("rate=%d", rate), func(b *testing.B) {
			for b.Loop() {
				c, producer := newBenchHouse(b)
				l := expect(rate * (warmUp + seconds))
				stop := running(b, c, l)
				r := rand.New(rand.NewPCG(1, 2))
				started := time.Now()
				for i := range l.want {
					time.Sleep(time.Until(started.Add(time.Duration(i) * time.Second / time.Duration(rate))))
					producer.Produce(b.Context(), record(b, c, traffic(r, i, 10_000)), nil)
				}
				<-l.done
				l.all = l.all[rate*warmUp:]
				b.ReportMetric(l.quantile(0.5), "p50-ms")
				b.ReportMetric(l.quantile(0.99), "p99-ms")
				b.ReportMetric(l.quantile(1), "max-ms")
				stop()
			}
		})
	}
}

// BenchmarkRestore starts a gate on a million customers' aggregates and reports the time until its first decision.
func BenchmarkRestore(b *testing.B) {
	customers := 1_000_000
	if os.Getenv("SLUICE_BENCH_SMALL") != "" {
		customers = 100_000
	}
	rs, err := rules.Load("default", packs.Default())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		c, producer := newBenchHouse(b)
		bytes := fillState(b, c, rs, customers)
		b.StartTimer()
		started := time.Now()
		l := expect(1)
		stop := running(b, c, l)
		ready := time.Since(started)
		producer.Produce(b.Context(), record(b, c, traffic(rand.New(rand.NewPCG(1, 2)), 1, 10)), nil)
		<-l.done
		b.ReportMetric(ready.Seconds(), "s-to-ready")
		b.ReportMetric(time.Since(started).Seconds(), "s-to-decision")
		b.ReportMetric(float64(bytes)/float64(customers), "state-B/customer")
		b.StopTimer()
		stop()
		b.StartTimer()
	}
}

// fillState writes to gate.state what a gate that has seen three events of each customer has written, and returns its size.
func fillState(b *testing.B, c stream.Config, rs *rules.Ruleset, customers int) (size int) {
	b.Helper()
	client, err := c.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	state := risk.NewState(risk.NewEngine(rs))
	for p := range c.Partitions {
		state.Assign(p)
	}
	router := kgo.StickyKeyPartitioner(nil).ForTopic("")
	flush := func() {
		state.Staged(func(p int32, key, value []byte) {
			size += len(key) + len(value)
			client.Produce(b.Context(), &kgo.Record{Topic: c.Topic(schemas.GateState), Partition: p, Key: slices.Clone(key), Value: slices.Clone(value)}, nil)
		})
		state.Commit()
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range customers {
		for n := range 3 {
			e := traffic(r, 3*i+n, 1)
			e.CustomerID, e.DeviceID, e.CardToken = fmt.Sprintf("C%d", i), fmt.Sprintf("D%d", i), fmt.Sprintf("tok_%d", i)
			p := router.Partition(&kgo.Record{Key: []byte(e.CustomerID)}, int(c.Partitions))
			state.Decide(int32(p), e)
		}
		if i%1000 == 999 {
			flush()
		}
	}
	flush()
	if err := client.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	return size
}
