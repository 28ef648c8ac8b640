package warehouse

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"sluice/consumers/deadletter"
	"sluice/consumers/stream"
	"sluice/pipelines/payments"
	"sluice/schemas"
	"sluice/schemas/events"
	eventsv1 "sluice/schemas/events/v1"
)

// Times that fit every time column; a record beyond them is no record of ours.
var (
	earliest = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// codeUnfit is the reason of a record that can be read but does not fit its table.
const codeUnfit = "unfit"

// batch is the rows of one planned range of one partition, by table.
type batch struct {
	payments  paymentRows
	loans     loanRows
	behaviors behaviorRows
	results   resultRows
	postings  postingRows
	letters   letterRows
	shadows   shadowRows
	rulesets  rulesetRows
}

func newBatch() *batch {
	b := &batch{}
	b.payments.bind()
	b.loans.bind()
	b.behaviors.bind()
	b.results.bind()
	b.postings.bind()
	b.letters.bind()
	b.shadows.bind()
	b.rulesets.bind()
	return b
}

// tables lists the tables in the order they are sent.
func (b *batch) tables() []*table {
	return []*table{&b.payments.table, &b.loans.table, &b.behaviors.table, &b.results.table, &b.postings.table, &b.letters.table, &b.shadows.table, &b.rulesets.table}
}

func (b *batch) reset() {
	for _, t := range b.tables() {
		t.reset()
	}
}

// add converts one record of a topic (named without prefix). What cannot be converted becomes a row of dead_letters:
// nothing is lost, and nothing behind it waits.
func (b *batch) add(topic string, r *kgo.Record) {
	if r.Attrs.IsControl() || counted(topic, r) {
		return
	}
	var err error
	switch topic {
	case schemas.DeadLetters:
		b.letters.add(r)
	case schemas.LedgerResults:
		err = b.addResult(r)
	case schemas.VerdictsShadow:
		err = b.shadows.add(r)
	case schemas.Rules:
		err = b.rulesets.add(r)
	default:
		err = b.addDecision(topic, r)
	}
	if err != nil {
		b.letters.addUnreadable(topic, r, err)
	}
}

// counted says whether a record only repeats one that has its row: a mark that a dead letter was published again, or a
// decision or result published again because another part could not apply it. This part had read it the first time.
func counted(topic string, r *kgo.Record) bool {
	if topic == schemas.DeadLetters {
		_, ok := deadletter.Mark(r)
		return ok
	}
	return slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == deadletter.HeaderReplayed })
}

func (b *batch) addDecision(topic string, r *kgo.Record) error {
	d, err := events.DecodeDecision(r.Value)
	if err != nil {
		return err
	}
	if got := d.Event.Kind.Family().Topic(); schemas.DecidedTopic(got) != topic {
		return &events.Rejection{Code: events.CodeWrongTopic, Field: "event_type", Detail: fmt.Sprintf("%s belongs on %s", d.Event.Kind, schemas.DecidedTopic(got))}
	}
	if !fits(d.Event.Time) || !fits(d.Received) {
		return &events.Rejection{Code: events.CodeTime, Field: "event_time_us", Detail: "the event's time or its arrival is outside 1970 to 2200"}
	}
	switch d.Event.Kind.Family() {
	case events.Payment:
		b.payments.add(&d, r)
	case events.Loan:
		b.loans.add(&d, r)
	case events.Behavior:
		b.behaviors.add(&d, r)
	}
	return nil
}

func (b *batch) addResult(r *kgo.Record) error {
	var m eventsv1.LedgerResult
	if err := proto.Unmarshal(r.Value, &m); err != nil {
		return &events.Rejection{Code: events.CodeUnreadable, Detail: fmt.Sprintf("not a LedgerResult: %v", err)}
	}
	when := time.UnixMicro(m.EventTimeUs).UTC()
	if m.Sequence < 1 || m.DecisionId == "" {
		return &events.Rejection{Code: events.CodeMissing, Field: "sequence, decision_id", Detail: "a result has both"}
	}
	if !fits(when) {
		return &events.Rejection{Code: events.CodeTime, Field: "event_time_us", Detail: "the event's time is outside 1970 to 2200"}
	}
	amounts := make([]int64, len(m.Transfers))
	for i, t := range m.Transfers {
		currency, ok := events.ParseCurrency(t.Currency)
		if !ok {
			return &events.Rejection{Code: events.CodeUnknownCurrency, Field: "transfers.currency", Detail: strconv.Quote(t.Currency)}
		}
		minor, err := events.ParseAmount(t.Amount, currency)
		if err != nil {
			return &events.Rejection{Code: events.CodeAmount, Field: "transfers.amount", Detail: err.Error()}
		}
		amounts[i] = minor
	}
	b.results.add(&m, when, r)
	for i, t := range m.Transfers {
		b.postings.add(&m, t, i, amounts[i], when, r)
	}
	return nil
}

