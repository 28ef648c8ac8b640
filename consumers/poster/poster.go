// Package poster brings decided events into the book, each exactly once: one Postgres transaction per poll holds the
// transfers, the balances, the results and the offsets. It decides nothing itself (pipelines/payments and
// pipelines/lending do) and publishes nothing (producers/results does).
package poster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"sluice/consumers/stream"
	"sluice/pipelines/ledger"
	"sluice/pipelines/payments"
	"sluice/pipelines/posting"
	"sluice/schemas"
)

// DefaultMaxBatch bounds the decisions of one transaction: larger batches cost less each, but hold the rows longer.
const DefaultMaxBatch = 5000

// DefaultWriters is two: while one waits for the disk or for this program, the other keeps the database busy.
const DefaultWriters = 2

// commitInterval is how often the group's offsets are committed to Kafka. They are for display: what counts is Postgres.
const commitInterval = time.Second

// Config is what the poster needs to know.
type Config struct {
	stream.Config
	Postgres string            // URL; its search_path says where the book's tables are
	Postings payments.Postings // nil: posting.Standard
	MaxBatch int               // decisions of one poll; 0: DefaultMaxBatch
	Writers  int               // connections that share the partitions out and post side by side; 0: DefaultWriters
	Timeout  time.Duration     // of one batch; 0: DefaultBatchTimeout
	Ready    func()            // called whenever partitions have been assigned; may be nil
	Dial     pgconn.DialFunc   // for tests that cut the wire; nil: the network
}

func (c Config) fill() Config {
	c.Config = c.Config.Fill()
	if c.Postings == nil {
		c.Postings = posting.Standard()
	}
	if c.MaxBatch == 0 {
		c.MaxBatch = DefaultMaxBatch
	}
	if c.Writers == 0 {
		c.Writers = DefaultWriters
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultBatchTimeout
	}
	if c.Ready == nil {
		c.Ready = func() {}
	}
	return c
}

// part is a partition of a decided topic, named without prefix.
type part struct {
	topic     string
	partition int32
}

// poster is one run.
type poster struct {
	Config
	metrics *metrics
	writers []*session

	stop context.CancelCauseFunc // ends the run because partitions could not be taken over

	assignedNow chan struct{} // partitions came or went

	mu    sync.Mutex
	owned map[part]ownership
}

// Run posts decided events until ctx ends or something fails; it then starts from what is committed when called again.
// A database without the book's tables is a fatal error: see Migrate.
func Run(ctx context.Context, c Config) error {
	c = c.fill()
	if c.Partitions > ledger.MaxShards {
		return stream.Fatal(fmt.Errorf("%d partitions; the book has at most %d shards", c.Partitions, ledger.MaxShards))
	}
	p := &poster{Config: c, metrics: newMetrics(c.Metrics), owned: map[part]ownership{}, assignedNow: make(chan struct{}, 1)}
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p.stop = stop
	defer p.close()
	if err := p.connect(ctx); err != nil {
		return quiet(ctx, err)
	}
	client, err := p.join()
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	var watching sync.WaitGroup
	watching.Go(func() { p.watchHolds(running) })
	watching.Go(func() { p.watchWaiting(running) })
	err = p.loop(running, client)
	stop(nil)
	watching.Wait()
	p.metrics.holds(nil)
	if unmigrated(err) {
		return stream.Fatal(fmt.Errorf("the book's tables are missing, call Migrate first: %w", err))
	}
	return quiet(ctx, err)
}

func (p *poster) connect(ctx context.Context) error {
	for range p.Writers {
		conn, err := connect(ctx, p.Postgres, "sluice-poster", p.Timeout, p.Dial)
		if err != nil {
			return err
		}
		p.writers = append(p.writers, newSession(conn))
	}
	return nil
}

func (p *poster) close() {
	for _, w := range p.writers {
		closeConn(w.conn)
	}
}

