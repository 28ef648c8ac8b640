package simulator

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/stream"
	"sluice/deploy/embedded/enginestest"
	"sluice/producers/channel"
	"sluice/schemas"
	"sluice/schemas/events"
)

// limit bounds a test that waits for something that never comes.
const limit = time.Minute

func house(t *testing.T) stream.Config {
	t.Helper()
	env := enginestest.New(t, enginestest.Kafka)
	c := stream.Config{Brokers: env.Kafka, Prefix: env.Prefix, Partitions: 3}.Fill()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := c.EnsureTopics(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// published returns the n events on the input topics.
func published(t *testing.T, c stream.Config, n int) []events.Event {
	t.Helper()
	client, err := c.Client(kgo.ConsumeTopics(c.Topic(schemas.Payments), c.Topic(schemas.Loans), c.Topic(schemas.Behaviors)),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var all []events.Event
	for len(all) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d: %v", len(all), n, err)
		}
		for _, r := range fetches.Records() {
			rec := c.FromKafka(r, nil)
			e, err := events.Decode(&rec)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
	}
	return all
}

// want is what the first n events of a simulation are, by id.
func want(t *testing.T, c Config, n int) map[string]events.Event {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]events.Event{}
	for _, e := range s.From(Position{}) {
		if all[e.ID] = e; len(all) == n {
			return all
		}
	}
	return nil
}

func sameEvents(t *testing.T, got []events.Event, want map[string]events.Event) {
	t.Helper()
	seen := map[string]bool{}
	for _, e := range got {
		if !reflect.DeepEqual(e, want[e.ID]) {
			t.Fatalf("published %+v\nwant %+v", e, want[e.ID])
		}
		seen[e.ID] = true
	}
	if len(seen) != len(want) {
		t.Fatalf("%d different events published, want %d", len(seen), len(want))
	}
}

// Count events are published, those of the simulation, each once; the checkpoint is behind the last.
func TestRunPublishesTheSimulation(t *testing.T) {
	t.Parallel()
	const n = 2500
	c := Config{Seed: 4, Customers: 100, Start: monday, Config: house(t), Count: n}
	metrics := prometheus.NewRegistry()
	c.Metrics = metrics
	var kept Position
	c.Checkpoint = func(p Position) error { kept = p; return nil }
	ready := false
	c.Ready = func() { ready = true }
	if err := Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	sameEvents(t, published(t, c.Config, n), want(t, c, n))
	s, _ := New(c)
	for p := range s.From(kept) {
		if p != kept || !ready {
			t.Errorf("kept %+v, ready %v", kept, ready)
		}
		break
	}
	var i int
	for p := range s.From(Position{}) {
		if i++; i == n+1 {
			if p != kept {
				t.Errorf("kept %+v, want %+v", kept, p)
			}
			break
		}
	}
	expected := "# HELP sluice_simulator_events_total Simulated events published and acknowledged.\n# TYPE sluice_simulator_events_total counter\nsluice_simulator_events_total 2500\n"
	if err := testutil.GatherAndCompare(metrics, strings.NewReader(expected), "sluice_simulator_events_total"); err != nil {
		t.Error(err)
	}
}

// Ended in the middle and started again from its file, a run misses nothing, whatever its Start would be by then.
func TestRunGoesOnFromItsFile(t *testing.T) {
	t.Parallel()
	const n = 3000
	kafka := house(t)
	file := filepath.Join(t.TempDir(), "simulator.json")
	now := monday.AddDate(0, 0, History).Add(5 * time.Hour)
	c := Config{Seed: 4, Customers: 100, Config: kafka, StateFile: file, Now: func() time.Time { return now }}
	for _, count := range []int64{1000, 500, 1500} {
		c.Count = count
		if err := Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		now = now.AddDate(0, 0, 3)
	}
	c.Start = monday
	got := published(t, kafka, n)
	sameEvents(t, got, want(t, c, n))
	if len(got) != n {
		t.Errorf("%d published for %d events, although each run ended in peace", len(got), n)
	}
}

// Killed: whatever the last checkpoint was, what comes after it is published again with the same ids, and nothing misses.
func TestRunAfterAKill(t *testing.T) {
	t.Parallel()
	kafka := house(t)
	file := filepath.Join(t.TempDir(), "simulator.json")
	c := Config{Seed: 4, Customers: 100, Start: monday, Config: kafka, StateFile: file, Count: 900}
	if err := Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	s, _ := New(c)
	kept := s.identity() // as if the kill had come after a checkpoint at the 400th
	kept.Position = Position{0, 400}
	if err := channel.WriteState(file, kept); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	sameEvents(t, published(t, kafka, 1800), want(t, c, 1300))
}

// When ctx ends, what is under way is acknowledged and kept, and Run returns nil.
func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	kafka := house(t)
	ctx, cancel := context.WithCancel(t.Context())
	var sent atomic.Int64
	var kept Position
	c := Config{Seed: 4, Customers: 100, Start: monday, Config: kafka, Checkpoint: func(p Position) error { kept = p; return nil }}
	c.Now = func() time.Time { // asked once for each event
		if sent.Add(1) == 700 {
			cancel()
		}
		return time.Now()
	}
	if err := Run(ctx, c); err != nil {
		t.Fatal(err)
	}
	if kept.Day != 0 || kept.Index < 699 {
		t.Fatalf("kept %+v", kept)
	}
	sameEvents(t, published(t, kafka, kept.Index), want(t, c, kept.Index))
}

