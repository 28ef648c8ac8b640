// Package value says what a customer is worth to the house: which events count on which day, and the value tier by
// recency, frequency and monetary quintiles. It is the definition that the warehouse's SQL follows and is tested against;
// it connects to nothing and knows no clock.
package value

import (
	"math"
	"slices"
	"strings"
	"time"

	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// Limits of the tiers.
const (
	// WindowDays is how many days, up to the newest day with enough active customers (see Tiers), frequency and monetary look back; a
	// customer not active within them is dormant.
	WindowDays = 90
	// PlatinumFrom, GoldFrom and SilverFrom are the least sums of the three quintiles (3 to 15) of these tiers.
	PlatinumFrom, GoldFrom, SilverFrom = 14, 11, 8
)

// Tier is a value tier; its text is what rules and topics say.
type Tier string

// The tiers.
const (
	Platinum Tier = "platinum"
	Gold     Tier = "gold"
	Silver   Tier = "silver"
	Bronze   Tier = "bronze"
	Dormant  Tier = "dormant"
)

// TierOf returns the tier of a customer active within the window, from quintiles 1 to 5.
func TierOf(recency, frequency, monetary int) Tier {
	switch sum := recency + frequency + monetary; {
	case sum >= PlatinumFrom:
		return Platinum
	case sum >= GoldFrom:
		return Gold
	case sum >= SilverFrom:
		return Silver
	}
	return Bronze
}

// DayOf returns the UTC day of a moment as days since 1970-01-01.
func DayOf(t time.Time) int {
	const day = 24 * 60 * 60
	s := t.Unix()
	if s < 0 {
		return int((s - day + 1) / day)
	}
	return int(s / day)
}

// DayKey names a row of customer days.
type DayKey struct {
	Day      int // days since 1970-01-01, UTC, of the event's own time
	Customer string
	Currency string // ISO 4217; "" for behaviours
}

// Day is what a customer did on a day in a currency. Amounts are minor units.
type Day struct {
	Payments, Spent, ToppedUp, Withdrawn, Refunded, Reviewed, Declined int64
	Actions, FailedSignIns, Complaints                                 int64
	// Active counts the events that show the customer active; LastActive is the newest of them, zero when none.
	Active     int64
	LastActive time.Time
}

// Count returns what one decision adds to its customer's day; false when it has no row: loans, and duplicates, which count
// nowhere.
//   - A payment counts when it is initiated and approved; declined and held for review it counts as such alone.
//   - Purchases and transfers are spent money; top-ups and withdrawals are not.
//   - A refund or chargeback that was not stopped takes back what was spent.
//   - Every behaviour is an action; a failed sign-in shows no activity, since it may be a stranger's.
//   - Other payment events (captured, settled, …) tell of money already counted and add nothing.
func Count(d *events.Decision) (DayKey, Day, bool) {
	e := &d.Event
	key := DayKey{Day: DayOf(e.Time), Customer: e.CustomerID}
	if d.Verdict == events.Duplicate {
		return key, Day{}, false
	}
	switch e.Kind.Family() {
	case events.Payment:
		key.Currency = e.Currency.Code()
		return key, countPayment(d), true
	case events.Behavior:
		return key, countBehavior(e), true
	}
	return key, Day{}, false
}

func countPayment(d *events.Decision) (day Day) {
	e := &d.Event
	switch e.Kind {
	case events.PaymentInitiated:
		switch d.Verdict {
		case events.Approve:
			day.Payments, day.Active, day.LastActive = 1, 1, e.Time
		case events.Review:
			day.Reviewed = 1
			return day
		case events.Decline:
			day.Declined = 1
			return day
		default:
			return day
		}
		switch e.Purpose {
		case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER:
			day.Spent = e.Amount
		case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP:
			day.ToppedUp = e.Amount
		case eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL:
			day.Withdrawn = e.Amount
		}
	case events.PaymentRefunded, events.PaymentChargedBack:
		if d.Verdict == events.Approve || d.Verdict == events.Observed {
			day.Refunded = e.Amount
		}
	}
	return day
}

func countBehavior(e *events.Event) Day {
	day := Day{Actions: 1}
	switch e.Kind {
	case events.BehaviorSignInFailed:
		day.FailedSignIns = 1
		return day
	case events.BehaviorComplained:
		day.Complaints = 1
	}
	day.Active, day.LastActive = 1, e.Time
	return day
}

// Add adds another count of the same row.
func (d *Day) Add(o Day) {
	d.Payments += o.Payments
	d.Spent += o.Spent
	d.ToppedUp += o.ToppedUp
	d.Withdrawn += o.Withdrawn
	d.Refunded += o.Refunded
	d.Reviewed += o.Reviewed
	d.Declined += o.Declined
	d.Actions += o.Actions
	d.FailedSignIns += o.FailedSignIns
	d.Complaints += o.Complaints
	d.Active += o.Active
	if o.LastActive.After(d.LastActive) {
		d.LastActive = o.LastActive
	}
}

// Customer is a customer's standing.
type Customer struct {
	ID                           string
	Tier                         Tier
	Recency, Frequency, Monetary int       // quintiles 1 to 5; 1, 1, 1 when dormant
	LastDay                      int       // last active day, days since 1970-01-01
	Payments                     int64     // in the window
	AsOf                         time.Time // newest event that counts
}

// Tiers returns the standing of every customer who was ever active, ordered by id.
//
// The window is the WindowDays days up to the newest day with at least a hundredth of the active customers of the busiest
// day: somebody's event of another time does not make all others dormant. Customers active in it, or later, are ranked: by
// last active day, by number of payments, and by money spent less refunded, the last within each currency, of which the
// best counts; who spent nothing has quintile 1. A quintile is 1 + ⌊5·below/n⌋, where below of the n ranked have less:
// equals share a quintile, so that a tier never depends on the order of rows.
func Tiers(days map[DayKey]Day) []Customer {
	all := standings(days)
	var window []*standing
	for _, s := range all {
		if s.inWindow {
			window = append(window, s)
		}
	}
	setQuintiles(window, func(s *standing) int64 { return int64(s.LastDay) }, func(s *standing, q int) { s.Recency = q })
	setQuintiles(window, func(s *standing) int64 { return s.Payments }, func(s *standing, q int) { s.Frequency = q })
	for _, code := range currencies(window) {
		var spenders []*standing
		for _, s := range window {
			if s.net[code] > 0 {
				spenders = append(spenders, s)
			}
		}
		setQuintiles(spenders, func(s *standing) int64 { return s.net[code] }, func(s *standing, q int) { s.Monetary = max(s.Monetary, q) })
	}
	out := make([]Customer, 0, len(all))
	for _, s := range all {
		if s.inWindow {
			s.Tier = TierOf(s.Recency, s.Frequency, s.Monetary)
		}
		out = append(out, s.Customer)
	}
	slices.SortFunc(out, func(a, b Customer) int { return strings.Compare(a.ID, b.ID) })
	return out
}

type standing struct {
	Customer
	inWindow bool
	net      map[string]int64 // spent less refunded in the window, by currency
}

// newestDay is the newest day with at least a hundredth of the active customers of the busiest day.
func newestDay(days map[DayKey]Day) int {
	active := map[int]map[string]bool{}
	busiest := 0
	for key, day := range days {
		if day.Active == 0 {
			continue
		}
		if active[key.Day] == nil {
			active[key.Day] = map[string]bool{}
		}
		active[key.Day][key.Customer] = true
		busiest = max(busiest, len(active[key.Day]))
	}
	newest := math.MinInt32
	for day, customers := range active {
		if 100*len(customers) >= busiest {
			newest = max(newest, day)
		}
	}
	return newest
}

func standings(days map[DayKey]Day) map[string]*standing {
	from := newestDay(days) - WindowDays // exclusive
	all := map[string]*standing{}
	for key, day := range days {
		if day.Active == 0 {
			continue
		}
		s := all[key.Customer]
		if s == nil {
			s = &standing{Customer: Customer{ID: key.Customer, Tier: Dormant, Recency: 1, Frequency: 1, Monetary: 1, LastDay: key.Day},
				net: map[string]int64{}}
			all[key.Customer] = s
		}
		s.LastDay = max(s.LastDay, key.Day)
		if day.LastActive.After(s.AsOf) {
			s.AsOf = day.LastActive
		}
		if key.Day > from {
			s.inWindow = true
			s.Payments += day.Payments
		}
	}
	for key, day := range days {
		if s := all[key.Customer]; s != nil && key.Day > from && key.Currency != "" {
			s.net[key.Currency] += day.Spent - day.Refunded
		}
	}
	return all
}

func currencies(all []*standing) []string {
	seen := map[string]bool{}
	for _, s := range all {
		for code := range s.net {
			seen[code] = true
		}
	}
	codes := make([]string, 0, len(seen))
	for code := range seen {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	return codes
}

// setQuintiles ranks all by value and sets each one's quintile. It reorders all.
func setQuintiles(all []*standing, value func(*standing) int64, set func(*standing, int)) {
	slices.SortFunc(all, func(a, b *standing) int {
		switch va, vb := value(a), value(b); {
		case va < vb:
			return -1
		case va > vb:
			return 1
		}
		return 0
	})
	below := 0
	for i, s := range all {
		if i > 0 && value(s) > value(all[i-1]) {
			below = i
		}
		set(s, 1+5*below/len(all))
	}
}
