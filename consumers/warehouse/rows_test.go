//go:build !noembed

package warehouse

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"sluice/pipelines/value"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// insertRows sends records straight to ClickHouse, without Kafka.
func (h *house) insertRows(records []*kgo.Record, token string) {
	h.Helper()
	w := &warehouse{c: h.c.fill(), conn: h.db}
	b := newBatch()
	for _, r := range records {
		b.add(h.c.Base(r.Topic), r)
	}
	for _, t := range b.tables() {
		if t.rows == 0 {
			continue
		}
		if err := w.send(h.Context(), token, t); err != nil {
			h.Fatal(err)
		}
	}
}

// decisions makes n random decisions of a family, and their records.
func (h *house) decisions(f events.Family, n int) ([]events.Decision, []*kgo.Record) {
	h.Helper()
	var all []events.Decision
	var records []*kgo.Record
	for len(all) < n {
		r := h.decision(f)
		if string(r.Key) == "garbage" {
			continue
		}
		d, err := events.DecodeDecision(r.Value)
		if err != nil {
			h.Fatal(err)
		}
		r.Partition, r.Offset, r.Timestamp = 1, int64(len(all)), time.UnixMilli(1_790_000_000_000+int64(len(all)))
		all, records = append(all, d), append(records, r)
	}
	return all, records
}

const decisionColumns = `event_time, event_id, source, type, customer_id, channel, device_id, ip, country, located, latitude, longitude,
	verdict, score, rules, rule_scores, reasons, ruleset, evidence, tier, label, received_time, topic, partition, offset, decided_time, decided_offset, decision_id, `

// readDecision scans the shared columns, and then the others into more.
func readDecision(scan func(...any) error, record *kgo.Record, more ...any) (d events.Decision, err error) {
	e := &d.Event
	var kind, verdict, id string
	var rules, reasons []string
	var scores []int32
	var evidence map[string]string
	var decided time.Time
	var offset int64
	columns := []any{&e.Time, &e.ID, &e.Source, &kind, &e.CustomerID, &e.Channel, &e.DeviceID, &e.IP, &e.Country, &e.Located, &e.Latitude, &e.Longitude,
		&verdict, &d.Score, &rules, &scores, &reasons, &d.Ruleset, &evidence, &d.Tier, &e.Label, &d.Received, &d.Topic, &d.Partition, &d.Offset, &decided, &offset, &id}
	if err := scan(append(columns, more...)...); err != nil {
		return d, err
	}
	e.Time, d.Received, e.Kind = e.Time.UTC(), d.Received.UTC(), events.ParseKind(kind)
	for v := events.Observed; v <= events.Duplicate; v++ {
		if v.String() == verdict {
			d.Verdict = v
		}
	}
	for i := range rules {
		d.Hits = append(d.Hits, events.Hit{Rule: rules[i], Score: scores[i], Reason: reasons[i]})
	}
	for name, text := range evidence {
		d.Evidence = append(d.Evidence, events.Value{Name: name, Text: text})
	}
	slices.SortFunc(d.Evidence, func(a, b events.Value) int { return strings.Compare(a.Name, b.Name) })
	if id != d.ID() || !decided.Equal(record.Timestamp) || offset != record.Offset {
		return d, fmt.Errorf("decision_id %s, decided %s at %d", id, decided, offset)
	}
	return d, nil
}

// checkColumns inserts random decisions of a family and reads every column back.
func checkColumns(t *testing.T, h *house, f events.Family, columns string, read func(d *events.Decision) (into []any, finish func() error)) {
	t.Helper()
	want, records := h.decisions(f, 400)
	h.insertRows(records, "columns")
	rows, err := h.db.Query(t.Context(), "SELECT "+decisionColumns+columns+" ORDER BY decided_offset")
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for ; rows.Next(); i++ {
		var more events.Decision
		into, finish := read(&more)
		got, err := readDecision(rows.Scan, records[i], into...)
		if err == nil {
			err = finish()
		}
		if err != nil {
			t.Fatal(err)
		}
		merge(&got.Event, &more.Event)
		got.Trace, got.Snoozed, got.Route = more.Trace, more.Snoozed, more.Route
		for i := range got.Hits {
			got.Hits[i].Braked = slices.ContainsFunc(more.Hits, func(h events.Hit) bool { return h.Rule == got.Hits[i].Rule })
		}
		if !reflect.DeepEqual(got, want[i]) {
			t.Fatalf("got  %+v\nwant %+v", got, want[i])
		}
	}
	if err := rows.Err(); err != nil || i != len(want) {
		t.Fatalf("%d rows of %d, %v", i, len(want), err)
	}
}

