// Package results publishes what the book has done on the topic ledger.results: every row of the table results once, in
// order, whatever is killed. The committed rows are the outbox; nothing is kept besides. It posts and decides nothing.
package results

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"sluice/consumers/stream"
	"sluice/schemas"
)

// Limits of the publisher.
const (
	// MaxTransaction bounds the results of one shard in one Kafka transaction.
	MaxTransaction = 2000
	// idlePause is how often an idle publisher looks for new results: what it adds to their latency.
	idlePause = 20 * time.Millisecond
	// standbyPause is how often a standby asks whether it is its turn.
	standbyPause = time.Second
	// queryLimit bounds one look at the book, so that a database that hangs is noticed.
	queryLimit = 30 * time.Second
)

// Config says where the book and the topic are.
type Config struct {
	stream.Config
	Postgres string // URL; its search_path says where the book's tables are
	Ready    func() // called when this process publishes, or stands by for the one that does; may be nil

	// Hook is called before a transaction is committed and after; an error ends Run as a crash would. For tests; may be nil.
	Hook func(ctx context.Context, committed bool) error
}

type publisher struct {
	Config
	metrics  metrics
	pg       *pgx.Conn
	client   *kgo.Client
	position map[int32]int64 // shard → newest sequence that is published
}

type metrics struct {
	published prometheus.Counter
	lag       prometheus.Gauge
}

// Run publishes until ctx ends or something fails. Of any number of processes one publishes; the others wait.
func Run(ctx context.Context, c Config) error {
	c.Config = c.Fill()
	if c.Ready == nil {
		c.Ready = func() {}
	}
	if c.Hook == nil {
		c.Hook = func(context.Context, bool) error { return nil }
	}
	p := &publisher{Config: c, metrics: metrics{
		published: stream.Register(c.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_results_published_total", Help: "Results published on ledger.results."})),
		lag: stream.Register(c.Metrics, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sluice_results_lag", Help: "Results in the book that are not published yet."})),
	}}
	err := p.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (p *publisher) run(ctx context.Context) error {
	pg, err := pgx.Connect(ctx, p.Postgres)
	if err != nil {
		return fmt.Errorf("connect to the book: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = pg.Close(closing)
	}()
	p.pg = pg
	if err := p.waitTurn(ctx); err != nil {
		return err
	}
	p.client, err = p.Client(kgo.TransactionalID(p.Group("results")), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer p.client.Close()
	// Taking over the transactional id ends what a publisher before this one has left open, and fences it.
	if _, _, err := p.client.ProducerID(ctx); err != nil {
		return fmt.Errorf("take over the transactional id %s: %w", p.Group("results"), err)
	}
	if err := p.findPosition(ctx); err != nil {
		return err
	}
	if err := p.remember(ctx); err != nil { // a publisher before this one may have died between committing and remembering
		return err
	}
	p.Ready()
	return p.publish(ctx)
}

// waitTurn takes the advisory lock of the book's schema; Postgres frees it when the connection ends, however it ends.
func (p *publisher) waitTurn(ctx context.Context) error {
	for told := false; ; {
		var mine bool
		if err := p.pg.QueryRow(ctx, "SELECT pg_try_advisory_lock(hashtextextended('sluice results ' || current_schema(), 0))").Scan(&mine); err != nil {
			return fmt.Errorf("ask for the turn to publish: %w", err)
		}
		if mine {
			return nil
		}
		if !told {
			told = true
			p.Ready()
		}
		if err := pause(ctx, standbyPause); err != nil {
			return err
		}
	}
}

func (p *publisher) publish(ctx context.Context) error {
	for {
		rows, behind, err := p.next(ctx)
		if err != nil {
			return err
		}
		p.metrics.lag.Set(float64(behind))
		if len(rows) == 0 {
			if err := pause(ctx, idlePause); err != nil {
				return err
			}
			continue
		}
		if err := p.transact(ctx, rows); err != nil {
			return err
		}
		p.metrics.published.Add(float64(len(rows)))
	}
}

// transact publishes rows in one Kafka transaction. Any error leaves its outcome to be found in the topic's tail.
func (p *publisher) transact(ctx context.Context, rows []row) error {
	if err := p.client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	var failed error
	for i := range rows {
		records, err := p.records(&rows[i])
		if err != nil {
			return err
		}
		for _, r := range records {
			p.client.Produce(ctx, r, func(_ *kgo.Record, err error) { failed = errors.Join(failed, err) })
		}
	}
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("publish results: %w", err)
	}
	if failed != nil { // callbacks are over once Flush has returned
		return fmt.Errorf("publish results: %w", failed)
	}
	if err := p.Hook(ctx, false); err != nil {
		return err
	}
	if err := p.client.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit published results: %w", err)
	}
	if err := p.Hook(ctx, true); err != nil {
		return err
	}
	for i := range rows {
		p.position[rows[i].shard] = rows[i].sequence
	}
	return p.remember(ctx)
}

// records returns the result's record and, of a decision that could not be read, its dead letter.
func (p *publisher) records(r *row) ([]*kgo.Record, error) {
	value, err := proto.Marshal(r.message())
	if err != nil {
		return nil, fmt.Errorf("encode result %d of shard %d: %w", r.sequence, r.shard, err)
	}
	h := func(key, value string) kgo.RecordHeader { return kgo.RecordHeader{Key: key, Value: []byte(value)} }
	records := []*kgo.Record{{
		Topic: p.Topic(schemas.LedgerResults), Partition: r.shard, Key: []byte(r.customer), Value: value,
		Headers: []kgo.RecordHeader{
			h("ce_specversion", "1.0"), h("ce_id", fmt.Sprintf("%d/%d", r.shard, r.sequence)), h("ce_source", "sluice/ledger"),
			h("ce_type", "ledger.result"), h("ce_time", r.eventTime.UTC().Format(time.RFC3339Nano)), h("content-type", "application/protobuf"),
			h("shard", strconv.Itoa(int(r.shard))), h("sequence", strconv.FormatInt(r.sequence, 10)),
		},
	}}
	if r.unreadable != nil {
		records = append(records, p.DeadLetter(r.unreadable, "poster", r.why))
	}
	return records, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
