package poster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// naive is the book as anyone would write it first: balances in a map, one event after the other. It knows no batches,
// no shards, no plan, and shares no code with the pipelines.
type naive struct {
	balance  map[string]int64
	held     map[string]int64 // of a payer
	clock    [2]time.Time     // by shard
	payments map[string]*naivePayment
	seen     map[string]bool
}

type naivePayment struct {
	customer, from, to string
	moved, fee, back   int64
	stage              string // "live", "settled", "refunded", "charged_back", "expired", "over": voided or failed
	shard              int
	twice              bool  // in two steps
	held               int64 // until
	until              time.Time
}

// take moves money unless the payer is a wallet or merchant without enough.
func (n *naive) take(from, to string, amount int64) bool {
	if !n.has(from, amount) {
		return false
	}
	if from[0] == 'c' || from[0] == 's' { // assets shrink when they pay
		n.balance[from] += amount
	} else {
		n.balance[from] -= amount
	}
	if to[0] == 'c' {
		n.balance[to] -= amount
	} else {
		n.balance[to] += amount
	}
	return true
}

// has says whether a payer has an amount that is not held.
func (n *naive) has(from string, amount int64) bool {
	return from[0] != 'w' && from[0] != 'm' || n.balance[from]-n.held[from] >= amount
}

// pass lets a shard's time pass: what is held too long is free again.
func (n *naive) pass(shard int, at time.Time) {
	if at.After(n.clock[shard]) {
		n.clock[shard] = at
	}
	for _, p := range n.payments {
		if p.shard == shard && p.held > 0 && !n.clock[shard].Before(p.until) {
			n.free(p)
			p.stage = p.rest()
		}
	}
}

// free lets go of what a payment holds.
func (n *naive) free(p *naivePayment) {
	n.held[p.from] -= p.held
	p.held = 0
}

// rest is what a payment is once its hold has gone and nothing else happened.
func (p *naivePayment) rest() string {
	switch {
	case p.stage != "live":
		return p.stage
	case p.moved == 0:
		return "expired"
	case p.moved == p.back:
		return "refunded"
	}
	return "live"
}

func (n *naive) apply(d *events.Decision, shard int) string {
	e := &d.Event
	if d.Verdict == events.Duplicate {
		return "duplicate"
	}
	n.pass(shard, e.Time)
	if n.seen[e.Source+"|"+e.ID] {
		return "duplicate"
	}
	n.seen[e.Source+"|"+e.ID] = true
	p := n.payments[e.PaymentID]
	switch {
	case e.Kind == events.PaymentInitiated || e.Kind == events.PaymentAuthorized && p == nil && e.Method == byCard:
		return n.begin(d, p, shard)
	case p == nil:
		return "payment_unknown"
	case p.customer != e.CustomerID:
		return "payment_of_another"
	}
	stopped := map[events.Verdict]string{events.Review: "in_review", events.Decline: "declined"}[d.Verdict]
	switch e.Kind {
	case events.PaymentRefunded:
		return n.refund(p, e.Amount, stopped)
	case events.PaymentChargedBack:
		return n.chargeBack(p, e.Amount)
	case events.PaymentFailed:
		return n.fail(p)
	case events.PaymentVoided:
		return n.void(p, stopped)
	case events.PaymentSettled:
		return n.settle(p)
	case events.PaymentCaptured:
		return n.capture(p, e.Amount, stopped)
	}
	return "ignored"
}

func (n *naive) refund(p *naivePayment, amount int64, stopped string) string {
	switch {
	case stopped != "":
		return stopped
	case p.moved == 0:
		return "payment_not_posted"
	case amount > p.moved-p.back:
		return "refund_exceeds_payment"
	case !n.take(p.to, p.from, amount):
		return "insufficient_funds"
	}
	p.back += amount
	if p.back == p.moved && p.held == 0 {
		p.stage = "refunded"
	}
	return "posted"
}

func (n *naive) chargeBack(p *naivePayment, amount int64) string {
	amount = min(amount, p.moved-p.back)
	switch {
	case p.moved == 0:
		return "payment_not_posted"
	case amount == 0:
		return "refund_exceeds_payment"
	case !n.take(p.to, p.from, amount):
		n.take("suspense", p.from, amount)
	}
	n.free(p)
	p.back += amount
	p.stage = "charged_back"
	return "posted"
}

func (n *naive) fail(p *naivePayment) string {
	left, held := p.moved-p.back, p.held
	switch {
	case p.stage == "over":
		return "ignored"
	case p.moved == 0:
		n.free(p)
		p.stage = "over"
		if held > 0 {
			return "released"
		}
		return "recorded"
	case left == 0 && held > 0:
		n.free(p)
		p.stage = p.rest()
		return "released"
	case left == 0:
		return "refund_exceeds_payment"
	}
	n.free(p)
	n.take("fees", p.to, p.fee)
	if !n.take(p.to, p.from, left) {
		n.take("suspense", p.from, left)
	}
	p.back, p.stage = p.moved, "over"
	return "posted"
}

