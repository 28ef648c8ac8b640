package house

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"sluice/consumers/gate"
	"sluice/consumers/poster"
	"sluice/consumers/stream"
	"sluice/consumers/warehouse"
	"sluice/deploy/settlement"
	"sluice/producers/results"
	"sluice/producers/tiers"
	"sluice/schemas/events"
)

// A part is one long-running job of the house, as `sluice run` knows it.
type part struct {
	name  string
	needs Engine
	does  string
	run   func(h *House, hooks Hooks) func(context.Context) error
}

// parts in the order an event meets them.
var parts = []part{
	{"gate", Kafka, "decides each event", runGate},
	{"poster", Kafka | Postgres, "posts decided events to the ledger", runPoster},
	{"results", Kafka | Postgres, "publishes what the ledger has done", runResults},
	{"warehouse", Kafka | ClickHouse, "brings everything to ClickHouse", runWarehouse},
	{"tiers", Kafka | ClickHouse, "brings value tiers back to the gate", runTiers},
}

// PartNames lists the parts.
func PartNames() []string {
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.name
	}
	return names
}

// Hooks are told what the parts do; each may be nil.
type Hooks struct {
	Ready      func(part string)      // the part has joined and is about to work
	OnDecision func(*events.Decision) // called for every decision committed; must be quick
}

// NeedsOf returns the engines the named parts need, or an error that lists the parts there are.
func NeedsOf(names []string) (Engine, error) {
	var needs Engine
	for _, name := range names {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			return 0, fmt.Errorf("there is no part %q: choose from %s", name, strings.Join(PartNames(), ", "))
		}
		needs |= parts[i].needs
	}
	return needs, nil
}

// Run runs the named parts until ctx ends; a part that fails is started again. The error is of a failure that a restart
// cannot mend.
func (h *House) Run(ctx context.Context, names []string, hooks Hooks) error {
	if hooks.Ready == nil {
		hooks.Ready = func(string) {}
	}
	if slices.Contains(names, "poster") {
		var err error
		if h.postings, err = h.takePostings(ctx); err != nil {
			return err
		}
		h.Log.Info("posting rules", "id", h.postings.ID(), "checksum", h.postings.Checksum())
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range parts {
		if slices.Contains(names, p.name) {
			group.Go(func() error {
				return h.Stream(p.name).Supervise(ctx, p.name, p.run(h, hooks))
			})
		}
	}
	return group.Wait()
}

func runGate(h *House, hooks Hooks) func(context.Context) error {
	return func(ctx context.Context) error {
		return gate.Run(ctx, gate.Config{Config: h.Stream("gate"), Instance: h.Config.Instance, RulesetName: liveRuleset, OnDecision: hooks.OnDecision,
			Ready: func() { hooks.Ready("gate") }})
	}
}

func runPoster(h *House, hooks Hooks) func(context.Context) error {
	return func(ctx context.Context) error {
		return poster.Run(ctx, poster.Config{Config: h.Stream("poster"), Postgres: h.Addresses.Postgres, Postings: h.postings,
			Ready: func() { hooks.Ready("poster") }})
	}
}

// runResults also watches what is to be settled: it is the part that tells of the book's state.
func runResults(h *House, hooks Hooks) func(context.Context) error {
	return func(ctx context.Context) error {
		agreed, err := SettlementTerms(h.Config.Settlement)
		if err != nil {
			return stream.Fatal(err)
		}
		ctx, cancel := context.WithCancel(ctx)
		var watching sync.WaitGroup
		defer watching.Wait()
		defer cancel()
		watching.Go(func() {
			settlement.Watch(ctx, settlement.WatchConfig{Config: h.Stream("results"), Postgres: h.Addresses.Postgres, Terms: agreed})
		})
		return results.Run(ctx, results.Config{Config: h.Stream("results"), Postgres: h.Addresses.Postgres, Ready: func() { hooks.Ready("results") }})
	}
}

func runWarehouse(h *House, hooks Hooks) func(context.Context) error {
	return func(ctx context.Context) error {
		return warehouse.Run(ctx, warehouse.Config{Config: h.Stream("warehouse"), ClickHouse: h.Addresses.ClickHouse, Ready: func() { hooks.Ready("warehouse") }})
	}
}

func runTiers(h *House, hooks Hooks) func(context.Context) error {
	return func(ctx context.Context) error {
		return tiers.Run(ctx, tiers.Config{Config: h.Stream("tiers"), ClickHouse: h.Addresses.ClickHouse, Ready: func() { hooks.Ready("tiers") }})
	}
}

// Readiness remembers which parts are ready.
type Readiness struct {
	mu    sync.Mutex
	ready map[string]bool
	all   chan struct{}
}

// NewReadiness expects the named parts.
func NewReadiness(names []string) *Readiness {
	r := &Readiness{ready: map[string]bool{}, all: make(chan struct{})}
	for _, name := range names {
		r.ready[name] = false
	}
	if len(names) == 0 {
		close(r.all)
	}
	return r
}

// Set marks a part as ready.
func (r *Readiness) Set(part string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready[part] = true
	for _, ok := range r.ready {
		if !ok {
			return
		}
	}
	select {
	case <-r.all:
	default:
		close(r.all)
	}
}

// All is closed once every part has been ready.
func (r *Readiness) All() <-chan struct{} { return r.all }

// Report says for each part why it is not ready, "" if it is.
func (r *Readiness) Report() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := make(map[string]string, len(r.ready))
	for name, ok := range r.ready {
		if ok {
			report[name] = ""
		} else {
			report[name] = "starting"
		}
	}
	return report
}
