package statement

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"sluice/pipelines/reconcile"
	"sluice/schemas/events"
)

// maxProfile bounds a profile's file, in bytes.
const maxProfile = 64 << 10

// Profile says how a channel's statements are written, and what counts as the same. docs/reconciliation.md has an example.
type Profile struct {
	Name       string   `yaml:"profile"`
	Encoding   string   `yaml:"encoding"`    // "": UTF-8
	Delimiter  string   `yaml:"delimiter"`   // one character; "": ","
	Skip       int      `yaml:"skip"`        // lines above the column names, or above the first line if columns are numbers
	Columns    Columns  `yaml:"columns"`     // a name, or a number from 1
	DateFormat string   `yaml:"date_format"` // of YYYY, YY, MM, DD, hh, mm, ss and what stands between; "": YYYY-MM-DD
	Decimal    string   `yaml:"decimal"`     // "": "."
	Thousands  string   `yaml:"thousands"`   // "": none
	Debit      []string `yaml:"debit"`       // what the column sign says of money that leaves the house
	Credit     []string `yaml:"credit"`      // and of money that comes
	Currency   string   `yaml:"currency"`    // where no column says it
	Amounts    string   `yaml:"amounts"`     // "net" of the fee, which is what the account moved by; or "gross". "": net
	Order      string   `yaml:"order"`       // of the lines, for the balance: "oldest_first" or "newest_first". "": oldest_first
	Reference  string   `yaml:"reference"`   // regular expression: its group, or all of it, is the reference
	Collective string   `yaml:"collective"`  // regular expression on reference and text: the line stands for several payments
	Ignore     string   `yaml:"ignore"`      // regular expression on the line, such as of a total
	TimeZone   string   `yaml:"time_zone"`   // in which the book's moments become the channel's days; "": UTC

	Tolerance Tolerance `yaml:"tolerance"`

	delimiter, decimal, thousands rune
	layout                        string
	currency                      events.Currency
	location                      *time.Location
	reference, collective, ignore *regexp.Regexp
	sign                          map[string]int64
}

// Columns are a line's fields; "" is none. Date must be there, and Amount or both Debit and Credit.
type Columns struct {
	Reference string `yaml:"reference"`
	Date      string `yaml:"date"`
	ValueDate string `yaml:"value_date"`
	Amount    string `yaml:"amount"`
	Debit     string `yaml:"debit"`  // amounts that leave the house, in a column of their own
	Credit    string `yaml:"credit"` // amounts that come
	Sign      string `yaml:"sign"`
	Currency  string `yaml:"currency"`
	Fee       string `yaml:"fee"`
	Text      string `yaml:"text"`
	Balance   string `yaml:"balance"` // of the account after the line
}

// Tolerance is what counts as the same.
type Tolerance struct {
	Amount    string `yaml:"amount"`     // major units by which amounts may differ, "0.01"
	Days      *int   `yaml:"days"`       // by which dates may differ; default DefaultDays
	FeePoints int64  `yaml:"fee"`        // basis points a channel may keep without saying so
	GroupDays *int   `yaml:"group_days"` // days before a payout in which its payments may stand; default DefaultGroupDays
}

// The tolerances of a profile that states none.
const (
	DefaultDays      = 2
	DefaultGroupDays = 5
)

// ParseProfile reads a profile from YAML. A Mistake says what is wrong.
func ParseProfile(file string, data []byte) (p *Profile, err error) {
	defer func() {
		if r := recover(); r != nil { // the parser is not ours: what it stumbles over cannot be read
			p, err = nil, &Mistake{File: file, Message: "it is not YAML that can be read"}
		}
	}()
	if len(data) > maxProfile {
		return nil, &Mistake{File: file, Message: fmt.Sprintf("it has %d bytes; a profile has at most %d", len(data), maxProfile)}
	}
	p = &Profile{}
	if err := yaml.UnmarshalWithOptions(data, p, yaml.Strict()); err != nil {
		return nil, yamlMistake(file, err)
	}
	if err := p.compile(); err != nil {
		return nil, &Mistake{File: file, Message: err.Error()}
	}
	return p, nil
}

