package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// parseLightGBM reads the text of save_model (version v3 or v4).
func parseLightGBM(data []byte) (*Trees, error) {
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	head, rest, ok := strings.Cut(text, "\nTree=")
	if !strings.HasPrefix(head, "tree\n") || !ok {
		return nil, errors.New(`the file is not LightGBM's text, which starts with a line "tree"; write it with booster.save_model`)
	}
	m := &Trees{kind: "lightgbm", scale: 1}
	h := newSection(head)
	if err := m.lightgbmHead(h); err != nil {
		return nil, err
	}
	body, tail, ok := strings.Cut(rest, "\nend of trees")
	if !ok {
		return nil, errors.New(`the file has no line "end of trees"; it is cut off`)
	}
	for i, part := range strings.Split(body, "\nTree=") {
		t, err := lightgbmTree(newSection(part))
		if err != nil {
			return nil, fmt.Errorf("tree %d: %w", i, err)
		}
		m.trees = append(m.trees, t)
	}
	if _, average := h["average_output"]; average && len(m.trees) > 0 {
		m.scale /= float64(len(m.trees))
	}
	if err := m.lightgbmWords(h["feature_infos"], tail); err != nil {
		return nil, err
	}
	return m, m.check()
}

// section is key=value lines; a line without = is a key with no value.
type section map[string]string

func newSection(text string) section {
	s := section{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		s[key] = value
	}
	return s
}

func (m *Trees) lightgbmHead(h section) error {
	if v := h["version"]; v != "v3" && v != "v4" {
		return fmt.Errorf("the version is %.20q; v3 and v4 are read", v)
	}
	if h["num_class"] != "1" || h["num_tree_per_iteration"] != "1" {
		return errors.New("the model has several classes; train it for one outcome")
	}
	objective := strings.Fields(h["objective"])
	switch {
	case len(objective) == 1 && objective[0] == "cross_entropy":
	case len(objective) == 2 && objective[0] == "binary":
		sigmoid, ok := strings.CutPrefix(objective[1], "sigmoid:")
		f, err := strconv.ParseFloat(sigmoid, 64)
		if !ok || err != nil || !(f > 0) {
			return fmt.Errorf("objective: %.50q has no sigmoid above 0", h["objective"])
		}
		m.scale = f
	default:
		return fmt.Errorf("the objective is %.50q; only binary and cross_entropy give a probability of one outcome", h["objective"])
	}
	m.names = strings.Fields(h["feature_names"])
	m.codes = make([]map[string]float64, len(m.names))
	return checkNames(m.names)
}

// numbers reads a list of so many numbers.
func numbers[T int32 | uint32 | float64](s section, key string, count int) ([]T, error) {
	fields := strings.Fields(s[key])
	if len(fields) != count {
		return nil, fmt.Errorf("%s has %d numbers; %d are needed", key, len(fields), count)
	}
	all := make([]T, count)
	for i, field := range fields {
		var err error
		switch p := any(&all[i]).(type) {
		case *int32:
			var n int64
			n, err = strconv.ParseInt(field, 10, 32)
			*p = int32(n)
		case *uint32:
			var n uint64
			n, err = strconv.ParseUint(field, 10, 32)
			*p = uint32(n)
		case *float64:
			*p, err = strconv.ParseFloat(field, 64)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %.30q is no number that fits", key, field)
		}
	}
	return all, nil
}

// lightgbmTree reads one tree. Splits come first in the nodes, then leaves: a child below zero is the leaf ^child.
func lightgbmTree(s section) (tree, error) {
	leaves, err := strconv.Atoi(s["num_leaves"])
	if err != nil || leaves < 1 || leaves > MaxBytes/2 {
		return nil, fmt.Errorf("num_leaves is %.20q", s["num_leaves"])
	}
	if linear := s["is_linear"]; linear != "" && linear != "0" {
		return nil, errors.New("its leaves are linear; train without linear_tree")
	}
	values, err := numbers[float64](s, "leaf_value", leaves)
	if err != nil {
		return nil, err
	}
	counts := []float64{1} // a tree of one leaf may come without
	if leaves > 1 {
		if counts, err = numbers[float64](s, "leaf_count", leaves); err != nil {
			return nil, err
		}
	}
	t, err := lightgbmSplits(s, leaves-1)
	if err != nil {
		return nil, err
	}
	for i := range values {
		t = append(t, node{leaf: true, threshold: values[i], cover: counts[i]})
	}
	return t, nil
}

