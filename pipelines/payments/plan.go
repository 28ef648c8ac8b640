package payments

import (
	"math"
	"strings"

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
	CodeSettled   = "payment_settled"        // too late for a void or another channel; refund it
	CodeExceeds   = "refund_exceeds_payment" // more than is left of the payment, or of the share named

	CodeAuthorized  = "authorized"                    // money is held, none moved
	CodeReleased    = "released"                      // what was held is free again, no money moved
	CodeExpired     = "authorization_expired"         // what was held has been released: it was not captured in time
	CodeExceedsHold = "capture_exceeds_authorization" // more than is still held, or held of the share named

	CodeOtherChannel = "payment_of_another_channel" // another payment channel carries the payment
	CodeNotTheHouse  = "not_the_house"              // only the house's own settlement asks for such payments, or names them so
	CodeNoShare      = "merchant_without_share"     // the merchant named has no share of the payment
	CodeRerouted     = "rerouted"                   // what is held is held on the new channel, no money moved
	CodeByCardOnly   = "authorization_by_card_only" // no other payment begins with its authorization: initiate it

	CodeDisputed       = "payment_disputed"     // not while a dispute is open
	CodeNotDisputable  = "dispute_not_possible" // a payment of this purpose cannot be disputed
	CodeNoDispute      = "no_open_dispute"      // none was opened, or it has been decided
	CodeEvidenceLate   = "evidence_late"        // after the dispute's respond_by
	CodeNotChargedBack = "nothing_charged_back" // there is no charge-back to contest
)

// Funds is what an account can still be debited with, in minor units: math.MaxInt64 where it may go below zero, and where the
// caller only wants to know which accounts a plan may name.
type Funds func(ledger.AccountKey) int64

// Step is what one decision does to a payment.
type Step struct {
	// Code is Plan's own answer; "" means that the book's answer to Transfers is the answer.
	Code string
	// Done is the answer if the book takes Transfers that move no money: they hold it or let it go. "": posted.
	Done string
	// Transfers stand or fall together.
	Transfers []ledger.Transfer
	// Otherwise is posted instead if the book refuses Transfers: a charge-back or a failure is a fact that the book has to show,
	// whatever else is linked to it and whoever ends up paying. Nil where there is no other way.
	Otherwise []ledger.Transfer
	// Next is the payment once the transfers stand, or at once where there are none. Nil: as it was.
	Next *Payment
	// Instead is Next if Otherwise stands.
	Instead *Payment
	// Refused is the payment if the book refuses; Refused.Code is for the caller to fill. Nil: as it was.
	Refused *Payment
}

// Post brings a step into the book by apply, and returns its answer and the payment then, nil if it is as it was.
func (s Step) Post(apply func([]ledger.Transfer) ledger.Code) (code string, next *Payment) {
	if s.Code != "" {
		return s.Code, s.Next
	}
	next = s.Next
	got := apply(s.Transfers)
	if got != ledger.OK && s.Otherwise != nil {
		if got, next = apply(s.Otherwise), s.Instead; got == ledger.OK {
			return plainly(s.Otherwise), next
		}
	}
	switch {
	case got != ledger.OK:
		if next = s.Refused; next != nil {
			next.Code = got.String()
		}
	case s.Done != "":
		return s.Done, next
	}
	return got.String(), next
}

// plainly is the answer to a fact with the transfers it has by itself.
func plainly(all []ledger.Transfer) string {
	code := CodeRecorded
	for i := range all {
		if all[i].Action != ledger.Void {
			return ledger.OK.String()
		}
		code = CodeReleased
	}
	return code
}

// plan is a decision on a payment event, and what planning it needs to know.
type plan struct {
	d     *events.Decision
	p     *Payment // so far; never changed
	post  Postings
	funds Funds
}

// Plan says what a decision on a payment event does. p is the payment so far, nil if it is unknown; it is not changed.
// shard stripes the platform's accounts of a new payment; later events keep to the stripe of the first. funds is asked about
// the accounts of payees, and of those who give them something back as far as they have it.
func Plan(d *events.Decision, shard int32, p *Payment, post Postings, funds Funds) Step {
	c := plan{d, p.By(post), post, funds}
	step := c.step(shard)
	for _, next := range [...]*Payment{step.Next, step.Instead, step.Refused} {
		if next != nil {
			next.DueAt = next.due(p)
			next.accounts = nil
		}
	}
	return step
}

