// Package models scores events with statistical models: scorecards, logistic regressions and the trees of LightGBM and
// XGBoost. It trains the first two, and measures any of them. It is pure: a model is read from bytes once and scored from
// memory; the same bytes and features give the same score.
package models

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Limits of a model.
const (
	// MaxBytes bounds a model's file, unpacked: some 500 trees of 63 leaves are 2 MB as text.
	MaxBytes = 4 << 20
	// MaxFeatures bounds the features of a model.
	MaxFeatures = 500
	// MaxBins bounds the bins of one feature of a scorecard, and the categories of one feature of any model.
	MaxBins = 1000
	// MaxNameBytes bounds a feature's name and a category's word.
	MaxNameBytes = 200
)

// Model gives the probability of the bad outcome. It does not change and may be shared between goroutines.
//
// A row x has one number for each feature, in the order of Features. NaN is a missing value. The number of a categorical
// feature is what Code returns for its word.
type Model interface {
	// Kind is the word for the model in a ruleset: "scorecard", "logistic", "lightgbm", "xgboost".
	Kind() string
	// Features names the features in the order of a row.
	Features() []string
	// Categorical says whether the feature, by its index, is a word.
	Categorical(feature int) bool
	// Code turns a word of a categorical feature into its number, NaN when the model does not know it.
	Code(feature int, word string) float64
	// TakesMissing says whether the feature may be NaN. If it is NaN and may not be, every result is NaN.
	TakesMissing(feature int) bool
	// Margin is the natural logarithm of the odds of the bad outcome.
	Margin(x []float64) float64
	// Score is the probability of the bad outcome, 0 to 1: 1/(1+exp(-Margin)).
	Score(x []float64) float64
	// Contributions writes to out, of the length of x, what each feature adds to the margin, and returns what is left:
	// base + Σ out = Margin, but for rounding.
	Contributions(x, out []float64) (base float64)
}

// Kinds are the words for the kinds of models.
var Kinds = []string{"scorecard", "logistic", "lightgbm", "xgboost"}

// Parse reads a model of a kind. Data that starts like gzip is unpacked first. Its error says what is wrong and where; no
// bytes make it panic or take more memory than a multiple of MaxBytes.
func Parse(kind string, data []byte) (Model, error) {
	data, err := unpack(data)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "scorecard":
		return parseScorecard(data)
	case "logistic":
		return parseLogistic(data)
	case "lightgbm":
		return parseLightGBM(data)
	case "xgboost":
		return parseXGBoost(data)
	}
	return nil, fmt.Errorf("%q is no kind of model; write one of %s", kind, strings.Join(Kinds, ", "))
}

// Detect says which kind of model a file holds, "" when it looks like none.
func Detect(data []byte) string {
	data, err := unpack(data)
	if err != nil {
		return ""
	}
	text := bytes.TrimSpace(data)
	switch {
	case bytes.HasPrefix(text, []byte("tree\n")), bytes.HasPrefix(text, []byte("tree\r\n")):
		return "lightgbm"
	case !bytes.HasPrefix(text, []byte("{")):
		return ""
	}
	return detectJSON(text)
}

// unpack bounds a file and undoes gzip.
func unpack(data []byte) ([]byte, error) {
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("the model is not gzip that can be unpacked: %w", err)
		}
		if data, err = io.ReadAll(io.LimitReader(r, MaxBytes+1)); err != nil {
			return nil, fmt.Errorf("the model is not gzip that can be unpacked: %w", err)
		}
	}
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("the model has more than %d bytes; train it with fewer trees or leaves", MaxBytes)
	}
	return data, nil
}

// probability is the logistic function.
func probability(margin float64) float64 { return 1 / (1 + math.Exp(-margin)) }

// checkNames refuses names that are empty, too long, too many or there twice.
func checkNames(names []string) error {
	switch {
	case len(names) == 0:
		return fmt.Errorf("the model has no features")
	case len(names) > MaxFeatures:
		return fmt.Errorf("the model has %d features; at most %d", len(names), MaxFeatures)
	}
	sorted := slices.Sorted(slices.Values(names))
	for i, name := range sorted {
		switch {
		case name == "" || len(name) > MaxNameBytes:
			return fmt.Errorf("the feature %.50q has a name of %d bytes; it takes 1 to %d", name, len(name), MaxNameBytes)
		case i > 0 && sorted[i-1] == name:
			return fmt.Errorf("the feature %q is there twice", name)
		}
	}
	return nil
}

// finite says whether every number is one.
func finite(numbers ...float64) bool {
	return !slices.ContainsFunc(numbers, func(f float64) bool { return math.IsNaN(f) || math.IsInf(f, 0) })
}
