package payments

import (
	"math/bits"

	"sluice/schemas/events"
)

// shares are the payment's parts by payee. A payment without shares is one share of itself.
func (p *Payment) shares() []Share {
	if len(p.Shares) > 0 {
		return p.Shares
	}
	one := Share{
		Merchant: p.Merchant, Amount: p.Amount, Captured: p.Captured, Fee: p.Fee, Back: p.Captured - p.Left(), Lost: p.Lost, ChargedBack: p.ChargedBack,
	}
	if d := p.Dispute; d.open() {
		one.Claimed, one.Frozen = d.Amount, d.Frozen
	}
	return []Share{one}
}

// spread is an amount over the shares: as the event lists them; on the one it names, if that is not the payment's first
// merchant; or in proportion to what each has of it, weights. False: it names one that has no share. The sum is amount, unless a
// share named has less: then the parts are above their weights, which is for the caller to bound.
func (p *Payment) spread(e *events.Event, amount int64, weights []int64) ([]int64, bool) {
	if len(p.Shares) == 0 {
		return []int64{amount}, true
	}
	parts := make([]int64, len(p.Shares))
	if len(e.Splits) > 0 {
		for _, s := range e.Splits {
			i := p.shareOf(s.MerchantID)
			if i < 0 {
				return nil, false
			}
			parts[i] = s.Amount
		}
		return parts, true
	}
	if e.MerchantID != "" && e.MerchantID != p.Merchant {
		i := p.shareOf(e.MerchantID)
		if i < 0 {
			return nil, false
		}
		parts[i] = amount
		return parts, true
	}
	return apportion(amount, weights), true
}

// shareOf is the index of a merchant's share, -1 if he has none.
func (p *Payment) shareOf(merchant string) int {
	for i := range p.Shares {
		if p.Shares[i].Merchant == merchant {
			return i
		}
	}
	return -1
}

// apportion divides an amount, at most the sum of the weights, in proportion to them: each part is its quota rounded down or up,
// and none is above its weight. What rounding leaves goes to the largest remainders, the first of equals. The weights sum to
// less than 2^63. An amount above their sum is divided as if it were their sum, and the first part gets the rest.
func apportion(amount int64, weights []int64) []int64 {
	var sum int64
	for _, w := range weights {
		sum += w
	}
	parts := make([]int64, len(weights))
	if sum == 0 || amount > sum {
		copy(parts, weights)
		parts[0] += amount - sum
		return parts
	}
	remainders, rest := make([]uint64, len(weights)), amount
	for i, w := range weights {
		high, low := bits.Mul64(uint64(amount), uint64(w))
		quota, remainder := bits.Div64(high, low, uint64(sum))
		parts[i], remainders[i] = int64(quota), remainder
		rest -= parts[i]
	}
	for ; rest > 0; rest-- {
		best := 0
		for i, r := range remainders {
			if r > remainders[best] {
				best = i
			}
		}
		parts[best]++
		remainders[best] = 0
	}
	return parts
}

// exceed says whether a part is above its bound.
func exceed(parts, bounds []int64) bool {
	for i := range parts {
		if parts[i] > bounds[i] {
			return true
		}
	}
	return false
}

// within cuts each part to its bound, and returns their sum.
func within(parts, bounds []int64) (sum int64) {
	for i := range parts {
		parts[i] = min(parts[i], bounds[i])
		sum += parts[i]
	}
	return sum
}

// lefts is what of each share has been moved and not taken back.
func (p *Payment) lefts() []int64 {
	shares := p.shares()
	left := make([]int64, len(shares))
	for i := range shares {
		left[i] = shares[i].Captured - shares[i].Back
	}
	return left
}

// paid is what of the share its payee was paid and has not given back: what is left of it, and what the house has lost by it.
func (s *Share) paid() int64 { return s.Captured - s.Back + s.Lost }

// total is the sum of amounts.
func total(amounts []int64) (sum int64) {
	for _, n := range amounts {
		sum += n
	}
	return sum
}
