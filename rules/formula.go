package rules

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"

	"sluice/schemas/events"
)

// Term is a word that a file beside rulesets gives its formulas, besides words of the event. Exactly one of Amount, Flag and
// Text says what it is.
type Term struct {
	Name   string
	Says   string // for a person
	Amount bool   // money, from 0 to events.MaxAmount; its value is set with Frame.Set
	AtMost string // an Amount: the term it is never above, "" none
	Flag   bool   // true where the value set with Frame.Set is known
	Text   func(*events.Event) string
}

// Terms is what the formulas of a file can name. Conditions and numbers of one Terms are evaluated over its frames.
type Terms struct {
	scope *scope
	own   []Term
	words []string
}

// NewTerms takes words of the vocabulary of events, and the file's own. A number that Frame.Set gives has the index of its
// term. The error is a mistake of the program.
func NewTerms(words []string, own []Term) (*Terms, error) {
	t := &Terms{scope: &scope{vars: map[string]*variable{}, beside: true}, own: own, words: words}
	var declare []cel.EnvOption
	for _, word := range words {
		i := slices.IndexFunc(variables, func(v variable) bool { return v.name == word })
		if i < 0 {
			return nil, fmt.Errorf("no variable is called %q", word)
		}
		declare = append(declare, t.scope.add(&variables[i])...)
	}
	for i := range own {
		declare = append(declare, t.scope.add(own[i].variable(i))...)
	}
	base, err := baseEnv()
	if err != nil {
		return nil, err
	}
	t.scope.env, err = base.Extend(declare...)
	return t, err
}

func (t *Term) variable(i int) *variable {
	v := variable{name: t.Name, says: t.Says, in: everyKind, always: everyKind}
	switch {
	case t.Amount:
		v.typ, v.bounds = moneyType, bounds{high: Int(events.MaxAmount)}
		v.decimal = func(f *Frame) (Decimal, bool) { return f.values[i].Decimal, true }
	case t.Flag:
		v.typ, v.flag = boolType, func(f *Frame) bool { return f.values[i].Known }
	default:
		v.typ, v.always = stringType, 0
		v.text = func(f *Frame) string { return t.Text(f.event) }
	}
	return &v
}

// Words lists what formulas can name, each with what it means.
func (t *Terms) Words() [][2]string {
	var all [][2]string
	for _, o := range t.own {
		all = append(all, [2]string{o.Name, o.Says})
	}
	for _, word := range t.words {
		all = append(all, [2]string{word, t.scope.vars[word].says})
	}
	return all
}

// NewFrame returns a frame for formulas. It is reused with Reset and Set, and belongs to one goroutine.
func (t *Terms) NewFrame() *Frame {
	f := &Frame{values: make([]Value, len(t.own)), read: make([]bool, len(t.own))}
	f.activation = activation{frame: f, scope: t.scope}
	return f
}

// Condition reads a condition; nil after a mistake, which is noted with its place.
func (t *Terms) Condition(d *YAML, n Node, what string) *Condition {
	c := d.d.expression(t.scope, n, what)
	if c == nil || !t.affordable(d, n, what, c.checked) {
		return nil
	}
	return c
}

// Number reads a formula of a number; nil after a mistake, which is noted with its place.
func (t *Terms) Number(d *YAML, n Node, what string) *Number {
	text, ok := scalar(n)
	if !ok || strings.TrimSpace(text) == "" {
		d.Fail(n, "%s is a number or a formula, such as amount * 0.006", what)
		return nil
	}
	x, mistakes := t.scope.number(text)
	for _, m := range mistakes {
		line, column := d.d.within(n, text, m.line, m.column)
		d.d.failAt(line, column, "%s: %s", what, m.message)
	}
	if x == nil || !t.affordable(d, n, what, x.checked) {
		return nil
	}
	return x
}

// affordable refuses what costs too much.
func (t *Terms) affordable(d *YAML, n Node, what string, checked *cel.Ast) bool {
	estimate, err := t.scope.env.EstimateCost(checked, sizes{})
	if err == nil && estimate.Max > MaxCost {
		d.Fail(n, "%s: it can cost %d, more than %d; make it shorter", what, estimate.Max, MaxCost)
		return false
	}
	return true
}

