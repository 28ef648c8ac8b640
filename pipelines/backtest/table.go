package backtest

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// percent writes a ratio for a person: "12.3 %", "–" where there is none.
func (r Ratio) percent() string {
	if math.IsNaN(float64(r)) {
		return "–"
	}
	digits := 1
	if p := 100 * math.Abs(float64(r)); p > 0 && p < 0.1 {
		digits = 3
	}
	return strconv.FormatFloat(100*float64(r), 'f', digits, 64) + " %"
}

// plain writes a ratio with three decimals.
func (r Ratio) plain() string {
	if math.IsNaN(float64(r)) {
		return "–"
	}
	return strconv.FormatFloat(float64(r), 'f', 3, 64)
}

func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural is the unit's word for many.
func (u Unit) plural() string { return string(u) + "s" }

// Figures are the report in a few words, to be written down beside a ruleset.
func (r *Report) Figures() map[string]string {
	m := map[string]string{
		"from": r.From.Format(time.DateOnly), "to": r.To.Format(time.DateOnly), "asked": strconv.FormatInt(r.Counts.Asked, 10), "unit": string(r.Unit),
		"fraud": strconv.FormatInt(r.Labels.Fraud, 10), "precision": r.Rules.Flagged.Precision.plain(), "recall": r.Rules.Flagged.Recall.plain(),
		"inconvenienced": strconv.FormatInt(r.Rules.Flagged.Inconvenienced, 10)}
	if r.Against != nil {
		m["against"] = r.Against.Ruleset
		m["against_precision"], m["against_recall"] = r.Against.Flagged.Precision.plain(), r.Against.Flagged.Recall.plain()
	}
	return m
}

// sides are both rulesets, the new one first.
func (r *Report) sides() []*Side {
	all := []*Side{&r.Rules}
	if r.Against != nil {
		all = append(all, r.Against)
	}
	return all
}

// Table writes the report for a terminal.
func (r *Report) Table() string {
	var out strings.Builder
	fmt.Fprintf(&out, "\n%s: %s events that ask for a verdict, %s to %s; %s to fill aggregates before\n", r.Rules.Ruleset, grouped(r.Counts.Asked),
		r.From.Format(time.DateOnly), r.To.Format(time.DateOnly), grouped(r.Counts.WarmUp))
	fmt.Fprintf(&out, "Of %s %s, %s are fraud as far as is known. Flagged is: reviewed or declined.\n\n", grouped(r.Labels.Fraud+r.Labels.Good), r.Unit.plural(), grouped(r.Labels.Fraud))
	r.tableAll(&out)
	r.tableMoney(&out)
	r.tableRules(&out)
	r.tableThresholds(&out)
	r.tableChanges(&out)
	r.tableAgain(&out)
	return out.String()
}

func columns(out *strings.Builder, write func(t *tabwriter.Writer)) {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	write(t)
	t.Flush() // a Builder takes everything
	out.WriteByte('\n')
}

func (r *Report) tableAll(out *strings.Builder) {
	columns(out, func(t *tabwriter.Writer) {
		fmt.Fprint(t, "\tprecision\trecall\tfalse positives\tF1\tAP\tPSI\tcustomers held up\treviewed\tdeclined\t\n")
		for _, s := range r.sides() {
			m := &s.Flagged
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", s.Ruleset, m.Precision.percent(), m.Recall.percent(), m.FalsePositiveRate.percent(), m.F1.plain(),
				s.AveragePrecision.plain(), s.PSI.plain(), grouped(m.Inconvenienced), grouped(s.Verdicts["review"]), grouped(s.Verdicts["decline"]))
		}
	})
}

func (r *Report) tableMoney(out *strings.Builder) {
	if len(r.Rules.Flagged.Money) == 0 {
		return
	}
	columns(out, func(t *tabwriter.Writer) {
		fmt.Fprint(t, "\t\tfraud caught\tfraud missed\tgood money flagged\t\n")
		for _, s := range r.sides() {
			for _, m := range s.Flagged.Money {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t\n", s.Ruleset, m.Currency, m.Caught, m.Missed, m.Stopped)
			}
		}
	})
}

func (r *Report) tableRules(out *strings.Builder) {
	for _, s := range r.sides() {
		if len(s.Rules) == 0 {
			continue
		}
		columns(out, func(t *tabwriter.Writer) {
			fmt.Fprintf(t, "%s\tfired\talone\tprecision\trecall\tfalse positives\tF1\tcustomers held up\t\n", s.Ruleset)
			for i := range s.Rules {
				m := &s.Rules[i]
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", m.Rule, grouped(m.Fired), grouped(m.Alone), m.Precision.percent(), m.Recall.percent(),
					m.FalsePositiveRate.percent(), m.F1.plain(), grouped(m.Inconvenienced))
			}
		})
	}
}

// maxThresholds bounds the lines of the table of thresholds; the page and the JSON have them all.
const maxThresholds = 12

// tableThresholds says what would be, were everything from a score on flagged: by score alone, without what rules decide by
// themselves.
func (r *Report) tableThresholds(out *strings.Builder) {
	for _, s := range r.sides() {
		points := spread(s.Curve, maxThresholds)
		if len(points) < 2 {
			continue
		}
		columns(out, func(t *tabwriter.Writer) {
			fmt.Fprintf(t, "%s, flagged from score\tprecision\trecall\tfalse positives\t\n", s.Ruleset)
			for _, p := range points {
				fmt.Fprintf(t, "%d\t%s\t%s\t%s\t\n", p.Threshold, p.Precision.percent(), p.Recall.percent(), p.FPR.percent())
			}
		})
	}
}

// spread picks at most n points above the threshold at which everything is flagged, evenly, the first and the last included.
func spread(points []CurvePoint, n int) []CurvePoint {
	if last := len(points) - 1; last >= 0 && points[last].Threshold <= 0 {
		points = points[:last]
	}
	if len(points) <= n {
		return points
	}
	some := make([]CurvePoint, n)
	for i := range some {
		some[i] = points[i*(len(points)-1)/(n-1)]
	}
	return some
}

func (r *Report) tableChanges(out *strings.Builder) {
	if r.Against == nil {
		return
	}
	if len(r.Changes) == 0 {
		fmt.Fprintf(out, "No verdict differs from %s.\n", r.Against.Ruleset)
		return
	}
	columns(out, func(t *tabwriter.Writer) {
		fmt.Fprintf(t, "against %s\tgood events\tfraudulent events\t\n", r.Against.Ruleset)
		for _, c := range r.Changes {
			fmt.Fprintf(t, "%s → %s\t%s\t%s\t\n", c.From, c.To, grouped(c.Good), grouped(c.Fraud))
		}
	})
}

func (r *Report) tableAgain(out *strings.Builder) {
	if a := r.Again; a.Compared > 0 {
		fmt.Fprintf(out, "%s had decided %s of these events itself: %s are answered the same again, %s otherwise.\n", a.Ruleset, grouped(a.Compared), grouped(a.Same), grouped(a.Compared-a.Same))
	}
}
