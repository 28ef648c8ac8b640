package house

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"sluice/deploy/config"
	"sluice/deploy/rulebook"
	"sluice/pipelines/backtest"
	"sluice/producers/replay"
	"sluice/rules"
	"sluice/rules/life"
	"sluice/schemas/events"
	"sluice/schemas/warehouse"
)

// Live and Recorded stand for what a ruleset is compared with: the one that gates decide by, and what they said.
const (
	Live     = "live"
	Recorded = "recorded"
)

// BacktestOptions says what is run again.
type BacktestOptions struct {
	Rules    string    // a file, a shipped pack, or NAME@VERSION of the rulebook, where the figures are then written down
	Against  string    // the same, Live or Recorded; "": Live for the warehouse, nothing for files
	From, To time.Time // zero: all there is
	AMLSim   string    // folder of an AMLSim data set, instead of the warehouse
	Events   string    // file of CloudEvents, one a line, instead of the warehouse
	Labels   []string  // CSV files of resolved cases
	Unit     string    // "": event; for AMLSim account
	JSON     bool      // print the report as JSON instead of a table
	HTML     string    // file to write the report to as a page, "" none
	By, Why  string    // for the rulebook
	Out, Err io.Writer
	Log      *slog.Logger
}

// progressEvery is how many events are run between two looks at the clock.
const progressEvery = 10_000

// Backtest runs recorded events again through a ruleset and what it is compared with, and reports how well both do.
func Backtest(ctx context.Context, c config.Config, o BacktestOptions) error {
	if !o.From.IsZero() && !o.To.IsZero() && !o.From.Before(o.To) {
		return fmt.Errorf("--from %s is not before --to %s", o.From.Format(time.DateOnly), o.To.Format(time.DateOnly))
	}
	b := &backtesting{o: o, labels: backtest.NewLabels()}
	for _, file := range o.Labels {
		if err := b.readLabels(file); err != nil {
			return err
		}
	}
	if o.AMLSim != "" || o.Events != "" {
		return b.files(ctx)
	}
	needs := Kafka | ClickHouse
	ref, err := life.ParseRef(o.Rules)
	versioned := err == nil
	if versioned {
		needs |= Postgres
	}
	h, err := Open(ctx, c, Options{Needs: needs, Attach: true, Log: o.Log})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	report, source, err := b.warehouse(ctx, h)
	if err != nil {
		return err
	}
	if err := b.tell(report); err != nil || !versioned {
		return err
	}
	v, err := h.Rulebook().RecordBacktest(ctx, ref, o.By, rulebook.Result{Source: source, Why: o.Why, Detail: report.Figures()})
	if err == nil && !o.JSON {
		fmt.Fprintf(o.Out, "\n%s is %s\n", v.Ref, v.Status.Words())
	}
	return err
}

// backtesting is one backtest.
type backtesting struct {
	o       BacktestOptions
	labels  *backtest.Labels
	run     *backtest.Run
	ticker  *ticker
	started time.Time
	done    int64
	total   int64
}

func (b *backtesting) readLabels(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("--labels: %w", err)
	}
	defer f.Close()
	return b.labels.ReadCSV(file, f)
}

