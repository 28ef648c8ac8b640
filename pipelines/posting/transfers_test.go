package posting

import (
	"cmp"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/pipelines/ledger"
	"sluice/pipelines/payments"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

const (
	wallet = eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET
	card   = eventsv1.PaymentMethod_PAYMENT_METHOD_CARD
	bank   = eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER

	topUp      = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP
	purchase   = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE
	withdrawal = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL
)

var (
	cny = events.MustCurrency("CNY")
	usd = events.MustCurrency("USD")
	at  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// house is the least of a poster: payments by id and a book.
type house struct {
	book     *ledger.Book
	payments map[string]*payments.Payment
	post     payments.Postings
}

func newHouse(post payments.Postings) *house {
	return &house{ledger.NewBook(0), map[string]*payments.Payment{}, post}
}

func (h *house) apply(d *events.Decision) (string, payments.Step) {
	steps := len(h.book.Steps())
	h.book.Advance(3, d.Event.Time)
	for _, s := range h.book.Steps()[steps:] {
		id := payments.HeldBy(s.Pending)
		h.payments[id] = h.payments[id].Expire(d.Event.Time, h.post)
	}
	step := payments.Plan(d, 3, h.payments[d.Event.PaymentID], h.post, h.book.Funds)
	code, next := step.Post(h.enter)
	if next != nil {
		h.payments[d.Event.PaymentID] = next
	}
	return code, step
}

func (h *house) enter(linked []ledger.Transfer) ledger.Code {
	for _, t := range linked {
		for _, key := range []ledger.AccountKey{t.Debit, t.Credit} {
			if h.book.Account(key) == nil {
				if a, ok := ledger.NewAccount(key); ok {
					h.book.Load(a)
				}
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

func decision(kind events.Kind, id string, amount int64, purpose eventsv1.PaymentPurpose, method eventsv1.PaymentMethod) *events.Decision {
	return &events.Decision{Verdict: events.Approve, Tier: "gold", Event: events.Event{
		Kind: kind, Time: at, PaymentID: id, CustomerID: "A", CounterpartyID: "B", MerchantID: "M", Method: method, Purpose: purpose, Amount: amount, Currency: cny,
	}}
}

// TestStandardIsStandard: for whatever happens to payments, the shipped rules plan what the code plans, transfer by transfer.
func TestStandardIsStandard(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		for range 30 {
			standardLife(t)
		}
	})
}

func standardLife(t *rapid.T) {
	code, file := newHouse(payments.Standard{Fees: payments.StandardFees()}), newHouse(Standard())
	for _, h := range []*house{code, file} {
		h.apply(decision(events.PaymentInitiated, "opening", 30_000, topUp, bank))
	}
	life := drawWholeLife(t)
	for i := range rapid.IntRange(1, 12).Draw(t, "events") {
		d := life.event(t, i == 0)
		wantCode, want := code.apply(d)
		gotCode, got := file.apply(d)
		if gotCode != wantCode || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s %d\nby the file %s %+v\nby the code %s %+v", d.Event.Kind, d.Event.Amount, gotCode, got, wantCode, want)
		}
	}
}

// wholeLife is what all events of one payment have in common.
type wholeLife struct {
	purpose  eventsv1.PaymentPurpose
	method   eventsv1.PaymentMethod
	amount   int64
	splits   []events.Split
	exchange events.Exchange
	now      time.Time
}

func drawWholeLife(t *rapid.T) *wholeLife {
	l := &wholeLife{purpose: eventsv1.PaymentPurpose(rapid.IntRange(1, 8).Draw(t, "purpose")), method: eventsv1.PaymentMethod(rapid.IntRange(1, 4).Draw(t, "method")),
		amount: rapid.Int64Range(3, 20_000).Draw(t, "whole"), now: at}
	if rapid.Bool().Draw(t, "buys") {
		l.purpose = purchase
	}
	switch shape := rapid.IntRange(0, 2).Draw(t, "shape"); {
	case shape == 1 && l.purpose == purchase:
		first := rapid.Int64Range(1, l.amount-1).Draw(t, "first")
		l.splits = []events.Split{{MerchantID: "M", Amount: first}, {MerchantID: "N", Amount: l.amount - first}}
	case shape == 2:
		l.exchange = events.Exchange{Currency: usd, Amount: rapid.Int64Range(1, 30_000).Draw(t, "exchanged"), Rate: "1"}
	}
	return l
}

func (l *wholeLife) event(t *rapid.T, first bool) *events.Decision {
	kinds := []events.Kind{events.PaymentInitiated, events.PaymentAuthorized, events.PaymentCaptured, events.PaymentCaptured, events.PaymentVoided,
		events.PaymentRefunded, events.PaymentRefunded, events.PaymentChargedBack, events.PaymentSettled, events.PaymentFailed, events.PaymentRerouted,
		events.PaymentDisputed, events.PaymentDisputed, events.PaymentEvidenceSubmitted, events.PaymentDisputeDecided, events.PaymentDisputeDecided, events.PaymentRepresented}
	if first {
		kinds = kinds[:2]
	}
	d := decision(rapid.SampledFrom(kinds).Draw(t, "kind"), "P", rapid.Int64Range(1, l.amount).Draw(t, "amount"), l.purpose, l.method)
	e := &d.Event
	d.Tier = rapid.SampledFrom([]string{"", "gold", "platinum"}).Draw(t, "tier")
	d.Verdict = rapid.SampledFrom([]events.Verdict{events.Approve, events.Approve, events.Approve, events.Observed, events.Decline}).Draw(t, "verdict")
	l.now = l.now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 1, 100}).Draw(t, "hours")) * time.Hour)
	e.Time, e.RespondBy, e.Evidence = l.now, l.now.Add(48*time.Hour), "file"
	e.Outcome = eventsv1.DisputeOutcome(rapid.IntRange(1, 2).Draw(t, "outcome"))
	e.AccountID = rapid.SampledFrom([]string{"", "", "", "savings"}).Draw(t, "account")
	if events.HouseOwn(l.purpose) {
		e.Source = payments.HouseSource + "settlement"
	}
	if e.Kind == events.PaymentRerouted {
		e.PaymentChannel = rapid.SampledFrom([]string{"acme", "bolt"}).Draw(t, "channel")
	}
	if e.Kind == events.PaymentInitiated || e.Kind == events.PaymentAuthorized {
		e.Amount, e.Splits, e.Exchange = l.amount, l.splits, l.exchange
	} else if len(l.splits) > 0 && rapid.IntRange(0, 3).Draw(t, "named") == 0 {
		e.MerchantID = "N"
	}
	return d
}

