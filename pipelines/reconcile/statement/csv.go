package statement

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/transform"

	"sluice/pipelines/reconcile"
	"sluice/schemas/events"
)

// csvFile is a CSV statement being read.
type csvFile struct {
	summary
	file     string
	profile  *Profile
	budget   *budget
	csv      *csv.Reader
	skipped  int // lines above what csv reads
	columns  columnIndices
	balances map[events.Currency]*running
	mistakes []error
	layout   string
}

// columnIndices are where a line's fields are; -1: nowhere.
type columnIndices struct {
	reference, date, valueDate, amount, debit, credit, sign, currency, fee, text, balance int
}

// running is the balance as it goes from line to line.
type running struct {
	Balance
	last, lastAmount int64
}

func readCSV(file string, r *bufio.Reader, p *Profile, yield func(Line) error) (Summary, error) {
	f := &csvFile{file: file, profile: p, balances: map[events.Currency]*running{}, layout: p.layout}
	f.Format, f.yield = "csv", yield
	if err := p.checkCSV(); err != nil {
		return f.Summary, &Mistake{File: p.Name, Message: err.Error()}
	}
	if err := f.open(r); err != nil {
		return f.Summary, err
	}
	for {
		more, err := f.next()
		if err != nil {
			return f.Summary, err
		}
		if !more || len(f.mistakes) >= maxTold {
			break
		}
	}
	for _, b := range f.balances {
		f.Balances = append(f.Balances, b.Balance)
	}
	slices.SortFunc(f.Balances, func(a, b Balance) int { return cmp.Compare(a.Currency, b.Currency) })
	return f.Summary, errors.Join(f.mistakes...)
}

// open skips what is above the lines and finds the columns.
func (f *csvFile) open(r io.Reader) error {
	e, err := findEncoding(f.profile.Encoding)
	if err != nil {
		return &Mistake{File: f.file, Message: err.Error()}
	}
	if e != nil {
		r = transform.NewReader(r, e.NewDecoder())
	}
	f.budget = &budget{r: r, left: maxRecord}
	lines := bufio.NewReader(f.budget)
	if head, _ := lines.Peek(3); bytes.Equal(head, []byte("\xef\xbb\xbf")) {
		_, _ = lines.Discard(3)
	}
	for f.skipped < f.profile.Skip {
		f.budget.reset()
		if _, err := lines.ReadSlice('\n'); err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return &Mistake{File: f.file, Line: f.skipped + 1, Message: fmt.Sprintf("the file ends within the %d lines that skip: leaves out", f.profile.Skip)}
		} else if err == nil {
			f.skipped++
		}
	}
	f.budget.reset()
	f.csv = csv.NewReader(lines)
	f.csv.Comma, f.csv.FieldsPerRecord, f.csv.ReuseRecord, f.csv.TrimLeadingSpace = f.profile.delimiter, -1, true, f.profile.delimiter != '\t'
	return f.findColumns()
}

// findColumns reads the line of column names, unless columns are numbers.
func (f *csvFile) findColumns() error {
	var names []string
	c := &f.profile.Columns
	if _, err := strconv.Atoi(c.Date); err != nil {
		record, err := f.csv.Read()
		if err != nil {
			return f.broken(err)
		}
		for _, n := range record {
			names = append(names, strings.Clone(clean(n)))
		}
	}
	for _, x := range []struct {
		name, key string
		to        *int
	}{
		{c.Reference, "reference", &f.columns.reference}, {c.Date, "date", &f.columns.date}, {c.ValueDate, "value_date", &f.columns.valueDate},
		{c.Amount, "amount", &f.columns.amount}, {c.Debit, "debit", &f.columns.debit}, {c.Credit, "credit", &f.columns.credit},
		{c.Sign, "sign", &f.columns.sign}, {c.Currency, "currency", &f.columns.currency}, {c.Fee, "fee", &f.columns.fee},
		{c.Text, "text", &f.columns.text}, {c.Balance, "balance", &f.columns.balance},
	} {
		if *x.to = find(names, x.name); *x.to == absent {
			return &Mistake{File: f.file, Line: f.skipped + 1, Column: 1, Message: fmt.Sprintf(
				"there is no column %q, which the profile %s has as %s; there are %.300q (skip: and delimiter: say where and how they stand)", x.name, f.profile.Name, x.key, names)}
		}
	}
	return nil
}

const (
	unwanted = -1 // the profile names no such column
	absent   = -2 // the file has no such column
)

