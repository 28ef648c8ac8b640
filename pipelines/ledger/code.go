package ledger

// Code is the book's answer to a group of transfers: one of a closed list.
type Code uint8

// The codes. Book.Apply says in which order they are looked for.
const (
	OK Code = iota
	InsufficientFunds
	SameAccount
	CurrencyMismatch
	AmountNotPositive
	BalanceOverflow
	AccountUnknown
	TooManyLinked
	FieldUnexpected
	IDMissing
	Exists
	ExistsDifferent
	UnitMismatch
	ExpiryPast
	PendingUnknown
	PendingDiffers
	PendingPosted
	PendingVoided
	PendingExpired
	ExceedsPending
	TransferUnknown
	TransferDiffers
	NotReversible
	AlreadyReversed
	ExceedsTransfer
	codes // how many there are
)

var codeTexts = [codes]struct{ word, text string }{
	OK:                {"posted", "The money moved."},
	InsufficientFunds: {"insufficient_funds", "An account does not have enough; nothing moved."},
	SameAccount:       {"same_account", "A transfer needs two different accounts."},
	CurrencyMismatch:  {"currency_mismatch", "Both accounts and the transfer must have the same currency."},
	AmountNotPositive: {"amount_not_positive", "An amount must be greater than zero."},
	BalanceOverflow:   {"balance_overflow", "A sum would leave the range of 64 bits; nothing moved."},
	AccountUnknown:    {"account_unknown", "An account is not open in this book."},
	TooManyLinked:     {"too_many_linked", "More transfers are linked than the book takes in one group."},
	FieldUnexpected:   {"field_unexpected", "A field is set that this kind of transfer does not have."},
	IDMissing:         {"id_missing", "A hold needs an id, and what is done to a transfer needs the id of that transfer."},
	Exists:            {"exists", "This very transfer was taken before; it has its effect once."},
	ExistsDifferent:   {"exists_different", "The id belongs to another transfer."},
	UnitMismatch:      {"unit_mismatch", "Both accounts must count the same: money, points or shares."},
	ExpiryPast:        {"expiry_past", "The hold would have expired already."},
	PendingUnknown:    {"pending_unknown", "No hold has this id."},
	PendingDiffers:    {"pending_differs", "The hold is on other accounts or in another currency."},
	PendingPosted:     {"pending_posted", "The hold has been posted, and nothing of it is left."},
	PendingVoided:     {"pending_voided", "The hold has been voided."},
	PendingExpired:    {"pending_expired", "The hold has expired."},
	ExceedsPending:    {"exceeds_pending", "More than the hold still holds."},
	TransferUnknown:   {"transfer_unknown", "No transfer has this id."},
	TransferDiffers:   {"transfer_differs", "The transfer to undo is between other accounts or in another currency."},
	NotReversible:     {"not_reversible", "A hold or a reversal cannot be reversed: void the one, transfer again for the other."},
	AlreadyReversed:   {"already_reversed", "The transfer has been undone before."},
	ExceedsTransfer:   {"exceeds_transfer", "More than the transfer moved."},
}

// String returns the code as it is written on results: "insufficient_funds".
func (c Code) String() string { return codeTexts[c].word }

// Text says the code in a sentence.
func (c Code) Text() string { return codeTexts[c].text }

// Codes lists every code.
func Codes() []Code {
	all := make([]Code, codes)
	for i := range all {
		all[i] = Code(i)
	}
	return all
}
