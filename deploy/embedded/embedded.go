// Package embedded runs the real engines (Kafka protocol, Postgres, ClickHouse) under one data folder for `sluice up`
// and for the tests. It will not tune, migrate or watch them beyond start, restart and stop, and it is not for
// engines that other machines use: everything listens on 127.0.0.1 only.
package embedded

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// The flags that change a port; the answer to a taken port names them.
const (
	FlagKafkaPort          = "--kafka-port"
	FlagPostgresPort       = "--postgres-port"
	FlagClickHousePort     = "--clickhouse-port"
	FlagClickHouseHTTPPort = "--clickhouse-http-port"
	FlagData               = "--data"
)

// CacheVariable is the environment variable that says where fetched engines live when Options.CacheDir is empty.
const CacheVariable = "SLUICE_CACHE"

// StopLimit is how long Stop takes at most; an engine that is not down shortly before is killed.
const StopLimit = 10 * time.Second

// Stages reported to Options.Progress.
const (
	StageFetchPostgres    = "fetch Postgres"
	StageFetchClickHouse  = "fetch ClickHouse"
	StageUnpackPostgres   = "unpack Postgres"
	StageUnpackClickHouse = "unpack ClickHouse"
	StageInitPostgres     = "create Postgres data"
	StageWaitFetch        = "wait for another process that is fetching the engines"
	StageRecover          = "wait for engines left by a killed run"
)

// Options says what Start starts and where.
type Options struct {
	// DataDir holds the data of all engines; created when missing. Required.
	DataDir string
	// CacheDir holds the fetched engines. Empty: $SLUICE_CACHE, else "sluice" in the user's cache folder.
	CacheDir string
	// Ports on 127.0.0.1. 0 picks a free one.
	KafkaPort, PostgresPort, ClickHousePort, ClickHouseHTTPPort int
	// Which engines to start.
	Kafka, Postgres, ClickHouse bool
	// DefaultPartitions is what a topic created with -1 partitions gets. 0: 12.
	DefaultPartitions int
	// KafkaInProcess runs Kafka in this process, where its faults can be injected (Engines.Fake), instead of in a child.
	// kill -9 of this process may then leave half a committed transaction behind. For tests.
	KafkaInProcess bool
	// Supervise restarts an engine that died by itself, with backoff, until Stop or Kill….
	Supervise bool
	// NoFsync lets Postgres skip fsync: data survives a killed process but not a lost machine. For tests.
	NoFsync bool
	// Progress is told how far a long stage is; total is 0 when unknown. done == total ends a stage. Nil is silent.
	Progress func(stage string, done, total int64)
	// Logger gets warnings and restarts. Nil is silent.
	Logger *slog.Logger

	// chosen is told the ports an engine is about to listen on; for tests, which take them first.
	chosen func(engine string, o Options)
}

// DefaultPartitions is the partition count of a topic that does not say: enough for six cores with two each.
const DefaultPartitions = 12

// checked returns the options with defaults filled in and paths absolute.
func (o Options) checked() (Options, error) {
	if o.DataDir == "" {
		return o, &OptionError{Name: "DataDir", Reason: "is required"}
	}
	dir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return o, &OptionError{Name: "DataDir", Reason: err.Error()}
	}
	o.DataDir = dir
	if o.DefaultPartitions <= 0 {
		o.DefaultPartitions = DefaultPartitions
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	return o, nil
}

// Engines are running engines and their addresses. What Options did not ask for is empty: the caller fills it in.
type Engines struct {
	// KafkaAddrs are host:port of the brokers.
	KafkaAddrs []string
	// PostgresURL is postgres://postgres@127.0.0.1:PORT/postgres?sslmode=disable.
	PostgresURL string
	// ClickHouseURL is clickhouse://default@127.0.0.1:PORT/default (native protocol).
	ClickHouseURL string
	// AnalystURL is ClickHouseURL for the user "analyst", who may only SELECT.
	AnalystURL string
	// ClickHouseHTTP is http://127.0.0.1:PORT.
	ClickHouseHTTP string
	// Fake is the Kafka in this process, for fault injection; nil unless Options.KafkaInProcess.
	Fake *KafkaCluster

	running
}

// DefaultCacheDir is where fetched engines live when nothing says otherwise: $SLUICE_CACHE, else the user's cache
// folder. Root gets /var/cache/sluice where its own cache folder is closed to the user that runs Postgres.
func DefaultCacheDir() (string, error) {
	if dir := os.Getenv(CacheVariable); dir != "" {
		return filepath.Abs(dir)
	}
	base, err := os.UserCacheDir()
	if os.Geteuid() == 0 && (err != nil || !openToAll(base)) {
		return "/var/cache/sluice", nil
	}
	if err != nil {
		return "", &OptionError{Name: "CacheDir", Reason: "cannot be guessed (" + err.Error() + "): set " + CacheVariable}
	}
	return filepath.Join(base, "sluice"), nil
}

// openToAll says whether any user may pass through dir and all its parents; parts that do not exist yet count as open.
func openToAll(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil && st.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// stopContext bounds ctx so that Stop ends within StopLimit, leaving a second for killing what is still there.
func stopContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, StopLimit-time.Second)
}
