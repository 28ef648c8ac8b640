package house

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/deploy/config"
	"sluice/deploy/status"
	"sluice/deploy/verify"
	"sluice/producers/simulator"
)

// Limits of a command that ends by itself.
const (
	// drainLimit bounds the wait for the last event to be counted after the channels have stopped.
	drainLimit = 2 * time.Minute
	// drainPause is how often the wait looks.
	drainPause = 200 * time.Millisecond
)

// UpOptions says what `up` and `simulate` do beyond the configuration.
type UpOptions struct {
	Simulation config.Simulation
	For        time.Duration // 0: until interrupted
	Out        io.Writer     // what a person reads
	Log        *slog.Logger
}

// Up runs engines, every part and the simulated channels until ctx ends, or for o.For and until the last event is counted.
func Up(ctx context.Context, c config.Config, o UpOptions) error {
	if err := errors.Join(c.Check(), o.Simulation.Check()); err != nil {
		return err
	}
	if _, err := LoadPostings(c.Postings); err != nil { // before the engines start
		return err
	}
	if c.HTTP == "" {
		c.HTTP = config.DefaultHTTP
	}
	page, err := listen(ctx, c.HTTP)
	if err != nil {
		return err
	}
	if c.Instance == "" {
		c.Instance = "up" // one per data folder or prefix: after kill -9 the next takes over its open transaction at once
	}
	h, err := Open(ctx, c, Options{Embed: true, Progress: Progress(o.Out), Log: o.Log})
	if err != nil {
		closeListener(page)
		return err
	}
	defer h.CloseQuietly()
	if err := h.up(ctx, page, o); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// up runs everything on an open house.
func (h *House) up(ctx context.Context, page net.Listener, o UpOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	names := PartNames()
	readiness := NewReadiness(names)
	server := h.statusServer(readiness)
	failed := make(chan error, 2)
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.Run(ctx, names, Hooks{Ready: readiness.Set, OnDecision: server.Observe}); err != nil {
			failed <- err
		}
	})
	running.Go(func() {
		if err := serve(ctx, server, page); err != nil {
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
		return nil
	}
	h.welcome(o.Out, page)
	summary := newSummary(h.Registry)
	err := h.simulateAndWait(ctx, o, failed)
	fmt.Fprint(o.Out, summary.text())
	return err
}

// simulateAndWait publishes for as long as it is told and then waits for the last event to be counted.
func (h *House) simulateAndWait(ctx context.Context, o UpOptions, failed <-chan error) error {
	simulation, stop := context.WithCancel(ctx)
	defer stop()
	if o.For > 0 {
		simulation, stop = context.WithTimeout(simulation, o.For)
		defer stop()
	}
	done := make(chan error, 1)
	go func() { done <- h.simulate(simulation, o.Simulation) }()
	lines := newTicker(o.Out)
	watch := newWatch(h.Registry)
	for {
		select {
		case err := <-failed:
			return err
		case err := <-done:
			lines.end()
			if err != nil || ctx.Err() != nil {
				return err
			}
			if o.For == 0 { // no channel publishes; the parts go on until interrupted
				<-ctx.Done()
				return nil
			}
			return h.Drain(ctx, func(behind int64) {
				lines.line(fmt.Sprintf("the channels have stopped; %s records to go", thousands(behind)), behind == 0)
			})
		case <-time.After(time.Second):
			lines.line(watch.line(), false)
		}
	}
}

// simulate publishes simulated events until ctx ends; with a rate of 0 it only waits.
func (h *House) simulate(ctx context.Context, s config.Simulation) error {
	if s.Rate == 0 {
		<-ctx.Done()
		return nil
	}
	stream := h.Stream("simulator")
	return stream.Supervise(ctx, "simulator", func(ctx context.Context) error {
		return simulator.Run(ctx, simulator.Config{
			Config: stream, Seed: s.Seed, Customers: s.Customers, Start: s.Start, Rate: float64(s.Rate),
			StateFile: filepath.Join(h.Config.Data, "simulator.json"),
		})
	})
}

// Drain waits until everything published has been decided, posted, published as results and counted.
func (h *House) Drain(ctx context.Context, tell func(behind int64)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, drainLimit, errNotDrained)
	defer cancel()
	c := verify.Config{Config: h.Stream("drain"), Postgres: h.Addresses.Postgres, ClickHouse: h.Addresses.ClickHouse}
	for {
		behind, err := verify.Behind(ctx, c)
		if err == nil {
			tell(behind)
			if behind == 0 {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(drainPause):
		}
	}
}

// CatchUp waits until what had been published when it was called has been decided, posted, published as results and counted, however
// much comes after. It gives up when nothing of it has moved for two minutes.
func (h *House) CatchUp(ctx context.Context, tell func(behind int64)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := time.AfterFunc(drainLimit, func() { cancel(errNotDrained) })
	defer limit.Stop()
	c := verify.Config{Config: h.Stream("drain"), Postgres: h.Addresses.Postgres, ClickHouse: h.Addresses.ClickHouse}
	var way verify.CatchUp
	least, left := int64(math.MaxInt64), math.MaxInt
	for {
		behind, steps, err := way.Behind(ctx, c)
		if err == nil {
			tell(behind)
			if behind == 0 && steps == 0 {
				return nil
			}
			if steps < left || behind < least {
				least, left = behind, steps
				limit.Reset(drainLimit)
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(drainPause):
		}
	}
}

// Simulate publishes simulated events to a house that runs elsewhere.
func Simulate(ctx context.Context, c config.Config, o UpOptions) error {
	if err := o.Simulation.Check(); err != nil {
		return err
	}
	h, err := Open(ctx, c, Options{Needs: Kafka, Attach: true, Log: o.Log})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	if o.For > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, o.For)
		defer stop()
	}
	if err := os.MkdirAll(h.Config.Data, 0o755); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	fmt.Fprintf(o.Out, "publishing %d events/s to %s; Ctrl-C stops\n", o.Simulation.Rate, strings.Join(h.Addresses.Kafka, ","))
	return h.simulate(ctx, o.Simulation)
}

