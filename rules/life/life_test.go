package life

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

// desk is a book with its audit, and what an order does to it.
type desk struct {
	t     *testing.T
	book  *Book
	audit []Step
	now   time.Time
}

func newDesk(t *testing.T) *desk { return &desk{t: t, book: NewBook(), now: start} }

func (d *desk) take(o Order, p Policy) error {
	d.now = d.now.Add(time.Minute)
	o.When = d.now
	steps, err := d.book.Take(o, p)
	d.audit = append(d.audit, steps...)
	return err
}

// must carries out orders in short: "ann submit fraud@1".
func (d *desk) must(by string, do Action, ref string) {
	d.t.Helper()
	if err := d.take(d.order(by, do, ref), Policy{}); err != nil {
		d.t.Fatalf("%s %s %s: %v", by, do, ref, err)
	}
}

func (d *desk) refused(code Code, by string, do Action, ref string) {
	d.t.Helper()
	err := d.take(d.order(by, do, ref), Policy{})
	var r *Refusal
	if !errors.As(err, &r) || r.Code != code {
		d.t.Fatalf("%s %s %s: %v, want the refusal %s", by, do, ref, err, code)
	}
}

func (d *desk) order(by string, do Action, ref string) Order {
	r, _ := ParseRef(ref)
	return Order{Do: do, Ref: r, By: by, Why: "because", Source: SourceHash([]byte(ref)), Passed: true, Over: d.book.Live}
}

// approved brings a version of ann's to where ben has approved it.
func (d *desk) approved(ref string) {
	d.t.Helper()
	d.must("ann", Submit, ref)
	for _, do := range []Action{Check, Test} {
		d.must("ann", do, ref)
	}
	d.must("ben", Approve, ref)
}

func (d *desk) steps(name string) []Step {
	return slices.DeleteFunc(slices.Clone(d.audit), func(s Step) bool { return s.Name != name })
}

func (d *desk) status(ref string) Status {
	r, _ := ParseRef(ref)
	return d.book.Versions[r].Status
}

func TestWholeLife(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.must("ann", Submit, "fraud@1")
	for _, step := range []struct {
		by string
		do Action
		to Status
	}{{"ann", Check, Checked}, {"ann", Test, Tested}, {"ann", Backtest, Backtested}, {"ann", ToShadow, Shadow}, {"ann", Unshadow, Backtested},
		{"ann", ToShadow, Shadow}, {"ben", Approve, Approved}, {"ann", Promote, Live}} {
		d.must(step.by, step.do, "fraud@1")
		if got := d.status("fraud@1"); got != step.to {
			t.Fatalf("after %s: %s, want %s", step.do, got, step.to)
		}
	}
	if d.book.InShadow("fraud") != nil {
		t.Error("what is live is in the shadow too")
	}
	d.approved("fraud@2")
	d.must("cat", Promote, "fraud@2")
	if d.status("fraud@1") != Superseded || d.status("fraud@2") != Live {
		t.Errorf("fraud@1 is %s, fraud@2 is %s", d.status("fraud@1"), d.status("fraud@2"))
	}
	d.must("cat", Rollback, "")
	if d.status("fraud@1") != Live || d.status("fraud@2") != RolledBack {
		t.Errorf("fraud@1 is %s, fraud@2 is %s", d.status("fraud@1"), d.status("fraud@2"))
	}
	d.refused(NothingBefore, "cat", Rollback, "")
	if b := Audit("fraud", d.steps("fraud"), d.book.Heads["fraud"]); b != nil {
		t.Error(b)
	}
}

