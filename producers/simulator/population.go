package simulator

import (
	"math"
	"time"
)

// customer is who someone is: drawn once, the same on every day.
type customer struct {
	market, city        int
	latitude, longitude float64
	income              int64 // minor units a month; a student's is an allowance
	payday              int   // day of the month, 1 to 28
	activity            float64
	quality             float64 // 0 to 1: how well debts are paid
	bureau              int32   // a score that quality shows through
	age, employment     int32   // years, months
	hasCard             bool
	registered          int64 // microseconds into day 0
	devicePeriod        int   // days until the next telephone
	devicePhase         int
	tripPhase           int
	favourites          [6]int32 // merchants
	friends             [4]int32 // customers of the same market
}

// merchant is a shop of one market.
type merchant struct {
	market, category int
}

const (
	// customersPerMerchant and leastMerchants size the shops of a market.
	customersPerMerchant = 20
	leastMerchants       = 40
	// tripEvery is how many days hold one trip, and longestTrip its most days.
	tripEvery, longestTrip = 90, 7
	// registrationSpan is the part of day 0 over which customers register.
	registrationSpan = 12 * int64(time.Hour/time.Microsecond)
)

var categoryShares = func() []float64 {
	weights := make([]float64, len(categories))
	for i, c := range categories {
		weights[i] = c.share
	}
	return cumulate(weights)
}()

// populate draws the merchants and customers.
func (s *Simulation) populate() {
	d := newDice()
	s.customers = make([]customer, s.config.Customers)
	s.residents = make([][]int32, len(markets))
	for i := range s.customers {
		d.set(s.config.Seed, ofCustomer, i, 0)
		s.customers[i] = drawCustomer(d)
		m := s.customers[i].market
		s.residents[m] = append(s.residents[m], int32(i))
	}
	s.shops = make([][]int32, len(markets))
	for m := range markets {
		for range max(leastMerchants, len(s.residents[m])/customersPerMerchant) {
			n := len(s.merchants)
			d.set(s.config.Seed, ofMerchant, n, 0)
			s.merchants = append(s.merchants, merchant{m, d.pick(categoryShares)})
			s.shops[m] = append(s.shops[m], int32(n))
		}
	}
	for i := range s.customers {
		d.set(s.config.Seed, ofCustomer, i, 1)
		s.acquaint(d, i)
	}
}

func drawCustomer(d *dice) customer {
	var c customer
	shares := make([]float64, len(markets))
	for i, m := range markets {
		shares[i] = m.share
	}
	c.market = d.pick(cumulate(shares))
	c.city = drawCity(d, c.market)
	c.latitude = round4(cities[c.city].latitude + 0.08*d.NormFloat64())
	c.longitude = round4(cities[c.city].longitude + 0.08*d.NormFloat64())
	c.age = int32(d.between(18, 68))
	income := math.Min(d.lognormal(7_500, 0.5), 60_000)
	c.employment = int32(d.between(0, int64(c.age-17)*12))
	if d.chance(0.12) { // a student, or between jobs
		income, c.employment = d.lognormal(1_800, 0.3), 0
	}
	c.income = int64(income) * int64(markets[c.market].price)
	c.payday = int(d.between(1, 28))
	c.activity = math.Min(d.lognormal(1.7, 0.5), 8)
	c.quality = math.Sqrt(d.Float64()) // most pay
	c.bureau = int32(min(max(int64(430+340*c.quality+35*d.NormFloat64()), 300), 850))
	c.hasCard = d.chance(0.6)
	c.registered = d.Int64N(registrationSpan)
	c.devicePeriod = int(d.between(350, 1100))
	c.devicePhase = d.IntN(c.devicePeriod)
	c.tripPhase = d.IntN(tripEvery)
	return c
}

func drawCity(d *dice, market int) int {
	weights := make([]float64, firstForeign)
	for i := range weights {
		if cities[i].market == market {
			weights[i] = cities[i].share
		}
	}
	return d.pick(cumulate(weights))
}

// acquaint gives a customer its shops and friends.
func (s *Simulation) acquaint(d *dice, i int) {
	c := &s.customers[i]
	shops, residents := s.shops[c.market], s.residents[c.market]
	for k := range c.favourites {
		c.favourites[k] = shops[d.IntN(len(shops))]
	}
	for k := range c.friends {
		c.friends[k] = residents[d.IntN(len(residents))]
		if int(c.friends[k]) == i { // nobody is their own friend, unless alone in the market
			c.friends[k] = residents[(d.IntN(len(residents))+1)%len(residents)]
		}
	}
}

// device is the number of the telephone a customer has on a day; fresh says that it is the first day with it.
func (s *Simulation) device(who, day int) (number uint64, fresh bool) {
	c := &s.customers[who]
	owner := who
	if hash(s.config.Seed, ofDevice, who, -1)%50 == 0 { // a family shares one
		owner = who ^ 1
	}
	have := (day + c.devicePhase) / c.devicePeriod
	return hash(s.config.Seed, ofDevice, owner, have), day > 0 && (day-1+c.devicePhase)/c.devicePeriod != have
}

// card is the number behind a customer's card token.
func (s *Simulation) card(who int) uint64 { return hash(s.config.Seed, ofDevice, who, -2) }

// place is the city where a customer is on a day: at home, or once in tripEvery days on a trip.
func (s *Simulation) place(who, day int) int {
	c := &s.customers[who]
	trip := (day + c.tripPhase) / tripEvery
	into := (day + c.tripPhase) % tripEvery
	h := hash(s.config.Seed, ofTrip, who, trip)
	first, days := int(h%(tripEvery-longestTrip)), 2+int(h>>8%uint64(longestTrip-1))
	if h>>16%3 == 0 || into < first || into >= first+days {
		return c.city
	}
	if h>>24%8 == 0 {
		return firstForeign + int(h>>32%(firstRemote-firstForeign))
	}
	return int(h >> 32 % firstForeign)
}

// address is the IP address a customer has in a city on a day: at home their own, elsewhere or now and then one that
// many share (a café, an office, a carrier).
func (s *Simulation) address(who, day, place int, shared bool) uint32 {
	var low uint64
	switch {
	case shared:
		low = hash(s.config.Seed, ofAddress, place, int(hash(s.config.Seed, ofAddress, who, day)%uint64(max(8, len(s.customers)/200))))
	case place == s.customers[who].city:
		low = hash(s.config.Seed, ofAddress, who, -1)
	default:
		low = hash(s.config.Seed, ofAddress, who, day)
	}
	return uint32(40+8*place)<<24 | uint32(low%(1<<24-2)+1) // each city has eight leading octets of its own; one is used
}

// free says whether a day is a Saturday or Sunday.
func (s *Simulation) free(day int) bool {
	w := s.config.Start.AddDate(0, 0, day).Weekday()
	return w == time.Saturday || w == time.Sunday
}

func round4(x float64) float64 { return math.Round(x*1e4) / 1e4 }