// merge copies the fields that from has to into.
func merge(into, from *events.Event) {
	a, b := reflect.ValueOf(into).Elem(), reflect.ValueOf(from).Elem()
	for i := range a.NumField() {
		if !b.Field(i).IsZero() {
			a.Field(i).Set(b.Field(i))
		}
	}
}

func money(amount decimal.Decimal, minor int64, currency string) error {
	c, ok := events.ParseCurrency(currency)
	if want := decimal.RequireFromString(events.FormatAmount(minor, c)); !ok || !amount.Equal(want) {
		return fmt.Errorf("amount is %s, want %s %s", amount, want, currency)
	}
	return nil
}

// asked reads the columns of events that may ask for a verdict; told puts them into the decision.
func asked(d *events.Decision) (into []any, told func()) {
	var braked []string
	var trace string
	return []any{&d.Event.CustomerName, &braked, &d.Snoozed, &trace}, func() {
		for _, id := range braked {
			d.Hits = append(d.Hits, events.Hit{Rule: id, Braked: true})
		}
		if d.Trace = []byte(trace); trace == "" {
			d.Trace = nil
		}
		if len(d.Snoozed) == 0 {
			d.Snoozed = nil
		}
	}
}

// carried reads the columns of what carries a payment; kept puts them into the decision.
func carried(d *events.Decision) (into []any, kept func()) {
	e := &d.Event
	var merchants []string
	var shares []int64
	var currency, outcome string
	return []any{&e.PaymentChannel, &d.Route.Channel, &d.Route.Reason, &d.Route.Fallbacks, &merchants, &shares, &currency, &e.Exchange.Amount, &e.Exchange.Rate, &e.RespondBy, &outcome, &e.Evidence}, func() {
		for i := range merchants {
			e.Splits = append(e.Splits, events.Split{MerchantID: merchants[i], Amount: shares[i]})
		}
		e.Exchange.Currency, _ = events.ParseCurrency(currency)
		if e.RespondBy = e.RespondBy.UTC(); e.RespondBy.Equal(earliest) {
			e.RespondBy = time.Time{}
		}
		e.Outcome = eventsv1.DisputeOutcome(eventsv1.DisputeOutcome_value["DISPUTE_OUTCOME_"+strings.ToUpper(outcome)])
		if len(d.Route.Fallbacks) == 0 {
			d.Route.Fallbacks = nil
		}
	}
}

