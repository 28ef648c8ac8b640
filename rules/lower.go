package rules

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// What a checked tree is lowered to: closures over a frame. None of them allocates. The second result says whether the
// value is known; an unknown one makes the condition Unknown unless && or || settle it, as in CEL.
type (
	truth    func(*Frame) Truth
	whole    func(*Frame) (int64, bool) // int, duration, time
	precise  func(*Frame) (Decimal, bool)
	wordFunc func(*Frame) string
)

// lowering turns a checked tree into closures. A nil closure means that the construct is not lowered: cel-go then
// evaluates the whole condition.
type lowering struct {
	tree  *ast.AST
	scope *scope
	slots map[string]int // of sub-conditions that rules share, by key; nil: none
}

func (l *lowering) typ(e ast.Expr) valueType { return typeOf(l.tree.GetType(e.ID())) }

func (l *lowering) variable(e ast.Expr) *variable {
	if name := reference(l.tree, e); name != "" {
		return l.scope.variable(name)
	}
	return nil
}

func truthOf(b bool) Truth {
	if b {
		return True
	}
	return False
}

// truth lowers an expression of type bool.
func (l *lowering) truth(e ast.Expr) truth {
	if slot, shared := l.slots[l.key(e)]; shared {
		return memo(slot, l.truthAlone(e))
	}
	return l.truthAlone(e)
}

func (l *lowering) truthAlone(e ast.Expr) truth {
	switch e.Kind() {
	case ast.LiteralKind:
		t := truthOf(e.AsLiteral() == types.True)
		return func(*Frame) Truth { return t }
	case ast.IdentKind, ast.SelectKind:
		v := l.variable(e)
		if v == nil || v.flag == nil {
			return nil
		}
		get := v.flag
		return func(f *Frame) Truth { return truthOf(get(f)) }
	case ast.CallKind:
		return l.truthCall(e)
	}
	return nil
}

func (l *lowering) truthCall(e ast.Expr) truth {
	call := e.AsCall()
	args := call.Args()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr:
		return l.chain(chained(e, name), name)
	case operators.LogicalNot:
		return not(l.truth(args[0]))
	case operators.Conditional:
		return choose(l.truth(args[0]), l.truth(args[1]), l.truth(args[2]))
	case operators.Equals:
		return l.equal(args[0], args[1])
	case operators.NotEquals:
		return not(l.equal(args[0], args[1]))
	case operators.In:
		return l.in(args[0], args[1])
	case "startsWith", "endsWith", "contains":
		return l.part(name, call.Target(), args)
	case "matches":
		return l.matches(call)
	case listedName:
		return l.listed(call)
	default:
		if holds, ok := orders[name]; ok {
			return l.order(holds, args[0], args[1])
		}
	}
	return nil
}

// chained are the operands of a chain of && or of ||, in order. The parser balances long chains; here they are flat, so that
// rules that start alike are found alike.
func chained(e ast.Expr, op string) []ast.Expr {
	if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == op {
		args := e.AsCall().Args()
		return append(chained(args[0], op), chained(args[1], op)...)
	}
	return []ast.Expr{e}
}

// chain lowers operands of && or ||. How the chain starts, if other rules start alike, is one sub-condition.
func (l *lowering) chain(operands []ast.Expr, op string) truth {
	decides := truthOf(op == operators.LogicalOr)
	for n := len(operands) - 1; n > 1; n-- {
		if slot, shared := l.slots[l.chainKey(operands[:n], op)]; shared {
			return anyOf(append([]truth{memo(slot, l.chain(operands[:n], op))}, l.truths(operands[n:])...), decides)
		}
	}
	return anyOf(l.truths(operands), decides)
}

func (l *lowering) truths(operands []ast.Expr) []truth {
	all := make([]truth, len(operands))
	for i, e := range operands {
		all[i] = l.truth(e)
	}
	return all
}

// anyOf is && and ||: the first operand that equals decides settles it, even beside an unknown one.
func anyOf(all []truth, decides Truth) truth {
	if slices.ContainsFunc(all, func(t truth) bool { return t == nil }) {
		return nil
	}
	if len(all) == 2 {
		a, b := all[0], all[1]
		return func(f *Frame) Truth {
			x := a(f)
			if x == decides {
				return decides
			}
			y := b(f)
			if y == decides {
				return decides
			}
			return max(x, y, 1-decides)
		}
	}
	return func(f *Frame) Truth {
		t := 1 - decides
		for _, one := range all {
			x := one(f)
			if x == decides {
				return decides
			}
			t = max(t, x)
		}
		return t
	}
}