// TestRewardsStandAsTheyShould: whatever happens to a payment by the rewards pack, what stands of its effects is what rules and the
// part left of it say, and the book has posted exactly that.
func TestRewardsStandAsTheyShould(t *testing.T) {
	t.Parallel()
	rewards, err := Load("rewards.yaml", RewardsFile)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		h := newHouse(rewards)
		h.apply(decision(events.PaymentInitiated, "opening", 30_000, topUp, bank))
		life := drawWholeLife(t)
		purpose, method := life.purpose, life.method
		start := len(h.book.Posted())
		for i := range rapid.IntRange(1, 12).Draw(t, "events") {
			d := life.event(t, i == 0)
			if rapid.IntRange(0, 3).Draw(t, "spends") == 0 { // points and cashback are gone before they could be taken back
				points := h.balance("points:A:CNY")
				if points > 0 {
					h.enter([]ledger.Transfer{{Debit: "points:A:CNY", Credit: "points_issued/0:CNY", Amount: points, Currency: cny, Kind: "spent"}})
				}
			}
			before := h.payments["P"]
			var copied payments.Payment
			if before != nil {
				copied = *before
				copied.Effects = append([]payments.Effect(nil), before.Effects...)
			}
			code, step := h.apply(d)
			if before != nil && (copied.Fee != before.Fee || !reflect.DeepEqual(copied.Effects, append([]payments.Effect(nil), before.Effects...))) {
				t.Fatalf("%s changed the payment it was given", d.Event.Kind)
			}
			alone := before != nil && len(before.Shares) == 0 && before.Exchange == nil
			if alone && code == ledger.InsufficientFunds.String() && d.Event.Kind == events.PaymentRefunded && method == wallet && purpose == purchase && h.balance("merchant:M:CNY") >= d.Event.Amount {
				t.Fatalf("a refund the merchant can pay is refused: %+v", step.Transfers)
			}
			if p := h.payments["P"]; p != nil {
				checkRewards(t, h, p, start)
			}
		}
	})
}

