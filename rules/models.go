package rules

import (
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"github.com/goccy/go-yaml/ast"

	"sluice/pipelines/models"
	"sluice/schemas/events"
)

const (
	// MaxModels bounds the models of a set; each is asked at most once an event.
	MaxModels = 20
	// scoreDecimals is how many decimals a model's score has in conditions: fewer than machines could differ in.
	scoreDecimals = 6
	// MaxModelReasons bounds the reasons given for one score; four is usual in notices of adverse action, sluice gives three.
	MaxModelReasons = 3
)

// Model is a statistical model as declared. Its name in a condition is the probability of the bad outcome, 0 to 1, rounded
// to six decimals; unknown where a feature is unknown and the model does not take missing values.
type Model struct {
	Name    string
	Kind    string            // one of models.Kinds
	Reasons map[string]string // reason code by feature; may be empty
	Reads   []int             // the aggregates its features name, by index, ascending
	Line    int

	model  models.Model
	inputs []input // in the order of the model's features
	in     Kinds   // kinds of events that have what the features name
}

// Features names the model's features, in the order of ModelReason's Feature.
func (m *Model) Features() []string { return m.model.Features() }

// ModelReason is one feature's part in a score.
type ModelReason struct {
	Feature string
	Reason  string  // reason code, "" when the ruleset gives none
	Adds    float64 // to the natural logarithm of the odds of the bad outcome, above 0
}

// input is a feature's expression: NaN when unknown, or when it is a word that the model does not know.
type input func(*Frame) float64

// modelState is a model's answer for the event in hand.
type modelState struct {
	read  bool
	value Value
}

// Model returns a model's score for the event in hand. The model is asked once an event.
func (f *Frame) Model(index int) Value {
	s := &f.models[index]
	if !s.read {
		s.read, s.value = true, Value{}
		if p := f.ruleset.Models[index].score(f); !math.IsNaN(p) {
			s.value = Value{Decimal{int64(math.Round(p * float64(powersOfTen[scoreDecimals]))), scoreDecimals}, true}
		}
	}
	return s.value
}

// SetModel gives a model's score beforehand, as a trace has kept it.
func (f *Frame) SetModel(index int, v Value) { f.models[index] = modelState{true, v} }

// ModelsRead calls yield for each model that has been asked of the event in hand.
func (f *Frame) ModelsRead(yield func(index int, v Value)) {
	for i := range f.models {
		if f.models[i].read {
			yield(i, f.models[i].value)
		}
	}
}

// ModelReasons returns the features that raise a model's score most for the event in hand, the largest first, at most
// MaxModelReasons; none when the score is unknown. It computes them anew: it is for explaining, not for deciding.
func (f *Frame) ModelReasons(index int) []ModelReason {
	m := &f.ruleset.Models[index]
	x := m.row(f)
	if math.IsNaN(m.model.Score(x)) {
		return nil
	}
	adds := make([]float64, len(x))
	m.model.Contributions(x, adds)
	names := m.Features()
	var all []ModelReason
	for i, a := range adds {
		if a > 0 {
			all = append(all, ModelReason{names[i], m.Reasons[names[i]], a})
		}
	}
	slices.SortStableFunc(all, func(a, b ModelReason) int {
		switch {
		case a.Adds > b.Adds:
			return -1
		case a.Adds < b.Adds:
			return 1
		}
		return 0
	})
	return all[:min(len(all), MaxModelReasons)]
}

// modelReadings are a model's score and what raises it most, for a person: "pd" is "0.880797", "pd: share" is "M2 +1.5".
func (f *Frame) modelReadings(index int) []Reading {
	m := &f.ruleset.Models[index]
	all := []Reading{{m.Name, f.models[index].value.text()}}
	for _, r := range f.ModelReasons(index) {
		adds := "+" + strconv.FormatFloat(r.Adds, 'f', 3, 64)
		all = append(all, Reading{m.Name + ": " + r.Feature, strings.TrimSpace(r.Reason + " " + adds)})
	}
	return all
}

func (m *Model) row(f *Frame) []float64 {
	x := make([]float64, len(m.inputs))
	m.fill(f, x)
	return x
}

func (m *Model) fill(f *Frame, x []float64) {
	for i, get := range m.inputs {
		x[i] = get(f)
	}
}

// score fills the frame's row and asks the model.
func (m *Model) score(f *Frame) float64 {
	if cap(f.row) < len(m.inputs) {
		f.row = make([]float64, len(m.inputs))
	}
	f.row = f.row[:len(m.inputs)]
	m.fill(f, f.row)
	return m.model.Score(f.row)
}

// variable is how a condition names the model.
func (m *Model) variable(index int) variable {
	return variable{name: m.Name, typ: decimalType, in: m.in, says: "model", bounds: zeroToOne, through: m.Reads,
		decimal: func(f *Frame) (Decimal, bool) {
			v := f.Model(index)
			return v.Decimal, v.Known
		}}
}

