// Package warehouse puts everything that was decided, posted or refused into ClickHouse, each record exactly once, in raw
// tables and in every table a materialized view fills. It computes nothing: what the rows mean is said by
// schemas/warehouse and pipelines/value.
//
// ClickHouse counts an insert once if it is sent again with the same token and the same rows. So a batch is planned before
// it is written: the range of offsets goes into the metadata of the Kafka offset commit, then the rows are inserted with a
// token made of that range, then the next commit moves the offset past it. Whoever takes a partition over finds the range
// there and sends exactly that one first.
package warehouse

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/stream"
	"sluice/schemas"
	schema "sluice/schemas/warehouse"
)

// part is this part's name: of its group, its metrics and the dead letters it finds.
const part = "warehouse"

// Defaults and limits.
const (
	// DefaultFlushRows is how many records of one partition go into one batch at most. Larger inserts mean fewer merges:
	// 140,000 payments a second went in by 25,000, 190,000 by 100,000. A batch of these takes some 100 MB.
	DefaultFlushRows = 100_000
	// DefaultFlushEvery is how long a record waits at least for others to share its insert.
	DefaultFlushEvery = 500 * time.Millisecond
	// DefaultInserters is how many partitions are written at the same time.
	DefaultInserters = 3
	// smallBatch is the size below which batches are let grow: their inserts cost ClickHouse more than their rows do.
	smallBatch = 5_000
	// share is the part of time, one in share+1, that small inserts may take; the wait for the next grows accordingly. An
	// insert of some rows costs ClickHouse 10 ms of CPU, and up to 60 make a flush.
	share = 9
	// slowest bounds that wait.
	slowest = 2 * time.Second
	// maxBuffered bounds the records held for all partitions, in batches of FlushRows; nothing is polled beyond.
	maxBuffered = 3
	// maxBufferedBytes bounds their keys and values: dead letters may be large. A poll may go beyond by what the client
	// has fetched, 50 MiB a broker.
	maxBufferedBytes = 256 << 20
	// grace is how long a batch that is being written may take to end after the part was told to stop.
	grace = 3 * time.Second
)

// topics are the inputs.
var topics = []string{schemas.PaymentsDecided, schemas.LoansDecided, schemas.BehaviorsDecided, schemas.LedgerResults, schemas.DeadLetters,
	schemas.VerdictsShadow, schemas.Rules}

// Step is a moment in the life of a batch, for tests.
type Step string

// The steps, in order.
const (
	StepPlanned  Step = "planned"  // the plans are committed, nothing is inserted yet
	StepInserted Step = "inserted" // every row is in ClickHouse, which is not committed yet
)

// Config is what the part needs. It is a value; copies are independent.
type Config struct {
	stream.Config
	ClickHouse  string        // clickhouse://user:password@host:9000/database; the database is created if missing
	TierRefresh time.Duration // how often customer_tiers is computed; 0: once a minute
	FlushRows   int           // records of one partition in one batch, at most; 0: DefaultFlushRows
	FlushEvery  time.Duration // the shortest time between batches that are not full; 0: DefaultFlushEvery
	Inserters   int           // partitions written at the same time; 0: DefaultInserters

	// Ready is called each time the part has joined its group; may be nil.
	Ready func()
	// Hook is called at each step of every batch; an error stops the part as a crash would. For tests; may be nil.
	Hook func(ctx context.Context, s Step, topic string, partition int32) error
}

func (c Config) fill() Config {
	c.Config = c.Config.Fill()
	if c.FlushRows <= 0 {
		c.FlushRows = DefaultFlushRows
	}
	if c.FlushEvery <= 0 {
		c.FlushEvery = DefaultFlushEvery
	}
	if c.Inserters <= 0 {
		c.Inserters = DefaultInserters
	}
	if c.Ready == nil {
		c.Ready = func() {}
	}
	if c.Hook == nil {
		c.Hook = func(context.Context, Step, string, int32) error { return nil }
	}
	return c
}

