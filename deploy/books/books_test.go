package books

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/poster"
	"sluice/deploy/embedded/enginestest"
	"sluice/pipelines/posting"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

const (
	wallet = eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET
	card   = eventsv1.PaymentMethod_PAYMENT_METHOD_CARD
	bank   = eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER

	topUp      = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP
	purchase   = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE
	withdrawal = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL
)

var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// world is a book that decisions are posted into, each at its time.
type world struct {
	t      *testing.T
	book   *Book
	shards [2]*poster.Direct
	sent   [2]int64
}

func newWorld(t *testing.T) *world {
	t.Helper()
	url := enginestest.New(t, enginestest.Postgres).PostgresURL
	if err := poster.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t}
	var err error
	for i := range w.shards {
		if w.shards[i], err = poster.NewDirect(t.Context(), url, int32(i)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.shards[i].Close)
	}
	if w.book, err = Open(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.book.Close(context.Background()) })
	return w
}

// post sends a payment event of customer C0 or C1, by shard.
func (w *world) post(shard int, at time.Time, kind events.Kind, purpose eventsv1.PaymentPurpose, method eventsv1.PaymentMethod, amount int64, currency string) {
	offset := w.sent[shard]
	w.sent[shard]++
	e := events.Event{ID: fmt.Sprint(shard, ".", offset), Source: "test", Kind: kind, Time: at, PaymentID: fmt.Sprint("p", shard, ".", offset),
		CustomerID: fmt.Sprint("C", shard), MerchantID: "M", Method: method, Purpose: purpose, Amount: amount, Currency: events.MustCurrency(currency)}
	_, value, err := events.EncodeDecision(&events.Decision{Event: e, Verdict: events.Approve, Topic: schemas.Payments, Partition: int32(shard), Offset: offset, Received: at})
	if err != nil {
		w.t.Fatal(err)
	}
	r := &kgo.Record{Topic: schemas.PaymentsDecided, Partition: int32(shard), Offset: offset, Key: []byte(e.CustomerID), Value: value, Timestamp: at}
	if _, err := w.shards[shard].Post(w.t.Context(), []*kgo.Record{r}); err != nil {
		w.t.Fatal(err)
	}
}

// random posts n payments over ten days, some of them late, in two currencies and shards.
func (w *world) random(rng *rand.Rand, n int) {
	for i := range n {
		at := start.Add(time.Duration(i) * 240 * time.Hour / time.Duration(n))
		if rng.IntN(5) == 0 {
			at = at.Add(-time.Duration(rng.IntN(48)) * time.Hour)
		}
		purposes := []eventsv1.PaymentPurpose{topUp, topUp, purchase, withdrawal}
		w.post(rng.IntN(2), at, events.PaymentInitiated, purposes[rng.IntN(4)], []eventsv1.PaymentMethod{wallet, card, bank}[rng.IntN(3)], 1+rng.Int64N(5000), []string{"CNY", "CNY", "JPY"}[rng.IntN(3)])
	}
}

