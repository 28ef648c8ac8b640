package reconciliation

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/shopspring/decimal"

	"sluice/pipelines/reconcile"
)

// major writes minor units in major ones.
func major(minor decimal.Decimal, exponent int) string {
	return minor.Shift(-int32(exponent)).StringFixed(int32(exponent))
}

// amount is a row's amount in major units.
func (x *Row) amount() string {
	n, err := decimal.NewFromString(x.Amount)
	if err != nil {
		return x.Amount
	}
	return major(n, x.Exponent)
}

// Breaks is how many breaks of the channel are open.
func (o *Outcome) Breaks() (n int64) {
	for i := range o.Open {
		n += o.Open[i].Breaks
	}
	return n
}

// Table writes the outcome for a person.
func (o *Outcome) Table(w io.Writer) error {
	known := ""
	if o.File.Known {
		known = ", imported before"
	}
	fmt.Fprintf(w, "%s, %s: %d lines from %s to %s%s; %d new, %d ignored\n", o.File.Name, o.File.Format, o.File.Lines, o.File.From, o.File.To, known, o.Imported, o.File.Ignored)
	var stages []string
	total := 0
	for s := reconcile.Exact; s <= reconcile.Late; s++ {
		if n := o.Matches[s]; n > 0 {
			stages = append(stages, fmt.Sprintf("%d %s", n, s))
			total += n
		}
	}
	fmt.Fprintf(w, "period %s to %s: %d matched", o.From, o.To, total)
	if total > 0 {
		fmt.Fprintf(w, " (%s)", strings.Join(stages, ", "))
	}
	fmt.Fprintf(w, ", %d breaks found, %d closed by themselves\n", o.Opened, o.Closed)
	if o.Run == 0 {
		fmt.Fprintln(w, "nothing has changed")
	}
	if len(o.Open) == 0 {
		_, err := fmt.Fprintf(w, "no break of %s is open\n", o.Channel)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "OPEN\tBREAKS\tAMOUNT\tCURRENCY\tOLDEST\tDAYS")
	for i := range o.Open {
		x := &o.Open[i]
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%d\n", x.Class, x.Breaks, x.amount(), x.Currency, x.Oldest, o.AsOf-x.Oldest)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "sluice reconcile breaks %s lists them\n", o.Channel)
	return err
}

// JSON writes the outcome for a program.
func (o *Outcome) JSON(w io.Writer) error {
	type row struct {
		Class    string `json:"class"`
		Currency string `json:"currency"`
		Breaks   int64  `json:"breaks"`
		Amount   string `json:"amount"`
		Oldest   string `json:"oldest"`
		Days     int    `json:"days"`
	}
	matches := map[string]int{}
	for s := reconcile.Exact; s <= reconcile.Late; s++ {
		matches[s.String()] = o.Matches[s]
	}
	open := []row{}
	for i := range o.Open {
		x := &o.Open[i]
		open = append(open, row{x.Class, x.Currency, x.Breaks, x.amount(), x.Oldest.String(), int(o.AsOf - x.Oldest)})
	}
	return encode(w, struct {
		Channel  string         `json:"channel"`
		Run      int64          `json:"run"`
		File     string         `json:"file"`
		Format   string         `json:"format"`
		Known    bool           `json:"imported_before"`
		Lines    int            `json:"lines"`
		Ignored  int            `json:"ignored"`
		Imported int            `json:"imported"`
		From     string         `json:"from"`
		To       string         `json:"to"`
		Matches  map[string]int `json:"matches"`
		Opened   int            `json:"opened"`
		Closed   int            `json:"closed"`
		Open     []row          `json:"open"`
	}{o.Channel, o.Run, o.File.Name, o.File.Format, o.File.Known, o.File.Lines, o.File.Ignored, o.Imported, o.From.String(), o.To.String(), matches, o.Opened, o.Closed, open})
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// where is the place of a break: the statement's line, the book's transfer, or both.
func (b *Break) where() string {
	var at []string
	if b.Position > 0 {
		at = append(at, fmt.Sprintf("%s:%d", b.File, b.Position))
	}
	if b.Transfer > 0 {
		at = append(at, fmt.Sprintf("transfer %d", b.Transfer))
	}
	return strings.Join(at, ", ")
}

// said is the last word on a break on one line.
func (b *Break) said() string {
	if len(b.Steps) == 0 {
		return b.Status
	}
	last := b.Steps[len(b.Steps)-1]
	text := fmt.Sprintf("%s by %s, %s: %s", b.Status, last.Who, last.At.UTC().Format(time.DateOnly), strings.Join(strings.Fields(last.Why), " "))
	if last.Entry != "" {
		text += "; entry " + last.Entry
	}
	return text
}

// PrintBreaks writes breaks for a person.
func PrintBreaks(w io.Writer, breaks []Break, asOf reconcile.Day) error {
	if len(breaks) == 0 {
		_, err := fmt.Fprintln(w, "no break is open")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tCHANNEL\tCLASS\tAMOUNT\tCURRENCY\tDATE\tDAYS\tREFERENCE\tWHERE\tSTATUS")
	for i := range breaks {
		b := &breaks[i]
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", b.ID, b.Channel, b.Class, major(decimal.NewFromInt(b.Amount), b.Exponent), b.Currency, b.Day, asOf-b.Day,
			b.Reference, b.where(), b.said())
	}
	return t.Flush()
}

// BreaksJSON writes breaks for a program.
func BreaksJSON(w io.Writer, breaks []Break, asOf reconcile.Day) error {
	type step struct {
		Action string    `json:"action"`
		At     time.Time `json:"at"`
		Who    string    `json:"who"`
		Why    string    `json:"why"`
		Entry  string    `json:"entry,omitempty"`
	}
	type row struct {
		ID        int64  `json:"id"`
		Channel   string `json:"channel"`
		Class     string `json:"class"`
		Currency  string `json:"currency"`
		Amount    string `json:"amount"`
		Date      string `json:"date"`
		Days      int    `json:"days"`
		Bucket    string `json:"age_days"`
		Reference string `json:"reference,omitempty"`
		File      string `json:"file,omitempty"`
		Line      int    `json:"line,omitempty"`
		Transfer  int64  `json:"transfer,omitempty"`
		Status    string `json:"status"`
		Steps     []step `json:"steps,omitempty"`
	}
	rows := []row{}
	for i := range breaks {
		b := &breaks[i]
		days := int(asOf - b.Day)
		x := row{b.ID, b.Channel, b.Class, b.Currency, major(decimal.NewFromInt(b.Amount), b.Exponent), b.Day.String(), days, reconcile.Bucket(days), b.Reference, b.File, b.Position,
			b.Transfer, b.Status, nil}
		for _, s := range b.Steps {
			x.Steps = append(x.Steps, step{s.Action, s.At, s.Who, s.Why, s.Entry})
		}
		rows = append(rows, x)
	}
	return encode(w, rows)
}
