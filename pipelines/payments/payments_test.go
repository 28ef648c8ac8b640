package payments

import (
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/pipelines/ledger"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

const (
	wallet = eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET
	card   = eventsv1.PaymentMethod_PAYMENT_METHOD_CARD
	bank   = eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER
	quick  = eventsv1.PaymentMethod_PAYMENT_METHOD_QUICK_PAY

	topUp      = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP
	transfer   = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER
	purchase   = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE
	withdrawal = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL
	payout     = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT
)

var (
	cny = events.MustCurrency("CNY")
	eur = events.MustCurrency("EUR")
	at  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// house is the least of a poster: payments by id and a book.
type house struct {
	book     *ledger.Book
	payments map[string]*Payment
	postings Postings
}

func newHouse() *house {
	return &house{ledger.NewBook(0), map[string]*Payment{}, Standard{StandardFees()}}
}

func (h *house) apply(d *events.Decision) string {
	steps := len(h.book.Steps())
	h.book.Advance(3, d.Event.Time)
	for _, s := range h.book.Steps()[steps:] {
		id := HeldBy(s.Pending)
		h.payments[id] = h.payments[id].Expire(d.Event.Time, h.postings)
	}
	code, next := Plan(d, 3, h.payments[d.Event.PaymentID], h.postings, h.book.Funds).Post(h.post)
	if next != nil {
		h.payments[d.Event.PaymentID] = next
	}
	return code
}

func (h *house) post(linked []ledger.Transfer) ledger.Code {
	for _, t := range linked {
		for _, key := range []ledger.AccountKey{t.Debit, t.Credit} {
			if h.book.Account(key) == nil {
				a, _ := ledger.NewAccount(key)
				h.book.Load(a)
			}
		}
	}
	return h.book.Apply(linked)
}

func (h *house) balance(key ledger.AccountKey) int64 {
	if a := h.book.Account(key); a != nil {
		return a.Balance()
	}
	return 0
}

func decision(kind events.Kind, id string, amount int64, change ...func(*events.Decision)) *events.Decision {
	d := &events.Decision{Verdict: events.Approve, Event: events.Event{
		Kind: kind, Time: at, PaymentID: id, CustomerID: "A", CounterpartyID: "B", MerchantID: "M", Method: wallet,
		Purpose: purchase, Amount: amount, Currency: cny,
	}}
	for _, c := range change {
		c(d)
	}
	return d
}

func with(p eventsv1.PaymentPurpose, m eventsv1.PaymentMethod) func(*events.Decision) {
	return func(d *events.Decision) { d.Event.Purpose, d.Event.Method = p, m }
}

func verdict(v events.Verdict) func(*events.Decision) {
	return func(d *events.Decision) { d.Verdict = v }
}

const (
	aWallet  = ledger.AccountKey("wallet:A:CNY")
	bWallet  = ledger.AccountKey("wallet:B:CNY")
	merchant = ledger.AccountKey("merchant:M:CNY")
	fees     = ledger.AccountKey("fees/3:CNY")
	suspense = ledger.AccountKey("suspense/3:CNY")
	cards    = ledger.AccountKey("clearing:card/3:CNY")
	banks    = ledger.AccountKey("clearing:bank_transfer/3:CNY")
	quicks   = ledger.AccountKey("clearing:quick_pay/3:CNY")
)

// A life is a sequence of decisions on payments with the code of each and the balances at the end. The wallet of A
// starts with 10,000 from the bank.
func TestLives(t *testing.T) {
	t.Parallel()
	type step struct {
		d    *events.Decision
		want string
	}
	type balances map[ledger.AccountKey]int64
	init := func(amount int64, change ...func(*events.Decision)) *events.Decision {
		return decision(events.PaymentInitiated, "P", amount, change...)
	}
	later := func(kind events.Kind, amount int64, change ...func(*events.Decision)) *events.Decision {
		return decision(kind, "P", amount, change...)
	}
	auth := func(amount int64, change ...func(*events.Decision)) *events.Decision {
		return decision(events.PaymentAuthorized, "P", amount, append([]func(*events.Decision){with(purchase, card)}, change...)...)
	}
	after := func(d time.Duration) func(*events.Decision) {
		return func(e *events.Decision) { e.Event.Time = at.Add(d) }
	}
	otherwise := func(f func(*events.Event)) func(*events.Decision) { return func(d *events.Decision) { f(&d.Event) } }
	// spend empties the merchant's account, so that it cannot pay back.
	spend := func(h *house) {
		h.book.Apply([]ledger.Transfer{{Debit: merchant, Credit: banks, Amount: h.balance(merchant), Currency: cny, Kind: "payout"}})
	}
	for name, c := range map[string]struct {
		steps  []step
		before func(*house) // called before the last step
		want   balances
	}{
		"top-up by card":        {steps: []step{{init(500, with(topUp, card)), "posted"}}, want: balances{aWallet: 10500, cards: 500}},
		"top-up without a card": {steps: []step{{init(500, with(topUp, wallet)), "posted"}}, want: balances{aWallet: 10500, banks: 10500}},
		"transfer":              {steps: []step{{init(500, with(transfer, wallet)), "posted"}}, want: balances{aWallet: 9500, bWallet: 500}},
		"transfer by card":      {steps: []step{{init(500, with(transfer, card)), "posted"}}, want: balances{aWallet: 10000, bWallet: 500, cards: 500}},
		"transfer to oneself": {steps: []step{{init(500, with(transfer, wallet), otherwise(func(e *events.Event) { e.CounterpartyID = "A" })), "same_account"}},
			want: balances{aWallet: 10000}},
		"transfer from a further account": {steps: []step{{init(500, with(transfer, wallet), otherwise(func(e *events.Event) { e.AccountID = "savings" })), "insufficient_funds"}},
			want: balances{aWallet: 10000, "account:A/savings:CNY": 0}},
		"purchase":                             {steps: []step{{init(5000), "posted"}}, want: balances{aWallet: 5000, merchant: 4970, fees: 30}},
		"purchase, fee rounded up from a half": {steps: []step{{init(250), "posted"}}, want: balances{aWallet: 9750, merchant: 248, fees: 2}},
		"purchase too small for a fee":         {steps: []step{{init(83), "posted"}}, want: balances{aWallet: 9917, merchant: 83}},
		"purchase by card":                     {steps: []step{{init(5000, with(purchase, card)), "posted"}}, want: balances{aWallet: 10000, merchant: 4970, fees: 30, cards: 5000}},
		"purchase by quick pay":                {steps: []step{{init(5000, with(purchase, quick)), "posted"}}, want: balances{merchant: 4970, fees: 30, quicks: 5000}},
		"withdrawal":                           {steps: []step{{init(500, with(withdrawal, bank)), "posted"}}, want: balances{aWallet: 9500, banks: 9500}},
		"withdrawal above the balance": {steps: []step{{init(10001, with(withdrawal, bank)), "insufficient_funds"}, {init(1), "payment_exists"}},
			want: balances{aWallet: 10000}},
		"declined":  {steps: []step{{init(500, verdict(events.Decline)), "declined"}, {later(events.PaymentRefunded, 1), "payment_not_posted"}}, want: balances{aWallet: 10000}},
		"in review": {steps: []step{{init(500, verdict(events.Review)), "in_review"}, {later(events.PaymentCaptured, 500), "ignored"}}, want: balances{aWallet: 10000}},
		"declined, then failed, then refunded": {steps: []step{{init(500, verdict(events.Decline)), "declined"}, {later(events.PaymentFailed, 500), "recorded"}, {later(events.PaymentRefunded, 1), "payment_not_posted"}},
			want: balances{aWallet: 10000}},
		"duplicate":     {steps: []step{{init(500, verdict(events.Duplicate)), "duplicate"}, {later(events.PaymentRefunded, 1), "payment_unknown"}}, want: balances{aWallet: 10000}},
		"observed":      {steps: []step{{init(500, verdict(events.Observed)), "ignored"}, {later(events.PaymentRefunded, 1), "payment_unknown"}}, want: balances{aWallet: 10000}},
		"id used twice": {steps: []step{{init(500), "posted"}, {init(700), "payment_exists"}}, want: balances{aWallet: 9500}},
		"life without money": {steps: []step{{init(500), "posted"}, {later(events.PaymentAuthorized, 500), "ignored"}, {later(events.PaymentCaptured, 500), "ignored"},
			{later(events.PaymentSettled, 500), "recorded"}, {later(events.PaymentSettled, 500), "ignored"}, {later(events.PaymentVoided, 500), "payment_settled"}},
			want: balances{aWallet: 9500, merchant: 497, fees: 3}},
		"refunds in parts": {steps: []step{{init(5000), "posted"}, {later(events.PaymentRefunded, 1000), "posted"}, {later(events.PaymentRefunded, 4001), "refund_exceeds_payment"},
			{later(events.PaymentRefunded, 3970), "posted"}, {later(events.PaymentRefunded, 30), "insufficient_funds"}},
			want: balances{aWallet: 9970, merchant: 0, fees: 30}},
		"refund in review": {steps: []step{{init(5000), "posted"}, {later(events.PaymentRefunded, 1000, verdict(events.Review)), "in_review"}}, want: balances{aWallet: 5000}},
		"refund observed":  {steps: []step{{init(5000), "posted"}, {later(events.PaymentRefunded, 1000, verdict(events.Observed)), "posted"}}, want: balances{aWallet: 6000}},
		"refund of another's payment": {steps: []step{{init(5000), "posted"}, {later(events.PaymentRefunded, 1, otherwise(func(e *events.Event) { e.CustomerID = "B" })), "payment_of_another"}},
			want: balances{aWallet: 5000, bWallet: 0}},
		"refund in another currency": {steps: []step{{init(5000), "posted"}, {later(events.PaymentRefunded, 1, otherwise(func(e *events.Event) { e.Currency = events.MustCurrency("USD") })), "currency_mismatch"}},
			want: balances{aWallet: 5000}},
		"refund by card goes to the card": {steps: []step{{init(5000, with(purchase, card)), "posted"}, {later(events.PaymentRefunded, 1000), "posted"}},
			want: balances{aWallet: 10000, cards: 4000, merchant: 3970, fees: 30}},
		"refund of a transfer": {steps: []step{{init(500, with(transfer, wallet)), "posted"}, {later(events.PaymentRefunded, 500), "posted"}, {later(events.PaymentRefunded, 1), "refund_exceeds_payment"}},
			want: balances{aWallet: 10000, bWallet: 0}},
		"charge-back the merchant covers": {steps: []step{{init(5000, with(purchase, card)), "posted"}, {decision(events.PaymentInitiated, "Q", 5000), "posted"}, {later(events.PaymentChargedBack, 5000), "posted"}},
			want: balances{cards: 0, merchant: 4940, fees: 60, suspense: 0}},
		"charge-back the merchant cannot cover": {steps: []step{{init(5000, with(purchase, card)), "posted"}, {later(events.PaymentChargedBack, 5000), "posted"}}, before: spend,
			want: balances{cards: 0, merchant: 0, fees: 30, suspense: 5000}},
		"charge-back the merchant covers in part": {steps: []step{{init(5000, with(purchase, card)), "posted"}, {later(events.PaymentChargedBack, 5000), "posted"}},
			want: balances{cards: 0, merchant: 0, fees: 30, suspense: 30}},
		"charge-back after a part was refunded": {steps: []step{{init(5000), "posted"}, {decision(events.PaymentInitiated, "Q", 1000), "posted"},
			{later(events.PaymentRefunded, 2000), "posted"}, {later(events.PaymentChargedBack, 5000), "posted"}, {later(events.PaymentRefunded, 1), "refund_exceeds_payment"}, {later(events.PaymentChargedBack, 1), "refund_exceeds_payment"}},
			want: balances{aWallet: 9000, merchant: 964, fees: 36}},
		"charge-back of what was declined": {steps: []step{{init(500, verdict(events.Decline)), "declined"}, {later(events.PaymentChargedBack, 500), "payment_not_posted"}}, want: balances{aWallet: 10000}},
		"void": {steps: []step{{init(5000), "posted"}, {later(events.PaymentVoided, 5000), "posted"}, {later(events.PaymentVoided, 5000), "ignored"}, {later(events.PaymentRefunded, 1), "refund_exceeds_payment"}},
			want: balances{aWallet: 10000, merchant: 0, fees: 0}},
		"void the merchant cannot cover": {steps: []step{{init(5000), "posted"}, {later(events.PaymentVoided, 5000), "insufficient_funds"}}, before: spend, want: balances{aWallet: 5000, fees: 30}},
		"failure by card":                {steps: []step{{init(5000, with(purchase, card)), "posted"}, {later(events.PaymentFailed, 5000), "posted"}}, want: balances{cards: 0, merchant: 0, fees: 0}},
		"failure the merchant cannot cover": {steps: []step{{init(5000, with(purchase, card)), "posted"}, {later(events.PaymentFailed, 5000), "posted"}}, before: spend,
			want: balances{cards: 0, merchant: 0, fees: 0, suspense: 4970}},
		"failed withdrawal": {steps: []step{{init(500, with(withdrawal, bank)), "posted"}, {later(events.PaymentFailed, 500), "posted"}}, want: balances{aWallet: 10000}},
		"authorized, captured in parts": {steps: []step{{auth(5000), "authorized"}, {later(events.PaymentCaptured, 2000), "posted"}, {later(events.PaymentCaptured, 3001), "capture_exceeds_authorization"},
			{later(events.PaymentCaptured, 3000), "posted"}, {later(events.PaymentCaptured, 1), "capture_exceeds_authorization"}},
			want: balances{aWallet: 10000, cards: 5000, merchant: 4970, fees: 30}},
		"captures in parts cost what one costs": {steps: []step{{auth(249), "authorized"}, {later(events.PaymentCaptured, 83), "posted"}, {later(events.PaymentCaptured, 83), "posted"}, {later(events.PaymentCaptured, 83), "posted"}},
			want: balances{merchant: 248, fees: 1}},
		"authorized by wallet":      {steps: []step{{auth(5000, with(purchase, wallet)), "authorization_by_card_only"}, {later(events.PaymentCaptured, 5000), "payment_unknown"}, {init(5000), "posted"}, {auth(5000, with(purchase, wallet)), "ignored"}}, want: balances{aWallet: 5000, merchant: 4970}},
		"authorized only":           {steps: []step{{auth(5000), "authorized"}, {later(events.PaymentRefunded, 1), "payment_not_posted"}, {later(events.PaymentSettled, 1), "payment_not_posted"}, {init(5000), "payment_exists"}, {auth(5000), "ignored"}}, want: balances{cards: 0, merchant: 0}},
		"authorized, voided":        {steps: []step{{auth(5000), "authorized"}, {later(events.PaymentVoided, 5000), "released"}, {later(events.PaymentCaptured, 1), "ignored"}, {later(events.PaymentVoided, 1), "ignored"}}, want: balances{cards: 0}},
		"captured in part, voided":  {steps: []step{{auth(5000), "authorized"}, {later(events.PaymentCaptured, 1000), "posted"}, {later(events.PaymentVoided, 4000), "released"}, {later(events.PaymentCaptured, 1), "capture_exceeds_authorization"}}, want: balances{cards: 1000, merchant: 994, fees: 6}},
		"captured in part, settled": {steps: []step{{auth(5000), "authorized"}, {later(events.PaymentCaptured, 1000), "posted"}, {later(events.PaymentSettled, 1000), "released"}, {later(events.PaymentCaptured, 1), "capture_exceeds_authorization"}}, want: balances{cards: 1000}},
		"captured in part, failed":  {steps: []step{{auth(5000), "authorized"}, {later(events.PaymentCaptured, 1000), "posted"}, {later(events.PaymentFailed, 5000), "posted"}, {later(events.PaymentCaptured, 1), "ignored"}}, want: balances{cards: 0, merchant: 0, fees: 0}},
		"captured in part, charged back": {steps: []step{{auth(5000), "authorized"}, {later(events.PaymentCaptured, 1000), "posted"}, {later(events.PaymentChargedBack, 1000), "posted"}, {later(events.PaymentCaptured, 1), "capture_exceeds_authorization"}},
			want: balances{cards: 0, suspense: 6, merchant: 0}},
		"captured in part, refunded, captured": {steps: []step{{auth(5000), "authorized"}, {decision(events.PaymentInitiated, "Q", 1000), "posted"}, {later(events.PaymentCaptured, 1000), "posted"}, {later(events.PaymentRefunded, 1000), "posted"},
			{later(events.PaymentRefunded, 1), "refund_exceeds_payment"}, {later(events.PaymentCaptured, 4000), "posted"}}, want: balances{cards: 4000, merchant: 1000 + 4000 - 36}},
		"authorized, expired":               {steps: []step{{auth(5000), "authorized"}, {later(events.PaymentCaptured, 5000, after(AuthorizationLife)), "authorization_expired"}}, want: balances{cards: 0}},
		"authorized, captured just in time": {steps: []step{{auth(5000), "authorized"}, {later(events.PaymentCaptured, 5000, after(AuthorizationLife-1)), "posted"}}, want: balances{cards: 5000}},
		"captured in part, expired": {steps: []step{{auth(5000), "authorized"}, {later(events.PaymentCaptured, 1000), "posted"}, {later(events.PaymentCaptured, 1, after(AuthorizationLife)), "capture_exceeds_authorization"},
			{later(events.PaymentSettled, 1000, after(AuthorizationLife)), "recorded"}}, want: balances{cards: 1000}},
		"authorization that comes when it has run out": {steps: []step{{decision(events.PaymentInitiated, "Q", 1, after(AuthorizationLife)), "posted"}, {auth(5000), "expiry_past"}, {later(events.PaymentCaptured, 1), "ignored"}}, want: balances{cards: 0}},
		"authorization declined":                       {steps: []step{{auth(5000, verdict(events.Decline)), "declined"}, {later(events.PaymentCaptured, 1), "ignored"}}, want: balances{cards: 0}},
		"authorization observed":                       {steps: []step{{auth(5000, verdict(events.Observed)), "authorized"}}, want: balances{cards: 0}},
		"capture in review":                            {steps: []step{{auth(5000), "authorized"}, {later(events.PaymentCaptured, 5000, verdict(events.Review)), "in_review"}}, want: balances{cards: 0}},
		"authorization by wallet":                      {steps: []step{{decision(events.PaymentAuthorized, "P", 5000), "authorization_by_card_only"}}, want: balances{aWallet: 10000}},
		"authorized withdrawal to a card holds the wallet's money": {steps: []step{{auth(6000, with(withdrawal, card)), "authorized"}, {decision(events.PaymentInitiated, "Q", 4001), "insufficient_funds"},
			{later(events.PaymentVoided, 6000), "released"}, {decision(events.PaymentInitiated, "R", 4001), "posted"}}, want: balances{aWallet: 5999}},
		"authorization above the wallet": {steps: []step{{auth(10001, with(withdrawal, card)), "insufficient_funds"}, {later(events.PaymentCaptured, 1), "ignored"}}, want: balances{aWallet: 10000}},
		"unknown payment":                {steps: []step{{later(events.PaymentRefunded, 500), "payment_unknown"}}, want: balances{aWallet: 10000}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse()
			h.apply(decision(events.PaymentInitiated, "opening", 10000, with(topUp, bank)))
			for i, s := range c.steps {
				if i == len(c.steps)-1 && c.before != nil {
					c.before(h)
				}
				if got := h.apply(s.d); got != s.want {
					t.Errorf("step %d (%s %d): got %s, want %s", i+1, s.d.Event.Kind, s.d.Event.Amount, got, s.want)
				}
			}
			for key, want := range c.want {
				if got := h.balance(key); got != want {
					t.Errorf("%s: balance %d, want %d", key, got, want)
				}
			}
		})
	}
}

// Whatever comes in whatever order: a payment never gives back more than it moved, every account holds what the payment says,
// and Plan leaves the payment it was given alone.
func TestRandomLives(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		for range 30 {
			randomLife(t)
		}
	})
}

