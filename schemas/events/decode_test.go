package events

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	eventsv1 "sluice/schemas/events/v1"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// payment is a record that decodes; with edits it does not.
func payment(edit func(r *Record, data map[string]any)) *Record {
	data := map[string]any{"payment_id": "p1", "customer_id": "c1", "merchant_id": "m1", "method": "wallet", "purpose": "purchase",
		"amount": "12.50", "currency": "CNY"}
	r := &Record{Topic: Payments(), Timestamp: noon, Key: []byte("c1"), Headers: []Header{
		{"ce_specversion", []byte("1.0")}, {"ce_id", []byte("e1")}, {"ce_source", []byte("app")},
		{"ce_type", []byte("payment.initiated")}, {"ce_time", []byte("2026-03-01T11:59:59Z")}, {"content-type", []byte("application/json")}}}
	if edit != nil {
		edit(r, data)
	}
	if r.Value == nil {
		r.Value, _ = json.Marshal(data)
	}
	return r
}

// Payments is the topic of payments, as in package schemas, which this package does not import.
func Payments() string { return Payment.Topic() }

func set(name, value string) func(*Record, map[string]any) {
	return func(r *Record, _ map[string]any) {
		for i := range r.Headers {
			if r.Headers[i].Key == name {
				r.Headers[i].Value = []byte(value)
			}
		}
	}
}

func field(name string, value any) func(*Record, map[string]any) {
	return func(_ *Record, data map[string]any) { data[name] = value }
}

