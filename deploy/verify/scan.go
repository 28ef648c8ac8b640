package verify

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ends holds, for each partition of a topic, the offset to stop before.
type ends map[int32]int64

// stableEnds returns the last stable offsets of a topic: what a reader of committed records can read.
func (v *verifier) stableEnds(ctx context.Context, topic string) (ends, error) {
	listed, err := v.admin.ListCommittedOffsets(ctx, v.c.Topic(topic))
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list the ends of %s: %w", topic, err)
	}
	e := ends{}
	listed.Each(func(o kadm.ListedOffset) { e[o.Partition] = o.Offset })
	return e, nil
}

// groupPositions returns the offsets a group has committed on a topic; partitions without a commit are absent.
func (v *verifier) groupPositions(ctx context.Context, group, topic string) (ends, error) {
	fetched, err := v.admin.FetchOffsetsForTopics(ctx, v.c.Group(group), v.c.Topic(topic))
	if err == nil {
		err = fetched.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("read the positions of group %s on %s: %w", group, topic, err)
	}
	e := ends{}
	fetched.Each(func(o kadm.OffsetResponse) {
		if o.Err == nil && o.At >= 0 {
			e[o.Partition] = o.At
		}
	})
	return e, nil
}

// scan reads every committed record of a topic up to the given ends, partition by partition in order.
func (v *verifier) scan(ctx context.Context, topic string, from, until ends, see func(*kgo.Record)) error {
	name := v.c.Topic(topic)
	starts, err := v.admin.ListStartOffsets(ctx, name)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return fmt.Errorf("list the starts of %s: %w", topic, err)
	}
	read := map[int32]kgo.Offset{}
	starts.Each(func(o kadm.ListedOffset) {
		if start := max(o.Offset, from[o.Partition]); start < until[o.Partition] {
			read[o.Partition] = kgo.NewOffset().At(start)
		}
	})
	if len(read) == 0 {
		return nil
	}
	// Control records are kept, since the last offset before an end is often a transaction's marker.
	client, err := v.c.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{name: read}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer client.Close()
	open := len(read)
	done := map[int32]bool{}
	for open > 0 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			return fmt.Errorf("read %s partition %d: %w", topic, errs[0].Partition, errs[0].Err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end := until[r.Partition]
			if r.Offset < end && !r.Attrs.IsControl() {
				see(r)
			}
			if r.Offset >= end-1 && !done[r.Partition] {
				done[r.Partition] = true
				open--
			}
		})
	}
	return nil
}

// marks is one byte for each offset of each partition of a topic.
type marks map[int32][]byte

func (m marks) at(partition int32, offset int64) *byte {
	have := m[partition]
	if offset >= int64(len(have)) {
		grown := make([]byte, max(offset+1, 2*int64(len(have))))
		copy(grown, have)
		have = grown
		m[partition] = have
	}
	return &have[offset]
}

// get returns the mark, 0 where there is none.
func (m marks) get(partition int32, offset int64) byte {
	if have := m[partition]; offset < int64(len(have)) {
		return have[offset]
	}
	return 0
}

// stand marks the offsets from first to end as standing.
func (m marks) stand(partition int32, first, end int64) {
	m.at(partition, end-1)
	for at := first; at < end; at++ {
		m[partition][at] = standing
	}
}
