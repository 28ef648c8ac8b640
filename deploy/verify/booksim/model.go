// Package booksim proves the book as a state machine: it sends it random operations from a seed, predicts each answer by
// a naive model, and holds the whole book against itself after every one. It keeps nothing and needs no engine.
package booksim

import (
	"math"
	"math/big"
	"time"

	"sluice/pipelines/ledger"
)

// model is the book as anyone would write it first: sums in a map, every rule a line. It knows no batches and no queue
// of expiries, and shares no code with pipelines/ledger but the types that questions and answers are made of.
type model struct {
	accounts map[ledger.AccountKey]sums
	holds    map[ledger.ID]hold
	taken    map[ledger.ID]taken
	open     map[ledger.ID]hold // those holds that still hold something
	shard    int32
	clock    map[int32]time.Time
}

// sums are what an account has seen.
type sums struct{ debits, credits, debitsHeld, creditsHeld int64 }

// hold is an amount that waits.
type hold struct {
	asked                         ledger.Transfer
	shard                         int32
	amount, posted, back, expired int64
}

func (h hold) left() int64 { return h.amount - h.posted - h.back - h.expired }

// taken is a transfer that had its effect.
type taken struct {
	asked         ledger.Transfer
	debit, credit ledger.AccountKey
	amount        int64
	undone        bool
}

func newModel() *model {
	m := &model{accounts: map[ledger.AccountKey]sums{}, holds: map[ledger.ID]hold{}, taken: map[ledger.ID]taken{},
		open: map[ledger.ID]hold{}, clock: map[int32]time.Time{}}
	for key := range universe {
		m.accounts[key] = sums{}
	}
	return m
}

// advance moves a shard's clock and lets go of what has waited too long.
func (m *model) advance(shard int32, at time.Time) {
	m.shard = shard
	if !at.After(m.clock[shard]) {
		return
	}
	m.clock[shard] = at
	for id, h := range m.open {
		if h.shard == shard && !h.asked.Expires.IsZero() && !at.Before(h.asked.Expires) {
			m.hold(h.asked.Debit, h.asked.Credit, -h.left())
			h.expired += h.left()
			m.put(id, h)
		}
	}
}

// apply answers as the book must. A group of several is tried on the model itself, which is put back if one fails.
func (m *model) apply(linked []ledger.Transfer) ledger.Code {
	if len(linked) > ledger.MaxLinked {
		return ledger.TooManyLinked
	}
	putBack := func() {}
	if len(linked) > 1 {
		putBack = m.picture(linked)
	}
	for _, t := range linked {
		if code := m.one(t); code != ledger.OK {
			putBack()
			return code
		}
	}
	return ledger.OK
}

// picture returns what puts everything back that a group can change.
func (m *model) picture(linked []ledger.Transfer) func() {
	accounts := make(map[ledger.AccountKey]sums, len(m.accounts))
	for key, s := range m.accounts {
		accounts[key] = s
	}
	holds, all, ids := map[ledger.ID]hold{}, map[ledger.ID]taken{}, map[ledger.ID]bool{}
	for _, t := range linked {
		for _, id := range []ledger.ID{t.ID, t.Ref} {
			if h, ok := m.holds[id]; ok {
				holds[id] = h
			}
			if k, ok := m.taken[id]; ok {
				all[id] = k
			}
			ids[id] = true
		}
	}
	return func() {
		m.accounts = accounts
		for id := range ids {
			delete(m.holds, id)
			delete(m.taken, id)
			delete(m.open, id)
			if h, ok := holds[id]; ok {
				m.put(id, h)
			}
			if k, ok := all[id]; ok {
				m.taken[id] = k
			}
		}
	}
}

func (m *model) one(t ledger.Transfer) ledger.Code {
	switch t.Action {
	case ledger.Move, ledger.Hold:
		return m.begin(t)
	case ledger.Post:
		return m.post(t)
	case ledger.Void:
		return m.void(t)
	case ledger.Reverse:
		return m.reverse(t)
	}
	return ledger.FieldUnexpected
}

// before answers by the id alone, ok if it is free.
func (m *model) before(t ledger.Transfer) ledger.Code {
	k, ok := m.taken[t.ID]
	switch {
	case t.ID == "" || !ok:
		return ledger.OK
	case k.asked == t:
		return ledger.Exists
	}
	return ledger.ExistsDifferent
}