func TestDecodeReadsAPayment(t *testing.T) {
	t.Parallel()
	e, err := Decode(payment(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := Event{ID: "e1", Source: "app", Kind: PaymentInitiated, Time: noon.Add(-time.Second), CustomerID: "c1", MerchantID: "m1",
		PaymentID: "p1", Amount: 1250, Currency: MustCurrency("CNY"), Method: eventsv1.PaymentMethod_PAYMENT_METHOD_WALLET,
		Purpose: eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE}
	if !reflect.DeepEqual(e, want) {
		t.Fatalf("got  %+v\nwant %+v", e, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		edit func(*Record, map[string]any)
		code Code
		says string
	}{
		{"no envelope", func(r *Record, _ map[string]any) { r.Headers = nil }, CodeNotCloudEvent, "specversion"},
		{"protobuf without envelope", func(r *Record, _ map[string]any) {
			r.Headers = []Header{{"content-type", []byte(ContentProtobuf)}}
		}, CodeNotCloudEvent, "ce_specversion"},
		{"old CloudEvents", set("ce_specversion", "0.3"), CodeNotCloudEvent, "1.0"},
		{"content type", set("content-type", "text/plain"), CodeNotCloudEvent, "application/json"},
		{"broken content type", set("content-type", ";;"), CodeNotCloudEvent, "media type"},
		{"unknown type", set("ce_type", "payment.initialised"), CodeUnknownType, "did you mean payment.initiated"},
		{"wrong topic", set("ce_type", "loan.applied"), CodeWrongTopic, "loans"},
		{"no id", set("ce_id", ""), CodeMissing, "id"},
		{"no source", set("ce_source", ""), CodeMissing, "source"},
		{"no time", set("ce_time", ""), CodeMissing, "time"},
		{"no such time", set("ce_time", "yesterday"), CodeTime, "RFC 3339"},
		{"the past", set("ce_time", "1999-12-31T00:00:00Z"), CodeTime, "2000"},
		{"the future", set("ce_time", "2026-03-01T12:05:01Z"), CodeTime, "clock"},
		{"not JSON", func(r *Record, _ map[string]any) { r.Value = []byte("{") }, CodeUnreadable, "data"},
		{"no data", func(r *Record, _ map[string]any) { r.Value = []byte(" ") }, CodeMissing, "data"},
		{"not Protobuf", func(r *Record, d map[string]any) {
			set("content-type", ContentProtobuf)(r, d)
			r.Value = []byte{0xff}
		}, CodeUnreadable, "PaymentEvent"},
		{"misspelt field", field("ammount", "1"), CodeUnreadable, "ammount"},
		{"oversized", field("reason", strings.Repeat("x", MaxEventBytes)), CodeOversized, "65536"},
		{"no payment id", field("payment_id", ""), CodeMissing, "payment_id"},
		{"no customer", field("customer_id", ""), CodeMissing, "customer_id"},
		{"no merchant", field("merchant_id", ""), CodeMissing, "merchant_id"},
		{"no counterparty", field("purpose", "transfer"), CodeMissing, "counterparty_id"},
		{"no purpose", field("purpose", 0), CodeMissing, "purpose"},
		{"no method", field("method", 0), CodeMissing, "method"},
		{"method 99", field("method", 99), CodeInvalid, "method"},
		{"long id", field("payment_id", strings.Repeat("x", MaxIDBytes+1)), CodeOversized, "payment_id"},
		{"kyc level", field("customer_kyc_level", 4), CodeInvalid, "customer_kyc_level"},
		{"long name", field("customer_name", strings.Repeat("x", MaxNameBytes+1)), CodeOversized, "customer_name"},
		{"control character in a name", field("counterparty_name", "张\u2028伟\u0085"), CodeInvalid, "counterparty_name"},
		{"control character", field("device_id", "a\nb"), CodeInvalid, "device_id"},
		{"no amount", field("amount", ""), CodeMissing, "amount"},
		{"zero", field("amount", "0.00"), CodeAmount, "zero"},
		{"negative", field("amount", "-1"), CodeAmount, "negative"},
		{"three decimals", field("amount", "1.001"), CodeAmount, "more decimals than CNY"},
		{"exponent", field("amount", "1e3"), CodeAmount, "plain"},
		{"not a number", field("amount", "ten"), CodeAmount, "plain"},
		{"too much", field("amount", "10000000000000.01"), CodeAmount, "limit"},
		{"far too much", field("amount", "99999999999999999999999"), CodeAmount, "limit"},
		{"no currency", field("currency", ""), CodeMissing, "currency"},
		{"unknown currency", field("currency", "XXX"), CodeUnknownCurrency, "XXX"},
		{"card number", field("card_token", "4111 1111 1111 1111"), CodeCardNumber, "token"},
		{"mcc", field("merchant_category", "54x1"), CodeInvalid, "merchant_category"},
		{"ip", field("ip", "1.2.3"), CodeInvalid, "ip"},
		{"country", field("location", map[string]any{"country": "China"}), CodeInvalid, "country"},
		{"latitude", field("location", map[string]any{"latitude": 91}), CodeInvalid, "latitude"},
		{"latitude NaN", field("location", map[string]any{"latitude": "NaN"}), CodeInvalid, "latitude"},
		{"shares do not sum", field("splits", []any{share("m1", "12"), share("m2", "0.51")}), CodeAmount, "12.50"},
		{"a share of nothing", field("splits", []any{share("m1", "12.50"), share("m2", "0")}), CodeAmount, "splits.amount"},
		{"a share of nobody", field("splits", []any{share("", "12.50")}), CodeMissing, "splits.merchant_id"},
		{"two shares of one", field("splits", []any{share("m1", "12"), share("m1", "0.50")}), CodeInvalid, "add them up"},
		{"seventeen shares", field("splits", slices.Repeat([]any{share("m1", "1")}, MaxSplits+1)), CodeInvalid, "at most 16"},
		{"shares of a top-up", func(_ *Record, d map[string]any) {
			d["purpose"], d["splits"] = "top_up", []any{share("m1", "12.50")}
		}, CodeInvalid, "only a purchase"},
		{"exchange into itself", field("exchange", exchange("CNY", "12.50", "1")), CodeInvalid, "leave exchange out"},
		{"exchange at no rate", field("exchange", exchange("USD", "12.50", "")), CodeInvalid, "7.1250"},
		{"exchange at a rate below zero", field("exchange", exchange("USD", "12.50", "-1")), CodeInvalid, "above 0"},
		{"exchange at another rate", field("exchange", exchange("USD", "1.75", "0.1404")), CodeAmount, "is 1.76 USD, not 1.75"},
		{"exchange into nothing", field("exchange", exchange("USD", "0", "0.0001")), CodeAmount, "zero"},
		{"exchange of shares", func(_ *Record, d map[string]any) {
			d["splits"], d["exchange"] = []any{share("m1", "12.50")}, exchange("USD", "1.76", "0.1404")
		}, CodeInvalid, "one currency"},
		{"dispute without a deadline", set("ce_type", "payment.disputed"), CodeMissing, "respond_by"},
		{"no such deadline", field("respond_by", "9999-99-01T00:00:00Z"), CodeUnreadable, "PaymentEvent"},
		{"decided for nobody", set("ce_type", "payment.dispute_decided"), CodeMissing, "outcome"},
		{"evidence nowhere", set("ce_type", "payment.evidence_submitted"), CodeMissing, "evidence"},
		{"rerouted to nobody", set("ce_type", "payment.rerouted"), CodeMissing, "payment_channel"},
		{"payout to nobody", func(_ *Record, d map[string]any) { d["purpose"], d["merchant_id"] = "payout", "" }, CodeMissing, "merchant_id"},
		{"no key", func(r *Record, _ map[string]any) { r.Key = nil }, CodeKey, "customer_id"},
		{"another's key", func(r *Record, _ map[string]any) { r.Key = []byte("c2") }, CodeKey, "customer_id"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := Decode(payment(c.edit))
			var rej *Rejection
			if !errors.As(err, &rej) {
				t.Fatalf("got %v, want a rejection", err)
			}
			if rej.Code != c.code || !strings.Contains(rej.Error(), c.says) {
				t.Fatalf("got %v, want code %s and the words %q", rej, c.code, c.says)
			}
			if strings.Contains(rej.Error(), "\n") {
				t.Fatalf("the answer has more than one line: %q", rej)
			}
		})
	}
}

// Every event survives each of its encodings.
func TestEncodingsAgree(t *testing.T) {
	t.Parallel()
	encodings := map[string]func(*Event) ([]Header, []byte, error){"protobuf": Encode, "json": EncodeJSON, "structured": EncodeStructured}
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		for name, encode := range encodings {
			headers, value, err := encode(&e)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode(&Record{Topic: e.Kind.Family().Topic(), Key: []byte(e.CustomerID), Value: value, Headers: headers})
			if err != nil {
				t.Fatalf("%s of %+v: %v", name, e, err)
			}
			if !reflect.DeepEqual(got, e) {
				t.Fatalf("%s: got  %+v\nwant %+v", name, got, e)
			}
		}
		d := Decision{Event: e, Verdict: Verdict(rapid.IntRange(1, 5).Draw(t, "verdict")), Score: 7, Ruleset: "r@1", Tier: "gold",
			Hits: []Hit{{"a", 7, "R1", true}}, Trace: []byte{1, 0, 2}, Snoozed: []string{"b"}, Evidence: []Value{{"n", "3"}}, Topic: e.Kind.Family().Topic(), Partition: 3, Offset: 9, Received: noon}
		_, value, err := EncodeDecision(&d)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeDecision(value)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Event, e) || got.Verdict != d.Verdict || got.ID() != d.ID() || len(got.Hits) != 1 || got.Hits[0] != d.Hits[0] ||
			got.Evidence[0] != d.Evidence[0] || got.Received != d.Received || got.Tier != d.Tier || got.Ruleset != d.Ruleset ||
			!bytes.Equal(got.Trace, d.Trace) || !slices.Equal(got.Snoozed, d.Snoozed) {
			t.Fatalf("got  %+v\nwant %+v", got, d)
		}
	})
}

