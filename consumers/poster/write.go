package poster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"sluice/pipelines/ledger"
	"sluice/pipelines/payments"
)

const (
	sqlCopyTransfers = `COPY transfers (shard, number, sequence, batch, debit_account, debit_version, credit_account, credit_version, amount, event_time, currency, kind) FROM STDIN (FORMAT binary)`
	sqlCopySteps     = `COPY hold_steps (shard, batch, number, sequence, amount, open, debit_account, credit_account, event_time, expires_at, hold, step, currency, kind) FROM STDIN (FORMAT binary)`
	sqlCopyResults   = `COPY results (shard, sequence, batch, input_partition, input_offset, first_transfer, transfers, counted, event_time, input_topic, event_source, event_id, event_type, customer_id, payment_id, loan_id, code) FROM STDIN (FORMAT binary)`
	sqlCopyPayments  = `COPY payments (id, shard, sequence, amount, captured, fee, refunded, charged_back, reversed, authorized, held, initiated_at, changed_at, customer_id, account_id, counterparty_id, merchant_id, method, purpose, currency, status, code, payment_channel, due_at, extra) FROM STDIN (FORMAT binary)`

	// sqlAccounts finds a row where it was locked, without an index, and names the version that was read: no history of an
	// account forks, in whatever months its transfers stand.
	sqlAccounts = `
		UPDATE accounts a SET debits_posted = v.debits, credits_posted = v.credits, debits_pending = v.debits_pending, credits_pending = v.credits_pending, version = v.version
		FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::tid[])
			AS v (id, debits, credits, debits_pending, credits_pending, version, before, place)
		WHERE a.ctid = v.place AND a.id = v.id AND a.version = v.before`
	sqlPutHolds = `
		INSERT INTO holds (id, shard, debit_account, credit_account, amount, posted, voided, expired, expires_at, currency, kind)
		SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::timestamptz[], $10::text[], $11::text[])
		ON CONFLICT (id) DO UPDATE SET posted = excluded.posted, voided = excluded.voided, expired = excluded.expired`
	sqlUpdatePayments = `
		UPDATE payments p SET refunded = v.refunded, charged_back = v.charged_back, reversed = v.reversed, captured = v.captured, fee = v.fee, held = v.held,
			status = v.status, changed_at = v.changed_at, payment_channel = v.payment_channel, due_at = v.due_at, extra = v.extra
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::timestamptz[], $10::text[], $11::timestamptz[], $12::jsonb[])
			AS v (id, refunded, charged_back, reversed, captured, fee, held, status, changed_at, payment_channel, due_at, extra)
		WHERE p.id = v.id`
	sqlInsertLoan = `
		INSERT INTO loans (id, customer_id, product, currency, status, principal, annual_rate_ppm, term_months, applied_at, disbursed_at, closed_at, paid_interest, paid_principal, detail)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`
	sqlUpdateLoan = `
		UPDATE loans SET customer_id = $2, product = $3, currency = $4, status = $5, principal = $6, annual_rate_ppm = $7, term_months = $8,
			applied_at = $9, disbursed_at = $10, closed_at = $11, paid_interest = $12, paid_principal = $13, detail = $14
		WHERE id = $1`
	sqlUnreadable = `
		INSERT INTO unreadable (shard, sequence, topic, "partition", record_offset, record_time, key, value, header_keys, header_values, reason, detail)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`
	sqlBatches = `
		INSERT INTO batches (shard, number, previous_hash, hash, first_transfer, transfers, first_sequence, results)
		SELECT * FROM unnest($1::integer[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bigint[], $6::integer[], $7::bigint[], $8::integer[])`
	sqlShards = `
		UPDATE shards s SET batch = v.batch, hash = v.hash, sequence = v.sequence, transfer = v.transfer, clock = v.clock
		FROM unnest($1::integer[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::timestamptz[]) AS v (shard, batch, hash, sequence, transfer, clock)
		WHERE s.shard = v.shard AND s.batch = v.batch - 1`
)

// write puts the decided batch into the book: up to four COPY streams and one round trip for the rest.
func (s *session) write(ctx context.Context, b *batch, base func(string) string) error {
	b.number()
	opened, err := s.openMonths(ctx, b)
	if err != nil {
		return err
	}
	b.months = opened
	s.fill(b, base)
	for _, c := range []struct {
		rows *copyRows
		sql  string
	}{{&s.transfers, sqlCopyTransfers}, {&s.steps, sqlCopySteps}, {&s.results, sqlCopyResults}, {&s.payments, sqlCopyPayments}} {
		if err := c.rows.send(ctx, s.conn, c.sql); err != nil {
			return err
		}
	}
	if err := s.writeRest(ctx, b, base); err != nil {
		return fmt.Errorf("write a batch: %w", err)
	}
	return nil
}

