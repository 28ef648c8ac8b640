package lending

import (
	"fmt"
	"math/big"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/pipelines/ledger"
	"sluice/schemas/events"
)

var (
	cny   = events.MustCurrency("CNY")
	start = time.Date(2026, 1, 31, 9, 30, 0, 0, time.UTC)
)

// usual draws the terms of a loan as people take them; extreme ones as the decoder lets them through.
type terms struct {
	principal int64
	rate      events.Rate
	months    int32
}

func drawUsual(t *rapid.T) terms {
	return terms{rapid.Int64Range(100_00, 1_000_000_00).Draw(t, "principal"),
		events.Rate(rapid.Int64Range(0, 360_000).Draw(t, "rate")), rapid.Int32Range(1, 36).Draw(t, "months")}
}

func drawAny(t *rapid.T) terms {
	return terms{rapid.Int64Range(1, events.MaxAmount).Draw(t, "principal"),
		events.Rate(rapid.Int64Range(0, int64(events.RateOne)).Draw(t, "rate")),
		rapid.Int32Range(1, events.MaxTermMonths).Draw(t, "months")}
}

// roundEven rounds a fraction half-even, by another way than the code: floor, then compare the rest with a half.
func roundEven(x *big.Rat) int64 {
	floor := new(big.Int).Div(x.Num(), x.Denom())
	rest := new(big.Rat).Sub(x, new(big.Rat).SetInt(floor))
	half := big.NewRat(1, 2)
	if c := rest.Cmp(half); c > 0 || c == 0 && floor.Bit(0) == 1 {
		floor.Add(floor, big.NewInt(1))
	}
	return floor.Int64()
}

func monthly(rate events.Rate) *big.Rat { return big.NewRat(int64(rate), 12_000_000) }

// The annuity is principal divided by the sum of the discount factors: the definition, not the closed formula.
func TestAnnuityAgreesWithDiscountFactors(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := drawAny(t)
		v := new(big.Rat).Inv(new(big.Rat).Add(big.NewRat(1, 1), monthly(in.rate)))
		factor, sum := big.NewRat(1, 1), new(big.Rat)
		for range in.months {
			factor.Mul(factor, v)
			sum.Add(sum, factor)
		}
		want := max(roundEven(new(big.Rat).Quo(big.NewRat(in.principal, 1), sum)), 1)
		if got := annuity(in.principal, in.rate, in.months); got != want {
			t.Fatalf("%+v: %d a month, want %d", in, got, want)
		}
	})
}

// For any terms: principal sums exactly, interest is a twelfth of the rate on the balance, dates ascend by months, all
// but the last are equal, and the last differs by no more than a minor unit a month with its compound interest.
func TestScheduleProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.OneOf(rapid.Custom(drawUsual), rapid.Custom(drawAny)).Draw(t, "terms")
		s := Schedule(in.principal, in.rate, in.months, start)
		if len(s) == 0 || len(s) > int(in.months) {
			t.Fatalf("%+v: %d instalments", in, len(s))
		}
		balance := in.principal
		equal := s[0].Principal + s[0].Interest
		for i := range s {
			want := roundEven(new(big.Rat).Mul(big.NewRat(balance, 1), monthly(in.rate)))
			if s[i].Interest != want || s[i].Principal < 0 || s[i].Number != int32(i)+1 {
				t.Fatalf("%+v: instalment %+v of balance %d; want interest %d", in, s[i], balance, want)
			}
			if last := i == len(s)-1; !last && s[i].Unpaid() != equal {
				t.Fatalf("%+v: instalment %d is %d, the first %d", in, i+1, s[i].Unpaid(), equal)
			}
			balance -= s[i].Principal
		}
		if balance != 0 {
			t.Fatalf("%+v: %d of the principal is planned nowhere", in, balance)
		}
		if len(s) == int(in.months) && len(s) > 1 {
			checkLast(t, in, s[len(s)-1].Unpaid()-equal)
		}
	})
}