func not(a truth) truth {
	if a == nil {
		return nil
	}
	return func(f *Frame) Truth {
		if t := a(f); t != Unknown {
			return 1 - t
		}
		return Unknown
	}
}

func choose(when, then, otherwise truth) truth {
	if when == nil || then == nil || otherwise == nil {
		return nil
	}
	return func(f *Frame) Truth {
		switch when(f) {
		case True:
			return then(f)
		case False:
			return otherwise(f)
		}
		return Unknown
	}
}

// order lowers < <= > >=.
func (l *lowering) order(holds func(int) bool, a, b ast.Expr) truth {
	// The three outcomes are looked up, so that holds is not called each time.
	var table [3]Truth
	for c := -1; c <= 1; c++ {
		table[c+1] = truthOf(holds(c))
	}
	switch {
	case l.typ(a) == stringType && l.typ(b) == stringType:
		x, y := l.text(a), l.text(b)
		if x == nil || y == nil {
			return nil
		}
		return func(f *Frame) Truth { return table[strings.Compare(x(f), y(f))+1] }
	case l.isWhole(a) && l.isWhole(b):
		return l.orderWhole(&table, a, b)
	}
	if c, ok := constant(l.tree, b); ok && b.Kind() == ast.LiteralKind {
		return orderConstant(&table, l.precise(a), c)
	}
	x, y := l.precise(a), l.precise(b)
	if x == nil || y == nil {
		return nil
	}
	return func(f *Frame) Truth {
		m, okm := x(f)
		if !okm {
			return Unknown
		}
		n, okn := y(f)
		if !okn {
			return Unknown
		}
		return table[m.Compare(n)+1]
	}
}

// orderConstant compares with a number written out, whose coefficient at each exponent is worked out beforehand.
func orderConstant(table *[3]Truth, x precise, c Decimal) truth {
	if x == nil {
		return nil
	}
	t := *table
	var scaled [maxExponent + 1]int64
	var exact [maxExponent + 1]bool
	for e := c.trim().Exponent; e <= maxExponent; e++ {
		scaled[e], exact[e] = c.trim().rescale(e)
	}
	return func(f *Frame) Truth {
		d, ok := x(f)
		switch {
		case !ok:
			return Unknown
		case exact[d.Exponent]:
			return t[compare(d.Coefficient, scaled[d.Exponent])+1]
		}
		return t[d.Compare(c)+1]
	}
}

func (l *lowering) orderWhole(table *[3]Truth, a, b ast.Expr) truth {
	x, y := l.whole(a), l.whole(b)
	if x == nil || y == nil {
		return nil
	}
	t := *table
	if c, ok := constant(l.tree, b); ok && b.Kind() == ast.LiteralKind {
		n := c.Coefficient
		return func(f *Frame) Truth {
			m, ok := x(f)
			if !ok {
				return Unknown
			}
			return t[compare(m, n)+1]
		}
	}
	return func(f *Frame) Truth {
		m, okm := x(f)
		if !okm {
			return Unknown
		}
		n, okn := y(f)
		if !okn {
			return Unknown
		}
		return t[compare(m, n)+1]
	}
}

// equal lowers ==.
func (l *lowering) equal(a, b ast.Expr) truth {
	switch l.typ(a) {
	case boolType:
	case stringType:
		return l.sameText(a, b)
	default:
		return l.order(func(c int) bool { return c == 0 }, a, b)
	}
	x, y := l.truth(a), l.truth(b)
	if x == nil || y == nil {
		return nil
	}
	return func(f *Frame) Truth {
		m, n := x(f), y(f)
		if m == Unknown || n == Unknown {
			return Unknown
		}
		return truthOf(m == n)
	}
}

// sameText lowers == of words, which differ in length more often than not: that is cheaper to see than which comes first.
func (l *lowering) sameText(a, b ast.Expr) truth {
	x, y := l.text(a), l.text(b)
	if x == nil || y == nil {
		return nil
	}
	if b.Kind() == ast.LiteralKind {
		word := y(nil) // a word written out asks no frame
		return func(f *Frame) Truth { return truthOf(x(f) == word) }
	}
	return func(f *Frame) Truth { return truthOf(x(f) == y(f)) }
}

