package verify

import (
	"context"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/schemas"
)

// Behind returns how many records have not gone the whole way yet: events to decide, decisions to post, results to
// publish, records to count. It is exact when it is 0; Kafka's transaction markers are not records.
func Behind(ctx context.Context, c Config) (int64, error) {
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	v, closeAll, err := open(ctx, c)
	if err != nil {
		return 0, err
	}
	defer closeAll()
	var sum int64
	for _, topic := range inputs {
		n, err := v.behindGroup(ctx, "gate", topic)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	seen := &decided{poster: map[string]ends{}}
	if err := v.posterPositions(ctx, seen); err != nil {
		return 0, err
	}
	for _, topic := range posterTopics {
		n, err := v.after(ctx, topic, seen.poster[topic])
		if err != nil {
			return 0, err
		}
		sum += n
	}
	n, err := v.unpublished(ctx)
	if err != nil {
		return 0, err
	}
	sum += n
	for _, topic := range warehouseTopics {
		n, err := v.behindGroup(ctx, "warehouse", topic)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func (v *verifier) behindGroup(ctx context.Context, group, topic string) (int64, error) {
	at, err := v.groupPositions(ctx, group, topic)
	if err != nil {
		return 0, err
	}
	return v.after(ctx, topic, at)
}

// exactBelow is the difference of offsets from which on it is taken as the number of records: so far behind, a count that
// includes markers is good enough.
const exactBelow = 5000

// after returns how many committed records stand at or after the positions.
func (v *verifier) after(ctx context.Context, topic string, at ends) (int64, error) {
	end, err := v.stableEnds(ctx, topic)
	if err != nil {
		return 0, err
	}
	var offsets, records int64
	for partition, e := range end {
		offsets += max(0, e-at[partition])
	}
	if offsets == 0 || offsets > exactBelow {
		return offsets, nil
	}
	err = v.scan(ctx, topic, at, end, func(*kgo.Record) { records++ })
	return records, err
}

// unpublished returns how many of the book's results are not on ledger.results.
func (v *verifier) unpublished(ctx context.Context) (int64, error) {
	end, err := v.stableEnds(ctx, schemas.LedgerResults)
	if err != nil {
		return 0, err
	}
	var book int64
	if err := v.pg.QueryRow(ctx, "SELECT coalesce(sum(sequence), 0)::bigint FROM shards").Scan(&book); err != nil {
		return 0, fmt.Errorf("read the ends of the shards: %w", err)
	}
	last := map[int32]int64{}
	tail := ends{}
	for partition, e := range end {
		tail[partition] = max(0, e-tailLength)
	}
	if err := v.scan(ctx, schemas.LedgerResults, tail, end, func(r *kgo.Record) {
		if shard, sequence, err := resultNumber(r); err == nil {
			last[shard] = sequence
		}
	}); err != nil {
		return 0, err
	}
	var published int64
	for _, n := range last {
		published += n
	}
	return max(0, book-published), nil
}

// tailLength is how many offsets of each partition are read to find the newest result: more than the markers of the
// transactions that can follow it.
const tailLength = 64

// resultNumber reads which result of which shard a record is, from its headers.
func resultNumber(r *kgo.Record) (shard int32, sequence int64, err error) {
	h := headers(r)
	n, err := strconv.ParseInt(h["shard"], 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("the header shard says %q, not a number", h["shard"])
	}
	sequence, err = strconv.ParseInt(h["sequence"], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("the header sequence says %q, not a number", h["sequence"])
	}
	return int32(n), sequence, nil
}