func fits(t time.Time) bool { return !t.Before(earliest) && t.Before(latest) }

// clamp puts a Kafka timestamp, which anyone may set, within what a time column holds.
func clamp(t time.Time) time.Time {
	if t.Before(earliest) {
		return earliest
	}
	if !t.Before(latest) {
		return latest
	}
	return t
}

// Texts of closed sets, made once.
var (
	kindWords = func() (w [64]any) {
		for _, k := range events.Kinds() {
			w[k] = k.String()
		}
		return w
	}()
	verdictWords = func() (w [8]any) {
		for v := events.NoVerdict; v <= events.Duplicate; v++ {
			w[v] = v.String()
		}
		return w
	}()
	methodWords = map[eventsv1.PaymentMethod]any{
		eventsv1.PaymentMethod_PAYMENT_METHOD_UNSPECIFIED: "", eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET: "wallet",
		eventsv1.PaymentMethod_PAYMENT_METHOD_CARD: "card", eventsv1.PaymentMethod_PAYMENT_METHOD_BANK_TRANSFER: "bank_transfer",
		eventsv1.PaymentMethod_PAYMENT_METHOD_QUICK_PAY: "quick_pay",
	}
	purposeWords = func() map[eventsv1.PaymentPurpose]any {
		w := map[eventsv1.PaymentPurpose]any{}
		for n := range eventsv1.PaymentPurpose_name {
			p := eventsv1.PaymentPurpose(n)
			w[p] = payments.PurposeName(p)
		}
		w[eventsv1.PaymentPurpose_PAYMENT_PURPOSE_UNSPECIFIED] = ""
		return w
	}()
)

// decisionRows has the columns that payments, loans and behaviors share.
type decisionRows struct {
	table
	eventTime, received, decided            []time.Time
	eventID, customer, device, ip           []string
	source, kind, channel, country, verdict words
	ruleset, tier, label, topic             words
	located                                 []bool
	latitude, longitude                     []float64
	score                                   []int32
	rules, reasons                          [][]string
	ruleScores                              [][]int32
	evidence                                []map[string]string
	partition, decidedPartition             []int32
	offset, decidedOffset                   []int64
}

func (t *decisionRows) bind() {
	t.column("event_time", &t.eventTime)
	t.column("event_id", &t.eventID)
	t.column("source", &t.source)
	t.column("type", &t.kind)
	t.column("customer_id", &t.customer)
	t.column("channel", &t.channel)
	t.column("device_id", &t.device)
	t.column("ip", &t.ip)
	t.column("country", &t.country)
	t.column("located", &t.located)
	t.column("latitude", &t.latitude)
	t.column("longitude", &t.longitude)
	t.column("verdict", &t.verdict)
	t.column("score", &t.score)
	t.column("rules", &t.rules)
	t.column("rule_scores", &t.ruleScores)
	t.column("reasons", &t.reasons)
	t.column("ruleset", &t.ruleset)
	t.column("evidence", &t.evidence)
	t.column("tier", &t.tier)
	t.column("label", &t.label)
	t.column("received_time", &t.received)
	t.column("decided_time", &t.decided)
	t.column("topic", &t.topic)
	t.column("partition", &t.partition)
	t.column("offset", &t.offset)
	t.column("decided_partition", &t.decidedPartition)
	t.column("decided_offset", &t.decidedOffset)
}

func (t *decisionRows) add(d *events.Decision, r *kgo.Record) {
	e := &d.Event
	t.rows++
	t.eventTime = append(t.eventTime, e.Time)
	t.eventID = append(t.eventID, e.ID)
	t.source = append(t.source, t.word(e.Source))
	t.kind = append(t.kind, kindWords[e.Kind])
	t.customer = append(t.customer, e.CustomerID)
	t.channel = append(t.channel, t.word(e.Channel))
	t.device = append(t.device, e.DeviceID)
	t.ip = append(t.ip, e.IP)
	t.country = append(t.country, t.word(e.Country))
	t.located = append(t.located, e.Located)
	t.latitude = append(t.latitude, e.Latitude)
	t.longitude = append(t.longitude, e.Longitude)
	t.verdict = append(t.verdict, verdictWords[d.Verdict])
	t.score = append(t.score, d.Score)
	t.addHits(d.Hits)
	t.ruleset = append(t.ruleset, t.word(d.Ruleset))
	t.evidence = append(t.evidence, evidence(d.Evidence))
	t.tier = append(t.tier, t.word(d.Tier))
	t.label = append(t.label, t.word(e.Label))
	t.received = append(t.received, d.Received)
	t.decided = append(t.decided, clamp(r.Timestamp))
	t.topic = append(t.topic, t.word(d.Topic))
	t.partition = append(t.partition, d.Partition)
	t.offset = append(t.offset, d.Offset)
	t.decidedPartition = append(t.decidedPartition, r.Partition)
	t.decidedOffset = append(t.decidedOffset, r.Offset)
}