// quiet drops the errors that ending ctx brings about.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// join makes the group's client. The range balancer gives the same partition numbers of all topics to one member, so
// that a shard has one writer.
func (p *poster) join() (*kgo.Client, error) {
	return p.Client(
		kgo.ConsumerGroup(p.Group("poster")),
		kgo.ConsumeTopics(p.Topic(schemas.PaymentsDecided), p.Topic(schemas.LoansDecided)),
		kgo.Balancers(kgo.RangeBalancer()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // so that positions reach the ends of the partitions
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.BlockRebalanceOnPoll(),
		kgo.AutoCommitMarks(),
		kgo.AutoCommitInterval(commitInterval),
		kgo.AdjustFetchOffsetsFn(p.takeOver),
		kgo.OnPartitionsAssigned(p.assigned),
		kgo.OnPartitionsRevoked(p.revoked),
		kgo.OnPartitionsLost(p.revoked),
	)
}

// takeOver replaces Kafka's offsets by the book's and fences whoever had the partitions before.
func (p *poster) takeOver(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	var parts []part
	for topic, partitions := range offsets {
		for n := range partitions {
			parts = append(parts, part{p.Base(topic), n})
		}
	}
	owned, err := p.own(ctx, parts)
	if err != nil {
		p.stop(err)
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, o := range owned {
		p.owned[at] = o
		start := kgo.NewOffset().At(o.next)
		if o.next == 0 {
			start = kgo.NewOffset().AtStart() // never posted: whatever the topic still has
		}
		offsets[p.Topic(at.topic)][at.partition] = start
	}
	p.changed()
	p.Ready()
	return offsets, nil
}

// own takes the partitions over on a connection of its own: the session may be busy.
func (p *poster) own(ctx context.Context, parts []part) (map[part]ownership, error) {
	conn, err := connect(ctx, p.Postgres, "sluice-poster", min(p.Timeout, stream.SessionTimeout), p.Dial)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	return own(ctx, conn, parts)
}

// assigned tells a poster that got nothing, for which there is nothing to take over, that it is ready.
func (p *poster) assigned(_ context.Context, _ *kgo.Client, got map[string][]int32) {
	for _, partitions := range got {
		if len(partitions) > 0 {
			return
		}
	}
	p.Ready()
}

func (p *poster) revoked(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for topic, partitions := range gone {
		for _, n := range partitions {
			delete(p.owned, part{p.Base(topic), n})
			p.metrics.forget(part{p.Base(topic), n})
		}
	}
	p.changed()
}

// changed says that partitions came or went.
func (p *poster) changed() {
	select {
	case p.assignedNow <- struct{}{}:
	default:
	}
}

// loop posts poll by poll. Partitions come and go only between two polls.
func (p *poster) loop(ctx context.Context, client *kgo.Client) error {
	for {
		fetches := client.PollRecords(ctx, p.MaxBatch)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := fetchError(fetches); err != nil {
			return err
		}
		records, claims, err := p.claim(fetches)
		if err != nil {
			return err
		}
		if err := p.post(ctx, records, claims); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) { client.MarkCommitRecords(r) })
		client.AllowRebalance()
	}
}

func fetchError(fetches kgo.Fetches) error {
	failed := fetches.Errors()
	if len(failed) == 0 {
		return nil
	}
	e := failed[0]
	if errors.Is(e.Err, kerr.OffsetOutOfRange) {
		return fmt.Errorf("%s partition %d does not hold the decision that the book posts next: retention has taken it, or the topic was made anew; nothing is skipped until a person has moved next_offset in the table offsets: %w", e.Topic, e.Partition, e.Err)
	}
	return fmt.Errorf("read %s partition %d: %w", e.Topic, e.Partition, e.Err)
}

// claim lists the records to post and how far they move each partition. Control records move it, but are no records.
func (p *poster) claim(fetches kgo.Fetches) ([]*kgo.Record, []claim, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var records []*kgo.Record
	var claims []claim
	var err error
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		at := part{p.Base(f.Topic), f.Partition}
		o, ok := p.owned[at]
		if len(f.Records) == 0 {
			return
		}
		if !ok {
			err = errors.Join(err, fmt.Errorf("records of %s partition %d, which is not owned", at.topic, at.partition))
			return
		}
		if first := f.Records[0].Offset; first < o.next {
			err = errors.Join(err, fmt.Errorf("%s partition %d gave offset %d, which is posted: the book stands at %d", at.topic, at.partition, first, o.next))
			return
		}
		for _, r := range f.Records {
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
		}
		next := f.Records[len(f.Records)-1].Offset + 1
		claims = append(claims, claim{at.topic, at.partition, o.epoch, o.next, next})
		p.metrics.read(at, f.HighWatermark, next)
	})
	return records, claims, err
}

// post shares a poll out among the writers by partition; each posts its share in a transaction of its own.
func (p *poster) post(ctx context.Context, records []*kgo.Record, claims []claim) error {
	n := len(p.writers)
	shares := make([][]*kgo.Record, n)
	for _, r := range records {
		w := int(r.Partition) % n
		shares[w] = append(shares[w], r)
	}
	claimed := make([][]claim, n)
	for _, c := range claims {
		w := int(c.partition) % n
		claimed[w] = append(claimed[w], c)
	}
	group, ctx := errgroup.WithContext(ctx)
	for w, s := range p.writers {
		if len(shares[w]) > 0 { // control records alone wait for the next batch to move past them
			group.Go(func() error { return p.postShare(ctx, s, newBatch(shares[w], claimed[w])) })
		}
	}
	return group.Wait()
}

func (p *poster) postShare(ctx context.Context, s *session, b *batch) error {
	started := time.Now()
	err := s.post(ctx, b, options{p.Postings, p.Timeout, p.Base})
	if errors.Is(err, errFenced) {
		p.metrics.fenced.Inc()
	}
	if err != nil {
		return fmt.Errorf("post %d decisions: %w", len(b.entries), err)
	}
	p.metrics.posted(b, time.Since(started))
	p.advance(b.claims)
	return nil
}

// advance notes what is committed.
func (p *poster) advance(claims []claim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range claims {
		at := part{c.topic, c.partition}
		if o, ok := p.owned[at]; ok && o.epoch == c.epoch {
			p.owned[at] = ownership{c.epoch, c.next}
		}
	}
}
