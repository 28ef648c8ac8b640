// Package reconcile compares what a channel says moved with what the book says moved. It knows two lists of lines, matches
// them in stages, and classifies what is left over. It reads no file and no table and knows no clock: the book's lines, the
// statement's lines and the day it is are given to it.
//
// "Here" is the book, "there" is the channel's statement.
package reconcile

import (
	"fmt"
	"time"

	"sluice/schemas/events"
)

// Day is a calendar day, counted from 1970-01-01. Which days a moment falls on depends on the channel's time zone, so that
// is for whoever makes the lines to say.
type Day int32

// The days a line may have: what Postgres and every reader of a statement can represent.
const (
	FirstDay Day = 0         // 1970-01-01
	LastDay  Day = 2_932_896 // 9999-12-31
)

// DayOf returns the day of a time in its own zone.
func DayOf(t time.Time) Day {
	y, m, d := t.Date()
	return Day(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / 86_400)
}

// Time returns the day's midnight in UTC.
func (d Day) Time() time.Time { return time.Unix(int64(d)*86_400, 0).UTC() }

// String returns the day as "2026-01-31".
func (d Day) String() string { return d.Time().Format(time.DateOnly) }

// ParseDay reads "2026-01-31". It fails outside FirstDay to LastDay.
func ParseDay(text string) (Day, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil || DayOf(t) < FirstDay || DayOf(t) > LastDay {
		return 0, fmt.Errorf("%q is no day: write it as 2026-01-31", text)
	}
	return DayOf(t), nil
}

// Line is one movement on the channel's account, as either side tells it. Amounts are minor units of Currency; positive is
// towards the house: a debit of the clearing account, a credit on the channel's statement.
type Line struct {
	ID        string // unique on its side; decides between lines that are alike in everything else
	Reference string // the payment's, as far as this side knows it; "": none
	Date      Day    // booked
	ValueDate Day    // 0: not said; it decides nothing
	Amount    int64  // moved on the account; at most events.MaxAmount either way
	Fee       int64  // what the channel kept of it beforehand; Amount + Fee is what was paid
	Currency  events.Currency
	Text      string // for people, and searched for references

	Collective bool // stands for several lines of the other side, such as a payout
	Count      int  // for how many; 0: not said
	Open       bool // it has been reported as missing before: its counterpart counts, however late
	Settled    bool // it was matched before; another line may be its duplicate or its fee, and that is all it is here for
	Cost       bool // of the book: what the channel keeps for the payment of the same reference
	Rerouted   bool // of the book: what is left of a payment, taken to another channel or brought from one
}

// gross is what was paid, before the channel's fee.
func (l *Line) gross() int64 { return l.Amount + l.Fee }

// Limits of matching. They keep the work linear in the lines, whatever the lines say.
const (
	// MinPartial is how many letters and digits a reference needs to be recognised in part, or within a text.
	MinPartial = 8
	// MaxCandidates bounds the open lines that one reference may point to: one that points to more says nothing.
	MaxCandidates = 64
	// MaxTokens bounds the words of a line's text that are looked up as references.
	MaxTokens = 64
	// MaxParts bounds the lines among which a selection that makes up another line's amount is looked for. All of
	// a group, of any size, is tried before.
	MaxParts = 20
	// MaxSearches bounds those searches in one round, at most 0.2 ms each.
	MaxSearches = 10_000
	// MaxRounds bounds how often the stages are gone through: again while the last round has found something, since what it
	// took may have been what made another pair doubtful. Two or three rounds are usual.
	MaxRounds = 16
	// MaxWindow bounds Days and GroupDays.
	MaxWindow = 366
)

// Options is what counts as the same. The zero Options demand the same day and amount and bound no period.
type Options struct {
	Amount    int64 // minor units by which two amounts may differ
	Days      int   // days by which two dates may differ, at most MaxWindow
	FeePoints int64 // basis points of the gross that a channel may have kept without saying so
	GroupDays int   // days before a collective line in which its parts may stand, at most MaxWindow
	From, To  Day   // the period, both included; both 0: everything. Lines outside are counterparts, but no breaks
}

