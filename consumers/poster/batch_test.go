package poster

import (
	"context"
	"errors"
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

	withdrawal = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL
)

var (
	cny   = events.MustCurrency("CNY")
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// empty returns the URL of a schema of the test's own without tables.
func empty(t testing.TB) string {
	t.Helper()
	return enginestest.New(t, enginestest.Postgres).PostgresURL
}

// migrated returns the URL of a book of the test's own.
func migrated(t testing.TB) string {
	t.Helper()
	url := empty(t)
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
		options{payments.Standard{Fees: payments.StandardFees()}, DefaultBatchTimeout, func(topic string) string { return topic }}}
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

// A poster that lost its partition to another posts nothing, however often it tries.
func TestZombiePostsNothing(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	conn := reader(t, url)
	zombie := newWriter(t, url, payments0)
	first := decided(t, 0, 0, payment(topUp, byBank, "A", "", 1000))
	zombie.must(t, first)
	heir := newWriter(t, url, payments0)
	if o := heir.owned[payments0]; o.next != 1 {
		t.Fatalf("the heir starts at %d, want 1", o.next)
	}
	late := decided(t, 0, 1, payment(topUp, byBank, "A", "", 70))
	for range 2 {
		if _, err := zombie.send(t.Context(), late); !errors.Is(err, errFenced) {
			t.Fatalf("the zombie's batch: %v", err)
		}
		if _, err := zombie.conn.Exec(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
	}
	heir.must(t, late)
	if _, err := zombie.send(t.Context(), decided(t, 0, 2, payment(topUp, byBank, "A", "", 5))); !errors.Is(err, errFenced) {
		t.Errorf("the zombie's batch behind the heir's: %v", err)
	}
	if got := one[int64](t, conn, "SELECT balance FROM accounts WHERE key = 'wallet:A:CNY'"); got != 1070 {
		t.Errorf("balance %d, want 1070", got)
	}
	checkBook(t, conn)
}

// An event counts once, whether the gate marks it, or the same event stands at two places, in one batch or two.
func TestSameEventTwice(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	w, conn := newWriter(t, url, payments0, part{schemas.PaymentsDecided, 1}), reader(t, url)
	event := func(shard int32, at int64, verdict events.Verdict) *kgo.Record {
		d := payment(topUp, byBank, "A", "", 1000)
		d.Event.ID, d.Event.PaymentID, d.Verdict = "same", "P", verdict
		return decided(t, shard, at, d)
	}
	var got []string
	for _, records := range [][]*kgo.Record{
		{event(0, 0, events.Approve), event(0, 1, events.Approve), event(1, 0, events.Approve)},
		{event(0, 2, events.Approve), event(0, 3, events.Duplicate)},
		{event(1, 1, events.Approve), decided(t, 1, 2, func() events.Decision {
			d := payment(topUp, byBank, "A", "", 1000)
			d.Event.PaymentID = "P"
			return d
		}())},
	} {
		got = append(got, codes(w.must(t, records...))...)
	}
	want := []string{"posted", "duplicate", "duplicate", "duplicate", "duplicate", "duplicate", "payment_exists"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := one[int64](t, conn, "SELECT balance FROM accounts WHERE key = 'wallet:A:CNY'"); got != 1000 {
		t.Errorf("balance %d, want 1000", got)
	}
	checkBook(t, conn)
}

// What cannot be read or kept takes its place in the results and leaves its neighbours alone.
func TestUnreadableRecordsBlockNothing(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	w, conn := newWriter(t, url, payments0), reader(t, url)
	broken := func(at int64, change func(*events.Decision)) *kgo.Record {
		d := payment(topUp, byBank, "A", "", 1000)
		change(&d)
		return decided(t, 0, at, d)
	}
	elsewhere := decided(t, 0, 7, payment(topUp, byBank, "B", "", 5)) // another event from the place of offset 0
	elsewhere.Value = decided(t, 0, 0, func() events.Decision {
		d := payment(topUp, byBank, "B", "", 5)
		d.Event.ID, d.Event.PaymentID = "other", "other"
		return d
	}()).Value
	b := w.must(t,
		decided(t, 0, 0, payment(topUp, byBank, "A", "", 1000)),
		&kgo.Record{Topic: schemas.PaymentsDecided, Offset: 1, Key: []byte{0, 255}, Value: []byte("\x00not a decision"), Headers: []kgo.RecordHeader{{Key: "h\x00", Value: nil}}},
		broken(2, func(d *events.Decision) { d.Event.ID = "zero\x00byte" }),
		broken(3, func(d *events.Decision) { d.Event.Time = time.UnixMicro(1 << 61) }),
		broken(4, func(d *events.Decision) { d.Event.Source = string(make([]byte, 10_000)) }),
		&kgo.Record{Topic: schemas.PaymentsDecided, Offset: 5},
		decided(t, 0, 6, payment(transfer, byWallet, "A", "B", 400)),
		elsewhere,
	)
	want := []string{"posted", "unreadable", "unreadable", "unreadable", "unreadable", "unreadable", "posted", "unreadable"}
	if got := codes(b); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := one[int](t, conn, "SELECT count(*) FROM unreadable JOIN results USING (shard, sequence) WHERE code = 'unreadable'"); got != 6 {
		t.Errorf("%d originals are kept, want 6", got)
	}
	if got := one[[]byte](t, conn, "SELECT value FROM unreadable WHERE record_offset = 1"); string(got) != "\x00not a decision" {
		t.Errorf("kept %q", got)
	}
	checkBook(t, conn)
}

// A loan's way through the book: its rows can be read by people.
func TestLoan(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	loans := part{schemas.LoansDecided, 0}
	w, conn := newWriter(t, url, loans), reader(t, url)
	loan := func(at int64, kind events.Kind, amount int64, verdict events.Verdict) *kgo.Record {
		return decided(t, 0, at, events.Decision{Verdict: verdict, Event: events.Event{Kind: kind, CustomerID: "A", LoanID: "L", Product: "cash",
			Amount: amount, TermMonths: 3, AnnualRate: 120_000, Currency: cny}})
	}
	var got []string
	for i, r := range []*kgo.Record{
		loan(0, events.LoanAccepted, 3000_00, events.Approve),
		loan(1, events.LoanApplied, 3000_00, events.Approve),
		loan(2, events.LoanAccepted, 3000_00, events.Approve),
		loan(3, events.LoanRepaid, 1020_07, events.Observed),
		loan(4, events.LoanRepaid, 90_000_00, events.Observed),
	} {
		b := w.must(t, r)
		got = append(got, codes(b)...)
		if i == 3 {
			checkBook(t, conn)
		}
	}
	if want := []string{"loan_unknown", "recorded", "posted", "posted", "overpayment"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := one[string](t, conn, `SELECT status || ' ' || principal || ' ' || paid_principal + paid_interest FROM loans`); got != "active 300000 102007" {
		t.Errorf("the loan's row says %q", got)
	}
	if got := one[string](t, conn, `SELECT count(*) || ' ' || sum(principal) || ' ' || sum(paid_principal + paid_interest) FROM instalments`); got != "3 300000 102007" {
		t.Errorf("the instalments say %q", got)
	}
	if got := list(t, conn, `SELECT kind || ' ' || debit || ' ' || credit FROM journal ORDER BY id`); len(got) != 3 || got[0] != "loan_disbursement loan:L:CNY wallet:A:CNY" {
		t.Errorf("the journal says %q", got)
	}
	checkBook(t, conn)
}

// Two posters open the same new accounts and move money between them in opposite directions at once.
func TestPostersMeetOnNewAccounts(t *testing.T) {
	t.Parallel()
	url := migrated(t)
	conn := reader(t, url)
	const rounds, customers = 10, 8
	done := make(chan error, 2)
	for shard := range int32(2) {
		w := newWriter(t, url, part{schemas.PaymentsDecided, shard})
		go func() {
			for round := range int64(rounds) {
				var records []*kgo.Record
				for i := range int64(customers) {
					to := i
					if shard == 1 {
						to = customers - 1 - i
					}
					d := payment(transfer, byCard, fmt.Sprintf("payer%d", shard), fmt.Sprintf("payee%d.%d", round, to), 10)
					records = append(records, decided(t, shard, round*customers+i, d))
				}
				if _, err := w.send(context.Background(), records...); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := one[int64](t, conn, "SELECT sum(balance)::bigint FROM accounts WHERE type = 'wallet'"); got != 2*rounds*customers*10 {
		t.Errorf("the wallets hold %d, want %d", got, 2*rounds*customers*10)
	}
	checkBook(t, conn)
}
