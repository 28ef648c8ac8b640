package rules

import (
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// memo answers a sub-condition once an event: rules that share it read the answer.
func memo(slot int, alone truth) truth {
	if alone == nil {
		return nil
	}
	return func(f *Frame) Truth {
		if m := f.memo[slot]; m != 0 {
			return Truth(m - 1)
		}
		t := alone(f)
		f.memo[slot] = uint8(t) + 1
		return t
	}
}

// key is what makes two sub-conditions one: their text; "" for what is not worth a slot. Only calls above a comparison of
// plain values are: reading a slot costs about as much as one comparison.
func (l *lowering) key(e ast.Expr) string {
	if l.slots == nil || e.Kind() != ast.CallKind || work(e) < 2 {
		return ""
	}
	switch op := e.AsCall().FunctionName(); op {
	case operators.LogicalAnd, operators.LogicalOr:
		return l.chainKey(chained(e, op), op)
	}
	return show(l.tree, e)
}

func (l *lowering) chainKey(operands []ast.Expr, op string) string {
	var key strings.Builder
	for _, e := range operands {
		key.WriteString(op)
		key.WriteString(show(l.tree, e))
	}
	return key.String()
}

// work is the number of calls in an expression: 1 for a comparison of plain values; a regular expression counts for three.
func work(e ast.Expr) int {
	n := 0
	ast.PostOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() == ast.CallKind {
			n++
			if e.AsCall().FunctionName() == "matches" {
				n += 2
			}
		}
	}))
	return n
}

// share finds the sub-conditions that more than one rule asks of the same kind of event, gives each a slot in the frame and
// lowers the conditions anew with them.
func (r *Ruleset) share() {
	times := map[string]int{}
	probe := lowering{scope: r.scope, slots: map[string]int{}}
	for i := range r.Rules {
		if c := r.Rules[i].When; c.Lowered {
			probe.tree = c.tree()
			seen := map[string]bool{}
			probe.keys(probe.tree.Expr(), func(key string) { seen[key] = true })
			for key := range seen {
				times[key]++
			}
		}
	}
	slots := map[string]int{}
	for key, n := range times {
		if n > 1 {
			slots[key] = len(slots)
		}
	}
	r.slots = len(slots)
	for i := range r.Rules {
		if c := r.Rules[i].When; c.Lowered && len(slots) > 0 {
			l := lowering{tree: c.tree(), scope: r.scope, slots: slots}
			c.eval = l.truth(l.tree.Expr())
		}
	}
}

// keys calls yield for each sub-condition of an expression that is worth a slot, and for how each chain starts.
func (l *lowering) keys(e ast.Expr, yield func(string)) {
	if e.Kind() != ast.CallKind {
		return
	}
	if key := l.key(e); key != "" {
		yield(key)
	}
	call := e.AsCall()
	switch op := call.FunctionName(); op {
	case operators.LogicalAnd, operators.LogicalOr:
		operands := chained(e, op)
		for n := 2; n < len(operands); n++ {
			yield(l.chainKey(operands[:n], op))
		}
		for _, x := range operands {
			l.keys(x, yield)
		}
	case operators.LogicalNot, operators.Conditional, operators.Equals, operators.NotEquals:
		for _, x := range call.Args() {
			l.keys(x, yield)
		}
	}
}
