package payments

import (
	"time"

	"sluice/pipelines/ledger"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// The codes with which Plan answers by itself, without asking the book.
const (
	CodeIgnored   = "ignored"                // nothing to do
	CodeRecorded  = "recorded"               // the payment's status changed; no money to move
	CodeDuplicate = "duplicate"              // the event was decided before
	CodeDeclined  = "declined"               // the gate declined it
	CodeInReview  = "in_review"              // a person looks at it
	CodeExists    = "payment_exists"         // the payment id was initiated by another event
	CodeUnknown   = "payment_unknown"        // no event has initiated this payment
	CodeOfAnother = "payment_of_another"     // the event's customer is not the payment's
	CodeCurrency  = "currency_mismatch"      // the event's currency is not the payment's
	CodeNotPosted = "payment_not_posted"     // the payment has moved no money that could be taken back or settled
	CodeSettled   = "payment_settled"        // too late for a void; refund it
	CodeExceeds   = "refund_exceeds_payment" // more than is left of the payment

	CodeAuthorized  = "authorized"                    // money is held, none moved
	CodeReleased    = "released"                      // what was held is free again, no money moved
	CodeExpired     = "authorization_expired"         // what was held has been released: it was not captured in time
	CodeExceedsHold = "capture_exceeds_authorization" // more than is still held
)

// AuthorizationLife is how long an authorization holds money, from its event's time: what the card schemes grant a
// purchase by default.
const AuthorizationLife = 7 * 24 * time.Hour

// The kinds of transfers beside PurposeName's.
const (
	KindFee        = "fee"
	KindRefund     = "refund"
	KindChargeBack = "charge_back"
	KindVoid       = "void"
	KindFailure    = "failure"
	KindFeeReturn  = "fee_return"
	KindLoss       = "loss" // what the house had to pay because the one who owes it could not; it waits in suspense
)

// Step is what one decision does to a payment.
type Step struct {
	// Code is Plan's own answer; "" means that the book's answer to Transfers is the answer.
	Code string
	// Done is the answer if the book takes Transfers that move no money: they hold it or let it go. "": posted.
	Done string
	// Transfers stand or fall together.
	Transfers []ledger.Transfer
	// Otherwise is posted instead if the book refuses Transfers for insufficient funds: a charge-back or a failure is a
	// fact that the book has to show, whoever ends up paying. Nil where there is no other way.
	Otherwise []ledger.Transfer
	// Next is the payment once the transfers stand, or at once where there are none. Nil: as it was.
	Next *Payment
	// Refused is the payment if the book refuses; Refused.Code is for the caller to fill. Nil: as it was.
	Refused *Payment
}

// Plan says what a decision on a payment event does. p is the payment so far, nil if it is unknown; it is not changed.
// shard stripes the platform's accounts of a new payment; later events keep to the stripe of the first.
func Plan(d *events.Decision, shard int32, p *Payment, post Postings) Step {
	e := &d.Event
	switch {
	case d.Verdict == events.Duplicate:
		return Step{Code: CodeDuplicate}
	case e.Kind == events.PaymentInitiated && p != nil:
		return Step{Code: CodeExists}
	case e.Kind == events.PaymentInitiated:
		return initiate(d, shard, post)
	case e.Kind == events.PaymentAuthorized && p == nil && e.Method == eventsv1.PaymentMethod_PAYMENT_METHOD_CARD:
		return authorize(d, shard, post)
	case e.Kind.Family() != events.Payment:
		return Step{Code: CodeIgnored}
	case p == nil:
		return Step{Code: CodeUnknown}
	case p.Customer != e.CustomerID:
		return Step{Code: CodeOfAnother}
	case p.Currency != e.Currency:
		return Step{Code: CodeCurrency}
	}
	return p.live(d, post)
}

func initiate(d *events.Decision, shard int32, post Postings) Step {
	p := begun(d, shard)
	if d.Verdict == events.Approve {
		return p.move(d, post)
	}
	return p.stopped(d.Verdict)
}

// authorize begins a payment in two steps: its money is held until captures post it. An authorization that no rule was
// asked about (observed) holds too: the issuer has agreed, and what a capture moves can be given back.
func authorize(d *events.Decision, shard int32, post Postings) Step {
	p := begun(d, shard)
	if d.Verdict != events.Approve && d.Verdict != events.Observed {
		return p.stopped(d.Verdict)
	}
	refused, next := p, p
	refused.Status = Rejected
	next.Status, next.Authorized, next.Held = Authorized, p.Amount, p.Amount
	hold := post.Transfers(&Occasion{OnHold, &d.Event, d.Tier, &p, &next, p.Amount})[0]
	hold.Action, hold.ID, hold.Expires = ledger.Hold, HoldID(p.ID), d.Event.Time.Add(AuthorizationLife)
	return Step{Transfers: []ledger.Transfer{hold}, Done: CodeAuthorized, Next: &next, Refused: &refused}
}

// begun is a payment at its first event.
func begun(d *events.Decision, shard int32) Payment {
	e := &d.Event
	return Payment{
		ID: e.PaymentID, Customer: e.CustomerID, Account: e.AccountID, Counterparty: e.CounterpartyID, Merchant: e.MerchantID,
		Method: e.Method, Purpose: e.Purpose, Currency: e.Currency, Amount: e.Amount, Shard: shard,
		InitiatedAt: e.Time, ChangedAt: e.Time,
	}
}

// stopped is a new payment that the gate did not let pass.
func (p *Payment) stopped(v events.Verdict) Step {
	switch v {
	case events.Review:
		p.Status = InReview
		return Step{Code: CodeInReview, Next: p}
	case events.Decline:
		p.Status = Declined
		return Step{Code: CodeDeclined, Next: p}
	}
	return Step{Code: CodeIgnored}
}

// Expire is a payment once its hold has run out at the given event time.
func (p *Payment) Expire(at time.Time) *Payment {
	next := *p
	next.Held, next.ChangedAt = 0, at
	switch {
	case p.Status != Authorized:
	case p.Captured == 0:
		next.Status = Expired
	case p.Left() == 0:
		next.Status = Refunded
	default:
		next.Status = Posted
	}
	return &next
}

// move posts a payment at once: from its source to whom it is for, and what is linked to that.
func (p *Payment) move(d *events.Decision, post Postings) Step {
	refused, next := *p, *p
	refused.Status = Rejected
	next.Status, next.Captured = Posted, p.Amount
	return Step{Transfers: post.Transfers(&Occasion{OnMove, &d.Event, d.Tier, p, &next, p.Amount}), Next: &next, Refused: &refused}
}

// live says what a later event does to a payment.
func (p *Payment) live(d *events.Decision, post Postings) Step {
	switch d.Event.Kind {
	case events.PaymentSettled:
		return p.settle(d)
	case events.PaymentRefunded:
		return p.refund(d, post)
	case events.PaymentChargedBack:
		return p.chargeBack(d, post)
	case events.PaymentVoided:
		return p.cancel(d, post, Voided)
	case events.PaymentFailed:
		return p.cancel(d, post, Failed)
	case events.PaymentCaptured:
		if p.Authorized > 0 {
			return p.capture(d, post)
		}
	}
	return Step{Code: CodeIgnored} // authorized, captured: the money moved when the payment was initiated
}

// capture moves what was held, or a part of it; the rest stays held for further captures. The fee is that of all that
// has been captured, so that captures in parts cost what one costs.
func (p *Payment) capture(d *events.Decision, post Postings) Step {
	amount := d.Event.Amount
	switch {
	case held(d.Verdict) != "":
		return Step{Code: held(d.Verdict)}
	case p.Status == Expired:
		return Step{Code: CodeExpired}
	case p.Status == Voided || p.Status == Failed:
		return Step{Code: CodeIgnored}
	case amount > p.Held:
		return Step{Code: CodeExceedsHold}
	}
	next := p.next(d, Authorized)
	next.Captured += amount
	next.Held -= amount
	if next.Held == 0 {
		next.Status = Posted
	}
	transfers := post.Transfers(&Occasion{OnMove, &d.Event, d.Tier, p, next, amount})
	transfers[0].Action, transfers[0].Ref, transfers[0].Keep = ledger.Post, HoldID(p.ID), true
	return Step{Transfers: transfers, Next: next}
}

// release is what lets go of what a payment still holds, nothing if it holds nothing.
func (p *Payment) release() []ledger.Transfer {
	if p.Held == 0 {
		return nil
	}
	return []ledger.Transfer{{
		Action: ledger.Void, Ref: HoldID(p.ID), Debit: p.from(), Credit: p.to(), Currency: p.Currency, Kind: PurposeName(p.Purpose),
	}}
}

func (p *Payment) settle(d *events.Decision) Step {
	switch {
	case p.Captured == 0:
		return Step{Code: CodeNotPosted}
	case p.Status != Posted && p.Status != Authorized:
		return Step{Code: CodeIgnored}
	}
	next := p.next(d, Settled)
	if p.Held == 0 {
		return Step{Code: CodeRecorded, Next: next}
	}
	next.Held = 0 // what was not captured before the channel settled never will be
	return Step{Transfers: p.release(), Done: CodeReleased, Next: next}
}

// refund gives part or all of a payment back the way it came. The house keeps its fee, so the merchant bears it.
func (p *Payment) refund(d *events.Decision, post Postings) Step {
	amount := d.Event.Amount
	switch {
	case held(d.Verdict) != "":
		return Step{Code: held(d.Verdict)}
	case p.Captured == 0:
		return Step{Code: CodeNotPosted}
	case amount > p.Left():
		return Step{Code: CodeExceeds}
	}
	next := p.next(d, p.Status)
	next.Refunded += amount
	if next.Left() == 0 && next.Held == 0 {
		next.Status = Refunded
	}
	return Step{Transfers: post.Transfers(&Occasion{OnRefund, &d.Event, d.Tier, p, next, amount}), Next: next}
}

// chargeBack takes back what is left of a payment, at most the event's amount: what has been refunded cannot be taken
// twice. What the payee does not have, the house pays out of suspense. Whatever the gate says, it has happened.
func (p *Payment) chargeBack(d *events.Decision, post Postings) Step {
	amount := min(d.Event.Amount, p.Left())
	switch {
	case p.Captured == 0:
		return Step{Code: CodeNotPosted}
	case amount == 0:
		return Step{Code: CodeExceeds}
	}
	next := p.next(d, ChargedBack)
	next.ChargedBack += amount
	next.Held = 0 // whoever takes back what was captured gets no more of it
	return Step{
		Transfers: append(p.release(), post.Transfers(&Occasion{OnChargeBack, &d.Event, d.Tier, p, next, amount})...),
		Otherwise: append(p.release(), p.loss(amount)),
		Next:      next,
	}
}

// cancel ends a payment as if it had never been: what is left goes back, and so does the fee. A void is asked for, so it
// needs a verdict and the payee's funds, and comes before settlement; a failure has happened. While money is held, a void
// releases what is held and leaves what was captured alone.
func (p *Payment) cancel(d *events.Decision, post Postings, status Status) Step {
	asked, moment := status == Voided, OnFailure
	if asked {
		moment = OnVoid
	}
	switch {
	case asked && held(d.Verdict) != "":
		return Step{Code: held(d.Verdict)}
	case p.Status == Voided || p.Status == Failed:
		return Step{Code: CodeIgnored}
	case p.Held > 0 && (asked || p.Captured == 0):
		return p.letGo(d, status)
	case p.Captured == 0:
		return Step{Code: CodeRecorded, Next: p.next(d, status)}
	case asked && p.Status == Settled:
		return Step{Code: CodeSettled}
	case p.Left() == 0 && p.Held > 0: // all captured was given back: only the hold is left to end
		return p.letGo(d, status)
	case p.Left() == 0:
		return Step{Code: CodeExceeds}
	}
	left := p.Left()
	next := p.next(d, status)
	next.Reversed += left
	next.Held = 0
	back := post.Transfers(&Occasion{moment, &d.Event, d.Tier, p, next, left})
	step := Step{Next: next, Transfers: append(p.release(), back...)}
	if !asked {
		// The last one takes the money from the payee, who may not have it.
		step.Otherwise = append(append(p.release(), back[:len(back)-1]...), p.loss(left))
	}
	return step
}

// letGo ends a payment's hold: as if it had never been where nothing was captured, with what was captured otherwise.
func (p *Payment) letGo(d *events.Decision, status Status) Step {
	next := p.next(d, status)
	if p.Captured > 0 {
		next = p.Expire(d.Event.Time)
	}
	next.Held = 0
	return Step{Transfers: p.release(), Done: CodeReleased, Next: next}
}

// held is the code for a request that the gate did not let pass, "" if it did. Observed passes: no rule was asked.
func held(v events.Verdict) string {
	switch v {
	case events.Decline:
		return CodeDeclined
	case events.Review:
		return CodeInReview
	}
	return ""
}

func (p *Payment) next(d *events.Decision, s Status) *Payment {
	next := *p
	next.Status, next.ChangedAt = s, d.Event.Time
	return &next
}

// back moves an amount the way it came.
func (p *Payment) back(amount int64, kind string) ledger.Transfer {
	return p.transfer(p.to(), p.from(), amount, kind)
}

// loss gives an amount back at the cost of the house.
func (p *Payment) loss(amount int64) ledger.Transfer {
	return p.transfer(ledger.Suspense(p.Shard, p.Currency), p.from(), amount, KindLoss)
}

func (p *Payment) transfer(debit, credit ledger.AccountKey, amount int64, kind string) ledger.Transfer {
	return ledger.Transfer{Debit: debit, Credit: credit, Amount: amount, Currency: p.Currency, Kind: kind}
}
