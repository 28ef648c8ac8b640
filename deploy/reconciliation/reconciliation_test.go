package reconciliation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/poster"
	"sluice/consumers/stream"
	"sluice/deploy/embedded/enginestest"
	"sluice/pipelines/posting"
	"sluice/pipelines/reconcile"
	"sluice/pipelines/reconcile/statement"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

// patience bounds the wait for something that must happen; no test depends on how long it takes.
const patience = 2 * time.Minute

var (
	cny      = events.MustCurrency("CNY")
	shanghai = func() *time.Location {
		l, err := time.LoadLocation("Asia/Shanghai")
		if err != nil {
			panic(err)
		}
		return l
	}()
	today = reconcile.DayOf(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC))
)

// acme is the card channel's profile: gross amounts with the fee beside, a running balance, payouts net of a fee unsaid.
const acme = `
profile: acme
delimiter: ";"
date_format: DD.MM.YYYY
decimal: ","
thousands: "."
currency: CNY
amounts: gross
columns: {reference: Order, date: Date, amount: Amount, fee: Fee, text: Text, balance: Balance}
collective: '^PO-'
ignore: '^#'
time_zone: Asia/Shanghai
tolerance: {days: 2, fee: 60, group_days: 1}
`

// moved is a payment's movement on a channel's account.
type moved struct {
	id     string
	amount int64
	day    reconcile.Day
	fee    int64
}

// world is a book with payments of two channels, and a store.
type world struct {
	*Store
	t      *testing.T
	db     *pgx.Conn
	client *kgo.Client
	config stream.Config
	sent   int64
	dir    string
	acme   *statement.Profile
	camt   *statement.Profile
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldBy(t, posting.Standard())
}

// newWorldBy is a world whose poster posts by the given rules.
func newWorldBy(t *testing.T, rules *posting.Rules) *world {
	t.Helper()
	env := enginestest.New(t, enginestest.Kafka, enginestest.Postgres)
	w := &world{Store: &Store{env.PostgresURL}, t: t, dir: t.TempDir(),
		config: stream.Config{Brokers: env.Kafka, Prefix: env.Prefix, Partitions: 2}.Fill()}
	if err := poster.Migrate(t.Context(), w.Postgres); err != nil {
		t.Fatal(err)
	}
	if err := w.config.EnsureTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.db, err = pgx.Connect(t.Context(), w.Postgres); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close(context.Background()) })
	if w.client, err = w.config.Client(kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	if w.acme, err = statement.ParseProfile("acme.yaml", []byte(acme)); err != nil {
		t.Fatal(err)
	}
	if w.camt, err = statement.ParseProfile("bank.yaml", []byte("profile: bank\ntime_zone: Asia/Shanghai\n")); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		c := poster.Config{Config: w.config, Postgres: w.Postgres, Postings: rules}
		if err := c.Supervise(t.Context(), "poster", func(ctx context.Context) error { return poster.Run(ctx, c) }); err != nil {
			t.Errorf("the poster ended: %v", err)
		}
	})
	t.Cleanup(group.Wait)
	return w
}

