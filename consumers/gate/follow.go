package gate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"sluice/schemas"
	eventsv1 "sluice/schemas/events/v1"
)

const (
	// followQueue bounds the polls the follower may be ahead of the loop.
	followQueue = 16
	// followFor bounds the time the loop applies what was followed between two transactions: about as much as an import of
	// lists adds to the latency of decisions.
	followFor = 20 * time.Millisecond
	// followAtLeast is how many records it applies between two looks at the clock.
	followAtLeast = 50
)

// A follower reads, outside the group, what the state must learn from others while it runs: gate.state of the partitions
// other gates own, customers.tiers, lists, channels and rules. It hands records to the loop and touches no state.
type follower struct {
	client *kgo.Client
	queue  chan []*kgo.Record
	rest   []*kgo.Record // taken from the queue, not applied yet; the loop's
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// follow starts a follower at the positions of all feeds but the owned partitions'.
func (g *gate) follow() error {
	from := map[string]map[int32]kgo.Offset{}
	for topic, partitions := range g.at {
		offsets := map[int32]kgo.Offset{}
		for p, next := range partitions {
			if _, owned := g.owned[p]; owned && topic == schemas.GateState {
				continue
			}
			offsets[p] = kgo.NewOffset().At(next)
		}
		if len(offsets) > 0 {
			from[g.Topic(topic)] = offsets
		}
	}
	client, err := g.client(kgo.ConsumePartitions(from), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{client: client, queue: make(chan []*kgo.Record, followQueue), cancel: cancel}
	f.done.Go(func() { f.run(ctx, g.inbox, g.Config) })
	g.follower = f
	return nil
}

func (f *follower) run(ctx context.Context, inbox *inbox, c Config) {
	for {
		fetches := f.client.PollRecords(ctx, maxRecords)
		if ctx.Err() != nil {
			return
		}
		if err := fetchError(fetches, c.Log); err != nil {
			inbox.fail(fmt.Errorf("follow: %w", err))
			return
		}
		select {
		case f.queue <- fetches.Records():
			inbox.wake()
		case <-ctx.Done():
			return
		}
	}
}

// stopFollowing ends the follower. What it has read and the loop has not applied is read again by the next: the positions
// are the loop's.
func (g *gate) stopFollowing() {
	if g.follower != nil {
		g.follower.close()
		g.follower = nil
	}
}

func (f *follower) close() {
	f.cancel()
	f.done.Wait()
	f.client.Close()
}

// applyFollowed applies some of what the follower has read, and sees to it that the rest does not wait for events.
func (g *gate) applyFollowed() error {
	if g.follower == nil { // between two assignments
		return nil
	}
	defer g.settle()
	for deadline := time.Now().Add(followFor); time.Now().Before(deadline); {
		some := g.follower.next()
		if len(some) == 0 {
			return nil
		}
		for _, r := range some {
			if err := g.applyRecord(r); err != nil {
				return err
			}
		}
	}
	g.inbox.wake()
	return nil
}

// next takes some records off the queue, none if it is empty.
func (f *follower) next() []*kgo.Record {
	for len(f.rest) == 0 {
		select {
		case f.rest = <-f.queue:
		default:
			return nil
		}
	}
	n := min(followAtLeast, len(f.rest))
	some := f.rest[:n]
	f.rest = f.rest[n:]
	return some
}

// settle puts what was followed in force.
func (g *gate) settle() {
	g.enforce()
	g.tellLists()
}

// applyRecord applies one record that others wrote.
func (g *gate) applyRecord(r *kgo.Record) error {
	topic := g.Base(r.Topic)
	switch topic {
	case schemas.GateState:
		if err := g.state.Follow(r.Partition, r.Key, r.Value); err != nil {
			return fmt.Errorf("follow %s/%d offset %d: %w", topic, r.Partition, r.Offset, err)
		}
	case schemas.CustomerTiers:
		g.applyTier(r)
	case schemas.Rules:
		g.applyRuleset(r)
	case schemas.Lists:
		g.applyListEntry(r)
	case schemas.Channels:
		g.applyChannels(r)
	}
	g.at.set(topic, r.Partition, r.Offset+1)
	return nil
}

// applyTier takes a customer's value tier; one that cannot be read is no reason to stop deciding.
func (g *gate) applyTier(r *kgo.Record) {
	var tier eventsv1.CustomerTier
	if err := proto.Unmarshal(r.Value, &tier); err != nil {
		g.Log.Error("a customer's tier cannot be read; it stays as it was", "customer", string(r.Key),
			"partition", r.Partition, "offset", r.Offset, "error", err)
		return
	}
	g.state.SetTier(string(r.Key), tier.Tier) // no value: no tier
}
