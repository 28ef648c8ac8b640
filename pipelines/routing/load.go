package routing

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/pipelines/payments"
	"sluice/rules"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// The keys of a file of channels, and of its parts.
var (
	tableKeys = []string{"routing", "version", "window", "attempts", "down_below", "probe", "explore", "penalty", "expected", "weight", "good", "bad",
		"channels", "rules"}
	channelKeys = []string{"name", "enabled", "priority", "methods", "purposes", "can", "currencies", "limits", "fees", "hours"}
	limitKeys   = []string{"min", "max"}
	feeKeys     = []string{"method", "currency", "bps", "fixed", "min", "max"}
	hourKeys    = []string{"zone", "days", "from", "to", "holidays"}
	ruleKeys    = []string{"id", "when", "use", "avoid"}
)

var (
	tableName   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	channelName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,39}$`)
	ruleName    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)
	plainNumber = regexp.MustCompile(`^(0|[1-9][0-9]{0,3})(\.[0-9]{1,6})?$`)
	clockText   = regexp.MustCompile(`^([01][0-9]|2[0-4]):([0-5][0-9])$`)
	dayNames    = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // by time.Weekday
)

// clearingNames are what clearing accounts are called where no payment channel is named: a channel may not be called so, or
// its money and that of no channel would share an account.
var clearingNames = []string{"card", "bank_transfer", "quick_pay", "wallet", "unspecified"}

// Load parses and checks a file of payment channels. Its error is a rules.Mistakes: all that is wrong, with file, line,
// column and what to write instead. No bytes make it panic. The file's name is for messages only.
func Load(file string, data []byte) (*Table, error) {
	d, body := rules.ParseYAML(file, data)
	if body == nil {
		if err := d.Err(); err != nil {
			return nil, err
		}
		d.Fail(nil, "the file is empty; a file of channels starts with routing: and version:")
		return nil, d.Err()
	}
	conditions, err := rules.NewConditions()
	if err != nil {
		return nil, err
	}
	l := &loader{YAML: d, good: []string{"payment.authorized", "payment.captured", "payment.settled"}, bad: []string{"payment.failed"}}
	l.table = &Table{Source: slices.Clone(data), Window: 15 * time.Minute, Attempts: 20, DownAt: 500_000, Probe: 10_000, Explore: 20_000,
		Penalty: 10_000, Expected: 950_000, Weight: 20, byName: map[string]int{}, conditions: conditions}
	l.load(body)
	if err := d.Err(); err != nil {
		return nil, err
	}
	return l.table, nil
}

type loader struct {
	*rules.YAML
	table     *Table
	good, bad []string   // kinds of events
	at        rules.Node // of good: or bad:, where one of them is there
	unread    bool       // good: or bad: could not be read
	misspelt  int        // keys of the file
	nameless  bool       // not every channel's name could be read
}

// lacking is how many keys were not found.
func lacking(found map[string]bool, keys ...string) (n int) {
	for _, key := range keys {
		if !found[key] {
			n++
		}
	}
	return n
}

// complains says whether reading notes a mistake.
func (l *loader) complains(read func()) bool {
	before := l.Count()
	read()
	return l.Count() > before
}

func (l *loader) load(body rules.Node) {
	t := l.table
	var channels, choices rules.Node
	found := map[string]bool{}
	keys := l.Mapping(body, "a file of channels", tableKeys)
	l.misspelt = l.Count()
	for _, e := range keys {
		found[e.Key] = true
		switch e.Key {
		case "routing":
			if t.Name = l.Text(e.Value, "routing"); !tableName.MatchString(t.Name) {
				l.Fail(e.Value, "routing: %q is no name; use small letters, digits and dashes", t.Name)
			}
		case "version":
			t.Version = int(l.Integer(e.Value, "version", 1, 1_000_000_000))
		case "channels":
			channels = e.Value
		case "rules":
			choices = e.Value
		default:
			l.setting(e)
		}
	}
	if n := lacking(found, "routing", "version"); n > 0 {
		l.Lacks(body, n, l.misspelt, "the file needs a name and a version; write routing: main and version: 1")
	}
	l.channels(body, channels)
	l.rules(choices)
	l.health(body)
}

// setting reads one of the numbers that rule the choice.
func (l *loader) setting(e rules.Entry) {
	t := l.table
	switch e.Key {
	case "window":
		w, ok := rules.ParseSpan(l.Text(e.Value, "window"))
		if !ok || w > 24*time.Hour {
			l.Fail(e.Value, "window: %q is no length of time up to 24h; write 15m or 1h", l.Text(e.Value, "window"))
			return
		}
		t.Window = w
	case "attempts":
		t.Attempts = l.Integer(e.Value, "attempts", 1, 1_000_000)
	case "weight":
		t.Weight = l.Integer(e.Value, "weight", 1, 1_000_000)
	case "good":
		l.at = e.At
		l.unread = l.complains(func() { l.good = l.Texts(e.Value, "good") }) || l.unread
	case "bad":
		l.unread = l.complains(func() { l.bad = l.Texts(e.Value, "bad") }) || l.unread
		if l.at == nil {
			l.at = e.At
		}
	case "down_below":
		t.DownAt = l.share(e, Whole)
	case "probe":
		t.Probe = l.share(e, Whole/2)
	case "explore":
		t.Explore = l.share(e, Whole/2)
	case "penalty":
		t.Penalty = l.share(e, Whole)
	case "expected":
		t.Expected = l.share(e, Whole)
	}
}

// share reads a part of one, in millionths.
func (l *loader) share(e rules.Entry, most int64) int64 {
	n, ok := millionths(l.Text(e.Value, e.Key))
	if !ok || n > most {
		l.Fail(e.Value, "%s: %q is no share from 0 to %s with at most 6 decimals; 0.02 is 2 %%", e.Key, l.Text(e.Value, e.Key), decimal(most))
	}
	return n
}

// millionths reads a plain number exactly.
func millionths(text string) (int64, bool) {
	if !plainNumber.MatchString(text) {
		return 0, false
	}
	whole, decimals, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(whole+decimals+strings.Repeat("0", 6-len(decimals)), 10, 64)
	return n, err == nil
}

// decimal writes millionths: "0.5".
func decimal(n int64) string {
	text := fmt.Sprintf("%d.%06d", n/Whole, n%Whole)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

// health makes the aggregates. They are a ruleset's, so that a rule author's with the same definition are the same.
func (l *loader) health(body rules.Node) {
	if l.at != nil {
		body = l.at
	}
	if l.unread {
		return
	}
	if len(l.good) == 0 || len(l.bad) == 0 {
		l.Fail(body, "good: and bad: name kinds of events; write good: [payment.settled], or leave it out")
		return
	}
	if l.complains(func() { l.answers(body) }) {
		return
	}
	minutes := strconv.Itoa(int(l.table.Window.Minutes())) + "m"
	source := "ruleset: channels\nversion: 1\naggregates:\n" +
		"  channel_good: {count: [" + strings.Join(l.good, ", ") + "], by: payment_channel, window: " + minutes + "}\n" +
		"  channel_bad: {count: [" + strings.Join(l.bad, ", ") + "], by: payment_channel, window: " + minutes + "}\n"
	health, err := rules.Load("health of channels", []byte(source))
	if err != nil {
		l.Fail(body, "the health of channels cannot be counted: %v", err)
		return
	}
	l.table.health = health
}

// answers refuses what is no kind of payment event, or both good and bad.
func (l *loader) answers(at rules.Node) {
	for _, kind := range slices.Concat(l.good, l.bad) {
		if events.ParseKind(kind).Family() != events.Payment {
			l.Fail(at, "good, bad: %q is no kind of payment event; write payment.settled or payment.failed", kind)
		}
	}
	for _, kind := range l.good {
		if slices.Contains(l.bad, kind) {
			l.Fail(at, "%s is among good: and bad:; an answer is one of them", kind)
		}
	}
}

func (l *loader) channels(body, n rules.Node) {
	var items []rules.Node
	if l.complains(func() { items = l.List(n, "channels") }) {
		l.nameless = true
		return
	}
	if len(items) == 0 || len(items) > MaxChannels {
		l.nameless = true
		if n != nil || l.misspelt == 0 {
			l.Fail(body, "channels: has %d; write 1 to %d, each starting with - name:", len(items), MaxChannels)
		}
		return
	}
	lines := map[string]int{}
	for _, item := range items {
		c := l.channel(item)
		if first, taken := lines[c.Name]; taken && c.Name != "" {
			l.Fail(item, "the channel %s is there twice, first on line %d", c.Name, first)
		}
		lines[c.Name] = c.Line
		l.nameless = l.nameless || c.Name == ""
		l.table.byName[c.Name] = len(l.table.Channels)
		l.table.Channels = append(l.table.Channels, c)
	}
}

// draft is a channel being read.
type draft struct {
	Channel
	node           rules.Node
	methods        []eventsv1.PaymentMethod
	currencies     []events.Currency
	limits, prices rules.Node
	unsure         bool // not all methods and currencies are known
}

func (l *loader) channel(n rules.Node) Channel {
	c := &draft{Channel: Channel{Enabled: true, Priority: 5, Can: 1<<operations - 1, Line: l.Line(n)}, node: n}
	before := l.Count()
	keys := l.Mapping(n, "a channel", channelKeys)
	misspelt := l.Count() - before
	wrong := map[string]bool{} // what could not be read in full has been said
	for _, e := range keys {
		wrong[e.Key] = l.complains(func() { l.channelKey(c, e) })
	}
	there := map[string]bool{"name": c.Name != "" || wrong["name"], "methods": len(c.methods) > 0 || wrong["methods"], "purposes": c.Purposes != 0 || wrong["purposes"],
		"currencies": len(c.currencies) > 0 || wrong["currencies"], "fees": c.prices != nil}
	missing := lacking(there, "name", "methods", "purposes", "currencies", "fees")
	if missing > 0 {
		l.Lacks(n, missing, misspelt, "a channel needs name:, methods:, purposes:, currencies: and fees:")
	}
	c.unsure = missing > 0 || wrong["methods"] || wrong["currencies"]
	limits := l.limits(c)
	l.fees(c, limits)
	return c.Channel
}

func (l *loader) channelKey(c *draft, e rules.Entry) {
	switch e.Key {
	case "name":
		if c.Name = l.Text(e.Value, "name"); !channelName.MatchString(c.Name) {
			l.Fail(e.Value, "name: %q is no name; use small letters, digits, _ and dashes", c.Name)
		} else if slices.Contains(clearingNames, c.Name) {
			l.Fail(e.Value, "name: %s is a method, whose clearing account is another; name the acquirer or bank", c.Name)
		}
	case "enabled":
		c.Enabled = l.word(e.Value, "enabled", []string{"false", "true"}) == 1
	case "priority":
		c.Priority = int(l.Integer(e.Value, "priority", 1, 9))
	case "methods":
		for _, i := range l.words(e, []string{"card", "bank_transfer", "quick_pay"}) {
			c.methods = append(c.methods, eventsv1.PaymentMethod_PAYMENT_METHOD_CARD+eventsv1.PaymentMethod(i))
		}
	case "purposes":
		for _, i := range l.words(e, purposeWords()) {
			c.Purposes |= 1 << (i + 1)
		}
	case "can":
		c.Can = 0
		for _, i := range l.words(e, operationNames) {
			c.Can |= 1 << i
		}
	case "currencies":
		for _, code := range l.Texts(e.Value, "currencies") {
			if of := l.currency(e.Value, code); of != 0 {
				c.currencies = append(c.currencies, of)
			}
		}
	case "limits":
		c.limits = e.Value
	case "fees":
		c.prices = e.Value
	case "hours":
		l.hours(c, e.Value)
	}
}

// purposeWords are what channels carry payments for; the first is the purpose number 1.
func purposeWords() []string {
	var all []string
	for p := eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP; p <= eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT; p++ {
		all = append(all, payments.PurposeName(p))
	}
	return all
}

// word reads one of a few words and returns which, 0 after a mistake.
func (l *loader) word(n rules.Node, what string, words []string) int {
	word := l.Text(n, what)
	i := slices.Index(words, word)
	if i < 0 {
		l.Fail(n, "%s: %q is not understood%s", what, word, rules.Suggest(word, words))
	}
	return max(i, 0)
}

// words reads some of a few words and returns which.
func (l *loader) words(e rules.Entry, words []string) []int {
	var all []int
	for _, word := range l.Texts(e.Value, e.Key) {
		i := slices.Index(words, word)
		if i < 0 {
			l.Fail(e.Value, "%s: %q is not understood%s", e.Key, word, rules.Suggest(word, words))
			continue
		}
		all = append(all, i)
	}
	return all
}

func (l *loader) currency(n rules.Node, code string) events.Currency {
	of, ok := events.ParseCurrency(code)
	if !ok {
		l.Fail(n, "%q is no ISO 4217 currency the house knows; write a code such as CNY", code)
	}
	return of
}

// amount reads major units exactly.
func (l *loader) amount(e rules.Entry, of events.Currency) int64 {
	n, err := events.ParseAmount(l.Text(e.Value, e.Key), of)
	if err != nil {
		l.Fail(e.Value, "%s: %v", e.Key, err)
	}
	return n
}

// limits reads {CNY: {min: 1.00, max: 50000.00}}: the amounts of one payment, by currency.
func (l *loader) limits(c *draft) map[events.Currency]Terms {
	all := map[events.Currency]Terms{}
	for _, e := range l.Mapping(c.limits, "limits", nil) {
		of := l.currency(e.At, e.Key)
		if of == 0 {
			continue
		}
		if !c.unsure && !slices.Contains(c.currencies, of) {
			l.Fail(e.At, "limits: %s is not among the channel's currencies", of.Code())
		}
		var t Terms
		for _, bound := range l.Mapping(e.Value, "a limit", limitKeys) {
			if bound.Key == "min" {
				t.From = l.amount(bound, of)
			} else if !l.complains(func() { t.To = l.amount(bound, of) }) && t.To == 0 {
				l.Fail(bound.Value, "max: 0 takes nothing; leave max: out for no limit, or set enabled: false")
			}
		}
		if t.To > 0 && t.To < t.From {
			l.Fail(e.At, "limits: the min of %s is above its max", of.Code())
		}
		all[of] = t
	}
	return all
}

// price is one line of the fee schedule.
type price struct {
	method   eventsv1.PaymentMethod // unspecified: any
	currency events.Currency        // 0: any
	terms    Terms
	node     rules.Node
	used     bool
	unsure   bool // of which method or currency it is
}

// fees reads the fee schedule. The first line that fits a method and a currency counts; each pair that the channel carries
// needs one.
func (l *loader) fees(c *draft, limits map[events.Currency]Terms) {
	var lines []price
	unread := l.complains(func() {
		for _, item := range l.List(c.prices, "fees") {
			lines = append(lines, l.price(item))
		}
	})
	if c.unsure || unread && (len(lines) == 0 || slices.ContainsFunc(lines, func(p price) bool { return p.unsure })) {
		return
	}
	for _, m := range c.methods {
		for _, of := range c.currencies {
			i := slices.IndexFunc(lines, func(p price) bool {
				return (p.method == 0 || p.method == m) && (p.currency == 0 || p.currency == of)
			})
			if i < 0 {
				l.Fail(c.node, "%s has no fee for %s in %s; add a line to fees:, {bps: 0} where it is free", c.Name, payments.MethodName(m), of.Code())
				continue
			}
			lines[i].used = true
			terms := lines[i].terms
			terms.From, terms.To = limits[of].From, limits[of].To
			c.add(m, of, terms)
		}
	}
	for i := range lines {
		if !lines[i].used {
			l.Fail(lines[i].node, "%s never charges this fee: it is of another method or currency, or a line above it fits first", c.Name)
		}
	}
	if len(c.price) > 250 {
		l.Fail(c.node, "%s has %d different terms; at most 250", c.Name, len(c.price))
	}
}

func (c *Channel) add(m eventsv1.PaymentMethod, of events.Currency, t Terms) {
	i := slices.Index(c.price, t)
	if i < 0 {
		i = len(c.price)
		c.price = append(c.price, t)
	}
	c.terms[m][of] = uint8(min(i+1, 255))
}

func (l *loader) price(n rules.Node) price {
	p := price{node: n}
	var amounts []rules.Entry
	before := l.Count()
	keys := l.Mapping(n, "a fee", feeKeys)
	p.unsure = l.Count() > before
	for _, e := range keys {
		before := l.Count()
		switch e.Key {
		case "method":
			p.method = eventsv1.PaymentMethod_PAYMENT_METHOD_CARD + eventsv1.PaymentMethod(l.word(e.Value, "method", []string{"card", "bank_transfer", "quick_pay"}))
		case "currency":
			p.currency = l.currency(e.Value, l.Text(e.Value, "currency"))
		case "bps":
			p.terms.Rate = l.basisPoints(e)
		default:
			amounts = append(amounts, e)
		}
		p.unsure = p.unsure || e.Key != "bps" && l.Count() > before
	}
	switch {
	case len(amounts) == 0:
		return p
	case p.currency == 0 && p.unsure:
		return p
	case p.currency == 0:
		l.Fail(n, "%s: an amount needs the currency it is in; write currency: CNY beside it", amounts[0].Key)
		return p
	}
	for _, e := range amounts {
		before := l.Count()
		switch n := l.amount(e, p.currency); e.Key {
		case "fixed":
			p.terms.Fixed = n
		case "min":
			p.terms.Least = n
		case "max":
			if p.terms.Most = n; n == 0 && l.Count() == before {
				l.Fail(e.Value, "max: 0 would make it free; write {bps: 0} for that, or leave max: out")
			}
		}
	}
	if p.terms.Most > 0 && p.terms.Most < p.terms.Least {
		l.Fail(n, "a fee's min is above its max")
	}
	return p
}

// basisPoints reads at most two decimals; it returns millionths.
func (l *loader) basisPoints(e rules.Entry) int64 {
	text := l.Text(e.Value, "bps")
	n, ok := millionths(text)
	if !ok || n > 10_000*Whole || n%10_000 != 0 {
		l.Fail(e.Value, "bps: %q is no number from 0 to 10000 with at most two decimals; 60 is 0.6 %%", text)
		return 0
	}
	return n / 10_000
}

// hours reads {zone: Asia/Shanghai, days: [mon, tue], from: "08:00", to: "20:00", holidays: [2026-10-01]}.
func (l *loader) hours(c *draft, n rules.Node) {
	h := &Hours{Days: 1<<7 - 1, To: dayMinutes, Holidays: map[int64]bool{}}
	before := l.Count()
	keys := l.Mapping(n, "hours", hourKeys)
	misspelt := l.Count() - before
	found := map[string]bool{}
	for _, e := range keys {
		found[e.Key] = true
		l.hoursKey(h, e)
	}
	switch wrong := l.Count() > before; {
	case !found["zone"]:
		l.Lacks(n, 1, misspelt, "hours: needs zone:, such as Asia/Shanghai")
		return
	case !wrong && (h.From == h.To || h.Days == 0):
		l.Fail(n, "hours: is never open; leave hours: out for always, or set enabled: false")
	}
	if h.Zone == nil {
		return
	}
	c.Hours = h
	if c.zone = slices.IndexFunc(l.table.zones, func(z *time.Location) bool { return z.String() == h.Zone.String() }); c.zone < 0 {
		c.zone = len(l.table.zones)
		l.table.zones = append(l.table.zones, h.Zone)
	}
}

func (l *loader) hoursKey(h *Hours, e rules.Entry) {
	switch e.Key {
	case "zone":
		name := l.Text(e.Value, "zone")
		zone, err := time.LoadLocation(name)
		if err != nil || name == "" || name == "Local" {
			l.Fail(e.Value, "zone: %q is no time zone; write an IANA name such as Asia/Shanghai or UTC", name)
			return
		}
		h.Zone = zone
	case "days":
		h.Days = 0
		for _, i := range l.words(e, dayNames) {
			h.Days |= 1 << i
		}
	case "from":
		h.From = l.clock(e)
	case "to":
		h.To = l.clock(e)
	case "holidays":
		l.holidays(h, e)
	}
}

// clock reads minutes of the day.
func (l *loader) clock(e rules.Entry) int {
	text := l.Text(e.Value, e.Key)
	m := clockText.FindStringSubmatch(text)
	if m == nil || text > "24:00" {
		l.Fail(e.Value, "%s: %q is no time of day; write it as \"08:00\", up to \"24:00\"", e.Key, text)
		return 0
	}
	hour, _ := strconv.Atoi(m[1])
	minute, _ := strconv.Atoi(m[2])
	return hour*60 + minute
}

func (l *loader) holidays(h *Hours, e rules.Entry) {
	days := l.Texts(e.Value, "holidays")
	if len(days) > MaxHolidays {
		l.Fail(e.Value, "holidays: %d days; at most %d", len(days), MaxHolidays)
		return
	}
	for _, text := range days {
		day, err := time.Parse(time.DateOnly, text)
		if err != nil {
			l.Fail(e.Value, "holidays: %q is no day; write it as 2026-10-01", text)
			continue
		}
		h.Holidays[day.Unix()/daySeconds] = true
	}
}

func (l *loader) rules(n rules.Node) {
	items := l.List(n, "rules")
	if len(items) > MaxRules {
		l.Fail(n, "%d rules; a file has at most %d", len(items), MaxRules)
		return
	}
	lines := map[string]int{}
	for _, item := range items {
		r := l.rule(item)
		if first, taken := lines[r.ID]; taken && r.ID != "" {
			l.Fail(item, "the rule %s is there twice, first on line %d", r.ID, first)
		}
		lines[r.ID] = r.Line
		l.table.Rules = append(l.table.Rules, r)
	}
}

func (l *loader) rule(n rules.Node) Rule {
	r := Rule{Line: l.Line(n)}
	before := l.Count()
	keys := l.Mapping(n, "a rule", ruleKeys)
	misspelt := l.Count() - before
	found, wrong := map[string]bool{}, map[string]bool{}
	for _, e := range keys {
		found[e.Key] = true
		wrong[e.Key] = l.complains(func() { l.ruleKey(&r, e) })
	}
	found["choice"] = r.Use|r.Avoid != 0 || wrong["use"] || wrong["avoid"] || l.nameless && (found["use"] || found["avoid"])
	if missing := lacking(found, "id", "when", "choice"); missing > 0 {
		l.Lacks(n, missing, misspelt, "a rule has id:, when: and use: or avoid: with names of channels")
	}
	return r
}

func (l *loader) ruleKey(r *Rule, e rules.Entry) {
	switch e.Key {
	case "id":
		if r.ID = l.Text(e.Value, "id"); !ruleName.MatchString(r.ID) {
			l.Fail(e.Value, "id: %q is no name; use letters, digits and dashes", r.ID)
		}
	case "when":
		r.When = l.table.conditions.Compile(l.YAML, e.Value, "when", events.PaymentInitiated)
	case "use":
		r.Use = l.set(e)
	case "avoid":
		r.Avoid = l.set(e)
	}
}

// set reads names of channels.
func (l *loader) set(e rules.Entry) uint64 {
	var bits uint64
	var names []string
	for i := range l.table.Channels {
		names = append(names, l.table.Channels[i].Name)
	}
	if l.nameless { // whether a name is one is not known
		l.Texts(e.Value, e.Key)
		return 0
	}
	for _, i := range l.words(e, names) {
		bits |= 1 << i
	}
	return bits
}
