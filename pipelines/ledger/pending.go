package ledger

import (
	"cmp"
	"container/heap"
	"time"
)

// Advance says in which shard and at what event time the next transfers stand, and releases every hold of the shard that
// has expired by then, in order of expiry and id. A shard's clock never goes back: an event that comes late stands at the
// time of the newest before it.
func (b *Book) Advance(shard int32, at time.Time) {
	b.shard = shard
	if now := b.clocks[shard]; at.After(now) {
		b.clocks[shard] = at
	} else {
		at = now
	}
	q := b.queues[shard]
	if q == nil {
		return
	}
	steps := len(b.steps)
	for len(*q) > 0 && (*q)[0].due(at) {
		p := heap.Pop(q).(*Pending)
		if b.pendings[p.ID] != p || p.Open() == 0 { // taken back with its group, or ended
			continue
		}
		b.release(p, p.Open(), Expired)
	}
	b.note(len(b.posted), steps)
}

// LoadClock says how far a shard's clock stood before; what is due by then expires with the next Advance.
func (b *Book) LoadClock(shard int32, at time.Time) { b.clocks[shard] = at }

// Clock is the newest event time a shard has advanced to, zero if it has not.
func (b *Book) Clock(shard int32) time.Time { return b.clocks[shard] }

// await queues a hold for its expiry.
func (b *Book) await(p *Pending) {
	if p.Expires.IsZero() || p.Open() == 0 {
		return
	}
	q := b.queues[p.Shard]
	if q == nil {
		q = &expiries{}
		b.queues[p.Shard] = q
	}
	heap.Push(q, p)
}

// hold opens a hold that has been found good.
func (b *Book) hold(as *Transfer, debit, credit *Account) {
	p := &Pending{ID: as.ID, Debit: as.Debit, Credit: as.Credit, Currency: as.Currency, Kind: as.Kind, Amount: as.Amount, Expires: as.Expires, Shard: b.shard}
	b.undo.pending(p, true)
	b.pendings[p.ID] = p
	b.undo.account(debit)
	b.undo.account(credit)
	debit.DebitsPending += p.Amount
	credit.CreditsPending += p.Amount
	b.step(p, Opened, p.Amount)
	b.await(p)
}

// end takes a Post or a Void.
func (b *Book) end(t *Transfer) Code {
	p := b.pendings[t.Ref]
	switch {
	case p == nil:
		return PendingUnknown
	case differs(t, p.Debit, p.Credit, Transfer{Currency: p.Currency}):
		return PendingDiffers
	case p.Open() == 0:
		return p.ended()
	}
	as := *t
	as.Debit, as.Credit, as.Currency, as.Kind = p.Debit, p.Credit, p.Currency, cmp.Or(t.Kind, p.Kind)
	debit, credit, code := b.pair(&as)
	if code != OK {
		return code
	}
	if t.Action == Void {
		as.Amount = p.Open()
		b.release(p, as.Amount, Voided)
		b.learn(*t, as)
		return OK
	}
	if as.Amount == 0 {
		as.Amount = p.Open()
	}
	if as.Amount > p.Open() {
		return ExceedsPending
	}
	// What was pending becomes posted: no sum grows and no floor comes nearer.
	b.release(p, as.Amount, PostedPart)
	b.move(&as, debit, credit)
	if rest := p.Open(); rest > 0 && !t.Keep {
		b.release(p, rest, Voided)
	}
	b.learn(*t, as)
	return OK
}

// release takes an amount out of a hold.
func (b *Book) release(p *Pending, amount int64, fate Fate) {
	debit, credit := b.accounts[p.Debit], b.accounts[p.Credit]
	b.undo.pending(p, false)
	b.undo.account(debit)
	b.undo.account(credit)
	debit.DebitsPending -= amount
	credit.CreditsPending -= amount
	switch fate {
	case PostedPart:
		p.Posted += amount
	case Voided:
		p.Voided += amount
	case Expired:
		p.Expired += amount
	}
	b.step(p, fate, amount)
}

func (b *Book) step(p *Pending, fate Fate, amount int64) {
	b.steps = append(b.steps, Step{
		Pending: p.ID, Fate: fate, Amount: amount, Open: p.Open(), DebitID: b.accounts[p.Debit].ID, CreditID: b.accounts[p.Credit].ID,
		Currency: p.Currency, Kind: p.Kind, Expires: p.Expires, Shard: p.Shard,
	})
}

// expiries is a heap of holds, the one that expires first on top.
type expiries []*Pending

// Len, Less, Swap, Push and Pop are heap.Interface.
func (q expiries) Len() int { return len(q) }

func (q expiries) Less(i, j int) bool {
	return cmp.Or(q[i].Expires.Compare(q[j].Expires), cmp.Compare(q[i].ID, q[j].ID)) < 0
}

func (q expiries) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push adds a hold at the end.
func (q *expiries) Push(p any) { *q = append(*q, p.(*Pending)) }

// Pop takes the last one.
func (q *expiries) Pop() any {
	all := *q
	p := all[len(all)-1]
	*q = all[:len(all)-1]
	return p
}
