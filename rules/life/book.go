package life

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Book is every version and where each ruleset's audit ends.
type Book struct {
	Versions map[Ref]*Version
	Heads    map[string]Head // by ruleset
	Live     Ref             // zero: none
}

// NewBook returns a book without a version.
func NewBook() *Book { return &Book{Versions: map[Ref]*Version{}, Heads: map[string]Head{}} }

// Order is what a person wants done.
type Order struct {
	Do   Action // any but Supersede, Unshadow of another version, and Restore, which follow from others
	Ref  Ref    // Rollback: what to go back to; zero: what was live before
	By   string
	When time.Time
	Why  string // required for Approve, Reject, Promote and Rollback

	Source Hash              // Submit: of the version; Test and Backtest: of what was run
	Passed bool              // Test
	Over   Ref               // Promote, Publish and Rollback: what the person takes to be live
	Detail map[string]string // Test, Backtest, Submit: what else to remember
}

// Next returns the number the next version of a ruleset has; 0: any, there is none yet.
func (b *Book) Next(name string) int {
	last := 0
	for ref := range b.Versions {
		if ref.Name == name {
			last = max(last, ref.Number)
		}
	}
	if last == 0 {
		return 0
	}
	return last + 1
}

// InShadow returns the version of a ruleset that decides in the shadow, nil if none does.
func (b *Book) InShadow(name string) *Version {
	for ref, v := range b.Versions {
		if ref.Name == name && v.Shadowing {
			return v
		}
	}
	return nil
}

// Take carries out an order. It returns the steps to write down, in order: those of the version named and those that
// follow for others. The error is a *Refusal; the book is then as it was.
func (b *Book) Take(o Order, p Policy) ([]Step, error) {
	o.By, o.Why = strings.TrimSpace(o.By), strings.TrimSpace(o.Why)
	if r := o.check(); r != nil {
		return nil, r
	}
	c := change{Book: b, order: o}
	if r := c.plan(p); r != nil {
		return nil, r
	}
	for i := range c.steps {
		b.add(&c.steps[i])
	}
	return c.steps, nil
}

// check is what can be said of an order without the book.
func (o *Order) check() *Refusal {
	size := 0
	for k, v := range o.Detail {
		size += len(k) + len(v)
	}
	switch {
	case o.By == "":
		return Refuse(NoPerson, "who does this? give --by NAME, or set SLUICE_USER")
	case len(o.By) > MaxPerson || !utf8.ValidString(o.By) || strings.ContainsFunc(o.By, unicode.IsControl):
		return Refuse(NoPerson, "a person's name is up to %d bytes of plain text", MaxPerson)
	case o.Why == "" && slices.Contains([]Action{Approve, Reject, Promote, Rollback}, o.Do):
		return Refuse(NoReason, "%s takes a reason; give --why \"…\"", o.Do)
	case len(o.Why) > MaxWhy || !utf8.ValidString(o.Why) || strings.ContainsRune(o.Why, 0):
		return Refuse(TooLong, "a reason is up to %d bytes of text", MaxWhy)
	case size > MaxDetail:
		return Refuse(TooLong, "the detail of a step is up to %d bytes; keep the figures, link the report", MaxDetail)
	}
	return nil
}

// change is an order being carried out: the steps so far, none of them in the book yet.
type change struct {
	*Book
	order Order
	steps []Step
}

func (c *change) plan(p Policy) *Refusal {
	switch c.order.Do {
	case Submit:
		return c.submit()
	case Rollback:
		return c.rollback()
	}
	v := c.Versions[c.order.Ref]
	if v == nil {
		return Refuse(Unknown, "there is no %s; sluice rules history shows what there is", c.order.Ref)
	}
	switch c.order.Do {
	case Check:
		return c.forward(v, Checked, nil)
	case Test:
		return c.test(v)
	case Backtest:
		return c.backtest(v)
	case ToShadow:
		return c.shadow(v)
	case Unshadow:
		return c.unshadow(v, "")
	case Approve:
		return c.approve(v)
	case Reject, Withdraw:
		return c.end(v)
	case Promote:
		return c.promote(v)
	case Publish:
		return c.publish(v, p)
	}
	return Refuse(Unknown, "nobody gives the order %q by itself", c.order.Do)
}

