package life

import "fmt"

// Code says why an order was refused.
type Code string

// The closed list of refusals.
const (
	NoPerson       Code = "no_person"       // the order does not say who gives it
	NoReason       Code = "no_reason"       // the order needs a reason
	TooLong        Code = "too_long"        // a text is beyond its limit
	Unknown        Code = "unknown"         // there is no such version, or no such action
	WrongNumber    Code = "wrong_number"    // the version submitted is not the next one
	TooEarly       Code = "too_early"       // a step before this one is missing
	TooLate        Code = "too_late"        // the version is past this step
	OwnWork        Code = "own_work"        // the author may not judge it
	NotAuthor      Code = "not_author"      // only the author may
	OtherSource    Code = "other_source"    // what was run is not this version's source
	LiveChanged    Code = "live_changed"    // another version went live meanwhile
	NeverLive      Code = "never_live"      // a rollback goes only to what has been live
	NothingBefore  Code = "nothing_before"  // nothing was live before
	ReviewRequired Code = "review_required" // an unreviewed publication where review is required
	BrokenAudit    Code = "broken_audit"    // the audit has been changed behind the rulebook's back
)

// Refusal is the error of an order that may not be carried out. Nothing has changed.
type Refusal struct {
	Code Code
	Text string // one line that says what to do
}

// Error returns the line.
func (r *Refusal) Error() string { return r.Text }

// Refuse makes a refusal.
func Refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{code, fmt.Sprintf(format, args...)}
}
