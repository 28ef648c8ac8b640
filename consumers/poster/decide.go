package poster

import (
	"math"
	"time"

	"sluice/pipelines/ledger"
	"sluice/pipelines/lending"
	"sluice/pipelines/payments"
	"sluice/schemas/events"
)

// knowledge is what a batch has loaded before it decides, and what its decisions have changed of it since.
type knowledge struct {
	counted  map[identity]bool // events that counted before
	payments map[string]*payments.Payment
	loans    map[string]*lending.Loan
	waiting  map[place][]early // in order of arrival

	newCounted   map[identity]bool
	nextPayments map[string]*payments.Payment
	nextLoans    map[string]*lending.Loan
	initiatedBy  map[string]*entry // payments the batch has initiated
	nextWaiting  map[place][]early
	took         []applied // early events that took effect
}

// forget drops what has been decided, so that the batch can be decided again.
func (k *knowledge) forget() {
	k.newCounted = map[identity]bool{}
	k.nextPayments = map[string]*payments.Payment{}
	k.nextLoans = map[string]*lending.Loan{}
	k.initiatedBy = map[string]*entry{}
	k.nextWaiting, k.took = map[place][]early{}, k.took[:0]
}

func (k *knowledge) payment(id string) *payments.Payment {
	if p, changed := k.nextPayments[id]; changed {
		return p
	}
	return k.payments[id]
}

func (k *knowledge) loan(id string) *lending.Loan {
	if l, changed := k.nextLoans[id]; changed {
		return l
	}
	return k.loans[id]
}

// book is what decisions post on: the real one, or a dry one that only wants to know which accounts they name.
type book interface {
	Advance(shard int32, at time.Time)
	Apply(linked []ledger.Transfer) ledger.Code
	Funds(key ledger.AccountKey) int64
	Posted() []ledger.Posted
	Steps() []ledger.Step
}

// decide answers the entries in order. post says which transfers follow.
func decide(entries []entry, k *knowledge, b book, post payments.Postings) {
	k.forget()
	for i := range entries {
		e := &entries[i]
		first, firstStep := len(b.Posted()), len(b.Steps())
		if e.counts() {
			k.advance(e, b, post)
		}
		e.answer(k.decide(e, b, post), first, b.Posted())
		e.steps = len(b.Steps()) - firstStep
	}
}

// advance brings the book to an event's time and ends the authorizations that have run out by then. Whether an event
// counted before makes no difference: its time was seen before too.
func (k *knowledge) advance(e *entry, b book, post payments.Postings) {
	before := len(b.Steps())
	b.Advance(e.shard, e.when())
	for _, s := range b.Steps()[before:] {
		if p := k.payment(payments.HeldBy(s.Pending)); p != nil {
			k.nextPayments[p.ID] = p.Expire(e.when(), post)
		}
	}
}

func (k *knowledge) decide(e *entry, b book, post payments.Postings) string {
	switch {
	case e.reason != "":
		return codeUnreadable
	case e.decision.Verdict == events.Duplicate:
		return codeDuplicate
	}
	id := e.identity()
	if k.counted[id] || k.newCounted[id] {
		return codeDuplicate
	}
	k.newCounted[id] = true
	switch e.decision.Event.Kind.Family() {
	case events.Payment:
		return k.decidePayment(e, b, post)
	case events.Loan:
		return k.decideLoan(e, b)
	}
	return codeIgnored
}

func (k *knowledge) decidePayment(e *entry, b book, post payments.Postings) string {
	id := e.decision.Event.PaymentID
	before, posted := k.payment(id), len(b.Posted())
	code, next := e.plan(before, b, post).Post(b.Apply)
	if next != nil {
		k.nextPayments[id] = next
		if before == nil {
			k.initiatedBy[id] = e
		}
		k.apply(e, b, post)
	}
	if len(b.Posted()) > posted {
		return ledger.OK.String() // also where only what came early moved money
	}
	return k.await(e, code)
}

// plan says what the entry does to its payment. A plan is a function of the decision and the payment, where it asks for nobody's
// funds: what the dry run planned need not be planned again for the very same payment.
func (e *entry) plan(before *payments.Payment, b book, post payments.Postings) payments.Step {
	if p := &e.planned; p.is && p.before == before {
		return p.step
	}
	asked := false
	step := payments.Plan(&e.decision, e.shard, before, post, func(key ledger.AccountKey) int64 {
		asked = true
		return b.Funds(key)
	})
	e.planned = planned{!asked, before, step}
	return step
}

// planned is what an entry does to a payment.
type planned struct {
	is     bool
	before *payments.Payment
	step   payments.Step
}

func (k *knowledge) decideLoan(e *entry, b book) string {
	id := e.decision.Event.LoanID
	before := k.loan(id)
	next, transfers, code := lending.Apply(before, &e.decision, e.shard)
	if code != "" {
		return code
	}
	code = codeRecorded
	if len(transfers) > 0 {
		got := b.Apply(transfers)
		if code = got.String(); got != ledger.OK {
			return code
		}
	}
	if next != nil && next != before {
		k.nextLoans[id] = next
	}
	return code
}

// dryBook takes every transfer and keeps the names of the accounts.
type dryBook struct{ keys map[ledger.AccountKey]bool }

func (d *dryBook) Apply(linked []ledger.Transfer) ledger.Code {
	for i := range linked {
		d.keys[linked[i].Debit], d.keys[linked[i].Credit] = true, true
	}
	return ledger.OK
}

// Funds says that everybody has enough, and keeps the name of the account.
func (d *dryBook) Funds(key ledger.AccountKey) int64 {
	d.keys[key] = true
	return math.MaxInt64
}

// Advance lets nothing expire: the accounts of what may are known.
func (d *dryBook) Advance(int32, time.Time) {}

func (d *dryBook) Posted() []ledger.Posted { return nil }

func (d *dryBook) Steps() []ledger.Step { return nil }

// wetBook is the book with an ear for accounts that the dry run did not foresee: it runs on the assumption that the book
// takes everything, and what a refusal leads to may name others.
type wetBook struct {
	*ledger.Book
	missing []ledger.AccountKey
	closed  map[ledger.AccountKey]bool // keys that name no account and never will
}

func (w *wetBook) Apply(linked []ledger.Transfer) ledger.Code {
	code := w.Book.Apply(linked)
	if code == ledger.AccountUnknown {
		for i := range linked {
			for _, key := range [...]ledger.AccountKey{linked[i].Debit, linked[i].Credit} {
				if w.Account(key) == nil && !w.closed[key] {
					w.missing = append(w.missing, key)
				}
			}
		}
	}
	return code
}

// Funds is payments.Funds. Of an account that is not loaded it says nothing is there: once it is, everything is decided again.
func (w *wetBook) Funds(key ledger.AccountKey) int64 {
	if w.Account(key) == nil {
		if !w.closed[key] {
			w.missing = append(w.missing, key)
		}
		return 0
	}
	return w.Book.Funds(key)
}
