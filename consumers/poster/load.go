package poster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/ledger"
	"sluice/pipelines/lending"
	"sluice/pipelines/payments"
	"sluice/schemas/events"
)

// head is the end of a shard's chain.
type head struct {
	batch, sequence, transfer int64
	hash                      ledger.Hash
	clock                     time.Time // newest event time
}

const (
	sqlClaim = `
		UPDATE offsets o SET next_offset = v.next
		FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::bigint[]) AS v (topic, p, epoch, at, next)
		WHERE o.topic = v.topic AND o."partition" = v.p AND o.epoch = v.epoch AND o.next_offset = v.at`
	sqlHeads      = `SELECT shard, batch, sequence, transfer, hash, clock FROM shards WHERE shard = ANY ($1) ORDER BY shard FOR UPDATE`
	sqlClosed     = `SELECT coalesce(max(until), 'epoch') FROM closed_periods` // after sqlHeads: whoever closes has waited for its locks, or it for them
	sqlIdentities = `
		SELECT v.n FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS v (source, id, n)
		JOIN results r ON r.event_source = v.source AND r.event_id = v.id AND r.counted`
	sqlPositions = `
		SELECT v.n FROM unnest($1::text[], $2::integer[], $3::bigint[]) WITH ORDINALITY AS v (t, p, o, n)
		JOIN results r ON r.input_topic = v.t AND r.input_partition = v.p AND r.input_offset = v.o AND r.counted`
	sqlPayments = `
		SELECT id, customer_id, account_id, counterparty_id, merchant_id, method, purpose, currency, amount, captured, fee,
			refunded, charged_back, reversed, authorized, held, status, code, shard, initiated_at, changed_at, payment_channel, due_at, extra
		FROM payments WHERE id = ANY ($1 || ARRAY(SELECT h.id ` + sqlDue + `))`
	// sqlHolds has the arguments of sqlPayments: the holds of its payments, and those that are due by the end of the batch.
	sqlHolds = `
		SELECT h.id, h.shard, d.key, c.key, h.amount, h.posted, h.voided, h.expired, h.expires_at, h.currency, h.kind
		FROM unnest($1::text[] || ARRAY(SELECT h.id ` + sqlDue + `)) AS v (id)
		JOIN holds h ON h.id = v.id JOIN accounts d ON d.id = h.debit_account JOIN accounts c ON c.id = h.credit_account`
	sqlDue = `
		FROM unnest($2::integer[], $3::timestamptz[]) AS v (shard, clock)
		JOIN holds h ON h.shard = v.shard AND h.expires_at <= v.clock AND h.posted + h.voided + h.expired < h.amount`
	sqlLoans = `SELECT id, detail FROM loans WHERE id = ANY ($1)`
)

// begin opens the transaction, moves the offsets by compare-and-set and loads what deciding needs but the accounts: one
// round trip. errFenced means that nothing may be posted.
func (s *session) begin(ctx context.Context, b *batch) error {
	var q pgx.Batch
	q.Queue("BEGIN")
	b.queueClaims(&q)
	q.Queue(sqlHeads, b.shards)
	q.Queue(sqlClosed)
	sources, ids, index := b.identities()
	q.Queue(sqlIdentities, sources, ids)
	due, clocks := b.due()
	q.Queue(sqlPayments, b.paymentIDs(), due, clocks)
	q.Queue(sqlHolds, b.heldIDs(), due, clocks)
	q.Queue(sqlLoans, b.loanIDs())
	r := s.conn.SendBatch(ctx, &q)
	err := errors.Join(readBegin(r, b, index), r.Close())
	if err != nil {
		return fmt.Errorf("begin a batch: %w", err)
	}
	if b.checkPositions {
		return s.refusePosted(ctx, b)
	}
	return nil
}

func readBegin(r pgx.BatchResults, b *batch, index []int) error {
	if _, err := r.Exec(); err != nil {
		return err
	}
	tag, err := r.Exec()
	if err != nil {
		return err
	}
	if tag.RowsAffected() != int64(len(b.claims)) {
		return errFenced
	}
	if err := b.readHeads(r); err != nil {
		return err
	}
	if err := r.QueryRow().Scan(&b.closedUntil); err != nil {
		return err
	}
	if err := b.readIdentities(r, index); err != nil {
		return err
	}
	if err := b.readPayments(r); err != nil {
		return err
	}
	if err := b.readHolds(r); err != nil {
		return err
	}
	return b.readLoans(r)
}

