package payments

import (
	"sluice/pipelines/ledger"
	"sluice/schemas/events"
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
)

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
func Plan(d *events.Decision, shard int32, p *Payment, fees FeeSchedule) Step {
	e := &d.Event
	switch {
	case d.Verdict == events.Duplicate:
		return Step{Code: CodeDuplicate}
	case e.Kind == events.PaymentInitiated && p != nil:
		return Step{Code: CodeExists}
	case e.Kind == events.PaymentInitiated:
		return initiate(d, shard, fees)
	case e.Kind.Family() != events.Payment:
		return Step{Code: CodeIgnored}
	case p == nil:
		return Step{Code: CodeUnknown}
	case p.Customer != e.CustomerID:
		return Step{Code: CodeOfAnother}
	case p.Currency != e.Currency:
		return Step{Code: CodeCurrency}
	}
	return p.live(d)
}

func initiate(d *events.Decision, shard int32, fees FeeSchedule) Step {
	e := &d.Event
	p := Payment{
		ID: e.PaymentID, Customer: e.CustomerID, Account: e.AccountID, Counterparty: e.CounterpartyID, Merchant: e.MerchantID,
		Method: e.Method, Purpose: e.Purpose, Currency: e.Currency, Amount: e.Amount, Shard: shard,
		InitiatedAt: e.Time, ChangedAt: e.Time,
	}
	switch d.Verdict {
	case events.Approve:
		return p.move(fees)
	case events.Review:
		p.Status = InReview
		return Step{Code: CodeInReview, Next: &p}
	case events.Decline:
		p.Status = Declined
		return Step{Code: CodeDeclined, Next: &p}
	}
	return Step{Code: CodeIgnored}
}

// move posts a payment at once: from its source to whom it is for, and the fee from there to the house.
func (p *Payment) move(fees FeeSchedule) Step {
	refused, next := *p, *p
	refused.Status = Rejected
	next.Status, next.Captured = Posted, p.Amount
	next.Fee = fees.Fee(p.Purpose, p.Method, p.Amount)
	transfers := make([]ledger.Transfer, 1, 2)
	transfers[0] = p.transfer(p.from(), p.to(), p.Amount, PurposeName(p.Purpose))
	if next.Fee > 0 {
		transfers = append(transfers, p.transfer(p.to(), ledger.Fees(p.Shard, p.Currency), next.Fee, KindFee))
	}
	return Step{Transfers: transfers, Next: &next, Refused: &refused}
}

// live says what a later event does to a payment.
func (p *Payment) live(d *events.Decision) Step {
	switch d.Event.Kind {
	case events.PaymentSettled:
		return p.settle(d)
	case events.PaymentRefunded:
		return p.refund(d)
	case events.PaymentChargedBack:
		return p.chargeBack(d)
	case events.PaymentVoided:
		return p.cancel(d, Voided, KindVoid)
	case events.PaymentFailed:
		return p.cancel(d, Failed, KindFailure)
	}
	return Step{Code: CodeIgnored} // authorized, captured: the money moved when the payment was initiated
}

func (p *Payment) settle(d *events.Decision) Step {
	switch {
	case p.Captured == 0:
		return Step{Code: CodeNotPosted}
	case p.Status != Posted:
		return Step{Code: CodeIgnored}
	}
	return Step{Code: CodeRecorded, Next: p.next(d, Settled)}
}

// refund gives part or all of a payment back the way it came. The house keeps its fee, so the merchant bears it.
func (p *Payment) refund(d *events.Decision) Step {
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
	if next.Left() == 0 {
		next.Status = Refunded
	}
	return Step{Transfers: []ledger.Transfer{p.back(amount, KindRefund)}, Next: next}
}

// chargeBack takes back what is left of a payment, at most the event's amount: what has been refunded cannot be taken
// twice. What the payee does not have, the house pays out of suspense. Whatever the gate says, it has happened.
func (p *Payment) chargeBack(d *events.Decision) Step {
	amount := min(d.Event.Amount, p.Left())
	switch {
	case p.Captured == 0:
		return Step{Code: CodeNotPosted}
	case amount == 0:
		return Step{Code: CodeExceeds}
	}
	next := p.next(d, ChargedBack)
	next.ChargedBack += amount
	return Step{
		Transfers: []ledger.Transfer{p.back(amount, KindChargeBack)},
		Otherwise: []ledger.Transfer{p.loss(amount)},
		Next:      next,
	}
}

// cancel ends a payment as if it had never been: what is left goes back, and so does the fee. A void is asked for, so it
// needs a verdict and the payee's funds, and comes before settlement; a failure has happened.
func (p *Payment) cancel(d *events.Decision, status Status, kind string) Step {
	asked := status == Voided
	switch {
	case asked && held(d.Verdict) != "":
		return Step{Code: held(d.Verdict)}
	case p.Status == Voided || p.Status == Failed:
		return Step{Code: CodeIgnored}
	case p.Captured == 0:
		return Step{Code: CodeRecorded, Next: p.next(d, status)}
	case asked && p.Status == Settled:
		return Step{Code: CodeSettled}
	case p.Left() == 0:
		return Step{Code: CodeExceeds}
	}
	left := p.Left()
	next := p.next(d, status)
	next.Reversed += left
	step := Step{Next: next, Transfers: make([]ledger.Transfer, 0, 2)}
	if p.Fee > 0 {
		step.Transfers = append(step.Transfers, p.transfer(ledger.Fees(p.Shard, p.Currency), p.to(), p.Fee, KindFeeReturn))
	}
	if !asked {
		step.Otherwise = append(append(step.Otherwise, step.Transfers...), p.loss(left))
	}
	step.Transfers = append(step.Transfers, p.back(left, kind))
	return step
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
