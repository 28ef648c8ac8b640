package poster

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"sluice/deploy/embedded/enginestest"
	schema "sluice/schemas/ledger"
)

// Any number of processes may migrate at once; each migration is applied once.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := enginestest.New(t, enginestest.Postgres).PostgresURL
	done := make(chan error)
	const processes = 4
	for range processes {
		go func() { done <- Migrate(t.Context(), url) }()
	}
	for range processes {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := one[int](t, reader(t, url), "SELECT count(*) FROM schema_migrations"); got != len(schema.Migrations()) {
		t.Errorf("%d migrations applied, want %d", got, len(schema.Migrations()))
	}
}

// An index is built while a batch is under way and others start: they wait outside the database, so nobody waits in a circle. One
// whose building was cut off is built anew.
func TestIndexesAreBuiltBesideBatches(t *testing.T) {
	t.Parallel()
	url := empty(t)
	conn := reader(t, url)
	upTo(t, conn, 13)
	if _, err := conn.Exec(t.Context(), "CREATE INDEX payments_due ON payments (id)"); err != nil { // as a first attempt left it
		t.Fatal(err)
	}
	tx, err := reader(t, url).Begin(t.Context()) // a batch: it has written payments, and holds the building up
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "UPDATE payments SET held = 0"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	const processes = 3
	for range processes {
		go func() { done <- Migrate(t.Context(), url) }()
	}
	waits := func() bool {
		return one[bool](t, conn, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%INDEX CONCURRENTLY%payments%' AND wait_event_type = 'Lock' AND pid <> pg_backend_pid())")
	}
	for deadline := time.Now().Add(time.Minute); !waits(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody builds the index")
		}
	}
	if _, err := reader(t, url).Exec(t.Context(), "UPDATE payments SET held = 0"); err != nil { // another batch goes on meanwhile
		t.Error(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range processes {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := one[int](t, conn, "SELECT count(*) FROM pg_index WHERE indexrelid IN ('payments_due'::regclass, 'payments_disputed'::regclass) AND indisvalid AND indpred IS NOT NULL"); got != 2 {
		t.Errorf("%d of 2 indexes are there", got)
	}
}

func TestMigrateRefusesForeignDatabases(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  string
		want error
	}{
		"newer":   {"INSERT INTO schema_migrations (version, name, checksum) VALUES (999, '0999_later.sql', '')", ErrNewer},
		"changed": {"UPDATE schema_migrations SET checksum = 'other'", ErrChanged},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := migrated(t)
			if _, err := reader(t, url).Exec(t.Context(), c.sql); err != nil {
				t.Fatal(err)
			}
			if err := Migrate(t.Context(), url); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// The database has the last word, whoever writes.
func TestDatabaseVetoes(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	w, conn := newWriter(t, url, payments0), reader(t, url)
	w.must(t, decided(t, 0, 0, payment(topUp, byBank, "A", "", 1000)))
	for name, c := range map[string]struct{ sql, code string }{
		"change of a transfer":   {"UPDATE transfers SET amount = 1", "23001"},
		"removal of a transfer":  {"DELETE FROM transfers", "23001"},
		"removal of all":         {"TRUNCATE transfers", "23001"},
		"change of a batch":      {"UPDATE batches SET hash = previous_hash", "23001"},
		"removal of a result":    {"DELETE FROM results", "23001"},
		"wallet below zero":      {"UPDATE accounts SET debits_posted = credits_posted + 1 WHERE type = 'wallet'", "23514"},
		"wallet below its holds": {"UPDATE accounts SET debits_pending = credits_posted + 1 WHERE type = 'wallet'", "23514"},
		"transfer of nothing":    {"INSERT INTO transfers SELECT 0, 99, 1, 1, 1, 98, 2, 98, 0, event_time, 'CNY', 'x' FROM transfers", "23514"},
		"change of a step":       {"UPDATE hold_steps SET amount = 1", "23001"},
		"removal of a step":      {"DELETE FROM hold_steps", "23001"},
		"more posted than held":  {"INSERT INTO holds VALUES ('h', 0, 1, 2, 10, 11, 0, 0, NULL, 'CNY', 'x')", "23514"},
		"version taken twice":    {"INSERT INTO transfers SELECT 0, 99, 1, 1, debit_account, debit_version, 77, 77, 5, event_time, 'CNY', 'x' FROM transfers", "23505"},
		"number taken twice":     {"INSERT INTO transfers SELECT 0, number, 1, 1, 76, 76, 77, 77, 5, event_time, 'CNY', 'x' FROM transfers", "23505"},
		"change in a month":      {"UPDATE transfers_2026_03 SET amount = 1", "23001"},
		"removal in a month":     {"DELETE FROM transfers_2026_03", "23001"},
		"removal of a month":     {"TRUNCATE transfers_2026_03", "23001"},
		"transfer of no month":   {"INSERT INTO transfers SELECT 0, 99, 1, 1, 1, 98, 2, 98, 5, '2031-01-01', 'CNY', 'x'", "23514"},
		"event counted twice":    {"INSERT INTO results SELECT 0, 99, 1, 9, 9, 1, 0, true, now(), 'payments', event_source, event_id, '', '', '', '', '' FROM results", "23505"},
		"position counted twice": {"INSERT INTO results SELECT 0, 99, 1, input_partition, input_offset, 1, 0, true, now(), input_topic, 'x', 'x', '', '', '', '', '' FROM results", "23505"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := conn.Exec(t.Context(), c.sql)
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || pg.Code != c.code {
				t.Errorf("%s: %v, want SQLSTATE %s", c.sql, err, c.code)
			}
		})
	}
	checkBook(t, conn)
}