// in lowers x in ["a", "b"] for words and whole numbers written out.
func (l *lowering) in(a, list ast.Expr) truth {
	if list.Kind() != ast.ListKind {
		return nil
	}
	var words []string
	var numbers []int64
	for _, e := range list.AsList().Elements() {
		if e.Kind() != ast.LiteralKind {
			return nil
		}
		switch v := e.AsLiteral().(type) {
		case types.String:
			words = append(words, string(v))
		case types.Int:
			numbers = append(numbers, int64(v))
		default:
			return nil
		}
	}
	switch l.typ(a) {
	case stringType:
		if x := l.text(a); x != nil {
			return func(f *Frame) Truth { return truthOf(slices.Contains(words, x(f))) }
		}
	case intType:
		if x := l.whole(a); x != nil {
			return func(f *Frame) Truth {
				n, ok := x(f)
				if !ok {
					return Unknown
				}
				return truthOf(slices.Contains(numbers, n))
			}
		}
	}
	return nil
}

// part lowers x.startsWith(y), x.endsWith(y) and x.contains(y).
func (l *lowering) part(name string, target ast.Expr, args []ast.Expr) truth {
	x, y := l.text(target), l.text(args[0])
	if x == nil || y == nil {
		return nil
	}
	holds := map[string]func(s, part string) bool{"startsWith": strings.HasPrefix, "endsWith": strings.HasSuffix, "contains": strings.Contains}[name]
	return func(f *Frame) Truth { return truthOf(holds(x(f), y(f))) }
}

// matches lowers x.matches("pattern") for a pattern written out.
func (l *lowering) matches(call ast.CallExpr) truth {
	args := call.Args()
	target := call.Target()
	if !call.IsMemberFunction() {
		target, args = args[0], args[1:]
	}
	x := l.text(target)
	if x == nil || args[0].Kind() != ast.LiteralKind {
		return nil
	}
	text, _ := args[0].AsLiteral().(types.String)
	pattern, err := regexp.Compile(string(text))
	if err != nil {
		return nil
	}
	return func(f *Frame) Truth { return truthOf(pattern.MatchString(x(f))) }
}

// text lowers an expression of type string.
func (l *lowering) text(e ast.Expr) wordFunc {
	switch e.Kind() {
	case ast.LiteralKind:
		if s, ok := e.AsLiteral().(types.String); ok {
			return func(*Frame) string { return string(s) }
		}
	case ast.IdentKind, ast.SelectKind:
		if v := l.variable(e); v != nil && v.text != nil {
			return v.text
		}
	}
	return nil
}

// isWhole says whether an expression is an int64 inside: a whole number, a time span, a time.
func (l *lowering) isWhole(e ast.Expr) bool {
	switch l.typ(e) {
	case intType, durationType, timeType:
		return true
	}
	return false
}

// whole lowers an expression of type int, duration or timestamp.
func (l *lowering) whole(e ast.Expr) whole {
	switch e.Kind() {
	case ast.LiteralKind:
		if n, ok := e.AsLiteral().(types.Int); ok {
			return func(*Frame) (int64, bool) { return int64(n), true }
		}
	case ast.IdentKind, ast.SelectKind:
		if v := l.variable(e); v != nil {
			return v.number
		}
	case ast.CallKind:
		return l.wholeCall(e)
	}
	return nil
}

func (l *lowering) wholeCall(e ast.Expr) whole {
	call := e.AsCall()
	args := call.Args()
	switch call.FunctionName() {
	case "duration":
		return constantDuration(args[0])
	case operators.Negate:
		if l.typ(e) != intType {
			return nil
		}
		x := l.whole(args[0])
		if x == nil {
			return nil
		}
		return func(f *Frame) (int64, bool) {
			n, ok := x(f)
			return -n, ok && n != math.MinInt64
		}
	case operators.Conditional:
		return chooseNumber(l.truth(args[0]), l.whole(args[1]), l.whole(args[2]))
	case "min", "max":
		return chosenWhole(call.FunctionName(), l.whole(args[0]), l.whole(args[1]))
	case operators.Add, operators.Subtract, operators.Multiply:
		// Times and spans have bounds of their own in CEL: only whole numbers are lowered.
		if l.typ(args[0]) != intType || l.typ(args[1]) != intType {
			return nil
		}
		return arithmetic(call.FunctionName(), l.whole(args[0]), l.whole(args[1]))
	}
	return nil
}

