package poster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sluice/consumers/stream"
	schema "sluice/schemas/ledger"
)

// migrationLock, with the schema's name, makes migrating processes wait for each other.
const migrationLock = "sluice ledger migration "

// Migrate brings the book's tables up to date, in the first schema of the connection's search_path. Any number of
// processes may call it at once, also while others post. An error that wraps ErrNewer or ErrChanged needs a person.
func Migrate(ctx context.Context, postgres string) error {
	conn, err := pgx.Connect(ctx, postgres)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var fresh bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass('schema_migrations') IS NULL").Scan(&fresh); err != nil {
		return fmt.Errorf("look for the ledger's tables: %w", err)
	}
	all := schema.Migrations()
	for i := range all {
		if err := migrate(ctx, conn, all, i, fresh); err != nil {
			return err
		}
	}
	return nil
}

// The answers to a database that this program should not touch.
var (
	ErrNewer   = errors.New("the database has a migration this program does not know; run a newer sluice")
	ErrChanged = errors.New("a migration was changed after it had been applied; run the release that applied it")
)

// migrationPoll is how often a process that waits for another's migration looks again. It must not wait inside the database: an
// index that is built while others write waits for whoever looks at the database, and so for who waits for it.
const migrationPoll = 100 * time.Millisecond

// migrate applies one migration unless it is applied. In a fresh database nobody writes, and there is nobody to wait for.
func migrate(ctx context.Context, conn *pgx.Conn, all []schema.Migration, i int, fresh bool) error {
	if err := lockMigrations(ctx, conn); err != nil {
		return err
	}
	defer func() {
		_, _ = conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock(hashtextextended($1 || current_schema(), 0))", migrationLock)
	}()
	applied, err := appliedMigrations(ctx, conn)
	if err != nil {
		return err
	}
	for version, checksum := range applied {
		if version > len(all) {
			return stream.Fatal(fmt.Errorf("migration %d: %w", version, ErrNewer))
		}
		if checksum != all[version-1].Checksum {
			return stream.Fatal(fmt.Errorf("%s: %w", all[version-1].Name, ErrChanged))
		}
	}
	m := &all[i]
	if _, done := applied[m.Version]; done {
		return nil
	}
	for _, statement := range m.Statements() {
		if fresh {
			statement = strings.ReplaceAll(statement, " CONCURRENTLY ", " ")
		}
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("apply %s: %w", m.Name, err)
		}
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if m.Statements() == nil {
			if _, err := tx.Exec(ctx, m.SQL); err != nil {
				return fmt.Errorf("apply %s: %w", m.Name, err)
			}
		}
		_, err := tx.Exec(ctx, "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)", m.Version, m.Name, m.Checksum)
		return err
	})
}

// lockMigrations waits until no other process migrates these tables.
func lockMigrations(ctx context.Context, conn *pgx.Conn) error {
	for {
		var locked bool
		err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock(hashtextextended($1 || current_schema(), 0))", migrationLock).Scan(&locked)
		if locked {
			return nil
		}
		if err == nil {
			select {
			case <-ctx.Done():
				err = ctx.Err()
			case <-time.After(migrationPoll):
				continue
			}
		}
		return fmt.Errorf("wait for other migrations: %w", err)
	}
}

func appliedMigrations(ctx context.Context, conn *pgx.Conn) (map[int]string, error) {
	_, err := conn.Exec(ctx, `CREATE TABLE IF NOT EXISTS schema_migrations (
		version    integer PRIMARY KEY,
		name       text NOT NULL,
		checksum   text NOT NULL,
		applied_at timestamptz NOT NULL DEFAULT now())`)
	if err != nil {
		return nil, fmt.Errorf("create schema_migrations: %w", err)
	}
	rows, err := conn.Query(ctx, "SELECT version, checksum FROM schema_migrations")
	if err != nil {
		return nil, fmt.Errorf("read schema_migrations: %w", err)
	}
	applied := map[int]string{}
	var version int
	var checksum string
	_, err = pgx.ForEachRow(rows, []any{&version, &checksum}, func() error {
		applied[version] = checksum
		return nil
	})
	return applied, err
}

// unmigrated says whether err means that the tables are not there.
func unmigrated(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42P01" // undefined_table
}
