package simulator

import (
	"cmp"
	"net/netip"
	"strconv"
	"time"

	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// act is an event in short, some 120 bytes without pointers: a day of them is planned and sorted before the first is
// written out.
type act struct {
	at     int64 // microseconds since midnight
	who    int32 // the customer
	script int32 // the fraud it belongs to, counted in its day; −1: the customer's own life
	number int32 // counts within script, or within the customer's day
	kind   events.Kind
	label  label
	method uint8
	// purpose is a PaymentPurpose.
	purpose uint8
	channel channelName
	amount  int64 // minor units of the customer's market
	other   int32 // merchant, counterparty, page, loan: what the kind calls for
	place   int32 // index in cities
	ip      uint32
	device  uint64 // 0: none
	card    uint64 // 0: none
	session uint16 // counted in the customer's day; 0: none
	won     bool   // of a dispute's decision: for the merchant
	// The payment that a later event is of, by day, script and number; ofDay is 1 more, so that 0 is none.
	ofDay    int32
	ofScript int32
	ofNumber int32
}

// label is an index in labels.
type label uint8

const (
	honest label = iota
	cardTesting
	accountTakeover
	muleChain
	colludingMerchants
)

var labels = [...]string{"", LabelCardTesting, LabelAccountTakeover, LabelMuleChain, LabelColludingMerchants}

// channelName is an index in channelNames.
type channelName uint8

const (
	viaApp channelName = iota
	viaWeb
	viaShop
	viaBank
)

var channelNames = [...]string{"app", "web", "pos", "bank"}

const (
	wallet       = uint8(eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET)
	byCard       = uint8(eventsv1.PaymentMethod_PAYMENT_METHOD_CARD)
	bankTransfer = uint8(eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER)
	quickPay     = uint8(eventsv1.PaymentMethod_PAYMENT_METHOD_QUICK_PAY)

	topUp      = uint8(eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP)
	transfer   = uint8(eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER)
	purchase   = uint8(eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE)
	withdrawal = uint8(eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL)
)

// compareActs orders by time; at the same microsecond by what makes the id.
func compareActs(a, b act) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.script, b.script), cmp.Compare(a.who, b.who), cmp.Compare(a.number, b.number))
}

// event writes an act out.
func (s *Simulation) event(day int, a *act) events.Event {
	e := events.Event{
		ID: a.id(day), Source: s.config.Source, Kind: a.kind, Label: labels[a.label],
		Time:       s.config.Start.Add(time.Duration(day)*24*time.Hour + time.Duration(a.at)*time.Microsecond),
		CustomerID: customerID(a.who), Channel: channelNames[a.channel],
	}
	s.locate(&e, a)
	switch a.kind.Family() {
	case events.Payment:
		s.paymentOf(&e, day, a)
	case events.Loan:
		s.loanEventOf(&e, a)
	case events.Behavior:
		s.behaviorOf(&e, day, a)
	}
	return e
}

// locate says on which device and where; an act without a device has neither.
func (s *Simulation) locate(e *events.Event, a *act) {
	if a.device == 0 {
		return
	}
	e.DeviceID = numbered("dev-", a.device)
	e.IP = netip.AddrFrom4([4]byte{byte(a.ip >> 24), byte(a.ip >> 16), byte(a.ip >> 8), byte(a.ip)}).String()
	c, home := &cities[a.place], &s.customers[a.who]
	e.Country, e.Latitude, e.Longitude, e.Located = c.country, c.latitude, c.longitude, true
	if int(a.place) == home.city {
		e.Latitude, e.Longitude = home.latitude, home.longitude
	}
}

func (s *Simulation) paymentOf(e *events.Event, day int, a *act) {
	e.Amount, e.Currency = a.amount, markets[s.customers[a.who].market].currency
	e.Method, e.Purpose = eventsv1.PaymentMethod(a.method), eventsv1.PaymentPurpose(a.purpose)
	e.PaymentID = "p" + e.ID[1:]
	e.CustomerName, e.KYCLevel = s.nameOf(a.who), s.levelOf(a.who)
	switch a.purpose {
	case transfer:
		e.CounterpartyID, e.CounterpartyName = customerID(a.other), s.nameOf(a.other)
	case purchase:
		e.MerchantID = numbered("m", uint64(a.other))
		e.MerchantMCC = categories[s.merchants[a.other].category].mcc
	}
	if a.card != 0 {
		e.CardToken = numbered("card-", a.card)
	}
	switch {
	case a.ofDay > 0:
		s.lifeOf(e, a)
	case a.kind == events.PaymentFailed:
		e.Reason = "card_declined"
	}
}

func (s *Simulation) behaviorOf(e *events.Event, day int, a *act) {
	if a.session > 0 {
		e.SessionID = "s" + strconv.Itoa(day) + "-" + strconv.Itoa(int(a.who)) + "-" + strconv.Itoa(int(a.session))
	}
	switch a.kind {
	case events.BehaviorViewed:
		e.Subject = pages[a.other]
	case events.BehaviorIdentityVerified:
		e.DocumentHash = numbered("doc-", hash(s.config.Seed, ofDevice, int(a.who), -3))
		e.CustomerName, e.KYCLevel = s.nameOf(a.who), s.levelOf(a.who)
	case events.BehaviorRegistered:
		e.CustomerName = s.nameOf(a.who)
	case events.BehaviorPayeeAdded:
		e.PayeeID = customerID(a.other)
	case events.BehaviorComplained:
		e.Text = complaints[a.other]
	}
}

// id is unique among the events of a simulation: "e12-345-6" is the 6th of customer 345 on day 12, "e12-f3-6" the 6th of
// that day's fraud 3.
func (a *act) id(day int) string {
	b := make([]byte, 0, 24)
	b = append(b, 'e')
	b = strconv.AppendInt(b, int64(day), 10)
	b = append(b, '-')
	if a.script >= 0 {
		b = append(b, 'f')
		b = strconv.AppendInt(b, int64(a.script), 10)
	} else {
		b = strconv.AppendInt(b, int64(a.who), 10)
	}
	b = append(b, '-')
	return string(strconv.AppendInt(b, int64(a.number), 10))
}

// earlierPayment is the id of the payment that a later event is of.
func (a *act) earlierPayment() string {
	of := *a
	of.script, of.number = a.ofScript, a.ofNumber
	return "p" + of.id(int(a.ofDay) - 1)[1:]
}

func customerID(who int32) string { return numbered("c", uint64(who)) }

// numbered is a prefix and a number, in base 16 for long ones.
func numbered(prefix string, n uint64) string {
	b := make([]byte, 0, 24)
	b = append(b, prefix...)
	if n < 1<<32 {
		return string(strconv.AppendUint(b, n, 10))
	}
	return string(strconv.AppendUint(b, n, 16))
}
