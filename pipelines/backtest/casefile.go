package backtest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"sluice/rules"
	"sluice/rules/lists"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// A file of cases:
//
//	given: {event.currency: CNY, customer.id: C1}     # for every event that has the field
//	cases:
//	  - name: five small payments with one card
//	    start: 2026-01-05T12:00:00Z                   # what "at: +5m" counts from; this, unless said otherwise
//	    given: {payment.card: T1}                     # for this case
//	    tier: gold
//	    lists: {watch-cards: [T1, {prefix: T9}]}
//	    events:
//	      - {kind: payment.initiated, at: +0s, payment.amount: 20, payment.method: card, times: 5, every: 20s}
//	    expect: {verdict: decline, score: 80, fires: [card-testing], quiet: [card-failures], reasons: [R101]}
//
// The case's expect is about its last event; an event may have its own. Fields have the names of the rules' vocabulary
// (payment.card) or of the JSON contracts (card_token). What a contract requires and nobody says is filled in: customer C1,
// CNY, a purchase from merchant M1 by wallet (by card when there is one, a transfer when there is a counterparty), a loan of
// 12 months at 0.12.

// caseStart is when cases start: a Monday noon.
var caseStart = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)

// caseStep is how long after the one before it an event without at: happens.
const caseStep = time.Second

// vocabulary says which field of the JSON contracts a variable of the rules stands for. "" is not to be written: it follows
// from the others.
var vocabulary = map[string]string{
	"event.source": "source", "event.channel": "channel", "event.currency": "currency",
	"customer.id": "customer_id", "customer.name": "customer_name", "device.id": "device_id", "ip.address": "ip", "location.country": "country",
	"payment.id": "payment_id", "payment.merchant": "merchant_id", "payment.counterparty": "counterparty_id",
	"payment.account": "account_id", "payment.card": "card_token", "loan.id": "loan_id", "behavior.payee": "payee_id",
	"behavior.document": "document_hash", "behavior.session": "session_id",
	"event.kind": "", "event.time": "", "event.hour": "", "event.weekday": "", "customer.tier": "", "device.known": "", "ip.known": "",
	"location.known": "", "payment.status": "", "loan.status": "", "loan.instalment": "",
}

// contract is the fields of the JSON contract of each family; true for those that are numbers.
var contract = map[events.Family]map[string]bool{
	events.Payment:  fieldsOf((*eventsv1.PaymentEvent)(nil).ProtoReflect()),
	events.Loan:     fieldsOf((*eventsv1.LoanEvent)(nil).ProtoReflect()),
	events.Behavior: fieldsOf((*eventsv1.BehaviorEvent)(nil).ProtoReflect()),
}

func fieldsOf(m protoreflect.Message) map[string]bool {
	all := map[string]bool{"source": false, "country": false, "latitude": true, "longitude": true}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Kind() != protoreflect.MessageKind {
			all[string(f.Name())] = f.Kind() == protoreflect.Int32Kind
		}
	}
	return all
}

// caseFile reads a file of cases.
type caseFile struct {
	*rules.YAML
	ruleset *rules.Ruleset
	given   []field
	serial  int // of the events, which names them
}

// field is a field of an event as it is written.
type field struct {
	name  string
	at    rules.Node // its name
	value rules.Node
}

// LoadCases reads a file of cases for a ruleset. Its error is rules.Mistakes: all that is wrong, with line, column and what
// to write instead.
func LoadCases(file string, data []byte, rs *rules.Ruleset) ([]Case, error) {
	y, body := rules.ParseYAML(file, data)
	f := &caseFile{YAML: y, ruleset: rs}
	var list rules.Node
	for _, e := range f.Mapping(body, "a file of cases", []string{"given", "cases"}) {
		if e.Key == "given" {
			f.given = f.fields(e.Value)
		} else {
			list = e.Value
		}
	}
	nodes := f.List(list, "cases")
	switch {
	case len(nodes) > MaxCases:
		f.Fail(list, "%d cases; a file has at most %d", len(nodes), MaxCases)
		nodes = nil
	case len(nodes) == 0 && f.Err() == nil:
		f.Fail(body, "there are no cases; write cases: and a list of them, each with name:, events: and expect:")
	}
	var cases []Case
	lines := map[string]int{}
	for _, n := range nodes {
		c := f.one(n)
		if first, taken := lines[c.Name]; taken && c.Name != "" {
			f.Fail(n, "the case %q is there twice, first on line %d", c.Name, first)
		}
		lines[c.Name] = c.Line
		cases = append(cases, c)
	}
	if err := f.Err(); err != nil {
		return nil, err
	}
	return cases, nil
}

