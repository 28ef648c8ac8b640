package poster

import (
	"fmt"
	"math/rand/v2"
	"testing"

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
	payments map[string]*naivePayment
	seen     map[string]bool
}

type naivePayment struct {
	customer, from, to string
	moved, fee, back   int64
	settled, over      bool // over: voided or failed
}

// take moves money unless the payer is a wallet or merchant without enough.
func (n *naive) take(from, to string, amount int64) bool {
	if (from[0] == 'w' || from[0] == 'm') && n.balance[from] < amount {
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

func (n *naive) apply(d *events.Decision) string {
	e := &d.Event
	if d.Verdict == events.Duplicate || n.seen[e.Source+"|"+e.ID] {
		return "duplicate"
	}
	n.seen[e.Source+"|"+e.ID] = true
	p := n.payments[e.PaymentID]
	if e.Kind == events.PaymentInitiated {
		return n.initiate(d, p)
	}
	switch {
	case p == nil:
		return "payment_unknown"
	case p.customer != e.CustomerID:
		return "payment_of_another"
	}
	left := p.moved - p.back
	stopped := map[events.Verdict]string{events.Review: "in_review", events.Decline: "declined"}[d.Verdict]
	switch e.Kind {
	case events.PaymentRefunded:
		switch {
		case stopped != "":
			return stopped
		case p.moved == 0:
			return "payment_not_posted"
		case e.Amount > left:
			return "refund_exceeds_payment"
		case !n.take(p.to, p.from, e.Amount):
			return "insufficient_funds"
		}
		p.back += e.Amount
		p.settled = p.settled || p.back == p.moved // a payment given back whole is past settling
		return "posted"
	case events.PaymentChargedBack:
		amount := min(e.Amount, left)
		switch {
		case p.moved == 0:
			return "payment_not_posted"
		case amount == 0:
			return "refund_exceeds_payment"
		case !n.take(p.to, p.from, amount):
			n.take("suspense", p.from, amount)
		}
		p.back += amount
		p.settled = true
		return "posted"
	case events.PaymentFailed:
		switch {
		case p.over:
			return "ignored"
		case p.moved == 0:
			p.over = true
			return "recorded"
		case left == 0:
			return "refund_exceeds_payment"
		}
		n.take("fees", p.to, p.fee)
		if !n.take(p.to, p.from, left) {
			n.take("suspense", p.from, left)
		}
		p.back, p.over, p.settled = p.moved, true, true
		return "posted"
	case events.PaymentSettled:
		switch {
		case p.moved == 0:
			return "payment_not_posted"
		case p.settled:
			return "ignored"
		}
		p.settled = true
		return "recorded"
	}
	return "ignored"
}

func (n *naive) initiate(d *events.Decision, p *naivePayment) string {
	e := &d.Event
	if p != nil {
		return "payment_exists"
	}
	p = &naivePayment{customer: e.CustomerID}
	switch d.Verdict {
	case events.Review:
		n.payments[e.PaymentID] = p
		return "in_review"
	case events.Decline:
		n.payments[e.PaymentID] = p
		return "declined"
	case events.Observed:
		return "ignored"
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
		if p.from == wallet && e.Purpose != eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL {
			p.from = clearing
		}
	}
	switch {
	case p.from == p.to:
		return "same_account"
	case !n.take(p.from, p.to, e.Amount):
		return "insufficient_funds"
	}
	p.moved = e.Amount
	if e.Purpose == purchase {
		p.fee = (e.Amount*6 + 500) / 1000 // 0.6 %, half up
		n.take(p.to, "fees", p.fee)
	}
	return "posted"
}

// Random decisions, cut into random batches and posted by two writers, leave what the naive model predicts: every code,
// every balance.
func TestPosterEqualsNaiveModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			runModel(t, rand.New(rand.NewPCG(seed, 7)))
		})
	}
}

func runModel(t *testing.T, rng *rand.Rand) {
	url := migrated(t)
	conn := reader(t, url)
	shards := [2]*writer{newWriter(t, url, payments0), newWriter(t, url, part{schemas.PaymentsDecided, 1})}
	model := &naive{map[string]int64{}, map[string]*naivePayment{}, map[string]bool{}}
	var at [2]int64
	for range 12 {
		shard := rng.IntN(2)
		var records []*kgo.Record
		var want []string
		for range rng.IntN(25) + 1 {
			d := randomDecision(rng, shard)
			records = append(records, decided(t, int32(shard), at[shard], d))
			at[shard]++
			want = append(want, model.apply(&d))
		}
		if got := codes(shards[shard].must(t, records...)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
	}
	checkBook(t, conn)
	checkBalances(t, conn, model)
}

// randomDecision draws from few customers, payments and events, so that everything meets everything. A customer and what
// belongs to it live in one shard.
func randomDecision(rng *rand.Rand, shard int) events.Decision {
	pick := func(all ...string) string { return all[rng.IntN(len(all))] }
	own := [2][]string{{"A", "B"}, {"C", "D"}}[shard]
	purposes := []eventsv1.PaymentPurpose{topUp, topUp, transfer, transfer, purchase, purchase, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL}
	d := payment(purposes[rng.IntN(len(purposes))], byWallet, pick(own...), "", 1+rng.Int64N(1000))
	e := &d.Event
	e.CounterpartyID, e.MerchantID = pick("A", "B", "C", "D", "E"), pick("M", "N")
	if rng.IntN(4) == 0 {
		e.Method = byCard
	}
	e.PaymentID = fmt.Sprintf("%s%d", e.CustomerID, rng.IntN(15))
	e.Source, e.ID = "app", fmt.Sprintf("%d.%d", shard, rng.IntN(400))
	d.Verdict = []events.Verdict{events.Approve, events.Approve, events.Approve, events.Approve, events.Approve, events.Review, events.Decline, events.Observed, events.Duplicate}[rng.IntN(9)]
	if rng.IntN(3) == 0 {
		later := []events.Kind{events.PaymentRefunded, events.PaymentRefunded, events.PaymentChargedBack, events.PaymentFailed, events.PaymentSettled, events.PaymentCaptured}
		e.Kind = later[rng.IntN(len(later))]
		if rng.IntN(10) == 0 {
			e.CustomerID = pick(own...)
		}
	}
	return d
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
