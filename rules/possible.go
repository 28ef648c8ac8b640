package rules

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"sluice/schemas/events"
)

// maxRuns bounds the cases looked at for one condition and one kind of event. A condition with more of them counts as one
// that can come to anything.
const maxRuns = 20_000

// truthSet is a set of truths.
type truthSet uint8

const everyTruth truthSet = 1<<False | 1<<True | 1<<Unknown

func (s truthSet) has(t Truth) bool { return s&(1<<t) != 0 }

// possibility finds what a condition can come to on one kind of event. It goes through all cases that the condition can
// tell apart: each variable is unknown, equal to one of the constants it is compared with, or between two of them; what is
// not compared with a constant comes out either way. So it may find a truth that no event has (two comparisons of one
// variable with another are taken as independent), but never misses one that an event has.
type possibility struct {
	scope      *scope
	aggregates []Aggregate
	conversion *Conversion
	kind       events.Kind

	numbers map[string][]Decimal // what is compared with constants, by its text: the constants, ascending
	words   map[string][]string  // by the variable's name

	picks   []pick // the case in hand
	depth   int
	found   map[string]fact // what the case says so far
	missing []string        // what is unknown in the case, or zero where it divides
	tree    *ast.AST        // of the condition that ids belong to: an aggregate's filter has its own
}

// pick is one choice of a case.
type pick struct{ at, of int }

// fact is what a case says of a variable or an expression.
type fact struct {
	known  bool
	exact  bool // number or word is its value; otherwise it is none of the constants
	number Decimal
	word   string
	choice int
}

// choose returns a number below n: a different one in every case.
func (p *possibility) choose(n int) int {
	if p.depth == len(p.picks) {
		p.picks = append(p.picks, pick{0, n})
	}
	p.depth++
	return p.picks[p.depth-1].at
}

// next goes on to the next case; false after the last.
func (p *possibility) next() bool {
	for len(p.picks) > 0 {
		last := &p.picks[len(p.picks)-1]
		if last.at++; last.at < last.of {
			return true
		}
		p.picks = p.picks[:len(p.picks)-1]
	}
	return false
}

// can returns what an expression of type bool comes to on a kind of event, and what is unknown where it comes to Unknown.
func (s *scope) can(tree *ast.AST, e ast.Expr, kind events.Kind, aggregates []Aggregate, reads []int, conversion *Conversion) (truthSet, []string) {
	p := &possibility{scope: s, aggregates: aggregates, conversion: conversion, kind: kind, tree: tree,
		numbers: map[string][]Decimal{}, words: map[string][]string{}}
	p.constants(tree, e)
	for _, info := range tree.ReferenceMap() {
		if v := s.vars[strings.TrimPrefix(info.Name, knownPrefix)]; v != nil && v.model != nil {
			for _, c := range v.model.exprs {
				p.constants(c.tree(), c.tree().Expr())
			}
		}
	}
	for _, i := range reads {
		if w := aggregates[i].Where; w != nil {
			p.constants(w.tree(), w.tree().Expr())
		}
	}
	return p.every(e, nil, maxRuns)
}

// show writes an expression as a rule has it.
func show(tree *ast.AST, e ast.Expr) string {
	text, err := cel.ExprToString(e, tree.SourceInfo())
	if err != nil {
		return ""
	}
	return shown(text)
}

var hidden = strings.NewReplacer(listedName+"("+frameName+", ", "listed(", similarityName+"("+frameName+", ", "similarity(", convertedName+"(", "converted(", ", "+rateName+")", ")")

var hiddenKnown = regexp.MustCompile(knownPrefix + `([a-z0-9_.]+)`)

// shown undoes what macros made of a text.
func shown(text string) string {
	return hidden.Replace(hiddenKnown.ReplaceAllString(text, "known($1)"))
}

// constants notes what is compared with which constants.
func (p *possibility) constants(tree *ast.AST, e ast.Expr) {
	ast.PostOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		call := e.AsCall()
		args := call.Args()
		_, ordered := orders[call.FunctionName()]
		switch name := call.FunctionName(); {
		case ordered, name == operators.Equals, name == operators.NotEquals:
			p.constant(tree, args[0], args[1])
			p.constant(tree, args[1], args[0])
		case name == operators.In && args[1].Kind() == ast.ListKind:
			for _, x := range args[1].AsList().Elements() {
				p.constant(tree, args[0], x)
			}
		case name == operators.Divide, name == "ratio":
			if typeOf(tree.GetType(args[1].ID())) != noType {
				p.numbers[show(tree, args[1])] = append(p.numbers[show(tree, args[1])], Decimal{})
			}
		}
	}))
}

func (p *possibility) constant(tree *ast.AST, of, c ast.Expr) {
	if d, ok := constant(tree, c); ok {
		p.numbers[show(tree, of)] = append(p.numbers[show(tree, of)], d)
	} else if c.Kind() == ast.LiteralKind {
		if word, ok := c.AsLiteral().(types.String); ok && !slices.Contains(p.words[reference(tree, of)], string(word)) {
			p.words[reference(tree, of)] = append(p.words[reference(tree, of)], string(word))
		}
	}
}

