package rules

import (
	"slices"

	"github.com/goccy/go-yaml/ast"

	"sluice/schemas/events"
)

// YAML is a YAML file that stands beside rulesets, such as their cases: read with the same limits and the same
// messages as a ruleset, each mistake noted with its place.
type YAML struct {
	d      document
	unread Node // the last value that could not be read: nothing else is said of it
}

// Node is a part of a YAML file.
type Node = ast.Node

// Entry is one key of a mapping with its value.
type Entry struct {
	Key   string
	At    Node // the key
	Value Node
}

// ParseYAML reads a file into its one mapping, nil after a mistake or when it is empty. The file's name is for messages
// only. No bytes make it panic.
func ParseYAML(file string, data []byte) (*YAML, Node) {
	d := &YAML{d: document{file: file}}
	return d, d.d.parse(data)
}

// Fail notes a mistake at a node; nil is the whole file. Of a value that could not be read that has been said already.
func (d *YAML) Fail(n Node, format string, args ...any) {
	if n == nil || n != d.unread {
		d.d.fail(n, format, args...)
	}
}

// Count is how many mistakes have been noted so far. What follows from one should not be noted too.
func (d *YAML) Count() int { return len(d.d.mistakes) }

// Lacks notes that keys are not there, unless as many keys of the mapping were misspelt: they may be those.
func (d *YAML) Lacks(n Node, lacking, misspelt int, format string, args ...any) {
	if lacking > misspelt {
		d.Fail(n, format, args...)
	}
}

// Mapping reads a mapping in its order. allowed nil takes any key; a key that is not allowed is a mistake with a suggestion.
func (d *YAML) Mapping(n Node, what string, allowed []string) []Entry {
	var all []Entry
	for _, e := range d.d.mapping(n, what, allowed) {
		all = append(all, Entry{e.key, e.at, e.value})
	}
	return all
}

// List returns the values of a list. Anything else is a mistake, nothing is an empty list.
func (d *YAML) List(n Node, what string) []Node {
	switch list := n.(type) {
	case *ast.SequenceNode:
		return list.Values
	case *ast.NullNode, nil:
		return nil
	}
	d.Fail(n, "%s is a list", what)
	return nil
}

// IsMapping says whether a node is a mapping.
func IsMapping(n Node) bool {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return true
	}
	return false
}

// Text reads one value.
func (d *YAML) Text(n Node, what string) string {
	if n != nil && n == d.unread { // read again
		return ""
	}
	before := d.Count()
	text := d.d.text(n, what)
	if d.Count() > before {
		d.unread = n
	}
	return text
}

// Texts reads one value or a list of them; those that cannot be read are left out.
func (d *YAML) Texts(n Node, what string) []string {
	before := d.Count()
	all := d.d.texts(n, what)
	if d.Count() > before {
		if all = slices.DeleteFunc(all, func(text string) bool { return text == "" }); len(all) == 0 {
			d.unread = n
		}
	}
	return all
}

// Integer reads a whole number within bounds.
func (d *YAML) Integer(n Node, what string, low, high int64) int64 {
	return d.d.integer(n, what, low, high)
}

// Line returns the line of a node, from 1; 0 when it has none.
func (d *YAML) Line(n Node) int {
	line, _ := position(n)
	return line
}

// Err returns every mistake noted, in the file's order; nil if there is none.
func (d *YAML) Err() error {
	if len(d.d.mistakes) == 0 {
		return nil
	}
	return d.d.failed("")
}

// Suggest says which word may have been meant, as the end of a message: "; did you mean card?". It is "" when no word is near
// and there are too many to list.
func Suggest(word string, words []string) string { return suggest(word, words) }

// VariablesOf lists the variables that conditions on a kind of event can name, in the order they are documented.
func VariablesOf(kind events.Kind) []string {
	var names []string
	for i := range variables {
		if variables[i].in.Has(kind) {
			names = append(names, variables[i].name)
		}
	}
	return names
}
