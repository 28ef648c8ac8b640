package house

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/pipelines/models"
	"sluice/rules"
)

// ModelData says where the rows of a model come from and what their columns are.
type ModelData struct {
	Path     string   // CSV with a line of names
	Target   string   // column of the outcome; "" when there is none
	Bad      string   // its value on a bad row
	Customer string   // column of the customer or card, no feature; "" none
	Day      string   // column of the day or time, no feature; "" none
	Drop     []string // columns to leave out
}

// TrainOptions says how a model is trained and where it goes.
type TrainOptions struct {
	Data        ModelData
	Kind        string
	Folds       int
	Seed        uint64
	Training    models.Options
	Name        string            // in the ruleset
	Expressions map[string]string // of features, in the language of rules
	Model, HTML string            // files to write; "" none
	Out         io.Writer

	aggregates string // that the features need, as a section of a ruleset
}

// missingWords are the cells that mean that nothing is known.
var missingWords = []string{"", "NA", "N/A", "NaN", "nan", "null", "NULL", "?"}

// Train fits a model to a CSV file, says how good it is on rows it has not seen, and writes it.
func Train(o TrainOptions) error {
	if o.Data.Target == "" {
		return errors.New("the data has no outcome: name its column with --target, and what it says on a bad row with --bad")
	}
	t, err := ReadTable(o.Data)
	if err != nil {
		return err
	}
	return train(t, o)
}

func train(t *models.Table, o TrainOptions) error {
	fit := func(t *models.Table) (models.Model, error) { return models.Train(o.Kind, t, o.Training) }
	cv, err := models.CrossValidate(t, o.Folds, o.Seed, fit)
	if err != nil {
		return err
	}
	m, err := fit(t)
	if err != nil {
		return err
	}
	scores, err := models.Scores(m, t)
	if err != nil {
		return err
	}
	training := &models.Training{Rows: t.Rows(), BadWord: o.Data.Bad, Seed: o.Seed, AUC: cv.Mean.AUC, KS: cv.Mean.KS, Scores: models.NewDistribution(scores)}
	for _, b := range t.Bad {
		if b {
			training.Bad++
		}
	}
	models.Describe(m, training)
	r := modelReport{Source: o.Data.Path, Table: t, Model: m, Validation: cv, Seed: o.Seed, Lift: models.Lift(cv.Scores, t.Bad)}
	if err := r.text(o.Out); err != nil {
		return err
	}
	return o.write(&r)
}

// write leaves the model, its section of a ruleset and the report.
func (o *TrainOptions) write(r *modelReport) error {
	file, err := models.Write(r.Model)
	if err != nil {
		return err
	}
	section, err := models.Section(o.Name, r.Model, file, o.Expressions)
	if err != nil {
		return err
	}
	section = o.aggregates + section
	remark := "it may be pasted as it is"
	if _, err := rules.Load("section", []byte("ruleset: check\nversion: 1\n"+section)); err != nil {
		remark = "beside each feature write what it is in the language of rules, such as loan.term_months (or give --feature NAME=EXPRESSION)"
	}
	section = "# A section of a ruleset: " + remark + ".\n" + section
	if o.Model == "" {
		fmt.Fprintf(o.Out, "\n%s", section)
	} else {
		yaml := strings.TrimSuffix(o.Model, filepath.Ext(o.Model)) + ".yaml"
		if err := os.WriteFile(o.Model, file, 0o644); err != nil {
			return err
		}
		if err := os.WriteFile(yaml, []byte(section), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(o.Out, "\n%s is the model, %s the section of a ruleset: %s\n", o.Model, yaml, remark)
	}
	if o.HTML == "" {
		return nil
	}
	f, err := os.Create(o.HTML)
	if err != nil {
		return err
	}
	if err := errors.Join(r.html(f), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", o.HTML, err)
	}
	fmt.Fprintf(o.Out, "%s is the report\n", o.HTML)
	return nil
}

// ReadModel reads a model's file of any kind.
func ReadModel(path string) (models.Model, []byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, models.MaxBytes+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, nil, err
	}
	kind := models.Detect(data)
	if kind == "" {
		return nil, nil, fmt.Errorf("%s is no model: neither JSON of a scorecard, a logistic regression or XGBoost, nor LightGBM's text", path)
	}
	m, err := models.Parse(kind, data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, data, nil
}

// ShowModel prints a model, or its section for a ruleset when name is not "".
func ShowModel(path, name string, out io.Writer) error {
	m, data, err := ReadModel(path)
	if err != nil {
		return err
	}
	if name == "" {
		return showModel(out, m)
	}
	section, err := models.Section(name, m, data, nil)
	if err == nil {
		_, err = io.WriteString(out, section)
	}
	return err
}

// ScoreModel writes a CSV of the rows' scores with the features that raise each most, and says on errOut how good they are
// when the data has the outcome, and how far they have moved since training.
func ScoreModel(path string, data ModelData, out, errOut io.Writer) error {
	m, _, err := ReadModel(path)
	if err != nil {
		return err
	}
	t, err := ReadTable(data)
	if err != nil {
		return err
	}
	rows, err := models.Matrix(m, t)
	if err != nil {
		return err
	}
	w := csv.NewWriter(out)
	header := []string{"row", "probability", "first", "second", "third"}
	card, isCard := m.(*models.Scorecard)
	if isCard {
		header = append(header, "points")
	}
	if err := w.Write(header); err != nil {
		return err
	}
	scores, adds := make([]float64, len(rows)), make([]float64, len(m.Features()))
	for i, x := range rows {
		scores[i] = m.Score(x)
		m.Contributions(x, adds)
		record := append([]string{strconv.Itoa(i + 1), decimals(scores[i], 6)}, raising(m.Features(), adds)...)
		if isCard {
			record = append(record, decimals(card.Points(x), 0))
		}
		if err := w.Write(record); err != nil {
			return err
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return sayMeasures(errOut, scores, t, distributionOf(m))
}

// distributionOf is how a model's scores were spread in training, nil when its file does not say.
func distributionOf(m models.Model) *models.Distribution {
	if t := models.TrainingOf(m); t != nil {
		return t.Scores
	}
	return nil
}

// raising names the three features that add most, "" where fewer do.
func raising(names []string, adds []float64) []string {
	order := make([]int, len(adds))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if adds[a] > adds[b] {
			return -1
		}
		return 1
	})
	three := make([]string, 3)
	for k := range min(3, len(order)) {
		if adds[order[k]] > 0 {
			three[k] = names[order[k]]
		}
	}
	return three
}

// ReadTable reads a CSV file: its first line has the columns' names. A column whose cells are all numbers is numeric, any
// other holds words; empty cells, NA, NaN, null and ? are missing.
func ReadTable(d ModelData) (*models.Table, error) {
	f, err := os.Open(d.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	names, columns, err := readCSV(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Path, err)
	}
	t, err := d.table(names, columns)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Path, err)
	}
	return t, nil
}