func (c *change) submit() *Refusal {
	ref := c.order.Ref
	if next := c.Next(ref.Name); ref.Name == "" || ref.Number < 1 || next != 0 && ref.Number != next {
		return Refuse(WrongNumber, "the file says version: %d, but the next version of %s is %d; look at what came between, then write version: %d",
			ref.Number, ref.Name, max(next, 1), max(next, 1))
	}
	v := &Version{Ref: ref, Author: c.order.By, Source: c.order.Source}
	c.step(Submit, v, "", Draft, c.order.Detail)
	return nil
}

// forward writes the ordered step down if the closed list has it.
func (c *change) forward(v *Version, to Status, detail map[string]string) *Refusal {
	if !transitions[transition{c.order.Do, v.Status, to}] {
		return c.outOfOrder(v)
	}
	c.step(c.order.Do, v, v.Status, to, detail)
	return nil
}

// needs is what must be done before an action, in the words of its refusal.
var needs = map[Action]string{
	Test: "a check that it loads", Backtest: "a passed test (sluice rules test)", ToShadow: "a passed test (sluice rules test)",
	Approve: "a passed test (sluice rules test)", Promote: "the approval of another person (sluice rules approve)",
}

func (c *change) outOfOrder(v *Version) *Refusal {
	need := needs[c.order.Do]
	if need != "" && slices.Contains([]Status{Draft, Checked, Tested, Backtested, Shadow}, v.Status) {
		return Refuse(TooEarly, "%s is %s; %s needs %s first", v.Ref, v.Status.Words(), c.order.Do, need)
	}
	return Refuse(TooLate, "%s is %s since %s; %s is not possible any more%s", v.Ref, v.Status.Words(), day(v.Changed), c.order.Do, further(v))
}

func further(v *Version) string {
	switch v.Status {
	case Rejected, Withdrawn:
		return "; submit it under the next version"
	case Superseded, RolledBack:
		return fmt.Sprintf("; sluice rules rollback --to %s makes it live again", v.Ref)
	}
	return ""
}

func (c *change) test(v *Version) *Refusal {
	if r := c.sameSource(v); r != nil {
		return r
	}
	detail := with(c.order.Detail, detailPassed, strconv.FormatBool(c.order.Passed))
	if !c.order.Passed {
		if v.Shadowing && transitions[transition{Test, v.Status, Checked}] {
			v = c.unshadowed(v, "its test failed")
		}
		return c.forward(v, Checked, detail)
	}
	if v.Status == Checked {
		return c.forward(v, Tested, detail)
	}
	return c.forward(v, v.Status, detail)
}

func (c *change) sameSource(v *Version) *Refusal {
	if c.order.Source != v.Source {
		return Refuse(OtherSource, "what was run (sha256 %.12s…) is not %s (sha256 %.12s…); run the rulebook's bytes: sluice rules show %s",
			c.order.Source, v.Ref, v.Source, v.Ref)
	}
	return nil
}

func (c *change) backtest(v *Version) *Refusal {
	if r := c.sameSource(v); r != nil {
		return r
	}
	if v.Status == Tested {
		return c.forward(v, Backtested, c.order.Detail)
	}
	return c.forward(v, v.Status, c.order.Detail)
}

// shadow puts the version beside the live one; one version of each ruleset at a time.
func (c *change) shadow(v *Version) *Refusal {
	if v.Shadowing {
		return Refuse(TooLate, "%s is in the shadow already, since %s", v.Ref, day(v.Changed))
	}
	to := Shadow
	if v.Status == Approved {
		to = Approved
	}
	if !transitions[transition{ToShadow, v.Status, to}] {
		return c.outOfOrder(v)
	}
	if other := c.InShadow(v.Name); other != nil {
		c.unshadowed(other, fmt.Sprintf("%s takes its place", v.Ref))
	}
	return c.forward(v, to, nil)
}

