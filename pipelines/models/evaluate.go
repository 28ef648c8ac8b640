package models

import (
	"fmt"
	"math"
)

// AlertRows is how many rows, or customers a day, precision is measured at: what a team can look at.
const AlertRows = 100

// Measures say how good scores are on rows the model has not seen.
type Measures struct {
	AUC, AveragePrecision, KS, Brier float64
	PSI                              float64 // against the scores in training
	Precision                        float64 // at AlertRows rows
	CardPrecision                    float64 // at AlertRows customers a day; NaN when the table has no customers or days
}

// Measure compares scores with the outcomes of a table. training may be nil.
func Measure(scores []float64, t *Table, training *Distribution) Measures {
	m := Measures{AUC: AUC(scores, t.Bad), AveragePrecision: AveragePrecision(scores, t.Bad), KS: KS(scores, t.Bad), Brier: Brier(scores, t.Bad),
		PSI: math.NaN(), Precision: PrecisionAt(scores, t.Bad, AlertRows), CardPrecision: math.NaN()}
	if training != nil {
		m.PSI = training.PSI(scores)
	}
	if t.Days != nil && t.Customers != nil {
		m.CardPrecision = CardPrecision(scores, t.Bad, t.Days, t.Customers, AlertRows)
	}
	return m
}

// CrossValidation is what k models say of the rows each has not seen.
type CrossValidation struct {
	Folds  []Measures
	Mean   Measures
	Scores []float64 // of each row, by the model that has not seen it
}

// CrossValidate trains on all folds but one and measures on that one, for each of k folds dealt by the seed.
func CrossValidate(t *Table, k int, seed uint64, train func(*Table) (Model, error)) (*CrossValidation, error) {
	if k < 2 || k > t.Rows() {
		return nil, fmt.Errorf("%d folds; there are at least 2, and no more than rows", k)
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	cv := &CrossValidation{Scores: make([]float64, t.Rows())}
	folds := Folds(t.Bad, k, seed)
	for fold := range k {
		var seen, unseen []int
		for row, f := range folds {
			if f == fold {
				unseen = append(unseen, row)
			} else {
				seen = append(seen, row)
			}
		}
		learnt, tested := t.Select(seen), t.Select(unseen)
		m, err := train(learnt)
		if err != nil {
			return nil, fmt.Errorf("fold %d: %w", fold+1, err)
		}
		before, err := Scores(m, learnt)
		if err != nil {
			return nil, fmt.Errorf("fold %d: %w", fold+1, err)
		}
		scores, err := Scores(m, tested)
		if err != nil {
			return nil, fmt.Errorf("fold %d: %w", fold+1, err)
		}
		for i, row := range unseen {
			cv.Scores[row] = scores[i]
		}
		cv.Folds = append(cv.Folds, Measure(scores, tested, NewDistribution(before)))
	}
	cv.Mean = mean(cv.Folds)
	return cv, nil
}

func mean(all []Measures) Measures {
	var sum Measures
	n := float64(len(all))
	for _, m := range all {
		sum.AUC += m.AUC / n
		sum.AveragePrecision += m.AveragePrecision / n
		sum.KS += m.KS / n
		sum.Brier += m.Brier / n
		sum.PSI += m.PSI / n
		sum.Precision += m.Precision / n
		sum.CardPrecision += m.CardPrecision / n
	}
	return sum
}

// Train fits a scorecard or a logistic regression.
func Train(kind string, t *Table, o Options) (Model, error) {
	switch kind {
	case "scorecard":
		return TrainScorecard(t, o)
	case "logistic":
		return TrainLogistic(t, o)
	}
	return nil, fmt.Errorf("%q is not trained here; train a scorecard or a logistic regression", kind)
}
