package lending

import (
	"slices"
	"time"

	"sluice/pipelines/ledger"
	"sluice/schemas/events"
)

// The codes with which Apply refuses. The loan stays as it was and no money moves.
const (
	CodeDuplicate      = "duplicate"            // the event was applied before
	CodeUnknown        = "loan_unknown"         // no application with this loan id came before
	CodeAlreadyApplied = "loan_already_applied" // a second application with this loan id
	CodeNotApproved    = "loan_not_approved"    // accepted, but the application is in review, declined or cancelled
	CodeAlreadyActive  = "loan_already_active"  // accepted or cancelled after disbursement
	CodeNotActive      = "loan_not_active"      // repaid or written off, but nothing is outstanding
	CodeNotBorrower    = "loan_of_another"      // the event's customer is not the borrower
	CodeCurrency       = "currency_mismatch"    // the event's currency is not the loan's
	CodeAmount         = "amount_mismatch"      // accepted for more than was approved
	CodeOverpayment    = "overpayment"          // a repayment above Payoff
	CodeDeclined       = "declined"             // the gate declined the acceptance or the repayment
	CodeInReview       = "in_review"            // a person looks at the acceptance or the repayment
	CodeNotLoan        = "not_a_loan_event"     // the decision is on another kind of event
)

// The kinds of the transfers Apply returns.
const (
	KindDisbursement = "loan_disbursement" // principal from the receivable to the borrower's wallet
	KindPrincipal    = "loan_principal"    // principal from the wallet to the receivable
	KindInterest     = "loan_interest"     // interest from the wallet to the lender's income
)

// Apply returns the loan after a decision on one of its events and the transfers that go with it, which stand or fall
// together: if the book refuses them, the caller keeps the old loan. loan is nil as long as the loan is unknown and is
// never changed; shard stripes the interest account. The code is "" when all is fine, else why nothing happened; then
// next is the loan given.
func Apply(loan *Loan, d *events.Decision, shard int32) (next *Loan, transfers []ledger.Transfer, code string) {
	next, transfers, code = apply(loan, d, shard)
	if code != "" {
		return loan, nil, code
	}
	return next, transfers, ""
}

func apply(loan *Loan, d *events.Decision, shard int32) (*Loan, []ledger.Transfer, string) {
	e := &d.Event
	switch {
	case e.Kind.Family() != events.Loan:
		return nil, nil, CodeNotLoan
	case d.Verdict == events.Duplicate:
		return nil, nil, CodeDuplicate
	case e.Kind == events.LoanApplied && loan != nil:
		return nil, nil, CodeAlreadyApplied
	case e.Kind == events.LoanApplied:
		return open(d), nil, ""
	case loan == nil:
		return nil, nil, CodeUnknown
	case e.CustomerID != loan.Customer:
		return nil, nil, CodeNotBorrower
	case e.Amount > 0 && e.Currency != loan.Currency:
		return nil, nil, CodeCurrency
	}
	next := loan.clone()
	switch e.Kind {
	case events.LoanAccepted:
		transfers, code := next.accept(d)
		return next, transfers, code
	case events.LoanRepaid:
		transfers, code := next.repay(d, shard)
		return next, transfers, code
	case events.LoanCancelled:
		return next, nil, next.cancel(e.Time)
	case events.LoanWrittenOff:
		return next, nil, next.writeOff(e.Time)
	case events.LoanDisbursed:
		return next, nil, next.disbursed()
	}
	return nil, nil, CodeNotLoan
}

// open makes a loan of an application.
func open(d *events.Decision) *Loan {
	e := &d.Event
	status := Reviewing // also for a gate that only observes: nobody has approved
	switch d.Verdict {
	case events.Approve:
		status = Approved
	case events.Decline:
		status = Declined
	}
	return &Loan{
		ID: e.LoanID, Customer: e.CustomerID, Product: e.Product, Currency: e.Currency, Status: status, Principal: e.Amount,
		AnnualRate: e.AnnualRate, TermMonths: e.TermMonths, AppliedAt: e.Time,
	}
}

func (l *Loan) clone() *Loan {
	next := *l
	next.Schedule = slices.Clone(l.Schedule)
	return &next
}

