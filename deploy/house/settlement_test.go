package house

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pipelines/routing"
	"sluice/producers/channel"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
	"sluice/schemas/warehouse"
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

// The shipped channels and the shipped terms fit together: payouts in each currency are posted. A table without the terms' channel is
// told before anything is ordered, one that carries none of the payouts by how many were declined; an event that moves a payment to a
// channel nobody knows is declined, and explained.
func TestShippedDefaultsPayOut(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs a whole house; -short leaves it out")
	}
	r := start(t, "default")
	r.Config.Channels = standardChannels
	if err := r.prepareChannels(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := channel.New(channel.Config{Config: r.Stream("test"), Source: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	db, err := warehouse.Open(r.Addresses.ClickHouse)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	monday := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	publish := func(e events.Event) {
		t.Helper()
		if err := p.Publish(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
	}
	buy := func(id, currency string, at time.Time) events.Event {
		n := int64(10_000)
		return events.Event{Kind: events.PaymentInitiated, ID: id, PaymentID: id, CustomerID: "C" + id, MerchantID: "M" + currency, Amount: n, Currency: events.MustCurrency(currency),
			Method: eventsv1.PaymentMethod_PAYMENT_METHOD_CARD, Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE, Time: at}
	}
	currencies := []string{"CNY", "USD", "EUR", "JPY"}
	for day := range 4 {
		for _, currency := range currencies {
			publish(buy(fmt.Sprint(currency, day), currency, monday.AddDate(0, 0, day)))
		}
	}
	moved := buy("CNY0", "CNY", monday.Add(time.Minute))
	moved.Kind, moved.ID, moved.PaymentChannel = events.PaymentRerouted, "moved", "nosuch"
	publish(moved)
	r.verifies()
	var id string
	r.eventually(db, "SELECT count() FROM payments WHERE type = 'payment.rerouted' AND verdict = 'decline' AND has(reasons, 'R_NOROUTE')")
	if err := db.QueryRow(t.Context(), "SELECT decision_id FROM payments WHERE type = 'payment.rerouted'").Scan(&id); err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	if err := Explain(t.Context(), r.Addresses.ClickHouse, ExplainOptions{ID: id}, &told); err != nil || !strings.Contains(told.String(), "asks for nosuch, which is no channel") ||
		!strings.Contains(told.String(), "decline for want of a payment channel (R_NOROUTE)") || strings.Contains(told.String(), "in doubt") {
		t.Errorf("%v\n%s", err, &told)
	}
	settle := func(day int) (string, error) {
		var out strings.Builder
		err := Settle(t.Context(), r.Config, SettleOptions{CutOff: monday.AddDate(0, 0, day), Anyway: true, Out: &out, Progress: func(string, int64, int64) {}})
		return out.String(), err
	}
	if said, err := settle(0); err != nil || strings.Contains(said, "declined") {
		t.Fatalf("%v\n%s", err, said)
	}
	book, err := pgx.Connect(t.Context(), r.Addresses.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close(t.Context())
	count := func(sql string) (n int) {
		t.Helper()
		if err := book.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count("SELECT count(*) FROM payments WHERE purpose = 'payout' AND status = 'posted'"); n != len(currencies) {
		t.Errorf("%d payouts are posted", n)
	}
	if n := count("SELECT count(*) FROM accounts WHERE key LIKE 'clearing:nosuch%'"); n != 0 {
		t.Error("there is an account of a channel that nobody knows")
	}
	table := func(version int, replace ...string) {
		t.Helper()
		text := strings.NewReplacer(append(replace, "version: 2", fmt.Sprint("version: ", version))...).Replace(string(routing.Standard))
		live, err := routing.Load("channels.yaml", []byte(text))
		if err == nil {
			err = r.PublishChannels(t.Context(), live, "ann")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	table(3, "name: bank-a", "name: bank-b")
	if _, err := settle(1); err == nil || !strings.Contains(err.Error(), "the channel bank-a, which is no channel") || !strings.Contains(err.Error(), "bank-b, backup") {
		t.Errorf("terms that no channel fits: %v", err)
	}
	if n := count("SELECT count(*) FROM settlement_batches WHERE day > '2026-03-02'"); n != 0 {
		t.Errorf("%d batches are made nevertheless", n)
	}
	table(4, "fees: [{currency: CNY, bps: 0", "limits: {CNY: {max: 1.00}, USD: {max: 1.00}, EUR: {max: 1.00}, JPY: {max: 1}}\n    fees: [{currency: CNY, bps: 0")
	for n := 0; ; n++ { // until the gate has it
		e := buy(fmt.Sprint("probe", n), "CNY", monday.AddDate(0, 0, 3))
		e.Method, e.PaymentChannel = eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER, "bank-a"
		publish(e)
		r.verifies()
		if count("SELECT count(*) FROM payments WHERE id LIKE 'probe%' AND status = 'declined'") > 0 {
			break
		}
	}
	for range 2 { // the second orders nothing, and still says so
		said, err := settle(1)
		if err == nil || !strings.Contains(err.Error(), "4 orders of this or the last batch were declined") || !strings.Contains(said, "4 payout orders of this or the last batch: declined by the gate; the first: sluice explain payments/") {
			t.Errorf("declined payouts: %v\n%s", err, said)
		}
	}
}
