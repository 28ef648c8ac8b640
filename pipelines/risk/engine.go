package risk

import (
	"time"

	"sluice/pipelines/routing"
	"sluice/rules"
	"sluice/schemas/events"
)

// Engine is a live ruleset and its shadows made ready to run: which aggregates each kind of event adds to, and by which
// keys. An aggregate that several of them declare is kept once. An Engine does not change and may serve many States.
type Engine struct {
	sets   []*ruleset             // the live one, then the shadows
	series map[uint32]*definition // by rules.Aggregate.ID
	adds   [maxKinds][]keyed
	asked  [maxKinds][]*definition // what brakes count of each kind of event
	counts map[uint32]*definition  // what brakes count, by definition.id
	routes *routes                 // nil: nothing is routed
	idle   map[string]int64        // how long an entity matters after its newest event, in milliseconds, by what its key starts with
}

// ruleset is one ruleset of an engine.
type ruleset struct {
	rules  *rules.Ruleset
	id     string
	number int             // in Engine.sets
	defs   []*definition   // by index of the aggregate in the ruleset; equal definitions are one
	brakes []*brake        // by index of the rule, nil where it has none
	before [maxKinds][]int // Since aggregates that this kind adds to and a rule of this kind reads
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
	set    int // number of the ruleset it was first found in, whose frame answers where
	fn     rules.Func
	amount rules.Amount
	field  rules.Field
	of     rules.Kinds
	where  *rules.Condition
	by     rules.Key
	tile   int64 // milliseconds
	delay  int64 // milliseconds that the window ends before the event
	span   int64 // tiles of the window
	keep   int64 // tiles of window and delay
	hops   uint8 // of the longest cycle
}

// define makes an aggregate's definition.
func define(a *rules.Aggregate, set int) *definition {
	d := &definition{id: a.ID, set: set, fn: a.Func, amount: a.Amount, field: a.Field, of: a.Of, where: a.Where, by: a.By, hops: uint8(a.Hops)}
	d.slide(a.Window, a.Delay)
	return d
}

// slide divides window and delay into tiles: 96 a window, fewer if the two would have more than maxTiles together.
func (d *definition) slide(window, delay time.Duration) {
	w := window.Milliseconds()
	d.delay = delay.Milliseconds()
	d.span = max(1, min(tilesPerWindow, maxTiles*w/(w+d.delay)))
	d.tile = (w + d.span - 1) / d.span
	d.keep = d.span + (d.delay+d.tile-1)/d.tile
}

// NewEngine makes loaded rulesets ready: the live one decides, the shadows are asked beside it.
func NewEngine(live *rules.Ruleset, shadows ...*rules.Ruleset) *Engine {
	e := &Engine{series: map[uint32]*definition{}, counts: map[uint32]*definition{}, idle: map[string]int64{}}
	e.include(live)
	for _, s := range shadows {
		e.include(s)
	}
	return e
}

// Route makes the engine choose payment channels, before any State uses it. A nil table: none is chosen.
func (e *Engine) Route(table *routing.Table) *Engine {
	if table != nil {
		e.routes = newRoutes(e, table)
	}
	return e
}

// include makes one more ruleset ready.
func (e *Engine) include(rs *rules.Ruleset) {
	set := &ruleset{rules: rs, id: rs.ID(), number: len(e.sets)}
	e.sets = append(e.sets, set)
	for i := range rs.Aggregates {
		set.defs = append(set.defs, e.keep(&rs.Aggregates[i], set.number))
	}
	for _, kind := range events.Kinds() {
		for _, i := range rs.Reads(kind) {
			if a := &rs.Aggregates[i]; a.Func == rules.Since && a.Of.Has(kind) {
				set.before[kind] = append(set.before[kind], i)
			}
		}
	}
	e.brake(set)
}

// keep sees to it that an aggregate is counted, once whoever declares it.
func (e *Engine) keep(a *rules.Aggregate, set int) *definition {
	d := e.series[a.ID]
	if d == nil {
		d = define(a, set)
		e.series[a.ID] = d
		e.schedule(d)
	}
	e.matters(a.By.String(), d)
	return d
}

// matters notes how long entities whose key starts with a prefix are kept: the longest window and delay of their series,
// with its coarse edge.
func (e *Engine) matters(prefix string, d *definition) {
	e.idle[prefix] = max(e.idle[prefix], (d.keep+1)*d.tile)
}

// definitions are the series that an entity can have.
func (e *Engine) definitions(key string) map[uint32]*definition {
	if prefix(key) == brakesPrefix {
		return e.counts
	}
	return e.series
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

// Ruleset returns the live ruleset.
func (e *Engine) Ruleset() *rules.Ruleset { return e.sets[0].rules }

// Shadows returns the shadow rulesets, in the order of State.Shadows.
func (e *Engine) Shadows() []*rules.Ruleset {
	var out []*rules.Ruleset
	for _, set := range e.sets[1:] {
		out = append(out, set.rules)
	}
	return out
}
