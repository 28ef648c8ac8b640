package day

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// line is a line of a statement as its channel will write it.
type line struct {
	at       int64 // the movement's moment: lines of a day stand in its order
	pay      int32
	currency uint8
	quiet    bool   // nothing else may be done to it
	text     bool   // the reference stands in the text alone
	unsaid   bool   // the fee is kept without a word
	ref      string // as written
	booked   int    // days from the day
	value    int
	paid     int64 // before the channel's fee, minor units; negative: away from the house
	fee      int64 // kept by the channel
	count    int   // for how many payments; 0: one
	batch    int   // of which entry it is a detail; 0: of its own
	planted  int   // index in Day.planted from 1; 0: it is right
	twin     bool  // it is what a duplicate repeats
	position int   // line of the file
}

// sheet is one channel's statement in the making.
type sheet struct {
	*rand.Rand
	day   *Day
	via   uint8
	zone  time.Duration // of the channel's days, ahead of UTC
	moves []move
	first []int // where each payment's moves begin; moves of one payment stand together
	lines []line
	made  int // references of payments that there are not
}

// aheadOfUTC is the acquirer's time zone, Asia/Shanghai, which knows no summer time.
const aheadOfUTC = 8 * time.Hour

// write makes a channel's statement.
func (d *Day) write(via uint8, random *rand.Rand) {
	l := &sheet{Rand: random, day: d, via: via}
	if via == viaAcquirer {
		l.zone = aheadOfUTC
	}
	for i := range d.moves {
		if m := &d.moves[i]; d.payments[m.pay].via == via {
			if n := len(l.moves); n == 0 || l.moves[n-1].pay != m.pay {
				l.first = append(l.first, n)
			}
			l.moves = append(l.moves, *m)
		}
	}
	l.book()
	l.plant()
	l.disturb()
	l.batch()
	slices.SortStableFunc(l.lines, func(a, b line) int { // batches at the end of their day, each by itself
		return cmp.Or(cmp.Compare(a.booked, b.booked), cmp.Compare(a.batch, b.batch), cmp.Compare(a.at, b.at))
	})
	first := len(d.files)
	if via == viaAcquirer {
		d.files = append(d.files, l.csv())
	} else {
		d.files = append(d.files, l.camt())
	}
	d.files[first].Channel = channels[via]
	l.place()
}

// place tells the planted errors where in the file they stand.
func (l *sheet) place() {
	for i := range l.lines {
		x := &l.lines[i]
		if x.planted == 0 {
			continue
		}
		if p := &l.day.planted[x.planted-1]; x.twin {
			p.Twin = x.position
		} else {
			p.Line = x.position
		}
	}
}

// date is the channel's day of a moment.
func (l *sheet) date(at int64) int {
	at += int64(l.zone / time.Microsecond)
	if at < 0 {
		return int((at+1)/(24*hour)) - 1
	}
	return int(at / (24 * hour))
}

func (l *sheet) chance(share float64) bool { return l.Float64() < share }

// book writes a line for each movement, and one for the parts of some captures.
func (l *sheet) book() {
	for k := range l.first {
		own := l.of(k)
		parts := 0
		for parts < len(own) && own[parts].part {
			parts++
		}
		if parts > 1 && l.chance(0.5) {
			whole := own[parts-1]
			for _, m := range own[:parts-1] {
				whole.amount += m.amount
			}
			l.add(&whole).quiet = true
			own = own[parts:]
			for i := range own {
				l.add(&own[i]).quiet = true
			}
			continue
		}
		for i := range own {
			l.add(&own[i])
		}
	}
}

// of are the movements of the k-th payment.
func (l *sheet) of(k int) []move {
	end := len(l.moves)
	if k+1 < len(l.first) {
		end = l.first[k+1]
	}
	return l.moves[l.first[k]:end]
}

func (l *sheet) add(m *move) *line {
	date := l.date(m.at)
	l.lines = append(l.lines, line{at: m.at, pay: m.pay, currency: l.day.payments[m.pay].currency, ref: l.day.reference(int(m.pay)), booked: date, value: date, paid: m.amount, fee: l.fee(m.amount)})
	return &l.lines[len(l.lines)-1]
}

// fee is what the acquirer keeps of what it pays: 0.45 %, half up. The bank keeps nothing.
func (l *sheet) fee(amount int64) int64 {
	if l.via != viaAcquirer || amount <= 0 {
		return 0
	}
	return (amount*45 + 5_000) / 10_000
}

// alone are the payments that have one line, by their number in first's order.
func (l *sheet) alone() map[int32]bool {
	one := make(map[int32]bool, len(l.first))
	for k := range l.first {
		if own := l.of(k); len(own) == 1 {
			one[own[0].pay] = true
		}
	}
	return one
}

// How often a channel writes a line as it does not stand in the book.
const (
	otherwise = 0.05  // the reference, but for its letters and digits
	inText    = 0.03  // the reference in the text alone
	cutOff    = 0.01  // the reference cut off
	rounded   = 0.02  // the amount, to the next few minor units
	feeUnsaid = 0.03  // net of a fee of which nothing is said
	nextDay   = 0.10  // booked after the cut-off
	inTwo     = 0.005 // as two lines
)

