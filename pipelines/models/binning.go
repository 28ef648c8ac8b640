package models

import (
	"cmp"
	"errors"
	"maps"
	"math"
	"slices"
)

// How a feature is cut into bins (Siddiqi 2006, chapter 6: fine classing, then coarse classing with a logical trend).
const (
	// fineBins is how many bins of like size a numeric feature is cut into first.
	fineBins = 20
	// minBinShare is the smallest share of all rows a bin has in the end: a rate of fewer rows is chance.
	minBinShare = 0.05
	// minChiSquare is the least chi-square of two neighbours' outcomes: below it, at 1 degree of freedom, they differ by chance
	// once in ten times, and become one (Kerber, ChiMerge, AAAI 1992).
	minChiSquare = 2.706
	// emptyCount stands for no good or no bad row in a bin, whose weight of evidence would be infinite.
	emptyCount = 0.5
	// maxSettle bounds the steps of taking features of the wrong sign out.
	maxSettle = MaxFeatures
)

// class is a bin on its way: values from one place of the order to another.
type class struct {
	good, bad float64
	below     float64  // numbers: the first value of the next class
	words     []string // words
}

func (c class) rows() float64 { return c.good + c.bad }
func (c class) rate() float64 { return c.bad / (c.good + c.bad) }

func join(a, b class) class {
	return class{a.good + b.good, a.bad + b.bad, b.below, slices.Concat(a.words, b.words)}
}

// fineNumbers cuts the numbers that are not missing into bins of like size, at places between different values.
func fineNumbers(values []float64, bad []bool) []class {
	order := make([]int, 0, len(values))
	for i, v := range values {
		if !math.IsNaN(v) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(values[a], values[b]) })
	var all []class
	var c class
	for k, i := range order {
		if bad[i] {
			c.bad++
		} else {
			c.good++
		}
		last := k == len(order)-1
		if last || c.rows() >= float64(len(order))/fineBins && values[order[k+1]] != values[i] {
			if c.below = math.Inf(1); !last {
				c.below = values[order[k+1]]
			}
			all = append(all, c)
			c = class{}
		}
	}
	return all
}

// fineWords orders the words by their rate of bad rows, that of few rows drawn towards the rate of all.
func fineWords(words []string, bad []bool) []class {
	const drawn = 10 // rows of the mean rate added to each word
	byWord := map[string]*class{}
	n, bads := 0.0, 0.0
	for i, w := range words {
		if w == "" {
			continue
		}
		c := byWord[w]
		if c == nil {
			c = &class{words: []string{w}}
			byWord[w] = c
		}
		n++
		if bad[i] {
			c.bad++
			bads++
		} else {
			c.good++
		}
	}
	var all []class
	for _, w := range slices.Sorted(maps.Keys(byWord)) {
		all = append(all, *byWord[w])
	}
	smooth := func(c class) float64 { return (c.bad + drawn*bads/n) / (c.rows() + drawn) }
	slices.SortStableFunc(all, func(a, b class) int { return cmp.Compare(smooth(a), smooth(b)) })
	return all
}

// monotone joins neighbours until the rate of bad rows never falls (or, descending, never rises): pool adjacent violators
// (Ayer et al. 1955).
func monotone(fine []class, descending bool) []class {
	var all []class
	for _, c := range fine {
		all = append(all, c)
		for n := len(all); n > 1; n = len(all) {
			a, b := all[n-2].rate(), all[n-1].rate()
			if a < b && !descending || a > b && descending {
				break
			}
			all = append(all[:n-2], join(all[n-2], all[n-1]))
		}
	}
	return all
}

// coarse joins neighbours until each has minRows and a rate of its own, and there are at most most of them.
func coarse(all []class, minRows float64, most int) []class {
	for len(all) > 1 {
		at, least := -1, math.Inf(1)
		small := slices.IndexFunc(all, func(c class) bool { return c.rows() < minRows })
		for i := range len(all) - 1 {
			if small >= 0 && i != small && i+1 != small {
				continue // the small one goes to the neighbour more like it
			}
			if x := chiSquare(all[i], all[i+1]); x < least {
				at, least = i, x
			}
		}
		if small < 0 && least >= minChiSquare && len(all) <= most {
			break
		}
		all = slices.Replace(all, at, at+2, join(all[at], all[at+1]))
	}
	return all
}

// chiSquare is Pearson's statistic of the two-by-two table of two classes and two outcomes.
func chiSquare(a, b class) float64 {
	n := a.rows() + b.rows()
	cross := a.good*b.bad - a.bad*b.good
	margins := a.rows() * b.rows() * (a.good + b.good) * (a.bad + b.bad)
	if margins == 0 {
		return 0
	}
	return n * cross * cross / margins
}

// binColumn cuts a column into bins with their weights of evidence, and returns its information value.
func binColumn(c *Column, bad []bool, o Options) ([]Bin, float64) {
	minRows := minBinShare * float64(len(bad))
	total, missing := class{}, class{}
	for i, b := range bad {
		absent := c.Words != nil && c.Words[i] == "" || c.Words == nil && math.IsNaN(c.Numbers[i])
		for _, t := range []*class{&total, &missing} {
			switch {
			case t == &missing && !absent:
			case b:
				t.bad++
			default:
				t.good++
			}
		}
	}
	var bins []Bin
	if c.Words != nil {
		bins = wordBins(coarse(fineWords(c.Words, bad), minRows, o.MaxBins), missing)
	} else {
		fine := fineNumbers(c.Numbers, bad)
		up := numberBins(coarse(monotone(fine, false), minRows, o.MaxBins), missing)
		down := numberBins(coarse(monotone(fine, true), minRows, o.MaxBins), missing)
		if bins = up; weigh(down, total) > weigh(up, total) {
			bins = down
		}
	}
	return bins, weigh(bins, total)
}

