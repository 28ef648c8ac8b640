package settlement

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"sluice/pipelines/payments"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// Source is the CloudEvents source of the payments that settlement orders.
const Source = "sluice/settlement"

// Class is what a line is counted as.
type Class uint8

// The classes.
const (
	Gross      Class = iota // purchases
	Fees                    // of the house, and fees given back
	Refunds                 // refunds, voids and failures
	ChargeBack              // charge-backs, and those won back
	Other                   // whatever else has moved, such as what a dispute keeps
	Returned                // what settlement has ordered and the book refused, or a bank sent back
	Own                     // what settlement has ordered: it is not counted again
	classes                 // how many there are
)

var classNames = [classes]string{"gross", "fee", "refund", "charge_back", "other", "returned", "own"}

// String returns the class in a word: "charge_back".
func (c Class) String() string { return classNames[c] }

// ParseClass returns the class of its word, false if there is none.
func ParseClass(word string) (Class, bool) {
	i := slices.Index(classNames[:], word)
	return Class(max(i, 0)), i >= 0
}

// Line is one transfer on an account, as a batch takes it in.
type Line struct {
	Account int64 // the book's number
	Version int64 // of the account after it: with Account it is the transfer's place
	Amount  int64 // minor units; positive is owed: by the house to a merchant, by a channel to the house
	Time    time.Time
	Kind    string // of the transfer
	Payment string
	Ordered eventsv1.PaymentPurpose // of the payment, if settlement has ordered it; else unspecified
}

// Kinds of transfers that a payment's later life has.
const (
	kindRepresent = "representment"
	kindExchange  = "exchange"
)

// Class says what a line is counted as.
func (l *Line) Class() Class {
	if l.Ordered != eventsv1.PaymentPurpose_PAYMENT_PURPOSE_UNSPECIFIED {
		if l.Kind == payments.PurposeName(l.Ordered) {
			return Own
		}
		return Returned
	}
	switch l.Kind {
	case payments.PurposeName(eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE):
		return Gross
	case payments.KindFee, payments.KindFeeReturn:
		return Fees
	case payments.KindRefund, payments.KindVoid, payments.KindFailure:
		return Refunds
	case payments.KindChargeBack, kindRepresent:
		return ChargeBack
	case kindExchange: // the merchant's side of a purchase in two currencies, or of what was given back of it
		if l.Amount > 0 {
			return Gross
		}
		return Refunds
	}
	return Other
}

// Held is what a batch has kept back.
type Held struct {
	Batch     int64 // that kept it
	Number    int   // in the batch, from 1
	Amount    int64
	ReleaseOn Day
	Refused   bool // the book did not take it: there is nothing to release
}

// Standing is where an account stands after its last batch.
type Standing struct {
	Day     Day   // of its last batch; 0: it has none
	Carried int64 // owed after it, minor units; below zero the merchant owes
	Held    []Held
	Refused []Order // ordered, refused by the book, and in no batch yet
}

// Batch is what a business day's cut-off settles of one merchant or payment channel in one currency. Amounts are minor
// units; what lessens is negative.
type Batch struct {
	Day       Day
	CutOff    time.Time
	ValueDate Day
	Opening   int64          // carried from the batch before
	Sums      [classes]int64 // by class; Own is for information
	Count     int            // lines, Own included
	Held      int64          // kept back as reserve
	Released  int64          // of what earlier batches kept back
	Payout    int64          // of a merchant: ordered
	Carried   int64          // to the next batch
	Fee       int64          // of a channel: expected, positive
	Due       int64          // of a channel: expected on the value date; below zero the house owes
	Keeps     []Held         // what this batch kept back; the second is a release that was refused
	Releases  []Held         // of earlier batches, those of refused reserves included
	Lines     []Line
	Refused   []Order
}

// Net is what the batch's lines come to, what settlement has ordered left out.
func (b *Batch) Net() (sum int64) {
	for c := range Own {
		sum += b.Sums[c]
	}
	return sum
}

// Settle makes the batches of a merchant's account in one currency, up to and including a business day: one for each cut-off
// that has something to settle. lines are those of no batch so far, in any order; what is dated before the last batch's
// cut-off has come late and falls into the next. s is not changed.
func (m *Merchant) Settle(s Standing, currency events.Currency, lines []Line, until Day) []Batch {
	var all []Batch
	s.Held, s.Refused = slices.Clone(s.Held), slices.Clone(s.Refused)
	days := m.CutOffs.assign(lines, s.Day, until)
	for {
		day, found := m.nextDay(&s, currency, days, until)
		if !found {
			return all
		}
		b := Batch{Day: day, CutOff: m.CutOffs.At(day), ValueDate: m.ValueDate(day), Opening: s.Carried}
		b.take(days.upTo(day))
		m.close(&b, &s, currency)
		s.Day, s.Carried = day, b.Carried
		all = append(all, b)
	}
}

