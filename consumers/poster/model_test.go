package poster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
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
	waiting  map[string][]*events.Decision // that came early, by payment and shard
	moves    int                           // of money
	answers  []string                      // that waiting events got in the end
}

type naivePayment struct {
	customer, from string
	parts          []*naivePart // by payee; one, unless it is a purchase from several merchants
	contested      bool         // was disputed once
	represented    bool         // once
	stage          string       // "live", "settled", "refunded", "charged_back", "disputed", "expired", "over": voided or failed; "" if it never passed
	settled        bool         // what a dispute or charge-back ends in once it is undone
	channel        string       // that was named
	clears         bool         // from is a clearing account
	disputable     bool
	respondBy      time.Time
	shard          int
	twice          bool // in two steps
	holds          bool // until
	until          time.Time
}

type naivePart struct {
	to, kept                          string
	amount, moved, fee, back, charged int64
	lost, claimed, frozen             int64
}

func (p *naivePayment) sum(f func(*naivePart) int64) (n int64) {
	for _, x := range p.parts {
		n += f(x)
	}
	return n
}

func (p *naivePayment) moved() int64 { return p.sum(func(x *naivePart) int64 { return x.moved }) }
func (p *naivePayment) left() int64 {
	return p.sum(func(x *naivePart) int64 { return x.moved - x.back })
}
func (p *naivePayment) held() int64 {
	if !p.holds {
		return 0
	}
	return p.sum(func(x *naivePart) int64 { return x.amount - x.moved })
}

// asset says whether an account grows by debits.
func asset(name string) bool { return strings.HasPrefix(name, "clearing") || name == "suspense" }

// take moves money unless the payer is a wallet or merchant without enough.
func (n *naive) take(from, to string, amount int64) bool {
	if !n.has(from, amount) {
		return false
	}
	if amount > 0 {
		n.moves++
	}
	n.balance[from] -= amount
	if asset(from) { // assets grow when they pay
		n.balance[from] += 2 * amount
	}
	n.balance[to] += amount
	if asset(to) {
		n.balance[to] -= 2 * amount
	}
	return true
}

// has says whether a payer has an amount that is not held.
func (n *naive) has(from string, amount int64) bool { return n.spare(from) >= amount }

// spare is what of a payer's money is not held; of accounts that may go below zero there is always more.
func (n *naive) spare(from string) int64 {
	if from[0] != 'w' && from[0] != 'm' {
		return 1 << 62
	}
	return n.balance[from] - n.held[from]
}

// pass lets a shard's time pass: what is held too long is free again.
func (n *naive) pass(shard int, at time.Time) {
	if at.After(n.clock[shard]) {
		n.clock[shard] = at
	}
	for _, p := range n.payments {
		if p.shard == shard && p.holds && !n.clock[shard].Before(p.until) {
			n.free(p)
			p.stage = p.rest()
		}
	}
}

// free lets go of what a payment holds.
func (n *naive) free(p *naivePayment) {
	n.held[p.from] -= p.held()
	p.holds = false
}

// rest is what a payment is once its hold or its dispute has gone and nothing else happened.
func (p *naivePayment) rest() string {
	charged := p.sum(func(x *naivePart) int64 { return x.charged })
	switch {
	case p.moved() == 0:
		return "expired"
	case charged > 0:
		return "charged_back"
	case p.left() == 0:
		return "refunded"
	case p.settled:
		return "settled"
	}
	return "live"
}

// divide says what of an amount is each part's; false if a merchant is named who has none.
func (p *naivePayment) divide(e *events.Event, amount int64, of func(*naivePart) int64) ([]int64, bool) {
	if len(p.parts) == 1 {
		return []int64{amount}, true
	}
	all := make([]int64, len(p.parts))
	name := func(merchant string, amount int64) bool {
		for i, x := range p.parts {
			if x.to == "merchant "+merchant {
				all[i] = amount
				return true
			}
		}
		return false
	}
	if len(e.Splits) > 0 {
		for _, s := range e.Splits {
			if !name(s.MerchantID, s.Amount) {
				return nil, false
			}
		}
		return all, true
	}
	if e.MerchantID != "" && p.parts[0].to != "merchant "+e.MerchantID {
		return all, name(e.MerchantID, amount)
	}
	sum := p.sum(of)
	if amount > sum || sum == 0 {
		all[0] = amount // too much for any
		return all, true
	}
	rest := amount
	for i, x := range p.parts {
		all[i] = amount * of(x) / sum
		rest -= all[i]
	}
	for given := map[int]bool{}; rest > 0; rest-- {
		best := -1
		for i, x := range p.parts {
			if !given[i] && (best < 0 || amount*of(x)%sum > amount*of(p.parts[best])%sum) {
				best = i
			}
		}
		given[best] = true
		all[best]++
	}
	return all, true
}