func (c *plan) step(shard int32) Step {
	e, p := &c.d.Event, c.p
	begins := e.Kind == events.PaymentInitiated || e.Kind == events.PaymentAuthorized && p == nil && e.Method == eventsv1.PaymentMethod_PAYMENT_METHOD_CARD
	switch {
	case c.d.Verdict == events.Duplicate:
		return Step{Code: CodeDuplicate}
	case e.Kind == events.PaymentInitiated && p != nil:
		return Step{Code: CodeExists}
	case e.Kind.Family() != events.Payment:
		return Step{Code: CodeIgnored}
	case begins && (events.HouseOwn(e.Purpose) || strings.HasPrefix(e.PaymentID, HousePayment)) && !strings.HasPrefix(e.Source, HouseSource):
		return Step{Code: CodeNotTheHouse}
	case begins:
		return c.begin(shard)
	case p == nil && e.Kind == events.PaymentAuthorized:
		return Step{Code: CodeByCardOnly}
	case p == nil:
		return Step{Code: CodeUnknown}
	case p.Customer != e.CustomerID:
		return Step{Code: CodeOfAnother}
	case p.Currency != e.Currency:
		return Step{Code: CodeCurrency}
	case events.HouseOwn(p.Purpose) && !strings.HasPrefix(e.Source, HouseSource):
		return Step{Code: CodeNotTheHouse}
	case e.Kind != events.PaymentRerouted && e.PaymentChannel != "" && p.Channel != "" && e.PaymentChannel != p.Channel:
		return Step{Code: CodeOtherChannel}
	}
	return c.live()
}

// begin is the first event of a payment. One that begins with its authorization is in two steps: its money is held until
// captures post it. An authorization that no rule was asked about (observed) holds too: the issuer has agreed, and what a
// capture moves can be given back. Of what is the house's own, no rule is asked.
func (c *plan) begin(shard int32) Step {
	p := begun(c.d, shard).By(c.post)
	c.p = p
	passes := c.d.Verdict == events.Approve ||
		c.d.Verdict == events.Observed && (c.d.Event.Kind == events.PaymentAuthorized || events.HouseOwn(p.Purpose))
	switch {
	case !passes:
		return p.stopped(c.d.Verdict)
	case c.d.Event.Kind == events.PaymentAuthorized:
		return c.authorize()
	}
	return c.move()
}