func checkRewards(t *rapid.T, h *house, p *payments.Payment, start int) {
	stands := map[string]int64{}
	for _, x := range p.Effects {
		if x.Amount <= 0 {
			t.Fatalf("%+v stands for nothing", x)
		}
		stands[x.Rule] += x.Amount
	}
	posted := map[string]int64{}
	for _, x := range h.book.Posted()[start:] {
		posted[x.Kind] += x.Amount
	}
	// What came back may be less than what was taken down: it had been spent.
	if given := posted["points"] - posted["points_return"]; given < stands["points"] {
		t.Fatalf("%d points stand of %d", stands["points"], given)
	}
	if p.Captured > 0 && p.Left() == 0 && (stands["points"] != 0 || stands["cashback"] != 0) {
		t.Fatalf("all was given back, and %v stands", stands)
	}
	cancelled := p.Status == payments.Voided || p.Status == payments.Failed
	if p.Purpose == purchase && p.Captured > 0 && !cancelled {
		captured := []int64{p.Captured}
		if len(p.Shares) > 0 {
			captured = nil
			for _, x := range p.Shares {
				captured = append(captured, x.Captured)
			}
		}
		least, most := int64(0), int64(0)
		for _, n := range captured {
			n = p.PayeeAmount(n)
			least, most = least+(n*4+500)/1000, most+(n*6+500)/1000
		}
		if p.Fee < least || p.Fee > most {
			t.Fatalf("of %v captured %d is kept, want %d to %d", captured, p.Fee, least, most)
		}
		if tax := stands["tax-on-fee"]; tax > p.Fee {
			t.Fatalf("the tax on %d is %d", p.Fee, tax)
		}
	}
}

// TestPartsCostWhatTheWholeCosts: captures in parts end as one capture of all.
func TestPartsCostWhatTheWholeCosts(t *testing.T) {
	t.Parallel()
	rewards, err := Load("rewards.yaml", RewardsFile)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.Int64Range(1, 30_000), 1, 6).Draw(t, "parts")
		whole := int64(0)
		for _, n := range parts {
			whole += n
		}
		inParts, atOnce := newHouse(rewards), newHouse(rewards)
		for _, h := range []*house{inParts, atOnce} {
			h.apply(decision(events.PaymentAuthorized, "P", whole, purchase, card))
		}
		for _, n := range parts {
			inParts.apply(decision(events.PaymentCaptured, "P", n, purchase, card))
		}
		atOnce.apply(decision(events.PaymentCaptured, "P", whole, purchase, card))
		a, b := inParts.payments["P"], atOnce.payments["P"]
		for _, p := range []*payments.Payment{a, b} {
			slices.SortFunc(p.Effects, func(x, y payments.Effect) int { return cmp.Compare(x.Rule, y.Rule) })
		}
		if a.Fee != b.Fee || !reflect.DeepEqual(a.Effects, b.Effects) {
			t.Fatalf("in parts %v: %d %+v, at once %d %+v", parts, a.Fee, a.Effects, b.Fee, b.Effects)
		}
	})
}

