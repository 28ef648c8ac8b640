package ledger

import (
	"math"
	"time"
)

// Book is the working set of one batch: the accounts, holds and transfers loaded and what has been done to them since.
// The zero Book is not ready; use NewBook. It is not safe for concurrent use.
type Book struct {
	accounts map[AccountKey]*Account
	pendings map[ID]*Pending
	known    map[ID]*known
	changed  []*Account // in order of first change
	touched  []*Pending // in order of first change
	posted   []Posted
	steps    []Step

	shard  int32
	clocks map[int32]time.Time
	queues map[int32]*expiries

	undo undo
}

// known is a transfer with an id.
type known struct {
	request  Transfer // as it was asked for
	as       Transfer // as it was posted
	reversed bool
}

// NewBook returns a book without accounts, with room for as many as said.
func NewBook(accounts int) *Book {
	return &Book{
		accounts: make(map[AccountKey]*Account, accounts), pendings: map[ID]*Pending{}, known: map[ID]*known{},
		clocks: map[int32]time.Time{}, queues: map[int32]*expiries{},
	}
}

// Load opens an account in the book as it stands. Loading a key twice replaces it; that must happen before any Apply.
func (b *Book) Load(a Account) {
	a.changed = false
	b.accounts[a.Key] = &a
}

// LoadPending brings a hold into the book as it stands; its accounts must be loaded before it is posted, voided or due.
func (b *Book) LoadPending(p Pending) {
	p.changed = false
	b.pendings[p.ID] = &p
	as := Transfer{Debit: p.Debit, Credit: p.Credit, Amount: p.Amount, Currency: p.Currency, Kind: p.Kind, Action: Hold, ID: p.ID, Expires: p.Expires}
	b.known[p.ID] = &known{request: as, as: as}
	b.await(&p)
}

// LoadTransfer lets the book know a transfer it took before.
func (b *Book) LoadTransfer(k Known) {
	b.known[k.ID] = &known{request: k.Transfer, as: k.Transfer, reversed: k.Reversed}
}

// Account returns an account of the book, nil if it is not loaded.
func (b *Book) Account(key AccountKey) *Account { return b.accounts[key] }

// Funds is what an account can still be debited with, in its minor units: math.MaxInt64 where it may go below its floor. An
// account that the book does not have is as one just opened; of a key that names none it is 0.
func (b *Book) Funds(key AccountKey) int64 {
	a := b.accounts[key]
	if a == nil {
		fresh, ok := NewAccount(key)
		if !ok {
			return 0
		}
		a = &fresh
	}
	if !a.Floored {
		return math.MaxInt64
	}
	return a.Available() - a.Floor
}

// Pending returns a hold as it stands, false if there is none of that id.
func (b *Book) Pending(id ID) (Pending, bool) {
	if p := b.pendings[id]; p != nil {
		return *p, true
	}
	return Pending{}, false
}

// Posted are the transfers posted so far, in order. The caller may fill in where each stands.
func (b *Book) Posted() []Posted { return b.posted }

// Steps are the steps of holds so far, in order. The caller may fill in where each stands.
func (b *Book) Steps() []Step { return b.steps }

// Changed are the accounts that have been posted or held on, each once, in order of their first change.
func (b *Book) Changed() []*Account { return b.changed }

// ChangedPending are the holds that are new or not as they were loaded, each once, in order of their first change.
func (b *Book) ChangedPending() []*Pending { return b.touched }