// assign gives each line the business day whose cut-off takes it, those after until left out.
func (c CutOffs) assign(lines []Line, last, until Day) piles {
	days := piles{}
	first := Day(0)
	if last > 0 {
		first = c.Next(last)
	}
	for _, l := range lines {
		if d := max(c.Takes(l.Time), first); d <= until {
			days[d] = append(days[d], l)
		}
	}
	return days
}

// piles are lines by the business day whose cut-off takes them.
type piles map[Day][]Line

// settles lists the days on which there is something to settle: lines that are settlement's own alone make no batch, they
// fall into the next.
func (p piles) settles() (days []Day) {
	for d, lines := range p {
		if slices.ContainsFunc(lines, func(l Line) bool { return l.Class() != Own }) {
			days = append(days, d)
		}
	}
	slices.Sort(days)
	return days
}

// upTo takes the lines of a day and of those before it.
func (p piles) upTo(day Day) (lines []Line) {
	for d, some := range p {
		if d <= day {
			lines = append(lines, some...)
			delete(p, d)
		}
	}
	return lines
}

// nextDay is the next business day after the last batch on which there is something to settle.
func (m *Merchant) nextDay(s *Standing, currency events.Currency, days piles, until Day) (next Day, found bool) {
	consider := func(d Day) {
		if d > s.Day && d <= until && (!found || d < next) {
			next, found = d, true
		}
	}
	for _, d := range days.settles() {
		consider(d)
	}
	for _, h := range s.Held {
		consider(m.CutOffs.From(max(h.ReleaseOn, s.Day+1)))
	}
	if !found && (len(s.Refused) > 0 || m.pays(s.Carried, currency) > 0) && m.CutOffs.Has(until) {
		consider(until)
	}
	return next, found
}

// pays is what of an amount owed is paid out: all of it, once it is the minimum, at most what one event can move.
func (m *Merchant) pays(owed int64, currency events.Currency) int64 {
	if owed <= 0 || owed < m.Minimum[currency] {
		return 0
	}
	return min(owed, events.MaxAmount)
}

func (b *Batch) take(lines []Line) {
	b.Lines = lines
	slices.SortFunc(b.Lines, func(x, y Line) int {
		return cmp.Or(cmp.Compare(x.Account, y.Account), cmp.Compare(x.Version, y.Version))
	})
	b.Count = len(lines)
	for i := range lines {
		b.Sums[lines[i].Class()] += lines[i].Amount
	}
}

// close nets a batch: what was refused comes back, reserve is kept and released, the rest is paid or carried.
func (m *Merchant) close(b *Batch, s *Standing, currency events.Currency) {
	refused := m.takeRefused(b, s)
	owed := b.Opening + b.Net()
	if m.Reserve > 0 {
		b.Held = min(share(max(b.Sums[Gross], 0), int64(m.Reserve), int64(events.RateOne)), max(owed, 0), events.MaxAmount)
	}
	if b.Held > 0 {
		b.Keeps = append(b.Keeps, Held{Number: 1, Amount: b.Held, ReleaseOn: m.Releases(b.Day)})
	}
	if refused > 0 {
		b.Keeps = append(b.Keeps, Held{Number: 2, Amount: refused, ReleaseOn: b.Day + 1})
	}
	var stays []Held
	for _, h := range s.Held {
		switch {
		case h.ReleaseOn > b.Day && !h.Refused, b.Released+h.Amount > events.MaxAmount:
			stays = append(stays, h)
		case h.Refused:
			b.Releases = append(b.Releases, h)
		default:
			b.Released += h.Amount
			b.Releases = append(b.Releases, h)
		}
	}
	s.Held = append(stays, b.Keeps...)
	owed += b.Released - b.Held
	b.Payout = m.pays(owed, currency)
	b.Carried = owed - b.Payout
}