func randomLife(t *rapid.T) {
	h := newHouse()
	h.apply(decision(events.PaymentInitiated, "opening", 300, with(topUp, bank)))
	shape := drawShape(t)
	now := at
	for i := range rapid.IntRange(1, 14).Draw(t, "events") {
		d := drawEvent(t, shape, i == 0)
		now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 1, 100}).Draw(t, "hours")) * time.Hour)
		d.Event.Time = now
		var before, frozen Payment
		p := h.payments["P"]
		if p != nil {
			before, frozen = *p, *p.clone()
		}
		code := h.apply(d)
		if p != nil && (!reflect.DeepEqual(*p, frozen) || !reflect.DeepEqual(*p, before)) {
			t.Fatalf("%s changed the payment it was given: %+v, was %+v", d.Event.Kind, *p, frozen)
		}
		checkPayment(t, h, code)
		checkLosses(t, h, &before)
		if rapid.IntRange(0, 9).Draw(t, "spend") == 0 {
			h.spend(rapid.Int64Range(1, 400).Draw(t, "spent"))
		}
	}
}

// shape is what all events of one payment have in common.
type shape struct {
	purpose  eventsv1.PaymentPurpose
	method   eventsv1.PaymentMethod
	splits   []events.Split
	exchange events.Exchange
	amount   int64
}

