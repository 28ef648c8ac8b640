// Package deadletter is what a person does with dead letters: list them, and publish them again where they came from once
// the cause is mended. It decides nothing by itself and changes no letter.
//
// A letter is published again once: the record and a mark that it was, a record of no value on the topic of dead letters,
// are one Kafka transaction, and a marked letter is left alone. Should a letter's event have been taken before by another
// way, its identity (source and id) makes the gate call it a duplicate.
package deadletter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/stream"
	"sluice/schemas"
	"sluice/schemas/events"
)

// HeaderReplayed is on a mark, and on the record published again: the letter's position on its topic, "partition/offset".
const HeaderReplayed = "dl_replayed"

const (
	// perTransaction is how many letters one transaction publishes again.
	perTransaction = 500
	// stalled bounds how long reading the topic may make no progress: longer than a transaction in its way stays open.
	stalled = 2 * stream.TransactionTimeout
)

// Config is what the functions need.
type Config struct {
	stream.Config
}

// Position is where a letter stands on the topic of dead letters.
type Position struct {
	Partition int32
	Offset    int64
}

// String returns "partition/offset".
func (p Position) String() string {
	return strconv.Itoa(int(p.Partition)) + "/" + strconv.FormatInt(p.Offset, 10)
}

// ParsePosition reads what String writes.
func ParsePosition(s string) (Position, error) {
	left, right, _ := strings.Cut(s, "/")
	partition, err := strconv.ParseInt(left, 10, 32)
	offset, err2 := strconv.ParseInt(right, 10, 64)
	if err != nil || err2 != nil || partition < 0 || offset < 0 {
		return Position{}, fmt.Errorf("%q is no position of a dead letter; it looks like 3/1200, as `sluice deadletters list` prints it", s)
	}
	return Position{int32(partition), offset}, nil
}

// Letter is a dead letter.
type Letter struct {
	At       Position
	Time     time.Time // when it was written
	Reason   string    // a code
	Detail   string    // the same in a sentence
	Part     string    // who could not read or apply the record
	Replayed bool      // it was published again

	Topic      string // where the record stood, without prefix
	Partition  int32
	Offset     int64
	RecordTime time.Time // the record's own timestamp
	Size       int       // bytes of its value

	record *kgo.Record
}

// letterOf reads a record of the topic; what is missing stays empty.
func letterOf(r *kgo.Record) Letter {
	l := Letter{At: Position{r.Partition, r.Offset}, Time: r.Timestamp.UTC(), Size: len(r.Value), record: r}
	for _, h := range r.Headers {
		v := string(h.Value)
		switch h.Key {
		case stream.HeaderReason:
			l.Reason = v
		case stream.HeaderDetail:
			l.Detail = v
		case stream.HeaderPart:
			l.Part = v
		case stream.HeaderTopic:
			l.Topic = v
		case stream.HeaderPartition:
			n, _ := strconv.ParseInt(v, 10, 32)
			l.Partition = int32(n)
		case stream.HeaderOffset:
			l.Offset, _ = strconv.ParseInt(v, 10, 64)
		case stream.HeaderTimestamp:
			ms, _ := strconv.ParseInt(v, 10, 64)
			l.RecordTime = time.UnixMilli(ms).UTC()
		}
	}
	return l
}

// Mark returns the position of the letter that a record of the topic marks as published again; false for a letter.
func Mark(r *kgo.Record) (Position, bool) {
	if len(r.Value) > 0 || len(r.Headers) != 1 || r.Headers[0].Key != HeaderReplayed {
		return Position{}, false
	}
	p, err := ParsePosition(string(r.Headers[0].Value))
	return p, err == nil
}

// List gives every letter that is on the topic now to yield, in the order of each partition, until yield returns false.
// With a reason, only those with it.
func List(ctx context.Context, c Config, reason string, yield func(Letter) bool) error {
	c.Config = c.Fill()
	// Marks come after their letters, so they are read first.
	replayed := map[Position]bool{}
	if err := read(ctx, c, func(r *kgo.Record) bool {
		if p, ok := Mark(r); ok {
			replayed[p] = true
		}
		return true
	}); err != nil {
		return err
	}
	return read(ctx, c, func(r *kgo.Record) bool {
		if _, ok := Mark(r); ok {
			return true
		}
		l := letterOf(r)
		l.Replayed = replayed[l.At]
		return reason != "" && l.Reason != reason || yield(l)
	})
}

