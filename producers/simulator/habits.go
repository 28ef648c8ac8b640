package simulator

import (
	"math"
	"slices"
	"time"

	"sluice/schemas/events"
)

const (
	second = int64(time.Second / time.Microsecond)
	minute = 60 * second
	hour   = 60 * minute
	whole  = 24 * hour
	// sessionSpan is the most that one session takes; sessions start so long before midnight at the latest.
	sessionSpan = 20 * minute
	// settled is how long after registering a customer has money.
	settled = 2 * minute
)

// How often things happen.
const (
	extraViews       = 0.9   // pages of a session beyond the first
	payInSession     = 0.62  // of sessions
	payAgain         = 0.15  // of sessions with a payment
	signOut          = 0.3   // of sessions
	failSignIn       = 0.03  // of sessions
	shopVisits       = 0.75  // purchases at a counter for a unit of activity
	refundADay       = 0.02  // of customers
	complainADay     = 0.003 // of customers
	changePassword   = 0.001 // of customers a day
	changePhone      = 0.0003
	addPayee         = 0.004
	withdrawOnPayday = 0.35
)

// planner plans one day.
type planner struct {
	sim      *Simulation
	day      int
	dice     *dice
	loanDice *dice // keeps the loans' draws apart from the day's
	acts     []act

	who     int // whose life is planned
	number  int32
	scripts int // of the day's fraud
	// lifeScript is the script of what goes on with earlier payments: -1 within a customer's life.
	lifeScript int
	session    uint16
	here       act // what all acts of the customer's day have in common
}

// add appends an act of the customer whose day is planned.
func (p *planner) add(at int64, kind events.Kind) *act {
	a := p.here
	a.at, a.kind, a.number = min(at, whole-1), kind, p.number
	p.number++
	p.acts = append(p.acts, a)
	return &p.acts[len(p.acts)-1]
}

// begin sets the dice and the place for one customer's day.
func (p *planner) begin(who int) *customer {
	s := p.sim
	p.who, p.number, p.session = who, 0, 0
	p.dice.set(s.config.Seed, ofDay, who, p.day)
	place := s.place(who, p.day)
	device, _ := s.device(who, p.day)
	p.here = act{
		who: int32(who), script: -1, place: int32(place), device: device,
		ip: s.address(who, p.day, place, p.dice.chance(0.15)),
	}
	return &s.customers[who]
}

// live plans a customer's day. before plans the day before it.
func (p *planner) live(who int, before *planner) {
	first := len(p.acts)
	c := p.begun(who)
	p.sundries(c)
	p.borrow(who)
	p.today(first)
	if before.day >= 0 {
		p.yesterday(before, who)
	}
	p.dispute(who)
	if hash(p.sim.config.Seed, ofRefund, who, p.day)%10_000 < refundADay*10_000 {
		p.refund()
	}
}

// routine plans the sessions and the shopping. It comes first in a day, since a refund plans an older day's again to
// find a purchase, and the numbers of its acts must not depend on anything else.
func (p *planner) routine(who int) *customer {
	start := len(p.acts)
	c := p.begin(who)
	p.sessions(c)
	p.visitShops(c)
	if p.day == 0 { // nobody acts before they have registered
		p.acts = append(p.acts[:start], slices.DeleteFunc(p.acts[start:], func(a act) bool { return a.at < c.registered+settled })...)
	}
	return c
}

// begun plans the payments that a customer begins, and what goes with them: what comes before anything else in a day, so
// that the next day finds them again.
func (p *planner) begun(who int) *customer {
	c := p.routine(who)
	if p.day == 0 {
		p.register(c)
	}
	p.receiveIncome(c)
	return c
}

func (p *planner) register(c *customer) {
	at := c.registered
	p.add(at, events.BehaviorRegistered)
	p.add(at+20*second, events.BehaviorDeviceBound)
	p.add(at+40*second, events.BehaviorIdentityVerified)
	p.signIn(at + minute)
	p.moneyIn(at+settled, int64(float64(c.income)*p.dice.uniform(0.4, 1.1)), quickPay)
}