func drawShape(t *rapid.T) shape {
	s := shape{
		purpose: rapid.SampledFrom([]eventsv1.PaymentPurpose{topUp, transfer, purchase, purchase, purchase, withdrawal, payout}).Draw(t, "purpose"),
		method:  rapid.SampledFrom([]eventsv1.PaymentMethod{wallet, card, card, bank, quick}).Draw(t, "method"),
		amount:  rapid.Int64Range(3, 400).Draw(t, "whole"),
	}
	switch kind := rapid.IntRange(0, 2).Draw(t, "shape"); {
	case kind == 1 && s.purpose == purchase:
		first := rapid.Int64Range(1, s.amount-2).Draw(t, "first")
		second := rapid.Int64Range(1, s.amount-first-1).Draw(t, "second")
		s.splits = []events.Split{{MerchantID: "M", Amount: first}, {MerchantID: "N", Amount: second}, {MerchantID: "O", Amount: s.amount - first - second}}
	case kind == 2:
		s.exchange = events.Exchange{Currency: eur, Amount: rapid.Int64Range(1, 3000).Draw(t, "exchanged"), Rate: "1"}
	}
	return s
}

// drawEvent draws an event; most lives begin with a first one.
func drawEvent(t *rapid.T, s shape, first bool) *events.Decision {
	kinds := []events.Kind{events.PaymentInitiated, events.PaymentAuthorized, events.PaymentAuthorized, events.PaymentCaptured, events.PaymentCaptured, events.PaymentVoided,
		events.PaymentRefunded, events.PaymentRefunded, events.PaymentChargedBack, events.PaymentSettled, events.PaymentFailed, events.PaymentRerouted,
		events.PaymentDisputed, events.PaymentDisputed, events.PaymentEvidenceSubmitted, events.PaymentDisputeDecided, events.PaymentDisputeDecided, events.PaymentRepresented}
	if first && rapid.IntRange(0, 9).Draw(t, "unknown") > 0 {
		kinds = kinds[:2]
	}
	amount := rapid.Int64Range(1, max(1, s.amount/rapid.Int64Range(1, 4).Draw(t, "part"))).Draw(t, "amount")
	d := decision(rapid.SampledFrom(kinds).Draw(t, "kind"), "P", amount, with(s.purpose, s.method),
		verdict(rapid.SampledFrom([]events.Verdict{events.Approve, events.Approve, events.Approve, events.Approve, events.Approve, events.Observed, events.Observed, events.Review, events.Decline, events.Duplicate}).Draw(t, "verdict")))
	e := &d.Event
	switch e.Kind {
	case events.PaymentInitiated, events.PaymentAuthorized:
		e.Amount, e.Splits, e.Exchange = s.amount, s.splits, s.exchange
	case events.PaymentRerouted:
		e.PaymentChannel = rapid.SampledFrom([]string{"north", "south"}).Draw(t, "channel")
	case events.PaymentDisputed:
		e.RespondBy = at.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "respond by")) * time.Hour)
	case events.PaymentDisputeDecided:
		e.Outcome = eventsv1.DisputeOutcome(rapid.IntRange(1, 2).Draw(t, "outcome"))
	default:
		if len(s.splits) > 0 {
			e.MerchantID = rapid.SampledFrom([]string{"M", "M", "N", "O", "P"}).Draw(t, "merchant")
		}
	}
	return d
}