func readCSV(in io.Reader) (names []string, columns [][]string, err error) {
	r := csv.NewReader(bufio.NewReaderSize(in, 1<<20))
	if names, err = r.Read(); err != nil {
		return nil, nil, fmt.Errorf("the file has no line of column names: %w", err)
	}
	names[0] = strings.TrimPrefix(names[0], "\ufeff")
	columns = make([][]string, len(names))
	for {
		record, err := r.Read()
		if err == io.EOF {
			return names, columns, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if len(columns[0]) == models.MaxRows {
			return nil, nil, fmt.Errorf("more than %d rows; train on a sample", models.MaxRows)
		}
		for i, cell := range record {
			cell = strings.TrimSpace(cell)
			if slices.Contains(missingWords, cell) {
				cell = ""
			}
			columns[i] = append(columns[i], cell)
		}
	}
}

// table sorts the columns into outcome, customers, days and features.
func (d *ModelData) table(names []string, columns [][]string) (*models.Table, error) {
	for _, name := range append([]string{d.Target, d.Customer, d.Day}, d.Drop...) {
		if name != "" && !slices.Contains(names, name) {
			return nil, fmt.Errorf("there is no column %q; the columns are %s", name, strings.Join(names, ", "))
		}
	}
	t := &models.Table{}
	var err error
	for i, name := range names {
		switch cells := columns[i]; {
		case name == d.Target:
			t.Bad, err = d.outcomes(cells)
		case name == d.Customer:
			t.Customers = cells
		case name == d.Day:
			t.Days, err = days(cells)
		case slices.Contains(d.Drop, name):
		default:
			t.Columns = append(t.Columns, column(name, cells))
		}
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", name, err)
		}
	}
	return t, nil
}

func (d *ModelData) outcomes(cells []string) ([]bool, error) {
	bad := make([]bool, len(cells))
	values := map[string]bool{}
	for i, cell := range cells {
		if cell == "" {
			return nil, fmt.Errorf("row %d has no outcome", i+1)
		}
		bad[i] = cell == d.Bad
		if len(values) < 10 {
			values[cell] = true
		}
	}
	if !slices.Contains(bad, true) {
		seen := make([]string, 0, len(values))
		for v := range values {
			seen = append(seen, v)
		}
		slices.Sort(seen)
		return nil, fmt.Errorf("no row says %q; it says %s: name the bad one with --bad", d.Bad, strings.Join(seen, ", "))
	}
	return bad, nil
}

// days reads whole numbers, or dates and times that start like 2026-11-24.
func days(cells []string) ([]int, error) {
	all := make([]int, len(cells))
	for i, cell := range cells {
		if n, err := strconv.Atoi(cell); err == nil {
			all[i] = n
			continue
		}
		at, err := time.Parse(time.DateOnly, cell[:min(len(cell), len(time.DateOnly))])
		if err != nil {
			return nil, fmt.Errorf("row %d: %q is neither a whole number nor a date such as 2026-11-24", i+1, cell)
		}
		all[i] = int(at.Unix() / 86400)
	}
	return all, nil
}

func column(name string, cells []string) models.Column {
	c := models.Column{Name: name, Numbers: make([]float64, len(cells))}
	for i, cell := range cells {
		if cell == "" {
			c.Numbers[i] = math.NaN()
			continue
		}
		v, err := strconv.ParseFloat(cell, 64)
		if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
			return models.Column{Name: name, Words: cells}
		}
		c.Numbers[i] = v
	}
	return c
}
