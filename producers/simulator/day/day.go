// Package day makes one day of a house that takes payments: the events that its channels publish, the statements that
// two payment channels write of what they carried, and the errors planted in those. It is a pure function of its
// configuration. It does not know the book: what moved, it knows because it made it up.
package day

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"sluice/pipelines/reconcile"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// Bounds and defaults of a day.
const (
	DefaultPayments = 100_000
	// LeastPayments is how many it takes for every kind of payment to be among them.
	LeastPayments = 1_000
	// MostPayments bounds memory: a payment takes some 400 bytes.
	MostPayments = 1_000_000
	// DefaultErrors are planted where no number is said.
	DefaultErrors = 100
	// paymentsPerError bounds the errors: each needs a line of its own that nothing else is done to.
	paymentsPerError = 20
)

// DefaultDate is the day where none is said, a Monday.
var DefaultDate = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// The payment channels.
const (
	AcquirerA = "acquirer-a" // cards and quick pay; its statement is CSV
	BankB     = "bank-b"     // bank transfers; its statement is camt.053
)

// Ruleset is what the house decides the day by: bets are declined, all else is approved.
const Ruleset = `# The rules of the simulated day: bets are declined, all else is approved.
ruleset: day
version: 1

rules:
  - id: bets
    on: payment.initiated
    when: payment.merchant_category == "7995"
    missing: skip
    then: {verdict: decline, reason: R901, say: "the house takes no bets"}
`

// Config is what a day is made of: with the same fields, the same bytes.
type Config struct {
	Seed     uint64
	Payments int       // 0: DefaultPayments
	Errors   int       // to plant, over classes and channels as evenly as it goes
	Date     time.Time // midnight UTC; zero: DefaultDate
}

// Day is a made day. It is not changed after Make and safe for concurrent use.
type Day struct {
	config   Config
	payments []payment
	acts     []act
	opening  int
	moves    []move
	planted  []Planted
	files    []Statement
}

// Statement is a channel's statement and what is needed to read it.
type Statement struct {
	Channel string
	Name    string // of the file
	Profile string // YAML, "" where none is needed
	Content []byte
	Lines   int // that count, as the channel would count them
}

// Planted is an error in a statement.
type Planted struct {
	Channel   string
	Class     string // as pipelines/reconcile names it
	Reference string // the payment's, or what the statement says
	Amount    int64  // at stake, minor units: an amount's difference, else what was paid
	Currency  events.Currency
	// Line is the line of the statement's file, 0 where it has none. A duplicate and its twin may be told apart by nothing:
	// Twin is the other one's line.
	Line, Twin int
}

// Make makes a day. It fails on a configuration out of bounds.
func Make(c Config) (*Day, error) {
	if c.Payments == 0 {
		c.Payments = DefaultPayments
	}
	if c.Date.IsZero() {
		c.Date = DefaultDate
	}
	c.Date = c.Date.UTC().Truncate(24 * time.Hour)
	if c.Payments < LeastPayments || c.Payments > MostPayments {
		return nil, fmt.Errorf("a day of %d payments: give %d to %d", c.Payments, LeastPayments, MostPayments)
	}
	if most := c.Payments / paymentsPerError; c.Errors < 0 || c.Errors > most {
		return nil, fmt.Errorf("%d errors among %d payments: give 0 to %d", c.Errors, c.Payments, most)
	}
	if y := c.Date.Year(); y < 1971 || y > 9990 {
		return nil, errors.New("the day's date: give a year from 1971 to 9990")
	}
	d := &Day{config: c}
	random := rand.New(rand.NewPCG(c.Seed, 0x9e3779b97f4a7c15))
	newPlanner(d, random).plan()
	for _, channel := range []uint8{viaAcquirer, viaBank} {
		d.write(channel, random)
	}
	return d, nil
}

// Payments is how many different payments the day has.
func (d *Day) Payments() int { return len(d.payments) }

// Events is how many events the day has.
func (d *Day) Events() int { return len(d.acts) }

// Opening is how many of the events, the first ones, must be posted before the others are published: what follows is
// paid out of what they bring, whichever partition comes first.
func (d *Day) Opening() int { return d.opening }

// Statements are the channels' statements.
func (d *Day) Statements() []Statement { return d.files }

// Planted are the errors in the statements.
func (d *Day) Planted() []Planted { return d.planted }

// Moved is what a channel carried in a currency, towards the house less away from it, and in how many movements.
func (d *Day) Moved(channel string, c events.Currency) (sum int64, n int) {
	for i := range d.moves {
		p := &d.payments[d.moves[i].pay]
		if channels[p.via] == channel && currencies[p.currency] == c {
			sum += d.moves[i].amount
			n++
		}
	}
	return sum, n
}