func (o Options) fill() Options {
	if o.From == 0 && o.To == 0 {
		o.To = LastDay
	}
	o.Days, o.GroupDays = min(max(o.Days, 0), MaxWindow), min(max(o.GroupDays, 0), MaxWindow)
	return o
}

// agrees says whether what is booked here makes up what is stated there: within the tolerance, or short of it by no more
// than the channel may have kept.
func (o *Options) agrees(here, there int64) bool {
	short := here - there
	if abs(short) <= o.Amount {
		return true
	}
	const whole = 10_000 // basis points
	return here > 0 && short > 0 && short <= here/whole*o.FeePoints+here%whole*o.FeePoints/whole
}

// Stage is how a match was found.
type Stage uint8

// The stages, in the order in which they are tried.
const (
	Exact     Stage = iota // reference, amount and date
	Tolerant               // reference normalised or in part, amount and date within the tolerances
	OneToMany              // one line there, several here
	ManyToOne              // several lines there, one here
	Late                   // reference and amount, after one of them was reported as missing
	stages
)

// String returns the stage as it is stored: "one_to_many".
func (s Stage) String() string {
	return [stages]string{"exact", "tolerant", "one_to_many", "many_to_one", "late"}[s]
}

// Class is what is wrong with a line, or with two.
type Class uint8

// The classes of breaks.
const (
	MissingHere  Class = iota // on the statement, not in the book
	MissingThere              // in the book, not on the statement
	Amount                    // on both, with amounts that differ by more than the tolerance
	Duplicate                 // once more than the other side has it
	Timing                    // on both, but one after the period, or further apart than the tolerance
	classes
)

var classNames = [classes]string{"missing_here", "missing_there", "amount", "duplicate", "timing"}

// String returns the class as it is stored: "missing_here".
func (c Class) String() string { return classNames[c] }

// Classes lists every class.
func Classes() []Class { return []Class{MissingHere, MissingThere, Amount, Duplicate, Timing} }

// ParseClass returns the class of its word, false if there is none.
func ParseClass(word string) (Class, bool) {
	for i, name := range classNames {
		if name == word {
			return Class(i), true
		}
	}
	return 0, false
}

// ages are the last days of the buckets.
var ages = [...]struct {
	last int
	name string
}{{1, "0-1"}, {7, "2-7"}, {30, "8-30"}, {90, "31-90"}}

// Bucket returns the bucket of an age in days: "0-1", "2-7", "8-30", "31-90" or "over 90". What lies ahead is "0-1".
func Bucket(age int) string {
	for _, a := range ages {
		if age <= a.last {
			return a.name
		}
	}
	return "over 90"
}

// Match is lines that are the same money. Here and There are indices into the lines given to Run. Without a There, the lines here
// cancel each other out, or other lines there state the cost as their fee.
type Match struct {
	Stage       Stage
	Here, There []int32
}

// None is the index of no line.
const None = -1

// Break is what does not match. Here, There and Twin are indices into the lines given to Run, or None.
type Break struct {
	Class       Class
	Here, There int32
	Twin        int32 // of a duplicate: the line of the same side that it repeats
	Amount      int64 // what is at stake, minor units: an amount's difference (there less here), else the line's own
	Currency    events.Currency
	Date        Day // the older line's; its age counts from here
}

// Age returns the break's age in days.
func (b *Break) Age(asOf Day) int { return int(asOf - b.Date) }

// Result is the outcome of Run. Every line is in at most one match or break; a duplicate's Twin is only pointed at.
type Result struct {
	Matches []Match
	Breaks  []Break // by class, date and line
}

func abs[T ~int64 | ~int32 | ~int](n T) T {
	if n < 0 {
		return -n
	}
	return n
}
