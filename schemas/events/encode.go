package events

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventsv1 "sluice/schemas/events/v1"
)

var (
	headerSpec     = []byte("1.0")
	headerProtobuf = []byte(ContentProtobuf)
	headerJSON     = []byte(ContentJSON)
)

// Encode writes an event in CloudEvents binary mode with Protobuf data: the way channels written in Go send.
// Decode(Encode(e)) is e for every event Decode can return.
func Encode(e *Event) ([]Header, []byte, error) {
	value, err := proto.Marshal(e.message())
	if err != nil {
		return nil, nil, fmt.Errorf("encode %s %s: %w", e.Kind, e.ID, err)
	}
	return e.headers(headerProtobuf), value, nil
}

// EncodeJSON writes an event in CloudEvents binary mode with JSON data.
func EncodeJSON(e *Event) ([]Header, []byte, error) {
	value, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(e.message())
	if err != nil {
		return nil, nil, fmt.Errorf("encode %s %s: %w", e.Kind, e.ID, err)
	}
	return e.headers(headerJSON), value, nil
}

// EncodeStructured writes an event in CloudEvents structured mode: one JSON object that needs no headers.
func EncodeStructured(e *Event) ([]Header, []byte, error) {
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(e.message())
	if err != nil {
		return nil, nil, fmt.Errorf("encode %s %s: %w", e.Kind, e.ID, err)
	}
	value, err := json.Marshal(struct {
		SpecVersion string          `json:"specversion"`
		ID          string          `json:"id"`
		Source      string          `json:"source"`
		Type        string          `json:"type"`
		Time        string          `json:"time"`
		ContentType string          `json:"datacontenttype"`
		Label       string          `json:"label,omitempty"`
		Data        json.RawMessage `json:"data"`
	}{"1.0", e.ID, e.Source, e.Kind.String(), e.Time.UTC().Format(time.RFC3339Nano), ContentJSON, e.Label, data})
	if err != nil {
		return nil, nil, fmt.Errorf("encode %s %s: %w", e.Kind, e.ID, err)
	}
	return []Header{{"content-type", []byte(ContentStructured)}}, value, nil
}

func (e *Event) headers(contentType []byte) []Header {
	h := make([]Header, 0, 7)
	h = append(h, Header{"ce_specversion", headerSpec}, Header{"ce_id", []byte(e.ID)}, Header{"ce_source", []byte(e.Source)},
		Header{"ce_type", []byte(e.Kind.String())}, Header{"ce_time", e.Time.UTC().AppendFormat(nil, time.RFC3339Nano)},
		Header{"content-type", contentType})
	if e.Label != "" {
		h = append(h, Header{"ce_label", []byte(e.Label)})
	}
	return h
}

func (e *Event) message() proto.Message {
	switch e.Kind.Family() {
	case Payment:
		return e.payment()
	case Loan:
		return e.loan()
	default:
		return e.behavior()
	}
}

func (e *Event) payment() *eventsv1.PaymentEvent {
	m := &eventsv1.PaymentEvent{
		PaymentId: e.PaymentID, CustomerId: e.CustomerID, AccountId: e.AccountID, CounterpartyId: e.CounterpartyID,
		MerchantId: e.MerchantID, MerchantCategory: e.MerchantMCC, Channel: e.Channel, Method: e.Method, Purpose: e.Purpose,
		Amount: e.amountText(e.Amount), Currency: e.Currency.Code(), CardToken: e.CardToken, DeviceId: e.DeviceID, Ip: e.IP,
		Location: e.location(), Reason: e.Reason, CustomerName: e.CustomerName, CounterpartyName: e.CounterpartyName,
		CustomerKycLevel: e.KYCLevel, PaymentChannel: e.PaymentChannel, Outcome: e.Outcome, Evidence: e.Evidence,
	}
	for _, s := range e.Splits {
		m.Splits = append(m.Splits, &eventsv1.Split{MerchantId: s.MerchantID, Amount: e.amountText(s.Amount)})
	}
	if x := e.Exchange; x.Currency != 0 {
		m.Exchange = &eventsv1.Exchange{Currency: x.Currency.Code(), Amount: FormatAmount(x.Amount, x.Currency), Rate: x.Rate}
	}
	if !e.RespondBy.IsZero() {
		m.RespondBy = timestamppb.New(e.RespondBy)
	}
	return m
}

func (e *Event) loan() *eventsv1.LoanEvent {
	m := &eventsv1.LoanEvent{
		LoanId: e.LoanID, CustomerId: e.CustomerID, Product: e.Product, Amount: e.amountText(e.Amount), Currency: e.Currency.Code(),
		TermMonths: e.TermMonths, Purpose: e.LoanPurpose, MonthlyIncome: e.amountText(e.MonthlyIncome),
		OutstandingDebt: e.amountText(e.OutstandingDebt), Age: e.Age, EmploymentMonths: e.EmploymentMonths,
		BureauScore: e.BureauScore, Channel: e.Channel, DeviceId: e.DeviceID, Ip: e.IP, Location: e.location(), Reason: e.Reason,
		CustomerName: e.CustomerName,
	}
	if e.Kind == LoanApplied || e.AnnualRate != 0 {
		m.AnnualRate = FormatRate(e.AnnualRate)
	}
	return m
}

func (e *Event) behavior() *eventsv1.BehaviorEvent {
	return &eventsv1.BehaviorEvent{
		CustomerId: e.CustomerID, Channel: e.Channel, DeviceId: e.DeviceID, Ip: e.IP, Location: e.location(),
		SessionId: e.SessionID, Subject: e.Subject, PayeeId: e.PayeeID, DocumentHash: e.DocumentHash, KycLevel: e.KYCLevel, Text: e.Text,
		CustomerName: e.CustomerName,
	}
}

// amountText writes an amount, "" for zero: no event has an amount of zero.
func (e *Event) amountText(minor int64) string {
	if minor == 0 {
		return ""
	}
	return FormatAmount(minor, e.Currency)
}

func (e *Event) location() *eventsv1.Location {
	if e.Country == "" && e.Latitude == 0 && e.Longitude == 0 {
		return nil
	}
	return &eventsv1.Location{Country: e.Country, Latitude: e.Latitude, Longitude: e.Longitude}
}
