package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/proto"

	"sluice/consumers/stream"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// Events of all three topics come out once each, with their positions, where their customer's partition is.
func TestEachEventIsDecidedOnce(t *testing.T) {
	h := newHouse(t)
	all := topUps(20, 0, 10)
	for n := range 20 {
		customer := fmt.Sprintf("C%d", n)
		all = append(all,
			&events.Event{ID: "L" + customer, Source: "test", Kind: events.LoanAccepted, Time: began, LoanID: "L" + customer,
				CustomerID: customer, Amount: 5000, Currency: events.MustCurrency("CNY")},
			&events.Event{ID: "B" + customer, Source: "test", Kind: events.BehaviorSignedIn, Time: began, CustomerID: customer})
	}
	h.publish(all...)
	g := h.gate(nil).waitReady()
	h.awaitDecided(len(all))
	h.must(g.end())
	h.checkPayments(ruleset(1, countRule))
	seen := map[string]int{}
	var ids []string
	for _, d := range h.decisions() {
		seen[d.Event.Source+"/"+d.Event.ID]++
		ids = append(ids, d.ID())
		if d.Ruleset != "default@1" || d.Received.IsZero() {
			t.Errorf("%s: ruleset %q, received %s", d.ID(), d.Ruleset, d.Received)
		}
	}
	for _, e := range all {
		if n := seen["test/"+e.ID]; n != 1 {
			t.Errorf("%s was decided %d times", e.ID, n)
		}
	}
	reported := g.reported()
	slices.Sort(ids)
	slices.Sort(reported)
	if !slices.Equal(ids, reported) {
		t.Errorf("OnDecision was told of %d decisions, there are %d", len(reported), len(ids))
	}
}

// A gate that dies with everything produced and nothing committed leaves no trace: its successor decides the same
// events, with the same aggregates.
func TestKilledBetweenProduceAndCommit(t *testing.T) {
	h := newFaultyHouse(t)
	h.publish(topUps(10, 0, 10)...)
	nw := &network{}
	killed := make(chan struct{})
	var transactions atomic.Int32
	first := h.once(func(c *Config) {
		c.hooks.client = append(slices.Clone(quick), nw.option(), kgo.SessionTimeout(500*time.Millisecond), kgo.TransactionTimeout(time.Second))
		c.hooks.beforeEnd = func(ctx context.Context) {
			if transactions.Add(1) == 2 {
				nw.kill()
				close(killed)
				<-ctx.Done()
			}
		}
	}).waitReady()
	h.awaitDecided(100)
	h.publish(topUps(10, 10, 20)...)
	<-killed
	second := h.gate(nil)
	h.publish(topUps(10, 20, 30)...)
	h.awaitDecided(300)
	h.must(first.end())
	h.must(second.end())
	h.checkPayments(ruleset(1, countRule))
}

// A second gate joins while the first has a transaction open, and later the first leaves: partitions change hands twice
// under load, each with its aggregates.
func TestRebalanceWithATransactionOpen(t *testing.T) {
	h := newFaultyHouse(t)
	open, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	first := h.gate(func(c *Config) {
		c.hooks.beforeEnd = func(context.Context) {
			once.Do(func() {
				close(open)
				<-release
			})
		}
	}).waitReady()
	h.publish(topUps(20, 0, 5)...)
	<-open
	second := h.gate(nil)
	_, err := h.kafka.WaitGroupInfo(h.ctx, h.Group(part), func(i *kfake.GroupInfo) bool { return i.State == "PreparingRebalance" })
	h.must(err)
	close(release)
	second.waitReady()
	h.publish(topUps(20, 5, 10)...)
	h.awaitDecided(200)
	h.must(first.end())
	second.waitReady()
	h.publish(topUps(20, 10, 15)...)
	h.awaitDecided(300)
	h.must(second.end())
	h.checkPayments(ruleset(1, countRule))
}