// tolerated are the basis points that the acquirer may keep without saying so, as its profile has it.
const tolerated = 60

// disturb makes lines differ from the book as channels do: each is still the same money.
func (l *sheet) disturb() {
	alone := l.alone()
	for i := range l.lines {
		x := &l.lines[i]
		if l.chance(nextDay) && x.planted == 0 && !x.quiet {
			x.booked++
		}
		if l.chance(otherwise) && !x.twin {
			x.ref = l.spelt(x.ref)
		}
		if x.quiet || !alone[x.pay] {
			continue
		}
		switch y := l.Float64(); {
		case y < inText:
			x.text, x.ref = true, l.day.reference(int(x.pay))
		case y < inText+cutOff && l.via == viaAcquirer:
			x.ref = l.day.reference(int(x.pay))[:11]
		}
		switch y := l.Float64(); {
		case y < rounded && l.via == viaAcquirer && currencies[x.currency].Exponent() == 2:
			x.paid += 1 + l.Int64N(3)
		case y < rounded+feeUnsaid:
			x.unsaid = l.via == viaAcquirer && x.paid > 0 && x.fee <= x.paid*tolerated/10_000
			if l.via == viaBank && x.paid > leastTarget { // the sender's bank has charged something and says so
				x.fee = 15
			}
		case y < rounded+feeUnsaid+inTwo && x.paid > 1:
			l.split(i)
		}
	}
}

// spelt is a reference as another system writes it.
func (l *sheet) spelt(ref string) string {
	switch l.IntN(3) {
	case 0:
		return strings.ToLower(ref[:5]) + "-" + ref[5:]
	case 1:
		return ref[:4] + " " + ref[4:8] + " " + ref[8:]
	}
	if l.via == viaBank {
		return "000000" + ref
	}
	return strings.ToLower(ref)
}

// split writes a line as two, which differ.
func (l *sheet) split(i int) {
	x := &l.lines[i]
	x.text, x.ref, x.quiet = false, l.day.reference(int(x.pay)), true
	second := *x
	x.paid = x.paid * int64(51+l.IntN(40)) / 100
	second.paid -= x.paid
	x.fee, second.fee = l.fee(x.paid), l.fee(second.paid)
	if second.paid > 0 {
		l.lines = append(l.lines, second)
	} else {
		l.lines[i].paid += second.paid
	}
}

// batch puts payments together: those in yen into one line a day, which does not name them; withdrawals in other
// currencies into entries that do. Lines of the first sort match only if nothing else is open in their currency and on
// their days, so no error is planted in yen.
func (l *sheet) batch() {
	alone := l.alone()
	sums := map[int]*line{}
	var order []int
	kept := l.lines[:0]
	for _, x := range l.lines {
		if x.currency != yen || x.quiet || x.text || x.unsaid || !alone[x.pay] || !l.batched(x.pay) {
			kept = append(kept, x)
			continue
		}
		m := l.only(x.pay)
		date := l.date(m.at)
		if sums[date] == nil {
			sums[date] = &line{at: m.at, pay: -1, currency: yen, quiet: true, booked: date, value: date}
			order = append(order, date)
		}
		sum := sums[date]
		sum.paid, sum.fee, sum.count = sum.paid+m.amount, sum.fee+x.fee, sum.count+1
		if sum.count == 1 {
			sum.ref, sum.batch = x.ref, int(x.pay)
		}
	}
	l.lines = kept
	slices.Sort(order)
	for _, date := range order {
		sum := sums[date]
		if sum.count == 1 { // a batch has several
			sum.pay = int32(sum.batch)
			sum.ref, sum.count = l.day.reference(sum.batch), 0
		}
		sum.batch = 0
		l.lines = append(l.lines, *sum)
	}
	l.detail()
}

// batched says whether a payment in yen goes into its day's line.
func (l *sheet) batched(pay int32) bool {
	p := &l.day.payments[pay]
	if l.via == viaBank {
		return p.purpose == withdrawal
	}
	return p.method == quickPay && p.purpose == purchase
}

// only is the movement of a payment that has one.
func (l *sheet) only(pay int32) *move {
	i, _ := slices.BinarySearchFunc(l.moves, pay, func(m move, pay int32) int { return cmp.Compare(m.pay, pay) })
	return &l.moves[i]
}

// detail puts most of the bank's withdrawals into entries of up to forty.
func (l *sheet) detail() {
	if l.via != viaBank {
		return
	}
	type key struct {
		currency uint8
		booked   int
	}
	open, left, entries := map[key]int{}, map[int]int{}, 0
	for i := range l.lines {
		x := &l.lines[i]
		if x.quiet || x.text || x.planted > 0 || x.paid >= 0 || l.chance(0.4) {
			continue
		}
		k := key{x.currency, x.booked}
		if left[open[k]] == 0 {
			entries++
			open[k], left[entries] = entries, 2+l.IntN(39)
		}
		x.batch = open[k]
		left[x.batch]--
	}
}
