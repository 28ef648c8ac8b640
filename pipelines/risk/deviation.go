package risk

import (
	"math"
	"math/bits"
)

// deviationDecimals is how many decimals a standard deviation has more than its currency.
const deviationDecimals = 2

// uint128 is a sum of squares of amounts. An amount is at most 10^15, so it holds the squares of 3 × 10^8 of them; a sum
// beyond it stays at its end.
type uint128 struct{ hi, lo uint64 }

var maxUint128 = uint128{math.MaxUint64, math.MaxUint64}

func (a uint128) add(b uint128) uint128 {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	hi, carry := bits.Add64(a.hi, b.hi, carry)
	if carry != 0 {
		return maxUint128
	}
	return uint128{hi, lo}
}

func square(n int64) uint128 {
	hi, lo := bits.Mul64(uint64(n), uint64(n))
	return uint128{hi, lo}
}

// uint256 is four words, the lowest first.
type uint256 [4]uint64

// times multiplies 128 by 64 bits.
func (a uint128) times(n uint64) uint256 {
	h0, l0 := bits.Mul64(a.lo, n)
	h1, l1 := bits.Mul64(a.hi, n)
	mid, carry := bits.Add64(h0, l1, 0)
	return uint256{l0, mid, h1 + carry}
}

// times multiplies by a small number; the product has to fit.
func (a uint256) times(n uint64) uint256 {
	carry := uint64(0)
	for i := range a {
		hi, lo := bits.Mul64(a[i], n)
		var c uint64
		a[i], c = bits.Add64(lo, carry, 0)
		carry = hi + c
	}
	return a
}

// less says whether a < b.
func (a uint256) less(b uint256) bool {
	_, borrow := a.minus(b)
	return borrow
}

// minus returns a - b, and whether it is below zero.
func (a uint256) minus(b uint256) (uint256, bool) {
	borrow := uint64(0)
	for i := range a {
		a[i], borrow = bits.Sub64(a[i], b[i], borrow)
	}
	return a, borrow != 0
}

// squared is a 128-bit number's square.
func (a uint128) squared() uint256 {
	out := a.times(a.hi)
	out = uint256{0, out[0], out[1], out[2]}
	low := a.times(a.lo)
	carry := uint64(0)
	for i := range out {
		out[i], carry = bits.Add64(out[i], low[i], carry)
	}
	return out
}

func (a uint256) bits() int {
	for i := len(a) - 1; i >= 0; i-- {
		if a[i] != 0 {
			return 64*i + bits.Len64(a[i])
		}
	}
	return 0
}

// deviation is the population standard deviation of n amounts from their sum and the sum of their squares, rounded down to
// deviationDecimals below the minor unit. It is exact: sqrt(n Σx² - (Σx)²) / n in integers. False if there are no amounts,
// or one of the sums did not fit.
func deviation(n, sum int64, squares uint128) (int64, bool) {
	if n <= 0 || sum < 0 || sum == math.MaxInt64 || squares == maxUint128 {
		return 0, false
	}
	v, below := squares.times(uint64(n)).minus(uint128{0, uint64(sum)}.squared())
	if below || v.bits() > 256-14 { // bytes that no amounts come to
		return 0, false
	}
	v = v.times(1e4) // the square of two decimals
	// The largest s with (s n)² <= v, bit by bit: s n has half the bits of v.
	s := uint64(0)
	for bit := min(62, (v.bits()+1)/2-bits.Len64(uint64(n))+1); bit >= 0; bit-- {
		try := s | 1<<bit
		hi, lo := bits.Mul64(try, uint64(n))
		if !v.less(uint128{hi, lo}.squared()) {
			s = try
		}
	}
	return int64(s), true
}
