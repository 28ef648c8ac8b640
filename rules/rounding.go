package rules

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Rounding is how a number loses decimals.
type Rounding uint8

// The roundings.
const (
	RoundHalfUp   Rounding = iota // to the nearest; the middle away from zero: what a price list means by rounding
	RoundDown                     // to the next below
	RoundUp                       // to the next above
	RoundHalfEven                 // to the nearest; the middle to the even one, so that many roundings even out
)

// roundings are the functions of the language that round to a whole number.
var roundings = map[string]Rounding{"round": RoundHalfUp, "floor": RoundDown, "ceil": RoundUp, "round_half_even": RoundHalfEven}

// Round returns the number with at most so many decimals.
func (a Decimal) Round(decimals uint8, how Rounding) Decimal {
	if a.Exponent <= decimals {
		return a
	}
	unit := powersOfTen[a.Exponent-decimals]
	m := magnitude(a.Coefficient)
	q, rest := m/unit, m%unit
	up := false
	switch how {
	case RoundHalfUp:
		up = rest >= unit-rest
	case RoundDown:
		up = rest > 0 && a.Coefficient < 0
	case RoundUp:
		up = rest > 0 && a.Coefficient > 0
	case RoundHalfEven:
		up = rest > unit-rest || rest == unit-rest && q%2 == 1
	}
	if up {
		q++ // the unit is 10 at least, so it fits
	}
	n := int64(q)
	if a.Coefficient < 0 {
		n = -n
	}
	return Decimal{n, decimals}
}

// least and most are min and max of the language.
func least(a, b Decimal) (Decimal, bool) {
	if b.Compare(a) < 0 {
		return b, true
	}
	return a, true
}

func most(a, b Decimal) (Decimal, bool) {
	if b.Compare(a) > 0 {
		return b, true
	}
	return a, true
}

// extremes are the functions of the language that choose one of two numbers.
var extremes = map[string]func(a, b Decimal) (Decimal, bool){"min": least, "max": most}

// choices declares rounding, min, max and ? :. A number may stand beside one of another type in each of them.
func choices() []cel.EnvOption {
	numbers := []*cel.Type{cel.IntType, cel.DoubleType, celDecimal, celMoney}
	var options []cel.EnvOption
	for name, how := range roundings {
		var overloads []cel.FunctionOpt
		for _, t := range numbers[1:] {
			result := t
			if t == cel.DoubleType {
				result = celDecimal
			}
			overloads = append(overloads, cel.Overload(name+"_"+t.TypeName(), []*cel.Type{t}, result))
		}
		options = append(options, cel.Function(name, append(overloads, cel.SingletonUnaryBinding(rounded(how)))...))
	}
	var either []cel.FunctionOpt
	both := map[string][]cel.FunctionOpt{}
	for _, l := range numbers {
		for _, r := range numbers {
			result := resultType(operators.Add, l, r)
			if result == nil {
				continue
			}
			for name := range extremes {
				both[name] = append(both[name], cel.Overload(name+"_"+l.TypeName()+"_"+r.TypeName(), []*cel.Type{l, r}, result))
			}
			either = append(either, cel.Overload("choose_"+l.TypeName()+"_"+r.TypeName(), []*cel.Type{cel.BoolType, l, r}, result))
		}
	}
	for _, t := range []*cel.Type{cel.BoolType, cel.StringType, cel.DurationType, cel.TimestampType} {
		either = append(either, cel.Overload("choose_"+t.TypeName(), []*cel.Type{cel.BoolType, t, t}, t))
	}
	for name, choose := range extremes {
		options = append(options, cel.Function(name, append(both[name], cel.SingletonBinaryBinding(chosen(choose)))...))
	}
	return append(options, cel.Function(operators.Conditional, either...))
}

// rounded is the binding of a rounding for cel-go.
func rounded(how Rounding) func(ref.Val) ref.Val {
	return func(v ref.Val) ref.Val {
		d, ok := asDecimal(v)
		if !ok {
			return types.NewErr("no number")
		}
		typ := celDecimal
		if isMoney(v) {
			typ = celMoney
		}
		return exact{d.Round(0, how), typ}
	}
}

// chosen is the binding of min and max for cel-go.
func chosen(choose func(a, b Decimal) (Decimal, bool)) func(l, r ref.Val) ref.Val {
	return func(l, r ref.Val) ref.Val {
		a, okl := asDecimal(l)
		b, okr := asDecimal(r)
		if !okl || !okr {
			return types.NewErr("no number")
		}
		d, _ := choose(a, b)
		if _, whole := l.(types.Int); whole {
			if _, whole := r.(types.Int); whole {
				return types.Int(d.Coefficient)
			}
		}
		typ := celDecimal
		if isMoney(l) || isMoney(r) {
			typ = celMoney
		}
		return exact{d, typ}
	}
}

// chosenWhole lowers min and max of two whole numbers.
func chosenWhole(name string, x, y whole) whole {
	if x == nil || y == nil {
		return nil
	}
	return func(f *Frame) (int64, bool) {
		a, ok := x(f)
		if !ok {
			return 0, false
		}
		b, ok := y(f)
		if name == "min" {
			return min(a, b), ok
		}
		return max(a, b), ok
	}
}

// chooseNumber lowers ? : of two numbers, whole or exact.
func chooseNumber[T int64 | Decimal](when truth, then, otherwise func(*Frame) (T, bool)) func(*Frame) (T, bool) {
	if when == nil || then == nil || otherwise == nil {
		return nil
	}
	return func(f *Frame) (T, bool) {
		switch when(f) {
		case True:
			return then(f)
		case False:
			return otherwise(f)
		}
		var none T
		return none, false
	}
}

// roundedNumber lowers a rounding.
func roundedNumber(how Rounding, x precise) precise {
	if x == nil {
		return nil
	}
	return func(f *Frame) (Decimal, bool) {
		d, ok := x(f)
		return d.Round(0, how), ok
	}
}