// A gate that holds a transaction open for longer than a rebalance may take is put out of the group: its successor
// decides the events, and the transaction comes to nothing.
func TestTooSlowForTheRebalance(t *testing.T) {
	h := newFaultyHouse(t)
	h.publish(topUps(20, 0, 5)...)
	open, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	hasty := append(slices.Clone(quick), kgo.RebalanceTimeout(300*time.Millisecond), kgo.TransactionTimeout(time.Second))
	first := h.gate(func(c *Config) {
		c.hooks.client = hasty
		c.hooks.beforeEnd = func(context.Context) {
			once.Do(func() {
				close(open)
				<-release
			})
		}
	}).waitReady()
	<-open
	second := h.gate(func(c *Config) { c.hooks.client = hasty }).waitReady()
	h.awaitDecided(100)
	close(release)
	first.waitReady() // it joins again
	h.publish(topUps(20, 5, 10)...)
	h.awaitDecided(200)
	h.must(first.end())
	h.must(second.end())
	h.checkPayments(ruleset(1, countRule))
}

// A commit that the broker refuses is aborted, and the same events are decided again as if for the first time.
func TestAbortedTransactionsLeaveNoTrace(t *testing.T) {
	f := func(name string, fault kfake.Fault) {
		t.Run(name, func(t *testing.T) {
			h := newFaultyHouse(t)
			g := h.gate(func(c *Config) {
				c.hooks.client = append(slices.Clone(quick), kgo.TransactionTimeout(time.Second))
			}).waitReady()
			h.publish(topUps(10, 0, 5)...)
			h.awaitDecided(50)
			handle := h.kafka.Fault(fault)
			h.publish(topUps(10, 5, 10)...)
			h.must(handle.Wait(h.ctx, 1))
			h.awaitDecided(100)
			h.must(g.end())
			h.checkPayments(ruleset(1, countRule))
		})
	}
	f("offsets refused", kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.RebalanceInProgress, Count: 2})
	f("generation over", kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.IllegalGeneration})
	f("member unknown", kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat, kmsg.TxnOffsetCommit}, Err: kerr.UnknownMemberID, Count: 2})
	f("commit abortable", kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.TransactionAbortable})
	f("record refused", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "test." + schemas.GateState, Err: kerr.InvalidRecord})
	f("record timed out", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut})
	f("fenced", kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.ProducerFenced})
}

// A member that the coordinator forgets while its transaction ends comes to an end with it, joins again and decides: neither
// waits for the other.
func TestForgottenWhileEnding(t *testing.T) {
	h := newFaultyHouse(t)
	var armed atomic.Bool
	var forgotten *kfake.FaultHandle
	g := h.gate(func(c *Config) {
		c.hooks.client = append(slices.Clone(quick), kgo.TransactionTimeout(time.Second))
		c.hooks.beforeEnd = func(ctx context.Context) {
			if armed.CompareAndSwap(true, false) {
				forgotten = h.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID})
				if err := forgotten.Wait(ctx, 1); err != nil {
					t.Errorf("no heartbeat was refused: %v", err)
				}
			}
		}
	}).waitReady()
	h.publish(topUps(10, 0, 5)...)
	h.awaitDecided(50)
	armed.Store(true)
	h.publish(topUps(10, 5, 10)...)
	h.awaitDecided(100)
	h.must(g.end())
	h.checkPayments(ruleset(1, countRule))
}

// A record that the client itself refuses to send fails the whole transaction, not only its own event.
func TestARecordThatCannotBeSent(t *testing.T) {
	h := newHouse(t)
	large := &events.Event{ID: "large", Source: "test", Kind: events.BehaviorComplained, Time: began, CustomerID: "C1",
		Text: strings.Repeat("so it went on and on. ", 60)}
	h.publish(append(topUps(10, 0, 5), large)...)
	g := h.once(func(c *Config) {
		c.hooks.client = append(slices.Clone(quick), kgo.ProducerBatchMaxBytes(1000))
	})
	if err := g.wait(); !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("the gate ended with %v", err)
	}
	second := h.gate(nil)
	h.awaitDecided(51)
	h.must(second.end())
	h.checkPayments(ruleset(1, countRule))
}