// constant is the value of a number that is written out; time spans and times are nanoseconds.
func constant(tree *ast.AST, e ast.Expr) (Decimal, bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		if _, word := e.AsLiteral().(types.String); word {
			return Decimal{}, false
		}
		return asDecimal(e.AsLiteral())
	case ast.CallKind:
	default:
		return Decimal{}, false
	}
	call := e.AsCall()
	args := call.Args()
	switch name := call.FunctionName(); name {
	case "duration", "timestamp":
		return constantTime(name, args[0])
	case operators.Negate:
		d, ok := constant(tree, args[0])
		return d.Negate(), ok
	default:
		calculate, ok := preciseOperations[name]
		if !ok || typeOf(tree.GetType(e.ID())) == timeType || typeOf(tree.GetType(e.ID())) == durationType {
			return Decimal{}, false
		}
		a, oka := constant(tree, args[0])
		b, okb := constant(tree, args[1])
		if !oka || !okb {
			return Decimal{}, false
		}
		return calculate(a, b)
	}
}

func constantTime(function string, e ast.Expr) (Decimal, bool) {
	if e.Kind() != ast.LiteralKind {
		return Decimal{}, false
	}
	text, _ := e.AsLiteral().(types.String)
	if function == "duration" {
		d, err := time.ParseDuration(string(text))
		return Int(int64(d)), err == nil
	}
	t, err := time.Parse(time.RFC3339, string(text))
	return Int(t.UnixNano()), err == nil
}

// fact returns what the case says of a key, found out by the function the first time.
func (p *possibility) fact(key string, find func() fact) fact {
	if f, ok := p.found[key]; ok {
		return f
	}
	f := find()
	p.found[key] = f
	return f
}

// either is true in one case and false in another, but the same for one key.
func (p *possibility) either(key string) bool {
	return p.fact(key, func() fact { return fact{choice: p.choose(2)} }).choice == 1
}

func (p *possibility) eitherTruth(key string) Truth { return truthOf(p.either(key)) }

// truth is what an expression of type bool comes to in the case.
func (p *possibility) truth(e ast.Expr) Truth {
	switch e.Kind() {
	case ast.LiteralKind:
		return truthOf(e.AsLiteral() == types.True)
	case ast.IdentKind, ast.SelectKind:
		return p.flag(p.scope.variable(reference(p.tree, e)))
	case ast.CallKind:
		return p.call(e)
	}
	return p.eitherTruth(show(p.tree, e))
}

func (p *possibility) flag(v *variable) Truth {
	switch {
	case v == nil:
		return p.eitherTruth("?")
	case strings.HasPrefix(v.name, knownPrefix):
		return truthOf(p.known(p.scope.variable(strings.TrimPrefix(v.name, knownPrefix))))
	case v.presence != "":
		return truthOf(p.word(p.scope.variable(v.presence)).known)
	}
	return p.eitherTruth(v.name)
}

// known says whether a variable is known in the case.
func (p *possibility) known(v *variable) bool {
	switch v.typ {
	case boolType:
		return true
	case stringType:
		return p.word(v).known
	}
	return p.variableNumber(v).known
}

func (p *possibility) call(e ast.Expr) Truth {
	call := e.AsCall()
	args := call.Args()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr:
		return p.junction(args[0], args[1], truthOf(name == operators.LogicalOr))
	case operators.LogicalNot:
		if t := p.truth(args[0]); t != Unknown {
			return 1 - t
		}
		return Unknown
	case operators.Conditional:
		switch p.truth(args[0]) {
		case True:
			return p.truth(args[1])
		case False:
			return p.truth(args[2])
		}
		return Unknown
	case operators.Equals:
		return p.compare(args[0], args[1], func(c int) bool { return c == 0 })
	case operators.NotEquals:
		return p.compare(args[0], args[1], func(c int) bool { return c != 0 })
	case operators.In:
		return p.in(e, args[0], args[1])
	case "startsWith", "endsWith", "contains", "matches":
		return p.part(e)
	case listedName:
		if v := p.scope.variable(reference(p.tree, args[2])); v != nil && !p.word(v).known {
			return False
		}
		return p.eitherTruth(show(p.tree, e))
	default:
		if holds, ok := orders[name]; ok {
			return p.compare(args[0], args[1], holds)
		}
	}
	return p.eitherTruth(show(p.tree, e))
}

// junction is && and ||, as in either.
func (p *possibility) junction(a, b ast.Expr, decides Truth) Truth {
	x := p.truth(a)
	if x == decides {
		return decides
	}
	y := p.truth(b)
	if y == decides {
		return decides
	}
	return max(x, y, 1-decides)
}

