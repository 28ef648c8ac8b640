package gate

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/stream"
	"sluice/deploy/embedded/enginestest"
	"sluice/pipelines/risk"
	"sluice/rules"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

const (
	// patience bounds every wait of a test: it is for a test that has failed, none depends on it.
	patience = 3 * time.Minute
	// partitionsInTests is enough for two gates to share.
	partitionsInTests = 4
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

// A house is the topics of one test.
type house struct {
	t *testing.T
	stream.Config
	kafka    *kfake.Cluster // nil on the shared Kafka
	ctx      context.Context
	producer *kgo.Client
}

// newHouse makes a house on the Kafka that all tests share, which may be a real one.
func newHouse(t *testing.T) *house {
	t.Helper()
	t.Parallel()
	env := enginestest.New(t, enginestest.Kafka)
	return openHouse(t, env.Kafka, env.Prefix)
}

// newFaultyHouse makes a house on a Kafka of its own, for tests that make it fail.
func newFaultyHouse(t *testing.T) *house {
	t.Helper()
	t.Parallel()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	h := openHouse(t, kafka.ListenAddrs(), "test.")
	h.kafka = kafka
	return h
}

func openHouse(t *testing.T, brokers []string, prefix string) *house {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	h := &house{t: t, ctx: ctx, Config: stream.Config{Brokers: brokers, Prefix: prefix, Partitions: partitionsInTests}.Fill()}
	if os.Getenv("SLUICE_TEST_LOG") != "" {
		h.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	h.must(h.EnsureTopics(ctx))
	producer, err := h.Client(kgo.ProducerLinger(0), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	h.must(err)
	t.Cleanup(producer.Close)
	h.producer = producer
	return h
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// publish puts events on their topics and waits until Kafka has them.
func (h *house) publish(all ...*events.Event) {
	h.t.Helper()
	var records []*kgo.Record
	for _, e := range all {
		headers, value, err := events.Encode(e)
		h.must(err)
		records = append(records, h.ToKafka(e.Kind.Family().Topic(), e.CustomerID, headers, value))
	}
	h.must(h.producer.ProduceSync(h.ctx, records...).FirstErr())
}

// A runner is one gate under test.
type runner struct {
	h       *house
	metrics *metrics
	ready   chan struct{} // one for each time it was ready
	stop    context.CancelFunc
	done    chan error
	stopped bool

	mu      sync.Mutex
	decided []string // by OnDecision
}

// gate starts a gate that starts again when it fails, as in the house; adjust may change its configuration.
func (h *house) gate(adjust func(*Config)) *runner {
	return h.start(adjust, func(ctx context.Context, c Config) error {
		return c.Supervise(ctx, part, func(ctx context.Context) error { return Run(ctx, c) })
	})
}

// once starts a gate that ends with its first error.
func (h *house) once(adjust func(*Config)) *runner { return h.start(adjust, Run) }

func (h *house) start(adjust func(*Config), run func(context.Context, Config) error) *runner {
	h.t.Helper()
	registry := prometheus.NewRegistry()
	r := &runner{h: h, metrics: newMetrics(registry), ready: make(chan struct{}, 1000), done: make(chan error, 1)}
	c := Config{Config: h.Config, Ruleset: ruleset(1, countRule)}
	c.Metrics = registry
	c.Ready = func() { r.ready <- struct{}{} }
	c.OnDecision = func(d *events.Decision) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.decided = append(r.decided, d.ID())
	}
	c.hooks.client = quick
	if adjust != nil {
		adjust(&c)
	}
	ctx, cancel := context.WithCancel(h.ctx)
	r.stop = cancel
	go func() { r.done <- run(ctx, c) }()
	h.t.Cleanup(func() {
		if !r.stopped {
			cancel()
			<-r.done
		}
	})
	return r
}

// quick lets the members of a group notice each other in a tenth of a second. Kafka takes no shorter session.
var quick = []kgo.Opt{kgo.HeartbeatInterval(50 * time.Millisecond), kgo.SessionTimeout(6 * time.Second), kgo.RebalanceTimeout(20 * time.Second)}

func (r *runner) waitReady() *runner {
	r.h.t.Helper()
	select {
	case <-r.ready:
	case err := <-r.done:
		r.stopped = true
		r.h.t.Fatalf("the gate ended before it was ready: %v", err)
	case <-r.h.ctx.Done():
		r.h.t.Fatal("the gate was never ready")
	}
	return r
}

// end stops the gate and returns what it returned.
func (r *runner) end() error {
	r.h.t.Helper()
	r.stop()
	return r.wait()
}

// wait waits until the gate ends by itself.
func (r *runner) wait() error {
	r.h.t.Helper()
	r.stopped = true
	select {
	case err := <-r.done:
		return err
	case <-r.h.ctx.Done():
		r.h.t.Fatal("the gate does not end")
		return nil
	}
}

func (r *runner) reported() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.decided)
}

// records reads every committed record of a topic, waiting for transactions that are open.
func (h *house) records(topic string) []*kgo.Record {
	h.t.Helper()
	var all []*kgo.Record
	g := &gate{Config: Config{Config: h.Config}, admin: h.producer, at: positions{}}
	partitions := []int32{0, 1, 2, 3}
	err := g.replay(h.ctx, topic, partitions, everything, func(r *kgo.Record) error {
		all = append(all, r)
		return nil
	})
	h.must(err)
	return all
}

// await reads committed records of some topics as they come, until there are n.
func (h *house) await(n int, topics ...string) []*kgo.Record {
	h.t.Helper()
	for i := range topics {
		topics[i] = h.Topic(topics[i])
	}
	client, err := h.Client(kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	h.must(err)
	defer client.Close()
	var all []*kgo.Record
	for len(all) < n {
		fetches := client.PollFetches(h.ctx)
		if h.ctx.Err() != nil {
			h.t.Fatalf("%d of %d records came on %v", len(all), n, topics)
		}
		all = append(all, fetches.Records()...)
	}
	return all
}

var decidedTopics = []string{schemas.PaymentsDecided, schemas.LoansDecided, schemas.BehaviorsDecided}

// awaitDecided waits until n events are decided.
func (h *house) awaitDecided(n int) {
	h.t.Helper()
	h.await(n, slices.Clone(decidedTopics)...)
}

// decisions returns every decision, in the order of its topic and partition.
func (h *house) decisions() []events.Decision {
	h.t.Helper()
	var all []events.Decision
	for _, topic := range decidedTopics {
		for _, r := range h.records(topic) {
			d, err := events.DecodeDecision(r.Value)
			h.must(err)
			if r.Partition != d.Partition || h.Base(r.Topic) != schemas.DecidedTopic(d.Topic) || string(r.Key) != d.Event.CustomerID {
				h.t.Errorf("the decision %s stands in %s/%d under key %q", d.ID(), r.Topic, r.Partition, r.Key)
			}
			all = append(all, d)
		}
	}
	return all
}

// input is one record of an input topic that is an event.
type input struct {
	id string // topic/partition/offset
	events.Event
	partition int32
}

// inputs returns the events of a topic as they stand there.
func (h *house) inputs(topic string) []input {
	h.t.Helper()
	var all []input
	for _, r := range h.records(topic) {
		in := h.FromKafka(r, nil)
		e, err := events.Decode(&in)
		if err != nil {
			continue // a dead letter's
		}
		all = append(all, input{events.PositionID(topic, r.Partition, r.Offset), e, r.Partition})
	}
	return all
}

// checkPayments holds the decisions on payments against one State that has seen the same records in the same order in
// one process that nothing ever happened to: each event decided once, and every aggregate the same.
func (h *house) checkPayments(rulesetYAML []byte) {
	h.t.Helper()
	rs, err := rules.Load("oracle", rulesetYAML)
	h.must(err)
	state := risk.NewState(risk.NewEngine(rs))
	for p := range h.Partitions {
		state.Assign(p)
	}
	want := map[string]events.Decision{}
	for _, in := range h.inputs(schemas.Payments) {
		want[in.id] = state.Decide(in.partition, &in.Event)
		state.Commit()
	}
	got := map[string]int{}
	for _, d := range h.decisions() {
		if d.Topic != schemas.Payments {
			continue
		}
		got[d.ID()]++
		w, ok := want[d.ID()]
		if !ok {
			h.t.Errorf("%s was decided and is no event", d.ID())
			continue
		}
		if a, b := describe(&d), describe(&w); a != b {
			h.t.Errorf("%s (%s %s)\n  got  %s\n  want %s", d.ID(), d.Event.CustomerID, d.Event.ID, a, b)
		}
	}
	for id := range want {
		if got[id] != 1 {
			h.t.Errorf("%s was decided %d times", id, got[id])
		}
	}
}

// describe writes what rules made of an event.
func describe(d *events.Decision) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d", d.Verdict, d.Score)
	for _, h := range d.Hits {
		fmt.Fprintf(&b, " %s", h.Rule)
	}
	for _, v := range d.Evidence {
		fmt.Fprintf(&b, " %s=%s", v.Name, v.Text)
	}
	return b.String()
}

// evidence returns the value of an aggregate in a decision, "" if it is not there.
func evidence(d *events.Decision, name string) string {
	for _, v := range d.Evidence {
		if v.Name == name {
			return v.Text
		}
	}
	return ""
}

// began is the time of the first event of every test.
var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// topUp makes the n-th event of a customer, on a device of its own.
func topUp(customer string, n int) *events.Event {
	return &events.Event{
		ID: fmt.Sprintf("%s-%d", customer, n), Source: "test", Kind: events.PaymentInitiated, Time: began.Add(time.Duration(n) * time.Second),
		PaymentID: fmt.Sprintf("P-%s-%d", customer, n), CustomerID: customer, Channel: "app", DeviceID: "D-" + customer,
		Method: eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET, Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP,
		Amount: 1000, Currency: events.MustCurrency("CNY"),
	}
}

// topUps makes events from, from+1, … to-1 of each of some customers.
func topUps(customers, from, to int) []*events.Event {
	var all []*events.Event
	for n := from; n < to; n++ {
		for c := range customers {
			all = append(all, topUp(fmt.Sprintf("C%d", c), n))
		}
	}
	return all
}

// The rules of the tests: both fire on every payment, so that their evidence tells what the aggregates were.
const (
	countRule = `
aggregates:
  customer_payments: {count: payment, by: customer, window: 24h}
rules:
  - id: count
    when: customer_payments >= 1
    then: {score: 1, reason: R1, say: "counts"}
`
	deviceRule = `
aggregates:
  device_payments: {count: payment, by: device, window: 24h}
rules:
  - id: device
    when: device_payments >= 1
    then: {score: 1, reason: R2, say: "counts by device"}
`
)

// ruleset writes a ruleset of a version.
func ruleset(version int, body string) []byte {
	return fmt.Appendf(nil, "ruleset: default\nversion: %d\n%s\noutcomes: {review: 50, decline: 80}\n", version, body)
}

// eventually polls until cond holds.
func (h *house) eventually(what string, cond func() bool) {
	h.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			h.t.Fatalf("never happened: %s", what)
		}
	}
}

// committedOffsets returns the sum of the group's committed offsets.
func (h *house) committedOffsets() int64 {
	offsets, err := kadm.NewClient(h.producer).FetchOffsets(h.ctx, h.Group(part))
	h.must(err)
	sum := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) { sum += o.At })
	return sum
}
