package house

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"sluice/pipelines/backtest"
	"sluice/pipelines/routing"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// Recorded events are read from the warehouse in the order of their time: the tables payments, loans and behaviors are
// merged, a range of time after another, so that neither ClickHouse nor this process ever holds more than two ranges. Each
// row comes as one string in RowBinary, whose parts become the event's strings without a copy.

const (
	// rangeRows is about how many rows one range of time has: some 100 MB for ClickHouse to sort.
	rangeRows = 200_000
	// batchRows is how many rows go from one goroutine to the next at a time.
	batchRows = 1000
)

// cell is a column of a table and the part of an item that is made of it.
type cell struct {
	name string
	take func(r *binaryRow, it *backtest.Item)
}

func text(name string, of func(*events.Event) *string) cell {
	return cell{name, func(r *binaryRow, it *backtest.Item) { *of(&it.Event) = r.text() }}
}

func whole(name string, set func(*events.Event, int64)) cell {
	return cell{name, func(r *binaryRow, it *backtest.Item) { set(&it.Event, int64(int32(r.fixed(4)))) }}
}

func long(name string, set func(*events.Event, int64)) cell {
	return cell{name, func(r *binaryRow, it *backtest.Item) { set(&it.Event, int64(r.fixed(8))) }}
}

// currencyColumn comes before nothing that depends on it.
var currencyColumn = cell{"currency", func(r *binaryRow, it *backtest.Item) {
	code := r.text()
	c, known := events.ParseCurrency(code)
	if !known && code != "" {
		r.fail("the currency %q", code)
	}
	it.Event.Currency = c
}}

// decisionColumns are those of every table. What no rule can read is left out: words of complaints and coordinates.
var decisionColumns = []cell{
	{"event_time", func(r *binaryRow, it *backtest.Item) { it.Event.Time = time.UnixMicro(int64(r.fixed(8))).UTC() }},
	{"partition", func(r *binaryRow, it *backtest.Item) { it.Partition = int32(r.fixed(4)) }},
	{"offset", func(r *binaryRow, _ *backtest.Item) { r.offset = int64(r.fixed(8)) }},
	text("event_id", func(e *events.Event) *string { return &e.ID }),
	text("source", func(e *events.Event) *string { return &e.Source }),
	{"type", func(r *binaryRow, it *backtest.Item) {
		word := r.text()
		if it.Event.Kind = events.ParseKind(word); it.Event.Kind == events.KindUnknown {
			r.fail("the type %q", word)
		}
	}},
	text("customer_id", func(e *events.Event) *string { return &e.CustomerID }),
	text("channel", func(e *events.Event) *string { return &e.Channel }),
	text("device_id", func(e *events.Event) *string { return &e.DeviceID }),
	text("ip", func(e *events.Event) *string { return &e.IP }),
	text("country", func(e *events.Event) *string { return &e.Country }),
	text("label", func(e *events.Event) *string { return &e.Label }),
	{"verdict", func(r *binaryRow, it *backtest.Item) { it.Recorded.Verdict = verdictsByWord[r.text()] }},
	{"score", func(r *binaryRow, it *backtest.Item) { it.Recorded.Score = int32(r.fixed(4)) }},
	{"rules", func(r *binaryRow, it *backtest.Item) {
		it.Recorded.Rules = withoutRouting(r.texts(), &it.Recorded.Verdict)
	}},
	{"ruleset", func(r *binaryRow, it *backtest.Item) { it.Recorded.Ruleset = r.text() }},
	{"tier", func(r *binaryRow, it *backtest.Item) { it.Tier = r.text() }},
}

// withoutRouting makes a recorded verdict that of the rules: a payment that no channel could carry was approved by them.
func withoutRouting(ids []string, verdict *events.Verdict) []string {
	if n := len(ids); n > 0 && ids[n-1] == routing.RoutingRule {
		*verdict = events.Approve
		return ids[:n-1]
	}
	return ids
}

