package day

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"sluice/schemas/events"
)

const (
	second = int64(time.Second / time.Microsecond)
	minute = 60 * second
	hour   = 60 * minute
	// opened is when the opening is over.
	opened = 6 * hour
	// customersEvery and merchantsEvery are how many payments there are to one of them.
	customersEvery, merchantsEvery = 8, 250
	leastCustomers, leastMerchants = 60, 40
	// covered is how much of a purchase's money a merchant certainly has of it, whatever the house keeps: nine tenths.
	covered = 10
)

// planner makes payments up. It keeps what it takes to know, without the book, which of them move money: the money of
// each wallet and merchant that is there in any case.
type planner struct {
	*rand.Rand
	day       *Day
	customers [len(currencies)][]int32
	merchants [len(currencies)][]int32
	money     []int64 // of a customer's wallet, from the opening
	margin    []int64 // of a merchant, from the opening
}

func newPlanner(d *Day, random *rand.Rand) *planner {
	n := d.config.Payments
	p := &planner{Rand: random, day: d, money: make([]int64, max(leastCustomers, n/customersEvery)), margin: make([]int64, max(leastMerchants, n/merchantsEvery))}
	for i := range p.money {
		c := currencyOf(i)
		p.customers[c] = append(p.customers[c], int32(i))
	}
	for i := range p.margin {
		c := currencyOf(i)
		p.merchants[c] = append(p.merchants[c], int32(i))
	}
	return p
}

// currencyOf spreads customers and merchants: of twenty one pays in yen, three in Hong Kong dollars.
func currencyOf(i int) uint8 {
	switch i % 20 {
	case 0:
		return yen
	case 1, 2, 3:
		return hongKong
	}
	return yuan
}

// plan makes the opening, then the rest, and puts all in order.
func (p *planner) plan() {
	d := p.day
	p.open()
	for len(d.payments) < d.config.Payments {
		p.pay(p.between(opened+minute, 22*hour))
	}
	slices.SortStableFunc(d.acts, func(a, b act) int { return cmp.Compare(a.at, b.at) })
	for i := range d.acts {
		d.acts[i].number = int32(i)
	}
	p.repeat()
}

// repeat publishes a few events again: they have no effect.
func (p *planner) repeat() {
	d := p.day
	all := make([]act, 0, len(d.acts)+len(d.acts)/100)
	for i := range d.acts {
		all = append(all, d.acts[i])
		if p.chance(0.005) {
			all = append(all, d.acts[i])
		}
		if d.acts[i].at <= opened {
			d.opening = len(all)
		}
	}
	d.acts = all
}

// open brings money into every wallet, and into every merchant's account, and leaves authorizations of last week.
func (p *planner) open() {
	for range 2 + p.day.config.Payments/5_000 {
		pay, a := p.begin(payment{customer: p.customer(yuan), other: p.honest(yuan), currency: yuan, method: card, purpose: purchase, via: viaAcquirer, amount: p.amount(yuan, 20, 900)},
			events.PaymentAuthorized, -8*24*hour+p.between(0, hour))
		p.act(pay, events.PaymentCaptured, p.between(opened+minute, 20*hour), a.amount) // too late: it has run out
	}
	for c := range p.customers {
		for _, who := range p.customers[c] {
			amount := p.amount(uint8(c), 20_000, 60_000)
			p.topUp(who, amount, p.between(5*minute, 3*hour))
			p.money[who] = amount
		}
		for _, m := range p.merchants[c] {
			if bets(m) {
				continue
			}
			amount := p.amount(uint8(c), 5_000, 20_000)
			at := p.between(3*hour+minute, opened)
			pay, _ := p.begin(payment{customer: p.customer(uint8(c)), other: m, currency: uint8(c), method: card, purpose: purchase, via: viaAcquirer, amount: amount}, events.PaymentInitiated, at)
			p.move(pay, at, amount)
			p.margin[m] = amount - amount/covered
		}
	}
}

func (p *planner) topUp(who int32, amount, at int64) {
	pay, _ := p.begin(payment{customer: who, currency: currencyOf(int(who)), purpose: topUp, amount: amount}, events.KindUnknown, at)
	of := &p.day.payments[pay]
	switch x := p.Float64(); {
	case x < 0.6:
		of.method, of.via = bankTransfer, viaBank
	case x < 0.85:
		of.method, of.via = quickPay, viaAcquirer
	default:
		of.method, of.via = card, viaAcquirer
	}
	p.act(pay, events.PaymentInitiated, at, amount)
	p.move(pay, at, amount)
}

// pay makes one payment of the day and its life.
func (p *planner) pay(at int64) {
	who := int32(p.IntN(len(p.money)))
	c := currencyOf(int(who))
	switch x := p.Float64(); {
	case x < 0.20:
		p.fromWallet(who, c, at)
	case x < 0.30:
		p.give(who, c, at)
	case x < 0.37:
		p.withdraw(who, c, at)
	case x < 0.41:
		p.topUp(who, p.amount(c, 50, 2_000), at)
	case x < 0.57:
		p.twoSteps(who, c, at)
	case x < 0.64:
		p.buy(who, c, at, bankTransfer, viaBank)
	case x < 0.80:
		p.buy(who, c, at, quickPay, viaAcquirer)
	default:
		p.buy(who, c, at, card, viaAcquirer)
	}
}

