// Package enginestest gives tests the real engines of package embedded: one set per test process, started when first
// needed, and an environment of its own for each test. It will not start anything for a program other than a test.
package enginestest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/deploy/embedded"
)

// Engine is one engine that a test needs.
type Engine string

// The engines.
const (
	Kafka      Engine = "Kafka"
	Postgres   Engine = "Postgres"
	ClickHouse Engine = "ClickHouse"
)

const (
	// KafkaVariable names brokers (host:port, comma-separated) that take the place of the embedded Kafka.
	KafkaVariable = "SLUICE_TEST_KAFKA"
	// startLimit bounds the first start, which fetches the engines.
	startLimit = 20 * time.Minute
	// folderPattern is how the data folders of test processes are called in the temporary folder.
	folderPattern = "sluice-test-"
	// staleAfter is when a data folder that no process holds counts as left behind by a killed test process.
	staleAfter = 10 * time.Minute
)

// Main runs the tests of a package and stops the shared engines. TestMain is: os.Exit(enginestest.Main(m)).
func Main(m *testing.M) int {
	embedded.ClickHouseChild()
	code := m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the engines of the tests:", err)
		return max(code, 1)
	}
	return code
}

// shared are the engines of this test process.
var shared processEngines

// processEngines starts each engine once, each in a data folder of its own, so that none waits for one nobody needs.
type processEngines struct {
	kafka, postgres, clickhouse sharedEngine
}

type sharedEngine struct {
	once    sync.Once
	dir     string
	engines *embedded.Engines
	err     error
}

// get starts the engine on first use.
func (s *sharedEngine) get(o embedded.Options) (*embedded.Engines, error) {
	s.once.Do(func() {
		if s.dir, s.err = dataDir(); s.err != nil {
			return
		}
		o.DataDir, o.NoFsync, o.Progress = s.dir, true, reportFetch()
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		s.engines, s.err = embedded.Start(ctx, o)
	})
	return s.engines, s.err
}

func (s *sharedEngine) stop() error {
	if s.dir == "" {
		return nil
	}
	var err error
	if s.engines != nil {
		err = s.engines.Stop(context.Background())
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

func (p *processEngines) stop() error {
	return errors.Join(p.kafka.stop(), p.postgres.stop(), p.clickhouse.stop())
}

func (p *processEngines) get(e Engine) (*embedded.Engines, error) {
	switch e {
	case Kafka:
		return p.kafka.get(embedded.Options{Kafka: true, KafkaInProcess: true})
	case Postgres:
		return p.postgres.get(embedded.Options{Postgres: true})
	case ClickHouse:
		return p.clickhouse.get(embedded.Options{ClickHouse: true})
	default:
		return nil, fmt.Errorf("no engine %q", e)
	}
}

// dataDir makes a data folder, removing first those of test processes that were killed.
func dataDir() (string, error) {
	old, err := filepath.Glob(filepath.Join(os.TempDir(), folderPattern+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range old {
		if st, err := os.Stat(dir); err == nil && time.Since(st.ModTime()) > staleAfter && !embedded.InUse(dir) {
			_ = os.RemoveAll(dir)
		}
	}
	return os.MkdirTemp("", folderPattern)
}

// reportFetch prints the progress of a download by tenths: a test that fetches 200 MB must not look stuck.
func reportFetch() func(string, int64, int64) {
	shown := map[string]int64{}
	return func(stage string, done, total int64) {
		if total < 1<<20 || done*10/total <= shown[stage] {
			return
		}
		shown[stage] = done * 10 / total
		fmt.Fprintf(os.Stderr, "%s: %d %%\n", stage, done*100/total)
	}
}

// start gives the running engine, or ends the test: skipped where the engines cannot be fetched, except in CI.
func start(t testing.TB, e Engine) *embedded.Engines {
	t.Helper()
	engines, err := shared.get(e)
	check(t, err)
	return engines
}

func check(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if Unavailable(err) && os.Getenv("CI") != "true" {
		t.Skipf("needs the embedded engines: %v", err)
	}
	t.Fatalf("start the embedded engines: %v", err)
}

// Unavailable says whether err means that the engines cannot be had here, as against not working.
func Unavailable(err error) bool {
	var npm *embedded.NpmMissingError
	var fetch *embedded.FetchError
	var platform *embedded.PlatformError
	var left *embedded.NotEmbeddedError
	return errors.As(err, &npm) || errors.As(err, &fetch) || errors.As(err, &platform) || errors.As(err, &left)
}

// Exclusive starts engines for one test alone, for tests that kill or stop them. An empty DataDir becomes a temporary
// folder. They are stopped when the test ends.
func Exclusive(t testing.TB, o embedded.Options) *embedded.Engines {
	t.Helper()
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	o.NoFsync = true
	if o.Progress == nil {
		o.Progress = reportFetch()
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	e, err := embedded.Start(ctx, o)
	check(t, err)
	t.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			t.Errorf("stop engines: %v", err)
		}
	})
	return e
}

// externalKafka are the brokers that take the place of the embedded Kafka, if any.
func externalKafka() []string {
	return slices.DeleteFunc(strings.Split(os.Getenv(KafkaVariable), ","), func(s string) bool { return s == "" })
}
