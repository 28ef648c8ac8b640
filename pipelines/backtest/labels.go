package backtest

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"sluice/schemas/events"
)

// Labels says which events and customers were fraud, beside what events say of themselves (Event.Label). What was resolved
// by a person wins, then a chargeback, then the event's own label.
type Labels struct {
	resolved  map[uint64]bool // by payment or loan
	reported  map[uint64]bool // payments charged back, loans written off
	customers map[uint64]bool // true: fraud
}

// NewLabels returns labels that know nothing.
func NewLabels() *Labels {
	return &Labels{resolved: map[uint64]bool{}, reported: map[uint64]bool{}, customers: map[uint64]bool{}}
}

// Report marks a payment that was charged back, or a loan that was written off.
func (l *Labels) Report(id string) { l.reported[hash(id)] = true }

// Resolve notes what a person found a payment or loan to be.
func (l *Labels) Resolve(id string, fraud bool) { l.resolved[hash(id)] = fraud }

// Customer notes what a customer is known to be. As soon as one is known, this alone says which customers are good, and for
// the units customer and account what is fraud; those not noted are good.
func (l *Labels) Customer(id string, fraud bool) { l.customers[hash(id)] = fraud }

// Count returns how many payments and loans are marked, and how many customers.
func (l *Labels) Count() (cases, customers int) {
	return len(l.resolved) + len(l.reported), len(l.customers)
}

// See learns from an event: a chargeback or a written off loan tells of the payment or loan.
func (l *Labels) See(e *events.Event) {
	switch e.Kind {
	case events.PaymentChargedBack:
		l.Report(e.PaymentID)
	case events.LoanWrittenOff:
		l.Report(e.LoanID)
	}
}

// fraud says whether an event is fraud.
func (l *Labels) fraud(e *events.Event) bool {
	id := e.PaymentID
	if e.Kind == events.LoanApplied {
		id = e.LoanID
	}
	if len(l.resolved)+len(l.reported) > 0 {
		key := hash(id)
		if fraud, known := l.resolved[key]; known {
			return fraud
		}
		if l.reported[key] {
			return true
		}
	}
	return e.Label != "" && !slices.Contains(goodWords, strings.ToLower(e.Label))
}

// What labels are written as.
var (
	goodWords  = []string{"0", "false", "good", "legit", "legitimate", "no", "genuine"}
	fraudWords = []string{"1", "true", "fraud", "bad", "yes", "confirmed"}
)

// ReadCSV reads resolved cases: a header with payment_id (or loan_id) and label, then a line for each. A label is one of
// fraud, bad, 1, true, yes, confirmed, or of legit, legitimate, genuine, good, 0, false, no.
func (l *Labels) ReadCSV(file string, in io.Reader) error {
	r := csv.NewReader(in)
	r.ReuseRecord = true
	header, err := r.Read()
	if err != nil {
		return fmt.Errorf("%s: it is no CSV file with a header: %w", file, err)
	}
	header[0] = strings.TrimPrefix(header[0], "\ufeff")
	id, label := slices.Index(header, "payment_id"), slices.Index(header, "label")
	if id < 0 {
		id = slices.Index(header, "loan_id")
	}
	if id < 0 || label < 0 {
		return fmt.Errorf("%s:1: the header is %q; it needs payment_id (or loan_id) and label", file, strings.Join(header, ","))
	}
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		line, _ := r.FieldPos(0)
		word := strings.ToLower(strings.TrimSpace(row[label]))
		fraud := slices.Contains(fraudWords, word)
		if !fraud && !slices.Contains(goodWords, word) {
			return fmt.Errorf("%s:%d: the label %q is neither of %s nor of %s", file, line, row[label], strings.Join(fraudWords, ", "), strings.Join(goodWords, ", "))
		}
		l.Resolve(row[id], fraud)
	}
}

// hash is FNV-1a of 64 bits: among ten million ids two are alike once in 370,000 runs.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}
