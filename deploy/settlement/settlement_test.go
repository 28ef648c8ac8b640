package settlement

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/poster"
	"sluice/consumers/stream"
	"sluice/deploy/embedded/enginestest"
	"sluice/pipelines/reconcile"
	"sluice/pipelines/settlement"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

// patience bounds the wait for something that must happen; no test depends on how long it takes.
const patience = 2 * time.Minute

var cny = events.MustCurrency("CNY")

const terms = `
settlement: test
house: {holder: The House, account: DE89370400440532013000, bic: COBADEFFXXX}
calendars:
  utc: {time_zone: UTC, cut_off: "24:00"}
defaults:
  merchant: {calendar: utc, cycle: T+1, payout: {channel: bank_transfer, method: bank_transfer, account: GB29NWBK60161331926819, bic: NWBKGB2L, holder: A Merchant}}
  channel: {calendar: utc, cycle: T+2, fee: {basis_points: 50}}
merchants:
  M0: {reserve: {rate: "0.1", days: 7}}
  M1: {minimum: {CNY: "100000.00"}}
`

// world is a book with a poster, fed with decided events, and a store.
type world struct {
	*Store
	t      testing.TB
	db     *pgx.Conn
	client *kgo.Client
	config stream.Config
	mu     sync.Mutex
	sent   int64
	says   func(*events.Event) events.Verdict // nil: approve
}

// newWorld opens a book on engines of its own schema.
func newWorld(t testing.TB) *world {
	t.Helper()
	env := enginestest.New(t, enginestest.Kafka, enginestest.Postgres)
	parsed, err := settlement.Parse("terms.yaml", []byte(terms))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Store: &Store{Postgres: env.PostgresURL, Terms: parsed}, t: t,
		config: stream.Config{Brokers: env.Kafka, Prefix: env.Prefix, Partitions: 2}.Fill()}
	if err := poster.Migrate(t.Context(), w.Postgres); err != nil {
		t.Fatal(err)
	}
	if err := w.config.EnsureTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.db, err = pgx.Connect(t.Context(), w.Postgres); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close(context.Background()) })
	if w.client, err = w.config.Client(kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	var group sync.WaitGroup
	group.Go(func() {
		c := poster.Config{Config: w.config, Postgres: w.Postgres}
		if err := c.Supervise(t.Context(), "poster", func(ctx context.Context) error { return poster.Run(ctx, c) }); err != nil {
			t.Errorf("the poster ended: %v", err)
		}
	})
	t.Cleanup(group.Wait)
	return w
}

// PublishAsync stands for the gate: it approves an event and puts it on the decided topic.
func (w *world) PublishAsync(ctx context.Context, e *events.Event, done func(error)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	partition := int32(e.CustomerID[len(e.CustomerID)-1] % 2)
	d := events.Decision{Event: *e, Verdict: events.Approve, Topic: schemas.Payments, Partition: partition, Offset: w.sent, Received: e.Time}
	if d.Event.ID == "" {
		d.Event.ID, d.Event.Source = fmt.Sprint("e", w.sent), "app"
	}
	if w.says != nil {
		d.Verdict = w.says(e)
	}
	w.sent++
	_, value, err := events.EncodeDecision(&d)
	if err != nil {
		return err
	}
	w.client.Produce(ctx, &kgo.Record{Topic: w.config.Topic(schemas.PaymentsDecided), Partition: partition, Value: value}, func(_ *kgo.Record, err error) {
		if done != nil {
			done(err)
		}
	})
	return nil
}

// Flush is Publisher.
func (w *world) Flush(ctx context.Context) error { return w.client.Flush(ctx) }

// post has the book post events and waits until it has answered.
func (w *world) post(all ...events.Event) {
	w.t.Helper()
	for i := range all {
		if err := w.PublishAsync(w.t.Context(), &all[i], nil); err != nil {
			w.t.Fatal(err)
		}
	}
	w.answered()
}

