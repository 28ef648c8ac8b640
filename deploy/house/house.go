// Package house puts one process together: engines or their addresses, the parts that run in it, and its status page.
// It is what `up`, `run` and the end-to-end tests share. It decides nothing about events.
package house

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sluice/consumers/poster"
	"sluice/consumers/stream"
	"sluice/deploy/config"
	"sluice/deploy/embedded"
	"sluice/pipelines/posting"
	"sluice/schemas/warehouse"
)

// reachLimit bounds how long an engine may take to answer when a command starts.
const reachLimit = 15 * time.Second

// reachPause is the pause between two attempts.
const reachPause = 200 * time.Millisecond

// Engine names an engine a command needs.
type Engine uint8

// The engines, as a set.
const (
	Kafka Engine = 1 << iota
	Postgres
	ClickHouse
	AllEngines = Kafka | Postgres | ClickHouse
)

// Options says how a house is opened.
type Options struct {
	Needs    Engine                                // engines that must answer; 0: all
	Attach   bool                                  // use the engines of a house already running on the data folder, if there is one
	Embed    bool                                  // start what no address is given for
	Existing bool                                  // what is started has to be there already: nothing is made of an empty folder
	Progress func(stage string, done, total int64) // of fetching and starting engines; may be nil
	Log      *slog.Logger                          // nil: silent
}

// House is one process's share of the pipeline.
type House struct {
	Config    config.Config
	Addresses Addresses
	Registry  *prometheus.Registry
	Log       *slog.Logger
	Engines   *embedded.Engines // nil if none is embedded in this process
	Attached  bool              // the engines belong to another process

	postings *posting.Rules // what its poster posts by, once Run has started
}

// Open finds or starts the engines and brings topics, tables and the first ruleset into being. The error is one line that
// says what to do. Close must be called on the house it returns.
func Open(ctx context.Context, c config.Config, o Options) (*House, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Needs == 0 {
		o.Needs = AllEngines
	}
	h := &House{Config: c, Registry: prometheus.NewRegistry(), Log: o.Log, Addresses: given(c)}
	h.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := h.findEngines(ctx, o); err != nil {
		return nil, err
	}
	if err := h.prepare(ctx, o.Needs); err != nil {
		return nil, errors.Join(err, h.Close(context.WithoutCancel(ctx)))
	}
	return h, nil
}

// findEngines fills the addresses: given, else of a running house, else started here.
func (h *House) findEngines(ctx context.Context, o Options) error {
	missing := h.Addresses.missing(o.Needs)
	if missing == 0 {
		return nil
	}
	if o.Attach {
		if running, ok := readAddresses(h.Config.Data); ok && running.alive(ctx) {
			h.Addresses.fill(running)
			h.Attached = true
			return nil
		}
	}
	if !o.Embed {
		return fmt.Errorf("no address for %s: give %s, or start `sluice up` or `sluice engines` on --data %s first", missing, missing.flags(), h.Config.Data)
	}
	if o.Existing && !h.onDisk() {
		return fmt.Errorf("there is no house in the folder %s: give --data, or start `sluice up` first", h.Config.Data)
	}
	engines, err := embedded.Start(ctx, embedded.Options{
		DataDir: h.Config.Data, KafkaPort: h.Config.KafkaPort, PostgresPort: h.Config.PostgresPort,
		ClickHousePort: h.Config.ClickHousePort, ClickHouseHTTPPort: h.Config.ClickHouseHTTPPort,
		Kafka: missing&Kafka != 0, Postgres: missing&Postgres != 0, ClickHouse: missing&ClickHouse != 0,
		DefaultPartitions: int(h.Config.Partitions), Supervise: true, Progress: o.Progress, Logger: o.Log,
	})
	if err != nil {
		return err
	}
	h.Engines = engines
	own := Addresses{Kafka: engines.KafkaAddrs, Postgres: engines.PostgresURL}
	if engines.ClickHouseURL != "" {
		own.ClickHouse, own.Analyst = inDatabase(engines.ClickHouseURL), inDatabase(engines.AnalystURL)
		own.ClickHouseHTTP = engines.ClickHouseHTTP + "/?database=" + database
	}
	h.Addresses.fill(own)
	return h.Addresses.write(h.Config.Data)
}

// onDisk says whether a house has been in the data folder.
func (h *House) onDisk() bool {
	_, err := os.Stat(filepath.Join(h.Config.Data, "postgres"))
	return err == nil
}

// database of the embedded ClickHouse. Its default one cannot hold refreshable views.
const database = "sluice"

func inDatabase(url string) string { return strings.TrimSuffix(url, "/default") + "/" + database }

// prepare makes sure that the engines answer and hold what the parts expect.
func (h *House) prepare(ctx context.Context, needs Engine) error {
	if err := h.Addresses.reach(ctx, needs); err != nil {
		return err
	}
	if needs&Kafka != 0 {
		if err := h.Stream("setup").EnsureTopics(ctx); err != nil {
			return err
		}
	}
	if needs&Postgres != 0 {
		if err := poster.Migrate(ctx, h.Addresses.Postgres); err != nil {
			return fmt.Errorf("prepare the ledger's tables: %w", err)
		}
	}
	if needs&Kafka != 0 {
		if err := errors.Join(h.prepareRules(ctx, needs&Postgres != 0), h.prepareChannels(ctx)); err != nil {
			return err
		}
	}
	if needs&ClickHouse != 0 {
		if err := warehouse.Apply(ctx, h.Addresses.ClickHouse, warehouse.Options{}); err != nil {
			return fmt.Errorf("prepare the warehouse's tables: %w", err)
		}
	}
	return nil
}

// Stream returns what a part needs to know of Kafka.
func (h *House) Stream(part string) stream.Config {
	s := h.Config.Stream(h.Addresses.Kafka, "sluice-"+part, h.Log.With("part", part))
	s.Metrics = h.Registry
	return s.Fill()
}

// Close stops the engines this house has started, within ten seconds.
func (h *House) Close(ctx context.Context) error {
	if h.Engines == nil {
		return nil
	}
	if err := os.Remove(filepath.Join(h.Config.Data, addressesFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		h.Log.Warn("the file of addresses stays", "error", err)
	}
	return h.Engines.Stop(ctx)
}

// CloseQuietly closes the house at the end of a command; what goes wrong is logged.
func (h *House) CloseQuietly() {
	if err := h.Close(context.Background()); err != nil {
		h.Log.Warn("an engine did not stop cleanly; the next start recovers", "error", err)
	}
}
