package rules

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"sluice/schemas/events"
)

// unknownText is written for a value that is not known.
const unknownText = "unknown"

// Explanation is how a ruleset came to its verdict on one event. Its JSON is for machines, its String for people.
type Explanation struct {
	Ruleset string          `json:"ruleset"`
	Event   string          `json:"event"` // kind
	Tier    string          `json:"tier,omitempty"`
	Verdict events.Verdict  `json:"-"`
	Outcome string          `json:"verdict"`
	Score   int32           `json:"score"`
	Rules   []RuleExplained `json:"rules"`
	Lists   []ListAnswer    `json:"lists,omitempty"`
	Path    []string        `json:"path"` // to the verdict, a sentence each
	// Doubt names rules whose conditions come to something else when they are asked again: the event or the ruleset is not
	// the one that was decided.
	Doubt []string `json:"doubt,omitempty"`
}

// RuleExplained is what one rule that was asked had to say.
type RuleExplained struct {
	ID      string    `json:"id"`
	Line    int       `json:"line"`
	When    string    `json:"when"`
	Truth   Truth     `json:"truth"`
	Missing string    `json:"missing,omitempty"` // what the rule does when the truth is unknown
	Fired   bool      `json:"fired"`
	Snoozed bool      `json:"snoozed,omitempty"` // it would have fired
	Braked  bool      `json:"braked,omitempty"`  // it fired and could only ask for review
	Charged bool      `json:"charged,omitempty"` // its brake counts this decline
	Score   int32     `json:"score"`             // that it added, 0 unless it fired
	Verdict string    `json:"verdict,omitempty"` // that it asked for, where it fired and has one
	Reason  string    `json:"reason,omitempty"`
	Say     string    `json:"say,omitempty"`
	Words   *Reason   `json:"words,omitempty"` // of the reason code, where the ruleset has them
	Parts   []Part    `json:"parts"`
	Reads   []Reading `json:"reads,omitempty"`
}

// Part is one comparison or question of a condition.
type Part struct {
	Text   string    `json:"text"`
	Asked  bool      `json:"asked"` // false: what stands before it settled the condition
	Truth  Truth     `json:"truth"`
	Values []Reading `json:"values,omitempty"` // of the variables it names
}

// Reading is a value by name.
type Reading struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// ListAnswer is what a list said.
type ListAnswer struct {
	List       string `json:"list"`
	Variable   string `json:"variable"`
	Value      string `json:"value"`
	Listed     bool   `json:"listed"`
	Similarity string `json:"similarity,omitempty"` // for similarity()
}

// String returns "false", "true" or "unknown".
func (t Truth) String() string { return [...]string{"false", "true", unknownText}[t] }

// MarshalText writes the word.
func (t Truth) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// Explain says how a ruleset decided an event, from the trace that was kept of it. The ruleset must be the one of the
// decision and the event the one decided. It asks nothing else: neither lists nor aggregates as they are now.
func Explain(r *Ruleset, e *events.Event, trace []byte) (*Explanation, error) {
	f, err := r.restore(e, trace)
	if err != nil {
		return nil, err
	}
	o := &f.outcome
	x := &Explanation{Ruleset: r.ID(), Event: e.Kind.String(), Tier: f.tier, Verdict: o.Verdict, Outcome: o.Verdict.String(), Score: o.Score}
	for i, rule := range r.byKind[e.Kind] {
		told := f.explainRule(rule, f.truths[i])
		x.Rules = append(x.Rules, told)
		if again := rule.When.Eval(f); again != told.Truth {
			x.Doubt = append(x.Doubt, rule.ID)
		}
	}
	for i := range f.answers {
		if a, q := &f.answers[i], &f.questions[i]; a.asked {
			answer := ListAnswer{List: q.list, Variable: q.name, Value: q.text(f), Listed: a.listed}
			if q.similarity {
				answer.Similarity = a.similarity.String()
			}
			x.Lists = append(x.Lists, answer)
		}
	}
	x.Path = r.path(f)
	return x, nil
}

