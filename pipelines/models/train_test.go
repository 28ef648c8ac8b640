package models

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// drawn is scores with many ties and their outcomes, of which there are both.
func drawn(t *rapid.T) ([]float64, []bool) {
	n := rapid.IntRange(2, 60).Draw(t, "rows")
	scores, bad := make([]float64, n), make([]bool, n)
	for i := range scores {
		scores[i] = float64(rapid.IntRange(0, 12).Draw(t, "score")) / 12
		bad[i] = rapid.Bool().Draw(t, "bad")
	}
	bad[0], bad[1] = true, false
	return scores, bad
}

// The measures are what their definitions say, computed the slow way.
func TestMeasuresAgreeWithTheirDefinitions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		scores, bad := drawn(t)
		agree := func(what string, got, want float64) {
			if !(math.Abs(got-want) < 1e-12) {
				t.Fatalf("%s = %v, want %v", what, got, want)
			}
		}
		agree("AUC", AUC(scores, bad), naiveAUC(scores, bad))
		agree("KS", KS(scores, bad), naiveKS(scores, bad))
		agree("average precision", AveragePrecision(scores, bad), naiveAveragePrecision(scores, bad))
		lift := Lift(scores, bad)
		rows, bads := 0, 0
		for _, r := range lift {
			rows, bads = rows+r.Rows, bads+r.Bad
		}
		if rows != len(scores) || lift[len(lift)-1].Captured != 1 || float64(bads)/float64(rows) != rate(bad) {
			t.Fatalf("the table of tenths is %+v", lift)
		}
		agree("precision at all", PrecisionAt(scores, bad, len(scores)+5), rate(bad))
		d := NewDistribution(scores)
		agree("PSI against itself", d.PSI(scores), 0)
		if len(d.Cuts) > 0 && d.PSI(append(slices.Clone(scores), 2, 2, 2)) <= 0 {
			t.Fatal("a population that has moved has a PSI of 0")
		}
	})
}

func rate(bad []bool) float64 {
	n := 0.0
	for _, b := range bad {
		if b {
			n++
		}
	}
	return n / float64(len(bad))
}

func naiveAUC(scores []float64, bad []bool) float64 {
	wins, pairs := 0.0, 0.0
	for i := range scores {
		for j := range scores {
			if bad[i] && !bad[j] {
				pairs++
				switch {
				case scores[i] > scores[j]:
					wins++
				case scores[i] == scores[j]:
					wins += 0.5
				}
			}
		}
	}
	return wins / pairs
}

func naiveKS(scores []float64, bad []bool) float64 {
	most := 0.0
	for _, cut := range scores {
		g, b, goods, bads := 0.0, 0.0, 0.0, 0.0
		for i := range scores {
			if bad[i] {
				bads++
			} else {
				goods++
			}
			if scores[i] <= cut {
				if bad[i] {
					b++
				} else {
					g++
				}
			}
		}
		most = math.Max(most, math.Abs(b/bads-g/goods))
	}
	return most
}

func naiveAveragePrecision(scores []float64, bad []bool) float64 {
	cuts := slices.Compact(slices.Sorted(slices.Values(scores)))
	slices.Reverse(cuts)
	sum, before := 0.0, 0.0
	for _, cut := range cuts {
		hit, taken, bads := 0.0, 0.0, 0.0
		for i := range scores {
			if bad[i] {
				bads++
			}
			if scores[i] >= cut {
				taken++
				if bad[i] {
					hit++
				}
			}
		}
		sum += (hit/bads - before) * hit / taken
		before = hit / bads
	}
	return sum
}