func TestStructuredWithBase64Protobuf(t *testing.T) {
	t.Parallel()
	m := &eventsv1.BehaviorEvent{CustomerId: "c1"}
	raw, _ := proto.Marshal(m)
	value, _ := json.Marshal(map[string]string{"specversion": "1.0", "id": "1", "source": "app", "type": "behavior.signed_in",
		"time": "2026-03-01T11:00:00+08:00", "datacontenttype": ContentProtobuf, "data_base64": base64.StdEncoding.EncodeToString(raw)})
	e, err := Decode(&Record{Topic: "t1.behaviors", Key: []byte("c1"), Value: value, Timestamp: noon,
		Headers: []Header{{"content-type", []byte("application/cloudevents+json; charset=utf-8")}}})
	if err != nil || e.Kind != BehaviorSignedIn || !e.Time.Equal(noon.Add(-9*time.Hour)) {
		t.Fatalf("got %+v, %v", e, err)
	}
}

// anyEvent draws an event that Decode can return.
func anyEvent(t *rapid.T) Event {
	id := rapid.StringMatching(`[a-zA-Z0-9_:.-]{1,20}`)
	maybe := func(label string) string {
		if rapid.Bool().Draw(t, label+"?") {
			return "x" + id.Draw(t, label)
		}
		return ""
	}
	currency := rapid.SampledFrom([]string{"CNY", "JPY", "KWD", "USD"}).Draw(t, "currency")
	e := Event{ID: id.Draw(t, "id"), Source: id.Draw(t, "source"), Kind: rapid.SampledFrom(Kinds()).Draw(t, "kind"),
		Time:  time.UnixMicro(rapid.Int64Range(earliest.UnixMicro(), noon.UnixMicro()).Draw(t, "time")).UTC(),
		Label: maybe("label"), CustomerID: id.Draw(t, "customer"), Channel: maybe("channel"), DeviceID: "d" + id.Draw(t, "device"),
		IP: rapid.SampledFrom([]string{"", "10.1.2.3", "2001:db8::1"}).Draw(t, "ip")}
	if rapid.Bool().Draw(t, "located") {
		e.Country, e.Latitude, e.Longitude, e.Located = "CN", 31.2, 121.5, true
	}
	amount := rapid.Int64Range(1, MaxAmount)
	name := rapid.SampledFrom([]string{"", "张伟", "Zoë O’Hara-Núñez", strings.Repeat("龘", MaxNameBytes/3)})
	switch e.Kind.Family() {
	case Payment:
		e.CustomerName, e.CounterpartyName = name.Draw(t, "customer name"), name.Draw(t, "counterparty name")
		e.KYCLevel = rapid.Int32Range(0, 3).Draw(t, "kyc level")
		e.PaymentID, e.AccountID, e.MerchantID, e.MerchantMCC, e.CardToken = id.Draw(t, "payment"), maybe("account"), "m1", "5411", maybe("card")
		e.CounterpartyID, e.Reason = "other"+id.Draw(t, "counterparty"), maybe("reason")
		e.Amount, e.Currency = amount.Draw(t, "amount"), MustCurrency(currency)
		e.Method = eventsv1.PaymentMethod(rapid.Int32Range(1, 4).Draw(t, "method"))
		e.Purpose = eventsv1.PaymentPurpose(rapid.Int32Range(1, 8).Draw(t, "purpose"))
		e.PaymentChannel, e.Evidence = "c"+id.Draw(t, "payment channel"), "e"+id.Draw(t, "evidence")
		e.Outcome, e.RespondBy = eventsv1.DisputeOutcome(rapid.Int32Range(1, 2).Draw(t, "outcome")), noon
		anyOtherSide(t, &e)
	case Loan:
		e.CustomerName = name.Draw(t, "customer name")
		e.LoanID, e.Product, e.LoanPurpose, e.Reason = id.Draw(t, "loan"), "cash", maybe("purpose"), maybe("reason")
		e.Amount, e.Currency = amount.Draw(t, "amount"), MustCurrency(currency)
		e.TermMonths, e.AnnualRate = rapid.Int32Range(1, MaxTermMonths).Draw(t, "term"), Rate(rapid.Int64Range(0, int64(RateOne)).Draw(t, "rate"))
		e.MonthlyIncome, e.Age, e.EmploymentMonths, e.BureauScore = amount.Draw(t, "income"), 30, 12, 700
	case Behavior:
		e.CustomerName = name.Draw(t, "customer name")
		e.SessionID, e.Subject, e.PayeeID, e.DocumentHash, e.KYCLevel, e.Text = maybe("session"), maybe("subject"), "p1", maybe("doc"), 2, maybe("text")
	}
	return e
}

