package lending

import (
	"math/big"
	"math/bits"
	"time"

	"sluice/schemas/events"
)

// monthsOfRate is what turns a yearly rate in parts per million into a monthly fraction: ppm / monthsOfRate.
const monthsOfRate = 12 * int64(events.RateOne)

// Schedule returns the plan of an annuity loan: at most term instalments, one a month after start, on start's day of the
// month or the month's last day if that is earlier. The monthly amount is the annuity formula's, rounded half-even to a
// minor unit and at least 1; the interest of each is the balance times a twelfth of the rate, rounded half-even; the rest
// of each is principal. The last instalment absorbs the rounding, so that principal sums exactly; it differs from the
// others by at most the rounding of each month (1 minor unit) with its compound interest. Where the monthly rounding pays
// the loan before the term, which takes an amount of a few minor units or a rate far above usual, the plan is shorter.
// It returns nil unless principal and term are positive.
func Schedule(principal int64, rate events.Rate, term int32, start time.Time) []Instalment {
	if principal <= 0 || term <= 0 {
		return nil
	}
	return plan(nil, principal, annuity(principal, rate, term), rate, term, start)
}

// plan appends instalments of amount each until balance is paid, the last one at number term at the latest.
func plan(to []Instalment, balance, amount int64, rate events.Rate, term int32, start time.Time) []Instalment {
	for n := int32(len(to)) + 1; balance > 0; n++ {
		interest := monthlyInterest(balance, rate)
		principal := min(amount-interest, balance)
		if n >= term {
			principal = balance
		}
		to = append(to, Instalment{Number: n, Due: addMonths(start, n), Principal: principal, Interest: interest})
		balance -= principal
	}
	return to
}

// annuity is the equal monthly amount that pays principal and interest in term months, rounded half-even, at least 1:
// principal·i·(1+i)^n / ((1+i)^n − 1), with i a twelfth of the rate; principal/n without interest. It is computed in
// whole numbers: with D = 12,000,000, i = rate/D, so it is principal·rate·(D+rate)^n / (D·((D+rate)^n − D^n)).
func annuity(principal int64, rate events.Rate, term int32) int64 {
	numerator, denominator := big.NewInt(principal), big.NewInt(int64(term))
	if rate > 0 {
		n, d := big.NewInt(int64(term)), big.NewInt(monthsOfRate)
		grown := new(big.Int).Exp(big.NewInt(monthsOfRate+int64(rate)), n, nil)
		numerator.Mul(numerator, big.NewInt(int64(rate)))
		numerator.Mul(numerator, grown)
		denominator.Sub(grown, new(big.Int).Exp(d, n, nil))
		denominator.Mul(denominator, d)
	}
	quotient, remainder := new(big.Int).QuoRem(numerator, denominator, new(big.Int))
	switch remainder.Lsh(remainder, 1).Cmp(denominator) {
	case 1:
		quotient.Add(quotient, big.NewInt(1))
	case 0:
		quotient.Add(quotient, big.NewInt(int64(quotient.Bit(0))))
	}
	return max(quotient.Int64(), 1)
}

// monthlyInterest is a twelfth of a year's interest on balance, rounded half-even. The product needs 128 bits.
func monthlyInterest(balance int64, rate events.Rate) int64 {
	high, low := bits.Mul64(uint64(balance), uint64(rate))
	quotient, remainder := bits.Div64(high, low, uint64(monthsOfRate))
	if twice := 2 * remainder; twice > uint64(monthsOfRate) || twice == uint64(monthsOfRate) && quotient&1 == 1 {
		quotient++
	}
	return int64(quotient)
}

// addMonths is n months after t, on t's day or on the month's last: 31 January and a month is 28 or 29 February.
func addMonths(t time.Time, n int32) time.Time {
	first := time.Date(t.Year(), t.Month()+time.Month(n), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location())
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}
