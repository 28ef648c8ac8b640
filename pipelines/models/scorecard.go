package models

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// Scorecard gives points for each feature's bin. The sum of the points says the odds (Siddiqi, Credit Risk Scorecards,
// 2006, chapter 6):
//
//	points = offset + factor × ln(odds good:bad), factor = PDO / ln 2, offset = base_score − factor × ln(base_odds)
//
// so that the probability of the bad outcome is 1/(1+exp((points − offset)/factor)).
type Scorecard struct {
	Format    string             `json:"kind"`       // "scorecard"
	BaseScore float64            `json:"base_score"` // the points at which the odds are BaseOdds: 600
	BaseOdds  float64            `json:"base_odds"`  // good to bad: 50 is 50:1
	PDO       float64            `json:"pdo"`        // the points that double the odds: 20
	Inputs    []ScorecardFeature `json:"features"`
	Training  *Training          `json:"training,omitempty"`

	names          []string
	offset, factor float64
	inner          []scorecardIndex
	base           float64 // log odds of the bad outcome when every feature has its neutral points
}

// ScorecardFeature is one feature with its bins.
type ScorecardFeature struct {
	Name string  `json:"name"`
	IV   float64 `json:"iv,omitempty"` // information value in training
	// Bins are either intervals, ascending, each from the one before it to Below, which it does not hold, the last without
	// Below; or groups of words. One bin may stand for missing values, and for words in no other bin.
	Bins []Bin `json:"bins"`
}

// Bin is one class of a feature's values.
type Bin struct {
	Below   *float64 `json:"below,omitempty"`
	Values  []string `json:"values,omitempty"`
	Missing bool     `json:"missing,omitempty"`
	Good    int      `json:"good"` // counts in training
	Bad     int      `json:"bad"`
	WoE     float64  `json:"woe"` // weight of evidence, ln(share of the good / share of the bad)
	Points  float64  `json:"points"`
}

// scorecardIndex finds a value's points.
type scorecardIndex struct {
	below   []float64 // ascending; one fewer than there are intervals
	points  []float64 // of each interval, or of each word's code
	codes   map[string]float64
	missing float64 // points; NaN: the feature may not be missing
	neutral float64 // mean points in training
}

func parseScorecard(data []byte) (*Scorecard, error) {
	var s Scorecard
	if err := parseJSON(data, "scorecard", &s); err != nil {
		return nil, err
	}
	if s.Format != "scorecard" {
		return nil, fmt.Errorf(`the file says "kind": %.50q; a scorecard says "scorecard"`, s.Format)
	}
	return &s, s.index()
}

// index checks the scorecard and prepares it for scoring.
func (s *Scorecard) index() error {
	s.names = make([]string, len(s.Inputs))
	for i := range s.Inputs {
		s.names[i] = s.Inputs[i].Name
	}
	if err := checkNames(s.names); err != nil {
		return err
	}
	if !finite(s.BaseScore, s.BaseOdds, s.PDO) || s.BaseOdds <= 0 || s.PDO <= 0 {
		return fmt.Errorf("base_odds and pdo are above 0; usual are base_score 600, base_odds 50, pdo 20")
	}
	s.factor = s.PDO / math.Ln2
	s.offset = s.BaseScore - s.factor*math.Log(s.BaseOdds)
	if !finite(s.factor, s.offset) || s.factor == 0 {
		return fmt.Errorf("base_score, base_odds and pdo are too large or too small; usual are 600, 50 and 20")
	}
	s.inner = make([]scorecardIndex, len(s.Inputs))
	neutral := 0.0
	for i := range s.Inputs {
		if err := s.inner[i].fill(&s.Inputs[i]); err != nil {
			return fmt.Errorf("feature %q: %w", s.names[i], err)
		}
		neutral += s.inner[i].neutral
	}
	s.base = (s.offset - neutral) / s.factor
	return nil
}

