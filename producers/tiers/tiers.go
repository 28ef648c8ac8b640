// Package tiers carries the value tiers that ClickHouse computes back to Kafka, so that rules can say customer.tier. It
// publishes what has changed and computes nothing.
package tiers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"sluice/consumers/stream"
	"sluice/schemas"
	eventsv1 "sluice/schemas/events/v1"
	schema "sluice/schemas/warehouse"
)

const (
	// DefaultEvery is how often ClickHouse is asked whether the tiers were computed anew: one small query.
	DefaultEvery = 5 * time.Second
	// queryTimeout bounds reading all tiers.
	queryTimeout = 5 * time.Minute
	// warnEvery is how often a ClickHouse that does not answer is logged.
	warnEvery = 5 * time.Minute
	// silence bounds how long the topic's end may keep us waiting at the start. Tiers not read by then are published
	// again, which changes nothing.
	silence = 5 * time.Second
	// farewell bounds the wait for the acknowledgement of what is under way when the part ends.
	farewell = 5 * time.Second
)

// Config is what the part needs. It is a value; copies are independent.
type Config struct {
	stream.Config
	ClickHouse string        // clickhouse://user:password@host:9000/database
	Every      time.Duration // how often to look for new tiers; 0: DefaultEvery
	Ready      func()        // called once what is published already is known; may be nil
}

// standing is a published tier, as far as a change of it is published again.
type standing struct {
	tier                         string
	recency, frequency, monetary uint8
}

type tiers struct {
	c         Config
	conn      driver.Conn
	client    *kgo.Client
	published prometheus.Counter
	known     map[string]standing // by customer: what the topic says
	refreshed time.Time           // of the tiers published last
	topic     string
}

// Run publishes changed tiers until ctx ends, which returns nil, or Kafka fails. While ClickHouse does not answer, or has no
// tiers yet, it waits. It is safe to call again, and two at once do no harm: each publishes what the topic does not say.
func Run(ctx context.Context, c Config) error {
	c.Config = c.Fill()
	if c.Every <= 0 {
		c.Every = DefaultEvery
	}
	t := &tiers{c: c, known: map[string]standing{}, topic: c.Topic(schemas.CustomerTiers),
		published: stream.Register(c.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sluice_tiers_published_total", Help: "Customers whose changed value tier was published."}))}
	var err error
	if t.conn, err = schema.Open(c.ClickHouse); err != nil {
		return stream.Fatal(err)
	}
	defer t.conn.Close()
	if t.client, err = c.Client(kgo.RequiredAcks(kgo.AllISRAcks())); err != nil {
		return err
	}
	defer t.client.Close()
	if err := t.load(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	if c.Ready != nil && ctx.Err() == nil {
		c.Ready()
	}
	err = t.loop(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (t *tiers) loop(ctx context.Context) error {
	tick := time.NewTicker(t.c.Every)
	defer tick.Stop()
	var warned time.Time
	for {
		err := t.publishChanged(ctx)
		var kafka *publishError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &kafka):
			return err
		case err != nil && time.Since(warned) > warnEvery:
			warned = time.Now()
			t.c.Log.Warn("ClickHouse gives no tiers; they stay as they are until it does", "error", err)
		case err == nil:
			warned = time.Time{}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// publishError is a failure of Kafka, against one of ClickHouse.
type publishError struct{ err error }

func (p *publishError) Error() string { return "publish tiers: " + p.err.Error() }
func (p *publishError) Unwrap() error { return p.err }

// publishChanged publishes the tiers that differ from what the topic says, if they were computed anew.
func (t *tiers) publishChanged(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	var refreshed time.Time
	if err := t.conn.QueryRow(ctx, "SELECT max(refreshed) FROM customer_tiers").Scan(&refreshed); err != nil {
		return fmt.Errorf("ask when the tiers were computed: %w", err)
	}
	if refreshed.Equal(t.refreshed) {
		return nil
	}
	rows, err := t.conn.Query(ctx, "SELECT customer_id, tier, recency, frequency, monetary, as_of FROM customer_tiers")
	if err != nil {
		return fmt.Errorf("read the tiers: %w", err)
	}
	defer rows.Close()
	sending, cancelSending := lingering(ctx)
	defer cancelSending()
	acks := &acknowledgements{}
	for rows.Next() {
		m := eventsv1.CustomerTier{}
		var s standing
		var asOf time.Time
		if err := rows.Scan(&m.CustomerId, &s.tier, &s.recency, &s.frequency, &s.monetary, &asOf); err != nil {
			return fmt.Errorf("read the tiers: %w", err)
		}
		if t.known[m.CustomerId] == s {
			continue
		}
		m.Tier, m.Recency, m.Frequency, m.Monetary, m.AsOfUs = s.tier, int32(s.recency), int32(s.frequency), int32(s.monetary), asOf.UnixMicro()
		if err := t.publish(sending, &m, acks); err != nil {
			return err
		}
		t.known[m.CustomerId] = s
	}
	if err := t.client.Flush(sending); err != nil {
		return &publishError{err}
	}
	if err := acks.err(); err != nil {
		return &publishError{err} // what is known is read anew
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the tiers: %w", err)
	}
	t.refreshed = refreshed
	return nil
}

// lingering ends a while after ctx, so that what has been handed to Kafka when the part is to end is either counted as
// published or known not to be.
func lingering(ctx context.Context) (context.Context, context.CancelFunc) {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(farewell, cancel) })
	return sending, func() { stop(); cancel() }
}

// publish hands one tier to the Kafka client, which holds back when too many are under way.
func (t *tiers) publish(ctx context.Context, m *eventsv1.CustomerTier, acks *acknowledgements) error {
	value, err := proto.Marshal(m)
	if err != nil {
		return &publishError{err}
	}
	t.client.Produce(ctx, &kgo.Record{Topic: t.topic, Key: []byte(m.CustomerId), Value: value, Headers: headers}, func(_ *kgo.Record, err error) {
		if err != nil {
			acks.fail(err)
			return
		}
		t.published.Inc()
	})
	return nil
}

// headers say how the value is written.
var headers = []kgo.RecordHeader{{Key: "content-type", Value: []byte("application/protobuf")}}

// load reads what the topic says.
func (t *tiers) load(ctx context.Context) error {
	client, err := t.c.Client(kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListCommittedOffsets(ctx, t.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("find the end of %s: %w", t.topic, err)
	}
	left := map[int32]int64{}
	from := map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition], from[o.Partition] = o.Offset, kgo.NewOffset().AtStart()
		}
	})
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: from})
	for len(left) > 0 {
		polling, cancel := context.WithTimeout(ctx, silence)
		fetches := client.PollFetches(polling)
		late := polling.Err() != nil
		cancel()
		if err := fetches.Err(); err != nil && !late {
			return fmt.Errorf("read %s: %w", t.topic, err)
		}
		if ctx.Err() != nil || late && fetches.NumRecords() == 0 {
			return ctx.Err()
		}
		for _, r := range fetches.Records() {
			t.keep(r)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		}
	}
	return nil
}

// keep notes what a record of the topic says.
func (t *tiers) keep(r *kgo.Record) {
	var m eventsv1.CustomerTier
	switch {
	case r.Attrs.IsControl():
	case len(r.Value) == 0 || proto.Unmarshal(r.Value, &m) != nil:
		delete(t.known, string(r.Key)) // no tier, or none that can be read: it is published anew
	default:
		t.known[string(r.Key)] = standing{m.Tier, uint8(m.Recency), uint8(m.Frequency), uint8(m.Monetary)}
	}
}
