// Package payments is a payment's life: which event moves which money, and what of it may still be taken back. It keeps
// nothing, decides no risk (the gate does) and knows no clock: time comes from the events.
package payments

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"sluice/pipelines/ledger"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// Status is where a payment stands.
type Status uint8

// The statuses. A payment begins as Posted, Authorized, Rejected, InReview or Declined, by its first event, the verdict on
// it and the book's answer.
const (
	NoStatus    Status = iota
	Posted             // the money moved
	Rejected           // approved, but the book refused it; final but for Voided and Failed
	InReview           // a person looks at it; no money moved
	Declined           // the gate declined it; no money moved
	Settled            // the channel has settled it
	Refunded           // all of it was given back
	ChargedBack        // what was left of it was taken back
	Voided             // cancelled: what was left of it and its fee were given back
	Failed             // the channel could not carry it out: as Voided
	Authorized         // money is held for it, of which a part may have been captured
	Expired            // nothing of what was held was captured in time
	Disputed           // the payer claims it back; what the payee had of the claim is kept until it is decided
	statuses           // how many there are
)

var statusNames = [statuses]string{
	"none", "posted", "rejected", "in_review", "declined", "settled", "refunded", "charged_back", "voided", "failed",
	"authorized", "expired", "disputed",
}

// String returns the status in words: "charged_back".
func (s Status) String() string {
	if s >= statuses {
		s = NoStatus
	}
	return statusNames[s]
}

// ParseStatus returns the status of its word, false if there is none.
func ParseStatus(word string) (Status, bool) {
	for s := NoStatus + 1; s < statuses; s++ {
		if statusNames[s] == word {
			return s, true
		}
	}
	return NoStatus, false
}

// Payment is a payment's life so far. Amounts are minor units of Currency. Plan never changes one: it returns the next.
type Payment struct {
	ID           string
	Customer     string // who pays, or is paid for a top-up
	Account      string // of the customer; "" is the wallet
	Counterparty string
	Merchant     string
	Method       eventsv1.PaymentMethod
	Purpose      eventsv1.PaymentPurpose
	Currency     events.Currency
	Amount       int64 // asked for
	Authorized   int64 // held at first: Amount for a payment in two steps, 0 for one that moved at once
	Held         int64 // of Authorized: neither captured nor released yet
	Captured     int64 // moved: what was captured in two steps; else Amount, or 0 if it was not approved or the book refused
	Fee          int64 // of Captured, kept from the payee, in the payee's currency; stays kept on a refund
	Refunded     int64
	ChargedBack  int64 // taken back by the payer's bank or by a lost dispute, less what was represented with success
	Reversed     int64 // given back by a void or a failure, the fee aside
	Status       Status
	Code         string // why the book rejected it, "" if it did not
	Shard        int32  // stripe of the platform's accounts it was posted on
	InitiatedAt  time.Time
	ChangedAt    time.Time // event time of the last change
	Channel      string    // payment channel that carries it, "" where none was named or chosen
	DueAt        time.Time // by when something has to happen to it, by event time; zero: it waits for nothing
	Extra                  // what few payments have

	accounts Accounts // while it is planned; nil: the standard ones
}

// Extra is what few payments have. It is kept as JSON; a Payment's is never changed, only replaced.
type Extra struct {
	Route       string    `json:"route,omitempty"`       // why the house chose Channel
	Shares      []Share   `json:"shares,omitempty"`      // of a purchase from several merchants
	Exchange    *Exchange `json:"exchange,omitempty"`    // of a payment in two currencies
	Dispute     *Dispute  `json:"dispute,omitempty"`     // the last one
	Represented int64     `json:"represented,omitempty"` // once charged back and taken again from the payer: no longer in ChargedBack
	Lost        int64     `json:"lost,omitempty"`        // of ChargedBack and Reversed: paid by the house, to be recovered
	Settled     bool      `json:"settled,omitempty"`     // the channel has settled it, though Status says what came after
	Holds       int       `json:"holds,omitempty"`       // how often its money was held again on another channel
	Effects     []Effect  `json:"effects,omitempty"`     // what linked postings stand on the payment, the merchant's fee aside
}