// cut bounds each part, and says what is left of them.
func (p *naivePayment) cut(all []int64, of func(*naivePart) int64) (sum int64) {
	for i, x := range p.parts {
		all[i] = min(all[i], of(x))
		sum += all[i]
	}
	return sum
}

func ofLeft(x *naivePart) int64    { return x.moved - x.back }
func ofOpen(x *naivePart) int64    { return x.amount - x.moved }
func ofCharged(x *naivePart) int64 { return x.charged }

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
	at, moves, begins := fmt.Sprint(e.PaymentID, " ", shard), n.moves, n.payments[e.PaymentID] == nil
	code := n.once(d, shard)
	if changes(code, begins) {
		n.retry(at, e.Time, shard)
	}
	switch {
	case n.moves > moves:
		return "posted"
	case n.early(n.payments[e.PaymentID], code) && len(n.waiting[at]) < 16:
		n.waiting[at] = append(n.waiting[at], d)
		return "awaits_payment"
	}
	return code
}

// changes says whether an event with this answer made its payment another.
func changes(code string, begins bool) bool {
	switch code {
	case "posted", "recorded", "released", "rerouted", "authorized":
		return true
	case "ignored", "payment_unknown", "authorization_by_card_only":
		return false
	}
	return begins
}

// early says whether a later moment could have another answer.
func (n *naive) early(p *naivePayment, code string) bool {
	switch code {
	case "payment_unknown":
		return true
	case "payment_not_posted":
		return p.holds
	case "no_open_dispute":
		return !p.contested && (p.left() > 0 || p.holds)
	case "nothing_charged_back":
		return !p.represented && !p.contested && (p.left() > 0 || p.holds)
	}
	return false
}

// retry asks again what waited, the oldest first, until nothing more comes of it.
func (n *naive) retry(at string, now time.Time, shard int) {
	for again := true; again; {
		again = false
		all := slices.Clone(n.waiting[at])
		sort.SliceStable(all, func(i, j int) bool { return all[i].Event.Time.Before(all[j].Event.Time) })
		for i, d := range all {
			if now.Sub(d.Event.Time) > 24*time.Hour {
				continue
			}
			p := n.payments[d.Event.PaymentID]
			code := n.once(d, shard)
			if n.early(p, code) {
				continue
			}
			n.answers = append(n.answers, code)
			n.waiting[at] = slices.Delete(all, i, i+1)
			again = true
			break
		}
	}
}

// once is the answer to an event as things stand.
func (n *naive) once(d *events.Decision, shard int) string {
	e := &d.Event
	p := n.payments[e.PaymentID]
	switch {
	case e.Kind == events.PaymentInitiated || e.Kind == events.PaymentAuthorized && p == nil && e.Method == byCard:
		return n.begin(d, p, shard)
	case p == nil && e.Kind == events.PaymentAuthorized:
		return "authorization_by_card_only"
	case p == nil:
		return "payment_unknown"
	case p.customer != e.CustomerID:
		return "payment_of_another"
	case e.Kind != events.PaymentRerouted && e.PaymentChannel != "" && p.channel != "" && e.PaymentChannel != p.channel:
		return "payment_of_another_channel"
	}
	stopped := map[events.Verdict]string{events.Review: "in_review", events.Decline: "declined"}[d.Verdict]
	switch e.Kind {
	case events.PaymentRefunded:
		return n.refund(p, e, stopped)
	case events.PaymentChargedBack:
		return n.chargeBack(p, e)
	case events.PaymentFailed:
		return n.fail(p)
	case events.PaymentVoided:
		return n.void(p, stopped)
	case events.PaymentSettled:
		return n.settle(p)
	case events.PaymentCaptured:
		return n.capture(p, e, stopped)
	case events.PaymentRerouted:
		return n.reroute(p, e, stopped)
	case events.PaymentDisputed:
		return n.dispute(p, e)
	case events.PaymentEvidenceSubmitted:
		return n.evidence(p, e)
	case events.PaymentDisputeDecided:
		return n.decide(p, e)
	case events.PaymentRepresented:
		return n.represent(p, e)
	}
	return "ignored"
}

