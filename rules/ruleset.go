// Package rules is the rule language: YAML rulesets with CEL conditions, loaded, checked, compiled and evaluated over one
// event and its aggregates. It keeps no state, reads no clock and knows no Kafka; package risk keeps the aggregates.
package rules

import (
	"strconv"
	"time"

	"sluice/schemas/events"
)

// Limits of a ruleset.
const (
	// MaxSourceBytes bounds a ruleset's file: a thousand rules are some 200 kB.
	MaxSourceBytes = 256 << 10
	// MaxRules bounds the rules of a set.
	MaxRules = 1000
	// MaxAggregates bounds the aggregates of a set; each costs memory for every entity it counts.
	MaxAggregates = 200
	// MaxConditionBytes bounds one CEL condition.
	MaxConditionBytes = 4096
	// MaxScore bounds one rule's score, so that a sum of 1,000 stays an int32.
	MaxScore = 10_000
	// MinHops and MaxHops bound the cycles of money that an aggregate looks for; each hop more multiplies the accounts visited.
	MinHops, MaxHops = 2, 6
	// MinWindow and MaxWindow bound an aggregate's window, which is whole minutes. MaxWindow bounds window and delay together.
	MinWindow = time.Minute
	MaxWindow = 30 * 24 * time.Hour
)

// Ruleset is a checked and compiled ruleset. It does not change and may be shared between goroutines; a Frame may not.
type Ruleset struct {
	Name       string
	Version    int
	Source     []byte // the YAML it was loaded from
	Aggregates []Aggregate
	Models     []Model
	Rules      []Rule
	Outcomes   [families]Thresholds // by events.Family
	Reasons    map[string]Reason    // by reason code; a code may have none
	Conversion *Conversion          // nil: none declared
	Lists      []string             // the lists that conditions name, sorted

	scope  *scope
	slots  int            // of shared sub-conditions
	byKind [kinds][]*Rule // the rules asked of each kind of event
	asks   [kinds][]truth // their conditions
	reads  [kinds][]int   // the aggregates that those rules may read
}

const (
	kinds    = int(events.PaymentRepresented) + 1
	families = int(events.Behavior) + 1
)

// ID names the ruleset and its version: "fraud@3".
func (r *Ruleset) ID() string { return r.Name + "@" + strconv.Itoa(r.Version) }

// Reads lists the aggregates, by index, that the rules asked of a kind of event may read.
func (r *Ruleset) Reads(kind events.Kind) []int { return r.reads[kind] }

// Rule is one condition and what follows when it holds.
type Rule struct {
	ID      string
	Index   int // in Ruleset.Rules
	On      Kinds
	When    *Condition
	Missing Missing
	Score   int32
	Reason  string         // reason code
	Say     string         // for a person
	Verdict events.Verdict // Review or Decline: at least this; Approve: see Final; NoVerdict: the score alone decides
	Final   bool           // a block that no rule with the verdict Approve lifts
	Brake   *Brake         // nil: none
	Line    int            // in the source

	Reads []int // the aggregates the condition names, by index

	weak *Rule // as it fires when something is unknown and Missing is MissingReview: a review without a score
}

// Missing is what a rule does when its condition comes to Unknown.
type Missing uint8

// What a rule does then. Undeclared: it does not fire, and its id is in Outcome.Errors.
const (
	MissingUndeclared Missing = iota
	MissingSkip               // it does not fire
	MissingFire               // it fires
	MissingReview             // it fires with the verdict Review and the score 0
)

var missingNames = []string{"", "skip", "fire", "review"}

// String returns the word for it in a ruleset, "" when undeclared.
func (m Missing) String() string { return missingNames[m] }

// Conversion is how amounts become one currency's: declared in the ruleset, so that a decision can be repeated exactly.
type Conversion struct {
	To   events.Currency
	AsOf time.Time // the day the rates are of, UTC midnight

	rates [256]Decimal // by currency: major units of To for one major unit; zero: no rate
}

// Rate is what one major unit of a currency is in To; false where none is declared.
func (c *Conversion) Rate(of events.Currency) (Decimal, bool) {
	if c == nil || of == 0 {
		return Decimal{}, false
	}
	return c.rates[of], c.rates[of].Coefficient != 0
}

// Brake caps the share of decisions that a rule may turn into declines. Beyond it the rule can only ask for review.
type Brake struct {
	Share  Decimal       // of the events asked about within Window, 0 to 1
	Window time.Duration // MinWindow to MaxWindow
	After  int64         // events asked about in Window before the brake can hold
}

// Reason is what a reason code says, by language: "en", "zh".
type Reason struct {
	Customer map[string]string `json:"customer"` // what the customer is told: nothing that helps a fraudster
	Analyst  map[string]string `json:"analyst"`
}

// Thresholds turn the sum of scores into a verdict: 0 means never.
type Thresholds struct{ Review, Decline int32 }

// Kinds is a set of event kinds.
type Kinds uint64

// Has says whether the set holds a kind.
func (k Kinds) Has(kind events.Kind) bool { return k&(1<<kind) != 0 }

// Func is what an aggregate computes.
type Func uint8

