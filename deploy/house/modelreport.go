package house

import (
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"

	"sluice/pipelines/models"
)

// modelReport is what is said of a model that has been trained.
type modelReport struct {
	Source     string
	Table      *models.Table
	Model      models.Model
	Validation *models.CrossValidation
	Seed       uint64
	Lift       []models.LiftRow
}

// decimals writes a number, "–" when there is none.
func decimals(f float64, places int) string {
	if math.IsNaN(f) {
		return "–"
	}
	return strconv.FormatFloat(f, 'f', places, 64)
}

func percent(f float64) string {
	if math.IsNaN(f) {
		return "–"
	}
	return decimals(100*f, 1) + " %"
}

// grid is a table with a head, the first column aligned left.
type grid struct {
	Title string
	Head  []string
	Rows  [][]string
}

func (g *grid) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%s\n", g.Title)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	width := 0
	for _, r := range append([][]string{g.Head}, g.Rows...) {
		width = max(width, len([]rune(r[0])))
	}
	for _, r := range append([][]string{g.Head}, g.Rows...) {
		fmt.Fprintf(t, "%s%s\t%s\t\n", r[0], strings.Repeat(" ", width-len([]rune(r[0]))), strings.Join(r[1:], "\t"))
	}
	return t.Flush()
}

func (r *modelReport) summary() string {
	bad, words := 0, 0
	for _, b := range r.Table.Bad {
		if b {
			bad++
		}
	}
	for i := range r.Table.Columns {
		if r.Table.Columns[i].Words != nil {
			words++
		}
	}
	n := r.Table.Rows()
	return fmt.Sprintf("%s: %s rows, %s bad (%s), %d columns of numbers, %d of words", r.Source, thousands(int64(n)), thousands(int64(bad)),
		percent(float64(bad)/float64(n)), len(r.Table.Columns)-words, words)
}

func measureRow(name string, m models.Measures) []string {
	row := []string{name}
	for _, f := range []float64{m.AUC, m.AveragePrecision, m.KS, m.Brier, m.PSI, m.Precision, m.CardPrecision} {
		row = append(row, decimals(f, 4))
	}
	return row
}

var measureHead = []string{"", "AUC", "average precision", "KS", "Brier", "PSI", "precision@100", "card precision@100"}

func (r *modelReport) folds() grid {
	g := grid{Title: fmt.Sprintf("%s, %d folds dealt by seed %d, each measured by the model that has not seen it:", r.Model.Kind(), len(r.Validation.Folds), r.Seed), Head: measureHead}
	for i, m := range r.Validation.Folds {
		g.Rows = append(g.Rows, measureRow("fold "+strconv.Itoa(i+1), m))
	}
	g.Rows = append(g.Rows, measureRow("mean", r.Validation.Mean))
	return g
}

func (r *modelReport) tenths() grid {
	g := grid{Title: "Tenths of the rows, the most likely bad first, scored by the model that has not seen them:",
		Head: []string{"tenth", "from", "to", "rows", "bad", "bad rate", "lift", "bad found"}}
	for i, l := range r.Lift {
		g.Rows = append(g.Rows, []string{strconv.Itoa(i + 1), decimals(l.From, 4), decimals(l.To, 4), strconv.Itoa(l.Rows), strconv.Itoa(l.Bad),
			percent(float64(l.Bad) / float64(l.Rows)), decimals(l.Lift, 2), percent(l.Captured)})
	}
	return g
}

func (r *modelReport) grids() []grid {
	return append([]grid{r.folds(), r.tenths()}, modelGrids(r.Model)...)
}

func (r *modelReport) text(w io.Writer) error {
	fmt.Fprintln(w, r.summary())
	for _, g := range r.grids() {
		if err := g.print(w); err != nil {
			return err
		}
	}
	return nil
}

// modelGrids are the tables of what a model holds.
func modelGrids(m models.Model) []grid {
	switch m := m.(type) {
	case *models.Scorecard:
		return scorecardGrids(m)
	case *models.Logistic:
		return []grid{logisticGrid(m)}
	case *models.Trees:
		splits, trees := m.Splits()
		g := grid{Title: fmt.Sprintf("%s, %d trees:", m.Kind(), trees), Head: []string{"feature", "splits"}}
		for i, name := range m.Features() {
			g.Rows = append(g.Rows, []string{name, strconv.Itoa(splits[i])})
		}
		return []grid{g}
	}
	return nil
}

func scorecardGrids(s *models.Scorecard) []grid {
	var all []grid
	for _, f := range s.Inputs {
		g := grid{Title: fmt.Sprintf("%s, information value %s:", f.Name, decimals(f.IV, 3)), Head: []string{"bin", "rows", "bad", "bad rate", "WoE", "points"}}
		from := ""
		for _, b := range f.Bins {
			rate := math.NaN()
			if n := b.Good + b.Bad; n > 0 {
				rate = float64(b.Bad) / float64(n)
			}
			g.Rows = append(g.Rows, []string{binName(b, &from), strconv.Itoa(b.Good + b.Bad), strconv.Itoa(b.Bad), percent(rate), decimals(b.WoE, 3), decimals(b.Points, 0)})
		}
		all = append(all, g)
	}
	return all
}