// checkLast bounds what the last instalment absorbs: each month's rounding is at most 1 (a half of the amount, a half of
// the interest) and grows with interest: ((1+i)^n − 1)/i, which is n without interest.
func checkLast(t *rapid.T, in terms, difference int64) {
	bound, grown := new(big.Rat), big.NewRat(1, 1)
	i := monthly(in.rate)
	for range in.months {
		bound.Add(bound, grown)
		grown.Mul(grown, new(big.Rat).Add(big.NewRat(1, 1), i))
	}
	if in.principal < int64(in.months) { // the amount is held up to 1, whatever the formula says
		return
	}
	if new(big.Rat).SetInt64(max(difference, -difference)).Cmp(bound) > 0 {
		t.Fatalf("%+v: the last instalment differs by %d, bound %s", in, difference, bound.FloatString(1))
	}
}

// At rates and terms people see, the bound is what one expects: a minor unit or two a month.
func TestLastInstalmentOfUsualLoans(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := terms{rapid.Int64Range(100_00, 1_000_000_00).Draw(t, "principal"),
			events.Rate(rapid.Int64Range(0, 240_000).Draw(t, "rate")), rapid.Int32Range(2, 12).Draw(t, "months")}
		s := Schedule(in.principal, in.rate, in.months, start)
		difference := s[len(s)-1].Unpaid() - s[0].Unpaid()
		if len(s) != int(in.months) || max(difference, -difference) > int64(in.months)*6/5 {
			t.Fatalf("%+v: %d instalments, the last differs by %d", in, len(s), difference)
		}
	})
}

func TestScheduleByHand(t *testing.T) {
	t.Parallel()
	// 12,000.00 over 12 months at 12 %: 1 % a month, 1,066.19 by any loan calculator; the first month's interest is 120.00.
	s := Schedule(12_000_00, 120_000, 12, start)
	if len(s) != 12 || s[0].Unpaid() != 1_066_19 || s[0].Interest != 120_00 {
		t.Fatalf("got %+v", s)
	}
	if Schedule(0, 0, 12, start) != nil || Schedule(1, 0, 0, start) != nil {
		t.Fatal("nothing lent, nothing owed")
	}
}

func TestHalfAMinorUnitGoesToTheEvenOne(t *testing.T) {
	t.Parallel()
	f := func(balance, want int64) {
		t.Helper()
		if got := monthlyInterest(balance, events.RateOne); got != want {
			t.Errorf("a twelfth of %d: got %d, want %d", balance, got, want)
		}
	}
	f(6, 0)  // 0.5
	f(18, 2) // 1.5
	f(30, 2) // 2.5
	f(31, 3)
	f(events.MaxAmount, 83_333_333_333_333)
	if got := annuity(5, 0, 2); got != 2 { // 2.5
		t.Errorf("5 in two months: %d a month", got)
	}
}

func TestDueDatesKeepTheDayOrTheMonthsLast(t *testing.T) {
	t.Parallel()
	f := func(from string, n int32, want string) {
		t.Helper()
		at, _ := time.Parse(time.RFC3339, from)
		if got := addMonths(at, n).Format(time.RFC3339); got != want {
			t.Errorf("%s and %d months: got %s, want %s", from, n, got, want)
		}
	}
	f("2026-01-31T09:30:00Z", 1, "2026-02-28T09:30:00Z")
	f("2026-01-31T09:30:00Z", 2, "2026-03-31T09:30:00Z")
	f("2028-01-31T09:30:00Z", 1, "2028-02-29T09:30:00Z")
	f("2026-08-30T00:00:00Z", 6, "2027-02-28T00:00:00Z")
	f("2026-12-15T23:59:59Z", 1, "2027-01-15T23:59:59Z")
	f("2026-10-31T00:00:00Z", 120, "2036-10-31T00:00:00Z")
}

func decision(kind events.Kind, v events.Verdict, at time.Time, amount int64) *events.Decision {
	return &events.Decision{Verdict: v, Event: events.Event{
		Kind: kind, Time: at, LoanID: "L1", CustomerID: "C1", Product: "cash-12m", Amount: amount, Currency: cny,
	}}
}

