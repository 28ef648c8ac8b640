package day

import (
	"slices"

	"sluice/pipelines/reconcile"
)

// plant puts errors into the statement, as many of each class as of the others. Each has a payment of its own. What makes
// an error another one is kept away from: amounts that the payment has moved besides, since a line that repeats another
// is a duplicate; lines within the tolerances; and lines that only a sum explains.
func (l *sheet) plant() {
	d := l.day
	targets := l.targets()
	l.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	first, step := 0, 2 // every second error is this channel's
	if l.via == viaBank {
		first = 1
	}
	dropped := map[int]bool{}
	for n := first; n < d.config.Errors && len(targets) > 0; n += step {
		i := targets[0]
		targets = targets[1:]
		l.plantOne(reconcile.Classes()[n/2%len(reconcile.Classes())], i, dropped)
	}
	kept := l.lines[:0]
	for i := range l.lines {
		if !dropped[i] {
			kept = append(kept, l.lines[i])
		}
	}
	l.lines = kept
}

// targets are lines, one of a payment, that an error can be planted on.
func (l *sheet) targets() []int {
	var targets []int
	taken := map[int32]bool{}
	own := map[int32][]move{}
	for k := range l.first {
		own[l.moves[l.first[k]].pay] = l.of(k)
	}
	for i := range l.lines {
		x := &l.lines[i]
		if x.quiet || x.currency == yen || taken[x.pay] || !differ(own[x.pay]) || abs(x.paid) < leastTarget {
			continue
		}
		// Any of the payment's lines, so that refunds and charge-backs have errors too.
		if l.chance(0.5) && i+1 < len(l.lines) && l.lines[i+1].pay == x.pay {
			continue
		}
		taken[x.pay] = true
		targets = append(targets, i)
	}
	return targets
}

// leastTarget is the least amount that an error is planted on, in minor units: a hundredth of it is above the tolerance.
const leastTarget = 1_000

// differ says whether no two movements have the same amount.
func differ(own []move) bool {
	for i := range own {
		if slices.ContainsFunc(own[:i], func(m move) bool { return m.amount == own[i].amount }) {
			return false
		}
	}
	return true
}

func (l *sheet) plantOne(class reconcile.Class, i int, dropped map[int]bool) {
	d := l.day
	for k := range l.lines { // nothing else is done to the payment's lines
		if k >= i-maxMoves && k <= i+maxMoves && l.lines[k].pay == l.lines[i].pay {
			l.lines[k].quiet = true
		}
	}
	x := &l.lines[i]
	e := Planted{Channel: channels[l.via], Class: class.String(), Reference: x.ref, Amount: x.paid, Currency: currencies[x.currency]}
	number := len(d.planted) + 1
	switch class {
	case reconcile.MissingThere:
		dropped[i] = true
	case reconcile.Amount:
		wrong := l.otherAmount(x)
		e.Amount = wrong - x.paid
		x.paid, x.fee, x.planted = wrong, l.fee(wrong), number
		if l.chance(0.3) {
			x.booked++
		}
	case reconcile.Timing:
		x.booked += 4 + l.IntN(6)
		x.planted = number
	case reconcile.Duplicate:
		copied := *x
		x.planted, x.twin, copied.planted = number, true, number
		if l.chance(0.5) { // they are told apart by the day
			copied.booked++
			x.planted = 0
		}
		l.lines = append(l.lines, copied)
	case reconcile.MissingHere:
		more := *x
		more.planted, more.paid = number, l.otherAmount(x)
		more.fee = l.fee(more.paid)
		if l.chance(0.6) { // of a payment that there is not
			l.made++
			more.pay, more.ref = -1, d.numbered(l.via, d.config.Payments+l.made)
			more.at = (more.at + 7*hour) % (24 * hour)
		}
		e.Amount, e.Reference = more.paid, more.ref
		l.lines = append(l.lines, more)
	}
	d.planted = append(d.planted, e)
}

// maxMoves is the most movements of one payment.
const maxMoves = 8

// otherAmount is an amount of the same direction that no movement of the payment has, a tenth or more away.
func (l *sheet) otherAmount(x *line) int64 {
	for {
		share := 20 + l.Int64N(71)
		if l.chance(0.4) {
			share = 110 + l.Int64N(90)
		}
		wrong := x.paid * share / 100
		near := func(m move) bool { return m.pay == x.pay && abs(m.amount-wrong)*100 <= abs(wrong) }
		at, _ := slices.BinarySearchFunc(l.moves, x.pay, func(m move, pay int32) int { return int(m.pay - pay) })
		if !slices.ContainsFunc(l.moves[at:min(at+maxMoves, len(l.moves))], near) {
			return wrong
		}
	}
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}
