package rules

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"sluice/schemas/events"
)

// traceVersion starts every trace, so that its form may change.
const traceVersion = 1

// maxTraceRules bounds what a trace may claim to hold, so that a broken one cannot exhaust memory.
const maxTraceRules = MaxRules

// Trace appends what Evaluate has just asked and been told: the truth of each rule asked (2 bits), which were snoozed or
// braked, the tier, and each value of an aggregate, a model or a list that was read. With the ruleset and the event it is
// all that Explain needs. It is some tens of bytes.
//
//	version, then each as a uvarint count and its items:
//	  truths      2 bits for each rule of the event's kind, in the ruleset's order
//	  snoozed     positions among these rules, each as the distance from the one before
//	  braked      the same
//	  aggregates  distance of the index, value
//	  models      distance of the index, value
//	  lists       distance of the question's index, value (0 or 1 for listed)
//	  tier        bytes
//	a value is a byte, 32 if known plus its exponent, then its coefficient as a varint if known.
func (f *Frame) Trace(out []byte) []byte {
	asked := f.ruleset.byKind[f.event.Kind]
	out = append(out, traceVersion)
	out = binary.AppendUvarint(out, uint64(len(asked)))
	for i := 0; i < len(asked); i += 4 {
		b := byte(0)
		for j, t := range f.truths[i:min(i+4, len(asked))] {
			b |= byte(t) << (2 * j)
		}
		out = append(out, b)
	}
	out = appendPositions(out, asked, f.outcome.Snoozed)
	out = appendPositions(out, asked, f.outcome.Braked)
	out = appendCount(out, f.read, func(read bool) bool { return read })
	last := 0
	for i, read := range f.read {
		if read {
			out = appendValue(binary.AppendUvarint(out, uint64(i-last)), f.values[i])
			last = i
		}
	}
	out = appendCount(out, f.models, func(m modelState) bool { return m.read })
	last = 0
	for i := range f.models {
		if f.models[i].read {
			out = appendValue(binary.AppendUvarint(out, uint64(i-last)), f.models[i].value)
			last = i
		}
	}
	out = appendCount(out, f.answers, func(a answer) bool { return a.asked })
	last = 0
	for i := range f.answers {
		if a := &f.answers[i]; a.asked {
			out = appendValue(binary.AppendUvarint(out, uint64(i-last)), a.value())
			last = i
		}
	}
	out = binary.AppendUvarint(out, uint64(len(f.tier)))
	return append(out, f.tier...)
}

func appendCount[T any](out []byte, all []T, counts func(T) bool) []byte {
	n := uint64(0)
	for _, v := range all {
		if counts(v) {
			n++
		}
	}
	return binary.AppendUvarint(out, n)
}

// appendPositions writes where some of the rules asked stand among them.
func appendPositions(out []byte, asked, some []*Rule) []byte {
	out = binary.AppendUvarint(out, uint64(len(some)))
	last, next := 0, 0
	for i := range asked {
		if next < len(some) && asked[i].Index == some[next].Index {
			out = binary.AppendUvarint(out, uint64(i-last))
			last = i
			next++
		}
	}
	return out
}

const knownBit = 32

func appendValue(out []byte, v Value) []byte {
	if !v.Known {
		return append(out, 0)
	}
	return binary.AppendVarint(append(out, knownBit|v.Decimal.Exponent), v.Decimal.Coefficient)
}

// value is the answer as a number: 0 or 1 for listed.
func (a *answer) value() Value {
	if a.listed {
		return Value{Int(1), true}
	}
	return Value{a.similarity, true}
}

// errTrace says that bytes are no trace of the ruleset and event they are read with.
var errTrace = errors.New("the trace does not fit this ruleset and this kind of event")

// traceReader reads a trace; the first thing wrong empties it.
type traceReader struct {
	rest []byte
	bad  bool
}

func (r *traceReader) fail() { r.rest, r.bad = nil, true }