func constantDuration(e ast.Expr) whole {
	if e.Kind() != ast.LiteralKind {
		return nil
	}
	s, ok := e.AsLiteral().(types.String)
	if !ok {
		return nil
	}
	d, err := time.ParseDuration(string(s))
	if err != nil {
		return nil
	}
	return func(*Frame) (int64, bool) { return int64(d), true }
}

func arithmetic(op string, x, y whole) whole {
	if x == nil || y == nil {
		return nil
	}
	calculate := map[string]func(a, b int64) (int64, bool){operators.Add: addWhole, operators.Subtract: subtractWhole, operators.Multiply: multiplyWhole}[op]
	return func(f *Frame) (int64, bool) {
		a, ok := x(f)
		if !ok {
			return 0, false
		}
		b, ok := y(f)
		if !ok {
			return 0, false
		}
		return calculate(a, b)
	}
}

func addWhole(a, b int64) (int64, bool) {
	c := a + b
	return c, (c > a) == (b > 0)
}

func subtractWhole(a, b int64) (int64, bool) {
	c := a - b
	return c, (c < a) == (b > 0)
}

func multiplyWhole(a, b int64) (int64, bool) {
	if a == 0 || b == 0 {
		return 0, true
	}
	c := a * b
	return c, c/b == a && !(a == -1 && b == math.MinInt64) && !(b == -1 && a == math.MinInt64)
}

// precise lowers a number of any type to a decimal.
func (l *lowering) precise(e ast.Expr) precise {
	if l.typ(e) == intType {
		return widen(l.whole(e))
	}
	switch e.Kind() {
	case ast.LiteralKind:
		n, ok := e.AsLiteral().(types.Double)
		if !ok {
			return nil
		}
		d, _ := literal(float64(n)) // checkTree has refused what does not fit
		return func(*Frame) (Decimal, bool) { return d, true }
	case ast.IdentKind, ast.SelectKind:
		if v := l.variable(e); v != nil {
			return v.decimal
		}
	case ast.CallKind:
		return l.preciseCall(e.AsCall())
	}
	return nil
}

func widen(x whole) precise {
	if x == nil {
		return nil
	}
	return func(f *Frame) (Decimal, bool) {
		n, ok := x(f)
		return Int(n), ok && n != math.MinInt64
	}
}

var preciseOperations = map[string]func(a, b Decimal) (Decimal, bool){
	operators.Add: Decimal.Add, operators.Subtract: Decimal.Subtract, operators.Multiply: Decimal.Multiply,
	operators.Divide: Decimal.Divide, "ratio": Decimal.Divide, convertedName: Decimal.Multiply,
}

func (l *lowering) preciseCall(call ast.CallExpr) precise {
	args := call.Args()
	if call.FunctionName() == similarityName {
		return l.similarity(call)
	}
	if call.FunctionName() == operators.Negate {
		x := l.precise(args[0])
		if x == nil {
			return nil
		}
		return func(f *Frame) (Decimal, bool) {
			d, ok := x(f)
			return d.Negate(), ok
		}
	}
	if call.FunctionName() == operators.Conditional {
		return chooseNumber(l.truth(args[0]), l.precise(args[1]), l.precise(args[2]))
	}
	if how, ok := roundings[call.FunctionName()]; ok {
		return roundedNumber(how, l.precise(args[0]))
	}
	calculate := preciseOperations[call.FunctionName()]
	if calculate == nil {
		calculate = extremes[call.FunctionName()]
	}
	if calculate == nil {
		return nil
	}
	x, y := l.precise(args[0]), l.precise(args[1])
	if x == nil || y == nil {
		return nil
	}
	return func(f *Frame) (Decimal, bool) {
		a, ok := x(f)
		if !ok {
			return a, false
		}
		b, ok := y(f)
		if !ok {
			return b, false
		}
		return calculate(a, b)
	}
}
