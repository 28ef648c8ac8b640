package house

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"sluice/deploy/verify"
	"sluice/schemas/warehouse"
)

// tamper does one wrong after another to a house at rest; verify must name each, and hold again once it is mended.
func tamper(t *testing.T, r *running) {
	t.Helper()
	pg, err := pgx.Connect(t.Context(), r.Addresses.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pg.Close(context.Background()) }()
	ch, err := warehouse.Open(r.Addresses.ClickHouse)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ch.Close() }()
	sql := func(text string) {
		t.Helper()
		if _, err := pg.Exec(t.Context(), "SET session_replication_role = replica; "+text); err != nil { // past the triggers
			t.Fatalf("%s: %v", text, err)
		}
	}
	cases := []struct{ promise, do, undo string }{
		{"each balance = the sum of its transfers", "UPDATE accounts SET credits_posted = credits_posted + 1, debits_posted = debits_posted + 1 WHERE id = 1",
			"UPDATE accounts SET credits_posted = credits_posted - 1, debits_posted = debits_posted - 1 WHERE id = 1"},
		{"debits = credits per currency", "UPDATE accounts SET credits_posted = credits_posted + 1 WHERE id = 1", "UPDATE accounts SET credits_posted = credits_posted - 1 WHERE id = 1"},
		{"the hash chain is unbroken", "UPDATE transfers SET amount = amount + 1 WHERE shard = 3 AND number = 5", "UPDATE transfers SET amount = amount - 1 WHERE shard = 3 AND number = 5"},
		{"the hash chain is unbroken", "UPDATE transfers SET kind = 'x' || kind WHERE shard = 3 AND number = 5", "UPDATE transfers SET kind = substr(kind, 2) WHERE shard = 3 AND number = 5"},
		{"each decision is posted once", "UPDATE results SET input_offset = input_offset + 1000000 WHERE shard = 2 AND sequence = 4", "UPDATE results SET input_offset = input_offset - 1000000 WHERE shard = 2 AND sequence = 4"},
		{"no floor is crossed", "ALTER TABLE accounts DROP CONSTRAINT accounts_floor; UPDATE accounts SET floor = balance + 1 WHERE floor IS NOT NULL AND id = (SELECT min(id) FROM accounts WHERE floor IS NOT NULL)", "UPDATE accounts SET floor = 0 WHERE floor IS NOT NULL"},
		{"each result is published once", "UPDATE shards SET sequence = sequence - 1 WHERE shard = 1", "UPDATE shards SET sequence = sequence + 1 WHERE shard = 1"},
	}
	for _, c := range cases {
		sql(c.do)
		mustBreak(t, r, c.promise)
		sql(c.undo)
	}
	if !proof(t, r).OK() {
		t.Fatal("mended, it does not hold")
	}
	for _, c := range []struct{ promise, do string }{
		{"ClickHouse totals = ledger totals", "DELETE FROM postings WHERE shard = 1 AND sequence < 20"},
		{"each decision is one row in ClickHouse", "INSERT INTO payments SELECT * FROM payments LIMIT 1"},
	} {
		if err := ch.Exec(t.Context(), c.do); err != nil {
			t.Fatalf("%s: %v", c.do, err)
		}
		mustBreak(t, r, c.promise)
	}
}

func proof(t *testing.T, r *running) *verify.Report {
	t.Helper()
	report, err := verify.Run(t.Context(), verify.Config{Config: r.Stream("verify"), Postgres: r.Addresses.Postgres, ClickHouse: r.Addresses.ClickHouse})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func mustBreak(t *testing.T, r *running, promise string) {
	t.Helper()
	var found []string
	for _, row := range proof(t, r).Rows {
		if !row.Holds && row.Promise == promise && len(row.Breaches) > 0 {
			return
		}
		found = append(found, row.Promise+": "+row.Found)
	}
	t.Errorf("it was not noticed that %q is broken:\n%s", promise, strings.Join(found, "\n"))
}