// answered waits until the book has answered everything that was sent.
func (w *world) answered() {
	w.t.Helper()
	if err := w.Flush(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for w.one("SELECT count(*) FROM results") < w.sent {
		if time.Now().After(deadline) {
			w.t.Fatalf("%d of %d events are in the book", w.one("SELECT count(*) FROM results"), w.sent)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (w *world) one(sql string, args ...any) (n int64) {
	w.t.Helper()
	if err := w.db.QueryRow(w.t.Context(), sql, args...).Scan(&n); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

var monday = date("2026-03-02")

func date(text string) settlement.Day {
	d, err := reconcile.ParseDay(text)
	if err != nil {
		panic(err)
	}
	return d
}

// purchase is an approved purchase by card at a merchant.
func purchase(id, merchant string, amount int64, at time.Time) events.Event {
	return events.Event{Kind: events.PaymentInitiated, PaymentID: id, CustomerID: "C" + id[len(id)-1:], MerchantID: merchant, Amount: amount, Currency: cny, Time: at,
		Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE, Method: eventsv1.PaymentMethod_PAYMENT_METHOD_CARD}
}

// later is a later event of a payment.
func later(e events.Event, kind events.Kind, amount int64, at time.Time) events.Event {
	e.ID, e.Kind, e.Amount, e.Time = "", kind, amount, at
	return e
}

// day posts purchases and refunds of a day at merchants M0 to Mn-1, and an event of each shard that ends the day.
func (w *world) day(d settlement.Day, n, merchants int, random *rand.Rand) {
	w.t.Helper()
	var all []events.Event
	for i := range n {
		at := d.Time().Add(time.Duration(random.Int64N(int64(24 * time.Hour))))
		e := purchase(fmt.Sprintf("P-%s-%06d", d, i), fmt.Sprint("M", i%merchants), 1000+random.Int64N(100_000), at)
		all = append(all, e)
		if i%10 == 0 {
			all = append(all, later(e, events.PaymentRefunded, e.Amount/2, at.Add(time.Minute)))
		}
	}
	w.post(append(all, w.end(d)...)...)
}

// end is an event of each shard after a day's end.
func (w *world) end(d settlement.Day) (all []events.Event) {
	for i := range 2 {
		e := purchase(fmt.Sprintf("END-%s-%d", d, i), "LAST", 100, (d + 1).Time().Add(time.Hour))
		all = append(all, e)
	}
	return all
}

// settle makes the batches of a day, publishes what they order and waits for the book.
func (w *world) settle(d settlement.Day) Outcome {
	w.t.Helper()
	out, err := w.Settle(w.t.Context(), Options{Until: d})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.Publish(w.t.Context(), w); err != nil {
		w.t.Fatal(err)
	}
	w.answered()
	return out
}

// sound checks what must always hold of the tables and the book.
func (w *world) sound() {
	w.t.Helper()
	for what, sql := range map[string]string{
		"transfers before a merchant's last cut-off that are in no batch": `
			SELECT count(*) FROM (SELECT credit_account AS account, credit_version AS version, event_time, shard, sequence, kind FROM transfers
				UNION ALL SELECT debit_account, debit_version, event_time, shard, sequence, kind FROM transfers) t
			JOIN accounts a ON a.id = t.account AND a.type = 'merchant' JOIN results r USING (shard, sequence)
			LEFT JOIN settlement_orders o ON o.id = r.payment_id
			WHERE t.event_time < (SELECT max(cut_off) FROM settlement_batches b WHERE b.kind = 'merchant' AND b.party = substr(a.key, 10, length(a.key) - 13) AND b.currency = a.currency)
				AND (o.id IS NULL OR o.purpose <> t.kind)
				AND NOT EXISTS (SELECT FROM settlement_lines l WHERE l.account = t.account AND l.version = t.version)`,
		"batches whose lines do not come to what they say": `
			SELECT count(*) FROM settlement_batches b WHERE gross + fees + refunds + charge_backs + other <>
				(SELECT coalesce(sum(amount) FILTER (WHERE class NOT IN ('own', 'returned')), 0) FROM settlement_lines l WHERE l.batch = b.id)
				OR lines <> (SELECT count(*) FROM settlement_lines l WHERE l.batch = b.id)`,
		"coverage that says more than the lines": `
			SELECT count(*) FROM settlement_coverage c WHERE version > (SELECT count(*) FROM settlement_lines l WHERE l.account = c.account AND l.version <= c.version)`,
		"orders that do not come to what batches ordered": `
			SELECT count(*) FROM settlement_batches b WHERE kind = 'merchant' AND payout + held + released <> (SELECT coalesce(sum(amount), 0) FROM settlement_orders o WHERE o.batch = b.id)`,
		"reserves that are neither released nor open": `
			SELECT abs(coalesce(sum(held - released), 0) - (SELECT coalesce(sum(amount), 0) FROM settlement_reserves r WHERE NOT EXISTS
				(SELECT FROM settlement_releases x WHERE x.reserve_batch = r.batch AND x.reserve_number = r.number))) FROM settlement_batches`,
	} {
		if n := w.one(sql); n != 0 {
			w.t.Errorf("%d %s", n, what)
		}
	}
}

// paidOut checks, once the book has posted every order, that each merchant is owed what was carried and what came after.
func (w *world) paidOut() {
	w.t.Helper()
	if n := w.one(`SELECT count(*) FROM accounts a
		JOIN LATERAL (SELECT carried FROM settlement_batches b WHERE b.kind = 'merchant' AND b.party = substr(a.key, 10, length(a.key) - 13) AND b.currency = a.currency
			ORDER BY day DESC LIMIT 1) b ON true
		WHERE a.type = 'merchant' AND a.balance <> b.carried + coalesce((SELECT sum(CASE WHEN t.credit_account = a.id THEN t.amount ELSE -t.amount END)
			FROM transfers t JOIN results r USING (shard, sequence) LEFT JOIN settlement_orders o ON o.id = r.payment_id
			WHERE (t.credit_account = a.id AND NOT EXISTS (SELECT FROM settlement_lines l WHERE l.account = a.id AND l.version = t.credit_version)
				OR t.debit_account = a.id AND NOT EXISTS (SELECT FROM settlement_lines l WHERE l.account = a.id AND l.version = t.debit_version))
				AND (o.id IS NULL OR o.purpose <> t.kind)), 0)`); n != 0 {
		w.t.Errorf("%d merchants are not owed what was carried", n)
	}
}

// The whole way: purchases, a run, the payouts posted, what was below the minimum carried, a reserve held and released, a payout
// that failed paid again.
func TestMerchantsArePaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	random := rand.New(rand.NewPCG(1, 2))
	w.day(monday, 200, 5, random)
	out := w.settle(monday)
	if out.Batches != 6 || out.Orders != 5 { // five merchants and the card channel; M0 with a reserve, M1 below its minimum
		t.Fatalf("%+v", out)
	}
	w.sound()
	w.paidOut()
	if n := w.one("SELECT count(*) FROM payments WHERE purpose = 'payout' AND status = 'posted'"); n != 4 {
		t.Fatalf("%d payouts are posted", n)
	}
	if held := w.one("SELECT held FROM settlement_batches WHERE party = 'M0'"); held == 0 || held != w.one("SELECT balance FROM accounts WHERE key = 'reserve:M0:CNY'") {
		t.Errorf("%d is held", held)
	}
	if w.one("SELECT carried FROM settlement_batches WHERE party = 'M1'") == 0 || w.one("SELECT payout FROM settlement_batches WHERE party = 'M1'") != 0 {
		t.Error("M1 is paid less than its minimum")
	}
	// Once more: nothing changes.
	if again := w.settle(monday); again.Batches != 0 || again.Orders != 0 {
		t.Fatalf("another run: %+v", again)
	}
	// By other terms: most likely a file that was forgotten.
	other := &Store{Postgres: w.Postgres, Terms: settlement.Standard()}
	if _, err := other.Settle(t.Context(), Options{Until: monday}); err == nil || !strings.Contains(err.Error(), "--new-terms") {
		t.Errorf("other terms: %v", err)
	}
	// M2's bank sends the payout back: the next batch pays it again.
	order := w.one("SELECT payout FROM settlement_batches WHERE party = 'M2'")
	back := events.Event{ID: "back", Source: "bank", Kind: events.PaymentFailed, Time: (monday + 1).Time().Add(2 * time.Hour), CustomerID: "M2", MerchantID: "M2",
		PaymentID: "settlement/2026-03-02/M2/CNY/payout", Amount: order, Currency: cny, Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT}
	w.post(back)
	settled := back
	settled.ID, settled.Kind, settled.CustomerID, settled.MerchantID, settled.PaymentID = "settled", events.PaymentSettled, "M3", "M3", "settlement/2026-03-02/M3/CNY/payout"
	settled.Amount = w.one("SELECT payout FROM settlement_batches WHERE party = 'M3'")
	w.post(settled)
	w.day(monday+1, 100, 5, random)
	w.settle(monday + 1)
	w.sound()
	w.paidOut()
	if got := w.one("SELECT returned FROM settlement_batches WHERE party = 'M2' AND day = '2026-03-03'"); got != order {
		t.Errorf("%d came back to M2, want %d", got, order)
	}
	if n := w.one("SELECT count(*) FROM payments WHERE status = 'settled' AND purpose = 'payout'"); n != 1 {
		t.Errorf("%d payouts are settled", n)
	}
	// The reserve of Monday is due on Monday after.
	for d := monday + 2; d <= monday+7; d++ {
		w.post(w.end(d)...)
		if d.Time().Weekday() != time.Saturday && d.Time().Weekday() != time.Sunday {
			w.settle(d)
		}
	}
	w.sound()
	w.paidOut()
	if n := w.one("SELECT count(*) FROM settlement_batches WHERE party = 'M0' AND day = '2026-03-09' AND released = (SELECT held FROM settlement_batches WHERE party = 'M0' AND day = '2026-03-02')"); n != 1 {
		t.Error("the reserve of Monday is not released after seven days")
	}
	if n := w.one("SELECT count(*) FROM settlement_orders o WHERE published AND NOT EXISTS (SELECT FROM payments p WHERE p.id = o.id AND p.status IN ('posted', 'settled', 'failed'))"); n != 0 {
		t.Errorf("%d orders are not posted", n)
	}
}

// What comes late falls into the next batch, and a cut-off that a shard has not passed is refused.
func TestLateTransfersFallIntoTheNextBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := purchase("P-1", "M7", 5000, monday.Time().Add(time.Hour))
	w.post(e)
	if _, err := w.Settle(t.Context(), Options{Until: monday}); err == nil {
		t.Fatal("a cut-off that the book has not passed is settled")
	}
	w.post(w.end(monday)...)
	w.settle(monday)
	late := purchase("P-2", "M7", 700, monday.Time().Add(2*time.Hour))
	future := purchase("P-3", "M7", 90, (monday + 2).Time().Add(time.Hour))
	after := purchase("P-4", "M7", 8, (monday + 1).Time().Add(time.Hour))
	w.post(late, future, after)
	w.post(w.end(monday + 1)...)
	w.settle(monday + 1)
	w.sound()
	if got := w.one("SELECT gross FROM settlement_batches WHERE party = 'M7' AND day = '2026-03-03'"); got != 708 {
		t.Errorf("the second batch has %d", got)
	}
	w.post(w.end(monday + 2)...)
	w.settle(monday + 2)
	w.sound()
	if got := w.one("SELECT gross FROM settlement_batches WHERE party = 'M7' AND day = '2026-03-04'"); got != 90 {
		t.Errorf("the third batch has %d", got)
	}
}

// A payout that the book refuses, since the money went elsewhere after the cut-off, comes back into the next batch.
func TestRefusedPayoutsComeBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := purchase("P-1", "M7", 5000, monday.Time().Add(time.Hour))
	w.post(e)
	w.post(w.end(monday)...)
	w.post(later(e, events.PaymentRefunded, 3000, (monday + 1).Time().Add(time.Hour)))
	w.settle(monday)
	if n := w.one("SELECT count(*) FROM payments WHERE purpose = 'payout' AND merchant_id = 'M7' AND status = 'rejected'"); n != 1 {
		t.Fatal("the payout is not refused")
	}
	// A run tells what was refused of its own orders and the last ones; not what an earlier one has taken back.
	tells := func(upTo int64, want int) {
		t.Helper()
		refused, err := w.Refused(t.Context(), upTo)
		if err != nil || len(refused) != want {
			t.Fatalf("%+v, %v", refused, err)
		}
		var said strings.Builder
		if declined, err := PrintRefused(&said, refused); err != nil || declined != 0 || want > 0 && !strings.Contains(said.String(), "1 payout orders of this or the last batch: refused by the book (insufficient_funds); the first: sluice explain payments/") {
			t.Errorf("%d, %v: %s", declined, err, &said)
		}
	}
	tells(0, 1)
	w.post(w.end(monday + 1)...)
	out := w.settle(monday + 1)
	tells(out.Before, 1)
	w.post(w.end(monday + 2)...)
	out = w.settle(monday + 2)
	tells(out.Before, 0)
	w.sound()
	w.paidOut()
	if got := w.one("SELECT payout FROM settlement_batches WHERE party = 'M7' AND day = '2026-03-03'"); got != 5000-30-3000 {
		t.Errorf("%d is paid", got)
	}
}

// A payout that was in review and is then cancelled, by a void or as failed, has moved no money: it comes back as a refused one does. So
// does one that the book has refused and the bank then reports as failed.
func TestCancelledPayoutsComeBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		verdict events.Verdict
		kind    events.Kind
		source  string
	}{
		"review, voided":   {events.Review, events.PaymentVoided, "app"},
		"review, failed":   {events.Review, events.PaymentFailed, "app"},
		"declined, failed": {events.Decline, events.PaymentFailed, "app"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.post(purchase("P-1", "M7", 5000, monday.Time().Add(time.Hour)))
			w.post(w.end(monday)...)
			var payout events.Event
			w.says = func(e *events.Event) events.Verdict {
				if e.Purpose == eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT && e.MerchantID == "M7" && payout.PaymentID == "" {
					payout = *e
					return c.verdict
				}
				return events.Approve
			}
			w.settle(monday)
			w.post(later(payout, c.kind, payout.Amount, (monday + 1).Time().Add(time.Hour)))
			w.post(w.end(monday + 1)...)
			w.settle(monday + 1)
			w.sound()
			if got := w.one("SELECT coalesce(sum(o.amount), 0)::bigint FROM settlement_orders o JOIN payments p USING (id) WHERE o.party = 'M7' AND p.status = 'posted'"); got != 5000-30 {
				t.Errorf("%d is paid, %d is owed", got, 5000-30)
			}
		})
	}
}