// moneyIn plans a top-up from the customer's bank.
func (p *planner) moneyIn(at, amount int64, method uint8) {
	a := p.add(at, events.PaymentInitiated)
	a.method, a.purpose, a.amount = method, topUp, max(amount, 1)
	if method == bankTransfer { // an employer's, so from no device
		a.device, a.channel = 0, viaBank
	}
}

func (p *planner) signIn(at int64) {
	p.session++
	p.add(at, events.BehaviorSignedIn).session = p.session
}

// moment draws a time of the day in UTC from the customers' local curve, so that span more fits before midnight.
func (p *planner) moment(span int64) int64 {
	curve := workingDay
	if p.sim.free(p.day) {
		curve = freeDay
	}
	local := int64(p.dice.pick(curve))*hour + p.dice.Int64N(hour)
	return min((local+whole-localHours*hour)%whole, whole-span)
}

func (p *planner) sessions(c *customer) {
	mean := c.activity
	if p.sim.free(p.day) {
		mean *= 1.2
	}
	for range p.dice.poisson(mean) {
		p.visit(c)
	}
}

// visit plans one session: sign in, look around, perhaps pay.
func (p *planner) visit(c *customer) {
	d := p.dice
	at := p.moment(sessionSpan)
	if d.chance(failSignIn) {
		p.add(at, events.BehaviorSignInFailed)
		at += d.between(5, 40) * second
	}
	channel := viaApp
	if d.chance(0.1) {
		channel = viaWeb
	}
	p.here.channel = channel
	p.signIn(at)
	for range 1 + d.poisson(extraViews) {
		at += d.between(3, 45) * second
		view := p.add(at, events.BehaviorViewed)
		view.session, view.other = p.session, int32(d.IntN(len(pages)))
	}
	if d.chance(payInSession) {
		p.pay(c, at+d.between(10, 60)*second)
		if d.chance(payAgain) {
			p.pay(c, at+d.between(61, 180)*second)
		}
	}
	if d.chance(signOut) {
		p.add(at+4*minute, events.BehaviorSignedOut).session = p.session
	}
	p.here.channel = viaApp
}

// pay plans a payment on the telephone: mostly a purchase.
func (p *planner) pay(c *customer, at int64) {
	switch x := p.dice.Float64(); {
	case x < 0.80:
		p.buy(c, at, true)
	case x < 0.95:
		p.give(c, at)
	case x < 0.98:
		p.moneyIn(at, p.price(c, 400, 0.8, true), quickPay)
	default:
		p.withdraw(at, p.price(c, 300, 0.7, true))
	}
}

// give plans a transfer to a friend.
func (p *planner) give(c *customer, at int64) {
	d := p.dice
	friend := c.friends[int(float64(len(c.friends))*d.Float64()*d.Float64())] // the first is the closest
	if int(friend) == p.who {                                                 // alone in the market
		return
	}
	a := p.add(at, events.PaymentInitiated)
	a.method, a.purpose, a.other, a.amount = wallet, transfer, friend, p.price(c, 90, 1.0, d.chance(0.6))
}

func (p *planner) withdraw(at, amount int64) {
	a := p.add(at, events.PaymentInitiated)
	a.method, a.purpose, a.amount = bankTransfer, withdrawal, amount
}

// buy plans a purchase at a favourite or any other shop of the market, online or at a counter.
func (p *planner) buy(c *customer, at int64, online bool) {
	d, s := p.dice, p.sim
	shop := p.shop(c, online)
	trade := &categories[s.merchants[shop].category]
	a := p.add(at, events.PaymentInitiated)
	a.method, a.purpose, a.other = wallet, purchase, shop
	a.amount = p.price(c, trade.median*math.Sqrt(float64(c.income)/(7_500*markets[c.market].price)), trade.sigma, d.chance(0.2))
	switch x := d.Float64(); {
	case x < 0.25 && c.hasCard:
		a.method, a.card = byCard, s.card(p.who)
	case x > 0.8:
		a.method = quickPay
	}
	if !online {
		a.channel = viaShop
	}
	a.kind = s.firstKind(a, p.day)
}