// commit ends the transaction. Its error leaves the outcome open.
func (s *session) commit(ctx context.Context, b *batch) error {
	if _, err := s.conn.Exec(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("commit a batch: %w", err)
	}
	s.remember(b)
	return nil
}

// writeRest sends the updates and holds the number of rows each has changed against what it must be.
func (s *session) writeRest(ctx context.Context, b *batch, base func(string) string) error {
	var q pgx.Batch
	rest := statements{batch: &q}
	b.queueAccounts(&rest)
	b.queueHolds(&rest)
	b.queuePayments(&rest)
	b.queueLoans(&rest)
	b.queueUnreadable(&rest, base)
	b.queueChain(&rest)
	r := s.conn.SendBatch(ctx, &q)
	return errors.Join(rest.check(r), r.Close())
}

// remember keeps the numbers of accounts that now are in the book for good.
func (s *session) remember(b *batch) {
	if len(s.ids)+len(b.opened) > maxKnownAccounts {
		clear(s.ids)
	}
	maps.Copy(s.ids, b.opened)
	for _, m := range b.months {
		s.months[m] = true
	}
}

// statements are queued with the number of rows each must change.
type statements struct {
	batch *pgx.Batch
	rows  []int
}

func (s *statements) add(rows int, sql string, args ...any) {
	if rows == 0 {
		return
	}
	s.batch.Queue(sql, args...)
	s.rows = append(s.rows, rows)
}

func (s *statements) check(r pgx.BatchResults) error {
	for i, want := range s.rows {
		tag, err := r.Exec()
		if err != nil {
			return err
		}
		if tag.RowsAffected() != int64(want) {
			return fmt.Errorf("statement %d changed %d rows instead of %d: %s", i, tag.RowsAffected(), want, s.batch.QueuedQueries[i].SQL)
		}
	}
	return nil
}

// number gives every result and every transfer its number in its shard, and each shard's batch its hash. Entries, and
// therefore transfers, are in the order of shards.
func (b *batch) number() {
	posted, steps := b.book.Posted(), b.book.Steps()
	start, step, firstStep := 0, 0, 0 // of the shard's transfers and steps
	for i := range b.entries {
		e := &b.entries[i]
		h := b.next[e.shard]
		h.sequence++
		e.sequence, e.firstTransfer = h.sequence, h.transfer+1
		for j := e.first; j < e.first+int(e.transfers); j++ {
			p := &posted[j]
			h.transfer++
			p.Shard, p.Number, p.Sequence, p.Time = e.shard, h.transfer, e.sequence, b.dated(e.decision.Event.Time)
		}
		for range e.steps {
			s := &steps[step]
			step++
			s.Shard, s.Number, s.Sequence, s.Time = e.shard, int64(step-firstStep), e.sequence, e.decision.Event.Time
		}
		if i+1 == len(b.entries) || b.entries[i+1].shard != e.shard {
			end := e.first + int(e.transfers)
			h.batch++
			h.hash = ledger.Chain(b.heads[e.shard].hash, posted[start:end], steps[firstStep:step]...)
			start, firstStep = end, step
		}
		b.next[e.shard] = h
	}
}

// dated is the time under which an event's transfers stand: its own, or the first moment that is not closed.
func (b *batch) dated(at time.Time) time.Time {
	if at.Before(b.closedUntil) {
		return b.closedUntil.UTC()
	}
	return at
}

// fill writes the rows to copy.
func (s *session) fill(b *batch, base func(string) string) {
	s.transfers.reset()
	for i := range b.book.Posted() {
		s.fillTransfer(&b.book.Posted()[i], b)
	}
	s.steps.reset()
	for i := range b.book.Steps() {
		s.fillStep(&b.book.Steps()[i], b)
	}
	s.results.reset()
	for i := range b.entries {
		s.fillResult(&b.entries[i], b, base)
	}
	s.payments.reset()
	for id, e := range b.know.initiatedBy {
		s.fillPayment(b.know.nextPayments[id], e)
	}
}