func (t *decisionRows) addHits(hits []events.Hit) {
	rules, reasons, scores := splitHits(hits)
	t.rules = append(t.rules, rules)
	t.reasons = append(t.reasons, reasons)
	t.ruleScores = append(t.ruleScores, scores)
}

func splitHits(hits []events.Hit) (rules, reasons []string, scores []int32) {
	for i := range hits {
		rules = append(rules, hits[i].Rule)
		reasons = append(reasons, hits[i].Reason)
		scores = append(scores, hits[i].Score)
	}
	return rules, reasons, scores
}

func evidence(values []events.Value) map[string]string {
	if len(values) == 0 {
		return nil
	}
	m := make(map[string]string, len(values))
	for _, v := range values {
		m[v.Name] = v.Text
	}
	return m
}

type paymentRows struct {
	decisionRows
	asked                                          askedRows
	carried                                        carriedRows
	counterpartyName                               []string
	kyc                                            []int32
	payment, account, counterparty, merchant, card []string
	category, method, purpose, currency, reason    words
	amount                                         []int64
}

func (t *paymentRows) bind() {
	t.name = "payments"
	t.decisionRows.bind()
	t.asked.bind(&t.table)
	t.carried.bind(&t.table)
	t.column("counterparty_name", &t.counterpartyName)
	t.column("customer_kyc_level", &t.kyc)
	t.column("payment_id", &t.payment)
	t.column("account_id", &t.account)
	t.column("counterparty_id", &t.counterparty)
	t.column("merchant_id", &t.merchant)
	t.column("merchant_category", &t.category)
	t.column("method", &t.method)
	t.column("purpose", &t.purpose)
	t.column("amount_minor", &t.amount)
	t.column("currency", &t.currency)
	t.column("card_token", &t.card)
	t.column("reason", &t.reason)
}

func (t *paymentRows) add(d *events.Decision, r *kgo.Record) {
	e := &d.Event
	t.decisionRows.add(d, r)
	t.asked.add(d)
	t.carried.add(&t.table, d)
	t.counterpartyName = append(t.counterpartyName, e.CounterpartyName)
	t.kyc = append(t.kyc, e.KYCLevel)
	t.payment = append(t.payment, e.PaymentID)
	t.account = append(t.account, e.AccountID)
	t.counterparty = append(t.counterparty, e.CounterpartyID)
	t.merchant = append(t.merchant, e.MerchantID)
	t.category = append(t.category, t.word(e.MerchantMCC))
	t.method = append(t.method, methodWords[e.Method])
	t.purpose = append(t.purpose, purposeWords[e.Purpose])
	t.amount = append(t.amount, e.Amount)
	t.currency = append(t.currency, t.word(e.Currency.Code()))
	t.card = append(t.card, e.CardToken)
	t.reason = append(t.reason, t.word(e.Reason))
}

type loanRows struct {
	decisionRows
	asked                              askedRows
	loan                               []string
	product, currency, purpose, reason words
	amount, rate, income, debt         []int64
	term, age, employment, bureau      []int32
}

func (t *loanRows) bind() {
	t.name = "loans"
	t.decisionRows.bind()
	t.asked.bind(&t.table)
	t.column("loan_id", &t.loan)
	t.column("product", &t.product)
	t.column("amount_minor", &t.amount)
	t.column("currency", &t.currency)
	t.column("term_months", &t.term)
	t.column("annual_rate_ppm", &t.rate)
	t.column("purpose", &t.purpose)
	t.column("monthly_income_minor", &t.income)
	t.column("outstanding_debt_minor", &t.debt)
	t.column("age", &t.age)
	t.column("employment_months", &t.employment)
	t.column("bureau_score", &t.bureau)
	t.column("reason", &t.reason)
}