// anyOtherSide gives some purchases several merchants, and some payments another currency.
func anyOtherSide(t *rapid.T, e *Event) {
	switch {
	case e.Purpose == eventsv1.PaymentPurpose_PAYMENT_PURPOSE_PURCHASE && rapid.Bool().Draw(t, "split"):
		for left, n := e.Amount, rapid.IntRange(1, MaxSplits).Draw(t, "splits"); left > 0; n-- {
			share := left
			if n > 1 {
				share = rapid.Int64Range(1, left).Draw(t, "share")
			}
			e.Splits = append(e.Splits, Split{fmt.Sprintf("m%d", n), share})
			left -= share
		}
	case rapid.Bool().Draw(t, "exchanged"):
		x := Exchange{Currency: MustCurrency("EUR"), Rate: rapid.SampledFrom([]string{"0.5", "0.127", "1", "3.00005"}).Draw(t, "rate")}
		var err error
		if x.Amount, err = Convert(e.Amount, e.Currency, x.Currency, x.Rate); err == nil && x.Amount > 0 {
			e.Exchange = x
		}
	}
}

// FuzzDecode: any bytes give an event or a reason; an event that is given survives its own encoding.
func FuzzDecode(f *testing.F) {
	for _, edit := range []func(*Record, map[string]any){nil, set("content-type", ContentProtobuf), field("amount", "1e9"), field("exchange", exchange("USD", "1.76", "0.1404")),
		field("splits", []any{share("m1", "12"), share("m2", "0.50")}), field("respond_by", "2026-03-02T00:00:00Z"), field("card_token", "4111111111111111")} {
		r := payment(edit)
		f.Add(r.Value, string(r.Header("content-type")), "payment.initiated", "2026-03-01T11:59:59Z", "c1", true)
	}
	structured, value, _ := EncodeStructured(&Event{ID: "1", Source: "s", Kind: BehaviorViewed, Time: noon, CustomerID: "c1"})
	f.Add(value, string(structured[0].Value), "", "", "c1", false)
	m, _ := proto.Marshal(&eventsv1.LoanEvent{LoanId: "l", CustomerId: "c1", Amount: "1", Currency: "JPY"})
	f.Add(m, ContentProtobuf, "loan.repaid", "2026-03-01T11:59:59.5Z", "c1", true)
	f.Fuzz(func(t *testing.T, value []byte, contentType, kind, when, key string, binary bool) {
		r := &Record{Key: []byte(key), Value: value, Timestamp: noon, Headers: []Header{{"content-type", []byte(contentType)}}}
		if binary {
			r.Headers = append(r.Headers, Header{"ce_specversion", []byte("1.0")}, Header{"ce_id", []byte("1")},
				Header{"ce_source", []byte("s")}, Header{"ce_type", []byte(kind)}, Header{"ce_time", []byte(when)})
		}
		e, err := Decode(r)
		if err != nil {
			var rej *Rejection
			if !errors.As(err, &rej) || rej.Code == "" {
				t.Fatalf("an error without a reason: %v", err)
			}
			return
		}
		headers, again, err := Encode(&e)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(&Record{Key: []byte(key), Value: again, Headers: headers})
		if err != nil || !reflect.DeepEqual(back, e) {
			t.Fatalf("encoded again it is %+v, %v; was %+v", back, err, e)
		}
	})
}