// Values worked out by hand, or by scikit-learn (average_precision_score, roc_auc_score of its documentation's example).
func TestMeasuresOfKnownExamples(t *testing.T) {
	t.Parallel()
	scores, bad := []float64{0.1, 0.4, 0.35, 0.8}, []bool{false, false, true, true}
	near(t, "AUC", AUC(scores, bad), 0.75, 1e-15)
	near(t, "average precision", AveragePrecision(scores, bad), 0.8333333333333333, 1e-15)
	near(t, "KS", KS(scores, bad), 0.5, 1e-15)
	near(t, "Brier", Brier(scores, bad), (0.01+0.16+0.4225+0.04)/4, 1e-15)
	near(t, "precision at 1", PrecisionAt(scores, bad, 1), 1, 0)
	near(t, "precision at 2", PrecisionAt(scores, bad, 2), 0.5, 0)
	near(t, "precision at 1 of three tied", PrecisionAt([]float64{1, 1, 1, 0}, []bool{true, false, false, true}, 1), 1.0/3, 1e-15)
	d := &Distribution{Cuts: []float64{0.5}, Shares: []float64{0.5, 0.5}}
	near(t, "PSI", d.PSI([]float64{0.1, 0.6, 0.7, 0.9}), -0.25*math.Log(0.5)+0.25*math.Log(1.5), 1e-15)

	// Day 1: B and A are looked at, B is found; day 2: B is left out, A and C are looked at, both bad.
	cards := []string{"A", "B", "C", "A", "B", "C"}
	days := []int{1, 1, 1, 2, 2, 2}
	at2 := CardPrecision([]float64{0.8, 0.9, 0.1, 0.7, 0.99, 0.6}, []bool{false, true, true, true, false, true}, days, cards, 2)
	near(t, "card precision at 2", at2, (0.5+1)/2, 1e-15)
}

// made is a table whose outcome follows a known logistic regression.
func made(rows int, seed uint64) *Table {
	r := rand.New(rand.NewPCG(seed, 1))
	t := &Table{Columns: []Column{{Name: "a"}, {Name: "b"}, {Name: "noise"}, {Name: "word"}}}
	words := []string{"x", "y", "z", ""}
	effect := map[string]float64{"x": -1, "y": 0.2, "z": 1, "": 0}
	for range rows {
		a, b, w := r.NormFloat64(), r.Float64()*100, words[r.IntN(4)]
		margin := -0.5 + 1.2*a - 0.03*(b-50) + effect[w]
		if r.IntN(20) == 0 {
			a = math.NaN()
		}
		t.Columns[0].Numbers = append(t.Columns[0].Numbers, a)
		t.Columns[1].Numbers = append(t.Columns[1].Numbers, b)
		t.Columns[2].Numbers = append(t.Columns[2].Numbers, float64(r.IntN(7)))
		t.Columns[3].Words = append(t.Columns[3].Words, w)
		t.Bad = append(t.Bad, r.Float64() < probability(margin))
	}
	return t
}

// At the minimum the gradient of the penalized loss is zero; the loss is convex, so nothing else is the minimum.
func TestFitFindsTheMinimum(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n, p := rapid.IntRange(4, 40).Draw(t, "rows"), rapid.IntRange(1, 5).Draw(t, "features")
		x, bad := make([][]float64, n), make([]bool, n)
		for i := range x {
			x[i] = []float64{1}
			for range p {
				x[i] = append(x[i], float64(rapid.IntRange(-30, 30).Draw(t, "value"))/10)
			}
			bad[i] = rapid.Bool().Draw(t, "bad")
		}
		bad[0], bad[1] = true, false
		const l2 = 0.5
		beta, err := fit(x, bad, l2)
		if err != nil {
			t.Fatal(err)
		}
		for k := range beta {
			const h = 1e-5 // central difference
			up, down := slices.Clone(beta), slices.Clone(beta)
			up[k], down[k] = up[k]+h, down[k]-h
			if slope := (penalizedLoss(x, bad, up, l2) - penalizedLoss(x, bad, down, l2)) / (2 * h); math.Abs(slope) > 1e-4 {
				t.Fatalf("slope %v along coefficient %d of %v", slope, k, beta)
			}
		}
	})
}

// With nothing but an intercept and one feature of two values, the coefficients are logarithms of odds.
func TestFitOfATwoByTwoTable(t *testing.T) {
	t.Parallel()
	var x [][]float64
	var bad []bool
	for _, c := range []struct {
		value, bad, good int
	}{{0, 10, 90}, {1, 40, 60}} {
		for i := range c.bad + c.good {
			x, bad = append(x, []float64{1, float64(c.value)}), append(bad, i < c.bad)
		}
	}
	beta, err := fit(x, bad, 0)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "intercept", beta[0], math.Log(10.0/90), 1e-9)
	near(t, "coefficient", beta[1], math.Log(40.0/60)-math.Log(10.0/90), 1e-9)
	if _, err := fit([][]float64{{1, 2, 2}, {1, 3, 3}, {1, 4, 4}}, []bool{true, false, true}, 0); err == nil {
		t.Error("two features that are one have no single solution")
	}
}