// At every moment the book balances, and each account is what its statement says.
func TestBalancesAgree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(3, 4))
	w.random(rng, 60)
	for range 12 {
		at := start.Add(time.Duration(rng.IntN(260*3600)) * time.Second)
		trial, err := w.book.TrialBalance(t.Context(), at, rng.IntN(2) == 0)
		if err != nil {
			t.Fatal(err)
		}
		if !trial.Balanced() {
			t.Errorf("at %s it does not balance: %+v", at, trial.Totals)
		}
		accounts, err := w.book.Accounts(t.Context(), Filter{}, at)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range accounts {
			s, err := w.book.Read(t.Context(), a.Name, Period{To: at.Add(time.Microsecond)}, Page{})
			if err != nil {
				t.Fatal(err)
			}
			if !s.Closing.Equal(a.Balance) || s.AllLines != a.Transfers || len(s.Lines) > 0 && !s.Lines[len(s.Lines)-1].Balance.Equal(a.Balance) {
				t.Errorf("at %s %s has %s after %d transfers, its statement says %s after %d: %+v", at, a.Name, a.Balance, a.Transfers, s.Closing, s.AllLines, s.Lines)
			}
		}
	}
	now, err := w.book.Accounts(t.Context(), Filter{}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	then, err := w.book.Accounts(t.Context(), Filter{}, start.Add(1000*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(now) != fmt.Sprint(then) {
		t.Errorf("the accounts are %v, their transfers make %v", now, then)
	}
}

// A statement's pages are its parts; every line leads from one balance to the next; a period begins where the one before
// ends.
func TestStatement(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.random(rand.New(rand.NewPCG(5, 6)), 60)
	for _, name := range []string{"wallet:C0:CNY", "merchant:M:CNY", "fees:CNY", "clearing:card:CNY", "clearing:card:JPY"} {
		whole := w.read(name, Period{}, Page{})
		if len(whole.Lines) < 4 {
			t.Fatalf("%s has %d lines: too few to prove anything", name, len(whole.Lines))
		}
		balance := decimal.Zero
		for i, l := range whole.Lines {
			d := l.Debit.Sub(l.Credit)
			if whole.Account.Normal == "credit" {
				d = d.Neg()
			}
			if balance = balance.Add(d); !balance.Equal(l.Balance) || i > 0 && l.Time.Before(whole.Lines[i-1].Time) {
				t.Fatalf("%s, line %d leads to %s, it says %+v", name, i, balance, l)
			}
		}
		var paged []Line
		for n := 1; len(paged) < len(whole.Lines); n++ {
			page := w.read(name, Period{}, Page{Number: n, Size: 3})
			if page.AllLines != int64(len(whole.Lines)) || len(page.Lines) == 0 {
				t.Fatalf("%s, page %d: %d of %d lines", name, n, len(page.Lines), page.AllLines)
			}
			paged = append(paged, page.Lines...)
		}
		if fmt.Sprint(paged) != fmt.Sprint(whole.Lines) {
			t.Errorf("%s: the pages are not the whole", name)
		}
		cut := start.Add(100 * time.Hour)
		before, after := w.read(name, Period{To: cut}, Page{}), w.read(name, Period{From: cut}, Page{})
		if !before.Closing.Equal(after.Opening) || !after.Closing.Equal(whole.Closing) || fmt.Sprint(append(before.Lines, after.Lines...)) != fmt.Sprint(whole.Lines) {
			t.Errorf("%s: two periods are not the whole", name)
		}
	}
	if _, err := w.book.Read(t.Context(), "wallet:nobody:CNY", Period{}, Page{}); !errors.Is(err, ErrUnknown) {
		t.Errorf("an account that is not there: %v", err)
	}
}

func (w *world) read(name string, p Period, page Page) *Statement {
	w.t.Helper()
	s, err := w.book.Read(w.t.Context(), name, p, page)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// What is held shows beside the balance and on no statement.
func TestHeldMoney(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post(0, start, events.PaymentInitiated, topUp, bank, 10_000, "CNY")
	w.post(0, start.Add(time.Hour), events.PaymentAuthorized, withdrawal, card, 4000, "CNY")
	all, err := w.book.Accounts(t.Context(), Filter{Like: "wallet:C0"}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].Balance.String() != "100" || all[0].Held.String() != "40" {
		t.Errorf("accounts %+v", all)
	}
	if s := w.read("wallet:C0:CNY", Period{}, Page{}); len(s.Lines) != 1 || s.Closing.String() != "100" {
		t.Errorf("statement %+v", s)
	}
}

// A closed period does not change any more, whatever comes late; the late payment stands on the first open day.
func TestClosedPeriod(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.random(rand.New(rand.NewPCG(7, 8)), 30)
	day, now := start.AddDate(0, 0, 4), start.AddDate(0, 0, 11)
	end := day.Add(24*time.Hour - time.Microsecond)
	picture := func() string {
		t.Helper()
		trial, err := w.book.TrialBalance(t.Context(), end, true)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(trial.Rows, w.read("fees:CNY", Period{To: end}, Page{}).Lines)
	}
	before := picture()
	if _, err := w.book.ClosePeriod(t.Context(), Closing{Day: now, By: "tester", Now: now, Anyway: true}); err == nil {
		t.Error("a day that is not over is closed")
	}
	if c, err := w.book.ClosePeriod(t.Context(), Closing{Day: day, By: "tester", Now: now, Anyway: true}); err != nil || !c.Until.Equal(day.AddDate(0, 0, 1)) {
		t.Fatalf("close: %+v, %v", c, err)
	}
	if _, err := w.book.ClosePeriod(t.Context(), Closing{Day: day.AddDate(0, 0, -1), By: "tester", Now: now, Anyway: true}); err == nil {
		t.Error("a closed day is closed again")
	}
	w.post(1, start.AddDate(0, 0, 2), events.PaymentInitiated, purchase, card, 7777, "CNY")
	if after := picture(); after != before {
		t.Errorf("the closed period was\n%s\nand is\n%s", before, after)
	}
	lines := w.read("merchant:M:CNY", Period{From: day.AddDate(0, 0, 1), To: day.AddDate(0, 0, 1).Add(time.Microsecond)}, Page{}).Lines
	if !slices.ContainsFunc(lines, func(l Line) bool { return l.Credit.String() == "77.77" }) {
		t.Errorf("the late payment stands at %+v", lines)
	}
	_, err := w.book.conn.Exec(t.Context(), "INSERT INTO transfers SELECT shard, number + 1000, sequence, batch, debit_account, debit_version + 1000, credit_account, credit_version + 1000, amount, $1, currency, kind FROM transfers LIMIT 1", day)
	if err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("the database takes a transfer of a closed day: %v", err)
	}
	if all, err := w.book.Closings(t.Context()); err != nil || len(all) != 1 || all[0].By != "tester" {
		t.Errorf("closings %+v, %v", all, err)
	}
}

// While payments of a day are being posted the day is closed: from then on it stands still.
func TestCloseUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	until := start.AddDate(0, 0, 1)
	w.post(0, start, events.PaymentInitiated, topUp, bank, 100, "CNY")
	const before, after = 20, 20 // payments
	begun, closed, done := make(chan struct{}), make(chan struct{}), make(chan int64)
	go func() {
		n, left := int64(1), after
		for ; left > 0; n++ {
			w.post(0, start.Add(time.Duration(n)*time.Millisecond), events.PaymentInitiated, topUp, bank, 100, "CNY")
			if n == before {
				close(begun)
			}
			select {
			case <-closed:
				left--
			default:
			}
		}
		done <- n
	}()
	<-begun
	if _, err := w.book.ClosePeriod(t.Context(), Closing{Day: start, By: "tester", Now: until, Anyway: true}); err != nil {
		t.Fatal(err)
	}
	lines := w.read("wallet:C0:CNY", Period{To: until}, Page{}).AllLines
	close(closed)
	sent := <-done
	still, all := w.read("wallet:C0:CNY", Period{To: until}, Page{}).AllLines, w.read("wallet:C0:CNY", Period{}, Page{}).AllLines
	if lines != still || lines <= before || lines > sent-after+1 || all != sent {
		t.Errorf("%d lines when it was closed, %d in the end; %d of %d payments in all", lines, still, all, sent)
	}
}

// CSV can be read again, and a spreadsheet takes no text of it for a formula.
func TestCSV(t *testing.T) {
	t.Parallel()
	s := Statement{Account: Account{Name: "wallet:A:CNY", Currency: "CNY", exponent: 2, Normal: "credit"}, AllLines: 1, Lines: []Line{{
		Time: start, Kind: "transfer", Other: "wallet:=B,\"\n:CNY", PaymentID: "=HYPERLINK(1)", Debit: decimal.New(150, -2), Balance: decimal.New(-150, -2)}}}
	var out bytes.Buffer
	if err := s.Write(&out, true); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(rows) != 2 {
		t.Fatalf("%v, %v", rows, err)
	}
	if got := rows[1]; got[3] != "wallet:=B,\"\n:CNY" || got[4] != "'=HYPERLINK(1)" || got[6] != "1.50" || got[7] != "" || got[8] != "-1.50" {
		t.Errorf("the line is %q", got)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		parse      func(string) (time.Time, error)
		text, want string
	}{
		{ParseFrom, "2026-03-31", "2026-03-31T00:00:00Z"}, {ParseTo, "2026-03-31", "2026-04-01T00:00:00Z"}, {ParseAt, "2026-03-31", "2026-03-31T23:59:59.999999Z"},
		{ParseTo, "2026-03-31T18:00:00+08:00", "2026-03-31T10:00:00Z"}, {ParseAt, "", "0001-01-01T00:00:00Z"},
	} {
		if got, err := c.parse(c.text); err != nil || got.Format(time.RFC3339Nano) != c.want {
			t.Errorf("%q is %s, %v; want %s", c.text, got, err, c.want)
		}
	}
	if _, err := ParseFrom("31.3.2026"); err == nil {
		t.Error("31.3.2026 is a time")
	}
}

// A trial balance keeps points apart from the money of their currency, and writes them whole.
func TestPointsAreNoMoney(t *testing.T) {
	t.Parallel()
	rewards, err := posting.Load("rewards.yaml", posting.RewardsFile)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.shards[0].Postings(rewards)
	w.post(0, start, events.PaymentInitiated, topUp, bank, 50_000, "CNY")
	w.post(0, start, events.PaymentInitiated, purchase, wallet, 12_345, "CNY")
	trial, err := w.book.TrialBalance(t.Context(), time.Time{}, false)
	if err != nil || !trial.Balanced() || len(trial.Totals) != 2 {
		t.Fatalf("%+v, %v", trial, err)
	}
	var out strings.Builder
	if err := trial.Write(&out, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"points,CNY points,0,123\n", "total,CNY points,123,123\n", "total,CNY,"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	life, err := w.book.Payment(t.Context(), "p0.1")
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	if err := life.Write(&shown); err != nil || !strings.Contains(shown.String(), "points 123 CNY points: points_issued/0:CNY -> points:C0:CNY") {
		t.Errorf("%v\n%s", err, shown.String())
	}
}

// A day that a shard has not passed is not closed unless it is asked for: what that shard posts of it would be dated later.
func TestClosingWaitsForTheBook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := start.AddDate(0, 0, 20)
	w.post(0, start.AddDate(0, 0, 3), events.PaymentInitiated, topUp, bank, 100, "CNY")
	order := Closing{Day: start, By: "tester", Now: now} // shard 1 never had an event: it has no say
	if _, err := w.book.ClosePeriod(t.Context(), order); err != nil {
		t.Error(err)
	}
	w.post(1, start.AddDate(0, 0, 1).Add(-time.Second), events.PaymentInitiated, topUp, bank, 100, "CNY")
	order.Day = start.AddDate(0, 0, 1)
	_, err := w.book.ClosePeriod(t.Context(), order)
	if err == nil || !strings.Contains(err.Error(), "shard 1 is at 2026-03-01T23:59:59Z") || !strings.Contains(err.Error(), "--anyway") ||
		strings.Contains(err.Error(), "shard 0") {
		t.Errorf("a day that shard 1 has not passed is closed: %v", err)
	}
	w.post(1, start.AddDate(0, 0, 2), events.PaymentInitiated, topUp, bank, 100, "CNY")
	if _, err := w.book.ClosePeriod(t.Context(), order); err != nil {
		t.Errorf("a day that every shard has passed: %v", err)
	}
	order.Day, order.Anyway = start.AddDate(0, 0, 5), true
	if _, err := w.book.ClosePeriod(t.Context(), order); err != nil {
		t.Errorf("anyway: %v", err)
	}
}