// explainRule says what one rule came to.
func (f *Frame) explainRule(rule *Rule, t Truth) RuleExplained {
	o := &f.outcome
	told := RuleExplained{ID: rule.ID, Line: rule.Line, When: rule.When.Text, Truth: t, Snoozed: holdsRule(o.Snoozed, rule) != nil,
		Braked: holdsRule(o.Braked, rule) != nil, Charged: holdsRule(o.Charged, rule) != nil, Reads: f.readsOf(rule)}
	if t == Unknown {
		told.Missing = rule.Missing.String()
	}
	if hit := holdsRule(o.Hits, rule); hit != nil {
		told.Fired, told.Score, told.Reason, told.Say = true, hit.Score, hit.Reason, hit.Say
		if words, ok := f.ruleset.Reasons[hit.Reason]; ok {
			told.Words = &words
		}
		if hit.Verdict != events.NoVerdict {
			told.Verdict = hit.Verdict.String()
		}
	}
	p := parts{frame: f, lowering: lowering{tree: rule.When.tree(), scope: f.ruleset.scope}}
	p.walk(rule.When.tree().Expr(), true)
	told.Parts = p.all
	return told
}

// holdsRule finds a rule, or the weaker copy of it, among some.
func holdsRule(some []*Rule, rule *Rule) *Rule {
	for _, r := range some {
		if r.Index == rule.Index {
			return r
		}
	}
	return nil
}

// parts walks a condition as it is evaluated and notes each comparison and question.
type parts struct {
	lowering
	frame *Frame
	all   []Part
}

func (p *parts) walk(e ast.Expr, asked bool) Truth {
	if e.Kind() != ast.CallKind {
		return p.part(e, asked)
	}
	call := e.AsCall()
	args := call.Args()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr:
		decides := truthOf(name == operators.LogicalOr)
		x := p.walk(args[0], asked)
		y := p.walk(args[1], asked && x != decides)
		if x == decides || y == decides {
			return decides
		}
		return max(x, y, 1-decides)
	case operators.LogicalNot:
		if t := p.walk(args[0], asked); t != Unknown {
			return 1 - t
		}
		return Unknown
	case operators.Conditional:
		x := p.walk(args[0], asked)
		y := p.walk(args[1], asked && x == True)
		z := p.walk(args[2], asked && x == False)
		return [...]Truth{False: z, True: y, Unknown: Unknown}[x]
	}
	return p.part(e, asked)
}

// part notes one comparison or question.
func (p *parts) part(e ast.Expr, asked bool) Truth {
	part := Part{Text: show(p.tree, e), Asked: asked, Truth: Unknown}
	if asked {
		part.Truth = p.ask(e, part.Text)
		part.Values = p.values(e)
	}
	p.all = append(p.all, part)
	return part.Truth
}

func (p *parts) ask(e ast.Expr, text string) Truth {
	if eval := p.truth(e); eval != nil {
		return eval(p.frame)
	}
	c, mistakes := p.scope.compile(text)
	if mistakes != nil {
		return Unknown
	}
	return c.Eval(p.frame)
}

// values are the variables that an expression names, as the frame has them.
func (p *parts) values(e ast.Expr) []Reading {
	var all []Reading
	seen := map[string]bool{}
	ast.PostOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		v := p.scope.variable(strings.TrimPrefix(reference(p.tree, e), knownPrefix))
		if v == nil || seen[v.name] {
			return
		}
		seen[v.name] = true
		name := v.name
		if name == rateName {
			name = "rate to " + p.frame.ruleset.Conversion.To.Code()
		}
		all = append(all, Reading{name, v.show(p.frame)})
	}))
	return all
}

// show writes a variable's value for a person.
func (v *variable) show(f *Frame) string {
	switch {
	case !v.known(f):
		return unknownText
	case v.typ == boolType:
		return strconv.FormatBool(v.flag(f))
	case v.typ == stringType:
		return strconv.Quote(v.text(f))
	case v.typ == moneyType:
		d, _ := v.decimal(f)
		return d.String() + " " + f.event.Currency.Code()
	case v.typ == decimalType:
		d, _ := v.decimal(f)
		return d.String()
	}
	n, _ := v.number(f)
	switch v.typ {
	case durationType:
		return time.Duration(n).String()
	case timeType:
		return time.Unix(0, n).UTC().Format(time.RFC3339Nano)
	}
	return strconv.FormatInt(n, 10)
}