// fields reads given:.
func (f *caseFile) fields(n rules.Node) []field {
	var all []field
	for _, e := range f.Mapping(n, "given", nil) {
		known := false
		for _, family := range families {
			if _, is := resolve(e.Key, family); is {
				known = true
			}
		}
		if !known {
			f.Fail(e.At, "no event has a field %q%s", e.Key, rules.Suggest(e.Key, fieldNames(families...)))
			continue
		}
		all = append(all, field{e.Key, e.At, e.Value})
	}
	return all
}

var families = []events.Family{events.Payment, events.Loan, events.Behavior}

// resolve finds the contract's field that a name means on a family of events.
func resolve(name string, family events.Family) (string, bool) {
	has := contract[family]
	if _, is := has[name]; is {
		return name, true
	}
	prefix, rest, dotted := strings.Cut(name, ".")
	if !dotted {
		return "", false
	}
	if meant, is := vocabulary[name]; is {
		_, there := has[meant]
		own := prefix != "payment" && prefix != "loan" && prefix != "behavior" || prefix == family.String()
		return meant, there && own
	}
	_, is := has[rest]
	return rest, is && prefix == family.String()
}

// fieldNames are the names that fields of events can have in a file of cases, those of the vocabulary only.
func fieldNames(of ...events.Family) []string {
	var names []string
	for _, kind := range events.Kinds() {
		if !slices.Contains(of, kind.Family()) {
			continue
		}
		for _, name := range rules.VariablesOf(kind) {
			if _, is := resolve(name, kind.Family()); is && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// one reads one case.
func (f *caseFile) one(n rules.Node) Case {
	c := Case{Line: f.Line(n)}
	start := caseStart
	var list, expect rules.Node
	given := f.given
	for _, e := range f.Mapping(n, "a case", []string{"name", "start", "given", "tier", "lists", "events", "expect"}) {
		switch e.Key {
		case "name":
			c.Name = f.Text(e.Value, "name")
		case "start":
			start = f.start(e.Value)
		case "given":
			given = append(slices.Clone(given), f.fields(e.Value)...)
		case "tier":
			c.Tier = f.word(e.Value, "tier", []string{"platinum", "gold", "silver", "bronze", "dormant"})
		case "lists":
			c.Lists = f.lists(e.Value)
		case "events":
			list = e.Value
		case "expect":
			expect = e.Value
		}
	}
	f.events(&c, list, start, given)
	if c.Name == "" || len(c.Events) == 0 && f.Err() == nil {
		f.Fail(n, "a case has name:, events: and expect:")
	}
	if expect != nil && len(c.Events) > 0 {
		c.Events[len(c.Events)-1].Expect = f.expectation(expect)
	}
	if expect == nil && !slices.ContainsFunc(c.Events, func(e CaseEvent) bool { return e.Expect != nil }) && len(c.Events) > 0 {
		f.Fail(n, "the case expects nothing; write expect: {verdict: decline}")
	}
	return c
}

func (f *caseFile) start(n rules.Node) time.Time {
	text := f.Text(n, "start")
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		f.Fail(n, "start: %q is no RFC 3339 time, such as 2026-01-05T12:00:00Z", text)
		return caseStart
	}
	return t.UTC()
}

// word reads a value that is one of a few.
func (f *caseFile) word(n rules.Node, what string, words []string) string {
	w := f.Text(n, what)
	if !slices.Contains(words, w) {
		f.Fail(n, "%s: %q is none%s", what, w, rules.Suggest(w, words))
	}
	return w
}

// events reads the events of a case.
func (f *caseFile) events(c *Case, list rules.Node, start time.Time, given []field) {
	at := start.Add(-caseStep)
	for _, n := range f.List(list, "events") {
		s := f.story(n, start, at.Add(caseStep))
		at = s.at
		for i := range s.times {
			if len(c.Events) >= MaxCaseEvents {
				f.Fail(n, "a case has at most %d events", MaxCaseEvents)
				return
			}
			at = s.at.Add(time.Duration(i) * s.every)
			if ev := f.event(n, &s, at, given); ev != nil {
				c.Events = append(c.Events, CaseEvent{Event: *ev, Line: f.Line(n)})
			}
			if f.Err() != nil {
				break // each repetition has the same mistake
			}
		}
		if s.expect != nil && len(c.Events) > 0 {
			c.Events[len(c.Events)-1].Expect = f.expectation(s.expect)
		}
	}
}

// story is an event as it is written, with its repetitions.
type story struct {
	kind   events.Kind
	at     time.Time
	times  int
	every  time.Duration
	fields []field
	expect rules.Node // of the last repetition
}

// story reads an event, which happens at next unless it says when.
func (f *caseFile) story(n rules.Node, start, next time.Time) story {
	s := story{kind: events.PaymentInitiated, at: next, times: 1, every: caseStep}
	var rest []rules.Entry
	for _, e := range f.Mapping(n, "an event", nil) {
		switch e.Key {
		case "kind":
			text := f.Text(e.Value, "kind")
			if s.kind = events.ParseKind(text); s.kind == events.KindUnknown {
				f.Fail(e.Value, "kind: %q is no kind of event%s", text, rules.Suggest(text, kindNames()))
			}
		case "at":
			s.at = f.when(e.Value, start, next)
		case "times":
			s.times = int(f.Integer(e.Value, "times", 1, MaxCaseEvents))
		case "every":
			s.every = f.span(e.Value, "every")
		case "expect":
			s.expect = e.Value
		default:
			rest = append(rest, e)
		}
	}
	if s.kind == events.KindUnknown {
		return s
	}
	for _, e := range rest {
		if _, is := resolve(e.Key, s.kind.Family()); !is {
			names := append(fieldNames(s.kind.Family()), "kind", "at", "times", "every", "expect")
			f.Fail(e.At, "%s has no field %q%s", s.kind, e.Key, rules.Suggest(e.Key, names))
			continue
		}
		s.fields = append(s.fields, field{e.Key, e.At, e.Value})
	}
	return s
}

func kindNames() []string {
	var all []string
	for _, k := range events.Kinds() {
		all = append(all, k.String())
	}
	return all
}

// when reads +5m, counted from the start, or an RFC 3339 time.
func (f *caseFile) when(n rules.Node, start, next time.Time) time.Time {
	text := f.Text(n, "at")
	if rest, relative := strings.CutPrefix(text, "+"); relative {
		if d, err := span(rest); err == nil {
			return start.Add(d)
		}
	} else if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t.UTC()
	}
	f.Fail(n, "at: %q is no time; write +5m, counted from the start of the case, or 2026-01-05T12:00:00Z", text)
	return next
}

func (f *caseFile) span(n rules.Node, what string) time.Duration {
	text := f.Text(n, what)
	d, err := span(strings.TrimPrefix(text, "+"))
	if err != nil {
		f.Fail(n, "%s: %q is no length of time; write 20s, 5m, 24h or 30d", what, text)
	}
	return d
}

var days = regexp.MustCompile(`^([0-9]{1,5})d`)

var errSpan = errors.New("no length of time")

// span reads a length of time: what Go writes, with days before it: 2d12h.
func span(text string) (time.Duration, error) {
	var d time.Duration
	if m := days.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1])
		d, text = time.Duration(n)*24*time.Hour, text[len(m[0]):]
		if text == "" {
			return d, nil
		}
	}
	rest, err := time.ParseDuration(text)
	if err != nil || rest < 0 {
		return 0, errSpan
	}
	return d + rest, nil
}