// TestRefundsInPartsComeToAllOfIt: the points of a purchase are gone with its last refund, and partly before.
func TestRefundsInPartsComeToAllOfIt(t *testing.T) {
	t.Parallel()
	rewards, err := Load("rewards.yaml", RewardsFile)
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(rewards)
	h.apply(decision(events.PaymentInitiated, "opening", 500_000, topUp, bank))
	h.apply(decision(events.PaymentInitiated, "Q", 100_000, purchase, wallet)) // so that the merchant can pay back
	h.apply(decision(events.PaymentInitiated, "P", 10_099, purchase, wallet))
	if got := h.balance("points:A:CNY"); got != 1100 {
		t.Fatalf("%d points", got)
	}
	for _, c := range []struct{ amount, points, rewards int64 }{{3_366, 1067, 1067}, {3_366, 1034, 1034}, {3_367, 1000, 1000}} {
		if code, _ := h.apply(decision(events.PaymentRefunded, "P", c.amount, purchase, wallet)); code != "posted" {
			t.Fatal(code)
		}
		if points, cashback := h.balance("points:A:CNY"), h.balance("rewards/3:CNY"); points != c.points || cashback != c.rewards {
			t.Errorf("%d points and %d of cashback are left, want %d and %d", points, cashback, c.points, c.rewards)
		}
	}
	if p := h.payments["P"]; len(p.Effects) != 1 || p.Effects[0].Rule != "tax-on-fee" || p.Fee != 40 {
		t.Errorf("%+v", p)
	}
}

// TestRulesMayChangeMidway: what another file posted goes back as it was posted.
func TestRulesMayChangeMidway(t *testing.T) {
	t.Parallel()
	rewards, err := Load("rewards.yaml", RewardsFile)
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(rewards)
	h.apply(decision(events.PaymentAuthorized, "P", 20_000, purchase, card))
	h.apply(decision(events.PaymentCaptured, "P", 10_000, purchase, card))
	h.post = Standard() // knows nothing of points
	h.apply(decision(events.PaymentCaptured, "P", 10_000, purchase, card))
	if p := h.payments["P"]; h.balance("points:A:CNY") != 100 || p.Fee != 120 {
		t.Fatalf("%d points, a fee of %d", h.balance("points:A:CNY"), p.Fee)
	}
	h.apply(decision(events.PaymentInitiated, "Q", 100_000, topUp, card))
	h.apply(decision(events.PaymentRefunded, "P", 10_000, purchase, card))
	if got := h.balance("points:A:CNY"); got != 50 {
		t.Errorf("half of the payment went back, and %d of 100 points are left", got)
	}
}

// TestShares: each merchant of a purchase pays his own fee, and effects of none come once.
func TestShares(t *testing.T) {
	t.Parallel()
	rewards, err := Load("rewards.yaml", RewardsFile)
	if err != nil {
		t.Fatal(err)
	}
	before := &payments.Payment{ID: "P", Customer: "A", Merchant: "M", Purpose: purchase, Method: wallet, Currency: cny, Amount: 30_000, Shard: 3}
	before.Shares = []payments.Share{{Merchant: "M", Amount: 20_000}, {Merchant: "N", Amount: 10_000}}
	after := *before
	after.Captured = 30_000
	after.Shares = []payments.Share{{Merchant: "M", Amount: 20_000, Captured: 20_000}, {Merchant: "N", Amount: 10_000, Captured: 10_000}}
	got := rewards.Transfers(&payments.Occasion{Moment: payments.OnMove, Event: &events.Event{Time: at}, Tier: "silver", Before: before, After: &after, Amount: 30_000})
	want := []ledger.Transfer{
		{Debit: "merchant:M:CNY", Credit: "fees/3:CNY", Amount: 120, Currency: cny, Kind: "fee"},
		{Debit: "merchant:N:CNY", Credit: "fees/3:CNY", Amount: 60, Currency: cny, Kind: "fee"},
		{Debit: "fees/3:CNY", Credit: "tax/3:CNY", Amount: 10, Currency: cny, Kind: "tax"},
		{Debit: "points_issued/3:CNY", Credit: "points:A:CNY", Amount: 300, Currency: cny, Kind: "points"},
		{Debit: "rewards/3:CNY", Credit: "wallet:A:CNY", Amount: 300, Currency: cny, Kind: "cashback"},
	}
	if got = got[len(got)-len(want):]; !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v", got)
	}
	if after.Fee != 180 || after.Shares[0].Fee != 120 || after.Shares[1].Fee != 60 || len(after.Effects) != 3 {
		t.Fatalf("%+v", after)
	}
	// N's share is refunded, half of M's is charged back.
	next := after
	next.Shares = []payments.Share{{Merchant: "M", Amount: 20_000, Captured: 20_000, Fee: 120}, {Merchant: "N", Amount: 10_000, Captured: 10_000, Fee: 60, Back: 10_000}}
	next.Refunded = 10_000
	got = rewards.Transfers(&payments.Occasion{Moment: payments.OnRefund, Event: &events.Event{Time: at}, Before: &after, After: &next, Amount: 10_000})
	back := map[string]int64{}
	for _, x := range got {
		back[x.Kind] += x.Amount
	}
	if back["points_return"] != 100 || back["cashback_return"] != 100 || back["fee_return"] != 0 || next.Fee != 180 {
		t.Fatalf("%+v", got)
	}
}