func (b *batch) queueClaims(q *pgx.Batch) {
	n := len(b.claims)
	topics, partitions := make([]string, n), make([]int32, n)
	epochs, at, next := make([]int64, n), make([]int64, n), make([]int64, n)
	for i, c := range b.claims {
		topics[i], partitions[i], epochs[i], at[i], next[i] = c.topic, c.partition, c.epoch, c.at, c.next
	}
	q.Queue(sqlClaim, topics, partitions, epochs, at, next)
}

// identities lists what may be posted; index says which entry each is of.
func (b *batch) identities() (sources, ids []string, index []int) {
	for i := range b.entries {
		if e := &b.entries[i]; e.counts() {
			sources = append(sources, e.decision.Event.Source)
			ids = append(ids, e.decision.Event.ID)
			index = append(index, i)
		}
	}
	return sources, ids, index
}

func (b *batch) paymentIDs() []string {
	return b.distinct(events.Payment, func(e *events.Event) string { return e.PaymentID })
}

// heldIDs are the payments that may hold money: those of events that do not begin one.
func (b *batch) heldIDs() []string {
	all := make([]string, 0, len(b.entries))
	for i := range b.entries {
		if e := &b.entries[i]; e.counts() && e.decision.Event.Kind.Family() == events.Payment && e.decision.Event.Kind != events.PaymentInitiated {
			all = append(all, string(payments.HoldID(e.decision.Event.PaymentID)))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// due are the shards and the event times at which the batch will leave them.
func (b *batch) due() (shards []int32, clocks []time.Time) {
	for shard, at := range b.clocks() {
		shards, clocks = append(shards, shard), append(clocks, at)
	}
	return shards, clocks
}

func (b *batch) loanIDs() []string {
	return b.distinct(events.Loan, func(e *events.Event) string { return e.LoanID })
}

func (b *batch) distinct(f events.Family, id func(*events.Event) string) []string {
	all := make([]string, 0, len(b.entries))
	for i := range b.entries {
		if e := &b.entries[i]; e.counts() && e.decision.Event.Kind.Family() == f {
			all = append(all, id(&e.decision.Event))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (b *batch) readHeads(r pgx.BatchResults) error {
	rows, err := r.Query()
	if err != nil {
		return err
	}
	var shard int32
	var h head
	var hash []byte
	_, err = pgx.ForEachRow(rows, []any{&shard, &h.batch, &h.sequence, &h.transfer, &hash, &h.clock}, func() error {
		copy(h.hash[:], hash)
		h.clock = h.clock.UTC()
		b.heads[shard] = h
		return nil
	})
	if err == nil && len(b.heads) != len(b.shards) {
		err = fmt.Errorf("%d of %d shards are in the book", len(b.heads), len(b.shards))
	}
	return err
}

func (b *batch) readIdentities(r pgx.BatchResults, index []int) error {
	rows, err := r.Query()
	if err != nil {
		return err
	}
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&n}, func() error {
		b.know.counted[b.entries[index[n-1]].identity()] = true
		return nil
	})
	return err
}

func (b *batch) readPayments(r pgx.BatchResults) error {
	rows, err := r.Query()
	if err != nil {
		return err
	}
	var p payments.Payment
	var method, purpose, currency, status string
	var due *time.Time
	var extra []byte
	_, err = pgx.ForEachRow(rows, []any{&p.ID, &p.Customer, &p.Account, &p.Counterparty, &p.Merchant, &method, &purpose, &currency,
		&p.Amount, &p.Captured, &p.Fee, &p.Refunded, &p.ChargedBack, &p.Reversed, &p.Authorized, &p.Held, &status, &p.Code, &p.Shard, &p.InitiatedAt, &p.ChangedAt,
		&p.Channel, &due, &extra},
		func() error {
			var known [4]bool
			p.Method, known[0] = payments.ParseMethod(method)
			p.Purpose, known[1] = payments.ParsePurpose(purpose)
			p.Currency, known[2] = events.ParseCurrency(currency)
			p.Status, known[3] = payments.ParseStatus(status)
			if slices.Contains(known[:], false) {
				b.refuse(events.Payment, p.ID, fmt.Errorf("the book's payment %s has the unknown word %q, %q, %q or %q", p.ID, method, purpose, currency, status))
				return nil
			}
			var err error
			if p.Extra, err = payments.UnmarshalExtra(extra); err != nil {
				b.refuse(events.Payment, p.ID, err)
				return nil
			}
			p.InitiatedAt, p.ChangedAt, p.DueAt = p.InitiatedAt.UTC(), p.ChangedAt.UTC(), time.Time{}
			if due != nil {
				p.DueAt = due.UTC()
			}
			next := p
			b.know.payments[p.ID] = &next
			return nil
		})
	return err
}

func (b *batch) readHolds(r pgx.BatchResults) error {
	rows, err := r.Query()
	if err != nil {
		return err
	}
	var p ledger.Pending
	var id, debit, credit, currency string
	var expires *time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &p.Shard, &debit, &credit, &p.Amount, &p.Posted, &p.Voided, &p.Expired, &expires, &currency, &p.Kind}, func() error {
		p.ID, p.Debit, p.Credit, p.Expires = ledger.ID(id), ledger.AccountKey(debit), ledger.AccountKey(credit), time.Time{}
		if expires != nil {
			p.Expires = expires.UTC()
		}
		var known bool
		if p.Currency, known = events.ParseCurrency(currency); !known {
			return fmt.Errorf("the book's hold %s has the unknown currency %q", id, currency)
		}
		b.pending[p.ID] = p
		return nil
	})
	return err
}

func (b *batch) readLoans(r pgx.BatchResults) error {
	rows, err := r.Query()
	if err != nil {
		return err
	}
	var id string
	var detail []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &detail}, func() error {
		l, err := lending.Unmarshal(detail)
		if err != nil {
			b.refuse(events.Loan, id, err)
			return nil
		}
		b.know.loans[id] = l
		return nil
	})
	return err
}

