package backtest

import (
	"cmp"
	"encoding/json"
	"math"
	"math/big"
	"math/bits"
	"slices"

	"sluice/schemas/events"
)

// Confusion counts units (events, customers or accounts) by truth and by what the rules said (Provost & Kohavi, "Glossary of
// Terms", Machine Learning 30, 1998). Flagged is: reviewed or declined; for one rule: fired.
type Confusion struct {
	TruePositives  int64 `json:"true_positives"`  // fraud, flagged
	FalsePositives int64 `json:"false_positives"` // good, flagged
	FalseNegatives int64 `json:"false_negatives"` // fraud, let pass
	TrueNegatives  int64 `json:"true_negatives"`  // good, let pass
}

// count adds one unit.
func (c *Confusion) count(fraud, flagged bool) {
	switch {
	case fraud && flagged:
		c.TruePositives++
	case flagged:
		c.FalsePositives++
	case fraud:
		c.FalseNegatives++
	default:
		c.TrueNegatives++
	}
}

// Ratio is a quotient of counts; NaN, null in JSON, where the divisor is zero.
type Ratio float64

// MarshalJSON writes NaN as null.
func (r Ratio) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(r)) || math.IsInf(float64(r), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(r))
}

// UnmarshalJSON reads null as NaN.
func (r *Ratio) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*r = Ratio(math.NaN())
		return nil
	}
	return json.Unmarshal(data, (*float64)(r))
}

func ratio(a, b int64) Ratio { return Ratio(float64(a) / float64(b)) }

// Precision is the share of what was flagged that is fraud: TP / (TP + FP).
func (c Confusion) Precision() Ratio {
	return ratio(c.TruePositives, c.TruePositives+c.FalsePositives)
}

// Recall is the share of fraud that was flagged: TP / (TP + FN).
func (c Confusion) Recall() Ratio { return ratio(c.TruePositives, c.TruePositives+c.FalseNegatives) }

// FalsePositiveRate is the share of the good that was flagged: FP / (FP + TN).
func (c Confusion) FalsePositiveRate() Ratio {
	return ratio(c.FalsePositives, c.FalsePositives+c.TrueNegatives)
}

// F1 is the harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN) (van Rijsbergen, "Information Retrieval", 1979).
func (c Confusion) F1() Ratio {
	return ratio(2*c.TruePositives, 2*c.TruePositives+c.FalsePositives+c.FalseNegatives)
}

// Interval is where a share lies with 95 % confidence.
type Interval struct {
	Low  Ratio `json:"low"`
	High Ratio `json:"high"`
}

// wilson is the score interval of k of n at 95 % (Wilson, "Probable Inference, the Law of Succession, and Statistical
// Inference", JASA 22, 1927): it holds for few cases and for shares near 0 and 1, where the normal interval does not.
func wilson(k, n int64) Interval {
	const z = 1.959963984540054 // the normal distribution's 97.5 % quantile
	if n == 0 {
		return Interval{Ratio(math.NaN()), Ratio(math.NaN())}
	}
	p, m := float64(k)/float64(n), float64(n)
	middle := (p + z*z/(2*m)) / (1 + z*z/m)
	half := z / (1 + z*z/m) * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return Interval{Ratio(max(0, middle-half)), Ratio(min(1, middle+half))}
}

// ScoreCount is how many units have a score.
type ScoreCount struct {
	Score int32 `json:"score"`
	Good  int64 `json:"good"`
	Fraud int64 `json:"fraud"`
}

// CurvePoint is what would be, were everything from a score on flagged.
type CurvePoint struct {
	Threshold int32 `json:"threshold"`
	Confusion
	Precision Ratio `json:"precision"`
	Recall    Ratio `json:"recall"`
	FPR       Ratio `json:"false_positive_rate"`
}

// curve goes down through the scores that occur: the precision-recall curve (Davis & Goadrich, "The Relationship Between
// Precision-Recall and ROC Curves", ICML 2006). Verdicts that rules give by themselves are not in it: it is about scores.
func curve(scores []ScoreCount) []CurvePoint {
	var all Confusion
	for _, s := range scores {
		all.FalseNegatives += s.Fraud
		all.TrueNegatives += s.Good
	}
	points := make([]CurvePoint, 0, len(scores))
	for _, s := range slices.Backward(scores) {
		all.TruePositives += s.Fraud
		all.FalseNegatives -= s.Fraud
		all.FalsePositives += s.Good
		all.TrueNegatives -= s.Good
		points = append(points, CurvePoint{s.Score, all, all.Precision(), all.Recall(), all.FalsePositiveRate()})
	}
	return points
}

