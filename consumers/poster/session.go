package poster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"sluice/pipelines/ledger"
)

// Timeouts. A database that does not answer is noticed within them; the poster then starts again from what is committed.
const (
	// DefaultBatchTimeout bounds one batch on this side, whatever the network or the database do.
	DefaultBatchTimeout = 30 * time.Second
	// lockTimeout bounds the wait for one row: a poster that holds it longer is gone or hangs.
	lockTimeout = 10 * time.Second
	// idleTimeout is when Postgres itself ends a transaction whose poster has fallen silent, and frees its rows.
	idleTimeout = 15 * time.Second
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 5 * time.Second
	// closeTimeout bounds the farewell to the database.
	closeTimeout = time.Second
)

// maxKnownAccounts bounds the account numbers kept in memory, some 120 bytes each; when full they are all forgotten and
// learnt again.
const maxKnownAccounts = 1 << 20

// session is a connection to the book and what it has learnt of it.
type session struct {
	conn *pgx.Conn
	ids  map[ledger.AccountKey]int64 // numbers of accounts; accounts are never deleted

	months map[month]bool // that transfers can be copied into; partitions are never removed

	transfers, steps, results, payments copyRows // space to reuse
}

func newSession(conn *pgx.Conn) *session {
	return &session{conn: conn, ids: map[ledger.AccountKey]int64{}, months: map[month]bool{}}
}

// connect opens a connection with the poster's timeouts. dial may be nil.
func connect(ctx context.Context, url, name string, batch time.Duration, dial pgconn.DialFunc) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the address of Postgres: %w", err)
	}
	cfg.ConnectTimeout = min(connectTimeout, batch)
	if dial == nil {
		dial = (&net.Dialer{Timeout: connectTimeout, KeepAlive: idleTimeout / 3}).DialContext
	}
	cfg.DialFunc = dial
	ms := func(d time.Duration) string { return fmt.Sprint(d.Milliseconds()) }
	for k, v := range map[string]string{
		"application_name":                    name,
		"statement_timeout":                   ms(batch),
		"lock_timeout":                        ms(min(lockTimeout, batch)),
		"idle_in_transaction_session_timeout": ms(idleTimeout),
		"tcp_user_timeout":                    ms(idleTimeout),
		"synchronous_commit":                  "on",
		// Every statement here looks up rows by key. The planner must not change its mind when a table is new or its
		// statistics are old.
		"enable_seqscan":   "off",
		"enable_hashjoin":  "off",
		"enable_mergejoin": "off",
		"plan_cache_mode":  "force_generic_plan",
		"jit":              "off",
	} {
		cfg.RuntimeParams[k] = v
	}
	ctx, cancel := context.WithTimeout(ctx, min(connectTimeout, batch))
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return conn, nil
}

// closeConn says farewell to the database, which may not listen any more.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // the server frees what an unfinished transaction held, sooner or later
}

// errFenced means that another poster has taken the partitions over.
var errFenced = errors.New("another poster owns the partition now, or has moved it on")

// again says whether a transaction that failed with err has surely not been committed and is worth another try at once.
func again(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "40001", "40P01", // serialization_failure, deadlock_detected
		"55P03", // lock_not_available
		"23505": // unique_violation: another shard opened the same payment or loan; now it can be seen
		return true
	}
	return false
}

// claim is a step of one partition that a batch wants to make.
type claim struct {
	topic     string // without prefix
	partition int32
	epoch     int64
	at, next  int64
}

// ownership is what an assignment gives: where to go on, and the right to.
type ownership struct{ epoch, next int64 }

// own takes partitions over: whoever owned them before is fenced from now on.
func own(ctx context.Context, conn *pgx.Conn, parts []part) (map[part]ownership, error) {
	topics, numbers := make([]string, len(parts)), make([]int32, len(parts))
	for i, p := range parts {
		topics[i], numbers[i] = p.topic, p.partition
	}
	owned := make(map[part]ownership, len(parts))
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO shards (shard) SELECT DISTINCT p FROM unnest($1::integer[]) AS v (p) ORDER BY p ON CONFLICT DO NOTHING`, numbers)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `
			INSERT INTO offsets AS o (topic, "partition", next_offset, epoch)
			SELECT t, p, 0, 1 FROM unnest($1::text[], $2::integer[]) AS v (t, p) ORDER BY t COLLATE "C", p
			ON CONFLICT (topic, "partition") DO UPDATE SET epoch = o.epoch + 1
			RETURNING topic, "partition", next_offset, epoch`, topics, numbers)
		if err != nil {
			return err
		}
		var p part
		var o ownership
		_, err = pgx.ForEachRow(rows, []any{&p.topic, &p.partition, &o.next, &o.epoch}, func() error {
			owned[p] = o
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("take over %d partitions in Postgres: %w", len(parts), err)
	}
	if len(owned) != len(parts) {
		return nil, fmt.Errorf("take over %d partitions in Postgres: %d answered", len(parts), len(owned))
	}
	return owned, nil
}
