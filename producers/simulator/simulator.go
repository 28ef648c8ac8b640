// Package simulator is a population that lives: it earns, shops, travels, borrows, complains, and some of it defrauds
// the rest. Simulation makes its events, as a pure function of seed and day; Run publishes them as a channel would. It
// models no market and claims no realism beyond what the house's rules and figures need to be tried.
package simulator

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"sluice/consumers/stream"
	"sluice/schemas/events"
)

// Bounds and defaults of a simulation.
const (
	DefaultCustomers = 10_000
	// LeastCustomers is how many it takes for a fraud to find its people.
	LeastCustomers = 20
	// MostCustomers bounds memory: a customer takes some 200 bytes, and a day's events some 1,200 until they are published.
	MostCustomers = 5_000_000
	// History is how long before the first run the simulated time starts, unless Start says otherwise: longer than the
	// longest term of a loan, so that all kinds of things happen before simulated time meets real time.
	History = 400
)

// The labels of fraudulent events.
const (
	LabelCardTesting        = "card_testing"
	LabelAccountTakeover    = "account_takeover"
	LabelMuleChain          = "mule_chain"
	LabelColludingMerchants = "colluding_merchants"
)

// Config is what a simulation is made of. The first four fields say which events there are: with the same four, the same
// events, ids included. The others say how Run publishes them; New does not read them.
type Config struct {
	Seed      uint64
	Customers int       // 0: DefaultCustomers
	Start     time.Time // midnight (UTC) of day 0; zero: History days before Now, for Run as StateFile remembers it
	Source    string    // CloudEvents source; "": "simulator-" and Seed

	stream.Config

	Rate       float64              // events a second; 0: as fast as they are taken
	For        time.Duration        // ends Run after so long; 0: never
	Count      int64                // ends Run after so many events; 0: never
	From       Position             // where to start when StateFile says nothing
	StateFile  string               // remembers Start and the position; "": nothing is remembered
	Checkpoint func(Position) error // called about once a second with what is acknowledged; may be nil
	Now        func() time.Time     // the clock that events may not overtake; nil: time.Now
	Ready      func()               // called when publishing starts; may be nil
}

// Position is the next event to publish: a day and an index in it.
type Position struct {
	Day   int `json:"day"`
	Index int `json:"index"`
}

// Simulation makes the events. It is immutable after New and safe for concurrent use.
type Simulation struct {
	config    Config
	customers []customer
	merchants []merchant
	residents [][]int32 // the customers of each market
	shops     [][]int32 // the merchants of each market
}

// New makes a population. It fails on a configuration that cannot live.
func New(c Config) (*Simulation, error) {
	if c.Customers == 0 {
		c.Customers = DefaultCustomers
	}
	if c.Customers < LeastCustomers || c.Customers > MostCustomers {
		return nil, fmt.Errorf("simulate %d customers: use %d to %d", c.Customers, LeastCustomers, MostCustomers)
	}
	if c.Source == "" {
		c.Source = fmt.Sprintf("simulator-%d", c.Seed)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Start.IsZero() {
		c.Start = c.Now().AddDate(0, 0, -History)
	}
	c.Start = c.Start.UTC().Truncate(24 * time.Hour)
	s := &Simulation{config: c}
	s.populate()
	return s, nil
}

// Start is midnight of day 0, UTC.
func (s *Simulation) Start() time.Time { return s.config.Start }

// Day returns the events of a day in order of time, from midnight to midnight UTC.
func (s *Simulation) Day(day int) []events.Event {
	acts := s.acts(day)
	all := make([]events.Event, len(acts))
	for i := range acts {
		all[i] = s.event(day, &acts[i])
	}
	return all
}

// From returns the events from a position on, without end, each with its own position. A day at a time is in memory.
func (s *Simulation) From(p Position) iter.Seq2[Position, events.Event] {
	return func(yield func(Position, events.Event) bool) {
		for {
			acts := s.acts(p.Day)
			for ; p.Index < len(acts); p.Index++ {
				if !yield(p, s.event(p.Day, &acts[p.Index])) {
					return
				}
			}
			p = Position{Day: p.Day + 1}
		}
	}
}

// acts plans a day: what everybody does, then the fraud, in order of time.
func (s *Simulation) acts(day int) []act {
	if day < 0 {
		return nil
	}
	p := planner{sim: s, day: day, dice: newDice(), loanDice: newDice(), acts: make([]act, 0, 16*len(s.customers)), lifeScript: -1}
	before := planner{sim: s, day: day - 1, dice: newDice()}
	for who := range s.customers {
		p.live(who, &before)
	}
	p.defraud()
	p.goOn()
	slices.SortFunc(p.acts, compareActs)
	return p.acts
}
