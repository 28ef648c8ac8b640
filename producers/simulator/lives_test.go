package simulator

import (
	"maps"
	"slices"
	"testing"
	"time"

	"sluice/pipelines/ledger"
	"sluice/pipelines/payments"
	"sluice/pipelines/posting"
	"sluice/schemas/events"
)

// book posts a simulation's payments in memory, one after the other.
type book struct {
	*ledger.Book
	payments map[string]*payments.Payment
	answers  map[events.Kind]map[string]int
}

func (b *book) post(e *events.Event) string {
	before := len(b.Steps())
	b.Advance(0, e.Time)
	for _, s := range b.Steps()[before:] { // holds that have run out
		id := payments.HeldBy(s.Pending)
		b.payments[id] = b.payments[id].Expire(e.Time, posting.Standard())
	}
	d := &events.Decision{Event: *e, Verdict: events.Observed}
	if e.Kind == events.PaymentInitiated {
		d.Verdict = events.Approve
	}
	code, next := payments.Plan(d, 0, b.payments[e.PaymentID], posting.Standard(), b.Funds).Post(b.apply)
	if next != nil {
		b.payments[e.PaymentID] = next
	}
	if b.answers[e.Kind] == nil {
		b.answers[e.Kind] = map[string]int{}
	}
	b.answers[e.Kind][code]++
	return code
}

func (b *book) apply(linked []ledger.Transfer) ledger.Code {
	for i := range linked {
		for _, key := range []ledger.AccountKey{linked[i].Debit, linked[i].Credit} {
			if a, ok := ledger.NewAccount(key); ok && b.Account(key) == nil {
				b.Load(a)
			}
		}
	}
	return b.Apply(linked)
}

// Over a month, no payment that a channel carries stays stuck: two days after it began it is settled, given back, failed or
// refused; but for holds, which run out within eight days. No capture and no settlement is refused.
func TestPaymentsLiveWholeLives(t *testing.T) {
	t.Parallel()
	const days = 30
	s := simulation(t, 12, 400)
	b := &book{ledger.NewBook(0), map[string]*payments.Payment{}, map[events.Kind]map[string]int{}}
	for day := range days {
		for _, e := range s.Day(day) {
			if e.Kind.Family() != events.Payment {
				continue
			}
			before := b.payments[e.PaymentID]
			switch code := b.post(&e); {
			case e.Kind == events.PaymentCaptured && code != ledger.OK.String():
				t.Errorf("%s of %s: %s", e.Kind, e.PaymentID, code)
			case e.Kind == events.PaymentSettled && code != payments.CodeRecorded && code != payments.CodeReleased && before.Status != payments.Rejected && before.Status != payments.Refunded:
				t.Errorf("%s of %s, which is %s: %s", e.Kind, e.PaymentID, before.Status, code)
			case e.Kind == events.PaymentVoided && code != ledger.OK.String() && code != payments.CodeReleased && code != ledger.InsufficientFunds.String():
				t.Errorf("%s of %s: %s", e.Kind, e.PaymentID, code)
			}
		}
	}
	end := monday.AddDate(0, 0, days)
	found := map[payments.Status]int{}
	for _, p := range b.payments {
		found[p.Status]++
		age := end.Sub(p.InitiatedAt)
		carried := payments.MethodName(p.Method) != "wallet"
		if carried && (p.Status == payments.Posted && p.Refunded == 0 && age > 48*time.Hour || p.Status == payments.Authorized && age > 8*24*time.Hour) && !refusedVoid(s, p) {
			t.Errorf("%s of %s is %s", p.ID, p.InitiatedAt, p.Status)
		}
	}
	for _, want := range []payments.Status{payments.Settled, payments.Voided, payments.Failed, payments.Expired, payments.Authorized, payments.Refunded, payments.ChargedBack} {
		if found[want] == 0 {
			t.Errorf("no payment is %s: %v", want, found)
		}
	}
	t.Logf("%v\n%v", found, b.answers)
}

// refusedVoid says whether a payment was to be voided, but its merchant had not enough.
func refusedVoid(s *Simulation, p *payments.Payment) bool {
	for _, e := range s.Day(int(p.InitiatedAt.Sub(monday) / (24 * time.Hour))) {
		if e.PaymentID == p.ID && e.Kind == events.PaymentVoided {
			return true
		}
	}
	return false
}

