package rules

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	celenv "cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// costLimit bounds one evaluation by cel-go, in its own unit: about one for each operation and each ten characters looked
// at. The regular expressions of a long condition stay far below it.
const costLimit = 10_000

// Truth is what a condition comes to.
type Truth uint8

// The truths. Unknown: something the answer depends on is missing, or does not fit its type.
const (
	False Truth = iota
	True
	Unknown
)

// Condition is a checked CEL expression of type bool.
type Condition struct {
	Text    string // as written
	Lowered bool   // runs as closures; otherwise cel-go evaluates it

	canonical string // the same for two spellings of one expression
	eval      truth
	reads     []int // aggregates named, by index, ascending
	asks      []int // questions to lists, by index in scope.questions
	names     map[string]bool
	checked   *cel.Ast
}

func (c *Condition) tree() *ast.AST { return c.checked.NativeRep() }

// Eval answers the condition over a frame.
func (c *Condition) Eval(f *Frame) Truth { return c.eval(f) }

// scope is what the conditions of one ruleset can name.
type scope struct {
	env       *cel.Env
	vars      map[string]*variable
	questions []question // to lists
	beside    bool       // of a file beside rulesets: it has no aggregates, lists or rates
}

// knownPrefix starts the name of the hidden variable that known(x) stands for; no expression can spell it.
const knownPrefix = "@known:"

// newScope adds a ruleset's aggregates to the vocabulary.
func newScope(aggregates []variable, conversion *Conversion) (*scope, error) {
	s := &scope{vars: make(map[string]*variable, 2*(len(variables)+len(aggregates)))}
	declare := []cel.EnvOption{cel.Variable(frameName, celFrame)}
	if conversion != nil {
		s.vars[rateName] = conversion.variable()
		declare = append(declare, cel.Variable(rateName, celDecimal))
	}
	for i := range variables {
		declare = append(declare, s.add(&variables[i])...)
	}
	for i := range aggregates {
		declare = append(declare, s.add(&aggregates[i])...)
	}
	base, err := baseEnv()
	if err != nil {
		return nil, err
	}
	s.env, err = base.Extend(declare...)
	return s, err
}

// add lets expressions name a variable, and ask whether it is known.
func (s *scope) add(v *variable) []cel.EnvOption {
	s.vars[v.name] = v
	s.vars[knownPrefix+v.name] = &variable{name: knownPrefix + v.name, typ: boolType, in: v.in, flag: v.known, reads: v.reads}
	return []cel.EnvOption{cel.Variable(v.name, celTypes[v.typ]), cel.Variable(knownPrefix+v.name, cel.BoolType)}
}

func (s *scope) variable(name string) *variable { return s.vars[name] }

// check parses an expression and checks its types, words and numbers.
func (s *scope) check(text, what string) (*cel.Ast, []exprMistake) {
	if len(text) > MaxConditionBytes {
		return nil, []exprMistake{{message: fmt.Sprintf("the %s has %d bytes; at most %d", what, len(text), MaxConditionBytes)}}
	}
	checked, issues := s.env.Compile(text)
	if issues.Err() != nil {
		return nil, s.explain(text, issues)
	}
	return checked, s.checkTree(checked.NativeRep())
}

// compile checks a condition and lowers it.
func (s *scope) compile(text string) (*Condition, []exprMistake) {
	checked, mistakes := s.check(text, "condition")
	if mistakes == nil && !checked.OutputType().IsExactType(cel.BoolType) {
		mistakes = []exprMistake{{message: fmt.Sprintf("the condition is a %s; it must be true or false", checked.OutputType())}}
	}
	if mistakes != nil {
		return nil, mistakes
	}
	tree := checked.NativeRep()
	canonical, err := cel.AstToString(checked)
	if err != nil {
		canonical = text
	}
	c := &Condition{Text: text, canonical: canonical, names: map[string]bool{}, checked: checked}
	s.collect(tree, c)
	s.collectQuestions(tree, c)
	l := lowering{tree: tree, scope: s}
	if c.eval = l.truth(tree.Expr()); c.eval != nil {
		c.Lowered = true
		return c, nil
	}
	if c.eval, err = s.interpret(checked); err != nil {
		return nil, []exprMistake{{message: err.Error()}}
	}
	return c, nil
}

