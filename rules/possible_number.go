package rules

import (
	"math"
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"sluice/schemas/events"
)

// bounds are what a number can be.
type bounds struct {
	low, high Decimal
	open      bool // high bounds nothing
	below     bool // low bounds nothing
	nonzero   bool
	whole     bool
}

var (
	unbounded  = bounds{open: true, below: true}
	fromZero   = bounds{open: true}
	aboveZero  = bounds{open: true, nonzero: true}
	zeroToOne  = bounds{high: Int(1)}
	anAmount   = bounds{high: Int(events.MaxAmount), nonzero: true}
	aCountFrom = func(low int64) bounds { return bounds{low: Int(low), open: true, whole: true} }
	between    = func(low, high int64) bounds { return bounds{low: Int(low), high: Int(high), whole: true} }
)

// number is what the case says of an expression that is a number.
func (p *possibility) number(e ast.Expr) fact {
	if v := p.scope.variable(reference(p.tree, e)); v != nil {
		return p.variableNumber(v)
	}
	if d, ok := constant(p.tree, e); ok {
		return fact{known: true, exact: true, number: d}
	}
	if !p.numberKnown(e) {
		return fact{}
	}
	text := show(p.tree, e)
	return p.fact(text, func() fact {
		b := unbounded
		if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == similarityName {
			b = zeroToOne
			if v := p.scope.variable(reference(p.tree, e.AsCall().Args()[2])); v != nil && !p.word(v).known {
				return fact{known: true, exact: true} // nothing is like a missing name
			}
		}
		b.whole = typeOf(p.tree.GetType(e.ID())) == intType
		return p.among(text, b)
	})
}

// among chooses one of the constants or a place between them, within bounds.
func (p *possibility) among(key string, b bounds) fact {
	constants := p.numbers[key]
	options, ok := representatives(constants, b)
	if !ok || len(constants) == 0 {
		return fact{known: true}
	}
	if len(options) == 0 {
		return fact{known: true}
	}
	return fact{known: true, exact: true, number: options[p.choose(len(options))]}
}

// representatives returns each constant within the bounds, and one number from each gap; false when a gap's number does
// not fit.
func representatives(constants []Decimal, b bounds) (options []Decimal, ok bool) {
	inside := func(d Decimal) bool {
		return (b.below || d.Compare(b.low) >= 0) && (b.open || d.Compare(b.high) <= 0) && !(b.nonzero && d.Coefficient == 0)
	}
	ok = true
	add := func(d Decimal, fits bool) {
		ok = ok && fits
		if fits && inside(d) && !slices.ContainsFunc(options, func(o Decimal) bool { return o.Compare(d) == 0 }) {
			options = append(options, d)
		}
	}
	edges := slices.Clone(constants)
	if !b.below {
		edges = append(edges, b.low)
	}
	if !b.open {
		edges = append(edges, b.high)
	}
	slices.SortFunc(edges, Decimal.Compare)
	if len(edges) == 0 {
		return nil, true
	}
	for i, d := range edges {
		add(d, true)
		if i > 0 {
			add(gap(edges[i-1], d, b.whole))
		}
	}
	if b.below {
		add(edges[0].Subtract(Int(1)))
	}
	if b.open {
		add(edges[len(edges)-1].Add(Int(1)))
	}
	return options, ok
}

// gap returns a number between two. Between whole numbers without another between them it returns one of them.
func gap(a, b Decimal, whole bool) (Decimal, bool) {
	if !whole {
		sum, ok := a.Add(b)
		if !ok {
			return sum, false
		}
		return sum.Multiply(Decimal{5, 1})
	}
	// The least whole number above a; with b a constant such as 2.5 it may be the only one.
	a = a.trim()
	floor := a.Coefficient / int64(powersOfTen[a.Exponent])
	if a.Coefficient < 0 && a.Exponent > 0 {
		floor--
	}
	next, ok := Int(floor).Add(Int(1))
	if ok && next.Compare(b) > 0 {
		return a, a.Exponent == 0
	}
	return next, ok
}

// variableNumber is what the case says of a variable that is a number.
func (p *possibility) variableNumber(v *variable) fact {
	return p.fact(v.name, func() fact {
		b, known := p.readable(v)
		if !known {
			p.missing = append(p.missing, missingPhrase(v.name))
			return fact{}
		}
		return p.among(v.name, b)
	})
}

// readable says whether a number is known in the case, and its bounds.
func (p *possibility) readable(v *variable) (bounds, bool) {
	if v.name == rateName {
		return aboveZero, p.rateKnown()
	}
	if v.in&(1<<p.kind) == 0 {
		return bounds{}, false
	}
	if i := v.reads - 1; i >= 0 && i < len(p.aggregates) && p.aggregates[i].Name == v.name {
		return p.aggregate(&p.aggregates[i])
	}
	if v.model != nil {
		return v.bounds, p.modelKnown(v.model)
	}
	b := v.bounds
	if b == (bounds{}) {
		b = unbounded
	}
	b.whole = v.typ == intType
	return b, v.always.Has(p.kind) || p.choose(2) == 0
}

