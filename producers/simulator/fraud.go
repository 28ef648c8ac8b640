package simulator

import (
	"math"

	"sluice/schemas/events"
)

// Frauds a day for each customer. With some 3.4 payments of a customer and day they make three to five payments in a
// thousand.
const (
	cardTestingADay = 0.00032 // 8 to 15 payments each
	takeoverADay    = 0.0012  // 1 or 2
	muleChainADay   = 0.00065 // 4 to 7
	collusionADay   = 0.0004  // 5 to 9
	// fraudSpan is the most a fraud takes; it begins so long before midnight at the latest.
	fraudSpan = 3 * hour
	// tries bounds the search for people who are there already.
	tries = 20
	// noticed is how many in a hundred fraudulent payments somebody complains of. Mules complain of none.
	noticed = 85
	// firstNotice and lastNotice bound the days from such a payment to its charge-back. Schemes allow months; most come
	// within weeks.
	firstNotice, lastNotice = 2, 20
)

// defraud plans the fraud of the day. Each is drawn from the seed, the day and its number.
func (p *planner) defraud() {
	n := float64(len(p.sim.customers))
	p.dice.set(p.sim.config.Seed, ofFraud, p.day, -1)
	var scripts []func()
	for _, f := range []struct {
		play func()
		aDay float64
	}{{p.testCards, cardTestingADay}, {p.takeOver, takeoverADay}, {p.chainMules, muleChainADay}, {p.collude, collusionADay}} {
		for range p.dice.poisson(n * f.aDay) {
			scripts = append(scripts, f.play)
		}
	}
	for i, play := range scripts {
		p.dice.set(p.sim.config.Seed, ofFraud, p.day, i)
		p.number, p.session = 0, 0
		p.here = act{script: int32(i)}
		play()
	}
	p.scripts = len(scripts)
}

// goOn plans what the payments of earlier frauds go on with today, as a script after those of the day's fraud: their channels
// settle them, their payers take them back, and some of that is contested. The fraud of the days before is planned again to
// find it. The channel does not know which of the payments were declined; the book does.
func (p *planner) goOn() {
	p.dice.set(p.sim.config.Seed, ofChargeBack, p.day, -1)
	p.number, p.lifeScript = 0, p.scripts
	for days := 1; days <= min(lastNotice+representAfter, p.day); days++ {
		past := planner{sim: p.sim, day: p.day - days, dice: newDice()}
		past.defraud()
		for i := range past.acts {
			if of := &past.acts[i]; of.kind == events.PaymentInitiated {
				p.goOnWith(of, past.day, days)
			}
		}
	}
}

// goOnWith plans what happens to one payment of a fraud so many days after.
func (p *planner) goOnWith(of *act, day, days int) {
	noticed := p.sim.noticedAfter(of, day)
	switch {
	case days == 1:
		if of.carried() {
			p.settle(of, day)
		}
	case days == noticed:
		p.later(of, day, events.PaymentChargedBack, p.moment(sessionSpan), of.amount).channel = viaBank // the issuer takes it back
	case noticed > 0 && days == noticed+representAfter && p.sim.contested(of, day):
		p.later(of, day, events.PaymentRepresented, p.moment(sessionSpan), of.amount).channel = viaBank
	}
}

// contested says whether a charge-back is contested with success.
func (s *Simulation) contested(a *act, day int) bool {
	return hash(s.config.Seed, ofLife, day, int(a.script)<<16|int(a.number))%1000 < represented
}

// noticedAfter is how many days pass until a fraudulent payment is charged back; 0: it never is.
func (s *Simulation) noticedAfter(a *act, day int) int {
	h := hash(s.config.Seed, ofChargeBack, day, int(a.script)<<16|int(a.number))
	if a.label == muleChain || h%100 >= noticed {
		return 0
	}
	return firstNotice + int(h>>16%(lastNotice-firstNotice+1))
}

// start draws when a fraud begins. Fraud likes the night.
func (p *planner) start() int64 {
	at := p.moment(fraudSpan)
	if p.dice.chance(0.4) {
		at = min((p.dice.between(0, 5)*hour+p.dice.Int64N(hour)+whole-localHours*hour)%whole, whole-fraudSpan)
	}
	return at
}

// people draws n different customers of one market who have registered before a moment; false if it finds too few.
func (p *planner) people(n int, before int64) ([]int32, bool) {
	s := p.sim
	market := s.customers[p.dice.IntN(len(s.customers))].market
	residents := s.residents[market]
	var found []int32
	for range tries * n {
		who := residents[p.dice.IntN(len(residents))]
		if p.day == 0 && s.customers[who].registered+settled >= before || contains(found, who) {
			continue
		}
		if found = append(found, who); len(found) == n {
			return found, true
		}
	}
	return nil, false
}

func contains(all []int32, who int32) bool {
	for _, x := range all {
		if x == who {
			return true
		}
	}
	return false
}