// RunParts runs the named parts against given engines, or those of a house on the data folder, until ctx ends.
func RunParts(ctx context.Context, c config.Config, names []string, out io.Writer, log *slog.Logger) error {
	needs, err := NeedsOf(names)
	if err != nil {
		return err
	}
	if slices.Contains(names, "poster") {
		if _, err := LoadPostings(c.Postings); err != nil {
			return err
		}
	}
	var page net.Listener
	if c.HTTP != "" {
		if page, err = listen(ctx, c.HTTP); err != nil {
			return err
		}
	}
	h, err := Open(ctx, c, Options{Needs: needs, Attach: true, Log: log})
	if err != nil {
		closeListener(page)
		return err
	}
	defer h.CloseQuietly()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	readiness := NewReadiness(names)
	server := h.statusServer(readiness)
	served := make(chan error, 1)
	go func() { served <- serve(ctx, server, page) }()
	go func() {
		select {
		case <-readiness.All():
			fmt.Fprintf(out, "ready: %s\n", strings.Join(names, ", "))
		case <-ctx.Done():
		}
	}()
	err = h.Run(ctx, names, Hooks{Ready: readiness.Set, OnDecision: server.Observe})
	cancel()
	return errors.Join(err, <-served)
}

// RunEngines runs the embedded engines until ctx ends.
func RunEngines(ctx context.Context, c config.Config, out io.Writer, log *slog.Logger) error {
	h, err := Open(ctx, c, Options{Embed: true, Progress: Progress(out), Log: log})
	if err != nil {
		return err
	}
	defer h.CloseQuietly()
	fmt.Fprintf(out, "ready: kafka %s, postgres %s, clickhouse %s\n", strings.Join(h.Addresses.Kafka, ","), config.Redact(h.Addresses.Postgres), config.Redact(h.Addresses.ClickHouse))
	<-ctx.Done()
	return nil
}

func (h *House) statusServer(r *Readiness) *status.Server {
	return status.New(status.Config{Gatherer: h.Registry, Log: h.Log, Ready: r.Report, Links: h.links(), Title: "sluice", Reason: h.reasons()})
}

// listen takes the status page's port before anything else starts, so that a taken one is said at once; nil for "none".
func listen(ctx context.Context, address string) (net.Listener, error) {
	if address == "none" {
		return nil, nil
	}
	return status.Listen(ctx, address)
}

func closeListener(l net.Listener) {
	if l != nil {
		_ = l.Close()
	}
}

func serve(ctx context.Context, s *status.Server, l net.Listener) error {
	if l == nil {
		<-ctx.Done()
		return nil
	}
	return s.ServeOn(ctx, l)
}
