//go:build !noembed

package warehouse

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"sluice/consumers/stream"
	"sluice/deploy/embedded"
	"sluice/deploy/embedded/enginestest"
	"sluice/pipelines/value"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
	schema "sluice/schemas/warehouse"
)

func TestMain(m *testing.M) { os.Exit(enginestest.Main(m)) }

// patience bounds every wait of a test.
const patience = 90 * time.Second

// house is what a test has: topics, a database, and what was put into the topics.
type house struct {
	testing.TB
	c         Config
	producer  *kgo.Client
	db        driver.Conn
	fake      *embedded.KafkaCluster // nil when Kafka is external
	random    *rand.Rand
	spread    time.Duration // how far back events lie
	customers int

	decided map[string][]*kgo.Record // by table
	days    map[value.DayKey]value.Day
	next    map[string]int64 // next input offset by topic
}

func newHouse(t testing.TB) *house {
	t.Helper()
	env := enginestest.New(t, enginestest.Kafka, enginestest.ClickHouse)
	return newHouseAt(t, env, env.ClickHouseURL)
}

func newHouseAt(t testing.TB, env *enginestest.Env, url string) *house {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	h := &house{TB: t, fake: env.Fake, random: rand.New(rand.NewPCG(seed, 1)), spread: 40 * 24 * time.Hour, customers: 40, decided: map[string][]*kgo.Record{},
		days: map[value.DayKey]value.Day{}, next: map[string]int64{}}
	h.c = Config{Config: stream.Config{Brokers: env.Kafka, Prefix: env.Prefix, Partitions: 3}, ClickHouse: url,
		FlushRows: 40, FlushEvery: 10 * time.Millisecond, TierRefresh: time.Hour}
	if err := h.c.EnsureTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := schema.Apply(t.Context(), url, schema.Options{TierRefresh: time.Hour}); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.db, err = schema.Open(url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.db.Close() })
	if h.producer, err = h.c.Client(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.producer.Close)
	return h
}

// produce publishes about n records on all inputs together.
func (h *house) produce(n int) {
	h.Helper()
	var records []*kgo.Record
	for range n {
		switch h.random.IntN(11) {
		case 0, 1, 2, 3, 4:
			records = append(records, h.decision(events.Payment))
		case 5, 6:
			records = append(records, h.decision(events.Behavior))
		case 7:
			records = append(records, h.decision(events.Loan))
		case 8:
			records = append(records, h.result())
		case 9:
			records = append(records, h.letter())
		case 10:
			_, r := h.shadow(h.random.Int64N(1000))
			records = append(records, r)
		}
	}
	h.publish(records)
}

func (h *house) publish(records []*kgo.Record) {
	h.Helper()
	if err := h.producer.ProduceSync(h.Context(), records...).FirstErr(); err != nil {
		h.Fatal(err)
	}
	for _, r := range records {
		table := map[string]string{schemas.PaymentsDecided: "payments", schemas.LoansDecided: "loans", schemas.BehaviorsDecided: "behaviors",
			schemas.LedgerResults: "results", schemas.DeadLetters: "dead_letters", schemas.VerdictsShadow: "shadow_verdicts"}[h.c.Base(r.Topic)]
		if string(r.Key) == "garbage" {
			table = "dead_letters"
		}
		h.decided[table] = append(h.decided[table], r)
	}
}

func (h *house) decision(f events.Family) *kgo.Record {
	h.Helper()
	d := randomDecision(h.random, f, h.spread)
	d.Event.CustomerID = fmt.Sprintf("C%d", h.random.IntN(h.customers))
	d.Topic, d.Partition, d.Offset = f.Topic(), int32(h.random.IntN(3)), h.next[f.Topic()]
	h.next[f.Topic()]++
	if h.random.IntN(50) == 0 {
		return &kgo.Record{Topic: h.c.Topic(schemas.DecidedTopic(f.Topic())), Key: []byte("garbage"), Value: []byte("\xff\x00no decision")}
	}
	if key, day, ok := value.Count(&d); ok {
		sum := h.days[key]
		sum.Add(day)
		h.days[key] = sum
	}
	headers, bytes, err := events.EncodeDecision(&d)
	if err != nil {
		h.Fatal(err)
	}
	return h.c.ToKafka(schemas.DecidedTopic(f.Topic()), d.Event.CustomerID, headers, bytes)
}