// averagePrecision is the area under the precision-recall curve in steps: the sum of (R(i) - R(i-1)) P(i) over falling
// thresholds (Boyd, Eng & Page, "Area under the Precision-Recall Curve", ECML 2013). NaN without fraud.
func averagePrecision(points []CurvePoint) Ratio {
	sum, before := Ratio(0), Ratio(0)
	for _, p := range points {
		if p.TruePositives+p.FalsePositives > 0 {
			sum += (p.Recall - before) * p.Precision
		}
		before = p.Recall
	}
	if len(points) == 0 {
		return Ratio(math.NaN())
	}
	return sum
}

// Bounds of the population stability index.
const (
	// psiBins is into how many parts positive scores are divided; those of zero and below are one more.
	psiBins = 9
	// psiFloor stands for an empty part, whose logarithm there is none of.
	psiFloor = 0.0001
)

// stability is the population stability index of two distributions of scores: the sum over bins of (b - a) ln(b / a), with
// the shares a before and b after (Siddiqi, "Credit Risk Scorecards", 2006: below 0.1 nothing has changed, above 0.25 much
// has). The bins are scores of zero and below, then up to nine with about as many of the positive scores of before. NaN
// when one is empty.
func stability(before, after map[int32]int64) Ratio {
	edges := psiEdges(before)
	a, b := shares(before, edges), shares(after, edges)
	if a == nil || b == nil {
		return Ratio(math.NaN())
	}
	sum := 0.0
	for i := range a {
		x, y := max(a[i], psiFloor), max(b[i], psiFloor)
		sum += (y - x) * math.Log(y/x)
	}
	return Ratio(sum)
}

// psiEdges are the upper ends of all bins but the last.
func psiEdges(scores map[int32]int64) []int32 {
	var sorted []int32
	total := int64(0)
	for s, n := range scores {
		if s > 0 {
			sorted = append(sorted, s)
			total += n
		}
	}
	slices.Sort(sorted)
	edges := []int32{0}
	seen := int64(0)
	for _, s := range sorted {
		seen += scores[s]
		if seen*psiBins >= total*int64(len(edges)) && seen < total {
			edges = append(edges, s)
		}
	}
	return edges
}

func shares(scores map[int32]int64, edges []int32) []float64 {
	counts := make([]int64, len(edges)+1)
	total := int64(0)
	for s, n := range scores {
		i, _ := slices.BinarySearch(edges, s)
		counts[i] += n
		total += n
	}
	if total == 0 {
		return nil
	}
	out := make([]float64, len(counts))
	for i, n := range counts {
		out[i] = float64(n) / float64(total)
	}
	return out
}

// sum adds up minor units, of any number of events.
type sum struct{ high, low uint64 }

func (s *sum) add(minor int64) {
	var carry uint64
	s.low, carry = bits.Add64(s.low, uint64(minor), 0)
	s.high += carry
}

// text writes the sum in major units of a currency, exactly.
func (s sum) text(c events.Currency) string {
	n := new(big.Int).SetUint64(s.high)
	n.Lsh(n, 64).Add(n, new(big.Int).SetUint64(s.low))
	digits := n.String()
	e := c.Exponent()
	if e == 0 {
		return digits
	}
	for len(digits) <= e {
		digits = "0" + digits
	}
	return digits[:len(digits)-e] + "." + digits[len(digits)-e:]
}

// Money is amounts in one currency, in major units, exact.
type Money struct {
	Currency string `json:"currency"` // ISO 4217
	Caught   string `json:"caught"`   // of fraud that was flagged
	Missed   string `json:"missed"`   // of fraud that was let pass
	Stopped  string `json:"stopped"`  // of good events that were flagged
}

// till keeps Money.
type till map[events.Currency]*[3]sum

func (t till) count(e *events.Event, fraud, flagged bool) {
	if e.Currency == 0 || e.Amount <= 0 || !fraud && !flagged {
		return
	}
	sums := t[e.Currency]
	if sums == nil {
		sums = &[3]sum{}
		t[e.Currency] = sums
	}
	switch {
	case fraud && flagged:
		sums[0].add(e.Amount)
	case fraud:
		sums[1].add(e.Amount)
	default:
		sums[2].add(e.Amount)
	}
}

// money lists what was flagged of all events: what all has of fraud and this has not was missed.
func (t till) money(all till) []Money {
	out := make([]Money, 0, len(t))
	for c := events.Currency(1); c < math.MaxUint8; c++ {
		mine, fraud := t[c], all[c]
		if mine == nil && fraud == nil {
			continue
		}
		var m [3]sum
		if mine != nil {
			m = *mine
		}
		missed := sum{}
		if fraud != nil {
			missed = fraud[1].less(m[0])
		}
		out = append(out, Money{c.Code(), m[0].text(c), missed.text(c), m[2].text(c)})
	}
	slices.SortFunc(out, func(a, b Money) int { return cmp.Compare(a.Currency, b.Currency) })
	return out
}

// less subtracts what is not more.
func (s sum) less(t sum) sum {
	low, borrow := bits.Sub64(s.low, t.low, 0)
	return sum{s.high - t.high - borrow, low}
}
