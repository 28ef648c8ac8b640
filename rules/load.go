package rules

import (
	"cmp"
	"hash/fnv"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"sluice/schemas/events"
)

// Names of rulesets, rules and aggregates. An aggregate's is also a name in CEL; a rule's may have dashes.
var (
	rulesetName   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)
	ruleName      = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)
	aggregateName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	windowText    = regexp.MustCompile(`^([1-9][0-9]{0,5})([mhd])$`)
)

// maxSay bounds a rule's text for people, in bytes.
const maxSay = 500

// Load parses, checks and compiles a ruleset. Its error is a Mistakes: all that is wrong, with file, line, column and what
// to write instead. No bytes make it panic. The file's name is for messages only.
func Load(file string, data []byte) (*Ruleset, error) { return load(file, data, func(*loader) {}) }

func load(file string, data []byte, check func(*loader)) (*Ruleset, error) {
	d := &document{file: file}
	body := d.parse(data)
	if body == nil {
		return nil, d.failed("the file is empty; a ruleset starts with ruleset: and version:")
	}
	l := loader{document: d, ruleset: &Ruleset{Source: slices.Clone(data)}}
	l.load(body)
	if len(d.mistakes) == 0 {
		check(&l)
	}
	if len(d.mistakes) > 0 {
		return nil, d.failed("")
	}
	l.ruleset.Lists = l.ruleset.scope.lists()
	if !l.alone {
		l.ruleset.share()
	}
	l.ruleset.index()
	return l.ruleset, nil
}

