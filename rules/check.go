package rules

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"github.com/goccy/go-yaml/ast"

	"sluice/schemas/events"
)

// Worst-case cost of a condition, in cel-go's unit: about one for each operation and each ten characters looked at.
const (
	// MaxCost bounds one condition, all its texts being as long as events allow. The shipped packs stay below half of it; the
	// worst regular expression at this bound takes a quarter of a millisecond.
	MaxCost = 1_000
	// listedCost and similarityCost are charged for one question to a list.
	listedCost     = 10
	similarityCost = 200
)

// places are the parts of the file that checks speak of.
type places struct {
	aggregates map[string]ast.Node // the name
	rules      []rulePlaces
	reasons    map[string]ast.Node
	conversion ast.Node
	outcomes   [families]struct{ review, decline ast.Node }
}

type rulePlaces struct{ rule, when, on, reason, brake, verdict ast.Node }

// Check loads a ruleset and refuses, besides what Load does, what an author should not leave behind: rules that can never
// fire, conditions that can come to Unknown without missing:, conditions that cost too much, what is declared and not used,
// outcomes that are never reached. A ruleset enters a house through Check; Load is for one that is in use.
func Check(file string, data []byte) (*Ruleset, error) { return load(file, data, (*loader).check) }

func (l *loader) check() {
	canFire := make([]bool, len(l.ruleset.Rules))
	for i := range l.ruleset.Rules {
		canFire[i] = l.checkRule(&l.ruleset.Rules[i], &l.at.rules[i])
	}
	l.checkSameRules()
	l.checkAggregates()
	l.checkModels()
	l.checkReasons()
	l.checkOutcomes(canFire)
	if l.ruleset.Conversion != nil && !l.converts() {
		l.fail(l.at.conversion, "conversion: no condition calls converted(); leave it out")
	}
}

// checkRule looks at one rule and says whether it can fire.
func (l *loader) checkRule(r *Rule, at *rulePlaces) bool {
	var set truthSet
	var missing []string
	for _, kind := range events.Kinds() {
		if r.On.Has(kind) {
			s, m := l.can(r.When, r.When.tree().Expr(), kind)
			if missing == nil && s.has(Unknown) {
				missing = m
			}
			set |= s
		}
	}
	if set.has(Unknown) && r.Missing == MissingUndeclared {
		l.fail(at.when, "when: %s; write missing: skip, missing: fire or missing: review under it, or guard it with known(…)", whatIsMissing(missing))
	}
	fires := set.has(True) || set.has(Unknown) && (r.Missing == MissingFire || r.Missing == MissingReview)
	if !fires {
		l.explainNever(r, at)
	}
	if !r.On.asks() && (at.verdict != nil || at.brake != nil) {
		l.fail(at.on, "on: %s wants no verdict, so the rule's changes nothing; name payment.initiated, payment.authorized or loan.applied", kindsText(r.On))
	}
	if t := l.ruleset.Outcomes; at.verdict == nil && r.On.asks() && r.asked(func(f events.Family) bool { return t[f] == Thresholds{} }) {
		l.fail(at.rule, "the rule %s adds a score, but outcomes: say nothing of its events; write outcomes: {review: 50, decline: 80}", r.ID)
	}
	if c := l.cost(r.When); c > MaxCost {
		l.fail(at.when, "when: it can cost %d, more than %d; ask cheap things first and split long regular expressions", c, MaxCost)
	}
	return fires
}

func whatIsMissing(phrases []string) string {
	if len(phrases) == 0 {
		return "something it reads can be unknown"
	}
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(phrases))), ", ")
}

func missingPhrase(name string) string {
	if name == rateName {
		return "the rate of the event's currency can be unknown"
	}
	return name + " can be unknown"
}

// asks says whether events of any of the kinds want a verdict.
func (k Kinds) asks() bool {
	return k&(1<<events.PaymentInitiated|1<<events.LoanApplied|1<<events.PaymentAuthorized) != 0
}

// asked says whether something holds of the families of every kind that the rule is asked of and that wants a verdict.
func (r *Rule) asked(holds func(events.Family) bool) bool {
	for _, kind := range events.Kinds() {
		if r.On.Has(kind) && Asks(kind) && !holds(kind.Family()) {
			return false
		}
	}
	return true
}

func (l *loader) can(c *Condition, e celast.Expr, kind events.Kind) (truthSet, []string) {
	return l.ruleset.scope.can(c.tree(), e, kind, l.ruleset.Aggregates, c.reads, l.ruleset.Conversion)
}

