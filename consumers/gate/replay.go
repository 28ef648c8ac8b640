package gate

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/schemas"
)

// stalled bounds how long a replay may make no progress: longer than any transaction in its way can stay open.
const stalled = 3 * transactionTimeout

// positions are the offsets of the next record to apply, by topic (without prefix) and partition, of the feeds that fill
// the state: gate.state of every partition, owned or followed, customers.tiers, lists, channels and rules.
type positions map[string]map[int32]int64

func (at positions) set(topic string, partition int32, next int64) {
	if at[topic] == nil {
		at[topic] = map[int32]int64{}
	}
	at[topic][partition] = next
}

// A bound says where a replay ends.
type bound uint8

const (
	// committed: the last stable offset. What is after it belongs to a transaction still open, or is still to come.
	committed bound = iota
	// everything: the high watermark; the replay waits until all transactions before it are decided.
	everything
)

// replay applies the records of some partitions of a topic, each from its position (from its start if it has none) to the
// bound as it is now, and moves the positions along. It may be called again after a failure and goes on where it was.
func (g *gate) replay(ctx context.Context, topic string, partitions []int32, to bound, apply func(*kgo.Record) error) error {
	left, err := g.pending(ctx, topic, partitions, to)
	if err != nil || len(left) == 0 {
		return err
	}
	from := map[int32]kgo.Offset{}
	for p := range left {
		from[p] = kgo.NewOffset().At(g.at[topic][p])
	}
	client, err := g.client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{g.Topic(topic): from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // the last record before the bound may be the end of a transaction
	)
	if err != nil {
		return err
	}
	defer client.Close()
	for len(left) > 0 {
		polling, cancel := context.WithTimeout(ctx, stalled)
		fetches := client.PollRecords(polling, maxRecords)
		late := polling.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := fetchError(fetches, g.Log); err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		if late && fetches.NumRecords() == 0 {
			return fmt.Errorf("read %s: nothing came for %s of partitions and ends %v; look for a transaction that hangs (kafka-transactions.sh find-hanging)", topic, stalled, left)
		}
		for _, r := range fetches.Records() {
			if err := g.replayed(topic, r, left, apply); err != nil {
				return err
			}
		}
	}
	return nil
}

// replayed applies one record and strikes its partition from what is left once the bound is reached.
func (g *gate) replayed(topic string, r *kgo.Record, left map[int32]int64, apply func(*kgo.Record) error) error {
	if !r.Attrs.IsControl() {
		if err := apply(r); err != nil {
			return fmt.Errorf("apply %s/%d offset %d: %w", topic, r.Partition, r.Offset, err)
		}
	}
	g.at.set(topic, r.Partition, r.Offset+1)
	if end, ok := left[r.Partition]; ok && r.Offset+1 >= end {
		delete(left, r.Partition)
	}
	return nil
}

// pending returns the end of each partition that has something to replay, and sets the positions that were not known.
func (g *gate) pending(ctx context.Context, topic string, partitions []int32, to bound) (map[int32]int64, error) {
	name := g.Topic(topic)
	admin := kadm.NewClient(g.admin)
	list := admin.ListCommittedOffsets
	if to == everything {
		list = admin.ListEndOffsets
	}
	ends, err := list(ctx, name)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("find the end of %s: %w", name, err)
	}
	starts, err := admin.ListStartOffsets(ctx, name)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("find the start of %s: %w", name, err)
	}
	left := map[int32]int64{}
	for _, p := range partitions {
		start, _ := starts.Lookup(name, p)
		end, ok := ends.Lookup(name, p)
		if !ok {
			return nil, fmt.Errorf("%s has no partition %d; it must have as many as %s", name, p, g.Topic(schemas.Payments))
		}
		next, known := g.at[topic][p]
		if !known || next < start.Offset {
			next = start.Offset
			g.at.set(topic, p, next)
		}
		if next < end.Offset {
			left[p] = end.Offset
		}
	}
	return left, nil
}