// event makes the event that a story tells, through the decoder that every event comes in by.
func (f *caseFile) event(n rules.Node, s *story, at time.Time, given []field) *events.Event {
	if s.kind == events.KindUnknown {
		return nil
	}
	f.serial++
	id := "case-" + strconv.Itoa(f.serial)
	data, nodes := map[string]any{}, map[string]rules.Node{}
	source := "cases"
	for _, x := range append(slices.Clone(given), s.fields...) {
		name, is := resolve(x.name, s.kind.Family())
		if !is {
			continue
		}
		text := f.Text(x.value, x.name)
		nodes[name] = x.value
		switch {
		case name == "source":
			source = text
		case contract[s.kind.Family()][name]:
			data[name] = json.Number(text)
			if _, err := strconv.ParseFloat(text, 64); err != nil {
				f.Fail(x.value, "%s: %q is no number", x.name, text)
				return nil
			}
		default:
			data[name] = text
		}
	}
	complete(s.kind, id, data)
	record, err := record(s.kind, id, source, at, data)
	if err != nil {
		f.Fail(n, "%v", err)
		return nil
	}
	e, err := events.Decode(record)
	if err != nil {
		f.reject(n, nodes, err)
		return nil
	}
	return &e
}

// reject tells what the decoder says, at the field it is about.
func (f *caseFile) reject(n rules.Node, nodes map[string]rules.Node, err error) {
	var r *events.Rejection
	if !errors.As(err, &r) {
		f.Fail(n, "%v", err)
		return
	}
	name := r.Field[strings.LastIndexByte(r.Field, '.')+1:]
	if at := nodes[name]; at != nil {
		n = at
	}
	if r.Field == "" {
		f.Fail(n, "%s", r.Detail)
		return
	}
	f.Fail(n, "%s: %s", r.Field, r.Detail)
}

