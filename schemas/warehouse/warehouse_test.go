package warehouse

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/deploy/embedded/enginestest"
	"sluice/schemas/events"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

// The currencies without two decimals are those that package events knows.
func TestDecimals(t *testing.T) {
	t.Parallel()
	byExponent := map[int][]string{}
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			for c := 'A'; c <= 'Z'; c++ {
				if currency, ok := events.ParseCurrency(string([]rune{a, b, c})); ok {
					byExponent[currency.Exponent()] = append(byExponent[currency.Exponent()], currency.Code())
				}
			}
		}
	}
	if len(byExponent) != 3 || !slices.Equal(byExponent[0], strings.Fields(noDecimals)) || !slices.Equal(byExponent[3], strings.Fields(threeDecimals)) {
		t.Errorf("events knows %d exponents, none %v, three %v", len(byExponent), byExponent[0], byExponent[3])
	}
}

// Applying again, and by several at once, is harmless, and sets the schedule of the tiers.
func TestApply(t *testing.T) {
	t.Parallel()
	env := enginestest.New(t, enginestest.ClickHouse)
	url := env.ClickHouseURL + "_new" // a database that does not exist yet
	var g errgroup.Group
	for range 3 {
		g.Go(func() error { return Apply(t.Context(), url, Options{}) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	db, err := Open(url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	defer func() {
		_ = db.Exec(context.WithoutCancel(t.Context()), "DROP DATABASE "+env.ClickHouseDatabase+"_new SYNC")
	}()
	schedule := func(want string) {
		t.Helper()
		var create string
		if err := db.QueryRow(t.Context(), "SHOW CREATE TABLE customer_tiers_refresh").Scan(&create); err != nil || !strings.Contains(create, want) {
			t.Errorf("the schedule is not %q but %s, %v", want, create, err)
		}
	}
	schedule("REFRESH EVERY 1 MINUTE TO")
	for range 2 {
		if err := Apply(t.Context(), url, Options{TierRefresh: 7 * time.Minute}); err != nil {
			t.Fatal(err)
		}
		schedule("REFRESH EVERY 7 MINUTE TO")
	}
	var steps uint64
	if err := db.QueryRow(t.Context(), "SELECT uniqExact(version) FROM schema_versions").Scan(&steps); err != nil || int(steps) != len(Migrations()) {
		t.Errorf("%d steps are recorded of %d, %v", steps, len(Migrations()), err)
	}
	for _, view := range []string{"verdicts", "daily_totals", "daily_postings", "customer_360", "customer_tiers", "shadow_differences", "channel_health", "channel_costs", "channel_choices"} {
		var n uint64
		if err := db.QueryRow(t.Context(), "SELECT count() FROM "+view).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s: %d rows, %v", view, n, err)
		}
	}
}

// Every table that takes rows remembers tokens, is partitioned and explained, column by column.
func TestTables(t *testing.T) {
	t.Parallel()
	env := enginestest.New(t, enginestest.ClickHouse)
	if err := Apply(t.Context(), env.ClickHouseURL, Options{}); err != nil {
		t.Fatal(err)
	}
	db, err := Open(env.ClickHouseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(t.Context(), "SELECT name, engine_full, partition_key, comment FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND NOT startsWith(name, '.')")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; rows.Next(); n++ {
		var name, engine, partition, comment string
		if err := rows.Scan(&name, &engine, &partition, &comment); err != nil {
			t.Fatal(err)
		}
		if name == "schema_versions" {
			continue
		}
		if !strings.Contains(engine, "non_replicated_deduplication_window = 10000") || comment == "" || partition == "" && name != "customer_tiers" && name != "rulesets" {
			t.Errorf("%s: %s; partitioned by %q; %q", name, engine, partition, comment)
		}
	}
	if err := rows.Err(); err != nil || n != 11 {
		t.Errorf("%d tables, %v", n, err)
	}
	var silent []string
	if err := db.QueryRow(t.Context(), `SELECT groupArray(concat(c.table, '.', c.name)) FROM system.columns AS c JOIN system.tables AS t ON t.name = c.table AND t.database = c.database
		WHERE c.database = currentDatabase() AND c.comment = '' AND t.engine LIKE '%MergeTree' AND NOT startsWith(t.name, '.')`).Scan(&silent); err != nil || len(silent) > 0 {
		t.Errorf("columns without a comment: %v, %v", silent, err)
	}
}

// The wide tables stand in order of arrival, so each has an index for those who ask by customer.
func TestByCustomer(t *testing.T) {
	t.Parallel()
	env := enginestest.New(t, enginestest.ClickHouse)
	if err := Apply(t.Context(), env.ClickHouseURL, Options{}); err != nil {
		t.Fatal(err)
	}
	db, err := Open(env.ClickHouseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, table := range []string{"payments", "loans", "behaviors"} {
		// Two granules that hold one customer each: the index leaves one to read.
		if err := db.Exec(t.Context(), "INSERT INTO "+table+" (event_time, customer_id, decided_offset) SELECT '2026-09-01', if(number < 8192, 'C1', 'C2'), number FROM numbers(16384)"); err != nil {
			t.Fatal(err)
		}
		var plan []string
		rows, err := db.Query(t.Context(), "EXPLAIN indexes = 1 SELECT count() FROM "+table+" WHERE customer_id = 'C2'")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, strings.TrimSpace(line))
		}
		if err := rows.Err(); err != nil || !slices.Contains(plan, "Name: by_customer") || !slices.Contains(plan, "Granules: 1/2") {
			t.Errorf("%s is not read by its index: %v, %v", table, plan, err)
		}
	}
}

// A database that cannot hold the refreshable view is answered with what to do instead.
func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	env := enginestest.New(t, enginestest.ClickHouse)
	base := strings.TrimSuffix(env.ClickHouseURL, env.ClickHouseDatabase)
	f := func(url, says string) {
		t.Helper()
		if err := Apply(t.Context(), url, Options{}); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", url, err)
		}
	}
	f("postgres://x", urlForm)
	f(base+"system", "name another in the URL")
	f("clickhouse://127.0.0.1:1/sluice", "reach ClickHouse at [127.0.0.1:1]")
}

// How channels fare and what they cost, by rows whose numbers are known.
func TestChannelViews(t *testing.T) {
	t.Parallel()
	env := enginestest.New(t, enginestest.ClickHouse)
	if err := Apply(t.Context(), env.ClickHouseURL, Options{}); err != nil {
		t.Fatal(err)
	}
	db, err := Open(env.ClickHouseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, insert := range []string{
		`INSERT INTO payments (event_time, payment_id, type, verdict, payment_channel, route, route_reason, amount_minor, currency) VALUES
			('2026-09-01 10:00:00', 'p1', 'payment.initiated', 'approve', '', 'a', 'cheapest of 2 healthy: a 0.60 %; m@1', 10000, 'CNY'),
			('2026-09-01 10:00:00', 'p2', 'payment.initiated', 'approve', '', 'a', 'explored: a 0.60 %; m@1', 10000, 'CNY'),
			('2026-09-01 10:00:00', 'p3', 'payment.initiated', 'decline', '', '', 'none can carry it: a (closed at that time); m@1', 10000, 'CNY'),
			('2026-09-01 10:10:00', 'p1', 'payment.settled', 'observed', 'a', '', '', 10000, 'CNY'),
			('2026-09-01 10:30:00', 'p2', 'payment.settled', 'observed', 'a', '', '', 10000, 'CNY'),
			('2026-09-01 10:30:00', 'p2', 'payment.settled', 'duplicate', 'a', '', '', 10000, 'CNY'),
			('2026-09-01 10:40:00', 'p4', 'payment.settled', 'observed', 'a', '', '', 10000, 'CNY'),
			('2026-09-01 10:50:00', 'p2', 'payment.failed', 'observed', 'a', '', '', 10000, 'CNY')`,
		`INSERT INTO postings (event_time, sequence, debit_account, credit_account, amount_minor, currency, kind) VALUES
			('2026-09-01', 1, 'clearing:a/0:CNY', 'merchant:M:CNY', 10000, 'CNY', 'purchase'), ('2026-09-01', 2, 'merchant:M:CNY', 'clearing:a/3:CNY', 5000, 'CNY', 'refund'),
			('2026-09-01', 3, 'channel_costs/0:CNY', 'clearing:a/0:CNY', 60, 'CNY', 'channel_cost'), ('2026-09-01', 4, 'bank:main/0:CNY', 'clearing:a/0:CNY', 9940, 'CNY', 'settlement'),
			('2026-09-01', 5, 'merchant:M:CNY', 'fees/0:CNY', 60, 'CNY', 'fee')`,
	} {
		if err := db.Exec(t.Context(), insert); err != nil {
			t.Fatal(err)
		}
	}
	for query, want := range map[string]string{
		"SELECT concat(toString(hour), ' ', channel, ' ', toString(good), ' ', toString(failed), ' ', toString(success_ratio), ' ', toString(settled), ' ', toString(median_seconds_to_settle)) FROM channel_health": "2026-09-01 10:00:00 a 3 1 0.75 3 1800",
		"SELECT concat(toString(day), ' ', channel, ' ', currency, ' ', toString(transfers), ' ', toString(carried), ' ', toString(cost), ' ', toString(cost_ratio)) FROM channel_costs":                             "2026-09-01 a CNY 2 150 0.6 0.004",
		"SELECT arrayStringConcat(groupArray(concat(channel, ' ', why, ' ', toString(payments), ' ', toString(total))), ', ') FROM (SELECT * FROM channel_choices ORDER BY why)":                                     "a cheapest 1 100, a explored 1 100,  none 1 100",
	} {
		var got string
		if err := db.QueryRow(t.Context(), query).Scan(&got); err != nil || got != want {
			t.Errorf("%s\n%s, want %s, %v", query, got, want, err)
		}
	}
}
