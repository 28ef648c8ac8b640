package payments

import (
	"strconv"
	"strings"
	"time"

	"sluice/pipelines/ledger"
)

// AuthorizationLife is how long an authorization holds money, from its event's time: what the card schemes grant a
// purchase by default.
const AuthorizationLife = 7 * 24 * time.Hour

// holdMark stands in a hold's id between the payment's and what tells its holds apart. No payment id has it: ids have no
// control characters.
const holdMark = "\x1f"

// HoldID is the id of a payment's hold in the book: the payment's own, for the first share of its first authorization. Further
// shares, and holds made again on another channel (generation 1 and up), have ids that begin with it.
func HoldID(payment string, generation, share int) ledger.ID {
	if generation == 0 && share == 0 {
		return ledger.ID(payment)
	}
	return ledger.ID(payment + holdMark + strconv.Itoa(generation) + "." + strconv.Itoa(share))
}

// HeldBy is the payment whose hold has the id.
func HeldBy(hold ledger.ID) string {
	payment, _, _ := strings.Cut(string(hold), holdMark)
	return payment
}

// HoldIDs are the bounds of the ids of a payment's further holds: above the first, below the second.
func HoldIDs(payment string) (above, below ledger.ID) {
	return ledger.ID(payment + holdMark), ledger.ID(payment + string(holdMark[0]+1))
}

// holdUntil is when the payment's holds run out, if it has any.
func (p *Payment) holdUntil() time.Time { return p.InitiatedAt.Add(AuthorizationLife) }

// open is what of each share is held.
func (p *Payment) open() []int64 {
	shares := p.shares()
	held := make([]int64, len(shares))
	if p.Held == 0 {
		return held
	}
	for i := range shares {
		held[i] = shares[i].Amount - shares[i].Captured
	}
	return held
}

// holds are the transfers that hold what the payment still holds of each share.
func (p *Payment) holds() []ledger.Transfer {
	shares := p.shares()
	var all []ledger.Transfer
	for i, open := range p.open() {
		if open == 0 {
			continue
		}
		t := p.transfer(p.from(), p.sink(shares[i].Merchant), open, PurposeName(p.Purpose))
		t.Action, t.ID, t.Expires = ledger.Hold, HoldID(p.ID, p.Holds, i), p.holdUntil()
		all = append(all, t)
	}
	return all
}

// release is what lets go of what a payment still holds, nothing if it holds nothing.
func (p *Payment) release() []ledger.Transfer {
	all := p.holds()
	for i := range all {
		t := &all[i]
		t.Action, t.Ref, t.ID, t.Amount, t.Expires = ledger.Void, t.ID, "", 0, time.Time{}
	}
	return all
}

// fromHolds makes the transfers that pay the shares' payees post what is held for them. The rest stays held.
func (p *Payment) fromHolds(transfers []ledger.Transfer) {
	t := 0
	for i, s := range p.shares() {
		sink := p.sink(s.Merchant)
		for j := t; j < len(transfers); j++ {
			if x := &transfers[j]; x.Debit == p.from() && x.Credit == sink && x.Kind == PurposeName(p.Purpose) {
				x.Action, x.Ref, x.Keep = ledger.Post, HoldID(p.ID, p.Holds, i), true
				t = j + 1
				break
			}
		}
	}
}

// Expire is a payment once its holds have run out at the given event time; post says between which accounts it moves.
func (p *Payment) Expire(at time.Time, post Postings) *Payment {
	next := p.By(post).expire(at)
	next.accounts = nil
	return next
}

func (p *Payment) expire(at time.Time) *Payment {
	next := p.clone()
	next.Held = 0
	if p.Status == Authorized {
		next.ChangedAt = at
		next.Status = next.standing()
		next.DueAt = next.due(p)
	}
	return next
}
