package models

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Limits of the trees of one model.
const (
	// MaxTreeDepth bounds the splits on a path: contributions take time in its square.
	MaxTreeDepth = 128
	// maxLeaf bounds a leaf's value, so that no sum of them is infinite.
	maxLeaf = 1e100
	// zeroThreshold is what LightGBM takes for zero when it treats zeros as missing.
	zeroThreshold = 1e-35
)

// Trees is a sum of regression trees, as LightGBM and XGBoost write them. Its margin is the sum of the leaves that a row
// falls into, and a base.
type Trees struct {
	kind   string
	names  []string
	codes  []map[string]float64 // nil: a number
	trees  []tree
	base   float64
	scale  float64 // the margin is this times the sum
	single bool    // numbers are compared as float32 and with <, as XGBoost does; otherwise with <=
}

// tree is its nodes; the first is the root.
type tree []node

// node is a split, or a leaf.
type node struct {
	leaf        bool
	left, right int32
	feature     int32
	threshold   float64 // of a leaf: its value
	words       []uint32
	categorical bool // a bit of words for each code that goes left
	defaultLeft bool
	missing     missing
	cover       float64 // rows, or their weight, that came through in training
}

// missing is what a split takes for missing.
type missing uint8

const (
	missingNone missing = iota // nothing: NaN is zero
	missingZero                // zero, and NaN
	missingNaN                 // NaN
)

// goesLeft says which way a value goes.
func (m *Trees) goesLeft(n *node, x float64) bool {
	if n.categorical {
		if math.IsNaN(x) || x < 0 || x >= float64(32*len(n.words)) {
			return false
		}
		i := int(x)
		return n.words[i/32]>>(i%32)&1 == 1
	}
	if m.single {
		x = float64(float32(x))
	}
	if math.IsNaN(x) && n.missing != missingNaN {
		x = 0
	}
	if n.missing == missingNaN && math.IsNaN(x) || n.missing == missingZero && math.Abs(x) <= zeroThreshold {
		return n.defaultLeft
	}
	if m.single {
		return x < n.threshold
	}
	return x <= n.threshold
}

// leafOf walks a row to its leaf.
func (m *Trees) leafOf(t tree, x []float64) float64 {
	n := &t[0]
	for !n.leaf {
		if m.goesLeft(n, x[n.feature]) {
			n = &t[n.left]
		} else {
			n = &t[n.right]
		}
	}
	return n.threshold
}

// check refuses trees that are not trees, and fills in the covers of splits from those of their leaves.
func (m *Trees) check() error {
	if err := checkNames(m.names); err != nil {
		return err
	}
	if len(m.trees) == 0 {
		return errors.New("the model has no trees")
	}
	for i, t := range m.trees {
		if len(t) == 0 {
			return fmt.Errorf("tree %d is empty", i)
		}
		seen := make([]bool, len(t))
		if err := m.checkNode(t, 0, 0, seen); err != nil {
			return fmt.Errorf("tree %d: %w", i, err)
		}
	}
	if !finite(m.base, m.scale) {
		return errors.New("the base score is no number between 0 and 1")
	}
	return nil
}

func (m *Trees) checkNode(t tree, i int32, depth int, seen []bool) error {
	switch {
	case i < 0 || int(i) >= len(t):
		return fmt.Errorf("a split names the node %d; there are %d", i, len(t))
	case seen[i]:
		return fmt.Errorf("node %d is reached twice", i)
	case depth > MaxTreeDepth:
		return fmt.Errorf("it is deeper than %d splits; train with a lower max_depth", MaxTreeDepth)
	}
	seen[i] = true
	n := &t[i]
	if n.leaf {
		if !finite(n.threshold, n.cover) || math.Abs(n.threshold) > maxLeaf || n.cover < 0 {
			return fmt.Errorf("the leaf in node %d has a value or a count that is no plain number", i)
		}
		return nil
	}
	if math.IsNaN(n.threshold) { // it may be infinite: that tells missing values from all others
		return fmt.Errorf("node %d has a threshold that is no number", i)
	}
	if n.feature < 0 || int(n.feature) >= len(m.names) {
		return fmt.Errorf("node %d splits on feature %d; there are %d", i, n.feature, len(m.names))
	}
	if err := m.checkNode(t, n.left, depth+1, seen); err != nil {
		return err
	}
	if err := m.checkNode(t, n.right, depth+1, seen); err != nil {
		return err
	}
	n.cover = t[n.left].cover + t[n.right].cover
	return nil
}

// Kind returns "lightgbm" or "xgboost".
func (m *Trees) Kind() string { return m.kind }

// Features names the features.
func (m *Trees) Features() []string { return slices.Clone(m.names) }

// Categorical says whether the model's file lists the words of a feature.
func (m *Trees) Categorical(feature int) bool { return m.codes[feature] != nil }

// Code returns a word's number.
func (m *Trees) Code(feature int, word string) float64 { return code(m.codes[feature], word) }

// TakesMissing returns true: every split says where missing values go.
func (m *Trees) TakesMissing(int) bool { return true }

// Margin returns the logarithm of the odds of the bad outcome.
func (m *Trees) Margin(x []float64) float64 {
	sum := m.base
	for _, t := range m.trees {
		sum += m.leafOf(t, x)
	}
	return m.scale * sum
}

// Score returns the probability of the bad outcome.
func (m *Trees) Score(x []float64) float64 { return probability(m.Margin(x)) }
