package rules

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"sluice/schemas/events"
)

// What listed(), similarity() and converted() are once expanded. No expression can spell these names.
const (
	listedName     = "@listed"
	similarityName = "@similarity"
	convertedName  = "@converted"
	frameName      = "@frame" // the frame itself, for functions of lists
	rateName       = "@rate"  // the rate of the event's currency
)

var celFrame = cel.OpaqueType("frame")

// question is one call of listed() or similarity(); equal calls are one question, asked at most once an event.
type question struct {
	similarity bool
	list       string
	name       string // of the variable asked about
	text       wordFunc
}

// answer is what the lists said of the event in hand.
type answer struct {
	asked      bool
	listed     bool
	similarity Decimal
}

// ask answers a question by index.
func (f *Frame) ask(i int) *answer {
	a := &f.answers[i]
	if !a.asked {
		q := &f.questions[i]
		*a = answer{asked: true}
		if text := q.text(f); text != "" && f.lists != nil {
			if q.similarity {
				a.similarity = f.lists.Similarity(q.list, text, f.event.Time)
			} else {
				a.listed = f.lists.Listed(q.list, text, f.event.Time)
			}
		}
	}
	return a
}

// question returns the index of a call, which is new or was made before.
func (s *scope) question(tree *ast.AST, call ast.CallExpr) (int, bool) {
	list, ok := call.Args()[1].AsLiteral().(types.String)
	v := s.vars[reference(tree, call.Args()[2])]
	if !ok || v == nil || v.text == nil {
		return 0, false
	}
	q := question{call.FunctionName() == similarityName, string(list), v.name, v.text}
	for i, have := range s.questions {
		if have.similarity == q.similarity && have.list == q.list && have.name == q.name {
			return i, true
		}
	}
	s.questions = append(s.questions, q)
	return len(s.questions) - 1, true
}

// collectQuestions notes the questions that an expression asks.
func (s *scope) collectQuestions(tree *ast.AST, c *Condition) {
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		if name := e.AsCall().FunctionName(); name == listedName || name == similarityName {
			if i, ok := s.question(tree, e.AsCall()); ok && !slices.Contains(c.asks, i) {
				c.asks = append(c.asks, i)
			}
		}
	}))
}