func (m *model) begin(t ledger.Transfer) ledger.Code {
	switch {
	case t.Keep || t.Ref != "" || t.Balancing > 7 || t.Balancing == 4 || t.Balancing > 4 && t.Action == ledger.Hold || t.Action == ledger.Move && t.Expires != (time.Time{}):
		return ledger.FieldUnexpected
	case t.Action == ledger.Hold && t.ID == "":
		return ledger.IDMissing
	case t.Amount <= 0:
		return ledger.AmountNotPositive
	case t.Debit == t.Credit:
		return ledger.SameAccount
	}
	if code := m.before(t); code != ledger.OK {
		return code
	}
	if code := m.accountsOf(t.Debit, t.Credit, t); code != ledger.OK {
		return code
	}
	if t.Action == ledger.Hold && t.Expires != (time.Time{}) && !m.clock[m.shard].Before(t.Expires) {
		return ledger.ExpiryPast
	}
	amount := t.Amount
	if t.Balancing&ledger.BalanceDebit != 0 {
		amount = atMost(amount, m.spare(t.Debit, ledger.DebitSide))
	}
	if t.Balancing&ledger.BalanceCredit != 0 {
		amount = atMost(amount, m.spare(t.Credit, ledger.CreditSide))
	}
	if amount <= 0 && t.Balancing > 4 {
		return ledger.OK
	}
	if amount <= 0 {
		return ledger.InsufficientFunds
	}
	if code := m.fits(t.Debit, t.Credit, amount); code != ledger.OK {
		return code
	}
	if t.Action == ledger.Hold {
		m.hold(t.Debit, t.Credit, amount)
		m.put(t.ID, hold{asked: t, shard: m.shard, amount: amount})
	} else {
		m.move(t.Debit, t.Credit, amount)
	}
	m.take(t, t.Debit, t.Credit, amount)
	return ledger.OK
}

func (m *model) take(t ledger.Transfer, debit, credit ledger.AccountKey, amount int64) {
	if t.ID != "" {
		m.taken[t.ID] = taken{t, debit, credit, amount, false}
	}
}

func (m *model) move(debit, credit ledger.AccountKey, amount int64) {
	d, c := m.accounts[debit], m.accounts[credit]
	d.debits += amount
	c.credits += amount
	m.accounts[debit], m.accounts[credit] = d, c
}

func (m *model) hold(debit, credit ledger.AccountKey, amount int64) {
	d, c := m.accounts[debit], m.accounts[credit]
	d.debitsHeld += amount
	c.creditsHeld += amount
	m.accounts[debit], m.accounts[credit] = d, c
}

// accountsOf finds fault with a transfer's accounts.
func (m *model) accountsOf(debit, credit ledger.AccountKey, t ledger.Transfer) ledger.Code {
	d, knownDebit := universe[debit]
	c, knownCredit := universe[credit]
	switch {
	case !knownDebit || !knownCredit:
		return ledger.AccountUnknown
	case d.currency != t.Currency || c.currency != t.Currency:
		return ledger.CurrencyMismatch
	case d.counts != c.counts:
		return ledger.UnitMismatch
	}
	return ledger.OK
}

// spare is how much of a side can be used until what the account is worth, pending counted, comes down to its floor.
func (m *model) spare(key ledger.AccountKey, side ledger.Side) *big.Int {
	s := m.accounts[key]
	worth := sum(s.credits, -s.debits, -s.debitsHeld)
	if side == ledger.CreditSide {
		worth = sum(s.debits, -s.credits, -s.creditsHeld)
	}
	if f := universe[key]; f.floor != nil && f.grows != side {
		worth.Sub(worth, big.NewInt(*f.floor))
	}
	return worth
}

// fits finds fault with an amount: too large for the sums, or more than is there.
func (m *model) fits(debit, credit ledger.AccountKey, amount int64) ledger.Code {
	d, c := m.accounts[debit], m.accounts[credit]
	limit := big.NewInt(math.MaxInt64)
	if sum(d.debits, d.debitsHeld, amount).Cmp(limit) > 0 || sum(c.credits, c.creditsHeld, amount).Cmp(limit) > 0 {
		return ledger.BalanceOverflow
	}
	for _, s := range []struct {
		key  ledger.AccountKey
		side ledger.Side
	}{{debit, ledger.DebitSide}, {credit, ledger.CreditSide}} {
		f := universe[s.key]
		if f.floor != nil && f.grows != s.side && m.spare(s.key, s.side).Cmp(big.NewInt(amount)) < 0 {
			return ledger.InsufficientFunds
		}
	}
	return ledger.OK
}