var paymentColumns = append(slices.Clone(decisionColumns),
	text("customer_name", func(e *events.Event) *string { return &e.CustomerName }),
	whole("customer_kyc_level", func(e *events.Event, n int64) { e.KYCLevel = int32(n) }),
	text("payment_id", func(e *events.Event) *string { return &e.PaymentID }),
	text("account_id", func(e *events.Event) *string { return &e.AccountID }),
	text("counterparty_id", func(e *events.Event) *string { return &e.CounterpartyID }),
	text("counterparty_name", func(e *events.Event) *string { return &e.CounterpartyName }),
	text("merchant_id", func(e *events.Event) *string { return &e.MerchantID }),
	text("merchant_category", func(e *events.Event) *string { return &e.MerchantMCC }),
	text("card_token", func(e *events.Event) *string { return &e.CardToken }),
	text("reason", func(e *events.Event) *string { return &e.Reason }),
	text("payment_channel", func(e *events.Event) *string { return &e.PaymentChannel }),
	long("amount_minor", func(e *events.Event, n int64) { e.Amount = n }),
	currencyColumn,
	cell{"method", func(r *binaryRow, it *backtest.Item) { it.Event.Method = methodsByWord[r.text()] }},
	cell{"purpose", func(r *binaryRow, it *backtest.Item) { it.Event.Purpose = purposesByWord[r.text()] }},
)

var loanColumns = append(slices.Clone(decisionColumns),
	text("customer_name", func(e *events.Event) *string { return &e.CustomerName }),
	text("loan_id", func(e *events.Event) *string { return &e.LoanID }),
	text("product", func(e *events.Event) *string { return &e.Product }),
	text("purpose", func(e *events.Event) *string { return &e.LoanPurpose }),
	text("reason", func(e *events.Event) *string { return &e.Reason }),
	long("amount_minor", func(e *events.Event, n int64) { e.Amount = n }),
	currencyColumn,
	whole("term_months", func(e *events.Event, n int64) { e.TermMonths = int32(n) }),
	long("annual_rate_ppm", func(e *events.Event, n int64) { e.AnnualRate = events.Rate(n) }),
	long("monthly_income_minor", func(e *events.Event, n int64) { e.MonthlyIncome = n }),
	long("outstanding_debt_minor", func(e *events.Event, n int64) { e.OutstandingDebt = n }),
	whole("age", func(e *events.Event, n int64) { e.Age = int32(n) }),
	whole("employment_months", func(e *events.Event, n int64) { e.EmploymentMonths = int32(n) }),
	whole("bureau_score", func(e *events.Event, n int64) { e.BureauScore = int32(n) }),
)

var behaviorColumns = append(slices.Clone(decisionColumns),
	text("session_id", func(e *events.Event) *string { return &e.SessionID }),
	text("subject", func(e *events.Event) *string { return &e.Subject }),
	text("payee_id", func(e *events.Event) *string { return &e.PayeeID }),
	text("document_hash", func(e *events.Event) *string { return &e.DocumentHash }),
	whole("kyc_level", func(e *events.Event, n int64) { e.KYCLevel = int32(n) }),
)

// recordedTables are the tables of events, in the order of their topics.
var recordedTables = []struct {
	name    string
	columns []cell
}{{"behaviors", behaviorColumns}, {"loans", loanColumns}, {"payments", paymentColumns}}

var (
	verdictsByWord = func() map[string]events.Verdict {
		m := map[string]events.Verdict{}
		for v := events.Observed; v <= events.Duplicate; v++ {
			m[v.String()] = v
		}
		return m
	}()
	methodsByWord  = enumWords[eventsv1.PaymentMethod]("PAYMENT_METHOD_", eventsv1.PaymentMethod_value)
	purposesByWord = enumWords[eventsv1.PaymentPurpose]("PAYMENT_PURPOSE_", eventsv1.PaymentPurpose_value)
)

// enumWords are the words that columns and rules use for an enumeration: PAYMENT_METHOD_CARD is "card".
func enumWords[T ~int32](prefix string, values map[string]int32) map[string]T {
	m := map[string]T{}
	for name, n := range values {
		if n > 0 {
			m[strings.ToLower(strings.TrimPrefix(name, prefix))] = T(n)
		}
	}
	return m
}

// binaryRow reads one row in ClickHouse's format RowBinary.
type binaryRow struct {
	rest   string
	offset int64
	err    error
}