// spend empties accounts of payees as far as they go, so that they cannot pay back.
func (h *house) spend(amount int64) {
	for _, key := range []ledger.AccountKey{merchant, "merchant:N:CNY", "merchant:O:CNY", "merchant:M:EUR", bWallet, "wallet:B:EUR"} {
		if a := h.book.Account(key); a != nil && a.Available() > 0 {
			h.post([]ledger.Transfer{{Debit: key, Credit: ledger.Bank("spent", 3, a.Currency), Amount: min(amount, a.Available()), Currency: a.Currency, Kind: "spent"}})
		}
	}
}

// checkPayment holds the payment against the transfers the book has for it.
func checkPayment(t *rapid.T, h *house, code string) {
	p := h.payments["P"]
	if p == nil {
		return
	}
	given := p.Refunded + p.ChargedBack + p.Reversed
	if given < 0 || p.ChargedBack < 0 || given > p.Captured || p.Left() < 0 || p.Captured+p.Held > p.Amount || p.Lost < 0 || p.Lost > p.ChargedBack+p.Reversed {
		t.Fatalf("after %s: %+v gives back %d", code, p, given)
	}
	if hold := heldOf(h, p); hold != p.Held || (p.Status == Authorized) != (p.Held > 0) {
		t.Fatalf("after %s: %+v, its holds hold %d", code, p, hold)
	}
	if open := p.Dispute.open(); open != (p.Status == Disputed) || open && p.DueAt.IsZero() || !open && p.Dispute != nil && p.Dispute.Frozen != 0 {
		t.Fatalf("after %s: %+v, its dispute is %+v", code, p, p.Dispute)
	}
	pays, paid := p.cleared()
	waits := p.Status == InReview || p.Status == Authorized || p.Status == Disputed || p.Status == Posted && (pays || paid)
	if waits == p.DueAt.IsZero() {
		t.Fatalf("after %s: %+v is due at %s", code, p, p.DueAt)
	}
	checkShares(t, p)
	checkAccounts(t, h, p)
}

