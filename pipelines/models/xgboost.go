package models

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// xgboostFile is what is read of XGBoost's JSON (XGBoost documentation, "Introduction to Model IO", schema of the model).
type xgboostFile struct {
	Learner struct {
		FeatureNames []string `json:"feature_names"`
		Param        struct {
			BaseScore  string `json:"base_score"`
			NumClass   string `json:"num_class"`
			NumFeature string `json:"num_feature"`
			NumTarget  string `json:"num_target"`
		} `json:"learner_model_param"`
		Objective struct {
			Name string `json:"name"`
		} `json:"objective"`
		Booster struct {
			Name  string `json:"name"`
			Model struct {
				Trees []xgboostTree `json:"trees"`
			} `json:"model"`
		} `json:"gradient_booster"`
	} `json:"learner"`
}

type xgboostTree struct {
	Left       []int32   `json:"left_children"`
	Right      []int32   `json:"right_children"`
	Feature    []int32   `json:"split_indices"`
	Threshold  []float64 `json:"split_conditions"`
	SplitType  []int32   `json:"split_type"`
	Default    []bit     `json:"default_left"`
	SumHessian []float64 `json:"sum_hessian"`
}

// bit is a truth that XGBoost writes as 0 and 1, and wrote as false and true.
type bit bool

func (b *bit) UnmarshalJSON(text []byte) error {
	switch string(text) {
	case "1", "true":
		*b = true
	case "0", "false":
		*b = false
	default:
		return fmt.Errorf("%.10q is neither 0 nor 1", text)
	}
	return nil
}

// parseXGBoost reads the JSON of save_model("model.json"), of XGBoost 1.0 and later.
func parseXGBoost(data []byte) (*Trees, error) {
	if text := bytes.TrimSpace(data); !bytes.HasPrefix(text, []byte("{")) || bytes.HasPrefix(text, []byte("{L\x00")) {
		return nil, errors.New(`the file is not XGBoost's JSON; its binary formats are not read: write it with booster.save_model("model.json")`)
	}
	var file xgboostFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("the file is no XGBoost JSON: %w", err)
	}
	l := &file.Learner
	switch {
	case l.Booster.Name != "gbtree":
		return nil, fmt.Errorf("the booster is %.30q; only gbtree is read", l.Booster.Name)
	case l.Objective.Name != "binary:logistic" && l.Objective.Name != "reg:logistic":
		return nil, fmt.Errorf("the objective is %.30q; only binary:logistic gives a probability of one outcome", l.Objective.Name)
	case l.Param.NumClass != "" && l.Param.NumClass != "0" && l.Param.NumClass != "1" || l.Param.NumTarget != "" && l.Param.NumTarget != "1":
		return nil, errors.New("the model has several classes or targets; train it for one outcome")
	}
	m := &Trees{kind: "xgboost", names: l.FeatureNames, scale: 1, single: true}
	base, err := strconv.ParseFloat(strings.Trim(l.Param.BaseScore, "[]"), 64)
	if err != nil || !(base > 0 && base < 1) {
		return nil, fmt.Errorf("base_score is %.30q; it is a probability, above 0 and below 1", l.Param.BaseScore)
	}
	m.base = math.Log(base / (1 - base))
	if m.names, err = xgboostNames(l.FeatureNames, l.Param.NumFeature); err != nil {
		return nil, err
	}
	m.codes = make([]map[string]float64, len(m.names))
	for i := range l.Booster.Model.Trees {
		t, err := l.Booster.Model.Trees[i].nodes()
		if err != nil {
			return nil, fmt.Errorf("tree %d: %w", i, err)
		}
		m.trees = append(m.trees, t)
	}
	return m, m.check()
}

// xgboostNames returns the names in the file, or f0, f1, … as XGBoost calls them where there are none.
func xgboostNames(names []string, count string) ([]string, error) {
	if len(names) > 0 {
		return names, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 || n > MaxFeatures {
		return nil, fmt.Errorf("num_feature is %.20q; 1 to %d", count, MaxFeatures)
	}
	for i := range n {
		names = append(names, "f"+strconv.Itoa(i))
	}
	return names, nil
}

func (t *xgboostTree) nodes() (tree, error) {
	n := len(t.Left)
	if len(t.Right) != n || len(t.Feature) != n || len(t.Threshold) != n || len(t.Default) != n || len(t.SumHessian) != n {
		return nil, errors.New("its lists differ in length")
	}
	if len(t.SplitType) != 0 && len(t.SplitType) != n {
		return nil, errors.New("its lists differ in length")
	}
	nodes := make(tree, n)
	for i := range nodes {
		if len(t.SplitType) > 0 && t.SplitType[i] != 0 {
			return nil, errors.New("it splits on categories; give XGBoost numbers, or train with LightGBM")
		}
		nodes[i] = node{leaf: t.Left[i] == -1, left: t.Left[i], right: t.Right[i], feature: t.Feature[i], threshold: t.Threshold[i],
			defaultLeft: bool(t.Default[i]), missing: missingNaN, cover: t.SumHessian[i]}
	}
	return nodes, nil
}
