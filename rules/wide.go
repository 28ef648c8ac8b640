package rules

import (
	"math/big"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// wide evaluates a formula on fractions of any size: the way for the few amounts whose steps leave a Decimal. It is slow, and
// it means the same: division keeps nine decimals.
type wide struct {
	tree  *ast.AST
	scope *scope
	frame *Frame
}

func rat(d Decimal) *big.Rat {
	return new(big.Rat).SetFrac(big.NewInt(d.Coefficient), new(big.Int).SetUint64(powersOfTen[d.Exponent]))
}

// roundRat rounds a fraction to a whole number.
func roundRat(x *big.Rat, how Rounding) *big.Int {
	floor, rest := new(big.Int).DivMod(x.Num(), x.Denom(), new(big.Int)) // towards minus infinity; rest is not negative
	middle := rest.Lsh(rest, 1).Cmp(x.Denom())
	up := false
	switch how {
	case RoundHalfUp:
		up = middle > 0 || middle == 0 && x.Sign() > 0
	case RoundUp:
		up = !x.IsInt()
	case RoundHalfEven:
		up = middle > 0 || middle == 0 && floor.Bit(0) == 1
	}
	if up {
		floor.Add(floor, big.NewInt(1))
	}
	return floor
}

func (w *wide) number(e ast.Expr) (*big.Rat, bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		d, ok := asDecimal(e.AsLiteral())
		return rat(d), ok
	case ast.IdentKind, ast.SelectKind:
		return w.variable(w.scope.variable(reference(w.tree, e)))
	case ast.CallKind:
		return w.call(e.AsCall())
	}
	return nil, false
}

func (w *wide) variable(v *variable) (*big.Rat, bool) {
	switch {
	case v == nil:
		return nil, false
	case v.decimal != nil:
		d, ok := v.decimal(w.frame)
		return rat(d), ok
	case v.number != nil:
		n, ok := v.number(w.frame)
		return new(big.Rat).SetInt64(n), ok
	}
	return nil, false
}

func (w *wide) call(call ast.CallExpr) (*big.Rat, bool) {
	args := call.Args()
	if call.FunctionName() == operators.Conditional {
		l := lowering{tree: w.tree, scope: w.scope}
		switch when := l.truth(args[0]); {
		case when == nil:
			return nil, false
		case when(w.frame) == True:
			return w.number(args[1])
		case when(w.frame) == False:
			return w.number(args[2])
		}
		return nil, false
	}
	x, ok := w.number(args[0])
	if !ok {
		return nil, false
	}
	if how, rounds := roundings[call.FunctionName()]; rounds {
		return new(big.Rat).SetInt(roundRat(x, how)), true
	}
	if call.FunctionName() == operators.Negate {
		return x.Neg(x), true
	}
	if len(args) != 2 {
		return nil, false
	}
	y, ok := w.number(args[1])
	if !ok {
		return nil, false
	}
	return calculateWide(call.FunctionName(), x, y)
}

func calculateWide(op string, x, y *big.Rat) (*big.Rat, bool) {
	switch op {
	case operators.Add:
		return x.Add(x, y), true
	case operators.Subtract:
		return x.Sub(x, y), true
	case operators.Multiply:
		return x.Mul(x, y), true
	case operators.Divide, "ratio":
		if y.Sign() == 0 {
			return nil, false
		}
		unit := new(big.Rat).SetInt64(int64(powersOfTen[quotientDecimals]))
		q := x.Quo(x, y)
		q.Mul(q, unit)
		return new(big.Rat).Quo(new(big.Rat).SetInt(new(big.Int).Quo(q.Num(), q.Denom())), unit), true // cut off towards zero
	case "min":
		if y.Cmp(x) < 0 {
			return y, true
		}
		return x, true
	case "max":
		if y.Cmp(x) > 0 {
			return y, true
		}
		return x, true
	}
	return nil, false
}

// isNumber says whether a literal is one.
func isNumber(e ast.Expr) bool {
	switch e.AsLiteral().(type) {
	case types.Int, types.Double:
		return true
	}
	return false
}
