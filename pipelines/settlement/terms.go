package settlement

import (
	_ "embed"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/pipelines/reconcile"
	"sluice/rules"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"

	"sluice/pipelines/payments"
)

// Limits of a file of terms.
const (
	// MaxCalendars bounds its calendars.
	MaxCalendars = 100
	// MaxParties bounds its merchants, and its payment channels.
	MaxParties = 10_000
	// MaxReserveDays bounds how long a reserve is held: five years.
	MaxReserveDays = 5 * 366
	// endOfDay is the latest cut-off, in minutes after midnight.
	endOfDay = 24 * 60
)

//go:embed standard.yaml
var standard []byte

// Terms is everything that was agreed on settlement: calendars, and the terms of merchants and payment channels.
type Terms struct {
	Name      string
	House     Account // the house's own, from which it pays
	Calendars map[string]*Calendar
	Merchants map[string]*Merchant
	Channels  map[string]*Channel
	Merchant  Merchant // of those that have none of their own
	Channel   Channel
}

// Account is a bank account and whose it is.
type Account struct {
	Holder string // at most 140 characters, as ISO 20022 has it
	Number string // an IBAN, or the bank's own number, at most 34 characters
	BIC    string // ISO 9362, "" if not known
}

// IBAN says whether the account's number is one, by ISO 13616.
func (a Account) IBAN() bool { return iban(a.Number) }

// Merchant is when and how a merchant is paid.
type Merchant struct {
	CutOffs    CutOffs
	After      int        // business days from the cut-off's day to the value date: T+n
	Bank       *Calendar  // of the bank that pays; nil: the merchant's
	Convention Convention // for a release of reserve, and a value date that is no business day of the bank
	Minimum    map[events.Currency]int64
	Reserve    events.Rate // of a batch's purchases, kept back
	Held       int         // calendar days until it is released
	PaidBy     string      // payment channel that carries payouts
	Method     eventsv1.PaymentMethod
	Account    Account
}

// ValueDate is when the payout of a business day's cut-off is due.
func (m *Merchant) ValueDate(day Day) Day {
	own := Days{m.CutOffs.Calendar}
	due := own.Add(day, m.After)
	if m.Bank == nil {
		return due
	}
	return append(own, m.Bank).Adjust(due, m.Convention)
}

// Releases is from when on what was held back on a business day's cut-off is released.
func (m *Merchant) Releases(day Day) Day {
	return Days{m.CutOffs.Calendar}.Adjust(day+Day(m.Held), m.Convention)
}

// Channel is when a payment channel pays the house, and what it keeps.
type Channel struct {
	CutOffs CutOffs
	After   int // business days from the cut-off's day to the value date: T+n
	Points  int64
	Fixed   map[events.Currency]int64 // for each item, minor units
	Gross   bool                      // it pays all and bills its fee; else it keeps the fee
}

// ValueDate is when the channel pays what a business day's cut-off took in.
func (c *Channel) ValueDate(day Day) Day { return Days{c.CutOffs.Calendar}.Add(day, c.After) }

// Fee is what the channel is expected to take for an item of an amount, in minor units, rounded half up.
func (c *Channel) Fee(amount int64, currency events.Currency) int64 {
	return share(amount, c.Points, payments.BasisPoint) + c.Fixed[currency]
}

// share is amount*part/whole, rounded half up, without leaving 64 bits for amounts of an event.
func share(amount, part, whole int64) int64 {
	return amount/whole*part + (amount%whole*part+whole/2)/whole
}

// Of returns the terms of a merchant.
func (t *Terms) Of(merchant string) *Merchant {
	if m := t.Merchants[merchant]; m != nil {
		return m
	}
	return &t.Merchant
}

// OfChannel returns the terms of a payment channel.
func (t *Terms) OfChannel(channel string) *Channel {
	if c := t.Channels[channel]; c != nil {
		return c
	}
	return &t.Channel
}

// Standard returns the shipped terms: the day ends at midnight UTC, weekends are no business days, merchants are paid and
// channels pay on T+1, nothing is held back.
func Standard() *Terms {
	t, err := Parse("standard.yaml", standard)
	if err != nil {
		panic("settlement: " + err.Error()) // a mistake in the program, caught by its test
	}
	return t
}

