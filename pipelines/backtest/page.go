package backtest

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"percent": Ratio.percent, "plain": Ratio.plain, "count": grouped, "money": groupedText, "overlap": overlapRows,
	"date": func(t time.Time) string { return t.Format(time.DateOnly) },
	"add":  func(a, b int64) int64 { return a + b },
}).Parse(pageText))

// HTML writes the report as one page that needs nothing else: plots are SVG inside of it, and every number of theirs is in
// a table too.
func (r *Report) HTML() []byte {
	var out bytes.Buffer
	err := page.Execute(&out, struct {
		*Report
		Sides                                     []*Side
		ScorePlot, CurvePlot, FraudPlot, GoodPlot template.HTML
	}{r, r.sides(), r.scorePlot(), r.curvePlot(), r.fraudPlot(), r.goodPlot()})
	if err != nil {
		panic("backtest: the page's template does not fit the report: " + err.Error())
	}
	return out.Bytes()
}

// groupedText groups the digits before the point of a decimal string.
func groupedText(s string) string {
	whole, rest, found := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if !found {
		return whole
	}
	return whole + "." + rest
}

// overlapRow is one row of the matrix of rules that fire together.
type overlapRow struct {
	Number int
	Rule   string
	Cells  []overlapCell
}

type overlapCell struct{ Text, Title, Shade string }

// overlapRows lists the rules that fired at all; nil if fewer than two did.
func overlapRows(s *Side) []overlapRow {
	var fired []int
	for i := range s.Rules {
		if s.Rules[i].Fired > 0 {
			fired = append(fired, i)
		}
	}
	if len(fired) < 2 {
		return nil
	}
	var rows []overlapRow
	for n, i := range fired {
		row := overlapRow{Number: n + 1, Rule: s.Rules[i].Rule}
		for _, j := range fired {
			share := float64(s.Overlap[i][j]) / float64(s.Rules[i].Fired)
			c := overlapCell{Shade: fmt.Sprintf("%.2f", 0.55*share), Title: fmt.Sprintf("%s and %s: %s events", s.Rules[i].Rule, s.Rules[j].Rule, grouped(s.Overlap[i][j]))}
			switch {
			case i == j:
				c.Text, c.Shade = grouped(s.Overlap[i][j]), "0"
			case s.Overlap[i][j] > 0:
				c.Text = Ratio(share).percent()
			}
			row.Cells = append(row.Cells, c)
		}
		rows = append(rows, row)
	}
	return rows
}

// plot is an SVG drawing with room for axes.
type plot struct {
	strings.Builder
	width, height float64
}

const (
	plotLeft, plotRight = 52.0, 24.0
	plotTop, plotBottom = 10.0, 30.0
)

func newPlot(title string, width, height float64) *plot {
	p := &plot{width: width, height: height}
	fmt.Fprintf(p, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, width, height, template.HTMLEscapeString(title))
	return p
}

// x and y turn shares of the drawing area into places.
func (p *plot) x(share float64) float64 { return plotLeft + share*(p.width-plotLeft-plotRight) }
func (p *plot) y(share float64) float64 {
	return p.height - plotBottom - share*(p.height-plotTop-plotBottom)
}

func (p *plot) text(x, y float64, anchor, text string) {
	fmt.Fprintf(p, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x, y, anchor, template.HTMLEscapeString(text))
}

// level draws a horizontal line with its word.
func (p *plot) level(share float64, word string) {
	fmt.Fprintf(p, `<path class="axis" d="M%.1f %.1fH%.1f"/>`, p.x(0), p.y(share), p.x(1))
	p.text(plotLeft-6, p.y(share)+4, "end", word)
}

