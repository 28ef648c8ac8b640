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
	OnChargeBack         // a charge-back: from payee to payer, or from suspense if the payee has not enough
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
	// Transfers lists the transfers of an occasion, which stand or fall together: the main one first, then those linked to
	// it. It sets After.Fee and After.Effects to what then stands posted. Where captures come in parts, linked amounts are
	// those of all captured so far less what stands posted already, so that parts cost what the whole costs.
	Transfers(o *Occasion) []ledger.Transfer
}

// Standard is the house's postings: what is written here, with the fees of a schedule.
type Standard struct{ Fees FeeSchedule }

// Transfers is Postings.
func (s Standard) Transfers(o *Occasion) []ledger.Transfer {
	p := o.After
	switch o.Moment {
	case OnHold:
		return []ledger.Transfer{p.transfer(p.from(), p.to(), o.Amount, PurposeName(p.Purpose))}
	case OnMove:
		return s.moved(o)
	case OnRefund:
		return []ledger.Transfer{p.back(o.Amount, KindRefund)}
	case OnChargeBack:
		return []ledger.Transfer{p.back(o.Amount, KindChargeBack)}
	case OnVoid:
		return s.cancelled(o, KindVoid)
	case OnFailure:
		return s.cancelled(o, KindFailure)
	}
	return nil
}

// moved pays the payee, and the fee from there to the house.
func (s Standard) moved(o *Occasion) []ledger.Transfer {
	p := o.After
	transfers := make([]ledger.Transfer, 1, 2)
	transfers[0] = p.transfer(p.from(), p.to(), o.Amount, PurposeName(p.Purpose))
	if due := s.Fees.Fee(p.Purpose, p.Method, p.Captured); due > p.Fee {
		transfers = append(transfers, p.transfer(p.to(), ledger.Fees(p.Shard, p.Currency), due-p.Fee, KindFee))
		p.Fee = due
	}
	return transfers
}

// cancelled gives back what is left of a payment and its fee. Fee says what was kept once: it stays as it was.
func (s Standard) cancelled(o *Occasion, kind string) []ledger.Transfer {
	p := o.After
	back := p.back(o.Amount, kind)
	if p.Fee == 0 {
		return []ledger.Transfer{back}
	}
	return []ledger.Transfer{p.transfer(ledger.Fees(p.Shard, p.Currency), p.to(), p.Fee, KindFeeReturn), back}
}