// Parse reads terms from YAML; docs/settlement.md has an example. Its error is rules.Mistakes: all that is wrong, with line,
// column and what to write instead.
func Parse(file string, data []byte) (*Terms, error) {
	y, body := rules.ParseYAML(file, data)
	r := &reader{YAML: y, terms: &Terms{Calendars: map[string]*Calendar{}, Merchants: map[string]*Merchant{}, Channels: map[string]*Channel{}}}
	r.file(body)
	if err := r.Err(); err != nil {
		return nil, err
	}
	return r.terms, nil
}

type reader struct {
	*rules.YAML
	terms      *Terms
	convention Convention
}

// file reads the whole: calendars first, since all others name them, then defaults, since merchants and channels have them.
func (r *reader) file(body rules.Node) {
	parts := map[string]rules.Node{}
	keys := r.Mapping(body, "a file of terms", []string{"settlement", "convention", "house", "calendars", "defaults", "merchants", "channels"})
	misspelt := r.Count()
	for _, e := range keys {
		parts[e.Key] = e.Value
	}
	if body == nil || len(keys) == 0 && misspelt > 0 {
		if misspelt == 0 {
			r.Fail(body, "it has no name: begin it with settlement: NAME")
		}
		return
	}
	if n := parts["settlement"]; n == nil {
		r.Lacks(body, 1, misspelt, "it has no name: begin it with settlement: NAME")
	} else if r.terms.Name = r.Text(n, "settlement"); r.terms.Name == "" {
		r.Fail(n, "it has no name: begin it with settlement: NAME")
	}
	r.convention = r.conventionOf(parts["convention"])
	r.terms.House = r.account(parts["house"], "house")
	if n := parts["calendars"]; n != nil || misspelt == 0 {
		r.calendars(n)
	}
	r.defaults(parts["defaults"], body, misspelt)
	for _, e := range r.parties(parts["merchants"], "merchants") {
		m := r.terms.Merchant
		m.Minimum = maps.Clone(m.Minimum)
		r.merchant(e.Value, &m)
		r.terms.Merchants[e.Key] = &m
	}
	for _, e := range r.parties(parts["channels"], "channels") {
		c := r.terms.Channel
		c.Fixed = maps.Clone(c.Fixed)
		r.channel(e.Value, &c)
		r.terms.Channels[e.Key] = &c
	}
}

func (r *reader) parties(n rules.Node, what string) []rules.Entry {
	all := r.Mapping(n, what, nil)
	if len(all) > MaxParties {
		r.Fail(n, "%d %s; a file has at most %d: put what most have under defaults", len(all), what, MaxParties)
		return nil
	}
	return all
}

func (r *reader) calendars(n rules.Node) {
	before := r.Count()
	all := r.Mapping(n, "calendars", nil)
	if len(all) == 0 && r.Count() == before {
		r.Fail(n, "there is no calendar; write calendars: and one such as china: {time_zone: Asia/Shanghai}")
	}
	if len(all) > MaxCalendars {
		r.Fail(n, "%d calendars; a file has at most %d", len(all), MaxCalendars)
		return
	}
	for _, e := range all {
		c := &Calendar{Name: e.Key, Location: time.UTC, Holidays: map[Day]bool{}, Worked: map[Day]bool{}, CutOff: endOfDay}
		c.Weekend[time.Saturday], c.Weekend[time.Sunday] = true, true
		before := r.Count()
		for _, f := range r.Mapping(e.Value, "a calendar", []string{"time_zone", "weekend", "holidays", "working_days", "cut_off"}) {
			switch f.Key {
			case "time_zone":
				r.zone(f.Value, c)
			case "weekend":
				r.weekend(f.Value, c)
			case "holidays":
				r.days(f.Value, "holidays", c.Holidays)
			case "working_days":
				r.days(f.Value, "working_days", c.Worked)
			case "cut_off":
				c.CutOff = r.clock(f.Value)
			}
		}
		if err := c.check(); err != nil && r.Count() == before {
			r.Fail(e.At, "%s: %v", e.Key, err)
		}
		r.terms.Calendars[e.Key] = c
	}
}

