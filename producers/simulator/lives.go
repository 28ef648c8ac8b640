package simulator

import (
	"strconv"
	"time"

	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// How payments go on, of a thousand. What happens on a later day is found by planning the earlier day again, so that
// nothing is remembered from day to day.
const (
	inTwoSteps   = 350 // of card purchases: authorized, captured, settled
	leftOpen     = 20  // of those: neither captured nor voided; the hold runs out
	voidedHold   = 50  // voided before anything was captured
	inParts      = 100 // captured in two parts
	lessThanHeld = 50  // captured for less than was authorized
	voidedToday  = 15  // of purchases by card or quick pay in one step: voided before they are settled
	sentBack     = 10  // of withdrawals: the bank cannot carry them out
	represented  = 100 // of charge-backs: contested, with success
)

// Disputes: of customers and days, in a hundred thousand, and when their steps come, in days.
const (
	disputesADay   = 60
	disputable     = 20 // how long after a purchase it is disputed, at most
	respondWithin  = 10 // of the opening, evidence has to be submitted
	latestEvidence = 6
	decidedFirst   = 11 // after the time for evidence
	decidedLast    = 16
	representAfter = 6 // a charge-back
)

// fate is how a payment goes on once it has begun.
type fate uint8

const (
	settles fate = iota
	settlesLess
	settlesParts
	staysOpen
	isVoided
	isSentBack
)

// fateOf is a pure function of the payment. Wallet payments have none: the house settles them at once.
func (s *Simulation) fateOf(a *act, day int) fate {
	x := int(hash(s.config.Seed, ofLife, day<<20|int(a.number), int(a.who)) >> 20 % 1000)
	switch {
	case a.script >= 0: // a fraud's payments are carried as any
	case a.kind == events.PaymentAuthorized && x < leftOpen:
		return staysOpen
	case a.kind == events.PaymentAuthorized && x < leftOpen+voidedHold:
		return isVoided
	case a.kind == events.PaymentAuthorized && x < leftOpen+voidedHold+inParts && a.amount > 1:
		return settlesParts
	case a.kind == events.PaymentAuthorized && x < leftOpen+voidedHold+inParts+lessThanHeld && a.amount > 1:
		return settlesLess
	case a.kind == events.PaymentInitiated && a.purpose == purchase && x < voidedToday:
		return isVoided
	case a.purpose == withdrawal && x < sentBack:
		return isSentBack
	}
	return settles
}

// firstKind is the first event of a customer's purchase: an authorization for some by card.
func (s *Simulation) firstKind(a *act, day int) events.Kind {
	if a.method == byCard && hash(s.config.Seed, ofLife, day<<20|int(a.number), int(a.who))%1000 < inTwoSteps {
		return events.PaymentAuthorized
	}
	return events.PaymentInitiated
}

// captured is what of an authorized or initiated payment moves in the end.
func (f fate) captured(amount int64) int64 {
	switch f {
	case staysOpen, isVoided, isSentBack:
		return 0
	case settlesLess:
		return (amount*4 + 4) / 5
	}
	return amount
}

// carried says whether a payment channel carries it: a first event, and not between wallets.
func (a *act) carried() bool {
	return (a.kind == events.PaymentInitiated || a.kind == events.PaymentAuthorized) && a.method != wallet
}

// later plans an event of a payment that began on a day, sent by its channel rather than from a customer's device.
func (p *planner) later(of *act, day int, kind events.Kind, at, amount int64) *act {
	a := *of
	a.kind, a.at, a.amount, a.number = kind, min(at, whole-1), amount, p.number
	a.script = int32(p.lifeScript)
	a.ofDay, a.ofScript, a.ofNumber = int32(day)+1, of.script, of.number
	a.device, a.session, a.label = 0, 0, honest
	p.number++
	p.acts = append(p.acts, a)
	return &p.acts[len(p.acts)-1]
}

// today goes on with the payments that a customer has begun today, which are the acts from first on: captures, and voids
// before the channel settles.
func (p *planner) today(first int) {
	for _, of := range p.acts[first:len(p.acts):len(p.acts)] {
		if !of.carried() {
			continue
		}
		wait := minute + int64(hash(p.sim.config.Seed, ofLife, p.day<<20|int(of.number), ^int(of.who))%uint64(2*hour))
		f := p.sim.fateOf(&of, p.day)
		switch {
		case f == isVoided:
			p.later(&of, p.day, events.PaymentVoided, of.at+wait, of.amount)
		case of.kind != events.PaymentAuthorized || f == staysOpen:
		case f == settlesParts:
			part := (of.amount*3 + 4) / 5
			p.later(&of, p.day, events.PaymentCaptured, of.at+wait, part)
			p.later(&of, p.day, events.PaymentCaptured, of.at+2*wait, of.amount-part)
		default:
			p.later(&of, p.day, events.PaymentCaptured, of.at+wait, f.captured(of.amount))
		}
	}
}

// yesterday settles what a customer has begun the day before.
func (p *planner) yesterday(past *planner, who int) {
	past.acts = past.acts[:0]
	past.begun(who)
	for i := range past.acts {
		if of := &past.acts[i]; of.carried() {
			p.settle(of, past.day)
		}
	}
}

// settle plans the channel's word on a payment of the day before: settled, or sent back.
func (p *planner) settle(of *act, day int) {
	at := hour/2 + int64(hash(p.sim.config.Seed, ofLife, day<<20|int(of.number), int(of.who))>>32%uint64(4*hour))
	switch f := p.sim.fateOf(of, day); f {
	case isVoided, staysOpen:
	case isSentBack:
		p.later(of, day, events.PaymentFailed, at, of.amount)
	default:
		p.later(of, day, events.PaymentSettled, at, f.captured(of.amount))
	}
}

// past are the payments of an earlier day that a customer may want money back of, with what was captured of each.
func (p *planner) past(who, day int) []act {
	past := planner{sim: p.sim, day: day, dice: newDice()}
	past.routine(who)
	purchases := past.acts[:0]
	for _, a := range past.acts {
		if a.purpose != purchase || a.kind != events.PaymentInitiated && a.kind != events.PaymentAuthorized {
			continue
		}
		if a.carried() {
			a.amount = p.sim.fateOf(&a, day).captured(a.amount)
		}
		if a.amount > 0 {
			purchases = append(purchases, a)
		}
	}
	return purchases
}

// claim is a dispute of a customer: drawn once from the customer and the day of its opening, so that each later day knows its
// next step.
type claim struct {
	back     int // days from the purchase
	evidence int // days from the opening to the evidence, 0: there is none
	decided  int
	won      bool
	pick     uint64
}

// claimOf is the dispute that a customer opens on a day, false if there is none.
func (s *Simulation) claimOf(who, day int) (claim, bool) {
	h := hash(s.config.Seed, ofDispute, who, day)
	if day < 0 || h%100_000 >= disputesADay {
		return claim{}, false
	}
	h = mix(h)
	c := claim{back: 1 + int(h%disputable), decided: decidedFirst + int(h>>8%(decidedLast-decidedFirst+1)), pick: h >> 40}
	if h>>16%10 < 7 {
		c.evidence = 1 + int(h>>20%latestEvidence)
		c.won = h>>24%10 < 6
	}
	return c, true
}

// dispute plans the steps of a customer's disputes that come today.
func (p *planner) dispute(who int) {
	for since := 0; since <= decidedLast; since++ {
		opened := p.day - since
		c, ok := p.sim.claimOf(who, opened)
		if !ok || since != 0 && since != c.evidence && since != c.decided || opened-c.back < 0 {
			continue
		}
		purchases := p.past(who, opened-c.back)
		for i := len(purchases) - 1; i >= 0; i-- {
			if !purchases[i].carried() { // nobody disputes what was paid from the wallet
				purchases = append(purchases[:i], purchases[i+1:]...)
			}
		}
		if len(purchases) > 0 {
			p.step(&purchases[int(c.pick%uint64(len(purchases)))], &c, opened, since)
		}
	}
}

// step plans one step of a dispute.
func (p *planner) step(of *act, c *claim, opened, since int) {
	kind := events.PaymentDisputed
	switch since {
	case c.evidence:
		if since > 0 {
			kind = events.PaymentEvidenceSubmitted
		}
	case c.decided:
		kind = events.PaymentDisputeDecided
	}
	a := p.later(of, opened-c.back, kind, 9*hour+int64(c.pick%uint64(8*hour)), of.amount)
	a.channel, a.won = viaBank, c.won
}

// lifeOf fills what the later events of a payment say.
func (s *Simulation) lifeOf(e *events.Event, a *act) {
	e.PaymentID = a.earlierPayment()
	switch a.kind {
	case events.PaymentVoided:
		e.Reason = "order_cancelled"
	case events.PaymentRefunded:
		e.Reason = "returned"
	case events.PaymentChargedBack:
		e.Reason = "fraud"
	case events.PaymentFailed:
		e.Reason = "account_closed"
	case events.PaymentDisputed:
		e.Reason, e.RespondBy = "not_received", e.Time.Add(respondWithin*24*time.Hour)
	case events.PaymentEvidenceSubmitted:
		e.Evidence = "file-" + e.PaymentID + "-" + strconv.Itoa(int(a.number))
	case events.PaymentDisputeDecided:
		e.Outcome = eventsv1.DisputeOutcome_DISPUTE_OUTCOME_LOST
		if a.won {
			e.Outcome = eventsv1.DisputeOutcome_DISPUTE_OUTCOME_WON
		}
	}
}