// checkLosses says that the house loses nothing that the payee still has: he cannot pay one unit more of a share whose loss has
// grown, and such a loss is no more than was taken back.
func checkLosses(t *rapid.T, h *house, before *Payment) {
	p := h.payments["P"]
	if p == nil || before.ID == "" {
		return
	}
	for i, was := range before.shares() {
		s := p.shares()[i]
		if s.Lost <= was.Lost {
			continue
		}
		unit := p.PayeeAmount(s.paid()) - p.PayeeAmount(s.paid()-1)
		if has := h.book.Funds(p.to(s.Merchant)); has >= unit || s.Lost-was.Lost > s.Back-was.Back-min(was.Frozen, s.Back-was.Back) {
			t.Fatalf("%+v: the house lost %d of share %d, whose payee has %d; before: %+v", p, s.Lost-was.Lost, i, has, was)
		}
	}
}

func checkShares(t *rapid.T, p *Payment) {
	if len(p.Shares) == 0 {
		return
	}
	var sum Share
	for _, s := range p.Shares {
		if s.Back < 0 || s.Back > s.Captured || s.Captured > s.Amount || s.ChargedBack < 0 || s.ChargedBack > s.Back || s.Lost < 0 || s.Lost > s.Back ||
			s.Frozen < 0 || s.Frozen > s.Claimed || s.Claimed > s.Captured-s.Back {
			t.Fatalf("share %+v of %+v", s, p)
		}
		sum.Amount, sum.Captured, sum.Fee, sum.Back, sum.Lost = sum.Amount+s.Amount, sum.Captured+s.Captured, sum.Fee+s.Fee, sum.Back+s.Back, sum.Lost+s.Lost
		sum.ChargedBack, sum.Frozen = sum.ChargedBack+s.ChargedBack, sum.Frozen+s.Frozen
	}
	want := Share{Amount: p.Amount, Captured: p.Captured, Fee: p.Fee, Back: p.Captured - p.Left(), Lost: p.Lost, ChargedBack: p.ChargedBack}
	if p.Dispute.open() {
		want.Frozen = p.Dispute.Frozen
	}
	if sum != want {
		t.Fatalf("the shares of %+v sum to %+v, want %+v", p, sum, want)
	}
}

