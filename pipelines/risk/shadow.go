package risk

import (
	"sluice/rules"
	"sluice/schemas/events"
)

// asker asks one ruleset about the event in hand: it answers what the conditions read.
type asker struct {
	state *State
	set   *ruleset
	frame *rules.Frame
}

// Aggregate reads an aggregate for the event being decided, over the partial sums of all partitions.
func (a *asker) Aggregate(index int) rules.Value {
	return a.state.aggregate(a.set.defs[index], &a.set.rules.Aggregates[index])
}

// Shadow is what a shadow ruleset says of an event.
type Shadow struct {
	Ruleset string         // "fraud@4"
	Verdict events.Verdict // Observed for events that ask nothing
	Score   int32
	Hits    []events.Hit
	Snoozed []string // as in events.Decision
	Trace   []byte   // the same, of this ruleset
}

// Shadows returns what each shadow ruleset says of the event decided last, in the order they were given to NewEngine; none
// for a duplicate. The slice is good until the next Decide, what it holds is the caller's to keep. The live verdict, and what live aggregates hold, do not depend
// on shadows.
func (s *State) Shadows() []Shadow { return s.shadows }

// ask asks the shadow rulesets.
func (s *State) ask() {
	for i := 1; i < len(s.askers); i++ {
		a := &s.askers[i]
		o := a.set.rules.Evaluate(a.frame)
		s.charge(a, o.Charged)
		s.shadows = append(s.shadows, Shadow{a.set.id, o.Verdict, o.Score, s.told.hits(o), s.told.snoozed(o),
			s.told.trace(a, o)})
	}
}
