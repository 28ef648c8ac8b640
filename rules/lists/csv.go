package lists

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	// MaxLines bounds the lines of one import: what one Kafka transaction holds without a stall.
	MaxLines = 500_000
	// maxTold bounds the mistakes that one error tells of.
	maxTold = 20
)

// header is the first line of an import.
const header = "value,kind,reason,expires"

// ParseCSV reads entries for a list from CSV (RFC 4180, UTF-8). The first line names the columns: value, and any of kind,
// reason and expires, in any order. The entries get by and added. All lines are good or none counts: an error tells of
// the first mistakes, each with its line and what to do.
func ParseCSV(r io.Reader, list, by string, added time.Time) ([]Entry, error) {
	if err := CheckName(list); err != nil {
		return nil, err
	}
	p := parser{csv: csv.NewReader(withoutBOM(r)), list: list, by: by, added: added, lines: map[string]int{}}
	p.csv.ReuseRecord = true
	if err := p.readHeader(); err != nil {
		return nil, err
	}
	for p.read() {
	}
	if len(p.mistakes) > 0 {
		if p.more > 0 {
			p.mistakes = append(p.mistakes, fmt.Errorf("and %d lines more with mistakes", p.more))
		}
		return nil, errors.Join(p.mistakes...)
	}
	if len(p.entries) == 0 {
		return nil, errors.New("the file has no entries below its header")
	}
	return p.entries, nil
}

// withoutBOM skips the byte order mark that spreadsheets write.
func withoutBOM(r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	if head, _ := b.Peek(3); bytes.Equal(head, []byte("\xef\xbb\xbf")) {
		_, _ = b.Discard(3)
	}
	return b
}

type parser struct {
	csv      *csv.Reader
	list, by string
	added    time.Time

	value, kind, reason, expires int // columns; -1: none
	entries                      []Entry
	lines                        map[string]int // line by Key
	mistakes                     []error
	more                         int
}

func (p *parser) readHeader() error {
	columns, err := p.csv.Read()
	if err != nil {
		return fmt.Errorf("line 1: %w; the first line is %s", err, header)
	}
	columns = slices.Clone(columns)
	for i := range columns {
		columns[i] = strings.ToLower(strings.TrimSpace(columns[i]))
		if !slices.Contains(strings.Split(header, ","), columns[i]) || slices.Contains(columns[:i], columns[i]) {
			return fmt.Errorf("line 1: column %q is unknown or there twice; the first line is %s", clip(columns[i]), header)
		}
	}
	p.value, p.kind = slices.Index(columns, "value"), slices.Index(columns, "kind")
	p.reason, p.expires = slices.Index(columns, "reason"), slices.Index(columns, "expires")
	if p.value < 0 {
		return fmt.Errorf("line 1: there is no column value; the first line is %s", header)
	}
	return nil
}

// read takes one line; false at the end.
func (p *parser) read() bool {
	fields, err := p.csv.Read()
	if errors.Is(err, io.EOF) {
		return false
	}
	var bad *csv.ParseError
	switch {
	case errors.As(err, &bad) && errors.Is(err, csv.ErrFieldCount):
		p.mistake(bad.StartLine, fmt.Errorf("%d columns where the header has %d; put a text with a comma between \"quotes\"", len(fields), p.csv.FieldsPerRecord))
		return true
	case errors.As(err, &bad): // what follows a broken quote cannot be told apart
		p.mistake(bad.StartLine, fmt.Errorf("%w; write a quote within a text as \"\"", bad.Err))
		return false
	case err != nil:
		p.mistakes = append(p.mistakes, fmt.Errorf("read the file: %w", err))
		return false
	}
	line, _ := p.csv.FieldPos(0)
	e, err := p.entry(fields)
	if err == nil && p.lines[e.Key()] > 0 {
		err = fmt.Errorf("%s %q is on line %d already; keep one of them", e.Kind, clip(e.Value), p.lines[e.Key()])
	}
	if err == nil && len(p.entries) >= MaxLines {
		p.mistake(line, fmt.Errorf("more than %d entries; import them in several files", MaxLines))
		return false
	}
	if err != nil {
		p.mistake(line, err)
		return true
	}
	p.lines[e.Key()] = line
	p.entries = append(p.entries, e)
	return true
}

func (p *parser) entry(fields []string) (Entry, error) {
	at := func(column int) string {
		if column < 0 {
			return ""
		}
		return strings.TrimSpace(fields[column])
	}
	kind, err := ParseKind(strings.ToLower(at(p.kind)))
	if err != nil {
		return Entry{}, err
	}
	e, err := New(p.list, kind, strings.Clone(at(p.value)))
	if err != nil {
		return Entry{}, err
	}
	e.Reason, e.By, e.Added = strings.Clone(at(p.reason)), p.by, p.added
	if text := at(p.expires); text != "" {
		if e.Expires, err = ParseExpires(text); err != nil {
			return Entry{}, err
		}
	}
	return e, e.Check()
}

func (p *parser) mistake(line int, err error) {
	if len(p.mistakes) >= maxTold {
		p.more++
		return
	}
	p.mistakes = append(p.mistakes, fmt.Errorf("line %d: %w", line, err))
}
