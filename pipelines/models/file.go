package models

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Describe notes in a trained model what it was trained on.
func Describe(m Model, t *Training) {
	switch m := m.(type) {
	case *Scorecard:
		m.Training = t
	case *Logistic:
		m.Training = t
	}
}

// TrainingOf returns what a model was trained on, nil when its file does not say.
func TrainingOf(m Model) *Training {
	switch m := m.(type) {
	case *Scorecard:
		return m.Training
	case *Logistic:
		return m.Training
	}
	return nil
}

// Write returns the file of a scorecard or a logistic regression: JSON with a bin or a coefficient on each line.
func Write(m Model) ([]byte, error) {
	if m.Kind() != "scorecard" && m.Kind() != "logistic" {
		return nil, fmt.Errorf("a model of kind %s is written by the library that trains it", m.Kind())
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(m); err != nil {
		return nil, fmt.Errorf("write the model: %w", err)
	}
	return onOneLine.ReplaceAllFunc(b.Bytes(), func(inner []byte) []byte { return lineBreak.ReplaceAll(inner, []byte(" ")) }), nil
}

// What holds nothing else goes on one line. No string of JSON has a line break in it, so none is changed.
var onOneLine, lineBreak = regexp.MustCompile(`[{\[][^{}\[\]]*(\[[^{}\[\]]*\][^{}\[\]]*)?[}\]]`), regexp.MustCompile(`\n\s*`)

// Section returns the models: section of a ruleset that holds a model's file. expressions says what each feature is in the
// language of rules; a feature that is not in it stands for itself.
func Section(name string, m Model, file []byte, expressions map[string]string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "models:\n  %s:\n    kind: %s\n    features:\n", name, m.Kind())
	for _, f := range m.Features() {
		expression, ok := expressions[f]
		if !ok {
			expression = f
		}
		fmt.Fprintf(&b, "      %s: %s\n", quote(f), quote(expression))
	}
	if m.Kind() == "scorecard" || m.Kind() == "logistic" {
		fmt.Fprintf(&b, "    model: |\n      %s\n", strings.ReplaceAll(strings.TrimSpace(string(file)), "\n", "\n      "))
		return b.String(), nil
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(file); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	b.WriteString("    base64: |\n")
	for text := base64.StdEncoding.EncodeToString(packed.Bytes()); text != ""; {
		n := min(120, len(text))
		fmt.Fprintf(&b, "      %s\n", text[:n])
		text = text[n:]
	}
	return b.String(), nil
}

var plainWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.]*$`)

// quote writes a text for YAML, in quotes unless it is a plain name.
func quote(text string) string {
	if plainWord.MatchString(text) && text != "true" && text != "false" && text != "null" {
		return text
	}
	return strconv.Quote(text)
}

// Splits counts the splits of the trees by feature, and the trees.
func (m *Trees) Splits() (byFeature []int, trees int) {
	byFeature = make([]int, len(m.names))
	for _, t := range m.trees {
		for i := range t {
			if !t[i].leaf {
				byFeature[t[i].feature]++
			}
		}
	}
	return byFeature, len(m.trees)
}