func application(in terms, v events.Verdict) *events.Decision {
	d := decision(events.LoanApplied, v, start, in.principal)
	d.Event.TermMonths, d.Event.AnnualRate = in.months, in.rate
	return d
}

// must applies and wants no refusal.
func must(t interface{ Fatalf(string, ...any) }, l *Loan, d *events.Decision) (*Loan, []ledger.Transfer) {
	next, transfers, code := Apply(l, d, 3)
	if code != "" {
		t.Fatalf("%s: refused with %s", d.Event.Kind, code)
	}
	return next, transfers
}

func active(t interface{ Fatalf(string, ...any) }, in terms) *Loan {
	l, _ := must(t, nil, application(in, events.Approve))
	l, _ = must(t, l, decision(events.LoanAccepted, events.Approve, start, in.principal))
	return l
}

// Whatever is repaid when, in whatever order of time: no instalment is paid beyond what is owed, the transfers sum to the
// repayment, the receivable in the book is the principal not paid, and what is refused changes nothing.
func TestRepayments(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := drawUsual(t)
		l := active(t, in)
		book := map[ledger.AccountKey]int64{l.receivable(): in.principal}
		for range rapid.IntRange(1, 40).Draw(t, "repayments") {
			at := start.AddDate(0, 0, rapid.IntRange(0, int(in.months)*31+90).Draw(t, "day"))
			amount := drawAmount(t, l, at)
			before, kept := l.Payoff(at), string(l.Marshal())
			next, transfers, code := Apply(l, decision(events.LoanRepaid, events.Approve, at, amount), 3)
			if string(l.Marshal()) != kept {
				t.Fatalf("Apply changed the loan it was given")
			}
			if refused := code != ""; refused != (l.Status != Active || amount > before) {
				t.Fatalf("%d of %d owed, %s: code %q", amount, before, l.Status, code)
			}
			if code == "" {
				checkTransfers(t, next, transfers, amount, book)
				if paid := before - next.Payoff(at); next.Status == Active && paid < amount {
					t.Fatalf("%d paid, but only %d less is owed", amount, paid)
				}
			}
			checkLoan(t, next, in.principal, book)
			l = next
		}
		settle(t, l, book, in)
	})
}

// drawAmount likes the amounts at which something happens: an instalment, all of it, one too many.
func drawAmount(t *rapid.T, l *Loan, at time.Time) int64 {
	payoff := l.Payoff(at)
	switch rapid.IntRange(0, 9).Draw(t, "sort") {
	case 0:
		return max(payoff, 1)
	case 1:
		return payoff + 1
	case 2, 3, 4, 5:
		return l.Schedule[0].Principal + l.Schedule[0].Interest
	}
	return rapid.Int64Range(1, max(payoff/2, 1)).Draw(t, "amount")
}

// settle pays off what is left and wants the loan closed and the receivable at zero.
func settle(t *rapid.T, l *Loan, book map[ledger.AccountKey]int64, in terms) {
	if l.Status == Active {
		at := start.AddDate(0, int(in.months)+1, 0)
		amount := l.Payoff(at)
		next, transfers := must(t, l, decision(events.LoanRepaid, events.Approve, at, amount))
		checkTransfers(t, next, transfers, amount, book)
		l = next
	}
	checkLoan(t, l, in.principal, book)
	if l.Status != Repaid || book[l.receivable()] != 0 || l.Payoff(start) != 0 || l.ClosedAt.IsZero() {
		t.Fatalf("all is paid, but the loan is %s, receivable %d", l.Status, book[l.receivable()])
	}
	if _, _, code := Apply(l, decision(events.LoanRepaid, events.Approve, start, 1), 3); code != CodeNotActive {
		t.Fatalf("a repayment of a repaid loan: code %q", code)
	}
}

