package models

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// A measure takes scores, higher meaning more likely bad, and which rows were bad. Where there is no bad row or no good one
// it is NaN.

// tied is a group of rows of the same score.
type tied struct {
	score     float64
	good, bad float64
}

// groups sorts rows by score, ascending, equal ones together.
func groups(scores []float64, bad []bool) (all []tied, good, bads float64) {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[a], scores[b]) })
	for _, i := range order {
		if n := len(all); n == 0 || all[n-1].score != scores[i] {
			all = append(all, tied{score: scores[i]})
		}
		g := &all[len(all)-1]
		if bad[i] {
			g.bad++
			bads++
		} else {
			g.good++
			good++
		}
	}
	return all, good, bads
}

// AUC is the area under the receiver operating characteristic: the chance that a bad row scores higher than a good one, ties
// counting one half (Mann and Whitney 1947; Hanley and McNeil 1982).
func AUC(scores []float64, bad []bool) float64 {
	all, good, bads := groups(scores, bad)
	pairs, below := 0.0, 0.0
	for _, g := range all {
		pairs += g.bad * (below + g.good/2)
		below += g.good
	}
	return pairs / (good * bads)
}

// AveragePrecision is Σ (recall_n − recall_n−1) × precision_n over the distinct scores, descending (Zhu 2004): the area under
// the precision-recall curve without interpolation.
func AveragePrecision(scores []float64, bad []bool) float64 {
	all, _, bads := groups(scores, bad)
	sum, found, taken := 0.0, 0.0, 0.0
	for i := len(all) - 1; i >= 0; i-- {
		g := all[i]
		found, taken = found+g.bad, taken+g.bad+g.good
		sum += g.bad / bads * (found / taken)
	}
	return sum
}

// KS is the Kolmogorov-Smirnov distance: the largest difference of the cumulative shares of bad and good rows up to a score
// (Siddiqi 2006, chapter 6).
func KS(scores []float64, bad []bool) float64 {
	all, good, bads := groups(scores, bad)
	most, g, b := 0.0, 0.0, 0.0
	for _, t := range all {
		g, b = g+t.good, b+t.bad
		most = math.Max(most, math.Abs(b/bads-g/good))
	}
	if good == 0 || bads == 0 {
		return math.NaN()
	}
	return most
}

// Brier is the mean squared difference of the probability and the outcome, 1 for bad (Brier 1950).
func Brier(scores []float64, bad []bool) float64 {
	sum := 0.0
	for i, p := range scores {
		if bad[i] {
			p = 1 - p
		}
		sum += p * p
	}
	return sum / float64(len(scores))
}

// PrecisionAt is the share of bad rows among the k that score highest. Of rows tied for the last places the expected share
// counts. There are no k rows: the share of all.
func PrecisionAt(scores []float64, bad []bool, k int) float64 {
	all, _, _ := groups(scores, bad)
	places, found := float64(min(k, len(scores))), 0.0
	for i, left := len(all)-1, places; i >= 0 && left > 0; i-- {
		n := all[i].good + all[i].bad
		found += all[i].bad * math.Min(1, left/n)
		left -= math.Min(n, left)
	}
	return found / places
}

// CardPrecision is the mean over days of the share of compromised ones among the k customers (or cards) that score highest
// that day, each by its highest score; who has been found compromised is left out on later days (Dal Pozzolo et al., Credit
// Card Fraud Detection: a Realistic Modeling and a Novel Learning Strategy, IEEE TNNLS 2018: card precision, CP@k). On a day
// with fewer than k customers all of them count. days is any number that ascends with time, such as days since 1970.
func CardPrecision(scores []float64, bad []bool, days []int, customers []string, k int) float64 {
	byDay := map[int][]int{}
	for i, d := range days {
		byDay[d] = append(byDay[d], i)
	}
	found := map[string]bool{}
	sum, counted := 0.0, 0
	for _, d := range slices.Sorted(maps.Keys(byDay)) {
		top := topCustomers(byDay[d], scores, bad, customers, found, k)
		if len(top) == 0 {
			continue
		}
		hits := 0
		for _, c := range top {
			if c.bad {
				hits++
				found[c.name] = true
			}
		}
		sum += float64(hits) / float64(len(top))
		counted++
	}
	return sum / float64(counted)
}

