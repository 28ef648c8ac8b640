package poster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/schemas/events"
	schema "sluice/schemas/ledger"
)

func at(d events.Decision, when time.Time) events.Decision {
	d.Event.Time = when
	return d
}

// Whatever the times of the events, each transfer stands in the partition of its month, which is opened when it is needed.
func TestMonths(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	w, conn := newWriter(t, url, payments0), reader(t, url)
	var records []*kgo.Record
	begin := time.Date(2016, 11, 30, 23, 59, 59, 999999000, time.UTC)
	for i := range int64(30) { // a replay of years, out of order
		when := begin.AddDate(0, int(i*7%30), 0)
		records = append(records, decided(t, 0, i, at(payment(topUp, byBank, "A", "", 1000), when)))
	}
	w.must(t, records[:10]...)
	again := newWriter(t, url, payments0) // knows no month
	again.must(t, records[10:]...)
	checkBook(t, conn)
	if got := one[int](t, conn, "SELECT count(*) FROM transfers t WHERE tableoid::regclass::text <> 'transfers_' || to_char(event_time AT TIME ZONE 'UTC', 'YYYY_MM')"); got != 0 {
		t.Errorf("%d transfers stand in another month", got)
	}
	months := one[int](t, conn, "SELECT count(DISTINCT date_trunc('month', event_time, 'UTC')) FROM transfers")
	if got := one[int](t, conn, "SELECT count(*) FROM transfer_months"); got != months || got < 20 {
		t.Errorf("%d months are open, transfers stand in %d", got, months)
	}
	if got := one[int](t, conn, "SELECT count(*) FROM journal"); got != 30 {
		t.Errorf("the journal has %d of 30 transfers", got)
	}
}

// The book has a limit of months. An event beyond it becomes a dead letter that says so; its neighbours are posted.
func TestTooManyMonths(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	w, conn := newWriter(t, url, payments0), reader(t, url)
	w.must(t, decided(t, 0, 0, payment(topUp, byBank, "A", "", 1000)))
	if _, err := conn.Exec(t.Context(), "INSERT INTO transfer_months SELECT 'm' || n, timestamptz '1900-01-01Z' + n * interval '1 day', timestamptz '1900-01-02Z' + n * interval '1 day' FROM generate_series(1, 599) n"); err != nil {
		t.Fatal(err)
	}
	w.must(t,
		decided(t, 0, 1, payment(topUp, byBank, "A", "", 1000)),
		decided(t, 0, 2, at(payment(topUp, byBank, "A", "", 1000), start.AddDate(-9, 0, 0))),
		decided(t, 0, 3, payment(topUp, byBank, "A", "", 1000)))
	if got := one[int](t, conn, "SELECT count(*) FROM transfers"); got != 3 {
		t.Errorf("%d transfers, want 3", got)
	}
	if got := one[string](t, conn, "SELECT reason || ': ' || detail FROM unreadable"); !strings.Contains(got, codeRefused) || !strings.Contains(got, "opens no further one for 2017-03") {
		t.Errorf("the dead letter says %q", got)
	}
	checkBook(t, conn)
}

// Two posters that need the same month at once get it, and it is opened once.
func TestMonthOpenedAtOnce(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	done := make(chan error)
	const writers = 4
	for shard := range int32(writers) {
		w := newWriter(t, url, part{"payments.decided", shard})
		r := decided(t, shard, 0, payment(topUp, byBank, fmt.Sprint("A", shard), "", 1000))
		go func() {
			_, err := w.send(context.Background(), r)
			done <- err
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	conn := reader(t, url)
	if got := one[int](t, conn, "SELECT count(*) FROM transfer_months"); got != 1 {
		t.Errorf("%d months are open, want 1", got)
	}
	checkBook(t, conn)
}

// An account that moved on since it was read is not written: no key over all months could say so.
func TestAccountMovedOn(t *testing.T) {
	t.Parallel()
	for name, meddle := range map[string]string{
		"account": "UPDATE accounts SET version = version + 1 WHERE type = 'wallet'",
		"shard":   "UPDATE shards SET batch = batch + 1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := migrated(t)
			w := newWriter(t, url, payments0)
			w.must(t, decided(t, 0, 0, payment(topUp, byBank, "A", "", 1000)))
			b := w.batch(decided(t, 0, 1, at(payment(topUp, byBank, "A", "", 1000), start.AddDate(0, 5, 0))))
			b.reset()
			if err := errors.Join(w.begin(t.Context(), b), w.decide(t.Context(), b, w.opts.postings)); err != nil {
				t.Fatal(err)
			}
			if _, err := w.conn.Exec(t.Context(), meddle); err != nil {
				t.Fatal(err)
			}
			err := w.write(t.Context(), b, w.opts.base)
			if err == nil || !strings.Contains(err.Error(), "rows instead of") {
				t.Errorf("written over what somebody else has written: %v", err)
			}
		})
	}
}

