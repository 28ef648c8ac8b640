package risk

import (
	"slices"

	"sluice/rules"
	"sluice/schemas/events"
)

// ErrorPrefix starts the name of an evidence value that tells of a rule which could not be evaluated: "error/card-testing".
// Something it reads is unknown for this event, and the rule does not say what then.
const ErrorPrefix = "error/"

// maxErrors bounds how many of these one decision carries.
const maxErrors = 8

// Elements and bytes made at a time: some kB each.
const (
	pieceOfElements = 128
	pieceOfBytes    = 8192
)

// telling writes outcomes into decisions. What it returns is the caller's to keep; it is cut from larger pieces, so that a
// decision costs less than an allocation.
type telling struct {
	hit   slab[events.Hit]
	value slab[events.Value]
	word  slab[string]
	bytes slab[byte]
	read  []reported // scratch
	text  []byte     // scratch
}

// reported is an aggregate that a rule that fired has read, and where its text ends.
type reported struct{ index, end int }

// hits are the rules that fired.
func (t *telling) hits(o rules.Outcome) []events.Hit {
	out := t.hit.take(len(o.Hits), pieceOfElements)
	braked := o.Braked
	for i, rule := range o.Hits {
		out[i] = events.Hit{Rule: rule.ID, Score: rule.Score, Reason: rule.Reason}
		if len(braked) > 0 && braked[0] == rule { // in the same order
			out[i].Braked, braked = true, braked[1:]
		}
	}
	return out
}

// snoozed are the ids of the rules that would have fired.
func (t *telling) snoozed(o rules.Outcome) []string {
	out := t.word.take(len(o.Snoozed), pieceOfElements)
	for i, rule := range o.Snoozed {
		out[i] = rule.ID
	}
	return out
}

// evidence is what the rules that fired have read, and which rules could not be evaluated.
func (t *telling) evidence(a *asker, o rules.Outcome) []events.Value {
	t.read, t.text = t.read[:0], t.text[:0]
	for _, rule := range o.Hits {
		a.frame.Evidence(rule, func(index int, v rules.Value) {
			if slices.ContainsFunc(t.read, func(r reported) bool { return r.index == index }) {
				return
			}
			if v.Known {
				t.text = v.Decimal.Append(t.text)
			}
			t.read = append(t.read, reported{index, len(t.text)})
		})
	}
	errors := o.Errors[:min(len(o.Errors), maxErrors)]
	out := t.value.take(len(t.read)+len(errors), pieceOfElements)
	text, start := string(t.text), 0
	for i, r := range t.read {
		out[i] = events.Value{Name: a.set.rules.Aggregates[r.index].Name, Text: text[start:r.end]}
		start = r.end
	}
	for i, id := range errors {
		out[len(t.read)+i] = events.Value{Name: ErrorPrefix + id}
	}
	return out
}

// trace is what the ruleset was asked and told, for rules.Explain: of events that want a verdict, and those that a rule has
// something to say of.
func (t *telling) trace(a *asker, o rules.Outcome) []byte {
	if o.Verdict == events.Observed && len(o.Hits)+len(o.Snoozed)+len(o.Errors) == 0 {
		return nil
	}
	t.text = a.frame.Trace(t.text[:0])
	out := t.bytes.take(len(t.text), pieceOfBytes)
	copy(out, t.text)
	return out
}

// slab hands out slices of one large piece, which stays until the last of them is let go.
type slab[T any] struct{ rest []T }

// take returns n zero elements, nil for none; piece is how many are made at a time.
func (s *slab[T]) take(n, piece int) []T {
	if n == 0 {
		return nil
	}
	if n > len(s.rest) {
		s.rest = make([]T, max(n, piece))
	}
	out := s.rest[:n:n]
	s.rest = s.rest[n:]
	return out
}
