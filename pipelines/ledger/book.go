package ledger

import (
	"math"

	"sluice/schemas/events"
)

// MaxLinked bounds the transfers that stand or fall together: the longest chain today has four.
const MaxLinked = 64

// Transfer moves an amount from one account to another: it debits one and credits the other, so it cannot be unbalanced.
type Transfer struct {
	Debit    AccountKey
	Credit   AccountKey
	Amount   int64 // minor units, > 0
	Currency events.Currency
	Kind     string // what it is for: "purchase", "fee"; at most 32 bytes
}

// Code is the book's answer to a group of transfers: one of a closed list.
type Code uint8

// The codes.
const (
	OK Code = iota
	InsufficientFunds
	SameAccount
	CurrencyMismatch
	AmountNotPositive
	BalanceOverflow
	AccountUnknown
	TooManyLinked
	codes // how many there are
)

// String returns the code as it is written on results: "insufficient_funds".
func (c Code) String() string {
	return [codes]string{
		"posted", "insufficient_funds", "same_account", "currency_mismatch", "amount_not_positive", "balance_overflow",
		"account_unknown", "too_many_linked",
	}[c]
}

// Text says the code in a sentence.
func (c Code) Text() string {
	return [codes]string{
		"The money moved.",
		"An account does not have enough; nothing moved.",
		"A transfer needs two different accounts.",
		"Both accounts and the transfer must have the same currency.",
		"An amount must be greater than zero.",
		"A sum would leave the range of 64 bits; nothing moved.",
		"An account is not open in this book.",
		"More transfers are linked than the book takes in one group.",
	}[c]
}

// Codes lists every code.
func Codes() []Code {
	all := make([]Code, codes)
	for i := range all {
		all[i] = Code(i)
	}
	return all
}

// Book is the working set of one batch: the accounts loaded and what has been posted on them since. The zero Book is
// not ready; use NewBook. It is not safe for concurrent use.
type Book struct {
	accounts map[AccountKey]*Account
	changed  []*Account // in order of first change
	posted   []Posted
}

// NewBook returns a book without accounts, with room for as many as said.
func NewBook(accounts int) *Book {
	return &Book{accounts: make(map[AccountKey]*Account, accounts)}
}

// Load opens an account in the book as it stands. Loading a key twice replaces it; that must happen before any Apply.
func (b *Book) Load(a Account) {
	a.changed = false
	b.accounts[a.Key] = &a
}

// Account returns an account of the book, nil if it is not loaded.
func (b *Book) Account(key AccountKey) *Account { return b.accounts[key] }

// Posted are the transfers posted so far, in order. The caller may fill in where each stands.
func (b *Book) Posted() []Posted { return b.posted }

// Changed are the accounts that have been posted on, each once, in order of their first change.
func (b *Book) Changed() []*Account { return b.changed }

// Apply posts transfers that stand or fall together, each on the balances the ones before it left. Any code but OK means
// that nothing changed.
func (b *Book) Apply(linked []Transfer) Code {
	if len(linked) > MaxLinked {
		return TooManyLinked
	}
	start := len(b.posted)
	for i := range linked {
		if code := b.post(&linked[i]); code != OK {
			b.undo(start)
			return code
		}
	}
	for i := start; i < len(b.posted); i++ {
		b.note(b.posted[i].debit)
		b.note(b.posted[i].credit)
	}
	return OK
}

// check says what the book would answer to one transfer.
func (b *Book) check(t *Transfer, debit, credit *Account) Code {
	switch {
	case t.Amount <= 0:
		return AmountNotPositive
	case t.Debit == t.Credit:
		return SameAccount
	case debit == nil || credit == nil:
		return AccountUnknown
	case debit.Currency != t.Currency || credit.Currency != t.Currency:
		return CurrencyMismatch
	case debit.DebitsPosted > math.MaxInt64-debit.DebitsPending-t.Amount || credit.CreditsPosted > math.MaxInt64-credit.CreditsPending-t.Amount:
		return BalanceOverflow
	case !debit.covers(DebitSide, t.Amount) || !credit.covers(CreditSide, t.Amount):
		return InsufficientFunds
	}
	return OK
}

func (b *Book) post(t *Transfer) Code {
	debit, credit := b.accounts[t.Debit], b.accounts[t.Credit]
	if code := b.check(t, debit, credit); code != OK {
		return code
	}
	debit.DebitsPosted += t.Amount
	debit.Version++
	credit.CreditsPosted += t.Amount
	credit.Version++
	b.posted = append(b.posted, Posted{
		Transfer: *t, DebitID: debit.ID, CreditID: credit.ID, DebitVersion: debit.Version, CreditVersion: credit.Version,
		debit: debit, credit: credit,
	})
	return OK
}

// undo takes back what was posted since start.
func (b *Book) undo(start int) {
	for i := len(b.posted) - 1; i >= start; i-- {
		p := &b.posted[i]
		p.debit.DebitsPosted -= p.Amount
		p.debit.Version--
		p.credit.CreditsPosted -= p.Amount
		p.credit.Version--
	}
	b.posted = b.posted[:start]
}

// note remembers an account as changed.
func (b *Book) note(a *Account) {
	if !a.changed {
		a.changed = true
		b.changed = append(b.changed, a)
	}
}