// Run fills the warehouse until ctx ends, which returns nil, or something fails that waiting for ClickHouse cannot mend.
// It is safe to call again: it starts from the committed plans. It brings the schema forward first.
func Run(ctx context.Context, c Config) error {
	c = c.fill()
	w, err := newWarehouse(c)
	if err != nil {
		return err
	}
	defer w.close()
	if err := schema.Apply(ctx, c.ClickHouse, schema.Options{TierRefresh: c.TierRefresh}); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("prepare the warehouse: %w", err)
	}
	if err := w.join(); err != nil {
		return err
	}
	err = w.loop(ctx)
	w.failed.Store(err != nil)
	if err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// newWarehouse connects; it does not join the group yet.
func newWarehouse(c Config) (*warehouse, error) {
	w := &warehouse{c: c, metrics: newMetrics(c.Metrics), partitions: map[position]*partition{}, idle: sync.Pool{New: func() any { return newBatch() }}}
	var err error
	if w.conn, err = schema.Open(c.ClickHouse); err != nil {
		return nil, stream.Fatal(err)
	}
	admin, err := c.Client()
	if err != nil {
		w.conn.Close()
		return nil, err
	}
	w.admin = kadm.NewClient(admin)
	return w, nil
}

// join starts consuming.
func (w *warehouse) join() error {
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = w.c.Topic(t)
	}
	var err error
	w.client, err = w.c.Client(
		kgo.ConsumerGroup(w.c.Group(part)), kgo.ConsumeTopics(names...), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Control records take offsets too: a position past them is a lag of zero.
		kgo.KeepControlRecords(),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.AdjustFetchOffsetsFn(w.assigned),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { w.c.Ready() }),
		kgo.OnPartitionsRevoked(w.revoked), kgo.OnPartitionsLost(w.lost),
	)
	return err
}

func (w *warehouse) close() {
	if w.client != nil {
		w.client.CloseAllowingRebalance()
	}
	w.admin.Close()
	w.conn.Close()
}

// loop polls, plans, inserts and commits, in turn.
func (w *warehouse) loop(ctx context.Context) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop()
	watch.Go(func() { w.watchLag(watching) })
	interval := w.c.FlushEvery
	for {
		if err := w.fetch(ctx, interval); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil // what was inserted is committed when the group is left
		}
		started := time.Now()
		batches, records, err := w.flush(ctx)
		if err != nil {
			return err
		}
		interval = w.c.FlushEvery
		if records < batches*smallBatch {
			interval = max(interval, min(share*time.Since(started), slowest))
		}
	}
}

// fetch polls until interval has passed or there is enough to write.
func (w *warehouse) fetch(ctx context.Context, interval time.Duration) error {
	poll, cancel := context.WithTimeout(ctx, interval)
	defer cancel()
	for poll.Err() == nil && !w.full() {
		fetches := w.client.PollRecords(poll, w.c.FlushRows)
		err := w.keep(fetches)
		w.client.AllowRebalance()
		if err != nil {
			return err
		}
		if fetches.IsClientClosed() {
			return errors.New("the Kafka client is closed")
		}
	}
	return nil
}

// keep holds what was polled until it is planned. A rebalance cannot come between, so every record is of a partition
// that is owned now.
func (w *warehouse) keep(fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		if errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, kgo.ErrClientClosed) {
			continue
		}
		return fmt.Errorf("read %s/%d: %w", e.Topic, e.Partition, e.Err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		if p := w.partitions[position{f.Topic, f.Partition}]; p != nil {
			p.keep(f.Records)
		}
	})
	return nil
}

// full says whether a batch is full, or so much is held that no more may be.
func (w *warehouse) full() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	records, bytes := 0, 0
	for _, p := range w.partitions {
		if len(p.records) >= w.c.FlushRows {
			return true
		}
		records += len(p.records)
		bytes += p.bytes
	}
	return records >= maxBuffered*w.c.FlushRows || bytes >= maxBufferedBytes
}

// warehouse is one membership in the group.
type warehouse struct {
	c       Config
	metrics *metrics
	conn    driver.Conn
	admin   *kadm.Client
	client  *kgo.Client
	idle    sync.Pool // *batch
	failed  flag      // stopped by a failure: nothing more is committed

	// owning is held while plans are made and committed, and while partitions come and go: a commit never names a
	// partition that another may own.
	owning sync.Mutex
	// mu guards partitions and what is in them.
	mu         sync.Mutex
	partitions map[position]*partition
}