// models reads the models; false when the rules cannot be checked without them.
func (l *loader) models(n ast.Node) bool {
	entries := l.mapping(n, "models", nil)
	if len(entries) == 0 {
		return true
	}
	if len(entries) > MaxModels {
		l.fail(n, "%d models; a ruleset has at most %d", len(entries), MaxModels)
		return false
	}
	sound := true
	for _, e := range entries {
		if !aggregateName.MatchString(e.key) || reserved(e.key) || l.ruleset.scope.variable(e.key) != nil {
			l.fail(e.at, "%q cannot name a model; use small letters, digits and _, no word of CEL and no aggregate's name", e.key)
			sound = false
			continue
		}
		m, ok := l.model(e)
		sound = sound && ok
		l.ruleset.Models = append(l.ruleset.Models, m)
	}
	if err := l.ruleset.scope.addModels(l.ruleset.Models); err != nil {
		l.fail(n, "%v", err)
		return false
	}
	return sound
}

// addModels gives a scope the models' names, once their features are compiled: a model is no feature of another.
func (s *scope) addModels(all []Model) error {
	var declare []cel.EnvOption
	for i := range all {
		v := all[i].variable(i)
		s.vars[v.name] = &v
		s.vars[knownPrefix+v.name] = &variable{name: knownPrefix + v.name, typ: boolType, in: v.in, flag: v.known, through: v.through}
		declare = append(declare, cel.Variable(v.name, celDecimal), cel.Variable(knownPrefix+v.name, cel.BoolType))
	}
	var err error
	s.env, err = s.env.Extend(declare...)
	return err
}

// model reads one model and compiles its features.
func (l *loader) model(e entry) (Model, bool) {
	m := Model{Name: e.key, in: everyKind}
	m.Line, _ = position(e.at)
	var kind, features, reasons, inline, packed ast.Node
	for _, f := range l.mapping(e.value, "a model", []string{"kind", "features", "reasons", "model", "base64"}) {
		switch f.key {
		case "kind":
			kind = f.value
		case "features":
			features = f.value
		case "reasons":
			reasons = f.value
		case "model":
			inline = f.value
		case "base64":
			packed = f.value
		}
	}
	if kind == nil || features == nil || (inline == nil) == (packed == nil) {
		l.fail(e.at, "the model %s needs kind: (%s), features:, and model: or base64:", m.Name, strings.Join(models.Kinds, ", "))
		return m, false
	}
	m.Kind = l.text(kind, "kind")
	if !slices.Contains(models.Kinds, m.Kind) {
		l.fail(kind, "kind: %q is no kind of model%s", m.Kind, suggest(m.Kind, models.Kinds))
		return m, false
	}
	if m.model = l.modelFile(m.Kind, inline, packed); m.model == nil {
		return m, false
	}
	if !l.features(&m, features) {
		return m, false
	}
	m.Reasons = map[string]string{}
	for _, f := range l.mapping(reasons, "reasons", m.Features()) {
		if m.Reasons[f.key] = l.text(f.value, "reasons"); len(m.Reasons[f.key]) > events.MaxWordBytes {
			l.fail(f.value, "reasons: %d bytes; at most %d", len(m.Reasons[f.key]), events.MaxWordBytes)
		}
	}
	return m, true
}

// modelFile reads the model itself, nil after a mistake.
func (l *loader) modelFile(kind string, inline, packed ast.Node) models.Model {
	n, what := inline, "model"
	if n == nil {
		n, what = packed, "base64"
	}
	text, ok := scalar(n)
	if !ok {
		l.fail(n, "%s: is a text; write %s: | and the file below it, indented", what, what)
		return nil
	}
	data := []byte(text)
	if packed != nil {
		var err error
		if data, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), "")); err != nil {
			l.fail(n, "base64: %v", err)
			return nil
		}
	}
	m, err := models.Parse(kind, data)
	if err != nil {
		l.fail(n, "%s: %v", what, err)
		return nil
	}
	return m
}

// features compiles the expression of each of the model's features.
func (l *loader) features(m *Model, n ast.Node) bool {
	names := m.Features()
	m.inputs = make([]input, len(names))
	reads, sound := map[int]bool{}, true
	for _, e := range l.mapping(n, "features of this model", names) {
		i := slices.Index(names, e.key)
		c := l.input(m, i, e)
		if c == nil {
			sound = false
			continue
		}
		for _, a := range c.reads {
			reads[a] = true
		}
		for name := range c.names {
			m.in &= l.ruleset.scope.variable(name).in
		}
	}
	for i, get := range m.inputs {
		if get == nil && sound {
			l.fail(n, "features: the model also needs %q; write %q: and an expression", names[i], names[i])
			return false
		}
	}
	if m.in == 0 {
		l.fail(n, "features: no kind of event has all that they name")
		sound = false
	}
	for i := range l.ruleset.Aggregates {
		if reads[i] {
			m.Reads = append(m.Reads, i)
		}
	}
	return sound
}

