package life

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Step is one thing that happened to a version, as it is written down for ever.
type Step struct {
	Ref
	Sequence int64 // gapless in the ruleset, from 1
	Action   Action
	From, To Status // From is "" for Submit
	Who      string
	When     time.Time // microseconds, UTC; never before the step before
	Why      string
	Author   string            // of the version
	Source   Hash              // of the version: what was approved is exactly this
	Detail   map[string]string // figures and circumstances; nil if there are none
	Previous Hash              // of the ruleset's step before; zero for the first
	Hash     Hash              // see Sum
}

// Head is where a ruleset's audit ends.
type Head struct {
	Step int64
	Hash Hash
	When time.Time
}

// Sum returns the step's hash: SHA-256 over the hash of the ruleset's step before it (32 zero bytes for the first) and its
// canonical form. That is, in this order: sequence, version and time (microseconds since 1970-01-01 UTC), each as 8 bytes
// big-endian; the ruleset's name, action, from, to, who, why and author, each as a length of 4 bytes and its bytes; the
// source's hash; the number of entries of the detail as 8 bytes, then key and value of each in order of key, as the texts
// before.
func (s *Step) Sum() Hash {
	b := append([]byte(nil), s.Previous[:]...)
	for _, n := range [...]int64{s.Sequence, int64(s.Number), s.When.UnixMicro()} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	for _, text := range [...]string{s.Name, string(s.Action), string(s.From), string(s.To), s.Who, s.Why, s.Author} {
		b = appendText(b, text)
	}
	b = append(b, s.Source[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(s.Detail)))
	for _, key := range slices.Sorted(maps.Keys(s.Detail)) {
		b = appendText(appendText(b, key), s.Detail[key])
	}
	return sha256.Sum256(b)
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// Breach is one place where an audit does not hold.
type Breach struct {
	Name string // the ruleset
	Step int64  // its step; 0: the whole
	What string
}

// String says where and what.
func (b Breach) String() string {
	if b.Step == 0 {
		return b.Name + ": " + b.What
	}
	return fmt.Sprintf("%s, step %d: %s", b.Name, b.Step, b.What)
}

// Audit checks the whole audit of one ruleset, in order of sequence: gapless, unchanged, each step allowed by the closed
// list and following from the one before it, ending where the rulebook says it ends. None may be left out.
func Audit(name string, steps []Step, head Head) []Breach {
	a := auditor{name: name, at: map[Ref]*Step{}}
	for i := range steps {
		a.step(&steps[i], int64(i+1))
	}
	if a.last.Step != head.Step || a.last.Hash != head.Hash {
		a.breach(0, "the audit ends at step %d, the rulebook says %d (or its hash differs): steps are missing or were added", a.last.Step, head.Step)
	}
	return a.breaches
}

type auditor struct {
	name     string
	at       map[Ref]*Step // newest step of each version
	last     Head
	breaches []Breach
}

func (a *auditor) breach(step int64, format string, args ...any) {
	a.breaches = append(a.breaches, Breach{a.name, step, fmt.Sprintf(format, args...)})
}

func (a *auditor) step(s *Step, want int64) {
	before := a.at[s.Ref]
	var status Status
	if before != nil {
		status = before.To
		if before.Author != s.Author || before.Source != s.Source {
			a.breach(s.Sequence, "the author or the source of %s is another than before", s.Ref)
		}
	}
	switch {
	case s.Sequence != want || s.Name != a.name:
		a.breach(s.Sequence, "step %d is missing", want)
	case s.Previous != a.last.Hash:
		a.breach(s.Sequence, "it does not follow from the step before: one of the two was changed")
	case s.Hash != s.Sum():
		a.breach(s.Sequence, "it was changed after it had been written down")
	case s.When.Before(a.last.When):
		a.breach(s.Sequence, "it lies before the step before it")
	}
	if s.From != status || !transitions[transition{s.Action, s.From, s.To}] {
		a.breach(s.Sequence, "%s cannot %s from %q to %q", s.Ref, s.Action, status, s.To)
	}
	if s.Action == Approve && same(s.Who, s.Author) {
		a.breach(s.Sequence, "%s was approved by its author", s.Ref)
	}
	a.at[s.Ref], a.last = s, Head{s.Sequence, s.Hash, s.When}
}
