package poster

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"sluice/pipelines/ledger"
	"sluice/pipelines/lending"
	"sluice/pipelines/payments"
	"sluice/pipelines/posting"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// openBook is a book in which every account is loaded that anybody asks for.
type openBook struct{ *wetBook }

func (b openBook) load(key ledger.AccountKey) {
	if b.Account(key) == nil {
		a, _ := ledger.NewAccount(key)
		b.Load(a)
	}
}

func (b openBook) Apply(linked []ledger.Transfer) ledger.Code {
	for i := range linked {
		b.load(linked[i].Debit)
		b.load(linked[i].Credit)
	}
	return b.wetBook.Apply(linked)
}

func (b openBook) Funds(key ledger.AccountKey) int64 {
	b.load(key)
	return b.wetBook.Funds(key)
}

// ended is what a life comes to: what the payment says, who has what, and what still waits.
func ended(life []events.Event) string {
	k := &knowledge{counted: map[identity]bool{}, payments: map[string]*payments.Payment{}, loans: map[string]*lending.Loan{}, waiting: map[place][]early{}}
	b := openBook{&wetBook{Book: ledger.NewBook(0), closed: map[ledger.AccountKey]bool{}}}
	entries := make([]entry, len(life))
	for i := range life {
		entries[i].decision = events.Decision{Event: life[i], Verdict: events.Approve}
	}
	decide(entries, k, b, posting.Standard())
	balances := map[ledger.AccountKey]int64{}
	for _, a := range b.Changed() {
		balances[a.Key] = a.Balance()
	}
	for _, key := range slices.Sorted(maps.Keys(balances)) {
		if balances[key] == 0 {
			delete(balances, key)
		}
	}
	said := fmt.Sprint(balances, " ", len(k.nextWaiting[place{"P", 0}]), " wait")
	if p := k.payment("P"); p != nil {
		said += fmt.Sprintf(" %s captured %d held %d refunded %d charged back %d reversed %d fee %d", p.Status, p.Captured, p.Held, p.Refunded, p.ChargedBack, p.Reversed, p.Fee)
	}
	return said
}

// permute calls f with every order of the events.
func permute(all []events.Event, n int, f func([]events.Event)) {
	if n == len(all) {
		f(all)
		return
	}
	for i := n; i < len(all); i++ {
		all[n], all[i] = all[i], all[n]
		permute(all, n+1, f)
		all[n], all[i] = all[i], all[n]
	}
}

// A life's events that do not contradict each other end in the same whatever order they come in, each once or twice. Without one
// of them, what builds on it waits.
func TestEveryOrderEndsTheSame(t *testing.T) {
	t.Parallel()
	event := func(kind events.Kind, amount int64, change ...func(*events.Event)) events.Event {
		e := events.Event{Kind: kind, Amount: amount, Currency: cny, Source: "acquirer", PaymentID: "P", CustomerID: "A", MerchantID: "M", Method: byCard, Purpose: purchase}
		for _, c := range change {
			c(&e)
		}
		return e
	}
	respond := func(e *events.Event) { e.RespondBy = start.Add(24 * time.Hour) }
	won := func(e *events.Event) { e.Outcome = eventsv1.DisputeOutcome_DISPUTE_OUTCOME_WON }
	lost := func(e *events.Event) { e.Outcome = eventsv1.DisputeOutcome_DISPUTE_OUTCOME_LOST }
	shared := func(e *events.Event) {
		e.Splits = []events.Split{{MerchantID: "M", Amount: 6000}, {MerchantID: "N", Amount: 4000}}
	}
	for name, life := range map[string][]events.Event{
		"at once":       {event(events.PaymentInitiated, 10000), event(events.PaymentSettled, 10000), event(events.PaymentRefunded, 3000), event(events.PaymentRefunded, 2000)},
		"failed":        {event(events.PaymentInitiated, 10000), event(events.PaymentFailed, 10000)},
		"in two steps":  {event(events.PaymentAuthorized, 10000), event(events.PaymentCaptured, 10000), event(events.PaymentSettled, 10000), event(events.PaymentRefunded, 3000)},
		"several parts": {event(events.PaymentAuthorized, 10000), event(events.PaymentCaptured, 6000), event(events.PaymentCaptured, 4000), event(events.PaymentRefunded, 1000), event(events.PaymentRefunded, 2000)},
		"two merchants": {event(events.PaymentAuthorized, 10000, shared), event(events.PaymentCaptured, 10000), event(events.PaymentRefunded, 1000), event(events.PaymentSettled, 1000)},
		"dispute won":   {event(events.PaymentAuthorized, 10000), event(events.PaymentCaptured, 10000), event(events.PaymentDisputed, 5000, respond), event(events.PaymentEvidenceSubmitted, 1), event(events.PaymentDisputeDecided, 1, won), event(events.PaymentSettled, 1)},
		"dispute lost":  {event(events.PaymentInitiated, 10000), event(events.PaymentDisputed, 5000, respond), event(events.PaymentEvidenceSubmitted, 1), event(events.PaymentDisputeDecided, 1, lost)},
		"represented":   {event(events.PaymentAuthorized, 10000), event(events.PaymentCaptured, 10000), event(events.PaymentChargedBack, 5000), event(events.PaymentRepresented, 5000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i := range life {
				life[i].ID, life[i].Time = fmt.Sprint(i), start.Add(time.Duration(i)*time.Minute)
			}
			want := ended(life)
			permute(slices.Clone(life), 0, func(order []events.Event) {
				if got := ended(order); got != want {
					t.Fatalf("%v ends in %s, want %s", ids(order), got, want)
				}
				twice := append(slices.Clone(order[len(order)/2:]), order...)
				if got := ended(twice); got != want {
					t.Fatalf("%v, some twice, ends in %s, want %s", ids(twice), got, want)
				}
			})
			var waits string
			for i := 1; i < len(life); i++ {
				waits = ended(life[i:])
			}
			if without := ended(life[1:]); without != fmt.Sprintf("map[] %d wait", len(life)-1) || waits != "map[] 1 wait" {
				t.Errorf("without its first event it ends in %s", without)
			}
		})
	}
}

// What waited is applied in the order of its own times: a settlement that came first does not end the hold before the captures.
func TestWhatWaitedIsAppliedInItsOwnOrder(t *testing.T) {
	t.Parallel()
	kinds := []events.Kind{events.PaymentCaptured, events.PaymentCaptured, events.PaymentSettled}
	rest := make([]events.Event, len(kinds))
	first := events.Event{Kind: events.PaymentAuthorized, ID: "first", Amount: 10000, Currency: cny, Source: "acquirer", PaymentID: "P", CustomerID: "A", MerchantID: "M",
		Method: byCard, Purpose: purchase, Time: start}
	for i, kind := range kinds {
		rest[i] = first
		rest[i].Kind, rest[i].ID, rest[i].Time, rest[i].Amount = kind, fmt.Sprint(i), start.Add(time.Duration(i+1)*time.Minute), 5000
	}
	want := ended(append([]events.Event{first}, rest...))
	permute(rest, 0, func(order []events.Event) {
		if got := ended(append(slices.Clone(order), first)); got != want {
			t.Errorf("%v before the authorization ends in %s, want %s", ids(order), got, want)
		}
	})
}

func ids(all []events.Event) (ids []string) {
	for _, e := range all {
		ids = append(ids, e.ID)
	}
	return ids
}