// Currencies are those of the day.
func Currencies() []events.Currency { return append([]events.Currency(nil), currencies[:]...) }

// Channels are the payment channels.
func Channels() []string { return []string{AcquirerA, BankB} }

// payment is a payment in short.
type payment struct {
	amount   int64 // minor units
	customer int32
	other    int32 // merchant, or who receives a transfer
	currency uint8 // index in currencies
	method   uint8
	purpose  uint8
	via      uint8 // index in channels
}

// act is an event in short.
type act struct {
	at     int64 // microseconds since midnight
	amount int64
	pay    int32
	number int32 // of the event; one that comes twice has one number
	kind   events.Kind
}

// move is what a payment channel carried.
type move struct {
	at     int64
	amount int64 // positive: towards the house
	pay    int32
	part   bool // a capture of several
}

const (
	viaNone uint8 = iota
	viaAcquirer
	viaBank
)

var channels = [...]string{"", AcquirerA, BankB}

const (
	yuan = iota
	hongKong
	yen
)

var currencies = [...]events.Currency{events.MustCurrency("CNY"), events.MustCurrency("HKD"), events.MustCurrency("JPY")}

// price is how many minor units of a currency one unit of the day's amounts is.
var price = [...]int64{100, 110, 21}

const (
	wallet       = uint8(eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET)
	card         = uint8(eventsv1.PaymentMethod_PAYMENT_METHOD_CARD)
	bankTransfer = uint8(eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER)
	quickPay     = uint8(eventsv1.PaymentMethod_PAYMENT_METHOD_QUICK_PAY)

	topUp      = uint8(eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP)
	transfer   = uint8(eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER)
	purchase   = uint8(eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE)
	withdrawal = uint8(eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL)
)

// Event writes the i-th event out.
func (d *Day) Event(i int) events.Event {
	a := &d.acts[i]
	p := &d.payments[a.pay]
	e := events.Event{
		ID: "e" + strconv.Itoa(int(a.number)), Source: "day-" + strconv.FormatUint(d.config.Seed, 10), Kind: a.kind,
		Time:       d.config.Date.Add(time.Duration(a.at) * time.Microsecond),
		CustomerID: "c" + strconv.Itoa(int(p.customer)), PaymentID: d.reference(int(a.pay)), Channel: "app",
		Method: eventsv1.PaymentMethod(p.method), Purpose: eventsv1.PaymentPurpose(p.purpose),
		Amount: a.amount, Currency: currencies[p.currency], PaymentChannel: channels[p.via], Reason: reasons[a.kind],
	}
	switch p.purpose {
	case transfer:
		e.CounterpartyID = "c" + strconv.Itoa(int(p.other))
	case purchase:
		e.MerchantID, e.MerchantMCC = "m"+strconv.Itoa(int(p.other)), "5411"
		if bets(p.other) {
			e.MerchantMCC = betting
		}
	}
	if p.method == card {
		e.CardToken = "card-" + strconv.Itoa(int(p.customer))
	}
	return e
}

var reasons = map[events.Kind]string{
	events.PaymentRefunded: "returned", events.PaymentChargedBack: "not_received", events.PaymentVoided: "order_cancelled",
	events.PaymentFailed: "account_closed",
}

// betting is the merchant category (ISO 18245) that Ruleset declines.
const betting = "7995"

// bets says whether a merchant takes bets.
func bets(merchant int32) bool { return merchant%29 == 7 }

// How a payment is called. Ten digits number it, scattered over all ten-digit numbers by an affine map, which is one to
// one since the factor shares none with 10^10. So references differ in these digits, and one that is cut off after them
// still points to one payment.
const (
	span    = 10_000_000_000
	scatter = 7_321_654_987
)

// reference is the payment's id: what its channel knows it by. The acquirer's has letters, so that it can be cut off and
// still begin no other; the bank's is a number.
func (d *Day) reference(pay int) string {
	via := viaNone
	if pay < len(d.payments) {
		via = d.payments[pay].via
	}
	return d.numbered(via, pay)
}

func (d *Day) numbered(via uint8, n int) string {
	digits := (uint64(n)*scatter + d.config.Seed%span) % span
	if via == viaBank {
		return fmt.Sprintf("9%010d%03d", digits, digits%997)
	}
	return fmt.Sprintf("A%010d%c%c", digits, 'A'+rune(digits%23), 'A'+rune(digits/23%23))
}

// Is says whether what was found is this error: of its channel, class, reference, amount and place.
func (p *Planted) Is(found *Planted) bool {
	return p.Channel == found.Channel && p.Class == found.Class && p.Amount == found.Amount && p.Currency == found.Currency &&
		(p.Line == found.Line || p.Twin != 0 && p.Twin == found.Line) && reconcile.Normalise(p.Reference) == reconcile.Normalise(found.Reference)
}