func TestWeightOfEvidenceAndInformationValue(t *testing.T) {
	t.Parallel()
	bins := []Bin{{Good: 60, Bad: 10}, {Good: 40, Bad: 30}, {Missing: true}, {Good: 0, Bad: 10}}
	iv := weigh(bins, class{good: 100, bad: 50})
	near(t, "WoE", bins[0].WoE, math.Log(0.6/0.2), 1e-15)
	near(t, "WoE", bins[1].WoE, math.Log(0.4/0.6), 1e-15)
	near(t, "WoE of a bin without rows", bins[2].WoE, 0, 0)
	near(t, "WoE of a bin without good rows", bins[3].WoE, math.Log(0.5/100/(10.5/50)), 1e-15)
	near(t, "IV", iv, 0.4*math.Log(3)-0.2*math.Log(0.4/0.6)+(0.005-0.21)*bins[3].WoE, 1e-15)
}

// Bins are what they promise: ascending, of at least 5 % of the rows each, with a rate of bad rows that goes one way, and
// together all rows.
func TestBinsOfAScorecard(t *testing.T) {
	t.Parallel()
	table := made(3000, 3)
	o := Options{}.filled()
	for i := range table.Columns {
		c := &table.Columns[i]
		bins, iv := binColumn(c, table.Bad, o)
		rows, up, down, last := 0, true, true, -1.0
		for k, b := range bins {
			rows += b.Good + b.Bad
			if b.Missing {
				continue
			}
			if share := float64(b.Good+b.Bad) / 3000; share < minBinShare {
				t.Errorf("%s: bin %d has %.3f of the rows", c.Name, k, share)
			}
			r := float64(b.Bad) / float64(b.Good+b.Bad)
			up, down, last = up && (k == 0 || r > last), down && (k == 0 || r < last), r
			if k > 0 && b.Below != nil && *b.Below <= *bins[k-1].Below {
				t.Errorf("%s: not ascending at bin %d", c.Name, k)
			}
		}
		if rows != 3000 || !up && !down || len(bins) > o.MaxBins+1 {
			t.Errorf("%s: %d rows in %d bins, rising %v, falling %v", c.Name, rows, len(bins), up, down)
		}
		if informative := c.Name != "noise"; (iv >= 0.02) != informative {
			t.Errorf("%s has the information value %v", c.Name, iv)
		}
	}
}

// Both kinds find what the data were made with, say the same again, and come through their file unchanged.
func TestTrainedModelsKnowTheData(t *testing.T) {
	t.Parallel()
	table, fresh := made(4000, 1), made(4000, 2)
	for kind, least := range map[string]float64{"logistic": 0.80, "scorecard": 0.78} { // the data's own margins reach 0.82
		m, err := Train(kind, table, Options{})
		if err != nil {
			t.Fatal(err)
		}
		scores, err := Scores(m, fresh)
		if err != nil {
			t.Fatal(err)
		}
		if auc := AUC(scores, fresh.Bad); auc < least {
			t.Errorf("%s: AUC %v on fresh data", kind, auc)
		}
		sum := 0.0
		for _, s := range scores {
			sum += s / 4000
		}
		near(t, kind+": mean probability", sum, rate(fresh.Bad), 0.03)
		file, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		twin, _ := Train(kind, table, Options{})
		if again, err := json.Marshal(twin); err != nil || !bytes.Equal(file, again) {
			t.Errorf("%s: trained twice, two models: %v", kind, err)
		}
		back := mustParse(t, kind, file)
		reread, err := Scores(back, fresh)
		if err != nil || !slices.Equal(scores, reread) {
			t.Errorf("%s: scores differ after writing and reading it: %v", kind, err)
		}
	}
	s, _ := TrainScorecard(table, Options{})
	if slices.Contains(s.Features(), "noise") {
		t.Error("the scorecard holds noise")
	}
}