// Share is one merchant's part of a payment. Amounts are minor units.
type Share struct {
	Merchant string `json:"merchant"`
	Amount   int64  `json:"amount"` // asked for
	Captured int64  `json:"captured,omitempty"`
	Fee      int64  `json:"fee,omitempty"`
	Back     int64  `json:"back,omitempty"` // refunded, charged back or reversed
	Lost     int64  `json:"lost,omitempty"` // of Back: paid by the house

	ChargedBack int64 `json:"charged_back,omitempty"` // of Back
	Claimed     int64 `json:"claimed,omitempty"`      // by the open dispute
	Frozen      int64 `json:"frozen,omitempty"`       // of Claimed: what the merchant had and is kept
}

// Exchange is what the payee of a payment in two currencies gets.
type Exchange struct {
	Currency string `json:"currency"` // ISO 4217
	Amount   int64  `json:"amount"`   // minor units of Currency, for all of the payment's Amount
	Rate     string `json:"rate"`     // decimal: what one major unit of the payment's currency is in Currency
}

// Dispute is a payer's claim against a payment, from its opening to its decision.
type Dispute struct {
	State     string    `json:"state"`            // open, evidence, won or lost
	Amount    int64     `json:"amount"`           // claimed, minor units of the payment's currency
	Frozen    int64     `json:"frozen,omitempty"` // of Amount: what the payee had and is kept; 0 once it is decided
	Reason    string    `json:"reason,omitempty"`
	Evidence  string    `json:"evidence,omitempty"` // where it is kept
	OpenedAt  time.Time `json:"opened_at"`
	RespondBy time.Time `json:"respond_by"`
}

// Effect is what a linked posting rule has posted for a payment and not taken back.
type Effect struct {
	Rule   string            `json:"rule"`
	Debit  ledger.AccountKey `json:"debit"`
	Credit ledger.AccountKey `json:"credit"`
	Amount int64             `json:"amount"` // minor units of the accounts' currency, or points
}

// Marshal writes the extra as JSON, nil if there is nothing to say.
func (x Extra) Marshal() []byte {
	if x.empty() {
		return nil
	}
	out, err := json.Marshal(x)
	if err != nil { // strings, numbers and times of years that events have
		panic("payments: write an extra: " + err.Error())
	}
	return out
}

func (x *Extra) empty() bool {
	return x.Route == "" && x.Exchange == nil && x.Dispute == nil && x.Represented == 0 && x.Lost == 0 && !x.Settled && x.Holds == 0 &&
		len(x.Shares) == 0 && len(x.Effects) == 0
}

// UnmarshalExtra reads what Marshal wrote; a field it does not know is an error, so that no release forgets what a later
// one has kept.
func UnmarshalExtra(data []byte) (Extra, error) {
	var x Extra
	if len(data) == 0 {
		return x, nil
	}
	in := json.NewDecoder(bytes.NewReader(data))
	in.DisallowUnknownFields()
	if err := in.Decode(&x); err != nil {
		return Extra{}, fmt.Errorf("read a payment's extra: %w", err)
	}
	if x.Exchange != nil {
		if _, known := events.ParseCurrency(x.Exchange.Currency); !known {
			return Extra{}, fmt.Errorf("read a payment's extra: the exchange has the unknown currency %q", x.Exchange.Currency)
		}
	}
	return x, nil
}

// Left is what of the payment has been moved and not taken back.
func (p *Payment) Left() int64 { return p.Captured - p.Refunded - p.ChargedBack - p.Reversed }

// MethodName is the method in a word: "bank_transfer". It names the channel's clearing account.
func MethodName(m eventsv1.PaymentMethod) string {
	switch m {
	case eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET:
		return "wallet"
	case eventsv1.PaymentMethod_PAYMENT_METHOD_CARD:
		return "card"
	case eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER:
		return "bank_transfer"
	case eventsv1.PaymentMethod_PAYMENT_METHOD_QUICK_PAY:
		return "quick_pay"
	}
	return "unspecified"
}

// ParseMethod returns the method of its word, false if there is none.
func ParseMethod(word string) (eventsv1.PaymentMethod, bool) {
	for n := range eventsv1.PaymentMethod_name {
		if m := eventsv1.PaymentMethod(n); MethodName(m) == word {
			return m, true
		}
	}
	return 0, false
}