func (c *change) unshadow(v *Version, why string) *Refusal {
	if !v.Shadowing {
		return Refuse(TooEarly, "%s is not in the shadow; sluice rules status shows what is", v.Ref)
	}
	c.unshadowed(v, why)
	return nil
}

// unshadowed ends a version's shadow and returns the version as it then is.
func (c *change) unshadowed(v *Version, why string) *Version {
	to := v.Status
	if to == Shadow {
		if to = Tested; v.Backtested {
			to = Backtested
		}
	}
	s := c.step(Unshadow, v, v.Status, to, nil)
	if why != "" {
		s.Why = why
	}
	after := *v
	after.Status, after.Shadowing = to, false
	return &after
}

func (c *change) approve(v *Version) *Refusal {
	if same(c.order.By, v.Author) {
		return Refuse(OwnWork, "%s was written by %s: somebody else approves it", v.Ref, v.Author)
	}
	var without []string
	if !v.Backtested {
		without = append(without, string(Backtested))
	}
	if !v.Shadowed {
		without = append(without, string(Shadow))
	}
	return c.forward(v, Approved, with(with(nil, detailLive, c.Live.String()), detailWithout, strings.Join(without, ", ")))
}

// end rejects or withdraws.
func (c *change) end(v *Version) *Refusal {
	to := Rejected
	if c.order.Do == Withdraw {
		to = Withdrawn
	}
	switch author := same(c.order.By, v.Author); {
	case !transitions[transition{c.order.Do, v.Status, to}]:
		return c.outOfOrder(v)
	case author && c.order.Do == Reject:
		return Refuse(OwnWork, "%s was written by %s, who withdraws it: sluice rules withdraw %s", v.Ref, v.Author, v.Ref)
	case !author && c.order.Do == Withdraw:
		return Refuse(NotAuthor, "%s was written by %s; others reject it: sluice rules reject %s", v.Ref, v.Author, v.Ref)
	}
	if v.Shadowing {
		v = c.unshadowed(v, "")
	}
	return c.forward(v, to, nil)
}

func (c *change) promote(v *Version) *Refusal {
	if v.Status != Approved || !v.Tested || v.ApprovedBy == "" || same(v.ApprovedBy, v.Author) {
		return c.outOfOrder(v)
	}
	if r := c.liveIsStill(); r != nil {
		return r
	}
	if v.Shadowing {
		v = c.unshadowed(v, "it goes live")
	}
	c.displace(v.Ref)
	return c.forward(v, Live, with(nil, detailOver, c.Live.String()))
}

// publish makes a draft live by force. The first version of a rulebook has nobody who could have reviewed it.
func (c *change) publish(v *Version, p Policy) *Refusal {
	if p.ReviewRequired && c.everLive() {
		return Refuse(ReviewRequired, "this rulebook requires review: sluice rules submit FILE --why …, then test, approve (by somebody else) and promote it")
	}
	if !transitions[transition{Publish, v.Status, Live}] {
		return c.outOfOrder(v)
	}
	if r := c.liveIsStill(); r != nil {
		return r
	}
	c.displace(v.Ref)
	return c.forward(v, Live, with(nil, detailOver, c.Live.String()))
}

func (c *change) everLive() bool {
	for _, v := range c.Versions {
		if v.WasLive {
			return true
		}
	}
	return false
}

// liveIsStill is the compare of the compare-and-set on what is live.
func (c *change) liveIsStill() *Refusal {
	if c.order.Over == c.Live {
		return nil
	}
	by, when := "", ""
	if v := c.Versions[c.Live]; v != nil {
		by, when = " by "+v.ChangedBy, " at "+v.Changed.Format(time.TimeOnly)
	}
	return Refuse(LiveChanged, "%s is live, not %s any more: made so%s%s; compare them (sluice rules diff), then decide again", c.Live, c.order.Over, by, when)
}

// displace takes the live version, if there is one, out of force.
func (c *change) displace(by Ref) {
	if v := c.Versions[c.Live]; v != nil {
		c.step(Supersede, v, Live, Superseded, with(nil, detailFor, by.String()))
	}
}

