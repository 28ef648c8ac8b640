package warehouse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

const (
	// insertTimeout bounds one insert; ClickHouse that takes longer is asked again.
	insertTimeout = 60 * time.Second
	// firstPause and longestPause bound the pause before an insert is sent again; it doubles from one to the other.
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	// warnEvery is how often a ClickHouse that is away is logged.
	warnEvery = time.Minute
	// fresh is how old a commit may be for its plan to be sent: a member that slept longer asks the group first whether
	// it still is one. Within it, ClickHouse remembers every token.
	fresh = 20 * time.Second
)

// work is one planned range on its way to ClickHouse.
type work struct {
	*partition
	base    string // topic without prefix
	records []*kgo.Record
	token   string
	planned time.Time // when the plan was last committed
}

// flush plans a batch for each partition, commits what was done before together with the plans, and inserts. It returns
// how many batches of how many records in all.
func (w *warehouse) flush(ctx context.Context) (batches, records int, err error) {
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	plans, err := w.plan(work)
	if err != nil {
		return 0, 0, err
	}
	var g errgroup.Group
	g.SetLimit(w.c.Inserters)
	for _, p := range plans {
		records += len(p.work.records)
		g.Go(func() error {
			err := w.write(p.ctx, p.work)
			if err != nil {
				cancel() // the others stop too
			}
			return err
		})
	}
	return len(plans), records, g.Wait()
}

type plan struct {
	ctx  context.Context
	work *work
}

// plan commits the plans of all partitions and returns them.
func (w *warehouse) plan(ctx context.Context) ([]plan, error) {
	w.owning.Lock()
	defer w.owning.Unlock()
	var plans []plan
	var commit []*partition
	w.mu.Lock()
	for _, p := range w.partitions {
		n := p.plan(w.c.FlushRows)
		if n > 0 {
			plans = append(plans, plan{work: w.newWork(p, n)})
		}
		if n > 0 || p.dirty {
			commit = append(commit, p)
		}
	}
	w.mu.Unlock()
	if err := w.commit(context.WithoutCancel(ctx), commit); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range plans {
		p := plans[i].work
		p.planned = time.Now()
		plans[i].ctx, p.writing = context.WithCancel(ctx)
		p.written = make(chan struct{})
	}
	return plans, nil
}

// newWork makes the work of a partition's first n records. The caller holds mu.
func (w *warehouse) newWork(p *partition, n int) *work {
	records := p.records[:n:n]
	base := w.c.Base(p.topic)
	return &work{partition: p, base: base, records: records,
		token: token(base, p.position, p.next, p.planned, records[n-1].Timestamp.UnixMilli())}
}

// write converts and inserts one range. It returns nil when it is in ClickHouse, or when the partition was taken away.
func (w *warehouse) write(ctx context.Context, k *work) error {
	started := time.Now()
	err := w.insertAll(ctx, k)
	w.mu.Lock()
	taken := w.partitions[k.position] != k.partition
	if err == nil {
		w.metrics.batch.Observe(time.Since(started).Seconds())
		k.done(len(k.records))
	}
	k.writing()
	k.writing = nil
	close(k.written)
	w.mu.Unlock()
	if taken || errors.Is(err, errStopped) {
		return nil // the plan stands for the next owner
	}
	return err
}

// errStopped says that an insert was given up because the part stops or the partition was taken away.
var errStopped = errors.New("stopped")

func (w *warehouse) insertAll(ctx context.Context, k *work) error {
	if ctx.Err() != nil {
		return errStopped
	}
	if err := w.c.Hook(ctx, StepPlanned, k.base, k.partition.partition); err != nil {
		return err
	}
	if k.resend {
		w.metrics.resent.Inc()
	}
	b := w.idle.Get().(*batch)
	defer func() {
		b.reset()
		w.idle.Put(b)
	}()
	for _, r := range k.records {
		b.add(k.base, r)
	}
	for _, t := range b.tables() {
		if t.rows == 0 {
			continue
		}
		if err := w.insert(ctx, k, t); err != nil {
			return err
		}
		w.metrics.rows.WithLabelValues(t.name).Add(float64(t.rows))
	}
	return w.c.Hook(ctx, StepInserted, k.base, k.partition.partition)
}

// insert sends the rows of one table until ClickHouse has taken them. The token makes every further sending harmless.
func (w *warehouse) insert(ctx context.Context, k *work, t *table) error {
	pause, warned := firstPause, time.Time{}
	for {
		if time.Since(k.planned) > fresh {
			if err := w.renew(ctx, k); err != nil {
				return err
			}
		}
		err := w.send(ctx, k.token, t)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errStopped
		}
		if permanent(err) {
			return fmt.Errorf("insert %s into %s: %w", k.token, t.name, err)
		}
		w.metrics.retries.Inc()
		if time.Since(warned) > warnEvery {
			warned = time.Now()
			w.c.Log.Warn("ClickHouse did not take a batch; it is sent again until it does", "table", t.name, "batch", k.token, "error", err)
		}
		select {
		case <-ctx.Done():
			return errStopped
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// send inserts the rows of one table once: one block, one token, synchronously. What is under way when ctx ends may finish
// within grace: a connection that is cut leaves the outcome unknown, and the embedded ClickHouse has died of some.
func (w *warehouse) send(ctx context.Context, token string, t *table) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	ending := ctx
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), insertTimeout)
	defer cancel()
	defer context.AfterFunc(ending, func() { time.AfterFunc(grace, cancel) })()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"insert_deduplicate":                                 1,
		"insert_deduplication_token":                         token,
		"deduplicate_blocks_in_dependent_materialized_views": 1,
		"async_insert":                                       0, // asynchronous inserts with tokens have lost rows
		"max_partitions_per_insert_block":                    0, // a channel with an old clock must not stop its partition
		"max_insert_block_size":                              maxBlock,
		"min_insert_block_size_rows":                         0, // neither split nor joined: the block is what the token names
		"min_insert_block_size_bytes":                        0,
		"materialized_views_ignore_errors":                   0,
	}))
	b, err := w.conn.PrepareBatch(ctx, t.insert())
	if err != nil {
		return err
	}
	if err := t.appendTo(b); err != nil {
		b.Abort()
		return &unfitError{err}
	}
	return b.Send()
}

// maxBlock is more rows than any batch has.
const maxBlock = 100_000_000

// renew asks the group whether this member still owns the range, by committing the plan again.
func (w *warehouse) renew(ctx context.Context, k *work) error {
	w.owning.Lock()
	defer w.owning.Unlock()
	w.mu.Lock()
	owned := w.partitions[k.position] == k.partition
	w.mu.Unlock()
	if !owned {
		return errStopped
	}
	if err := w.commit(ctx, []*partition{k.partition}); err != nil {
		return err
	}
	k.planned = time.Now()
	return nil
}

// unfitError is a table that does not take the columns this program has.
type unfitError struct{ err error }

func (u *unfitError) Error() string { return u.err.Error() }
func (u *unfitError) Unwrap() error { return u.err }

// permanent says whether sending again cannot help: the schema, the user or a setting is wrong. The codes are
// ClickHouse's: no such column, database, table, type mismatch, unknown setting, read-only, access denied, wrong password.
func permanent(err error) bool {
	var unfit *unfitError
	if errors.As(err, &unfit) {
		return true
	}
	var e *clickhouse.Exception
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case 8, 16, 47, 53, 60, 62, 81, 115, 164, 497, 516:
		return true
	}
	return false
}