// A file tells the channel that carries a payout to pay it, which may be another than the terms named; and nobody but the
// house takes an order's id.
func TestFilesFollowTheBook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post(purchase("P-1", "M7", 5000, monday.Time().Add(time.Hour)), purchase("P-2", "M8", 7000, monday.Time().Add(time.Hour)))
	w.post(purchase("settlement/2026-03-02/M8/CNY/payout", "M9", 100, monday.Time().Add(2*time.Hour)))
	w.post(w.end(monday)...)
	var payout events.Event
	w.says = func(e *events.Event) events.Verdict {
		if e.Purpose == eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PAYOUT && e.MerchantID == "M7" {
			payout = *e
		}
		return events.Approve
	}
	w.settle(monday)
	e := later(payout, events.PaymentRerouted, payout.Amount, (monday + 1).Time().Add(time.Hour))
	e.PaymentChannel = "other_bank"
	w.post(e)
	if _, err := w.MakeFiles(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.one("SELECT count(*) FROM settlement_orders o JOIN settlement_files f ON f.id = o.file WHERE o.party = 'M7' AND f.payment_channel = 'other_bank'"); n != 1 {
		t.Error("the payout is not in a file of the channel that carries it")
	}
	if n := w.one("SELECT count(*) FROM settlement_orders o JOIN payments p USING (id) WHERE o.party = 'M8' AND o.file IS NOT NULL AND p.purpose = 'payout' AND p.customer_id = 'M8'"); n != 1 {
		t.Error("the file does not pay what the book has posted to M8")
	}
}

