package enginestest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/deploy/embedded"
)

// cleanupLimit bounds what a test does to leave nothing behind.
const cleanupLimit = 30 * time.Second

// Env is what one test has of the shared engines; what it did not ask for is empty.
type Env struct {
	// Kafka are the brokers. Every topic, group and transactional id of the test starts with Prefix; topics that do are
	// deleted when the test ends.
	Kafka  []string
	Prefix string
	// PostgresURL has a schema of the test's own as search_path, dropped when the test ends.
	PostgresURL    string
	PostgresSchema string
	// ClickHouseURL (native) has a database of the test's own, dropped when the test ends. AnalystURL is the same for
	// the read-only user. ClickHouseHTTP is the address without a database.
	ClickHouseURL      string
	AnalystURL         string
	ClickHouseHTTP     string
	ClickHouseDatabase string
	// Fake is the embedded Kafka, shared with other tests; nil when Kafka is external or not asked for.
	Fake *embedded.KafkaCluster
}

// run tells this process's names from those of other processes on the same external engines.
var run = strings.ToLower(rand.Text()[:8])

var envs atomic.Int64

// New starts what the test needs, unless it runs already, and returns an environment that no other test shares. The test
// is skipped where the engines cannot be fetched; with CI=true it fails.
func New(t testing.TB, needs ...Engine) *Env {
	t.Helper()
	name := fmt.Sprintf("t%s%d", run, envs.Add(1))
	e := &Env{Prefix: name + "."}
	if slices.Contains(needs, Kafka) {
		e.addKafka(t)
	}
	if slices.Contains(needs, Postgres) {
		e.addPostgres(t, name)
	}
	if slices.Contains(needs, ClickHouse) {
		e.addClickHouse(t, name)
	}
	return e
}

func (e *Env) addKafka(t testing.TB) {
	t.Helper()
	if e.Kafka = externalKafka(); len(e.Kafka) == 0 {
		engines := start(t, Kafka)
		e.Kafka, e.Fake = engines.KafkaAddrs, engines.Fake
	}
	t.Cleanup(func() {
		if err := deleteTopics(e.Kafka, e.Prefix); err != nil {
			t.Errorf("delete the test's topics: %v", err)
		}
	})
}

func deleteTopics(brokers []string, prefix string) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		return err
	}
	names := slices.DeleteFunc(topics.Names(), func(s string) bool { return !strings.HasPrefix(s, prefix) })
	if len(names) == 0 {
		return nil
	}
	_, err = admin.DeleteTopics(ctx, names...)
	return err
}

func (e *Env) addPostgres(t testing.TB, name string) {
	t.Helper()
	base := start(t, Postgres).PostgresURL
	if err := execPostgres(base, "CREATE SCHEMA "+name); err != nil {
		t.Fatalf("create the test's schema: %v", err)
	}
	t.Cleanup(func() {
		if err := execPostgres(base, "DROP SCHEMA IF EXISTS "+name+" CASCADE"); err != nil {
			t.Errorf("drop the test's schema: %v", err)
		}
	})
	e.PostgresSchema, e.PostgresURL = name, base+"&search_path="+name
}

func execPostgres(address, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

func (e *Env) addClickHouse(t testing.TB, name string) {
	t.Helper()
	engines := start(t, ClickHouse)
	if err := execClickHouse(engines.ClickHouseURL, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("create the test's database: %v", err)
	}
	t.Cleanup(func() {
		if err := execClickHouse(engines.ClickHouseURL, "DROP DATABASE IF EXISTS "+name+" SYNC"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	e.ClickHouseDatabase, e.ClickHouseHTTP = name, engines.ClickHouseHTTP
	e.ClickHouseURL = withDatabase(engines.ClickHouseURL, name)
	e.AnalystURL = withDatabase(engines.AnalystURL, name)
}

func withDatabase(address, database string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address // package embedded wrote it; it parses
	}
	u.Path = "/" + database
	return u.String()
}

func execClickHouse(address, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
	defer cancel()
	o, err := clickhouse.ParseDSN(address)
	if err != nil {
		return err
	}
	conn, err := clickhouse.Open(o)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Exec(ctx, statement)
}