// A feature that goes with the bad outcome only because it follows another, and lowers the odds beside it, is left out.
func TestScorecardLeavesOutWhatHasTheWrongSign(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(9, 9))
	table := &Table{Columns: []Column{{Name: "cause"}, {Name: "follower"}}}
	for range 3000 {
		cause := r.NormFloat64()
		follower := cause + r.NormFloat64()*0.5
		table.Columns[0].Numbers, table.Columns[1].Numbers = append(table.Columns[0].Numbers, cause), append(table.Columns[1].Numbers, follower)
		table.Bad = append(table.Bad, r.Float64() < probability(3*cause-1.2*follower))
	}
	s, err := TrainScorecard(table, Options{})
	if err != nil || len(s.Inputs) != 1 || s.Inputs[0].Name != "cause" {
		t.Errorf("features %v, %v", s.Features(), err)
	}
}

// A feature that tells the outcomes apart without a mistake keeps finite weights.
func TestScorecardOfWhatDecidesAlone(t *testing.T) {
	t.Parallel()
	table := made(400, 1)
	for i := range table.Bad {
		table.Bad[i] = table.Columns[1].Numbers[i] > 70
	}
	s, err := TrainScorecard(table, Options{})
	if err != nil {
		t.Fatal(err)
	}
	scores, err := Scores(s, table)
	if err != nil || AUC(scores, table.Bad) < 0.999 || !finite(scores...) {
		t.Errorf("AUC %v, %v", AUC(scores, table.Bad), err)
	}
}

func TestFoldsAreStratified(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		bad := rapid.SliceOfN(rapid.Bool(), 10, 200).Draw(t, "bad")
		k, seed := rapid.IntRange(2, 10).Draw(t, "k"), rapid.Uint64().Draw(t, "seed")
		folds := Folds(bad, k, seed)
		rows, bads := make([]int, k), make([]int, k)
		for i, f := range folds {
			rows[f]++
			if bad[i] {
				bads[f]++
			}
		}
		if slices.Max(rows)-slices.Min(rows) > 1 || slices.Max(bads)-slices.Min(bads) > 1 {
			t.Fatalf("rows %v, bad %v", rows, bads)
		}
		if !slices.Equal(folds, Folds(bad, k, seed)) {
			t.Fatal("the same seed deals otherwise")
		}
	})
}

func TestTrainingRefusesWhatTeachesNothing(t *testing.T) {
	t.Parallel()
	table := made(200, 1)
	few := table.Select([]int{0, 1, 2, 3, 4})
	ids := made(400, 1)
	for i := range ids.Columns[3].Words {
		ids.Columns[3].Words[i] = strconv.Itoa(i)
	}
	noise := &Table{Columns: []Column{{Name: "one", Numbers: make([]float64, 200)}}, Bad: table.Bad}
	for name, bad := range map[string]*Table{"few": few, "names of rows": ids, "nothing": noise} {
		if _, err := TrainScorecard(bad, Options{}); err == nil {
			t.Errorf("%s: trained", name)
		}
	}
}

// germanCredit is the Statlog data set where it is at hand.
func germanCredit(t *testing.T) *Table {
	t.Helper()
	f, err := os.Open("../../../shared/data/germancredit/germancredit.csv")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the German credit data is not here")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	last := len(records[0]) - 1
	table := &Table{Columns: make([]Column, last)}
	for i := range table.Columns {
		c := &table.Columns[i]
		c.Name = records[0][i]
		for _, r := range records[1:] {
			if v, err := strconv.ParseFloat(r[i], 64); err == nil {
				c.Numbers = append(c.Numbers, v)
			} else {
				c.Words = append(c.Words, r[i])
			}
		}
	}
	for _, r := range records[1:] {
		table.Bad = append(table.Bad, r[last] == "bad")
	}
	return table
}

// Published figures for these data lie around an AUC of 0.76 to 0.80.
func TestGermanCreditIsScoredAsWellAsPublished(t *testing.T) {
	t.Parallel()
	table := germanCredit(t)
	for _, kind := range []string{"scorecard", "logistic"} {
		cv, err := CrossValidate(table, 5, 1, func(t *Table) (Model, error) { return Train(kind, t, Options{}) })
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: AUC %.4f, KS %.4f, average precision %.4f, Brier %.4f, PSI %.4f", kind, cv.Mean.AUC, cv.Mean.KS, cv.Mean.AveragePrecision, cv.Mean.Brier, cv.Mean.PSI)
		if cv.Mean.AUC < 0.76 || cv.Mean.AUC > 0.82 || cv.Mean.KS < 0.40 {
			t.Errorf("%s: AUC %.4f, KS %.4f", kind, cv.Mean.AUC, cv.Mean.KS)
		}
	}
}
