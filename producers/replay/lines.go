package replay

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"

	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// lines is a file of structured CloudEvents, one a line. Empty lines are no items.
type lines struct {
	name  string
	in    io.Reader
	close func() error
	place place
	count int64
}

func openLines(c Config) (*lines, error) {
	if c.Path == "-" {
		if c.ResumeFile != "" {
			return nil, errors.New("replay the standard input: its place cannot be kept; replay a file, or leave the resume file out")
		}
		in := c.Input
		if in == nil {
			in = os.Stdin
		}
		return &lines{name: "-", in: in, close: func() error { return nil }}, nil
	}
	f, err := os.Open(c.Path)
	if err != nil {
		return nil, fmt.Errorf("replay events: %w", err)
	}
	l := &lines{name: c.Path, in: f, close: f.Close}
	if err := l.measure(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("replay events from %s: %w", c.Path, err)
	}
	return l, nil
}

// measure counts the items and goes back to the start.
func (l *lines) measure(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is no regular file; a folder is for the format amlsim, a pipe is replayed as -")
	}
	path, err := filepath.Abs(l.name)
	if err != nil {
		return err
	}
	l.place = place{Format: Events, Path: path, Bytes: info.Size()}
	for line, err := range splitLines(f) {
		if err != nil {
			return err
		}
		if !line.empty() {
			l.count++
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

func (l *lines) total() int64    { return l.count }
func (l *lines) identity() place { return l.place }
func (l *lines) Close() error    { return l.close() }

func (l *lines) items() iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		number := int64(0)
		for line, err := range splitLines(l.in) {
			if err != nil {
				yield(item{}, fmt.Errorf("read %s after line %d: %w", l.name, number, err))
				return
			}
			number++
			if line.empty() {
				continue
			}
			if !yield(l.item(number, &line), nil) {
				return
			}
		}
	}
}

func (l *lines) item(number int64, line *textLine) item {
	it := item{file: l.name, line: number}
	if line.long > 0 {
		it.wrong = &events.Rejection{Code: events.CodeOversized, Detail: fmt.Sprintf("%d bytes; an event has at most %d", line.long, events.MaxEventBytes)}
		return it
	}
	_, key := address(line.text)
	e, err := events.Decode(&events.Record{Key: []byte(key), Value: line.text,
		Headers: []events.Header{{Key: "content-type", Value: []byte(events.ContentStructured)}}})
	if err != nil {
		it.wrong, it.raw = err, bytes.Clone(line.text)
		return it
	}
	it.event = &e
	return it
}

// address finds the topic and key of a structured event as far as it can be read; payments and "" otherwise.
func address(line []byte) (topic, key string) {
	var envelope struct {
		Type        string `json:"type"`
		ContentType string `json:"datacontenttype"`
		Data        struct {
			CustomerID string `json:"customer_id"`
			Camel      string `json:"customerId"` // Protobuf's own JSON name
		} `json:"data"`
		DataBase64 string `json:"data_base64"`
	}
	// What cannot be read stays empty; Decode has the words for it.
	_ = json.Unmarshal(line, &envelope)
	family := events.ParseKind(envelope.Type).Family()
	topic = family.Topic()
	if topic == "" {
		topic = schemas.Payments
	}
	if key = envelope.Data.CustomerID + envelope.Data.Camel; key == "" && envelope.DataBase64 != "" {
		key = customerInBase64(family, envelope.ContentType, envelope.DataBase64)
	}
	return topic, key
}

func customerInBase64(family events.Family, contentType, text string) string {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return ""
	}
	if !strings.Contains(contentType, "protobuf") {
		var fields struct {
			CustomerID string `json:"customer_id"`
			Camel      string `json:"customerId"`
		}
		_ = json.Unmarshal(data, &fields)
		return fields.CustomerID + fields.Camel
	}
	message := map[events.Family]interface {
		proto.Message
		GetCustomerId() string
	}{events.Payment: &eventsv1.PaymentEvent{}, events.Loan: &eventsv1.LoanEvent{}, events.Behavior: &eventsv1.BehaviorEvent{}}[family]
	if message == nil || proto.Unmarshal(data, message) != nil {
		return ""
	}
	return message.GetCustomerId()
}

// textLine is one line without its end. A line longer than an event may be is not kept: long has its length instead.
type textLine struct {
	text []byte // valid until the next line
	long int64
}

func (l *textLine) empty() bool { return l.long == 0 && len(l.text) == 0 }

// splitLines reads lines of any length in bounded memory.
func splitLines(in io.Reader) iter.Seq2[textLine, error] {
	return func(yield func(textLine, error) bool) {
		r := bufio.NewReaderSize(in, events.MaxEventBytes+2) // and the line's end
		for {
			text, err := r.ReadSlice('\n')
			var line textLine
			for errors.Is(err, bufio.ErrBufferFull) {
				line.long += int64(len(text))
				text, err = r.ReadSlice('\n')
			}
			if err != nil && !errors.Is(err, io.EOF) {
				yield(textLine{}, err)
				return
			}
			if line.long > 0 {
				line.long += int64(len(text))
			} else {
				line.text = bytes.TrimSpace(text)
			}
			atEnd := err != nil
			if atEnd && line.empty() || !yield(line, nil) || atEnd {
				return
			}
		}
	}
}