func checkTransfers(t *rapid.T, l *Loan, transfers []ledger.Transfer, amount int64, book map[ledger.AccountKey]int64) {
	var sum int64
	for _, tr := range transfers {
		if tr.Amount <= 0 || tr.Currency != cny || tr.Debit != l.wallet() {
			t.Fatalf("transfer %+v", tr)
		}
		sum += tr.Amount
		book[tr.Debit] -= tr.Amount // signs as a receivable sees them: credits lessen it
		book[tr.Credit] -= tr.Amount
	}
	if sum != amount {
		t.Fatalf("%d repaid, transfers sum to %d", amount, sum)
	}
}

func checkLoan(t *rapid.T, l *Loan, principal int64, book map[ledger.AccountKey]int64) {
	var planned, paidPrincipal, paidInterest int64
	balance := l.Principal
	for i, in := range l.Schedule {
		if in.PaidPrincipal < 0 || in.PaidPrincipal > in.Principal || in.PaidInterest < 0 || in.PaidInterest > in.Interest {
			t.Fatalf("instalment %+v", in)
		}
		if i > 0 && in.PaidInterest+in.PaidPrincipal > 0 && l.Schedule[i-1].Unpaid() > 0 {
			t.Fatalf("instalment %d is paid before %d", i+1, i)
		}
		if in.PaidPrincipal > 0 && in.PaidInterest < in.Interest {
			t.Fatalf("instalment %d: principal is paid before interest", i+1)
		}
		if in.Interest > monthlyInterest(balance, l.AnnualRate) {
			t.Fatalf("instalment %d: interest %d on at most %d", i+1, in.Interest, balance)
		}
		balance -= in.Principal
		planned, paidPrincipal, paidInterest = planned+in.Principal, paidPrincipal+in.PaidPrincipal, paidInterest+in.PaidInterest
	}
	if planned+l.EarlyPrincipal != principal || paidPrincipal+l.EarlyPrincipal != l.PaidPrincipal || paidInterest != l.PaidInterest {
		t.Fatalf("planned %d, early %d, paid %d and %d; the loan says %+v", planned, l.EarlyPrincipal, paidPrincipal, paidInterest, l)
	}
	if got := book[l.receivable()]; got != l.Receivable() || got != principal-l.PaidPrincipal {
		t.Fatalf("the book's receivable is %d, the loan's %d", got, l.Receivable())
	}
	if len(l.Schedule) > int(l.TermMonths) {
		t.Fatalf("%d instalments in %d months", len(l.Schedule), l.TermMonths)
	}
}

// Early principal keeps the monthly amount, shortens the plan and lessens the interest.
func TestEarlyPrincipalShortensThePlan(t *testing.T) {
	t.Parallel()
	l := active(t, terms{12_000_00, 120_000, 12})
	next, _ := must(t, l, decision(events.LoanRepaid, events.Approve, start.AddDate(0, 0, 7), 1_066_19+6_000_00))
	if next.EarlyPrincipal != 6_000_00 || len(next.Schedule) >= 12 || next.Schedule[0].Unpaid() != 0 {
		t.Fatalf("got %+v", next)
	}
	if got := next.Schedule[1]; got.Unpaid() != 1_066_19 || got.Interest != monthlyInterest(12_000_00-946_19-6_000_00, 120_000) || !got.Due.Equal(l.Schedule[1].Due) {
		t.Fatalf("the second instalment is %+v", got)
	}
}

func TestDisbursement(t *testing.T) {
	t.Parallel()
	in := terms{5_000_00, 180_000, 6}
	l, transfers := must(t, nil, application(in, events.Approve))
	if len(transfers) != 0 || l.Status != Approved || l.Receivable() != 0 {
		t.Fatalf("an application moves no money: %+v %+v", l, transfers)
	}
	next, transfers := must(t, l, decision(events.LoanAccepted, events.Observed, start, 4_000_00))
	want := []ledger.Transfer{{Debit: "loan:L1:CNY", Credit: "wallet:C1:CNY", Amount: 4_000_00, Currency: cny, Kind: KindDisbursement}}
	if !reflect.DeepEqual(transfers, want) || next.Status != Active || next.Receivable() != 4_000_00 {
		t.Fatalf("got %+v, %+v", next, transfers)
	}
	if !reflect.DeepEqual(next.Schedule, Schedule(4_000_00, 180_000, 6, start)) {
		t.Fatalf("the schedule is not that of the amount accepted: %+v", next.Schedule)
	}
	_, transfers = must(t, next, decision(events.LoanRepaid, events.Observed, start, 100_00))
	want = []ledger.Transfer{
		{Debit: "wallet:C1:CNY", Credit: "interest/3:CNY", Amount: 60_00, Currency: cny, Kind: KindInterest},
		{Debit: "wallet:C1:CNY", Credit: "loan:L1:CNY", Amount: 40_00, Currency: cny, Kind: KindPrincipal},
	}
	if !reflect.DeepEqual(transfers, want) {
		t.Fatalf("got %+v", transfers)
	}
}