// Of runs at once to different folders, as of two hosts, one writes the file: a bank is told once.
func TestFilesAreWrittenOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post(purchase("P-1", "M7", 5000, monday.Time().Add(time.Hour)))
	w.post(w.end(monday)...)
	w.settle(monday)
	if _, err := w.MakeFiles(t.Context()); err != nil {
		t.Fatal(err)
	}
	const runs = 6
	var paths [runs]int
	var group sync.WaitGroup
	for i := range runs {
		folder := t.TempDir()
		group.Go(func() {
			out, err := w.WriteFiles(t.Context(), folder, 0)
			if paths[i] = len(out.Paths); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	slices.Sort(paths[:])
	if want := [runs]int{runs - 1: len(settlement.FileNames)}; paths != want {
		t.Errorf("files written by each run: %v", paths)
	}
}

// A run that is killed at any step, and started again, comes to what one run comes to; each order is posted once.
func TestCrashAtEachStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.day(monday, 300, 20, rand.New(rand.NewPCG(3, 4)))
	crashed := errors.New("crashed")
	for _, step := range []string{"read", "batches", "lines", "covers", "orders", "reserves", "committed", "published"} {
		met := false
		w.crash = func(at string) error {
			if at == step {
				met = true
				return crashed
			}
			return nil
		}
		_, err := w.Settle(t.Context(), Options{Until: monday})
		if err == nil {
			_, err = w.Publish(t.Context(), w)
		}
		if !errors.Is(err, crashed) || !met {
			t.Fatalf("%s: %v", step, err)
		}
		w.sound()
	}
	w.crash = nil
	w.settle(monday)
	w.sound()
	w.paidOut()
	if n := w.one("SELECT count(*) - count(DISTINCT party) FROM settlement_batches"); n != 0 {
		t.Errorf("%d batches too many", n)
	}
	if sent, posted := w.one("SELECT count(*) FROM settlement_orders"), w.one("SELECT count(*) FROM transfers WHERE kind IN ('payout', 'reserve')"); sent != posted {
		t.Errorf("%d orders, %d transfers", sent, posted)
	}
}

// Runs at once come to what one comes to.
func TestRunsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.day(monday, 300, 20, rand.New(rand.NewPCG(5, 6)))
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if _, err := w.Settle(t.Context(), Options{Until: monday}); err != nil {
				t.Error(err)
			}
			if _, err := w.Publish(t.Context(), w); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	w.answered()
	w.sound()
	w.paidOut()
	if n := w.one("SELECT count(*) - count(DISTINCT party) FROM settlement_batches"); n != 0 {
		t.Errorf("%d batches too many", n)
	}
}