// interpret lets cel-go evaluate a condition.
func (s *scope) interpret(checked *cel.Ast) (truth, error) {
	program, err := s.env.Program(checked, cel.CostLimit(costLimit), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("plan the condition: %w", err)
	}
	return func(f *Frame) Truth {
		out, _, err := program.Eval(&f.activation)
		b, ok := out.(types.Bool)
		switch {
		case err != nil || !ok:
			return Unknown
		case bool(b):
			return True
		}
		return False
	}, nil
}

// collect notes the variables and aggregates an expression names.
func (s *scope) collect(tree *ast.AST, c *Condition) {
	seen := map[int]bool{}
	for _, info := range tree.ReferenceMap() {
		if v := s.vars[info.Name]; v != nil {
			c.names[v.name] = true
			if v.reads > 0 {
				seen[v.reads-1] = true
			}
			for _, i := range v.through {
				seen[i] = true
			}
		}
	}
	for i := range MaxAggregates {
		if seen[i] {
			c.reads = append(c.reads, i)
		}
	}
}

// baseEnv is the language without any variables: built once, extended for each ruleset.
var baseEnv = sync.OnceValues(func() (*cel.Env, error) {
	library := celenv.NewLibrarySubset().SetDisableMacros(true)
	for _, name := range []string{operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot,
		operators.In, "startsWith", "endsWith", "contains", "matches", "size", "duration", "timestamp"} {
		library.AddIncludedFunctions(celenv.NewFunction(name))
	}
	options := []cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(library)), cel.ClearMacros(), cel.Macros(cel.GlobalMacro("known", 1, expandKnown),
			cel.GlobalMacro("listed", 2, expandQuestion(listedName)), cel.GlobalMacro("similarity", 2, expandQuestion(similarityName)), cel.GlobalMacro("converted", 1, expandConverted)),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals()),
		cel.ParserRecursionLimit(64), cel.ParserExpressionSizeLimit(MaxConditionBytes), cel.HomogeneousAggregateLiterals(),
	}
	options = append(append(options, operations()...), choices()...)
	return cel.NewCustomEnv(append(options, questionFunctions()...)...)
})

// expandKnown turns known(payment.amount) into the hidden variable that says so.
func expandKnown(h cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	name, ok := dotted(args[0])
	if !ok {
		return nil, h.NewError(args[0].ID(), "known() takes the name of a variable or an aggregate, as in known(loan.age)")
	}
	return h.NewIdent(knownPrefix + name), nil
}

// dotted reads a.b.c.
func dotted(e ast.Expr) (string, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return e.AsIdent(), true
	case ast.SelectKind:
		sel := e.AsSelect()
		name, ok := dotted(sel.Operand())
		return name + "." + sel.FieldName(), ok && !sel.IsTestOnly()
	}
	return "", false
}