func (n *naive) void(p *naivePayment, stopped string) string {
	left := p.moved - p.back
	switch {
	case stopped != "":
		return stopped
	case p.stage == "over":
		return "ignored"
	case p.held > 0:
		n.free(p)
		p.stage = p.rest()
		if p.moved == 0 {
			p.stage = "over"
		}
		return "released"
	case p.moved == 0:
		p.stage = "over"
		return "recorded"
	case p.stage == "settled":
		return "payment_settled"
	case left == 0:
		return "refund_exceeds_payment"
	case !n.has(p.to, left-p.fee):
		return "insufficient_funds"
	}
	n.take("fees", p.to, p.fee)
	n.take(p.to, p.from, left)
	p.back, p.stage = p.moved, "over"
	return "posted"
}

func (n *naive) settle(p *naivePayment) string {
	held := p.held
	switch {
	case p.moved == 0:
		return "payment_not_posted"
	case p.stage != "live":
		return "ignored"
	}
	p.stage = "settled"
	n.free(p)
	if held > 0 {
		return "released"
	}
	return "recorded"
}

func (n *naive) capture(p *naivePayment, amount int64, stopped string) string {
	switch {
	case !p.twice:
		return "ignored"
	case stopped != "":
		return stopped
	case p.stage == "expired":
		return "authorization_expired"
	case p.stage == "over":
		return "ignored"
	case amount > p.held:
		return "capture_exceeds_authorization"
	}
	n.held[p.from] -= amount
	p.held -= amount
	n.take(p.from, p.to, amount)
	p.moved += amount
	n.charge(p)
	return "posted"
}

// charge takes what is still owed of 0.6 %, half up, from a merchant.
func (n *naive) charge(p *naivePayment) {
	if p.to[0] == 'm' {
		fee := (p.moved*6 + 500) / 1000
		n.take(p.to, "fees", fee-p.fee)
		p.fee = fee
	}
}

func (n *naive) begin(d *events.Decision, p *naivePayment, shard int) string {
	e := &d.Event
	if p != nil {
		return "payment_exists"
	}
	twice := e.Kind == events.PaymentAuthorized
	p = &naivePayment{customer: e.CustomerID, shard: shard, stage: "live"}
	switch d.Verdict {
	case events.Review:
		n.payments[e.PaymentID] = p
		return "in_review"
	case events.Decline:
		n.payments[e.PaymentID] = p
		return "declined"
	case events.Observed:
		if !twice {
			return "ignored"
		}
	}
	n.payments[e.PaymentID] = p
	wallet, clearing := "wallet "+e.CustomerID, "clearing"
	switch e.Purpose {
	case topUp:
		p.from, p.to = clearing, wallet
	case transfer:
		p.from, p.to = wallet, "wallet "+e.CounterpartyID
	case purchase:
		p.from, p.to = wallet, "merchant "+e.MerchantID
	default:
		p.from, p.to = wallet, clearing
	}
	if e.Method == byCard {
		if p.from == wallet && e.Purpose != withdrawal {
			p.from = clearing
		}
	}
	until := e.Time.Add(7 * 24 * time.Hour)
	switch {
	case p.from == p.to:
		return "same_account"
	case twice && !n.clock[shard].Before(until):
		return "expiry_past"
	case !n.has(p.from, e.Amount):
		return "insufficient_funds"
	}
	if twice {
		p.twice, p.held, p.until = true, e.Amount, until
		n.held[p.from] += e.Amount
		return "authorized"
	}
	n.take(p.from, p.to, e.Amount)
	p.moved = e.Amount
	n.charge(p)
	return "posted"
}

// Random decisions, cut into random batches and posted by two writers, leave what the naive model predicts: every code,
// every balance.
func TestPosterEqualsNaiveModel(t *testing.T) {
	t.Parallel()
	const seeds = 16
	seen := make(chan []string, seeds)
	t.Run("seeds", func(t *testing.T) {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				seen <- runModel(t, rand.New(rand.NewPCG(seed, 7)))
			})
		}
	})
	close(seen)
	count := map[string]int{}
	for some := range seen {
		for _, code := range some {
			count[code]++
		}
	}
	for _, code := range []string{"posted", "insufficient_funds", "same_account", "authorized", "released", "authorization_expired",
		"capture_exceeds_authorization", "refund_exceeds_payment", "payment_settled", "payment_not_posted", "payment_exists", "duplicate", "recorded"} {
		if count[code] == 0 {
			t.Errorf("no decision was answered %s: %v", code, count)
		}
	}
}

