package simulator

import (
	"crypto/sha256"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/deploy/embedded/enginestest"
	"sluice/pipelines/lending"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

var monday = time.Date(2025, 3, 3, 0, 0, 0, 0, time.UTC)

func simulation(t testing.TB, seed uint64, customers int) *Simulation {
	t.Helper()
	s, err := New(Config{Seed: seed, Customers: customers, Start: monday})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// digest is a hash over the encoded events.
func digest(t testing.TB, all []events.Event) string {
	t.Helper()
	h := sha256.New()
	for i := range all {
		headers, value, err := events.Encode(&all[i])
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range headers {
			fmt.Fprintf(h, "%s=%s\n", x.Key, x.Value)
		}
		h.Write(value)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// The same seed gives the same bytes, another seed others; a day made alone is the day made after all before it.
func TestEventsAreAFunctionOfSeedAndDay(t *testing.T) {
	t.Parallel()
	const days = 8
	a, b, other := simulation(t, 7, 300), simulation(t, 7, 300), simulation(t, 8, 300)
	var digests []string
	for day := range days {
		digests = append(digests, digest(t, a.Day(day)))
	}
	for _, day := range []int{days - 1, 3, 0} {
		if got := digest(t, b.Day(day)); got != digests[day] {
			t.Errorf("day %d: alone %s, in turn %s", day, got, digests[day])
		}
		if digest(t, other.Day(day)) == digests[day] {
			t.Errorf("day %d is the same with another seed", day)
		}
	}
}

// From any position the events are those from there on, as Day has them.
func TestFromAnyPosition(t *testing.T) {
	t.Parallel()
	s := simulation(t, 3, 40)
	var all []events.Event
	var at []Position
	for day := range 4 {
		for i, e := range s.Day(day) {
			all, at = append(all, e), append(at, Position{day, i})
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.IntRange(0, len(all)-1).Draw(t, "first")
		n := first
		for p, e := range s.From(at[first]) {
			if p != at[n] || !reflect.DeepEqual(e, all[n]) {
				t.Fatalf("at %+v: %s, want %s at %+v", p, e.ID, all[n].ID, at[n])
			}
			if n++; n == len(all) || n == first+50 {
				break
			}
		}
	})
}

// Every event passes the decoder as it is, ids are unique, days are in order of time and hold their own time only.
func TestEventsAreValid(t *testing.T) {
	t.Parallel()
	s := simulation(t, 11, 400)
	seen := map[string]bool{}
	kinds := map[events.Kind]int{}
	for _, day := range []int{0, 1, 2, 3, 4, 45, 200, 399} {
		all := s.Day(day)
		if !slices.IsSortedFunc(all, func(a, b events.Event) int { return a.Time.Compare(b.Time) }) {
			t.Errorf("day %d is out of order", day)
		}
		midnight := monday.AddDate(0, 0, day)
		for i := range all {
			e := &all[i]
			kinds[e.Kind]++
			if seen[e.ID] || e.Time.Before(midnight) || !e.Time.Before(midnight.AddDate(0, 0, 1)) {
				t.Fatalf("day %d: %s %s at %s is there twice or on the wrong day", day, e.Kind, e.ID, e.Time)
			}
			seen[e.ID] = true
			checkDecoded(t, e)
		}
	}
	for _, k := range []events.Kind{events.PaymentInitiated, events.PaymentRefunded, events.LoanApplied,
		events.LoanAccepted, events.LoanRepaid, events.BehaviorRegistered, events.BehaviorIdentityVerified,
		events.BehaviorSignedIn, events.BehaviorSignInFailed, events.BehaviorSignedOut, events.BehaviorDeviceBound,
		events.BehaviorViewed, events.BehaviorPasswordChanged, events.BehaviorPayeeAdded, events.BehaviorComplained} {
		if kinds[k] == 0 {
			t.Errorf("there is no %s", k)
		}
	}
}

func checkDecoded(t *testing.T, e *events.Event) {
	t.Helper()
	headers, value, err := events.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	got, err := events.Decode(&events.Record{Topic: e.Kind.Family().Topic(), Key: []byte(e.CustomerID), Value: value, Headers: headers})
	if err != nil {
		t.Fatalf("%s %s: %v", e.Kind, e.ID, err)
	}
	if !reflect.DeepEqual(got, *e) {
		t.Fatalf("it is read back as another:\nput %+v\ngot %+v", *e, got)
	}
}

// Over two weeks 0.3 to 0.5 % of the payments are fraud, of every sort, and a customer has about ten events a day.
func TestShares(t *testing.T) {
	t.Parallel()
	const customers, days = 1500, 14
	s := simulation(t, 5, customers)
	n, payments, fraud := 0, 0, 0
	labels := map[string]int{}
	for day := 1; day <= days; day++ {
		for _, e := range s.Day(day) {
			n++
			if e.Label != "" {
				labels[e.Label]++
			}
			if e.Kind.Family() == events.Payment {
				payments++
				if e.Label != "" {
					fraud++
				}
			}
		}
	}
	if share := float64(fraud) / float64(payments); share < 0.003 || share > 0.005 {
		t.Errorf("%d of %d payments are fraud: %.2f %%", fraud, payments, 100*share)
	}
	if each := float64(n) / customers / days; each < 8 || each > 12 {
		t.Errorf("%.1f events a customer and day", each)
	}
	for _, label := range labelsOfFraud() {
		if labels[label] == 0 {
			t.Errorf("there is no %s", label)
		}
	}
	if len(labels) != 4 {
		t.Errorf("labels: %v", labels)
	}
}

func labelsOfFraud() []string {
	return []string{LabelCardTesting, LabelAccountTakeover, LabelMuleChain, LabelColludingMerchants}
}

// Each fraud shows the pattern its label stands for.
func TestFraudShowsItsPattern(t *testing.T) {
	t.Parallel()
	s := simulation(t, 9, 2000)
	patterns := map[string]func(*testing.T, []events.Event){
		LabelCardTesting: checkCardTesting, LabelAccountTakeover: checkTakeover,
		LabelMuleChain: checkMules, LabelColludingMerchants: checkCollusion,
	}
	found := map[string]int{}
	for day := range 12 {
		scripts := map[string][]events.Event{}
		for _, e := range s.Day(day) {
			if e.Label != "" {
				script := e.ID[:strings.LastIndexByte(e.ID, '-')]
				scripts[script] = append(scripts[script], e)
			}
		}
		for _, all := range scripts {
			found[all[0].Label]++
			patterns[all[0].Label](t, all)
		}
	}
	if len(found) != 4 {
		t.Errorf("found %v", found)
	}
}

func checkCardTesting(t *testing.T, all []events.Event) {
	small, failed, last := 0, 0, all[len(all)-1]
	for _, e := range all {
		if e.CardToken == "" || e.CardToken != last.CardToken || e.DeviceID != last.DeviceID {
			t.Errorf("%s: another card or device", e.ID)
		}
		if e.Amount*20 < last.Amount {
			small++
		}
		if e.Kind == events.PaymentFailed {
			failed++
		}
	}
	if small < 6 || small != len(all)-1 || failed == 0 || last.Kind != events.PaymentInitiated {
		t.Errorf("%s: %d small, %d failed, the last %s", last.ID, small, failed, last.Kind)
	}
}

func checkTakeover(t *testing.T, all []events.Event) {
	var order []events.Kind
	for _, e := range all {
		if e.Country == "CN" || e.DeviceID != all[0].DeviceID || e.CustomerID != all[0].CustomerID {
			t.Errorf("%s from %s", e.ID, e.Country)
		}
		if e.Kind != events.BehaviorSignInFailed {
			order = append(order, e.Kind)
		}
	}
	want := []events.Kind{events.BehaviorSignedIn, events.BehaviorPasswordChanged, events.BehaviorPayeeAdded, events.PaymentInitiated}
	if len(order) < 4 || !slices.Equal(order[:4], want) {
		t.Errorf("%s: %v", all[0].ID, order)
	}
}

func checkMules(t *testing.T, all []events.Event) {
	first, last := all[0], all[len(all)-1]
	if len(all) < 4 || len(all) > 6 || first.Purpose != eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP || last.Purpose != eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL {
		t.Errorf("%s: %d payments, from %s to %s", first.ID, len(all), first.Purpose, last.Purpose)
	}
	holder := first.CustomerID
	for _, e := range all[1 : len(all)-1] {
		if e.CustomerID != holder || e.Amount > first.Amount {
			t.Errorf("%s: %s pays %d, %s has it", e.ID, e.CustomerID, e.Amount, holder)
		}
		holder = e.CounterpartyID
	}
	if last.CustomerID != holder || last.Time.Sub(first.Time) > time.Hour {
		t.Errorf("%s: it ends at %s after %s", first.ID, last.CustomerID, last.Time.Sub(first.Time))
	}
}

func checkCollusion(t *testing.T, all []events.Event) {
	payers := map[string]bool{}
	for _, e := range all {
		payers[e.CustomerID] = true
		if e.DeviceID != all[0].DeviceID || e.MerchantID != all[0].MerchantID || e.Amount%500 != 0 {
			t.Errorf("%s: %s pays %d to %s", e.ID, e.DeviceID, e.Amount, e.MerchantID)
		}
	}
	if len(payers) < 5 || len(payers) != len(all) {
		t.Errorf("%s: %d payers of %d payments", all[0].ID, len(payers), len(all))
	}
}

// Each customer registers first; refunds name a purchase that was made, and return no more than it.
func TestLivesAreCoherent(t *testing.T) {
	t.Parallel()
	s := simulation(t, 21, 600)
	registered := map[string]bool{}
	purchases := map[string]events.Event{}
	refunds := 0
	for day := range 15 {
		for _, e := range s.Day(day) {
			switch {
			case e.Kind == events.BehaviorRegistered:
				registered[e.CustomerID] = true
			case !registered[e.CustomerID]:
				t.Fatalf("%s %s: %s has not registered", e.Kind, e.ID, e.CustomerID)
			case e.Kind == events.PaymentRefunded:
				refunds++
				of, ok := purchases[e.PaymentID]
				if !ok || of.CustomerID != e.CustomerID || of.MerchantID != e.MerchantID || of.Method != e.Method || e.Amount > of.Amount {
					t.Errorf("refund %+v\nof %+v", e, of)
				}
			case e.Kind == events.PaymentInitiated && e.Purpose == eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE:
				purchases[e.PaymentID] = e
			}
			if e.CounterpartyID == e.CustomerID && e.CounterpartyID != "" {
				t.Errorf("%s: a transfer to oneself", e.ID)
			}
		}
	}
	if len(registered) != 600 || refunds < 20 {
		t.Errorf("%d registered, %d refunds", len(registered), refunds)
	}
}

// Victims notice: most fraudulent payments but the mules' are charged back within weeks, once, whole; no others are.
func TestFraudIsChargedBack(t *testing.T) {
	t.Parallel()
	s := simulation(t, 5, 1500)
	const days = 12
	fraud, back := map[string]events.Event{}, map[string]int{}
	expected := 0
	for day := range days + lastNotice {
		for _, e := range s.Day(day) {
			switch {
			case e.Kind == events.PaymentChargedBack:
				of, ok := fraud[e.PaymentID]
				after := e.Time.Sub(of.Time).Hours() / 24
				if !ok || e.CustomerID != of.CustomerID || e.Amount != of.Amount || e.Currency != of.Currency || e.Label != "" || after < firstNotice-1 || after > lastNotice+1 {
					t.Errorf("charge-back %+v\nof %+v", e, of)
				}
				back[e.PaymentID]++
			case e.Kind == events.PaymentInitiated && e.Label != "" && e.Label != LabelMuleChain:
				fraud[e.PaymentID] = e
				if day < days {
					expected++
				}
			}
		}
	}
	found := 0
	for id, e := range fraud {
		if back[id] > 1 {
			t.Errorf("%s is charged back %d times", id, back[id])
		}
		if e.Time.Before(monday.AddDate(0, 0, days)) {
			found += back[id]
		}
	}
	if share := 100 * found / expected; share < noticed-10 || share > noticed+10 {
		t.Errorf("%d of %d are charged back, want some %d %%", found, expected, noticed)
	}
}

// Over more than a year of a few people, the loans run as lending says: no repayment is refused, good payers end.
func TestLoansRunTheirCourse(t *testing.T) {
	t.Parallel()
	s := simulation(t, 2, 60)
	loans := map[string]*lending.Loan{}
	statuses := map[lending.Status]int{}
	for day := range 500 {
		for _, e := range s.Day(day) {
			if e.Kind.Family() != events.Loan {
				continue
			}
			d := events.Decision{Event: e, Verdict: events.Approve}
			next, _, code := lending.Apply(loans[e.LoanID], &d, 0)
			if code != "" {
				t.Fatalf("day %d: %s of %s: %s", day, e.Kind, e.LoanID, code)
			}
			loans[e.LoanID] = next
		}
	}
	for _, l := range loans {
		statuses[l.Status]++
		if l.Status == lending.Active && l.AppliedAt.Before(monday.AddDate(0, 0, 20)) && l.TermMonths <= 6 {
			t.Errorf("loan %s of day %s over %d months is still active", l.ID, l.AppliedAt, l.TermMonths)
		}
	}
	for _, want := range []lending.Status{lending.Repaid, lending.Active, lending.WrittenOff, lending.Approved, lending.Cancelled} {
		if statuses[want] == 0 {
			t.Errorf("no loan is %s: %v", want, statuses)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, n := range []int{-1, LeastCustomers - 1, MostCustomers + 1} {
		if _, err := New(Config{Customers: n}); err == nil {
			t.Errorf("%d customers", n)
		}
	}
	if _, err := New(Config{Customers: LeastCustomers}); err != nil {
		t.Error(err)
	}
}

// BenchmarkDay says how many events a second are made, ready to be published.
func BenchmarkDay(b *testing.B) {
	s := simulation(b, 1, DefaultCustomers)
	n := 0
	for b.Loop() {
		for range s.From(Position{Day: 1}) {
			if n++; n%90_000 == 0 {
				break
			}
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

// TestCustomersKeepTheirNames: whoever pays, is paid or borrows is called the same every day, and has one KYC level.
func TestCustomersKeepTheirNames(t *testing.T) {
	t.Parallel()
	s, names, levels := simulation(t, 7, 300), map[string]string{}, map[string]int32{}
	called := map[string]bool{}
	hold := func(id, name string) {
		if name == "" || names[id] != "" && names[id] != name {
			t.Fatalf("%s is called %q and %q", id, names[id], name)
		}
		names[id], called[name] = name, true
	}
	for day := range 5 {
		for _, e := range s.Day(day) {
			if e.Kind.Family() != events.Behavior || e.CustomerName != "" {
				hold(e.CustomerID, e.CustomerName)
			}
			if e.CounterpartyID != "" {
				hold(e.CounterpartyID, e.CounterpartyName)
			}
			if e.Kind == events.PaymentInitiated || e.Kind == events.BehaviorIdentityVerified {
				if was, ok := levels[e.CustomerID]; e.KYCLevel < 1 || e.KYCLevel > 3 || ok && was != e.KYCLevel {
					t.Fatalf("%s has KYC levels %d and %d", e.CustomerID, was, e.KYCLevel)
				}
				levels[e.CustomerID] = e.KYCLevel
			}
		}
	}
	if len(names) < 290 || len(called) < 250 {
		t.Errorf("%d customers have %d names", len(names), len(called))
	}
}
