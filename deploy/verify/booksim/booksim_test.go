package booksim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/pipelines/ledger"
)

// The short form of `sluice ledger simulate`: no breach, and every code and fate comes up, so nothing is left untried.
func TestSimulation(t *testing.T) {
	t.Parallel()
	const seeds, operations = 6, 20_000
	all := make(chan Figures, seeds)
	t.Run("seeds", func(t *testing.T) {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				figures, err := Run(t.Context(), Open(), seed, operations, nil)
				if err != nil {
					t.Error(err)
				}
				all <- figures
			})
		}
	})
	close(all)
	sum := NewFigures()
	for f := range all {
		sum.Add(f)
	}
	for _, c := range ledger.Codes() {
		if sum.Codes[c] == 0 {
			t.Errorf("no operation was answered %s: %v", c, sum.Codes)
		}
	}
	for f := ledger.Opened; f <= ledger.Expired; f++ {
		if sum.Fates[f] == 0 {
			t.Errorf("no hold was %s", f)
		}
	}
}

// The same seed gives the same operations and the same book.
func TestSeedDecidesAll(t *testing.T) {
	t.Parallel()
	one, other := Open(), Open()
	for _, b := range []*ledger.Book{one, other} {
		if _, err := Run(t.Context(), b, 7, 3000, nil); err != nil {
			t.Fatal(err)
		}
	}
	if ledger.Chain(ledger.Hash{}, one.Posted(), one.Steps()...) != ledger.Chain(ledger.Hash{}, other.Posted(), other.Steps()...) {
		t.Error("one seed made two books")
	}
}

// drawn makes rapid decide what is random, so that it finds the shortest way to a breach.
type drawn struct{ t *rapid.T }

// Uint64 is rand.Source.
func (d drawn) Uint64() uint64 { return rapid.Uint64().Draw(d.t, "n") }

// The book answers as the naive model does, whatever is drawn.
func TestBookEqualsNaiveModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulation(Open(), 0)
		s.random.rng = rand.New(drawn{t})
		for range rapid.IntRange(1, 60).Draw(t, "operations") {
			if linked, what := s.step(); what != "" {
				t.Fatalf("%s; sent %+v", what, linked)
			}
		}
		if what := s.journal.again(s.machine); what != "" {
			t.Fatal(what)
		}
	})
}

// broken is a book with a fault put in.
type broken struct {
	*ledger.Book
	apply   func(b *ledger.Book, linked []ledger.Transfer) ledger.Code
	advance func(b *ledger.Book, shard int32, at time.Time)
	posted  func([]ledger.Posted) []ledger.Posted
}

func (b *broken) Apply(linked []ledger.Transfer) ledger.Code {
	if b.apply == nil {
		return b.Book.Apply(linked)
	}
	return b.apply(b.Book, linked)
}

func (b *broken) Advance(shard int32, at time.Time) {
	if b.advance == nil {
		b.Book.Advance(shard, at)
		return
	}
	b.advance(b.Book, shard, at)
}

func (b *broken) Posted() []ledger.Posted {
	if b.posted == nil {
		return b.Book.Posted()
	}
	return b.posted(b.Book.Posted())
}

