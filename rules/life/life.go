// Package life is the life of a ruleset, from draft to live and out again, as a pure state machine: who may do what and
// when, what is written down about it, and how a change to what was written down is noticed. It keeps nothing, publishes
// nothing and reads no clock.
package life

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limits of what a person says.
const (
	// MaxPerson bounds a person's name, in bytes.
	MaxPerson = 100
	// MaxWhy bounds a reason, in bytes: a paragraph, not a document.
	MaxWhy = 2000
	// MaxDetail bounds a step's detail, keys and values together, in bytes: figures, not a report.
	MaxDetail = 16 << 10
)

// Status is where a version stands.
type Status string

// The stations. A version goes forward through the first six; backtested and shadow may be left out, and the approval then
// says so.
const (
	Draft      Status = "draft"       // submitted
	Checked    Status = "checked"     // loads without a mistake
	Tested     Status = "tested"      // its cases passed
	Backtested Status = "backtested"  // run over past events; the figures are in the step
	Shadow     Status = "shadow"      // decides beside the live one, without effect
	Approved   Status = "approved"    // by a person other than the author
	Live       Status = "live"        // gates decide by it; at most one version of all rulesets
	Superseded Status = "superseded"  // was live until another version was promoted
	RolledBack Status = "rolled_back" // was live until it was taken back
	Rejected   Status = "rejected"    // refused by a reviewer, for good
	Withdrawn  Status = "withdrawn"   // given up by the author, for good
)

// Words returns the status as a sentence has it: "fraud@3 is " + "rolled back".
func (s Status) Words() string {
	switch s {
	case Draft:
		return "a draft"
	case Shadow:
		return "in shadow"
	case RolledBack:
		return "rolled back"
	}
	return string(s)
}

// Action is what a step did.
type Action string

// The actions.
const (
	Submit    Action = "submit"
	Check     Action = "check"
	Test      Action = "test"     // detail "passed": true or false; a failed test takes back what came after it
	Backtest  Action = "backtest" // detail: its figures
	ToShadow  Action = "shadow"
	Unshadow  Action = "unshadow"
	Approve   Action = "approve" // detail "live": what was live then; "without": the stations left out
	Reject    Action = "reject"
	Withdraw  Action = "withdraw"
	Promote   Action = "promote"   // detail "over": what was live until then
	Publish   Action = "publish"   // live by force, unreviewed; detail as for Promote
	Supersede Action = "supersede" // what Promote or Publish does to the version that was live; detail "for": what is live now
	Rollback  Action = "rollback"  // what taking back does to the version that was live; detail "for"
	Restore   Action = "restore"   // what taking back does to the version that is live again; detail "over"
)

// Keys of a step's detail that the state machine writes and reads.
const (
	detailPassed  = "passed"
	detailOver    = "over"
	detailLive    = "live"
	detailWithout = "without"
	detailFor     = "for"
)

// transition is one line of the closed list of what may happen to a version. A test that passes again, a second backtest
// and a shadow of an approved version change nothing but the audit.
type transition struct {
	action   Action
	from, to Status
}

var transitions = func() map[transition]bool {
	list := map[transition]bool{
		{Submit, "", Draft}: true, {Check, Draft, Checked}: true, {Publish, Draft, Live}: true,
		{Test, Checked, Tested}: true, {Test, Checked, Checked}: true,
		{Backtest, Tested, Backtested}: true, {ToShadow, Tested, Shadow}: true, {ToShadow, Backtested, Shadow}: true,
		{Unshadow, Shadow, Tested}: true, {Unshadow, Shadow, Backtested}: true,
		{ToShadow, Approved, Approved}: true, {Unshadow, Approved, Approved}: true,
		{Promote, Approved, Live}: true, {Supersede, Live, Superseded}: true, {Rollback, Live, RolledBack}: true,
		{Restore, Superseded, Live}: true, {Restore, RolledBack, Live}: true,
	}
	for _, s := range []Status{Tested, Backtested, Shadow, Approved} {
		list[transition{Test, s, s}], list[transition{Test, s, Checked}] = true, true
	}
	for _, s := range []Status{Backtested, Shadow, Approved} {
		list[transition{Backtest, s, s}] = true
	}
	for _, s := range []Status{Tested, Backtested, Shadow} {
		list[transition{Approve, s, Approved}] = true
	}
	for _, s := range []Status{Draft, Checked, Tested, Backtested, Shadow, Approved} {
		list[transition{Reject, s, Rejected}], list[transition{Withdraw, s, Withdrawn}] = true, true
	}
	return list
}()

// Hash is a SHA-256 hash: of a source, or of a step.
type Hash [sha256.Size]byte

// String returns the hash in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// SourceHash is the hash of a ruleset's bytes.
func SourceHash(source []byte) Hash { return sha256.Sum256(source) }

// Ref names a version: "fraud@3". The zero Ref names none.
type Ref struct {
	Name   string
	Number int // from 1
}

// String returns "fraud@3", or "nothing" for the zero Ref.
func (r Ref) String() string {
	if r == (Ref{}) {
		return "nothing"
	}
	return r.Name + "@" + strconv.Itoa(r.Number)
}

// ParseRef reads "fraud@3".
func ParseRef(s string) (Ref, error) {
	name, number, ok := strings.Cut(s, "@")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 1 || name == "" {
		return Ref{}, fmt.Errorf("%q names no version; write NAME@VERSION, such as fraud@3", s)
	}
	return Ref{name, n}, nil
}

// Version is one version of a ruleset: everything follows from its steps.
type Version struct {
	Ref
	Author  string
	Source  Hash // of its bytes, which never change
	Created time.Time

	Status     Status
	Tested     bool // its cases have passed, for exactly this source
	Backtested bool
	Shadowing  bool   // decides in the shadow now
	Shadowed   bool   // does, or did
	ApprovedBy string // "" until approved, and again after a failed test
	Unreviewed bool   // went live by Publish
	WasLive    bool   // is or has been live
	Displaced  Ref    // what was live when it first went live: where a rollback goes

	Changed   time.Time // of the newest step
	ChangedBy string
}

// Policy is what the rulebook asks of everybody.
type Policy struct {
	ReviewRequired bool // Publish is refused once a version has been live
}

// same says whether two names mean the same person: the case of letters hides nobody.
func same(a, b string) bool { return strings.EqualFold(a, b) }