func (x *scorecardIndex) fill(f *ScorecardFeature) error {
	if len(f.Bins) == 0 || len(f.Bins) > MaxBins {
		return fmt.Errorf("it has %d bins; 1 to %d", len(f.Bins), MaxBins)
	}
	x.missing = math.NaN()
	count, sum, plain := 0.0, 0.0, 0.0
	open := false // the interval without an end has been seen
	for i := range f.Bins {
		b := &f.Bins[i]
		if !finite(b.Points, b.WoE) || math.Abs(b.Points) > 1e9 || b.Good < 0 || b.Bad < 0 {
			return fmt.Errorf("bin %d: points and counts are plain numbers, counts not below 0", i+1)
		}
		n := float64(b.Good) + float64(b.Bad)
		count, sum, plain = count+n, sum+n*b.Points, plain+b.Points
		if b.Missing && b.Below == nil && len(b.Values) == 0 {
			if !math.IsNaN(x.missing) {
				return fmt.Errorf("bin %d: there are two bins for missing values", i+1)
			}
			x.missing = b.Points
			continue
		}
		if b.Missing {
			if !math.IsNaN(x.missing) {
				return fmt.Errorf("bin %d: there are two bins for missing values", i+1)
			}
			x.missing = b.Points
		}
		if err := x.add(b, &open); err != nil {
			return fmt.Errorf("bin %d: %w", i+1, err)
		}
	}
	if x.codes == nil && !open {
		return fmt.Errorf("its last interval has a below: nothing says what larger values get; leave it out there")
	}
	if x.neutral = plain / float64(len(f.Bins)); count > 0 {
		x.neutral = sum / count
	}
	return nil
}

// add takes one bin of an interval or of words.
func (x *scorecardIndex) add(b *Bin, open *bool) error {
	if len(b.Values) > 0 {
		if b.Below != nil || len(x.below) > 0 || *open {
			return fmt.Errorf("a feature has either intervals (below) or words (values)")
		}
		if x.codes == nil {
			x.codes = map[string]float64{}
		}
		for _, word := range b.Values {
			if _, taken := x.codes[word]; taken || len(word) > MaxNameBytes {
				return fmt.Errorf("the word %.50q is there twice, or has more than %d bytes", word, MaxNameBytes)
			}
			x.codes[word] = float64(len(x.points))
			x.points = append(x.points, b.Points)
		}
		if len(x.points) > MaxBins {
			return fmt.Errorf("more than %d words", MaxBins)
		}
		return nil
	}
	if x.codes != nil || *open {
		return fmt.Errorf("a feature has either intervals, only the last without below, or words (values)")
	}
	x.points = append(x.points, b.Points)
	if b.Below == nil {
		*open = true
		return nil
	}
	if n := len(x.below); !finite(*b.Below) || n > 0 && x.below[n-1] >= *b.Below {
		return fmt.Errorf("the intervals are not ascending")
	}
	x.below = append(x.below, *b.Below)
	return nil
}

// bin is the points of one value.
func (x *scorecardIndex) bin(v float64) float64 {
	if math.IsNaN(v) {
		return x.missing
	}
	if x.codes != nil {
		if i := int(v); v >= 0 && v < float64(len(x.points)) {
			return x.points[i]
		}
		return x.missing
	}
	return x.points[sort.Search(len(x.below), func(i int) bool { return v < x.below[i] })]
}

// Kind returns "scorecard".
func (s *Scorecard) Kind() string { return "scorecard" }

// Features names the features.
func (s *Scorecard) Features() []string { return slices.Clone(s.names) }

// Categorical says whether a feature's bins are words.
func (s *Scorecard) Categorical(feature int) bool { return s.inner[feature].codes != nil }

// Code returns a word's number.
func (s *Scorecard) Code(feature int, word string) float64 { return code(s.inner[feature].codes, word) }

// TakesMissing says whether a feature has a bin for missing values.
func (s *Scorecard) TakesMissing(feature int) bool { return !math.IsNaN(s.inner[feature].missing) }

// Points returns the sum of a row's points.
func (s *Scorecard) Points(x []float64) float64 {
	sum := 0.0
	for i := range s.inner {
		sum += s.inner[i].bin(x[i])
	}
	return sum
}

// Margin returns the logarithm of the odds of the bad outcome, (offset − points)/factor.
func (s *Scorecard) Margin(x []float64) float64 { return (s.offset - s.Points(x)) / s.factor }

// Score returns the probability of the bad outcome.
func (s *Scorecard) Score(x []float64) float64 { return probability(s.Margin(x)) }

// Contributions says how far each feature's points are below its neutral ones, the mean of its bins by their counts in
// training (Siddiqi 2006: reasons for adverse action by the distance to the neutral score).
func (s *Scorecard) Contributions(x, out []float64) float64 {
	for i := range s.inner {
		out[i] = (s.inner[i].neutral - s.inner[i].bin(x[i])) / s.factor
	}
	return s.base
}

func code(codes map[string]float64, word string) float64 {
	if n, ok := codes[word]; ok {
		return n
	}
	return math.NaN()
}