// runModel returns every code the book gave.
func runModel(t *testing.T, rng *rand.Rand) (seen []string) {
	url := migrated(t)
	conn := reader(t, url)
	shards := [2]*writer{newWriter(t, url, payments0), newWriter(t, url, part{schemas.PaymentsDecided, 1})}
	model := &naive{balance: map[string]int64{}, held: map[string]int64{}, payments: map[string]*naivePayment{}, seen: map[string]bool{}}
	now := start
	var at [2]int64
	for range 16 {
		shard := rng.IntN(2)
		var records []*kgo.Record
		var want []string
		for range rng.IntN(30) + 1 {
			d := randomDecision(rng, shard)
			now = now.Add(time.Duration(rng.IntN(3*60)) * time.Minute)
			if d.Event.Time = now; rng.IntN(15) == 0 { // late, once in a while by more than a hold lives
				d.Event.Time = now.Add(-time.Duration(rng.IntN(10*24)) * time.Hour)
			}
			records = append(records, decided(t, int32(shard), at[shard], d))
			at[shard]++
			want = append(want, model.apply(&d, shard))
		}
		if got := codes(shards[shard].must(t, records...)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
		seen = append(seen, want...)
	}
	checkBook(t, conn)
	checkBalances(t, conn, model)
	for shard := range 2 {
		checkHeld(t, conn, model, shard)
	}
	return seen
}

// randomDecision draws from few customers, payments and events, so that everything meets everything. A customer and what
// belongs to it live in one shard.
func randomDecision(rng *rand.Rand, shard int) events.Decision {
	pick := func(all ...string) string { return all[rng.IntN(len(all))] }
	own := [2][]string{{"A", "B"}, {"C", "D"}}[shard]
	purposes := []eventsv1.PaymentPurpose{topUp, topUp, transfer, transfer, purchase, purchase, withdrawal}
	d := payment(purposes[rng.IntN(len(purposes))], byWallet, pick(own...), "", 1+rng.Int64N(1000))
	e := &d.Event
	e.CounterpartyID, e.MerchantID = pick("A", "B", "C", "D", "E"), pick("M", "N")
	if rng.IntN(3) == 0 {
		e.Method = byCard
	}
	if e.Method == byCard && rng.IntN(2) == 0 {
		e.Kind = events.PaymentAuthorized
	}
	e.PaymentID = fmt.Sprintf("%s%d", e.CustomerID, rng.IntN(8))
	e.Source, e.ID = "app", fmt.Sprintf("%d.%d", shard, rng.IntN(1500))
	d.Verdict = []events.Verdict{events.Approve, events.Approve, events.Approve, events.Approve, events.Approve, events.Review, events.Decline, events.Observed, events.Duplicate}[rng.IntN(9)]
	if rng.IntN(5) > 1 {
		later := []events.Kind{events.PaymentRefunded, events.PaymentRefunded, events.PaymentChargedBack, events.PaymentFailed, events.PaymentSettled,
			events.PaymentCaptured, events.PaymentCaptured, events.PaymentCaptured, events.PaymentSettled, events.PaymentVoided, events.PaymentVoided}
		e.Kind = later[rng.IntN(len(later))]
		if rng.IntN(10) == 0 {
			e.CustomerID = pick(own...)
		}
	}
	return d
}

// checkHeld holds the open holds of a shard against the model's.
func checkHeld(t *testing.T, conn *pgx.Conn, model *naive, shard int) {
	t.Helper()
	want := map[string]int64{}
	for id, p := range model.payments {
		if p.shard == shard && p.held > 0 {
			want[id] = p.held
		}
	}
	rows, err := conn.Query(t.Context(), "SELECT id, open FROM holds WHERE shard = $1 AND open > 0", shard)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	var id string
	var open int64
	if _, err := pgx.ForEachRow(rows, []any{&id, &open}, func() error {
		got[id] = open
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, want) {
		t.Errorf("shard %d holds %v, want %v", shard, got, want)
	}
}

func checkBalances(t *testing.T, conn *pgx.Conn, model *naive) {
	t.Helper()
	rows, err := conn.Query(t.Context(), `SELECT CASE WHEN type IN ('wallet', 'merchant') THEN type || ' ' || split_part(key, ':', 2) ELSE type END, sum(balance)::bigint FROM accounts GROUP BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	var name string
	var balance int64
	if _, err := pgx.ForEachRow(rows, []any{&name, &balance}, func() error {
		got[name] = balance
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for name, want := range model.balance {
		if got[name] != want {
			t.Errorf("%s: balance %d, want %d", name, got[name], want)
		}
		delete(got, name)
	}
	for name, balance := range got {
		if balance != 0 {
			t.Errorf("%s: balance %d, which the model does not know", name, balance)
		}
	}
}
