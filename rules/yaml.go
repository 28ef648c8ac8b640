package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on the shape of a YAML file, so that no file can exhaust the stack of its parser.
const (
	maxLineBytes = MaxConditionBytes + 1024
	maxDepth     = 64 // open brackets, or steps of indentation
)

// Mistake is one thing wrong in a ruleset, and where.
type Mistake struct {
	File         string
	Line, Column int // from 1; 0 when it is about the whole file
	Message      string
}

// String returns "file:line:column: message".
func (m Mistake) String() string {
	if m.Line == 0 {
		return m.File + ": " + m.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", m.File, m.Line, m.Column, m.Message)
}

// Mistakes is the error of Load: everything found wrong, in the file's order.
type Mistakes []Mistake

// Error returns a line for each mistake.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i := range m {
		lines[i] = m[i].String()
	}
	return strings.Join(lines, "\n")
}

// document reads a YAML tree and notes every mistake with its position.
type document struct {
	file     string
	lines    []string
	mistakes Mistakes
}

func (d *document) failAt(line, column int, format string, args ...any) {
	const most = 50 // more mistakes than this help nobody
	if len(d.mistakes) < most {
		d.mistakes = append(d.mistakes, Mistake{d.file, line, column, fmt.Sprintf(format, args...)})
	}
}

func (d *document) fail(n ast.Node, format string, args ...any) {
	line, column := position(n)
	d.failAt(line, column, format, args...)
}

func position(n ast.Node) (line, column int) {
	if n == nil {
		return 0, 0
	}
	var t *token.Token
	switch n := n.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 && !n.IsFlowStyle {
			t = n.Values[0].Key.GetToken()
		} else {
			t = n.Start
		}
	case *ast.MappingValueNode:
		t = n.Key.GetToken()
	default:
		t = n.GetToken()
	}
	if t == nil || t.Position == nil {
		return 0, 0
	}
	return t.Position.Line, t.Position.Column
}

// parse reads the file into its one mapping, nil after a mistake.
func (d *document) parse(data []byte) (body ast.Node) {
	defer func() {
		// The parser is not ours: whatever it stumbles over is a file that is not YAML.
		if r := recover(); r != nil {
			d.failAt(0, 0, "it is not YAML that can be read")
			body = nil
		}
	}()
	if !d.checkShape(data) {
		return nil
	}
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		d.syntax(err)
		return nil
	}
	var docs []*ast.DocumentNode
	for _, doc := range f.Docs {
		if doc != nil && doc.Body != nil {
			docs = append(docs, doc)
		}
	}
	switch {
	case len(docs) == 0:
		return nil
	case len(docs) > 1:
		d.failAt(0, 0, "it has %d YAML documents; a ruleset is one", len(docs))
		return nil
	}
	return docs[0].Body
}

// checkShape refuses what would make the parser recurse without bound.
func (d *document) checkShape(data []byte) bool {
	switch {
	case len(data) > MaxSourceBytes:
		d.failAt(0, 0, "it has %d bytes; a ruleset has at most %d", len(data), MaxSourceBytes)
	case !utf8.Valid(data):
		d.failAt(0, 0, "it is not UTF-8")
	}
	d.lines = strings.Split(string(data), "\n")
	depth := 0
	var indents []int
	for i, line := range d.lines {
		if len(line) > maxLineBytes {
			d.failAt(i+1, 1, "the line has %d bytes; at most %d", len(line), maxLineBytes)
		}
		depth = max(0, depth+strings.Count(line, "[")+strings.Count(line, "{")-strings.Count(line, "]")-strings.Count(line, "}"))
		// "- - - x" nests as deeply as it has dashes.
		content := strings.TrimLeft(line, " ")
		indent := len(line) - len(content)
		if content != "" && content[0] != '#' {
			for len(indents) > 0 && indents[len(indents)-1] >= indent {
				indents = indents[:len(indents)-1]
			}
			indents = append(indents, indent)
		}
		nested := strings.Count(content, "- ") + strings.Count(content, "? ") + strings.Count(content, ": ")
		if depth > maxDepth || len(indents) > maxDepth || content != "" && (content[0] == '-' || content[0] == '?') && nested > maxDepth {
			d.failAt(i+1, 1, "it is nested more than %d deep", maxDepth)
			break
		}
	}
	return len(d.mistakes) == 0
}