// What a channel owes is due on its value date, until its money is seen.
func TestChannelsPay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.day(monday, 50, 3, rand.New(rand.NewPCG(7, 8)))
	w.settle(monday)
	due, err := w.Due(t.Context())
	if err != nil || len(due) != 1 || due[0].Party != "card" || due[0].ValueDate != monday+2 || due[0].Due != due[0].Gross+due[0].Refunds-due[0].Fee {
		t.Fatalf("%+v, %v", due, err)
	}
	for _, amount := range []int64{1, due[0].Due * 98 / 100, due[0].Due * 102 / 100} {
		if _, err := w.Received(t.Context(), Receipt{Batch: due[0].ID, Amount: amount}); err == nil || !strings.Contains(err.Error(), "--anyway") {
			t.Errorf("%d of %d is taken: %v", amount, due[0].Due, err)
		}
	}
	for i := range 2 {
		seen, err := w.Received(t.Context(), Receipt{Batch: due[0].ID})
		if err != nil || seen.Known != (i > 0) || seen.Amount != due[0].Due {
			t.Fatalf("%+v, %v", seen, err)
		}
		var said strings.Builder
		if err := seen.Print(&said); err != nil || strings.Contains(said.String(), "known already") != (i > 0) {
			t.Errorf("%v: %s", err, &said)
		}
	}
	if _, err := w.Received(t.Context(), Receipt{Batch: due[0].ID, Amount: 1, Anyway: true}); err == nil {
		t.Error("another amount is taken")
	}
	if _, err := w.Publish(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	w.answered()
	if left, err := w.Due(t.Context()); err != nil || len(left) != 0 {
		t.Fatalf("%+v, %v", left, err)
	}
	if n := w.one("SELECT sum(amount) FROM transfers WHERE kind = 'clearing'"); n != due[0].Due {
		t.Errorf("%d cleared", n)
	}
	if bank, left := w.one("SELECT sum(balance) FROM accounts WHERE type = 'bank'"), w.one("SELECT sum(balance) FROM accounts WHERE type = 'clearing' AND key LIKE 'clearing:card%'"); bank != due[0].Due ||
		left != due[0].Fee+200 { // what it kept, and what came after the cut-off
		t.Errorf("the bank has %d, and the channel owes %d", bank, left)
	}
	w.post(w.end(monday + 1)...)
	w.settle(monday + 1)
	w.sound()
}