func (r *reader) zone(n rules.Node, c *Calendar) {
	text := r.Text(n, "time_zone")
	l, err := time.LoadLocation(text)
	if err != nil || text == "" || text == "Local" {
		r.Fail(n, "time_zone: there is no %q; give a name such as Asia/Shanghai", text)
		return
	}
	c.Location = l
}

func (r *reader) weekend(n rules.Node, c *Calendar) {
	c.Weekend = [7]bool{}
	var names []string
	for d := time.Sunday; d <= time.Saturday; d++ {
		names = append(names, strings.ToLower(d.String()))
	}
	for _, text := range r.Texts(n, "weekend") {
		i := slices.Index(names, text)
		if i < 0 {
			r.Fail(n, "weekend: %q is no day of the week%s", text, rules.Suggest(text, names))
			continue
		}
		c.Weekend[i] = true
	}
}

// days reads days and spans of days: "2026-02-16", "2026-02-16..2026-02-23".
func (r *reader) days(n rules.Node, what string, into map[Day]bool) {
	for _, text := range r.Texts(n, what) {
		first, last, span := strings.Cut(text, "..")
		if !span {
			last = first
		}
		from, err := reconcile.ParseDay(first)
		to, err2 := reconcile.ParseDay(last)
		if err != nil || err2 != nil || to < from || to-from > maxClosed {
			r.Fail(n, "%s: %q is no day as 2026-01-31, nor a span as 2026-02-16..2026-02-23 of at most %d days", what, text, maxClosed)
			continue
		}
		for d := from; d <= to; d++ {
			into[d] = true
		}
	}
	if len(into) > MaxHolidays {
		r.Fail(n, "%s: %d days; a calendar has at most %d", what, len(into), MaxHolidays)
	}
}

var clockText = regexp.MustCompile(`^([01]\d|2[0-4]):([0-5]\d)$`)

// clock reads a time of day, "23:30"; "24:00" is the end of the day.
func (r *reader) clock(n rules.Node) int {
	text := r.Text(n, "cut_off")
	if m := clockText.FindStringSubmatch(text); m != nil {
		h, _ := strconv.Atoi(m[1])
		min, _ := strconv.Atoi(m[2])
		if at := h*60 + min; at > 0 && at <= endOfDay {
			return at
		}
	}
	r.Fail(n, `cut_off: %q is no time of day from "00:01" to "24:00", such as "23:30" (in quotes)`, text)
	return endOfDay
}

func (r *reader) conventionOf(n rules.Node) Convention {
	if n == nil {
		return Following
	}
	text := r.Text(n, "convention")
	i := slices.Index(conventionNames, text)
	if i < 0 {
		r.Fail(n, "convention: %q is none%s", text, rules.Suggest(text, conventionNames))
		return Following
	}
	return Convention(i)
}

// defaults reads the terms of those that have none of their own. misspelt are keys of the file that may be defaults:.
func (r *reader) defaults(n, body rules.Node, misspelt int) {
	r.terms.Merchant.After, r.terms.Channel.After = 1, 1 // T+1 where nothing is said
	r.terms.Merchant.Convention = r.convention
	r.terms.Merchant.Method = eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER
	before := r.Count()
	keys := r.Mapping(n, "defaults", []string{"merchant", "channel"})
	misspelt += r.Count() - before
	for _, e := range keys {
		if e.Key == "merchant" {
			misspelt += r.merchant(e.Value, &r.terms.Merchant)
		} else {
			misspelt += r.channel(e.Value, &r.terms.Channel)
		}
	}
	if misspelt == 0 && (r.terms.Merchant.CutOffs.Calendar == nil || r.terms.Channel.CutOffs.Calendar == nil) {
		if n == nil {
			n = body
		}
		r.Fail(n, "defaults: the merchant and the channel each need a calendar: write defaults: {merchant: {calendar: NAME}, channel: {calendar: NAME}}")
	}
}