// shop draws a merchant, a few times over if its trade does not suit.
func (p *planner) shop(c *customer, online bool) int32 {
	d, s := p.dice, p.sim
	var shop int32
	for range 4 {
		if d.chance(0.75) {
			shop = c.favourites[d.IntN(len(c.favourites))]
		} else {
			shops := s.shops[c.market]
			shop = shops[d.IntN(len(shops))]
		}
		if categories[s.merchants[shop].category].online == online {
			break
		}
	}
	return shop
}

// price draws an amount in minor units of the customer's market: log-normal about a median in CNY; whole ones are
// rounded to tens.
func (p *planner) price(c *customer, median, sigma float64, roundTens bool) int64 {
	cny := min(p.dice.lognormal(median, sigma), 50_000)
	unit := markets[c.market].price
	if roundTens {
		return int64(max(math.Round(cny/10), 1) * 10 * unit)
	}
	return max(int64(math.Round(cny*unit)), 1)
}

func (p *planner) visitShops(c *customer) {
	mean := shopVisits * c.activity
	if p.sim.free(p.day) {
		mean *= 1.3
	}
	for range p.dice.poisson(mean) {
		p.buy(c, p.moment(sessionSpan), false)
	}
}

// receiveIncome plans the salary, and what is put aside of it.
func (p *planner) receiveIncome(c *customer) {
	if p.sim.config.Start.AddDate(0, 0, p.day).Day() != c.payday {
		return
	}
	at := hour + p.dice.Int64N(2*hour) // nine to eleven in the morning
	if p.day == 0 {
		at = max(at, c.registered+10*minute)
	}
	p.moneyIn(at, c.income, bankTransfer)
	if p.dice.chance(withdrawOnPayday) {
		p.withdraw(at+p.dice.between(5, 300)*minute, max(int64(float64(c.income)*p.dice.uniform(0.1, 0.4)), 1))
	}
}

// sundries are what seldom happens.
func (p *planner) sundries(c *customer) {
	d := p.dice
	if _, fresh := p.sim.device(p.who, p.day); fresh {
		p.add(p.moment(sessionSpan), events.BehaviorDeviceBound)
	}
	if p.day == 0 {
		return
	}
	if d.chance(complainADay) {
		p.add(p.moment(sessionSpan), events.BehaviorComplained).other = int32(d.IntN(len(complaints)))
	}
	if d.chance(changePassword) {
		p.add(p.moment(sessionSpan), events.BehaviorPasswordChanged)
	}
	if d.chance(changePhone) {
		p.add(p.moment(sessionSpan), events.BehaviorPhoneChanged)
	}
	if d.chance(addPayee) {
		p.add(p.moment(sessionSpan), events.BehaviorPayeeAdded).other = c.friends[d.IntN(len(c.friends))]
	}
}

// refund plans the return of a purchase of one to nine days ago: that day's life is planned again to find one.
func (p *planner) refund() {
	h := hash(p.sim.config.Seed, ofRefund, p.who, p.day)
	back := p.day - 1 - int(h>>16%9)
	if back < 0 {
		return
	}
	purchases := p.past(p.who, back)
	if len(purchases) == 0 {
		return
	}
	of := &purchases[int(h>>32%uint64(len(purchases)))]
	a := p.later(of, back, events.PaymentRefunded, p.moment(sessionSpan), of.amount)
	if h>>48%3 == 0 && of.amount > 1 { // a part of it
		a.amount = of.amount / 2
	}
}
