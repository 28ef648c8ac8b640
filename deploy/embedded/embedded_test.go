//go:build !noembed && (linux || darwin)

package embedded

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMain(m *testing.M) {
	ClickHouseChild()
	if dir := os.Getenv(writerVariable); dir != "" {
		writeUntilKilled(dir)
	}
	if dir := os.Getenv(transactionsVariable); dir != "" {
		copyUntilKilled(dir)
	}
	os.Exit(m.Run())
}

const testTopic = "payments"

// all asks for every engine on free ports.
func all(dir string) Options {
	return Options{DataDir: dir, Kafka: true, Postgres: true, ClickHouse: true, NoFsync: true}
}

// started starts engines that stop with the test. The test is skipped where they cannot be fetched, except in CI.
func started(t *testing.T, o Options) *Engines {
	t.Helper()
	e, err := Start(t.Context(), o)
	var npm *NpmMissingError
	var fetch *FetchError
	if (errors.As(err, &npm) || errors.As(err, &fetch)) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e
}

// store is the three engines seen through their clients, with one counter kept in each.
type store struct {
	kafka *kgo.Client
	pg    *pgx.Conn
	ch    ch.Conn
}

func open(ctx context.Context, e *Engines) (*store, error) {
	var s store
	var err error
	if s.kafka, err = kgo.NewClient(kgo.SeedBrokers(e.KafkaAddrs...), kgo.DefaultProduceTopic(testTopic),
		kgo.ConsumeTopics(testTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())); err != nil {
		return nil, err
	}
	if s.pg, err = pgx.Connect(ctx, e.PostgresURL); err != nil {
		return nil, err
	}
	s.ch, err = openClickHouse(e.ClickHouseURL)
	return &s, err
}

func openClickHouse(address string) (ch.Conn, error) {
	o, err := ch.ParseDSN(address)
	if err != nil {
		return nil, err
	}
	return ch.Open(o)
}

func (s *store) create(ctx context.Context) error {
	_, err := kadm.NewClient(s.kafka).CreateTopic(ctx, 1, -1, nil, testTopic)
	if err != nil {
		return err
	}
	if _, err := s.pg.Exec(ctx, "CREATE TABLE payments (id int PRIMARY KEY)"); err != nil {
		return err
	}
	return s.ch.Exec(ctx, "CREATE TABLE payments (id Int64) ENGINE = MergeTree ORDER BY id")
}

// write puts one number into each engine and returns when all have it.
func (s *store) write(ctx context.Context, id int) error {
	if err := s.kafka.ProduceSync(ctx, kgo.StringRecord(string(rune('a'+id%26)))).FirstErr(); err != nil {
		return err
	}
	if _, err := s.pg.Exec(ctx, "INSERT INTO payments VALUES ($1)", id); err != nil {
		return err
	}
	return s.ch.Exec(ctx, "INSERT INTO payments VALUES (?)", id)
}

// counts are the records, rows and rows that the engines hold.
func (s *store) counts(ctx context.Context) (kafka, pg, ch int, err error) {
	offsets, err := kadm.NewClient(s.kafka).ListEndOffsets(ctx, testTopic)
	if err != nil {
		return 0, 0, 0, err
	}
	for kafka < int(offsets[testTopic][0].Offset) {
		fetches := s.kafka.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return 0, 0, 0, err
		}
		kafka += fetches.NumRecords()
	}
	if err := s.pg.QueryRow(ctx, "SELECT count(*) FROM payments").Scan(&pg); err != nil {
		return 0, 0, 0, err
	}
	var n uint64
	err = s.ch.QueryRow(ctx, "SELECT count() FROM payments").Scan(&n)
	return kafka, pg, int(n), err
}

func (s *store) close() {
	s.kafka.Close()
	s.pg.Close(context.Background())
	s.ch.Close()
}