// dayOf is one customer's day.
type dayOf struct {
	name  string
	score float64
	bad   bool
}

// topCustomers are the k customers of a day that score highest, by name where they are tied.
func topCustomers(rows []int, scores []float64, bad []bool, customers []string, but map[string]bool, k int) []dayOf {
	index := map[string]int{}
	var all []dayOf
	for _, i := range rows {
		name := customers[i]
		if but[name] {
			continue
		}
		at, ok := index[name]
		if !ok {
			at = len(all)
			index[name] = at
			all = append(all, dayOf{name, scores[i], false})
		}
		all[at].score = max(all[at].score, scores[i])
		all[at].bad = all[at].bad || bad[i]
	}
	slices.SortFunc(all, func(a, b dayOf) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.name, b.name))
	})
	return all[:min(k, len(all))]
}

// Distribution is how scores were spread in training: the shares of rows below each cut, between the cuts, and from the last.
type Distribution struct {
	Cuts   []float64 `json:"cuts"` // ascending; the deciles, equal ones once
	Shares []float64 `json:"shares"`
}

// NewDistribution takes scores apart at their deciles.
func NewDistribution(scores []float64) *Distribution {
	sorted := slices.Sorted(slices.Values(scores))
	d := &Distribution{}
	for i := 1; i < 10 && len(sorted) > 0; i++ {
		cut := sorted[i*len(sorted)/10]
		if n := len(d.Cuts); (n == 0 || d.Cuts[n-1] < cut) && cut > sorted[0] {
			d.Cuts = append(d.Cuts, cut)
		}
	}
	d.Shares = d.shares(scores)
	return d
}

// shares are the parts of scores in each interval. An empty one counts as half a row, so that its logarithm exists.
func (d *Distribution) shares(scores []float64) []float64 {
	counts := make([]float64, len(d.Cuts)+1)
	for _, s := range scores {
		i, found := slices.BinarySearch(d.Cuts, s)
		if found {
			i++
		}
		counts[i]++
	}
	for i := range counts {
		counts[i] = math.Max(counts[i], 0.5) / math.Max(float64(len(scores)), 0.5)
	}
	return counts
}

// PSI is the population stability index, Σ (now − then) × ln(now / then) over the intervals. Below 0.1 nothing has moved, from
// 0.25 the population is another one (Siddiqi 2006, chapter 8).
func (d *Distribution) PSI(scores []float64) float64 {
	sum := 0.0
	for i, now := range d.shares(scores) {
		sum += (now - d.Shares[i]) * math.Log(now/d.Shares[i])
	}
	return sum
}

// LiftRow is one tenth of the rows, the highest scores first.
type LiftRow struct {
	From, To  float64 // scores
	Rows, Bad int
	Lift      float64 // share of bad rows here by that of all
	Captured  float64 // share of all bad rows here and above
}

// Lift is the table of tenths.
func Lift(scores []float64, bad []bool) []LiftRow {
	order := make([]int, len(scores))
	total := 0
	for i := range order {
		order[i] = i
		if bad[i] {
			total++
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	var all []LiftRow
	captured := 0
	for k := range 10 {
		part := order[k*len(order)/10 : (k+1)*len(order)/10]
		if len(part) == 0 {
			continue
		}
		r := LiftRow{From: scores[part[0]], To: scores[part[len(part)-1]], Rows: len(part)}
		for _, i := range part {
			if bad[i] {
				r.Bad++
			}
		}
		captured += r.Bad
		r.Lift = float64(r.Bad) / float64(r.Rows) / (float64(total) / float64(len(order)))
		r.Captured = float64(captured) / float64(total)
		all = append(all, r)
	}
	return all
}