// find returns the index of a column by its name or number.
func find(names []string, name string) int {
	if name == "" {
		return unwanted
	}
	for i, n := range names {
		if strings.EqualFold(n, name) {
			return i
		}
	}
	if n, err := strconv.Atoi(name); err == nil && n >= 1 && n <= maxColumns && (names == nil || n <= len(names)) {
		return n - 1
	}
	return absent
}

// maxColumns bounds a column's number.
const maxColumns = 1000

// broken is the error of what is not CSV.
func (f *csvFile) broken(err error) error {
	var bad *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return &Mistake{File: f.file, Message: "it has no line of column names"}
	case errors.As(err, &bad):
		return &Mistake{File: f.file, Line: f.skipped + bad.Line, Column: bad.Column, Message: bad.Err.Error() + "; write a quote within a text as \"\", and see whether delimiter: is right"}
	}
	return &Mistake{File: f.file, Message: err.Error()}
}

// next reads one line; false at the end. Mistakes are noted; an error ends the reading.
func (f *csvFile) next() (bool, error) {
	f.budget.reset()
	record, err := f.csv.Read()
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, errors.Join(append(f.mistakes, f.broken(err))...)
	}
	line, _ := f.csv.FieldPos(0)
	if f.profile.ignore != nil && f.profile.ignore.MatchString(strings.Join(record, string(f.profile.delimiter))) {
		f.Ignored++
		return true, nil
	}
	l := Line{Position: line + f.skipped}
	column, err := f.fill(&l, record)
	if err != nil {
		m := &Mistake{File: f.file, Line: l.Position, Message: err.Error()}
		if column >= 0 && column < len(record) {
			m.Line, m.Column = f.csv.FieldPos(column)
			m.Line += f.skipped
		}
		f.mistakes = append(f.mistakes, m)
		return true, nil
	}
	if l.Amount == 0 && l.Fee == 0 {
		f.Ignored++
		return true, nil
	}
	if err := f.add(l); err != nil {
		return false, fmt.Errorf("%s:%d: %w", f.file, l.Position, err)
	}
	return true, nil
}

// fill reads the fields of a line; an error comes with the column it is in.
func (f *csvFile) fill(l *Line, record []string) (column int, err error) {
	c := &f.columns
	need := max(c.reference, c.date, c.valueDate, c.amount, c.debit, c.credit, c.sign, c.currency, c.fee, c.text, c.balance)
	if need >= len(record) {
		return -1, fmt.Errorf("%d columns where the profile needs %d; if the line is no payment, let ignore: name it", len(record), need+1)
	}
	for i, s := range record {
		if !utf8.ValidString(s) {
			return i, errors.New("it is not UTF-8; name the file's encoding in the profile, such as encoding: gbk")
		}
	}
	at := func(column int) string {
		if column < 0 {
			return ""
		}
		return clean(record[column])
	}
	l.Currency = f.profile.currency
	if text := at(c.currency); text != "" {
		var ok bool
		if l.Currency, ok = events.ParseCurrency(text); !ok {
			return c.currency, fmt.Errorf("%.20q is no currency of ISO 4217 the house knows", text)
		}
	}
	if l.Currency == (events.Currency(0)) {
		return c.currency, errors.New("there is no currency; give currency: in the profile for lines without one")
	}
	if l.Date, err = f.day(at(c.date)); err != nil {
		return c.date, err
	}
	if text := at(c.valueDate); text != "" {
		if l.ValueDate, err = f.day(text); err != nil {
			return c.valueDate, err
		}
	}
	if column, err = f.amounts(l, at); err != nil {
		return column, err
	}
	if err := f.profile.finish(l, []string{at(c.reference)}, at(c.text)); err != nil {
		return c.reference, err
	}
	return c.balance, f.balance(l, at(c.balance))
}

func (f *csvFile) day(text string) (reconcile.Day, error) {
	t, err := time.Parse(f.layout, text)
	d := reconcile.DayOf(t)
	if err != nil || d < reconcile.FirstDay || d > reconcile.LastDay {
		format := f.profile.DateFormat
		if format == "" {
			format = "YYYY-MM-DD"
		}
		return 0, fmt.Errorf("%.40q is no date written as %s, which the profile says; correct the line, or date_format: in the profile", text, format)
	}
	return d, nil
}