// Print writes a line for each letter, and one that says how many there are.
func Print(ctx context.Context, c Config, w io.Writer) error {
	const format = "%-12s  %-20s  %-18s  %-9s  %-26s  %8s  %-8s  %s\n"
	n := 0
	var failed error
	err := List(ctx, c, "", func(l Letter) bool {
		if n == 0 {
			_, failed = fmt.Fprintf(w, format, "POSITION", "WRITTEN", "REASON", "PART", "RECORD", "BYTES", "REPLAYED", "DETAIL")
		}
		n++
		replayed := ""
		if l.Replayed {
			replayed = "yes"
		}
		if failed == nil {
			_, failed = fmt.Fprintf(w, format, l.At, l.Time.Format(time.RFC3339), l.Reason, l.Part,
				events.PositionID(l.Topic, l.Partition, l.Offset), strconv.Itoa(l.Size), replayed, oneLine(l.Detail))
		}
		return failed == nil
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%d dead letters\n", n)
	return err
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Replay publishes letters again on the topic their record came from, with its bytes, key and headers, and returns how
// many. With a reason, only those with it; with positions, only those. Letters published again before are left alone, and
// so are those whose bytes are not the record's own, a card number in them being masked. An error leaves what was published
// before it published; to run it again is safe.
func Replay(ctx context.Context, c Config, reason string, at ...Position) (int, error) {
	c.Config = c.Fill()
	producer, err := c.Client(kgo.TransactionalID(c.Group("deadletters")))
	if err != nil {
		return 0, err
	}
	defer producer.Close()
	// Before reading: from here on no other replay can end a transaction that this one has not seen.
	if err := fence(ctx, producer); err != nil {
		return 0, err
	}
	n := 0
	var batch []Letter
	var failed error
	send := func() bool {
		if failed = publish(ctx, c, producer, batch); failed == nil {
			n += len(batch)
			batch = batch[:0]
		}
		return failed == nil
	}
	err = List(ctx, c, reason, func(l Letter) bool {
		if l.Replayed || !replayable(l) || len(at) > 0 && !slices.Contains(at, l.At) {
			return true
		}
		batch = append(batch, l)
		return len(batch) < perTransaction || send()
	})
	if err == nil && failed == nil {
		send()
	}
	return n, errors.Join(err, failed)
}

// replayable says whether a letter is its record, and whether there is a topic to put it.
func replayable(l Letter) bool {
	if l.Reason == string(events.CodeCardNumber) || l.Topic == schemas.DeadLetters {
		return false
	}
	return slices.ContainsFunc(schemas.Topics(), func(t schemas.Topic) bool { return t.Name == l.Topic })
}

// fence makes this producer the only one of its name, by an empty transaction.
func fence(ctx context.Context, producer *kgo.Client) error {
	if _, _, err := producer.ProducerID(ctx); err != nil {
		return fmt.Errorf("prepare to publish dead letters again: %w", err)
	}
	return nil
}

// publish publishes letters and their marks in one transaction.
func publish(ctx context.Context, c Config, producer *kgo.Client, letters []Letter) error {
	if len(letters) == 0 {
		return nil
	}
	if err := producer.BeginTransaction(); err != nil {
		return fmt.Errorf("begin to publish dead letters again: %w", err)
	}
	records := make([]*kgo.Record, 0, 2*len(letters))
	for _, l := range letters {
		at := []kgo.RecordHeader{{Key: HeaderReplayed, Value: []byte(l.At.String())}}
		records = append(records,
			&kgo.Record{Topic: c.Topic(l.Topic), Key: l.record.Key, Value: l.record.Value, Headers: append(original(l.record), at...)},
			&kgo.Record{Topic: c.Topic(schemas.DeadLetters), Key: l.record.Key, Headers: at})
	}
	err := producer.ProduceSync(ctx, records...).FirstErr()
	if err != nil {
		err = fmt.Errorf("publish %d dead letters again: %w", len(letters), err)
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), stream.RequestTimeout)
	defer cancel()
	if end := producer.EndTransaction(ending, kgo.TransactionEndTry(err == nil)); end != nil {
		return errors.Join(err, fmt.Errorf("end publishing dead letters again: %w", end))
	}
	return err
}

// original returns the record's own headers.
func original(r *kgo.Record) []kgo.RecordHeader {
	var own []kgo.RecordHeader
	for _, h := range r.Headers {
		switch h.Key {
		case stream.HeaderReason, stream.HeaderDetail, stream.HeaderPart, stream.HeaderTopic, stream.HeaderPartition,
			stream.HeaderOffset, stream.HeaderTimestamp, HeaderReplayed:
		default:
			own = append(own, h)
		}
	}
	return own
}

// read gives the committed records that are on the topic now to yield, until it returns false.
func read(ctx context.Context, c Config, yield func(*kgo.Record) bool) error {
	topic := c.Topic(schemas.DeadLetters)
	client, err := c.Client(kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer client.Close()
	left, from, err := extent(ctx, client, topic)
	if err != nil {
		return err
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	for len(left) > 0 {
		polling, cancel := context.WithTimeout(ctx, stalled)
		fetches := client.PollFetches(polling)
		late := polling.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if late && fetches.NumRecords() == 0 {
			return fmt.Errorf("read %s: nothing came for %s; is a transaction hanging?", topic, stalled)
		}
		if err := fetches.Err(); err != nil && !late {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		for _, r := range fetches.Records() {
			if end, ok := left[r.Partition]; !ok {
				continue
			} else if r.Offset+1 >= end {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() && !yield(r) {
				return nil
			}
		}
	}
	return nil
}

// extent returns, of each partition that holds records, the end and the start.
func extent(ctx context.Context, client *kgo.Client, topic string) (left map[int32]int64, from map[int32]kgo.Offset, err error) {
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("find the start of %s: %w", topic, err)
	}
	// To the high watermark, not to the last stable offset: a broker acknowledges a commit before its marker is everywhere,
	// and what has been acknowledged must be seen. A transaction that is open is waited for.
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("find the end of %s: %w", topic, err)
	}
	left, from = map[int32]int64{}, map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) {
		if start, ok := starts.Lookup(topic, o.Partition); ok && start.Offset < o.Offset {
			left[o.Partition], from[o.Partition] = o.Offset, kgo.NewOffset().At(start.Offset)
		}
	})
	return left, from, nil
}