func (d *document) failed(otherwise string) error {
	if len(d.mistakes) == 0 {
		d.failAt(0, 0, "%s", otherwise)
	}
	slices.SortStableFunc(d.mistakes, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return d.mistakes
}

// loader fills a ruleset from its document.
type loader struct {
	*document
	ruleset *Ruleset
	filter  *scope // what where: can name
	at      places
	alone   bool // each rule answers all of its condition, for comparison
}

func (l *loader) load(body ast.Node) {
	var aggregates, models, rules, outcomes, reasons, conversion ast.Node
	named, numbered := false, false
	for _, e := range l.mapping(body, "a ruleset", rulesetKeys) {
		switch e.key {
		case "ruleset":
			named = true
			l.ruleset.Name = l.text(e.value, "ruleset")
			if !rulesetName.MatchString(l.ruleset.Name) {
				l.fail(e.value, "ruleset: %q is no name; use small letters, digits and dashes", l.ruleset.Name)
			}
		case "version":
			numbered = true
			l.ruleset.Version = int(l.integer(e.value, "version", 1, 1_000_000_000))
		case "aggregates":
			aggregates = e.value
		case "models":
			models = e.value
		case "rules":
			rules = e.value
		case "outcomes":
			outcomes = e.value
		case "conversion":
			conversion = e.value
			l.at.conversion = e.at
		case "reasons":
			reasons = e.value
		}
	}
	if !named {
		l.fail(body, "the ruleset has no name; write ruleset: fraud")
	}
	if !numbered {
		l.fail(body, "the ruleset has no version; write version: 1")
	}
	l.outcomes(outcomes)
	l.reasons(reasons)
	l.conversion(conversion)
	if l.aggregates(aggregates) && l.models(models) {
		l.rules(rules)
	}
}

// outcomes reads {review: 50, decline: 80}, or one of these for each of payment and loan.
func (l *loader) outcomes(n ast.Node) {
	if n == nil {
		return
	}
	entries := l.mapping(n, "outcomes", []string{"review", "decline", "payment", "loan"})
	byFamily := slices.ContainsFunc(entries, func(e entry) bool { return e.key == "payment" || e.key == "loan" })
	if !byFamily {
		both := l.thresholds(n, events.Payment)
		l.ruleset.Outcomes[events.Payment], l.ruleset.Outcomes[events.Loan] = both, both
		l.at.outcomes[events.Loan] = l.at.outcomes[events.Payment]
		return
	}
	for _, e := range entries {
		switch e.key {
		case "payment":
			l.ruleset.Outcomes[events.Payment] = l.thresholds(e.value, events.Payment)
		case "loan":
			l.ruleset.Outcomes[events.Loan] = l.thresholds(e.value, events.Loan)
		default:
			l.fail(e.at, "%s stands beside payment or loan; write it inside of them", e.key)
		}
	}
}

func (l *loader) thresholds(n ast.Node, f events.Family) Thresholds {
	var t Thresholds
	for _, e := range l.mapping(n, "outcomes", []string{"review", "decline"}) {
		score := int32(l.integer(e.value, e.key, 1, MaxScore))
		if e.key == "review" {
			t.Review, l.at.outcomes[f].review = score, e.at
		} else {
			t.Decline, l.at.outcomes[f].decline = score, e.at
		}
	}
	if t.Review > 0 && t.Decline > 0 && t.Review >= t.Decline {
		l.fail(n, "review at %d is never reached: decline starts at %d", t.Review, t.Decline)
	}
	return t
}

// kindSet reads kinds and families of events.
func (l *loader) kindSet(n ast.Node, what string) Kinds {
	var set Kinds
	for _, word := range l.texts(n, what) {
		kind := events.ParseKind(word)
		switch {
		case kind != events.KindUnknown:
			set |= 1 << kind
		case word == events.Payment.String():
			set |= paymentKinds
		case word == events.Loan.String():
			set |= loanKinds
		case word == events.Behavior.String():
			set |= behaveKinds
		default:
			l.fail(n, "%s: %q is no kind of event%s", what, word, suggest(word, append(kindWords(), "payment", "loan", "behavior")))
		}
	}
	return set
}

// aggregates reads the aggregates; false when the rules cannot be checked without them.
func (l *loader) aggregates(n ast.Node) bool {
	var err error
	if l.filter, err = newScope(nil, l.ruleset.Conversion); err != nil {
		l.fail(n, "%v", err)
		return false
	}
	entries := l.mapping(n, "aggregates", nil)
	if len(entries) > MaxAggregates {
		l.fail(n, "%d aggregates; a ruleset has at most %d", len(entries), MaxAggregates)
		return false
	}
	var vars []variable
	definitions := map[uint32]string{}
	l.at.aggregates = map[string]ast.Node{}
	for _, e := range entries {
		a, definition := l.aggregate(e)
		l.at.aggregates[a.Name] = e.at
		if !aggregateName.MatchString(a.Name) || reserved(a.Name) {
			l.fail(e.at, "%q cannot name an aggregate; use small letters, digits and _, and no word of CEL", a.Name)
			continue
		}
		if other, taken := definitions[a.ID]; taken && other != definition {
			l.fail(e.at, "the definition has the same number as another by chance; change its window by a minute")
		}
		definitions[a.ID] = definition
		l.ruleset.Aggregates = append(l.ruleset.Aggregates, a)
		vars = append(vars, aggregateVariable(&a, len(l.ruleset.Aggregates)-1))
	}
	if l.ruleset.scope, err = newScope(vars, l.ruleset.Conversion); err != nil {
		l.fail(n, "%v", err)
		return false
	}
	return true
}

// reserved says whether CEL keeps a name for itself, or the language has it already.
func reserved(name string) bool {
	switch name {
	case "in", "true", "false", "null", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop",
		"package", "namespace", "return", "var", "void", "while", "event", "customer", "device", "ip", "location", "payment", "loan", "behavior",
		"bool", "int", "uint", "double", "string", "bytes", "list", "map", "type", "dyn", "duration", "timestamp", "money", "decimal":
		return true
	}
	return slices.Contains(functions, name)
}

// aggregate reads one aggregate and writes its definition in full.
func (l *loader) aggregate(e entry) (Aggregate, string) {
	a := Aggregate{Name: e.key}
	a.Line, _ = position(e.at)
	var fn, of, by, as, where, window, delay, hops ast.Node
	for _, f := range l.mapping(e.value, "an aggregate", append(aggregateKeys, funcNames...)) {
		switch f.key {
		case "of":
			of = f.value
		case "where":
			where = f.value
		case "by":
			by = f.value
		case "for":
			as = f.value
		case "window":
			window = f.value
		case "delay":
			delay = f.value
		case "hops":
			hops = f.value
		default:
			if fn != nil {
				l.fail(f.at, "%s is one of %s", a.Name, strings.Join(funcNames, ", "))
			}
			fn = f.value
			a.Func = Func(slices.Index(funcNames, f.key))
		}
	}
	if fn == nil || by == nil && a.Func != Cycle || window == nil {
		l.fail(e.at, "%s needs what it computes (%s), by: and window:", a.Name, strings.Join(funcNames, ", "))
		return a, ""
	}
	l.keys(&a, by, as)
	a.Window = l.window(window, "window")
	l.delay(&a, delay)
	l.hops(&a, hops, e.at)
	l.function(&a, fn, of)
	if where != nil {
		a.Where = l.where(where, a.Of)
	}
	l.checkKey(&a, e.at)
	definition := a.definition(l.ruleset.Conversion)
	h := fnv.New32a()
	h.Write([]byte(definition))
	a.ID = h.Sum32()
	return a, definition
}

// knownPaymentKinds are the kinds of payment events that aggregates were first written for, and those that came later.
func knownPaymentKinds() (early, late Kinds) {
	for _, k := range events.Kinds() {
		switch {
		case k.Family() == events.Payment && k >= events.PaymentRerouted:
			late |= 1 << k
		case k.Family() == events.Payment:
			early |= 1 << k
		}
	}
	return early, late
}

// definition writes all that an aggregate's state depends on.
func (a *Aggregate) definition(conversion *Conversion) string {
	where := ""
	if a.Where != nil {
		where = a.Where.canonical
	}
	text := strings.Join([]string{a.Func.String(), strconv.Itoa(int(a.Amount)), a.Field.String(), kindsText(a.Of), where, a.By.String(),
		a.Window.String()}, "|")
	if a.Where != nil && a.Where.names[rateName] {
		text += "|" + conversion.text()
	}
	if a.Delay != 0 {
		text += "|delay " + a.Delay.String()
	}
	if a.Hops != 0 {
		text += "|hops " + strconv.Itoa(a.Hops)
	}
	return text
}

// kindsText writes kinds by name: their numbers may change. All kinds of payments are written as they were before some came
// later: whoever counts all of them goes on with the state that is kept.
func kindsText(set Kinds) string {
	var names []string
	early, late := knownPaymentKinds()
	switch {
	case set&early == early && set&late == late:
		set &^= late
	case set&early == early && set&late == 0:
		names = append(names, "only") // so that the two differ
	}
	for _, k := range events.Kinds() {
		if set.Has(k) {
			names = append(names, k.String())
		}
	}
	return strings.Join(names, ",")
}

// function reads what is computed, of which events.
func (l *loader) function(a *Aggregate, fn, of ast.Node) {
	switch a.Func {
	case Count, Since, Age, Cycle:
		if of != nil {
			l.fail(of, "%s: names the events itself; leave of: out", a.Func)
		}
		a.Of = l.kindSet(fn, a.Func.String())
		return
	case Distinct:
		a.Field = l.field(fn, "distinct", fieldNames[1:])
	default:
		a.Amount = l.amount(fn, a.Func.String())
	}
	if of == nil {
		l.fail(fn, "say of which events: of: payment.initiated")
		return
	}
	a.Of = l.kindSet(of, "of")
}

var amountNames = map[string]Amount{"payment.amount": EventAmount, "loan.amount": EventAmount, "loan.outstanding_debt": DebtAmount,
	"loan.monthly_income": IncomeAmount}

func (l *loader) amount(n ast.Node, what string) Amount {
	name := l.text(n, what)
	a, ok := amountNames[name]
	if !ok {
		l.fail(n, "%s: %q is no amount%s", what, name, suggest(name, []string{"payment.amount", "loan.amount", "loan.outstanding_debt", "loan.monthly_income"}))
	}
	return a
}

func (l *loader) field(n ast.Node, what string, names []string) Field {
	name := l.text(n, what)
	i := slices.Index(names, name)
	if i < 0 {
		l.fail(n, "%s: %q is no field%s", what, name, suggest(name, names))
	}
	return Field(i + 1)
}

// key reads by: card, or by: [card, merchant].
func (l *loader) key(n ast.Node, what string) Key {
	names := fieldNames[1 : lastKey+1]
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		return Key{First: l.field(n, what, names)}
	}
	if len(list.Values) == 0 || len(list.Values) > 2 {
		l.fail(n, "%s: takes one field or a pair", what)
		return Key{}
	}
	k := Key{First: l.field(list.Values[0], what, names)}
	if len(list.Values) == 2 {
		k.Second = l.field(list.Values[1], what, names)
		if k.Second == k.First {
			l.fail(n, "%s: the pair is %s twice", what, k.First)
		}
	}
	return k
}