func lightgbmSplits(s section, count int) (tree, error) {
	if count == 0 {
		return nil, nil
	}
	feature, err1 := numbers[int32](s, "split_feature", count)
	threshold, err2 := numbers[float64](s, "threshold", count)
	decision, err3 := numbers[int32](s, "decision_type", count)
	left, err4 := numbers[int32](s, "left_child", count)
	right, err5 := numbers[int32](s, "right_child", count)
	sets, err6 := lightgbmSets(s)
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return nil, err
	}
	child := func(c int32) int32 {
		if c < 0 {
			return int32(count) + ^c
		}
		return c
	}
	t := make(tree, count, 2*count+1)
	for i := range t {
		d := decision[i]
		t[i] = node{feature: feature[i], threshold: threshold[i], left: child(left[i]), right: child(right[i]),
			categorical: d&1 != 0, defaultLeft: d&2 != 0, missing: missing(d >> 2 & 3)}
		if t[i].missing > missingNaN {
			return nil, fmt.Errorf("decision_type %d is unknown", d)
		}
		if t[i].categorical {
			if k := threshold[i]; !(k >= 0 && k < float64(len(sets))) {
				return nil, fmt.Errorf("split %d names a set of categories that is not there", i)
			}
			t[i].words = sets[int(threshold[i])]
		}
	}
	return t, nil
}

// lightgbmSets reads the sets of categories that go left, as bits.
func lightgbmSets(s section) ([][]uint32, error) {
	count, err := strconv.Atoi(s["num_cat"])
	if err != nil || count < 0 || count > MaxBytes/2 {
		return nil, fmt.Errorf("num_cat is %.20q", s["num_cat"])
	}
	if count == 0 {
		return nil, nil
	}
	bounds, err := numbers[int32](s, "cat_boundaries", count+1)
	if err != nil {
		return nil, err
	}
	bits, err := numbers[uint32](s, "cat_threshold", int(bounds[count]))
	if err != nil {
		return nil, err
	}
	sets := make([][]uint32, count)
	for i := range sets {
		from, to := bounds[i], bounds[i+1]
		if from < 0 || to < from || int(to) > len(bits) {
			return nil, errors.New("cat_boundaries are not ascending")
		}
		sets[i] = bits[from:to]
	}
	return sets, nil
}

// lightgbmWords gives categorical features the words that pandas had for them.
func (m *Trees) lightgbmWords(infos, tail string) error {
	_, line, ok := strings.Cut(tail, "\npandas_categorical:")
	if !ok {
		return nil
	}
	line, _, _ = strings.Cut(line, "\n")
	var lists [][]any
	if err := json.Unmarshal([]byte(line), &lists); err != nil {
		return fmt.Errorf("pandas_categorical is no list of lists: %w", err)
	}
	if len(lists) == 0 {
		return nil
	}
	var features []int
	for i, info := range strings.Fields(infos) {
		if !strings.HasPrefix(info, "[") && info != "none" && i < len(m.names) {
			features = append(features, i)
		}
	}
	if len(features) != len(lists) {
		return fmt.Errorf("pandas_categorical has words for %d features, but %d are categorical and used; train without the others", len(lists), len(features))
	}
	for i, list := range lists {
		if len(list) > MaxBins {
			return fmt.Errorf("%s has %d categories; at most %d", m.names[features[i]], len(list), MaxBins)
		}
		codes := make(map[string]float64, len(list))
		for n, word := range list {
			codes[fmt.Sprint(word)] = float64(n)
		}
		m.codes[features[i]] = codes
	}
	return nil
}