// Apply posts transfers that stand or fall together, each on what the ones before it left. Any code but OK means that
// nothing changed: it is the code of the first transfer, in order, that the book refuses.
//
// A transfer is checked in this order; the first code that applies is its answer:
//
//	too_many_linked     the group has more than MaxLinked
//	field_unexpected    Keep, Balancing, Expires, Ref or the Amount of a Void where its action has none
//	id_missing          a Hold without ID; a Post, Void or Reverse without Ref
//	amount_not_positive Move and Hold: zero or less; Post and Reverse: less than zero
//	same_account        Move and Hold
//	exists              ID is known and the same was asked for; exists_different: something else was
//	pending_unknown …   Post and Void: the hold is unknown; it is pending_differs from what is given;
//	                    pending_expired, pending_posted, pending_voided: nothing of it is open
//	transfer_unknown …  Reverse: the transfer is unknown; not_reversible; transfer_differs from what is given;
//	                    already_reversed
//	account_unknown     an account is not loaded
//	currency_mismatch   an account has another currency than the transfer
//	unit_mismatch       the accounts count different things
//	expiry_past         a Hold: the shard's clock has reached Expires
//	exceeds_pending     a Post: more than is open; exceeds_transfer, a Reverse: more than was moved
//	balance_overflow    posted and pending of a side would leave 64 bits
//	insufficient_funds  a floor would be crossed, or a balancing transfer finds nothing and may not be left out
//
// What depends on the transfer alone comes first, then what never changes again, then what may be otherwise tomorrow: a
// transfer refused today for its shape is refused for ever. A refused transfer leaves no trace, its id may be used again.
func (b *Book) Apply(linked []Transfer) Code {
	if len(linked) > MaxLinked {
		return TooManyLinked
	}
	posted, steps := len(b.posted), len(b.steps)
	for i := range linked {
		if code := b.one(&linked[i]); code != OK {
			b.posted, b.steps = b.posted[:posted], b.steps[:steps]
			b.undo.back(b)
			return code
		}
	}
	b.note(posted, steps)
	return OK
}

// one takes one transfer. What it changes before a refusal, its group's undo takes back.
func (b *Book) one(t *Transfer) Code {
	if code := t.shape(); code != OK {
		return code
	}
	if t.ID != "" {
		if k := b.known[t.ID]; k != nil {
			if k.request.same(*t) {
				return Exists
			}
			return ExistsDifferent
		}
	}
	switch t.Action {
	case Post, Void:
		return b.end(t)
	case Reverse:
		return b.reverse(t)
	}
	return b.begin(t)
}

// shape is what can be said of a transfer by itself.
func (t *Transfer) shape() Code {
	begins := t.Action == Move || t.Action == Hold
	switch {
	case t.Action >= actions,
		t.Keep && t.Action != Post,
		t.Balancing != 0 && !begins, t.Balancing > BalanceDebit|BalanceCredit|BalanceNone,
		t.Balancing == BalanceNone, t.Balancing&BalanceNone != 0 && t.Action != Move,
		!t.Expires.IsZero() && t.Action != Hold,
		t.Ref != "" && begins,
		t.Amount != 0 && t.Action == Void:
		return FieldUnexpected
	case t.Action == Hold && t.ID == "", t.Ref == "" && !begins:
		return IDMissing
	case t.Amount < 0, t.Amount == 0 && begins:
		return AmountNotPositive
	case begins && t.Debit == t.Credit:
		return SameAccount
	}
	return OK
}

// begin takes a Move or a Hold.
func (b *Book) begin(t *Transfer) Code {
	debit, credit, code := b.pair(t)
	if code != OK {
		return code
	}
	if t.Action == Hold && !t.Expires.IsZero() && !b.clocks[b.shard].Before(t.Expires) {
		return ExpiryPast
	}
	as := *t
	if t.Balancing&BalanceDebit != 0 {
		as.Amount = min(as.Amount, debit.room(DebitSide))
	}
	if t.Balancing&BalanceCredit != 0 {
		as.Amount = min(as.Amount, credit.room(CreditSide))
	}
	switch {
	case as.Amount <= 0 && t.Balancing&BalanceNone != 0:
		return OK
	case as.Amount <= 0:
		return InsufficientFunds
	case debit.DebitsPosted > math.MaxInt64-debit.DebitsPending-as.Amount || credit.CreditsPosted > math.MaxInt64-credit.CreditsPending-as.Amount:
		return BalanceOverflow
	case !debit.covers(DebitSide, as.Amount) || !credit.covers(CreditSide, as.Amount):
		return InsufficientFunds
	}
	if t.Action == Hold {
		b.hold(&as, debit, credit)
	} else {
		b.move(&as, debit, credit)
	}
	b.learn(*t, as)
	return OK
}

// pair finds the accounts of a transfer and holds them against it.
func (b *Book) pair(t *Transfer) (debit, credit *Account, code Code) {
	debit, credit = b.accounts[t.Debit], b.accounts[t.Credit]
	switch {
	case debit == nil || credit == nil:
		code = AccountUnknown
	case debit.Currency != t.Currency || credit.Currency != t.Currency:
		code = CurrencyMismatch
	case debit.Type.Unit != credit.Type.Unit:
		code = UnitMismatch
	}
	return debit, credit, code
}