// A poster that waited for an account finds its row where the other has put it, whether it asks by key or by number.
func TestAccountMovedWhileWaiting(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	conn := reader(t, url)
	other, w := newWriter(t, url, payments0), newWriter(t, url, part{"payments.decided", 1})
	other.must(t, decided(t, 0, 0, payment(purchase, byCard, "A", "M", 1000)))
	for round := range int64(2) {
		b := other.batch(decided(t, 0, 1+round, payment(purchase, byCard, "A", "M", 1000)))
		if err := other.stage(t.Context(), b, other.opts); err != nil {
			t.Fatal(err)
		}
		if known := len(w.ids) > 0; known != (round > 0) {
			t.Fatalf("round %d: the poster knows %d accounts", round, len(w.ids))
		}
		done := make(chan error)
		go func() {
			_, err := w.send(context.Background(), decided(t, 1, round, payment(purchase, byCard, "B", "M", 1000)))
			done <- err
		}()
		for !one[bool](t, conn, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock')", int32(w.conn.PgConn().PID())) {
			select {
			case err := <-done:
				t.Fatalf("it did not wait: %v", err)
			default:
			}
		}
		if err := other.commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		for _, c := range b.claims {
			other.owned[part{c.topic, c.partition}] = ownership{c.epoch, c.next}
		}
		if err := <-done; err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	checkBook(t, conn)
}

// A poster's own user, with the rights it needs, posts and opens months, and can neither change what stands in one nor take
// one out of the book.
func TestPosterWithoutOwnership(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	owner := reader(t, url)
	newWriter(t, url, payments0).must(t, decided(t, 0, 0, payment(topUp, byBank, "A", "", 1000)))
	name := one[string](t, owner, "SELECT current_schema()")
	role := "poster_" + name
	exec := func(sql string) {
		t.Helper()
		if _, err := owner.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("CREATE ROLE " + role + " LOGIN")
	t.Cleanup(func() { _, _ = owner.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	exec("GRANT USAGE ON SCHEMA " + name + " TO " + role)
	exec("GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA " + name + " TO " + role)
	exec("GRANT UPDATE ON accounts, offsets, shards, payments, loans, holds TO " + role)
	exec("GRANT EXECUTE ON FUNCTION open_transfer_months TO " + role)
	as := strings.Replace(url, "postgres://postgres@", "postgres://"+role+"@", 1)
	w := newWriter(t, as, payments0)
	w.must(t, decided(t, 0, 1, at(payment(topUp, byBank, "A", "", 1000), start.AddDate(0, 1, 0))))
	conn := reader(t, as)
	for _, sql := range []string{
		"ALTER TABLE transfers DETACH PARTITION transfers_2026_03",
		"DROP TABLE transfers_2026_04",
		"ALTER TABLE transfers_2026_04 DISABLE TRIGGER append_only",
		"UPDATE transfers_2026_04 SET amount = 1",
		"DELETE FROM transfers_2026_04",
		"TRUNCATE transfers_2026_04",
		"UPDATE transfers SET amount = 1",
	} {
		var pg *pgconn.PgError
		if _, err := conn.Exec(t.Context(), sql); !errors.As(err, &pg) || pg.Code != "42501" {
			t.Errorf("%s: %v, want insufficient_privilege", sql, err)
		}
	}
	checkBook(t, owner)
}

// upTo migrates to an earlier release's tables.
func upTo(t *testing.T, conn *pgx.Conn, version int) {
	t.Helper()
	all := schema.Migrations()[:version]
	for i := range all {
		if err := migrate(t.Context(), conn, all, i, false); err != nil {
			t.Fatal(err)
		}
	}
}

// A book of the release before becomes one by months while somebody posts as that release did: nothing is copied, nothing
// is lost, and rights that were given stay.
func TestBookBecomesMonthly(t *testing.T) {
	t.Parallel()
	url := empty(t)
	conn := reader(t, url)
	upTo(t, conn, 5)
	exec := func(conn *pgx.Conn, sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	exec(conn, `INSERT INTO accounts (key, type, currency, exponent, credit_normal, striped, debits_posted, credits_posted, version) VALUES
		('clearing:x:CNY', 'clearing', 'CNY', 2, false, false, 1000, 0, 1000), ('wallet:A:CNY', 'wallet', 'CNY', 2, true, false, 0, 1000, 1000);
		INSERT INTO transfers SELECT 0, n, n, 1, 1, n, 2, n, 1, timestamptz '2024-01-01Z' + n * interval '1 day', 'CNY', 'top_up' FROM generate_series(1, 1000) n`)
	role := "auditor_" + one[string](t, conn, "SELECT current_schema()")
	exec(conn, "CREATE ROLE "+role+"; GRANT SELECT ON transfers TO "+role)
	t.Cleanup(func() { _, _ = conn.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	file := one[string](t, conn, "SELECT pg_relation_filepath('transfers')")

	stop, stopped := make(chan struct{}), make(chan int)
	before := reader(t, url)
	first := make(chan struct{})
	go func() { // posts, as the release before, until the book is by months and once more
		n, last := 1000, false
		for !last {
			select {
			case <-stop:
				last = true
			default:
			}
			n++
			exec(before, fmt.Sprintf("INSERT INTO transfers (shard, number, sequence, batch, debit_account, debit_version, credit_account, credit_version, amount, event_time, currency, kind) "+
				"VALUES (0, %[1]d, %[1]d, 1, 1, %[1]d, 2, %[1]d, 1, now(), 'CNY', 'top_up')", n))
			if n == 1001 {
				close(first)
			}
		}
		stopped <- n
	}()
	<-first
	if err := Migrate(t.Context(), url); err != nil {
		t.Error(err)
	}
	close(stop)
	all := <-stopped
	if got := one[string](t, conn, "SELECT pg_relation_filepath('transfers_first')"); got != file {
		t.Errorf("the transfers stand in %s, before in %s: they were copied", got, file)
	}
	if got := one[int](t, conn, "SELECT count(*) FROM transfers"); got != all {
		t.Errorf("%d transfers, want %d", got, all)
	}
	if !one[bool](t, conn, "SELECT has_table_privilege('"+role+"', 'transfers', 'SELECT') AND until > now() + interval '28 days' FROM transfer_months") {
		t.Error("a right is lost, or the first partition ends too early")
	}
	for _, sql := range []string{"DELETE FROM transfers_first", "UPDATE transfers_first SET amount = 2"} {
		var pg *pgconn.PgError
		if _, err := conn.Exec(t.Context(), sql); !errors.As(err, &pg) || pg.Code != "23001" {
			t.Errorf("%s: %v", sql, err)
		}
	}
	w := newWriter(t, url, part{"payments.decided", 1})
	w.must(t, decided(t, 1, 0, payment(topUp, byBank, "B", "", 1000)), decided(t, 1, 1, at(payment(topUp, byBank, "B", "", 1000), time.Now().AddDate(0, 6, 0))))
	if got := one[int](t, conn, "SELECT count(DISTINCT tableoid) FROM transfers WHERE shard = 1"); got != 2 {
		t.Errorf("old and new months are %d partitions, want 2", got)
	}
}