// rollback makes live again what was live before, or what the order names. It needs no new approval: it is the emergency
// exit, and whatever it leads to has been live.
func (c *change) rollback() *Refusal {
	live := c.Versions[c.Live]
	if live == nil {
		return Refuse(NothingBefore, "nothing is live, so there is nothing to take back")
	}
	if r := c.liveIsStill(); r != nil {
		return r
	}
	ref := c.order.Ref
	if ref == (Ref{}) {
		ref = live.Displaced
	}
	if ref == (Ref{}) {
		return Refuse(NothingBefore, "nothing was live before %s; name a version that was: sluice rules rollback --to NAME@VERSION", c.Live)
	}
	v := c.Versions[ref]
	switch {
	case v == nil:
		return Refuse(Unknown, "there is no %s; sluice rules history shows what there is", ref)
	case ref == c.Live:
		return Refuse(TooLate, "%s is live already", ref)
	case !v.WasLive:
		return Refuse(NeverLive, "%s has never been live; a rollback goes only to what was: promote it instead", ref)
	}
	c.step(Rollback, live, Live, RolledBack, with(nil, detailFor, ref.String()))
	c.step(Restore, v, v.Status, Live, with(nil, detailOver, c.Live.String()))
	return nil
}

// step appends a step to the plan. Its place in the chain is given by the book. The steps of one order are a microsecond
// apart, so that their order is seen across rulesets too.
func (c *change) step(a Action, v *Version, from, to Status, detail map[string]string) *Step {
	c.steps = append(c.steps, Step{Ref: v.Ref, Action: a, From: from, To: to, Who: c.order.By, When: c.order.When.Add(time.Duration(len(c.steps)) * time.Microsecond),
		Why: c.order.Why, Author: v.Author, Source: v.Source, Detail: detail})
	return &c.steps[len(c.steps)-1]
}

// add gives a step its place in the chain and lets it take effect. A clock that went back does not put it before the one
// before.
func (b *Book) add(s *Step) {
	head := b.Heads[s.Name]
	s.Sequence, s.Previous = head.Step+1, head.Hash
	s.When = s.When.UTC().Truncate(time.Microsecond)
	if s.When.Before(head.When) {
		s.When = head.When
	}
	s.Hash = s.Sum()
	b.apply(*s)
}

// Replay returns the book that steps written down before have made: each ruleset's in order, the rulesets in any. It
// judges nothing: Audit does.
func Replay(steps []Step) *Book {
	b := NewBook()
	for _, s := range steps {
		b.apply(s)
	}
	b.Live = Ref{}
	for ref, v := range b.Versions {
		if v.Status == Live {
			b.Live = ref
		}
	}
	return b
}

func (b *Book) apply(s Step) {
	b.Heads[s.Name] = Head{s.Sequence, s.Hash, s.When}
	v := b.Versions[s.Ref]
	if v == nil {
		v = &Version{Ref: s.Ref, Author: s.Author, Source: s.Source, Created: s.When}
		b.Versions[s.Ref] = v
	}
	v.Status, v.Changed, v.ChangedBy = s.To, s.When, s.Who
	switch s.Action {
	case Test:
		v.Tested = s.Detail[detailPassed] == "true"
		if !v.Tested {
			v.Backtested, v.Shadowed, v.ApprovedBy = false, false, ""
		}
	case Backtest:
		v.Backtested = true
	case ToShadow:
		v.Shadowing, v.Shadowed = true, true
	case Unshadow:
		v.Shadowing = false
	case Approve:
		v.ApprovedBy = s.Who
	case Promote, Publish:
		v.Unreviewed = s.Action == Publish
		v.Displaced, _ = ParseRef(s.Detail[detailOver]) // "nothing" is none
	}
	if v.Status == Live {
		b.Live, v.WasLive = s.Ref, true
	} else if b.Live == s.Ref {
		b.Live = Ref{}
	}
}

// with returns the detail with one more entry; an empty value adds none.
func with(detail map[string]string, key, value string) map[string]string {
	if value == "" {
		return detail
	}
	out := maps.Clone(detail)
	if out == nil {
		out = map[string]string{}
	}
	out[key] = value
	return out
}

func day(t time.Time) string { return t.Format("2006-01-02 15:04") }