func (r *binaryRow) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("a recorded event cannot be read: "+format, args...)
	}
	r.rest = ""
}

// fixed reads a number of 4 or 8 bytes, little endian.
func (r *binaryRow) fixed(size int) uint64 {
	if len(r.rest) < size {
		r.fail("its row is cut short")
		return 0
	}
	n := uint64(0)
	for i := range size {
		n |= uint64(r.rest[i]) << (8 * i)
	}
	r.rest = r.rest[size:]
	return n
}

// length reads a LEB128 number.
func (r *binaryRow) length() int {
	n := 0
	for i := 0; i < len(r.rest) && i < 5; i++ {
		b := r.rest[i]
		n |= int(b&0x7f) << (7 * i)
		if b < 0x80 {
			r.rest = r.rest[i+1:]
			return n
		}
	}
	r.fail("its row is cut short")
	return 0
}

func (r *binaryRow) text() string {
	n := r.length()
	if n > len(r.rest) {
		r.fail("its row is cut short")
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *binaryRow) texts() []string {
	n := r.length()
	if n == 0 || n > len(r.rest) {
		return nil
	}
	all := make([]string, n)
	for i := range all {
		all[i] = r.text()
	}
	return all
}

// past reads the recorded events of a warehouse.
type past struct {
	conn     driver.Conn
	from, to time.Time // to is exclusive; zero: no bound
}

// span is a range of time and how many rows it has.
type span struct {
	from, to time.Time
	rows     int64
}

// bounds is the condition on event_time.
func bounds(from, to time.Time) string {
	where := "verdict != 'duplicate'"
	if !from.IsZero() {
		where += fmt.Sprintf(" AND event_time >= fromUnixTimestamp64Micro(%d, 'UTC')", from.UnixMicro())
	}
	if !to.IsZero() {
		where += fmt.Sprintf(" AND event_time < fromUnixTimestamp64Micro(%d, 'UTC')", to.UnixMicro())
	}
	return where
}

// spans divides the time into ranges of about rangeRows rows, on whole minutes.
func (p *past) spans(ctx context.Context) (all []span, total int64, err error) {
	minutes := map[int64]int64{}
	for _, t := range recordedTables {
		rows, err := p.conn.Query(ctx, "SELECT toInt64(toUnixTimestamp64Micro(event_time)) DIV 60000000 AS minute, toInt64(count()) FROM "+t.name+
			" WHERE "+bounds(p.from, p.to)+" GROUP BY minute")
		if err != nil {
			return nil, 0, fmt.Errorf("count the recorded %s: %w", t.name, err)
		}
		for rows.Next() {
			var minute, n int64
			if err := rows.Scan(&minute, &n); err != nil {
				return nil, 0, fmt.Errorf("count the recorded %s: %w", t.name, err)
			}
			minutes[minute] += n
			total += n
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return nil, 0, fmt.Errorf("count the recorded %s: %w", t.name, err)
		}
	}
	for _, minute := range slices.Sorted(maps.Keys(minutes)) {
		at := time.Unix(minute*60, 0).UTC()
		if n := len(all); n == 0 || all[n-1].rows+minutes[minute] > rangeRows {
			all = append(all, span{from: at})
		}
		s := &all[len(all)-1]
		s.to, s.rows = at.Add(time.Minute), s.rows+minutes[minute]
	}
	return all, total, nil
}

// placed is an item with where it stood in its partition.
type placed struct {
	backtest.Item
	offset int64
}

// before is the order in which events are run again: of their time, then of where they stood.
func before(a, b *placed, tableA, tableB int) bool {
	return cmp.Or(a.Event.Time.Compare(b.Event.Time), cmp.Compare(tableA, tableB), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.offset, b.offset)) < 0
}

