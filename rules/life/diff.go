package life

import (
	"fmt"
	"io"
	"strings"

	"github.com/goccy/go-yaml"
)

// Change is one entry in which two versions of a ruleset differ.
type Change struct {
	Section       string // "rules", "aggregates", … as in the file
	Name          string // a rule's id, an aggregate's name, …
	Before, After string // "" where it is not there
	Fields        []FieldChange
}

// FieldChange is a field that both versions' entries, or one of them, say differently: "then.score".
type FieldChange struct{ Field, Before, After string }

// Diff lists what two checked rulesets say differently, section by section, in the order of the second file; what only the
// first has comes at the end of its section. The order of entries, comments and layout do not count; nor do the ruleset's
// name and version.
func Diff(before, after []byte) ([]Change, error) {
	a, err := readSections(before)
	if err != nil {
		return nil, err
	}
	b, err := readSections(after)
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, name := range union(a.names, b.names) {
		changes = append(changes, diffSection(name, a.byName[name], b.byName[name])...)
	}
	return changes, nil
}

// sections are a file's top-level keys with their entries; entries are a rule's or an aggregate's fields.
type sections struct {
	names  []string
	byName map[string]*section
}

type section struct {
	names  []string
	byName map[string]any
}

func readSections(source []byte) (*sections, error) {
	var file yaml.MapSlice
	if err := yaml.UnmarshalWithOptions(source, &file, yaml.UseOrderedMap()); err != nil {
		return nil, fmt.Errorf("read a ruleset: %w", err)
	}
	s := &sections{byName: map[string]*section{}}
	for _, item := range file {
		name := fmt.Sprint(item.Key)
		if name == "ruleset" || name == "version" {
			continue
		}
		s.names = append(s.names, name)
		s.byName[name] = readSection(name, item.Value)
	}
	return s, nil
}

func readSection(name string, value any) *section {
	s := &section{byName: map[string]any{}}
	add := func(name string, v any) {
		s.names, s.byName[name] = append(s.names, name), v
	}
	switch v := value.(type) {
	case yaml.MapSlice:
		for _, item := range v {
			add(fmt.Sprint(item.Key), item.Value)
		}
	case []any:
		for i, item := range v {
			id := fmt.Sprintf("%s %d", name, i+1)
			if fields, ok := item.(yaml.MapSlice); ok {
				for _, f := range fields {
					if f.Key == "id" {
						id = fmt.Sprint(f.Value)
					}
				}
			}
			add(id, item)
		}
	case nil:
	default:
		add(name, v)
	}
	return s
}

func diffSection(name string, a, b *section) []Change {
	none := &section{}
	if a == nil {
		a = none
	}
	if b == nil {
		b = none
	}
	var changes []Change
	for _, entry := range union(b.names, a.names) {
		before, was := a.byName[entry]
		after, is := b.byName[entry]
		c := Change{Section: name, Name: entry}
		if was {
			c.Before = text(before)
		}
		if is {
			c.After = text(after)
		}
		if c.Before == c.After {
			continue
		}
		if was && is {
			c.Fields = diffFields(before, after)
		}
		if was != is || len(c.Fields) > 0 {
			changes = append(changes, c)
		}
	}
	return changes
}

func diffFields(a, b any) []FieldChange {
	before, after := fields("", a), fields("", b)
	var changes []FieldChange
	for _, name := range union(after.names, before.names) {
		if x, y := text(before.byName[name]), text(after.byName[name]); x != y {
			changes = append(changes, FieldChange{name, x, y})
		}
	}
	return changes
}

// fields flattens an entry: {then: {score: 60}} has the field then.score.
func fields(prefix string, v any) *section {
	s := &section{byName: map[string]any{}}
	m, ok := v.(yaml.MapSlice)
	if !ok {
		s.names, s.byName[prefix] = []string{prefix}, v
		return s
	}
	for _, item := range m {
		name := fmt.Sprint(item.Key)
		if prefix != "" {
			name = prefix + "." + name
		}
		inner := fields(name, item.Value)
		s.names = append(s.names, inner.names...)
		for k, v := range inner.byName {
			s.byName[k] = v
		}
	}
	return s
}

// text is a value on one line.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case yaml.MapSlice:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = fmt.Sprint(item.Key) + ": " + text(item.Value)
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = text(v[i])
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return strings.Join(strings.Fields(fmt.Sprint(v)), " ")
}

func union(a, b []string) []string {
	seen := map[string]bool{}
	var all []string
	for _, list := range [][]string{a, b} {
		for _, s := range list {
			if !seen[s] {
				seen[s] = true
				all = append(all, s)
			}
		}
	}
	return all
}

// PrintDiff writes changes for a person: + added, - removed, ~ changed with each field's old and new words.
func PrintDiff(w io.Writer, changes []Change) {
	section := ""
	for _, c := range changes {
		if c.Section != section {
			section = c.Section
			fmt.Fprintln(w, section)
		}
		switch {
		case c.Before == "":
			fmt.Fprintf(w, "  + %s  %s\n", c.Name, c.After)
		case c.After == "":
			fmt.Fprintf(w, "  - %s  %s\n", c.Name, c.Before)
		default:
			fmt.Fprintf(w, "  ~ %s\n", c.Name)
			for _, f := range c.Fields {
				fmt.Fprintf(w, "      %s\n", strings.TrimSpace(fmt.Sprintf("%s  %s → %s", f.Field, orNone(f.Before), orNone(f.After))))
			}
		}
	}
	if len(changes) == 0 {
		fmt.Fprintln(w, "they say the same")
	}
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
