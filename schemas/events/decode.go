package events

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	eventsv1 "sluice/schemas/events/v1"
)

// Limits of one event.
const (
	// MaxEventBytes bounds the value of one event: a payment is some 300 bytes; what is larger carries something else.
	MaxEventBytes = 64 << 10
	// MaxIDBytes bounds every identifier, so that keys stay small wherever they are kept.
	MaxIDBytes = 128
	// MaxWordBytes bounds short words: channels, reasons, products.
	MaxWordBytes = 64
	// MaxNameBytes bounds a name: ISO 20022 gives a party's name 140 characters, in Chinese of three bytes each.
	MaxNameBytes = 420
	// MaxTextBytes bounds free text.
	MaxTextBytes = 2000
	// MaxAhead is how far an event's time may lie ahead of the moment Kafka took it: clocks differ, but not by more.
	MaxAhead = 5 * time.Minute
	// MaxTermMonths bounds a loan's term.
	MaxTermMonths = 120
)

// earliest is the oldest event time taken: older is a clock that was never set.
var earliest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Content types understood.
const (
	ContentProtobuf   = "application/protobuf"
	ContentJSON       = "application/json"
	ContentStructured = "application/cloudevents+json"
)

// Header is one Kafka record header.
type Header struct {
	Key   string
	Value []byte
}

// Record is one Kafka record, as far as events need to know it.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp time.Time // when Kafka or the producer stamped it; the zero time switches the check for the future off
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Header returns the value of a header, nil if there is none.
func (r *Record) Header(key string) []byte {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return r.Headers[i].Value
		}
	}
	return nil
}

// Code classifies why a record is no event: the reason a dead letter carries.
type Code string

// The reasons.
const (
	CodeNotCloudEvent   Code = "not_a_cloudevent"
	CodeUnknownType     Code = "unknown_type"
	CodeWrongTopic      Code = "wrong_topic"
	CodeUnreadable      Code = "unreadable"
	CodeMissing         Code = "missing_field"
	CodeInvalid         Code = "invalid_field"
	CodeOversized       Code = "oversized"
	CodeAmount          Code = "bad_amount"
	CodeUnknownCurrency Code = "unknown_currency"
	CodeTime            Code = "bad_time"
	CodeCardNumber      Code = "card_number"
	CodeKey             Code = "bad_key"
)

// Rejection says why a record is no event, and what its sender should do instead.
type Rejection struct {
	Code   Code
	Field  string // the field at fault, "" for the whole
	Detail string
}

// Error returns one line for a person.
func (r *Rejection) Error() string {
	if r.Field == "" {
		return string(r.Code) + ": " + r.Detail
	}
	return string(r.Code) + ": " + r.Field + ": " + r.Detail
}

