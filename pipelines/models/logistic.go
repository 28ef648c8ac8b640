package models

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// Logistic is a logistic regression: margin = intercept + Σ coefficient × (x − mean) / scale for numbers, and the word's
// coefficient for words.
type Logistic struct {
	Format    string            `json:"kind"` // "logistic"
	Intercept float64           `json:"intercept"`
	Inputs    []LogisticFeature `json:"features"`
	Training  *Training         `json:"training,omitempty"`

	names []string
	codes []map[string]float64 // nil: a number
}

// LogisticFeature is one feature with its coefficient, or one for each of its words.
type LogisticFeature struct {
	Name        string     `json:"name"`
	Coefficient float64    `json:"coefficient,omitempty"`
	Mean        float64    `json:"mean,omitempty"`    // taken off first; 0 when left out
	Scale       float64    `json:"scale,omitempty"`   // divided by then; 1 when left out
	Missing     *float64   `json:"missing,omitempty"` // the value taken for a missing one; nil: it may not be missing
	Categories  []Category `json:"categories,omitempty"`
	Other       *float64   `json:"other,omitempty"` // coefficient of words not listed and of missing ones; nil: they may not be
}

// Category is one word of a feature.
type Category struct {
	Value       string  `json:"value"`
	Coefficient float64 `json:"coefficient"`
}

// Training says what a model was trained on; it changes no score.
type Training struct {
	Rows    int           `json:"rows"`
	Bad     int           `json:"bad"`
	BadWord string        `json:"bad_value,omitempty"`
	Seed    uint64        `json:"seed"`
	AUC     float64       `json:"auc,omitempty"` // mean over the folds left out
	KS      float64       `json:"ks,omitempty"`
	Scores  *Distribution `json:"scores,omitempty"` // in training: PSI compares with it
}

func parseLogistic(data []byte) (*Logistic, error) {
	var m Logistic
	if err := parseJSON(data, "logistic regression", &m); err != nil {
		return nil, err
	}
	if m.Format != "logistic" {
		return nil, fmt.Errorf(`the file says "kind": %.50q; a logistic regression says "logistic"`, m.Format)
	}
	return &m, m.index()
}

// index checks the model and prepares it for scoring.
func (m *Logistic) index() error {
	m.names, m.codes = make([]string, len(m.Inputs)), make([]map[string]float64, len(m.Inputs))
	for i := range m.Inputs {
		m.names[i] = m.Inputs[i].Name
	}
	if err := checkNames(m.names); err != nil {
		return err
	}
	if !finite(m.Intercept) {
		return errors.New("the intercept is no number")
	}
	for i := range m.Inputs {
		if err := m.check(i); err != nil {
			return fmt.Errorf("feature %q: %w", m.names[i], err)
		}
	}
	return nil
}

func (m *Logistic) check(i int) error {
	f := &m.Inputs[i]
	if f.Scale == 0 {
		f.Scale = 1
	}
	if !finite(f.Coefficient, f.Mean, f.Scale) || f.Scale <= 0 || f.Missing != nil && !finite(*f.Missing) || f.Other != nil && !finite(*f.Other) {
		return errors.New("coefficient, mean, missing and other are plain numbers, scale one above 0")
	}
	if len(f.Categories) == 0 {
		if f.Other != nil {
			return errors.New("other: goes with categories; a number says missing instead")
		}
		return nil
	}
	if f.Coefficient != 0 || f.Mean != 0 || f.Scale != 1 || f.Missing != nil {
		return errors.New("a feature has either a coefficient, or categories with one each and other")
	}
	if len(f.Categories) > MaxBins {
		return fmt.Errorf("%d categories; at most %d", len(f.Categories), MaxBins)
	}
	m.codes[i] = make(map[string]float64, len(f.Categories))
	for n, c := range f.Categories {
		if _, taken := m.codes[i][c.Value]; taken || len(c.Value) > MaxNameBytes || !finite(c.Coefficient) {
			return fmt.Errorf("the category %.50q is there twice, has more than %d bytes, or no coefficient", c.Value, MaxNameBytes)
		}
		m.codes[i][c.Value] = float64(n)
	}
	return nil
}

// Kind returns "logistic".
func (m *Logistic) Kind() string { return "logistic" }

// Features names the features.
func (m *Logistic) Features() []string { return slices.Clone(m.names) }

// Categorical says whether a feature is a word.
func (m *Logistic) Categorical(feature int) bool { return m.codes[feature] != nil }

// Code returns a word's number.
func (m *Logistic) Code(feature int, word string) float64 { return code(m.codes[feature], word) }

// TakesMissing says whether the file declares what a missing value counts as.
func (m *Logistic) TakesMissing(feature int) bool {
	return m.Inputs[feature].Missing != nil || m.Inputs[feature].Other != nil
}

// term is what one feature adds to the margin.
func (m *Logistic) term(i int, x float64) float64 {
	f := &m.Inputs[i]
	if m.codes[i] != nil {
		if x >= 0 && x < float64(len(f.Categories)) {
			return f.Categories[int(x)].Coefficient
		}
		return orNaN(f.Other)
	}
	if math.IsNaN(x) {
		x = orNaN(f.Missing)
	}
	return float64(f.Coefficient * ((x - f.Mean) / f.Scale)) // converted, so that no machine fuses it with the sum
}

func orNaN(f *float64) float64 {
	if f == nil {
		return math.NaN()
	}
	return *f
}

// Margin returns the logarithm of the odds of the bad outcome.
func (m *Logistic) Margin(x []float64) float64 {
	sum := m.Intercept
	for i := range m.Inputs {
		sum += m.term(i, x[i])
	}
	return sum
}

// Score returns the probability of the bad outcome.
func (m *Logistic) Score(x []float64) float64 { return probability(m.Margin(x)) }

// Contributions are the terms of the sum: of a standardized feature, the distance from its mean.
func (m *Logistic) Contributions(x, out []float64) float64 {
	for i := range m.Inputs {
		out[i] = m.term(i, x[i])
	}
	return m.Intercept
}

// parseJSON reads one JSON document and nothing that it does not know.
func parseJSON(data []byte, what string, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("the file is no %s: %w, near byte %d", what, err, d.InputOffset())
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("the file goes on after its end, at byte %d", d.InputOffset())
	}
	return nil
}

// detectJSON says which kind a JSON document is.
func detectJSON(data []byte) string {
	var head struct {
		Kind    string          `json:"kind"`
		Learner json.RawMessage `json:"learner"`
	}
	switch err := json.Unmarshal(data, &head); {
	case err != nil:
		return ""
	case head.Learner != nil:
		return "xgboost"
	case head.Kind == "scorecard" || head.Kind == "logistic":
		return head.Kind
	}
	return ""
}
