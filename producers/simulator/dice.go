package simulator

import (
	"math"
	"math/rand/v2"
)

// A domain keeps the draws for one purpose apart from those for another.
type domain uint64

const (
	ofCustomer domain = iota + 1 // who someone is
	ofMerchant
	ofDay    // what a customer does on a day
	ofTrip   // where a customer is on a day
	ofRefund // which purchase comes back on a day
	ofLoan   // the loans of a customer
	ofFraud  // the fraud of a day
	ofDevice // the numbers of devices, cards and documents
	ofAddress
	ofChargeBack // which fraudulent payments are charged back, and when
	ofName       // what a customer is called
	ofLevel      // what a customer has shown of who it is
	ofLife       // how a payment goes on
	ofDispute    // which purchases are disputed, and how that ends
)

// hash is a pure function of its arguments that looks random: SplitMix64's finalizer over each of them.
func hash(seed uint64, d domain, a, b int) uint64 {
	h := mix(seed + 0x9e3779b97f4a7c15*uint64(d))
	h = mix(h ^ uint64(a)*0xd1342543de82ef95)
	return mix(h ^ uint64(b)*0xaf251af3b0f025b5)
}

func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// dice draws numbers that are a pure function of what it was set to.
type dice struct {
	*rand.Rand
	source *rand.PCG
}

func newDice() *dice {
	source := rand.NewPCG(0, 0)
	return &dice{rand.New(source), source}
}

// set starts the sequence for one thing and its part: a customer and a day, a day and a fraud.
func (d *dice) set(seed uint64, of domain, a, b int) {
	h := hash(seed, of, a, b)
	d.source.Seed(h, mix(h+uint64(of)))
}

// chance is true with probability p.
func (d *dice) chance(p float64) bool { return d.Float64() < p }

// between is uniform in [low, high].
func (d *dice) between(low, high int64) int64 { return low + d.Int64N(high-low+1) }

// uniform is uniform in [low, high).
func (d *dice) uniform(low, high float64) float64 { return low + (high-low)*d.Float64() }

// lognormal has the given median; sigma is the standard deviation of its logarithm.
func (d *dice) lognormal(median, sigma float64) float64 {
	return median * math.Exp(sigma*d.NormFloat64())
}

// poisson counts events of which mean are expected; by Knuth's multiplication, in steps so that exp(−mean) stays a number.
func (d *dice) poisson(mean float64) int {
	n := 0
	for ; mean > 30; mean -= 30 {
		n += d.poisson(30)
	}
	limit := math.Exp(-mean)
	for p := d.Float64(); p > limit; p *= d.Float64() {
		n++
	}
	return n
}

// pick returns an index with probability proportional to its share of a cumulative table.
func (d *dice) pick(cumulative []float64) int {
	x := d.Float64() * cumulative[len(cumulative)-1]
	for i, c := range cumulative {
		if x < c {
			return i
		}
	}
	return len(cumulative) - 1
}

func cumulate(weights []float64) []float64 {
	sums := make([]float64, len(weights))
	sum := 0.0
	for i, w := range weights {
		sum += w
		sums[i] = sum
	}
	return sums
}
