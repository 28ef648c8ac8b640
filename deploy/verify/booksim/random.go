package booksim

import (
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"sluice/pipelines/ledger"
	"sluice/schemas/events"
)

// memory bounds how many of the latest holds and transfers later operations draw from.
const memory = 20

// random makes operations: most of them sensible, some of them not.
type random struct {
	rng    *rand.Rand
	next   int
	now    [2]time.Time
	holds  []ledger.Transfer
	moves  []ledger.Transfer
	recent []ledger.Transfer // everything, to be sent again
}

func newRandom(seed uint64) *random {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	return &random{rng: rand.New(rand.NewPCG(seed, 0x5105)), now: [2]time.Time{start, start}}
}

// once in n.
func (r *random) once(n int) bool { return r.rng.IntN(n) == 0 }

func pick[T any](r *random, all []T) T { return all[r.rng.IntN(len(all))] }

// time moves a shard's clock, now and then backwards.
func (r *random) time() (shard int32, at time.Time) {
	shard = int32(r.rng.IntN(2))
	at = r.now[shard].Add(time.Duration(r.rng.IntN(8)) * time.Second)
	if r.once(20) {
		return shard, at.Add(-time.Minute)
	}
	r.now[shard] = at
	return shard, at
}

// operation makes a group of transfers.
func (r *random) operation(shard int32) []ledger.Transfer {
	n := 1
	if r.once(5) {
		n = 2 + r.rng.IntN(3)
	}
	if r.once(5000) {
		n = ledger.MaxLinked + 1
	}
	linked := make([]ledger.Transfer, n)
	for i := range linked {
		linked[i] = r.transfer(shard)
	}
	return linked
}

// remember keeps a group to refer to: what the book took, and now and then what it refused.
func (r *random) remember(linked []ledger.Transfer, code ledger.Code) {
	if code != ledger.OK && !r.once(20) {
		return
	}
	for _, t := range linked[:min(len(linked), memory)] {
		keep(&r.recent, t)
		switch {
		case t.Action == ledger.Hold:
			keep(&r.holds, t)
		case t.ID != "":
			keep(&r.moves, t)
		}
	}
}

// keep makes t the newest of all, at the cost of the oldest.
func keep(all *[]ledger.Transfer, t ledger.Transfer) {
	if len(*all) == memory {
		*all = append((*all)[:0], (*all)[1:]...)
	}
	*all = append(*all, t)
}

func (r *random) id() ledger.ID {
	r.next++
	return ledger.ID("t" + strconv.Itoa(r.next))
}

func (r *random) transfer(shard int32) ledger.Transfer {
	if len(r.recent) > 0 && r.once(25) {
		t := pick(r, r.recent) // again, or with its id on something else
		if r.once(3) {
			t.Amount++
		}
		return t
	}
	var t ledger.Transfer
	switch n := r.rng.IntN(100); {
	case n < 45 || len(r.moves) == 0:
		t = r.begin(ledger.Move, shard)
		if r.once(3) {
			t.ID = ""
		}
	case n < 68 || len(r.holds) == 0:
		t = r.begin(ledger.Hold, shard)
	case n < 84:
		t = r.about(ledger.Post, pick(r, r.holds))
		t.Keep = r.once(3)
	case n < 91:
		t = r.about(ledger.Void, pick(r, r.holds))
		t.Amount = 0
	default:
		t = r.about(ledger.Reverse, pick(r, r.moves))
	}
	if r.once(100) {
		r.spoil(&t)
	}
	return t
}

// begin makes a Move or Hold, most often between accounts that fit.
func (r *random) begin(a ledger.Action, shard int32) ledger.Transfer {
	t := ledger.Transfer{Action: a, ID: r.id(), Kind: "simulated", Amount: 1 + r.rng.Int64N(400)}
	all := pick(r, groups)
	if r.once(2) {
		all = groups[0]
	}
	t.Debit, t.Credit = pick(r, all), pick(r, all)
	for t.Debit == t.Credit && !r.once(20) {
		t.Credit = pick(r, all)
	}
	if r.once(40) {
		t.Credit = pick(r, keys)
	}
	t.Currency = universe[t.Debit].currency
	if r.once(60) {
		t.Currency = pick(r, []events.Currency{cny, jpy})
	}
	if r.once(8) {
		t.Balancing = ledger.Balancing(1 + r.rng.IntN(7))
	}
	if a == ledger.Hold && !r.once(30) {
		t.Expires = r.now[shard].Add(time.Duration(r.rng.IntN(240)-2) * time.Second)
	}
	switch {
	case r.once(60):
		t.Amount = int64(r.rng.IntN(2)) - 1
	case r.once(60): // on accounts that nothing else fills to the brim
		t.Debit, t.Credit, t.Currency, t.Amount = "fx/0:CNY", "fx/1:CNY", cny, math.MaxInt64-r.rng.Int64N(1000)
	case r.once(60) && universe[t.Debit].floor != nil && universe[t.Debit].grows == ledger.CreditSide:
		t.Amount = math.MaxInt64 - r.rng.Int64N(1000)
	}
	return t
}

// about makes a transfer about another.
func (r *random) about(a ledger.Action, of ledger.Transfer) ledger.Transfer {
	t := ledger.Transfer{Action: a, ID: r.id(), Ref: of.ID, Kind: "simulated"}
	switch r.rng.IntN(3) {
	case 0: // all of it
	case 1:
		t.Amount = 1 + r.rng.Int64N(max(of.Amount, 1))
	case 2:
		t.Amount = 1 + r.rng.Int64N(400)
	}
	if r.once(4) {
		t.Debit, t.Credit, t.Currency = of.Debit, of.Credit, of.Currency
		if a == ledger.Reverse {
			t.Debit, t.Credit = t.Credit, t.Debit
		}
	}
	if r.once(4) {
		t.ID = ""
	}
	if r.once(50) {
		t.Ref = r.id()
	}
	return t
}

// spoil makes a mistake.
func (r *random) spoil(t *ledger.Transfer) {
	switch r.rng.IntN(8) {
	case 0:
		t.Keep = !t.Keep
	case 1:
		t.Ref = ""
	case 2:
		t.Ref = "t1"
	case 3:
		t.Amount = -5
	case 4:
		t.Expires = r.now[0].Add(time.Hour)
	case 5:
		t.Credit = pick(r, keys)
	case 6:
		t.ID = ""
	case 7:
		t.Action = ledger.Action(r.rng.IntN(7))
	}
}
