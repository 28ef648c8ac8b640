package booksim

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"sluice/pipelines/ledger"
	"sluice/schemas/events"
)

// Machine is the book under test.
type Machine interface {
	Advance(shard int32, at time.Time)
	Apply(linked []ledger.Transfer) ledger.Code
	Account(key ledger.AccountKey) *ledger.Account
	Pending(id ledger.ID) (ledger.Pending, bool)
	Posted() []ledger.Posted
	Steps() []ledger.Step
}

// Figures say what a simulation has seen.
type Figures struct {
	Operations int64                 // groups of transfers sent
	Transfers  int64                 // posted
	Holds      int64                 // opened
	Expired    int64                 // holds that ran out
	Codes      map[ledger.Code]int64 // answers
	Fates      map[ledger.Fate]int64 // steps of holds
}

// NewFigures returns figures of nothing.
func NewFigures() Figures {
	return Figures{Codes: map[ledger.Code]int64{}, Fates: map[ledger.Fate]int64{}}
}

// Add counts another simulation's figures in.
func (f *Figures) Add(o Figures) {
	f.Operations += o.Operations
	f.Transfers += o.Transfers
	f.Holds += o.Holds
	f.Expired += o.Expired
	for c, n := range o.Codes {
		f.Codes[c] += n
	}
	for c, n := range o.Fates {
		f.Fates[c] += n
	}
}

// Breach is an operation after which the book is not as it must be. The same seed brings it about again.
type Breach struct {
	Seed      uint64
	Operation int64 // from 1
	Sent      []ledger.Transfer
	What      string
}

// Error says it in a line.
func (b *Breach) Error() string {
	return fmt.Sprintf("seed %d, operation %d: %s; sent %+v", b.Seed, b.Operation, b.What, b.Sent)
}

// progressEvery is after how many operations progress is told.
const progressEvery = 10_000

// Run sends operations made from a seed to an empty machine with the accounts of Open. The error is a *Breach, or that
// of ctx. progress is told how many operations have been done since it was told last; it may be nil.
func Run(ctx context.Context, m Machine, seed uint64, operations int64, progress func(int64)) (Figures, error) {
	s := newSimulation(m, seed)
	for n := int64(1); n <= operations; n++ {
		if n%progressEvery == 0 {
			if ctx.Err() != nil {
				return s.figures, ctx.Err()
			}
			if progress != nil {
				progress(progressEvery)
			}
		}
		linked, what := s.step()
		if what == "" && n == operations {
			what = s.journal.again(m)
		}
		if what != "" {
			return s.figures, &Breach{seed, n, linked, what}
		}
	}
	if progress != nil {
		progress(operations % progressEvery)
	}
	return s.figures, nil
}

type simulation struct {
	machine Machine
	model   *model
	random  *random
	journal *journal
	figures Figures
}

func newSimulation(m Machine, seed uint64) *simulation {
	return &simulation{machine: m, model: newModel(), random: newRandom(seed), figures: NewFigures(), journal: newJournal()}
}

// step does one operation and says what is wrong after it, "" if nothing is.
func (s *simulation) step() (linked []ledger.Transfer, what string) {
	shard, at := s.random.time()
	linked = s.random.operation(shard)
	s.machine.Advance(shard, at)
	s.model.advance(shard, at)
	if what = s.journal.read(s.machine, &s.figures); what != "" {
		return linked, "time passed: " + what
	}
	posted, steps := len(s.machine.Posted()), len(s.machine.Steps())
	got, want := s.machine.Apply(linked), s.model.apply(linked)
	s.figures.Operations++
	s.figures.Codes[got]++
	s.random.remember(linked, got)
	switch {
	case got != want:
		return linked, fmt.Sprintf("the answer is %s, the model says %s", got, want)
	case got != ledger.OK && (len(s.machine.Posted()) != posted || len(s.machine.Steps()) != steps):
		return linked, fmt.Sprintf("the answer is %s, but something was written", got)
	}
	if what = s.journal.read(s.machine, &s.figures); what != "" {
		return linked, what
	}
	return linked, s.accounts()
}