func (s *session) fillTransfer(p *ledger.Posted, b *batch) {
	c := &s.transfers
	c.row(12)
	c.int4(p.Shard)
	c.int8(p.Number)
	c.int8(p.Sequence)
	c.int8(b.next[p.Shard].batch)
	c.int8(p.DebitID)
	c.int8(p.DebitVersion)
	c.int8(p.CreditID)
	c.int8(p.CreditVersion)
	c.int8(p.Amount)
	c.time(p.Time)
	c.text(p.Currency.Code())
	c.text(p.Kind)
}

func (s *session) fillStep(p *ledger.Step, b *batch) {
	c := &s.steps
	c.row(14)
	c.int4(p.Shard)
	c.int8(b.next[p.Shard].batch)
	c.int4(int32(p.Number))
	c.int8(p.Sequence)
	c.int8(p.Amount)
	c.int8(p.Open)
	c.int8(p.DebitID)
	c.int8(p.CreditID)
	c.time(p.Time)
	c.timeOrNull(p.Expires)
	c.text(string(p.Pending))
	c.text(p.Fate.String())
	c.text(p.Currency.Code())
	c.text(p.Kind)
}

func (s *session) fillResult(e *entry, b *batch, base func(string) string) {
	topic, partition, offset := e.position(base(e.record.Topic))
	ev := &e.decision.Event
	kind := ""
	if e.reason == "" {
		kind = ev.Kind.String()
	}
	c := &s.results
	c.row(17)
	c.int4(e.shard)
	c.int8(e.sequence)
	c.int8(b.next[e.shard].batch)
	c.int4(partition)
	c.int8(offset)
	c.int8(e.firstTransfer)
	c.int2(e.transfers)
	c.bool(e.code != codeDuplicate && e.code != codeUnreadable)
	c.time(e.when())
	c.text(topic)
	c.text(ev.Source)
	c.text(ev.ID)
	c.text(kind)
	c.text(ev.CustomerID)
	c.text(ev.PaymentID)
	c.text(ev.LoanID)
	c.text(e.code)
}

func (s *session) fillPayment(p *payments.Payment, e *entry) {
	c := &s.payments
	c.row(25)
	c.text(p.ID)
	c.int4(p.Shard)
	c.int8(e.sequence)
	for _, n := range [...]int64{p.Amount, p.Captured, p.Fee, p.Refunded, p.ChargedBack, p.Reversed, p.Authorized, p.Held} {
		c.int8(n)
	}
	c.time(p.InitiatedAt)
	c.time(p.ChangedAt)
	for _, t := range [...]string{p.Customer, p.Account, p.Counterparty, p.Merchant, payments.MethodName(p.Method),
		payments.PurposeName(p.Purpose), p.Currency.Code(), p.Status.String(), p.Code, p.Channel} {
		c.text(t)
	}
	c.timeOrNull(p.DueAt)
	c.jsonb(p.Extra.Marshal())
}

// queueAccounts merges everything posted on an account into one update of it.
func (b *batch) queueAccounts(q *statements) {
	changed := b.book.Changed()
	n := len(changed)
	ids, debits, credits, versions := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	debitsPending, creditsPending, before := make([]int64, n), make([]int64, n), make([]int64, n)
	places, read := make([]pgtype.TID, n), make(map[int64]int, len(b.accounts))
	for i := range b.accounts {
		read[b.accounts[i].ID] = i
	}
	for i, a := range changed {
		ids[i], debits[i], credits[i], versions[i] = a.ID, a.DebitsPosted, a.CreditsPosted, a.Version
		debitsPending[i], creditsPending[i] = a.DebitsPending, a.CreditsPending
		before[i], places[i] = b.accounts[read[a.ID]].Version, b.places[read[a.ID]]
	}
	q.add(n, sqlAccounts, ids, debits, credits, debitsPending, creditsPending, versions, before, places)
}

// queueHolds writes the holds as the batch leaves them.
func (b *batch) queueHolds(q *statements) {
	changed := b.book.ChangedPending()
	n := len(changed)
	if n == 0 {
		return
	}
	var (
		ids, currencies, kinds           = make([]string, n), make([]string, n), make([]string, n)
		shards, expires                  = make([]int32, n), make([]*time.Time, n)
		debits, credits, amounts         = make([]int64, n), make([]int64, n), make([]int64, n)
		postedParts, voidedParts, ranOut = make([]int64, n), make([]int64, n), make([]int64, n)
	)
	for i, p := range changed {
		ids[i], shards[i], currencies[i], kinds[i], expires[i] = string(p.ID), p.Shard, p.Currency.Code(), p.Kind, null(p.Expires)
		debits[i], credits[i], amounts[i] = b.book.Account(p.Debit).ID, b.book.Account(p.Credit).ID, p.Amount
		postedParts[i], voidedParts[i], ranOut[i] = p.Posted, p.Voided, p.Expired
	}
	q.add(n, sqlPutHolds, ids, shards, debits, credits, amounts, postedParts, voidedParts, ranOut, expires, currencies, kinds)
}