// binName writes a bin; from is where the interval before it ended.
func binName(b models.Bin, from *string) string {
	switch {
	case b.Missing:
		return "missing, other"
	case len(b.Values) > 0:
		const most = 60 // characters of a line
		name := []rune(strings.Join(b.Values, " | "))
		if len(name) > most {
			name = append(name[:most-1], '…')
		}
		return string(name)
	case b.Below == nil && *from == "":
		return "any"
	case b.Below == nil:
		return "from " + *from
	}
	to := strconv.FormatFloat(*b.Below, 'g', 8, 64)
	name := "below " + to
	if *from != "" {
		name = "from " + *from + " below " + to
	}
	*from = to
	return name
}

func logisticGrid(m *models.Logistic) grid {
	g := grid{Title: "Coefficients, of standardized numbers and of words; above 0 raises the odds of the bad outcome:", Head: []string{"feature", "coefficient", "mean", "scale"}}
	g.Rows = append(g.Rows, []string{"(intercept)", decimals(m.Intercept, 4), "", ""})
	for _, f := range m.Inputs {
		if len(f.Categories) == 0 {
			g.Rows = append(g.Rows, []string{f.Name, decimals(f.Coefficient, 4), decimals(f.Mean, 4), decimals(f.Scale, 4)})
		}
		for _, c := range f.Categories {
			g.Rows = append(g.Rows, []string{f.Name + " = " + c.Value, decimals(c.Coefficient, 4), "", ""})
		}
		if f.Other != nil {
			g.Rows = append(g.Rows, []string{f.Name + " missing or another", decimals(*f.Other, 4), "", ""})
		}
	}
	return g
}

func showModel(w io.Writer, m models.Model) error {
	fmt.Fprintf(w, "%s of %d features\n", m.Kind(), len(m.Features()))
	if t := models.TrainingOf(m); t != nil {
		fmt.Fprintf(w, "trained on %s rows, %s bad; AUC %s, KS %s on rows left out\n", thousands(int64(t.Rows)), thousands(int64(t.Bad)), decimals(t.AUC, 4), decimals(t.KS, 4))
	}
	if s, ok := m.(*models.Scorecard); ok {
		fmt.Fprintf(w, "%g points are odds of %g:1, %g more double them\n", s.BaseScore, s.BaseOdds, s.PDO)
	}
	for _, g := range modelGrids(m) {
		if err := g.print(w); err != nil {
			return err
		}
	}
	return nil
}

// sayMeasures says how good scores are, as far as the table and the model tell.
func sayMeasures(w io.Writer, scores []float64, t *models.Table, training *models.Distribution) error {
	if t.Bad == nil {
		if training != nil {
			fmt.Fprintf(w, "PSI against training: %s (below 0.1 is steady, from 0.25 another population)\n", decimals(training.PSI(scores), 4))
		}
		return nil
	}
	g := grid{Title: "Measured on these rows, PSI against training:", Head: measureHead, Rows: [][]string{measureRow("all", models.Measure(scores, t, training))}}
	return g.print(w)
}

// curve is the receiver operating characteristic as points of a drawing 100 wide and high.
func (r *modelReport) curve() string {
	var b strings.Builder
	b.WriteString("0,100")
	bad, good := 0, 0
	total := 0
	for _, l := range r.Lift {
		total += l.Bad
	}
	for _, l := range r.Lift {
		bad, good = bad+l.Bad, good+l.Rows-l.Bad
		fmt.Fprintf(&b, " %.2f,%.2f", 100*float64(good)/float64(r.Table.Rows()-total), 100-100*float64(bad)/float64(total))
	}
	return b.String()
}

var reportPage = template.Must(template.New("report").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Kind}} of {{.Summary}}</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}th,td{padding:.15rem .7rem;text-align:right;border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}
th:first-child,td:first-child{text-align:left}h2{font-size:1rem;margin:1.5rem 0 0}svg{width:16rem;height:16rem;background:#f6f6f6}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}th,td{border-color:#444}svg{background:#222}}
</style>
<h1>{{.Kind}}</h1><p>{{.Summary}}</p>
<h2>Share of bad rows found (up) by share of good rows disturbed (right)</h2>
<svg viewBox="0 0 100 100" role="img" aria-label="receiver operating characteristic"><line x1="0" y1="100" x2="100" y2="0" stroke="#aaa" stroke-dasharray="2"/><polyline points="{{.Curve}}" fill="none" stroke="#0a7" stroke-width="1.5"/></svg>
{{range .Grids}}<h2>{{.Title}}</h2>
<table><tr>{{range .Head}}<th>{{.}}</th>{{end}}</tr>
{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>
{{end}}</table>
{{end}}</html>
`))

// html writes the report as one page that needs nothing else.
func (r *modelReport) html(w io.Writer) error {
	return reportPage.Execute(w, map[string]any{"Kind": r.Model.Kind(), "Summary": r.summary(), "Curve": r.curve(), "Grids": r.grids()})
}