// checkAccounts sums what the payment's transfers did to each type of account. The payer is short of what is left of the payment,
// suspense of what the house lost, and the payee's side has the rest, in his currency and but for the fee.
func checkAccounts(t *rapid.T, h *house, p *Payment) {
	type place struct {
		side     string
		currency events.Currency
	}
	net := map[place]int64{} // debits less credits
	side := func(key ledger.AccountKey) string {
		kept, _ := p.kept("M")
		switch kind, _ := key.Type(); {
		case key == p.from(), strings.HasPrefix(string(key), "clearing") && p.from() == p.clearing(p.Currency):
			return "payer"
		case key == kept, kind.Name == "disputed":
			return "kept"
		case kind.Name == "fees", kind.Name == "fx", kind.Name == "suspense":
			return kind.Name
		}
		return "payee"
	}
	var fee int64
	posted := h.book.Posted()
	for i := range posted {
		x := &posted[i]
		if x.Kind == "spent" || i == 0 { // the opening
			continue
		}
		net[place{side(x.Debit), x.Currency}] += x.Amount
		net[place{side(x.Credit), x.Currency}] -= x.Amount
		if x.Kind == KindFee {
			fee += x.Amount
		}
	}
	other := p.PayeeCurrency()
	frozen := int64(0)
	if p.Dispute.open() {
		frozen = p.PayeeAmount(p.Left()+p.Lost) - p.PayeeAmount(p.Left()+p.Lost-p.Dispute.Frozen)
	}
	kept := net[place{"fees", other}]
	if kept != -p.Fee && kept != 0 || fee != p.Fee || kept == 0 && p.Fee > 0 && p.Status != Failed && p.Status != Voided {
		t.Fatalf("%+v: the house keeps fees of %d, took %d", p, -kept, fee)
	}
	if got := net[place{"payer", p.Currency}]; got != p.Left() {
		t.Fatalf("%+v: the payer has paid %d, but %d is left: %v", p, got, p.Left(), net)
	}
	if got := net[place{"suspense", p.Currency}]; got != p.Lost {
		t.Fatalf("%+v: suspense has %d", p, got)
	}
	if got := -net[place{"kept", other}]; got != frozen {
		t.Fatalf("%+v: %d is kept, want %d", p, got, frozen)
	}
	paid := -net[place{"payee", other}] + frozen - kept
	if paid != p.PayeeAmount(p.Left()+p.Lost) {
		t.Fatalf("%+v: the payee's side has %d: %v", p, paid, net)
	}
}

