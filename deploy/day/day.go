// Package day runs a simulated day through a whole house and holds what reconciliation finds against what was planted. It
// makes no event and no statement (producers/simulator/day does) and posts nothing itself.
package day

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/deploy/config"
	"sluice/deploy/house"
	"sluice/deploy/reconciliation"
	"sluice/deploy/verify"
	"sluice/pipelines/reconcile"
	"sluice/pipelines/reconcile/statement"
	"sluice/producers/channel"
	made "sluice/producers/simulator/day"
)

const (
	// stuckAfter bounds how long nothing may move on while events are decided, posted and counted.
	stuckAfter = 2 * time.Minute
	// lookEvery is how often it is asked how far they are.
	lookEvery = 100 * time.Millisecond
	// tellEvery is after how many events published progress is told.
	tellEvery = 4096
	// by is who reconciles, for the audit.
	by = "simulate day"
)

// Options says which day, and where.
type Options struct {
	Config   config.Config // of the house; its Rules are the day's own
	Day      made.Config
	Out      string // folder for the statements and planted.csv; "": they are not kept
	Progress func(stage string, done, total int64)
	Log      *slog.Logger
}

// run is one simulated day.
type run struct {
	Options
	day    *made.Day
	house  *house.House
	folder string // of the statements
	report Report
}

// Run makes the day, runs it and reports. The error is of something that could not be done; what differs is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	scratch, err := os.MkdirTemp("", "sluice-day-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	r := &run{Options: o, folder: o.Out}
	if r.folder == "" {
		r.folder = scratch
	}
	if r.Config.Data == "" {
		r.Config.Data = filepath.Join(scratch, "house")
	}
	if err := r.make(); err != nil {
		return nil, err
	}
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	defer r.house.CloseQuietly()
	if err := r.live(ctx); err != nil {
		return nil, err
	}
	return &r.report, r.prove(ctx)
}

// make makes the day and writes its files.
func (r *run) make() error {
	defer r.stage("made")()
	r.Progress("making the day", 0, 0)
	var err error
	if r.day, err = made.Make(r.Day); err != nil {
		return err
	}
	r.report.say("%s payments, %s events, %d errors planted", thousands(r.day.Payments()), thousands(r.day.Events()), len(r.day.Planted()))
	if err := os.MkdirAll(r.folder, 0o755); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	files := map[string][]byte{rulesFile: []byte(made.Ruleset), plantedFile: plantedCSV(r.day)}
	for _, s := range r.day.Statements() {
		files[s.Name] = s.Content
		if s.Profile != "" {
			files[s.Channel+".yaml"] = []byte(s.Profile)
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(r.folder, name), content, 0o644); err != nil {
			return fmt.Errorf("--out: %w", err)
		}
	}
	return nil
}

const (
	rulesFile   = "rules.yaml"
	plantedFile = "planted.csv"
)

// open opens the house, which must not have carried anything for the day's channels yet.
func (r *run) open(ctx context.Context) error {
	defer r.stage("opened")()
	r.Config.Rules = filepath.Join(r.folder, rulesFile)
	if r.Config.Instance == "" {
		r.Config.Instance = "day"
	}
	h, err := house.Open(ctx, r.Config, house.Options{Embed: true, Progress: r.Progress, Log: r.Log})
	if err != nil {
		return err
	}
	if err := fresh(ctx, h); err != nil {
		h.CloseQuietly()
		return err
	}
	r.house = h
	r.report.say("Kafka, Postgres, ClickHouse")
	return nil
}

// fresh refuses a house whose book or rules are not the day's.
func fresh(ctx context.Context, h *house.House) error {
	conn, err := pgx.Connect(ctx, h.Addresses.Postgres)
	if err != nil {
		return fmt.Errorf("open the book: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var payments bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM payments)").Scan(&payments); err != nil {
		return fmt.Errorf("look whether the book is empty: %w", err)
	}
	live, err := h.LiveRuleset(ctx)
	switch {
	case err != nil:
		return err
	case payments:
		return errors.New("the house has payments already; a simulated day needs one of its own: leave --data out, or name an empty folder or database")
	case string(live) != made.Ruleset:
		return errors.New("another ruleset is live; a simulated day needs a house of its own: leave --data and --kafka out, or give another --prefix")
	}
	return nil
}

// live runs the parts while the day's events are published, decided, posted and counted, and then ends them.
func (r *run) live(ctx context.Context) error {
	parts, cancel := context.WithCancel(ctx)
	readiness := house.NewReadiness(house.PartNames())
	failed := make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.house.Run(parts, house.PartNames(), house.Hooks{Ready: readiness.Set}); err != nil {
			failed <- err
		}
	})
	defer running.Wait()
	defer cancel()
	select {
	case <-readiness.All():
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan error, 1)
	go func() { done <- r.publishAll(parts) }()
	select {
	case err := <-failed:
		cancel()
		<-done
		return err
	case err := <-done:
		return err
	}
}