func (t *loanRows) add(d *events.Decision, r *kgo.Record) {
	e := &d.Event
	t.decisionRows.add(d, r)
	t.asked.add(d)
	t.loan = append(t.loan, e.LoanID)
	t.product = append(t.product, t.word(e.Product))
	t.amount = append(t.amount, e.Amount)
	t.currency = append(t.currency, t.word(e.Currency.Code()))
	t.term = append(t.term, e.TermMonths)
	t.rate = append(t.rate, int64(e.AnnualRate))
	t.purpose = append(t.purpose, t.word(e.LoanPurpose))
	t.income = append(t.income, e.MonthlyIncome)
	t.debt = append(t.debt, e.OutstandingDebt)
	t.age = append(t.age, e.Age)
	t.employment = append(t.employment, e.EmploymentMonths)
	t.bureau = append(t.bureau, e.BureauScore)
	t.reason = append(t.reason, t.word(e.Reason))
}

type behaviorRows struct {
	decisionRows
	session, subject, payee, document, text []string
	kyc                                     []int32
}

func (t *behaviorRows) bind() {
	t.name = "behaviors"
	t.decisionRows.bind()
	t.column("session_id", &t.session)
	t.column("subject", &t.subject)
	t.column("payee_id", &t.payee)
	t.column("document_hash", &t.document)
	t.column("kyc_level", &t.kyc)
	t.column("text", &t.text)
}

func (t *behaviorRows) add(d *events.Decision, r *kgo.Record) {
	e := &d.Event
	t.decisionRows.add(d, r)
	t.session = append(t.session, e.SessionID)
	t.subject = append(t.subject, e.Subject)
	t.payee = append(t.payee, e.PayeeID)
	t.document = append(t.document, e.DocumentHash)
	t.kyc = append(t.kyc, e.KYCLevel)
	t.text = append(t.text, e.Text)
}

type resultRows struct {
	table
	eventTime, published                       []time.Time
	shard, transfers, partition                []int32
	sequence, offset                           []int64
	decision, eventID, customer, payment, loan []string
	source, kind, code                         words
}

func (t *resultRows) bind() {
	t.name = "results"
	t.column("event_time", &t.eventTime)
	t.column("shard", &t.shard)
	t.column("sequence", &t.sequence)
	t.column("decision_id", &t.decision)
	t.column("event_id", &t.eventID)
	t.column("source", &t.source)
	t.column("type", &t.kind)
	t.column("customer_id", &t.customer)
	t.column("payment_id", &t.payment)
	t.column("loan_id", &t.loan)
	t.column("code", &t.code)
	t.column("transfers", &t.transfers)
	t.column("published_time", &t.published)
	t.column("result_partition", &t.partition)
	t.column("result_offset", &t.offset)
}

func (t *resultRows) add(m *eventsv1.LedgerResult, when time.Time, r *kgo.Record) {
	t.rows++
	t.eventTime = append(t.eventTime, when)
	t.shard = append(t.shard, m.Shard)
	t.sequence = append(t.sequence, m.Sequence)
	t.decision = append(t.decision, m.DecisionId)
	t.eventID = append(t.eventID, m.EventId)
	t.source = append(t.source, t.word(m.EventSource))
	t.kind = append(t.kind, t.word(m.EventType))
	t.customer = append(t.customer, m.CustomerId)
	t.payment = append(t.payment, m.PaymentId)
	t.loan = append(t.loan, m.LoanId)
	t.code = append(t.code, t.word(m.Code))
	t.transfers = append(t.transfers, int32(len(m.Transfers)))
	t.published = append(t.published, clamp(r.Timestamp))
	t.partition = append(t.partition, r.Partition)
	t.offset = append(t.offset, r.Offset)
}

type postingRows struct {
	table
	eventTime                                        []time.Time
	shard, number, partition                         []int32
	sequence, transfer, amount, offset               []int64
	debit, credit, decision, customer, payment, loan []string
	currency, kind                                   words
}

func (t *postingRows) bind() {
	t.name = "postings"
	t.column("event_time", &t.eventTime)
	t.column("shard", &t.shard)
	t.column("sequence", &t.sequence)
	t.column("number", &t.number)
	t.column("transfer_id", &t.transfer)
	t.column("debit_account", &t.debit)
	t.column("credit_account", &t.credit)
	t.column("amount_minor", &t.amount)
	t.column("currency", &t.currency)
	t.column("kind", &t.kind)
	t.column("decision_id", &t.decision)
	t.column("customer_id", &t.customer)
	t.column("payment_id", &t.payment)
	t.column("loan_id", &t.loan)
	t.column("result_partition", &t.partition)
	t.column("result_offset", &t.offset)
}