// Every column of random payments, loans and behaviours is what the event says.
func TestColumns(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	checkColumns(t, h, events.Payment, `customer_name, braked, snoozed, trace, payment_channel, route, route_reason, route_fallbacks, split_merchants, split_minor, exchange_currency, exchange_minor, exchange_rate,
	respond_by, outcome, dispute_evidence, counterparty_name, customer_kyc_level, payment_id, account_id, counterparty_id, merchant_id, merchant_category, method, purpose, amount_minor, amount, currency, card_token, reason FROM payments`,
		func(d *events.Decision) ([]any, func() error) {
			e := &d.Event
			asked, told := asked(d)
			carried, kept := carried(d)
			asked = append(asked, carried...)
			var method, purpose, currency string
			var amount decimal.Decimal
			return append(asked, &e.CounterpartyName, &e.KYCLevel, &e.PaymentID, &e.AccountID, &e.CounterpartyID, &e.MerchantID, &e.MerchantMCC, &method, &purpose, &e.Amount, &amount, &currency, &e.CardToken, &e.Reason), func() error {
				told()
				kept()
				e.Currency = events.MustCurrency(currency)
				e.Method = eventsv1.PaymentMethod(eventsv1.PaymentMethod_value["PAYMENT_METHOD_"+strings.ToUpper(method)])
				e.Purpose = eventsv1.PaymentPurpose(eventsv1.PaymentPurpose_value["PAYMENT_PURPOSE_"+strings.ToUpper(purpose)])
				return money(amount, e.Amount, currency)
			}
		})
	checkColumns(t, h, events.Loan, `customer_name, braked, snoozed, trace, loan_id, product, amount_minor, amount, currency, term_months, annual_rate_ppm, annual_rate, purpose, monthly_income_minor, outstanding_debt_minor, age, employment_months, bureau_score, reason FROM loans`,
		func(d *events.Decision) ([]any, func() error) {
			e := &d.Event
			asked, told := asked(d)
			var currency string
			var amount, rate decimal.Decimal
			var ppm int64
			return append(asked, &e.LoanID, &e.Product, &e.Amount, &amount, &currency, &e.TermMonths, &ppm, &rate, &e.LoanPurpose, &e.MonthlyIncome, &e.OutstandingDebt, &e.Age, &e.EmploymentMonths, &e.BureauScore, &e.Reason), func() error {
				told()
				e.Currency, e.AnnualRate = events.MustCurrency(currency), events.Rate(ppm)
				if !rate.Equal(decimal.RequireFromString(events.FormatRate(e.AnnualRate))) {
					return fmt.Errorf("rate is %s, want %s", rate, events.FormatRate(e.AnnualRate))
				}
				return money(amount, e.Amount, currency)
			}
		})
	checkColumns(t, h, events.Behavior, `session_id, subject, payee_id, document_hash, kyc_level, text FROM behaviors`,
		func(d *events.Decision) ([]any, func() error) {
			e := &d.Event
			return []any{&e.SessionID, &e.Subject, &e.PayeeID, &e.DocumentHash, &e.KYCLevel, &e.Text}, func() error { return nil }
		})
}

