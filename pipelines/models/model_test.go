package models

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vector is a model's file, rows, and what the library that trained it says of them. A row has numbers, words, and nil where
// nothing is known.
type vector struct {
	File, Kind    string
	Features      []string
	Factor        float64 // the library's raw score times this is the margin: its sigmoid, or one by the trees of a forest
	Rows          [][]any
	Score, Margin []float64
	Shap          [][]float64 // by feature, then the base
}

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustParse(t testing.TB, kind string, data []byte) Model {
	t.Helper()
	m, err := Parse(kind, data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func row(m Model, values []any) []float64 {
	x := make([]float64, len(values))
	for i, v := range values {
		x[i] = math.NaN()
		switch v := v.(type) {
		case float64:
			x[i] = v
		case string:
			x[i] = m.Code(i, v)
		}
	}
	return x
}

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if !(math.Abs(got-want) <= within) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

// The libraries' own scores, margins and Shapley values (their pred_contrib) are the oracle. XGBoost adds in float32. Missing
// values, zeros, unknown words, categories by number and by word, forests that are averaged are all among the models.
func TestTreesAnswerAsTheLibraryThatTrainedThem(t *testing.T) {
	t.Parallel()
	var all []vector
	if err := json.Unmarshal(testdata(t, "vectors.json"), &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		t.Run(v.File, func(t *testing.T) {
			t.Parallel()
			within := map[string]float64{"lightgbm": 1e-12, "xgboost": 2e-6}[v.Kind]
			file := testdata(t, v.File)
			m := mustParse(t, v.Kind, file)
			if got, want := strings.Join(m.Features(), " "), strings.Join(v.Features, " "); got != want || Detect(file) != v.Kind {
				t.Fatalf("features %s, want %s; detected %s", got, want, Detect(file))
			}
			for i := range v.Rows {
				x, out := row(m, v.Rows[i]), make([]float64, len(v.Features))
				near(t, "score", m.Score(x), v.Score[i], within)
				near(t, "margin", m.Margin(x), v.Factor*v.Margin[i], within)
				near(t, "base", m.Contributions(x, out), v.Factor*v.Shap[i][len(out)], within)
				for k := range out {
					near(t, "contribution of "+v.Features[k], out[k], v.Factor*v.Shap[i][k], within)
				}
			}
		})
	}
}

const card = `{"kind":"scorecard","base_score":600,"base_odds":50,"pdo":20,"features":[
 {"name":"age","bins":[{"below":25,"good":10,"bad":10,"woe":-0.8,"points":100},{"below":40,"good":30,"bad":10,"woe":0.2,"points":200},{"good":40,"bad":5,"woe":1,"points":300},{"missing":true,"good":5,"bad":5,"woe":-0.9,"points":150}]},
 {"name":"housing","bins":[{"values":["own","free"],"good":60,"bad":10,"woe":0.5,"points":260},{"values":["rent"],"good":25,"bad":20,"woe":-0.6,"points":220}]}]}`

const regression = `{"kind":"logistic","intercept":-1.5,"features":[
 {"name":"age","coefficient":-0.7,"mean":40,"scale":10,"missing":35},
 {"name":"debt","coefficient":0.25},
 {"name":"housing","categories":[{"value":"rent","coefficient":0.4},{"value":"own","coefficient":-0.3}],"other":0.1}]}`

// The sum of points gives the odds of Siddiqi's formula: 600 points are 50:1, and 20 more double that.
func TestScorecardPointsAreOdds(t *testing.T) {
	t.Parallel()
	s := mustParse(t, "scorecard", []byte(card)).(*Scorecard)
	own, rent := s.Code(1, "own"), s.Code(1, "rent")
	for _, c := range []struct{ age, housing, points float64 }{
		{24.9, own, 360}, {25, own, 460}, {39, rent, 420}, {40, rent, 520}, {1e9, own, 560}, {-1e9, own, 360}, {math.NaN(), own, 410},
	} {
		if got := s.Points([]float64{c.age, c.housing}); got != c.points {
			t.Errorf("age %v, housing %v: %v points, want %v", c.age, c.housing, got, c.points)
		}
	}
	x := []float64{50, rent} // 520 points: four times 20 below 600
	near(t, "score", s.Score(x), 1/(1+50/16.0), 1e-12)
	if s.TakesMissing(1) || !s.TakesMissing(0) || !math.IsNaN(s.Code(1, "boat")) {
		t.Error("age may be missing, housing may not, a boat is no housing")
	}
	if got := s.Score([]float64{50, math.NaN()}); !math.IsNaN(got) {
		t.Errorf("without a bin for missing values the score is %v, want NaN", got)
	}
}

func TestLogisticIsItsFormula(t *testing.T) {
	t.Parallel()
	m := mustParse(t, "logistic", []byte(regression))
	own := m.Code(2, "own")
	near(t, "margin", m.Margin([]float64{50, 2, own}), -1.5-0.7+0.5-0.3, 1e-12)
	near(t, "margin without age", m.Margin([]float64{math.NaN(), 2, math.NaN()}), -1.5+0.35+0.5+0.1, 1e-12)
	if m.TakesMissing(1) || !math.IsNaN(m.Score([]float64{50, math.NaN(), own})) {
		t.Error("debt may not be missing: the score is NaN")
	}
}

// What the features add, and the base, are the margin.
func TestContributionsAddUpToTheMargin(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for kind, data := range map[string][]byte{"scorecard": []byte(card), "logistic": []byte(regression),
		"lightgbm": testdata(t, "lightgbm.txt"), "xgboost": testdata(t, "xgboost.json")} {
		m := mustParse(t, kind, data)
		n := len(m.Features())
		for range 300 {
			x, out := make([]float64, n), make([]float64, n)
			for i := range x {
				x[i] = r.NormFloat64() * 100
				if m.Categorical(i) {
					x[i] = float64(r.IntN(2))
				}
				if m.TakesMissing(i) && r.IntN(5) == 0 {
					x[i] = math.NaN()
				}
			}
			sum := m.Contributions(x, out)
			for _, c := range out {
				sum += c
			}
			near(t, kind+": base and contributions", sum, m.Margin(x), 1e-9)
			near(t, kind+": score", m.Score(x), 1/(1+math.Exp(-m.Margin(x))), 1e-15)
		}
	}
}

// LightGBM writes an infinite threshold where a split only tells missing values from all others.
func TestInfiniteThresholdTellsMissingValues(t *testing.T) {
	t.Parallel()
	m := mustParse(t, "lightgbm", []byte("tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nobjective=binary sigmoid:1\nfeature_names=a\n\n"+
		"Tree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature=0\nthreshold=inf\ndecision_type=8\nleft_child=-1\nright_child=-2\nleaf_value=0.5 -0.25\nleaf_count=3 1\n\nend of trees\n"))
	near(t, "margin of a number", m.Margin([]float64{1e308}), 0.5, 0)
	near(t, "margin of a missing value", m.Margin([]float64{math.NaN()}), -0.25, 0)
}

func TestPackedModelsAreUnpacked(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(testdata(t, "lightgbm.txt")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if kind := Detect(packed.Bytes()); kind != "lightgbm" {
		t.Errorf("detected %q", kind)
	}
	mustParse(t, "lightgbm", packed.Bytes())
	packed.Reset()
	w = gzip.NewWriter(&packed)
	zeros := make([]byte, 1<<20)
	for range MaxBytes>>20 + 1 {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("lightgbm", packed.Bytes()); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a packed file beyond the limit: %v", err)
	}
}

// Each mistake is answered with what is wrong.
func TestParseSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	change := func(text, from, to string) []byte {
		if !strings.Contains(text, from) {
			t.Fatalf("the text has no %q", from)
		}
		return []byte(strings.Replace(text, from, to, 1))
	}
	lightgbm, xgboost := string(testdata(t, "lightgbm.txt")), string(testdata(t, "xgboost.json"))
	for _, c := range []struct {
		kind string
		data []byte
		says string
	}{
		{"forest", nil, "no kind of model"},
		{"scorecard", []byte(`{}`), `"kind"`},
		{"scorecard", change(card, `"pdo":20`, `"pdo":0`), "pdo"},
		{"scorecard", change(card, `"pdo"`, `"odp"`), "odp"},
		{"scorecard", change(card, `"below":40`, `"below":20`), "not ascending"},
		{"scorecard", change(card, `{"good":40`, `{"below":90,"good":40`), "leave it out"},
		{"scorecard", change(card, `"free"`, `"rent"`), "twice"},
		{"scorecard", change(card, `"housing"`, `"age"`), "twice"},
		{"scorecard", []byte(card + "{}"), "goes on"},
		{"logistic", change(regression, `"scale":10`, `"scale":-1`), "scale"},
		{"logistic", change(regression, `"own"`, `"rent"`), "twice"},
		{"lightgbm", change(lightgbm, "num_class=1", "num_class=3"), "several classes"},
		{"lightgbm", change(lightgbm, "objective=binary sigmoid:1", "objective=regression"), "objective"},
		{"lightgbm", change(lightgbm, "left_child=1", "left_child=0"), "twice"},
		{"lightgbm", change(lightgbm, "right_child=1", "right_child=99"), "node 99"},
		{"lightgbm", []byte(lightgbm[:3000]), "cut off"},
		{"lightgbm", change(lightgbm, "is_linear=0", "is_linear=1"), "linear"},
		{"xgboost", change(xgboost, `"binary:logistic"`, `"multi:softprob"`), "objective"},
		{"xgboost", change(xgboost, `"name":"gbtree"`, `"name":"dart"`), "gbtree"},
		{"xgboost", change(xgboost, `"split_type":[0`, `"split_type":[1`), "categories"},
		{"xgboost", []byte("binf\x00\x00"), "save_model"},
	} {
		if _, err := Parse(c.kind, c.data); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; it should say %q", c.kind, err, c.says)
		}
	}
}

// Any bytes are a model or an error; a model answers any row.
func FuzzParse(f *testing.F) {
	f.Add(uint8(0), []byte(card))
	f.Add(uint8(1), []byte(regression))
	f.Add(uint8(2), testdata(f, "lightgbm.txt"))
	f.Add(uint8(3), testdata(f, "xgboost.json"))
	f.Add(uint8(2), []byte("tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nobjective=binary sigmoid:1\nfeature_names=a\n\nTree=0\nnum_leaves=1\nnum_cat=0\nleaf_value=0.5\n\nend of trees\n"))
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		Detect(data)
		m, err := Parse(Kinds[int(kind)%len(Kinds)], data)
		if err != nil {
			return
		}
		n := len(m.Features())
		out := make([]float64, n)
		for _, v := range []float64{0, 1, -1e300, math.Inf(1), math.NaN()} {
			x := make([]float64, n)
			for i := range x {
				x[i] = v
			}
			if p := m.Score(x); p < 0 || p > 1 {
				t.Fatalf("score %v", p)
			}
			m.Contributions(x, out)
		}
	})
}