// The broker commits and the gate never hears of it: the gate starts again and finds the events decided.
func TestUnknownOutcome(t *testing.T) {
	f := func(name string, how fate) {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			var armed, runs atomic.Int32
			happened := make(chan struct{})
			g := h.start(nil, func(ctx context.Context, c Config) error {
				return c.Supervise(ctx, part, func(ctx context.Context) error {
					runs.Add(1)
					nw := &network{onSent: func(key int16) fate {
						if key == int16(kmsg.EndTxn) && armed.CompareAndSwap(1, 2) {
							close(happened)
							return how
						}
						return arrives
					}}
					c.hooks.client = append(slices.Clone(quick), nw.option(), kgo.RetryTimeout(500*time.Millisecond))
					return Run(ctx, c)
				})
			}).waitReady()
			h.publish(topUps(10, 0, 5)...)
			h.awaitDecided(50)
			armed.Store(1)
			h.publish(topUps(10, 5, 10)...)
			<-happened
			h.publish(topUps(10, 10, 15)...)
			h.awaitDecided(150)
			h.must(g.end())
			h.checkPayments(ruleset(1, countRule))
			if runs.Load() < 2 {
				t.Error("the gate went on after a commit whose outcome it did not know")
			}
		})
	}
	f("answer lost", cut)
	f("answer garbled", garbled)
}

// A velocity rule counts on across a restart, exactly, duplicates of before the restart included.
func TestRestartRestoresAggregates(t *testing.T) {
	h := newHouse(t)
	for round := range 4 {
		h.publish(topUps(10, 5*round, 5*round+5)...)
		h.publish(topUp("C3", 0)) // as in the first round
		g := h.gate(nil)
		h.awaitDecided(51 * (round + 1))
		h.must(g.end())
	}
	h.checkPayments(ruleset(1, countRule))
	last := map[string]string{}
	for _, d := range h.decisions() {
		if d.Verdict != events.Duplicate {
			last[d.Event.CustomerID] = evidence(&d, "customer_payments")
		}
	}
	for customer, count := range last {
		if count != "20" {
			t.Errorf("%s: %s payments counted, 20 made", customer, count)
		}
	}
}

// Two gates, each with its own partitions, see the sum of what both have seen of a device.
func TestTwoGatesShareADevice(t *testing.T) {
	h := newHouse(t)
	byDevice := func(c *Config) { c.Ruleset = ruleset(1, deviceRule) }
	first := h.gate(byDevice).waitReady()
	second := h.gate(byDevice).waitReady()
	first.waitReady() // with its half
	events := topUps(40, 0, 1)
	for i, e := range events {
		e.DeviceID = "shared"
		h.publish(e)
		// What the other gate shares is on its way; nobody promises when it arrives, so wait until it is committed
		// and ask again until it is seen.
		h.awaitDecided(i + 1)
	}
	total := len(events)
	for _, customer := range []string{"C0", "C1", "C2", "C3", "C4", "C5", "C6", "C7"} {
		h.eventually("both gates see all payments of the device", func() bool {
			e := topUp(customer, total)
			e.ID, e.DeviceID = fmt.Sprintf("again-%d", total), "shared"
			h.publish(e)
			total++
			h.awaitDecided(total)
			for _, d := range h.decisions() {
				if d.Event.ID == e.ID {
					n := evidence(&d, "device_payments")
					if n > fmt.Sprint(total) && len(n) == len(fmt.Sprint(total)) {
						t.Fatalf("%s payments counted, %d made", n, total)
					}
					return n == fmt.Sprint(total)
				}
			}
			return false
		})
	}
	if len(first.reported()) == 0 || len(second.reported()) == 0 {
		t.Errorf("the gates decided %d and %d events: only one of them worked", len(first.reported()), len(second.reported()))
	}
	h.must(first.end())
	h.must(second.end())
}

// The same event published again, in the same transaction or a later one, gets the verdict duplicate and counts for
// nothing.
func TestDuplicatesAreDecidedOnce(t *testing.T) {
	h := newHouse(t)
	g := h.gate(nil).waitReady()
	h.publish(append(topUps(10, 0, 5), topUps(10, 0, 5)...)...)
	h.awaitDecided(100)
	h.publish(topUps(10, 0, 6)...)
	h.awaitDecided(160)
	h.must(g.end())
	h.checkPayments(ruleset(1, countRule))
	verdicts := map[string]int{}
	for _, d := range h.decisions() {
		if d.Verdict != events.Duplicate {
			verdicts[d.Event.ID]++
		}
	}
	for _, e := range topUps(10, 0, 6) {
		if verdicts[e.ID] != 1 {
			t.Errorf("%s had an effect %d times", e.ID, verdicts[e.ID])
		}
	}
}