// operations declares arithmetic and comparisons: what CEL has for whole numbers, times and words, and exact ones for
// money and decimals, which a rule may mix with plain numbers. Whole numbers are not divided: ratio(a, b) keeps the rest.
func operations() []cel.EnvOption {
	numbers := []*cel.Type{cel.IntType, cel.DoubleType, celDecimal, celMoney}
	declare := map[string][]cel.FunctionOpt{}
	add := func(op string, result *cel.Type, args ...*cel.Type) {
		id := op
		for _, a := range args {
			id += "_" + a.TypeName()
		}
		declare[op] = append(declare[op], cel.Overload(id, args, result))
	}
	comparisons := []string{operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals}
	for _, l := range numbers {
		for _, r := range numbers {
			for _, op := range comparisons {
				if comparable(l, r) {
					add(op, cel.BoolType, l, r)
				}
			}
			for _, op := range []string{operators.Add, operators.Subtract, operators.Multiply, operators.Divide} {
				if t := resultType(op, l, r); t != nil {
					add(op, t, l, r)
				}
			}
		}
		add(operators.Negate, l, l)
	}
	for _, op := range comparisons {
		for _, t := range []*cel.Type{cel.StringType, cel.DurationType, cel.TimestampType} {
			add(op, cel.BoolType, t, t)
		}
	}
	add(operators.Add, cel.TimestampType, cel.TimestampType, cel.DurationType)
	add(operators.Add, cel.DurationType, cel.DurationType, cel.DurationType)
	add(operators.Subtract, cel.TimestampType, cel.TimestampType, cel.DurationType)
	add(operators.Subtract, cel.DurationType, cel.TimestampType, cel.TimestampType)
	add(operators.Subtract, cel.DurationType, cel.DurationType, cel.DurationType)
	add("ratio", celDecimal, cel.IntType, cel.IntType)
	add("ratio", celDecimal, celMoney, celMoney)
	add(convertedName, celMoney, celMoney, celDecimal)
	bindings := map[string]func(l, r ref.Val) ref.Val{
		operators.Add: calculate('+'), operators.Subtract: calculate('-'), operators.Multiply: calculate('*'),
		operators.Divide: calculate('/'), "ratio": calculate('/'), convertedName: calculate('*'),
	}
	for op, holds := range orders {
		bindings[op] = order(holds)
	}
	options := []cel.EnvOption{equality(operators.Equals), equality(operators.NotEquals)}
	for op, overloads := range declare {
		if op == operators.Negate {
			options = append(options, cel.Function(op, append(overloads, cel.SingletonUnaryBinding(negate))...))
			continue
		}
		options = append(options, cel.Function(op, append(overloads, cel.SingletonBinaryBinding(bindings[op]))...))
	}
	return options
}

// equality compares like with like, and money and decimals on the left with plain numbers. cel-go has its own way to
// evaluate it, which asks the left side.
func equality(op string) cel.EnvOption {
	var overloads []cel.FunctionOpt
	add := func(l, r *cel.Type) {
		overloads = append(overloads, cel.Overload(op+"_"+l.TypeName()+"_"+r.TypeName(), []*cel.Type{l, r}, cel.BoolType))
	}
	for t := boolType; int(t) < len(celTypes); t++ {
		add(celTypes[t], celTypes[t])
	}
	for _, l := range []*cel.Type{celMoney, celDecimal} {
		add(l, cel.IntType)
		add(l, cel.DoubleType)
	}
	return cel.Function(op, append(overloads, cel.SingletonBinaryBinding(func(l, r ref.Val) ref.Val { return l.Equal(r) }))...)
}

var orders = map[string]func(int) bool{
	operators.Less:          func(c int) bool { return c < 0 },
	operators.LessEquals:    func(c int) bool { return c <= 0 },
	operators.Greater:       func(c int) bool { return c > 0 },
	operators.GreaterEquals: func(c int) bool { return c >= 0 },
}

// comparable says whether two number types may be compared: money never with a bare decimal, which has no currency.
func comparable(l, r *cel.Type) bool {
	if l == cel.DoubleType && r == cel.DoubleType {
		return false
	}
	return !(l == celMoney && r == celDecimal || l == celDecimal && r == celMoney)
}

// resultType is the type of l op r, nil if there is none.
func resultType(op string, l, r *cel.Type) *cel.Type {
	if l == cel.IntType && r == cel.IntType {
		if op == operators.Divide {
			return nil
		}
		return cel.IntType
	}
	lm, rm := l == celMoney, r == celMoney
	if !lm && !rm {
		return celDecimal
	}
	switch op {
	case operators.Multiply:
		if lm && rm {
			return nil
		}
	case operators.Divide:
		if lm && rm {
			return celDecimal
		}
		if rm {
			return nil
		}
	default:
		if !comparable(l, r) {
			return nil
		}
	}
	return celMoney
}

// exprMistake is something wrong inside an expression.
type exprMistake struct {
	line, column int // within the expression, from 0
	message      string
}