// yamlMistake finds the place in an error of the YAML parser.
func yamlMistake(file string, err error) error {
	m := &Mistake{File: file, Message: strings.Join(strings.Fields(err.Error()), " ")}
	var placed yaml.Error
	if errors.As(err, &placed) {
		m.Message = placed.GetMessage()
		if t := placed.GetToken(); t != nil && t.Position != nil {
			m.Line, m.Column = t.Position.Line, t.Position.Column
		}
	}
	m.Message += "; docs/reconciliation.md shows a profile"
	return m
}

// compile checks the profile and prepares it.
func (p *Profile) compile() error {
	if p.Name == "" {
		return errors.New("it has no name: begin it with profile: NAME")
	}
	for _, f := range []func() error{p.compileText, p.compileAmounts, p.compilePatterns, p.compileTolerance} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Profile) compileText() error {
	if _, err := findEncoding(p.Encoding); err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	if p.Skip < 0 || p.Skip > maxSkip {
		return fmt.Errorf("skip: %d; give 0 to %d", p.Skip, maxSkip)
	}
	var err error
	if p.delimiter, err = one("delimiter", p.Delimiter, ','); err != nil {
		return err
	}
	if strings.ContainsRune("\"\r\n\uFFFD", p.delimiter) {
		return fmt.Errorf("delimiter: %q cannot separate columns", p.Delimiter)
	}
	if p.layout, err = layout(p.DateFormat); err != nil {
		return err
	}
	if p.location, err = time.LoadLocation(p.TimeZone); err != nil {
		return fmt.Errorf("time_zone: there is no %q; give a name such as Asia/Shanghai", p.TimeZone)
	}
	return nil
}

// maxSkip bounds the lines above the column names.
const maxSkip = 1000

func one(key, text string, otherwise rune) (rune, error) {
	r := []rune(text)
	switch len(r) {
	case 0:
		return otherwise, nil
	case 1:
		return r[0], nil
	}
	return 0, fmt.Errorf("%s: %q is not one character", key, text)
}

// layout turns "DD.MM.YYYY" into what package time reads.
func layout(format string) (string, error) {
	if format == "" {
		format = "YYYY-MM-DD"
	}
	l := strings.NewReplacer("YYYY", "2006", "YY", "06", "MM", "01", "DD", "02", "hh", "15", "mm", "04", "ss", "05").Replace(format)
	sample := time.Date(2031, 11, 23, 0, 0, 0, 0, time.UTC)
	if back, err := time.Parse(l, sample.Format(l)); err != nil || !back.Equal(sample) {
		return "", fmt.Errorf("date_format: %q does not say day, month and year; write it with YYYY, MM and DD, such as DD.MM.YYYY", format)
	}
	return l, nil
}

func (p *Profile) compileAmounts() error {
	var err error
	if p.decimal, err = one("decimal", p.Decimal, '.'); err != nil {
		return err
	}
	if p.thousands, err = one("thousands", p.Thousands, 0); err != nil {
		return err
	}
	if p.decimal == p.thousands {
		return fmt.Errorf("thousands: %q is the decimal sign too", p.Thousands)
	}
	if p.Currency != "" {
		var ok bool
		if p.currency, ok = events.ParseCurrency(p.Currency); !ok {
			return fmt.Errorf("currency: %q is no currency of ISO 4217 the house knows", p.Currency)
		}
	}
	if p.Amounts != "" && p.Amounts != "net" && p.Amounts != "gross" {
		return fmt.Errorf("amounts: %q; give net or gross", p.Amounts)
	}
	if p.Order != "" && p.Order != "oldest_first" && p.Order != "newest_first" {
		return fmt.Errorf("order: %q; give oldest_first or newest_first", p.Order)
	}
	p.sign = map[string]int64{}
	for _, w := range p.Debit {
		p.sign[strings.ToLower(w)] = -1
	}
	for _, w := range p.Credit {
		if p.sign[strings.ToLower(w)] != 0 {
			return fmt.Errorf("credit: %q is in debit too", w)
		}
		p.sign[strings.ToLower(w)] = 1
	}
	return nil
}

