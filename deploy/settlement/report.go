package settlement

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/shopspring/decimal"

	"sluice/pipelines/settlement"
)

// major writes minor units in major ones.
func (r *Row) major(minor int64) string {
	return decimal.New(minor, -int32(r.Exponent)).StringFixed(int32(r.Exponent))
}

// Print writes what a run has done, for a person.
func (o *Outcome) Print(w io.Writer, published int) error {
	_, err := fmt.Fprintf(w, "the book has passed %s; %d batches of %d accounts looked at, %d transfers, %d payments ordered, %d published\n",
		o.Clock.Format(time.RFC3339), o.Batches, o.Accounts, o.Lines, o.Orders, published)
	return err
}

// PrintBatches writes batches of merchants as a table.
func PrintBatches(w io.Writer, rows []Row) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "there is no batch yet; `sluice settlement run` makes them")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "BATCH\tDAY\tMERCHANT\tCURRENCY\tOPENING\tGROSS\tREFUNDS\tCHARGE-BACKS\tFEES\tOTHER\tRETURNED\tHELD\tRELEASED\tPAYOUT\tCARRIED\tVALUE DATE\tSTATUS\t")
	for i := range rows {
		r := &rows[i]
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", r.ID, r.Day, r.Party, r.Currency, r.major(r.Opening), r.major(r.Gross),
			r.major(r.Refunds), r.major(r.ChargeBacks), r.major(r.Fees), r.major(r.Other), r.major(r.Returned), r.major(r.Held), r.major(r.Released), r.major(r.Payout),
			r.major(r.Carried), r.ValueDate, r.Status)
	}
	return t.Flush()
}

// PrintDue writes what channels owe, by value date; what is overdue on a day is said.
func PrintDue(w io.Writer, rows []Row, today settlement.Day) error {
	if !slices.ContainsFunc(rows, func(r Row) bool { return r.Due > 0 }) {
		if _, err := fmt.Fprintln(w, "no channel owes anything that is in a batch"); err != nil {
			return err
		}
		return printOwed(w, rows)
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "VALUE DATE\tCHANNEL\tCURRENCY\tDUE\tOF\tEXPECTED FEE\tCUT-OFF\tBATCH\t")
	for i := range rows {
		r := &rows[i]
		late := ""
		if r.Due < 0 {
			continue
		}
		if r.ValueDate < today {
			late = fmt.Sprintf("overdue by %d days", today-r.ValueDate)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", r.ValueDate, r.Party, r.Currency, r.major(r.Due), r.major(r.Gross+r.Refunds+r.ChargeBacks+r.Fees+r.Other+r.Returned),
			r.major(r.Fee), r.Day, r.ID, late)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return printOwed(w, rows)
}

// printOwed writes what the house owes channels: they have carried more payouts and refunds than they collected.
func printOwed(w io.Writer, rows []Row) error {
	type channel struct{ party, currency string }
	var order []channel
	sums := map[channel]*Row{}
	for i := range rows {
		r := &rows[i]
		if r.Due >= 0 {
			continue
		}
		c := channel{r.Party, r.Currency}
		if sums[c] == nil {
			sums[c] = &Row{Exponent: r.Exponent}
			order = append(order, c)
		}
		sums[c].Due -= r.Due
		sums[c].Lines++
	}
	for _, c := range order {
		if _, err := fmt.Fprintf(w, "the house owes %s %s %s, of %d batches: payouts and refunds it carried; taken off its payment for a later batch\n", c.party,
			sums[c].major(sums[c].Due), c.currency, sums[c].Lines); err != nil {
			return err
		}
	}
	return nil
}

// PrintBatch writes a batch and its lines.
func PrintBatch(w io.Writer, r *Row, items []Item) error {
	fmt.Fprintf(w, "batch %d, %s %s, %s: cut-off %s, value date %s, %d transfers\n", r.ID, r.Kind, r.Party, r.Currency, r.CutOff.Format(time.RFC3339), r.ValueDate, r.Lines)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	parts := []struct {
		name   string
		amount int64
	}{{"opening", r.Opening}, {"gross", r.Gross}, {"refunds", r.Refunds}, {"charge-backs", r.ChargeBacks}, {"fees", r.Fees}, {"other", r.Other}, {"returned", r.Returned},
		{"held back", -r.Held}, {"released", r.Released}, {"payout", -r.Payout}, {"carried", r.Carried}}
	if r.Kind == "channel" {
		parts = append(parts[1:7], []struct {
			name   string
			amount int64
		}{{"expected fee", -r.Fee}, {"due", r.Due}, {"received", r.Received}}...)
	}
	for _, p := range parts {
		fmt.Fprintf(t, "%s\t%s\t\n", p.name, r.major(p.amount))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	t = tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\nTIME\tCLASS\tKIND\tAMOUNT\tPAYMENT")
	for _, i := range items {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", i.Time.Format(time.RFC3339), i.Class, i.Kind, r.major(i.Amount), i.Payment)
	}
	if err := t.Flush(); err != nil || len(items) == int(r.Lines) {
		return err
	}
	_, err := fmt.Fprintf(w, "%d more; --all shows them\n", int(r.Lines)-len(items))
	return err
}

// PrintFiles writes a list of payout files.
func PrintFiles(w io.Writer, rows []FileRow) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "there is no payout file yet; `sluice settlement run --out FOLDER` makes them")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "FILE\tNAME\tVALUE DATE\tPAYMENTS\tSUMS\tWRITTEN")
	for _, r := range rows {
		fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%s\t%t\n", r.ID, r.Name, r.Value, r.Payments, r.Sums, r.Written)
	}
	return t.Flush()
}