// strange gives the fraud a device and an address of its own.
func (p *planner) strange(place int) {
	p.here.place = int32(place)
	p.here.device = p.dice.Uint64() | 1<<63
	p.here.ip = uint32(40+8*place+1)<<24 | p.dice.Uint32N(1<<24-2) + 1
}

// at home lets the customer act on their own device.
func (p *planner) atHome(who int32) {
	place := p.sim.place(int(who), p.day)
	device, _ := p.sim.device(int(who), p.day)
	p.here.place, p.here.device, p.here.ip = int32(place), device, p.sim.address(int(who), p.day, place, false)
}

// major draws an amount between so many CNY, in the customer's currency, in multiples of step CNY.
func (p *planner) major(who int32, low, high, step int64) int64 {
	unit := int64(markets[p.sim.customers[who].market].price)
	return p.dice.between(low/step, high/step) * step * unit
}

// testCards: on one device, many small payments with one stolen card, some of which its bank declines; when enough have
// passed, a large one.
func (p *planner) testCards() {
	d, at := p.dice, p.start()
	who, ok := p.people(1, at)
	if !ok {
		return
	}
	p.strange(p.sim.customers[who[0]].city)
	p.here.who, p.here.label = who[0], cardTesting
	p.here.method, p.here.purpose, p.here.channel, p.here.card = byCard, purchase, viaWeb, d.Uint64()|1<<63
	shops := p.sim.shops[p.sim.customers[who[0]].market]
	small := int(d.between(7, 14))
	for i := range small {
		at += d.between(4, 40) * second
		kind := events.PaymentInitiated
		if d.chance(0.45) || i == 1 { // at least one fails
			kind = events.PaymentFailed
		}
		a := p.add(at, kind)
		a.other = shops[d.IntN(len(shops))]
		a.amount = max(p.major(who[0], 1, 9, 1)-d.Int64N(20), 1)
	}
	a := p.add(at+d.between(1, 10)*minute, events.PaymentInitiated)
	a.other, a.amount = shops[d.IntN(len(shops))], p.major(who[0], 2_000, 9_000, 1)
}

// takeOver: a sign-in from a new device abroad, the password changed, a payee added, then the money goes.
func (p *planner) takeOver() {
	d, at := p.dice, p.start()
	who, ok := p.people(2, at)
	if !ok {
		return
	}
	victim, payee := who[0], who[1]
	p.strange(firstRemote + d.IntN(len(cities)-firstRemote))
	p.here.who, p.here.label = victim, accountTakeover
	for range d.IntN(4) {
		p.add(at, events.BehaviorSignInFailed)
		at += d.between(5, 60) * second
	}
	p.signIn(at)
	p.add(at+d.between(20, 90)*second, events.BehaviorPasswordChanged)
	at += d.between(91, 300) * second
	p.add(at, events.BehaviorPayeeAdded).other = payee
	for range d.between(1, 2) {
		at += d.between(30, 400) * second
		a := p.add(at, events.PaymentInitiated)
		a.method, a.purpose, a.other = wallet, transfer, payee
		a.amount = p.shareOf(victim, 0.25, 0.8)
	}
}

// shareOf is a part of a customer's income.
func (p *planner) shareOf(who int32, low, high float64) int64 {
	return max(int64(math.Round(float64(p.sim.customers[who].income)*p.dice.uniform(low, high))), 1)
}

// chainMules: money comes in and goes on within minutes through three to five accounts; the last takes it out.
func (p *planner) chainMules() {
	d, at := p.dice, p.start()
	mules, ok := p.people(int(d.between(3, 5)), at)
	if !ok {
		return
	}
	p.here.label = muleChain
	p.here.who = mules[0]
	p.atHome(mules[0])
	amount := p.major(mules[0], 5_000, 40_000, 100)
	p.moneyIn(at, amount, bankTransfer)
	for i := range mules[1:] {
		at += d.between(40, 600) * second
		amount -= amount * d.between(1, 4) / 100 // each keeps a little
		p.here.who = mules[i]
		p.atHome(mules[i])
		a := p.add(at, events.PaymentInitiated)
		a.method, a.purpose, a.other, a.amount = wallet, transfer, mules[i+1], amount
	}
	last := mules[len(mules)-1]
	p.here.who = last
	p.atHome(last)
	p.withdraw(at+d.between(40, 600)*second, amount)
}

// collude: several customers on one device pay one merchant large round amounts.
func (p *planner) collude() {
	d, at := p.dice, p.start()
	payers, ok := p.people(int(d.between(5, 9)), at)
	if !ok {
		return
	}
	market := p.sim.customers[payers[0]].market
	p.strange(p.sim.customers[payers[0]].city)
	p.here.label, p.here.method, p.here.purpose = colludingMerchants, quickPay, purchase
	p.here.other = p.sim.shops[market][d.IntN(len(p.sim.shops[market]))]
	for _, who := range payers {
		at += d.between(1, 12) * minute
		p.here.who = who
		p.add(at, events.PaymentInitiated).amount = p.major(who, 1_000, 5_000, 500)
	}
}