// schedule reads what merchants and channels have alike; it says whether the key was one of those.
func (r *reader) schedule(e rules.Entry, at *CutOffs, after *int) bool {
	switch e.Key {
	case "calendar":
		c := r.calendar(e.Value)
		at.Calendar, at.Minutes = c, c.CutOff
	case "cut_offs":
		*at = CutOffs{at.Calendar, at.Minutes, r.every(e.Value)}
	case "cycle":
		text := r.Text(e.Value, "cycle")
		n, err := strconv.Atoi(strings.TrimPrefix(text, "T+"))
		if err != nil || !strings.HasPrefix(text, "T+") || n < 0 || n > MaxAfter {
			r.Fail(e.Value, "cycle: %q is not T+0 to T+%d, in business days", text, MaxAfter)
			return true
		}
		*after = n
	default:
		return false
	}
	return true
}

// every reads how often cut-offs are: "daily", a day of the week, "month_end".
func (r *reader) every(n rules.Node) Every {
	text := r.Text(n, "cut_offs")
	words := []string{"daily", "month_end"}
	for d := time.Sunday; d <= time.Saturday; d++ {
		name := strings.ToLower(d.String())
		if text == name {
			return Every{Weekly: true, Weekday: d}
		}
		words = append(words, name)
	}
	if text != "daily" && text != "month_end" {
		r.Fail(n, "cut_offs: %q; give daily, month_end or a day of the week%s", text, rules.Suggest(text, words))
	}
	return Every{Monthly: text == "month_end"}
}

func (r *reader) calendar(n rules.Node) *Calendar {
	name := r.Text(n, "calendar")
	c := r.terms.Calendars[name]
	if c == nil {
		if len(r.terms.Calendars) > 0 { // else that has been said
			r.Fail(n, "there is no calendar %q%s", name, rules.Suggest(name, slices.Sorted(maps.Keys(r.terms.Calendars))))
		}
		return &Calendar{Name: name, Location: time.UTC, CutOff: endOfDay} // what is read on is refused in the end
	}
	return c
}

// merchant reads terms and returns how many of their keys could not be read.
func (r *reader) merchant(n rules.Node, m *Merchant) (misspelt int) {
	var cutOff rules.Node
	before := r.Count()
	keys := r.Mapping(n, "a merchant's terms", []string{"calendar", "cut_off", "cut_offs", "cycle", "convention", "minimum", "reserve", "payout"})
	misspelt = r.Count() - before
	for _, e := range keys {
		switch {
		case r.schedule(e, &m.CutOffs, &m.After):
		case e.Key == "cut_off":
			cutOff = e.Value
		case e.Key == "convention":
			m.Convention = r.conventionOf(e.Value)
		case e.Key == "minimum":
			m.Minimum = r.amounts(e.Value, "minimum", m.Minimum)
		case e.Key == "reserve":
			r.reserve(e.Value, m)
		default:
			r.payout(e.Value, m)
		}
	}
	if cutOff != nil { // after the calendar, whose own it replaces
		m.CutOffs.Minutes = r.clock(cutOff)
	}
	return misspelt
}

func (r *reader) reserve(n rules.Node, m *Merchant) {
	before, said := r.Count(), false
	keys := r.Mapping(n, "reserve", []string{"rate", "days"})
	misspelt := r.Count() - before
	for _, e := range keys {
		if e.Key == "days" {
			said = true
			m.Held = int(r.Integer(e.Value, "days", 1, MaxReserveDays))
			continue
		}
		var err error
		if m.Reserve, err = events.ParseRate(r.Text(e.Value, "rate")); err != nil {
			r.Fail(e.Value, "reserve: %v", err)
		}
	}
	if m.Reserve > 0 && m.Held == 0 && !said {
		r.Lacks(n, 1, misspelt, "reserve: say how long it is held: {rate: %q, days: 180}", events.FormatRate(m.Reserve))
	}
}

func (r *reader) payout(n rules.Node, m *Merchant) {
	for _, e := range r.Mapping(n, "payout", []string{"channel", "method", "calendar", "account", "bic", "holder"}) {
		switch e.Key {
		case "channel":
			m.PaidBy = r.word(e.Value, "channel", events.MaxWordBytes)
		case "method":
			text := r.Text(e.Value, "method")
			var ok bool
			if m.Method, ok = payments.ParseMethod(text); !ok || m.Method == eventsv1.PaymentMethod_PAYMENT_METHOD_UNSPECIFIED {
				r.Fail(e.Value, "method: %q is none%s", text, rules.Suggest(text, []string{"wallet", "card", "bank_transfer", "quick_pay"}))
			}
		case "calendar":
			m.Bank = r.calendar(e.Value)
		default:
			r.accountField(e, &m.Account)
		}
	}
}