func (t *postingRows) add(m *eventsv1.LedgerResult, transfer *eventsv1.LedgerTransfer, i int, minor int64, when time.Time, r *kgo.Record) {
	t.rows++
	t.eventTime = append(t.eventTime, when)
	t.shard = append(t.shard, m.Shard)
	t.sequence = append(t.sequence, m.Sequence)
	t.number = append(t.number, int32(i+1))
	t.transfer = append(t.transfer, transfer.TransferId)
	t.debit = append(t.debit, transfer.DebitAccount)
	t.credit = append(t.credit, transfer.CreditAccount)
	t.amount = append(t.amount, minor)
	t.currency = append(t.currency, t.word(transfer.Currency))
	t.kind = append(t.kind, t.word(transfer.Kind))
	t.decision = append(t.decision, m.DecisionId)
	t.customer = append(t.customer, m.CustomerId)
	t.payment = append(t.payment, m.PaymentId)
	t.loan = append(t.loan, m.LoanId)
	t.partition = append(t.partition, r.Partition)
	t.offset = append(t.offset, r.Offset)
}

type letterRows struct {
	table
	when, recordTime                 []time.Time
	detail, key, value               []string
	reason, part, topic, letterTopic words
	partition, letterPartition       []int32
	offset, letterOffset             []int64
	headers                          [][]any
}

func (t *letterRows) bind() {
	t.name = "dead_letters"
	t.column("letter_time", &t.when)
	t.column("reason", &t.reason)
	t.column("detail", &t.detail)
	t.column("part", &t.part)
	t.column("topic", &t.topic)
	t.column("partition", &t.partition)
	t.column("offset", &t.offset)
	t.column("record_time", &t.recordTime)
	t.column("key", &t.key)
	t.column("value", &t.value)
	t.column("headers", &t.headers)
	t.column("letter_topic", &t.letterTopic)
	t.column("letter_partition", &t.letterPartition)
	t.column("letter_offset", &t.letterOffset)
}

// letter is a dead letter, wherever it was found.
type letter struct {
	reason, detail, part, topic string
	partition                   int32
	offset                      int64
	recordTime                  time.Time
	value                       []byte
	headers                     []kgo.RecordHeader
}

// add adds a record of the topic deadletters. A header that is missing or wrong leaves its column empty.
func (t *letterRows) add(r *kgo.Record) {
	l := letter{value: r.Value, recordTime: earliest}
	for _, h := range r.Headers {
		v := string(h.Value)
		switch h.Key {
		case stream.HeaderReason:
			l.reason = v
		case stream.HeaderDetail:
			l.detail = v
		case stream.HeaderPart:
			l.part = v
		case stream.HeaderTopic:
			l.topic = v
		case stream.HeaderPartition:
			n, _ := strconv.ParseInt(v, 10, 32)
			l.partition = int32(n)
		case stream.HeaderOffset:
			l.offset, _ = strconv.ParseInt(v, 10, 64)
		case stream.HeaderTimestamp:
			ms, _ := strconv.ParseInt(v, 10, 64)
			l.recordTime = clamp(time.UnixMilli(ms))
		default:
			l.headers = append(l.headers, h)
		}
	}
	t.addLetter(&l, schemas.DeadLetters, r)
}

// addUnreadable adds a record that this part itself cannot read.
func (t *letterRows) addUnreadable(topic string, r *kgo.Record, why error) {
	l := letter{reason: codeUnfit, detail: why.Error(), part: part, topic: topic, partition: r.Partition, offset: r.Offset,
		recordTime: clamp(r.Timestamp), value: r.Value, headers: r.Headers}
	var rej *events.Rejection
	if errors.As(why, &rej) {
		l.reason = string(rej.Code)
		if rej.Code == events.CodeCardNumber {
			l.value = events.MaskCardNumbers(r.Value)
		}
	}
	t.addLetter(&l, topic, r)
}

func (t *letterRows) addLetter(l *letter, letterTopic string, r *kgo.Record) {
	headers := make([]any, 0, len(l.headers))
	for _, h := range l.headers {
		headers = append(headers, []any{h.Key, string(h.Value)})
	}
	t.rows++
	t.when = append(t.when, clamp(r.Timestamp))
	t.reason = append(t.reason, t.word(l.reason))
	t.detail = append(t.detail, l.detail)
	t.part = append(t.part, t.word(l.part))
	t.topic = append(t.topic, t.word(l.topic))
	t.partition = append(t.partition, l.partition)
	t.offset = append(t.offset, l.offset)
	t.recordTime = append(t.recordTime, l.recordTime)
	t.key = append(t.key, string(r.Key))
	t.value = append(t.value, string(l.value))
	t.headers = append(t.headers, headers)
	t.letterTopic = append(t.letterTopic, t.word(letterTopic))
	t.letterPartition = append(t.letterPartition, r.Partition)
	t.letterOffset = append(t.letterOffset, r.Offset)
}
