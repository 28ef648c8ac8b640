package models

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Options say how to train. The zero value takes what is usual.
type Options struct {
	// L2 is the weight of the squares of the standardized coefficients in the loss, against the sum over rows; 1 when 0.
	L2 float64
	// MinIV is the information value below which a feature is left out of a scorecard; 0.02 when 0 (Siddiqi 2006: less predicts
	// nothing).
	MinIV float64
	// MaxBins is how many bins a feature of a scorecard has at most, the one for missing values left out; 6 when 0.
	MaxBins int
	// BaseScore points are odds of BaseOdds good to bad, PDO more double them; 600, 50 and 20 when 0.
	BaseScore, BaseOdds, PDO float64
}

func (o Options) filled() Options {
	o.L2, o.MinIV, o.MaxBins = cmp.Or(o.L2, 1), cmp.Or(o.MinIV, 0.02), cmp.Or(o.MaxBins, 6)
	o.BaseScore, o.BaseOdds, o.PDO = cmp.Or(o.BaseScore, 600), cmp.Or(o.BaseOdds, 50), cmp.Or(o.PDO, 20)
	return o
}

// Limits of fitting.
const (
	maxNewtonSteps = 100
	newtonDone     = 1e-10 // largest change of a coefficient
	// rareWord is the share of rows below which a word gets no coefficient of its own.
	rareWord = 0.01
)

// fit finds the coefficients that minimize −log likelihood + l2/2 × Σ coefficient², by Newton's method, which for a logistic
// regression is iteratively reweighted least squares (McCullagh and Nelder, Generalized Linear Models, 1989, chapter 4). Each
// row of x starts with 1, whose coefficient, the intercept, is not penalized.
func fit(x [][]float64, bad []bool, l2 float64) ([]float64, error) {
	p := len(x[0])
	beta := make([]float64, p)
	loss := penalizedLoss(x, bad, beta, l2)
	for range maxNewtonSteps {
		gradient, hessian := derivatives(x, bad, beta, l2)
		step, err := solve(hessian, gradient)
		if err != nil {
			return nil, err
		}
		// A step that is too long is halved: the loss is convex, so a short one always lowers it.
		next := make([]float64, p)
		scale := 1.0
		for range 30 {
			for i := range next {
				next[i] = beta[i] - scale*step[i]
			}
			if l := penalizedLoss(x, bad, next, l2); l <= loss {
				loss = l
				break
			}
			scale /= 2
		}
		change := 0.0
		for i := range next {
			change = math.Max(change, math.Abs(next[i]-beta[i]))
		}
		if beta = next; change < newtonDone {
			return beta, nil
		}
	}
	return nil, fmt.Errorf("the regression has not settled after %d steps; raise the penalty", maxNewtonSteps)
}