// PrintCalendar writes a year of a merchant's terms: business days with their cut-offs and value dates, and the days that are none.
func PrintCalendar(w io.Writer, m *settlement.Merchant, year int) error {
	first := day(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
	last := day(time.Date(year+1, 1, 1, 0, 0, 0, 0, time.UTC))
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "DAY\t\tCUT-OFF\tVALUE DATE\t")
	business := 0
	for d := first; d < last; d++ {
		name := d.Time().Format("Mon")
		if !m.CutOffs.Business(d) {
			if m.CutOffs.Holidays[d] {
				fmt.Fprintf(t, "%s\t%s\tholiday\t\t\n", d, name)
			}
			continue
		}
		business++
		if !m.CutOffs.Has(d) {
			continue
		}
		worked := ""
		if m.CutOffs.Weekend[d.Time().Weekday()] {
			worked = "worked"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", d, name, m.CutOffs.At(d).In(m.CutOffs.Location).Format("2006-01-02 15:04 MST"), m.ValueDate(d), worked)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d business days\n", business)
	return err
}

// JSON writes batches for a program; amounts are decimal strings of major units.
func JSON(w io.Writer, rows []Row) error {
	type row struct {
		ID          int64     `json:"batch"`
		Kind        string    `json:"kind"`
		Party       string    `json:"party"`
		Currency    string    `json:"currency"`
		Day         string    `json:"day"`
		CutOff      time.Time `json:"cut_off"`
		ValueDate   string    `json:"value_date"`
		Opening     string    `json:"opening"`
		Gross       string    `json:"gross"`
		Fees        string    `json:"fees"`
		Refunds     string    `json:"refunds"`
		ChargeBacks string    `json:"charge_backs"`
		Other       string    `json:"other"`
		Returned    string    `json:"returned"`
		Held        string    `json:"held"`
		Released    string    `json:"released"`
		Payout      string    `json:"payout"`
		Carried     string    `json:"carried"`
		Fee         string    `json:"expected_fee"`
		Due         string    `json:"due"`
		Received    string    `json:"received"`
		Lines       int32     `json:"transfers"`
		Status      string    `json:"status,omitempty"`
	}
	all := []row{}
	for i := range rows {
		r := &rows[i]
		all = append(all, row{r.ID, r.Kind, r.Party, r.Currency, r.Day.String(), r.CutOff, r.ValueDate.String(), r.major(r.Opening), r.major(r.Gross), r.major(r.Fees),
			r.major(r.Refunds), r.major(r.ChargeBacks), r.major(r.Other), r.major(r.Returned), r.major(r.Held), r.major(r.Released), r.major(r.Payout), r.major(r.Carried),
			r.major(r.Fee), r.major(r.Due), r.major(r.Received), r.Lines, r.Status})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(all)
}
