package payments

import (
	"time"

	"sluice/schemas/events"
)

// CodeEarly answers an event that came before what it builds on: it is kept, and applied with the event it waits for.
const CodeEarly = "awaits_payment"

const (
	// MaxEarly bounds the events that wait for one payment; more are answered for good.
	MaxEarly = 16
	// EarlyLife is how long an event waits, from its own time: channels mix up seconds, and their batches hours.
	EarlyLife = 24 * time.Hour
	// EarlyListed is how long after that an event is listed as stuck, by its shard's clock; then it is given up.
	EarlyListed = 7 * 24 * time.Hour
)

// GivenUp is the final answer to an early event that is given up: what it would have been, had nothing been waited for. known says
// whether the payment itself came.
func GivenUp(kind events.Kind, known bool) string {
	switch {
	case !known:
		return CodeUnknown
	case kind == events.PaymentEvidenceSubmitted, kind == events.PaymentDisputeDecided:
		return CodeNoDispute
	case kind == events.PaymentRepresented:
		return CodeNotChargedBack
	}
	return CodeNotPosted
}

// Early says whether an event that was answered with code would be answered otherwise had it come later in the payment's life. p is
// the payment then, nil if it is unknown.
func Early(p *Payment, code string) bool {
	switch code {
	case CodeUnknown:
		return true
	case CodeNotPosted: // a settlement, refund, charge-back or dispute before the capture
		return p.Status == Authorized
	case CodeNoDispute:
		return p.Dispute == nil && p.goesOn()
	case CodeNotChargedBack:
		return p.Represented == 0 && p.Dispute == nil && p.goesOn()
	}
	return false
}

// goesOn says whether there is money of the payment to contest, or there will be once it is captured.
func (p *Payment) goesOn() bool { return p.Left() > 0 || p.Status == Authorized }
