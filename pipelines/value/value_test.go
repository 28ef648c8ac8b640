package value

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

var noon = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

func TestTierOf(t *testing.T) {
	t.Parallel()
	f := func(r, f, m int, want Tier) {
		t.Helper()
		if got := TierOf(r, f, m); got != want {
			t.Errorf("%d %d %d is %s, want %s", r, f, m, got, want)
		}
	}
	f(5, 5, 5, Platinum)
	f(5, 4, 5, Platinum)
	f(5, 4, 4, Gold)
	f(5, 5, 1, Gold)
	f(5, 4, 1, Silver)
	f(1, 5, 2, Silver)
	f(5, 1, 1, Bronze)
	f(1, 1, 1, Bronze)
}

func TestDayOf(t *testing.T) {
	t.Parallel()
	f := func(s string, want int) {
		t.Helper()
		when, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		if got := DayOf(when); got != want {
			t.Errorf("%s is day %d, want %d", s, got, want)
		}
	}
	f("1970-01-01T00:00:00Z", 0)
	f("1970-01-01T23:59:59Z", 0)
	f("1970-01-02T00:30:00+01:00", 0)
	f("1969-12-31T23:59:59Z", -1)
	f("1969-12-31T00:00:00Z", -1)
	f("1969-12-30T23:59:59Z", -2)
	f("2026-09-01T12:00:00Z", 20697)
}

func TestCount(t *testing.T) {
	t.Parallel()
	const purchase, topUp, withdrawal = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL
	f := func(k events.Kind, v events.Verdict, purpose eventsv1.PaymentPurpose, want *Day) {
		t.Helper()
		d := events.Decision{Verdict: v, Event: events.Event{Kind: k, Time: noon, CustomerID: "C1", Amount: 5, Purpose: purpose}}
		if k.Family() == events.Payment {
			d.Event.Currency = events.MustCurrency("CNY")
		}
		key, got, ok := Count(&d)
		if ok != (want != nil) || ok && got != *want {
			t.Errorf("%s, %s: %+v, %v, want %+v", k, v, got, ok, want)
		}
		if ok && key != (DayKey{20697, "C1", d.Event.Currency.Code()}) {
			t.Errorf("%s: %v", k, key)
		}
	}
	f(events.PaymentInitiated, events.Approve, purchase, &Day{Payments: 1, Spent: 5, Active: 1, LastActive: noon})
	f(events.PaymentInitiated, events.Approve, topUp, &Day{Payments: 1, ToppedUp: 5, Active: 1, LastActive: noon})
	f(events.PaymentInitiated, events.Approve, withdrawal, &Day{Payments: 1, Withdrawn: 5, Active: 1, LastActive: noon})
	f(events.PaymentInitiated, events.Review, purchase, &Day{Reviewed: 1})
	f(events.PaymentInitiated, events.Decline, purchase, &Day{Declined: 1})
	f(events.PaymentInitiated, events.Observed, purchase, &Day{})
	f(events.PaymentInitiated, events.Duplicate, purchase, nil)
	f(events.PaymentCaptured, events.Observed, purchase, &Day{})
	f(events.PaymentRefunded, events.Observed, purchase, &Day{Refunded: 5})
	f(events.PaymentChargedBack, events.Approve, purchase, &Day{Refunded: 5})
	f(events.PaymentRefunded, events.Decline, purchase, &Day{})
	f(events.PaymentRefunded, events.Duplicate, purchase, nil)
	f(events.BehaviorSignedIn, events.Observed, 0, &Day{Actions: 1, Active: 1, LastActive: noon})
	f(events.BehaviorComplained, events.Observed, 0, &Day{Actions: 1, Complaints: 1, Active: 1, LastActive: noon})
	f(events.BehaviorSignInFailed, events.Observed, 0, &Day{Actions: 1, FailedSignIns: 1})
	f(events.BehaviorViewed, events.Duplicate, 0, nil)
	f(events.LoanRepaid, events.Observed, 0, nil)
}

// drawDays draws a population with many equals.
func drawDays(t *rapid.T) map[DayKey]Day {
	days := map[DayKey]Day{}
	for range rapid.IntRange(0, 60).Draw(t, "rows") {
		key := DayKey{Day: 20000 + rapid.IntRange(0, 120).Draw(t, "day"), Customer: fmt.Sprint("C", rapid.IntRange(0, 15).Draw(t, "customer")),
			Currency: rapid.SampledFrom([]string{"", "CNY", "JPY"}).Draw(t, "currency")}
		var day Day
		if key.Currency == "" {
			day.Actions = 1
			day.Active = int64(rapid.IntRange(0, 1).Draw(t, "active"))
		} else {
			day.Payments = int64(rapid.IntRange(0, 3).Draw(t, "payments"))
			day.Spent, day.Refunded, day.Active = day.Payments*int64(rapid.IntRange(0, 5).Draw(t, "spent")), int64(rapid.IntRange(0, 4).Draw(t, "refunded")), day.Payments
		}
		if day.Active > 0 {
			day.LastActive = time.Unix(int64(key.Day)*86400, 0).UTC()
		}
		sum := days[key]
		sum.Add(day)
		days[key] = sum
	}
	return days
}