func sum(all ...int64) *big.Int {
	total := new(big.Int)
	for _, n := range all {
		total.Add(total, big.NewInt(n))
	}
	return total
}

func atMost(amount int64, limit *big.Int) int64 {
	if limit.Cmp(big.NewInt(amount)) < 0 {
		return limit.Int64()
	}
	return amount
}

// refers finds fault with a Post, Void or Reverse before what it refers to is looked at.
func (m *model) refers(t ledger.Transfer) ledger.Code {
	switch {
	case t.Balancing != 0 || t.Expires != (time.Time{}) || t.Keep && t.Action != ledger.Post || t.Action == ledger.Void && t.Amount != 0:
		return ledger.FieldUnexpected
	case t.Ref == "":
		return ledger.IDMissing
	case t.Amount < 0:
		return ledger.AmountNotPositive
	}
	return m.before(t)
}

// held finds the hold of a Post or Void, if it still holds something.
func (m *model) held(t ledger.Transfer) (hold, ledger.Code) {
	h, ok := m.holds[t.Ref]
	switch {
	case !ok:
		return h, ledger.PendingUnknown
	case t.Debit != "" && t.Debit != h.asked.Debit || t.Credit != "" && t.Credit != h.asked.Credit || t.Currency != 0 && t.Currency != h.asked.Currency:
		return h, ledger.PendingDiffers
	case h.left() > 0:
		return h, ledger.OK
	case h.expired > 0:
		return h, ledger.PendingExpired
	case h.posted > 0:
		return h, ledger.PendingPosted
	}
	return h, ledger.PendingVoided
}

func (m *model) post(t ledger.Transfer) ledger.Code {
	if code := m.refers(t); code != ledger.OK {
		return code
	}
	h, code := m.held(t)
	if code != ledger.OK {
		return code
	}
	amount := t.Amount
	if amount == 0 {
		amount = h.left()
	}
	if amount > h.left() {
		return ledger.ExceedsPending
	}
	m.hold(h.asked.Debit, h.asked.Credit, -amount)
	m.move(h.asked.Debit, h.asked.Credit, amount)
	h.posted += amount
	if !t.Keep {
		m.hold(h.asked.Debit, h.asked.Credit, -h.left())
		h.back += h.left()
	}
	m.put(t.Ref, h)
	m.take(t, h.asked.Debit, h.asked.Credit, amount)
	return ledger.OK
}

func (m *model) put(id ledger.ID, h hold) {
	m.holds[id], m.open[id] = h, h
	if h.left() == 0 {
		delete(m.open, id)
	}
}

func (m *model) void(t ledger.Transfer) ledger.Code {
	if code := m.refers(t); code != ledger.OK {
		return code
	}
	h, code := m.held(t)
	if code != ledger.OK {
		return code
	}
	amount := h.left()
	m.hold(h.asked.Debit, h.asked.Credit, -amount)
	h.back += amount
	m.put(t.Ref, h)
	m.take(t, h.asked.Debit, h.asked.Credit, amount)
	return ledger.OK
}

func (m *model) reverse(t ledger.Transfer) ledger.Code {
	if code := m.refers(t); code != ledger.OK {
		return code
	}
	k, ok := m.taken[t.Ref]
	if !ok {
		return ledger.TransferUnknown
	}
	currency := universe[k.debit].currency
	switch {
	case k.asked.Action != ledger.Move && k.asked.Action != ledger.Post:
		return ledger.NotReversible
	case t.Debit != "" && t.Debit != k.credit || t.Credit != "" && t.Credit != k.debit || t.Currency != 0 && t.Currency != currency:
		return ledger.TransferDiffers
	case k.undone:
		return ledger.AlreadyReversed
	}
	amount := t.Amount
	if amount == 0 {
		amount = k.amount
	}
	if amount > k.amount {
		return ledger.ExceedsTransfer
	}
	if code := m.fits(k.credit, k.debit, amount); code != ledger.OK {
		return code
	}
	m.move(k.credit, k.debit, amount)
	k.undone = true
	m.taken[t.Ref] = k
	m.take(t, k.credit, k.debit, amount)
	return ledger.OK
}