// No event is published before its time by the clock given; Run waits and goes on when the clock does.
func TestRunDoesNotOvertakeTheClock(t *testing.T) {
	t.Parallel()
	kafka := house(t)
	var mu sync.Mutex
	now, asked := monday.Add(2*time.Hour), 0
	c := Config{Seed: 4, Customers: 100, Start: monday, Config: kafka, Rate: 50_000}
	c.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		asked++
		return now
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	early := map[string]events.Event{}
	later := map[string]events.Event{}
	for _, e := range s.From(Position{}) {
		if e.Time.After(monday.Add(3 * time.Hour)) {
			break
		}
		if later[e.ID] = e; !e.Time.After(now) {
			early[e.ID] = e
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, c) }()
	sameEvents(t, published(t, kafka, len(early)), early)
	waitUntil(t, &mu, func() bool { return asked > len(early)+2 }) // it looks at the clock and waits
	mu.Lock()
	now = monday.Add(3 * time.Hour)
	mu.Unlock()
	sameEvents(t, published(t, kafka, len(later)), later)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func waitUntil(t *testing.T, mu *sync.Mutex, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for {
		mu.Lock()
		ok := holds()
		mu.Unlock()
		if ok {
			return
		}
		if err := channel.Sleep(ctx, 5*time.Millisecond); err != nil {
			t.Fatal("it never happened")
		}
	}
}

func TestRunEndsAfterFor(t *testing.T) {
	t.Parallel()
	if err := Run(t.Context(), Config{Seed: 4, Customers: 100, Start: monday, Config: house(t), Rate: 1000, For: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
}

func TestAnotherSimulationsFileIsRefused(t *testing.T) {
	t.Parallel()
	kafka := stream.Config{Brokers: []string{"127.0.0.1:1"}}
	file := filepath.Join(t.TempDir(), "simulator.json")
	c := Config{Seed: 4, Customers: 100, Start: monday, Config: kafka, StateFile: file}
	s, _ := New(c)
	if err := channel.WriteState(file, s.identity()); err != nil {
		t.Fatal(err)
	}
	f := func(spoil func(*Config)) {
		t.Helper()
		other := c
		spoil(&other)
		if err := Run(t.Context(), other); err == nil || !strings.Contains(err.Error(), "delete") {
			t.Errorf("got %v", err)
		}
	}
	f(func(c *Config) { c.Seed = 5 })
	f(func(c *Config) { c.Customers = 101 })
	f(func(c *Config) { c.Start = monday.AddDate(0, 0, 1) })
	f(func(c *Config) { os.WriteFile(file, []byte("{"), 0o600) })
}

func TestAFailedCheckpointStopsTheRun(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	err := Run(t.Context(), Config{Seed: 4, Customers: 100, Start: monday, Config: house(t), Count: 10,
		Checkpoint: func(Position) error { return full }})
	if !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
}
