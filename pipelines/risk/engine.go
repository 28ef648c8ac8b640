package risk

import (
	"sluice/rules"
	"sluice/schemas/events"
)

// Engine is a ruleset made ready to run: which aggregates each kind of event adds to, and by which keys. It does not
// change and may serve many States.
type Engine struct {
	rules  *rules.Ruleset
	id     string
	series map[uint32]*definition // by rules.Aggregate.ID
	defs   []*definition          // by index of the aggregate in the ruleset; equal definitions are one
	adds   [maxKinds][]keyed
	before [maxKinds][]int  // Since aggregates that this kind adds to and a rule of this kind reads
	idle   map[string]int64 // how long an entity matters after its newest event, in milliseconds, by what its key starts with
}

// maxKinds bounds the numbers of event kinds: rules.Kinds has as many bits.
const maxKinds = 64

// keyed is what one kind of event adds to the entity of one key.
type keyed struct {
	key  rules.Key
	defs []*definition
}

// definition is one aggregate's state, whatever names it has.
type definition struct {
	id     uint32
	fn     rules.Func
	amount rules.Amount
	field  rules.Field
	of     rules.Kinds
	where  *rules.Condition
	by     rules.Key
	tile   int64 // milliseconds
}

// NewEngine makes a loaded ruleset ready.
func NewEngine(rs *rules.Ruleset) *Engine {
	e := &Engine{rules: rs, id: rs.ID(), series: make(map[uint32]*definition, len(rs.Aggregates)), idle: map[string]int64{}}
	for i := range rs.Aggregates {
		a := &rs.Aggregates[i]
		d := e.series[a.ID]
		if d == nil {
			d = &definition{a.ID, a.Func, a.Amount, a.Field, a.Of, a.Where, a.By, a.Window.Milliseconds() / tilesPerWindow}
			e.series[a.ID] = d
			e.schedule(d)
		}
		e.defs = append(e.defs, d)
		// The longest window of the key's aggregates, with its coarse edge.
		e.idle[a.By.String()] = max(e.idle[a.By.String()], (tilesPerWindow+1)*d.tile)
	}
	for _, kind := range events.Kinds() {
		for _, i := range rs.Reads(kind) {
			if a := &rs.Aggregates[i]; a.Func == rules.Since && a.Of.Has(kind) {
				e.before[kind] = append(e.before[kind], i)
			}
		}
	}
	return e
}

// schedule notes which kinds of events add to a definition, grouped by key so that an entity is looked up once an event.
func (e *Engine) schedule(d *definition) {
	for _, kind := range events.Kinds() {
		if !d.of.Has(kind) {
			continue
		}
		at := -1
		for i := range e.adds[kind] {
			if e.adds[kind][i].key == d.by {
				at = i
			}
		}
		if at < 0 {
			at = len(e.adds[kind])
			e.adds[kind] = append(e.adds[kind], keyed{key: d.by})
		}
		e.adds[kind][at].defs = append(e.adds[kind][at].defs, d)
	}
}

// Ruleset returns the ruleset the engine runs.
func (e *Engine) Ruleset() *rules.Ruleset { return e.rules }