// publishAll publishes the opening, when it is posted the rest, and waits until all of it is counted.
func (r *run) publishAll(ctx context.Context) error {
	p, err := channel.New(channel.Config{Config: r.house.Stream("day"), Source: by})
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	conn, err := pgx.Connect(ctx, r.house.Addresses.Postgres)
	if err != nil {
		return fmt.Errorf("look into the book: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	from := 0
	for _, part := range []struct {
		name string
		to   int
	}{{"opening", r.day.Opening()}, {"day", r.day.Events()}} {
		if err := r.publish(ctx, p, part.name+" published", from, part.to); err != nil {
			return err
		}
		from = part.to
		if err := r.posted(ctx, conn, part.name+" decided and posted", part.to); err != nil {
			return err
		}
	}
	return r.counted(ctx)
}

func (r *run) publish(ctx context.Context, p *channel.Publisher, stage string, from, to int) error {
	defer r.stage(stage)()
	var mu sync.Mutex
	var refused error
	note := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		refused = errors.Join(refused, err)
	}
	for i := from; i < to; i++ {
		if (i-from)%tellEvery == 0 {
			r.Progress("publishing", int64(i-from), int64(to-from))
		}
		e := r.day.Event(i)
		if err := p.PublishAsync(ctx, &e, func(err error) {
			if err != nil {
				note(err)
			}
		}); err != nil {
			return err
		}
	}
	if err := p.Flush(ctx); err != nil {
		return err
	}
	r.Progress("publishing", int64(to-from), int64(to-from))
	r.report.say("%s events", thousands(to-from))
	mu.Lock()
	defer mu.Unlock()
	return refused
}

// posted waits until the book has answered so many events, those that have no effect too.
func (r *run) posted(ctx context.Context, conn *pgx.Conn, stage string, events int) error {
	defer r.stage(stage)()
	err := r.wait(ctx, "deciding and posting", func() (behind int64, err error) {
		err = conn.QueryRow(ctx, "SELECT $1::bigint - coalesce(sum(sequence), 0)::bigint FROM shards", events).Scan(&behind)
		return behind, err
	})
	if err != nil {
		return err
	}
	var payments, transfers int
	if err := conn.QueryRow(ctx, "SELECT (SELECT count(*) FROM payments), (SELECT count(*) FROM transfers)").Scan(&payments, &transfers); err != nil {
		return fmt.Errorf("count what is posted: %w", err)
	}
	r.report.say("%s payments, %s transfers", thousands(payments), thousands(transfers))
	return nil
}

// counted waits until everything has gone the whole way: its results published, all of it in ClickHouse.
func (r *run) counted(ctx context.Context) error {
	defer r.stage("counted in ClickHouse")()
	c := verify.Config{Config: r.house.Stream("wait"), Postgres: r.house.Addresses.Postgres, ClickHouse: r.house.Addresses.ClickHouse}
	r.report.say("as much as was published")
	return r.wait(ctx, "counting", func() (int64, error) { return verify.Behind(ctx, c) })
}

// wait waits until nothing is behind. It gives up when nothing has moved on for stuckAfter.
func (r *run) wait(ctx context.Context, doing string, behind func() (int64, error)) error {
	most, last, moved := int64(0), int64(-1), time.Now()
	for {
		left, err := behind()
		if err == nil {
			most = max(most, left)
			r.Progress(doing, most-left, most)
			if left == 0 {
				return nil
			}
			if left != last {
				last, moved = left, time.Now()
			}
		}
		if time.Since(moved) > stuckAfter {
			return errors.Join(fmt.Errorf("nothing has moved on for %s, with %s to go; see the log", stuckAfter, thousands(last)), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}

// prove holds the book and the reconciliation against what the day knows, and proves every promise.
func (r *run) prove(ctx context.Context) error {
	if err := r.clearing(ctx); err != nil {
		return err
	}
	store := &reconciliation.Store{Postgres: r.house.Addresses.Postgres}
	for _, s := range r.day.Statements() {
		if err := r.reconcile(ctx, store, &s); err != nil {
			return err
		}
	}
	return r.verify(ctx)
}

// clearing compares what the book says each channel carried with what it did.
func (r *run) clearing(ctx context.Context) error {
	defer r.stage("clearing accounts")()
	conn, err := pgx.Connect(ctx, r.house.Addresses.Postgres)
	if err != nil {
		return fmt.Errorf("read the clearing accounts: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	same := 0
	for _, name := range made.Channels() {
		for _, c := range made.Currencies() {
			var book int64
			if err := conn.QueryRow(ctx, "SELECT coalesce(sum(debits_posted - credits_posted), 0)::bigint FROM accounts WHERE starts_with(key, $1) AND currency = $2",
				"clearing:"+name+"/", c.Code()).Scan(&book); err != nil {
				return fmt.Errorf("read the clearing accounts: %w", err)
			}
			if carried, _ := r.day.Moved(name, c); carried != book {
				r.report.differ("clearing:%s in %s: the book has %s, the channel carried %s", name, c, amount(book, c), amount(carried, c))
				continue
			}
			same++
		}
	}
	r.report.say("%d as the channels carried", same)
	return nil
}

// reconcile matches a channel's statement with the book, twice.
func (r *run) reconcile(ctx context.Context, store *reconciliation.Store, s *made.Statement) error {
	order := reconciliation.Order{Channel: s.Channel, Path: filepath.Join(r.folder, s.Name), AsOf: reconcile.DayOf(r.date()) + 1, By: by,
		Progress: func(stage string, done, total int64) { r.Progress(s.Channel+": "+stage, done, total) }}
	if s.Profile != "" {
		var err error
		if order.Profile, err = statement.ParseProfile(s.Channel+".yaml", []byte(s.Profile)); err != nil {
			return err
		}
	}
	first, err := r.once(ctx, store, order, s.Channel+" reconciled")
	if err != nil {
		return err
	}
	if first.Imported != s.Lines {
		r.report.differ("%s: %d lines were imported, the channel wrote %d", s.Channel, first.Imported, s.Lines)
	}
	found, err := store.Breaks(ctx, s.Channel, false)
	if err != nil {
		return err
	}
	r.report.compare(r.day, s.Channel, found)
	again, err := r.once(ctx, store, order, s.Channel+" reconciled again")
	if err != nil {
		return err
	}
	if again.Run != 0 || again.Imported+again.Opened+again.Closed != 0 {
		r.report.differ("%s: another run is not without effect: %d lines imported, %d breaks opened, %d closed", s.Channel, again.Imported, again.Opened, again.Closed)
	}
	return nil
}

func (r *run) once(ctx context.Context, store *reconciliation.Store, order reconciliation.Order, stage string) (reconciliation.Outcome, error) {
	defer r.stage(stage)()
	out, err := store.Reconcile(ctx, order)
	if err != nil {
		return out, err
	}
	text := fmt.Sprintf("%s lines", thousands(out.File.Lines))
	if out.Run == 0 {
		text += ", nothing has changed"
	}
	for s := reconcile.Exact; s <= reconcile.Late; s++ {
		if n := out.Matches[s]; n > 0 {
			text += fmt.Sprintf(", %s %s", thousands(n), s)
		}
	}
	r.report.say("%s, %d breaks open", text, out.Breaks())
	return out, nil
}

func (r *run) date() time.Time {
	if r.Day.Date.IsZero() {
		return made.DefaultDate
	}
	return r.Day.Date
}

// verify proves what is promised of every house.
func (r *run) verify(ctx context.Context) error {
	defer r.stage("verified")()
	proof, err := verify.Run(ctx, verify.Config{Config: r.house.Stream("verify"), Postgres: r.house.Addresses.Postgres, ClickHouse: r.house.Addresses.ClickHouse,
		Progress: func(doing string) { r.Progress("verifying "+doing, 0, 0) }})
	if err != nil {
		return err
	}
	hold := 0
	for i := range proof.Rows {
		row := &proof.Rows[i]
		if row.Holds {
			hold++
			continue
		}
		r.report.differ("verify: %s: %s", row.Promise, row.Found)
	}
	r.report.say("%d of %d promises hold", hold, len(proof.Rows))
	return nil
}