// lists names the lists that are asked, sorted.
func (s *scope) lists() []string {
	var all []string
	for _, q := range s.questions {
		all = append(all, q.list)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// expandQuestion turns listed("a", x) into a call that knows the frame.
func expandQuestion(name string) cel.MacroFactory {
	return func(h cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
		if err := checkQuestion(h, args); err != nil {
			return nil, err
		}
		return h.NewCall(name, h.NewIdent(frameName), args[0], args[1]), nil
	}
}

func checkQuestion(h cel.MacroExprFactory, args []ast.Expr) *cel.Error {
	list, ok := types.String(""), args[0].Kind() == ast.LiteralKind
	if ok {
		list, ok = args[0].AsLiteral().(types.String)
	}
	if !ok || !rulesetName.MatchString(string(list)) {
		return h.NewError(args[0].ID(), `lists are asked by name: write listed("watch-cards", payment.card); a name has small letters, digits and dashes`)
	}
	if list == SnoozeList {
		return h.NewError(args[0].ID(), "the list snooze stops rules by itself; no condition asks it")
	}
	if _, ok := dotted(args[1]); !ok {
		return h.NewError(args[1].ID(), `lists are asked about a variable, as in listed("watch-cards", payment.card)`)
	}
	return nil
}

// expandConverted turns converted(x) into x times the rate of the event's currency.
func expandConverted(h cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	return h.NewCall(convertedName, args[0], h.NewIdent(rateName)), nil
}

// questionFunctions declares what cel-go calls for lists.
func questionFunctions() []cel.EnvOption {
	args := []*cel.Type{celFrame, cel.StringType, cel.StringType}
	declare := func(name string, result *cel.Type, find func(f *Frame, list, text string) ref.Val) cel.EnvOption {
		return cel.Function(name, cel.Overload(name+"_frame_string_string", args, result, cel.FunctionBinding(func(v ...ref.Val) ref.Val {
			frame, ok := v[0].(frameValue)
			list, okl := v[1].(types.String)
			text, okt := v[2].(types.String)
			if !ok || !okl || !okt {
				return types.NewErr("no list")
			}
			return find(frame.Frame, string(list), string(text))
		})))
	}
	return []cel.EnvOption{
		declare(listedName, cel.BoolType, func(f *Frame, list, text string) ref.Val { return types.Bool(f.askText(false, list, text).listed) }),
		declare(similarityName, celDecimal, func(f *Frame, list, text string) ref.Val {
			return exact{f.askText(true, list, text).similarity, celDecimal}
		}),
	}
}

// askText finds the question of a call that cel-go makes.
func (f *Frame) askText(similarity bool, list, text string) *answer {
	for i := range f.questions {
		if q := &f.questions[i]; q.similarity == similarity && q.list == list && q.text(f) == text {
			return f.ask(i)
		}
	}
	return &answer{}
}

// frameValue is the frame as a CEL value.
type frameValue struct{ *Frame }

func (v frameValue) ConvertToNative(reflect.Type) (any, error) {
	return nil, fmt.Errorf("a frame has no native form")
}
func (v frameValue) ConvertToType(ref.Type) ref.Val { return types.NewErr("a frame has no other form") }
func (v frameValue) Equal(ref.Val) ref.Val          { return types.False }
func (v frameValue) Type() ref.Type                 { return celFrame }
func (v frameValue) Value() any                     { return v.Frame }

func (l *lowering) listed(call ast.CallExpr) truth {
	i, ok := l.scope.question(l.tree, call)
	if !ok {
		return nil
	}
	return func(f *Frame) Truth { return truthOf(f.ask(i).listed) }
}

func (l *lowering) similarity(call ast.CallExpr) precise {
	i, ok := l.scope.question(l.tree, call)
	if !ok {
		return nil
	}
	return func(f *Frame) (Decimal, bool) { return f.ask(i).similarity, true }
}

// variable is the rate of the event's currency, as conditions read it.
func (c *Conversion) variable() *variable {
	return &variable{name: rateName, typ: decimalType, in: everyKind, decimal: func(f *Frame) (Decimal, bool) { return c.Rate(f.event.Currency) }}
}

// text writes a conversion, for definitions that depend on it.
func (c *Conversion) text() string {
	text := "to " + c.To.Code() + " as of " + c.AsOf.Format(time.DateOnly)
	var rates []string
	for i, rate := range c.rates {
		if rate.Coefficient != 0 {
			rates = append(rates, events.Currency(i).Code()+" "+rate.String())
		}
	}
	slices.Sort(rates) // the currencies' numbers may change
	text += ": " + strings.Join(rates, ", ")
	return text
}

// currency is which currency a money expression is in.
type currency uint8

const (
	anyCurrency   currency = iota // a plain number
	eventCurrency                 // the event's
	toCurrency                    // what the ruleset converts to
)

// checkCurrencies refuses to add up or compare converted amounts with others.
func (s *scope) checkCurrencies(tree *ast.AST, fail func(ast.Expr, string, ...any)) {
	var of func(e ast.Expr) currency
	of = func(e ast.Expr) currency {
		if e.Kind() == ast.ListKind {
			for _, x := range e.AsList().Elements() {
				of(x)
			}
			return anyCurrency
		}
		if e.Kind() != ast.CallKind {
			if typeOf(tree.GetType(e.ID())) == moneyType {
				return eventCurrency
			}
			return anyCurrency
		}
		call := e.AsCall()
		found := anyCurrency
		args := call.Args()
		if call.FunctionName() == operators.Conditional {
			of(args[0])
			args = args[1:]
		}
		for _, arg := range args {
			c := of(arg)
			if c != anyCurrency && found != anyCurrency && c != found {
				fail(arg, "one side is converted, the other is in the event's currency; convert both")
			}
			found = max(found, c)
		}
		switch {
		case call.FunctionName() == convertedName && found == toCurrency:
			fail(args[0], "it is converted already")
		case call.FunctionName() == convertedName:
			return toCurrency
		case typeOf(tree.GetType(e.ID())) != moneyType:
			return anyCurrency
		}
		return found
	}
	of(tree.Expr())
}
