package books

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/shopspring/decimal"
)

// table writes rows of cells for a person: the first left columns to the left, amounts to the right.
func table(w io.Writer, rows [][]string, left int) error {
	width := make([]int, 0)
	for _, row := range rows {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			if i >= left {
				cell = strings.Repeat(" ", width[i]-len([]rune(cell))) + cell
			}
			cells[i] = cell
		}
		fmt.Fprintln(t, strings.TrimRight(strings.Join(cells, "\t"), "\t "))
	}
	return t.Flush()
}

// WriteRest says how many there are beyond those a limit let through, nothing if none.
func WriteRest(w io.Writer, shown int, total int64) error {
	if int64(shown) >= total {
		return nil
	}
	_, err := fmt.Fprintf(w, "%d of %d; --limit shows more\n", shown, total)
	return err
}

// writeCSV writes rows as CSV. A text that a spreadsheet would take for a formula gets an apostrophe before it.
func writeCSV(w io.Writer, rows [][]string) error {
	c := csv.NewWriter(w)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			if strings.ContainsAny(cell[:min(len(cell), 1)], "=+-@\t\r") {
				if _, err := decimal.NewFromString(cell); err != nil {
					cell = "'" + cell
				}
			}
			cells[i] = cell
		}
		if err := c.Write(cells); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

func write(w io.Writer, rows [][]string, left int, asCSV bool) error {
	if asCSV {
		return writeCSV(w, rows)
	}
	return table(w, rows, left)
}

// WriteAccounts writes accounts as a table or CSV.
func WriteAccounts(w io.Writer, all []Account, asCSV bool) error {
	rows := [][]string{{"account", "type", "currency", "side", "balance", "held", "debits", "credits", "transfers"}}
	for _, a := range all {
		p := int32(a.exponent)
		rows = append(rows, []string{a.Name, a.Type, a.Currency, a.Normal, a.Balance.StringFixed(p), a.Held.StringFixed(p), a.Debits.StringFixed(p), a.Credits.StringFixed(p), strconv.FormatInt(a.Transfers, 10)})
	}
	return write(w, rows, 4, asCSV)
}

// Write writes the statement as a table with its opening and closing balance, or its lines as CSV.
func (s *Statement) Write(w io.Writer, asCSV bool) error {
	p := int32(s.Account.exponent)
	rows := [][]string{{"time", "transfer", "kind", "other account", "payment", "loan", "debit", "credit", "balance"}}
	if asCSV {
		rows[0][3] = "other_account"
	}
	amount := func(d decimal.Decimal) string {
		if d.IsZero() {
			return ""
		}
		return d.StringFixed(p)
	}
	for _, l := range s.Lines {
		rows = append(rows, []string{l.Time.Format("2006-01-02T15:04:05.000000Z"), strconv.FormatInt(l.Transfer, 10), l.Kind, l.Other, l.PaymentID, l.LoanID,
			amount(l.Debit), amount(l.Credit), l.Balance.StringFixed(p)})
	}
	if asCSV {
		return writeCSV(w, rows)
	}
	from, to := "the beginning", "now"
	if !s.Period.From.IsZero() {
		from = s.Period.From.Format(time.RFC3339)
	}
	if !s.Period.To.IsZero() {
		to = s.Period.To.Format(time.RFC3339)
	}
	fmt.Fprintf(w, "%s, from %s to before %s: %s at the beginning, %s at the end, in %s; it grows by %ss\n",
		s.Account.Name, from, to, s.Opening.StringFixed(p), s.Closing.StringFixed(p), s.Account.Currency, s.Account.Normal)
	if err := table(w, rows, 6); err != nil {
		return err
	}
	if int64(len(s.Lines)) < s.AllLines {
		fmt.Fprintf(w, "%d of %d lines; --page shows the others\n", len(s.Lines), s.AllLines)
	}
	return nil
}

// Write writes the trial balance as a table or CSV, the totals last.
func (t *Trial) Write(w io.Writer, asCSV bool) error {
	rows := [][]string{{"account", "currency", "debit", "credit"}}
	for _, r := range append(append([]TrialRow(nil), t.Rows...), t.Totals...) {
		p := int32(r.exponent)
		rows = append(rows, []string{r.Name, r.Currency, r.Debit.StringFixed(p), r.Credit.StringFixed(p)})
	}
	return write(w, rows, 2, asCSV)
}

// WriteClosings writes the closed periods as a table or CSV.
func WriteClosings(w io.Writer, all []Closed, asCSV bool) error {
	rows := [][]string{{"closed_before", "at", "by", "rolled_up"}}
	for _, c := range all {
		rows = append(rows, []string{c.Until.Format(time.DateOnly), c.At.Format(time.RFC3339), c.By, map[bool]string{true: "yes", false: "no"}[c.RolledUp]})
	}
	return write(w, rows, len(rows[0]), asCSV)
}

// ParseFrom reads a day (2026-03-31, UTC: its first moment) or a time (2026-03-31T18:00:00Z); empty is the zero time.
func ParseFrom(text string) (time.Time, error) { return parse(text, 0) }

// ParseTo reads what a period ends before: a day's end, or a time; empty is the zero time.
func ParseTo(text string) (time.Time, error) { return parse(text, 24*time.Hour) }

// ParseAt reads a moment: a day's last one, or a time; empty is the zero time.
func ParseAt(text string) (time.Time, error) { return parse(text, 24*time.Hour-time.Microsecond) }

func parse(text string, day time.Duration) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t.Add(day), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t.UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%q is neither a day, as 2026-03-31, nor a time, as 2026-03-31T18:00:00Z", text)
}