// takeRefused counts what the book has refused of earlier orders: a payout or a reserve is still owed, a release is not yet.
// It returns what of releases is kept on.
func (m *Merchant) takeRefused(b *Batch, s *Standing) (kept int64) {
	b.Refused, s.Refused = s.Refused, nil
	gone := int64(0) // of reserves that were refused, and that a batch has released before anybody knew: of those nothing is kept
	for _, h := range s.Held {
		if h.Refused {
			gone -= h.Amount
		}
	}
	for _, o := range b.Refused {
		switch o.Purpose {
		case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE_RELEASE:
			kept += o.Amount
			b.Sums[Returned] -= o.Amount
			continue
		case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE:
			gone += o.Amount
		}
		b.Sums[Returned] += o.Amount
	}
	return max(kept-max(gone, 0), 0)
}

// Settle makes the batches of a payment channel in one currency, up to and including a business day: what it owes for each
// cut-off, the fee it is expected to take, and when it pays.
func (c *Channel) Settle(last Day, currency events.Currency, lines []Line, until Day) []Batch {
	days := c.CutOffs.assign(lines, last, until)
	var all []Batch
	for _, d := range days.settles() {
		b := Batch{Day: d, CutOff: c.CutOffs.At(d), ValueDate: c.ValueDate(d)}
		b.take(days.upTo(d))
		b.Fee = c.fees(b.Lines, currency)
		if b.Due = b.Net(); !c.Gross {
			b.Due -= b.Fee
		}
		all = append(all, b)
	}
	return all
}

// fees is what the channel is expected to take of what it has collected. Of a payment that another channel took over, or that it took
// over, that is what is left of it here; and what the house gets back of a loss is part of a representment.
func (c *Channel) fees(lines []Line, currency events.Currency) (fee int64) {
	rerouted := map[string]int64{}
	for i := range lines {
		if lines[i].Kind == payments.KindReroute {
			rerouted[lines[i].Payment] = 0
		}
	}
	for i := range lines {
		l := &lines[i]
		if l.Class() != Gross && l.Class() != Other || l.Kind == payments.KindRecovered {
			continue
		}
		if _, moved := rerouted[l.Payment]; moved {
			rerouted[l.Payment] += l.Amount
		} else if l.Amount > 0 {
			fee += c.Fee(l.Amount, currency)
		}
	}
	for _, left := range rerouted {
		if left > 0 {
			fee += c.Fee(left, currency)
		}
	}
	return fee
}

// Order is a payment that a batch orders.
type Order struct {
	ID       string // of the payment and of the event; it names the batch
	Purpose  eventsv1.PaymentPurpose
	Party    string // merchant, or payment channel
	Currency events.Currency
	Amount   int64
	At       time.Time
	Channel  string // payment channel that carries it
	Method   eventsv1.PaymentMethod
}

// OrderID names the payment of a purpose that a day's batch orders: "settlement/2026-01-31/M1/CNY/payout". The name of a
// party that would make it longer than an id may be is hashed.
func OrderID(day Day, party string, currency events.Currency, purpose eventsv1.PaymentPurpose) string {
	id := func(party string) string {
		return payments.HousePayment + day.String() + "/" + party + "/" + currency.Code() + "/" + payments.PurposeName(purpose)
	}
	if whole := id(party); len(whole) <= events.MaxIDBytes {
		return whole
	}
	sum := sha256.Sum256([]byte(party))
	return id("#" + hex.EncodeToString(sum[:16]))
}

// Orders are the payments a merchant's batch orders, in the order in which the book has to take them.
func (m *Merchant) Orders(b *Batch, merchant string, currency events.Currency) []Order {
	var all []Order
	add := func(purpose eventsv1.PaymentPurpose, amount int64, channel string) {
		if amount > 0 {
			all = append(all, Order{ID: OrderID(b.Day, merchant, currency, purpose), Purpose: purpose, Party: merchant, Currency: currency, Amount: amount,
				At: b.CutOff, Channel: channel, Method: m.Method})
		}
	}
	add(eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE_RELEASE, b.Released, "")
	add(eventsv1.PaymentPurpose_PAYMENT_PURPOSE_RESERVE, b.Held, "")
	add(eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT, b.Payout, m.PaidBy)
	return all
}

// Event is what is published of an order. It is the same however often.
func (o *Order) Event() events.Event {
	e := events.Event{ID: o.ID, Source: Source, Kind: events.PaymentInitiated, Time: o.At, CustomerID: o.Party, PaymentID: o.ID, Purpose: o.Purpose,
		Amount: o.Amount, Currency: o.Currency, Method: o.Method, PaymentChannel: o.Channel}
	if o.Purpose != eventsv1.PaymentPurpose_PAYMENT_PURPOSE_CLEARING {
		e.MerchantID = o.Party
	}
	return e
}
