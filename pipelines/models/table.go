package models

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
)

// MaxRows bounds the rows of a table to train on, which stands in memory: 2 million rows of 30 numbers are 500 MB.
const MaxRows = 2_000_000

// Table is data to train on or to score: columns of the same length.
type Table struct {
	Columns []Column
	Bad     []bool // the outcome of each row; nil when it is not known

	// For CardPrecision; nil when the data has none.
	Days      []int    // ascending with time
	Customers []string // or cards
}

// Column is one feature of every row: numbers, NaN where missing; or words, "" where missing.
type Column struct {
	Name    string
	Numbers []float64
	Words   []string // nil: numbers
}

// Rows counts the rows.
func (t *Table) Rows() int {
	if len(t.Columns) == 0 {
		return len(t.Bad)
	}
	return max(len(t.Columns[0].Numbers), len(t.Columns[0].Words))
}

// Select returns a table of some rows.
func (t *Table) Select(rows []int) *Table {
	s := &Table{Columns: make([]Column, len(t.Columns)), Bad: pick(t.Bad, rows),
		Days: pick(t.Days, rows), Customers: pick(t.Customers, rows)}
	for i := range t.Columns {
		c := &t.Columns[i]
		s.Columns[i] = Column{Name: c.Name, Numbers: pick(c.Numbers, rows), Words: pick(c.Words, rows)}
	}
	return s
}

func pick[T any](from []T, rows []int) []T {
	if from == nil {
		return nil
	}
	all := make([]T, len(rows))
	for i, r := range rows {
		all[i] = from[r]
	}
	return all
}

// Matrix returns the rows of a table as the model takes them. Columns are found by name.
func Matrix(m Model, t *Table) ([][]float64, error) {
	names := m.Features()
	cells := make([]float64, t.Rows()*len(names))
	rows := make([][]float64, t.Rows())
	for i := range rows {
		rows[i] = cells[i*len(names) : (i+1)*len(names)]
	}
	for i, name := range names {
		c := t.column(name)
		switch {
		case c == nil:
			return nil, fmt.Errorf("the data has no column %q, which the model needs", name)
		case c.Words != nil && !m.Categorical(i):
			return nil, fmt.Errorf("the column %q holds words, such as %.30q; the model takes numbers there", name, first(c.Words))
		}
		for r := range rows {
			rows[r][i] = c.cell(m, i, r)
		}
	}
	return rows, nil
}

func (c *Column) cell(m Model, feature, row int) float64 {
	switch {
	case c.Words == nil && !m.Categorical(feature):
		return c.Numbers[row]
	case c.Words != nil && c.Words[row] != "":
		return m.Code(feature, c.Words[row])
	case c.Words == nil && !math.IsNaN(c.Numbers[row]):
		return m.Code(feature, strconv.FormatFloat(c.Numbers[row], 'f', -1, 64))
	}
	return math.NaN()
}

func first(words []string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

func (t *Table) column(name string) *Column {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// Scores returns the model's probability for each row.
func Scores(m Model, t *Table) ([]float64, error) {
	rows, err := Matrix(m, t)
	if err != nil {
		return nil, err
	}
	scores := make([]float64, len(rows))
	for i, x := range rows {
		scores[i] = m.Score(x)
	}
	return scores, nil
}

// Folds deals the rows out to k folds at random, bad and good ones each evenly, and returns each row's fold. The same seed
// deals alike.
func Folds(bad []bool, k int, seed uint64) []int {
	r := rand.New(rand.NewPCG(seed, 0))
	folds := make([]int, len(bad))
	dealt := 0
	for _, outcome := range []bool{true, false} {
		var rows []int
		for i, b := range bad {
			if b == outcome {
				rows = append(rows, i)
			}
		}
		r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		for _, row := range rows {
			folds[row] = dealt % k
			dealt++
		}
	}
	return folds
}

// check refuses a table that nothing can be learnt from.
func (t *Table) check() error {
	bads := 0
	for _, b := range t.Bad {
		if b {
			bads++
		}
	}
	switch {
	case len(t.Columns) == 0:
		return fmt.Errorf("the data has no columns beside the outcome")
	case len(t.Columns) > MaxFeatures:
		return fmt.Errorf("the data has %d columns; at most %d", len(t.Columns), MaxFeatures)
	case t.Rows() > MaxRows:
		return fmt.Errorf("the data has %d rows; at most %d", t.Rows(), MaxRows)
	case bads < minOutcomes || t.Rows()-bads < minOutcomes:
		return fmt.Errorf("%d of %d rows are bad; training needs at least %d of each outcome", bads, t.Rows(), minOutcomes)
	}
	names := make([]string, len(t.Columns))
	for i := range t.Columns {
		names[i] = t.Columns[i].Name
		if n := distinct(t.Columns[i].Words); n > maxWords {
			return fmt.Errorf("the column %q has %d different words, more than %d: it names rows rather than describing them; leave it out", names[i], n, maxWords)
		}
	}
	return checkNames(names)
}

// maxWords bounds the different words of a column to train on.
const maxWords = 300

func distinct(words []string) int {
	seen := map[string]bool{}
	for _, w := range words {
		seen[w] = true
	}
	return len(seen)
}

// minOutcomes is how many bad and how many good rows there must be at least: with fewer nothing is learnt.
const minOutcomes = 10
