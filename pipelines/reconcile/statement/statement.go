// Package statement reads what channels send as statements: CSV as a profile describes it, and ISO 20022 camt.053. It keeps
// one line at a time, whatever the size of the file, and holds the statement's own balances against its lines.
package statement

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"

	"sluice/pipelines/reconcile"
	"sluice/schemas/events"
)

// Limits of a file.
const (
	// MaxLines bounds the lines of a statement: they are matched in memory.
	MaxLines = 5_000_000
	// MaxReference bounds a reference, in bytes; ISO 20022 has 35 characters, and no channel needs many more.
	MaxReference = 256
	// maxText bounds what is kept of a line's text, in bytes; the rest is cut off.
	maxText = 500
	// maxRecord bounds a line of CSV, or an element of XML, in bytes: what is longer is no statement.
	maxRecord = 1 << 20
	// maxTold bounds the mistakes that one error tells of.
	maxTold = 20
)

// Line is a line of a statement. Its ID is for the reader's caller to give.
type Line struct {
	reconcile.Line
	Position int // line of the file, from 1
}

// Summary is what a statement says of itself.
type Summary struct {
	Format   string // "csv", "camt.053.001.02" or "camt.053.001.08"
	Lines    int
	Ignored  int // pending, worth nothing, or to be ignored by the profile
	From, To reconcile.Day
	Balances []Balance // those that were held against the lines; none if the statement states none
}

// Balance is the balance of the channel's account before and after the statement, in minor units.
type Balance struct {
	Currency         events.Currency
	Opening, Closing int64
}

// Mistake is what is wrong in a file, where, and what to do.
type Mistake struct {
	File         string
	Line, Column int // from 1; 0 when it is about the whole file
	Message      string
}

// Error returns "file:line:column: message".
func (m *Mistake) Error() string {
	switch {
	case m.Line == 0:
		return m.File + ": " + m.Message
	case m.Column == 0:
		return fmt.Sprintf("%s:%d: %s", m.File, m.Line, m.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", m.File, m.Line, m.Column, m.Message)
}

// Read reads a statement and calls yield for each line, in the file's order. A file that begins with '<' is camt.053, for
// which p may be nil; any other is CSV. After an error, which is one Mistake or several joined, or yield's own, the lines
// count for nothing: what is wrong may come last.
func Read(file string, r io.Reader, p *Profile, yield func(Line) error) (Summary, error) {
	b := bufio.NewReader(r)
	head, _ := b.Peek(512)
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	if bytes.HasPrefix(head, []byte("<")) {
		return readCAMT(file, b, p, yield)
	}
	if p == nil {
		return Summary{}, &Mistake{File: file, Message: "it is not XML, so it is read as CSV, and that needs a profile: --profile P.yaml says what its columns mean"}
	}
	return readCSV(file, b, p, yield)
}

// summary adds lines up.
type summary struct {
	Summary
	yield func(Line) error
}

// add hands a line on.
func (s *summary) add(l Line) error {
	if s.Lines++; s.Lines > MaxLines {
		return fmt.Errorf("more than %d lines; split the statement", MaxLines)
	}
	if s.Lines == 1 || l.Date < s.From {
		s.From = l.Date
	}
	s.To = max(s.To, l.Date)
	return s.yield(l)
}

// budget bounds what is read between two calls of reset.
type budget struct {
	r    io.Reader
	left int
}

var errTooLong = fmt.Errorf("a line or an element is longer than %d bytes; a quote or a tag may not be closed", maxRecord)

// Read reads no more than is left.
func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

func (b *budget) reset() { b.left = maxRecord }

// findEncoding returns the encoding of a name such as "gbk", nil for UTF-8.
func findEncoding(name string) (encoding.Encoding, error) {
	switch strings.ToLower(name) {
	case "", "utf-8", "utf8":
		return nil, nil
	}
	e, err := htmlindex.Get(name)
	if err != nil {
		return nil, fmt.Errorf("there is no encoding %q; give utf-8, gbk, gb18030, windows-1252, iso-8859-1, utf-16le, shift_jis, …", name)
	}
	return e, nil
}

// clean makes a text one that can be kept: valid, without zero bytes and without blanks around.
func clean(s string) string {
	if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
		s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
	}
	return strings.TrimSpace(s)
}

// clip cuts a text off at n bytes, between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// finish fills what a line has in common in all formats: its text and its reference, the first that is found.
func (p *Profile) finish(l *Line, references []string, text string) error {
	for i := range references {
		references[i] = clean(references[i])
	}
	references = slices.DeleteFunc(references, func(s string) bool { return s == "" || s == notProvided })
	text = clean(text)
	l.Reference, l.Text = p.find(references, text), clip(strings.Clone(text), maxText)
	if len(l.Reference) > MaxReference {
		return fmt.Errorf("the reference %.20q… has %d bytes; it has at most %d: say with reference: which part of it counts", l.Reference, len(l.Reference), MaxReference)
	}
	if p != nil && p.collective != nil && (p.collective.MatchString(l.Reference) || p.collective.MatchString(text)) {
		l.Collective = true
	}
	return nil
}

// notProvided is what ISO 20022 writes where there is no end-to-end reference.
const notProvided = "NOTPROVIDED"

// find returns the reference: what the profile's pattern finds in the references or the text, else the first of them.
func (p *Profile) find(references []string, text string) string {
	if p != nil && p.reference != nil {
		for _, s := range append(references[:len(references):len(references)], text) {
			if found := p.reference.FindStringSubmatch(s); found != nil {
				return strings.Clone(clean(found[len(found)-1]))
			}
		}
	}
	if len(references) == 0 {
		return ""
	}
	return strings.Clone(references[0])
}

// withinRange checks what a line's amounts may be.
func withinRange(l *Line) error {
	for _, n := range [...]int64{l.Amount, l.Fee, l.Amount + l.Fee} {
		if n > events.MaxAmount || n < -events.MaxAmount {
			return errors.New("the amount with its fee is above the limit of " + events.FormatAmount(events.MaxAmount, l.Currency))
		}
	}
	return nil
}