// TestExchange: the payee's effects are in his currency, those of others in the payment's.
func TestExchange(t *testing.T) {
	t.Parallel()
	rewards, err := Load("rewards.yaml", RewardsFile)
	if err != nil {
		t.Fatal(err)
	}
	before := &payments.Payment{ID: "P", Customer: "A", Merchant: "M", Purpose: purchase, Method: wallet, Currency: cny, Amount: 71_023, Shard: 3}
	before.Exchange = &payments.Exchange{Currency: "USD", Amount: 10_000, Rate: "0.1408"}
	after := *before
	after.Captured = 71_023
	got := rewards.Transfers(&payments.Occasion{Moment: payments.OnMove, Event: &events.Event{Time: at}, Before: before, After: &after, Amount: 71_023})
	want := []ledger.Transfer{
		{Debit: "merchant:M:USD", Credit: "fees/3:USD", Amount: 60, Currency: usd, Kind: "fee"},
		{Debit: "fees/3:USD", Credit: "tax/3:USD", Amount: 3, Currency: usd, Kind: "tax"},
		{Debit: "points_issued/3:CNY", Credit: "points:A:CNY", Amount: 710, Currency: cny, Kind: "points"},
		{Debit: "rewards/3:CNY", Credit: "wallet:A:CNY", Amount: 710, Currency: cny, Kind: "cashback"},
	}
	if got = got[len(got)-len(want):]; !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v", got)
	}
}

// BenchmarkPurchase is what one purchase costs to turn into transfers, by the code and by the shipped files.
func BenchmarkPurchase(b *testing.B) {
	rewards, err := Load("rewards.yaml", RewardsFile)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		post payments.Postings
	}{{"code", payments.Standard{Fees: payments.StandardFees()}}, {"standard", Standard()}, {"rewards", rewards}} {
		b.Run(c.name, func(b *testing.B) {
			d := decision(events.PaymentInitiated, "P", 12_345, purchase, wallet)
			b.ReportAllocs()
			for b.Loop() {
				payments.Plan(d, 3, nil, c.post, func(ledger.AccountKey) int64 { return math.MaxInt64 })
			}
		})
	}
}

// aLife is a purchase that is captured in parts, refunded in part, settled and charged back.
func aLife() []*events.Decision {
	return []*events.Decision{
		decision(events.PaymentInitiated, "opening", 50_000, topUp, card), decision(events.PaymentAuthorized, "P", 20_000, purchase, card),
		decision(events.PaymentCaptured, "P", 5_000, purchase, card), decision(events.PaymentCaptured, "P", 15_000, purchase, card),
		decision(events.PaymentRefunded, "P", 3_000, purchase, card), decision(events.PaymentSettled, "P", 17_000, purchase, card),
		decision(events.PaymentChargedBack, "P", 17_000, purchase, card), decision(events.PaymentInitiated, "Q", 1_000, withdrawal, bank),
		decision(events.PaymentFailed, "Q", 1_000, withdrawal, bank),
	}
}