// rateKnown says whether the event's currency has a rate.
func (p *possibility) rateKnown() bool {
	currency := p.word(p.scope.variable("event.currency"))
	if currency.exact {
		c, _ := events.ParseCurrency(currency.word)
		_, ok := p.conversion.Rate(c)
		return ok
	}
	return p.either("the currency has a rate")
}

// aggregate says whether an aggregate is known in the case, and its bounds.
func (p *possibility) aggregate(a *Aggregate) (bounds, bool) {
	if !p.present(a.For.First) || !p.present(a.For.Second) {
		return bounds{}, false
	}
	if a.Amount != NoAmount && !p.word(p.scope.variable("event.currency")).known {
		return bounds{}, false
	}
	switch a.Func {
	case Count, Distinct:
		if p.counted(a) {
			return aCountFrom(1), true
		}
		return aCountFrom(0), true
	case Sum:
		if p.counted(a) {
			return aboveZero, true
		}
		return fromZero, true
	case Avg, Min, Max:
		return aboveZero, p.counted(a) || p.choose(2) == 0
	case Age:
		return fromZero, p.counted(a) || p.choose(2) == 0
	case Since:
		// What is older than the window is forgotten, with a coarse edge.
		return bounds{high: Int(2 * int64(a.Window))}, p.choose(2) == 0
	case Cycle:
		return between(MinHops, int64(a.Hops)), p.choose(2) == 0
	}
	return fromZero, p.choose(2) == 0
}

// modelKnown says whether a model has all it needs in the case.
func (p *possibility) modelKnown(m *Model) bool {
	tree := p.tree
	defer func() { p.tree = tree }()
	for i, c := range m.exprs {
		p.tree = c.tree()
		if e := p.tree.Expr(); !m.model.TakesMissing(i) && !p.featureKnown(m, i, e) {
			p.missing = append(p.missing, missingPhrase(show(p.tree, e)))
			return false
		}
	}
	return true
}

func (p *possibility) featureKnown(m *Model, feature int, e ast.Expr) bool {
	switch typeOf(p.tree.GetType(e.ID())) {
	case boolType:
		return p.truth(e) != Unknown
	case stringType:
		word := p.text(e)
		if !word.exact {
			return word.known && p.either(m.Name+" knows "+show(p.tree, e))
		}
		return word.known && !math.IsNaN(m.model.Code(feature, word.word))
	}
	return p.numberKnown(e)
}

// present says whether the event has a field in the case.
func (p *possibility) present(f Field) bool {
	if f == NoField {
		return true
	}
	v := p.scope.variable(fieldVariable(f, p.kind))
	return v != nil && p.word(v).known
}

// counted says whether the event itself surely adds to an aggregate that it reads.
func (p *possibility) counted(a *Aggregate) bool {
	switch {
	case a.Delay != 0, a.By != a.For, !a.Of.Has(p.kind), a.Amount > EventAmount, !p.present(a.Field):
		return false
	case a.Amount == EventAmount && !amountAlways.Has(p.kind):
		return false
	case a.Where == nil:
		return true
	}
	tree := p.tree
	p.tree = a.Where.tree()
	t := p.truth(p.tree.Expr())
	p.tree = tree
	return t == True
}

// fieldVariable is the variable that a field is in conditions.
func fieldVariable(f Field, kind events.Kind) string {
	if f == Counterparty && kind.Family() == events.Behavior {
		return "behavior.payee"
	}
	return [...]string{Customer: "customer.id", Device: "device.id", IP: "ip.address", Merchant: "payment.merchant", Card: "payment.card",
		Counterparty: "payment.counterparty", Document: "behavior.document", Account: "payment.account", Country: "location.country",
		Channel: "event.channel", Category: "payment.merchant_category"}[f]
}

// numberKnown says whether an expression that is a number is known in the case. What does not fit counts as known: no
// amount of an event comes near it.
func (p *possibility) numberKnown(e ast.Expr) bool {
	if v := p.scope.variable(reference(p.tree, e)); v != nil {
		return v.typ == stringType || p.known(v)
	}
	if _, ok := constant(p.tree, e); ok || e.Kind() != ast.CallKind {
		return true
	}
	call := e.AsCall()
	args := call.Args()
	switch call.FunctionName() {
	case operators.Conditional:
		switch p.truth(args[0]) {
		case True:
			return p.numberKnown(args[1])
		case False:
			return p.numberKnown(args[2])
		}
		return false
	case operators.Divide, "ratio":
		return p.numberKnown(args[0]) && p.numberKnown(args[1]) && p.nonzero(args[1])
	case similarityName, "size":
		return true
	}
	for _, arg := range args {
		if !p.numberKnown(arg) {
			return false
		}
	}
	return true
}

// nonzero says whether something may be divided by an expression in the case.
func (p *possibility) nonzero(e ast.Expr) bool {
	f := p.number(e)
	yes := f.number.Coefficient != 0
	if !f.exact {
		yes = p.either(show(p.tree, e) + " is not zero")
	}
	if !yes {
		p.missing = append(p.missing, show(p.tree, e)+" can be zero")
	}
	return yes
}
