package poster

import (
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/payments"
	"sluice/schemas/events"
)

// early is an event that waits for another of its payment.
type early struct {
	decision *events.Decision
	entry    *entry // that brought it, nil if an earlier batch did
	sequence int64  // of its result, where an earlier batch brought it
}

// due is by when what it waits for has to come.
func (w *early) due() time.Time { return w.decision.Event.Time.Add(payments.EarlyLife) }

// place is a payment in a shard: events wait for each other within one.
type place struct {
	payment string
	shard   int32
}

// applied is an early event that took effect, with the entry it had waited for.
type applied struct {
	early
	at   place
	by   *entry
	code string
}

const (
	sqlEarly = `
		SELECT payment_id, shard, sequence, decision FROM early_events
		WHERE payment_id = ANY ($1) AND applied_sequence IS NULL ORDER BY payment_id, shard, sequence`
	sqlKeepEarly = `
		INSERT INTO early_events (payment_id, shard, sequence, event_time, due_at, event_type, decision, applied_sequence, code)
		SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::bytea[], $8::bigint[], $9::text[])`
	sqlApplyEarly = `
		UPDATE early_events e SET applied_sequence = v.applied, code = v.code
		FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::text[]) AS v (payment_id, shard, sequence, applied, code)
		WHERE e.payment_id = v.payment_id AND e.shard = v.shard AND e.sequence = v.sequence`
)

// await keeps an event for later, if it came early and its payment has not too many of them.
func (k *knowledge) await(e *entry, code string) string {
	at := place{e.decision.Event.PaymentID, e.shard}
	if !payments.Early(k.payment(at.payment), code) || len(k.waits(at)) >= payments.MaxEarly {
		return code
	}
	k.nextWaiting[at] = append(slices.Clone(k.waits(at)), early{decision: &e.decision, entry: e})
	return payments.CodeEarly
}

// waits are the events that wait for a payment.
func (k *knowledge) waits(at place) []early {
	if all, changed := k.nextWaiting[at]; changed {
		return all
	}
	return k.waiting[at]
}

// apply brings in what has waited for what the entry did, in the order of event times, until nothing that waits is in time and
// answered for good.
func (k *knowledge) apply(e *entry, b book, post payments.Postings) {
	at := place{e.decision.Event.PaymentID, e.shard}
	if len(k.waits(at)) == 0 {
		return
	}
	waiting := slices.Clone(k.waits(at))
	slices.SortStableFunc(waiting, func(x, y early) int { return x.decision.Event.Time.Compare(y.decision.Event.Time) })
	for i := 0; i < len(waiting); {
		w := waiting[i]
		before := k.payment(at.payment)
		code, next := payments.CodeEarly, (*payments.Payment)(nil)
		if !e.when().After(w.due()) {
			code, next = payments.Plan(w.decision, e.shard, before, post, b.Funds).Post(b.Apply)
		}
		if code == payments.CodeEarly || payments.Early(before, code) {
			i++
			continue
		}
		k.took = append(k.took, applied{w, at, e, code})
		waiting = slices.Delete(waiting, i, i+1)
		if next != nil {
			k.nextPayments[at.payment] = next
			i = 0 // what could not be applied before may be now
		}
	}
	k.nextWaiting[at] = waiting
}

func (b *batch) readEarly(r pgx.BatchResults) error {
	rows, err := r.Query()
	if err != nil {
		return err
	}
	var at place
	var sequence int64
	var value []byte
	_, err = pgx.ForEachRow(rows, []any{&at.payment, &at.shard, &sequence, &value}, func() error {
		d, err := events.DecodeDecision(value)
		if err != nil {
			b.refuse(events.Payment, at.payment, err)
			return nil
		}
		b.know.waiting[at] = append(b.know.waiting[at], early{decision: &d, sequence: sequence})
		return nil
	})
	return err
}

// queueEarly writes which events wait, and which have waited.
func (b *batch) queueEarly(q *statements) {
	var keep, done earlyRows
	for i := range b.know.took {
		t := &b.know.took[i]
		sequence := t.by.sequence
		if t.entry != nil {
			keep.add(t.at, &t.early, &sequence, t.code)
		} else {
			done.add(t.at, &t.early, &sequence, t.code)
		}
	}
	for at, waiting := range b.know.nextWaiting {
		for i := range waiting {
			if waiting[i].entry != nil {
				keep.add(at, &waiting[i], nil, "")
			}
		}
	}
	q.add(len(keep.ids), sqlKeepEarly, keep.ids, keep.shards, keep.sequences, keep.times, keep.dues, keep.types, keep.values, keep.applied, keep.codes)
	q.add(len(done.ids), sqlApplyEarly, done.ids, done.shards, done.sequences, done.applied, done.codes)
}

// earlyRows are rows of early_events, column by column.
type earlyRows struct {
	ids, types, codes []string
	shards            []int32
	sequences         []int64
	applied           []*int64
	times, dues       []time.Time
	values            [][]byte
}

func (r *earlyRows) add(at place, w *early, applied *int64, code string) {
	sequence, value := w.sequence, []byte(nil)
	if w.entry != nil {
		sequence, value = w.entry.sequence, bytesOf(w.entry.record.Value)
	}
	e := &w.decision.Event
	r.ids, r.types, r.codes = append(r.ids, at.payment), append(r.types, e.Kind.String()), append(r.codes, code)
	r.shards, r.sequences, r.applied = append(r.shards, at.shard), append(r.sequences, sequence), append(r.applied, applied)
	r.times, r.dues, r.values = append(r.times, e.Time), append(r.dues, w.due()), append(r.values, value)
}
