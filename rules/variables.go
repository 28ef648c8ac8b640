package rules

import (
	"math/big"
	"strings"
	"time"

	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// kind of value a variable or an expression has.
type valueType uint8

const (
	noType valueType = iota
	boolType
	intType
	moneyType    // Decimal, major units of the event's currency
	decimalType  // Decimal
	stringType   // "" when absent
	durationType // nanoseconds
	timeType     // nanoseconds since 1970
)

// variable is something of the event that a condition can name. Numbers may be unknown; strings are "" then.
type variable struct {
	name    string
	typ     valueType
	in      Kinds // kinds of events that have it
	number  func(*Frame) (int64, bool)
	decimal func(*Frame) (Decimal, bool)
	text    func(*Frame) string
	flag    func(*Frame) bool
	says    string // for a person
	model   *Model // that it stands for, nil: none
	through []int  // the aggregates that this model reads, by index
	reads   int    // 1 + the index of the aggregate it is, 0: of the event itself

	// What package events holds of every event it decodes; conditions are checked with it before they run.
	always   Kinds  // kinds of events on which it is known
	with     stated // it is known too where another variable is this word
	presence string // a flag: the text variable whose presence it tells
	bounds   bounds // what a number can be, its zero value: anything
}

// stated is a text variable being one word.
type stated struct{ name, word string }

// amountAlways are the kinds of events that always have an amount and a currency.
var amountAlways = kindsOf(events.Payment) | 1<<events.LoanApplied | 1<<events.LoanAccepted | 1<<events.LoanRepaid

// holds fills in what events always have.
func holds(name string, fill func(v *variable)) {
	for i := range variables {
		if variables[i].name == name {
			fill(&variables[i])
			return
		}
	}
	panic("rules: no variable " + name)
}

func init() {
	for name, kinds := range map[string]Kinds{
		"event.kind": everyKind, "event.source": everyKind, "event.time": everyKind, "event.hour": everyKind, "event.weekday": everyKind,
		"customer.id": everyKind, "event.currency": amountAlways, "device.id": 1 << events.BehaviorDeviceBound,
		"payment.amount": paymentKinds, "payment.id": paymentKinds, "payment.status": paymentKinds, "payment.purpose": paymentKinds,
		"payment.method": 1 << events.PaymentInitiated, "loan.amount": amountAlways & loanKinds, "loan.id": loanKinds, "loan.status": loanKinds,
		"loan.product": 1 << events.LoanApplied, "loan.term_months": 1 << events.LoanApplied, "loan.annual_rate": 1 << events.LoanApplied,
		"loan.outstanding_debt": amountAlways & loanKinds, "loan.instalment": 1 << events.LoanApplied, "behavior.kyc_level": behaveKinds,
		"behavior.payee": 1 << events.BehaviorPayeeAdded,
	} {
		holds(name, func(v *variable) { v.always = kinds })
	}
	for name, of := range map[string]string{"device.known": "device.id", "ip.known": "ip.address", "location.known": "location.country"} {
		holds(name, func(v *variable) { v.presence = of })
	}
	for name, b := range map[string]bounds{
		"event.hour": between(0, 23), "event.weekday": between(1, 7), "payment.amount": anAmount, "loan.amount": anAmount,
		"loan.monthly_income": anAmount, "loan.outstanding_debt": {high: Int(events.MaxAmount)}, "loan.instalment": aboveZero,
		"loan.term_months": between(1, events.MaxTermMonths), "loan.annual_rate": fromZero, "loan.age": between(1, 150),
		"loan.employment_months": between(1, 1200), "loan.bureau_score": between(300, 850), "behavior.kyc_level": between(0, 3), "customer.kyc_level": between(1, 3),
	} {
		holds(name, func(v *variable) { v.bounds = b })
	}
	holds("payment.merchant", func(v *variable) { v.with = stated{"payment.purpose", "purchase"} })
	holds("payment.counterparty", func(v *variable) { v.with = stated{"payment.purpose", "transfer"} })
}

// known says whether the frame has the variable's value.
func (v *variable) known(f *Frame) bool {
	switch v.typ {
	case boolType:
		return true
	case stringType:
		return v.text(f) != ""
	case moneyType, decimalType:
		_, ok := v.decimal(f)
		return ok
	}
	_, ok := v.number(f)
	return ok
}

var (
	everyKind    = kindsOf(events.Payment) | kindsOf(events.Loan) | kindsOf(events.Behavior)
	paymentKinds = kindsOf(events.Payment)
	loanKinds    = kindsOf(events.Loan)
	behaveKinds  = kindsOf(events.Behavior)
)

func kindsOf(f events.Family) Kinds {
	var set Kinds
	for _, k := range events.Kinds() {
		if k.Family() == f {
			set |= 1 << k
		}
	}
	return set
}

// variables is the whole vocabulary, in the order it is documented.
var variables = []variable{
	text("event.kind", everyKind, "payment.initiated, …", func(e *events.Event) string { return e.Kind.String() }),
	text("event.source", everyKind, "the channel's CloudEvents source", func(e *events.Event) string { return e.Source }),
	text("event.channel", everyKind, "app, web, pos, …", func(e *events.Event) string { return e.Channel }),
	text("event.currency", everyKind, "ISO 4217 code", func(e *events.Event) string { return e.Currency.Code() }),
	{name: "event.time", typ: timeType, in: everyKind, says: "when it happened",
		number: func(f *Frame) (int64, bool) { return f.event.Time.UnixNano(), true }},
	count("event.hour", everyKind, "hour of the day in UTC, 0 to 23", func(e *events.Event) int64 { return int64(e.Time.UTC().Hour()) }),
	count("event.weekday", everyKind, "day of the week in UTC, 1 Monday to 7 Sunday", weekday),
	text("customer.id", everyKind, "who did it", func(e *events.Event) string { return e.CustomerID }),
	{name: "customer.tier", typ: stringType, in: everyKind, says: "value tier, \"\" when unknown", text: func(f *Frame) string { return f.tier }},
	text("customer.name", everyKind, "as the channel has it; for similarity()", func(e *events.Event) string { return e.CustomerName }),
	optionalCount("customer.kyc_level", paymentKinds, "know-your-customer level as the channel knows it, 1 to 3", func(e *events.Event) int32 { return e.KYCLevel }),
	text("device.id", everyKind, "the device used", func(e *events.Event) string { return e.DeviceID }),
	flag("device.known", everyKind, "the event says which device", func(e *events.Event) bool { return e.DeviceID != "" }),
	text("ip.address", everyKind, "IPv4 or IPv6 address of the device", func(e *events.Event) string { return e.IP }),
	flag("ip.known", everyKind, "the event says which address", func(e *events.Event) bool { return e.IP != "" }),
	text("location.country", everyKind, "ISO 3166-1 alpha-2 code", func(e *events.Event) string { return e.Country }),
	flag("location.known", everyKind, "the event says which country", func(e *events.Event) bool { return e.Country != "" }),

	money("payment.amount", paymentKinds, "major units of the event's currency", func(e *events.Event) int64 { return e.Amount }),
	text("payment.id", paymentKinds, "the payment", func(e *events.Event) string { return e.PaymentID }),
	text("payment.status", paymentKinds, "initiated, authorized, captured, failed, …", func(e *events.Event) string { return e.Kind.Status() }),
	text("payment.method", paymentKinds, "wallet, card, bank_transfer, quick_pay", method),
	text("payment.purpose", paymentKinds, "top_up, transfer, purchase, withdrawal", purpose),
	text("payment.merchant", paymentKinds, "who sold", func(e *events.Event) string { return e.MerchantID }),
	text("payment.merchant_category", paymentKinds, "ISO 18245 code", func(e *events.Event) string { return e.MerchantMCC }),
	text("payment.counterparty", paymentKinds, "who receives a transfer", func(e *events.Event) string { return e.CounterpartyID }),
	text("payment.counterparty_name", paymentKinds, "of who receives a transfer; for similarity()", func(e *events.Event) string { return e.CounterpartyName }),
	text("payment.account", paymentKinds, "the account, \"\" is the wallet", func(e *events.Event) string { return e.AccountID }),
	text("payment.card", paymentKinds, "card token", func(e *events.Event) string { return e.CardToken }),
	text("payment.channel", paymentKinds, "the payment channel that carries it; \"\" where the house chooses one", func(e *events.Event) string { return e.PaymentChannel }),
	text("payment.reason", paymentKinds, "why it failed, was refunded, …", func(e *events.Event) string { return e.Reason }),

	money("loan.amount", loanKinds, "principal, or the money paid", func(e *events.Event) int64 { return e.Amount }),
	text("loan.id", loanKinds, "the loan", func(e *events.Event) string { return e.LoanID }),
	text("loan.status", loanKinds, "applied, accepted, disbursed, repaid, …", func(e *events.Event) string { return e.Kind.Status() }),
	text("loan.product", loanKinds, "the product applied for", func(e *events.Event) string { return e.Product }),
	text("loan.purpose", loanKinds, "consumption, education, …", func(e *events.Event) string { return e.LoanPurpose }),
	text("loan.reason", loanKinds, "why it was cancelled or written off", func(e *events.Event) string { return e.Reason }),
	optionalCount("loan.term_months", loanKinds, "number of monthly instalments", func(e *events.Event) int32 { return e.TermMonths }),
	{name: "loan.annual_rate", typ: decimalType, in: 1 << events.LoanApplied, says: "nominal yearly rate, 0.18 is 18 %",
		decimal: func(f *Frame) (Decimal, bool) { return Decimal{int64(f.event.AnnualRate), 6}, true }},
	money("loan.monthly_income", loanKinds, "as stated by the applicant; unknown when not", func(e *events.Event) int64 { return e.MonthlyIncome }),
	{name: "loan.outstanding_debt", typ: moneyType, in: loanKinds, says: "debt elsewhere, 0 when none is stated",
		decimal: func(f *Frame) (Decimal, bool) { return f.amount(f.event.OutstandingDebt), f.event.Currency != 0 }},
	{name: "loan.instalment", typ: moneyType, in: 1 << events.LoanApplied, says: "the equal monthly instalment",
		decimal: func(f *Frame) (Decimal, bool) {
			n, ok := instalment(f.event.Amount, f.event.AnnualRate, f.event.TermMonths)
			return f.amount(n), ok
		}},
	optionalCount("loan.age", loanKinds, "applicant's age in years", func(e *events.Event) int32 { return e.Age }),
	optionalCount("loan.employment_months", loanKinds, "months in the present job", func(e *events.Event) int32 { return e.EmploymentMonths }),
	optionalCount("loan.bureau_score", loanKinds, "300 to 850", func(e *events.Event) int32 { return e.BureauScore }),

	text("behavior.subject", behaveKinds, "what was viewed, complained of or changed", func(e *events.Event) string { return e.Subject }),
	text("behavior.payee", behaveKinds, "the payee added", func(e *events.Event) string { return e.PayeeID }),
	text("behavior.document", behaveKinds, "hash of the identity document", func(e *events.Event) string { return e.DocumentHash }),
	text("behavior.session", behaveKinds, "the visit", func(e *events.Event) string { return e.SessionID }),
	count("behavior.kyc_level", behaveKinds, "know-your-customer level, 0 to 3", func(e *events.Event) int64 { return int64(e.KYCLevel) }),
}

func text(name string, in Kinds, says string, get func(*events.Event) string) variable {
	return variable{name: name, typ: stringType, in: in, says: says, text: func(f *Frame) string { return get(f.event) }}
}

func flag(name string, in Kinds, says string, get func(*events.Event) bool) variable {
	return variable{name: name, typ: boolType, in: in, says: says, flag: func(f *Frame) bool { return get(f.event) }}
}

func count(name string, in Kinds, says string, get func(*events.Event) int64) variable {
	return variable{name: name, typ: intType, in: in, says: says, number: func(f *Frame) (int64, bool) { return get(f.event), true }}
}

// optionalCount is a number that is zero when the channel did not say.
func optionalCount(name string, in Kinds, says string, get func(*events.Event) int32) variable {
	return variable{name: name, typ: intType, in: in, says: says + "; unknown when 0", number: func(f *Frame) (int64, bool) {
		n := get(f.event)
		return int64(n), n != 0
	}}
}

// money is an amount that is zero when the channel did not say.
func money(name string, in Kinds, says string, get func(*events.Event) int64) variable {
	return variable{name: name, typ: moneyType, in: in, says: says, decimal: func(f *Frame) (Decimal, bool) {
		n := get(f.event)
		return f.amount(n), n != 0 && f.event.Currency != 0
	}}
}

func weekday(e *events.Event) int64 {
	if d := e.Time.UTC().Weekday(); d != time.Sunday {
		return int64(d)
	}
	return 7
}

var methods, purposes = words("PAYMENT_METHOD_", eventsv1.PaymentMethod_name), words("PAYMENT_PURPOSE_", eventsv1.PaymentPurpose_name)

// words turns Protobuf's names into the words that channels and rules use: PAYMENT_METHOD_CARD is "card".
func words(prefix string, names map[int32]string) []string {
	all := make([]string, len(names))
	for n, name := range names {
		if n > 0 && int(n) < len(all) {
			all[n] = strings.ToLower(strings.TrimPrefix(name, prefix))
		}
	}
	return all
}

func method(e *events.Event) string  { return word(methods, int(e.Method)) }
func purpose(e *events.Event) string { return word(purposes, int(e.Purpose)) }

func word(words []string, n int) string {
	if n < 0 || n >= len(words) {
		return ""
	}
	return words[n]
}

// closedWords are the values a string variable can have, where the list is closed: comparing it with anything else is a
// mistake in a rule.
var closedWords = map[string][]string{
	"payment.method":  methods[1:],
	"payment.purpose": purposes[1:],
	"payment.status":  statuses(events.Payment),
	"loan.status":     statuses(events.Loan),
	"event.kind":      kindWords(),
	"customer.tier":   {"platinum", "gold", "silver", "bronze", "dormant", ""},
}

func statuses(f events.Family) []string {
	var all []string
	for _, k := range events.Kinds() {
		if k.Family() == f {
			all = append(all, k.Status())
		}
	}
	return all
}

func kindWords() []string {
	var all []string
	for _, k := range events.Kinds() {
		all = append(all, k.String())
	}
	return all
}

// instalment is the equal monthly instalment of an annuity, P·r / (1 - (1+r)^-n), rounded up to a whole minor unit. With
// r = rate / 12,000,000 it is a fraction of whole numbers, so nothing is lost on the way.
func instalment(principal int64, rate events.Rate, months int32) (int64, bool) {
	if principal <= 0 || months <= 0 {
		return 0, false
	}
	if rate <= 0 {
		return (principal + int64(months) - 1) / int64(months), true
	}
	year := big.NewInt(12 * int64(events.RateOne))
	n := big.NewInt(int64(months))
	with := new(big.Int).Exp(new(big.Int).Add(year, big.NewInt(int64(rate))), n, nil) // (12·10^6 + rate)^n
	without := new(big.Int).Exp(year, n, nil)                                         // (12·10^6)^n
	num := new(big.Int).Mul(big.NewInt(principal), big.NewInt(int64(rate)))
	num.Mul(num, with)
	den := with.Sub(with, without)
	den.Mul(den, year)
	num.Add(num, den)
	num.Sub(num, big.NewInt(1))
	num.Quo(num, den)
	return num.Int64(), num.IsInt64()
}
