package simulator

import (
	"math"
	"strconv"
	"time"

	"sluice/pipelines/lending"
	"sluice/schemas/events"
)

const (
	// loanEvery is how many days hold at most one application of a customer; loanShare of them do.
	loanEvery = 120
	loanShare = 0.36
	// loansOpen is how many such spans back a loan can still be repaid: twelve months, and the latest payer's delay.
	loansOpen = 4
	// leastBureau is the score from which a channel lets a customer accept; a stricter ruleset will have declined some.
	leastBureau = 600
	// writeOffAfter is how many days after the first missed instalment a loan is given up.
	writeOffAfter = 90
)

// loan is a customer's loan, or that there is none: drawn once from the customer and the span, so that each day knows
// what is due without looking at the days before.
type loan struct {
	exists   bool
	day      int   // of the application
	at       int64 // microseconds into it
	amount   int64
	term     int32
	rate     events.Rate
	purpose  string
	debt     int64
	accepted int64 // microseconds into the day; 0: never
	canceled bool  // withdrawn instead of accepted
	ahead    bool  // pays each instalment a month early, the first on the first day
	delay    int   // days late with every instalment
	pays     int32 // instalments paid before default; term: all
}

var loanPurposes = []string{"consumption", "education", "travel", "medical", "renovation"}

// loan draws the loan of a customer's k-th span.
func (s *Simulation) loan(d *dice, who, k int) loan {
	c := &s.customers[who]
	d.set(s.config.Seed, ofLoan, who, k)
	phase := int(hash(s.config.Seed, ofLoan, who, -1) % loanEvery)
	l := loan{exists: k >= 0 && d.chance(loanShare), day: k*loanEvery - phase + d.IntN(loanEvery)}
	if !l.exists || l.day < 0 {
		return loan{}
	}
	l.at = d.between(6*minute, 20*hour)
	if l.day == 0 {
		l.at = max(l.at, c.registered+10*minute)
	}
	unit := int64(markets[c.market].price) * 100
	l.amount = max(int64(float64(c.income)*d.uniform(0.3, 2.5))/unit, 1) * unit
	l.term = []int32{3, 6, 6, 12}[d.IntN(4)]
	l.rate = events.Rate(60_000 + 10_000*((850-int64(c.bureau))/25))
	l.purpose = loanPurposes[d.IntN(len(loanPurposes))]
	l.debt = int64(float64(c.income) * math.Max(0, d.lognormal(1.5, 1)-0.5))
	l.drawConduct(d, c)
	return l
}

// drawConduct says how the customer deals with the loan: quality shows.
func (l *loan) drawConduct(d *dice, c *customer) {
	l.pays = l.term
	l.canceled = d.chance(0.04)
	if c.bureau >= leastBureau {
		l.accepted = l.at + d.between(2, 40)*minute
	}
	switch x, bad := d.Float64(), 1-c.quality; {
	case x < 0.5*bad*bad:
		l.pays = int32(d.IntN(int(l.term)))
	case x < 0.5*bad*bad+0.4*bad:
		l.delay = int(d.between(2, 25))
	case x > 0.9:
		l.ahead = true
	}
}

// borrow plans what a customer does about loans on a day.
func (p *planner) borrow(who int) {
	span := p.day / loanEvery
	for k := max(span-loansOpen, 0); k <= span+1; k++ { // the phase lets a span begin up to loanEvery days early
		if l := p.sim.loan(p.loanDice, who, k); l.exists && l.day <= p.day {
			p.dealWith(&l, k)
		}
	}
}

func (p *planner) dealWith(l *loan, k int) {
	if l.day == p.day {
		p.loanAct(l.at, events.LoanApplied, k, l.amount)
		switch {
		case l.accepted == 0:
			return
		case l.canceled:
			p.loanAct(l.accepted, events.LoanCancelled, k, 0)
			return
		}
		p.loanAct(l.accepted, events.LoanAccepted, k, l.amount)
	}
	if l.accepted > 0 && !l.canceled && p.mayPay(l) {
		p.repay(l, k)
	}
}

func (p *planner) loanAct(at int64, kind events.Kind, k int, amount int64) {
	a := p.add(at, kind)
	a.other, a.amount = int32(k), amount
}

// mayPay is a quick sieve: instalments are due on the loan's day of the month, or the month's last.
func (p *planner) mayPay(l *loan) bool {
	if l.ahead && l.day == p.day {
		return true
	}
	start := p.sim.config.Start
	due := start.AddDate(0, 0, p.day-l.delay)
	if l.pays < l.term {
		return true // a default is rare, and its write-off falls on any day
	}
	return due.Day() == start.AddDate(0, 0, l.day).Day() || due.AddDate(0, 0, 1).Day() == 1
}

// repay plans the instalment paid on this day, if there is one, or the lender's giving up.
func (p *planner) repay(l *loan, k int) {
	schedule := lending.Schedule(l.amount, l.rate, l.term, p.clock(l.day, l.accepted))
	for i, in := range schedule {
		due := int(in.Due.Sub(p.sim.config.Start) / (24 * time.Hour))
		at := int64(in.Due.Sub(p.clock(due, 0))/time.Microsecond) + hour
		switch {
		case int32(i) == l.pays:
			if due+writeOffAfter == p.day {
				p.loanAct(12*hour, events.LoanWrittenOff, k, 0)
			}
			return
		case l.ahead && i == 0:
			due, at = l.day, l.accepted+hour
		case l.ahead:
			due = int(schedule[i-1].Due.Sub(p.sim.config.Start) / (24 * time.Hour))
		default:
			due += l.delay
		}
		if due == p.day {
			p.loanAct(at, events.LoanRepaid, k, in.Principal+in.Interest)
		}
	}
}

// clock is a moment of a day as a time.
func (p *planner) clock(day int, at int64) time.Time {
	return p.sim.config.Start.Add(time.Duration(day)*24*time.Hour + time.Duration(at)*time.Microsecond)
}

// loanEventOf fills a loan's event.
func (s *Simulation) loanEventOf(e *events.Event, a *act) {
	c := &s.customers[a.who]
	e.LoanID = "l" + strconv.Itoa(int(a.who)) + "-" + strconv.Itoa(int(a.other))
	e.CustomerName = s.nameOf(a.who)
	if a.amount > 0 {
		e.Amount, e.Currency = a.amount, markets[c.market].currency
	}
	switch a.kind {
	case events.LoanApplied:
		l := s.loan(newDice(), int(a.who), int(a.other))
		e.Product = "cash-" + strconv.Itoa(int(l.term)) + "m"
		e.TermMonths, e.AnnualRate, e.LoanPurpose = l.term, l.rate, l.purpose
		e.MonthlyIncome, e.OutstandingDebt = c.income, l.debt
		e.Age, e.EmploymentMonths, e.BureauScore = c.age, c.employment, c.bureau
	case events.LoanCancelled:
		e.Reason = "changed_mind"
	case events.LoanWrittenOff:
		e.Reason = "overdue"
		e.DeviceID, e.IP, e.Country, e.Latitude, e.Longitude, e.Located = "", "", "", 0, 0, false // the lender's own doing
	}
}
