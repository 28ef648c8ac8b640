package books

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"sluice/pipelines/payments"
	"sluice/schemas/events"
)

// ErrNoPayment means that the book has no payment of the id, and no event waits for one.
var ErrNoPayment = errors.New("no such payment in the book; the id is the event's payment_id. `sluice deadletters list` has events that could not be read, " +
	"and the warehouse all that were: SELECT decision_id, type, verdict FROM payments WHERE payment_id = 'ID'")

// Stuck is a payment that waits longer than it should, or an event that waits for a payment. Amounts are in major units.
type Stuck struct {
	Payment  string           `json:"payment"`
	Status   string           `json:"status"`          // "early": an event waits for what it builds on
	Event    string           `json:"event,omitempty"` // its type, where Status is early
	Customer string           `json:"customer,omitempty"`
	Merchant string           `json:"merchant,omitempty"`
	Method   string           `json:"method,omitempty"`
	Purpose  string           `json:"purpose,omitempty"`
	Channel  string           `json:"payment_channel,omitempty"`
	Amount   *decimal.Decimal `json:"amount,omitempty"`
	Currency string           `json:"currency,omitempty"`
	Since    time.Time        `json:"since"`            // it is so
	DueAt    time.Time        `json:"due_at"`           // its limit
	At       time.Time        `json:"at"`               // the moment asked about: its shard's clock, unless another was given
	Answer   string           `json:"answer,omitempty"` // the final one, where Status is given_up
}

// StuckQuery says which of what is stuck is meant.
type StuckQuery struct {
	At      time.Time // zero: as far as each shard has come, by event time
	Limit   int       // at most so many; 0: all
	GivenUp bool      // instead, the early events that are listed no longer
}

// stuckNow and stuckAt are what is past its limit, given up or not: by each shard's clock, and at the moment $4.
const (
	stuckNow = `SELECT id, status, event_type, customer_id, merchant_id, method, purpose, payment_channel, currency, amount_minor, since, due_at, at FROM stuck_payments`
	stuckAt  = `
		SELECT id, status, '' AS event_type, customer_id, merchant_id, method, purpose, payment_channel, currency, amount AS amount_minor, changed_at AS since, due_at, $4::timestamptz AS at
		FROM payments WHERE due_at < $4
		UNION ALL SELECT payment_id, 'early', event_type, '', '', '', '', '', '', NULL, event_time, due_at, $4
		FROM early_events WHERE applied_sequence IS NULL AND due_at < $4`
)

// Stuck lists what is past its limit, the longest first, and counts all of it. What came early and is more than
// payments.EarlyListed past its limit is given up and not in the list: it is one of its own.
func (b *Book) Stuck(ctx context.Context, q StuckQuery) (all []Stuck, total int64, err error) {
	from, args := stuckNow, []any{q.Limit, payments.EarlyListed, q.GivenUp}
	if !q.At.IsZero() {
		from, args = stuckAt, append(args, q.At)
	}
	rows, err := b.conn.Query(ctx, `
		SELECT s.*, $3 AND EXISTS (SELECT FROM payments p WHERE p.id = s.id), count(*) OVER () FROM (`+from+`) s
		WHERE (s.status = 'early' AND s.due_at < s.at - $2::interval) = $3
		ORDER BY s.due_at, s.id LIMIT nullif($1, 0)`, args...)
	if err != nil {
		return nil, 0, fmt.Errorf("read what is stuck: %w", err)
	}
	all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Stuck, err error) {
		var amount *int64
		var known bool
		err = row.Scan(&s.Payment, &s.Status, &s.Event, &s.Customer, &s.Merchant, &s.Method, &s.Purpose, &s.Channel, &s.Currency, &amount, &s.Since, &s.DueAt, &s.At,
			&known, &total)
		if amount != nil {
			major := majorOf(*amount, s.Currency)
			s.Amount = &major
		}
		if q.GivenUp {
			s.Status, s.Answer = statusGivenUp, givenUp(s.Event, known)
		}
		s.Since, s.DueAt, s.At = s.Since.UTC(), s.DueAt.UTC(), s.At.UTC()
		return s, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read what is stuck: %w", err)
	}
	return all, total, nil
}

// statusGivenUp is the status of an early event that is listed no longer.
const statusGivenUp = "given_up"

func givenUp(event string, known bool) string {
	return payments.GivenUp(events.ParseKind(event), known)
}