// shadow makes what a shadow says of an event at an offset.
func (h *house) shadow(offset int64) (events.ShadowVerdict, *kgo.Record) {
	h.Helper()
	r := h.random
	v := events.ShadowVerdict{DecisionID: events.PositionID(schemas.Payments, int32(r.IntN(3)), offset), Shadow: pick(r, "strict", "lax"), Ruleset: "fraud@4",
		Verdict: pick(r, events.Approve, events.Review, events.Decline), Score: r.Int32N(100), Trace: []byte{1, 0, byte(r.IntN(256))},
		Hits: []events.Hit{{Rule: "r1", Score: 5, Reason: "R1", Braked: r.IntN(2) == 0}, {Rule: "r2", Score: 7}}, Snoozed: []string{"r3"},
		LiveRuleset: "fraud@3", LiveVerdict: pick(r, events.Approve, events.Decline), LiveScore: r.Int32N(100), EventID: fmt.Sprintf("e-%d", r.Uint64()), EventSource: "app",
		Kind: events.PaymentInitiated, CustomerID: fmt.Sprintf("C%d", r.IntN(h.customers)), EventTime: newest.Add(-time.Duration(r.Int64N(int64(h.spread)))).Truncate(time.Microsecond),
		Label: pick(r, "", "mule")}
	headers, value, err := events.EncodeShadowVerdict(&v)
	if err != nil {
		h.Fatal(err)
	}
	return v, h.c.ToKafka(schemas.VerdictsShadow, v.CustomerID, headers, value)
}

func (h *house) result() *kgo.Record {
	h.Helper()
	m := randomResult(h.random)
	h.next["results"]++
	m.Sequence = h.next["results"]
	bytes, err := proto.Marshal(m)
	if err != nil {
		h.Fatal(err)
	}
	return &kgo.Record{Topic: h.c.Topic(schemas.LedgerResults), Key: []byte(m.CustomerId), Value: bytes}
}

func (h *house) letter() *kgo.Record {
	original := &kgo.Record{Topic: h.c.Topic(schemas.Payments), Partition: 2, Offset: int64(h.random.IntN(1000)), Timestamp: time.UnixMilli(1_760_000_000_123),
		Key: []byte("C1"), Value: []byte{0, 1, 2, 0xff}, Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte("x")}, {Key: "ce_id", Value: []byte("y")}}}
	return h.c.DeadLetter(original, "gate", &events.Rejection{Code: events.CodeUnreadable, Detail: "no JSON"})
}

// running is a warehouse at work.
type running struct {
	stop context.CancelFunc
	err  chan error
}

// start runs a warehouse and returns once it has joined.
func (h *house) start(c Config) *running {
	h.Helper()
	ctx, cancel := context.WithCancel(h.Context())
	joined := make(chan struct{})
	var once sync.Once
	c.Ready = func() { once.Do(func() { close(joined) }) }
	r := &running{stop: cancel, err: make(chan error, 1)}
	go func() { r.err <- Run(ctx, c) }()
	h.Cleanup(cancel)
	select {
	case <-joined:
	case err := <-r.err:
		h.Fatalf("the warehouse ended before it joined: %v", err)
	case <-time.After(patience):
		h.Fatal("the warehouse does not join")
	}
	return r
}

// end stops a warehouse as a signal would.
func (h *house) end(r *running) {
	h.Helper()
	r.stop()
	if err := h.waitEnd(r); err != nil {
		h.Fatalf("the warehouse failed: %v", err)
	}
}