// ruleset loads one side. h is nil without a house.
func (b *backtesting) ruleset(ctx context.Context, h *House, name string) (*rules.Ruleset, []byte, error) {
	var source []byte
	var err error
	switch {
	case name == Recorded || name == "" && h == nil:
		return nil, nil, nil
	case name == "" || name == Live:
		if h == nil {
			return nil, nil, errors.New("--against live: recorded events of a file have no live ruleset; give a file or a shipped pack")
		}
		if source, err = h.LiveRuleset(ctx); err == nil && source == nil {
			return nil, nil, nil
		}
	default:
		if _, no := life.ParseRef(name); no == nil && h != nil {
			source, err = RulesetText(ctx, h.Rulebook(), name)
		} else {
			source, err = LoadRuleset(name)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	rs, err := rules.Load(name, source)
	return rs, source, err
}

// begin makes the run ready.
func (b *backtesting) begin(ctx context.Context, h *House, lists rules.Lists) (source []byte, err error) {
	options := backtest.Options{Labels: b.labels, Unit: backtest.Unit(b.o.Unit), Lists: lists, From: b.o.From, To: b.o.To}
	if options.Rules, source, err = b.ruleset(ctx, h, b.o.Rules); err != nil {
		return nil, err
	}
	if options.Rules == nil {
		return nil, fmt.Errorf("%q is no ruleset to run; give a file, a shipped pack or NAME@VERSION", b.o.Rules)
	}
	if options.Against, _, err = b.ruleset(ctx, h, b.o.Against); err != nil {
		return nil, err
	}
	b.run = backtest.NewRun(options)
	b.ticker, b.started = newTicker(b.o.Err), time.Now()
	return source, nil
}

// add runs one event and tells now and then how far it is.
func (b *backtesting) add(it *backtest.Item) {
	b.run.Add(it)
	if b.done++; b.done%progressEvery == 0 || b.done == b.total {
		rate := float64(b.done) / max(time.Since(b.started).Seconds(), 1e-3)
		b.ticker.line(fmt.Sprintf("%s, %s events/s", bar("run events of "+it.Event.Time.Format(time.DateOnly), b.done, b.total), thousands(int64(rate))), b.done == b.total)
	}
}

// warehouse runs what ClickHouse has recorded.
func (b *backtesting) warehouse(ctx context.Context, h *House) (*backtest.Report, []byte, error) {
	l, err := h.readLists(ctx)
	if err != nil {
		return nil, nil, err
	}
	source, err := b.begin(ctx, h, l.set)
	if err != nil {
		return nil, nil, err
	}
	conn, err := warehouse.Open(h.Addresses.ClickHouse)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	p := &past{conn: conn, from: b.o.From, to: b.o.To}
	if !p.from.IsZero() {
		p.from = p.from.Add(-backtest.WarmUp)
	}
	if err := p.labels(ctx, b.labels); err != nil {
		return nil, nil, err
	}
	spans, total, err := p.spans(ctx)
	if err != nil {
		return nil, nil, err
	}
	if total == 0 {
		return nil, nil, errors.New("the warehouse has no events of this time; look with: SELECT min(event_time), max(event_time) FROM payments")
	}
	b.total = total
	if err := b.all(ctx, p, spans); err != nil {
		return nil, nil, err
	}
	return b.run.Report(), source, nil
}

// all runs every event while the next ones are being read.
func (b *backtesting) all(ctx context.Context, p *past, spans []span) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer b.ticker.end()
	batches := make(chan []placed, 8)
	failed := make(chan error, 1)
	go func() { failed <- p.stream(ctx, spans, batches) }()
	for batch := range batches {
		for i := range batch {
			b.add(&batch[i].Item)
		}
	}
	return <-failed
}

// files runs what lies in files.
func (b *backtesting) files(ctx context.Context) error {
	c := replay.Config{Path: b.o.Events, Format: replay.Events}
	if b.o.AMLSim != "" {
		c = replay.Config{Path: b.o.AMLSim, Format: replay.AMLSim}
		customers, err := replay.AMLSimCustomers(b.o.AMLSim)
		if err != nil {
			return err
		}
		for id, fraud := range customers {
			b.labels.Customer(id, fraud)
		}
		if b.o.Unit == "" {
			b.o.Unit = string(backtest.ByAccount)
		}
	}
	// Chargebacks come after the payments they are about, so they are read first.
	if err := b.each(ctx, c, func(e *events.Event) { b.labels.See(e) }); err != nil {
		return err
	}
	if _, err := b.begin(ctx, nil, nil); err != nil {
		return err
	}
	defer b.ticker.end()
	if err := b.each(ctx, c, func(e *events.Event) { b.add(&backtest.Item{Event: *e}) }); err != nil {
		return err
	}
	return b.tell(b.run.Report())
}

// each reads a file once.
func (b *backtesting) each(ctx context.Context, c replay.Config, see func(*events.Event)) error {
	all, total, closeFile, err := replay.Read(c)
	if err != nil {
		return err
	}
	defer closeFile()
	b.total = total
	for e, err := range all {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		see(e)
	}
	return nil
}

// tell prints the report and writes its page.
func (b *backtesting) tell(r *backtest.Report) error {
	if b.o.HTML != "" {
		if err := os.WriteFile(b.o.HTML, r.HTML(), 0o644); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	if b.o.JSON {
		data, err := r.JSON()
		if err == nil {
			_, err = io.Copy(b.o.Out, bytes.NewReader(data))
		}
		return err
	}
	_, err := io.WriteString(b.o.Out, r.Table())
	return err
}
