package simulator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/consumers/stream"
	"sluice/producers/channel"
	"sluice/schemas/events"
)

const (
	// checkpointEvery is how often the position is kept: what a kill makes Run publish again, with the same ids.
	checkpointEvery = time.Second
	// wakeEvery is how often Run looks at the clock while simulated time waits for it.
	wakeEvery = 200 * time.Millisecond
	// finishTimeout bounds how long Run waits for acknowledgements when it is told to end.
	finishTimeout = 5 * time.Second
)

// state is what StateFile holds: which simulation, and where it stands.
type state struct {
	Seed      uint64    `json:"seed"`
	Customers int       `json:"customers"`
	Start     time.Time `json:"start"`
	Source    string    `json:"source"`
	Position  Position  `json:"position"`
}

// run is one call of Run.
type run struct {
	config    Config
	sim       *Simulation
	publisher *channel.Publisher
	sending   context.Context // of the events under way; outlives ctx by finishTimeout
	published prometheus.Counter
	pacer     *channel.Pacer
	tracker   channel.Tracker[Position]
	marked    time.Time // when the last checkpoint was tried
}

// Run publishes a simulation's events in order until ctx ends, or For or Count is reached; then it returns nil. Called
// again with the same StateFile it goes on after what was acknowledged; what it publishes twice has the same ids. It
// fails when an event cannot be published, when the state cannot be kept, and, for good, when StateFile is of another
// simulation.
func Run(ctx context.Context, c Config) error {
	c.Config = c.Fill()
	sim, from, err := restore(c)
	if err != nil {
		return stream.Fatal(err)
	}
	r := &run{config: sim.config, sim: sim, pacer: channel.NewPacer(c.Rate), marked: time.Now()}
	r.published = stream.Register(c.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "sluice_simulator_events_total", Help: "Simulated events published and acknowledged.",
	}))
	if r.publisher, err = channel.New(channel.Config{Config: c.Config, Source: sim.config.Source}); err != nil {
		return err
	}
	defer r.publisher.Close()
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.For)
		defer cancel()
	}
	if err := r.keep(from); err != nil { // Start is remembered before the first event goes out
		return err
	}
	if c.Ready != nil {
		c.Ready()
	}
	// The client fails what is under way when its context ends; finish wants it acknowledged instead.
	var stop context.CancelFunc
	r.sending, stop = context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(finishTimeout, stop) })()
	at, err := r.publish(ctx, from)
	return r.finish(ctx, at, err)
}

// restore makes the simulation that StateFile remembers, or a new one.
func restore(c Config) (*Simulation, Position, error) {
	var kept state
	found := false
	if c.StateFile != "" {
		var err error
		if found, err = channel.ReadState(c.StateFile, &kept); err != nil {
			return nil, Position{}, err
		}
	}
	if found && c.Start.IsZero() {
		c.Start = kept.Start
	}
	sim, err := New(c)
	if err != nil || !found {
		return sim, c.From, err
	}
	now := sim.identity()
	if now.Seed != kept.Seed || now.Customers != kept.Customers || !now.Start.Equal(kept.Start) || now.Source != kept.Source {
		return nil, Position{}, fmt.Errorf("go on with the simulation in %s: it has seed %d, %d customers, start %s and source %s, not %d, %d, %s and %s; use those, or delete the file to begin anew",
			c.StateFile, kept.Seed, kept.Customers, kept.Start.Format(time.DateOnly), kept.Source, now.Seed, now.Customers, now.Start.Format(time.DateOnly), now.Source)
	}
	return sim, kept.Position, nil
}

func (s *Simulation) identity() state {
	return state{Seed: s.config.Seed, Customers: s.config.Customers, Start: s.config.Start, Source: s.config.Source}
}

// publish sends events from a position on and returns the first one not sent.
func (r *run) publish(ctx context.Context, from Position) (Position, error) {
	var sent int64
	for at, e := range r.sim.From(from) {
		if r.config.Count > 0 && sent == r.config.Count {
			return at, nil
		}
		if err := errors.Join(r.await(ctx, &e, at), r.checkpoint(at, false)); err != nil {
			return at, err
		}
		if err := r.publisher.PublishAsync(r.sending, &e, r.acknowledged(r.tracker.Sent())); err != nil {
			return at, err
		}
		sent++
	}
	return from, nil // not reached: the events have no end
}

func (r *run) acknowledged(done func(error)) func(error) {
	return func(err error) {
		if err == nil {
			r.published.Inc()
		}
		done(err)
	}
}

// await keeps to the rate, and does not let an event happen before its time.
func (r *run) await(ctx context.Context, e *events.Event, at Position) error {
	if err := r.pacer.Wait(ctx); err != nil {
		return err
	}
	for {
		early := e.Time.Sub(r.config.Now())
		if early <= 0 {
			return nil
		}
		if err := errors.Join(channel.Sleep(ctx, min(early, wakeEvery)), r.checkpoint(at, false)); err != nil {
			return err
		}
	}
}

// checkpoint keeps what is acknowledged, about once a second or now.
func (r *run) checkpoint(at Position, now bool) error {
	if err := r.tracker.Err(); err != nil {
		return err
	}
	if !now && time.Since(r.marked) < checkpointEvery {
		return nil
	}
	r.marked = time.Now()
	r.tracker.Mark(at)
	if p, moved := r.tracker.Settled(); moved {
		return r.keep(p)
	}
	return nil
}

func (r *run) keep(p Position) error {
	if r.config.StateFile != "" {
		kept := r.sim.identity()
		kept.Position = p
		if err := channel.WriteState(r.config.StateFile, kept); err != nil {
			return err
		}
	}
	if r.config.Checkpoint != nil {
		return r.config.Checkpoint(p)
	}
	return nil
}

// finish waits for what is under way and keeps the position. The end of ctx is no failure.
func (r *run) finish(ctx context.Context, at Position, err error) error {
	ended := ctx.Err() != nil
	if err != nil && !ended {
		return fmt.Errorf("simulate day %d: %w", at.Day, err)
	}
	waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	err = r.publisher.Flush(waiting)
	err = errors.Join(err, r.checkpoint(at, true))
	if ended && err != nil {
		r.config.Log.Warn("the simulator ended with events unacknowledged; it publishes them again", "error", err)
		return nil
	}
	return err
}
