package payments

import (
	"math/bits"
	"sort"

	"sluice/pipelines/ledger"
	"sluice/schemas/events"
)

// PayeeCurrency is what the payee is paid in.
func (p *Payment) PayeeCurrency() events.Currency {
	if p.Exchange == nil {
		return p.Currency
	}
	return events.MustCurrency(p.Exchange.Currency)
}

// sink is where the payer's money goes: the payee's account, or the house's position in the payer's currency, from which
// nothing goes on but the payee's amount of the other.
func (p *Payment) sink(merchant string) ledger.AccountKey {
	if p.Exchange != nil {
		return ledger.FX(p.Shard, p.Currency)
	}
	return p.to(merchant)
}

// PayeeAmount is what the payee gets for the first n minor units of the payment, in minor units of the payee's currency: at the
// stated rate, rounded down. It is a function of the sum, not of the parts, so parts come to what the whole comes to, and what
// goes back in parts is in the end exactly what came.
func (p *Payment) PayeeAmount(n int64) int64 {
	if p.Exchange == nil {
		return n
	}
	high, low := bits.Mul64(uint64(p.Exchange.Amount), uint64(n))
	whole, _ := bits.Div64(high, low, uint64(p.Amount)) // n <= Amount, so the quotient is at most Exchange.Amount
	return int64(whole)
}

// slice is the largest n up to claim for which the payee, who was paid for the first paid minor units, can give back those beyond
// the first paid-n with what he has, in minor units of his currency. Claim is at most paid; n and claim are the payer's.
func (p *Payment) slice(paid, claim, has int64) int64 {
	if p.Exchange == nil {
		return min(claim, has)
	}
	return int64(sort.Search(int(claim), func(n int) bool {
		return p.PayeeAmount(paid)-p.PayeeAmount(paid-int64(n)-1) > has
	}))
}