// complete fills in what the contract requires and the case does not say.
func complete(kind events.Kind, id string, data map[string]any) {
	set := func(name string, value any) {
		if _, is := data[name]; !is {
			data[name] = value
		}
	}
	set("customer_id", "C1")
	switch kind.Family() {
	case events.Payment:
		set("payment_id", id)
		set("amount", "1")
		set("currency", "CNY")
		if _, is := data["counterparty_id"]; is {
			set("purpose", "transfer")
		}
		set("purpose", "purchase")
		if data["purpose"] == "purchase" {
			set("merchant_id", "M1")
		}
		if data["purpose"] == "transfer" {
			set("counterparty_id", "C2")
		}
		if _, is := data["card_token"]; is {
			set("method", "card")
		}
		set("method", "wallet")
		completeCore(kind, set)
	case events.Loan:
		set("loan_id", id)
		set("amount", "1")
		set("currency", "CNY")
		set("product", "cash")
		set("term_months", 12)
		set("annual_rate", "0.12")
	case events.Behavior:
		if kind == events.BehaviorDeviceBound {
			set("device_id", "D1")
		}
		if kind == events.BehaviorPayeeAdded {
			set("payee_id", "C2")
		}
	}
}

// completeCore fills in what the later events of a payment's life say.
func completeCore(kind events.Kind, set func(string, any)) {
	switch kind {
	case events.PaymentRerouted:
		set("payment_channel", "acquirer")
	case events.PaymentDisputed:
		set("respond_by", "2100-01-01T00:00:00Z")
	case events.PaymentEvidenceSubmitted:
		set("evidence", "E1")
	case events.PaymentDisputeDecided:
		set("outcome", "lost")
	}
}