// A rollback goes to what was live before the live one was promoted, not to the one just taken back.
func TestRollbackTwice(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for _, ref := range []string{"fraud@1", "fraud@2", "fraud@3"} {
		d.approved(ref)
		d.must("ann", Promote, ref)
	}
	d.must("ann", Rollback, "")
	d.must("ann", Rollback, "")
	if d.book.Live.String() != "fraud@1" {
		t.Errorf("%s is live", d.book.Live)
	}
	d.must("ann", Rollback, "fraud@3") // by name, it may go forward again
	if d.book.Live.String() != "fraud@3" {
		t.Errorf("%s is live", d.book.Live)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.refused(Unknown, "ann", Test, "fraud@1")
	d.refused(NothingBefore, "ann", Rollback, "")
	d.must("Ann", Submit, "fraud@1")
	d.refused(WrongNumber, "ben", Submit, "fraud@1")
	d.refused(WrongNumber, "ben", Submit, "fraud@3")
	d.refused(TooEarly, "ann", Test, "fraud@1")
	d.must("ann", Check, "fraud@1")
	for _, do := range []Action{Backtest, ToShadow, Approve, Promote} {
		d.refused(TooEarly, "ben", do, "fraud@1")
	}
	other := d.order("ann", Test, "fraud@1")
	other.Source = SourceHash([]byte("another text"))
	if r := new(Refusal); !errors.As(d.take(other, Policy{}), &r) || r.Code != OtherSource {
		t.Errorf("the test of another text: %v", r)
	}
	d.must("ann", Test, "fraud@1")
	d.refused(OwnWork, "ANN ", Approve, "fraud@1")
	d.refused(OwnWork, "ann", Reject, "fraud@1")
	d.refused(NotAuthor, "ben", Withdraw, "fraud@1")
	d.refused(NoPerson, " ", Approve, "fraud@1")
	for _, do := range []Action{Approve, Reject, Promote, Rollback} {
		o := d.order("ben", do, "fraud@1")
		o.Why = " "
		if r := new(Refusal); !errors.As(d.take(o, Policy{}), &r) || r.Code != NoReason {
			t.Errorf("%s without a reason: %v", do, r)
		}
	}
	d.must("ben", Approve, "fraud@1")
	d.approved("fraud@2")
	late := d.order("ben", Promote, "fraud@2") // decided while nothing was live
	d.must("ann", Promote, "fraud@1")
	if r := new(Refusal); !errors.As(d.take(late, Policy{}), &r) || r.Code != LiveChanged {
		t.Errorf("promoted over what it did not know: %v", r)
	}
	d.refused(NeverLive, "ann", Rollback, "fraud@2")
	d.refused(TooLate, "ann", Promote, "fraud@1")
	d.must("ann", Submit, "fraud@3")
	if r := new(Refusal); !errors.As(d.take(d.order("ann", Publish, "fraud@3"), Policy{ReviewRequired: true}), &r) || r.Code != ReviewRequired {
		t.Errorf("published past the review: %v", r)
	}
	d.must("ann", Publish, "fraud@3")
}

// A test that fails after the approval takes the approval and the shadow back.
func TestFailedTestTakesBack(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.approved("fraud@1")
	d.must("ann", ToShadow, "fraud@1")
	o := d.order("ann", Test, "fraud@1")
	o.Passed = false
	if err := d.take(o, Policy{}); err != nil {
		t.Fatal(err)
	}
	if d.status("fraud@1") != Checked || d.book.InShadow("fraud") != nil {
		t.Errorf("it is %s, in shadow: %v", d.status("fraud@1"), d.book.InShadow("fraud"))
	}
	d.refused(TooEarly, "ann", Promote, "fraud@1")
}

var (
	people  = []string{"ann", "ben", "cat"}
	actions = []Action{Submit, Check, Test, Backtest, ToShadow, Unshadow, Approve, Reject, Withdraw, Promote, Publish, Supersede, Rollback, Restore}
)

// anyOrder is mostly sensible: what it names exists, or nearly.
func anyOrder(r *rand.Rand, b *Book) Order {
	ref := Ref{[]string{"fraud", "credit"}[r.IntN(2)], 1 + r.IntN(6)}
	o := Order{Do: actions[r.IntN(len(actions))], By: people[r.IntN(len(people))], Why: "because", Passed: r.IntN(5) > 0, Over: b.Live}
	if o.Do == Submit && r.IntN(4) > 0 {
		ref.Number = max(b.Next(ref.Name), 1)
	}
	if o.Do == Rollback && r.IntN(2) == 0 {
		ref = Ref{}
	}
	o.Ref, o.Source = ref, SourceHash([]byte(ref.String()))
	switch r.IntN(20) {
	case 0:
		o.Source = Hash{1}
	case 1:
		o.Why = ""
	case 2:
		o.Over = ref
	}
	return o
}

// Whatever is ordered: what is live was approved by another person on a passed test of exactly its source, or was published
// openly unreviewed while that was allowed; the audit is complete and gapless; a refusal changes nothing.
func TestNothingUnapprovedGoesLive(t *testing.T) {
	t.Parallel()
	did := map[Action]int{}
	for seed := range uint64(80) {
		r := rand.New(rand.NewPCG(seed, 3))
		d := newDesk(t)
		policy := Policy{ReviewRequired: seed%2 == 0}
		for range 400 {
			before := snapshot(d.book)
			o := anyOrder(r, d.book)
			n := len(d.audit)
			if err := d.take(o, policy); err != nil {
				if !reflect.DeepEqual(before, snapshot(d.book)) || len(d.audit) != n {
					t.Fatalf("seed %d: the refusal of %+v changed the book", seed, o)
				}
				continue
			}
			if len(d.audit) == n {
				t.Fatalf("seed %d: %+v left nothing in the audit", seed, o)
			}
			did[o.Do]++
			d.holds(seed, policy)
		}
	}
	for _, do := range actions {
		if follows := do == Supersede || do == Restore; (did[do] == 0) != follows {
			t.Errorf("%s was carried out %d times: the property says little about it", do, did[do])
		}
	}
}

// holds checks the book against its audit alone.
func (d *desk) holds(seed uint64, p Policy) {
	d.t.Helper()
	live := 0
	for ref, v := range d.book.Versions {
		if v.Status != Live {
			continue
		}
		live++
		if !justified(d.audit, ref, p) {
			d.t.Fatalf("seed %d: %s is live, but was not approved: %v", seed, ref, d.audit)
		}
	}
	if live > 1 {
		d.t.Fatalf("seed %d: %d versions are live", seed, live)
	}
	for _, name := range []string{"fraud", "credit"} {
		if b := Audit(name, d.steps(name), d.book.Heads[name]); b != nil {
			d.t.Fatalf("seed %d: %v", seed, b)
		}
	}
	again := Replay(append(d.steps("fraud"), d.steps("credit")...))
	if !reflect.DeepEqual(snapshot(again), snapshot(d.book)) {
		d.t.Fatalf("seed %d: the audit does not give the book", seed)
	}
}

// justified is the promise in its own words, read from the audit.
func justified(audit []Step, ref Ref, p Policy) bool {
	tested, approved, earned := false, false, false
	everLive := false
	for _, s := range audit {
		if s.Ref == ref {
			switch s.Action {
			case Test:
				tested = s.Detail["passed"] == "true"
				approved = approved && tested
			case Approve:
				approved = tested && s.Who != s.Author && s.Why != ""
			case Promote:
				earned = earned || approved && tested && s.Source == SourceHash([]byte(ref.String()))
			case Publish:
				earned = earned || !p.ReviewRequired || !everLive
			}
		}
		everLive = everLive || s.To == Live
	}
	return earned
}

// snapshot copies a book.
func snapshot(b *Book) *Book {
	c := NewBook()
	for ref, v := range b.Versions {
		copied := *v
		c.Versions[ref] = &copied
	}
	for name, h := range b.Heads {
		c.Heads[name] = h
	}
	c.Live = b.Live
	return c
}

// Whatever is changed in an audit, left out of it or swapped is noticed.
func TestAuditNoticesTampering(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.approved("fraud@1")
	d.must("ann", Promote, "fraud@1")
	head := d.book.Heads["fraud"]
	changes := map[string]func(*Step){
		"who":      func(s *Step) { s.Who += "x" },
		"when":     func(s *Step) { s.When = s.When.Add(time.Microsecond) },
		"why":      func(s *Step) { s.Why += "." },
		"action":   func(s *Step) { s.Action = Reject },
		"from":     func(s *Step) { s.From += "x" },
		"to":       func(s *Step) { s.To += "x" },
		"author":   func(s *Step) { s.Author = "ben" },
		"source":   func(s *Step) { s.Source[0]++ },
		"version":  func(s *Step) { s.Number++ },
		"name":     func(s *Step) { s.Name = "credit" },
		"detail":   func(s *Step) { s.Detail = map[string]string{"passed": "perhaps"} },
		"hash":     func(s *Step) { s.Hash[0]++ },
		"rehashed": func(s *Step) { s.Why += "."; s.Hash = s.Sum() },
	}
	for name, change := range changes {
		for i := range d.audit {
			steps := slices.Clone(d.audit)
			change(&steps[i])
			if Audit("fraud", steps, head) == nil {
				t.Errorf("%s of step %d was changed unnoticed", name, i+1)
			}
		}
	}
	for i := range d.audit {
		if Audit("fraud", slices.Delete(slices.Clone(d.audit), i, i+1), head) == nil {
			t.Errorf("step %d was removed unnoticed", i+1)
		}
	}
	if Audit("fraud", append(slices.Clone(d.audit), d.audit[len(d.audit)-1]), head) == nil {
		t.Error("a step was added unnoticed")
	}
}

// The canonical form keeps texts apart: what moves from one text to the next has another hash.
func TestSumKeepsTextsApart(t *testing.T) {
	t.Parallel()
	seen := map[Hash]string{}
	for _, s := range []Step{{Who: "ab", Why: "c"}, {Who: "a", Why: "bc"}, {Detail: map[string]string{"a": "bc"}}, {Detail: map[string]string{"ab": "c"}},
		{Detail: map[string]string{"a": "b", "c": ""}}} {
		h := s.Sum()
		if seen[h] != "" {
			t.Errorf("%+v has the hash of %s", s, seen[h])
		}
		seen[h] = fmt.Sprintf("%+v", s)
	}
}

func TestParseRef(t *testing.T) {
	t.Parallel()
	if ref, err := ParseRef("fraud@3"); err != nil || ref != (Ref{"fraud", 3}) {
		t.Error(ref, err)
	}
	for _, s := range []string{"", "fraud", "@3", "fraud@", "fraud@0", "fraud@-1", "fraud@x"} {
		if _, err := ParseRef(s); err == nil {
			t.Errorf("%q is a version", s)
		}
	}
}
