package rules

import "sluice/schemas/events"

// Conditions are conditions on events that stand in other files than rulesets, such as the rules of routing. They name the
// variables of the language, no aggregates and no models.
type Conditions struct{ ruleset *Ruleset }

// NewConditions returns a place to compile conditions in.
func NewConditions() (*Conditions, error) {
	s, err := newScope(nil, nil)
	if err != nil {
		return nil, err
	}
	return &Conditions{&Ruleset{scope: s}}, nil
}

// Compile reads the condition at a node for one kind of event. Mistakes are noted in the file, with their place; then it
// returns nil.
func (c *Conditions) Compile(d *YAML, n Node, what string, kind events.Kind) *Condition {
	before := len(d.d.mistakes)
	compiled := d.d.expression(c.ruleset.scope, n, what)
	if compiled == nil {
		return nil
	}
	l := loader{document: &d.d, ruleset: c.ruleset}
	for _, name := range sortedNames(compiled) {
		l.checkIn(n, what, c.ruleset.scope.variable(name), 1<<kind)
	}
	if len(d.d.mistakes) > before {
		return nil
	}
	return compiled
}

// NewFrame returns a frame for all conditions compiled so far.
func (c *Conditions) NewFrame() *Frame { return c.ruleset.NewFrame() }
