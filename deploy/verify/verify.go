// Package verify proves on a running system what is promised: each event decided once, each decision posted once, the book
// balanced and its chain unbroken, each result published once, ClickHouse equal to the ledger. It reads everything and
// changes nothing. All comparisons are made at positions read first, so it holds under load as well as at rest.
package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"

	"sluice/consumers/stream"
)

// Config says what is proved.
type Config struct {
	stream.Config
	Postgres   string
	ClickHouse string
	Progress   func(doing string) // told what is being read; "" at the end; may be nil
}

// Row is one promise and what was found.
type Row struct {
	Promise  string   `json:"promise"`
	Holds    bool     `json:"holds"`
	Checked  int64    `json:"checked"`            // how many things were held against each other
	Found    string   `json:"found"`              // in words
	Breaches []string `json:"breaches,omitempty"` // the first ones
}

// maxBreaches bounds the breaches a row names; it counts all.
const maxBreaches = 5

// Report is the whole proof.
type Report struct {
	Rows []Row `json:"rows"`
}

// OK says whether every promise holds.
func (r *Report) OK() bool {
	for i := range r.Rows {
		if !r.Rows[i].Holds {
			return false
		}
	}
	return len(r.Rows) > 0
}

// JSON writes the report as one object.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Table writes the report for a person.
func (r *Report) Table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range r.Rows {
		mark := "holds"
		if !row.Holds {
			mark = "BROKEN"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", mark, row.Promise, row.Found)
		for _, b := range row.Breaches {
			fmt.Fprintf(t, "\t\t  %s\n", b)
		}
	}
	return t.Flush()
}

// finding collects what one promise's check sees.
type finding struct {
	promise  string
	checked  int64
	broken   int64
	breaches []string
}

func (f *finding) breach(format string, args ...any) {
	f.broken++
	if len(f.breaches) < maxBreaches {
		f.breaches = append(f.breaches, fmt.Sprintf(format, args...))
	}
}

// row closes a check; found says what was seen, with a %s for nothing.
func (f *finding) row(format string, args ...any) Row {
	found := fmt.Sprintf(format, args...)
	if f.broken > 0 {
		found = fmt.Sprintf("%d breaches; %s", f.broken, found)
	}
	return Row{Promise: f.promise, Holds: f.broken == 0, Checked: f.checked, Found: found, Breaches: f.breaches}
}

// verifier holds the connections of one proof.
type verifier struct {
	c     Config
	admin *kadm.Client
	pg    *pgx.Conn
	ch    driver.Conn
}

// Run proves every promise. The error is of an engine that could not be read; breaches are in the report.
func Run(ctx context.Context, c Config) (*Report, error) {
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	v, closeAll, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	defer c.Progress("")
	var report Report
	seen, rows, err := v.gate(ctx)
	if err != nil {
		return nil, err
	}
	report.Rows = append(report.Rows, rows...)
	for _, check := range []func(context.Context, *decided) ([]Row, error){v.postedOnce, v.book, v.chain, v.results, v.warehouse, v.shadows, v.rulebook} {
		rows, err := check(ctx, seen)
		if err != nil {
			return nil, err
		}
		report.Rows = append(report.Rows, rows...)
	}
	return &report, nil
}

// Book proves what is promised of the book alone: it needs no engine but Postgres. progress may be nil.
func Book(ctx context.Context, postgres string, progress func(string)) (*Report, error) {
	if progress == nil {
		progress = func(string) {}
	}
	pg, err := pgx.Connect(ctx, postgres)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = pg.Close(context.WithoutCancel(ctx)) }()
	defer progress("")
	v := &verifier{c: Config{Progress: progress}, pg: pg}
	var report Report
	for _, check := range []func(context.Context, *decided) ([]Row, error){v.book, v.chain} {
		rows, err := check(ctx, nil)
		if err != nil {
			return nil, err
		}
		report.Rows = append(report.Rows, rows...)
	}
	return &report, nil
}

func open(ctx context.Context, c Config) (*verifier, func(), error) {
	client, err := c.Client()
	if err != nil {
		return nil, nil, err
	}
	pg, err := pgx.Connect(ctx, c.Postgres)
	if err != nil {
		client.Close()
		return nil, nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	closeBoth := func() {
		_ = pg.Close(context.WithoutCancel(ctx))
		client.Close()
	}
	options, err := clickhouse.ParseDSN(c.ClickHouse)
	if err != nil {
		closeBoth()
		return nil, nil, fmt.Errorf("the address of ClickHouse: %w", err)
	}
	ch, err := clickhouse.Open(options)
	if err != nil {
		closeBoth()
		return nil, nil, fmt.Errorf("connect to ClickHouse: %w", err)
	}
	return &verifier{c: c, admin: kadm.NewClient(client), pg: pg, ch: ch}, func() {
		_ = ch.Close()
		closeBoth()
	}, nil
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	var b strings.Builder
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 && s[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}
