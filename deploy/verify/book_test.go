package verify

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/poster"
	"sluice/deploy/books"
	"sluice/deploy/embedded/enginestest"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

// filled returns a book with three shards of four batches: top-ups, purchases, and card payments authorized, captured in
// part, voided and expired.
func filled(t *testing.T) string {
	t.Helper()
	url := enginestest.New(t, enginestest.Postgres).PostgresURL
	if err := poster.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	for shard := range int32(3) {
		d, err := poster.NewDirect(t.Context(), url, shard)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		for batch := range int64(4) {
			if _, err := d.Post(t.Context(), day(t, shard, batch)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return url
}

// day is a batch of 8 decisions, three days after the one before.
func day(t *testing.T, shard int32, batch int64) []*kgo.Record {
	customer := fmt.Sprintf("C%d", shard)
	var records []*kgo.Record
	add := func(kind events.Kind, payment string, purpose eventsv1.PaymentPurpose, method eventsv1.PaymentMethod, amount int64) {
		offset := batch*8 + int64(len(records))
		e := events.Event{ID: fmt.Sprint(shard, ".", offset), Source: "test", Kind: kind, PaymentID: fmt.Sprint(payment, shard, ".", batch),
			Time:       time.Date(2026, 3, 1+3*int(batch), 0, 0, len(records), 0, time.UTC),
			CustomerID: customer, MerchantID: "M", Method: method, Purpose: purpose, Amount: amount, Currency: events.MustCurrency("CNY")}
		_, value, err := events.EncodeDecision(&events.Decision{Event: e, Verdict: events.Approve, Topic: schemas.Payments, Partition: shard, Offset: offset, Received: e.Time})
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, &kgo.Record{Topic: schemas.PaymentsDecided, Partition: shard, Offset: offset, Key: []byte(customer), Value: value, Timestamp: e.Time})
	}
	const wallet, card, bank = eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET, eventsv1.PaymentMethod_PAYMENT_METHOD_CARD, eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER
	const purchase, topUp = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE, eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP
	add(events.PaymentInitiated, "t", topUp, bank, 10_000)
	add(events.PaymentInitiated, "p", purchase, wallet, 5000)
	add(events.PaymentAuthorized, "a", purchase, card, 700)
	add(events.PaymentCaptured, "a", purchase, card, 300)
	add(events.PaymentAuthorized, "v", purchase, card, 700)
	add(events.PaymentVoided, "v", purchase, card, 700)
	add(events.PaymentAuthorized, "w", eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL, card, 100)
	add(events.PaymentInitiated, "q", purchase, wallet, 900)
	return records
}

// Whatever is changed, taken out or swapped behind the book's back, the proof names it and its batch, and holds again
// once it is mended.
func TestTamperedBook(t *testing.T) {
	t.Parallel()
	url := filled(t)
	pg, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pg.Close(context.Background()) }()
	sql := func(text string) {
		t.Helper()
		if _, err := pg.Exec(t.Context(), "SET session_replication_role = replica; "+text); err != nil { // past the triggers
			t.Fatalf("%s: %v", text, err)
		}
	}
	held := func() {
		t.Helper()
		if report := bookProof(t, url); !report.OK() {
			var table strings.Builder
			_ = report.Table(&table)
			t.Fatalf("it does not hold:\n%s", table.String())
		}
	}
	book, err := books.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close(context.Background())
	if _, err := book.ClosePeriod(t.Context(), books.Closing{Day: time.Date(2026, 3, 8, 0, 0, 0, 0, time.UTC), By: "tester", Now: time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC), Anyway: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := book.RollUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	held()
	// Each batch has seven transfers: 7 is the last of batch 1, 8 the first of batch 2.
	swap := `UPDATE transfers t SET amount = o.amount FROM transfers o WHERE t.shard = 1 AND o.shard = 1 AND (t.number, o.number) IN ((7, 8), (8, 7))`
	for name, c := range map[string]struct{ promise, names, do, undo string }{
		"changed amount":     {"the hash chain is unbroken", "shard 1, batch 2:", "UPDATE transfers SET amount = amount + 1 WHERE shard = 1 AND number = 8", "UPDATE transfers SET amount = amount - 1 WHERE shard = 1 AND number = 8"},
		"changed kind":       {"the hash chain is unbroken", "shard 1, batch 2:", "UPDATE transfers SET kind = kind || 'x' WHERE shard = 1 AND number = 8", "UPDATE transfers SET kind = left(kind, -1) WHERE shard = 1 AND number = 8"},
		"changed batch":      {"the hash chain is unbroken", "shard 1, batch 2:", "UPDATE transfers SET batch = 3 WHERE shard = 1 AND number = 8", "UPDATE transfers SET batch = 2 WHERE shard = 1 AND number = 8"},
		"swapped amounts":    {"the hash chain is unbroken", "shard 1, batch 2:", swap, swap},
		"deleted transfer":   {"the hash chain is unbroken", "shard 1, batch 2:", "CREATE TABLE away AS SELECT * FROM transfers WHERE shard = 1 AND number = 8; DELETE FROM transfers WHERE shard = 1 AND number = 8", "INSERT INTO transfers SELECT shard, number, sequence, batch, debit_account, debit_version, credit_account, credit_version, amount, event_time, currency, kind FROM away; DROP TABLE away"},
		"doubled transfer":   {"the hash chain is unbroken", "shard 1, batch 2: two transfers have the number 8", "SELECT open_transfer_months('{2031-01-01}'); INSERT INTO transfers SELECT shard, number, sequence, batch, debit_account, debit_version, credit_account, credit_version, amount, '2031-01-01', currency, kind FROM transfers WHERE shard = 1 AND number = 8", "DELETE FROM transfers_2031_01"},
		"month taken out":    {"the hash chain is unbroken", "shard 0, batch 1:", "ALTER TABLE transfers DETACH PARTITION transfers_2026_03", "ALTER TABLE transfers ATTACH PARTITION transfers_2026_03 FOR VALUES FROM ('2026-03-01Z') TO ('2026-04-01Z')"},
		"swapped versions":   {"each balance = the sum of its transfers", "two of them have the same version", "UPDATE transfers SET debit_version = debit_version + 100 WHERE shard = 1 AND number = 8", "UPDATE transfers SET debit_version = debit_version - 100 WHERE shard = 1 AND number = 8"},
		"changed step":       {"the hash chain is unbroken", "shard 1, batch 3:", "UPDATE hold_steps SET amount = amount + 1 WHERE shard = 1 AND batch = 3 AND number = 2", "UPDATE hold_steps SET amount = amount - 1 WHERE shard = 1 AND batch = 3 AND number = 2"},
		"deleted step":       {"the hash chain is unbroken", "shard 1, batch 3:", "CREATE TABLE away AS SELECT * FROM hold_steps WHERE shard = 1 AND batch = 3 AND number = 1; DELETE FROM hold_steps WHERE shard = 1 AND batch = 3 AND number = 1", "INSERT INTO hold_steps SELECT * FROM away; DROP TABLE away"},
		"swapped steps":      {"the hash chain is unbroken", "shard 1, batch 3:", "UPDATE hold_steps SET number = -number WHERE shard = 1 AND batch = 3; UPDATE hold_steps SET number = CASE number WHEN -1 THEN 2 WHEN -2 THEN 1 ELSE -number END WHERE shard = 1 AND batch = 3", "UPDATE hold_steps SET number = -number WHERE shard = 1 AND batch = 3; UPDATE hold_steps SET number = CASE number WHEN -1 THEN 2 WHEN -2 THEN 1 ELSE -number END WHERE shard = 1 AND batch = 3"},
		"deleted batch":      {"the hash chain is unbroken", "shard 1: batch 3 does not follow batch 1", "CREATE TABLE away AS SELECT * FROM batches WHERE shard = 1 AND number = 2; DELETE FROM batches WHERE shard = 1 AND number = 2", "INSERT INTO batches SELECT * FROM away; DROP TABLE away"},
		"deleted last batch": {"the hash chain is unbroken", "shard 1, batch 4:", "CREATE TABLE away AS SELECT * FROM batches WHERE shard = 1 AND number = 4; DELETE FROM batches WHERE shard = 1 AND number = 4", "INSERT INTO batches SELECT * FROM away; DROP TABLE away"},
		"changed hold":       {"held = posted + voided + expired + open", "hold v1.2", "UPDATE holds SET voided = voided - 1 WHERE id = 'v1.2'", "UPDATE holds SET voided = voided + 1 WHERE id = 'v1.2'"},
		"changed pending":    {"held = posted + voided + expired + open", "wallet:C1:CNY", "UPDATE accounts SET debits_pending = debits_pending + 1 WHERE key = 'wallet:C1:CNY'", "UPDATE accounts SET debits_pending = debits_pending - 1 WHERE key = 'wallet:C1:CNY'"},
		"late expiry":        {"held = posted + voided + expired + open", "should have expired", "UPDATE shards SET clock = clock + interval '30 days' WHERE shard = 1", "UPDATE shards SET clock = clock - interval '30 days' WHERE shard = 1"},
		"changed day":        {"closed days = the sums of their transfers", "wallet:C1:CNY on 2026-03-04", "UPDATE daily_balances SET debits = debits + 1 WHERE account = 'wallet:C1:CNY' AND day = '2026-03-04'", "UPDATE daily_balances SET debits = debits - 1 WHERE account = 'wallet:C1:CNY' AND day = '2026-03-04'"},
		"deleted day":        {"closed days = the sums of their transfers", "fees:CNY on 2026-03-07 has debits 0, credits 0", "CREATE TABLE away AS SELECT * FROM daily_balances WHERE account = 'fees:CNY' AND day = '2026-03-07'; DELETE FROM daily_balances WHERE account = 'fees:CNY' AND day = '2026-03-07'", "INSERT INTO daily_balances SELECT * FROM away; DROP TABLE away"},
		"day too many":       {"closed days = the sums of their transfers", "fees:CNY on 2026-03-20", "INSERT INTO daily_balances VALUES ('fees:CNY', '2026-03-20', 1, 1, 1)", "DELETE FROM daily_balances WHERE day = '2026-03-20'"},
		"floor under a hold": {"no floor is crossed", "wallet:C1:CNY", "ALTER TABLE accounts DROP CONSTRAINT accounts_floor; UPDATE accounts SET floor = balance WHERE key = 'wallet:C1:CNY'", "UPDATE accounts SET floor = 0 WHERE key = 'wallet:C1:CNY'"},
	} {
		sql(c.do)
		if !names(bookProof(t, url), c.promise, c.names) {
			var table strings.Builder
			_ = bookProof(t, url).Table(&table)
			t.Errorf("%s: nothing of %q names %q:\n%s", name, c.promise, c.names, table.String())
		}
		sql(c.undo)
		held()
	}
}

func bookProof(t *testing.T, url string) *Report {
	t.Helper()
	report, err := Book(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// names says whether a breach of the promise has the words.
func names(r *Report, promise, words string) bool {
	for _, row := range r.Rows {
		for _, b := range row.Breaches {
			if row.Promise == promise && strings.Contains(b, words) {
				return true
			}
		}
	}
	return false
}
