package payments

import "sluice/pipelines/ledger"

// The kinds of transfers beside PurposeName's.
const (
	KindFee        = "fee"
	KindRefund     = "refund"
	KindChargeBack = "charge_back"
	KindRepresent  = "representment"
	KindVoid       = "void"
	KindFailure    = "failure"
	KindFeeReturn  = "fee_return"
	KindLoss       = "loss"     // what the house had to pay because the one who owes it could not; it waits in suspense
	KindRecovered  = "recovery" // what the house had paid so, out of suspense again
	KindExchange   = "exchange" // the payee's side of a payment in two currencies
	KindDispute    = "dispute"  // kept until a dispute is decided, and given free
	KindReroute    = "reroute"  // what is left of a payment, from one payment channel to the other
)

// kindOf is the kind of a moment's main transfer from payee to payer.
func (o *Occasion) kindOf() string {
	switch o.Moment {
	case OnRefund:
		return KindRefund
	case OnVoid:
		return KindVoid
	case OnFailure:
		return KindFailure
	}
	return KindChargeBack
}

// Main lists the transfers that an occasion is by itself, without what posting rules link to it: they are the difference of the
// payment before and after it. What of it the house pays stands in After.Lost, or in that of its shares.
func Main(o *Occasion) []ledger.Transfer {
	p := o.After
	switch o.Moment {
	case OnHold:
		return []ledger.Transfer{p.transfer(p.from(), p.sink(p.Merchant), o.Amount, PurposeName(p.Purpose))}
	case OnReroute:
		return o.rerouted()
	}
	before, after := o.Before.shares(), p.shares()
	all := make([]ledger.Transfer, 0, 2*len(after))
	for i := range after {
		c := change{p: p, paid: before[i].paid(), merchant: after[i].Merchant, kind: o.kindOf(), all: all}
		back := after[i].Back - before[i].Back
		lost := after[i].Lost - before[i].Lost
		if paid := after[i].Captured - before[i].Captured; paid > 0 {
			c.pay(paid, PurposeName(p.Purpose))
		}
		switch {
		case back < 0:
			c.represent(-back, -lost)
		case o.Moment == OnDispute:
			c.keep(after[i].Frozen)
		default:
			c.giveBack(back, lost, before[i].Frozen-after[i].Frozen)
		}
		all = c.all
	}
	return all
}

// change is what an occasion does to one share. Amounts are the payer's; paid says which slice of the payment moves, and so
// what it is in the payee's currency: the payee always has PayeeAmount(paid).
type change struct {
	p        *Payment
	paid     int64 // of the share: moved and not taken from the payee so far
	merchant string
	kind     string
	all      []ledger.Transfer
}

// add lists a transfer in the payer's currency, none of nothing.
func (c *change) add(debit, credit ledger.AccountKey, amount int64, kind string) {
	if amount > 0 {
		c.all = append(c.all, c.p.transfer(debit, credit, amount, kind))
	}
}

// other lists a transfer of the slice from low to high in the payee's currency.
func (c *change) other(debit, credit ledger.AccountKey, low, high int64, kind string) {
	if amount := c.p.PayeeAmount(high) - c.p.PayeeAmount(low); amount > 0 {
		t := c.p.transfer(debit, credit, amount, kind)
		t.Currency = c.p.PayeeCurrency()
		c.all = append(c.all, t)
	}
}

// pay moves an amount from payer to payee.
func (c *change) pay(amount int64, kind string) {
	p := c.p
	c.add(p.from(), p.sink(c.merchant), amount, kind)
	if p.Exchange != nil {
		c.other(ledger.FX(p.Shard, p.PayeeCurrency()), p.to(c.merchant), c.paid, c.paid+amount, KindExchange)
	}
	c.paid += amount
}

// payBack moves an amount from one of the payee's accounts to the payer.
func (c *change) payBack(source ledger.AccountKey, amount int64) {
	p := c.p
	if p.Exchange == nil {
		c.add(source, p.from(), amount, c.kind)
	} else {
		c.other(source, ledger.FX(p.Shard, p.PayeeCurrency()), c.paid-amount, c.paid, KindExchange)
		c.add(ledger.FX(p.Shard, p.Currency), p.from(), amount, c.kind)
	}
	c.paid -= amount
}

// giveBack moves an amount to the payer: first from what a dispute has kept, then from the payee, and what is lost from the
// house. What was kept beyond it is the payee's again.
func (c *change) giveBack(amount, lost, freed int64) {
	p := c.p
	kept, _ := p.kept(c.merchant)
	if used := min(freed, amount-lost); freed > 0 {
		c.payBack(kept, used)
		c.other(kept, p.to(c.merchant), c.paid-(freed-used), c.paid, KindDispute)
		amount -= used
	}
	c.payBack(p.to(c.merchant), amount-lost)
	c.add(ledger.Suspense(p.Shard, p.Currency), p.from(), lost, KindLoss)
}

// keep sets an amount of the payee's money aside.
func (c *change) keep(amount int64) {
	if kept, can := c.p.kept(c.merchant); can {
		c.other(c.p.to(c.merchant), kept, c.paid-amount, c.paid, KindDispute)
	}
}

// represent takes an amount from the payer again: for the house what it had paid, the rest for the payee.
func (c *change) represent(amount, recovered int64) {
	p := c.p
	c.add(p.from(), ledger.Suspense(p.Shard, p.Currency), recovered, KindRecovered)
	c.pay(amount-recovered, KindRepresent)
}

// rerouted moves what is left of a payment from the channel that carried it to the one that does.
func (o *Occasion) rerouted() []ledger.Transfer {
	p := o.After
	pays, paid := p.cleared()
	c := change{p: p}
	if was := o.Before.from(); pays && was != p.from() {
		c.add(p.from(), was, o.Amount, KindReroute)
	}
	if was := o.Before.to(p.Merchant); paid && was != p.to(p.Merchant) {
		c.other(was, p.to(p.Merchant), 0, o.Amount, KindReroute)
	}
	return c.all
}

func (p *Payment) transfer(debit, credit ledger.AccountKey, amount int64, kind string) ledger.Transfer {
	return ledger.Transfer{Debit: debit, Credit: credit, Amount: amount, Currency: p.Currency, Kind: kind}
}