// begun is a payment at its first event.
func begun(d *events.Decision, shard int32) *Payment {
	e := &d.Event
	p := &Payment{
		ID: e.PaymentID, Customer: e.CustomerID, Account: e.AccountID, Counterparty: e.CounterpartyID, Merchant: e.MerchantID,
		Method: e.Method, Purpose: e.Purpose, Currency: e.Currency, Amount: e.Amount, Shard: shard,
		InitiatedAt: e.Time, ChangedAt: e.Time, Channel: e.PaymentChannel,
	}
	if p.Channel == "" {
		p.Channel, p.Route = d.Route.Channel, d.Route.Reason
	}
	for _, s := range e.Splits {
		p.Shares = append(p.Shares, Share{Merchant: s.MerchantID, Amount: s.Amount})
	}
	if x := e.Exchange; x.Currency != 0 {
		p.Exchange = &Exchange{Currency: x.Currency.Code(), Amount: x.Amount, Rate: x.Rate}
	}
	return p
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

// authorize holds all of a payment.
func (c *plan) authorize() Step {
	refused, next := c.p.clone(), c.p.clone()
	refused.Status = Rejected
	next.Status, next.Authorized, next.Held = Authorized, c.p.Amount, c.p.Amount
	return Step{Transfers: next.holds(), Done: CodeAuthorized, Next: next, Refused: refused}
}

// move posts a payment at once: from its source to whom it is for, and what is linked to that.
func (c *plan) move() Step {
	refused, next := c.p, c.p.clone()
	next.Status, next.Captured = Posted, c.p.Amount
	for i := range next.Shares {
		next.Shares[i].Captured = next.Shares[i].Amount
	}
	step := Step{Transfers: c.transfers(OnMove, next, c.p.Amount), Next: next, Refused: refused}
	refused.Status = Rejected
	return step
}

// transfers are those of a moment that makes the payment next.
func (c *plan) transfers(m Moment, next *Payment, amount int64) []ledger.Transfer {
	return c.post.Transfers(&Occasion{m, &c.d.Event, c.d.Tier, c.p, next, amount})
}

// live says what a later event does to a payment.
func (c *plan) live() Step {
	switch c.d.Event.Kind {
	case events.PaymentSettled:
		return c.settle()
	case events.PaymentRefunded:
		return c.refund()
	case events.PaymentChargedBack:
		return c.chargeBack()
	case events.PaymentVoided:
		return c.void()
	case events.PaymentFailed:
		return c.fail()
	case events.PaymentRerouted:
		return c.reroute()
	case events.PaymentDisputed:
		return c.dispute()
	case events.PaymentEvidenceSubmitted:
		return c.evidence()
	case events.PaymentDisputeDecided:
		return c.decideDispute()
	case events.PaymentRepresented:
		return c.represent()
	case events.PaymentCaptured:
		if c.p.Authorized > 0 {
			return c.capture()
		}
	}
	return Step{Code: CodeIgnored} // authorized, captured: the money moved when the payment was initiated
}

// capture moves what was held, or a part of it; the rest stays held for further captures. The fee is that of all that
// has been captured, so that captures in parts cost what one costs.
func (c *plan) capture() Step {
	p, amount, open := c.p, c.d.Event.Amount, c.p.open()
	parts, known := p.spread(&c.d.Event, amount, open)
	switch {
	case held(c.d.Verdict) != "":
		return Step{Code: held(c.d.Verdict)}
	case p.Status == Expired:
		return Step{Code: CodeExpired}
	case p.Status == Voided || p.Status == Failed:
		return Step{Code: CodeIgnored}
	case !known:
		return Step{Code: CodeNoShare}
	case amount > p.Held || exceed(parts, open):
		return Step{Code: CodeExceedsHold}
	}
	next := p.next(c.d, Authorized)
	next.Captured += amount
	next.Held -= amount
	for i := range next.Shares {
		next.Shares[i].Captured += parts[i]
	}
	next.Status = next.standing()
	transfers := c.transfers(OnMove, next, amount)
	p.fromHolds(transfers)
	return Step{Transfers: transfers, Next: next}
}

// settle notes that the channel has settled the payment. What was not captured before never will be. While a dispute is open,
// and after a charge-back, the payment's status says so; that it was settled is kept beside it.
func (c *plan) settle() Step {
	p := c.p
	if p.Captured == 0 {
		return Step{Code: CodeNotPosted}
	}
	next := p.next(c.d, p.Status)
	switch {
	case (p.Status == Disputed || p.Status == ChargedBack) && !p.Settled:
		next.Settled = true
	case p.Status == Posted || p.Status == Authorized:
		next.Status, next.Held = Settled, 0
	default:
		return Step{Code: CodeIgnored}
	}
	linked := c.transfers(OnSettle, next, p.Left())
	switch {
	case len(linked) > 0:
		return Step{Transfers: append(p.release(), linked...), Next: next}
	case p.Held == 0:
		return Step{Code: CodeRecorded, Next: next}
	}
	return Step{Transfers: p.release(), Done: CodeReleased, Next: next}
}

// refund gives part or all of a payment back the way it came. The house keeps its fee, so the merchant bears it.
func (c *plan) refund() Step {
	p, amount, left := c.p, c.d.Event.Amount, c.p.lefts()
	parts, known := p.spread(&c.d.Event, amount, left)
	switch {
	case held(c.d.Verdict) != "":
		return Step{Code: held(c.d.Verdict)}
	case p.Captured == 0:
		return Step{Code: CodeNotPosted}
	case p.Status == Disputed:
		return Step{Code: CodeDisputed}
	case !known:
		return Step{Code: CodeNoShare}
	case amount > p.Left() || exceed(parts, left):
		return Step{Code: CodeExceeds}
	}
	next := p.next(c.d, p.Status)
	next.Refunded += amount
	for i := range next.Shares {
		next.Shares[i].Back += parts[i]
	}
	if next.Left() == 0 && next.Held == 0 {
		next.Status = Refunded
	}
	return Step{Transfers: c.transfers(OnRefund, next, amount), Next: next}
}

// chargeBack takes back what is left of a payment, at most the event's amount: what has been refunded cannot be taken
// twice. The payee pays as far as he has it, the house the rest out of suspense. Whatever the gate says, it has happened. An open dispute
// ends with it.
func (c *plan) chargeBack() Step {
	p, left := c.p, c.p.lefts()
	parts, known := p.spread(&c.d.Event, min(c.d.Event.Amount, p.Left()), left)
	switch {
	case p.Captured == 0:
		return Step{Code: CodeNotPosted}
	case !known:
		return Step{Code: CodeNoShare}
	case within(parts, left) == 0:
		return Step{Code: CodeExceeds}
	}
	return c.takeBack(OnChargeBack, ChargedBack, parts)
}

// void ends a payment as if it had never been: what is left goes back, and so does the fee. It is asked for, so it needs a
// verdict and the payee's funds, and comes before settlement. While money is held, it releases what is held and leaves what was
// captured alone.
func (c *plan) void() Step {
	p := c.p
	switch {
	case held(c.d.Verdict) != "":
		return Step{Code: held(c.d.Verdict)}
	case p.Status == Voided || p.Status == Failed:
		return Step{Code: CodeIgnored}
	case p.Held > 0:
		return c.letGo(Voided)
	case p.Captured == 0:
		return Step{Code: CodeRecorded, Next: p.next(c.d, Voided)}
	case p.Status == Disputed:
		return Step{Code: CodeDisputed}
	case p.Status == Settled || p.Settled:
		return Step{Code: CodeSettled}
	case p.Left() == 0:
		return Step{Code: CodeExceeds}
	}
	next := p.back(c.d, Voided, p.lefts(), nil)
	return Step{Transfers: c.transfers(OnVoid, next, p.Left()), Next: next}
}

// fail ends a payment that the channel could not carry out, as a void does. It has happened: the verdict does not count, nor
// whether it was settled, and what the payee does not have of it, the house pays.
func (c *plan) fail() Step {
	p := c.p
	switch {
	case p.Status == Voided || p.Status == Failed:
		return Step{Code: CodeIgnored}
	case p.Held > 0 && p.Left() == 0: // nothing captured, or all of it was given back: only the hold is left to end
		return c.letGo(Failed)
	case p.Captured == 0:
		return Step{Code: CodeRecorded, Next: p.next(c.d, Failed)}
	case p.Left() == 0:
		return Step{Code: CodeExceeds}
	}
	return c.takeBack(OnFailure, Failed, p.lefts())
}

// letGo ends a payment's hold: as if it had never been where nothing was captured, with what was captured otherwise.
func (c *plan) letGo(status Status) Step {
	p := c.p
	next := p.next(c.d, status)
	if p.Captured > 0 {
		next = p.expire(c.d.Event.Time)
	}
	next.Held = 0
	return Step{Transfers: p.release(), Done: CodeReleased, Next: next}
}

// takeBack gives parts of the shares back to the payer, as a fact: out of what a dispute keeps, then from the payee as far as he
// has it, and the rest at the cost of the house. Whoever takes back what was captured gets no more of it, so holds end. Should the
// book refuse what is linked to that, the house pays all that no dispute kept and nothing is linked.
func (c *plan) takeBack(m Moment, status Status, parts []int64) Step {
	p, amount := c.p, total(parts)
	next := p.back(c.d, status, parts, nil)
	transfers := c.transfers(m, next, amount)
	if lost := c.lacks(transfers, parts); lost != nil {
		next = p.back(c.d, status, parts, lost)
		transfers = c.transfers(m, next, amount)
	}
	all := make([]int64, len(parts))
	for i, s := range p.shares() {
		all[i] = parts[i] - min(parts[i], s.Frozen)
	}
	instead := p.back(c.d, status, parts, all)
	plain := Main(&Occasion{m, &c.d.Event, c.d.Tier, p, instead, amount})
	return Step{
		Transfers: append(p.release(), transfers...), Next: next,
		Otherwise: append(p.release(), plain...), Instead: instead,
	}
}

// lacks is what of the shares' parts their payees cannot pay, in minor units of the payer, nil if they can pay all of it. The
// transfers ask them for all of it; what comes to a payee before that is his to pay with.
func (c *plan) lacks(transfers []ledger.Transfer, parts []int64) (lost []int64) {
	moved := make(map[ledger.AccountKey]int64, len(transfers))
	shares, asked := c.p.shares(), make([]bool, len(parts))
	for i := range transfers {
		t := &transfers[i]
		amount, j := t.Amount, c.owes(t, shares, parts, asked)
		if j >= 0 || t.Balancing != 0 { // a balancing one takes what there is
			amount = min(amount, c.has(t.Debit, moved))
		}
		if j >= 0 {
			asked[j] = true
		}
		if j >= 0 && amount < t.Amount {
			paid, claim := unkept(&shares[j], parts[j])
			can := c.p.slice(paid, claim, amount)
			amount = c.p.PayeeAmount(paid) - c.p.PayeeAmount(paid-can)
			if lost == nil {
				lost = make([]int64, len(parts))
			}
			lost[j] = claim - can
		}
		moved[t.Debit] -= amount
		moved[t.Credit] += amount
	}
	return lost
}

// owes is the share whose payee a transfer asks for what no dispute has kept of the share's part, -1 if it is another transfer.
func (c *plan) owes(t *ledger.Transfer, shares []Share, parts []int64, asked []bool) int {
	for j := range shares {
		paid, claim := unkept(&shares[j], parts[j])
		if !asked[j] && t.Balancing == 0 && t.Debit == c.p.to(shares[j].Merchant) && t.Amount == c.p.PayeeAmount(paid)-c.p.PayeeAmount(paid-claim) {
			return j
		}
	}
	return -1
}

// has is what an account can be debited with once amounts have moved; math.MaxInt64 where it may go below zero.
func (c *plan) has(key ledger.AccountKey, moved map[ledger.AccountKey]int64) int64 {
	funds := c.funds(key)
	if funds == math.MaxInt64 {
		return funds
	}
	return max(0, funds+moved[key])
}

// unkept is what of a part no open dispute keeps, and what of the share is paid once that which is kept went back. Minor units of
// the payer.
func unkept(s *Share, part int64) (paid, claim int64) {
	kept := min(part, s.Frozen)
	return s.paid() - kept, part - kept
}

// back is the payment once parts of its shares went back to the payer: charged back, or reversed for the other statuses. An open
// dispute ends. What of each part is lost the house pays; losses may be nil.
func (p *Payment) back(d *events.Decision, status Status, parts, losses []int64) *Payment {
	next := p.next(d, status)
	next.Held = 0
	for i := range parts {
		lost := int64(0)
		if losses != nil {
			lost = losses[i]
		}
		next.Lost += lost
		if status == ChargedBack {
			next.ChargedBack += parts[i]
		} else {
			next.Reversed += parts[i]
		}
		if len(next.Shares) == 0 {
			break
		}
		share := &next.Shares[i]
		share.Back += parts[i]
		share.Lost += lost
		if status == ChargedBack {
			share.ChargedBack += parts[i]
		}
	}
	next.endDispute(DisputeLost)
	return next
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

// next is the payment for an event to change.
func (p *Payment) next(d *events.Decision, s Status) *Payment {
	next := p.clone()
	next.ChangedAt = d.Event.Time
	if p.Status == Settled && (s == Disputed || s == ChargedBack) {
		next.Settled = true
	}
	next.Status = s
	return next
}

// clone is a copy that shares nothing that is changed in place.
func (p *Payment) clone() *Payment {
	next := *p
	if len(p.Shares) > 0 {
		next.Shares = append([]Share(nil), p.Shares...)
	}
	if p.Dispute != nil {
		d := *p.Dispute
		next.Dispute = &d
	}
	return &next
}

// standing is the status that the payment's amounts make, where nothing else was decided about it.
func (p *Payment) standing() Status {
	switch {
	case p.Status == Voided || p.Status == Failed:
		return p.Status
	case p.Held > 0:
		return Authorized
	case p.Captured == 0:
		return Expired
	case p.ChargedBack > 0:
		return ChargedBack
	case p.Left() == 0:
		return Refunded
	case p.Settled:
		return Settled
	}
	return Posted
}
