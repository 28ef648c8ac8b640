package results

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// row is one result with its transfers.
type row struct {
	shard                                                     int32
	sequence                                                  int64
	topic                                                     string
	partition                                                 int32
	offset                                                    int64
	firstTransfer                                             int64
	transfers                                                 int16
	eventTime                                                 time.Time
	source, eventID, eventType, customer, payment, loan, code string
	moved                                                     []*eventsv1.LedgerTransfer
	unreadable                                                *kgo.Record // the original, where code is "unreadable"
	why                                                       error
}

func (r *row) message() *eventsv1.LedgerResult {
	return &eventsv1.LedgerResult{
		Shard: r.shard, Sequence: r.sequence, DecisionId: events.PositionID(r.topic, r.partition, r.offset),
		EventId: r.eventID, EventSource: r.source, EventType: r.eventType, EventTimeUs: r.eventTime.UnixMicro(),
		CustomerId: r.customer, PaymentId: r.payment, LoanId: r.loan, Code: r.code, Transfers: r.moved,
	}
}

// window is a range of results of one shard, (after, upTo].
type window struct {
	shard       int32
	after, upTo int64
}

// next reads the results that follow the position, at most MaxTransaction a shard, and how many there are in all.
func (p *publisher) next(ctx context.Context) (rows []row, behind int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	// A shard's sequence is written in the transaction that writes its results: all up to it are there.
	ends, err := p.pg.Query(ctx, "SELECT shard, sequence FROM shards ORDER BY shard")
	if err != nil {
		return nil, 0, fmt.Errorf("read the ends of the shards: %w", err)
	}
	var shard int32
	var end int64
	var windows []window
	if _, err := pgx.ForEachRow(ends, []any{&shard, &end}, func() error {
		if at := p.position[shard]; end > at {
			behind += end - at
			windows = append(windows, window{shard, at, min(end, at+MaxTransaction)})
		}
		return nil
	}); err != nil {
		return nil, 0, fmt.Errorf("read the ends of the shards: %w", err)
	}
	if len(windows) == 0 {
		return nil, 0, nil
	}
	if rows, err = p.results(ctx, windows); err != nil {
		return nil, 0, fmt.Errorf("read results: %w", err)
	}
	if err := p.transfers(ctx, rows); err != nil {
		return nil, 0, fmt.Errorf("read transfers: %w", err)
	}
	return rows, behind, p.originals(ctx, rows)
}

func (p *publisher) results(ctx context.Context, windows []window) ([]row, error) {
	var shards []int32
	var after, upTo []int64
	want := 0
	for _, w := range windows {
		shards, after, upTo = append(shards, w.shard), append(after, w.after), append(upTo, w.upTo)
		want += int(w.upTo - w.after)
	}
	found, err := p.pg.Query(ctx, `
		SELECT r.shard, r.sequence, r.input_topic, r.input_partition, r.input_offset, r.first_transfer, r.transfers, r.event_time,
			r.event_source, r.event_id, r.event_type, r.customer_id, r.payment_id, r.loan_id, r.code
		FROM unnest($1::int[], $2::bigint[], $3::bigint[]) w(shard, after, up_to)
		CROSS JOIN LATERAL (SELECT * FROM results WHERE shard = w.shard AND sequence > w.after AND sequence <= w.up_to ORDER BY sequence) r`,
		shards, after, upTo)
	if err != nil {
		return nil, err
	}
	rows, err := pgx.CollectRows(found, func(f pgx.CollectableRow) (r row, err error) {
		err = f.Scan(&r.shard, &r.sequence, &r.topic, &r.partition, &r.offset, &r.firstTransfer, &r.transfers, &r.eventTime,
			&r.source, &r.eventID, &r.eventType, &r.customer, &r.payment, &r.loan, &r.code)
		return r, err
	})
	if err == nil && len(rows) != want {
		err = fmt.Errorf("%d rows where the shards promise %d: the book has a hole; `sluice verify` names it", len(rows), want)
	}
	return rows, err
}

