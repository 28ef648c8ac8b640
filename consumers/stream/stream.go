// Package stream is what every part of the house does the same way: how a Kafka client is made, how topics come to exist,
// how a part that failed starts again, and what a dead letter looks like. It knows no business.
package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/schemas"
	"sluice/schemas/events"
)

// Limits and timeouts that hold for every part.
const (
	// RequestTimeout bounds one admin request.
	RequestTimeout = 30 * time.Second
	// TransactionTimeout is how long a Kafka transaction may stay open before the broker aborts it: a gate that died
	// holds its readers back no longer than this.
	TransactionTimeout = 20 * time.Second
	// SessionTimeout is how long a member may be silent before its partitions go to another.
	SessionTimeout = 10 * time.Second
	// firstPause and longestPause bound the pause before a failed part starts again; it doubles from one to the other.
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
	// steady is how long a part must have run for its next failure to count as the first.
	steady = time.Minute
)

// Config is what a part needs to know of Kafka and of its surroundings. It is a value; copies are independent.
type Config struct {
	Brokers     []string              // host:port of at least one broker
	Prefix      string                // before every topic, group and transactional id; "" outside tests
	Partitions  int32                 // of every topic that is not single; 0: 12
	Replication int16                 // of every topic; 0: the broker's default
	ClientID    string                // names this process to the brokers
	Log         *slog.Logger          // never nil inside a part; Fill sets it
	Metrics     prometheus.Registerer // never nil inside a part; Fill sets it
}

// DefaultPartitions is the number of partitions of a new topic.
const DefaultPartitions = 12

// Fill returns the configuration with every unset field at its default.
func (c Config) Fill() Config {
	if c.Partitions == 0 {
		c.Partitions = DefaultPartitions
	}
	if c.Replication == 0 {
		c.Replication = -1
	}
	if c.ClientID == "" {
		c.ClientID = "sluice"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	return c
}

// Topic returns the name of a topic as the brokers know it.
func (c Config) Topic(name string) string { return c.Prefix + name }

// Group returns the name of a consumer group or transactional id as the brokers know it.
func (c Config) Group(name string) string { return c.Prefix + "sluice-" + name }

// Base returns the topic's name without the prefix.
func (c Config) Base(topic string) string { return topic[len(c.Prefix):] }

// Client makes a Kafka client with the house's options, then the given ones.
func (c Config) Client(opts ...kgo.Opt) (*kgo.Client, error) {
	base := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(c.ClientID),
		kgo.TransactionTimeout(TransactionTimeout),
		kgo.SessionTimeout(SessionTimeout),
		kgo.HeartbeatInterval(SessionTimeout / 5),
		kgo.RebalanceTimeout(3 * SessionTimeout),
		kgo.RetryTimeout(RequestTimeout),
		kgo.ProducerBatchMaxBytes(schemas.MaxRecordBytes),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.FetchMaxWait(250 * time.Millisecond),
		kgo.MetadataMinAge(250 * time.Millisecond),
	}
	client, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("make a Kafka client for %v: %w", c.Brokers, err)
	}
	return client, nil
}

// EnsureTopics creates every topic of the house that is missing. It fails if one exists with another number of
// partitions than its fellows need.
func (c Config) EnsureTopics(ctx context.Context) error {
	c = c.Fill()
	client, err := c.Client()
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	for _, t := range schemas.Topics() {
		if err := c.ensure(ctx, admin, t); err != nil {
			return err
		}
	}
	return c.checkPartitions(ctx, admin)
}

func (c Config) ensure(ctx context.Context, admin *kadm.Client, t schemas.Topic) error {
	partitions := c.Partitions
	if t.Single {
		partitions = 1
	}
	policy := "delete"
	if t.Compacted {
		policy = "compact"
		if t.KeepFor > 0 {
			policy = "compact,delete"
		}
	}
	configs := map[string]*string{"cleanup.policy": &policy}
	if t.KeepFor > 0 {
		keep := strconv.FormatInt(t.KeepFor.Milliseconds(), 10)
		configs["retention.ms"] = &keep
	}
	largest := strconv.Itoa(t.MaxMessage)
	configs["max.message.bytes"] = &largest
	_, err := admin.CreateTopic(ctx, partitions, c.Replication, configs, c.Topic(t.Name))
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s on %v: %w", c.Topic(t.Name), c.Brokers, err)
	}
	return nil
}

