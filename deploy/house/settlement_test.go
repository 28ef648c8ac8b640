package house

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/producers/channel"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

const settlementTerms = `
settlement: test
house: {holder: The House, account: DE89370400440532013000, bic: COBADEFFXXX}
calendars: {utc: {time_zone: UTC, cut_off: "24:00"}}
defaults:
  merchant: {calendar: utc, reserve: {rate: "0.1", days: 5}, payout: {channel: bank_transfer, account: GB29NWBK60161331926819, bic: NWBKGB2L}}
  channel: {calendar: utc, cycle: T+2, fee: {basis_points: 50}}
`

// The whole way in a whole house: purchases through the gate, a run, payouts and reserves posted, a payout file, the bank's word on
// a payout, another run that changes nothing; and every promise of the house still holds.
func TestSettlement(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs a whole house; -short leaves it out")
	}
	r := start(t, "empty")
	c := r.Config
	c.Settlement = filepath.Join(t.TempDir(), "terms.yaml")
	if err := os.WriteFile(c.Settlement, []byte(settlementTerms), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := channel.New(channel.Config{Config: r.Stream("test"), Source: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	monday := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	e := events.Event{Kind: events.PaymentInitiated, Amount: 10_000, Currency: events.MustCurrency("CNY"), Method: eventsv1.PaymentMethod_PAYMENT_METHOD_CARD,
		Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE}
	for i := range 40 {
		e.ID, e.PaymentID, e.CustomerID, e.MerchantID = fmt.Sprint("e", i), fmt.Sprint("p", i), fmt.Sprint("C", i), fmt.Sprint("M", i%4)
		e.Time = monday.Add(time.Duration(i/20) * 24 * time.Hour) // half of them on Tuesday
		if err := p.Publish(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
	}
	r.verifies()
	folder := t.TempDir()
	settle := func() string {
		t.Helper()
		var out strings.Builder
		if err := Settle(t.Context(), c, SettleOptions{CutOff: monday, Anyway: true, Folder: folder, Out: &out, Progress: func(string, int64, int64) {}}); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if said := settle(); !strings.Contains(said, "5 batches") || !strings.Contains(said, "8 payments ordered, 8 published") || !strings.Contains(said, "payouts-bank_transfer-2026-03-03-1.xml") {
		t.Errorf("the run says\n%s", said)
	}
	if said := settle(); !strings.Contains(said, " 0 batches") || !strings.Contains(said, "0 payments ordered, 0 published") || strings.Contains(said, ".xml") {
		t.Errorf("another run says\n%s", said)
	}
	paid := events.Event{Kind: events.PaymentSettled, ID: "paid", Source: "bank", Time: monday.Add(48 * time.Hour), PaymentID: "settlement/2026-03-02/M1/CNY/payout", CustomerID: "M1",
		MerchantID: "M1", Amount: 44_700, Currency: e.Currency, Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT}
	if err := p.Publish(t.Context(), &paid); err != nil {
		t.Fatal(err)
	}
	r.verifies()
	db, err := pgx.Connect(t.Context(), r.Addresses.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	for sql, want := range map[string]int64{
		"SELECT count(*) FROM payments WHERE purpose = 'payout' AND status = 'settled'":         1,
		"SELECT count(*) FROM payments WHERE purpose = 'payout' AND status = 'posted'":          3,
		"SELECT balance FROM accounts WHERE key = 'merchant:M1:CNY'":                            5*10_000 - 5*60, // Tuesday's
		"SELECT balance FROM accounts WHERE key = 'reserve:M1:CNY'":                             5_000,
		"SELECT count(*) FROM results WHERE event_source = 'sluice/settlement' AND NOT counted": 0,
	} {
		var got int64
		if err := db.QueryRow(t.Context(), sql).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %d, want %d, %v", sql, got, want, err)
		}
	}
	for _, c := range []struct{ do, undo string }{
		{"UPDATE settlement_lines SET amount = amount + 1 WHERE version = 1", "UPDATE settlement_lines SET amount = amount - 1 WHERE version = 1"},
		{"UPDATE settlement_coverage SET version = version + 1", "UPDATE settlement_coverage SET version = version - 1"},
		{"UPDATE settlement_orders SET amount = amount + 1 WHERE purpose = 'payout'", "UPDATE settlement_orders SET amount = amount - 1 WHERE purpose = 'payout'"},
	} {
		if _, err := db.Exec(t.Context(), "SET session_replication_role = replica; "+c.do); err != nil { // past the triggers
			t.Fatal(err)
		}
		mustBreak(t, r, "each transfer is settled once")
		if _, err := db.Exec(t.Context(), c.undo); err != nil {
			t.Fatal(err)
		}
	}
	if !proof(t, r).OK() {
		t.Error("mended, it does not hold")
	}
}