// stream sends every recorded event, in order, in batches, and closes out. The receiver owns them. While one range is sent
// ClickHouse sorts the next.
func (p *past) stream(ctx context.Context, spans []span, out chan<- []placed) error {
	defer close(out)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batch := make([]placed, 0, batchRows)
	var ahead []*table
	for i := range spans {
		tables := ahead
		if i == 0 {
			tables = p.open(ctx, spans[0])
		}
		if i+1 < len(spans) {
			ahead = p.open(ctx, spans[i+1])
		}
		err := merge(tables, func(it *placed) error {
			if batch = append(batch, *it); len(batch) < batchRows {
				return nil
			}
			full := batch
			batch = make([]placed, 0, batchRows)
			return send(ctx, out, full)
		})
		if err != nil {
			return err
		}
	}
	return send(ctx, out, batch)
}

func send(ctx context.Context, out chan<- []placed, batch []placed) error {
	select {
	case out <- batch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// table is one table being read in order.
type table struct {
	batches chan []placed
	batch   []placed
	err     error // once batches is closed
}

// next moves on to the table's next row; false after the last.
func (t *table) next() bool {
	for len(t.batch) == 0 {
		var open bool
		if t.batch, open = <-t.batches; !open {
			return false
		}
	}
	return true
}

// open starts to read the tables in a range, until ctx ends.
func (p *past) open(ctx context.Context, s span) []*table {
	if !p.from.IsZero() && s.from.Before(p.from) {
		s.from = p.from
	}
	if !p.to.IsZero() && s.to.After(p.to) {
		s.to = p.to
	}
	tables := make([]*table, len(recordedTables))
	for i := range recordedTables {
		t := &table{batches: make(chan []placed, 4)}
		tables[i] = t
		go func() {
			t.err = p.read(ctx, i, s, t.batches)
			close(t.batches)
		}()
	}
	return tables
}

// merge calls yield for each event of the tables, in order.
func merge(tables []*table, yield func(*placed) error) error {
	for {
		first := -1
		for i, t := range tables {
			if t.next() {
				if first < 0 || before(&t.batch[0], &tables[first].batch[0], i, first) {
					first = i
				}
			} else if t.err != nil {
				return t.err
			}
		}
		if first < 0 {
			return nil
		}
		t := tables[first]
		if err := yield(&t.batch[0]); err != nil {
			return err
		}
		t.batch = t.batch[1:]
	}
}

// read sends the rows of one table in a range, in order.
func (p *past) read(ctx context.Context, number int, s span, out chan<- []placed) error {
	t := &recordedTables[number]
	names := make([]string, len(t.columns))
	for i := range t.columns {
		names[i] = t.columns[i].name
	}
	rows, err := p.conn.Query(ctx, "SELECT formatRow('RowBinary', "+strings.Join(names, ", ")+") FROM "+t.name+" WHERE "+bounds(s.from, s.to)+
		" ORDER BY event_time, partition, offset")
	if err != nil {
		return fmt.Errorf("read the recorded %s: %w", t.name, err)
	}
	defer rows.Close()
	batch := make([]placed, 0, batchRows)
	for rows.Next() {
		var r binaryRow
		if err := rows.Scan(&r.rest); err != nil {
			return fmt.Errorf("read the recorded %s: %w", t.name, err)
		}
		batch = append(batch, placed{})
		it := &batch[len(batch)-1]
		for i := range t.columns {
			t.columns[i].take(&r, &it.Item)
		}
		if r.err != nil {
			return r.err
		}
		it.offset = r.offset
		if len(batch) == batchRows {
			if err := send(ctx, out, batch); err != nil {
				return err
			}
			batch = make([]placed, 0, batchRows)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the recorded %s: %w", t.name, err)
	}
	return send(ctx, out, batch)
}

// labels learns which payments were charged back and which loans written off, up to now: truth comes late.
func (p *past) labels(ctx context.Context, l *backtest.Labels) error {
	for _, query := range []string{"SELECT DISTINCT payment_id FROM payments WHERE type = 'payment.charged_back' AND verdict != 'duplicate'",
		"SELECT DISTINCT loan_id FROM loans WHERE type = 'loan.written_off' AND verdict != 'duplicate'"} {
		rows, err := p.conn.Query(ctx, query)
		if err != nil {
			return fmt.Errorf("read what was charged back: %w", err)
		}
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return fmt.Errorf("read what was charged back: %w", err)
			}
			l.Report(id)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return fmt.Errorf("read what was charged back: %w", err)
		}
	}
	return nil
}