// What is no event goes to the dead letters with its bytes, its headers, the reason and where it stood.
func TestGarbageIsDeadLettered(t *testing.T) {
	h := newHouse(t)
	garbage := &kgo.Record{Topic: h.Topic(schemas.Loans), Key: []byte("C1"), Value: []byte("\x00\xffno event"),
		Headers: []kgo.RecordHeader{{Key: "mine", Value: []byte("kept")}}}
	h.must(h.producer.ProduceSync(h.ctx, garbage).FirstErr())
	h.publish(topUps(3, 0, 3)...)
	g := h.gate(nil)
	h.awaitDecided(9)
	letter := h.await(1, schemas.DeadLetters)[0]
	h.must(g.end())
	if all := h.records(schemas.DeadLetters); len(all) != 1 {
		t.Errorf("%d dead letters, want 1", len(all))
	}
	want := map[string]string{
		stream.HeaderReason: string(events.CodeUnreadable), stream.HeaderPart: part, stream.HeaderTopic: schemas.Loans,
		stream.HeaderPartition: fmt.Sprint(garbage.Partition), stream.HeaderOffset: fmt.Sprint(garbage.Offset), "mine": "kept",
	}
	for _, header := range letter.Headers {
		if w, ok := want[header.Key]; ok && w != string(header.Value) {
			t.Errorf("%s: got %q, want %q", header.Key, header.Value, w)
		}
		delete(want, header.Key)
	}
	if len(want) > 0 {
		t.Errorf("headers missing: %v", want)
	}
	if !bytes.Equal(letter.Value, garbage.Value) || !bytes.Equal(letter.Key, garbage.Key) || letter.Partition != garbage.Partition {
		t.Errorf("got %q under %q in partition %d", letter.Value, letter.Key, letter.Partition)
	}
	if n := testutil.ToFloat64(g.metrics.deadLetters.WithLabelValues(string(events.CodeUnreadable))); n != 1 {
		t.Errorf("%v dead letters counted", n)
	}
}

// A published ruleset decides from one transaction to the next; one that does not load changes nothing, also after a
// restart; a ruleset of another name is none of the gate's business.
func TestRulesetsArePublished(t *testing.T) {
	h := newHouse(t)
	put := func(key string, value []byte) {
		h.must(h.producer.ProduceSync(h.ctx, &kgo.Record{Topic: h.Topic(schemas.Rules), Key: []byte(key), Value: value}).FirstErr())
	}
	live := func(g *runner, id string) {
		h.eventually(id+" is live", func() bool { return testutil.ToFloat64(g.metrics.ruleset.WithLabelValues(id)) == 1 })
	}
	n := 0
	decide := func(want string) {
		h.publish(topUp("C1", n))
		n++
		h.awaitDecided(n)
		for _, d := range h.decisions() {
			if d.Event.ID == fmt.Sprintf("C1-%d", n-1) && d.Ruleset != want {
				t.Errorf("payment %d was decided by %s, want %s", n, d.Ruleset, want)
			}
		}
	}
	put("another", ruleset(9, countRule))
	g := h.gate(nil).waitReady()
	decide("default@1") // the configured one
	put(DefaultRuleset, ruleset(2, countRule))
	live(g, "default@2")
	decide("default@2")
	put(DefaultRuleset, []byte("rules: [this is no ruleset"))
	h.eventually("it is refused", func() bool { return testutil.ToFloat64(g.metrics.refused) == 1 })
	put(DefaultRuleset, nil)
	decide("default@2")
	h.must(g.end())
	g = h.gate(nil).waitReady()
	decide("default@2") // aggregates too: payment 4 is the fourth
	h.must(g.end())
	for _, d := range h.decisions() {
		if want := fmt.Sprint(int(d.Event.Time.Sub(began)/time.Second) + 1); evidence(&d, "customer_payments") != want {
			t.Errorf("%s: counted %s", d.Event.ID, evidence(&d, "customer_payments"))
		}
	}
}

// Without a ruleset nothing can be decided, and starting again does not help.
func TestNoRuleset(t *testing.T) {
	h := newHouse(t)
	g := h.gate(func(c *Config) { c.Ruleset = nil })
	if err := g.wait(); err == nil {
		t.Error("a gate without a ruleset runs")
	}
}

