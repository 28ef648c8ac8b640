package results

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/schemas"
)

// firstTail is how many offsets of a partition's end are looked at first; transaction markers take some of them.
const firstTail = 64

// findPosition finds the newest published result of each shard in the topic itself: what was committed last is the truth,
// whatever happened to whoever committed it.
func (p *publisher) findPosition(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	p.position = map[int32]int64{}
	rows, err := p.pg.Query(ctx, "SELECT shard, sequence FROM publications")
	if err != nil {
		return fmt.Errorf("read what is published: %w", err)
	}
	var shard int32
	var sequence int64
	if _, err := pgx.ForEachRow(rows, []any{&shard, &sequence}, func() error {
		p.position[shard] = sequence
		return nil
	}); err != nil {
		return fmt.Errorf("read what is published: %w", err)
	}
	topic := p.Topic(schemas.LedgerResults)
	admin := kadm.NewClient(p.client)
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err = errors.Join(err, starts.Error()); err != nil {
		return fmt.Errorf("list the starts of %s: %w", topic, err)
	}
	ends, err := admin.ListCommittedOffsets(ctx, topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		return fmt.Errorf("list the ends of %s: %w", topic, err)
	}
	for partition, end := range ends[topic] {
		start := starts[topic][partition].Offset
		if err := p.findTail(ctx, topic, partition, start, end.Offset); err != nil {
			return fmt.Errorf("read the end of %s partition %d: %w", topic, partition, err)
		}
	}
	return nil
}

// findTail looks further and further back for the last record of a partition.
func (p *publisher) findTail(ctx context.Context, topic string, partition int32, start, end int64) error {
	for length := int64(firstTail); start < end; length *= 8 {
		from := max(start, end-length)
		found, err := p.readTail(ctx, topic, partition, from, end)
		if err != nil || found || from == start {
			return err
		}
	}
	return nil
}

// readTail notes the newest result in [from, end), if there is one.
func (p *publisher) readTail(ctx context.Context, topic string, partition int32, from, end int64) (found bool, err error) {
	client, err := p.Client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(from)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return false, err
	}
	defer client.Close()
	for next := from; next < end; {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			return false, errs[0].Err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if r.Attrs.IsControl() || r.Offset >= end {
				return
			}
			for _, h := range r.Headers {
				if h.Key == "sequence" {
					if n, bad := strconv.ParseInt(string(h.Value), 10, 64); bad == nil {
						p.position[partition] = max(p.position[partition], n)
						found = true
					}
				}
			}
		})
	}
	return found, nil
}