// waitEnd waits for the end of a warehouse.
func (h *house) waitEnd(r *running) error {
	h.Helper()
	select {
	case err := <-r.err:
		return err
	case <-time.After(patience):
		h.Fatal("the warehouse does not end")
		return nil
	}
}

// arrive waits until everything on the topics is in ClickHouse, as the committed offsets say.
func (h *house) arrive() {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	admin := kadm.NewClient(h.producer)
	for {
		missing, err := h.missing(ctx, admin)
		if err == nil && missing == "" {
			return
		}
		select {
		case <-ctx.Done():
			h.Fatalf("%s %v", missing, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// missing names a partition whose end is not committed.
func (h *house) missing(ctx context.Context, admin *kadm.Client) (string, error) {
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = h.c.Topic(t)
	}
	ends, err := admin.ListCommittedOffsets(ctx, names...)
	if err != nil {
		return "", err
	}
	committed, err := admin.FetchOffsets(ctx, h.c.Group(part))
	if err != nil {
		return "", err
	}
	missing := ""
	ends.Each(func(end kadm.ListedOffset) {
		if at, ok := committed.Lookup(end.Topic, end.Partition); end.Offset > 0 && (!ok || at.At < end.Offset || at.Metadata != "") {
			missing = fmt.Sprintf("%s/%d is at %d of %d", end.Topic, end.Partition, at.At, end.Offset)
		}
	})
	return missing, nil
}

// exact checks that every record is there exactly once, in raw tables and in what materialized views fill.
func (h *house) exact() {
	h.Helper()
	for table, records := range h.decided {
		position := map[string]string{"results": "result_partition, result_offset", "dead_letters": "letter_partition, letter_offset",
			"shadow_verdicts": "shadow_partition, shadow_offset"}[table]
		if position == "" {
			position = "decided_partition, decided_offset"
		}
		topic := "''"
		if table == "dead_letters" {
			topic = "letter_topic"
		}
		rows, err := h.db.Query(h.Context(), "SELECT "+topic+", "+position+" FROM "+table)
		if err != nil {
			h.Fatal(err)
		}
		var got, want []string
		for rows.Next() {
			var topic string
			var p int32
			var o int64
			if err := rows.Scan(&topic, &p, &o); err != nil {
				h.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%s %d/%d", topic, p, o))
		}
		if err := rows.Err(); err != nil {
			h.Fatal(err)
		}
		for _, r := range records {
			topic := ""
			if table == "dead_letters" {
				topic = h.c.Base(r.Topic)
			}
			want = append(want, fmt.Sprintf("%s %d/%d", topic, r.Partition, r.Offset))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			h.Errorf("%s has %d rows (%d distinct), want %d", table, len(got), len(slices.Compact(slices.Clone(got))), len(want))
		}
	}
	h.exactPostings()
	if got := h.readDays(); !reflect.DeepEqual(got, h.days) {
		h.Errorf("customer_days differs: %s", difference(got, h.days))
	}
}

func (h *house) exactPostings() {
	h.Helper()
	want := uint64(0)
	for _, r := range h.decided["results"] {
		var m eventsv1.LedgerResult
		if err := proto.Unmarshal(r.Value, &m); err != nil {
			h.Fatal(err)
		}
		want += uint64(len(m.Transfers))
	}
	var n, distinct uint64
	if err := h.db.QueryRow(h.Context(), "SELECT count(), uniqExact(result_partition, result_offset, number) FROM postings").Scan(&n, &distinct); err != nil {
		h.Fatal(err)
	}
	if n != want || distinct != want {
		h.Errorf("postings has %d rows (%d distinct), want %d", n, distinct, want)
	}
}

// readDays reads customer_days as the definition in Go would have it.
func (h *house) readDays() map[value.DayKey]value.Day {
	h.Helper()
	rows, err := h.db.Query(h.Context(), `SELECT day, customer_id, currency, sum(payments), sum(spent_minor), sum(topped_up_minor), sum(withdrawn_minor),
		sum(refunded_minor), sum(reviewed), sum(declined), sum(actions), sum(failed_sign_ins), sum(complaints), sum(active), max(last_active)
		FROM customer_days GROUP BY day, customer_id, currency`)
	if err != nil {
		h.Fatal(err)
	}
	got := map[value.DayKey]value.Day{}
	for rows.Next() {
		var k value.DayKey
		var d value.Day
		var day time.Time
		if err := rows.Scan(&day, &k.Customer, &k.Currency, &d.Payments, &d.Spent, &d.ToppedUp, &d.Withdrawn, &d.Refunded, &d.Reviewed, &d.Declined,
			&d.Actions, &d.FailedSignIns, &d.Complaints, &d.Active, &d.LastActive); err != nil {
			h.Fatal(err)
		}
		k.Day = value.DayOf(day)
		d.LastActive = d.LastActive.UTC()
		if d.Active == 0 {
			d.LastActive = time.Time{}
		}
		got[k] = d
	}
	if err := rows.Err(); err != nil {
		h.Fatal(err)
	}
	return got
}

func difference[K comparable, V any](got, want map[K]V) string {
	for k, w := range want {
		if g, ok := got[k]; !ok {
			return fmt.Sprintf("%v is missing (%d of %d)", k, len(got), len(want))
		} else if !reflect.DeepEqual(g, w) {
			return fmt.Sprintf("%v is\n%+v, want\n%+v", k, g, w)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			return fmt.Sprintf("%v is too much", k)
		}
	}
	return "equal"
}

var errCrash = errors.New("crash")

// crashAt makes a warehouse crash the nth time it comes to a step.
func crashAt(s Step, n int64) func(context.Context, Step, string, int32) error {
	var times atomic.Int64
	return func(_ context.Context, at Step, _ string, _ int32) error {
		if at == s && times.Add(1) == n {
			return errCrash
		}
		return nil
	}
}

// pick returns one of its arguments.
func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

var testCurrencies = []string{"CNY", "JPY", "KWD"}

// newest is the newest day of random events.
var newest = time.Date(2026, 9, 30, 0, 0, 0, 0, time.UTC)

// randomDecision makes a decision that DecodeDecision gives back as it is.
func randomDecision(r *rand.Rand, f events.Family, spread time.Duration) events.Decision {
	var kinds []events.Kind
	for _, k := range events.Kinds() {
		if k.Family() == f && k < events.PaymentRerouted { // the tables do not keep what the later ones say
			kinds = append(kinds, k)
		}
	}
	if f == events.Payment && r.IntN(2) == 0 {
		kinds = []events.Kind{events.PaymentInitiated}
	}
	e := events.Event{ID: fmt.Sprintf("e-%d", r.Uint64()), Source: pick(r, "app", "pos", "渠道 1"), Kind: pick(r, kinds...),
		Time: newest.Add(-time.Duration(r.Int64N(int64(spread)))).Truncate(time.Microsecond), Label: pick(r, "", "", "mule"),
		CustomerID: "C1", Channel: pick(r, "", "app", "web"), DeviceID: pick(r, "", "d1", "设备'\\"), IP: pick(r, "", "10.0.0.1", "2001:db8::1"),
		Country: pick(r, "", "CN", "DE")}
	if r.IntN(2) == 0 {
		e.Latitude, e.Longitude, e.Located = r.Float64()*180-90, r.Float64()*360-180, true
	}
	switch f {
	case events.Payment:
		randomPayment(r, &e)
	case events.Loan:
		randomLoan(r, &e)
	case events.Behavior:
		e.SessionID, e.Subject, e.Text, e.KYCLevel = pick(r, "", "s1"), pick(r, "", "home"), pick(r, "", "not good\n\t'x'"), int32(r.IntN(4))
		e.PayeeID, e.DocumentHash, e.DeviceID = "p1", pick(r, "", "ab12"), "d1"
	}
	d := events.Decision{Event: e, Verdict: pick(r, events.Observed, events.Approve, events.Approve, events.Approve, events.Review, events.Decline, events.Duplicate),
		Score: r.Int32N(200), Ruleset: pick(r, "", "fraud@3"), Tier: pick(r, "", "gold"), Received: e.Time.Add(time.Duration(r.IntN(1e6)) * time.Microsecond)}
	if f != events.Behavior {
		d.Event.CustomerName, d.Trace, d.Snoozed = pick(r, "", "Zhang Wei 张伟"), pick(r, nil, []byte{1, 0xff, 0}), pick(r, nil, []string{"quiet"})
	}
	for i := range r.IntN(3) {
		d.Hits = append(d.Hits, events.Hit{Rule: fmt.Sprintf("rule-%d", i), Score: r.Int32N(100), Reason: pick(r, "R101", ""), Braked: f != events.Behavior && r.IntN(3) == 0})
		d.Evidence = append(d.Evidence, events.Value{Name: fmt.Sprintf("aggregate_%d", i), Text: pick(r, "", "12.5")})
	}
	return d
}

func randomPayment(r *rand.Rand, e *events.Event) {
	e.PaymentID, e.AccountID, e.CounterpartyID, e.MerchantID = fmt.Sprintf("p-%d", r.IntN(1000)), pick(r, "", "a1"), "C2", "M1"
	e.CounterpartyName, e.KYCLevel = pick(r, "", "Ann Example"), r.Int32N(4)
	e.MerchantMCC, e.CardToken, e.Reason = pick(r, "", "5411"), pick(r, "", "tok_1"), pick(r, "", "fraud")
	e.Amount, e.Currency = 1+r.Int64N(pick(r, 10, 10_000, events.MaxAmount/1000)), events.MustCurrency(pick(r, testCurrencies...))
	e.Method, e.Purpose = eventsv1.PaymentMethod(1+r.IntN(4)), eventsv1.PaymentPurpose(1+r.IntN(4))
}

func randomLoan(r *rand.Rand, e *events.Event) {
	e.LoanID, e.Product, e.LoanPurpose, e.Reason = fmt.Sprintf("L%d", r.IntN(100)), "cash-30d", pick(r, "", "education"), pick(r, "", "late")
	e.Amount, e.Currency = 1+r.Int64N(events.MaxAmount), events.MustCurrency(pick(r, testCurrencies...))
	e.TermMonths, e.AnnualRate = 1+r.Int32N(120), events.Rate(r.Int64N(int64(events.RateOne)))
	e.MonthlyIncome, e.OutstandingDebt = r.Int64N(1_000_000), r.Int64N(1_000_000)
	e.Age, e.EmploymentMonths, e.BureauScore = r.Int32N(100), r.Int32N(400), pick(r, 0, 300+r.Int32N(551))
}

func randomResult(r *rand.Rand) *eventsv1.LedgerResult {
	m := &eventsv1.LedgerResult{Shard: r.Int32N(3), Sequence: 1 + r.Int64N(1000), DecisionId: fmt.Sprintf("payments/1/%d", r.IntN(1000)), EventId: fmt.Sprintf("e-%d", r.Uint64()),
		EventSource: "app", EventType: "payment.initiated", EventTimeUs: newest.UnixMicro() - r.Int64N(1e12), CustomerId: "C1",
		PaymentId: pick(r, "", "p1"), LoanId: pick(r, "", "l1"), Code: pick(r, "posted", "ignored", "insufficient_funds")}
	for i := range r.IntN(4) {
		c := events.MustCurrency(pick(r, testCurrencies...))
		m.Transfers = append(m.Transfers, &eventsv1.LedgerTransfer{TransferId: r.Int64(), DebitAccount: "wallet:C1:" + c.Code(), CreditAccount: "merchant:M1:" + c.Code(),
			Amount: events.FormatAmount(1+r.Int64N(events.MaxAmount), c), Currency: c.Code(), Kind: pick(r, "purchase", "fee") + fmt.Sprint(i)})
	}
	return m
}