// Every column of results and postings is what the book says.
func TestResultColumns(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var want []*eventsv1.LedgerResult
	var records []*kgo.Record
	for i := range 300 {
		r := h.result()
		var m eventsv1.LedgerResult
		if err := proto.Unmarshal(r.Value, &m); err != nil {
			t.Fatal(err)
		}
		r.Partition, r.Offset, r.Timestamp = m.Shard, int64(i), time.UnixMilli(1_790_000_000_000)
		want, records = append(want, &m), append(records, r)
	}
	h.insertRows(records, "results")
	rows, err := h.db.Query(t.Context(), `SELECT event_time, shard, sequence, decision_id, event_id, source, type, customer_id, payment_id, loan_id, code, transfers, result_offset FROM results ORDER BY result_offset`)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; rows.Next(); i++ {
		m := eventsv1.LedgerResult{Transfers: want[i].Transfers}
		var when time.Time
		var transfers int32
		var offset int64
		if err := rows.Scan(&when, &m.Shard, &m.Sequence, &m.DecisionId, &m.EventId, &m.EventSource, &m.EventType, &m.CustomerId, &m.PaymentId, &m.LoanId, &m.Code, &transfers, &offset); err != nil {
			t.Fatal(err)
		}
		m.EventTimeUs = when.UnixMicro()
		if !proto.Equal(&m, want[i]) || int(transfers) != len(want[i].Transfers) || offset != int64(i) {
			t.Fatalf("got %v, %d transfers\nwant %v", &m, transfers, want[i])
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	h.checkPostings(want)
}

func (h *house) checkPostings(want []*eventsv1.LedgerResult) {
	h.Helper()
	rows, err := h.db.Query(h.Context(), `SELECT result_offset, number, transfer_id, debit_account, credit_account, amount_minor, amount, currency, kind, decision_id, customer_id, payment_id, loan_id, shard, sequence
		FROM postings ORDER BY result_offset, number`)
	if err != nil {
		h.Fatal(err)
	}
	n := 0
	for ; rows.Next(); n++ {
		var offset, minor, sequence int64
		var number, shard int32
		var p eventsv1.LedgerTransfer
		var amount decimal.Decimal
		var decision, customer, payment, loan string
		if err := rows.Scan(&offset, &number, &p.TransferId, &p.DebitAccount, &p.CreditAccount, &minor, &amount, &p.Currency, &p.Kind, &decision, &customer, &payment, &loan, &shard, &sequence); err != nil {
			h.Fatal(err)
		}
		m := want[offset]
		t := m.Transfers[number-1]
		p.Amount = t.Amount
		if err := money(amount, minor, p.Currency); err != nil || !amount.Equal(decimal.RequireFromString(t.Amount)) || !proto.Equal(&p, t) {
			h.Fatalf("posting %v of %s, want %v; %v", &p, amount, t, err)
		}
		if decision != m.DecisionId || customer != m.CustomerId || payment != m.PaymentId || loan != m.LoanId || shard != m.Shard || sequence != m.Sequence {
			h.Fatalf("posting %d of %v is of another result", number, m)
		}
	}
	for _, m := range want {
		n -= len(m.Transfers)
	}
	if err := rows.Err(); err != nil || n != 0 {
		h.Fatalf("%d postings too many, %v", n, err)
	}
}

// The tiers that ClickHouse computes are those that package value defines, on random populations with many equals.
func TestTiersAgree(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.spread = 200 * 24 * time.Hour
	for round, size := range []int{1, 20, 300, 1200} {
		h.customers = 1 + size/5
		h.days = map[value.DayKey]value.Day{}
		for _, table := range []string{"payments", "behaviors", "customer_days"} {
			if err := h.db.Exec(t.Context(), "TRUNCATE TABLE "+table); err != nil {
				t.Fatal(err)
			}
		}
		_, payments := h.decisions(events.Payment, size)
		_, behaviors := h.decisions(events.Behavior, size/3)
		h.insertRows(append(payments, behaviors...), fmt.Sprint("round ", round))
		if got := h.readDays(); !reflect.DeepEqual(got, h.days) {
			t.Fatalf("customer_days differs: %s", difference(got, h.days))
		}
		got, want := h.readTiers(), value.Tiers(h.days)
		if len(got) != len(want) {
			t.Fatalf("%d customers, want %d", len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("got  %+v\nwant %+v", got[i], want[i])
			}
		}
	}
}

// readTiers computes the tiers anew and reads them.
func (h *house) readTiers() (all []value.Customer) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	for _, s := range []string{"SYSTEM REFRESH VIEW customer_tiers_refresh", "SYSTEM WAIT VIEW customer_tiers_refresh"} {
		if err := h.db.Exec(ctx, s); err != nil {
			h.Fatal(err)
		}
	}
	rows, err := h.db.Query(ctx, "SELECT customer_id, tier, recency, frequency, monetary, last_day, payments, as_of FROM customer_tiers ORDER BY customer_id")
	if err != nil {
		h.Fatal(err)
	}
	for rows.Next() {
		var c value.Customer
		var tier string
		var r, f, m uint8
		var day time.Time
		if err := rows.Scan(&c.ID, &tier, &r, &f, &m, &day, &c.Payments, &c.AsOf); err != nil {
			h.Fatal(err)
		}
		c.Tier, c.Recency, c.Frequency, c.Monetary, c.LastDay, c.AsOf = value.Tier(tier), int(r), int(f), int(m), value.DayOf(day), c.AsOf.UTC()
		all = append(all, c)
	}
	if err := rows.Err(); err != nil {
		h.Fatal(err)
	}
	return all
}

// No bytes make the conversion panic or lose a record: each has a row somewhere.
func FuzzAdd(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, family := range []events.Family{events.Payment, events.Loan, events.Behavior} {
		d := randomDecision(r, family, time.Hour)
		d.Topic = family.Topic()
		if _, v, err := events.EncodeDecision(&d); err == nil {
			f.Add(uint8(family), v)
		}
	}
	if v, err := proto.Marshal(randomResult(r)); err == nil {
		f.Add(uint8(3), v)
	}
	f.Fuzz(func(t *testing.T, topic uint8, bytes []byte) {
		b := newBatch()
		b.add(topics[int(topic)%len(topics)], &kgo.Record{Value: bytes, Timestamp: time.Unix(1, 0)})
		n := 0
		for _, table := range b.tables() {
			if table.name != "postings" {
				n += table.rows
			}
		}
		want := 1
		if topics[int(topic)%len(topics)] == schemas.Rules && len(bytes) == 0 {
			want = 0 // the end of a ruleset
		}
		if n != want {
			t.Fatalf("%d rows, want %d", n, want)
		}
	})
}

// Every column of shadow verdicts and rulesets is what the record says; what is no ruleset becomes a dead letter.
func TestRuleColumns(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var want []events.ShadowVerdict
	var records []*kgo.Record
	for i := range 200 {
		v, r := h.shadow(int64(i))
		r.Partition, r.Offset, r.Timestamp = int32(i%3), int64(i), time.UnixMilli(1_790_000_000_000)
		want, records = append(want, v), append(records, r)
	}
	h.insertRows(records, "shadows")
	rows, err := h.db.Query(t.Context(), `SELECT event_time, event_id, source, type, customer_id, shadow, ruleset, verdict, score, rules, rule_scores, reasons, braked, snoozed,
		trace, live_ruleset, live_verdict, live_score, label, decision_id, shadow_partition, decided_time FROM shadow_verdicts ORDER BY shadow_offset`)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for ; rows.Next(); i++ {
		var v events.ShadowVerdict
		var kind, verdict, live, trace string
		var rules, reasons, braked []string
		var scores []int32
		var partition int32
		var decided time.Time
		if err := rows.Scan(&v.EventTime, &v.EventID, &v.EventSource, &kind, &v.CustomerID, &v.Shadow, &v.Ruleset, &verdict, &v.Score, &rules, &scores, &reasons, &braked, &v.Snoozed,
			&trace, &v.LiveRuleset, &live, &v.LiveScore, &v.Label, &v.DecisionID, &partition, &decided); err != nil {
			t.Fatal(err)
		}
		for i := range rules {
			v.Hits = append(v.Hits, events.Hit{Rule: rules[i], Score: scores[i], Reason: reasons[i], Braked: slices.Contains(braked, rules[i])})
		}
		v.EventTime, v.Kind, v.Trace = v.EventTime.UTC(), events.ParseKind(kind), []byte(trace)
		v.Verdict, v.LiveVerdict = want[i].Verdict, want[i].LiveVerdict
		if verdict != v.Verdict.String() || live != v.LiveVerdict.String() || partition != records[i].Partition || !decided.Equal(records[i].Timestamp) || !reflect.DeepEqual(v, want[i]) {
			t.Fatalf("got  %+v (%s, %s, %d, %s)\nwant %+v", v, verdict, live, partition, decided, want[i])
		}
	}
	if err := rows.Err(); err != nil || i != len(want) {
		t.Fatalf("%d rows of %d, %v", i, len(want), err)
	}
	newer := "ruleset: fraud # ours\nversion: 4\nsorcery: {a: b}\n"
	h.insertRows([]*kgo.Record{
		{Topic: h.c.Topic(schemas.Rules), Key: []byte("default"), Value: []byte("ruleset: empty\nversion: 7\nrules: []\n"), Offset: 0, Timestamp: time.UnixMilli(1)},
		{Topic: h.c.Topic(schemas.Rules), Key: []byte("shadow/next"), Value: []byte(newer), Offset: 1, Timestamp: time.UnixMilli(1_790_000_000_000)},
		{Topic: h.c.Topic(schemas.Rules), Key: []byte("shadow/next"), Offset: 2},
		{Topic: h.c.Topic(schemas.Rules), Key: []byte("shadow/wrong"), Value: []byte("{{"), Offset: 3},
	}, "rulesets")
	var ids []string
	if err := h.db.QueryRow(t.Context(), "SELECT arraySort(groupArray(concat(id, ' ', key, ' ', name, ' ', toString(version), ' ', toString(rules_offset)))) FROM rulesets").Scan(&ids); err != nil {
		t.Fatal(err)
	}
	if want := []string{"empty@7 default empty 7 0", "fraud@4 shadow/next fraud 4 1"}; !slices.Equal(ids, want) {
		t.Errorf("rulesets are %q, want %q", ids, want)
	}
	var source string
	if err := h.db.QueryRow(t.Context(), "SELECT source FROM rulesets WHERE id = 'fraud@4'").Scan(&source); err != nil || source != newer {
		t.Errorf("the source is %q, %v", source, err)
	}
	var letters uint64
	if err := h.db.QueryRow(t.Context(), "SELECT count() FROM dead_letters WHERE topic = 'rules' AND offset = 3").Scan(&letters); err != nil || letters != 1 {
		t.Errorf("%d dead letters, %v", letters, err)
	}
}
