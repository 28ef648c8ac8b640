package lending

import (
	"encoding/json"
	"fmt"
	"time"

	"sluice/schemas/events"
)

// stored is a loan as it is kept: JSON, so that a jsonb column takes it as well as a bytea; instalments as arrays and
// times as microseconds since 1970, so that it stays short (some 40 bytes an instalment).
type stored struct {
	Format         int        `json:"format"`
	ID             string     `json:"id"`
	Customer       string     `json:"customer"`
	Product        string     `json:"product"`
	Currency       string     `json:"currency"`
	Status         string     `json:"status"`
	Principal      int64      `json:"principal"`
	AnnualRate     int64      `json:"annual_rate_ppm"`
	TermMonths     int32      `json:"term_months"`
	AppliedAt      *int64     `json:"applied_us,omitempty"`
	DisbursedAt    *int64     `json:"disbursed_us,omitempty"`
	ClosedAt       *int64     `json:"closed_us,omitempty"`
	EarlyPrincipal int64      `json:"early_principal,omitempty"`
	PaidInterest   int64      `json:"paid_interest,omitempty"`
	PaidPrincipal  int64      `json:"paid_principal,omitempty"`
	Schedule       [][5]int64 `json:"schedule,omitempty"` // due, principal, interest, paid principal, paid interest
}

// storedFormat is the version of stored; Unmarshal refuses any other.
const storedFormat = 1

// Marshal returns the loan in the form it is kept in. Times are kept to the microsecond.
func (l *Loan) Marshal() []byte {
	s := stored{
		Format: storedFormat, ID: l.ID, Customer: l.Customer, Product: l.Product, Currency: l.Currency.Code(),
		Status: l.Status.String(), Principal: l.Principal, AnnualRate: int64(l.AnnualRate), TermMonths: l.TermMonths,
		AppliedAt: micros(l.AppliedAt), DisbursedAt: micros(l.DisbursedAt), ClosedAt: micros(l.ClosedAt),
		EarlyPrincipal: l.EarlyPrincipal, PaidInterest: l.PaidInterest, PaidPrincipal: l.PaidPrincipal,
	}
	for i := range l.Schedule {
		in := &l.Schedule[i]
		s.Schedule = append(s.Schedule, [5]int64{in.Due.UnixMicro(), in.Principal, in.Interest, in.PaidPrincipal, in.PaidInterest})
	}
	b, err := json.Marshal(s)
	if err != nil {
		panic("lending: " + err.Error()) // strings and numbers only: cannot fail
	}
	return b
}

// Unmarshal reads what Marshal has written. It fails on anything else.
func Unmarshal(b []byte) (*Loan, error) {
	var s stored
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("read a stored loan: %w", err)
	}
	if s.Format != storedFormat {
		return nil, fmt.Errorf("read the stored loan %s: it has format %d, this program reads %d", s.ID, s.Format, storedFormat)
	}
	currency, ok := events.ParseCurrency(s.Currency)
	status := parseStatus(s.Status)
	if !ok || status == NoStatus {
		return nil, fmt.Errorf("read the stored loan %s: unknown currency %q or status %q", s.ID, s.Currency, s.Status)
	}
	l := &Loan{
		ID: s.ID, Customer: s.Customer, Product: s.Product, Currency: currency, Status: status, Principal: s.Principal,
		AnnualRate: events.Rate(s.AnnualRate), TermMonths: s.TermMonths,
		AppliedAt: moment(s.AppliedAt), DisbursedAt: moment(s.DisbursedAt), ClosedAt: moment(s.ClosedAt),
		EarlyPrincipal: s.EarlyPrincipal, PaidInterest: s.PaidInterest, PaidPrincipal: s.PaidPrincipal,
	}
	for i, in := range s.Schedule {
		l.Schedule = append(l.Schedule, Instalment{
			Number: int32(i) + 1, Due: time.UnixMicro(in[0]).UTC(), Principal: in[1], Interest: in[2],
			PaidPrincipal: in[3], PaidInterest: in[4],
		})
	}
	return l, nil
}

func parseStatus(word string) Status {
	for s := NoStatus + 1; s < statuses; s++ {
		if s.String() == word {
			return s
		}
	}
	return NoStatus
}

// micros is t in microseconds since 1970, nil for the zero time.
func micros(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	us := t.UnixMicro()
	return &us
}

func moment(us *int64) time.Time {
	if us == nil {
		return time.Time{}
	}
	return time.UnixMicro(*us).UTC()
}
