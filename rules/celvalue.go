package rules

import (
	"fmt"
	"math"
	"reflect"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// CEL's names for exact numbers.
var (
	celMoney   = cel.OpaqueType("money")
	celDecimal = cel.OpaqueType("decimal")
)

var celTypes = [...]*cel.Type{
	boolType: cel.BoolType, intType: cel.IntType, moneyType: celMoney, decimalType: celDecimal, stringType: cel.StringType,
	durationType: cel.DurationType, timeType: cel.TimestampType,
}

func typeOf(t *cel.Type) valueType {
	for i := boolType; int(i) < len(celTypes); i++ {
		if celTypes[i].IsExactType(t) {
			return i
		}
	}
	return noType
}

// exact is a Decimal as a CEL value, for conditions that cel-go evaluates.
type exact struct {
	Decimal
	typ *cel.Type
}

func (v exact) ConvertToNative(reflect.Type) (any, error) {
	return nil, fmt.Errorf("a %s has no native form", v.typ)
}
func (v exact) ConvertToType(ref.Type) ref.Val { return types.NewErr("a %s has no other form", v.typ) }
func (v exact) Type() ref.Type                 { return v.typ }
func (v exact) Value() any                     { return v.Decimal }

// Equal compares with another exact number or a literal.
func (v exact) Equal(other ref.Val) ref.Val {
	d, ok := asDecimal(other)
	if !ok {
		return types.MaybeNoSuchOverloadErr(other)
	}
	return types.Bool(v.Compare(d) == 0)
}

// asDecimal reads a number of any type.
func asDecimal(v ref.Val) (Decimal, bool) {
	switch n := v.(type) {
	case exact:
		return n.Decimal, true
	case types.Int:
		return Int(int64(n)), n != math.MinInt64
	case types.Double:
		return literal(float64(n))
	}
	return Decimal{}, false
}

func isExact(v ref.Val) bool {
	switch v.(type) {
	case exact, types.Double:
		return true
	}
	return false
}

func isMoney(v ref.Val) bool {
	n, ok := v.(exact)
	return ok && n.typ == celMoney
}

// calculate is the binding of + - * / for cel-go: exact if either side is, as cel-go has it otherwise.
func calculate(op byte) func(l, r ref.Val) ref.Val {
	return func(l, r ref.Val) ref.Val {
		if op != '/' && !isExact(l) && !isExact(r) {
			return calculatePlain(op, l, r)
		}
		a, okl := asDecimal(l)
		b, okr := asDecimal(r)
		if !okl || !okr {
			return types.NewErr("no number")
		}
		d, ok := a.calculate(op, b)
		if !ok {
			return types.NewErr("the result does not fit")
		}
		typ := celDecimal
		if isMoney(l) != isMoney(r) || op != '/' && isMoney(l) {
			typ = celMoney
		}
		return exact{d, typ}
	}
}

func (a Decimal) calculate(op byte, b Decimal) (Decimal, bool) {
	switch op {
	case '+':
		return a.Add(b)
	case '-':
		return a.Subtract(b)
	case '*':
		return a.Multiply(b)
	}
	return a.Divide(b)
}

func calculatePlain(op byte, l, r ref.Val) ref.Val {
	switch op {
	case '+':
		if a, ok := l.(traits.Adder); ok {
			return a.Add(r)
		}
	case '-':
		if a, ok := l.(traits.Subtractor); ok {
			return a.Subtract(r)
		}
	case '*':
		if a, ok := l.(traits.Multiplier); ok {
			return a.Multiply(r)
		}
	}
	return types.MaybeNoSuchOverloadErr(l)
}

func negate(v ref.Val) ref.Val {
	switch n := v.(type) {
	case exact:
		return exact{n.Negate(), n.typ}
	case traits.Negater:
		return n.Negate()
	}
	return types.MaybeNoSuchOverloadErr(v)
}

// order is the binding of the comparisons for cel-go.
func order(holds func(int) bool) func(l, r ref.Val) ref.Val {
	return func(l, r ref.Val) ref.Val {
		if isExact(l) || isExact(r) {
			a, okl := asDecimal(l)
			b, okr := asDecimal(r)
			if !okl || !okr {
				return types.NewErr("no number")
			}
			return types.Bool(holds(a.Compare(b)))
		}
		comparer, ok := l.(traits.Comparer)
		if !ok {
			return types.MaybeNoSuchOverloadErr(l)
		}
		c, ok := comparer.Compare(r).(types.Int)
		if !ok {
			return types.MaybeNoSuchOverloadErr(r)
		}
		return types.Bool(holds(int(c)))
	}
}

// activation gives cel-go the frame's variables by name.
type activation struct {
	frame *Frame
	scope *scope
}

// Parent is part of cel.Activation; there is none.
func (a *activation) Parent() cel.Activation { return nil }

// ResolveName returns a variable as a CEL value, false when it is unknown: cel-go turns that into an error.
func (a *activation) ResolveName(name string) (any, bool) {
	if name == frameName {
		return frameValue{a.frame}, true
	}
	v := a.scope.variable(name)
	if v == nil {
		return nil, false
	}
	switch v.typ {
	case boolType:
		return types.Bool(v.flag(a.frame)), true
	case stringType:
		return types.String(v.text(a.frame)), true
	case moneyType, decimalType:
		d, ok := v.decimal(a.frame)
		return exact{d, celTypes[v.typ]}, ok
	}
	n, ok := v.number(a.frame)
	switch v.typ {
	case durationType:
		return types.Duration{Duration: time.Duration(n)}, ok
	case timeType:
		return types.Timestamp{Time: time.Unix(0, n).UTC()}, ok
	}
	return types.Int(n), ok
}
