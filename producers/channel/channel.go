// Package channel is the library a Go channel publishes its events with: checked, keyed by customer, in order, written
// once by each call and acknowledged by every replica. It reads nothing back and makes no topics.
package channel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/stream"
	"sluice/schemas/events"
)

// Limits of a publisher.
const (
	// DefaultInFlight bounds the events published and not yet acknowledged, some 8 MiB of them.
	DefaultInFlight = 16_384
	// DefaultLinger is how long an event waits for others to share its request.
	DefaultLinger = 2 * time.Millisecond
	// closeTimeout bounds how long Close waits for acknowledgements.
	closeTimeout = 5 * time.Second
)

// ErrClosed is returned for an event published after Close.
var ErrClosed = errors.New("the publisher is closed; make a new one")

// Config is what a publisher needs to know.
type Config struct {
	stream.Config

	// Source is the channel's name: the CloudEvents source of every event that names none. With it, the event's ID is the
	// event's identity. Required.
	Source string
	// InFlight bounds the events not yet acknowledged; 0: DefaultInFlight. PublishAsync waits when it is reached.
	InFlight int
	// Linger is how long an event waits for others to share its request; 0: DefaultLinger. Negative: not at all.
	Linger time.Duration
}

// Publisher publishes events. It is safe for concurrent use; events of one customer keep the order in which calls to
// PublishAsync returned.
type Publisher struct {
	config Config
	client *kgo.Client

	mu      sync.RWMutex // held to publish; Close takes it whole
	closed  bool
	pending sync.WaitGroup
}

// New makes a publisher. It connects when the first event is published. The caller closes it.
func New(c Config) (*Publisher, error) {
	c.Config = c.Fill()
	if c.Source == "" || len(c.Source) > events.MaxIDBytes {
		return nil, fmt.Errorf("make a publisher: Source has %d bytes; name the channel in 1 to %d", len(c.Source), events.MaxIDBytes)
	}
	if c.InFlight == 0 {
		c.InFlight = DefaultInFlight
	}
	if c.Linger == 0 {
		c.Linger = DefaultLinger
	}
	// Idempotence and acks=all are the client's defaults; they are said here because the promise rests on them.
	client, err := c.Client(
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), // murmur2 of the key, as every Kafka client does
		kgo.MaxBufferedRecords(c.InFlight),
		kgo.ProducerLinger(max(c.Linger, 0)),
	)
	if err != nil {
		return nil, err
	}
	return &Publisher{config: c, client: client}, nil
}

// Publish publishes an event and waits until every replica has it. A wrong event is a *events.Rejection, which says what
// to do instead; nothing was sent. After any other error, ctx's included, the event may or may not have been taken:
// publish it again with the same ID, twice has one effect.
func (p *Publisher) Publish(ctx context.Context, e *events.Event) error {
	done := make(chan error, 1)
	if err := p.PublishAsync(ctx, e, func(err error) { done <- err }); err != nil {
		return err
	}
	return <-done // the client ends a record whose ctx has ended
}

// PublishAsync publishes an event and calls done once: with nil when every replica has it, or with why not. It waits
// while InFlight events are unacknowledged. An error it returns itself means that nothing was sent and done is not called.
// done is called by the client's goroutines, must be quick, and must not publish or flush. done may be nil.
func (p *Publisher) PublishAsync(ctx context.Context, e *events.Event, done func(error)) error {
	record, err := p.record(e)
	if err != nil {
		return err
	}
	return p.produce(ctx, record, e.ID, done)
}

// PublishRaw publishes bytes as they are, unchecked, to an input topic ("payments"): for tools that pass on what others
// wrote. Otherwise it is PublishAsync.
func (p *Publisher) PublishRaw(ctx context.Context, topic, key string, headers []events.Header, value []byte, done func(error)) error {
	return p.produce(ctx, p.config.ToKafka(topic, key, headers, value), key, done)
}

// Check returns what Publish would refuse the event with, nil if nothing.
func (p *Publisher) Check(e *events.Event) error {
	_, err := p.record(e)
	return err
}

// record encodes an event and reads it back by the gate's own rules, so that a channel hears of its mistake at once.
func (p *Publisher) record(e *events.Event) (*kgo.Record, error) {
	if e.Source == "" {
		named := *e
		named.Source = p.config.Source
		e = &named
	}
	if e.Kind.Family() == events.NoFamily {
		return nil, fmt.Errorf("publish %q: %w", e.ID, &events.Rejection{Code: events.CodeUnknownType, Field: "type", Detail: "the event has no Kind; set one, such as events.PaymentInitiated"})
	}
	headers, value, err := events.Encode(e)
	if err != nil {
		return nil, fmt.Errorf("publish %q: %w", e.ID, err)
	}
	topic, now := e.Kind.Family().Topic(), time.Now()
	_, err = events.Decode(&events.Record{Topic: topic, Timestamp: now, Key: []byte(e.CustomerID), Value: value, Headers: headers})
	if err != nil {
		return nil, fmt.Errorf("publish %s %q: %w", e.Kind, e.ID, err)
	}
	r := p.config.ToKafka(topic, e.CustomerID, headers, value)
	r.Timestamp = now
	return r, nil
}

func (p *Publisher) produce(ctx context.Context, r *kgo.Record, id string, done func(error)) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return fmt.Errorf("publish %q: %w", id, ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("publish %q: %w", id, err)
	}
	p.pending.Add(1)
	p.client.Produce(ctx, r, func(r *kgo.Record, err error) {
		defer p.pending.Done()
		if done != nil {
			done(p.explain(r, id, err))
		}
	})
	return nil
}

// explain says of a failed record what to do.
func (p *Publisher) explain(r *kgo.Record, id string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("publish %q: topic %s does not exist on %v; start the house once, it makes its topics: %w", id, r.Topic, p.config.Brokers, err)
	}
	return fmt.Errorf("publish %q to %s: %w", id, r.Topic, err)
}

// Flush waits until every event published before is acknowledged or has failed, or until ctx ends.
func (p *Publisher) Flush(ctx context.Context) error {
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("wait for acknowledgements: %w", err)
	}
	return nil
}

// Close waits up to 5 s for what is unacknowledged, then fails the rest, and lets go of the connections. Every done has
// been called when it returns. Closing twice is fine.
func (p *Publisher) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := p.Flush(ctx)
	p.client.Close()
	p.pending.Wait()
	return err
}
