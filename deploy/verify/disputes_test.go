package verify

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/poster"
	"sluice/deploy/embedded/enginestest"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// disputedBook returns a book with open disputes: of a plain purchase, of one from two merchants, of one in two currencies and of a
// transfer; and with one that was decided.
func disputedBook(t *testing.T) string {
	t.Helper()
	url := enginestest.New(t, enginestest.Postgres).PostgresURL
	if err := poster.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	d, err := poster.NewDirect(t.Context(), url, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var records []*kgo.Record
	add := func(kind events.Kind, id string, amount int64, change ...func(*events.Event)) {
		n := int64(len(records))
		e := events.Event{ID: fmt.Sprint(n), Source: "test", Kind: kind, PaymentID: id, Time: at.Add(time.Duration(n) * time.Minute), RespondBy: at.Add(240 * time.Hour),
			CustomerID: "C", MerchantID: "M", Method: eventsv1.PaymentMethod_PAYMENT_METHOD_CARD, Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE,
			Amount: amount, Currency: events.MustCurrency("CNY")}
		for _, c := range change {
			c(&e)
		}
		_, value, err := events.EncodeDecision(&events.Decision{Event: e, Verdict: events.Approve, Topic: schemas.Payments, Offset: n, Received: e.Time})
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, &kgo.Record{Topic: schemas.PaymentsDecided, Offset: n, Key: []byte("C"), Value: value, Timestamp: e.Time})
	}
	add(events.PaymentInitiated, "plain", 5000)
	add(events.PaymentInitiated, "shared", 1000, func(e *events.Event) {
		e.Splits = []events.Split{{MerchantID: "M", Amount: 700}, {MerchantID: "N", Amount: 300}}
	})
	add(events.PaymentInitiated, "exchanged", 1000, func(e *events.Event) {
		e.Exchange = events.Exchange{Currency: events.MustCurrency("EUR"), Amount: 131, Rate: "0.1309"}
	})
	add(events.PaymentInitiated, "transfer", 400, func(e *events.Event) {
		e.Purpose, e.CounterpartyID, e.MerchantID = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER, "D", ""
	})
	add(events.PaymentInitiated, "over", 5000)
	for _, id := range []string{"plain", "shared", "exchanged", "transfer", "over"} {
		add(events.PaymentDisputed, id, 333)
	}
	add(events.PaymentDisputeDecided, "over", 1, func(e *events.Event) { e.Outcome = eventsv1.DisputeOutcome_DISPUTE_OUTCOME_LOST })
	if _, err := d.Post(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	return url
}

// What is kept without a dispute, or claimed and not kept, is named.
func TestTamperedDisputes(t *testing.T) {
	t.Parallel()
	url := disputedBook(t)
	pg, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pg.Close(context.Background()) }()
	const promise = "kept = what open disputes keep"
	held := func() {
		t.Helper()
		var table strings.Builder
		report := bookProof(t, url)
		_ = report.Table(&table)
		if !report.OK() || !strings.Contains(table.String(), "4 open disputes") {
			t.Fatalf("it does not hold:\n%s", table.String())
		}
	}
	held()
	for name, c := range map[string]struct{ names, do, undo string }{
		"another claim":    {"disputed:M:CNY has 566", "UPDATE payments SET extra = jsonb_set(extra, '{dispute,frozen}', '300') WHERE id = 'plain'", "UPDATE payments SET extra = jsonb_set(extra, '{dispute,frozen}', '333') WHERE id = 'plain'"},
		"a share's claim":  {"disputed:N:CNY has 100", "UPDATE payments SET extra = jsonb_set(extra, '{shares,1,frozen}', '99') WHERE id = 'shared'", "UPDATE payments SET extra = jsonb_set(extra, '{shares,1,frozen}', '100') WHERE id = 'shared'"},
		"another currency": {"disputed:M:EUR has 44", "UPDATE payments SET status = 'posted' WHERE id = 'exchanged'", "UPDATE payments SET status = 'disputed' WHERE id = 'exchanged'"},
		"a transfer":       {"frozen:D:CNY has 333", "UPDATE payments SET extra = jsonb_set(extra, '{dispute,state}', '\"won\"') WHERE id = 'transfer'", "UPDATE payments SET extra = jsonb_set(extra, '{dispute,state}', '\"open\"') WHERE id = 'transfer'"},
	} {
		if _, err := pg.Exec(t.Context(), c.do); err != nil {
			t.Fatal(err)
		}
		if !names(bookProof(t, url), promise, c.names) {
			var table strings.Builder
			_ = bookProof(t, url).Table(&table)
			t.Errorf("%s: nothing names %q:\n%s", name, c.names, table.String())
		}
		if _, err := pg.Exec(t.Context(), c.undo); err != nil {
			t.Fatal(err)
		}
		held()
	}
}
