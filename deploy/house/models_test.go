package house

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/deploy/embedded/enginestest"
	"sluice/rules"
	"sluice/schemas/warehouse"
)

// loansFile is made-up applications: the younger and those without a purpose fail more often.
func loansFile(t *testing.T) string {
	t.Helper()
	r := rand.New(rand.NewPCG(4, 4))
	var b strings.Builder
	b.WriteString("age,term,purpose,when,who,outcome\n")
	for i := range 800 {
		age, purpose := 18+r.IntN(50), []string{"car", "education", ""}[r.IntN(3)]
		chance := 0.1 + 0.5*float64(68-age)/50
		if purpose == "" {
			chance += 0.2
		}
		outcome := "good"
		if r.Float64() < chance {
			outcome = "bad"
		}
		text := strconv.Itoa(age)
		if r.IntN(20) == 0 {
			text = "NA"
		}
		fmt.Fprintf(&b, "%s,%d,%s,2026-03-%02dT10:00:00Z,c%d,%s\n", text, 6*(1+r.IntN(6)), purpose, 1+i%28, i%300, outcome)
	}
	return writeFile(t, "loans.csv", b.String())
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What training writes is what scoring, showing and a ruleset read.
func TestTrainedModelGoesIntoARuleset(t *testing.T) {
	t.Parallel()
	data := ModelData{Path: loansFile(t), Target: "outcome", Bad: "bad", Customer: "who", Day: "when"}
	for _, kind := range []string{"scorecard", "logistic"} {
		dir := t.TempDir()
		var out bytes.Buffer
		o := TrainOptions{Data: data, Kind: kind, Folds: 5, Seed: 1, Name: "pd", Model: filepath.Join(dir, "m.json"), HTML: filepath.Join(dir, "m.html"), Out: &out,
			Expressions: map[string]string{"age": "loan.age", "term": "loan.term_months", "purpose": "loan.purpose"}}
		if err := Train(o); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"800 rows", "fold 5", "mean", "card precision@100", "it may be pasted as it is"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: the output has no %q:\n%s", kind, want, &out)
			}
		}
		section, err := os.ReadFile(filepath.Join(dir, "m.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		text := "ruleset: scored\nversion: 1\n" + string(section) + "rules:\n  - {id: likely-bad, on: loan.applied, when: known(pd) && pd > 0.5, then: {score: 50, reason: M1, say: likely bad}}\n"
		if _, err := rules.Load("m.yaml", []byte(text)); err != nil {
			t.Errorf("%s: the section is no part of a ruleset: %v", kind, err)
		}
		page, err := os.ReadFile(filepath.Join(dir, "m.html"))
		if err != nil || !bytes.Contains(page, []byte("</html>")) || !bytes.Contains(page, []byte("polyline points=\"0,100 ")) {
			t.Errorf("%s: the page is %d bytes, %v", kind, len(page), err)
		}
		checkScores(t, o.Model, data)
	}
}

// checkScores scores the rows that the model was trained on.
func checkScores(t *testing.T, model string, data ModelData) {
	t.Helper()
	var out, said, shown bytes.Buffer
	if err := ScoreModel(model, data, &out, &said); err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(records) != 801 {
		t.Fatalf("%d lines, %v", len(records), err)
	}
	raised := 0
	for _, r := range records[1:] {
		if p, err := strconv.ParseFloat(r[1], 64); err != nil || p <= 0 || p >= 1 {
			t.Fatalf("probability %q", r[1])
		}
		if r[2] != "" {
			raised++
		}
	}
	if raised == 0 || !strings.Contains(said.String(), "PSI") {
		t.Errorf("%d rows with a reason; said %s", raised, &said)
	}
	if err := ShowModel(model, "", &shown); err != nil || !strings.Contains(shown.String(), "trained on 800 rows") {
		t.Errorf("shown: %v\n%s", err, &shown)
	}
}

// A model of trees becomes a section of a ruleset, packed.
func TestTreesBecomeASection(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := ShowModel("../../pipelines/models/testdata/xgboost.json", "m", &out); err != nil {
		t.Fatal(err)
	}
	text := "ruleset: scored\nversion: 1\n" + strings.NewReplacer("pace: pace", "pace: event.weekday", "amount: amount", "amount: payment.amount", "hour: hour", "hour: event.hour").Replace(out.String())
	if _, err := rules.Load("m.yaml", []byte(text)); err != nil {
		t.Error(err)
	}
}

func TestReadTableTellsNumbersFromWords(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "a.csv", "\ufeffn,w,mixed,y\n1, x ,3,no\n?,,four,yes\n-2.5e3,x,5,no\n")
	table, err := ReadTable(ModelData{Path: path, Target: "y", Bad: "yes"})
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Columns) != 3 || table.Columns[0].Name != "n" || table.Columns[0].Numbers[2] != -2500 || table.Columns[0].Numbers[1] == table.Columns[0].Numbers[1] {
		t.Errorf("the numbers are %+v", table.Columns[0])
	}
	if table.Columns[1].Words[0] != "x" || table.Columns[1].Words[1] != "" || table.Columns[2].Words == nil || !table.Bad[1] || table.Bad[0] {
		t.Errorf("the table is %+v", table)
	}
	for _, c := range []struct {
		data ModelData
		says string
	}{
		{ModelData{Path: path, Target: "z"}, `no column "z"`},
		{ModelData{Path: path, Target: "y", Bad: "maybe"}, "it says no, yes"},
		{ModelData{Path: path, Target: "w", Bad: "x"}, "row 2 has no outcome"},
		{ModelData{Path: path, Day: "w"}, "neither a whole number nor a date"},
		{ModelData{Path: writeFile(t, "b.csv", "a,b\n1\n")}, "wrong number of fields"},
	} {
		if _, err := ReadTable(c.data); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v; it should say %q", err, c.says)
		}
	}
	if _, err := ReadTable(ModelData{Path: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Payments of the warehouse come with what the customer paid in the 24 hours before, and the charge-back as outcome.
func TestHistoryInTheWarehouseTeaches(t *testing.T) {
	t.Parallel()
	env := enginestest.New(t, enginestest.ClickHouse)
	if err := warehouse.Apply(t.Context(), env.ClickHouseURL, warehouse.Options{}); err != nil {
		t.Fatal(err)
	}
	db, err := warehouse.Open(env.ClickHouseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	// Each of 40 customers pays 10, 20, …, 120 yuan, one every three hours; the charge-back comes for those from 100 on.
	insert := `INSERT INTO payments (event_time, event_id, type, customer_id, payment_id, amount_minor, currency, method, purpose, verdict)
		SELECT toDateTime64('2026-03-02 00:00:00', 6, 'UTC') + INTERVAL 3 * (number % 12) HOUR, toString(number), '%s', concat('c', toString(intDiv(number, 12))),
			concat('p', toString(number)), 1000 * (1 + number %% 12), 'CNY', 'card', 'purchase', 'approve' FROM numbers(480)`
	insert = strings.Replace(insert, "(number % 12)", "(number %% 12)", 1)
	for _, statement := range []string{fmt.Sprintf(insert, "payment.initiated"), fmt.Sprintf(insert, "payment.charged_back") + " WHERE number % 12 >= 9"} {
		if err := db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	table, err := warehouseTable(t.Context(), env.ClickHouseURL, "charged_back", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	bads := 0
	for _, b := range table.Bad {
		if b {
			bads++
		}
	}
	last := slices.Index(table.Columns[0].Numbers, 120) // 120 yuan, at 9 on the second day: the eight payments since 12 on the first are within 24 hours
	values := map[string]float64{}
	for _, c := range table.Columns {
		if c.Words == nil {
			values[c.Name] = c.Numbers[last]
		}
	}
	if table.Rows() != 480 || bads != 120 || values["payment.amount"] != 120 || values["payments_24h"] != 8 || values["spent_24h"] != 680 || values["largest_24h"] != 120 || values["event.hour"] != 9 {
		t.Errorf("%d rows, %d bad, the last %v", table.Rows(), bads, values)
	}
	var out bytes.Buffer
	o := TrainOptions{Kind: "scorecard", Folds: 3, Seed: 1, Name: "chargeback", Model: filepath.Join(t.TempDir(), "m.json"), Out: &out}
	if err := TrainFromWarehouse(t.Context(), env.ClickHouseURL, "charged_back", time.Time{}, o); err != nil {
		t.Fatal(err)
	}
	section, err := os.ReadFile(strings.TrimSuffix(o.Model, ".json") + ".yaml")
	if err != nil || !bytes.Contains(section, []byte("payment.amount: payment.amount")) || !bytes.Contains(section, []byte("spent_24h: {sum: payment.amount")) {
		t.Errorf("the section is %v\n%s", err, section)
	}
	if !strings.Contains(out.String(), "it may be pasted as it is") {
		t.Errorf("the output is\n%s", &out)
	}
	// The second day alone has the three payments that are charged back, and one more, of each customer.
	out.Reset()
	if err := WatchModel(t.Context(), o.Model, env.ClickHouseURL, "charged_back", time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC), &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "160 payments") || !strings.Contains(out.String(), "PSI") {
		t.Errorf("the output is\n%s", &out)
	}
}
