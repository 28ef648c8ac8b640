package rules

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"sluice/schemas/events"
)

// The keys of a ruleset's parts, as they are documented.
var (
	rulesetKeys    = []string{"ruleset", "version", "conversion", "aggregates", "models", "rules", "reasons", "outcomes"}
	aggregateKeys  = []string{"of", "where", "by", "for", "window", "delay", "hops"}
	ruleKeys       = []string{"id", "on", "when", "missing", "then", "brake"}
	thenKeys       = []string{"score", "reason", "say", "verdict", "block"}
	brakeKeys      = []string{"share", "window", "after"}
	conversionKeys = []string{"to", "as_of", "rates"}
	audiences      = []string{"customer", "analyst"}
	languages      = []string{"en", "zh"}
	verdictNames   = []string{events.Approve.String(), events.Review.String(), events.Decline.String()}
)

const (
	// defaultHops is the longest cycle looked for where none is said.
	defaultHops = 4
	// maxAfter bounds the events a brake waits for: a day of a large house.
	maxAfter = 1_000_000_000
	// maxRateDigits bounds the digits of an exchange rate, so that its product with an ordinary amount fits 18 digits.
	maxRateDigits = 9
)

var plainDecimal = regexp.MustCompile(`^(0|[1-9][0-9]{0,8})(\.[0-9]{1,12})?$`)

// word reads one of a few words and returns which, 0 after a mistake.
func (d *document) word(n ast.Node, what string, words []string) int {
	word := d.text(n, what)
	i := slices.Index(words, word)
	if i < 0 {
		d.fail(n, "%s: %q is not understood%s", what, word, suggest(word, words))
	}
	return max(i, 0)
}

// decimal reads a number that is not negative, exactly as it is written.
func (d *document) decimal(n ast.Node, what string) (Decimal, bool) {
	text, _ := scalar(n)
	text = strings.TrimSpace(text)
	if !plainDecimal.MatchString(text) {
		d.fail(n, "%s: %q is no plain number, such as 0.05", what, text)
		return Decimal{}, false
	}
	whole, decimals, _ := strings.Cut(text, ".")
	digits := strings.TrimLeft(whole+decimals, "0")
	if len(digits) > maxLiteralDigits {
		d.fail(n, "%s: %s has more than %d digits", what, text, maxLiteralDigits)
		return Decimal{}, false
	}
	c, _ := strconv.ParseInt("0"+digits, 10, 64)
	return Decimal{c, uint8(len(decimals))}, true
}

// conversion reads {to: CNY, as_of: 2026-11-01, rates: {USD: 7.1023}}.
func (l *loader) conversion(n ast.Node) {
	if n == nil {
		return
	}
	c := &Conversion{}
	var rates ast.Node
	dated := false
	for _, e := range l.mapping(n, "conversion", conversionKeys) {
		switch e.key {
		case "to":
			c.To = l.currency(e.value, l.text(e.value, "to"))
		case "as_of":
			text := l.text(e.value, "as_of")
			day, err := time.Parse(time.DateOnly, text)
			if err != nil {
				l.fail(e.value, "as_of: %q is no day; write it as 2026-11-01", text)
			}
			c.AsOf, dated = day, true
		case "rates":
			rates = e.value
		}
	}
	if c.To == 0 || !dated || rates == nil {
		l.fail(n, "conversion: needs to: (a currency), as_of: (the day of the rates) and rates:")
		return
	}
	c.rates[c.To] = Int(1)
	for _, e := range l.mapping(rates, "rates", nil) {
		of := l.currency(e.at, e.key)
		rate, ok := l.decimal(e.value, e.key)
		switch {
		case of == 0 || !ok:
		case of == c.To:
			l.fail(e.at, "%s is what everything is converted to; leave it out", e.key)
		case rate.Coefficient == 0:
			l.fail(e.value, "%s: a rate is greater than zero", e.key)
		case rate.trim().Coefficient > int64(powersOfTen[maxRateDigits]):
			l.fail(e.value, "%s: the rate has more than %d digits; round it", e.key, maxRateDigits)
		default:
			c.rates[of] = rate.trim()
		}
	}
	l.ruleset.Conversion = c
}

func (l *loader) currency(n ast.Node, code string) events.Currency {
	c, ok := events.ParseCurrency(code)
	if !ok {
		l.fail(n, "%q is no ISO 4217 currency the house knows; write a code such as CNY", code)
	}
	return c
}