// The standing of each customer is what the definition says, word for word, computed the slow way.
func TestTiersNaive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		days := drawDays(t)
		got := Tiers(days)
		if !slices.IsSortedFunc(got, func(a, b Customer) int { return strings.Compare(a.ID, b.ID) }) {
			t.Fatalf("not ordered: %v", got)
		}
		n := naive{days}
		customers := n.customers()
		if len(got) != len(customers) {
			t.Fatalf("%d customers, want %d", len(got), len(customers))
		}
		for i, id := range customers {
			if want := n.standing(id); got[i] != want {
				t.Fatalf("got  %+v\nwant %+v", got[i], want)
			}
		}
	})
}

// naive asks every question anew.
type naive struct{ days map[DayKey]Day }

func (n naive) customers() (all []string) {
	for k, d := range n.days {
		if d.Active > 0 && !slices.Contains(all, k.Customer) {
			all = append(all, k.Customer)
		}
	}
	slices.Sort(all)
	return all
}

func (n naive) newest() (day int) {
	for k, d := range n.days {
		if d.Active > 0 {
			day = max(day, k.Day)
		}
	}
	return day
}

func (n naive) lastDay(id string) (day int) {
	for k, d := range n.days {
		if k.Customer == id && d.Active > 0 {
			day = max(day, k.Day)
		}
	}
	return day
}

func (n naive) inWindow(day int) bool { return day > n.newest()-WindowDays }

func (n naive) payments(id string) (sum int64) {
	for k, d := range n.days {
		if k.Customer == id && n.inWindow(k.Day) {
			sum += d.Payments
		}
	}
	return sum
}

func (n naive) net(id, currency string) (sum int64) {
	for k, d := range n.days {
		if k.Customer == id && k.Currency == currency && n.inWindow(k.Day) {
			sum += d.Spent - d.Refunded
		}
	}
	return sum
}

func (n naive) quintile(id string, among []string, value func(string) int64) int {
	below := 0
	for _, other := range among {
		if value(other) < value(id) {
			below++
		}
	}
	return 1 + 5*below/len(among)
}

func (n naive) standing(id string) Customer {
	c := Customer{ID: id, Tier: Dormant, Recency: 1, Frequency: 1, Monetary: 1, LastDay: n.lastDay(id), Payments: n.payments(id),
		AsOf: time.Unix(int64(n.lastDay(id))*86400, 0).UTC()}
	if !n.inWindow(c.LastDay) {
		return c
	}
	var active []string
	for _, other := range n.customers() {
		if n.inWindow(n.lastDay(other)) {
			active = append(active, other)
		}
	}
	c.Recency = n.quintile(id, active, func(s string) int64 { return int64(n.lastDay(s)) })
	c.Frequency = n.quintile(id, active, n.payments)
	for _, currency := range []string{"CNY", "JPY"} {
		var spenders []string
		for _, other := range active {
			if n.net(other, currency) > 0 {
				spenders = append(spenders, other)
			}
		}
		if n.net(id, currency) > 0 {
			c.Monetary = max(c.Monetary, n.quintile(id, spenders, func(s string) int64 { return n.net(s, currency) }))
		}
	}
	c.Tier = TierOf(c.Recency, c.Frequency, c.Monetary)
	return c
}

// One customer's event of another time does not make all others dormant; a hundredth of the busiest day's customers moves
// the window.
func TestWindowFollowsTheMany(t *testing.T) {
	t.Parallel()
	f := func(later, wantDormant int) {
		t.Helper()
		days := map[DayKey]Day{}
		for i := range 300 {
			days[DayKey{Day: 1000, Customer: fmt.Sprint("C", i), Currency: "CNY"}] = Day{Payments: 1, Spent: 100, Active: 1}
		}
		for i := range later {
			days[DayKey{Day: 2000, Customer: fmt.Sprint("L", i), Currency: "CNY"}] = Day{Payments: 1, Spent: 100, Active: 1}
		}
		dormant := 0
		for _, c := range Tiers(days) {
			if c.Tier == Dormant {
				dormant++
			}
		}
		if dormant != wantDormant {
			t.Errorf("%d later: %d dormant, want %d", later, dormant, wantDormant)
		}
	}
	f(0, 0)
	f(1, 0)
	f(2, 0)
	f(3, 300)
}
