package rules

import (
	"sluice/schemas/events"
)

// Frame is what the conditions of one ruleset read: an event, the customer's tier and the aggregates, each read at most
// once an event. It is reused from event to event and belongs to one goroutine.
type Frame struct {
	event  *events.Event
	tier   string
	source Aggregates
	lists  Lists  // nil: empty
	brakes Brakes // nil: none holds
	values []Value
	read   []bool

	ruleset *Ruleset
	models  []modelState
	row     []float64 // of the model being asked

	activation activation // for conditions that cel-go evaluates
	outcome    Outcome    // of the event in hand; its slices are kept from event to event
	truths     []Truth    // of the rules asked, in the order of Ruleset.byKind
	snooze     []byte     // scratch
	questions  []question // of the ruleset
	answers    []answer   // by question
	memo       []uint8    // by slot of a shared sub-condition: 0, or 1 + its truth
	exponent   uint8      // decimals of the event's currency
}

// NewFrame returns a frame for a ruleset's conditions.
func (r *Ruleset) NewFrame() *Frame {
	f := &Frame{values: make([]Value, len(r.Aggregates)), read: make([]bool, len(r.Aggregates)),
		ruleset: r, models: make([]modelState, len(r.Models)), truths: make([]Truth, len(r.Rules)),
		questions: r.scope.questions, answers: make([]answer, len(r.scope.questions)), memo: make([]uint8, r.slots)}
	f.activation = activation{frame: f, scope: r.scope}
	return f
}

// Context is what is known beside the event itself.
type Context struct {
	Tier       string     // value tier of the customer, "" unknown
	Aggregates Aggregates // conditions of aggregates (where:) need none
	Lists      Lists      // nil: every list is empty
	Brakes     Brakes     // nil: none holds
}

// Reset turns the frame to the next event.
func (f *Frame) Reset(e *events.Event, c Context) {
	f.event, f.tier, f.source, f.lists, f.brakes = e, c.Tier, c.Aggregates, c.Lists, c.Brakes
	clear(f.read)
	clear(f.models)
	clear(f.answers)
	clear(f.memo)
	f.exponent = uint8(e.Currency.Exponent())
	f.outcome.reset()
}

// Set gives an aggregate's value beforehand, for one that must be read before the event itself is counted.
func (f *Frame) Set(index int, v Value) { f.values[index], f.read[index] = v, true }

// Aggregate returns an aggregate's value.
func (f *Frame) Aggregate(index int) Value {
	if !f.read[index] {
		f.values[index] = f.source.Aggregate(index)
		f.read[index] = true
	}
	return f.values[index]
}

// amount turns minor units into a decimal of major units.
func (f *Frame) amount(minor int64) Decimal {
	return Decimal{minor, f.exponent}
}

// Evidence calls yield for each aggregate that a rule has read of the event in hand.
func (f *Frame) Evidence(rule *Rule, yield func(index int, v Value)) {
	for _, i := range rule.Reads {
		if f.read[i] {
			yield(i, f.values[i])
		}
	}
}

// nanoseconds turns an aggregate of seconds into a duration.
func nanoseconds(d Decimal) int64 {
	for e := d.Exponent; e < 9; e++ {
		d.Coefficient *= 10
	}
	return d.Coefficient
}