// syntax turns the YAML parser's complaint into ours.
func (d *document) syntax(err error) {
	type positioned interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if e, ok := err.(positioned); ok && e.GetToken() != nil && e.GetToken().Position != nil {
		at := e.GetToken().Position
		d.failAt(at.Line, at.Column, "not YAML: %s%s", e.GetMessage(), quoteHint(d.lines, at.Line))
		return
	}
	d.failAt(0, 0, "not YAML: %s", firstLine(err.Error()))
}

// quoteHint helps with the commonest trap: YAML's own meaning of ! and : in a condition.
func quoteHint(lines []string, line int) string {
	if line < 1 || line > len(lines) {
		return ""
	}
	text := lines[line-1]
	if strings.Contains(text, "when:") || strings.Contains(text, "where:") || strings.Contains(text, "say:") {
		return "; put the text in single quotes"
	}
	return ""
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	at    ast.Node // the key
	value ast.Node
}

// mapping reads a mapping in its order. allowed nil takes any key.
func (d *document) mapping(n ast.Node, what string, allowed []string) []entry {
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	case *ast.NullNode, nil:
		return nil
	default:
		d.fail(n, "%s is a mapping of names to values", what)
		return nil
	}
	var all []entry
	seen := map[string]bool{}
	for _, v := range values {
		key, ok := scalar(v.Key)
		switch {
		case !ok:
			d.fail(v.Key, "a name was expected here")
		case seen[key]:
			d.fail(v.Key, "%q is there twice", key)
		case allowed != nil && !slices.Contains(allowed, key):
			d.fail(v.Key, "%s has no %q%s", what, key, suggest(key, allowed))
		default:
			all = append(all, entry{key, v.Key, v.Value})
		}
		seen[key] = true
	}
	return all
}

// scalar reads a node's text as it is written, whatever YAML makes of it.
func scalar(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		if s.Value == nil {
			return "", true
		}
		return s.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		if t := n.GetToken(); t != nil {
			return t.Value, true
		}
	}
	return "", false
}

// text reads a scalar.
func (d *document) text(n ast.Node, what string) string {
	s, ok := scalar(n)
	if !ok {
		switch n.(type) {
		case *ast.TagNode, *ast.AnchorNode, *ast.AliasNode:
			d.fail(n, "%s starts with a character that YAML takes for itself; put the text in single quotes", what)
		default:
			d.fail(n, "%s is one value", what)
		}
	}
	return strings.TrimSpace(s)
}

// texts reads a scalar or a list of scalars.
func (d *document) texts(n ast.Node, what string) []string {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		if s := d.text(n, what); s != "" {
			return []string{s}
		}
		return nil
	}
	var all []string
	for _, v := range list.Values {
		all = append(all, d.text(v, what))
	}
	return all
}

// integer reads a whole number within bounds.
func (d *document) integer(n ast.Node, what string, low, high int64) int64 {
	s, _ := scalar(n)
	v, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || v < low || v > high {
		d.fail(n, "%s is a whole number from %d to %d", what, low, high)
		return 0
	}
	return v
}

// expression compiles a CEL condition and notes its mistakes where they stand in the file.
func (d *document) expression(s *scope, n ast.Node, what string) *Condition {
	text, ok := scalar(n)
	if !ok {
		d.text(n, what)
		return nil
	}
	if strings.TrimSpace(text) == "" {
		d.fail(n, "%s is empty", what)
		return nil
	}
	c, mistakes := s.compile(text)
	for _, m := range mistakes {
		line, column := d.within(n, text, m.line, m.column)
		d.failAt(line, column, "%s: %s", what, m.message)
	}
	return c
}

// within finds where a place inside a scalar stands in the file; for a scalar that YAML folds, where the scalar starts.
func (d *document) within(n ast.Node, text string, line, column int) (int, int) {
	atLine, atColumn := position(n)
	if atLine < 1 || atLine > len(d.lines) {
		return atLine, atColumn
	}
	lines := strings.Split(text, "\n")
	if line >= len(lines) {
		return atLine, atColumn
	}
	if _, block := n.(*ast.LiteralNode); block {
		if at := atLine + line; at < len(d.lines) { // the block starts on the next line
			if indent := strings.Index(d.lines[at], lines[line]); indent >= 0 && strings.TrimSpace(d.lines[at][:indent]) == "" {
				return at + 1, indent + column + 1
			}
		}
		return atLine, atColumn
	}
	source := []rune(d.lines[atLine-1])
	for _, start := range []int{atColumn - 1, atColumn} { // plain, or after a quote
		if line == 0 && start >= 0 && start <= len(source) && strings.HasPrefix(string(source[start:]), text) {
			return atLine, start + column + 1
		}
	}
	return atLine, atColumn
}