func (r *reader) account(n rules.Node, what string) (a Account) {
	for _, e := range r.Mapping(n, what, []string{"holder", "account", "bic"}) {
		r.accountField(e, &a)
	}
	return a
}

var bicText = regexp.MustCompile(`^[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?$`)

func (r *reader) accountField(e rules.Entry, a *Account) {
	switch e.Key {
	case "holder":
		if a.Holder = r.Text(e.Value, "holder"); len([]rune(a.Holder)) > 140 {
			r.Fail(e.Value, "holder: more than 140 characters")
		}
	case "account":
		text := strings.ReplaceAll(r.word(e.Value, "account", 34), " ", "")
		if ibanShape.MatchString(text) && !iban(text) {
			r.Fail(e.Value, "account: %s looks like an IBAN and its check digits are wrong", text)
		}
		a.Number = text
	case "bic":
		if a.BIC = r.Text(e.Value, "bic"); !bicText.MatchString(a.BIC) {
			r.Fail(e.Value, "bic: %q is no BIC of 8 or 11 characters, such as DEUTDEFF", a.BIC)
		}
	}
}

func (r *reader) word(n rules.Node, what string, most int) string {
	text := r.Text(n, what)
	if text == "" || len(text) > most {
		r.Fail(n, "%s: 1 to %d bytes", what, most)
	}
	return text
}

var ibanShape = regexp.MustCompile(`^[A-Z]{2}\d{2}[A-Z0-9]{11,30}$`)

// iban checks the check digits of ISO 13616: the country and they at the end, letters from 10, the rest by 97 is 1.
func iban(text string) bool {
	if !ibanShape.MatchString(text) {
		return false
	}
	rest := 0
	for _, c := range text[4:] + text[:4] {
		if c >= 'A' {
			rest = (rest*100 + int(c-'A') + 10) % 97
		} else {
			rest = (rest*10 + int(c-'0')) % 97
		}
	}
	return rest == 1
}

// channel reads terms and returns how many of their keys could not be read.
func (r *reader) channel(n rules.Node, c *Channel) (misspelt int) {
	var cutOff rules.Node
	before := r.Count()
	keys := r.Mapping(n, "a channel's terms", []string{"calendar", "cut_off", "cut_offs", "cycle", "fee", "pays"})
	misspelt = r.Count() - before
	for _, e := range keys {
		switch {
		case r.schedule(e, &c.CutOffs, &c.After):
		case e.Key == "cut_off":
			cutOff = e.Value
		case e.Key == "pays":
			if text := r.Text(e.Value, "pays"); text != "net" && text != "gross" {
				r.Fail(e.Value, "pays: %q; give net (it keeps its fee) or gross (it bills it)", text)
			} else {
				c.Gross = text == "gross"
			}
		default:
			for _, f := range r.Mapping(e.Value, "fee", []string{"basis_points", "fixed"}) {
				if f.Key == "fixed" {
					c.Fixed = r.amounts(f.Value, "fixed", c.Fixed)
				} else {
					c.Points = r.Integer(f.Value, "basis_points", 0, payments.BasisPoint)
				}
			}
		}
	}
	if cutOff != nil {
		c.CutOffs.Minutes = r.clock(cutOff)
	}
	return misspelt
}

// amounts reads an amount for each of some currencies.
func (r *reader) amounts(n rules.Node, what string, into map[events.Currency]int64) map[events.Currency]int64 {
	if into == nil {
		into = map[events.Currency]int64{}
	}
	for _, e := range r.Mapping(n, what, nil) {
		c, ok := events.ParseCurrency(e.Key)
		if !ok {
			r.Fail(e.At, "%s: %q is no currency of ISO 4217 the house knows; write %s: {CNY: \"1.00\"}", what, e.Key, what)
			continue
		}
		amount, err := events.ParseAmount(r.Text(e.Value, what), c)
		if err != nil {
			r.Fail(e.Value, "%s: %v", what, err)
		}
		into[c] = amount
	}
	return into
}