// explain turns cel-go's complaints into ours.
func (s *scope) explain(text string, issues *cel.Issues) []exprMistake {
	var all []exprMistake
	for _, e := range issues.Errors() {
		m := exprMistake{message: explainMessage(e.Message)}
		if rest, ok := strings.CutPrefix(e.Message, syntaxError); ok {
			m.message = explainSyntax(text, rest)
		}
		if e.Location != nil && e.Location.Line() > 0 {
			m.line, m.column = e.Location.Line()-1, max(e.Location.Column(), 0)
		}
		if strings.HasPrefix(e.Message, "undeclared reference") {
			m.message = s.undeclared(text, &m)
		}
		all = append(all, m)
		if strings.HasPrefix(e.Message, syntaxError) {
			break // what follows it comes of it
		}
	}
	if len(all) == 0 {
		all = []exprMistake{{message: issues.Err().Error()}}
	}
	return all
}

// explainMessage puts the commonest complaints in plain words.
func explainMessage(message string) string {
	if op, applied, ok := strings.Cut(strings.TrimPrefix(message, "found no matching overload for "), " applied to "); ok {
		word := strings.Trim(strings.Trim(op, "'"), "_@")
		types := strings.Trim(applied, "'")
		switch {
		case word == "converted":
			return "converted() takes an amount, as in converted(payment.amount)"
		case word == "listed" || word == "similarity":
			return word + "() takes a list and a text, as in " + word + `("watch-cards", payment.card)`
		case word == "/" && types == "(int, int)":
			return "whole numbers are not divided, the rest would be lost; write ratio(a, b)"
		case (word == "==" || word == "!=") && (strings.HasSuffix(types, ", money)") || strings.HasSuffix(types, ", decimal)")):
			return "write the amount on the left: payment.amount " + word + " 100"
		case strings.HasPrefix(types, "(money, string") || strings.HasPrefix(types, "(decimal, string") || strings.HasPrefix(types, "(int, string"):
			return fmt.Sprintf("%s cannot be used on %s; a number is written without quotes: payment.amount %s 200", word, types, word)
		case strings.Contains(types, "duration"):
			return fmt.Sprintf("%s cannot be used on %s; a time span is written duration(\"30m\")", word, types)
		}
		return fmt.Sprintf("%s cannot be used on %s", word, types)
	}
	return strings.TrimSuffix(message, " (in container '')")
}

// syntaxError starts the parser's complaints.
const syntaxError = "Syntax error: "

// elsewhere are spellings of other languages, as the parser complains of them, and what is written instead.
var elsewhere = []struct{ at, instead string }{
	{"input 'and' ", `write && for "and"`}, {"input 'AND' ", `write && for "and"`}, {"at: '& '", `write && for "and"`}, {"at: '&'", `write && for "and"`},
	{"input 'or' ", `write || for "or"`}, {"input 'OR' ", `write || for "or"`}, {"at: '| '", `write || for "or"`}, {"at: '|'", `write || for "or"`},
	{"at: '=<", "write <= for at most"}, {"at: '=>", "write >= for at least"},
	{"at: '= ", "write == to compare"}, {"at: '='", "write == to compare"}, {"at: '=\"", "write == to compare"},
	{"input ',' ", "numbers have no commas: write 5000"},
	{"input 'm' ", `a time span is written duration("30m")`}, {"input 'h' ", `a time span is written duration("24h")`},
	{"input 'd' ", `a time span is written duration("168h")`}, {"input 's' ", `a time span is written duration("30s")`},
}

// explainSyntax says what to write where a condition cannot be parsed.
func explainSyntax(text, complaint string) string {
	for _, e := range elsewhere {
		if strings.Contains(complaint, e.at) {
			return e.instead
		}
	}
	if strings.Contains(text, "<>") {
		return "write != for unlike"
	}
	if first, _, _ := strings.Cut(strings.TrimSpace(text), " "); strings.EqualFold(first, "not") {
		return `write ! for "not": !device.known`
	}
	return "this cannot be read: " + complaint
}