// fromWallet is a purchase with money in the wallet, as long as there is certainly some; some is refunded.
func (p *planner) fromWallet(who int32, c uint8, at int64) {
	shop := p.shop(c)
	amount := p.amount(c, 5, 400)
	if !bets(shop) && p.money[who] < amount {
		p.buy(who, c, at, quickPay, viaAcquirer)
		return
	}
	pay, _ := p.begin(payment{customer: who, other: shop, currency: c, method: wallet, purpose: purchase, amount: amount}, events.PaymentInitiated, at)
	if bets(shop) {
		return
	}
	p.money[who] -= amount
	if p.chance(0.04) {
		p.act(pay, events.PaymentRefunded, p.later(at), p.between(1, amount-amount/covered))
	}
}

func (p *planner) give(who int32, c uint8, at int64) {
	amount, friend := p.amount(c, 5, 500), p.customer(c)
	if p.money[who] < amount || friend == who {
		p.topUp(who, amount, at)
		return
	}
	p.begin(payment{customer: who, other: friend, currency: c, method: wallet, purpose: transfer, amount: amount}, events.PaymentInitiated, at)
	p.money[who] -= amount
}

// withdraw takes money out by bank. Of a hundred, one asks for more than there is, and of two the bank sends the money back.
func (p *planner) withdraw(who int32, c uint8, at int64) {
	of := payment{customer: who, currency: c, method: bankTransfer, purpose: withdrawal, via: viaBank, amount: p.amount(c, 50, 3_000)}
	if p.chance(0.01) {
		of.amount = p.amount(c, 9_000_000, 9_900_000)
		p.begin(of, events.PaymentInitiated, at)
		return
	}
	if p.money[who] < of.amount {
		p.topUp(who, of.amount, at)
		return
	}
	p.money[who] -= of.amount
	pay, _ := p.begin(of, events.PaymentInitiated, at)
	p.move(pay, at, -of.amount)
	if p.chance(0.02) {
		back := p.later(at)
		p.act(pay, events.PaymentFailed, back, of.amount)
		p.move(pay, back, of.amount)
	}
}

// buy is a purchase that moves at once, and what comes after.
func (p *planner) buy(who int32, c uint8, at int64, method, via uint8) {
	shop := p.shop(c)
	amount := p.amount(c, 5, 1_200)
	pay, _ := p.begin(payment{customer: who, other: shop, currency: c, method: method, purpose: purchase, via: via, amount: amount}, events.PaymentInitiated, at)
	if bets(shop) {
		p.inVain(pay, at, amount)
		return
	}
	p.move(pay, at, amount)
	x := p.Float64()
	switch {
	case x < 0.06:
		p.refund(pay, at, amount)
	case x < 0.075:
		p.allBack(pay, events.PaymentVoided, at, amount)
	case x < 0.08:
		p.allBack(pay, events.PaymentFailed, at, amount)
	case x < 0.09:
		p.chargeBack(pay, at, amount)
	case x < 0.10: // more than was paid
		p.act(pay, events.PaymentRefunded, p.later(at), amount+1)
	}
	if p.chance(0.3) {
		p.act(pay, events.PaymentSettled, p.between(23*hour+minute, 24*hour-1), amount)
		if x >= 0.10 && p.chance(0.02) { // too late
			p.act(pay, events.PaymentVoided, 24*hour-1, amount)
		}
	}
}

// inVain asks for money back that never moved.
func (p *planner) inVain(pay int32, at, amount int64) {
	switch x := p.Float64(); {
	case x < 0.1:
		p.act(pay, events.PaymentRefunded, p.later(at), amount)
	case x < 0.2:
		p.act(pay, events.PaymentChargedBack, p.later(at), amount)
	case x < 0.25:
		p.act(pay, events.PaymentSettled, p.later(at), amount)
	}
}

// twoSteps is a card purchase that is authorized, captured in up to three parts, and settled. It is never a bet: of
// authorizations no rule gives a verdict, the issuer has.
func (p *planner) twoSteps(who int32, c uint8, at int64) {
	amount := p.amount(c, 20, 2_000)
	pay, _ := p.begin(payment{customer: who, other: p.honest(c), currency: c, method: card, purpose: purchase, via: viaAcquirer, amount: amount}, events.PaymentAuthorized, at)
	x := p.Float64()
	switch {
	case x < 0.04: // still open at the end of the day
		return
	case x < 0.10:
		p.act(pay, events.PaymentVoided, p.later(at), amount)
		return
	}
	captured := amount
	if p.chance(0.2) {
		captured = amount * p.between(70, 95) / 100
	}
	at = p.capture(pay, at, captured)
	if p.chance(0.03) { // more than is held
		p.act(pay, events.PaymentCaptured, min(at+minute, 23*hour), amount-captured+1)
	}
	switch x := p.Float64(); {
	case x < 0.05:
		p.refund(pay, at, captured)
	case x < 0.06:
		p.chargeBack(pay, at, captured)
		return
	case x < 0.10 && captured < amount: // lets go of what is still held
		p.act(pay, events.PaymentVoided, min(at+minute, 23*hour), amount)
	}
	if p.chance(0.9) {
		p.act(pay, events.PaymentSettled, p.between(23*hour+minute, 24*hour-1), captured)
	}
}