// What the house owes a channel is not overdue: it is taken off the first payment for a later batch, once. An amount that differs is taken
// if it is meant, and the difference said.
func TestChannelsAreOwed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	days := []settlement.Day{monday, monday + 1, monday + 2, monday + 3}
	e := purchase("P-1", "M1", 50_000, monday.Time().Add(time.Hour))
	w.post(append([]events.Event{e}, w.end(monday)...)...)
	w.settle(monday)
	w.post(append([]events.Event{later(e, events.PaymentRefunded, 20_000, days[1].Time().Add(2*time.Hour))}, w.end(days[1])...)...)
	w.settle(days[1])
	for i, d := range days[2:] {
		w.post(append([]events.Event{purchase(fmt.Sprint("P-", 2+i), "M1", 100_000, d.Time().Add(2*time.Hour))}, w.end(d)...)...)
		w.settle(d)
	}
	all, err := w.Due(t.Context())
	byCard := func(rows []Row) []Row {
		return slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return r.Party != "card" })
	}
	due := byCard(all)
	if err != nil || len(due) != 4 || due[1].Due != -19_802 {
		t.Fatalf("%+v, %v", due, err)
	}
	var said strings.Builder
	if err := PrintDue(&said, all, monday+30); err != nil || strings.Count(said.String(), "overdue") != 3 || !strings.Contains(said.String(), "the house owes card 198.02 CNY, of 1 batches") ||
		!strings.Contains(said.String(), "the house owes bank_transfer 3.96 CNY, of 2 batches") {
		t.Errorf("%v\n%s", err, &said)
	}
	if _, err := w.Received(t.Context(), Receipt{Batch: due[1].ID}); err == nil || !strings.Contains(err.Error(), "taken off") {
		t.Errorf("nothing is owed: %v", err)
	}
	if seen, err := w.Received(t.Context(), Receipt{Batch: due[0].ID}); err != nil || seen.Amount != due[0].Due { // before it there was nothing to take off
		t.Errorf("%+v, %v", seen, err)
	}
	seen, err := w.Received(t.Context(), Receipt{Batch: due[3].ID, Amount: 100, Anyway: true})
	if err != nil || seen.Expected != due[3].Due+due[1].Due {
		t.Errorf("%+v, %v", seen, err)
	}
	said.Reset()
	if err := seen.Print(&said); err != nil || !strings.Contains(said.String(), events.FormatAmount(seen.Expected-100, cny)+" less than expected") {
		t.Errorf("%v: %s", err, &said)
	}
	if left, err := w.Due(t.Context()); err != nil || len(byCard(left)) != 1 || byCard(left)[0].ID != due[2].ID {
		t.Errorf("left is %+v, %v", left, err)
	}
	if seen, err := w.Received(t.Context(), Receipt{Batch: due[2].ID}); err != nil || seen.Amount != due[2].Due {
		t.Errorf("it is taken off twice: %+v, %v", seen, err)
	}
}