// input compiles one feature's expression into the model's inputs; nil after a mistake.
func (l *loader) input(m *Model, feature int, e entry) *Condition {
	text, ok := scalar(e.value)
	if !ok || strings.TrimSpace(text) == "" {
		l.fail(e.value, "features: %q needs an expression, such as payment.amount", e.key)
		return nil
	}
	c, get, mistakes := l.ruleset.scope.compileInput(text, func(word string) float64 { return m.model.Code(feature, word) }, m.model.Categorical(feature))
	for _, wrong := range mistakes {
		line, column := l.within(e.value, text, wrong.line, wrong.column)
		l.failAt(line, column, "features: %s: %s", e.key, wrong.message)
	}
	if len(mistakes) > 0 {
		return nil
	}
	m.inputs[feature] = get
	return c
}

// compileInput checks a feature's expression: a number, an amount in major units, a truth (0 or 1), a time span in seconds;
// or a word, which code turns into a number, where the model's feature is categorical.
func (s *scope) compileInput(text string, code func(string) float64, categorical bool) (*Condition, input, []exprMistake) {
	wrong := func(format string, args ...any) (*Condition, input, []exprMistake) {
		return nil, nil, []exprMistake{{message: fmt.Sprintf(format, args...)}}
	}
	if len(text) > MaxConditionBytes {
		return wrong("the expression has %d bytes; at most %d", len(text), MaxConditionBytes)
	}
	checked, issues := s.env.Compile(text)
	if issues.Err() != nil {
		return nil, nil, s.explain(text, issues)
	}
	tree := checked.NativeRep()
	if m := s.checkTree(tree); m != nil {
		return nil, nil, m
	}
	typ := typeOf(checked.OutputType())
	switch {
	case typ == timeType || typ == noType && !checked.OutputType().IsExactType(cel.DoubleType):
		return wrong("it is a %s; a feature is a number, an amount, true or false, a time span, or a word", checked.OutputType())
	case categorical != (typ == stringType):
		if categorical {
			return wrong("it is a %s; the model has words for this feature, give it a text such as loan.purpose", checked.OutputType())
		}
		return wrong("it is a word; the model has numbers for this feature")
	}
	c := &Condition{Text: text, names: map[string]bool{}, checked: checked}
	s.collect(tree, c)
	s.collectQuestions(tree, c)
	l := lowering{tree: tree, scope: s}
	if get := l.input(typ, tree.Expr(), code); get != nil {
		return c, get, nil
	}
	get, err := s.interpretInput(checked, code)
	if err != nil {
		return wrong("%v", err)
	}
	return c, get, nil
}

// float is the nearest float64: a feature of a model is one, an amount never.
func (a Decimal) float() float64 { return float64(a.Coefficient) / float64(powersOfTen[a.Exponent]) }

const secondsPerNano = 1e9

// input lowers a feature's expression, nil if it cannot be.
func (l *lowering) input(typ valueType, e celast.Expr, code func(string) float64) input {
	switch typ {
	case boolType:
		if t := l.truth(e); t != nil {
			return func(f *Frame) float64 {
				if v := t(f); v != Unknown {
					return float64(v)
				}
				return math.NaN()
			}
		}
	case stringType:
		if t := l.text(e); t != nil {
			return func(f *Frame) float64 { return wordCode(t(f), code) }
		}
	case durationType:
		if d := l.whole(e); d != nil {
			return func(f *Frame) float64 {
				if n, ok := d(f); ok {
					return float64(n) / secondsPerNano
				}
				return math.NaN()
			}
		}
	default:
		if d := l.precise(e); d != nil {
			return func(f *Frame) float64 {
				if v, ok := d(f); ok {
					return v.float()
				}
				return math.NaN()
			}
		}
	}
	return nil
}

// wordCode is a word's number; a word that is not known is missing.
func wordCode(word string, code func(string) float64) float64 {
	if word == "" {
		return math.NaN()
	}
	return code(word)
}

// interpretInput lets cel-go evaluate a feature's expression.
func (s *scope) interpretInput(checked *cel.Ast, code func(string) float64) (input, error) {
	program, err := s.env.Program(checked, cel.CostLimit(costLimit), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("plan the expression: %w", err)
	}
	return func(f *Frame) float64 {
		out, _, err := program.Eval(&f.activation)
		if err != nil {
			return math.NaN()
		}
		return inputOf(out, code)
	}, nil
}

func inputOf(v ref.Val, code func(string) float64) float64 {
	switch v := v.(type) {
	case types.Bool:
		if v {
			return 1
		}
		return 0
	case types.String:
		return wordCode(string(v), code)
	case types.Duration:
		return float64(v.Nanoseconds()) / secondsPerNano
	case types.Int:
		return float64(v)
	case types.Double:
		return float64(v)
	}
	if d, ok := asDecimal(v); ok {
		return d.float()
	}
	return math.NaN()
}