// path says in words how the outcome became the verdict.
func (r *Ruleset) path(f *Frame) []string {
	o := &f.outcome
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, rule := range o.Snoozed {
		say("%s would fire, but is snoozed", rule.ID)
	}
	for _, id := range o.Errors {
		say("%s does not fire: something it reads is unknown or too large", id)
	}
	for i, rule := range r.byKind[f.event.Kind] {
		if f.truths[i] == Unknown && rule.Missing != MissingUndeclared {
			say("%s cannot be answered, something it reads is unknown: missing: %s", rule.ID, rule.Missing)
		}
	}
	if !r.asksOf(f.event) {
		say("%s wants no verdict: observed", f.event.Kind)
		return all
	}
	if len(o.Hits) == 0 {
		say("no rule fires: approve")
		return all
	}
	r.pathOfScores(f, say)
	for _, hit := range o.Hits {
		switch {
		case hit.Verdict == events.Approve:
			say("%s approves: it lifts scores and verdicts, all but final blocks", hit.ID)
		case hit.Verdict != events.NoVerdict && hit.Final:
			say("%s is a final block: at least %s, which nothing lifts", hit.ID, hit.Verdict)
		case hit.Verdict != events.NoVerdict:
			say("%s gives at least %s", hit.ID, hit.Verdict)
		}
	}
	for _, rule := range o.Braked {
		say("%s is held by its brake: it can only ask for review", rule.ID)
	}
	say("verdict: %s", o.Verdict)
	return all
}

// pathOfScores says what the scores add up to, and what the outcomes make of that.
func (r *Ruleset) pathOfScores(f *Frame, say func(string, ...any)) {
	o := &f.outcome
	var terms []string
	for _, hit := range o.Hits {
		if hit.Score != 0 {
			terms = append(terms, fmt.Sprintf("%s %+d", hit.ID, hit.Score))
		}
	}
	if len(terms) == 0 {
		return
	}
	t := r.Outcomes[f.event.Kind.Family()]
	text := fmt.Sprintf("scores: %s = %d", strings.Join(terms, ", "), o.Score)
	switch {
	case t.Decline > 0 && o.Score >= t.Decline:
		say("%s, at least %d: decline", text, t.Decline)
	case t.Review > 0 && o.Score >= t.Review:
		say("%s, at least %d: review", text, t.Review)
	default:
		say("%s: nothing by itself", text)
	}
}

// String writes the explanation for a person: the path first, then what fired, then the rest.
func (x *Explanation) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s by %s on %s, score %d\n", x.Outcome, x.Ruleset, x.Event, x.Score)
	for _, step := range x.Path {
		fmt.Fprintf(&out, "  %s\n", step)
	}
	for _, l := range x.Lists {
		answer := "is not on"
		if l.Listed {
			answer = "is on"
		}
		if l.Similarity != "" {
			answer = "is alike by " + l.Similarity + " to a name on"
		}
		fmt.Fprintf(&out, "  %s %q %s the list %s\n", l.Variable, l.Value, answer, l.List)
	}
	for _, fired := range []bool{true, false} {
		for i := range x.Rules {
			if x.Rules[i].Fired == fired {
				x.Rules[i].write(&out)
			}
		}
	}
	if len(x.Doubt) > 0 {
		fmt.Fprintf(&out, "in doubt: %s come to something else now; this is not the event or the ruleset that was decided\n", strings.Join(x.Doubt, ", "))
	}
	return out.String()
}

func (told *RuleExplained) write(out *strings.Builder) {
	state := "does not fire"
	if told.Fired {
		state = fmt.Sprintf("fires, %+d", told.Score)
	}
	if told.Snoozed {
		state += ", snoozed"
	}
	if told.Braked {
		state += ", braked"
	}
	fmt.Fprintf(out, "\n%s (line %d) %s\n", told.ID, told.Line, state)
	if told.Fired {
		fmt.Fprintf(out, "  %s: %s\n", told.Reason, told.Say)
		if told.Words != nil {
			for _, language := range languages {
				fmt.Fprintf(out, "  to the customer (%s): %s\n", language, told.Words.Customer[language])
			}
		}
	}
	for _, part := range told.Parts {
		if !part.Asked {
			fmt.Fprintf(out, "  -        %s\n", part.Text)
			continue
		}
		var values []string
		for _, v := range part.Values {
			values = append(values, v.Name+" = "+v.Text)
		}
		fmt.Fprintf(out, "  %-8s %s   (%s)\n", part.Truth, part.Text, strings.Join(values, ", "))
	}
	for _, r := range told.Reads {
		if model, feature, is := strings.Cut(r.Name, ": "); is { // what raised a model's score
			fmt.Fprintf(out, "           %s rises by %s   (%s)\n", model, feature, r.Text)
		}
	}
}