// A simulation that finds nothing in a broken book proves nothing: each of these must be caught.
func TestBrokenBooksAreCaught(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for name, fault := range map[string]broken{
		"floors forget what is pending": {apply: func(b *ledger.Book, linked []ledger.Transfer) ledger.Code {
			held := map[ledger.AccountKey]int64{}
			for key := range universe {
				held[key], b.Account(key).DebitsPending = b.Account(key).DebitsPending, 0
			}
			opened := func() (n map[ledger.AccountKey]int64) {
				n = map[ledger.AccountKey]int64{}
				for key := range universe {
					n[key] = b.Account(key).DebitsPending
				}
				return n
			}
			code := b.Apply(linked)
			for key, n := range opened() {
				b.Account(key).DebitsPending = held[key] + n
			}
			return code
		}},
		"a transfer sent twice counts twice": {apply: func(b *ledger.Book, linked []ledger.Transfer) ledger.Code {
			code := b.Apply(linked)
			if code == ledger.Exists && len(linked) == 1 && linked[0].Action == ledger.Move {
				again := linked[0]
				again.ID = ""
				return b.Apply([]ledger.Transfer{again})
			}
			return code
		}},
		"a linked group stays half done": {apply: func(b *ledger.Book, linked []ledger.Transfer) ledger.Code {
			if len(linked) > ledger.MaxLinked {
				return ledger.TooManyLinked
			}
			for i := range linked {
				if code := b.Apply(linked[i : i+1]); code != ledger.OK {
					return code
				}
			}
			return ledger.OK
		}},
		"a partial post keeps the rest": {apply: func(b *ledger.Book, linked []ledger.Transfer) ledger.Code {
			var kept []ledger.Transfer
			for _, t := range linked {
				t.Keep = t.Keep || t.Action == ledger.Post
				kept = append(kept, t)
			}
			return b.Apply(kept)
		}},
		"a void forgets the credit account": {apply: func(b *ledger.Book, linked []ledger.Transfer) ledger.Code {
			steps := len(b.Steps())
			code := b.Apply(linked)
			for _, s := range b.Steps()[steps:] {
				if p, _ := b.Pending(s.Pending); s.Fate == ledger.Voided {
					b.Account(p.Credit).CreditsPending += s.Amount
				}
			}
			return code
		}},
		"a hold expires a second late": {advance: func(b *ledger.Book, shard int32, at time.Time) {
			if at.After(start) {
				at = at.Add(-time.Second)
			}
			b.Advance(shard, at)
		}},
		"holds never expire": {advance: func(b *ledger.Book, shard int32, _ time.Time) {
			b.Advance(shard, start)
		}},
		"a reversal may take too much": {apply: func(b *ledger.Book, linked []ledger.Transfer) ledger.Code {
			code := b.Apply(linked)
			if code == ledger.ExceedsTransfer && len(linked) == 1 {
				for _, p := range b.Posted() {
					if p.Transfer.ID == linked[0].Ref {
						return b.Apply([]ledger.Transfer{{Debit: p.Credit, Credit: p.Debit, Amount: linked[0].Amount, Currency: p.Currency, ID: linked[0].ID}})
					}
				}
			}
			return code
		}},
		"a transfer may be reversed again": {apply: func(b *ledger.Book, linked []ledger.Transfer) ledger.Code {
			code := b.Apply(linked)
			if code == ledger.AlreadyReversed && len(linked) == 1 {
				for _, p := range b.Posted() {
					if p.Transfer.ID == linked[0].Ref {
						return b.Apply([]ledger.Transfer{{Debit: p.Credit, Credit: p.Debit, Amount: 1, Currency: p.Currency, ID: linked[0].ID}})
					}
				}
			}
			return code
		}},
		"a minor unit is lost on the way": {apply: func(b *ledger.Book, linked []ledger.Transfer) ledger.Code {
			code := b.Apply(linked)
			if posted := b.Posted(); code == ledger.OK && len(posted) > 300 {
				b.Account(posted[len(posted)-1].Credit).CreditsPosted--
			}
			return code
		}},
		"a version is left out": {apply: func(b *ledger.Book, linked []ledger.Transfer) ledger.Code {
			posted := len(b.Posted())
			code := b.Apply(linked)
			if len(b.Posted()) > posted+1 {
				b.Account(b.Posted()[posted].Debit).Version++
			}
			return code
		}},
		"a transfer is missing from the journal": {posted: func(all []ledger.Posted) []ledger.Posted {
			if len(all) > 500 {
				return append(append([]ledger.Posted(nil), all[:400]...), all[401:]...)
			}
			return all
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fault.Book = Open()
			_, err := Run(t.Context(), &fault, 1, 20_000, nil)
			var breach *Breach
			if !errors.As(err, &breach) {
				t.Fatalf("the simulation did not notice: %v", err)
			}
			t.Logf("operation %d: %s", breach.Operation, breach.What)
		})
	}
}

// BenchmarkSimulation is the cost of an operation and all that is checked after it.
func BenchmarkSimulation(b *testing.B) {
	if _, err := Run(b.Context(), Open(), 1, int64(b.N), nil); err != nil {
		b.Fatal(err)
	}
}