// queuePayments updates the payments that were there before the batch.
func (b *batch) queuePayments(q *statements) {
	var ids, statuses []string
	var refunded, chargedBack, reversed, captured, fees, held []int64
	var changedAt []time.Time
	var channels []string
	var due []*time.Time
	var extras []*string
	for id, p := range b.know.nextPayments {
		if b.know.initiatedBy[id] != nil {
			continue
		}
		ids, statuses = append(ids, id), append(statuses, p.Status.String())
		refunded, chargedBack, reversed = append(refunded, p.Refunded), append(chargedBack, p.ChargedBack), append(reversed, p.Reversed)
		captured, fees, held = append(captured, p.Captured), append(fees, p.Fee), append(held, p.Held)
		changedAt = append(changedAt, p.ChangedAt)
		channels, due, extras = append(channels, p.Channel), append(due, null(p.DueAt)), append(extras, jsonOf(p.Extra))
	}
	q.add(len(ids), sqlUpdatePayments, ids, refunded, chargedBack, reversed, captured, fees, held, statuses, changedAt, channels, due, extras)
}

// jsonOf is an extra as JSON, nil for none.
func jsonOf(x payments.Extra) *string {
	data := x.Marshal()
	if data == nil {
		return nil
	}
	text := string(data)
	return &text
}

func (b *batch) queueLoans(q *statements) {
	for id, l := range b.know.nextLoans {
		sql := sqlUpdateLoan
		if b.know.loans[id] == nil {
			sql = sqlInsertLoan
		}
		q.add(1, sql, l.ID, l.Customer, l.Product, l.Currency.Code(), l.Status.String(), l.Principal, int64(l.AnnualRate), l.TermMonths,
			null(l.AppliedAt), null(l.DisbursedAt), null(l.ClosedAt), l.PaidInterest, l.PaidPrincipal, l.Marshal())
	}
}

// null is t, nil for the zero time.
func null(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// queueUnreadable keeps the originals of what could not be read, for the publisher to bring to the dead letters.
func (b *batch) queueUnreadable(q *statements, base func(string) string) {
	for i := range b.entries {
		e := &b.entries[i]
		if e.reason == "" {
			continue
		}
		keys, values := make([][]byte, len(e.record.Headers)), make([][]byte, len(e.record.Headers))
		for j, h := range e.record.Headers {
			keys[j], values[j] = []byte(h.Key), bytesOf(h.Value)
		}
		q.add(1, sqlUnreadable, e.shard, e.sequence, base(e.record.Topic), e.record.Partition, e.record.Offset, e.when(),
			bytesOf(e.record.Key), bytesOf(e.record.Value), keys, values, e.reason, e.detail)
	}
}

// bytesOf is b, not nil: a column takes an empty value but no NULL.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// queueChain appends the batch to its shards' chains.
func (b *batch) queueChain(q *statements) {
	n := len(b.shards)
	var (
		numbers, firstTransfers, firstSequences = make([]int64, n), make([]int64, n), make([]int64, n)
		sequences, transfers                    = make([]int64, n), make([]int64, n)
		previous, hashes                        = make([][]byte, n), make([][]byte, n)
		clocks                                  = make([]time.Time, n)
		transferCounts, resultCounts            = make([]int32, n), make([]int32, n)
	)
	for i, shard := range b.shards {
		was, is := b.heads[shard], b.next[shard]
		numbers[i], previous[i], hashes[i] = is.batch, was.hash[:], is.hash[:]
		firstTransfers[i], transferCounts[i], transfers[i] = was.transfer+1, int32(is.transfer-was.transfer), is.transfer
		firstSequences[i], resultCounts[i], sequences[i] = was.sequence+1, int32(is.sequence-was.sequence), is.sequence
		clocks[i] = is.clock
	}
	q.add(n, sqlBatches, b.shards, numbers, previous, hashes, firstTransfers, transferCounts, firstSequences, resultCounts)
	q.add(n, sqlShards, b.shards, numbers, hashes, sequences, transfers, clocks)
}