// post has the book post events, each on the partition of its customer.
func (w *world) post(all ...events.Event) {
	w.t.Helper()
	var records []*kgo.Record
	for _, e := range all {
		partition := int32(e.CustomerID[len(e.CustomerID)-1] % 2)
		d := events.Decision{Event: e, Verdict: events.Approve, Topic: schemas.Payments, Partition: partition, Offset: w.sent, Received: e.Time}
		d.Event.ID, d.Event.Source = fmt.Sprint("e", w.sent), "app"
		w.sent++
		_, value, err := events.EncodeDecision(&d)
		if err != nil {
			w.t.Fatal(err)
		}
		records = append(records, &kgo.Record{Topic: w.config.Topic(schemas.PaymentsDecided), Partition: partition, Value: value})
	}
	if err := w.client.ProduceSync(w.t.Context(), records...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for w.one("SELECT count(*) FROM results") < w.sent {
		if time.Now().After(deadline) {
			w.t.Fatalf("%d of %d events are in the book", w.one("SELECT count(*) FROM results"), w.sent)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := w.one("SELECT count(*) FROM results WHERE code <> 'posted'"); n > 0 {
		w.t.Fatalf("the book refused %d events", n)
	}
}

func (w *world) one(sql string, args ...any) (n int64) {
	w.t.Helper()
	if err := w.db.QueryRow(w.t.Context(), sql, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// payment is an approved payment by a method, at a moment of a day in Shanghai.
func payment(id string, purpose eventsv1.PaymentPurpose, method eventsv1.PaymentMethod, amount int64, at time.Time) events.Event {
	return events.Event{Kind: events.PaymentInitiated, PaymentID: id, CustomerID: "C" + id[len(id)-1:], MerchantID: "M", Purpose: purpose, Method: method,
		Amount: amount, Currency: cny, Time: at}
}

const (
	purchase   = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE
	topUp      = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TOP_UP
	withdrawal = eventsv1.PaymentPurpose_PAYMENT_PURPOSE_WITHDRAWAL
	byCard     = eventsv1.PaymentMethod_PAYMENT_METHOD_CARD
	byBank     = eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER
)

// day posts a day of payments of both channels, from midnight to midnight in Shanghai, and returns what moved.
func (w *world) day(n int, random *rand.Rand) (card, bank []moved) {
	w.t.Helper()
	var all []events.Event
	begin := time.Date(2026, 3, 2, 0, 0, 0, 0, shanghai)
	for i := range n {
		at := begin.Add(time.Duration(i) * 24 * time.Hour / time.Duration(n))
		amount := 1000 + random.Int64N(500_000)
		id := fmt.Sprintf("CARD-%06d", i)
		all = append(all, payment(id, purchase, byCard, amount, at))
		card = append(card, moved{id: id, amount: amount, day: today, fee: amount / 200})
		if i%10 == 0 {
			back := payment(id, purchase, byCard, amount/2, at)
			back.Kind = events.PaymentRefunded
			all = append(all, back)
			card = append(card, moved{id: id, amount: -(amount / 2), day: today})
		}
		id = fmt.Sprintf("BANK-%06d", i)
		all = append(all, payment(id, topUp, byBank, amount+1, at))
		bank = append(bank, moved{id: id, amount: amount + 1, day: today})
		if i%5 == 0 {
			id := fmt.Sprintf("OUT-%07d", i)
			all = append(all, payment(id, withdrawal, byBank, amount/3, at))
			bank = append(bank, moved{id: id, amount: -(amount / 3), day: today})
		}
	}
	w.post(all...)
	return card, bank
}

// yesterday posts card payments of the day before, which the channel states as one payout, and returns that.
func (w *world) yesterday() moved {
	w.t.Helper()
	var all []events.Event
	sum := int64(0)
	for i := range 7 {
		amount := int64(10_000 + 777*i)
		all = append(all, payment(fmt.Sprintf("YEST-%06d", i), purchase, byCard, amount, time.Date(2026, 3, 1, 10, i, 0, 0, shanghai)))
		sum += amount
	}
	w.post(all...)
	return moved{id: "PO-1", amount: sum - sum*60/10_000, day: today}
}

// csv writes a statement as the profile acme has it.
func (w *world) csv(name string, lines []moved) string {
	var out strings.Builder
	out.WriteString("Order;Date;Amount;Fee;Text;Balance\n")
	balance := int64(0)
	comma := func(minor int64) string {
		sign := ""
		if minor < 0 {
			sign, minor = "-", -minor
		}
		whole := fmt.Sprint(minor / 100)
		for i := len(whole) - 3; i > 0; i -= 3 {
			whole = whole[:i] + "." + whole[i:]
		}
		return fmt.Sprintf("%s%s,%02d", sign, whole, minor%100)
	}
	for _, l := range lines {
		balance += l.amount - l.fee
		fmt.Fprintf(&out, "%s;%s;%s;%s;card payment;%s\n", l.id, l.day.Time().Format("02.01.2006"), comma(l.amount), comma(l.fee), comma(balance))
	}
	return w.file(name, out.String())
}

func (w *world) file(name, text string) string {
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// xml writes a statement as camt.053: every third line alone, others in batches.
func (w *world) xml(name string, lines []moved) string {
	var out strings.Builder
	amount := func(minor int64) string {
		which := "CRDT"
		if minor < 0 {
			which, minor = "DBIT", -minor
		}
		return fmt.Sprintf(`<Amt Ccy="CNY">%d.%02d</Amt><CdtDbtInd>%s</CdtDbtInd>`, minor/100, minor%100, which)
	}
	balance := func(code string, minor int64) string {
		return `<Bal><Tp><CdOrPrtry><Cd>` + code + `</Cd></CdOrPrtry></Tp>` + amount(minor) + `</Bal>`
	}
	sum := int64(0)
	for _, l := range lines {
		sum += l.amount
	}
	out.WriteString(`<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt><Stmt><Id>1</Id>` + balance("OPBD", 5000) + balance("CLBD", 5000+sum))
	for len(lines) > 0 {
		n := 1
		for n < 3 && n < len(lines) && lines[n].day == lines[0].day && len(lines)%3 > 0 {
			n++
		}
		total := int64(0)
		var details strings.Builder
		for _, l := range lines[:n] {
			total += l.amount
			fmt.Fprintf(&details, "<TxDtls><Refs><EndToEndId>%s</EndToEndId></Refs>%s</TxDtls>", l.id, amount(l.amount))
		}
		fmt.Fprintf(&out, "\n<Ntry>%s<Sts><Cd>BOOK</Cd></Sts><BookgDt><Dt>%s</Dt></BookgDt><NtryDtls>%s</NtryDtls></Ntry>", amount(total), lines[0].day, details.String())
		lines = lines[n:]
	}
	out.WriteString("</Stmt></BkToCstmrStmt></Document>")
	return w.file(name, out.String())
}

// plant puts an error of each class into a statement's lines and returns the breaks that must come of them. Amounts are
// what is at stake: for a line of the statement before the fee.
func plant(lines []moved, at int) (with []moved, dropped moved, want []string) {
	with = slices.Clone(lines)
	said := func(class string, l moved, amount int64) {
		want = append(want, fmt.Sprintf("%s %s %d %s", class, l.id, amount, l.day))
	}
	with[at].amount += 100
	said("amount", with[at], 100)
	late := &with[at+1]
	said("timing", *late, late.amount)
	late.day++
	twin := with[at+2]
	with = append(with, twin)
	said("duplicate", twin, twin.amount)
	strange := moved{id: "STRANGE-1", amount: 4242, day: today}
	with = append(with, strange)
	said("missing_here", strange, strange.amount)
	dropped = with[at+3]
	said("missing_there", dropped, dropped.amount)
	with = slices.Delete(with, at+3, at+4)
	slices.SortStableFunc(with, func(a, b moved) int { return int(a.day - b.day) })
	slices.Sort(want)
	return with, dropped, want
}

func (w *world) reconcile(o Order) Outcome {
	w.t.Helper()
	o.By = "ann"
	out, err := w.Reconcile(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// open returns a channel's open breaks in short.
func (w *world) open(channel string) (said []string, breaks []Break) {
	w.t.Helper()
	breaks, err := w.Breaks(w.t.Context(), channel, false)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, b := range breaks {
		said = append(said, fmt.Sprintf("%s %s %d %s", b.Class, b.Reference, b.Amount, b.Day))
	}
	slices.Sort(said)
	return said, breaks
}

// everything is all that the store keeps, as text.
func (w *world) everything() string {
	w.t.Helper()
	var out strings.Builder
	for _, table := range []string{"files", "lines", "runs", "matches", "breaks", "resolutions"} {
		rows, err := w.db.Query(w.t.Context(), "SELECT t::text FROM reconciliation_"+table+" t ORDER BY 1")
		if err != nil {
			w.t.Fatal(err)
		}
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			w.t.Fatal(err)
		}
		fmt.Fprintln(&out, table, strings.Join(all, "\n"))
	}
	return out.String()
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A day of payments over two channels, their statements in both formats with errors planted: exactly those are found, and
// another run changes nothing.
func TestDay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	payout := w.yesterday()
	card, bank := w.day(200, rand.New(rand.NewPCG(1, 1)))
	cardLines, _, wantCard := plant(append([]moved{payout}, card...), 50)
	bankLines, dropped, wantBank := plant(bank, 20)
	orders := []Order{
		{Channel: "card", Path: w.csv("card.csv", cardLines), Profile: w.acme, From: today, To: today},
		{Channel: "bank_transfer", Path: w.xml("bank.xml", bankLines), Profile: w.camt, From: today, To: today},
	}
	outcomes := []Outcome{w.reconcile(orders[0]), w.reconcile(orders[1])}
	gotCard, _ := w.open("card")
	gotBank, breaks := w.open("bank_transfer")
	same(t, "card", gotCard, wantCard)
	same(t, "bank_transfer", gotBank, wantBank)
	if n := outcomes[0].Matches[reconcile.OneToMany]; n != 1 {
		t.Errorf("%d payouts matched, want 1", n)
	}
	if got, want := outcomes[1].Matches[reconcile.Exact], len(bank)-3; got != want { // but for amount, timing and missing there
		t.Errorf("%d exact matches of the bank, want %d", got, want)
	}

	before := w.everything()
	for _, o := range orders {
		if out := w.reconcile(o); out.Run != 0 || out.Breaks() != 5 || !out.File.Known {
			t.Errorf("again: %+v", out)
		}
	}
	if after := w.everything(); after != before {
		t.Errorf("again changed\n%s\nto\n%s", before, after)
	}
	w.overlap(orders[0], cardLines, wantCard)
	w.resolved(orders[1], breaks, wantBank, dropped)
}

// What posting rules book as the channel's cost is what its statement states as its fee, or what it pays less; also where the cost
// comes into the book after the payment was reconciled. What was rerouted is expected of the channel that carried it alone.
func TestChannelCostsAndReroutes(t *testing.T) {
	t.Parallel()
	source, _ := posting.Pack("rewards")
	rules, err := posting.Load("rewards", source)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorldBy(t, rules)
	at := time.Date(2026, 3, 2, 9, 0, 0, 0, shanghai)
	settle := func(id string, at time.Time) events.Event {
		e := payment(id, purchase, byCard, 10_000, at)
		e.Kind = events.PaymentSettled
		return e
	}
	rerouted := payment("CARD-000004", purchase, byCard, 7000, at.Add(time.Hour))
	rerouted.Kind, rerouted.PaymentChannel = events.PaymentRerouted, "north"
	w.post(payment("CARD-000001", purchase, byCard, 10_000, at), settle("CARD-000001", at.Add(time.Hour)),
		payment("CARD-000002", purchase, byCard, 10_000, at), settle("CARD-000002", at.Add(time.Hour)),
		payment("CARD-000003", purchase, byCard, 10_000, at),
		payment("CARD-000004", purchase, byCard, 7000, at), rerouted)
	const fee = 35 // 0.25 % and 0.10
	o := Order{Channel: "card", Profile: w.acme, From: today, To: today, Path: w.csv("card.csv", []moved{
		{id: "CARD-000001", amount: 10_000, fee: fee, day: today}, // gross, and the fee
		{id: "CARD-000002", amount: 10_000 - fee, day: today},     // net
		{id: "CARD-000003", amount: 10_000, fee: fee, day: today}, // settled after the statement
	})}
	w.reconcile(o)
	got, _ := w.open("card")
	same(t, "card", got, nil)
	w.reconcile(Order{Channel: "north", Profile: w.acme, From: today, To: today, Path: w.csv("north.csv", []moved{{id: "CARD-000004", amount: 7000, day: today}})})
	got, _ = w.open("north")
	same(t, "north", got, nil)
	w.post(settle("CARD-000003", at.Add(26*time.Hour)))
	o.To++
	w.reconcile(o)
	got, _ = w.open("card")
	same(t, "card, the day after", got, nil)
	before := w.everything()
	if out := w.reconcile(o); out.Run != 0 {
		t.Errorf("again: %+v", out)
	}
	if w.everything() != before {
		t.Error("again changed something")
	}
}

// overlap reconciles another file with the same lines: they are the same lines.
func (w *world) overlap(o Order, lines []moved, want []string) {
	w.t.Helper()
	lines = append([]moved{{id: "# nothing", day: today}}, lines...)
	o.Path = w.csv("again.csv", lines)
	out := w.reconcile(o)
	if out.Imported != 0 || out.Opened != 0 || out.File.Known {
		w.t.Errorf("overlapping: %+v", out)
	}
	got, _ := w.open("card")
	same(w.t, "overlapping", got, want)
}

// resolved resolves a break and brings the counterpart of others: the first stays resolved, those close by themselves.
func (w *world) resolved(o Order, breaks []Break, want []string, dropped moved) {
	w.t.Helper()
	ctx := w.t.Context()
	var amount Break
	for _, b := range breaks {
		if b.Class == "amount" {
			amount = b
		}
	}
	if _, err := w.Resolve(ctx, Resolution{Break: amount.ID, By: "ben", Why: "agreed with the bank", Entry: "adj-7"}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.Resolve(ctx, Resolution{Break: amount.ID, By: "eve", Why: "again"}); err == nil || !strings.Contains(err.Error(), "was resolved by ben") {
		w.t.Errorf("resolved twice: %v", err)
	}
	if out := w.reconcile(o); out.Run != 0 || out.Breaks() != 4 {
		w.t.Errorf("after a resolution: %+v", out)
	}
	dropped.day += 4 // later than the tolerance
	next := Order{Channel: o.Channel, Profile: o.Profile, Path: w.xml("next.xml", []moved{dropped}), From: today + 1}
	out := w.reconcile(next)
	if out.Matches[reconcile.Late] != 1 || out.Closed != 2 { // what was missing there, and what was after the period
		w.t.Errorf("the next statement: %+v", out)
	}
	got, _ := w.open(o.Channel)
	same(w.t, "after the next statement", got, slices.DeleteFunc(want, func(s string) bool {
		return strings.HasPrefix(s, "amount") || strings.HasPrefix(s, "timing") || strings.HasPrefix(s, "missing_there")
	}))
	all, err := w.Breaks(ctx, o.Channel, true)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, b := range all {
		if b.Status == statusClosed && (len(b.Steps) != 1 || !strings.Contains(b.Steps[0].Why, "matched by itself") || b.Steps[0].Who != "ann") {
			w.t.Errorf("closed: %+v", b)
		}
		if b.ID == amount.ID && (b.Status != statusResolved || b.Steps[0].Entry != "adj-7") {
			w.t.Errorf("resolved: %+v", b)
		}
	}
	before := w.everything()
	for _, again := range []Order{o, next} {
		if out := w.reconcile(again); out.Run != 0 {
			w.t.Errorf("again: %+v", out)
		}
	}
	if w.everything() != before {
		w.t.Error("again changed something")
	}
}

// A resolved line whose counterpart comes is matched, and the resolution says so and stands.
func TestCounterpartAfterResolution(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post(payment("BANK-000001", topUp, byBank, 500, time.Date(2026, 3, 2, 9, 0, 0, 0, shanghai)))
	other := moved{id: "X-1", amount: 1, day: today}
	o := Order{Channel: "bank_transfer", Profile: w.camt, Path: w.xml("a.xml", []moved{other})}
	w.reconcile(o)
	_, breaks := w.open("bank_transfer")
	for _, b := range breaks {
		if _, err := w.Resolve(t.Context(), Resolution{Break: b.ID, By: "ben", Why: "written off"}); err != nil {
			t.Fatal(err)
		}
	}
	o.Path = w.xml("b.xml", []moved{{id: "BANK-000001", amount: 500, day: today + 1}})
	if out := w.reconcile(o); out.Matches[reconcile.Tolerant] != 1 || out.Breaks() != 0 {
		t.Errorf("%+v", out)
	}
	all, err := w.Breaks(t.Context(), "", true)
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	for _, b := range all {
		if b.Status != statusResolved || b.Class == "missing_there" && (len(b.Steps) != 2 || !strings.Contains(b.Steps[1].Why, "its counterpart came")) {
			t.Errorf("%+v", b)
		}
	}
}

// What a person has settled as a pair is no counterpart of what comes later.
func TestSettledPair(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post(payment("BANK-000001", topUp, byBank, 500, time.Date(2026, 3, 2, 9, 0, 0, 0, shanghai)))
	o := Order{Channel: "bank_transfer", Profile: w.camt, Path: w.xml("a.xml", []moved{{id: "BANK-000001", amount: 400, day: today}})}
	w.reconcile(o)
	_, breaks := w.open("bank_transfer")
	if len(breaks) != 1 || breaks[0].Class != "amount" || breaks[0].Amount != -100 {
		t.Fatalf("%+v", breaks)
	}
	if _, err := w.Resolve(t.Context(), Resolution{Break: breaks[0].ID, By: "ben", Why: "the bank kept 1.00"}); err != nil {
		t.Fatal(err)
	}
	o.Path = w.xml("b.xml", []moved{{id: "BANK-000001", amount: 500, day: today + 1}})
	out := w.reconcile(o)
	got, _ := w.open("bank_transfer")
	same(t, "after the settlement", got, []string{"missing_here BANK-000001 500 2026-03-03"})
	if len(out.Matches) > 0 {
		t.Errorf("%+v", out)
	}
}

// A line of another statement that repeats one which is matched is a duplicate, and stays one.
func TestDuplicateAcrossFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post(payment("BANK-000001", topUp, byBank, 500, time.Date(2026, 3, 2, 9, 0, 0, 0, shanghai)))
	o := Order{Channel: "bank_transfer", Profile: w.camt, Path: w.xml("a.xml", []moved{{id: "BANK-000001", amount: 500, day: today}})}
	w.reconcile(o)
	o.Path = w.xml("b.xml", []moved{{id: "bank-000001", amount: 500, day: today + 1}})
	for range 2 {
		w.reconcile(o)
		got, _ := w.open("bank_transfer")
		same(t, "repeated", got, []string{"duplicate bank-000001 500 2026-03-03"})
	}
}

// Two runs at once are one after the other: every line is matched once.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, bank := w.day(20, rand.New(rand.NewPCG(2, 2)))
	o := Order{Channel: "bank_transfer", Profile: w.camt, Path: w.xml("a.xml", bank), By: "ann"}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if out, err := w.Reconcile(t.Context(), o); err != nil || out.Breaks() > 0 {
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
	group.Wait()
	if n := w.one("SELECT count(*) FROM reconciliation_matches"); n != int64(len(bank)) {
		t.Errorf("%d lines matched of %d", n, len(bank))
	}
	if n := w.one("SELECT count(*) FROM reconciliation_runs"); n != 1 {
		t.Errorf("%d runs left a trace", n)
	}
}

// A house whose Postgres user owns the tables and is no superuser reconciles too, and resolves what it has found.
func TestOwnerReconciles(t *testing.T) {
	t.Parallel()
	env := enginestest.New(t, enginestest.Postgres)
	db, err := pgx.Connect(t.Context(), env.PostgresURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.Background()) }()
	role := "owner_" + env.PostgresSchema
	exec := func(ctx context.Context, sql string) {
		if _, err := db.Exec(ctx, sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	exec(t.Context(), "CREATE ROLE "+role+" LOGIN")
	exec(t.Context(), "CREATE SCHEMA "+role+" AUTHORIZATION "+role)
	defer exec(context.Background(), "DROP OWNED BY "+role+" CASCADE; DROP ROLE "+role)
	url := strings.Replace(env.PostgresURL, "postgres://postgres@", "postgres://"+role+"@", 1)
	w := &world{Store: &Store{strings.Replace(url, "search_path="+env.PostgresSchema, "search_path="+role, 1)}, t: t, dir: t.TempDir()}
	if err := poster.Migrate(t.Context(), w.Postgres); err != nil {
		t.Fatal(err)
	}
	if w.camt, err = statement.ParseProfile("bank.yaml", []byte("profile: bank\n")); err != nil {
		t.Fatal(err)
	}
	exec(t.Context(), "INSERT INTO "+role+".accounts (key, type, currency, exponent, credit_normal, striped) VALUES ('clearing:bank_transfer/0:CNY', 'clearing', 'CNY', 2, false, true)")
	w.reconcile(Order{Channel: "bank_transfer", Profile: w.camt, Path: w.xml("a.xml", []moved{{id: "X-1", amount: 1, day: today}})})
	_, breaks := w.open("bank_transfer")
	if len(breaks) != 1 {
		t.Fatalf("%d breaks, want the line that the book does not have", len(breaks))
	}
	if _, err := w.Resolve(t.Context(), Resolution{Break: breaks[0].ID, By: "ben", Why: "agreed"}); err != nil {
		t.Error(err)
	}
}

// What was written stays, whoever writes; and a break stands where its steps have brought it.
func TestDatabaseVetoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post(payment("BANK-000001", topUp, byBank, 500, time.Date(2026, 3, 2, 9, 0, 0, 0, shanghai)))
	w.reconcile(Order{Channel: "bank_transfer", Profile: w.camt, Path: w.xml("a.xml", []moved{{id: "X-1", amount: 1, day: today}})})
	_, breaks := w.open("bank_transfer")
	if _, err := w.Resolve(t.Context(), Resolution{Break: breaks[0].ID, By: "ben", Why: "agreed"}); err != nil {
		t.Fatal(err)
	}
	for sql, code := range map[string]string{
		"UPDATE reconciliation_resolutions SET why = 'x'":      "23001",
		"DELETE FROM reconciliation_resolutions":               "23001",
		"TRUNCATE reconciliation_resolutions":                  "23001",
		"UPDATE reconciliation_lines SET amount = 2":           "23001",
		"DELETE FROM reconciliation_matches":                   "23001",
		"DELETE FROM reconciliation_runs":                      "23001",
		"UPDATE reconciliation_files SET name = 'x'":           "23001",
		"DELETE FROM reconciliation_breaks":                    "23001",
		"UPDATE reconciliation_breaks SET amount = 0":          "23001",
		"UPDATE reconciliation_breaks SET status = 'resolved'": "23001",
		"UPDATE reconciliation_breaks SET status = 'open'":     "23001",
		"INSERT INTO reconciliation_resolutions SELECT break, 2, 'resolved', now(), '', 'x', '' FROM reconciliation_resolutions": "23514",
		"INSERT INTO reconciliation_breaks SELECT * FROM reconciliation_breaks":                                                  "428C9",
	} {
		_, err := w.db.Exec(t.Context(), sql)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != code {
			t.Errorf("%s: %v, want SQLSTATE %s", sql, err, code)
		}
	}
	if n := w.one("SELECT sum(breaks) FROM reconciliation_open"); n != 1 {
		t.Errorf("%d breaks in the view", n)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	path := w.xml("a.xml", []moved{{id: "X-1", amount: 1, day: today}})
	refused := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %s", err, what)
		}
	}
	try := func(o Order) error {
		_, err := w.Reconcile(ctx, o)
		return err
	}
	refused("no payment has been posted", try(Order{Channel: "bank_transfer", Path: path, By: "ann"}))
	w.post(payment("BANK-000001", topUp, byBank, 500, time.Date(2026, 3, 2, 9, 0, 0, 0, shanghai)))
	refused("it has bank_transfer", try(Order{Channel: "card", Path: path, By: "ann"}))
	refused("--by", try(Order{Channel: "bank_transfer", Path: path}))
	refused("there is no such file", try(Order{Channel: "bank_transfer", Path: path + "x", By: "ann"}))
	refused("needs a profile", try(Order{Channel: "bank_transfer", Path: w.file("a.csv", "a,b\n"), By: "ann"}))
	refused("has no day", try(Order{Channel: "bank_transfer", Path: path, From: today + 2, To: today + 1, By: "ann"}))
	refused("it has no line that counts", try(Order{Channel: "bank_transfer", Path: w.xml("b.xml", nil), By: "ann"}))
	broken := w.file("c.csv", "Order;Date;Amount;Fee;Text;Balance\nA;02.03.2026;1,00;0;x;1,00\nB;02.03.2026;1.00;0;x;2,00\n")
	refused(broken+":3:14: ", try(Order{Channel: "bank_transfer", Path: broken, Profile: w.acme, By: "ann"}))
	_, err := w.Resolve(ctx, Resolution{Break: 99, By: "ben", Why: "x"})
	refused("there is no break 99", err)
	_, err = w.Resolve(ctx, Resolution{Break: 99, By: "ben"})
	refused("--why", err)
	if n := w.one("SELECT count(*) FROM reconciliation_files"); n != 0 {
		t.Errorf("%d files were imported", n)
	}
}

// BenchmarkMillion: a million lines against a million transfers, a tenth of a percent of them wrong; then the same again.
func BenchmarkMillion(b *testing.B) {
	const n = 1_000_000
	env := enginestest.New(b, enginestest.Postgres)
	if err := poster.Migrate(b.Context(), env.PostgresURL); err != nil {
		b.Fatal(err)
	}
	db, err := pgx.Connect(b.Context(), env.PostgresURL)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close(b.Context())
	for _, sql := range []string{
		"INSERT INTO accounts (key, type, currency, exponent, credit_normal, striped) VALUES ('clearing:card/0:CNY', 'clearing', 'CNY', 2, false, true), ('wallet:C:CNY', 'wallet', 'CNY', 2, true, false)",
		`INSERT INTO transfers (shard, number, sequence, batch, debit_account, debit_version, credit_account, credit_version, amount, event_time, currency, kind)
			SELECT 0, i, i, 1, 1, i, 2, i, 100 + i, '2026-03-02', 'CNY', 'top_up' FROM generate_series(1, $1::bigint) i`,
		`INSERT INTO results (shard, sequence, batch, input_partition, input_offset, first_transfer, transfers, counted, event_time, input_topic, event_source, event_id, event_type, customer_id, payment_id, loan_id, code)
			SELECT 0, i, 1, 0, i, i, 1, true, '2026-03-02', 'payments', 'app', i::text, 'payment.initiated', 'C', 'PAY-' || lpad(i::text, 9, '0'), '', 'posted' FROM generate_series(1, $1::bigint) i`,
	} {
		args := []any{}
		if strings.Contains(sql, "$1") {
			args = append(args, n)
		}
		if _, err := db.Exec(b.Context(), sql, args...); err != nil {
			b.Fatal(err)
		}
	}
	var out strings.Builder
	for i := 1; i <= n; i++ {
		amount := 100 + i
		if i%1000 == 0 {
			amount++
		}
		fmt.Fprintf(&out, "PAY-%09d,2026-03-02,%d.%02d,a payment\n", i, amount/100, amount%100)
	}
	path := filepath.Join(b.TempDir(), "card.csv")
	if err := os.WriteFile(path, []byte(out.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	p, err := statement.ParseProfile("p", []byte("profile: p\ncurrency: CNY\ncolumns: {reference: 1, date: 2, amount: 3, text: 4}"))
	if err != nil {
		b.Fatal(err)
	}
	s := &Store{env.PostgresURL}
	for _, name := range []string{"first", "again"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				out, err := s.Reconcile(b.Context(), Order{Channel: "card", Path: path, Profile: p, By: "ann", Progress: func(stage string, done, total int64) {
					if done == 0 || done == total {
						b.Logf("%s %s %d", time.Now().Format("05.0"), stage, total)
					}
				}})
				if err != nil || out.Breaks() != n/1000 || name == "again" && out.Run != 0 {
					b.Fatal(out, err)
				}
			}
		})
	}
}
