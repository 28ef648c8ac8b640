package verify

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pipelines/ledger"
	"sluice/schemas"
	"sluice/schemas/events"
)

// posterTopics are what the poster reads.
var posterTopics = []string{schemas.PaymentsDecided, schemas.LoansDecided}

// posterPositions reads how far the poster has come: its positions are in Postgres.
func (v *verifier) posterPositions(ctx context.Context, seen *decided) error {
	for _, topic := range posterTopics {
		seen.poster[topic] = ends{}
	}
	rows, err := v.pg.Query(ctx, `SELECT topic, "partition", next_offset FROM offsets`)
	if err != nil {
		return fmt.Errorf("read the poster's positions: %w", err)
	}
	var topic string
	var partition int32
	var next int64
	_, err = pgx.ForEachRow(rows, []any{&topic, &partition, &next}, func() error {
		if at, ok := seen.poster[strings.TrimPrefix(topic, v.c.Prefix)]; ok {
			at[partition] = next
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the poster's positions: %w", err)
	}
	return nil
}

// posted is set beside the verdict once a result has been found.
const posted byte = 1 << 7

// postedOnce proves that each decision the poster has passed has one result, and that only an approved one moved money.
func (v *verifier) postedOnce(ctx context.Context, seen *decided) ([]Row, error) {
	v.c.Progress("reading the ledger's results")
	f := finding{promise: "each decision is posted once"}
	moved := int64(0)
	rows, err := v.pg.Query(ctx, "SELECT input_topic, input_partition, input_offset, event_type, code, transfers FROM results")
	if err != nil {
		return nil, fmt.Errorf("read the ledger's results: %w", err)
	}
	var topic, kind, code string
	var partition int32
	var offset int64
	var transfers int16
	_, err = pgx.ForEachRow(rows, []any{&topic, &partition, &offset, &kind, &code, &transfers}, func() error {
		topic = strings.TrimPrefix(topic, v.c.Prefix)
		id := events.PositionID(topic, partition, offset)
		at := seen.expected[topic].get(partition, offset)
		f.checked++
		switch verdict := events.Verdict(at &^ posted); {
		case at == 0: // posted after the positions were read, its decision gone by retention, or unreadable
			f.checked--
		case at&posted != 0:
			f.breach("%s has two results", id)
		case transfers > 0 && verdict != events.Approve && verdict != events.Observed:
			f.breach("%s: verdict %s, but %d transfers", id, verdict, transfers)
		case transfers > 0 && code != "posted":
			f.breach("%s: code %s, but %d transfers", id, code, transfers)
		}
		if at != 0 {
			*seen.expected[topic].at(partition, offset) |= posted
		}
		if transfers > 0 {
			moved++
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the ledger's results: %w", err)
	}
	for topic, m := range seen.expected {
		for partition, offsets := range m {
			for offset, at := range offsets {
				if at != 0 && at&posted == 0 {
					f.breach("%s (%s) has no result", events.PositionID(topic, partition, int64(offset)), events.Verdict(at))
				}
			}
		}
	}
	return []Row{f.row("%s payments and loans decided, %s of them moved money", thousands(f.checked), thousands(moved))}, nil
}

// book proves the accounts against the transfers.
func (v *verifier) book(ctx context.Context, _ *decided) ([]Row, error) {
	v.c.Progress("summing the ledger")
	// One snapshot for all, so that a running poster does not move the book between them.
	tx, err := v.pg.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("open a snapshot of the ledger: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	var rows []Row
	for _, check := range []func(context.Context, pgx.Tx) (Row, error){debitsEqualCredits, balancesAreSums, floorsHold, holdsAddUp, daysAreSums, disputesAddUp, settledOnce} {
		row, err := check(ctx, tx)
		if err != nil {
			return nil, fmt.Errorf("sum the ledger: %w", err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func debitsEqualCredits(ctx context.Context, tx pgx.Tx) (Row, error) {
	f := finding{promise: "debits = credits per currency"}
	rows, err := tx.Query(ctx, `
		SELECT currency || CASE WHEN type LIKE 'points%' THEN ' points' WHEN type LIKE 'shares%' THEN ' shares' ELSE '' END, exponent, sum(debits_posted)::text, sum(credits_posted)::text
		FROM accounts GROUP BY 1, 2 ORDER BY 1`)
	if err != nil {
		return Row{}, err
	}
	var currency, debits, credits string
	var exponent int16
	var found []string
	_, err = pgx.ForEachRow(rows, []any{&currency, &exponent, &debits, &credits}, func() error {
		f.checked++
		if debits != credits {
			f.breach("%s: debits %s, credits %s (minor units)", currency, debits, credits)
		}
		found = append(found, fmt.Sprintf("%s %s", currency, major(debits, int(exponent))))
		return nil
	})
	return f.row("%s", strings.Join(found, ", ")), err
}

// major writes a sum of minor units, which may be longer than an int64, in major units.
func major(minor string, exponent int) string {
	if exponent == 0 {
		return minor
	}
	for len(minor) <= exponent {
		minor = "0" + minor
	}
	return minor[:len(minor)-exponent] + "." + minor[len(minor)-exponent:]
}

func balancesAreSums(ctx context.Context, tx pgx.Tx) (Row, error) {
	f := finding{promise: "each balance = the sum of its transfers"}
	rows, err := tx.Query(ctx, `
		WITH moved AS (
			SELECT account, sum(debit) AS debits, sum(credit) AS credits, count(*) AS transfers, sum(version) AS versions FROM (
				SELECT debit_account AS account, debit_version AS version, amount AS debit, 0 AS credit FROM transfers
				UNION ALL SELECT credit_account, credit_version, 0, amount FROM transfers) both_sides
			GROUP BY account)
		SELECT a.key, a.debits_posted::text, a.credits_posted::text, a.version, coalesce(m.debits, 0)::text, coalesce(m.credits, 0)::text, coalesce(m.transfers, 0)
		FROM accounts a FULL JOIN moved m ON m.account = a.id
		WHERE a.id IS NULL OR a.debits_posted <> coalesce(m.debits, 0) OR a.credits_posted <> coalesce(m.credits, 0) OR a.version <> coalesce(m.transfers, 0)
			OR coalesce(m.versions, 0) <> a.version::numeric * (a.version + 1) / 2`)
	if err != nil {
		return Row{}, err
	}
	var key *string
	var debits, credits *string
	var version *int64
	var wantDebits, wantCredits string
	var transfers int64
	if _, err = pgx.ForEachRow(rows, []any{&key, &debits, &credits, &version, &wantDebits, &wantCredits, &transfers}, func() error {
		if key == nil {
			f.breach("transfers name an account that does not exist")
			return nil
		}
		f.breach("%s has debits %s, credits %s, version %d; its %d transfers make %s and %s, or two of them have the same version", *key, *debits, *credits, *version, transfers, wantDebits, wantCredits)
		return nil
	}); err != nil {
		return Row{}, err
	}
	var all int64
	err = tx.QueryRow(ctx, "SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM transfers)").Scan(&f.checked, &all)
	return f.row("%s accounts, %s transfers", thousands(f.checked), thousands(all)), err
}

func floorsHold(ctx context.Context, tx pgx.Tx) (Row, error) {
	f := finding{promise: "no floor is crossed"}
	rows, err := tx.Query(ctx, `
		SELECT key, balance, held, floor FROM (
			SELECT key, balance, floor, CASE WHEN credit_normal THEN debits_pending ELSE credits_pending END AS held FROM accounts) a
		WHERE balance - held < floor`)
	if err != nil {
		return Row{}, err
	}
	var key string
	var balance, held, floor int64
	if _, err = pgx.ForEachRow(rows, []any{&key, &balance, &held, &floor}, func() error {
		f.breach("%s has %d, of which %d are held; its floor is %d (minor units)", key, balance, held, floor)
		return nil
	}); err != nil {
		return Row{}, err
	}
	err = tx.QueryRow(ctx, "SELECT count(*) FROM accounts WHERE floor IS NOT NULL").Scan(&f.checked)
	return f.row("%s accounts with a floor", thousands(f.checked)), err
}

// holdsAddUp proves that each hold is the sum of its steps, that accounts have pending what holds hold, and that nothing
// is held longer than its shard's clock allows.
func holdsAddUp(ctx context.Context, tx pgx.Tx) (Row, error) {
	f := finding{promise: "held = posted + voided + expired + open"}
	for _, c := range []struct{ sql, say string }{
		{`WITH stepped AS (
			SELECT hold AS id, coalesce(sum(amount) FILTER (WHERE step = 'opened'), 0) AS amount, coalesce(sum(amount) FILTER (WHERE step = 'posted'), 0) AS posted,
				coalesce(sum(amount) FILTER (WHERE step = 'voided'), 0) AS voided, coalesce(sum(amount) FILTER (WHERE step = 'expired'), 0) AS expired
			FROM hold_steps GROUP BY hold)
		SELECT coalesce(h.id, s.id), coalesce(h.open, 0)::text, coalesce(s.amount - s.posted - s.voided - s.expired, 0)::text
		FROM holds h FULL JOIN stepped s USING (id)
		WHERE (h.amount, h.posted, h.voided, h.expired) IS DISTINCT FROM (s.amount, s.posted, s.voided, s.expired)`,
			"hold %s has %s open and is not the sum of its steps, which leave %s"},
		{`WITH held AS (
			SELECT account, sum(debit) AS debits, sum(credit) AS credits FROM (
				SELECT debit_account AS account, open AS debit, 0 AS credit FROM holds UNION ALL SELECT credit_account, 0, open FROM holds) both_sides
			GROUP BY account)
		SELECT a.key, a.debits_pending || ' and ' || a.credits_pending, coalesce(h.debits, 0) || ' and ' || coalesce(h.credits, 0)
		FROM accounts a LEFT JOIN held h ON h.account = a.id
		WHERE a.debits_pending <> coalesce(h.debits, 0) OR a.credits_pending <> coalesce(h.credits, 0)`,
			"%s has pending %s; its holds make %s"},
		{`SELECT h.id, h.expires_at::text, s.clock::text FROM holds h JOIN shards s USING (shard) WHERE h.open > 0 AND h.expires_at <= s.clock`,
			"hold %s should have expired at %s; its shard stands at %s"},
	} {
		rows, err := tx.Query(ctx, c.sql)
		if err != nil {
			return Row{}, err
		}
		var what, is, should string
		if _, err = pgx.ForEachRow(rows, []any{&what, &is, &should}, func() error {
			f.breach(c.say, what, is, should)
			return nil
		}); err != nil {
			return Row{}, err
		}
	}
	var open int64
	err := tx.QueryRow(ctx, "SELECT count(*), count(*) FILTER (WHERE open > 0) FROM holds").Scan(&f.checked, &open)
	return f.row("%s holds, %s of them open", thousands(f.checked), thousands(open)), err
}

// daysAreSums proves that the balances of closed days are what the transfers make, that none is left out, and none is of a
// day that is not rolled up.
func daysAreSums(ctx context.Context, tx pgx.Tx) (Row, error) {
	f := finding{promise: "closed days = the sums of their transfers"}
	rows, err := tx.Query(ctx, `
		WITH rolled AS (SELECT max(until) AS until FROM daily_rollups),
		names AS (SELECT id, CASE WHEN striped THEN regexp_replace(key, '/[0-9]+(:[A-Z]{3})$', '\1') ELSE key END AS account FROM accounts),
		moved AS (
			SELECT n.account, m.day, sum(m.debit) AS debits, sum(m.credit) AS credits, sum(m.transfers) AS transfers FROM (
				SELECT id, (event_time AT TIME ZONE 'UTC')::date AS day, sum(debit) AS debit, sum(credit) AS credit, count(*) AS transfers FROM (
					SELECT debit_account AS id, event_time, amount AS debit, 0 AS credit FROM transfers WHERE event_time < (SELECT until FROM rolled)
					UNION ALL SELECT credit_account, event_time, 0, amount FROM transfers WHERE event_time < (SELECT until FROM rolled)) both_sides
				GROUP BY 1, 2) m JOIN names n USING (id) GROUP BY 1, 2),
		sums AS (
			SELECT account, day, sum(debits) OVER days AS debits, sum(credits) OVER days AS credits, sum(transfers) OVER days AS transfers
			FROM moved WINDOW days AS (PARTITION BY account ORDER BY day))
		SELECT account, day::text, coalesce(b.debits, 0)::text, coalesce(b.credits, 0)::text, coalesce(s.debits, 0)::text, coalesce(s.credits, 0)::text
		FROM daily_balances b FULL JOIN sums s USING (account, day)
		WHERE (b.debits, b.credits, b.transfers) IS DISTINCT FROM (s.debits, s.credits, s.transfers::bigint) ORDER BY day, account`)
	if err != nil {
		return Row{}, err
	}
	var account, day, debits, credits, wantDebits, wantCredits string
	if _, err = pgx.ForEachRow(rows, []any{&account, &day, &debits, &credits, &wantDebits, &wantCredits}, func() error {
		f.breach("%s on %s has debits %s, credits %s; the transfers until then make %s and %s (minor units)", account, day, debits, credits, wantDebits, wantCredits)
		return nil
	}); err != nil {
		return Row{}, err
	}
	var until *time.Time
	if err := tx.QueryRow(ctx, "SELECT count(*), (SELECT max(until) FROM daily_rollups) FROM daily_balances").Scan(&f.checked, &until); err != nil {
		return Row{}, err
	}
	if until == nil {
		return f.row("no day is rolled up"), nil
	}
	return f.row("%s balances of the days before %s", thousands(f.checked), until.UTC().Format(time.DateOnly)), nil
}

// batch is one link of a shard's chain.
type batch struct {
	shard                      int32
	number                     int64
	previous, hash             []byte
	firstTransfer, firstResult int64
	transfers, results         int32
}

// chain proves that the batches of each shard are unbroken: nothing was changed, taken out or put in.
func (v *verifier) chain(ctx context.Context, _ *decided) ([]Row, error) {
	v.c.Progress("recomputing the hash chain")
	f := finding{promise: "the hash chain is unbroken"}
	rows, err := v.pg.Query(ctx, "SELECT shard, number, previous_hash, hash, first_transfer, transfers, first_sequence, results FROM batches ORDER BY shard, number")
	if err != nil {
		return nil, fmt.Errorf("read the batches: %w", err)
	}
	batches, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b batch, err error) {
		return b, row.Scan(&b.shard, &b.number, &b.previous, &b.hash, &b.firstTransfer, &b.transfers, &b.firstResult, &b.results)
	})
	if err != nil {
		return nil, fmt.Errorf("read the batches: %w", err)
	}
	var before batch
	var hashed int64
	var held int
	for first := 0; first < len(batches); {
		last := first
		for last < len(batches) && batches[last].shard == batches[first].shard && last-first < chainWindow {
			last++
		}
		transfers, err := v.transfers(ctx, batches[first:last], &f)
		if err != nil {
			return nil, err
		}
		steps, err := v.steps(ctx, batches[first:last])
		if err != nil {
			return nil, err
		}
		for _, b := range batches[first:last] {
			if b.shard != before.shard || first == 0 && f.checked == 0 {
				before = batch{shard: b.shard, hash: make([]byte, len(ledger.Hash{})), firstTransfer: 1, firstResult: 1}
			}
			f.link(&before, &b, transfers, steps[b.number])
			hashed += int64(b.transfers)
			held += len(steps[b.number])
			before = b
		}
		first = last
	}
	if err := v.chainEnds(ctx, &f); err != nil {
		return nil, err
	}
	return []Row{f.row("%s batches, %s transfers and %s steps of holds hashed again", thousands(f.checked), thousands(hashed), thousands(int64(held)))}, nil
}

// chainEnds holds the end that each shard says it has against its last batch: what is cut off at the end breaks no link.
func (v *verifier) chainEnds(ctx context.Context, f *finding) error {
	rows, err := v.pg.Query(ctx, `
		SELECT s.shard, s.batch, coalesce(b.number, 0) FROM shards s
		LEFT JOIN LATERAL (SELECT * FROM batches b WHERE b.shard = s.shard ORDER BY b.number DESC LIMIT 1) b ON true
		WHERE s.batch > coalesce(b.number, 0) OR s.batch = b.number AND (s.hash <> b.hash OR s.transfer <> b.first_transfer + b.transfers - 1)
		ORDER BY s.shard`)
	if err != nil {
		return fmt.Errorf("read the ends of the shards: %w", err)
	}
	var shard int32
	var says, last int64
	if _, err = pgx.ForEachRow(rows, []any{&shard, &says, &last}, func() error {
		f.breach("shard %d, batch %d: it ended the chain with another hash, or is gone; the last batch is %d", shard, says, last)
		return nil
	}); err != nil {
		return fmt.Errorf("read the ends of the shards: %w", err)
	}
	return nil
}

// chainWindow bounds the batches whose transfers are held in memory at once.
const chainWindow = 64

// link holds one batch against the one before it.
func (f *finding) link(before, b *batch, transfers map[int64]chained, steps []ledger.Step) {
	f.checked++
	var own []ledger.Posted
	for n := b.firstTransfer; n < b.firstTransfer+int64(b.transfers); n++ {
		if p, ok := transfers[n]; ok {
			own = append(own, p.Posted)
			if p.batch != b.number {
				f.breach("shard %d, batch %d: its transfer %d says it is of batch %d", b.shard, b.number, n, p.batch)
			}
		}
	}
	hash := ledger.Chain(ledger.Hash(before.hash), own, steps...)
	switch {
	case b.number != before.number+1 || b.firstTransfer != before.firstTransfer+int64(before.transfers) || b.firstResult != before.firstResult+int64(before.results):
		f.breach("shard %d: batch %d does not follow batch %d", b.shard, b.number, before.number)
	case string(b.previous) != string(before.hash):
		f.breach("shard %d, batch %d: it names another batch before it", b.shard, b.number)
	case string(hash[:]) != string(b.hash):
		f.breach("shard %d, batch %d: its transfers or steps of holds are not those it was closed with", b.shard, b.number)
	}
}

// chained is a transfer and the batch it says it is of.
type chained struct {
	ledger.Posted
	batch int64
}

// transfers reads the transfers of neighbouring batches of one shard.
func (v *verifier) transfers(ctx context.Context, batches []batch, f *finding) (map[int64]chained, error) {
	last := batches[len(batches)-1]
	rows, err := v.pg.Query(ctx, `SELECT number, batch, sequence, debit_account, debit_version, credit_account, credit_version, amount, event_time, currency, kind
		FROM transfers WHERE shard = $1 AND number >= $2 AND number < $3`, last.shard, batches[0].firstTransfer, last.firstTransfer+int64(last.transfers))
	if err != nil {
		return nil, fmt.Errorf("read the transfers: %w", err)
	}
	all := map[int64]chained{}
	var p chained
	var at time.Time
	var currency string
	_, err = pgx.ForEachRow(rows, []any{&p.Number, &p.batch, &p.Sequence, &p.DebitID, &p.DebitVersion, &p.CreditID, &p.CreditVersion, &p.Amount, &at, &currency, &p.Kind}, func() error {
		p.Shard, p.Time = last.shard, at.UTC()
		p.Currency, _ = events.ParseCurrency(currency)
		if _, twice := all[p.Number]; twice { // no key covers the months
			f.breach("shard %d, batch %d: two transfers have the number %d", p.Shard, p.batch, p.Number)
		}
		all[p.Number] = p
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the transfers: %w", err)
	}
	return all, nil
}

// steps reads the steps of holds of neighbouring batches of one shard, by batch.
func (v *verifier) steps(ctx context.Context, batches []batch) (map[int64][]ledger.Step, error) {
	first, last := batches[0], batches[len(batches)-1]
	rows, err := v.pg.Query(ctx, `SELECT batch, number, sequence, amount, open, debit_account, credit_account, event_time, expires_at, hold, step, currency, kind
		FROM hold_steps WHERE shard = $1 AND batch BETWEEN $2 AND $3 ORDER BY batch, number`, first.shard, first.number, last.number)
	if err != nil {
		return nil, fmt.Errorf("read the steps of holds: %w", err)
	}
	all := map[int64][]ledger.Step{}
	var s ledger.Step
	var number int64
	var expires *time.Time
	var hold, fate, currency string
	_, err = pgx.ForEachRow(rows, []any{&number, &s.Number, &s.Sequence, &s.Amount, &s.Open, &s.DebitID, &s.CreditID, &s.Time, &expires, &hold, &fate, &currency, &s.Kind}, func() error {
		s.Shard, s.Pending, s.Expires = first.shard, ledger.ID(hold), time.Time{}
		if expires != nil {
			s.Expires = *expires
		}
		s.Currency, _ = events.ParseCurrency(currency)
		s.Fate, _ = ledger.ParseFate(fate)
		all[number] = append(all[number], s)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the steps of holds: %w", err)
	}
	return all, nil
}

// results proves that what the book has done stands on ledger.results, each result once and in order.
func (v *verifier) results(ctx context.Context, _ *decided) ([]Row, error) {
	v.c.Progress("reading " + schemas.LedgerResults)
	f := finding{promise: "each result is published once"}
	end, err := v.stableEnds(ctx, schemas.LedgerResults)
	if err != nil {
		return nil, err
	}
	last := map[int32]int64{}
	if err := v.scan(ctx, schemas.LedgerResults, nil, end, func(r *kgo.Record) {
		shard, sequence, err := resultNumber(r)
		if err != nil {
			f.breach("%s/%d/%d: %v", schemas.LedgerResults, r.Partition, r.Offset, err)
			return
		}
		f.checked++
		if before, ok := last[shard]; ok && sequence != before+1 {
			f.breach("shard %d: result %d follows result %d", shard, sequence, before)
		}
		last[shard] = sequence
	}); err != nil {
		return nil, err
	}
	// Read after the topic, so the book can only be ahead.
	rows, err := v.pg.Query(ctx, "SELECT shard, sequence FROM shards")
	if err != nil {
		return nil, fmt.Errorf("read the ends of the shards: %w", err)
	}
	var shard int32
	var sequence, behind int64
	if _, err = pgx.ForEachRow(rows, []any{&shard, &sequence}, func() error {
		if last[shard] > sequence {
			f.breach("shard %d: result %d is published, the book ends at %d", shard, last[shard], sequence)
		}
		behind += sequence - last[shard]
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the ends of the shards: %w", err)
	}
	return []Row{f.row("%s results, %s of the book's still to come", thousands(f.checked), thousands(behind))}, nil
}

// ledgerTotals sums the transfers of a shard up to one result, per currency and kind.
func (v *verifier) ledgerTotals(ctx context.Context, shard int32, last int64) (map[total]sum, error) {
	rows, err := v.pg.Query(ctx, "SELECT currency, kind, count(*), sum(amount)::bigint FROM transfers WHERE shard = $1 AND sequence <= $2 GROUP BY 1, 2", shard, last)
	if err != nil {
		return nil, fmt.Errorf("sum the transfers: %w", err)
	}
	totals := map[total]sum{}
	var t total
	var s sum
	if _, err = pgx.ForEachRow(rows, []any{&t.currency, &t.kind, &s.count, &s.amount}, func() error {
		totals[t] = s
		return nil
	}); err != nil {
		return nil, fmt.Errorf("sum the transfers: %w", err)
	}
	return totals, nil
}