// refuse makes dead letters of the events on a payment or loan whose row the program does not understand: they wait for
// a person, the others go on.
func (b *batch) refuse(f events.Family, id string, why error) {
	for i := range b.entries {
		e := &b.entries[i]
		ev := &e.decision.Event
		if e.reason == "" && ev.Kind.Family() == f && (f == events.Payment && ev.PaymentID == id || f == events.Loan && ev.LoanID == id) {
			e.refuse("unknown_state", why)
		}
	}
}

// refusePosted makes dead letters of events that stand where another event has been posted from: only a gate that gives
// one place to two events can bring that about.
func (s *session) refusePosted(ctx context.Context, b *batch) error {
	type place struct {
		topic     string
		partition int32
		offset    int64
	}
	var topics []string
	var partitions []int32
	var offsets []int64
	var index []int
	seen := map[place]identity{}
	for i := range b.entries {
		e := &b.entries[i]
		if !e.counts() || b.know.counted[e.identity()] {
			continue
		}
		at := place{e.decision.Topic, e.decision.Partition, e.decision.Offset}
		if other, twice := seen[at]; twice && other != e.identity() {
			e.refuse("position_posted", fmt.Errorf("event %s of %s stands at %s, where another event was posted from", e.decision.Event.ID, e.decision.Event.Source, e.decision.ID()))
			continue
		}
		seen[at] = e.identity()
		topics, partitions, offsets, index = append(topics, at.topic), append(partitions, at.partition), append(offsets, at.offset), append(index, i)
	}
	rows, err := s.conn.Query(ctx, sqlPositions, topics, partitions, offsets)
	if err != nil {
		return fmt.Errorf("look for posted positions: %w", err)
	}
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&n}, func() error {
		e := &b.entries[index[n-1]]
		e.refuse("position_posted", fmt.Errorf("event %s of %s stands at %s, where another event was posted from", e.decision.Event.ID, e.decision.Event.Source, e.decision.ID()))
		return nil
	})
	return err
}