// record is the event as a channel would publish it, with JSON data.
func record(kind events.Kind, id, source string, at time.Time, data map[string]any) (*events.Record, error) {
	location := map[string]any{}
	for _, name := range []string{"country", "latitude", "longitude"} {
		if v, is := data[name]; is {
			location[name] = v
			delete(data, name)
		}
	}
	if len(location) > 0 {
		data["location"] = location
	}
	value, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("write the event as JSON: %w", err)
	}
	key, _ := data["customer_id"].(string)
	header := func(k, v string) events.Header { return events.Header{Key: k, Value: []byte(v)} }
	return &events.Record{Topic: kind.Family().Topic(), Key: []byte(key), Value: value, Headers: []events.Header{
		header("ce_specversion", "1.0"), header("ce_id", id), header("ce_source", source), header("ce_type", kind.String()),
		header("ce_time", at.UTC().Format(time.RFC3339Nano)), header("content-type", events.ContentJSON)}}, nil
}

// lists reads {watch-cards: [T1, {cidr: 203.0.113.0/24}]}.
func (f *caseFile) lists(n rules.Node) []lists.Entry {
	var all []lists.Entry
	for _, e := range f.Mapping(n, "lists", nil) {
		if !slices.Contains(f.ruleset.Lists, e.Key) && e.Key != rules.SnoozeList {
			f.Fail(e.At, "no condition of %s asks the list %q%s", f.ruleset.Name, e.Key,
				rules.Suggest(e.Key, append(slices.Clone(f.ruleset.Lists), rules.SnoozeList)))
		}
		for _, item := range f.List(e.Value, e.Key) {
			if entry, err := f.entry(e.Key, item); err != nil {
				f.Fail(item, "%s: %v", e.Key, err)
			} else {
				all = append(all, entry)
			}
		}
	}
	return all
}

func (f *caseFile) entry(list string, n rules.Node) (lists.Entry, error) {
	if !rules.IsMapping(n) {
		return lists.New(list, lists.Value, f.Text(n, list))
	}
	kind, value := lists.Value, ""
	for _, e := range f.Mapping(n, "an entry", []string{"value", "cidr", "prefix", "name"}) {
		kind, _ = lists.ParseKind(e.Key) // the mapping has let only these pass
		value = f.Text(e.Value, e.Key)
	}
	return lists.New(list, kind, value)
}

// expectation reads expect:.
func (f *caseFile) expectation(n rules.Node) *Expectation {
	x := &Expectation{Line: f.Line(n)}
	for _, e := range f.Mapping(n, "expect", []string{"verdict", "score", "fires", "quiet", "reasons"}) {
		switch e.Key {
		case "verdict":
			x.Verdict = parseVerdict(f.word(e.Value, "verdict", []string{"approve", "review", "decline", "observed", "duplicate"}))
		case "score":
			score := int32(f.Integer(e.Value, "score", -rules.MaxScore*rules.MaxRules, rules.MaxScore*rules.MaxRules))
			x.Score = &score
		case "fires":
			x.Fires = f.ruleIDs(e.Value, "fires")
		case "quiet":
			x.Quiet = f.ruleIDs(e.Value, "quiet")
		case "reasons":
			x.Reasons = f.known(e.Value, "reasons", "reason", func(r *rules.Rule) string { return r.Reason })
		}
	}
	return x
}

func (f *caseFile) ruleIDs(n rules.Node, what string) []string {
	return f.known(n, what, "rule", func(r *rules.Rule) string { return r.ID })
}

// known reads words that some rule of the ruleset must have.
func (f *caseFile) known(n rules.Node, what, noun string, of func(*rules.Rule) string) []string {
	var have []string
	for i := range f.ruleset.Rules {
		have = append(have, of(&f.ruleset.Rules[i]))
	}
	slices.Sort(have)
	have = slices.Compact(have)
	words := f.Texts(n, what)
	for _, w := range words {
		if !slices.Contains(have, w) {
			f.Fail(n, "%s: %s has no %s %q%s", what, f.ruleset.Name, noun, w, rules.Suggest(w, have))
		}
	}
	slices.SortFunc(words, cmp.Compare)
	return words
}

// parseVerdict returns the verdict of a word, NoVerdict for none.
func parseVerdict(word string) events.Verdict {
	for v := events.Observed; v <= events.Duplicate; v++ {
		if v.String() == word {
			return v
		}
	}
	return events.NoVerdict
}