func (r *traceReader) uvarint(most int) int {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > uint64(most) {
		r.fail()
		return 0
	}
	r.rest = r.rest[size:]
	return int(n)
}

func (r *traceReader) byte() byte {
	if len(r.rest) == 0 {
		r.fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *traceReader) value() Value {
	b := r.byte()
	if b&knownBit == 0 {
		return Value{}
	}
	n, size := binary.Varint(r.rest)
	if exponent := b &^ knownBit; size > 0 && exponent <= maxExponent {
		r.rest = r.rest[size:]
		return Value{Decimal{n, exponent}, true}
	}
	r.fail()
	return Value{}
}

// positions reads a list of distances below n and calls set for each position.
func (r *traceReader) positions(n int, set func(i int)) {
	at := 0
	for range r.uvarint(n) {
		if at += r.uvarint(n); r.bad || at >= n {
			r.fail()
			return
		}
		set(at)
	}
}

// heldThen are the brakes that held when a trace was made, by index of the rule.
type heldThen []bool

// Held says whether a rule was held.
func (h heldThen) Held(rule int) bool { return h[rule] }

// unknownAggregates is the source of values that a trace does not have: nothing had read them.
type unknownAggregates struct{}

// Aggregate knows nothing.
func (unknownAggregates) Aggregate(int) Value { return Value{} }

// restore turns a new frame to the moment a trace was made; the outcome is settled from the trace's truths.
func (r *Ruleset) restore(e *events.Event, trace []byte) (*Frame, error) {
	f := r.NewFrame()
	asked := r.byKind[e.Kind]
	in := traceReader{rest: trace}
	if v := in.byte(); v != traceVersion {
		return nil, fmt.Errorf("the trace has version %d; this sluice reads version %d", v, traceVersion)
	}
	if n := in.uvarint(maxTraceRules); n != len(asked) {
		return nil, errTrace
	}
	snoozed, held := make([]bool, len(r.Rules)), make(heldThen, len(r.Rules))
	f.Reset(e, Context{Aggregates: unknownAggregates{}, Brakes: held})
	for i := 0; i < len(asked); i += 4 {
		b := in.byte()
		for j := i; j < min(i+4, len(asked)); j++ {
			f.truths[j] = Truth(b >> (2 * (j - i)) & 3)
			if f.truths[j] > Unknown {
				in.fail()
			}
		}
	}
	in.positions(len(asked), func(i int) { snoozed[asked[i].Index] = true })
	in.positions(len(asked), func(i int) { held[asked[i].Index] = true })
	in.positions(len(f.values), func(i int) { f.Set(i, in.value()) })
	in.positions(len(f.models), func(i int) { f.SetModel(i, in.value()) })
	in.positions(len(f.answers), func(i int) {
		f.answers[i] = answer{asked: true}
		if v := in.value(); f.questions[i].similarity {
			f.answers[i].similarity = v.Decimal
		} else {
			f.answers[i].listed = v.Decimal.Coefficient != 0
		}
	})
	tier := in.uvarint(events.MaxWordBytes)
	if in.bad || tier != len(in.rest) {
		return nil, errTrace
	}
	f.tier = string(in.rest)
	r.settle(f, func(rule *Rule) bool { return snoozed[rule.Index] })
	return f, nil
}

// readsOf lists what a rule's condition has read.
func (f *Frame) readsOf(rule *Rule) []Reading {
	var all []Reading
	for _, i := range rule.Reads {
		if f.read[i] {
			all = append(all, Reading{f.ruleset.Aggregates[i].Name, f.values[i].text()})
		}
	}
	for i := range f.ruleset.Models {
		if name := f.ruleset.Models[i].Name; f.models[i].read && (rule.When.names[name] || rule.When.names[knownPrefix+name]) {
			all = append(all, f.modelReadings(i)...)
		}
	}
	return slices.Clip(all)
}

func (v Value) text() string {
	if !v.Known {
		return unknownText
	}
	return v.Decimal.String()
}