// amounts reads a line's amount and fee.
func (f *csvFile) amounts(l *Line, at func(int) string) (column int, err error) {
	c := &f.columns
	switch {
	case c.amount >= 0:
		if l.Amount, err = f.profile.amount(at(c.amount), l.Currency); err != nil {
			return c.amount, err
		}
	case at(c.debit) != "":
		if l.Amount, err = f.profile.amount(at(c.debit), l.Currency); err != nil {
			return c.debit, err
		}
		l.Amount = -abs(l.Amount)
		fallthrough
	default:
		credit := int64(0)
		if text := at(c.credit); text != "" {
			if credit, err = f.profile.amount(text, l.Currency); err != nil {
				return c.credit, err
			}
		} else if at(c.debit) == "" {
			return c.credit, errors.New("there is neither a debit nor a credit; if the line is no payment, let ignore: name it")
		}
		if l.Amount != 0 && credit != 0 {
			return c.credit, errors.New("there is both a debit and a credit")
		}
		l.Amount += credit
	}
	if c.sign >= 0 {
		sign, ok := f.profile.sign[strings.ToLower(at(c.sign))]
		if !ok {
			return c.sign, fmt.Errorf("%.20q is neither in debit: nor in credit: of the profile", at(c.sign))
		}
		l.Amount = abs(l.Amount) * sign
	}
	if text := at(c.fee); text != "" {
		if l.Fee, err = f.profile.amount(text, l.Currency); err != nil {
			return c.fee, err
		}
		l.Fee = abs(l.Fee)
		if f.profile.Amounts == "gross" {
			l.Amount -= l.Fee
		}
	}
	return max(c.amount, c.credit), withinRange(l)
}

// balance holds the line's balance against the one before.
func (f *csvFile) balance(l *Line, text string) error {
	if text == "" {
		return nil
	}
	stated, err := f.profile.amount(text, l.Currency)
	if err != nil {
		return err
	}
	b := f.balances[l.Currency]
	newest := f.profile.Order == "newest_first"
	if b == nil {
		b = &running{Balance: Balance{Currency: l.Currency, Opening: stated - l.Amount, Closing: stated}}
		f.balances[l.Currency] = b
	} else {
		want := b.last + l.Amount
		if newest {
			want = b.last - b.lastAmount
		}
		if stated != want {
			return fmt.Errorf("the balance is %s, but the line before makes it %s: a line is missing, twice or changed; get the statement again, or correct order: in the profile",
				text, events.FormatAmount(want, l.Currency))
		}
	}
	if newest {
		b.Opening = stated - l.Amount
	} else {
		b.Closing = stated
	}
	b.last, b.lastAmount = stated, l.Amount
	return nil
}

// amount reads "1.234,50-" as the profile writes amounts. A sign stands before or after, or brackets around.
func (p *Profile) amount(text string, c events.Currency) (int64, error) {
	digits, negative := strings.TrimSpace(text), false
	if inner, ok := strings.CutPrefix(digits, "("); ok && strings.HasSuffix(inner, ")") {
		digits, negative = inner[:len(inner)-1], true
	} else {
		for _, cut := range []func(string, string) (string, bool){strings.CutPrefix, strings.CutSuffix} {
			rest, minus := cut(digits, "-")
			if !minus {
				rest, _ = cut(digits, "+")
			}
			if rest != digits {
				digits, negative = strings.TrimSpace(rest), minus
				break
			}
		}
	}
	plain, err := p.plain(digits)
	if err != nil {
		return 0, fmt.Errorf("%.40q %w", text, err)
	}
	n, err := events.ParseAmount(plain, c)
	if negative {
		n = -n
	}
	return n, err
}

// plain turns digits into what ParseAmount reads. What separates thousands must do just that: a comma that was meant as
// a decimal sign would otherwise make a hundred times the amount.
func (p *Profile) plain(digits string) (string, error) {
	whole, decimals, has := strings.Cut(digits, string(p.decimal))
	if p.thousands != 0 {
		groups := strings.Split(whole, string(p.thousands))
		for i, g := range groups {
			if len(groups) > 1 && (len(g) > 3 || len(g) == 0 || i > 0 && len(g) != 3) {
				return "", fmt.Errorf("has %q where no thousands end; correct thousands: or decimal: in the profile", p.thousands)
			}
		}
		whole = strings.Join(groups, "")
	}
	for _, s := range []string{whole, decimals} {
		if strings.Trim(s, "0123456789") != "" {
			return "", fmt.Errorf("is no amount with the decimal sign %q; correct the line, or decimal: and thousands: in the profile", p.decimal)
		}
	}
	switch {
	case whole == "" && decimals == "":
		return "", errors.New("is no amount")
	case !has || decimals == "":
		return whole, nil
	case whole == "":
		whole = "0"
	}
	return whole + "." + decimals, nil
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}
