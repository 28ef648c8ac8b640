package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// errLost is the end of a membership: another gate owns the partitions, so nothing in memory counts.
var errLost = errors.New("the group has taken the partitions away (the gate was silent for too long, or the group was reset)")

// An assignment is the set of partitions, the same of each input topic, that the group has given to this gate.
type assignment struct {
	ctx        context.Context // ends when the assignment is revoked
	partitions []int32
	restored   chan struct{} // closed when their aggregates are restored
}

// join makes the transactional group session.
//
// The group's assignor is the range assignor: for topics with equally many partitions and the same subscribers it deals
// out the same partition numbers of each topic to the same member, which is what puts all events of a customer in one gate.
// (Sticky and server-side assignors deal out partitions one by one.) It is eager: every rebalance revokes everything and
// assigns anew; the gate compares the two assignments and keeps what it still owns.
func (g *gate) join() error {
	opts := []kgo.Opt{
		kgo.ConsumerGroup(g.Group(part)),
		kgo.ConsumeTopics(slices.Collect(maps.Keys(g.inputs))...),
		kgo.Balancers(kgo.RangeBalancer()),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsCallbackBlocked(g.yield.blocked),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.AdjustFetchOffsetsFn(g.assigned),
		kgo.OnPartitionsAssigned(g.assignedNothing),
		kgo.OnPartitionsRevoked(func(context.Context, *kgo.Client, map[string][]int32) {}), // the next assignment says what is gone
		kgo.OnPartitionsLost(func(context.Context, *kgo.Client, map[string][]int32) { g.inbox.fail(errLost) }),
		kgo.TransactionalID(g.Group(part + "-" + g.Instance)),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(gather),
		kgo.MaxBufferedRecords(maxBuffered),
	}
	// The house's options, as the other clients of the gate have them; what comes later wins.
	opts = slices.Concat(g.admin.Opts(), opts, g.hooks.client)
	session, err := kgo.NewGroupTransactSession(opts...)
	if err != nil {
		return fmt.Errorf("make a transactional Kafka client for %v: %w", g.Brokers, err)
	}
	g.session = session
	return nil
}

// assigned is called by the client with the offsets it starts from, before it fetches the first record: it waits until the
// loop has restored the partitions. By now the client has fetched the group's stable offsets (KIP-447): no transaction
// that moves them is undecided, and an earlier owner cannot add one, since its generation is over. So the aggregates that
// belong to these offsets are decided too; see adopt.
func (g *gate) assigned(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	partitions, err := g.commonPartitions(offsets)
	if err != nil {
		g.inbox.fail(err)
		return nil, err
	}
	a := &assignment{ctx: ctx, partitions: partitions, restored: make(chan struct{})}
	g.inbox.assign(a)
	select {
	case <-a.restored:
		return offsets, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// assignedNothing passes on an assignment of no partitions (there are more gates than partitions), for which the client
// fetches no offsets.
func (g *gate) assignedNothing(ctx context.Context, _ *kgo.Client, partitions map[string][]int32) {
	for _, some := range partitions {
		if len(some) > 0 {
			return
		}
	}
	g.inbox.assign(&assignment{ctx: ctx, restored: make(chan struct{})})
}

// commonPartitions returns the partition numbers, which must be the same for each topic: a customer whose payments are
// here and whose loans are elsewhere would be judged twice by halves.
func (g *gate) commonPartitions(offsets map[string]map[int32]kgo.Offset) ([]int32, error) {
	var common []int32
	first := true
	for topic := range g.inputs {
		numbers := slices.Sorted(maps.Keys(offsets[topic]))
		if !first && !slices.Equal(numbers, common) {
			return nil, fmt.Errorf("the group assigned partitions %v of %s and %v of another input: all gates must use the range assignor, and the inputs must have equally many partitions", numbers, topic, common)
		}
		common, first = numbers, false
	}
	return common, nil
}

// fetchError returns the first error of a poll that the client does not mend itself.
func fetchError(fetches kgo.Fetches, log *slog.Logger) error {
	var first error
	fetches.EachError(func(topic string, partition int32, err error) {
		var loss *kgo.ErrDataLoss
		switch {
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		case errors.As(err, &loss): // the client goes on from what is left
			log.Error("Kafka has lost records that were consumed before", "topic", topic, "partition", partition, "error", err)
		case first == nil && topic != "":
			first = fmt.Errorf("%s/%d: %w", topic, partition, err)
		case first == nil:
			first = err
		}
	})
	return first
}
