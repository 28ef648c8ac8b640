package payments

import (
	"cmp"

	"sluice/pipelines/ledger"
)

// reroute lets another payment channel carry the payment: what is left of it is owed by, or to, that one, and what is held is
// held there, until the time that was granted at first. It comes before settlement.
func (c *plan) reroute() Step {
	p, e := c.p, &c.d.Event
	pays, paid := p.cleared()
	switch {
	case held(c.d.Verdict) != "":
		return Step{Code: held(c.d.Verdict)}
	case p.Status == Settled:
		return Step{Code: CodeSettled}
	case p.Status == Disputed:
		return Step{Code: CodeDisputed}
	case e.PaymentChannel == p.Channel, !pays && !paid, p.Status != Posted && p.Status != Authorized && p.Status != InReview:
		return Step{Code: CodeIgnored}
	}
	next := p.next(c.d, p.Status)
	next.Channel, next.Route = e.PaymentChannel, cmp.Or(e.Reason, "rerouted")
	var transfers []ledger.Transfer
	if p.Held > 0 {
		next.Holds++
		transfers = append(p.release(), next.holds()...)
	}
	step := Step{Next: next, Done: CodeRerouted}
	if left := p.Left(); left > 0 {
		if moved := c.transfers(OnReroute, next, left); len(moved) > 0 {
			transfers, step.Done = append(transfers, moved...), ""
		}
	}
	if step.Transfers = transfers; len(transfers) == 0 {
		return Step{Code: CodeRecorded, Next: next}
	}
	return step
}