// A payout is in a file once the book has posted it, and in one only; what is there is never overwritten by other bytes.
func TestPayoutFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.day(monday, 100, 5, rand.New(rand.NewPCG(9, 10)))
	if _, err := w.Settle(t.Context(), Options{Until: monday}); err != nil {
		t.Fatal(err)
	}
	if made, err := w.MakeFiles(t.Context()); err != nil || made.Payments != 0 {
		t.Fatalf("payouts that are not posted are in a file: %+v, %v", made, err)
	}
	w.settle(monday)
	if open, err := w.Await(t.Context()); err != nil || open != 0 {
		t.Fatal(open, err)
	}
	for range 2 {
		if _, err := w.MakeFiles(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	folder := t.TempDir()
	out, err := w.WriteFiles(t.Context(), folder, 0)
	if err != nil || len(out.Paths) != 2 || out.Payments != 4 {
		t.Fatalf("%+v, %v", out, err)
	}
	if again, err := w.WriteFiles(t.Context(), folder, 0); err != nil || len(again.Paths) != 0 {
		t.Fatalf("%+v, %v", again, err)
	}
	files, _, err := w.Files(t.Context(), 0)
	if err != nil || len(files) != 1 || files[0].Payments != 4 || !files[0].Written {
		t.Fatalf("%+v, %v", files, err)
	}
	before, err := os.ReadFile(out.Paths[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteFiles(t.Context(), folder, files[0].ID); err != nil {
		t.Fatal("the same bytes are refused:", err)
	}
	if err := os.WriteFile(out.Paths[1], append([]byte("changed"), before...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteFiles(t.Context(), folder, files[0].ID); err == nil {
		t.Error("other bytes are overwritten")
	}
	elsewhere, err := w.WriteFiles(t.Context(), t.TempDir(), files[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(elsewhere.Paths[1]); err != nil || string(after) != string(before) {
		t.Error("another write gives other bytes", err)
	}
	left, err := os.ReadDir(folder)
	if err != nil || len(left) != 2 {
		t.Error("temporary files are left:", left, err)
	}
}

// A cut-off without a batch is overdue from the moment it passes, in a house that settles; a channel that has not paid is from the
// day after its value date.
func TestOverdue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	overdue := func() Overdue {
		t.Helper()
		over, err := w.Overdue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return over
	}
	w.post(purchase("P-1", "M7", 5000, monday.Time().Add(time.Hour)))
	w.post(w.end(monday)...) // an hour after the cut-off
	if over := overdue(); over.CutOff != 0 {
		t.Errorf("a house that never settles is overdue: %+v", over)
	}
	w.settle(monday)
	if over := overdue(); over.CutOff != 0 || over.Channels["card"] != 0 {
		t.Errorf("all is settled: %+v", over)
	}
	w.post(purchase("P-2", "M7", 5000, (monday + 1).Time().Add(2*time.Hour)))
	w.post(w.end(monday + 1)...)
	if over := overdue(); over.CutOff != time.Hour || over.Accounts != 2 {
		t.Errorf("M7 and LAST wait for an hour: %+v", over)
	}
	w.settle(monday + 1)
	w.post(w.end(monday + 2)...)
	w.settle(monday + 2)
	if over := overdue(); over.CutOff != 0 || over.Channels["card"] != 1 { // due on Wednesday, and it is Thursday
		t.Errorf("the channel has not paid: %+v", over)
	}
}

// Whatever arrives when, days late or early, and whenever it is settled: every transfer that a cut-off has passed is in one batch.
func TestRandomArrivals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	random := rand.New(rand.NewPCG(13, 14))
	last := monday - 1
	for round := range 12 {
		today := monday + settlement.Day(round)
		var all []events.Event
		for i := range 60 {
			at := (today - 3).Time().Add(time.Duration(random.Int64N(int64(5 * 24 * time.Hour)))) // up to three days late, and two early
			e := purchase(fmt.Sprintf("P-%d-%02d", round, i), fmt.Sprint("M", random.IntN(4)), 1000+random.Int64N(5000), at)
			all = append(all, e)
			if random.IntN(3) == 0 {
				all = append(all, later(e, []events.Kind{events.PaymentRefunded, events.PaymentChargedBack, events.PaymentFailed}[random.IntN(3)], e.Amount, at.Add(time.Hour)))
			}
		}
		w.post(append(all, w.end(today)...)...)
		if d := today.Time().Weekday(); random.IntN(3) > 0 && d != time.Saturday && d != time.Sunday {
			w.settle(today)
			last = today
			w.sound()
		}
	}
	for d := last; d < monday+20; d++ {
		w.post(w.end(d)...)
		w.settle(d)
	}
	w.sound()
	w.paidOut()
}

// What a person reads names what there is.
func TestPrinted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var out strings.Builder
	none := func() {
		t.Helper()
		for _, err := range []error{PrintBatches(&out, nil), PrintDue(&out, nil, monday), PrintFiles(&out, nil)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	none()
	w.day(monday, 20, 3, rand.New(rand.NewPCG(15, 16)))
	w.settle(monday)
	if _, err := w.MakeFiles(t.Context()); err != nil {
		t.Fatal(err)
	}
	rows, _, err := w.Batches(t.Context(), "M0", 0)
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	for limit, more := range map[int]bool{0: false, 2: true, 3: false} {
		if some, stopped, err := w.Batches(t.Context(), "", limit); err != nil || stopped != more || len(some) != map[bool]int{true: 2, false: 3}[more] {
			t.Errorf("at most %d: %d, %t, %v", limit, len(some), stopped, err)
		}
	}
	returned := rows[0]
	returned.Other, returned.Returned = 0, 67_492
	if err := PrintBatches(&out, []Row{returned}); err != nil || !strings.Contains(out.String(), "  0.00    674.92  ") {
		t.Errorf("%v\n%s", err, &out)
	}
	due, err := w.Due(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files, _, err := w.Files(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	row, items, err := w.Show(t.Context(), rows[0].ID, 3)
	if err != nil || len(items) != 3 {
		t.Fatal(items, err)
	}
	for _, err := range []error{PrintBatches(&out, rows), PrintDue(&out, due, monday+9), PrintFiles(&out, files), PrintBatch(&out, &row, items),
		PrintCalendar(&out, w.Terms.Of("M0"), 2026), JSON(&out, rows)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"there is no batch yet", "M0", "overdue by 7 days", "payouts-bank_transfer-2026-03-03-1", "more; --all shows them", "2026-12-31  Thu  2027-01-01 00:00 UTC  2027-01-01",
		"261 business days", `"party": "M0"`, "CNY"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if _, _, err := w.Show(t.Context(), 99, 0); err == nil || !strings.Contains(err.Error(), "there is no batch 99") {
		t.Error(err)
	}
}