// explainNever says what part of a condition never holds, as narrowly as it can.
func (l *loader) explainNever(r *Rule, at *rulePlaces) {
	parts := conjuncts(r.When.tree().Expr())
	never := func(e celast.Expr) bool {
		for _, kind := range events.Kinds() {
			if !r.On.Has(kind) {
				continue
			}
			if s, _ := l.can(r.When, e, kind); s.has(True) {
				return false
			}
		}
		return true
	}
	fac := celast.NewExprFactory()
	tree := r.When.tree()
	for i, a := range parts {
		if never(a) {
			l.failIn(at.when, r.When, a, "the rule %s can never fire: on %s %s never holds; correct it or take the rule out", r.ID, kindsText(r.On), show(tree, a))
			return
		}
		for _, b := range parts[:i] {
			if never(fac.NewCall(0, operators.LogicalAnd, b, a)) {
				l.failIn(at.when, r.When, a, "the rule %s can never fire: %s excludes %s; correct one of them", r.ID, show(tree, a), show(tree, b))
				return
			}
		}
	}
	l.failIn(at.when, r.When, tree.Expr(), "the rule %s can never fire on %s; its parts exclude each other, correct one or take the rule out", r.ID, kindsText(r.On))
}

// conjuncts are the parts that && joins.
func conjuncts(e celast.Expr) []celast.Expr {
	if e.Kind() == celast.CallKind && e.AsCall().FunctionName() == operators.LogicalAnd {
		args := e.AsCall().Args()
		return append(conjuncts(args[0]), conjuncts(args[1])...)
	}
	return []celast.Expr{e}
}

// failIn notes a mistake where a part of a condition stands in the file.
func (l *loader) failIn(n ast.Node, c *Condition, e celast.Expr, format string, args ...any) {
	line, column := 0, 0
	found := false
	celast.PostOrderVisit(e, celast.NewExprVisitor(func(x celast.Expr) {
		at := c.tree().SourceInfo().GetStartLocation(x.ID())
		if at.Line() > 0 && (!found || at.Line()-1 < line || at.Line()-1 == line && at.Column() < column) {
			line, column, found = at.Line()-1, at.Column(), true
		}
	}))
	if lines := strings.Split(c.Text, "\n"); line < len(lines) {
		nameAt([]rune(lines[line]), &column)
	}
	line, column = l.within(n, c.Text, line, column)
	l.failAt(line, column, "%s", "when: "+fmt.Sprintf(format, args...))
}

// checkSameRules refuses one condition in two rules.
func (l *loader) checkSameRules() {
	first := map[string]*Rule{}
	for i := range l.ruleset.Rules {
		r := &l.ruleset.Rules[i]
		key := kindsText(r.On) + "|" + r.When.canonical
		if other := first[key]; other != nil {
			l.fail(l.at.rules[i].when, "when: the rule %s on line %d has the same condition; make one rule of them", other.ID, other.Line)
		} else {
			first[key] = r
		}
	}
}

// checkAggregates refuses aggregates that nothing reads, that are there under two names, or that count nothing.
func (l *loader) checkAggregates() {
	read := map[int]bool{}
	for i := range l.ruleset.Rules {
		for _, a := range l.ruleset.Rules[i].Reads {
			read[a] = true
		}
	}
	type meaning struct {
		id uint32
		of Key
	}
	names := map[meaning]string{}
	for i := range l.ruleset.Aggregates {
		a := &l.ruleset.Aggregates[i]
		at := l.at.aggregates[a.Name]
		if !read[i] {
			l.fail(at, "no rule reads the aggregate %s, and it costs memory for every %s; use it or take it out", a.Name, a.By)
		}
		if other, ok := names[meaning{a.ID, a.For}]; ok {
			l.fail(at, "%s is the same as %s; keep one of them", a.Name, other)
		}
		names[meaning{a.ID, a.For}] = a.Name
		if a.Where != nil && l.never(a) {
			l.fail(at, "%s never counts anything: where: never holds on %s", a.Name, kindsText(a.Of))
		}
	}
}

// checkModels refuses models that no rule asks.
func (l *loader) checkModels() {
	for i := range l.ruleset.Models {
		m := &l.ruleset.Models[i]
		if !slices.ContainsFunc(l.ruleset.Rules, func(r Rule) bool { return r.When.names[m.Name] || r.When.names[knownPrefix+m.Name] }) {
			l.failAt(m.Line, 1, "no rule reads the model %s; use it or take it out", m.Name)
		}
	}
}

func (l *loader) never(a *Aggregate) bool {
	for _, kind := range events.Kinds() {
		if !a.Of.Has(kind) {
			continue
		}
		if s, _ := l.filter.can(a.Where.tree(), a.Where.tree().Expr(), kind, nil, nil, l.ruleset.Conversion); s.has(True) {
			return false
		}
	}
	return true
}