// checkPartitions holds the topics that must be partitioned alike against each other.
func (c Config) checkPartitions(ctx context.Context, admin *kadm.Client) error {
	var names []string
	for _, t := range schemas.Topics() {
		if !t.Single {
			names = append(names, c.Topic(t.Name))
		}
	}
	details, err := c.visible(ctx, admin, names)
	if err != nil {
		return fmt.Errorf("list the topics on %v: %w", c.Brokers, err)
	}
	want := len(details[c.Topic(schemas.Payments)].Partitions)
	for _, name := range names {
		if got := len(details[name].Partitions); got != want {
			return fmt.Errorf("topic %s has %d partitions, %s has %d: they must be equal, since a customer's events meet in one partition; recreate the smaller", name, got, c.Topic(schemas.Payments), want)
		}
	}
	return nil
}

// FromKafka views a Kafka record as an events.Record; the bytes are shared. headers is scratch space to reuse.
func (c Config) FromKafka(r *kgo.Record, headers []events.Header) events.Record {
	headers = headers[:0]
	for _, h := range r.Headers {
		headers = append(headers, events.Header{Key: h.Key, Value: h.Value})
	}
	return events.Record{Topic: c.Base(r.Topic), Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp,
		Key: r.Key, Value: r.Value, Headers: headers}
}

// ToKafka makes a Kafka record of encoded bytes.
func (c Config) ToKafka(topic, key string, headers []events.Header, value []byte) *kgo.Record {
	r := &kgo.Record{Topic: c.Topic(topic), Key: []byte(key), Value: value, Headers: make([]kgo.RecordHeader, len(headers))}
	for i, h := range headers {
		r.Headers[i] = kgo.RecordHeader{Key: h.Key, Value: h.Value}
	}
	return r
}

// Supervise runs a part until ctx ends. When the part fails it starts again after a pause that doubles from 100 ms to
// 10 s, so that an engine that is away is waited for and nothing is lost; each failure is logged and counted. It returns
// nil once ctx has ended, and an error only for a failure that a restart cannot mend (see Fatal).
func (c Config) Supervise(ctx context.Context, part string, run func(context.Context) error) error {
	restarts := restartCounter(c.Metrics)
	pause := firstPause
	for {
		started := time.Now()
		err := run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var fatal *fatalError
		if errors.As(err, &fatal) {
			return fmt.Errorf("%s: %w", part, fatal.err)
		}
		restarts.WithLabelValues(part).Inc()
		if time.Since(started) > steady {
			pause = firstPause
		}
		c.Log.Warn(part+" stopped; it starts again", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// visible lists topics once all of them are there: brokers learn of a new topic some time after the controller has
// said that it exists (KRaft).
func (c Config) visible(ctx context.Context, admin *kadm.Client, names []string) (kadm.TopicDetails, error) {
	for {
		details, err := admin.ListTopics(ctx, names...)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(names, func(n string) bool { return len(details[n].Partitions) == 0 }) {
			return details, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

type fatalError struct{ err error }

func (f *fatalError) Error() string { return f.err.Error() }
func (f *fatalError) Unwrap() error { return f.err }

// Fatal marks an error that starting again cannot mend, such as a wrong schema.
func Fatal(err error) error {
	if err == nil {
		return nil
	}
	return &fatalError{err}
}

func restartCounter(r prometheus.Registerer) *prometheus.CounterVec {
	return Register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_part_restarts_total", Help: "Times a part failed and was started again.",
	}, []string{"part"}))
}

// Register registers a collector, or returns the one registered before it: parts restart, metrics do not.
func Register[C prometheus.Collector](r prometheus.Registerer, collector C) C {
	if err := r.Register(collector); err != nil {
		var already prometheus.AlreadyRegisteredError
		if errors.As(err, &already) {
			if existing, ok := already.ExistingCollector.(C); ok {
				return existing
			}
		}
		panic(err) // two different metrics of one name: a mistake in the program
	}
	return collector
}

// Lag is the gauge, by part and topic, of the records that a part has not dealt with in the partitions it owns.
func Lag(r prometheus.Registerer) *prometheus.GaugeVec {
	return Register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sluice_lag_records", Help: "Records of the partitions this process owns that the part has not dealt with.",
	}, []string{"part", "topic"}))
}

// DeadLetters is the counter, by reason, of records set aside by any part of this process.
func DeadLetters(r prometheus.Registerer) *prometheus.CounterVec {
	return Register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_deadletters_total", Help: "Records set aside as dead letters.",
	}, []string{"reason"}))
}