func opened(t *testing.T, e *Engines) *store {
	t.Helper()
	s, err := open(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// What was written is there after Stop and Start, and Stop keeps its limit although clients are in the middle of things.
func TestDataSurvivesStop(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	e := started(t, all(dir))
	s := opened(t, e)
	if err := s.create(ctx); err != nil {
		t.Fatal(err)
	}
	for id := range 20 {
		if err := s.write(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	keepBusy(t, e)
	begin := time.Now()
	if err := e.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	t.Logf("Stop took %v", took)
	if took > StopLimit {
		t.Errorf("Stop took %v, promised is %v", took, StopLimit)
	}
	s = opened(t, started(t, all(dir)))
	if k, p, c, err := s.counts(ctx); err != nil || k != 20 || p != 20 || c != 20 {
		t.Errorf("after a restart: %d records, %d and %d rows, %v; want 20 each", k, p, c, err)
	}
}

// keepBusy leaves a transaction open in Postgres and a query running in ClickHouse.
func keepBusy(t *testing.T, e *Engines) {
	t.Helper()
	s := opened(t, e)
	tx, err := s.pg.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "INSERT INTO payments VALUES (1000000)"); err != nil {
		t.Fatal(err)
	}
	rows, err := s.ch.Query(t.Context(), "SELECT sleepEachRow(0.1) FROM numbers(10000) SETTINGS max_block_size = 1")
	if err != nil {
		t.Fatal(err)
	}
	if !rows.Next() {
		t.Fatal(rows.Err())
	}
	t.Cleanup(func() { rows.Close() })
}

// A killed engine stays down until it is told to come back, and comes back with its data on the same address.
func TestKillAndRestart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e := started(t, all(t.TempDir()))
	s := opened(t, e)
	if err := s.create(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.write(ctx, 1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := errors.Join(e.KillPostgres(), e.KillClickHouse()); err != nil {
			t.Fatal(err)
		}
		if _, err := open(ctx, e); err == nil {
			t.Fatal("a killed Postgres answers")
		}
		if err := s.ch.Ping(ctx); err == nil {
			t.Fatal("a killed ClickHouse answers")
		}
		if err := errors.Join(e.RestartPostgres(ctx), e.RestartClickHouse(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	s = opened(t, e)
	if k, p, c, err := s.counts(ctx); err != nil || k != 1 || p != 1 || c != 1 {
		t.Errorf("after a kill: %d records, %d and %d rows, %v; want 1 each", k, p, c, err)
	}
}

// Under supervision an engine that dies by itself comes back.
func TestSupervision(t *testing.T) {
	t.Parallel()
	o := all(t.TempDir())
	o.Kafka, o.Supervise = false, true
	e := started(t, o)
	for _, s := range []*supervisor{e.postgres, e.clickhouse} {
		s.mu.Lock()
		first := s.child()
		s.mu.Unlock()
		first.signal(syscall.SIGKILL)
		<-first.done
		for back := false; !back; {
			if err := sleep(t.Context(), readyPoll); err != nil {
				t.Fatalf("%s did not come back: %v", s.name(), err)
			}
			s.mu.Lock()
			back = s.child() != first && !s.child().ended()
			s.mu.Unlock()
		}
	}
	s, err := pgx.Connect(t.Context(), e.PostgresURL)
	if err != nil {
		t.Fatal(err)
	}
	s.Close(t.Context())
	if err := e.KillPostgres(); err != nil {
		t.Fatal(err)
	}
	if !e.postgres.child().ended() {
		t.Error("Postgres runs after KillPostgres")
	}
}

// A mistyped topic fails instead of being created.
func TestKafkaCreatesNoTopicByItself(t *testing.T) {
	t.Parallel()
	e := started(t, Options{DataDir: t.TempDir(), Kafka: true, DefaultPartitions: 3})
	client, err := kgo.NewClient(kgo.SeedBrokers(e.KafkaAddrs...), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(0))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	record := kgo.StringRecord("x")
	record.Topic = "paymnets"
	if err := client.ProduceSync(t.Context(), record).FirstErr(); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("produce to an unknown topic: %v", err)
	}
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), -1, -1, nil, "payments"); err != nil {
		t.Fatal(err)
	}
	topics, err := kadm.NewClient(client).ListTopics(t.Context())
	if err != nil || len(topics["payments"].Partitions) != 3 {
		t.Errorf("default partitions: %v, %v; want 3", topics, err)
	}
}

// The analyst reads, and does nothing else; ClickHouse writes no log tables.
func TestClickHouseUsers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e := started(t, Options{DataDir: t.TempDir(), ClickHouse: true})
	owner, err := openClickHouse(e.ClickHouseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close()
	analyst, err := openClickHouse(e.AnalystURL)
	if err != nil {
		t.Fatal(err)
	}
	defer analyst.Close()
	if err := owner.Exec(ctx, "CREATE TABLE payments (id Int64) ENGINE = MergeTree ORDER BY id"); err != nil {
		t.Fatal(err)
	}
	var n uint64
	if err := analyst.QueryRow(ctx, "SELECT count() FROM payments SETTINGS max_threads = 1").Scan(&n); err != nil {
		t.Errorf("the analyst cannot read: %v", err)
	}
	for _, forbidden := range []string{
		"INSERT INTO payments VALUES (1)",
		"DROP TABLE payments",
		"SELECT * FROM file('/etc/passwd', 'LineAsString')",
		"SELECT * FROM url('" + e.ClickHouseHTTP + "', 'LineAsString')",
		"SELECT 1 SETTINGS readonly = 0",
		"SELECT 1 SETTINGS max_memory_usage = 0",
		"SELECT 1 SETTINGS max_execution_time = 0",
	} {
		if err := analyst.Exec(ctx, forbidden); err == nil {
			t.Errorf("the analyst may %s", forbidden)
		}
	}
	if err := owner.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = 'system' AND name LIKE '%\\_log'").Scan(&n); err != nil || n != 0 {
		t.Errorf("log tables: %d, %v; want 0", n, err)
	}
}

// Each mistake of a user is answered in one line of its own type that says what to do.
func TestTakenPorts(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	for flag, o := range map[string]Options{
		FlagKafkaPort:          {Kafka: true, KafkaPort: port},
		FlagPostgresPort:       {Postgres: true, PostgresPort: port},
		FlagClickHousePort:     {ClickHouse: true, ClickHousePort: port},
		FlagClickHouseHTTPPort: {ClickHouse: true, ClickHouseHTTPPort: port},
	} {
		o.DataDir = t.TempDir()
		taken := failsWith[*PortTakenError](t, o, flag)
		if taken.Port != port || taken.Flag != flag {
			t.Errorf("%s: %+v", flag, taken)
		}
		if InUse(o.DataDir) {
			t.Errorf("%s: a failed start keeps the data folder", flag)
		}
	}
}

// A port that another program takes after it was picked, before the engine listens, is picked again. One that the user
// named is the user's to choose.
func TestPortsTakenMeanwhile(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	tries := map[string]int{}
	take := func(engine string, o Options) {
		mu.Lock()
		defer mu.Unlock()
		if tries[engine]++; tries[engine] > 2 {
			return
		}
		for _, p := range o.ports() {
			if p.engine != engine || tries[engine] == 1 && p.serves != engine { // at first one of two, then all
				continue
			}
			l, err := net.Listen("tcp", loopback(*p.port))
			if err != nil {
				t.Error(err)
				continue
			}
			listeners = append(listeners, l)
		}
	}
	for _, inProcess := range []bool{true, false} {
		clear(tries)
		o := all(t.TempDir())
		o.KafkaInProcess, o.Postgres, o.ClickHouse, o.chosen = inProcess, !inProcess, !inProcess, take
		e := started(t, o)
		if len(e.KafkaAddrs) != 1 {
			t.Errorf("brokers %v", e.KafkaAddrs)
		}
		for engine, n := range tries {
			if n != 3 {
				t.Errorf("%s was started %d times, want 3: its ports were taken twice", engine, n)
			}
		}
		if !inProcess {
			if err := opened(t, e).create(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	clear(tries)
	port, err := choosePort("Postgres", 0, FlagPostgresPort)
	if err != nil {
		t.Fatal(err)
	}
	taken := failsWith[*PortTakenError](t, Options{DataDir: t.TempDir(), Postgres: true, PostgresPort: port, NoFsync: true, chosen: take}, FlagPostgresPort)
	if taken.Port != port || tries[postgresName] != 1 {
		t.Errorf("%+v after %d starts", taken, tries[postgresName])
	}
}

func TestDataFolderInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := started(t, Options{DataDir: dir, Kafka: true})
	if !InUse(dir) {
		t.Error("a used data folder counts as free")
	}
	if held := failsWith[*DataInUseError](t, Options{DataDir: dir, Kafka: true}, FlagData); held.PID != os.Getpid() {
		t.Errorf("holder is %d, want %d", held.PID, os.Getpid())
	}
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if InUse(dir) {
		t.Error("a free data folder counts as used")
	}
}

func TestUnusableOptions(t *testing.T) {
	t.Parallel()
	failsWith[*OptionError](t, Options{}, "DataDir")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	failsWith[*OptionError](t, Options{DataDir: filepath.Join(file, "data")}, FlagData)
	failsWith[*OptionError](t, Options{DataDir: t.TempDir(), CacheDir: filepath.Join(file, "cache"), Postgres: true}, CacheVariable)
}

func TestUnknownPlatform(t *testing.T) {
	t.Parallel()
	_, pg := postgresPackage("plan9-mips")
	_, ch := clickhousePackage("plan9-mips")
	for want, err := range map[string]error{"--postgres": pg, "--clickhouse": ch} {
		var platform *PlatformError
		if !errors.As(err, &platform) || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want a PlatformError naming %s", err, want)
		}
	}
}

// An engine that cannot start says so with its own words.
func TestDamagedData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := started(t, Options{DataDir: dir, Postgres: true, NoFsync: true})
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "postgres", "global", "pg_control"), 10); err != nil {
		t.Fatal(err)
	}
	failsWith[*StartError](t, Options{DataDir: dir, Postgres: true}, "postgres.log")
}

// failsWith starts what must not start and checks that the error is one line of type E that contains text.
func failsWith[E error](t *testing.T, o Options, text string) (want E) {
	t.Helper()
	e, err := Start(t.Context(), o)
	if err == nil {
		_ = e.Stop(t.Context())
		t.Fatalf("Start succeeds, want %T", want)
	}
	if !errors.As(err, &want) {
		t.Fatalf("Start: %v (%T), want %T", err, err, want)
	}
	if s := err.Error(); strings.Contains(s, "\n") || !strings.Contains(s, text) {
		t.Errorf("%T says %q: want one line with %q", err, s, text)
	}
	return want
}