// undeclared names what was misspelt, and what may have been meant. It moves the mistake to the start of the name.
func (s *scope) undeclared(text string, m *exprMistake) string {
	name := ""
	if lines := strings.Split(text, "\n"); m.line < len(lines) {
		name = nameAt([]rune(lines[m.line]), &m.column)
	}
	if inner, ok := strings.CutPrefix(m.message, "undeclared reference to '"+knownPrefix); ok {
		name, _, _ = strings.Cut(inner, "'")
	}
	if s.beside && (strings.HasPrefix(m.message, "undeclared reference to '"+rateName) || strings.HasPrefix(m.message, "undeclared reference to '"+frameName)) {
		return "listed(), similarity() and converted() are for rulesets: what they answer changes with lists and rates"
	}
	if strings.HasPrefix(m.message, "undeclared reference to '"+rateName) {
		return "converted() needs rates; write conversion: {to: CNY, as_of: 2026-11-01, rates: {USD: 7.1023}} at the top of the ruleset"
	}
	switch name {
	case "has":
		return "has() is not part of the language; write known(loan.age) or device.known"
	case "":
		return m.message
	}
	meant := suggest(name, s.words())
	if meant == "" && !strings.Contains(name, ".") {
		meant = "; a text stands in double quotes"
	}
	return fmt.Sprintf("unknown name %q%s", name, meant)
}

// nameAt reads the dotted name around a column and moves the column to its start.
func nameAt(line []rune, column *int) string {
	part := func(r rune) bool {
		return r == '_' || r == '.' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	}
	start := min(*column, len(line))
	end := start
	for start > 0 && part(line[start-1]) {
		start--
	}
	for end < len(line) && part(line[end]) {
		end++
	}
	*column = start
	return string(line[start:end])
}

// functions are the names a condition can call.
var functions = []string{"known", "listed", "similarity", "converted", "ratio", "min", "max", "round", "floor", "ceil", "round_half_even", "duration", "timestamp",
	"size", "matches", "startsWith", "endsWith", "contains"}

func (s *scope) words() []string {
	all := append([]string{}, functions...)
	for name := range s.vars {
		if !strings.HasPrefix(name, knownPrefix) {
			all = append(all, name)
		}
	}
	return all
}

// checkTree finds what type checking does not: numbers that are not exact, and words a variable can never equal.
func (s *scope) checkTree(tree *ast.AST) []exprMistake {
	var all []exprMistake
	fail := func(e ast.Expr, format string, args ...any) {
		m := exprMistake{message: fmt.Sprintf(format, args...)}
		if at := tree.SourceInfo().GetStartLocation(e.ID()); at.Line() > 0 {
			m.line, m.column = at.Line()-1, at.Column()
		}
		all = append(all, m)
	}
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.LiteralKind:
			if f, ok := e.AsLiteral().(types.Double); ok {
				if _, ok := literal(float64(f)); !ok {
					fail(e, "the number %v has more than %d digits", float64(f), maxLiteralDigits)
				}
			}
		case ast.CallKind:
			s.checkWords(tree, e.AsCall(), fail)
		}
	}))
	s.checkCurrencies(tree, fail)
	return all
}

// checkWords looks at payment.method == "cash" and payment.method in ["cash"].
func (s *scope) checkWords(tree *ast.AST, call ast.CallExpr, fail func(ast.Expr, string, ...any)) {
	switch call.FunctionName() {
	case operators.Equals, operators.NotEquals, operators.In:
	default:
		return
	}
	l, r := call.Args()[0], call.Args()[1]
	name := reference(tree, l)
	if name == "" {
		name, r = reference(tree, r), l
	}
	words, closed := closedWords[name]
	if !closed {
		return
	}
	candidates := []ast.Expr{r}
	if r.Kind() == ast.ListKind {
		candidates = r.AsList().Elements()
	}
	for _, e := range candidates {
		if e.Kind() != ast.LiteralKind {
			continue
		}
		if word, ok := e.AsLiteral().(types.String); ok && !slices.Contains(words, string(word)) {
			fail(e, "%s is never %q%s", name, string(word), suggest(string(word), words))
		}
	}
}

// reference is the variable an expression names, "" if it is something else.
func reference(tree *ast.AST, e ast.Expr) string {
	if e.Kind() != ast.IdentKind && e.Kind() != ast.SelectKind {
		return ""
	}
	if info := tree.ReferenceMap()[e.ID()]; info != nil {
		return info.Name
	}
	return ""
}