// checkReasons refuses codes that say nothing and words that nobody gives. A ruleset without reasons: has none at all.
func (l *loader) checkReasons() {
	used := map[string]bool{}
	for i := range l.ruleset.Rules {
		r := &l.ruleset.Rules[i]
		used[r.Reason] = true
		if _, ok := l.ruleset.Reasons[r.Reason]; !ok && len(l.ruleset.Reasons) > 0 {
			l.fail(l.at.rules[i].reason, "reason: %s has no words under reasons:%s", r.Reason, suggest(r.Reason, reasonCodes(l.ruleset)))
		}
	}
	for i := range l.ruleset.Models {
		m := &l.ruleset.Models[i]
		for _, feature := range m.Features() {
			code, ok := m.Reasons[feature]
			if !ok {
				continue
			}
			used[code] = true
			if _, ok := l.ruleset.Reasons[code]; !ok && len(l.ruleset.Reasons) > 0 {
				l.failAt(m.Line, 1, "the model %s gives the reason %s for %s, which has no words under reasons:%s", m.Name, code, feature, suggest(code, reasonCodes(l.ruleset)))
			}
		}
	}
	for _, code := range reasonCodes(l.ruleset) {
		if !used[code] {
			l.fail(l.at.reasons[code], "no rule or model gives the reason %s; take it out", code)
		}
	}
}

func reasonCodes(r *Ruleset) []string {
	var all []string
	for code := range r.Reasons {
		all = append(all, code)
	}
	slices.Sort(all)
	return all
}

// checkOutcomes refuses thresholds that no sum of scores reaches.
func (l *loader) checkOutcomes(canFire []bool) {
	var most [families]int32
	for i := range l.ruleset.Rules {
		r := &l.ruleset.Rules[i]
		for _, kind := range []events.Kind{events.PaymentInitiated, events.LoanApplied} {
			if canFire[i] && r.On.Has(kind) && r.Score > 0 {
				most[kind.Family()] += r.Score
			}
		}
	}
	said := map[ast.Node]bool{}
	for _, f := range []events.Family{events.Payment, events.Loan} {
		at, t := l.at.outcomes[f], l.ruleset.Outcomes[f]
		both := l.at.outcomes[events.Payment] == l.at.outcomes[events.Loan]
		reach, whose := most[f], f.String()
		if both {
			reach, whose = max(most[events.Payment], most[events.Loan]), "all"
		}
		for _, o := range []struct {
			word      string
			node      ast.Node
			threshold int32
		}{{"review", at.review, t.Review}, {"decline", at.decline, t.Decline}} {
			if o.node != nil && o.threshold > reach && !said[o.node] {
				said[o.node] = true
				l.fail(o.node, "%s at %d is never reached: the scores of %s rules come to at most %d; lower it or take it out", o.word, o.threshold, whose, reach)
			}
		}
	}
}

// converts says whether anything calls converted().
func (l *loader) converts() bool {
	for i := range l.ruleset.Rules {
		if l.ruleset.Rules[i].When.names[rateName] {
			return true
		}
	}
	for i := range l.ruleset.Aggregates {
		if w := l.ruleset.Aggregates[i].Where; w != nil && w.names[rateName] {
			return true
		}
	}
	return false
}

// cost is the worst case of a condition.
func (l *loader) cost(c *Condition) uint64 {
	estimate, err := l.ruleset.scope.env.EstimateCost(c.checked, sizes{})
	if err != nil {
		return 0 // what cannot be estimated is bounded when it runs
	}
	return estimate.Max
}

// sizes tells cel-go how long an event's texts are at most.
type sizes struct{}

// EstimateSize is part of cost.Estimator.
func (sizes) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	if node.Type() == nil || !node.Type().IsExactType(cel.StringType) || node.Expr().Kind() == celast.LiteralKind {
		return nil
	}
	return &cost.SizeEstimate{Min: 0, Max: events.MaxIDBytes}
}

// EstimateCallCost is part of cost.Estimator.
func (sizes) EstimateCallCost(function, _ string, _ *cost.AstNode, _ []cost.AstNode) *cost.CallEstimate {
	charge := uint64(1)
	switch function {
	case listedName:
		charge = listedCost
	case similarityName:
		charge = similarityCost
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Negate, "ratio", convertedName, "min", "max",
		"round", "floor", "ceil", "round_half_even":
	default:
		return nil
	}
	return &cost.CallEstimate{CostEstimate: cost.Estimate{Min: charge, Max: charge}}
}