// maxRunsFixed bounds the cases that Can looks at: a file asks it about each of its conditions for each purpose and method.
const maxRunsFixed = 500

// Can says whether a condition can hold, and whether it can fail to, where some words and flags are fixed. It may find an
// outcome that no event has, and never misses one.
func (t *Terms) Can(c *Condition, words map[string]string, flags map[string]bool) (hold, fail bool) {
	fixed := map[string]fact{}
	for name, word := range words {
		fixed[name] = fact{known: word != "", exact: true, word: word}
	}
	for name, is := range flags {
		f := fact{}
		if is {
			f.choice = 1
		}
		fixed[name] = f
	}
	p := &possibility{scope: t.scope, kind: events.PaymentInitiated, tree: c.tree(),
		numbers: map[string][]Decimal{}, words: map[string][]string{}}
	p.constants(c.tree(), c.tree().Expr())
	set, _ := p.every(c.tree().Expr(), fixed, maxRunsFixed)
	return set.has(True), set.has(False) || set.has(Unknown)
}

// every goes through the cases of an expression of type bool. One with more than most counts as one that can come to anything.
func (p *possibility) every(e ast.Expr, fixed map[string]fact, most int) (truthSet, []string) {
	for key := range p.numbers {
		slices.SortFunc(p.numbers[key], Decimal.Compare)
		p.numbers[key] = slices.CompactFunc(p.numbers[key], func(a, b Decimal) bool { return a.Compare(b) == 0 })
	}
	var set truthSet
	var missing []string
	for runs := 0; runs < most; runs++ {
		p.depth, p.found, p.missing = 0, map[string]fact{}, nil
		maps.Copy(p.found, fixed)
		t := p.truth(e)
		if t == Unknown && missing == nil {
			missing = p.missing
		}
		set |= 1 << t
		if set == everyTruth || !p.next() {
			return set, missing
		}
	}
	return everyTruth, missing
}

// Number is a checked CEL expression of a number: plain, an amount or a decimal.
type Number struct {
	Text    string // as written
	scope   *scope
	checked *cel.Ast
	eval    precise
}

// number checks a formula and lowers it.
func (s *scope) number(text string) (*Number, []exprMistake) {
	checked, mistakes := s.check(text, "formula")
	if mistakes != nil {
		return nil, mistakes
	}
	switch out := checked.OutputType(); {
	case out.IsExactType(cel.IntType), out.IsExactType(cel.DoubleType), out.IsExactType(celDecimal), out.IsExactType(celMoney):
	default:
		return nil, []exprMistake{{message: fmt.Sprintf("the formula is a %s; it must be a number", out)}}
	}
	l := lowering{tree: checked.NativeRep(), scope: s}
	n := &Number{Text: text, scope: s, checked: checked, eval: l.precise(l.tree.Expr())}
	if n.eval == nil {
		return nil, []exprMistake{{message: "the formula uses what only conditions can; write it with + - * / ? : and the functions of numbers"}}
	}
	return n, n.checkSteps()
}

// Eval answers the formula over a frame; false where a step of it does not fit a Decimal or divides by zero.
func (n *Number) Eval(f *Frame) (Decimal, bool) { return n.eval(f) }

// Units is the formula's answer as a whole number of units of so many decimals: minor units of a currency. It is exact, too
// where a step does not fit a Decimal; false where the answer does not fit, is unknown or divides by zero.
func (n *Number) Units(f *Frame, decimals uint8, how Rounding) (int64, bool) {
	if d, ok := n.eval(f); ok {
		if units, ok := d.Round(decimals, how).rescale(decimals); ok {
			return units, true
		}
	}
	x, ok := (&wide{n.checked.NativeRep(), n.scope, f}).number(n.checked.NativeRep().Expr())
	if !ok {
		return 0, false
	}
	units := roundRat(x.Mul(x, new(big.Rat).SetFrac(new(big.Int).SetUint64(powersOfTen[decimals]), big.NewInt(1))), how)
	return units.Int64(), units.IsInt64()
}

// Names says whether the formula names a term.
func (n *Number) Names(term string) bool {
	for _, info := range n.checked.NativeRep().ReferenceMap() {
		if info.Name == term {
			return true
		}
	}
	return false
}
