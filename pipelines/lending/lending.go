// Package lending is a loan's way from application to the last repayment: which status follows, which instalments are
// owed, and which transfers move the money. It decides no credit (the gate's rules do), keeps nothing and knows no clock:
// time comes from the events.
package lending

import (
	"time"

	"sluice/schemas/events"
)

// Status is where a loan stands.
type Status uint8

// The statuses. A loan begins as Approved, Reviewing or Declined, by the verdict on its application.
const (
	NoStatus   Status = iota
	Approved          // may be accepted by the customer
	Reviewing         // a person looks at the application; it cannot be accepted meanwhile
	Declined          // final
	Active            // disbursed, being repaid
	Repaid            // final: all is paid
	Cancelled         // final: withdrawn before disbursement
	WrittenOff        // final: the lender has given it up; the receivable stays in the book
	statuses          // how many there are
)

// String returns the status in words: "written_off".
func (s Status) String() string {
	if s >= statuses {
		s = NoStatus
	}
	return [...]string{"none", "approved", "reviewing", "declined", "active", "repaid", "cancelled", "written_off"}[s]
}

// Loan is one loan. Amounts are minor units of Currency. Apply never changes a loan: it returns the next one.
type Loan struct {
	ID         string
	Customer   string // the borrower
	Product    string
	Currency   events.Currency
	Status     Status
	Principal  int64       // approved while not yet active, then disbursed; at most what was approved
	AnnualRate events.Rate // nominal, a twelfth of it a month
	TermMonths int32       // instalments agreed, 1 to events.MaxTermMonths

	AppliedAt   time.Time
	DisbursedAt time.Time // zero until active
	ClosedAt    time.Time // zero until repaid, cancelled or written off

	Schedule       []Instalment // empty until active
	EarlyPrincipal int64        // principal paid beyond the schedule: Principal = EarlyPrincipal + the schedule's principal
	PaidInterest   int64
	PaidPrincipal  int64 // EarlyPrincipal included
}

// Instalment is what is owed at one due date, and what of it is paid. Amounts are minor units.
type Instalment struct {
	Number        int32 // from 1
	Due           time.Time
	Principal     int64
	Interest      int64
	PaidPrincipal int64
	PaidInterest  int64
}

// Unpaid is what is still owed of the instalment.
func (i *Instalment) Unpaid() int64 {
	return i.Principal - i.PaidPrincipal + i.Interest - i.PaidInterest
}

// Receivable is the principal still owed: the balance of the loan's account in the book. 0 until disbursed.
func (l *Loan) Receivable() int64 {
	if l.DisbursedAt.IsZero() {
		return 0
	}
	return l.Principal - l.PaidPrincipal
}

// Payoff is what settles an active loan at a moment: whatever is unpaid of the instalments due by then and of the running
// one, whose month counts as a whole, and the principal of those after it, without interest. 0 if the loan is not active.
func (l *Loan) Payoff(at time.Time) int64 {
	if l.Status != Active {
		return 0
	}
	running := l.running(at)
	var owed int64
	for i := range l.Schedule {
		if i < running {
			owed += l.Schedule[i].Unpaid()
		} else {
			owed += l.Schedule[i].Principal
		}
	}
	return owed
}

// running counts the instalments up to the running one: those due before at, the next one, and any that a payment has
// reached before (events may come out of order, and what is paid stays as it is).
func (l *Loan) running(at time.Time) int {
	n := 0
	for n < len(l.Schedule) && l.Schedule[n].Due.Before(at) {
		n++
	}
	n = min(n+1, len(l.Schedule))
	for n < len(l.Schedule) && l.Schedule[n].PaidPrincipal+l.Schedule[n].PaidInterest > 0 {
		n++
	}
	return n
}
