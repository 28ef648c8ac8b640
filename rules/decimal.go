package rules

import (
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Decimal is an exact decimal number, Coefficient / 10^Exponent: an amount in major units, a rate, a ratio.
type Decimal struct {
	Coefficient int64
	Exponent    uint8 // at most maxExponent
}

const (
	// maxExponent is the most decimals a Decimal has: 10^18 is the largest power of ten in an int64.
	maxExponent = 18
	// quotientDecimals is how many decimals a division keeps; the rest is cut off towards zero, so that comparing a quotient
	// with >= or < to a number of at most nine decimals is exact.
	quotientDecimals = 9
	// maxLiteralDigits is how many digits a float64 literal surely keeps.
	maxLiteralDigits = 15
)

var powersOfTen = func() (p [maxExponent + 1]uint64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

// Int returns n as a decimal.
func Int(n int64) Decimal { return Decimal{Coefficient: n} }

// Compare returns -1, 0 or 1 as a is less than, equal to or greater than b. It is exact and cannot overflow.
func (a Decimal) Compare(b Decimal) int {
	if a.Exponent == b.Exponent {
		return compare(a.Coefficient, b.Coefficient)
	}
	if (a.Coefficient < 0) != (b.Coefficient < 0) {
		return compare(a.Coefficient, b.Coefficient)
	}
	common := max(a.Exponent, b.Exponent)
	ahi, alo := bits.Mul64(magnitude(a.Coefficient), powersOfTen[common-a.Exponent])
	bhi, blo := bits.Mul64(magnitude(b.Coefficient), powersOfTen[common-b.Exponent])
	c := compare(ahi, bhi)
	if c == 0 {
		c = compare(alo, blo)
	}
	if a.Coefficient < 0 {
		return -c
	}
	return c
}

func compare[T int64 | uint64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

// signed puts a sign on a 128-bit magnitude; false if it does not fit an int64.
func signed(negative bool, hi, lo uint64) (int64, bool) {
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	if negative {
		return -int64(lo), true
	}
	return int64(lo), true
}

// Add returns a + b; false when it does not fit.
func (a Decimal) Add(b Decimal) (Decimal, bool) {
	common := max(a.Exponent, b.Exponent)
	x, okx := a.rescale(common)
	y, oky := b.rescale(common)
	sum := x + y
	if !okx || !oky || (x > 0) == (y > 0) && (sum > 0) != (x > 0) && x != 0 && y != 0 {
		return Decimal{}, false
	}
	return Decimal{sum, common}, sum != math.MinInt64
}

func (a Decimal) rescale(exponent uint8) (int64, bool) {
	if a.Exponent == exponent {
		return a.Coefficient, true
	}
	hi, lo := bits.Mul64(magnitude(a.Coefficient), powersOfTen[exponent-a.Exponent])
	return signed(a.Coefficient < 0, hi, lo)
}

// Negate returns -a.
func (a Decimal) Negate() Decimal { return Decimal{-a.Coefficient, a.Exponent} }

// Subtract returns a - b; false when it does not fit.
func (a Decimal) Subtract(b Decimal) (Decimal, bool) { return a.Add(b.Negate()) }

// Multiply returns a × b; false when it does not fit.
func (a Decimal) Multiply(b Decimal) (Decimal, bool) {
	a, b = a.trim(), b.trim()
	exponent := a.Exponent + b.Exponent
	hi, lo := bits.Mul64(magnitude(a.Coefficient), magnitude(b.Coefficient))
	n, ok := signed((a.Coefficient < 0) != (b.Coefficient < 0), hi, lo)
	if !ok || exponent > maxExponent {
		return Decimal{}, false
	}
	return Decimal{n, exponent}, true
}

// trim drops decimals that are zero.
func (a Decimal) trim() Decimal {
	for a.Exponent > 0 && a.Coefficient%10 == 0 {
		a.Coefficient /= 10
		a.Exponent--
	}
	return a
}

// Divide returns a / b with nine decimals, the rest cut off; false when b is zero or the quotient does not fit.
func (a Decimal) Divide(b Decimal) (Decimal, bool) {
	if b.Coefficient == 0 {
		return Decimal{}, false
	}
	a, b = a.trim(), b.trim()
	// a.c / b.c × 10^(b.e - a.e) × 10^9
	shift := int(b.Exponent) - int(a.Exponent) + quotientDecimals
	num, den := magnitude(a.Coefficient), magnitude(b.Coefficient)
	var hi, lo uint64
	switch {
	case shift > maxExponent:
		return Decimal{}, a.Coefficient == 0
	case shift >= 0:
		hi, lo = bits.Mul64(num, powersOfTen[shift])
	default:
		lo = num / powersOfTen[-shift]
	}
	if hi >= den {
		return Decimal{}, false
	}
	q, _ := bits.Div64(hi, lo, den)
	n, ok := signed((a.Coefficient < 0) != (b.Coefficient < 0), 0, q)
	return Decimal{n, quotientDecimals}, ok
}

// String writes the number plainly: "12.50" keeps its decimals.
func (a Decimal) String() string { return string(a.Append(nil)) }

// Append appends the text of String.
func (a Decimal) Append(out []byte) []byte {
	if a.Coefficient < 0 {
		out = append(out, '-')
	}
	var b [32]byte
	digits := strconv.AppendUint(b[:0], magnitude(a.Coefficient), 10)
	e := int(a.Exponent)
	if e == 0 {
		return append(out, digits...)
	}
	if len(digits) <= e {
		out = append(out, '0', '.')
		for range e - len(digits) {
			out = append(out, '0')
		}
		return append(out, digits...)
	}
	out = append(append(out, digits[:len(digits)-e]...), '.')
	return append(out, digits[len(digits)-e:]...)
}

// literal reads back the decimal that a float64 literal was written as; false beyond 15 digits or 18 decimals.
func literal(f float64) (Decimal, bool) {
	text := strconv.FormatFloat(math.Abs(f), 'f', -1, 64)
	whole, decimals, _ := strings.Cut(text, ".")
	significant := strings.TrimLeft(whole+decimals, "0")
	if len(significant) > maxLiteralDigits || len(decimals) > maxExponent {
		return Decimal{}, false
	}
	n, err := strconv.ParseInt("0"+significant, 10, 64)
	if err != nil {
		return Decimal{}, false
	}
	if f < 0 {
		n = -n
	}
	return Decimal{n, uint8(len(decimals))}, true
}