func reject(code Code, field, format string, args ...any) *Rejection {
	return &Rejection{Code: code, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// envelope is the CloudEvents part, common to both modes.
type envelope struct {
	id, source, kind, when, label string
	contentType                   string
	data                          []byte
}

// Decode turns a record of an input topic into an event. The error is always a *Rejection; no bytes make it panic.
func Decode(r *Record) (Event, error) {
	if len(r.Value) > MaxEventBytes {
		return Event{}, reject(CodeOversized, "", "%d bytes; an event has at most %d", len(r.Value), MaxEventBytes)
	}
	env, rej := open(r)
	if rej != nil {
		return Event{}, rej
	}
	e, rej := env.attributes(r)
	if rej != nil {
		return Event{}, rej
	}
	switch e.Kind.Family() {
	case Payment:
		rej = decodePayment(&e, env)
	case Loan:
		rej = decodeLoan(&e, env)
	case Behavior:
		rej = decodeBehavior(&e, env)
	}
	if rej != nil {
		return Event{}, rej
	}
	if string(r.Key) != e.CustomerID {
		return Event{}, reject(CodeKey, "key", "the record's key is %q; it must be the customer_id, %q, so that a customer's events stay in order", clip(string(r.Key), 40), e.CustomerID)
	}
	return e, nil
}

// open finds the envelope: binary mode has ce_* headers, structured mode one JSON object.
func open(r *Record) (envelope, *Rejection) {
	contentType := string(r.Header("content-type"))
	if contentType != ContentProtobuf && contentType != ContentJSON && contentType != ContentStructured && contentType != "" {
		base, _, err := mime.ParseMediaType(contentType)
		if err != nil {
			return envelope{}, reject(CodeNotCloudEvent, "content-type", "%q is not a media type; use %s, %s or %s", clip(contentType, 60), ContentProtobuf, ContentJSON, ContentStructured)
		}
		contentType = base
	}
	binary := r.Header("ce_specversion") != nil
	if contentType == ContentStructured || (contentType == "" || contentType == ContentJSON) && !binary {
		return openStructured(r.Value)
	}
	if !binary {
		return envelope{}, reject(CodeNotCloudEvent, "ce_specversion", "no such header; send CloudEvents headers (ce_specversion, ce_id, ce_source, ce_type, ce_time) or one %s value", ContentStructured)
	}
	if v := r.Header("ce_specversion"); string(v) != "1.0" {
		return envelope{}, reject(CodeNotCloudEvent, "ce_specversion", "%q; only 1.0 is understood", clip(string(v), 20))
	}
	if contentType == "" {
		contentType = ContentJSON
	}
	return envelope{
		id: string(r.Header("ce_id")), source: string(r.Header("ce_source")), kind: string(r.Header("ce_type")),
		when: string(r.Header("ce_time")), label: string(r.Header("ce_label")),
		contentType: contentType, data: r.Value,
	}, nil
}

func openStructured(value []byte) (envelope, *Rejection) {
	var s struct {
		SpecVersion string          `json:"specversion"`
		ID          string          `json:"id"`
		Source      string          `json:"source"`
		Type        string          `json:"type"`
		Time        string          `json:"time"`
		Label       string          `json:"label"`
		ContentType string          `json:"datacontenttype"`
		Data        json.RawMessage `json:"data"`
		DataBase64  string          `json:"data_base64"`
	}
	if err := json.Unmarshal(value, &s); err != nil {
		return envelope{}, reject(CodeUnreadable, "", "neither CloudEvents headers nor a CloudEvents JSON object: %v", err)
	}
	if s.SpecVersion != "1.0" {
		return envelope{}, reject(CodeNotCloudEvent, "specversion", "%q; a structured CloudEvent says \"specversion\":\"1.0\"", clip(s.SpecVersion, 20))
	}
	env := envelope{id: s.ID, source: s.Source, kind: s.Type, when: s.Time, label: s.Label, contentType: s.ContentType, data: s.Data}
	if env.contentType == "" {
		env.contentType = ContentJSON
	} else if base, _, err := mime.ParseMediaType(env.contentType); err == nil {
		env.contentType = base
	}
	if s.DataBase64 != "" {
		data, err := base64.StdEncoding.DecodeString(s.DataBase64)
		if err != nil {
			return envelope{}, reject(CodeUnreadable, "data_base64", "%v", err)
		}
		env.data = data
	}
	return env, nil
}

// attributes checks the envelope against the record it came in.
func (env *envelope) attributes(r *Record) (Event, *Rejection) {
	var c checker
	c.id("id", env.id, true)
	c.id("source", env.source, true)
	c.word("label", env.label, false)
	if c.rej != nil {
		return Event{}, c.rej
	}
	e := Event{ID: env.id, Source: env.source, Kind: ParseKind(env.kind), Label: env.label}
	if e.Kind == KindUnknown {
		return e, reject(CodeUnknownType, "type", "%q is no known event type%s", clip(env.kind, 60), nearest(env.kind))
	}
	if topic := e.Kind.Family().Topic(); r.Topic != "" && topic != baseTopic(r.Topic) {
		return e, reject(CodeWrongTopic, "type", "%s belongs on the topic %s", env.kind, topic)
	}
	if env.when == "" {
		return e, reject(CodeMissing, "time", "say when it happened, as in 2026-01-31T12:00:00Z")
	}
	when, err := time.Parse(time.RFC3339Nano, env.when)
	if err != nil {
		return e, reject(CodeTime, "time", "%q is not an RFC 3339 time, such as 2026-01-31T12:00:00Z", clip(env.when, 40))
	}
	e.Time = when.UTC().Truncate(time.Microsecond)
	if e.Time.Before(earliest) {
		return e, reject(CodeTime, "time", "%s is before %s", env.when, earliest.Format(time.DateOnly))
	}
	if !r.Timestamp.IsZero() && e.Time.After(r.Timestamp.Add(MaxAhead)) {
		return e, reject(CodeTime, "time", "%s is more than %s after Kafka took it (%s); check the channel's clock", env.when, MaxAhead, r.Timestamp.UTC().Format(time.RFC3339))
	}
	return e, nil
}

// baseTopic drops the prefix that isolates tests: "t42.payments" is "payments".
func baseTopic(topic string) string { return topic[strings.LastIndexByte(topic, '.')+1:] }

// nearest suggests the type a sender may have meant.
func nearest(kind string) string {
	best, most := "", 0
	for _, k := range Kinds() {
		name := k.String()
		n := 0
		for n < len(name) && n < len(kind) && name[n] == kind[n] {
			n++
		}
		if n > most {
			best, most = name, n
		}
	}
	if most < 4 {
		return ""
	}
	return "; did you mean " + best + "?"
}

// unmarshal reads the data of an event. JSON with an unknown field is refused: a misspelt field would be lost in silence.
func (env *envelope) unmarshal(m proto.Message) *Rejection {
	var err error
	switch env.contentType {
	case ContentProtobuf, "application/x-protobuf":
		err = proto.Unmarshal(env.data, m)
	case ContentJSON:
		if len(bytes.TrimSpace(env.data)) == 0 {
			return reject(CodeMissing, "data", "the event has no data")
		}
		err = protojson.Unmarshal(shortEnums(env.data), m)
	default:
		return reject(CodeNotCloudEvent, "content-type", "%q; data is %s or %s", clip(env.contentType, 60), ContentProtobuf, ContentJSON)
	}
	if err != nil {
		return reject(CodeUnreadable, "data", "not a %s: %v", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// shortEnums lets JSON say "method": "wallet" where Protobuf's own name is PAYMENT_METHOD_WALLET.
func shortEnums(data []byte) []byte {
	if !bytes.Contains(data, []byte(`"method"`)) && !bytes.Contains(data, []byte(`"purpose"`)) && !bytes.Contains(data, []byte(`"outcome"`)) {
		return data
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return data
	}
	changed := false
	for field, prefix := range map[string]string{"method": "PAYMENT_METHOD_", "purpose": "PAYMENT_PURPOSE_", "outcome": "DISPUTE_OUTCOME_"} {
		var word string
		if json.Unmarshal(fields[field], &word) != nil {
			continue
		}
		long := prefix + strings.ToUpper(word)
		_, isMethod := eventsv1.PaymentMethod_value[long]
		_, isPurpose := eventsv1.PaymentPurpose_value[long]
		_, isOutcome := eventsv1.DisputeOutcome_value[long]
		if isMethod || isPurpose || isOutcome {
			fields[field], _ = json.Marshal(long)
			changed = true
		}
	}
	if !changed {
		return data
	}
	out, err := json.Marshal(fields)
	if err != nil {
		return data
	}
	return out
}

func decodePayment(e *Event, env envelope) *Rejection {
	var m eventsv1.PaymentEvent
	if rej := env.unmarshal(&m); rej != nil {
		return rej
	}
	return paymentFields(e, &m)
}

// paymentFields checks a payment's data and lays it flat.
func paymentFields(e *Event, m *eventsv1.PaymentEvent) *Rejection {
	e.PaymentID, e.CustomerID, e.AccountID, e.CounterpartyID = m.PaymentId, m.CustomerId, m.AccountId, m.CounterpartyId
	e.MerchantID, e.MerchantMCC, e.Channel, e.CardToken = m.MerchantId, m.MerchantCategory, m.Channel, m.CardToken
	e.DeviceID, e.Method, e.Purpose, e.Reason = m.DeviceId, m.Method, m.Purpose, m.Reason
	e.CustomerName, e.CounterpartyName, e.KYCLevel = m.CustomerName, m.CounterpartyName, m.CustomerKycLevel
	var c checker
	c.id("payment_id", m.PaymentId, true)
	c.id("customer_id", m.CustomerId, true)
	c.id("account_id", m.AccountId, false)
	c.id("counterparty_id", m.CounterpartyId, m.Purpose == eventsv1.PaymentPurpose_PAYMENT_PURPOSE_TRANSFER)
	c.id("merchant_id", m.MerchantId, PaysMerchant(m.Purpose))
	c.word("channel", m.Channel, false)
	c.id("device_id", m.DeviceId, false)
	c.word("reason", m.Reason, false)
	c.mcc(m.MerchantCategory)
	c.cardToken(m.CardToken)
	c.name("customer_name", m.CustomerName)
	c.name("counterparty_name", m.CounterpartyName)
	c.bounds("customer_kyc_level", m.CustomerKycLevel, 0, 3)
	c.enum("purpose", int32(m.Purpose), eventsv1.PaymentPurpose_name, true)
	c.enum("method", int32(m.Method), eventsv1.PaymentMethod_name, e.Kind == PaymentInitiated)
	e.Amount, e.Currency = c.amount("amount", m.Amount, m.Currency)
	c.origin(e, m.Ip, m.Location)
	c.core(e, m)
	return c.rej
}

// core checks what the payment core reads: channel, shares, exchange and dispute.
func (c *checker) core(e *Event, m *eventsv1.PaymentEvent) {
	e.PaymentChannel, e.Outcome, e.Evidence = m.PaymentChannel, m.Outcome, m.Evidence
	c.word("payment_channel", m.PaymentChannel, e.Kind == PaymentRerouted)
	c.id("evidence", m.Evidence, e.Kind == PaymentEvidenceSubmitted)
	c.enum("outcome", int32(m.Outcome), eventsv1.DisputeOutcome_name, e.Kind == PaymentDisputeDecided)
	switch {
	case m.RespondBy != nil && m.RespondBy.CheckValid() != nil:
		c.fail(CodeTime, "respond_by", "it is no time; give one as in 2026-01-31T12:00:00Z")
	case m.RespondBy != nil:
		e.RespondBy = m.RespondBy.AsTime().Truncate(time.Microsecond)
	case e.Kind == PaymentDisputed:
		c.fail(CodeMissing, "respond_by", "say by when evidence has to be submitted, as in 2026-01-31T12:00:00Z")
	}
	c.splits(e, m.Splits)
	c.exchange(e, m.Exchange)
}

// splits checks the shares of a purchase: of different merchants, and of all of the amount.
func (c *checker) splits(e *Event, splits []*eventsv1.Split) {
	if len(splits) == 0 {
		return
	}
	if len(splits) > MaxSplits {
		c.fail(CodeInvalid, "splits", "%d; at most %d", len(splits), MaxSplits)
		return
	}
	if e.Purpose != eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE {
		c.fail(CodeInvalid, "splits", "only a purchase has merchants to share it")
	}
	var sum int64
	seen := map[string]bool{}
	for _, s := range splits {
		c.id("splits.merchant_id", s.GetMerchantId(), true)
		if seen[s.GetMerchantId()] {
			c.fail(CodeInvalid, "splits", "the merchant %s has two shares; add them up", clip(s.GetMerchantId(), 60))
		}
		seen[s.GetMerchantId()] = true
		amount, err := ParseAmount(s.GetAmount(), e.Currency)
		if err != nil || amount == 0 {
			c.fail(CodeAmount, "splits.amount", "%q is no amount greater than zero", clip(s.GetAmount(), 40))
			return
		}
		if sum += amount; sum < 0 {
			break
		}
		e.Splits = append(e.Splits, Split{s.GetMerchantId(), amount})
	}
	if sum != e.Amount {
		c.fail(CodeAmount, "splits", "the shares do not sum to the amount %s", FormatAmount(e.Amount, e.Currency))
	}
}

// exchange checks the other side of a payment in two currencies against its rate.
func (c *checker) exchange(e *Event, m *eventsv1.Exchange) {
	if m == nil || c.rej != nil {
		return
	}
	x := Exchange{Rate: m.Rate}
	if x.Amount, x.Currency = c.amount("exchange.amount", m.Amount, m.Currency); c.rej != nil {
		return
	}
	if x.Currency == e.Currency {
		c.fail(CodeInvalid, "exchange.currency", "it is the payment's own; leave exchange out")
		return
	}
	if len(e.Splits) > 0 {
		c.fail(CodeInvalid, "exchange", "a payment with shares has one currency")
		return
	}
	want, err := Convert(e.Amount, e.Currency, x.Currency, x.Rate)
	switch {
	case err != nil:
		c.fail(CodeInvalid, "exchange.rate", "%v", err)
	case want != x.Amount:
		c.fail(CodeAmount, "exchange.amount", "%s at the rate %s is %s %s, not %s", FormatAmount(e.Amount, e.Currency), m.Rate,
			FormatAmount(want, x.Currency), x.Currency.Code(), clip(m.Amount, 40))
	}
	e.Exchange = x
}

func decodeLoan(e *Event, env envelope) *Rejection {
	var m eventsv1.LoanEvent
	if rej := env.unmarshal(&m); rej != nil {
		return rej
	}
	return loanFields(e, &m)
}

// loanFields checks a loan's data and lays it flat.
func loanFields(e *Event, m *eventsv1.LoanEvent) *Rejection {
	e.LoanID, e.CustomerID, e.Product, e.LoanPurpose = m.LoanId, m.CustomerId, m.Product, m.Purpose
	e.Channel, e.DeviceID, e.Reason, e.CustomerName = m.Channel, m.DeviceId, m.Reason, m.CustomerName
	e.TermMonths, e.Age, e.EmploymentMonths, e.BureauScore = m.TermMonths, m.Age, m.EmploymentMonths, m.BureauScore
	applied := e.Kind == LoanApplied
	var c checker
	c.id("loan_id", m.LoanId, true)
	c.id("customer_id", m.CustomerId, true)
	c.word("product", m.Product, applied)
	c.word("purpose", m.Purpose, false)
	c.word("channel", m.Channel, false)
	c.id("device_id", m.DeviceId, false)
	c.word("reason", m.Reason, false)
	c.name("customer_name", m.CustomerName)
	c.bounds("term_months", m.TermMonths, 0, MaxTermMonths)
	if applied && m.TermMonths == 0 {
		c.fail(CodeMissing, "term_months", "an application says its number of monthly instalments, 1 to %d", MaxTermMonths)
	}
	c.bounds("age", m.Age, 0, 150)
	c.bounds("employment_months", m.EmploymentMonths, 0, 1200)
	if m.BureauScore != 0 {
		c.bounds("bureau_score", m.BureauScore, 300, 850)
	}
	if applied || m.AnnualRate != "" {
		e.AnnualRate = c.rate("annual_rate", m.AnnualRate)
	}
	if m.Amount != "" || applied || e.Kind == LoanAccepted || e.Kind == LoanRepaid {
		e.Amount, e.Currency = c.amount("amount", m.Amount, m.Currency)
	}
	e.MonthlyIncome = c.optionalAmount("monthly_income", m.MonthlyIncome, e.Currency)
	e.OutstandingDebt = c.optionalAmount("outstanding_debt", m.OutstandingDebt, e.Currency)
	c.origin(e, m.Ip, m.Location)
	return c.rej
}

func decodeBehavior(e *Event, env envelope) *Rejection {
	var m eventsv1.BehaviorEvent
	if rej := env.unmarshal(&m); rej != nil {
		return rej
	}
	return behaviorFields(e, &m)
}

// behaviorFields checks a behaviour's data and lays it flat.
func behaviorFields(e *Event, m *eventsv1.BehaviorEvent) *Rejection {
	e.CustomerID, e.Channel, e.DeviceID, e.SessionID, e.Subject = m.CustomerId, m.Channel, m.DeviceId, m.SessionId, m.Subject
	e.PayeeID, e.DocumentHash, e.KYCLevel, e.Text = m.PayeeId, m.DocumentHash, m.KycLevel, m.Text
	e.CustomerName = m.CustomerName
	var c checker
	c.id("customer_id", m.CustomerId, true)
	c.word("channel", m.Channel, false)
	c.id("device_id", m.DeviceId, e.Kind == BehaviorDeviceBound)
	c.id("session_id", m.SessionId, false)
	c.id("subject", m.Subject, false)
	c.id("payee_id", m.PayeeId, e.Kind == BehaviorPayeeAdded)
	c.id("document_hash", m.DocumentHash, false)
	c.name("customer_name", m.CustomerName)
	c.bounds("kyc_level", m.KycLevel, 0, 3)
	if len(m.Text) > MaxTextBytes {
		c.fail(CodeOversized, "text", "%d bytes; at most %d", len(m.Text), MaxTextBytes)
	}
	c.origin(e, m.Ip, m.Location)
	return c.rej
}

// checker keeps the first thing wrong.
type checker struct{ rej *Rejection }

func (c *checker) fail(code Code, field, format string, args ...any) {
	if c.rej == nil {
		c.rej = reject(code, field, format, args...)
	}
}

func (c *checker) id(field, s string, required bool)   { c.text(field, s, MaxIDBytes, required) }
func (c *checker) word(field, s string, required bool) { c.text(field, s, MaxWordBytes, required) }
func (c *checker) name(field, s string)                { c.text(field, s, MaxNameBytes, false) }

func (c *checker) text(field, s string, limit int, required bool) {
	switch {
	case s == "" && required:
		c.fail(CodeMissing, field, "it is required")
	case len(s) > limit:
		c.fail(CodeOversized, field, "%d bytes; at most %d", len(s), limit)
	case !printable(s):
		c.fail(CodeInvalid, field, "it has control characters or is not UTF-8")
	}
}

func printable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] == 0x7f {
			return false
		}
		if s[i] >= utf8.RuneSelf {
			if !utf8.ValidString(s) {
				return false
			}
			return strings.IndexFunc(s, unicode.IsControl) < 0
		}
	}
	return true
}

func (c *checker) enum(field string, n int32, names map[int32]string, required bool) {
	if _, ok := names[n]; !ok {
		c.fail(CodeInvalid, field, "%d is none of its values", n)
	} else if n == 0 && required {
		c.fail(CodeMissing, field, "it is required")
	}
}

func (c *checker) bounds(field string, n, low, high int32) {
	if n < low || n > high {
		c.fail(CodeInvalid, field, "%d is outside %d to %d", n, low, high)
	}
}

func (c *checker) mcc(s string) {
	if s == "" {
		return
	}
	if len(s) != 4 || strings.Trim(s, "0123456789") != "" {
		c.fail(CodeInvalid, "merchant_category", "%q is not a four-digit ISO 18245 code", clip(s, 20))
	}
}

func (c *checker) cardToken(s string) {
	c.id("card_token", s, false)
	if s != "" && isCardNumber(s) {
		c.fail(CodeCardNumber, "card_token", "it is a full card number; send a token that stands for the card")
	}
}

func (c *checker) amount(field, text, code string) (int64, Currency) {
	if code == "" {
		c.fail(CodeMissing, "currency", "it is required")
		return 0, 0
	}
	currency, ok := ParseCurrency(code)
	if !ok {
		c.fail(CodeUnknownCurrency, "currency", "%q is not an ISO 4217 code the house knows", clip(code, 10))
		return 0, 0
	}
	if text == "" {
		c.fail(CodeMissing, field, "it is required")
		return 0, currency
	}
	n, err := ParseAmount(text, currency)
	if err != nil {
		c.fail(CodeAmount, field, "%v", err)
	} else if n == 0 {
		c.fail(CodeAmount, field, "amount is zero; it must be greater than zero")
	}
	return n, currency
}

func (c *checker) optionalAmount(field, text string, currency Currency) int64 {
	if text == "" {
		return 0
	}
	if currency == 0 {
		c.fail(CodeMissing, "currency", "%s needs it", field)
		return 0
	}
	n, err := ParseAmount(text, currency)
	if err != nil {
		c.fail(CodeAmount, field, "%v", err)
	}
	return n
}

func (c *checker) rate(field, text string) Rate {
	r, err := ParseRate(text)
	if err != nil {
		c.fail(CodeInvalid, field, "%v", err)
	}
	return r
}

// origin checks where the device was.
func (c *checker) origin(e *Event, ip string, l *eventsv1.Location) {
	if ip != "" {
		addr, err := netip.ParseAddr(ip)
		if err != nil || addr.Zone() != "" {
			c.fail(CodeInvalid, "ip", "%q is not an IP address", clip(ip, 50))
		} else {
			e.IP = addr.Unmap().String()
		}
	}
	if l == nil {
		return
	}
	if l.Country != "" && (len(l.Country) != 2 || l.Country[0] < 'A' || l.Country[0] > 'Z' || l.Country[1] < 'A' || l.Country[1] > 'Z') {
		c.fail(CodeInvalid, "location.country", "%q is not an ISO 3166-1 alpha-2 code, such as CN", clip(l.Country, 10))
	}
	// Written so that NaN fails.
	if !(l.Latitude >= -90 && l.Latitude <= 90) || !(l.Longitude >= -180 && l.Longitude <= 180) {
		c.fail(CodeInvalid, "location", "latitude is -90 to 90, longitude -180 to 180")
	}
	e.Country, e.Latitude, e.Longitude = l.Country, l.Latitude, l.Longitude
	e.Located = l.Latitude != 0 || l.Longitude != 0
}
