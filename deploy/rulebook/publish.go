package rulebook

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/rules/life"
	"sluice/schemas"
)

// Reconcile brings the control topic to what the rulebook says and returns the keys it had to publish. A crash between
// an order's commit and its publication is mended here. While it looks and publishes nobody else orders, so that what it
// publishes is the truth. Nothing is published on the word of an audit that was tampered with.
func (b *Book) Reconcile(ctx context.Context) ([]string, error) { return b.reconcile(ctx, life.Ref{}) }

// reconcile also publishes the trusted version, whatever its audit looks like: a person has just gone back to it.
func (b *Book) reconcile(ctx context.Context, trusted life.Ref) ([]string, error) {
	var repaired []string
	err := b.open(ctx, func(d *desk) error {
		want, err := d.wanted(b.LiveKey, trusted)
		if err != nil {
			return err
		}
		have, err := b.topic(ctx)
		if err != nil {
			return err
		}
		records := b.repairs(want, have)
		for _, r := range records {
			repaired = append(repaired, string(r.Key))
		}
		return b.produce(ctx, records)
	})
	return repaired, err
}

// repairs lists what must be published for the topic to hold what is wanted. What is live stands last if anything was
// deleted: a deletion is forgotten by the broker in time, and a topic whose last offset is gone keeps its readers waiting.
func (b *Book) repairs(want, have map[string][]byte) []*kgo.Record {
	var records []*kgo.Record
	deleted := false
	for _, key := range slices.Sorted(maps.Keys(have)) {
		_, wanted := want[key]
		if _, shadow := schemas.ShadowName(key); shadow && !wanted {
			records = append(records, b.record(key, nil)) // a nil value deletes
			deleted = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if key != b.LiveKey && !bytes.Equal(have[key], want[key]) {
			records = append(records, b.record(key, want[key]))
		}
	}
	if live := want[b.LiveKey]; live != nil && (deleted || !bytes.Equal(have[b.LiveKey], live)) {
		records = append(records, b.record(b.LiveKey, live))
	}
	return records
}

// wanted is what the control topic should hold. Nothing is said of the live key while nothing is live.
func (d *desk) wanted(liveKey string, trusted life.Ref) (map[string][]byte, error) {
	want := map[string][]byte{}
	for ref, v := range d.book.Versions {
		key := schemas.ShadowKey(ref.Name)
		if v.Status == life.Live {
			key = liveKey
		} else if !v.Shadowing {
			continue
		}
		if d.broken(ref.Name) != nil && ref != trusted {
			continue
		}
		source, err := d.source(ref)
		if err != nil {
			return nil, err
		}
		want[key] = source
	}
	return want, nil
}

func (b *Book) record(key string, value []byte) *kgo.Record {
	return &kgo.Record{Topic: b.Topic(schemas.Rules), Key: []byte(key), Value: value}
}

func (b *Book) produce(ctx context.Context, records []*kgo.Record) error {
	if len(records) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	client, err := b.Client(kgo.RecordDeliveryTimeout(publishLimit))
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("publish on the control topic %s: %w", b.Topic(schemas.Rules), err)
	}
	return nil
}

// topic reads the newest value of each key on the control topic; deleted keys are left out.
func (b *Book) topic(ctx context.Context) (map[string][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	name := b.Topic(schemas.Rules)
	client, err := b.Client(kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords()) // a transaction's marker may be the last record
	if err != nil {
		return nil, err
	}
	defer client.Close()
	next, end, err := bounds(ctx, kadm.NewClient(client), name)
	have := map[string][]byte{}
	for err == nil && next < end {
		fetches := client.PollFetches(ctx)
		err = fetches.Err()
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if r.Attrs.IsControl() {
				return
			}
			if delete(have, string(r.Key)); r.Value != nil {
				have[string(r.Key)] = r.Value
			}
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the control topic %s: %w", name, err)
	}
	return have, nil
}

// bounds returns the first offset of the control topic and the one after its last.
func bounds(ctx context.Context, admin *kadm.Client, topic string) (start, end int64, err error) {
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return 0, 0, err
	}
	ends, err := admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	first, _ := starts.Lookup(topic, 0)
	last, _ := ends.Lookup(topic, 0)
	return first.Offset, last.Offset, err
}