// accounts holds every account against the model, against its own transfers and against its floor.
func (s *simulation) accounts() string {
	for i, key := range keys[:len(keys)-1] {
		a, want, seen := s.machine.Account(key), s.model.accounts[key], &s.journal.accounts[i]
		got := sums{a.DebitsPosted, a.CreditsPosted, a.DebitsPending, a.CreditsPending}
		switch {
		case got != seen.sums:
			return fmt.Sprintf("%s has %+v, its transfers and holds make %+v", key, got, seen.sums)
		case got != want:
			return fmt.Sprintf("%s has %+v, the model says %+v", key, got, want)
		case a.Version != seen.version:
			return fmt.Sprintf("%s is at version %d, its last transfer at %d", key, a.Version, seen.version)
		}
		if f := universe[key]; f.floor != nil {
			left := a.CreditsPosted - a.DebitsPosted - a.DebitsPending
			if f.grows == ledger.DebitSide {
				left = a.DebitsPosted - a.CreditsPosted - a.CreditsPending
			}
			if left < *f.floor {
				return fmt.Sprintf("%s has %d with what is pending, its floor is %d", key, left, *f.floor)
			}
		}
	}
	return s.balanced()
}

// balanced says where debits and credits, posted or pending, differ.
func (s *simulation) balanced() string {
	var total [2][2]uint64 // by currency, posted and pending; the sum of differences is zero in any modulus
	for _, key := range keys[:len(keys)-1] {
		a, c := s.machine.Account(key), 0
		if a.Currency == jpy {
			c = 1
		}
		total[c][0] += uint64(a.DebitsPosted) - uint64(a.CreditsPosted)
		total[c][1] += uint64(a.DebitsPending) - uint64(a.CreditsPending)
	}
	for c, currency := range []events.Currency{cny, jpy} {
		if total[c] != [2]uint64{} {
			return fmt.Sprintf("%s: debits and credits differ by %d, pending ones by %d", currency, int64(total[c][0]), int64(total[c][1]))
		}
	}
	return ""
}

// journal adds up what the machine says it has done.
type journal struct {
	index    map[ledger.AccountKey]int
	accounts []tally
	holds    map[ledger.ID]*ledger.Pending
	ids      map[ledger.ID]int64 // amounts by id
	undone   map[ledger.ID]int64 // reversed by id
	posted   int
	steps    int
}

type tally struct {
	sums
	version int64
}

func newJournal() *journal {
	j := &journal{index: map[ledger.AccountKey]int{}, accounts: make([]tally, len(keys)), holds: map[ledger.ID]*ledger.Pending{},
		ids: map[ledger.ID]int64{}, undone: map[ledger.ID]int64{}}
	for i, key := range keys {
		j.index[key] = i
	}
	return j
}

// read takes in what is new and says what is wrong with it.
func (j *journal) read(m Machine, f *Figures) string {
	for posted := m.Posted(); j.posted < len(posted); j.posted++ {
		f.Transfers++
		if what := j.transfer(&posted[j.posted]); what != "" {
			return what
		}
	}
	for steps := m.Steps(); j.steps < len(steps); j.steps++ {
		s := &steps[j.steps]
		f.Fates[s.Fate]++
		switch s.Fate {
		case ledger.Opened:
			f.Holds++
		case ledger.Expired:
			f.Expired++
		}
		if what := j.step(s, m); what != "" {
			return what
		}
	}
	return ""
}

