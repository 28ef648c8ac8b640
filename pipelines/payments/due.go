package payments

import (
	"time"

	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// day is 24 hours: limits are lengths of time, not days of a calendar.
const day = 24 * time.Hour

// Limit is how long a payment may stand in a status before somebody should look at it.
type Limit struct {
	Status  Status
	Purpose eventsv1.PaymentPurpose // unspecified: any
	Wait    time.Duration           // from the event that brought the status about
}

// Limits are tried from the top; the first that fits counts, and none means that a payment in that status waits for nothing.
// Not in the list: an authorization waits until its hold runs out, an open dispute until its respond_by.
var Limits = []Limit{
	{Status: InReview, Wait: day},
	{Status: Posted, Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT, Wait: 3 * day},     // for the bank
	{Status: Posted, Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL, Wait: 3 * day}, // for the bank
	{Status: Posted, Wait: 7 * day},    // for the channel to settle
	{Status: Disputed, Wait: 60 * day}, // evidence was submitted: for the decision
}

// due is by when something has to happen to the payment; before is the payment before the event, nil if it is new.
func (p *Payment) due(before *Payment) time.Time {
	dispute := p.Dispute.open()
	if before != nil && before.Status == p.Status && before.Channel == p.Channel && !dispute {
		return before.DueAt
	}
	pays, paid := p.cleared()
	switch {
	case p.Status == Authorized:
		return p.holdUntil()
	case dispute && p.Dispute.State == DisputeOpen:
		return p.Dispute.RespondBy
	case dispute && before != nil && before.Dispute.open() && before.Dispute.State == p.Dispute.State:
		return before.DueAt
	case p.Status == Posted && (events.HouseOwn(p.Purpose) || !pays && !paid): // no channel has anything to settle
		return time.Time{}
	}
	for _, l := range Limits {
		if l.Status == p.Status && (l.Purpose == p.Purpose || l.Purpose == eventsv1.PaymentPurpose_PAYMENT_PURPOSE_UNSPECIFIED) {
			return p.ChangedAt.Add(l.Wait)
		}
	}
	return time.Time{}
}
