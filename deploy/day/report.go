package day

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"sluice/deploy/reconciliation"
	"sluice/pipelines/reconcile"
	made "sluice/producers/simulator/day"
	"sluice/schemas/events"
)

// Stage is one stage of the day, what it had to do with and how long it took.
type Stage struct {
	Name    string  `json:"stage"`
	What    string  `json:"what"`
	Seconds float64 `json:"seconds"`
}

// Row is what was planted of one class in one channel's statement, and what reconciliation found of that.
type Row struct {
	Channel string `json:"channel"`
	Class   string `json:"class"`
	Planted int    `json:"planted"`
	Found   int    `json:"found"`   // of the planted ones
	Wrongly int    `json:"wrongly"` // found, but not planted
}

// Report is what became of the day.
type Report struct {
	Stages      []Stage  `json:"stages"`
	Rows        []Row    `json:"errors"`
	Differences []string `json:"differences"` // the first ones, in words
	Differ      int      `json:"differ"`      // how many there are
	Seconds     float64  `json:"seconds"`
}

// maxDifferences bounds the differences that are told in words.
const maxDifferences = 20

// OK says whether everything was as it should be.
func (r *Report) OK() bool { return r.Differ == 0 && len(r.Rows) > 0 }

func (r *Report) differ(format string, args ...any) {
	r.Differ++
	if len(r.Differences) < maxDifferences {
		r.Differences = append(r.Differences, fmt.Sprintf(format, args...))
	}
}

// stage begins a stage; the function it returns ends it.
func (r *run) stage(name string) (end func()) {
	began := time.Now()
	r.report.Stages = append(r.report.Stages, Stage{Name: name})
	return func() {
		took := time.Since(began).Seconds()
		r.report.Stages[len(r.report.Stages)-1].Seconds = took
		r.report.Seconds += took
	}
}

// say says what the stage that is under way had to do with.
func (r *Report) say(format string, args ...any) {
	r.Stages[len(r.Stages)-1].What = fmt.Sprintf(format, args...)
}

// compare holds the breaks of a channel against what was planted.
func (r *Report) compare(d *made.Day, channel string, found []reconciliation.Break) {
	rows := make([]Row, len(reconcile.Classes()))
	index := map[string]*Row{}
	for i, class := range reconcile.Classes() {
		rows[i] = Row{Channel: channel, Class: class.String()}
		index[rows[i].Class] = &rows[i]
	}
	open := map[string][]made.Planted{} // by class and normalised reference
	key := func(p *made.Planted) string { return p.Class + " " + reconcile.Normalise(p.Reference) }
	for i := range found {
		b := &found[i]
		c, _ := events.ParseCurrency(b.Currency)
		p := made.Planted{Channel: b.Channel, Class: b.Class, Reference: b.Reference, Amount: b.Amount, Currency: c, Line: b.Position}
		open[key(&p)] = append(open[key(&p)], p)
	}
	for _, p := range d.Planted() {
		if p.Channel != channel {
			continue
		}
		index[p.Class].Planted++
		k := key(&p)
		if i := indexOf(open[k], &p); i >= 0 {
			index[p.Class].Found++
			open[k] = append(open[k][:i:i], open[k][i+1:]...)
			continue
		}
		r.differ("planted, but not found: %s", told(&p))
	}
	for _, rest := range open {
		for i := range rest {
			index[rest[i].Class].Wrongly++
			r.differ("found, but not planted: %s", told(&rest[i]))
		}
	}
	r.Rows = append(r.Rows, rows...)
}

func indexOf(found []made.Planted, p *made.Planted) int {
	for i := range found {
		if p.Is(&found[i]) {
			return i
		}
	}
	return -1
}

func told(p *made.Planted) string {
	return fmt.Sprintf("%s %s of %s, %s %s, line %d", p.Channel, p.Class, p.Reference, amount(p.Amount, p.Currency), p.Currency, p.Line)
}

func amount(minor int64, c events.Currency) string { return events.FormatAmount(minor, c) }

// Table writes the report for a person.
func (r *Report) Table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "STAGE\tSECONDS\t")
	for _, s := range r.Stages {
		fmt.Fprintf(t, "%s\t%.1f\t%s\n", s.Name, s.Seconds, s.What)
	}
	fmt.Fprintf(t, "in all\t%.1f\t\n\n", r.Seconds)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(t, "CHANNEL\tCLASS\tPLANTED\tFOUND\tWRONGLY FOUND")
	planted := 0
	for _, x := range r.Rows {
		planted += x.Planted
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\n", x.Channel, x.Class, x.Planted, x.Found, x.Wrongly)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, d := range r.Differences {
		fmt.Fprintln(w, d)
	}
	if more := r.Differ - len(r.Differences); more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
	if r.OK() {
		fmt.Fprintf(w, "reconciliation found the %d planted errors and nothing else\n", planted)
	}
	return nil
}

// JSON writes the report for a program.
func (r *Report) JSON(w io.Writer) error {
	if r.Differences == nil {
		r.Differences = []string{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// plantedCSV lists the planted errors.
func plantedCSV(d *made.Day) []byte {
	var b bytes.Buffer
	out := csv.NewWriter(&b)
	rows := [][]string{{"channel", "class", "reference", "amount", "currency", "line"}}
	for _, p := range d.Planted() {
		line := ""
		if p.Line > 0 {
			line = strconv.Itoa(p.Line)
		}
		rows = append(rows, []string{p.Channel, p.Class, p.Reference, amount(p.Amount, p.Currency), p.Currency.Code(), line})
	}
	_ = out.WriteAll(rows) // to memory
	return b.Bytes()
}

// thousands writes 1234567 as 1,234,567.
func thousands[T ~int | ~int64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