func (p *Profile) compilePatterns() error {
	for _, x := range []struct {
		key, text string
		to        **regexp.Regexp
	}{{"reference", p.Reference, &p.reference}, {"collective", p.Collective, &p.collective}, {"ignore", p.Ignore, &p.ignore}} {
		if x.text == "" {
			continue
		}
		compiled, err := regexp.Compile(x.text)
		if err != nil {
			return fmt.Errorf("%s: %w", x.key, err)
		}
		*x.to = compiled
	}
	if p.reference != nil && p.reference.NumSubexp() > 1 {
		return fmt.Errorf("reference: %d groups; mark the reference with one pair of parentheses, or with none; (?:…) groups without marking", p.reference.NumSubexp())
	}
	return nil
}

func (p *Profile) compileTolerance() error {
	t := &p.Tolerance
	for _, x := range []struct {
		key string
		n   *int
	}{{"days", t.Days}, {"group_days", t.GroupDays}} {
		if x.n != nil && (*x.n < 0 || *x.n > reconcile.MaxWindow) {
			return fmt.Errorf("tolerance: %s: %d; give 0 to %d", x.key, *x.n, reconcile.MaxWindow)
		}
	}
	const whole = 10_000 // basis points
	if t.FeePoints < 0 || t.FeePoints > whole {
		return fmt.Errorf("tolerance: fee: %d; give 0 to %d basis points", t.FeePoints, whole)
	}
	if t.Amount != "" {
		if _, err := strconv.ParseFloat(t.Amount, 64); err != nil || strings.Trim(t.Amount, "0123456789.") != "" {
			return fmt.Errorf("tolerance: amount: %q is no amount, such as 0.01", t.Amount)
		}
	}
	return nil
}

// checkCSV checks what CSV alone needs.
func (p *Profile) checkCSV() error {
	c := &p.Columns
	switch {
	case c.Date == "":
		return errors.New("columns: there is no date")
	case c.Amount == "" && (c.Debit == "" || c.Credit == ""):
		return errors.New("columns: there is no amount; give amount, or debit and credit")
	case c.Amount != "" && (c.Debit != "" || c.Credit != ""):
		return errors.New("columns: amount and debit or credit; give amount, or debit and credit")
	case c.Sign != "" && len(p.sign) == 0:
		return errors.New("columns: sign needs the words it has, in debit: and credit: of the profile")
	case c.Currency == "" && p.Currency == "":
		return errors.New("there is no currency; give currency: CNY, or the column in columns")
	case c.Reference == "" && (p.reference == nil || c.Text == ""):
		return errors.New("columns: there is no reference; give one, or text and reference: with a regular expression that finds it there")
	}
	return nil
}

// Location is the time zone of the channel's days; UTC for a nil profile.
func (p *Profile) Location() *time.Location {
	if p == nil || p.location == nil {
		return time.UTC
	}
	return p.location
}

// Window is how many days two dates may be apart, at most.
func (p *Profile) Window() int {
	days, group := DefaultDays, DefaultGroupDays
	if p != nil && p.Tolerance.Days != nil {
		days = *p.Tolerance.Days
	}
	if p != nil && p.Tolerance.GroupDays != nil {
		group = *p.Tolerance.GroupDays
	}
	return max(days, group)
}

// Options returns what counts as the same in a currency. A nil profile has the defaults. One tolerance is for all
// currencies of a statement: where one has fewer decimals, what is less than its minor unit is left out.
func (p *Profile) Options(c events.Currency) (reconcile.Options, error) {
	o := reconcile.Options{Days: DefaultDays, GroupDays: DefaultGroupDays}
	if p == nil {
		return o, nil
	}
	if p.Tolerance.Days != nil {
		o.Days = *p.Tolerance.Days
	}
	if p.Tolerance.GroupDays != nil {
		o.GroupDays = *p.Tolerance.GroupDays
	}
	o.FeePoints = p.Tolerance.FeePoints
	if p.Tolerance.Amount != "" {
		var err error
		if o.Amount, err = events.ParseAmount(cutDecimals(p.Tolerance.Amount, c.Exponent()), c); err != nil {
			return o, fmt.Errorf("tolerance: %w", err)
		}
	}
	return o, nil
}

// cutDecimals leaves out the decimals beyond so many.
func cutDecimals(amount string, decimals int) string {
	point := strings.IndexByte(amount, '.')
	if point < 0 || len(amount)-point-1 <= decimals {
		return amount
	}
	if decimals == 0 {
		return "0" + amount[:point]
	}
	return amount[:point+1+decimals]
}
