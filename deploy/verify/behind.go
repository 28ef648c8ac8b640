package verify

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
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
	return v.between(ctx, topic, at, end)
}

// between returns how many committed records stand at or after the positions and before the ends.
func (v *verifier) between(ctx context.Context, topic string, at, end ends) (int64, error) {
	var offsets, records int64
	for partition, e := range end {
		offsets += max(0, e-at[partition])
	}
	if offsets == 0 || offsets > exactBelow {
		return offsets, nil
	}
	err := v.scan(ctx, topic, at, end, func(*kgo.Record) { records++ })
	return records, err
}

// unpublished returns how many of the book's results are not on ledger.results.
func (v *verifier) unpublished(ctx context.Context) (int64, error) {
	published, err := v.newestTold(ctx)
	if err != nil {
		return 0, err
	}
	book, err := v.answered(ctx)
	if err != nil {
		return 0, err
	}
	return book.beyond(published), nil
}

// numbers holds, for each shard, the number of a result.
type numbers map[int32]int64

// beyond is how many results come after others.
func (n numbers) beyond(others numbers) (sum int64) {
	for shard, last := range n {
		sum += max(0, last-others[shard])
	}
	return sum
}

// answered returns each shard's last result in the book.
func (v *verifier) answered(ctx context.Context) (numbers, error) {
	rows, err := v.pg.Query(ctx, "SELECT shard, sequence FROM shards")
	if err != nil {
		return nil, fmt.Errorf("read the ends of the shards: %w", err)
	}
	last := numbers{}
	var shard int32
	var sequence int64
	if _, err := pgx.ForEachRow(rows, []any{&shard, &sequence}, func() error {
		last[shard] = sequence
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the ends of the shards: %w", err)
	}
	return last, nil
}

// newestTold returns each shard's last result on ledger.results.
func (v *verifier) newestTold(ctx context.Context) (numbers, error) {
	end, err := v.stableEnds(ctx, schemas.LedgerResults)
	if err != nil {
		return nil, err
	}
	last := numbers{}
	tail := ends{}
	for partition, e := range end {
		tail[partition] = max(0, e-tailLength)
	}
	err = v.scan(ctx, schemas.LedgerResults, tail, end, func(r *kgo.Record) {
		if shard, sequence, err := resultNumber(r); err == nil {
			last[shard] = sequence
		}
	})
	return last, err
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