// FuzzDecodeDecision: any bytes give a decision or a reason.
func FuzzDecodeDecision(f *testing.F) {
	_, value, _ := EncodeDecision(&Decision{Event: Event{ID: "1", Source: "s", Kind: BehaviorViewed, Time: noon, CustomerID: "c1"}, Verdict: Observed, Topic: "behaviors"})
	f.Add(value)
	f.Fuzz(func(t *testing.T, value []byte) {
		d, err := DecodeDecision(value)
		var rej *Rejection
		if err != nil && !errors.As(err, &rej) {
			t.Fatalf("an error without a reason: %v", err)
		}
		if err == nil && d.Verdict.String() == "none" {
			t.Fatal("a decision without a verdict")
		}
	})
}

// A shadow's verdict survives its encoding; one that lacks what identifies it is refused with a reason.
func TestShadowVerdicts(t *testing.T) {
	t.Parallel()
	want := ShadowVerdict{DecisionID: "payments/3/9", Shadow: "strict", Ruleset: "fraud@4", Verdict: Decline, Score: 90,
		Hits: []Hit{{"a", 90, "R1", false}}, Snoozed: []string{"b"}, Trace: []byte{1, 2}, LiveRuleset: "fraud@3", LiveVerdict: Approve, LiveScore: 10,
		EventID: "e1", EventSource: "app", Kind: PaymentInitiated, CustomerID: "c1", EventTime: noon, Label: "mule"}
	_, value, err := EncodeShadowVerdict(&want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeShadowVerdict(value); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	for what, edit := range map[string]func(*ShadowVerdict){
		"decision": func(v *ShadowVerdict) { v.DecisionID = "" }, "shadow": func(v *ShadowVerdict) { v.Shadow = "" },
		"ruleset": func(v *ShadowVerdict) { v.Ruleset = "" }, "kind": func(v *ShadowVerdict) { v.Kind = 0 },
		"verdict": func(v *ShadowVerdict) { v.Verdict = NoVerdict }, "live verdict": func(v *ShadowVerdict) { v.LiveVerdict = Duplicate + 1 },
	} {
		v := want
		edit(&v)
		_, value, err := EncodeShadowVerdict(&v)
		if err != nil {
			t.Fatal(err)
		}
		var rej *Rejection
		if _, err := DecodeShadowVerdict(value); !errors.As(err, &rej) {
			t.Errorf("without its %s it is accepted, or refused without a reason: %v", what, err)
		}
	}
}

// FuzzDecodeShadowVerdict: any bytes give a shadow's verdict or a reason.
func FuzzDecodeShadowVerdict(f *testing.F) {
	_, value, _ := EncodeShadowVerdict(&ShadowVerdict{DecisionID: "payments/0/1", Shadow: "s", Ruleset: "r@1", Verdict: Review, LiveVerdict: Approve, Kind: LoanApplied, EventTime: noon})
	f.Add(value)
	f.Fuzz(func(t *testing.T, value []byte) {
		v, err := DecodeShadowVerdict(value)
		var rej *Rejection
		if err != nil && !errors.As(err, &rej) {
			t.Fatalf("an error without a reason: %v", err)
		}
		if err == nil && (v.Verdict.String() == "none" || v.LiveVerdict.String() == "none") {
			t.Fatal("a shadow's verdict without a verdict")
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	e, err := Decode(payment(nil))
	if err != nil {
		b.Fatal(err)
	}
	for name, encode := range map[string]func(*Event) ([]Header, []byte, error){"protobuf": Encode, "json": EncodeJSON, "structured": EncodeStructured} {
		headers, value, _ := encode(&e)
		r := &Record{Topic: Payments(), Key: []byte("c1"), Value: value, Headers: headers}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decode(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func share(merchant, amount string) map[string]any {
	return map[string]any{"merchant_id": merchant, "amount": amount}
}

func exchange(currency, amount, rate string) map[string]any {
	return map[string]any{"currency": currency, "amount": amount, "rate": rate}
}