func (n *naive) refund(p *naivePayment, e *events.Event, stopped string) string {
	parts, known := p.divide(e, e.Amount, ofLeft)
	switch {
	case stopped != "":
		return stopped
	case p.moved() == 0:
		return "payment_not_posted"
	case p.stage == "disputed":
		return "payment_disputed"
	case !known:
		return "merchant_without_share"
	}
	for i, x := range p.parts {
		if parts[i] > ofLeft(x) {
			return "refund_exceeds_payment"
		}
	}
	for i, x := range p.parts {
		if !n.has(x.to, parts[i]) {
			return "insufficient_funds"
		}
	}
	for i, x := range p.parts {
		n.take(x.to, p.from, parts[i])
		x.back += parts[i]
	}
	if p.left() == 0 && p.held() == 0 {
		p.stage = "refunded"
	}
	return "posted"
}

func (n *naive) chargeBack(p *naivePayment, e *events.Event) string {
	parts, known := p.divide(e, min(e.Amount, p.left()), ofLeft)
	switch {
	case p.moved() == 0:
		return "payment_not_posted"
	case !known:
		return "merchant_without_share"
	case p.cut(parts, ofLeft) == 0:
		return "refund_exceeds_payment"
	}
	n.giveBack(p, parts)
	for i, x := range p.parts {
		x.charged += parts[i]
	}
	p.stage = "charged_back"
	return "posted"
}

// giveBack takes from what a dispute keeps, then from the payee what he has, and the rest from the house.
func (n *naive) giveBack(p *naivePayment, parts []int64) {
	n.free(p)
	p.settled = p.settled || p.stage == "settled"
	for i, x := range p.parts {
		kept := min(parts[i], x.frozen)
		if x.frozen > 0 {
			n.take(x.kept, p.from, kept)
			n.take(x.kept, x.to, x.frozen-kept)
		}
		paid := min(parts[i]-kept, n.spare(x.to))
		n.take(x.to, p.from, paid)
		n.take("suspense", p.from, parts[i]-kept-paid)
		x.lost += parts[i] - kept - paid
		x.back += parts[i]
		x.frozen, x.claimed = 0, 0
	}
}