// PurposeName is the purpose in a word: "top_up". It is the kind of the payment's first transfer.
func PurposeName(p eventsv1.PaymentPurpose) string {
	switch p {
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP:
		return "top_up"
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER:
		return "transfer"
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE:
		return "purchase"
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL:
		return "withdrawal"
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT:
		return "payout"
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE:
		return "reserve"
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE_RELEASE:
		return "reserve_release"
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_CLEARING:
		return "clearing"
	}
	return "unspecified"
}

// ParsePurpose returns the purpose of its word, false if there is none.
func ParsePurpose(word string) (eventsv1.PaymentPurpose, bool) {
	for n := range eventsv1.PaymentPurpose_name {
		if p := eventsv1.PaymentPurpose(n); PurposeName(p) == word {
			return p, true
		}
	}
	return 0, false
}

// HouseSource begins the source of every event that the house itself publishes.
const HouseSource = "sluice/"

// HousePayment begins the ids of the payments that settlement orders: whoever else took one would stand where the order is looked for.
const HousePayment = "settlement/"

// houseBank is the house's bank that payment channels pay to.
const houseBank = "main"

// from is the account the money comes from: the debit side of the payment's transfers.
func (p *Payment) from() ledger.AccountKey {
	if p.accounts != nil {
		return p.accounts.Payer(p)
	}
	switch p.Purpose {
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP:
		return p.clearing(p.Currency)
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL:
		return p.account(p.Currency)
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE:
		return ledger.MerchantPayable(p.Merchant, p.Currency)
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE_RELEASE:
		return ledger.Reserve(p.Merchant, p.Currency)
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_CLEARING:
		return ledger.Bank(houseBank, p.Shard, p.Currency)
	}
	if p.Method == eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET {
		return p.account(p.Currency)
	}
	return p.clearing(p.Currency)
}

// to is the account the money goes to, in the payee's currency. Of a purchase it is the merchant's who is named.
func (p *Payment) to(merchant string) ledger.AccountKey {
	if p.accounts != nil {
		return p.accounts.Payee(p, merchant)
	}
	c := p.PayeeCurrency()
	switch p.Purpose {
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER:
		return ledger.Wallet(p.Counterparty, c)
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE_RELEASE:
		return ledger.MerchantPayable(merchant, c)
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE:
		return ledger.Reserve(merchant, c)
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT,
		eventsv1.PaymentPurpose_PAYMENT_PURPOSE_CLEARING:
		return p.clearing(c)
	}
	return p.account(c)
}

// kept is where a dispute keeps the payee's money, false where a payment of its purpose cannot be disputed.
func (p *Payment) kept(merchant string) (ledger.AccountKey, bool) {
	if p.accounts != nil {
		return p.accounts.Kept(p, merchant)
	}
	c := p.PayeeCurrency()
	switch p.Purpose {
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE:
		return ledger.Disputed(merchant, c), true
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER:
		return ledger.Frozen(p.Counterparty, c), true
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP:
		return ledger.Frozen(p.Customer, c), true
	}
	return "", false
}

func (p *Payment) account(c events.Currency) ledger.AccountKey {
	return ledger.CustomerAccount(p.Customer, p.Account, c)
}

// clearing is the account of the payment channel.
func (p *Payment) clearing(c events.Currency) ledger.AccountKey {
	return ledger.Clearing(p.Carrier(), p.Shard, c)
}

// Carrier is the payment channel whose clearing account counts; where none was named or chosen it is called as the method. What
// enters or leaves a wallet with no other instrument named goes by bank.
func (p *Payment) Carrier() string {
	switch {
	case p.Channel != "":
		return p.Channel
	case p.Method == eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET, p.Method == eventsv1.PaymentMethod_PAYMENT_METHOD_UNSPECIFIED:
		return MethodName(eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER)
	}
	return MethodName(p.Method)
}

// cleared says on which side of the payment a payment channel stands: it pays, or it is paid.
func (p *Payment) cleared() (pays, paid bool) {
	if p.accounts != nil {
		return p.accounts.Cleared(p)
	}
	switch p.Purpose {
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP:
		return true, false
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT,
		eventsv1.PaymentPurpose_PAYMENT_PURPOSE_CLEARING:
		return false, true
	case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE_RELEASE:
		return false, false
	}
	return p.Method != eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET, false
}