// capture takes what was authorized, in up to three different parts, and returns when the last was taken.
func (p *planner) capture(pay int32, at, amount int64) int64 {
	parts := []int64{amount}
	switch x := p.Float64(); {
	case x < 0.25:
		first := amount * p.between(51, 80) / 100
		parts = []int64{first, amount - first}
	case x < 0.40:
		first, second := amount*p.between(51, 60)/100, amount*p.between(26, 29)/100
		parts = []int64{first, second, amount - first - second}
	}
	for _, part := range parts {
		at = p.later(at)
		p.act(pay, events.PaymentCaptured, at, part)
		p.move(pay, at, part)
		p.day.moves[len(p.day.moves)-1].part = len(parts) > 1
	}
	return at
}

// refund gives back some of a purchase, in up to three parts, or all of it if the merchant is sure to have it.
func (p *planner) refund(pay int32, at, amount int64) {
	sure := amount - amount/covered
	if p.chance(0.3) && p.spare(pay, amount-sure) {
		at = p.later(at)
		p.act(pay, events.PaymentRefunded, at, amount)
		p.move(pay, at, -amount)
		return
	}
	for range 1 + p.IntN(3) {
		part := p.between(1, max(sure/2, 1))
		if part > sure {
			return
		}
		sure -= part
		at = p.later(at)
		p.act(pay, events.PaymentRefunded, at, part)
		p.move(pay, at, -part)
	}
}

// allBack undoes a purchase: fee and all, so that the merchant is where it was.
func (p *planner) allBack(pay int32, kind events.Kind, at, amount int64) {
	at = p.later(at)
	p.act(pay, kind, at, amount)
	p.move(pay, at, -amount)
}

// chargeBack takes back what was paid, at times after a part was refunded.
func (p *planner) chargeBack(pay int32, at, amount int64) {
	if !p.spare(pay, amount/covered) {
		return
	}
	left := amount
	if p.chance(0.2) {
		part := p.between(1, max(amount/2, 1))
		at = p.later(at)
		p.act(pay, events.PaymentRefunded, at, part)
		p.move(pay, at, -part)
		left -= part
	}
	if left == 0 {
		return
	}
	at = p.later(at)
	p.act(pay, events.PaymentChargedBack, at, amount) // the issuer asks for all: it gets what is left
	p.move(pay, at, -left)
}

// spare takes an amount from what a merchant has beside the money of the payment itself.
func (p *planner) spare(pay int32, amount int64) bool {
	m := p.day.payments[pay].other
	if p.margin[m] < amount {
		return false
	}
	p.margin[m] -= amount
	return true
}

// begin makes a payment with its first event, none for KindUnknown.
func (p *planner) begin(of payment, kind events.Kind, at int64) (int32, payment) {
	pay := int32(len(p.day.payments))
	p.day.payments = append(p.day.payments, of)
	if kind != events.KindUnknown {
		p.act(pay, kind, at, of.amount)
	}
	return pay, of
}

func (p *planner) act(pay int32, kind events.Kind, at, amount int64) {
	p.day.acts = append(p.day.acts, act{at: at, amount: max(amount, 1), pay: pay, kind: kind})
}

func (p *planner) move(pay int32, at, amount int64) {
	p.day.moves = append(p.day.moves, move{at: at, amount: amount, pay: pay})
}

func (p *planner) chance(share float64) bool { return p.Float64() < share }

// between is uniform in [low, high].
func (p *planner) between(low, high int64) int64 { return low + p.Int64N(max(high-low, 0)+1) }

// later is a moment after another, before what is settled at eleven.
func (p *planner) later(at int64) int64 { return min(at+p.between(second, hour), 23*hour) }

// amount draws an amount, in minor units: mostly small, log-uniform between two bounds.
func (p *planner) amount(c uint8, low, high int64) int64 {
	n := low
	for n*2 <= high && p.chance(0.7) {
		n *= 2
	}
	n = min(n, high/2)
	return p.between(max(n, low)*price[c], max(2*n, low)*price[c])
}

func (p *planner) customer(c uint8) int32 { return p.customers[c][p.IntN(len(p.customers[c]))] }

// shop is any merchant of a currency, honest one that takes no bets.
func (p *planner) shop(c uint8) int32 { return p.merchants[c][p.IntN(len(p.merchants[c]))] }

func (p *planner) honest(c uint8) int32 {
	for {
		if m := p.shop(c); !bets(m) {
			return m
		}
	}
}