// The tiers of before the start are known at the first decision, later ones soon after.
func TestTiersReachTheDecisions(t *testing.T) {
	h := newHouse(t)
	put := func(tier string) {
		value, err := proto.Marshal(&eventsv1.CustomerTier{CustomerId: "C1", Tier: tier})
		h.must(err)
		h.must(h.producer.ProduceSync(h.ctx, h.ToKafka(schemas.CustomerTiers, "C1", nil, value)).FirstErr())
	}
	tierOf := func(n int) string {
		h.publish(topUp("C1", n))
		h.awaitDecided(n + 1)
		for _, d := range h.decisions() {
			if d.Event.ID == fmt.Sprintf("C1-%d", n) {
				return d.Tier
			}
		}
		return ""
	}
	put("gold")
	g := h.gate(nil).waitReady()
	if tier := tierOf(0); tier != "gold" {
		t.Errorf("tier %q, want gold", tier)
	}
	put("silver")
	n := 0
	h.eventually("silver reaches a decision", func() bool { n++; return tierOf(n) == "silver" })
	h.must(g.end())
}

// An event that stands in the wrong partition is decided there, and counted.
func TestMisroutedEventsAreCounted(t *testing.T) {
	h := newHouse(t)
	client, err := h.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	h.must(err)
	defer client.Close()
	headers, value, err := events.Encode(topUp("C1", 0))
	h.must(err)
	for p := range h.Partitions {
		r := h.ToKafka(schemas.Payments, "C1", headers, value)
		r.Partition = p
		h.must(client.ProduceSync(h.ctx, r).FirstErr())
	}
	g := h.gate(nil)
	h.awaitDecided(partitionsInTests)
	h.must(g.end())
	if n := testutil.ToFloat64(g.metrics.misrouted); n != partitionsInTests-1 {
		t.Errorf("%v misrouted, want %d", n, partitionsInTests-1)
	}
}

// Of two gates of one name the older is fenced: it ends with an error and decides nothing more.
func TestTheOlderOfTwoGatesOfOneNameIsFenced(t *testing.T) {
	h := newHouse(t)
	named := func(c *Config) { c.Instance = "same" }
	first := h.once(named).waitReady()
	h.publish(topUps(10, 0, 5)...)
	h.awaitDecided(50)
	second := h.gate(named).waitReady()
	var more []*events.Event
	decided := 50
	h.eventually("the older gate ends", func() bool {
		more = topUps(10, decided/10, decided/10+1)
		h.publish(more...)
		decided += len(more)
		select {
		case err := <-first.done:
			first.stopped = true
			if err == nil || errors.Is(err, context.Canceled) {
				t.Errorf("it ended with %v", err)
			}
			return true
		default:
			return false
		}
	})
	h.awaitDecided(decided)
	h.must(second.end())
	h.checkPayments(ruleset(1, countRule))
}

// A gate told to stop finishes what it has begun, leaves the group and returns nil; a standby without partitions takes
// over.
func TestStopFinishesTheTransaction(t *testing.T) {
	h := newFaultyHouse(t)
	begun, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	g := h.once(func(c *Config) {
		c.hooks.beforeEnd = func(context.Context) {
			once.Do(func() {
				close(begun)
				<-release
			})
		}
	}).waitReady()
	h.publish(topUps(10, 0, 1)...)
	<-begun
	g.stop()
	close(release)
	h.must(g.wait())
	if len(g.reported()) == 0 {
		t.Error("the transaction in hand was thrown away")
	}
	if info := h.kafka.GroupInfo(h.Group(part)); info != nil && len(info.Members) > 0 {
		t.Errorf("%d members left in the group", len(info.Members))
	}
	if got, want := h.committedOffsets(), int64(len(g.reported())); got != want {
		t.Errorf("offsets committed for %d events, decided %d", got, want)
	}
}

// There may be more gates than partitions: those without wait, and take over when one leaves.
func TestStandby(t *testing.T) {
	h := newHouse(t)
	var gates []*runner
	for range partitionsInTests + 1 {
		gates = append(gates, h.once(nil)) // none fails meanwhile
		for _, g := range gates {
			g.waitReady() // also the one that has got nothing
		}
	}
	for i, g := range gates {
		h.publish(topUps(10, i, i+1)...)
		h.awaitDecided(10 * (i + 1))
		if i < len(gates)-1 {
			h.must(g.end())
		}
	}
	h.must(gates[len(gates)-1].end())
	h.checkPayments(ruleset(1, countRule))
}
