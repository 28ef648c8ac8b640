package enginestest_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"sluice/deploy/embedded/enginestest"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

// Two environments of one process share the engines and see nothing of each other.
func TestEnvironmentsAreApart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := enginestest.New(t, enginestest.Kafka, enginestest.Postgres, enginestest.ClickHouse)
	b := enginestest.New(t, enginestest.Kafka, enginestest.Postgres, enginestest.ClickHouse)
	for _, e := range []*enginestest.Env{a, b} { // the same names twice: a collision fails
		createTopic(ctx, t, e, e.Prefix+"payments")
		createTables(ctx, t, e)
	}
	if a.Prefix == b.Prefix || a.PostgresSchema == b.PostgresSchema || a.ClickHouseDatabase == b.ClickHouseDatabase {
		t.Errorf("environments share a name: %+v, %+v", a, b)
	}
	if a.Kafka[0] != b.Kafka[0] || a.ClickHouseHTTP != b.ClickHouseHTTP {
		t.Errorf("environments do not share engines: %+v, %+v", a, b)
	}
}

// A test that ends leaves no topic, schema or database behind.
func TestEnvironmentIsRemoved(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var gone *enginestest.Env
	t.Run("test", func(t *testing.T) {
		gone = enginestest.New(t, enginestest.Kafka, enginestest.Postgres, enginestest.ClickHouse)
		createTopic(ctx, t, gone, gone.Prefix+"payments")
		createTables(ctx, t, gone)
	})
	if gone == nil {
		t.Skip("no engines")
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(gone.Kafka...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if there := topicStays(ctx, kadm.NewClient(client), gone.Prefix+"payments"); there != nil {
		t.Error(there)
	}
	var n int
	conn, err := pgx.Connect(ctx, gone.PostgresURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_namespace WHERE nspname = $1", gone.PostgresSchema).Scan(&n); err != nil || n != 0 {
		t.Errorf("schema is still there: %d, %v", n, err)
	}
	other := enginestest.New(t, enginestest.ClickHouse)
	var count uint64
	db := openClickHouse(t, other.ClickHouseURL)
	if err := db.QueryRow(ctx, "SELECT count() FROM system.databases WHERE name = ?", gone.ClickHouseDatabase).Scan(&count); err != nil || count != 0 {
		t.Errorf("database is still there: %d, %v", count, err)
	}
}

// topicStays says so if a topic is still there after a while: a real broker forgets a deleted one in its own time.
func topicStays(ctx context.Context, admin *kadm.Client, topic string) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		topics, err := admin.ListTopics(ctx)
		switch {
		case err != nil:
			return err
		case !topics.Has(topic):
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("topic is still there: %v", topics.Names())
		}
	}
}

func createTopic(ctx context.Context, t *testing.T, e *enginestest.Env, topic string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(e.Kafka...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
}

func createTables(ctx context.Context, t *testing.T, e *enginestest.Env) {
	t.Helper()
	conn, err := pgx.Connect(ctx, e.PostgresURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE TABLE payments (id int)"); err != nil {
		t.Fatal(err)
	}
	if err := openClickHouse(t, e.ClickHouseURL).Exec(ctx, "CREATE TABLE payments (id Int64) ENGINE = MergeTree ORDER BY id"); err != nil {
		t.Fatal(err)
	}
}

func openClickHouse(t *testing.T, address string) ch.Conn {
	t.Helper()
	o, err := ch.ParseDSN(address)
	if err != nil {
		t.Fatal(err)
	}
	db, err := ch.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
