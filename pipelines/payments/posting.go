package payments

import (
	"sluice/pipelines/ledger"
	"sluice/schemas/events"
)

// Moment is what happens to a payment's money.
type Moment uint8

// The moments. Each has its main transfer; posting rules link others to it.
const (
	NoMoment      Moment = iota
	OnHold               // an authorization: pending from payer to payee
	OnMove               // initiated in one step, or captured: from payer to payee
	OnRefund             // from payee to payer
	OnChargeBack         // a charge-back: from payee to payer, and from suspense what the payee has not
	OnRepresent          // a charge-back contested with success: from payer to payee again, or to suspense
	OnVoid               // cancelled: from payee to payer, with the fee
	OnFailure            // the channel could not carry it out: as OnVoid
	OnSettle             // the channel has settled it: no transfer of its own
	OnReroute            // another payment channel carries it: from clearing to clearing
	OnDispute            // the merchant's money is kept
	OnDisputeWon         // and given free
	OnDisputeLost        // and given to the payer
	moments              // how many there are
)

var momentNames = [moments]string{
	"none", "held", "moved", "refunded", "charged_back", "represented", "voided", "failed", "settled", "rerouted",
	"disputed", "dispute_won", "dispute_lost",
}

// String returns the moment in words, as posting rules name it: "charged_back".
func (m Moment) String() string { return momentNames[min(m, moments-1)] }

// ParseMoment returns the moment of its words, false if there is none.
func ParseMoment(word string) (Moment, bool) {
	for m := NoMoment + 1; m < moments; m++ {
		if momentNames[m] == word {
			return m, true
		}
	}
	return NoMoment, false
}

// Occasion is a moment of one payment, with its numbers: what posting rules read.
type Occasion struct {
	Moment Moment
	Event  *events.Event // that brought it about
	Tier   string        // value tier of the customer, "" unknown
	Before *Payment      // as it was; never changed
	After  *Payment      // as it will be, but for Fee and Effects, which Transfers sets
	Amount int64         // of this moment, minor units of the payment's currency
}

// Postings says which transfers follow from what happens to a payment's money.
type Postings interface {
	// Transfers lists the transfers of an occasion, which stand or fall together: the main ones (see Main), and those linked
	// to them. What gives the payee something back comes before what takes from him. It sets After.Fee and After.Effects to
	// what then stands posted. Where captures come in parts, linked amounts are those of all captured so far less what stands
	// posted already, so that parts cost what the whole costs.
	Transfers(o *Occasion) []ledger.Transfer
}

// Accounts says between which accounts a payment moves its money. Postings that are Accounts too are asked; those of others
// are the standard ones.
type Accounts interface {
	// Payer is the account the money comes from, in the payment's currency.
	Payer(p *Payment) ledger.AccountKey
	// Payee is the account the money goes to, in the payee's currency. Where merchants are paid it is the named one's.
	Payee(p *Payment, merchant string) ledger.AccountKey
	// Kept is where a dispute keeps the payee's money, in the payee's currency; false: such a payment cannot be disputed.
	Kept(p *Payment, merchant string) (ledger.AccountKey, bool)
	// Cleared says on which side a payment channel stands: whether the payer's account, or the payee's, is another one where
	// another channel carries the payment.
	Cleared(p *Payment) (pays, paid bool)
}

// By is the payment with the accounts of postings, as Plan has it for as long as it plans; nil stays nil.
func (p *Payment) By(post Postings) *Payment {
	a, ok := post.(Accounts)
	if p == nil || !ok {
		return p
	}
	ruled := *p
	ruled.accounts = a
	return &ruled
}

// Standard is the house's postings in code: the oracle of the posting rules that are shipped as standard.
type Standard struct{ Fees FeeSchedule }

// Transfers is Postings.
func (s Standard) Transfers(o *Occasion) []ledger.Transfer {
	switch o.Moment {
	case OnSettle:
		return nil
	case OnMove:
		return s.fees(Main(o), o.After)
	case OnVoid, OnFailure:
		return append(feesBack(o.After), Main(o)...) // first, so that the payee can pay with it
	}
	return Main(o)
}

// fees takes from each payee what is due on all that has been captured for him and not yet kept, in his currency.
func (s Standard) fees(all []ledger.Transfer, p *Payment) []ledger.Transfer {
	for i, share := range p.shares() {
		due := s.Fees.Fee(p.Purpose, p.Method, p.PayeeAmount(share.Captured))
		if due <= share.Fee {
			continue
		}
		t := p.transfer(p.to(share.Merchant), ledger.Fees(p.Shard, p.PayeeCurrency()), due-share.Fee, KindFee)
		t.Currency = p.PayeeCurrency()
		all = append(all, t)
		p.Fee += due - share.Fee
		if len(p.Shares) > 0 {
			p.Shares[i].Fee = due
		}
	}
	return all
}

// feesBack gives the payees of a payment that is cancelled their fees back. Fee says what was kept once: it stays as it was.
func feesBack(p *Payment) []ledger.Transfer {
	var all []ledger.Transfer
	for _, share := range p.shares() {
		if share.Fee > 0 {
			t := p.transfer(ledger.Fees(p.Shard, p.PayeeCurrency()), p.to(share.Merchant), share.Fee, KindFeeReturn)
			t.Currency = p.PayeeCurrency()
			all = append(all, t)
		}
	}
	return all
}