// move posts an amount that has been found good.
func (b *Book) move(as *Transfer, debit, credit *Account) {
	b.undo.account(debit)
	b.undo.account(credit)
	debit.DebitsPosted += as.Amount
	debit.Version++
	credit.CreditsPosted += as.Amount
	credit.Version++
	b.posted = append(b.posted, Posted{
		Transfer: *as, DebitID: debit.ID, CreditID: credit.ID, DebitVersion: debit.Version, CreditVersion: credit.Version,
		Shard: b.shard, debit: debit, credit: credit,
	})
}

// learn remembers a transfer that has an id.
func (b *Book) learn(request, as Transfer) {
	if as.ID != "" {
		b.known[as.ID] = &known{request: request, as: as}
		b.undo.learnt = append(b.undo.learnt, as.ID)
	}
}

// reverse undoes a posted transfer, at most once.
func (b *Book) reverse(t *Transfer) Code {
	k := b.known[t.Ref]
	switch {
	case k == nil:
		return TransferUnknown
	case k.as.Action != Move && k.as.Action != Post:
		return NotReversible
	case differs(t, k.as.Credit, k.as.Debit, k.as):
		return TransferDiffers
	case k.reversed:
		return AlreadyReversed
	}
	as := *t
	as.Debit, as.Credit, as.Currency = k.as.Credit, k.as.Debit, k.as.Currency
	if as.Amount == 0 {
		as.Amount = k.as.Amount
	}
	debit, credit, code := b.pair(&as)
	switch {
	case code != OK:
		return code
	case as.Amount > k.as.Amount:
		return ExceedsTransfer
	case debit.DebitsPosted > math.MaxInt64-debit.DebitsPending-as.Amount || credit.CreditsPosted > math.MaxInt64-credit.CreditsPending-as.Amount:
		return BalanceOverflow
	case !debit.covers(DebitSide, as.Amount) || !credit.covers(CreditSide, as.Amount):
		return InsufficientFunds
	}
	k.reversed = true
	b.undo.reversed = append(b.undo.reversed, k)
	b.move(&as, debit, credit)
	b.learn(*t, as)
	return OK
}

// differs says whether what is given of a transfer contradicts the one it refers to.
func differs(t *Transfer, debit, credit AccountKey, of Transfer) bool {
	return t.Debit != "" && t.Debit != debit || t.Credit != "" && t.Credit != credit || t.Currency != 0 && t.Currency != of.Currency
}

// note remembers what a group that stands has changed.
func (b *Book) note(posted, steps int) {
	for i := posted; i < len(b.posted); i++ {
		b.noteAccount(b.posted[i].debit)
		b.noteAccount(b.posted[i].credit)
	}
	for i := steps; i < len(b.steps); i++ {
		p := b.pendings[b.steps[i].Pending]
		b.noteAccount(b.accounts[p.Debit])
		b.noteAccount(b.accounts[p.Credit])
		if !p.changed {
			p.changed = true
			b.touched = append(b.touched, p)
		}
	}
	b.undo.forget()
}

func (b *Book) noteAccount(a *Account) {
	if !a.changed {
		a.changed = true
		b.changed = append(b.changed, a)
	}
}

// undo is what it takes to take a group back: states from before it, in order.
type undo struct {
	accounts []savedAccount
	pendings []savedPending
	learnt   []ID
	reversed []*known
}

type savedAccount struct {
	at  *Account
	was Account
}

type savedPending struct {
	at  *Pending
	was Pending
	new bool
}

func (u *undo) account(a *Account) { u.accounts = append(u.accounts, savedAccount{a, *a}) }

func (u *undo) pending(p *Pending, isNew bool) {
	u.pendings = append(u.pendings, savedPending{p, *p, isNew})
}

func (u *undo) back(b *Book) {
	for i := len(u.accounts) - 1; i >= 0; i-- {
		*u.accounts[i].at = u.accounts[i].was
	}
	for i := len(u.pendings) - 1; i >= 0; i-- {
		s := &u.pendings[i]
		*s.at = s.was
		if s.new {
			delete(b.pendings, s.was.ID)
		}
	}
	for _, id := range u.learnt {
		delete(b.known, id)
	}
	for _, k := range u.reversed {
		k.reversed = false
	}
	u.forget()
}

func (u *undo) forget() {
	u.accounts, u.pendings, u.learnt, u.reversed = u.accounts[:0], u.pendings[:0], u.learnt[:0], u.reversed[:0]
}
