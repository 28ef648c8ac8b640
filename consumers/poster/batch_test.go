package poster

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/deploy/embedded/enginestest"
	"sluice/pipelines/payments"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

const (
	byWallet = eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET
	byCard   = eventsv1.PaymentMethod_PAYMENT_METHOD_CARD
	byBank   = eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER

	topUp    = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP
	transfer = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER
	purchase = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE
)

var (
	cny   = events.MustCurrency("CNY")
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// migrated returns the URL of a book of the test's own.
func migrated(t testing.TB) string {
	t.Helper()
	url := enginestest.New(t, enginestest.Postgres).PostgresURL
	if err := Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	return url
}

// writer posts batches without Kafka: it plays the topics and the group.
type writer struct {
	*session
	owned map[part]ownership
	opts  options
}

func newWriter(t testing.TB, url string, parts ...part) *writer {
	t.Helper()
	conn, err := connect(t.Context(), url, "test", DefaultBatchTimeout, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeConn(conn) })
	owned, err := own(t.Context(), conn, parts)
	if err != nil {
		t.Fatal(err)
	}
	return &writer{newSession(conn), owned,
		options{payments.StandardFees(), DefaultBatchTimeout, func(topic string) string { return topic }}}
}

// decided makes the record of a decision as the gate writes it. at is its offset on the decided topic; the event stood
// at the same offset of the input topic.
func decided(t testing.TB, shard int32, at int64, d events.Decision) *kgo.Record {
	t.Helper()
	if d.Verdict == events.NoVerdict {
		d.Verdict = events.Approve
	}
	e := &d.Event
	if e.Kind == events.KindUnknown {
		e.Kind = events.PaymentInitiated
	}
	if e.Time.IsZero() {
		e.Time = start.Add(time.Duration(at) * time.Second)
	}
	if e.Source == "" {
		e.Source = "app"
	}
	if e.ID == "" {
		e.ID = fmt.Sprintf("e%d.%d", shard, at)
	}
	if e.PaymentID == "" && e.Kind.Family() == events.Payment {
		e.PaymentID = fmt.Sprintf("p%d.%d", shard, at)
	}
	if e.Currency == 0 {
		e.Currency = cny
	}
	d.Topic, d.Partition, d.Offset, d.Received = e.Kind.Family().Topic(), shard, at, e.Time
	_, value, err := events.EncodeDecision(&d)
	if err != nil {
		t.Fatal(err)
	}
	return &kgo.Record{Topic: d.Topic + ".decided", Partition: shard, Offset: at, Key: []byte(e.CustomerID), Value: value, Timestamp: e.Time}
}

func payment(purpose eventsv1.PaymentPurpose, method eventsv1.PaymentMethod, from, to string, amount int64) events.Decision {
	e := events.Event{Kind: events.PaymentInitiated, CustomerID: from, Purpose: purpose, Method: method, Amount: amount, Currency: cny}
	switch purpose {
	case transfer:
		e.CounterpartyID = to
	case purchase:
		e.MerchantID = to
	}
	return events.Decision{Event: e}
}

// batch makes a batch of records, claiming the partitions up to behind them.
func (w *writer) batch(records ...*kgo.Record) *batch {
	next := map[part]int64{}
	for _, r := range records {
		next[part{r.Topic, r.Partition}] = r.Offset + 1
	}
	var claims []claim
	for at, n := range next {
		claims = append(claims, claim{at.topic, at.partition, w.owned[at].epoch, w.owned[at].next, n})
	}
	return newBatch(records, claims)
}

func (w *writer) send(ctx context.Context, records ...*kgo.Record) (*batch, error) {
	b := w.batch(records...)
	err := w.post(ctx, b, w.opts)
	if err == nil {
		for _, c := range b.claims {
			w.owned[part{c.topic, c.partition}] = ownership{c.epoch, c.next}
		}
	}
	return b, err
}

func (w *writer) must(t testing.TB, records ...*kgo.Record) *batch {
	t.Helper()
	b, err := w.send(t.Context(), records...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func codes(b *batch) []string {
	var all []string
	for i := range b.entries {
		all = append(all, b.entries[i].code)
	}
	return all
}

func reader(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func one[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func list(t testing.TB, conn *pgx.Conn, sql string, args ...any) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return all
}

var payments0 = part{schemas.PaymentsDecided, 0}

// One transfer that the book refuses leaves its neighbours alone.
func TestInsufficientFundsRejectOneTransfer(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	w, conn := newWriter(t, url, payments0), reader(t, url)
	b := w.must(t,
		decided(t, 0, 0, payment(topUp, byBank, "A", "", 1000)),
		decided(t, 0, 1, payment(transfer, byWallet, "A", "B", 1001)),
		decided(t, 0, 2, payment(purchase, byWallet, "A", "M", 600)),
		decided(t, 0, 3, payment(transfer, byWallet, "A", "A", 1)),
		decided(t, 0, 4, payment(transfer, byWallet, "A", "B", 400)),
	)
	want := []string{"posted", "insufficient_funds", "posted", "same_account", "posted"}
	if got := codes(b); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	got := list(t, conn, `SELECT account || ' ' || balance FROM balances WHERE balance <> 0 ORDER BY account`)
	if want := []string{"clearing:bank_transfer:CNY 10.00", "fees:CNY 0.04", "merchant:M:CNY 5.96", "wallet:B:CNY 4.00"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("balances %v, want %v", got, want)
	}
	checkBook(t, conn)
}