// TestPartiesAreAsked: who pays whom is the file's: of what moves at once, of what is held, of what goes back, of what is lost.
func TestPartiesAreAsked(t *testing.T) {
	t.Parallel()
	source := strings.Replace(string(StandardFile), `payment.purpose == "withdrawal", payer: account(customer), payee: clearing`,
		`payment.purpose == "withdrawal", payer: account(customer), payee: bank(house-bank)`, 1)
	source = strings.Replace(source, "    payer: clearing\n    payee: merchant\n", "    payer: clearing\n    payee: reserve(merchant)\n", 1)
	source, _, _ = strings.Cut(source, "\neffects:")
	source = strings.Replace(source, "    payee: reserve(merchant)\n    kept: disputed(merchant)\n", "    payee: reserve(merchant)\n", 1)
	r, err := Load("house.yaml", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(r)
	for _, c := range []struct {
		d    *events.Decision
		want string
	}{
		{decision(events.PaymentInitiated, "opening", 1000, topUp, bank), "posted"},
		{decision(events.PaymentInitiated, "W", 300, withdrawal, bank), "posted"},
		{decision(events.PaymentFailed, "W", 300, withdrawal, bank), "posted"},
		{decision(events.PaymentAuthorized, "P", 500, purchase, card), ""},
		{decision(events.PaymentCaptured, "P", 200, purchase, card), "posted"},
		{decision(events.PaymentVoided, "P", 300, purchase, card), ""},
		{decision(events.PaymentInitiated, "Q", 100, purchase, card), "posted"},
		{decision(events.PaymentRefunded, "Q", 40, purchase, card), "posted"},
		{decision(events.PaymentChargedBack, "P", 200, purchase, card), "posted"},
		{decision(events.PaymentChargedBack, "Q", 60, purchase, card), "posted"},
	} {
		if code, step := h.apply(c.d); c.want != "" && code != c.want || step.Next == nil {
			t.Fatalf("%s of %s: %s", c.d.Event.Kind, c.d.Event.PaymentID, code)
		}
	}
	for _, x := range h.book.Posted() {
		for _, key := range []ledger.AccountKey{x.Debit, x.Credit} {
			if strings.HasPrefix(string(key), "merchant") {
				t.Errorf("%+v", x)
			}
		}
	}
	if h.balance("wallet:A:CNY") != 1000 || h.balance("bank:house-bank/3:CNY") != 0 || h.balance("reserve:M:CNY") != 0 || h.balance("clearing:card/3:CNY") != 0 {
		t.Errorf("%d in the wallet, %d in the reserve", h.balance("wallet:A:CNY"), h.balance("reserve:M:CNY"))
	}
}

// TestVoidGivesEveryFeeBack: of a share that was refunded before too, as the code has it.
func TestVoidGivesEveryFeeBack(t *testing.T) {
	t.Parallel()
	before := &payments.Payment{ID: "P", Customer: "A", Merchant: "M", Purpose: purchase, Method: wallet, Currency: cny, Amount: 30_000, Captured: 30_000,
		Refunded: 10_000, Fee: 180, Shard: 3}
	before.Shares = []payments.Share{{Merchant: "M", Amount: 20_000, Captured: 20_000, Fee: 120},
		{Merchant: "N", Amount: 10_000, Captured: 10_000, Fee: 60, Back: 10_000}}
	after := *before
	after.Reversed = 20_000
	after.Shares = []payments.Share{{Merchant: "M", Amount: 20_000, Captured: 20_000, Fee: 120, Back: 20_000},
		{Merchant: "N", Amount: 10_000, Captured: 10_000, Fee: 60, Back: 10_000}}
	got := Standard().Transfers(&payments.Occasion{Moment: payments.OnVoid, Event: &events.Event{Time: at}, Before: before, After: &after, Amount: 20_000})
	back := map[ledger.AccountKey]int64{}
	for _, x := range got {
		if x.Kind == payments.KindFeeReturn {
			back[x.Credit] += x.Amount
		}
	}
	if want := (map[ledger.AccountKey]int64{"merchant:M:CNY": 120, "merchant:N:CNY": 60}); !reflect.DeepEqual(back, want) || after.Fee != 180 {
		t.Errorf("%v goes back, %d stands", back, after.Fee)
	}
}

// TestFeeForAChargeBackIsNoLoss: the merchant who can pay back what was charged back, and no more, pays it; of the fee for it the house
// takes what he then has.
func TestFeeForAChargeBackIsNoLoss(t *testing.T) {
	t.Parallel()
	rewards, err := Load("rewards.yaml", RewardsFile)
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(rewards)
	h.apply(decision(events.PaymentInitiated, "Q", 150, purchase, card)) // less the fee, it is what P lacks for its fee, and a little more
	h.apply(decision(events.PaymentInitiated, "P", 10_000, purchase, card))
	if code, _ := h.apply(decision(events.PaymentChargedBack, "P", 10_000, purchase, card)); code != "posted" {
		t.Fatal(code)
	}
	if p := h.payments["P"]; p.Lost != 0 || h.balance("suspense/3:CNY") != 0 || h.balance("merchant:M:CNY") != 0 || h.balance("fees/3:CNY") != 148 {
		t.Errorf("%d is lost, %d in suspense, %d with the merchant, %d in fees", p.Lost, h.balance("suspense/3:CNY"), h.balance("merchant:M:CNY"),
			h.balance("fees/3:CNY"))
	}
}

// TestEffectsMakeNoLoss: what the house loses by a charge-back is what the merchant lacks, whatever follows from it, and whether or
// not the customer still has what goes back to the merchant before.
func TestEffectsMakeNoLoss(t *testing.T) {
	t.Parallel()
	r, err := Load("house.yaml", []byte(`postings: house
version: 1
effects:
  - id: cashback
    on: moved
    when: payment.purpose == "purchase" && !payment.exchanged
    post: {debit: payee, credit: wallet(customer), amount: amount * 0.1, kind: cashback}
    back: share
  - id: penalty
    on: charged_back
    when: payment.purpose == "purchase"
    post: {debit: payee, credit: fees, amount: "15", kind: penalty}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ spent, other, lost, fees, merchant int64 }{
		{spent: 0, lost: 0},
		{spent: 300, lost: 300},
		{spent: 1000, lost: 1000},
		{spent: 1000, other: 500, lost: 550},
		{spent: 0, other: 1000, lost: 0, fees: 900},
		{spent: 0, other: 2000, lost: 0, fees: 1500, merchant: 300},
	} {
		h := newHouse(r)
		h.apply(decision(events.PaymentInitiated, "P", 10_000, purchase, card))
		if c.spent > 0 {
			h.apply(decision(events.PaymentInitiated, "W", c.spent, withdrawal, bank))
		}
		if c.other > 0 {
			d := decision(events.PaymentInitiated, "Q", c.other, purchase, card)
			d.Event.CustomerID = "Z"
			h.apply(d)
		}
		if code, _ := h.apply(decision(events.PaymentChargedBack, "P", 10_000, purchase, card)); code != "posted" {
			t.Fatal(code)
		}
		p := h.payments["P"]
		if p.Lost != c.lost || h.balance("suspense/3:CNY") != c.lost || h.balance("fees/3:CNY") != c.fees || h.balance("merchant:M:CNY") != c.merchant || len(p.Effects) != 0 {
			t.Errorf("%+v: %d lost, %d in suspense, %d in fees, %d with the merchant, effects %+v", c, p.Lost, h.balance("suspense/3:CNY"),
				h.balance("fees/3:CNY"), h.balance("merchant:M:CNY"), p.Effects)
		}
	}
}
