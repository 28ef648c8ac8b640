package rules

import (
	"fmt"
	"math/big"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// span is what a formula can come to, whatever the event: interval arithmetic, and beside it a line that it never passes.
// It may be wider than what events bring about, never narrower.
type span struct {
	low, high *big.Rat // nil: no bound
	// The formula is at most slope × base + plus, base being an amount above zero; nil: no such line is known.
	slope, plus *big.Rat
}

// Range is what a formula can come to.
type Range struct {
	Low, High string // decimal; "" where there is no bound
	Negative  bool   // it can be below zero
	Bounded   bool   // it has an upper bound
}

// Range finds what a formula can come to.
func (n *Number) Range() Range {
	s := (&spans{tree: n.checked.NativeRep(), scope: n.scope}).of(n.checked.NativeRep().Expr())
	r := Range{Negative: s.low == nil || s.low.Sign() < 0, Bounded: s.high != nil}
	if s.low != nil {
		r.Low = plain(s.low)
	}
	if s.high != nil {
		r.High = plain(s.high)
	}
	return r
}

// AtMost says how a formula grows with a term: it is never above share × term + plus. known is false where no such line is found.
func (n *Number) AtMost(terms *Terms, term string) (share, plus *big.Rat, known bool) {
	s := (&spans{tree: n.checked.NativeRep(), scope: n.scope, terms: terms, base: term}).of(n.checked.NativeRep().Expr())
	return s.slope, s.plus, s.slope != nil
}

func plain(x *big.Rat) string {
	if x.IsInt() {
		return x.Num().String()
	}
	return x.FloatString(6)
}

// spans goes through a formula.
type spans struct {
	tree  *ast.AST
	scope *scope
	terms *Terms
	base  string // the term of lines, "" none
	// mistake is told of a division by what can be zero; nil: nobody is.
	mistake func(e ast.Expr, format string, args ...any)
}

// checkSteps refuses a formula with steps that have no answer on some events.
func (n *Number) checkSteps() []exprMistake {
	var all []exprMistake
	tree := n.checked.NativeRep()
	s := &spans{tree: tree, scope: n.scope, mistake: func(e ast.Expr, format string, args ...any) {
		m := exprMistake{message: fmt.Sprintf(format, args...)}
		if at := tree.SourceInfo().GetStartLocation(e.ID()); at.Line() > 0 {
			m.line, m.column = at.Line()-1, at.Column()
		}
		all = append(all, m)
	}}
	s.of(tree.Expr())
	return all
}

func (s *spans) of(e ast.Expr) span {
	switch e.Kind() {
	case ast.LiteralKind:
		if d, ok := asDecimal(e.AsLiteral()); ok && isNumber(e) {
			x := rat(d)
			return span{x, x, new(big.Rat), x}
		}
	case ast.IdentKind, ast.SelectKind:
		return s.variable(s.scope.variable(reference(s.tree, e)))
	case ast.CallKind:
		return s.call(e.AsCall())
	}
	return span{}
}

func (s *spans) variable(v *variable) span {
	if v == nil || v.bounds == (bounds{}) {
		return span{}
	}
	var x span
	if !v.bounds.below {
		x.low = rat(v.bounds.low)
	}
	if !v.bounds.open {
		x.high = rat(v.bounds.high)
		x.slope, x.plus = new(big.Rat), x.high
	}
	if s.base != "" && (v.name == s.base || s.atMostBase(v.name)) {
		x.slope, x.plus = big.NewRat(1, 1), new(big.Rat)
	}
	return x
}

func (s *spans) atMostBase(name string) bool {
	for _, t := range s.terms.own {
		if t.Name == name {
			return t.AtMost == s.base
		}
	}
	return false
}

func (s *spans) call(call ast.CallExpr) span {
	args := call.Args()
	if call.FunctionName() == operators.Conditional {
		return union(s.of(args[1]), s.of(args[2]))
	}
	x := s.of(args[0])
	if how, ok := roundings[call.FunctionName()]; ok {
		return x.rounded(how)
	}
	if call.FunctionName() == operators.Negate {
		zero := new(big.Rat)
		return span{zero, zero, zero, zero}.minus(x)
	}
	if len(args) != 2 {
		return span{}
	}
	y := s.of(args[1])
	switch call.FunctionName() {
	case operators.Add:
		return x.plusSpan(y)
	case operators.Subtract:
		d := x.minus(y)
		if s.base != "" && reference(s.tree, args[0]) == s.base && y.under() {
			d.low = atLeast(d.low, new(big.Rat))
		}
		return d
	case operators.Multiply:
		return x.times(y)
	case operators.Divide, "ratio":
		if s.mistake != nil && (y.low == nil || y.low.Sign() <= 0) && (y.high == nil || y.high.Sign() >= 0) {
			s.mistake(args[1], "%s can be zero, and nothing can be divided by zero; write max(%s, 1)", show(s.tree, args[1]), show(s.tree, args[1]))
		}
		return x.over(y)
	case "min":
		return lesser(x, y)
	case "max":
		return greater(x, y)
	}
	return span{}
}

// under says whether it is never above the base.
func (x span) under() bool {
	return x.slope != nil && x.slope.Cmp(big.NewRat(1, 1)) <= 0 && x.plus.Sign() <= 0
}

// The arithmetic of bounds; nil stays nil.
func add(a, b *big.Rat) *big.Rat {
	if a == nil || b == nil {
		return nil
	}
	return new(big.Rat).Add(a, b)
}

func sub(a, b *big.Rat) *big.Rat {
	if a == nil || b == nil {
		return nil
	}
	return new(big.Rat).Sub(a, b)
}

func mul(a, b *big.Rat) *big.Rat {
	if a == nil || b == nil {
		return nil
	}
	return new(big.Rat).Mul(a, b)
}

func smaller(a, b *big.Rat) *big.Rat {
	if a == nil || b == nil {
		return nil
	}
	if b.Cmp(a) < 0 {
		return b
	}
	return a
}

func larger(a, b *big.Rat) *big.Rat {
	if a == nil || b == nil {
		return nil
	}
	if b.Cmp(a) > 0 {
		return b
	}
	return a
}

// atLeast is a lower bound raised to another.
func atLeast(a, b *big.Rat) *big.Rat {
	if a == nil || b.Cmp(a) > 0 {
		return b
	}
	return a
}

func (x span) plusSpan(y span) span {
	return span{add(x.low, y.low), add(x.high, y.high), add(x.slope, y.slope), add(x.plus, y.plus)}.whole()
}

func (x span) minus(y span) span {
	return span{sub(x.low, y.high), sub(x.high, y.low), x.slope, sub(x.plus, y.low)}.whole()
}

// whole forgets half a line.
func (x span) whole() span {
	if x.slope == nil || x.plus == nil {
		x.slope, x.plus = nil, nil
	}
	return x
}

func (x span) fromZero() bool { return x.low != nil && x.low.Sign() >= 0 }

func (x span) times(y span) span {
	var out span
	switch {
	case x.low != nil && x.high != nil && y.low != nil && y.high != nil:
		products := []*big.Rat{mul(x.low, y.low), mul(x.low, y.high), mul(x.high, y.low), mul(x.high, y.high)}
		out.low, out.high = products[0], products[0]
		for _, p := range products[1:] {
			out.low, out.high = smaller(out.low, p), larger(out.high, p)
		}
	case x.fromZero() && y.fromZero():
		out.low = mul(x.low, y.low)
	}
	if !x.fromZero() || !y.fromZero() {
		return out
	}
	// Both are at least zero: the product is at most the line of one times the highest of the other.
	if y.high != nil && x.slope != nil {
		out.slope, out.plus = mul(x.slope, y.high), mul(x.plus, y.high)
	}
	if x.high != nil && y.slope != nil {
		other := span{slope: mul(y.slope, x.high), plus: mul(y.plus, x.high)}
		if out.slope == nil || other.better(out) {
			out.slope, out.plus = other.slope, other.plus
		}
	}
	return out
}

// better says whether a line is the more useful one: first that it starts at zero or below, then that it is flat.
func (x span) better(y span) bool {
	if (x.plus.Sign() <= 0) != (y.plus.Sign() <= 0) {
		return x.plus.Sign() <= 0
	}
	return x.slope.Cmp(y.slope) < 0
}

func (x span) over(y span) span {
	if y.low == nil || y.low.Sign() <= 0 || !x.fromZero() {
		return span{}
	}
	part := new(big.Rat).Inv(y.low)
	out := span{low: new(big.Rat), high: mul(x.high, part), slope: mul(x.slope, part), plus: mul(x.plus, part)}
	if y.high != nil {
		// Division cuts off what is below its last decimal.
		cut := new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).SetUint64(powersOfTen[quotientDecimals]))
		out.low = atLeast(sub(mul(x.low, new(big.Rat).Inv(y.high)), cut), new(big.Rat))
	}
	return out
}