// A dispute is opened once, of a purchase that was settled; evidence comes in time if it comes, the decision once, after the
// time for evidence. What is represented was charged back before.
func TestDisputesTakeTheirCourse(t *testing.T) {
	t.Parallel()
	const days = 60
	s := simulation(t, 17, 1000)
	type dispute struct{ opened, decided, respondBy time.Time }
	claims, settled, chargedBack := map[string]*dispute{}, map[string]bool{}, map[string]int64{}
	evidence, won, again := 0, 0, 0
	for day := range days {
		for _, e := range s.Day(day) {
			c := claims[e.PaymentID]
			switch e.Kind {
			case events.PaymentSettled:
				if settled[e.PaymentID] {
					t.Errorf("%s is settled twice", e.PaymentID)
				}
				settled[e.PaymentID] = true
			case events.PaymentDisputed:
				if c != nil && c.decided.IsZero() || !settled[e.PaymentID] || !e.RespondBy.Equal(e.Time.AddDate(0, 0, respondWithin)) {
					t.Errorf("dispute %+v, before that %+v", e, c)
				}
				claims[e.PaymentID] = &dispute{opened: e.Time, respondBy: e.RespondBy}
			case events.PaymentEvidenceSubmitted:
				if c == nil || e.Time.After(c.respondBy) || e.Evidence == "" {
					t.Errorf("evidence %+v for %+v", e, c)
				}
				evidence++
			case events.PaymentDisputeDecided:
				if c == nil || !c.decided.IsZero() || e.Time.Before(c.respondBy) || e.Outcome == 0 {
					t.Fatalf("decision %+v on %+v", e, c)
				}
				c.decided = e.Time
				won += int(2 - e.Outcome)
			case events.PaymentChargedBack:
				chargedBack[e.PaymentID] = e.Amount
			case events.PaymentRepresented:
				if chargedBack[e.PaymentID] != e.Amount {
					t.Errorf("represented %+v, charged back %d", e, chargedBack[e.PaymentID])
				}
				again++
			}
		}
	}
	for id, c := range claims {
		if c.decided.IsZero() && c.opened.Before(monday.AddDate(0, 0, days-decidedLast-1)) {
			t.Errorf("the dispute of %s on %s was never decided", id, c.opened)
		}
	}
	if len(claims) < 10 || evidence < 5 || won == 0 || again == 0 {
		t.Errorf("%d disputes, %d with evidence, %d won, %d represented", len(claims), evidence, won, again)
	}
}

// Some card purchases come in two steps, captured whole, in parts, in part, or not at all; wallets pay in one.
func TestCardPurchasesInTwoSteps(t *testing.T) {
	t.Parallel()
	s := simulation(t, 3, 1500)
	first := map[string]events.Event{}
	captured := map[string][]int64{}
	voided := map[string]bool{}
	cards := 0
	for day := 1; day < 6; day++ {
		for _, e := range s.Day(day) {
			switch {
			case began(&e) && e.Method == 2 && e.Label == "":
				cards++
				if e.Kind == events.PaymentAuthorized {
					first[e.PaymentID] = e
				}
			case e.Kind == events.PaymentAuthorized:
				t.Errorf("%s is authorized by %s", e.PaymentID, e.Method)
			case e.Kind == events.PaymentCaptured:
				captured[e.PaymentID] = append(captured[e.PaymentID], e.Amount)
			case e.Kind == events.PaymentVoided:
				voided[e.PaymentID] = true
			}
		}
	}
	shapes := map[string]int{}
	for id, e := range first {
		var sum int64
		for _, part := range captured[id] {
			sum += part
		}
		switch {
		case sum > e.Amount || voided[id] && sum > 0:
			t.Errorf("%s: %d of %d captured, voided %v", id, sum, e.Amount, voided[id])
		case voided[id]:
			shapes["voided"]++
		case sum == 0:
			shapes["open"]++
		case sum < e.Amount:
			shapes["less"]++
		case len(captured[id]) == 2:
			shapes["parts"]++
		default:
			shapes["whole"]++
		}
	}
	if share := 1000 * len(first) / cards; share < inTwoSteps-60 || share > inTwoSteps+60 {
		t.Errorf("%d of %d card purchases in two steps", len(first), cards)
	}
	if len(shapes) != 5 || shapes["whole"] < len(first)*6/10 {
		t.Errorf("%v", shapes)
	}
	if !slices.Equal(slices.Sorted(maps.Keys(shapes)), []string{"less", "open", "parts", "voided", "whole"}) {
		t.Errorf("%v", shapes)
	}
}