// heldOf is what the book holds for a payment.
func heldOf(h *house, p *Payment) (open int64) {
	for generation := range p.Holds + 1 {
		for i := range p.shares() {
			if hold, ok := h.book.Pending(HoldID(p.ID, generation, i)); ok {
				open += hold.Open()
			}
		}
	}
	return open
}

// A fee is the exact share rounded half up, for every amount and rate.
func TestFeeIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.Int64Range(1, events.MaxAmount).Draw(t, "amount")
		bp := rapid.Int64Range(0, BasisPoint).Draw(t, "bp")
		got := FeeSchedule{{Purpose: purchase, BasisPoints: bp}}.Fee(purchase, card, amount)
		want := new(big.Int).Mul(big.NewInt(amount), big.NewInt(bp))
		want.Add(want, big.NewInt(BasisPoint/2)).Div(want, big.NewInt(BasisPoint))
		if want.Cmp(big.NewInt(got)) != 0 || got > amount {
			t.Fatalf("%d at %d basis points: got %d, want %s", amount, bp, got, want)
		}
	})
}

func TestFeeSchedule(t *testing.T) {
	t.Parallel()
	s := FeeSchedule{{purchase, card, 100}, {Purpose: purchase, BasisPoints: 50}}
	for _, c := range []struct {
		p    eventsv1.PaymentPurpose
		m    eventsv1.PaymentMethod
		want int64
	}{{purchase, card, 100}, {purchase, wallet, 50}, {transfer, card, 0}} {
		if got := s.Fee(c.p, c.m, 10_000); got != c.want {
			t.Errorf("%s by %s: fee %d, want %d", c.p, c.m, got, c.want)
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for s := NoStatus + 1; s < statuses; s++ {
		if got, ok := ParseStatus(s.String()); !ok || got != s {
			t.Errorf("status %s reads as %s, %v", s, got, ok)
		}
	}
	for n := range eventsv1.PaymentMethod_name {
		if got, ok := ParseMethod(MethodName(eventsv1.PaymentMethod(n))); !ok || int32(got) != n {
			t.Errorf("method %d reads as %v, %v", n, got, ok)
		}
	}
	for n := range eventsv1.PaymentPurpose_name {
		if got, ok := ParsePurpose(PurposeName(eventsv1.PaymentPurpose(n))); !ok || int32(got) != n {
			t.Errorf("purpose %d reads as %v, %v", n, got, ok)
		}
	}
}