func (x span) rounded(how Rounding) span {
	whole := func(b *big.Rat) *big.Rat {
		if b == nil {
			return nil
		}
		return new(big.Rat).SetInt(roundRat(b, how))
	}
	out := span{whole(x.low), whole(x.high), x.slope, x.plus}
	switch how {
	case RoundUp:
		out.plus = add(x.plus, big.NewRat(1, 1))
	case RoundHalfUp, RoundHalfEven:
		out.plus = add(x.plus, big.NewRat(1, 2))
	}
	return out
}

func union(x, y span) span {
	return span{smaller(x.low, y.low), larger(x.high, y.high), larger(x.slope, y.slope), larger(x.plus, y.plus)}.whole()
}

func greater(x, y span) span {
	out := union(x, y)
	switch {
	case x.low == nil:
		out.low = y.low
	case y.low == nil:
		out.low = x.low
	default:
		out.low = larger(x.low, y.low)
	}
	return out
}

func lesser(x, y span) span {
	out := span{low: smaller(x.low, y.low), high: smaller(x.high, y.high)}
	switch {
	case x.high == nil:
		out.high = y.high
	case y.high == nil:
		out.high = x.high
	}
	out.slope, out.plus = x.slope, x.plus
	if x.slope == nil || y.slope != nil && y.better(x) {
		out.slope, out.plus = y.slope, y.plus
	}
	return out
}