// bar draws a bar between two heights.
func (p *plot) bar(class string, x, width, from, to float64, title string) {
	fmt.Fprintf(p, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%s</title></rect>`, class, x, p.y(to), max(width, 0.5), p.y(from)-p.y(to),
		template.HTMLEscapeString(title))
}

func (p *plot) done() template.HTML {
	p.WriteString("</svg>")
	return template.HTML(p.String()) // every text in it was escaped
}

// tick is the word at a level: whole percents.
func tick(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

// counts draws levels for numbers up to a round one, which it returns.
func (p *plot) counts(most int64) float64 {
	top := nice(most)
	for i := range 5 {
		n := top * float64(i) / 4
		if n == math.Trunc(n) {
			p.level(float64(i)/4, grouped(int64(n)))
		}
	}
	return top
}

// nice is the least of 4, 8, 20, 40, 80, 200 … that is not below n.
func nice(n int64) float64 {
	for unit := 4.0; ; unit *= 10 {
		for _, step := range []float64{1, 2, 5} {
			if unit*step >= float64(n) {
				return unit * step
			}
		}
	}
}

// maxBars bounds the bars of the plot of scores; more scores share one.
const maxBars = 24

// scoreBar is one bar of the plot of scores.
type scoreBar struct {
	low, high   int32
	good, fraud int64
}

// bars joins neighbouring scores until there are few enough.
func bars(scores []ScoreCount) []scoreBar {
	if len(scores) == 0 {
		return nil
	}
	width := 1 + (int(scores[len(scores)-1].Score)-int(scores[0].Score))/maxBars
	if len(scores) <= maxBars {
		width = 1
	}
	var out []scoreBar
	for _, s := range scores {
		if n := len(out); n == 0 || int(s.Score) >= int(out[n-1].low)+width {
			out = append(out, scoreBar{low: s.Score})
		}
		b := &out[len(out)-1]
		b.high, b.good, b.fraud = s.Score, b.good+s.Good, b.fraud+s.Fraud
	}
	return out
}

func (r *Report) scorePlot() template.HTML {
	p := newPlot("Share of good and of fraudulent "+r.Unit.plural()+" by score", 520, 300)
	for _, share := range []float64{0, .01, .1, .25, .5, 1} {
		p.level(math.Sqrt(share), tick(share))
	}
	all := bars(r.Rules.Scores)
	step := 1 / float64(max(len(all), 1))
	for i, b := range all {
		name := fmt.Sprint(b.low)
		if b.high != b.low {
			name = fmt.Sprintf("%d to %d", b.low, b.high)
		}
		w := (p.x(step) - p.x(0)) * .36
		x := p.x((float64(i) + .5) * step)
		good, fraud := ratio(b.good, r.Labels.Good), ratio(b.fraud, r.Labels.Fraud)
		p.bar("good", x-w-.5, w, 0, height(good), fmt.Sprintf("score %s: %s good, %s", name, grouped(b.good), good.percent()))
		p.bar("fraud", x+.5, w, 0, height(fraud), fmt.Sprintf("score %s: %s fraud, %s", name, grouped(b.fraud), fraud.percent()))
		if len(all) <= 12 || i%2 == 0 {
			p.text(x, p.height-plotBottom+16, "middle", fmt.Sprint(b.low))
		}
	}
	return p.done()
}

// height is where a share stands on a square root scale.
func height(share Ratio) float64 {
	if math.IsNaN(float64(share)) {
		return 0
	}
	return math.Sqrt(float64(share))
}

func (r *Report) curvePlot() template.HTML {
	p := newPlot("Precision against recall by threshold", 520, 300)
	for i := range 5 {
		share := float64(i) / 4
		p.level(share, tick(share))
		p.text(p.x(share), p.height-plotBottom+16, "middle", tick(share))
	}
	p.text(p.x(.5), p.height-1, "middle", "recall")
	p.text(p.x(0)+4, p.y(1)+14, "start", "precision")
	for i, s := range slices.Backward(r.sides()) {
		class := []string{"new", "old"}[i]
		var path strings.Builder
		for _, c := range s.Curve {
			if c.TruePositives+c.FalsePositives == 0 || math.IsNaN(float64(c.Recall)) {
				continue
			}
			command := "L"
			if path.Len() == 0 {
				command = "M"
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", command, p.x(float64(c.Recall)), p.y(float64(c.Precision)))
		}
		fmt.Fprintf(p, `<path class="%s" d="%s"/>`, class, path.String())
		if m := s.Flagged; !math.IsNaN(float64(m.Precision)) && !math.IsNaN(float64(m.Recall)) {
			fmt.Fprintf(p, `<circle class="dot-%s" cx="%.1f" cy="%.1f" r="5"><title>%s: precision %s, recall %s</title></circle>`, class,
				p.x(float64(m.Recall)), p.y(float64(m.Precision)), template.HTMLEscapeString(s.Ruleset), m.Precision.percent(), m.Recall.percent())
		}
	}
	return p.done()
}

// dayAxis writes some of the days, and returns how wide one is as a share.
func (r *Report) dayAxis(p *plot) float64 {
	step := 1 / float64(max(len(r.Days), 1))
	every := 1 + (len(r.Days)-1)/9
	for i := 0; i < len(r.Days); i += every {
		p.text(p.x((float64(i)+.5)*step), p.height-plotBottom+16, "middle", r.Days[i].Day)
	}
	return step
}

func (r *Report) fraudPlot() template.HTML {
	p := newPlot("Fraudulent events by day, flagged and missed", 1060, 220)
	most := int64(1)
	for i := range r.Days {
		most = max(most, r.Days[i].Fraud)
	}
	top := p.counts(most)
	step := r.dayAxis(p)
	for i := range r.Days {
		d := &r.Days[i]
		w := (p.x(step) - p.x(0)) * .8
		x := p.x((float64(i)+.5)*step) - w/2
		caught, all := float64(d.Rules.TruePositives)/top, float64(d.Fraud)/top
		title := fmt.Sprintf("%s: %s of %s flagged", d.Day, grouped(d.Rules.TruePositives), grouped(d.Fraud))
		if caught > 0 {
			p.bar("fraud", x, w, 0, caught, title)
		}
		if all > caught {
			p.bar("missed", x+.6, w-1.2, caught, all, title)
		}
	}
	return p.done()
}

func (r *Report) goodPlot() template.HTML {
	p := newPlot("Good events flagged by day", 1060, 220)
	most := int64(1)
	series := [2][]int64{}
	for i := range r.Days {
		d := &r.Days[i]
		series[0] = append(series[0], d.Rules.FalsePositives)
		if d.Against != nil {
			series[1] = append(series[1], d.Against.FalsePositives)
			most = max(most, d.Against.FalsePositives)
		}
		most = max(most, d.Rules.FalsePositives)
	}
	top := p.counts(most)
	step := r.dayAxis(p)
	for k, class := range []string{"new", "old"} {
		var path strings.Builder
		for i, n := range series[k] {
			command := "L"
			if i == 0 {
				command = "M"
			}
			x, y := p.x((float64(i)+.5)*step), p.y(float64(n)/top)
			fmt.Fprintf(&path, "%s%.1f %.1f", command, x, y)
			fmt.Fprintf(p, `<circle class="dot-%s" cx="%.1f" cy="%.1f" r="2.5"><title>%s: %s</title></circle>`, class, x, y, r.Days[i].Day, grouped(n))
		}
		if path.Len() > 0 {
			fmt.Fprintf(p, `<path class="%s" d="%s"/>`, class, path.String())
		}
	}
	return p.done()
}
