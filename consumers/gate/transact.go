package gate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/schemas"
	"sluice/schemas/events"
)

// errCommittedAfterAll is a transaction that the client gave up and the broker committed.
var errCommittedAfterAll = errors.New("a transaction was reported as aborted, but the group's offsets have moved past it")

// unstablePause is the pause between two looks at offsets that a transaction still holds.
const unstablePause = 20 * time.Millisecond

// A transaction is what one poll becomes.
type transaction struct {
	begun     time.Time
	first     map[string]map[int32]int64 // offset of the first record of each input partition, topics as the brokers know them
	decisions []events.Decision
	letters   []events.Code // reasons of the dead letters
	shadows   []shadowVerdict
	misrouted int

	mu       sync.Mutex // the client calls produced from its own goroutines
	err      error      // the first record that could not be produced
	stateEnd map[int32]int64
}

func (t *transaction) reset() {
	clear(t.decisions) // lets go of the last events
	t.begun, t.decisions, t.letters, t.shadows, t.misrouted = time.Now(), t.decisions[:0], t.letters[:0], t.shadows[:0], 0
	t.first, t.err, t.stateEnd = map[string]map[int32]int64{}, nil, map[int32]int64{}
}

// transact decides the records of one poll. When it returns nil, either all of it happened, or none of it did and the
// session has gone back to the committed offsets.
func (g *gate) transact(ctx context.Context, fetches kgo.Fetches) error {
	t := &g.tx
	t.reset()
	if err := g.session.Begin(); err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	inOrder(fetches, t, func(r *kgo.Record) { g.decide(ctx, t, r) })
	g.state.Staged(func(p int32, key, value []byte) {
		r := &kgo.Record{Topic: g.Topic(schemas.GateState), Partition: p, Key: key, Value: value}
		g.session.Produce(ctx, r, t.stateProduced)
	})
	committed, err := g.end(ctx, t)
	if err != nil {
		g.state.Abort()
		g.abandon()
		return fmt.Errorf("decide %d events: %w; whether they are decided is looked up in Kafka before any other", fetches.NumRecords(), err)
	}
	if !committed {
		g.state.Abort()
		g.metrics.aborted.Inc()
		return g.confirmAborted(ctx, t)
	}
	g.state.Commit()
	for p, end := range t.stateEnd {
		g.at.set(schemas.GateState, p, end)
	}
	g.metrics.committed(t, g.state.Entities())
	g.tellChannels()
	if g.OnDecision != nil {
		for i := range t.decisions {
			g.OnDecision(&t.decisions[i])
		}
	}
	return nil
}

// end commits, if everything was produced. A record that cannot be produced fails the transaction: the client would
// commit the others.
func (g *gate) end(ctx context.Context, t *transaction) (bool, error) {
	if err := g.session.Client().Flush(ctx); err != nil {
		return false, fmt.Errorf("produce: %w", err)
	}
	if t.err != nil {
		return false, t.err
	}
	if g.hooks.beforeEnd != nil {
		g.hooks.beforeEnd(ctx)
	}
	defer g.yield.begin(g.session.Client())()
	committed, err := g.session.End(ctx, kgo.TryCommit)
	if err != nil {
		return false, fmt.Errorf("end the transaction: %w", err)
	}
	return committed, nil
}

// abandon ends a failed transaction on the broker, so that nobody waits for it to time out. A failure to do so is the
// timeout's to mend.
func (g *gate) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveWait)
	defer cancel()
	client := g.session.Client()
	if client.AbortBufferedRecords(ctx) == nil {
		_ = client.EndTransaction(ctx, kgo.TryAbort)
	}
}

// confirmAborted asks the broker whether a transaction that the client reports as aborted is: the client also reports it
// when the broker answered a commit with an error of its own (UNKNOWN_SERVER_ERROR), which may come after the fact.
func (g *gate) confirmAborted(ctx context.Context, t *transaction) error {
	// A producer id in doubt is loaded anew, which decides what is still open under it.
	if _, _, err := g.session.Client().ProducerID(ctx); err != nil {
		return fmt.Errorf("load the producer id after an aborted transaction: %w", err)
	}
	topics := make([]string, 0, len(t.first))
	for topic := range t.first {
		topics = append(topics, topic)
	}
	offsets, err := g.stableOffsets(ctx, topics)
	if err != nil {
		return fmt.Errorf("find out whether a transaction was aborted: %w", err)
	}
	for topic, partitions := range t.first {
		for p, first := range partitions {
			if o, ok := offsets.Lookup(topic, p); ok && o.At > first {
				return fmt.Errorf("%s/%d: %w", topic, p, errCommittedAfterAll)
			}
		}
	}
	return nil
}

// stableOffsets reads the group's offsets once no transaction that moves them is open: the marker that ends the one just
// aborted reaches them some time after its end is acknowledged.
func (g *gate) stableOffsets(ctx context.Context, topics []string) (kadm.OffsetResponses, error) {
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	for {
		offsets, err := kadm.NewClient(g.admin).FetchOffsetsForTopics(kadm.RequireStable(ctx), g.Group(part), topics...)
		if err == nil {
			err = offsets.Error()
		}
		if !errors.Is(err, kerr.UnstableOffsetCommit) {
			return offsets, err
		}
		select {
		case <-time.After(unstablePause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// produced notes the outcome of one record.
func (t *transaction) produced(r *kgo.Record, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil && t.err == nil {
		t.err = fmt.Errorf("produce to %s/%d: %w", r.Topic, r.Partition, err)
	}
}

// stateProduced notes the outcome of one gate.state record: the state itself has what the log has up to its offset.
func (t *transaction) stateProduced(r *kgo.Record, err error) {
	t.produced(r, err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stateEnd[r.Partition] = max(t.stateEnd[r.Partition], r.Offset+1)
}