// ParseSpan reads a length of time as rulesets write it: 10m, 24h, 30d; false if it is none.
func ParseSpan(text string) (time.Duration, bool) {
	m := windowText.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	units := map[string]time.Duration{"m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
	count, _ := strconv.Atoi(m[1])
	return time.Duration(count) * units[m[2]], true
}

// window reads a length of time: 10m, 24h, 30d.
func (l *loader) window(n ast.Node, what string) time.Duration {
	text := l.text(n, what)
	w, ok := ParseSpan(text)
	if !ok {
		l.fail(n, "%s: %q is no length of time; write 10m, 24h or 30d", what, text)
		return MinWindow
	}
	if w > MaxWindow {
		l.fail(n, "%s: %s is longer than 30d, which is as far as aggregates look back", what, text)
		return MaxWindow
	}
	return w
}

// where compiles an aggregate's filter, which sees the event alone.
func (l *loader) where(n ast.Node, of Kinds) *Condition {
	c := l.expression(l.filter, n, "where")
	if c == nil {
		return nil
	}
	if len(c.asks) > 0 {
		l.fail(n, "where: lists change with time, what was counted does not; ask them in when:")
	}
	for _, name := range sortedNames(c) {
		if strings.TrimPrefix(name, knownPrefix) == "customer.tier" {
			l.fail(n, "where: customer.tier changes with time, what was counted does not; use it in when:")
		}
		l.checkIn(n, "where", l.filter.variable(name), of)
	}
	return c
}

func sortedNames(c *Condition) []string {
	names := make([]string, 0, len(c.names))
	for name := range c.names {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// checkIn refuses a variable that some of the kinds of events never have.
func (l *loader) checkIn(n ast.Node, what string, v *variable, of Kinds) {
	if missing := of &^ v.in; missing != 0 {
		first, _, _ := strings.Cut(kindsText(missing), ",")
		l.fail(n, "%s: %s is never known on %s; name only events that have it", what, strings.TrimPrefix(v.name, knownPrefix), first)
	}
}

// fieldKinds are the kinds of events that can have a field.
func fieldKinds(f Field) Kinds {
	switch f {
	case Merchant, Card, Account, Category:
		return paymentKinds
	case Counterparty:
		return paymentKinds | 1<<events.BehaviorPayeeAdded
	case Document:
		return behaveKinds
	}
	return everyKind
}

func (k Key) kinds() Kinds { return fieldKinds(k.First) & fieldKinds(k.Second) }

// checkKey refuses an aggregate that could never count anything.
func (l *loader) checkKey(a *Aggregate, n ast.Node) {
	able := a.By.kinds() & fieldKinds(a.Field)
	if a.Amount != NoAmount {
		able &= paymentKinds | loanKinds
	}
	if a.Func == Cycle {
		able &= paymentKinds
	}
	if a.Of != 0 && a.Of&able == 0 {
		l.fail(n, "%s never counts anything: none of its events has all it needs", a.Name)
	}
	a.Of &= able
	if a.By.First == Customer && a.For.First != Customer || a.By.Second == Customer && a.For.Second != Customer {
		l.fail(n, "%s: what is kept by customer can only be read for the customer", a.Name)
	}
}

// aggregateVariable is how a condition names an aggregate.
func aggregateVariable(a *Aggregate, index int) variable {
	v := variable{name: a.Name, typ: intType, in: a.For.kinds(), reads: index + 1, says: "aggregate"}
	switch a.Func {
	case Count, Distinct, Cycle:
		v.number = func(f *Frame) (int64, bool) {
			n := f.Aggregate(index)
			return n.Decimal.Coefficient, n.Known
		}
	case Since, Age:
		v.typ = durationType
		v.number = func(f *Frame) (int64, bool) {
			n := f.Aggregate(index)
			return nanoseconds(n.Decimal), n.Known
		}
	default:
		v.typ, v.in = moneyType, v.in&(paymentKinds|loanKinds)
		v.decimal = func(f *Frame) (Decimal, bool) {
			n := f.Aggregate(index)
			return n.Decimal, n.Known
		}
	}
	return v
}

// rules reads the list of rules.
func (l *loader) rules(n ast.Node) {
	if _, empty := n.(*ast.NullNode); empty || n == nil {
		return
	}
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		l.fail(n, "rules is a list: each rule starts with - id:")
		return
	}
	if len(list.Values) > MaxRules {
		l.fail(n, "%d rules; a ruleset has at most %d", len(list.Values), MaxRules)
		return
	}
	lines := map[string]int{}
	for _, item := range list.Values {
		rule := l.rule(item)
		if first, taken := lines[rule.ID]; taken && rule.ID != "" {
			l.fail(item, "the rule %s is there twice, first on line %d", rule.ID, first)
		}
		lines[rule.ID] = rule.Line
		rule.Index = len(l.ruleset.Rules)
		l.ruleset.Rules = append(l.ruleset.Rules, rule)
	}
}

func (l *loader) rule(n ast.Node) Rule {
	r := Rule{On: 1 << events.PaymentInitiated}
	r.Line, _ = position(n)
	var when, brake ast.Node
	at := &rulePlaces{rule: n, on: n}
	defer func() { l.at.rules = append(l.at.rules, *at) }()
	then := false
	for _, e := range l.mapping(n, "a rule", ruleKeys) {
		switch e.key {
		case "id":
			if r.ID = l.text(e.value, "id"); !ruleName.MatchString(r.ID) {
				l.fail(e.value, "id: %q is no name; use letters, digits and dashes", r.ID)
			}
		case "on":
			r.On, at.on = l.kindSet(e.value, "on"), e.at
		case "when":
			when, at.when = e.value, e.value
		case "then":
			then = true
			l.then(&r, e.value, at)
		case "missing":
			r.Missing = Missing(1 + l.word(e.value, "missing", missingNames[1:]))
		case "brake":
			brake, at.brake = e.value, e.value
		}
	}
	l.brake(&r, brake)
	if r.ID == "" || when == nil || !then {
		l.fail(n, "a rule has id:, when: and then:")
	}
	if when == nil {
		return r
	}
	if r.When = l.expression(l.ruleset.scope, when, "when"); r.When == nil {
		return r
	}
	r.Reads = r.When.reads
	for _, name := range sortedNames(r.When) {
		l.checkIn(when, "when", l.ruleset.scope.variable(name), r.On)
	}
	return r
}

func (l *loader) then(r *Rule, n ast.Node, at *rulePlaces) {
	var block ast.Node
	for _, e := range l.mapping(n, "then", thenKeys) {
		switch e.key {
		case "block":
			block = e.value
			l.word(block, "block", []string{"final"})
			r.Final = true
		case "score":
			r.Score = int32(l.integer(e.value, "score", -MaxScore, MaxScore))
		case "reason":
			at.reason = e.value
			if r.Reason = l.text(e.value, "reason"); len(r.Reason) > events.MaxWordBytes {
				l.fail(e.value, "reason: %d bytes; at most %d", len(r.Reason), events.MaxWordBytes)
			}
		case "say":
			if r.Say = l.text(e.value, "say"); len(r.Say) > maxSay {
				l.fail(e.value, "say: %d bytes; at most %d", len(r.Say), maxSay)
			}
		case "verdict":
			at.verdict = e.at
			r.Verdict = events.Approve + events.Verdict(l.word(e.value, "verdict", verdictNames))
		}
	}
	if r.Reason == "" || r.Say == "" {
		l.fail(n, "then: needs reason: (a code) and say: (a sentence for a person)")
	}
	if r.Score == 0 && r.Verdict == events.NoVerdict {
		l.fail(n, "then: needs score: or verdict:, or the rule changes nothing")
	}
	if r.Final && r.Verdict < events.Review {
		l.fail(block, "block: final makes a verdict final; write verdict: review or verdict: decline beside it")
	}
}

// index sorts the rules by the kinds of events they are asked of.
func (r *Ruleset) index() {
	for _, kind := range events.Kinds() {
		seen := map[int]bool{}
		for i := range r.Rules {
			rule := &r.Rules[i]
			if rule.Missing == MissingReview && rule.weak == nil {
				rule.weak = rule.weaken()
			}
			if !rule.On.Has(kind) {
				continue
			}
			r.byKind[kind] = append(r.byKind[kind], rule)
			r.asks[kind] = append(r.asks[kind], rule.When.eval)
			for _, a := range rule.Reads {
				seen[a] = true
			}
		}
		for a := range r.Aggregates {
			if seen[a] {
				r.reads[kind] = append(r.reads[kind], a)
			}
		}
	}
}