func (p *possibility) compare(a, b ast.Expr, holds func(int) bool) Truth {
	switch typeOf(p.tree.GetType(a.ID())) {
	case boolType:
		x, y := p.truth(a), p.truth(b)
		if x == Unknown || y == Unknown {
			return Unknown
		}
		return truthOf(holds(int(x) - int(y)))
	case stringType:
		return p.compareWords(a, b, holds)
	}
	if d, ok := constant(p.tree, b); ok {
		return p.compareConstant(a, d, holds)
	}
	if d, ok := constant(p.tree, a); ok {
		return p.compareConstant(b, d, func(c int) bool { return holds(-c) })
	}
	if !p.numberKnown(a) || !p.numberKnown(b) {
		return Unknown
	}
	x, y := show(p.tree, a), show(p.tree, b)
	if x == y {
		return truthOf(holds(0))
	}
	sign := 1
	if x > y {
		x, y, sign = y, x, -1
	}
	f := p.fact(x+" <> "+y, func() fact { return fact{choice: p.choose(3)} })
	return truthOf(holds(sign * (f.choice - 1)))
}

func (p *possibility) compareConstant(e ast.Expr, c Decimal, holds func(int) bool) Truth {
	f := p.number(e)
	switch {
	case !f.known:
		return Unknown
	case f.exact:
		return truthOf(holds(f.number.Compare(c)))
	}
	return truthOf(holds(p.fact(show(p.tree, e)+" <> "+c.String(), func() fact { return fact{choice: p.choose(3)} }).choice - 1))
}

func (p *possibility) compareWords(a, b ast.Expr, holds func(int) bool) Truth {
	x, y := p.text(a), p.text(b)
	if x.exact && y.exact {
		return truthOf(holds(strings.Compare(x.word, y.word)))
	}
	// A word that is none of the constants its variable is compared with is not this one either.
	if (a.Kind() == ast.LiteralKind || b.Kind() == ast.LiteralKind) && holds(-1) == holds(1) {
		return truthOf(holds(1))
	}
	return truthOf(holds(p.fact(show(p.tree, a)+" <> "+show(p.tree, b), func() fact { return fact{choice: p.choose(3)} }).choice - 1))
}

// text is what the case says of an expression of type string; a missing one is "".
func (p *possibility) text(e ast.Expr) fact {
	if e.Kind() == ast.LiteralKind {
		word, _ := e.AsLiteral().(types.String)
		return fact{known: true, exact: true, word: string(word)}
	}
	if v := p.scope.variable(reference(p.tree, e)); v != nil {
		return p.word(v)
	}
	return fact{known: true}
}

// word is what the case says of a text variable.
func (p *possibility) word(v *variable) fact {
	return p.fact(v.name, func() fact {
		options := p.wordOptions(v)
		return options[p.choose(len(options))]
	})
}

func (p *possibility) wordOptions(v *variable) []fact {
	exactly := func(word string) fact { return fact{known: word != "", exact: true, word: word} }
	if v.in&(1<<p.kind) == 0 {
		return []fact{exactly("")}
	}
	switch v.name {
	case "event.kind":
		return []fact{exactly(p.kind.String())}
	case "payment.status", "loan.status":
		return []fact{exactly(p.kind.Status())}
	}
	present := v.always.Has(p.kind)
	if v.with.name != "" && !present {
		present = p.word(p.scope.variable(v.with.name)).word == v.with.word
	}
	var options []fact
	closed, isClosed := closedWords[v.name]
	if !present {
		options = append(options, exactly(""))
	}
	named := p.words[v.name]
	for _, word := range named {
		if word != "" && (!isClosed || slices.Contains(closed, word)) {
			options = append(options, exactly(word))
		}
	}
	if !isClosed {
		return append(options, fact{known: true})
	}
	for _, word := range closed {
		if word != "" && !slices.Contains(named, word) {
			return append(options, exactly(word)) // it stands for all that are not named
		}
	}
	return options
}

func (p *possibility) in(e, a, list ast.Expr) Truth {
	if list.Kind() != ast.ListKind {
		return p.eitherTruth(show(p.tree, e))
	}
	same := func(c int) bool { return c == 0 }
	t := False
	for _, x := range list.AsList().Elements() {
		t = max(t, p.compare(a, x, same))
		if t == True {
			return True
		}
	}
	if len(list.AsList().Elements()) == 0 && typeOf(p.tree.GetType(a.ID())) != stringType && !p.numberKnown(a) {
		return Unknown
	}
	return t
}

// part is startsWith, endsWith, contains and matches.
func (p *possibility) part(e ast.Expr) Truth {
	call := e.AsCall()
	target, args := call.Target(), call.Args()
	if !call.IsMemberFunction() {
		target, args = args[0], args[1:]
	}
	x, y := p.text(target), p.text(args[0])
	if !x.exact || !y.exact {
		return p.eitherTruth(show(p.tree, e))
	}
	switch call.FunctionName() {
	case "startsWith":
		return truthOf(strings.HasPrefix(x.word, y.word))
	case "endsWith":
		return truthOf(strings.HasSuffix(x.word, y.word))
	case "contains":
		return truthOf(strings.Contains(x.word, y.word))
	}
	matched, err := regexp.MatchString(y.word, x.word)
	if err != nil {
		return Unknown
	}
	return truthOf(matched)
}