// Each status answers each event in one way: "" and the next status, or a code and no change.
func TestTransitions(t *testing.T) {
	t.Parallel()
	in := terms{1_000_00, 120_000, 3}
	f := func(have Status, kind events.Kind, v events.Verdict, amount int64, wantCode string, want Status) {
		t.Helper()
		l := inStatus(t, in, have)
		d := decision(kind, v, start, amount)
		if kind == events.LoanApplied {
			d = application(in, v)
		}
		next, transfers, code := Apply(l, d, 3)
		if code != wantCode || (code != "" && (next != l || transfers != nil)) {
			t.Errorf("%s, %s %s: code %q, want %q; %d transfers", have, kind, v, code, wantCode, len(transfers))
		}
		if next != nil && next.Status != want {
			t.Errorf("%s, %s %s: now %s, want %s", have, kind, v, next.Status, want)
		}
	}
	const ok, approve, amount = "", events.Approve, 500_00
	f(NoStatus, events.LoanApplied, approve, amount, ok, Approved)
	f(NoStatus, events.LoanApplied, events.Review, amount, ok, Reviewing)
	f(NoStatus, events.LoanApplied, events.Observed, amount, ok, Reviewing)
	f(NoStatus, events.LoanApplied, events.Decline, amount, ok, Declined)
	f(NoStatus, events.LoanApplied, events.Duplicate, amount, CodeDuplicate, NoStatus)
	f(NoStatus, events.LoanAccepted, approve, amount, CodeUnknown, NoStatus)
	f(NoStatus, events.LoanRepaid, approve, amount, CodeUnknown, NoStatus)
	f(NoStatus, events.PaymentInitiated, approve, amount, CodeNotLoan, NoStatus)
	f(Approved, events.LoanApplied, approve, amount, CodeAlreadyApplied, Approved)
	f(Approved, events.LoanAccepted, approve, amount, ok, Active)
	f(Approved, events.LoanAccepted, events.Decline, amount, CodeDeclined, Approved)
	f(Approved, events.LoanAccepted, events.Review, amount, CodeInReview, Approved)
	f(Approved, events.LoanAccepted, approve, 1_000_01, CodeAmount, Approved)
	f(Approved, events.LoanRepaid, approve, amount, CodeNotActive, Approved)
	f(Approved, events.LoanCancelled, approve, 0, ok, Cancelled)
	f(Reviewing, events.LoanAccepted, approve, amount, CodeNotApproved, Reviewing)
	f(Reviewing, events.LoanCancelled, approve, 0, ok, Cancelled)
	f(Declined, events.LoanAccepted, approve, amount, CodeNotApproved, Declined)
	f(Declined, events.LoanCancelled, approve, 0, CodeNotApproved, Declined)
	f(Cancelled, events.LoanAccepted, approve, amount, CodeNotApproved, Cancelled)
	f(Active, events.LoanAccepted, approve, amount, CodeAlreadyActive, Active)
	f(Active, events.LoanCancelled, approve, 0, CodeAlreadyActive, Active)
	f(Active, events.LoanDisbursed, approve, 0, ok, Active)
	f(Active, events.LoanRepaid, events.Decline, amount, CodeDeclined, Active)
	f(Active, events.LoanRepaid, events.Review, amount, CodeInReview, Active)
	f(Active, events.LoanRepaid, approve, 2_000_00, CodeOverpayment, Active)
	f(Active, events.LoanWrittenOff, approve, 0, ok, WrittenOff)
	f(WrittenOff, events.LoanRepaid, approve, amount, CodeNotActive, WrittenOff)
	f(WrittenOff, events.LoanWrittenOff, approve, 0, CodeNotActive, WrittenOff)
	f(Repaid, events.LoanAccepted, approve, amount, CodeAlreadyActive, Repaid)
	f(Repaid, events.LoanRepaid, approve, amount, CodeNotActive, Repaid)
}

