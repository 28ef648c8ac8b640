package ledger

import (
	"time"

	"sluice/schemas/events"
)

// MaxLinked bounds the transfers that stand or fall together. The most are those of a purchase from 16 merchants that fails: five
// of each, of which one is what a posting rule linked.
const MaxLinked = 80

// ID is a transfer's identity, of its maker's choosing: what makes it take effect once, and what others refer to. At
// most 256 bytes.
type ID string

// Action is what a transfer does.
type Action uint8

// The actions.
const (
	// Move posts the amount at once.
	Move Action = iota
	// Hold makes the amount pending: it counts against floors, but is on nobody's balance until it is posted.
	Hold
	// Post moves what a hold holds, or a part of it; the rest is released, or stays held with Keep.
	Post
	// Void releases what a hold still holds.
	Void
	// Reverse moves what a transfer moved, or a part of it, back: once for each transfer.
	Reverse
	actions // how many there are
)

// String returns "move", "hold", "post", "void" or "reverse".
func (a Action) String() string {
	return [...]string{"move", "hold", "post", "void", "reverse", "unknown"}[min(a, actions)]
}

// Balancing says that a Move's or Hold's amount is an upper bound, for what an account still has; the code is
// InsufficientFunds where that is nothing, but for BalanceNone.
type Balancing uint8

// The ways of balancing. They may be combined: the smaller amount counts.
const (
	// BalanceDebit takes at most what the debit account has above its floor (above zero where it has none).
	BalanceDebit Balancing = 1 << iota
	// BalanceCredit gives at most what the credit account, which grows by debits, has above its floor or zero: the most
	// that can be paid back on a loan.
	BalanceCredit
	// BalanceNone lets the transfer be left out where there is nothing to take or give: its group stands without it.
	BalanceNone
)

// Transfer moves an amount from one account to another: it debits one and credits the other, so it cannot be unbalanced.
type Transfer struct {
	// Debit and Credit are the accounts. Post, Void and Reverse know them; where they are given they must agree. Those
	// of a Reverse are its own, the other way round than the transfer's it undoes.
	Debit    AccountKey
	Credit   AccountKey
	Amount   int64           // minor units, > 0; of a Post or Reverse, 0 is all there is; of a Void, 0
	Currency events.Currency // as Debit and Credit
	Kind     string          // what it is for: "purchase", "fee"; at most 32 bytes

	Action    Action
	ID        ID        // "" where nobody will send it again or refer to it; a Hold has one
	Ref       ID        // the hold to Post or Void, the transfer to Reverse
	Keep      bool      // of a Post: the rest stays held
	Balancing Balancing // of a Move or Hold
	Expires   time.Time // of a Hold: from then on it is released; zero: it holds until somebody posts or voids it
}

// same says whether two transfers ask for the same.
func (t Transfer) same(o Transfer) bool {
	if !t.Expires.Equal(o.Expires) {
		return false
	}
	t.Expires = o.Expires
	return t == o
}

// Pending is a hold as it stands. Amounts are minor units; Amount = Posted + Voided + Expired + Open.
type Pending struct {
	ID            ID
	Debit, Credit AccountKey
	Currency      events.Currency
	Kind          string
	Amount        int64
	Posted        int64
	Voided        int64
	Expired       int64
	Expires       time.Time // zero: never
	Shard         int32     // whose clock it expires by

	changed bool // noted in Book.ChangedPending
}

// Open is what is still held.
func (p *Pending) Open() int64 { return p.Amount - p.Posted - p.Voided - p.Expired }

// due says whether the hold must be released at this time.
func (p *Pending) due(at time.Time) bool { return !p.Expires.IsZero() && !at.Before(p.Expires) }

// ended says why a hold with nothing open cannot be posted or voided.
func (p *Pending) ended() Code {
	switch {
	case p.Expired > 0:
		return PendingExpired
	case p.Posted > 0:
		return PendingPosted
	}
	return PendingVoided
}

// Fate is what a step does to a hold.
type Fate uint8

// The fates.
const (
	Opened Fate = iota
	PostedPart
	Voided
	Expired
	fates // how many there are
)

var fateNames = [fates]string{"opened", "posted", "voided", "expired"}

// String returns "opened", "posted", "voided" or "expired".
func (f Fate) String() string { return fateNames[f] }

// ParseFate returns the fate of its word, false if there is none.
func ParseFate(word string) (Fate, bool) {
	for i, w := range fateNames {
		if w == word {
			return Fate(i), true
		}
	}
	return 0, false
}

// Step is one step in the life of a hold, as the book keeps it.
type Step struct {
	Pending           ID
	Fate              Fate
	Amount            int64 // of this step, > 0
	Open              int64 // held after it
	DebitID, CreditID int64 // the accounts' numbers
	Currency          events.Currency
	Kind              string
	Expires           time.Time // zero: never

	Shard    int32
	Number   int64     // its place in its batch, from 1
	Sequence int64     // the result that brought it about, in the shard
	Time     time.Time // of that event, microseconds
}

// Known is a transfer that the book took before, for Reverse and for what is sent twice.
type Known struct {
	Transfer      // as it was posted: with its accounts and its amount
	Reversed bool // a Reverse has undone it
}