// transfers fills in what each result moved. A transfer's time is its result's, or, where that was closed, a later one that
// was open: so Postgres looks into the months between, and mostly into one.
func (p *publisher) transfers(ctx context.Context, rows []row) error {
	type place struct {
		shard  int32
		number int64
	}
	at := map[place]*row{}
	var shards []int32
	var numbers []int64
	var times []time.Time
	for i := range rows {
		for n := range int64(rows[i].transfers) {
			number := rows[i].firstTransfer + n
			at[place{rows[i].shard, number}] = &rows[i]
			shards, numbers, times = append(shards, rows[i].shard), append(numbers, number), append(times, rows[i].eventTime)
		}
	}
	if len(numbers) == 0 {
		return nil
	}
	found, err := p.pg.Query(ctx, `
		SELECT w.shard, w.number, t.id, d.key, c.key, t.amount, t.currency, t.kind
		FROM unnest($1::int[], $2::bigint[], $3::timestamptz[]) WITH ORDINALITY w(shard, number, at, place)
		CROSS JOIN LATERAL (SELECT * FROM transfers WHERE shard = w.shard AND number = w.number
			AND event_time >= w.at AND event_time <= greatest(w.at, (SELECT max(until) FROM closed_periods)) OFFSET 0) t
		CROSS JOIN LATERAL (SELECT key FROM accounts WHERE id = t.debit_account OFFSET 0) d
		CROSS JOIN LATERAL (SELECT key FROM accounts WHERE id = t.credit_account OFFSET 0) c
		ORDER BY w.place`, shards, numbers, times)
	if err != nil {
		return err
	}
	var to place
	var id, amount int64
	var debit, credit, code, kind string
	_, err = pgx.ForEachRow(found, []any{&to.shard, &to.number, &id, &debit, &credit, &amount, &code, &kind}, func() error {
		currency, ok := events.ParseCurrency(code)
		if !ok {
			return fmt.Errorf("transfer %d is in %q, which is no currency", id, code)
		}
		at[to].moved = append(at[to].moved, &eventsv1.LedgerTransfer{TransferId: id, DebitAccount: debit, CreditAccount: credit,
			Amount: events.FormatAmount(amount, currency), Currency: code, Kind: kind})
		return nil
	})
	return err
}

// originals fills in the records that could not be read, which become dead letters.
func (p *publisher) originals(ctx context.Context, rows []row) error {
	for i := range rows {
		r := &rows[i]
		if r.code != "unreadable" {
			continue
		}
		o := &kgo.Record{}
		var keys, values [][]byte
		var reason, detail string
		if err := p.pg.QueryRow(ctx, `SELECT topic, "partition", record_offset, record_time, key, value, header_keys, header_values, reason, detail
			FROM unreadable WHERE shard = $1 AND sequence = $2`, r.shard, r.sequence).
			Scan(&o.Topic, &o.Partition, &o.Offset, &o.Timestamp, &o.Key, &o.Value, &keys, &values, &reason, &detail); err != nil {
			return fmt.Errorf("read what result %d of shard %d could not read: %w", r.sequence, r.shard, err)
		}
		for n := range keys {
			o.Headers = append(o.Headers, kgo.RecordHeader{Key: string(keys[n]), Value: values[n]})
		}
		o.Topic = p.Topic(strings.TrimPrefix(o.Topic, p.Prefix))
		r.unreadable, r.why = o, &events.Rejection{Code: events.Code(reason), Detail: detail}
	}
	return nil
}

// remember keeps how far results are published, for the day when retention has emptied the topic, and drops the
// originals that are dead letters now.
func (p *publisher) remember(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	shards := slices.Sorted(maps.Keys(p.position))
	sequences := make([]int64, len(shards))
	for i, shard := range shards {
		sequences[i] = p.position[shard]
	}
	batch := &pgx.Batch{}
	batch.Queue(`INSERT INTO publications (shard, sequence) SELECT * FROM unnest($1::int[], $2::bigint[])
		ON CONFLICT (shard) DO UPDATE SET sequence = greatest(publications.sequence, excluded.sequence)`, shards, sequences)
	batch.Queue(`DELETE FROM unreadable u USING publications p WHERE u.shard = p.shard AND u.sequence <= p.sequence`)
	if err := p.pg.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("remember what is published: %w", err)
	}
	return nil
}
