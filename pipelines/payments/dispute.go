package payments

import (
	"sluice/pipelines/ledger"
	eventsv1 "sluice/schemas/events/v1"
)

// The states of a dispute.
const (
	DisputeOpen     = "open"     // evidence is waited for
	DisputeEvidence = "evidence" // it was submitted; the decision is waited for
	DisputeWon      = "won"      // for the payee
	DisputeLost     = "lost"     // for the payer; also by a charge-back or a failure of the payment meanwhile
)

// open says whether the dispute is not yet decided.
func (d *Dispute) open() bool {
	return d != nil && (d.State == DisputeOpen || d.State == DisputeEvidence)
}

// dispute opens a dispute: of what is left, up to the event's amount, what the payee has is kept until it is decided. What he does
// not have is not kept; a payment in two currencies is kept whole or not at all. Whatever the gate says, it has happened.
func (c *plan) dispute() Step {
	p, e, left := c.p, &c.d.Event, c.p.lefts()
	parts, known := p.spread(e, min(e.Amount, p.Left()), left)
	_, can := p.kept(p.Merchant)
	switch {
	case p.Status == Disputed:
		return Step{Code: CodeDisputed}
	case p.Captured == 0:
		return Step{Code: CodeNotPosted}
	case !can:
		return Step{Code: CodeNotDisputable}
	case !known:
		return Step{Code: CodeNoShare}
	case within(parts, left) == 0:
		return Step{Code: CodeExceeds}
	}
	frozen := make([]int64, len(parts))
	for i, s := range p.shares() {
		frozen[i] = c.frozen(s.Merchant, parts[i], s.paid())
	}
	opened := func() *Payment {
		next := p.next(c.d, Disputed)
		next.Held = 0
		next.Dispute = &Dispute{State: DisputeOpen, Amount: total(parts), Frozen: total(frozen), Reason: e.Reason, OpenedAt: e.Time, RespondBy: e.RespondBy}
		for i := range next.Shares {
			next.Shares[i].Claimed, next.Shares[i].Frozen = parts[i], frozen[i]
		}
		return next
	}
	next, instead := opened(), opened()
	amount := total(parts)
	step := Step{Transfers: append(p.release(), c.transfers(OnDispute, next, amount)...), Next: next}
	if len(step.Transfers) == 0 {
		return Step{Code: CodeRecorded, Next: next}
	}
	if total(frozen) == 0 && p.Held > 0 && len(step.Transfers) == len(p.release()) {
		step.Done = CodeReleased
	}
	step.Otherwise = append(append([]ledger.Transfer{}, p.release()...), Main(&Occasion{OnDispute, e, c.d.Tier, p, instead, amount})...)
	step.Instead = instead
	return step
}

// frozen is how much of a claim on a share is kept: what the payee has of it.
func (c *plan) frozen(merchant string, claim, paid int64) int64 {
	p := c.p
	if claim == 0 {
		return 0
	}
	has := max(0, c.funds(p.to(merchant)))
	if p.Exchange == nil {
		return min(claim, has)
	}
	if has < p.PayeeAmount(paid)-p.PayeeAmount(paid-claim) {
		return 0
	}
	return claim
}

// evidence notes where the evidence for the payee is kept. It counts until the moment it was due by.
func (c *plan) evidence() Step {
	p, e := c.p, &c.d.Event
	switch {
	case !p.Dispute.open():
		return Step{Code: CodeNoDispute}
	case e.Time.After(p.Dispute.RespondBy):
		return Step{Code: CodeEvidenceLate}
	}
	next := p.next(c.d, p.Status)
	next.Dispute.State, next.Dispute.Evidence = DisputeEvidence, e.Evidence
	return Step{Code: CodeRecorded, Next: next}
}

// decideDispute ends a dispute: what was kept is the payee's again, or all that was claimed goes to the payer.
func (c *plan) decideDispute() Step {
	p := c.p
	if !p.Dispute.open() {
		return Step{Code: CodeNoDispute}
	}
	shares := p.shares()
	if c.d.Event.Outcome == eventsv1.DisputeOutcome_DISPUTE_OUTCOME_LOST {
		claims := make([]int64, len(shares))
		for i := range shares {
			claims[i] = shares[i].Claimed
		}
		return c.takeBack(OnDisputeLost, ChargedBack, claims)
	}
	next := p.next(c.d, p.Status)
	next.endDispute(DisputeWon)
	next.Status = next.standing()
	if next.Status == Settled {
		next.Settled = false
	}
	if transfers := c.transfers(OnDisputeWon, next, p.Dispute.Amount); len(transfers) > 0 {
		return Step{Transfers: transfers, Next: next}
	}
	return Step{Code: CodeRecorded, Next: next}
}

// endDispute ends the open dispute, if there is one: nothing is kept for it any longer.
func (p *Payment) endDispute(state string) {
	if !p.Dispute.open() {
		return
	}
	p.Dispute.State, p.Dispute.Frozen = state, 0
	for i := range p.Shares {
		p.Shares[i].Claimed, p.Shares[i].Frozen = 0, 0
	}
}

// represent takes what was charged back from the payer again, up to the event's amount: the charge-back was contested with success.
// What the house had paid it gets back first; the rest is the payee's. It may be charged back again.
func (c *plan) represent() Step {
	p := c.p
	shares := p.shares()
	charged := make([]int64, len(shares))
	for i := range shares {
		charged[i] = shares[i].ChargedBack
	}
	parts, known := p.spread(&c.d.Event, min(c.d.Event.Amount, p.ChargedBack), charged)
	switch {
	case p.Status == Disputed:
		return Step{Code: CodeDisputed}
	case p.Status == Voided || p.Status == Failed:
		return Step{Code: CodeIgnored}
	case !known:
		return Step{Code: CodeNoShare}
	case within(parts, charged) == 0:
		return Step{Code: CodeNotChargedBack}
	}
	next, amount := p.next(c.d, p.Status), total(parts)
	next.ChargedBack -= amount
	next.Represented += amount
	for i := range shares {
		recovered := min(parts[i], shares[i].Lost)
		next.Lost -= recovered
		if len(next.Shares) > 0 {
			s := &next.Shares[i]
			s.Back, s.ChargedBack, s.Lost = s.Back-parts[i], s.ChargedBack-parts[i], s.Lost-recovered
		}
	}
	next.Status = next.standing()
	if next.Status == Settled {
		next.Settled = false
	}
	return Step{Transfers: c.transfers(OnRepresent, next, amount), Next: next}
}

// Kept is what the open dispute keeps on which accounts, in minor units of their currency; nothing where none is open.
func (p *Payment) Kept() map[ledger.AccountKey]int64 {
	kept := map[ledger.AccountKey]int64{}
	if !p.Dispute.open() {
		return kept
	}
	for _, s := range p.shares() {
		if key, can := p.kept(s.Merchant); can && s.Frozen > 0 {
			kept[key] += p.PayeeAmount(s.paid()) - p.PayeeAmount(s.paid()-s.Frozen)
		}
	}
	return kept
}