// The functions.
const (
	Count    Func = iota // events
	Sum                  // of an amount, in the event's currency
	Avg                  // of an amount
	Min                  // of an amount
	Max                  // of an amount
	Distinct             // values of a field
	Since                // time since the newest event, the present one left out; unknown if there is none
	Age                  // time since the first event, the present one included; a partition forgets it after a window without any
	Stddev               // of an amount: the population's standard deviation
	Cycle                // hops of the shortest cycle of money that the event closes; unknown if it closes none
)

var funcNames = []string{"count", "sum", "avg", "min", "max", "distinct", "since", "age", "stddev", "cycle"}

// String returns the word for it in a ruleset.
func (f Func) String() string { return funcNames[f] }

// Amount is a field of an event that holds money.
type Amount uint8

// The amounts.
const (
	NoAmount     Amount = iota
	EventAmount         // payment.amount, loan.amount
	DebtAmount          // loan.outstanding_debt
	IncomeAmount        // loan.monthly_income
)

// Of returns the amount in minor units of the event's currency; false when the event has none.
func (a Amount) Of(e *events.Event) (int64, bool) {
	n := int64(0)
	switch a {
	case EventAmount:
		n = e.Amount
	case DebtAmount:
		n = e.OutstandingDebt
	case IncomeAmount:
		n = e.MonthlyIncome
	}
	return n, n != 0 && e.Currency != 0
}

// Field is a field of an event whose values can be keys of aggregates, or be counted as distinct.
type Field uint8

// The fields.
const (
	NoField Field = iota
	Customer
	Device
	IP
	Merchant
	Card
	Counterparty // who receives a transfer; the payee of behavior.payee_added
	Document     // hash of an identity document
	Account
	Country
	Channel
	Category // merchant category code
)

var fieldNames = []string{"", "customer", "device", "ip", "merchant", "card", "counterparty", "document", "account", "country", "channel",
	"merchant_category"}

// lastKey is the last field that may be a key: the others have too few values, each entity would hold everybody.
const lastKey = Document

// String returns the word for it in a ruleset.
func (f Field) String() string { return fieldNames[f] }

// Of returns the field's value in an event, "" when it has none.
func (f Field) Of(e *events.Event) string {
	switch f {
	case Customer:
		return e.CustomerID
	case Device:
		return e.DeviceID
	case IP:
		return e.IP
	case Merchant:
		return e.MerchantID
	case Card:
		return e.CardToken
	case Counterparty:
		if e.CounterpartyID == "" {
			return e.PayeeID
		}
		return e.CounterpartyID
	case Document:
		return e.DocumentHash
	case Account:
		return e.AccountID
	case Country:
		return e.Country
	case Channel:
		return e.Channel
	case Category:
		return e.MerchantMCC
	}
	return ""
}

// Key is what an aggregate is kept by: one field, or a pair.
type Key struct{ First, Second Field } // Second is NoField for a single key

// Shared says whether the entities of this key are seen from many customers, so that their aggregates are sums over
// partitions. A key with the customer in it is complete where the customer's partition is processed.
func (k Key) Shared() bool { return k.First != Customer && k.Second != Customer }

// String returns "device" or "card+merchant".
func (k Key) String() string {
	if k.Second == NoField {
		return k.First.String()
	}
	return k.First.String() + "+" + k.Second.String()
}

// Aggregate is a sliding aggregate as declared: what is counted, by what, over how long.
type Aggregate struct {
	Name   string
	Func   Func
	Amount Amount // for Sum, Avg, Min, Max, Stddev
	Field  Field  // for Distinct
	Of     Kinds
	Where  *Condition // nil: every event of these kinds
	By     Key        // whose aggregate an event adds to
	For    Key        // whose aggregate an event reads: By, unless said otherwise
	Window time.Duration
	Delay  time.Duration // the window ends this long before the event; 0: with the event
	Hops   int           // for Cycle: the longest cycle looked for, MinHops to MaxHops; otherwise 0
	Line   int

	// ID stands for the definition, the name and For left out: aggregates with the same ID hold the same state.
	ID uint32
}

// Value is an aggregate as read for one event.
type Value struct {
	Decimal Decimal // Count, Distinct, Cycle: whole; amounts: major units; Since and Age: seconds
	Known   bool    // false: no key on the event, or nothing to say
}

// Lists answers what conditions ask of allow, deny and watch lists at the time of the event. Its answers depend on nothing
// but its content and the arguments.
type Lists interface {
	// Listed says whether an entry of the list that has not expired covers the value: the same, its CIDR block or its prefix.
	Listed(list, value string, at time.Time) bool
	// Similarity is how alike the name and the entry most like it are, from 0 to 1.
	Similarity(list, name string, at time.Time) Decimal
}

// Brakes says which rules are held by their brake.
type Brakes interface {
	// Held says whether a rule, by its index in the Ruleset, has used up its share of declines for the event in hand.
	Held(rule int) bool
}

// SnoozeList is the list whose entries stop one rule for one entity: "card-testing/customer/C42", field by its word in
// rulesets.
const SnoozeList = "snooze"

// Aggregates gives the value of an aggregate, by its index in the Ruleset, for the event in hand.
type Aggregates interface {
	Aggregate(index int) Value
}