// inStatus brings a loan into a status by events alone.
func inStatus(t *testing.T, in terms, s Status) *Loan {
	switch s {
	case NoStatus:
		return nil
	case Approved, Reviewing, Declined:
		v := map[Status]events.Verdict{Approved: events.Approve, Reviewing: events.Review, Declined: events.Decline}[s]
		l, _ := must(t, nil, application(in, v))
		return l
	case Cancelled:
		l, _ := must(t, inStatus(t, in, Approved), decision(events.LoanCancelled, events.Approve, start, 0))
		return l
	}
	l := active(t, in)
	switch s {
	case Repaid:
		l, _ = must(t, l, decision(events.LoanRepaid, events.Approve, start, l.Payoff(start)))
	case WrittenOff:
		l, _ = must(t, l, decision(events.LoanWrittenOff, events.Approve, start, 0))
	}
	return l
}

func TestStrangersAndOtherCurrenciesAreRefused(t *testing.T) {
	t.Parallel()
	l := active(t, terms{1_000_00, 120_000, 3})
	d := decision(events.LoanRepaid, events.Approve, start, 100)
	d.Event.CustomerID = "C2"
	if _, _, code := Apply(l, d, 3); code != CodeNotBorrower {
		t.Errorf("another customer: code %q", code)
	}
	d = decision(events.LoanRepaid, events.Approve, start, 100)
	d.Event.Currency = events.MustCurrency("USD")
	if _, _, code := Apply(l, d, 3); code != CodeCurrency {
		t.Errorf("another currency: code %q", code)
	}
}

func TestMarshalIsReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := active(t, drawUsual(t))
		l.ID = rapid.StringMatching(`[a-z"<é]{1,20}`).Draw(t, "id")
		l.Status = Status(rapid.IntRange(int(Approved), int(WrittenOff)).Draw(t, "status"))
		if amount := rapid.Int64Range(0, l.Principal).Draw(t, "amount"); amount > 0 && l.Status == Active {
			d := decision(events.LoanRepaid, events.Approve, start, amount)
			l, _ = must(t, l, d)
		}
		got, err := Unmarshal(l.Marshal())
		if err != nil || !reflect.DeepEqual(got, l) {
			t.Fatalf("%v\nput %+v\ngot %+v", err, l, got)
		}
	})
}

func TestUnmarshalRefuses(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "{}", "null", `{"format":2}`, `{"format":1,"currency":"XXX","status":"active"}`,
		`{"format":1,"currency":"CNY","status":"lost"}`} {
		if l, err := Unmarshal([]byte(bad)); err == nil {
			t.Errorf("%s was read as %+v", bad, l)
		}
	}
}

func ExampleSchedule() {
	for _, in := range Schedule(1_000_00, 120_000, 3, time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)) {
		fmt.Println(in.Number, in.Due.Format(time.DateOnly), events.FormatAmount(in.Principal, cny), events.FormatAmount(in.Interest, cny))
	}
	// Output:
	// 1 2026-02-28 330.02 10.00
	// 2 2026-03-31 333.32 6.70
	// 3 2026-04-30 336.66 3.37
}

func BenchmarkAccept(b *testing.B) {
	l, _, _ := Apply(nil, application(terms{12_000_00, 180_000, 12}, events.Approve), 0)
	d := decision(events.LoanAccepted, events.Approve, start, 12_000_00)
	for b.Loop() {
		next, _, _ := Apply(l, d, 0)
		_ = next.Marshal()
	}
}