func (j *journal) transfer(p *ledger.Posted) string {
	d, c := &j.accounts[j.index[p.Debit]], &j.accounts[j.index[p.Credit]]
	d.debits += p.Amount
	d.version++
	c.credits += p.Amount
	c.version++
	switch {
	case p.Amount <= 0:
		return fmt.Sprintf("transfer %s moves %d", p.Transfer.ID, p.Amount)
	case p.DebitVersion != d.version || p.CreditVersion != c.version:
		return fmt.Sprintf("transfer %s has versions %d and %d, the accounts are at %d and %d", p.Transfer.ID, p.DebitVersion, p.CreditVersion, d.version, c.version)
	}
	if p.Transfer.ID != "" {
		if _, twice := j.ids[p.Transfer.ID]; twice {
			return fmt.Sprintf("transfer %s has its effect twice", p.Transfer.ID)
		}
		j.ids[p.Transfer.ID] = p.Amount
	}
	if p.Action == ledger.Reverse {
		j.undone[p.Ref] += p.Amount
		if j.undone[p.Ref] > j.ids[p.Ref] {
			return fmt.Sprintf("of transfer %s, which moved %d, %d were given back", p.Ref, j.ids[p.Ref], j.undone[p.Ref])
		}
	}
	return ""
}

func (j *journal) step(s *ledger.Step, m Machine) string {
	h := j.holds[s.Pending]
	if s.Fate == ledger.Opened {
		if h != nil {
			return fmt.Sprintf("hold %s is opened twice", s.Pending)
		}
		p, _ := m.Pending(s.Pending)
		h = &ledger.Pending{ID: s.Pending, Amount: s.Amount, Debit: p.Debit, Credit: p.Credit}
		j.holds[s.Pending] = h
		j.hold(h, s.Amount)
	}
	switch s.Fate {
	case ledger.PostedPart:
		h.Posted += s.Amount
	case ledger.Voided:
		h.Voided += s.Amount
	case ledger.Expired:
		h.Expired += s.Amount
	}
	if s.Fate != ledger.Opened {
		j.hold(h, -s.Amount)
	}
	// Several steps may be new: the machine's hold is where the last of them left it.
	p, ok := m.Pending(s.Pending)
	switch {
	case !ok:
		return fmt.Sprintf("hold %s has a step, but is not there", s.Pending)
	case s.Amount <= 0 || h.Open() < 0 || s.Open != h.Open():
		return fmt.Sprintf("hold %s of %d: %s %d leaves %d open, the step says %d", s.Pending, h.Amount, s.Fate, s.Amount, h.Open(), s.Open)
	case p.Posted < h.Posted || p.Voided < h.Voided || p.Expired < h.Expired || p.Amount != p.Posted+p.Voided+p.Expired+p.Open() || p.Open() < 0:
		return fmt.Sprintf("hold %s is %+v, its steps make %+v", s.Pending, p, *h)
	}
	return ""
}

func (j *journal) hold(h *ledger.Pending, amount int64) {
	j.accounts[j.index[h.Debit]].debitsHeld += amount
	j.accounts[j.index[h.Credit]].creditsHeld += amount
}

// again sums the whole journal from nothing and holds it against every balance and hold.
func (j *journal) again(m Machine) string {
	sums := map[ledger.AccountKey]*big.Int{}
	for _, key := range keys {
		sums[key] = new(big.Int)
	}
	for _, p := range m.Posted() {
		sums[p.Debit].Add(sums[p.Debit], big.NewInt(p.Amount))
		sums[p.Credit].Sub(sums[p.Credit], big.NewInt(p.Amount))
	}
	for _, key := range keys[:len(keys)-1] {
		a := m.Account(key)
		got := big.NewInt(a.DebitsPosted)
		if got.Sub(got, big.NewInt(a.CreditsPosted)).Cmp(sums[key]) != 0 {
			return fmt.Sprintf("%s has debits less credits of %s, its transfers make %s", key, got, sums[key])
		}
	}
	for id, h := range j.holds {
		p, _ := m.Pending(id)
		if p.Amount != h.Amount || p.Posted != h.Posted || p.Voided != h.Voided || p.Expired != h.Expired {
			return fmt.Sprintf("hold %s is %+v, its steps make %+v", id, p, *h)
		}
	}
	return ""
}