// OpenDispute is a dispute that is not decided. Amounts are in major units.
type OpenDispute struct {
	Payment   string          `json:"payment"`
	Customer  string          `json:"customer"`
	Merchant  string          `json:"merchant"`
	Channel   string          `json:"payment_channel,omitempty"`
	State     string          `json:"state"` // open: evidence is due; evidence: the decision is
	Claimed   decimal.Decimal `json:"claimed"`
	Frozen    decimal.Decimal `json:"frozen"`
	Currency  string          `json:"currency"`
	Reason    string          `json:"reason,omitempty"`
	OpenedAt  time.Time       `json:"opened_at"`
	RespondBy time.Time       `json:"respond_by"`
	DueAt     time.Time       `json:"due_at"`
	Overdue   bool            `json:"overdue"` // by its shard's clock
}

// Disputes lists the open disputes, the one due first first. At most limit, 0 is all.
func (b *Book) Disputes(ctx context.Context, limit int) ([]OpenDispute, error) {
	rows, err := b.conn.Query(ctx, `
		SELECT p.id, p.customer_id, p.merchant_id, p.payment_channel, p.currency, p.extra, p.due_at, p.due_at < s.clock
		FROM payments p JOIN shards s ON s.shard = p.shard WHERE p.status = 'disputed' ORDER BY p.due_at, p.id LIMIT nullif($1, 0)`, limit)
	if err != nil {
		return nil, fmt.Errorf("read the disputes: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o OpenDispute, err error) {
		var extra []byte
		if err = row.Scan(&o.Payment, &o.Customer, &o.Merchant, &o.Channel, &o.Currency, &extra, &o.DueAt, &o.Overdue); err != nil {
			return o, err
		}
		x, err := payments.UnmarshalExtra(extra)
		if err != nil || x.Dispute == nil {
			return o, errors.Join(err, fmt.Errorf("payment %s is disputed and has no dispute", o.Payment))
		}
		d := x.Dispute
		o.State, o.Reason, o.OpenedAt, o.RespondBy, o.DueAt = d.State, d.Reason, d.OpenedAt, d.RespondBy, o.DueAt.UTC()
		o.Claimed, o.Frozen = majorOf(d.Amount, o.Currency), majorOf(d.Frozen, o.Currency)
		return o, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the disputes: %w", err)
	}
	return all, nil
}

// Life is all the book knows of a payment. Amounts are in major units of its currency, but for Fee and what has a currency of its
// own.
type Life struct {
	Payment      string            `json:"payment"`
	Status       string            `json:"status"`
	Code         string            `json:"code,omitempty"` // why the book rejected it
	Note         string            `json:"note,omitempty"` // where there is no payment: which events these are
	Customer     string            `json:"customer"`
	Account      string            `json:"account,omitempty"`
	Counterparty string            `json:"counterparty,omitempty"`
	Merchant     string            `json:"merchant,omitempty"`
	Method       string            `json:"method"`
	Purpose      string            `json:"purpose"`
	Channel      string            `json:"payment_channel,omitempty"`
	Currency     string            `json:"currency"`
	Amounts      map[string]string `json:"amounts"` // asked for, authorized, held, captured, fee, refunded, charged_back, reversed
	InitiatedAt  time.Time         `json:"initiated_at"`
	ChangedAt    time.Time         `json:"changed_at"`
	DueAt        *time.Time        `json:"due_at,omitempty"`
	Extra        payments.Extra    `json:"extra"` // as the book keeps it: minor units
	Holds        []HoldLine        `json:"holds,omitempty"`
	Events       []EventLine       `json:"events"`

	shard    int32
	sequence int64
}

// HoldLine is a hold of a payment, in major units.
type HoldLine struct {
	Hold    string          `json:"hold"` // # stands for the control character between payment and number
	Debit   string          `json:"debit"`
	Credit  string          `json:"credit"`
	Amount  decimal.Decimal `json:"amount"`
	Posted  decimal.Decimal `json:"posted"`
	Voided  decimal.Decimal `json:"voided"`
	Expired decimal.Decimal `json:"expired"`
	Open    decimal.Decimal `json:"open"`
	Expires *time.Time      `json:"expires_at,omitempty"`
}

// EventLine is an event of a payment with its answer.
type EventLine struct {
	Time      time.Time      `json:"time"`
	Event     string         `json:"event"`
	Source    string         `json:"source"`
	ID        string         `json:"id"`
	Answer    string         `json:"answer"`
	Then      string         `json:"then,omitempty"`     // the answer once what it had waited for came
	GivenUp   string         `json:"given_up,omitempty"` // the answer once it was waited for no longer
	Decision  string         `json:"decision"`           // topic/partition/offset, as `sluice explain` takes it
	Transfers []TransferLine `json:"transfers,omitempty"`
}

// TransferLine is a transfer, in major units of its currency.
type TransferLine struct {
	Kind     string          `json:"kind"`
	Debit    string          `json:"debit"`
	Credit   string          `json:"credit"`
	Amount   decimal.Decimal `json:"amount"`
	Currency string          `json:"currency"` // of money; "CNY points" of what is counted beside it

	places int32
}

// Payment is a payment's whole life: ErrNoPayment if there is none. It reads the results of the payment's shard from its first
// event on: of an old payment in a large book that takes seconds. Of what is no payment it returns the events with that id that were
// refused lately, if there are some.
func (b *Book) Payment(ctx context.Context, id string) (*Life, error) {
	l, err := b.lifeRow(ctx, id)
	if err == nil {
		err = b.lifeHolds(ctx, l)
	}
	if err == nil {
		err = b.lifeEvents(ctx, l)
	}
	if err != nil {
		return nil, fmt.Errorf("payment %s: %w", id, err)
	}
	return l, nil
}

var lifeAmounts = [...]string{"amount", "authorized", "held", "captured", "fee", "refunded", "charged_back", "reversed"}

func (b *Book) lifeRow(ctx context.Context, id string) (*Life, error) {
	l := &Life{Amounts: map[string]string{}}
	var amounts [len(lifeAmounts)]int64
	into := []any{&l.Payment, &l.Status, &l.Code, &l.Customer, &l.Account, &l.Counterparty, &l.Merchant, &l.Method, &l.Purpose, &l.Channel, &l.Currency,
		&l.InitiatedAt, &l.ChangedAt, &l.DueAt, nil, &l.shard, &l.sequence}
	var extra []byte
	into[14] = &extra
	for i := range amounts {
		into = append(into, &amounts[i])
	}
	err := b.conn.QueryRow(ctx, `
		SELECT id, status, code, customer_id, account_id, counterparty_id, merchant_id, method, purpose, payment_channel, currency,
			initiated_at, changed_at, due_at, extra, shard, sequence, `+strings.Join(lifeAmounts[:], ", ")+`
		FROM payments WHERE id = $1`, id).Scan(into...)
	if errors.Is(err, pgx.ErrNoRows) {
		return b.awaited(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	if l.Extra, err = payments.UnmarshalExtra(extra); err != nil {
		return nil, err
	}
	for i, name := range lifeAmounts {
		currency := l.Currency
		if name == "fee" && l.Extra.Exchange != nil {
			currency = l.Extra.Exchange.Currency
		}
		l.Amounts[name] = majorOf(amounts[i], currency).StringFixed(places(currency)) + " " + currency
	}
	l.InitiatedAt, l.ChangedAt = l.InitiatedAt.UTC(), l.ChangedAt.UTC()
	return l, nil
}

// awaited is a payment of which only events are known that came early.
func (b *Book) awaited(ctx context.Context, id string) (*Life, error) {
	l := &Life{Payment: id, Status: "early"}
	err := b.conn.QueryRow(ctx, `SELECT shard, sequence FROM early_events WHERE payment_id = $1 ORDER BY shard, sequence LIMIT 1`, id).Scan(&l.shard, &l.sequence)
	if errors.Is(err, pgx.ErrNoRows) {
		return b.refused(ctx, id)
	}
	return l, err
}

// refusedAmong is how many of each shard's newest results are searched for events of a payment that the book does not have: results
// have no index by payment.
const refusedAmong = 5_000

// refused are the events of a payment that none of them has begun, those of the newest shard that has some.
func (b *Book) refused(ctx context.Context, id string) (*Life, error) {
	l := &Life{Payment: id, Status: "none", Note: fmt.Sprintf("no event has begun this payment; those of its events that are among the newest %d results of their shard:", refusedAmong)}
	err := b.conn.QueryRow(ctx, `
		SELECT r.shard, min(r.sequence) FROM shards s CROSS JOIN LATERAL (
			SELECT shard, sequence, payment_id FROM results WHERE shard = s.shard ORDER BY sequence DESC LIMIT $2) r
		WHERE r.payment_id = $1 GROUP BY r.shard ORDER BY r.shard LIMIT 1`, id, refusedAmong).Scan(&l.shard, &l.sequence)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNoPayment
	}
	return l, err
}

func (b *Book) lifeHolds(ctx context.Context, l *Life) error {
	above, below := payments.HoldIDs(l.Payment)
	rows, err := b.conn.Query(ctx, `
		SELECT h.id, d.key, c.key, h.amount, h.posted, h.voided, h.expired, h.open, h.expires_at
		FROM holds h JOIN accounts d ON d.id = h.debit_account JOIN accounts c ON c.id = h.credit_account
		WHERE h.id = $1 OR h.id > $2 AND h.id < $3 ORDER BY h.id`, l.Payment, string(above), string(below))
	if err != nil {
		return err
	}
	var h HoldLine
	var n [5]int64
	_, err = pgx.ForEachRow(rows, []any{&h.Hold, &h.Debit, &h.Credit, &n[0], &n[1], &n[2], &n[3], &n[4], &h.Expires}, func() error {
		line := h
		line.Hold = strings.ReplaceAll(h.Hold, "\x1f", "#")
		for i, into := range []*decimal.Decimal{&line.Amount, &line.Posted, &line.Voided, &line.Expired, &line.Open} {
			*into = majorOf(n[i], l.Currency)
		}
		l.Holds = append(l.Holds, line)
		return nil
	})
	return err
}

func (b *Book) lifeEvents(ctx context.Context, l *Life) error {
	rows, err := b.conn.Query(ctx, `
		SELECT r.event_time, r.event_type, r.event_source, r.event_id, r.code, coalesce(e.code, ''), r.input_topic, r.input_partition, r.input_offset,
			coalesce(e.applied_sequence IS NULL AND e.due_at < (SELECT clock FROM shards WHERE shard = $2) - $4::interval, false), coalesce((
			SELECT json_agg(json_build_object('kind', t.kind, 'debit', d.key, 'credit', c.key, 'amount', t.amount::text, 'currency', t.currency) ORDER BY t.number)
			FROM transfers t JOIN accounts d ON d.id = t.debit_account JOIN accounts c ON c.id = t.credit_account
			WHERE t.shard = r.shard AND t.number >= r.first_transfer AND t.number < r.first_transfer + r.transfers), '[]')
		FROM results r LEFT JOIN early_events e ON e.payment_id = r.payment_id AND e.shard = r.shard AND e.sequence = r.sequence
		WHERE r.shard = $2 AND r.payment_id = $1
			AND r.sequence >= least($3, (SELECT min(sequence) FROM early_events WHERE payment_id = $1 AND shard = $2))
		ORDER BY r.sequence`, l.Payment, l.shard, l.sequence, payments.EarlyListed)
	if err != nil {
		return err
	}
	var e EventLine
	var transfers []byte
	var at struct {
		topic     string
		partition int32
		offset    int64
	}
	var gone bool
	_, err = pgx.ForEachRow(rows, []any{&e.Time, &e.Event, &e.Source, &e.ID, &e.Answer, &e.Then, &at.topic, &at.partition, &at.offset, &gone, &transfers}, func() error {
		line := e
		line.Decision = events.PositionID(at.topic, at.partition, at.offset)
		if gone {
			line.GivenUp = givenUp(e.Event, l.Status != "early")
		}
		line.Time, line.Transfers = e.Time.UTC(), nil
		if err := json.Unmarshal(transfers, &line.Transfers); err != nil {
			return err
		}
		for i := range line.Transfers {
			t := &line.Transfers[i]
			label, decimals := measure(t.Debit, t.Currency)
			t.Amount, t.Currency, t.places = t.Amount.Shift(-decimals), label, decimals
		}
		l.Events = append(l.Events, line)
		return nil
	})
	return err
}

// majorOf is an amount of minor units in major units.
func majorOf(minor int64, currency string) decimal.Decimal {
	return decimal.New(minor, -places(currency))
}

const timeForm = "2006-01-02T15:04:05Z"

// WriteStuck writes what is stuck as a table or CSV.
func WriteStuck(w io.Writer, all []Stuck, asCSV bool) error {
	rows := [][]string{{"payment", "status", "customer", "merchant", "method", "purpose", "channel", "since", "due", "late", "amount"}}
	for _, s := range all {
		amount, status := "", s.Status
		if s.Amount != nil {
			amount = s.Amount.StringFixed(places(s.Currency)) + " " + s.Currency
		}
		if s.Event != "" {
			status += " " + s.Event
		}
		if s.Answer != "" {
			status += ": " + s.Answer
		}
		rows = append(rows, []string{s.Payment, status, s.Customer, s.Merchant, s.Method, s.Purpose, s.Channel, s.Since.Format(timeForm), s.DueAt.Format(timeForm),
			late(s.At.Sub(s.DueAt)), amount})
	}
	return write(w, rows, 9, asCSV)
}

// late is a length of time in days and hours: "3d4h".
func late(d time.Duration) string {
	hours := int(d.Hours())
	if hours < 48 {
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%dd%dh", hours/24, hours%24)
}

// WriteDisputes writes open disputes as a table or CSV.
func WriteDisputes(w io.Writer, all []OpenDispute, asCSV bool) error {
	rows := [][]string{{"payment", "state", "customer", "merchant", "channel", "reason", "opened", "respond by", "due", "overdue", "claimed", "frozen"}}
	for _, d := range all {
		overdue := ""
		if d.Overdue {
			overdue = "overdue"
		}
		p := places(d.Currency)
		rows = append(rows, []string{d.Payment, d.State, d.Customer, d.Merchant, d.Channel, d.Reason, d.OpenedAt.Format(timeForm), d.RespondBy.Format(timeForm),
			d.DueAt.Format(timeForm), overdue, d.Claimed.StringFixed(p) + " " + d.Currency, d.Frozen.StringFixed(p) + " " + d.Currency})
	}
	return write(w, rows, 10, asCSV)
}

// Write writes the life for a person: the payment, its holds, and each event with its answer and its transfers.
func (l *Life) Write(w io.Writer) error {
	say := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-14s %s\n", name, value)
		}
	}
	say("payment", l.Payment)
	say("status", strings.TrimSpace(l.Status+" "+l.Code))
	say("note", l.Note)
	if l.Purpose != "" {
		say("purpose", l.Purpose+" by "+l.Method)
	}
	say("customer", l.Customer)
	say("account", l.Account)
	say("counterparty", l.Counterparty)
	say("merchant", l.Merchant)
	say("channel", l.Channel)
	say("route", l.Extra.Route)
	if x := l.Extra.Exchange; x != nil {
		say("exchange", majorOf(x.Amount, x.Currency).StringFixed(places(x.Currency))+" "+x.Currency+" at "+x.Rate)
	}
	for _, name := range lifeAmounts {
		if name == "amount" || !strings.HasPrefix(strings.Trim(l.Amounts[name], "0."), " ") {
			say(name, l.Amounts[name])
		}
	}
	if l.Extra.Lost > 0 {
		say("lost", majorOf(l.Extra.Lost, l.Currency).StringFixed(places(l.Currency))+" "+l.Currency+", paid by the house")
	}
	if l.DueAt != nil {
		say("due", l.DueAt.UTC().Format(timeForm))
	}
	p := places(l.Currency)
	for _, s := range l.Extra.Shares {
		say("share", fmt.Sprintf("%s of %s: captured %s, back %s", majorOf(s.Amount, l.Currency).StringFixed(p), s.Merchant, majorOf(s.Captured, l.Currency).StringFixed(p), majorOf(s.Back, l.Currency).StringFixed(p)))
	}
	if d := l.Extra.Dispute; d != nil {
		say("dispute", fmt.Sprintf("%s: %s claimed, %s frozen, opened %s, respond by %s %s", d.State, majorOf(d.Amount, l.Currency).StringFixed(p), majorOf(d.Frozen, l.Currency).StringFixed(p),
			d.OpenedAt.Format(timeForm), d.RespondBy.Format(timeForm), d.Evidence))
	}
	for _, h := range l.Holds {
		say("hold", fmt.Sprintf("%s: %s from %s to %s; posted %s, voided %s, expired %s, open %s", h.Hold, h.Amount.StringFixed(p), h.Debit, h.Credit,
			h.Posted.StringFixed(p), h.Voided.StringFixed(p), h.Expired.StringFixed(p), h.Open.StringFixed(p)))
	}
	for _, e := range l.Events {
		answer := e.Answer
		if e.Then != "" {
			answer += ", then " + e.Then
		}
		if e.GivenUp != "" {
			answer += ", given up: " + e.GivenUp
		}
		fmt.Fprintf(w, "%s  %s  %s  (%s %s, decision %s)\n", e.Time.Format(timeForm), e.Event, answer, e.Source, e.ID, e.Decision)
		switch cmp.Or(e.Then, e.Answer) {
		case payments.CodeDeclined, payments.CodeInReview:
			fmt.Fprintf(w, "    which rules: sluice explain %s\n", e.Decision)
		}
		for _, t := range e.Transfers {
			fmt.Fprintf(w, "    %s %s %s: %s -> %s\n", t.Kind, t.Amount.StringFixed(t.places), t.Currency, t.Debit, t.Credit)
		}
	}
	return nil
}