func numberBins(all []class, missing class) []Bin {
	var bins []Bin
	for i, c := range all {
		b := Bin{Good: int(c.good), Bad: int(c.bad)}
		if i < len(all)-1 {
			b.Below = &c.below
		}
		bins = append(bins, b)
	}
	if missing.rows() > 0 {
		bins = append(bins, Bin{Missing: true, Good: int(missing.good), Bad: int(missing.bad)})
	}
	return bins
}

// wordBins always have a bin for missing words, which words never seen fall into as well.
func wordBins(all []class, missing class) []Bin {
	var bins []Bin
	for _, c := range all {
		slices.Sort(c.words)
		bins = append(bins, Bin{Values: c.words, Good: int(c.good), Bad: int(c.bad)})
	}
	return append(bins, Bin{Missing: true, Good: int(missing.good), Bad: int(missing.bad)})
}

// weigh fills in the weights of evidence, ln(share of all good / share of all bad), and returns the information value,
// Σ (share of good − share of bad) × weight (Siddiqi 2006, chapter 6; Kullback 1959). A bin without rows weighs nothing.
func weigh(bins []Bin, total class) float64 {
	iv := 0.0
	for i := range bins {
		b := &bins[i]
		if b.WoE = 0; b.Good+b.Bad == 0 {
			continue
		}
		good, bad := float64(b.Good), float64(b.Bad)
		if b.Good == 0 || b.Bad == 0 {
			good, bad = good+emptyCount, bad+emptyCount
		}
		b.WoE = math.Log(good / total.good / (bad / total.bad))
		iv += (good/total.good - bad/total.bad) * b.WoE
	}
	return iv
}

// TrainScorecard cuts every column into bins, keeps those whose information value is enough, fits a logistic regression of
// their weights of evidence, and scales it to whole points. Features whose coefficient has the wrong sign, because others say
// the same, are taken out one by one.
func TrainScorecard(t *Table, o Options) (*Scorecard, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	o = o.filled()
	s := &Scorecard{Format: "scorecard", BaseScore: o.BaseScore, BaseOdds: o.BaseOdds, PDO: o.PDO}
	var columns []*Column
	for i := range t.Columns {
		c := &t.Columns[i]
		bins, iv := binColumn(c, t.Bad, o)
		if len(bins) > 1 && iv >= o.MinIV {
			s.Inputs = append(s.Inputs, ScorecardFeature{Name: c.Name, IV: iv, Bins: bins})
			columns = append(columns, c)
		}
	}
	for range maxSettle {
		if len(s.Inputs) == 0 {
			return nil, errors.New("no column says anything of the outcome: none reaches the information value asked for")
		}
		beta, err := s.regress(columns, t.Bad, o)
		if err != nil {
			return nil, err
		}
		worst := 1
		for i := range beta[1:] {
			if beta[i+1] > beta[worst] {
				worst = i + 1
			}
		}
		if beta[worst] < 0 {
			s.scale(beta)
			slices.SortStableFunc(s.Inputs, func(a, b ScorecardFeature) int { return cmp.Compare(b.IV, a.IV) })
			return s, s.index()
		}
		s.Inputs, columns = slices.Delete(s.Inputs, worst-1, worst), slices.Delete(columns, worst-1, worst)
	}
	return nil, errors.New("the scorecard has not settled")
}

// regress fits the outcome to the weights of evidence; more evidence for good must lower the odds of bad.
func (s *Scorecard) regress(columns []*Column, bad []bool, o Options) ([]float64, error) {
	for i := range s.Inputs {
		for k := range s.Inputs[i].Bins {
			s.Inputs[i].Bins[k].Points = s.Inputs[i].Bins[k].WoE
		}
	}
	if err := s.index(); err != nil {
		return nil, err
	}
	x := make([][]float64, len(bad))
	for r := range x {
		x[r] = make([]float64, 1+len(columns))
		x[r][0] = 1
		for i, c := range columns {
			x[r][1+i] = s.inner[i].bin(c.cell(s, i, r))
		}
	}
	return fit(x, bad, o.L2)
}

// scale turns coefficients into whole points: each feature gets its part of the offset and of the intercept.
func (s *Scorecard) scale(beta []float64) {
	n := float64(len(s.Inputs))
	factor := s.PDO / math.Ln2
	offset := s.BaseScore - factor*math.Log(s.BaseOdds)
	for i := range s.Inputs {
		for k := range s.Inputs[i].Bins {
			b := &s.Inputs[i].Bins[k]
			b.Points = math.Round(offset/n - factor*(beta[0]/n+beta[i+1]*b.WoE))
			b.WoE = round(b.WoE, 6)
		}
		s.Inputs[i].IV = round(s.Inputs[i].IV, 6)
	}
}

func round(f float64, decimals int) float64 {
	p := math.Pow10(decimals)
	return math.Round(f*p) / p
}
