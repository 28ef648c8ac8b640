package replay

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// The label of a transfer between two nodes that are both part of a planted pattern.
const LabelAMLSim = "amlsim_fraud"

const (
	amlsimSource  = "amlsim"
	amlsimChannel = "amlsim"
	// maxStep bounds a step, in days: a century is a mistake.
	maxStep = 36_500
)

var (
	amlsimStart    = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	amlsimCurrency = events.MustCurrency("USD")
	nodeColumns    = []string{"nodeid", "isFraud", "init_balance", "fraudStep"}
	txColumns      = []string{"sourceNodeId", "targetNodeId", "value", "time"}
)

// amlsim is a folder of IBM AMLSim's output: opening balances, which are published as top-ups, then transfers, one step
// a day. The events of a line are named by it: "amlsim-open-2" and "amlsim-tx-2" are the first, below the header.
type amlsim struct {
	source              string
	nodesFile, txFile   string
	start               time.Time
	fraud               map[string]bool // the nodes of planted patterns
	openings, transfers int64
	place               place
}

func openAMLSim(c Config) (*amlsim, error) {
	a := &amlsim{
		source: c.Source, start: c.Start, fraud: map[string]bool{},
		nodesFile: filepath.Join(c.Path, "nodes.csv"), txFile: filepath.Join(c.Path, "transactions.csv"),
	}
	if a.source == "" {
		a.source = amlsimSource
	}
	if a.start.IsZero() {
		a.start = amlsimStart
	}
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, fmt.Errorf("replay AMLSim: %w", err)
	}
	a.place = place{Format: AMLSim, Path: path}
	if err := errors.Join(a.readNodes(), a.measure()); err != nil {
		return nil, fmt.Errorf("replay AMLSim from %s: %w", c.Path, err)
	}
	return a, nil
}

func (a *amlsim) total() int64    { return a.openings + a.transfers }
func (a *amlsim) identity() place { return a.place }
func (a *amlsim) Close() error    { return nil }

// readNodes learns which nodes are fraudulent and counts the opening balances.
func (a *amlsim) readNodes() error {
	for row, err := range rows(a.nodesFile, nodeColumns, &a.place.Bytes) {
		if err != nil {
			return err
		}
		if row.fields[1] == "1" || row.fields[1] == "true" {
			a.fraud[row.fields[0]] = true
		}
		if it := a.opening(&row); it != nil {
			a.openings++
		}
	}
	return nil
}

// measure counts the transfers and looks whether the last would be in the future, which the gate refuses.
func (a *amlsim) measure() error {
	var last int
	for row, err := range rows(a.txFile, txColumns, &a.place.Bytes) {
		if err != nil {
			return err
		}
		a.transfers++
		if step, err := strconv.Atoi(row.fields[3]); err == nil && step <= maxStep {
			last = max(last, step)
		}
	}
	if end := a.start.AddDate(0, 0, last+1); end.After(time.Now()) {
		return fmt.Errorf("step %d from %s on ends on %s, which is to come; choose a start %d days ago or earlier",
			last, a.start.Format(time.DateOnly), end.Format(time.DateOnly), last+1)
	}
	return nil
}

func (a *amlsim) items() iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		for row, err := range rows(a.nodesFile, nodeColumns, nil) {
			it := a.opening(&row)
			if err == nil && it == nil {
				continue
			}
			if it == nil {
				it = &item{}
			}
			if !yield(*it, err) || err != nil {
				return
			}
		}
		first := true
		for row, err := range rows(a.txFile, txColumns, nil) {
			it := a.transfer(&row)
			it.settle, first = first, false // the money must be there before it moves
			if !yield(it, err) || err != nil {
				return
			}
		}
	}
}

// opening is the top-up of a node's opening balance, nil for none.
func (a *amlsim) opening(row *csvRow) *item {
	if row.fields == nil {
		return nil
	}
	amount, err := events.ParseAmount(row.fields[2], amlsimCurrency)
	switch {
	case err != nil:
		return &item{file: a.nodesFile, line: row.line, wrong: fmt.Errorf("init_balance: %w", err)}
	case amount == 0:
		return nil
	}
	e := a.payment("amlsim-open-", row, row.fields[0], amount)
	e.Time = a.start.Add(time.Duration(row.line) * time.Microsecond)
	e.Method, e.Purpose = eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP
	return &item{file: a.nodesFile, line: row.line, event: e}
}

// transfer is one transfer. Its time is its step's day and its line's microsecond, so that time has the file's order.
func (a *amlsim) transfer(row *csvRow) item {
	if row.fields == nil {
		return item{}
	}
	it := item{file: a.txFile, line: row.line}
	amount, err := events.ParseAmount(row.fields[2], amlsimCurrency)
	if err == nil && amount == 0 {
		err = errors.New("it is zero; a transfer moves something")
	}
	if err != nil {
		it.wrong = fmt.Errorf("value: %w", err)
		return it
	}
	step, err := strconv.Atoi(row.fields[3])
	if err != nil || step < 0 || step > maxStep {
		it.wrong = fmt.Errorf("time: %q is no step from 0 to %d", row.fields[3], maxStep)
		return it
	}
	e := a.payment("amlsim-tx-", row, row.fields[0], amount)
	e.Time = a.start.AddDate(0, 0, step).Add(time.Duration(row.line) * time.Microsecond)
	e.CounterpartyID = "aml-" + row.fields[1]
	e.Method, e.Purpose = eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER
	if a.fraud[row.fields[0]] && a.fraud[row.fields[1]] {
		e.Label = LabelAMLSim
	}
	it.event = e
	return it
}

func (a *amlsim) payment(prefix string, row *csvRow, node string, amount int64) *events.Event {
	id := prefix + strconv.FormatInt(row.line, 10)
	return &events.Event{
		ID: id, Source: a.source, Kind: events.PaymentInitiated, PaymentID: id, CustomerID: "aml-" + node,
		Channel: amlsimChannel, Amount: amount, Currency: amlsimCurrency,
	}
}

// csvRow is a row below the header. Its fields are valid until the next row; strings cut from them stay.
type csvRow struct {
	line   int64 // in the file, from 1
	fields []string
}

// rows reads a CSV file whose header is columns; size, unless nil, is raised by the file's.
func rows(file string, columns []string, size *int64) iter.Seq2[csvRow, error] {
	return func(yield func(csvRow, error) bool) {
		f, err := os.Open(file)
		if err != nil {
			yield(csvRow{}, fmt.Errorf("%w; the format amlsim is a folder with nodes.csv and transactions.csv", err))
			return
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && size != nil {
			*size += info.Size()
		}
		r := csv.NewReader(f)
		r.ReuseRecord = true
		for first := true; ; first = false {
			fields, err := r.Read()
			switch {
			case errors.Is(err, io.EOF) && !first:
				return
			case err == nil && first:
				err = checkHeader(fields, columns)
			}
			if err != nil {
				yield(csvRow{}, fmt.Errorf("read %s: %w", file, err))
				return
			}
			line, _ := r.FieldPos(0)
			if !first && !yield(csvRow{int64(line), fields}, nil) {
				return
			}
		}
	}
}

func checkHeader(got, want []string) error {
	if len(got) != len(want) {
		return fmt.Errorf("the header has %d columns; it must be %v", len(got), want)
	}
	for i := range want {
		if got[i] != want[i] {
			return fmt.Errorf("column %d is %q; the header must be %v", i+1, got[i], want)
		}
	}
	return nil
}