func (n *naive) fail(p *naivePayment) string {
	left, held := p.left(), p.held()
	switch {
	case p.stage == "over":
		return "ignored"
	case p.moved() == 0:
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
	parts := make([]int64, len(p.parts))
	for i, x := range p.parts {
		n.take("fees", x.to, x.fee)
		parts[i] = ofLeft(x)
	}
	n.giveBack(p, parts)
	p.stage = "over"
	return "posted"
}

func (n *naive) void(p *naivePayment, stopped string) string {
	switch {
	case stopped != "":
		return stopped
	case p.stage == "over":
		return "ignored"
	case p.held() > 0:
		n.free(p)
		p.stage = p.rest()
		if p.moved() == 0 {
			p.stage = "over"
		}
		return "released"
	case p.moved() == 0:
		p.stage = "over"
		return "recorded"
	case p.stage == "disputed":
		return "payment_disputed"
	case p.stage == "settled" || p.settled:
		return "payment_settled"
	case p.left() == 0:
		return "refund_exceeds_payment"
	}
	for _, x := range p.parts {
		if !n.has(x.to, ofLeft(x)-x.fee) {
			return "insufficient_funds"
		}
	}
	for _, x := range p.parts {
		n.take("fees", x.to, x.fee)
		n.take(x.to, p.from, ofLeft(x))
		x.back = x.moved
	}
	p.stage = "over"
	return "posted"
}

func (n *naive) settle(p *naivePayment) string {
	held := p.held()
	switch {
	case p.moved() == 0:
		return "payment_not_posted"
	case (p.stage == "disputed" || p.stage == "charged_back") && !p.settled:
		p.settled = true
		return "recorded"
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

func (n *naive) capture(p *naivePayment, e *events.Event, stopped string) string {
	open := ofOpen
	if !p.holds {
		open = func(*naivePart) int64 { return 0 }
	}
	parts, known := p.divide(e, e.Amount, open)
	switch {
	case !p.twice:
		return "ignored"
	case stopped != "":
		return stopped
	case p.stage == "expired":
		return "authorization_expired"
	case p.stage == "over":
		return "ignored"
	case !known:
		return "merchant_without_share"
	}
	for i, x := range p.parts {
		if parts[i] > open(x) {
			return "capture_exceeds_authorization"
		}
	}
	for i, x := range p.parts {
		n.held[p.from] -= parts[i]
		n.take(p.from, x.to, parts[i])
		x.moved += parts[i]
		n.charge(x)
	}
	p.holds = p.held() > 0
	return "posted"
}

func (n *naive) reroute(p *naivePayment, e *events.Event, stopped string) string {
	to := p.parts
	switch {
	case stopped != "":
		return stopped
	case p.stage == "settled":
		return "payment_settled"
	case p.stage == "disputed":
		return "payment_disputed"
	case e.PaymentChannel == p.channel || p.stage != "live" && p.stage != "in review":
		return "ignored"
	case !p.clears && !strings.HasPrefix(to[0].to, "clearing"):
		return "ignored"
	}
	was, is := p.from, "clearing "+e.PaymentChannel
	p.channel = e.PaymentChannel
	if p.clears {
		p.from = is
		n.held[was] -= p.held()
		n.held[is] += p.held()
	} else {
		was, to[0].to = to[0].to, is
	}
	left := p.left()
	switch {
	case p.clears:
		n.take(is, was, left)
	default:
		n.take(was, is, left)
	}
	switch {
	case left > 0:
		return "posted"
	case p.holds:
		return "rerouted"
	}
	return "recorded"
}

func (n *naive) dispute(p *naivePayment, e *events.Event) string {
	parts, known := p.divide(e, min(e.Amount, p.left()), ofLeft)
	switch {
	case p.stage == "disputed":
		return "payment_disputed"
	case p.moved() == 0:
		return "payment_not_posted"
	case !p.disputable:
		return "dispute_not_possible"
	case !known:
		return "merchant_without_share"
	case p.cut(parts, ofLeft) == 0:
		return "refund_exceeds_payment"
	}
	answer := "recorded"
	if p.holds {
		answer = "released"
	}
	n.free(p)
	p.settled = p.settled || p.stage == "settled"
	p.stage, p.contested, p.respondBy = "disputed", true, e.RespondBy
	for i, x := range p.parts {
		x.claimed, x.frozen = parts[i], min(parts[i], n.balance[x.to]-n.held[x.to])
		if x.frozen > 0 {
			answer = "posted"
		}
		n.take(x.to, x.kept, x.frozen)
	}
	return answer
}

func (n *naive) evidence(p *naivePayment, e *events.Event) string {
	switch {
	case p.stage != "disputed":
		return "no_open_dispute"
	case e.Time.After(p.respondBy):
		return "evidence_late"
	}
	return "recorded"
}

func (n *naive) decide(p *naivePayment, e *events.Event) string {
	if p.stage != "disputed" {
		return "no_open_dispute"
	}
	if e.Outcome == eventsv1.DisputeOutcome_DISPUTE_OUTCOME_LOST {
		parts := make([]int64, len(p.parts))
		for i, x := range p.parts {
			parts[i] = x.claimed
			x.charged += x.claimed
		}
		n.giveBack(p, parts)
		p.stage = "charged_back"
		return "posted"
	}
	answer := "recorded"
	for _, x := range p.parts {
		if x.frozen > 0 {
			answer = "posted"
		}
		n.take(x.kept, x.to, x.frozen)
		x.frozen, x.claimed = 0, 0
	}
	p.end()
	return answer
}

// end is the stage of a payment whose dispute or charge-back was undone.
func (p *naivePayment) end() {
	if p.stage = p.rest(); p.stage == "settled" {
		p.settled = false
	}
}

func (n *naive) represent(p *naivePayment, e *events.Event) string {
	parts, known := p.divide(e, min(e.Amount, p.sum(ofCharged)), ofCharged)
	switch {
	case p.stage == "disputed":
		return "payment_disputed"
	case p.stage == "over":
		return "ignored"
	case !known:
		return "merchant_without_share"
	case p.cut(parts, ofCharged) == 0:
		return "nothing_charged_back"
	}
	var all int64
	for _, part := range parts {
		all += part
	}
	if !n.has(p.from, all) {
		return "insufficient_funds"
	}
	for i, x := range p.parts {
		recovered := min(parts[i], x.lost)
		n.take(p.from, "suspense", recovered)
		n.take(p.from, x.to, parts[i]-recovered)
		p.represented = true
		x.lost, x.back, x.charged = x.lost-recovered, x.back-parts[i], x.charged-parts[i]
	}
	p.end()
	return "posted"
}

// charge takes what is still owed of 0.6 %, half up, from a merchant.
func (n *naive) charge(x *naivePart) {
	if x.to[0] == 'm' {
		fee := (x.moved*6 + 500) / 1000
		n.take(x.to, "fees", fee-x.fee)
		x.fee = fee
	}
}

func (n *naive) begin(d *events.Decision, p *naivePayment, shard int) string {
	e := &d.Event
	if p != nil {
		return "payment_exists"
	}
	twice := e.Kind == events.PaymentAuthorized
	p = n.begun(e, shard)
	switch d.Verdict {
	case events.Review:
		n.payments[e.PaymentID] = p
		p.stage = "in review"
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
	until := e.Time.Add(7 * 24 * time.Hour)
	switch {
	case p.from == p.parts[0].to:
		return "same_account"
	case twice && !n.clock[shard].Before(until):
		return "expiry_past"
	case !n.has(p.from, e.Amount):
		return "insufficient_funds"
	}
	p.stage = "live"
	if twice {
		p.twice, p.holds, p.until = true, true, until
		n.held[p.from] += e.Amount
		return "authorized"
	}
	for _, x := range p.parts {
		n.take(p.from, x.to, x.amount)
		x.moved = x.amount
		n.charge(x)
	}
	return "posted"
}

// begun is a payment with the accounts it is between.
func (n *naive) begun(e *events.Event, shard int) *naivePayment {
	p := &naivePayment{customer: e.CustomerID, shard: shard, channel: e.PaymentChannel, disputable: true}
	wallet, clearing := "wallet "+e.CustomerID, "clearing bank_transfer"
	switch {
	case p.channel != "":
		clearing = "clearing " + p.channel
	case e.Method == byCard:
		clearing = "clearing card"
	}
	p.from = wallet
	one := &naivePart{amount: e.Amount}
	p.parts = []*naivePart{one}
	switch e.Purpose {
	case topUp:
		p.from, one.to, one.kept = clearing, wallet, "frozen "+e.CustomerID
	case transfer:
		one.to, one.kept = "wallet "+e.CounterpartyID, "frozen "+e.CounterpartyID
	case purchase:
		one.to, one.kept = "merchant "+e.MerchantID, "disputed "+e.MerchantID
		if len(e.Splits) > 0 {
			p.parts = nil
		}
		for _, s := range e.Splits {
			p.parts = append(p.parts, &naivePart{to: "merchant " + s.MerchantID, kept: "disputed " + s.MerchantID, amount: s.Amount})
		}
	default:
		one.to, p.disputable = clearing, false
	}
	if e.Method == byCard && e.Purpose != withdrawal {
		p.from = clearing
	}
	p.clears = p.from == clearing
	return p
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
		"capture_exceeds_authorization", "refund_exceeds_payment", "payment_settled", "payment_not_posted", "payment_exists", "duplicate", "recorded",
		"payment_of_another_channel", "merchant_without_share", "payment_disputed", "dispute_not_possible", "no_open_dispute", "evidence_late",
		"nothing_charged_back", "rerouted", "awaits_payment", "early posted", "early recorded"} {
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
	model := &naive{balance: map[string]int64{}, held: map[string]int64{}, payments: map[string]*naivePayment{}, seen: map[string]bool{}, waiting: map[string][]*events.Decision{}}
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
			settleCore(rng, &d.Event)
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
	for _, code := range model.answers {
		seen = append(seen, "early "+code)
	}
	checkEarly(t, conn, model)
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
	if rng.IntN(2) == 0 {
		e.Method = byCard
	}
	if e.Method == byCard && rng.IntN(3) > 0 {
		e.Kind = events.PaymentAuthorized
	}
	e.PaymentID = fmt.Sprintf("%s%d", e.CustomerID, rng.IntN(12))
	e.Source, e.ID = "app", fmt.Sprintf("%d.%d", shard, rng.IntN(1500))
	d.Verdict = []events.Verdict{events.Approve, events.Approve, events.Approve, events.Approve, events.Approve, events.Review, events.Decline, events.Observed, events.Duplicate}[rng.IntN(9)]
	core(rng, e, pick)
	if rng.IntN(5) > 1 {
		later := []events.Kind{events.PaymentRefunded, events.PaymentRefunded, events.PaymentChargedBack, events.PaymentFailed, events.PaymentSettled,
			events.PaymentCaptured, events.PaymentCaptured, events.PaymentCaptured, events.PaymentSettled, events.PaymentVoided, events.PaymentVoided,
			events.PaymentDisputed, events.PaymentDisputed, events.PaymentDisputed, events.PaymentEvidenceSubmitted, events.PaymentDisputeDecided,
			events.PaymentDisputeDecided, events.PaymentRepresented, events.PaymentRepresented, events.PaymentRerouted, events.PaymentRerouted}
		e.Kind = later[rng.IntN(len(later))]
		if rng.IntN(3) > 0 {
			e.Amount, e.Splits = 1+e.Amount/5, nil
		}
		if rng.IntN(10) == 0 {
			e.CustomerID = pick(own...)
		}
	}
	return d
}

// core draws what the payment core reads. What a kind has no use for does no harm.
func core(rng *rand.Rand, e *events.Event, pick func(...string) string) {
	if rng.IntN(3) == 0 {
		e.PaymentChannel = pick("north", "south")
	}
	if e.Purpose == purchase && e.Amount > 2 && rng.IntN(2) == 0 {
		first := 1 + rng.Int64N(e.Amount-1)
		e.Splits = []events.Split{{MerchantID: "M", Amount: first}, {MerchantID: pick("N", "N", "N", "N", "N", "O"), Amount: e.Amount - first}}
		e.MerchantID = "M"
	} else if rng.IntN(8) == 0 {
		e.MerchantID = "O"
	}
}

// settleCore draws what the kinds of the payment core ask for, once the kind and the time are known.
func settleCore(rng *rand.Rand, e *events.Event) {
	switch e.Kind {
	case events.PaymentRerouted:
		e.PaymentChannel = []string{"north", "south"}[rng.IntN(2)]
	case events.PaymentDisputed:
		e.RespondBy = e.Time.Add(time.Duration(rng.IntN(6*24)) * time.Hour)
	case events.PaymentEvidenceSubmitted:
		e.Evidence = "drawer 7"
	case events.PaymentDisputeDecided:
		e.Outcome = eventsv1.DisputeOutcome(1 + rng.IntN(2))
	}
}

// checkEarly holds what waits, and what has waited, against the model's.
func checkEarly(t *testing.T, conn *pgx.Conn, model *naive) {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT code FROM early_events ORDER BY code")
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(model.answers)
	for _, all := range model.waiting {
		want = append(want, make([]string, len(all))...)
	}
	slices.Sort(want)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("early events were answered %q, want %q", got, want)
	}
}

// checkHeld holds the open holds of a shard against the model's.
func checkHeld(t *testing.T, conn *pgx.Conn, model *naive, shard int) {
	t.Helper()
	want := map[string]int64{}
	for id, p := range model.payments {
		if p.shard == shard && p.holds {
			want[id] = p.held()
		}
	}
	rows, err := conn.Query(t.Context(), "SELECT split_part(id, E'\\x1f', 1), sum(open)::bigint FROM holds WHERE shard = $1 AND open > 0 GROUP BY 1", shard)
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
	rows, err := conn.Query(t.Context(), `SELECT CASE WHEN type IN ('wallet', 'merchant', 'disputed', 'frozen') THEN type || ' ' || split_part(key, ':', 2) WHEN type = 'clearing' THEN 'clearing ' || split_part(split_part(key, ':', 2), '/', 1) ELSE type END, sum(balance)::bigint FROM accounts GROUP BY 1`)
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