func penalizedLoss(x [][]float64, bad []bool, beta []float64, l2 float64) float64 {
	loss := 0.0
	for i, row := range x {
		m := dot(row, beta)
		if !bad[i] {
			m = -m
		}
		// ln(1 + e^-m), without overflow
		if m > 0 {
			loss += math.Log1p(math.Exp(-m))
		} else {
			loss += math.Log1p(math.Exp(m)) - m
		}
	}
	for _, b := range beta[1:] {
		loss += l2 / 2 * b * b
	}
	return loss
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

// derivatives are the gradient and the lower half of the Hessian of penalizedLoss.
func derivatives(x [][]float64, bad []bool, beta []float64, l2 float64) ([]float64, [][]float64) {
	p := len(beta)
	gradient, hessian := make([]float64, p), make([][]float64, p)
	for i := range hessian {
		hessian[i] = make([]float64, p)
	}
	for r, row := range x {
		q := probability(dot(row, beta))
		weight, residual := q*(1-q), q
		if bad[r] {
			residual = q - 1
		}
		for i, v := range row {
			if v == 0 {
				continue
			}
			gradient[i] += residual * v
			wv := weight * v
			for j, u := range row[:i+1] {
				hessian[i][j] += wv * u
			}
		}
	}
	for i := 1; i < p; i++ {
		gradient[i] += l2 * beta[i]
		hessian[i][i] += l2
	}
	return gradient, hessian
}

// solve returns h⁻¹g for a symmetric positive definite h, of which the lower half is read and overwritten (Cholesky).
func solve(h [][]float64, g []float64) ([]float64, error) {
	n := len(g)
	for i := range n {
		for j := 0; j <= i; j++ {
			sum := h[i][j] - dot(h[i][:j], h[j][:j])
			if i != j {
				h[i][j] = sum / h[j][j]
				continue
			}
			if !(sum > 0) {
				return nil, errors.New("the regression has no single solution: features repeat each other; raise the penalty or leave one out")
			}
			h[i][i] = math.Sqrt(sum)
		}
	}
	y := slices.Clone(g)
	for i := range n {
		y[i] = (y[i] - dot(h[i][:i], y[:i])) / h[i][i]
	}
	for i := n - 1; i >= 0; i-- {
		for j := i + 1; j < n; j++ {
			y[i] -= h[j][i] * y[j]
		}
		y[i] /= h[i][i]
	}
	return y, nil
}

// TrainLogistic fits a logistic regression of all columns. Numbers are standardized; a missing one counts as the mean where
// training has seen any. Words get a coefficient each; the rare, the unknown and the missing ones share one.
func TrainLogistic(t *Table, o Options) (*Logistic, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	o = o.filled()
	m := &Logistic{Format: "logistic", Inputs: make([]LogisticFeature, len(t.Columns))}
	x := make([][]float64, t.Rows())
	for r := range x {
		x[r] = append(make([]float64, 0, 1+2*len(t.Columns)), 1)
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		m.Inputs[i] = LogisticFeature{Name: c.Name}
		if c.Words != nil {
			addWords(&m.Inputs[i], c.Words, x)
		} else {
			addNumbers(&m.Inputs[i], c.Numbers, x)
		}
	}
	beta, err := fit(x, t.Bad, o.L2)
	if err != nil {
		return nil, err
	}
	m.Intercept = beta[0]
	m.take(beta[1:])
	return m, m.index()
}

// addNumbers appends a standardized column to the rows.
func addNumbers(f *LogisticFeature, values []float64, x [][]float64) {
	n, sum, squares := 0.0, 0.0, 0.0
	for _, v := range values {
		if !math.IsNaN(v) {
			n++
			sum += v
		}
	}
	if n > 0 {
		f.Mean = sum / n
	}
	for _, v := range values {
		if !math.IsNaN(v) {
			squares += (v - f.Mean) * (v - f.Mean)
		}
	}
	f.Scale = 1
	if squares > 0 {
		f.Scale = math.Sqrt(squares / n)
	}
	if int(n) < len(values) {
		f.Missing = &f.Mean
	}
	for r, v := range values {
		if math.IsNaN(v) {
			v = f.Mean
		}
		x[r] = append(x[r], (v-f.Mean)/f.Scale)
	}
}

// addWords appends a column of 0 and 1 for each word that is not rare, and one for all others.
func addWords(f *LogisticFeature, words []string, x [][]float64) {
	counts := map[string]int{}
	for _, w := range words {
		counts[w]++
	}
	var kept []string
	for w, n := range counts {
		if w != "" && float64(n) >= rareWord*float64(len(words)) && len(w) <= MaxNameBytes {
			kept = append(kept, w)
		}
	}
	slices.Sort(kept)
	for _, w := range kept {
		f.Categories = append(f.Categories, Category{Value: w})
	}
	f.Other = new(float64)
	for r, w := range words {
		i, found := slices.BinarySearch(kept, w)
		if !found {
			i = len(kept)
		}
		for k := range len(kept) + 1 {
			v := 0.0
			if k == i {
				v = 1
			}
			x[r] = append(x[r], v)
		}
	}
}

// take hands the coefficients out to the features, in the order their columns were added.
func (m *Logistic) take(beta []float64) {
	for i := range m.Inputs {
		f := &m.Inputs[i]
		if f.Other == nil {
			f.Coefficient, beta = beta[0], beta[1:]
			continue
		}
		for k := range f.Categories {
			f.Categories[k].Coefficient = beta[k]
		}
		*f.Other = beta[len(f.Categories)]
		beta = beta[len(f.Categories)+1:]
	}
}