// held is the code for an event that moves money and that the gate did not let pass, "" if it did.
func held(v events.Verdict) string {
	switch v {
	case events.Decline:
		return CodeDeclined
	case events.Review:
		return CodeInReview
	}
	return ""
}

// accept disburses an approved loan, of the accepted amount if that is less than was approved.
func (l *Loan) accept(d *events.Decision) ([]ledger.Transfer, string) {
	e := &d.Event
	switch {
	case l.Status >= Active && l.Status != Cancelled:
		return nil, CodeAlreadyActive
	case l.Status != Approved:
		return nil, CodeNotApproved
	case held(d.Verdict) != "":
		return nil, held(d.Verdict)
	case e.Amount > l.Principal:
		return nil, CodeAmount
	}
	l.Status, l.Principal, l.DisbursedAt = Active, e.Amount, e.Time
	l.Schedule = Schedule(l.Principal, l.AnnualRate, l.TermMonths, e.Time)
	return []ledger.Transfer{l.transfer(l.receivable(), l.wallet(), l.Principal, KindDisbursement)}, ""
}

// repay pays the oldest instalments first up to the running one, in each interest before principal. What is left pays
// principal early; the instalments after the running one are then planned anew with the same monthly amount, so that
// there are fewer of them and less interest.
func (l *Loan) repay(d *events.Decision, shard int32) ([]ledger.Transfer, string) {
	e := &d.Event
	switch {
	case l.Status != Active:
		return nil, CodeNotActive
	case held(d.Verdict) != "":
		return nil, held(d.Verdict)
	case e.Amount > l.Payoff(e.Time):
		return nil, CodeOverpayment
	}
	running := l.running(e.Time)
	interest, principal, left := pay(l.Schedule[:running], e.Amount)
	l.payEarly(left, running)
	l.PaidInterest += interest
	l.PaidPrincipal += principal + left
	if l.PaidPrincipal == l.Principal && unpaid(l.Schedule) == 0 {
		l.Status, l.ClosedAt = Repaid, e.Time
	}
	var transfers []ledger.Transfer
	if interest > 0 {
		transfers = append(transfers, l.transfer(l.wallet(), l.interest(shard), interest, KindInterest))
	}
	if principal+left > 0 {
		transfers = append(transfers, l.transfer(l.wallet(), l.receivable(), principal+left, KindPrincipal))
	}
	return transfers, ""
}

// pay spreads amount over instalments and returns where it went.
func pay(instalments []Instalment, amount int64) (interest, principal, left int64) {
	left = amount
	for i := range instalments {
		in := &instalments[i]
		n := min(left, in.Interest-in.PaidInterest)
		in.PaidInterest += n
		interest += n
		left -= n
		n = min(left, in.Principal-in.PaidPrincipal)
		in.PaidPrincipal += n
		principal += n
		left -= n
	}
	return interest, principal, left
}

func (l *Loan) payEarly(amount int64, running int) {
	if amount == 0 {
		return
	}
	l.EarlyPrincipal += amount
	balance := l.Principal - l.EarlyPrincipal
	for _, in := range l.Schedule[:running] {
		balance -= in.Principal
	}
	monthly := l.Schedule[0].Principal + l.Schedule[0].Interest
	l.Schedule = plan(l.Schedule[:running], balance, monthly, l.AnnualRate, l.TermMonths, l.DisbursedAt)
}

func unpaid(instalments []Instalment) (sum int64) {
	for i := range instalments {
		sum += instalments[i].Unpaid()
	}
	return sum
}

func (l *Loan) cancel(at time.Time) string {
	switch l.Status {
	case Approved, Reviewing:
		l.Status, l.ClosedAt = Cancelled, at
		return ""
	case Active, Repaid, WrittenOff:
		return CodeAlreadyActive
	}
	return CodeNotApproved
}

// writeOff closes a loan the lender has given up. No money moves: provisions and losses are booked by no event yet.
func (l *Loan) writeOff(at time.Time) string {
	if l.Status != Active {
		return CodeNotActive
	}
	l.Status, l.ClosedAt = WrittenOff, at
	return ""
}

// disbursed is a channel's own word that the money arrived; the book paid it out on acceptance.
func (l *Loan) disbursed() string {
	if l.Status != Active && l.Status != Repaid {
		return CodeNotActive
	}
	return ""
}