// reasons reads what each reason code says, to customers and analysts, in each language.
func (l *loader) reasons(n ast.Node) {
	entries := l.mapping(n, "reasons", nil)
	if len(entries) == 0 {
		return
	}
	l.at.reasons = make(map[string]ast.Node, len(entries))
	l.ruleset.Reasons = make(map[string]Reason, len(entries))
	for _, e := range entries {
		r := Reason{}
		for _, a := range l.mapping(e.value, "reason "+e.key, audiences) {
			if a.key == "customer" {
				r.Customer = l.languages(a)
			} else {
				r.Analyst = l.languages(a)
			}
		}
		if r.Customer == nil || r.Analyst == nil {
			l.fail(e.at, "reason %s needs customer: and analyst:, each with %s", e.key, strings.Join(languages, " and "))
		}
		l.ruleset.Reasons[e.key] = r
		l.at.reasons[e.key] = e.at
	}
}

func (l *loader) languages(of entry) map[string]string {
	texts := map[string]string{}
	for _, e := range l.mapping(of.value, of.key, languages) {
		text := l.text(e.value, e.key)
		if text == "" || len(text) > maxSay {
			l.fail(e.value, "%s: a sentence of 1 to %d bytes", e.key, maxSay)
		}
		texts[e.key] = text
	}
	for _, language := range languages {
		if _, ok := texts[language]; !ok {
			l.fail(of.at, "%s: has no %s; both languages are needed", of.key, language)
		}
	}
	return texts
}

// brake reads {share: 0.05, window: 1h, after: 200}.
func (l *loader) brake(r *Rule, n ast.Node) {
	if n == nil {
		return
	}
	b := &Brake{}
	found := 0
	for _, e := range l.mapping(n, "brake", brakeKeys) {
		found++
		switch e.key {
		case "share":
			var ok bool
			if b.Share, ok = l.decimal(e.value, "share"); ok && (b.Share.Coefficient == 0 || b.Share.Compare(Int(1)) >= 0) {
				l.fail(e.value, "share: is more than 0 and less than 1: 0.05 is 5 %% of the events asked about")
			}
		case "window":
			b.Window = l.window(e.value, "window")
		case "after":
			b.After = l.integer(e.value, "after", 1, maxAfter)
		}
	}
	switch {
	case found < len(brakeKeys):
		l.fail(n, "brake: needs share:, window: and after:, as in {share: 0.05, window: 1h, after: 200}")
	case r.Score <= 0 && r.Verdict != events.Decline:
		l.fail(n, "brake: the rule cannot cause a decline; a brake needs a positive score: or verdict: decline")
	}
	r.Brake = b
}

// keys reads by: and for:. A cycle of money is always kept by who receives it and read for who sends it.
func (l *loader) keys(a *Aggregate, by, as ast.Node) {
	if a.Func == Cycle {
		a.By, a.For = Key{First: Counterparty}, Key{First: Customer}
		if by != nil && l.key(by, "by") != a.By {
			l.fail(by, "by: a cycle is kept by counterparty; leave by: out")
		}
		if as != nil && l.key(as, "for") != a.For {
			l.fail(as, "for: a cycle is read for the customer; leave for: out")
		}
		return
	}
	a.By = l.key(by, "by")
	a.For = a.By
	if as == nil {
		return
	}
	if a.For = l.key(as, "for"); (a.For.Second == NoField) != (a.By.Second == NoField) {
		l.fail(as, "for: has as many fields as by:")
	}
}

// delay reads how long before the event a window ends.
func (l *loader) delay(a *Aggregate, n ast.Node) {
	if n == nil {
		return
	}
	switch a.Delay = l.window(n, "delay"); {
	case a.Func == Since || a.Func == Age || a.Func == Cycle:
		l.fail(n, "delay: %s looks at the newest events; leave delay: out", a.Func)
	case a.Window+a.Delay > MaxWindow:
		l.fail(n, "delay: with the window it looks back more than 30d, which is as far as aggregates do")
	}
}

// hops reads the longest cycle looked for.
func (l *loader) hops(a *Aggregate, n, at ast.Node) {
	switch {
	case a.Func == Cycle && n == nil:
		a.Hops = defaultHops
	case a.Func == Cycle:
		a.Hops = int(l.integer(n, "hops", MinHops, MaxHops))
	case n != nil:
		l.fail(n, "hops: is for cycle; leave it out")
	}
}
