// Package events is the one place where bytes become events and events become bytes: CloudEvents 1.0 in binary and
// structured mode, Protobuf and JSON. It decides nothing and connects to nothing.
package events

import (
	"time"

	eventsv1 "sluice/schemas/events/v1"
)

// Kind is what happened; its text is the CloudEvents type.
type Kind uint8

// The kinds of events. Appending is safe; the numbers never leave the process.
const (
	KindUnknown Kind = iota
	PaymentInitiated
	PaymentAuthorized
	PaymentCaptured
	PaymentVoided
	PaymentRefunded
	PaymentChargedBack
	PaymentSettled
	PaymentFailed
	LoanApplied
	LoanAccepted
	LoanCancelled
	LoanDisbursed
	LoanRepaid
	LoanWrittenOff
	BehaviorRegistered
	BehaviorIdentityVerified
	BehaviorSignedIn
	BehaviorSignInFailed
	BehaviorSignedOut
	BehaviorDeviceBound
	BehaviorViewed
	BehaviorPasswordChanged
	BehaviorPhoneChanged
	BehaviorPayeeAdded
	BehaviorComplained
	PaymentRerouted
	PaymentDisputed
	PaymentEvidenceSubmitted
	PaymentDisputeDecided
	PaymentRepresented
	kinds // how many there are
)

var kindNames = [kinds]string{
	"unknown",
	"payment.initiated", "payment.authorized", "payment.captured", "payment.voided", "payment.refunded",
	"payment.charged_back", "payment.settled", "payment.failed",
	"loan.applied", "loan.accepted", "loan.cancelled", "loan.disbursed", "loan.repaid", "loan.written_off",
	"behavior.registered", "behavior.identity_verified", "behavior.signed_in", "behavior.sign_in_failed",
	"behavior.signed_out", "behavior.device_bound", "behavior.viewed", "behavior.password_changed",
	"behavior.phone_changed", "behavior.payee_added", "behavior.complained",
	"payment.rerouted", "payment.disputed", "payment.evidence_submitted", "payment.dispute_decided", "payment.represented",
}

var kindsByName = func() map[string]Kind {
	m := make(map[string]Kind, kinds)
	for k := KindUnknown + 1; k < kinds; k++ {
		m[kindNames[k]] = k
	}
	return m
}()

// String returns the CloudEvents type, "payment.initiated".
func (k Kind) String() string {
	if k >= kinds {
		return kindNames[KindUnknown]
	}
	return kindNames[k]
}

// ParseKind returns the kind of a CloudEvents type, KindUnknown if there is none.
func ParseKind(s string) Kind { return kindsByName[s] }

// Kinds lists every kind, in order.
func Kinds() []Kind {
	all := make([]Kind, 0, kinds-1)
	for k := KindUnknown + 1; k < kinds; k++ {
		all = append(all, k)
	}
	return all
}

// Status is the kind without its family: "initiated", "signed_in".
func (k Kind) Status() string {
	s := k.String()
	for i := range s {
		if s[i] == '.' {
			return s[i+1:]
		}
	}
	return s
}

// Family is the topic family of a kind.
type Family uint8

// The families; each has its input topic.
const (
	NoFamily Family = iota
	Payment
	Loan
	Behavior
)

// Family returns the family of a kind.
func (k Kind) Family() Family {
	switch {
	case k >= PaymentInitiated && k <= PaymentFailed || k >= PaymentRerouted && k <= PaymentRepresented:
		return Payment
	case k >= LoanApplied && k <= LoanWrittenOff:
		return Loan
	case k >= BehaviorRegistered && k <= BehaviorComplained:
		return Behavior
	}
	return NoFamily
}

// String returns "payment", "loan", "behavior" or "none".
func (f Family) String() string { return [...]string{"none", "payment", "loan", "behavior"}[f] }

// Topic returns the input topic of the family, "" for NoFamily.
func (f Family) Topic() string { return [...]string{"", "payments", "loans", "behaviors"}[f] }

// Event is one thing that happened, checked and flat: what rules read and what the book is posted from. Fields that a
// kind does not have are zero. An Event is a value; nothing changes it after Decode.
type Event struct {
	ID     string    // CloudEvents id; with Source the event's identity
	Source string    // CloudEvents source: the channel's name
	Kind   Kind      // CloudEvents type
	Time   time.Time // when it happened, UTC, microseconds
	Label  string    // ground truth of a simulated event; rules never see it

	CustomerID       string
	CustomerName     string // as the channel or the identity document says, any script; for screening only
	AccountID        string // "" is the wallet
	CounterpartyID   string // receives a transfer
	CounterpartyName string // as the customer wrote it; for screening only
	MerchantID       string
	MerchantMCC      string // ISO 18245, four digits
	Channel          string
	CardToken        string
	DeviceID         string
	IP               string // canonical text form
	Country          string // ISO 3166-1 alpha-2
	Latitude         float64
	Longitude        float64
	Located          bool // Latitude and Longitude are known
	Reason           string

	Amount   int64 // minor units of Currency, > 0 where the kind has an amount
	Currency Currency

	PaymentID      string
	Method         eventsv1.PaymentMethod
	Purpose        eventsv1.PaymentPurpose
	PaymentChannel string                  // that carries it; "" in payment.initiated: the house chooses
	Splits         []Split                 // of a purchase from several merchants; they sum to Amount
	Exchange       Exchange                // the zero value: the payee gets Amount of Currency
	RespondBy      time.Time               // of a dispute: by when evidence has to be submitted
	Outcome        eventsv1.DisputeOutcome // of payment.dispute_decided
	Evidence       string                  // where it is kept

	LoanID           string
	Product          string
	TermMonths       int32
	AnnualRate       Rate
	LoanPurpose      string
	MonthlyIncome    int64 // minor units of Currency
	OutstandingDebt  int64 // minor units of Currency
	Age              int32 // years
	EmploymentMonths int32
	BureauScore      int32

	SessionID    string
	Subject      string
	PayeeID      string
	DocumentHash string
	KYCLevel     int32 // 0 to 3: of the customer who pays, or after behavior.identity_verified
	Text         string
}

// Rate is a yearly rate in parts per million: 180,000 is 18 %.
type Rate int64

// RateOne is 100 %.
const RateOne Rate = 1_000_000

// MaxSplits bounds the merchants of one purchase: with a fee each they stay well below what the book links.
const MaxSplits = 16

// Split is one merchant's share of a purchase.
type Split struct {
	MerchantID string
	Amount     int64 // minor units of the payment's currency, > 0
}

// Exchange is what the payee of a payment in two currencies gets.
type Exchange struct {
	Currency Currency // another than the payment's; 0: there is no exchange
	Amount   int64    // minor units of Currency: the payment's amount times Rate, rounded half up
	Rate     string   // decimal: what one major unit of the payment's currency is in Currency
}

// Route is the house's choice of a payment channel for a payment.
type Route struct {
	Channel   string   // "" when none can carry it, or there was nothing to choose
	Reason    string   // in words
	Fallbacks []string // who comes next if it fails, best first
}
