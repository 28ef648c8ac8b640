package events

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	eventsv1 "sluice/schemas/events/v1"
)

// Verdict is what the gate says of an event.
type Verdict uint8

// The verdicts. Observed: the event asks nothing. Duplicate: its source and id were decided before, it has no effect.
const (
	NoVerdict Verdict = iota
	Observed
	Approve
	Review
	Decline
	Duplicate
)

// String returns the verdict in a word: "approve".
func (v Verdict) String() string {
	return [...]string{"none", "observed", "approve", "review", "decline", "duplicate"}[v]
}

// Hit is one rule that fired.
type Hit struct {
	Rule   string
	Score  int32
	Reason string // reason code
	Braked bool   // held by its brake: it could ask for review, not decline
}

// Value is an aggregate as it was when a decision read it.
type Value struct {
	Name string
	Text string // decimal string, "" when absent
}

// Decision is an event with the gate's verdict: what travels on the decided topics.
type Decision struct {
	Event    Event
	Verdict  Verdict
	Score    int32
	Hits     []Hit
	Ruleset  string // "fraud@3"
	Evidence []Value
	Tier     string   // value tier of the customer at that moment, "" unknown
	Trace    []byte   // what the rules read and answered; rules.Explain reads it
	Snoozed  []string // ids of rules that held but are snoozed for one of the event's entities
	Route    Route    // of a payment that the house finds a payment channel for

	Topic     string // where the event stood: the input topic, without prefix
	Partition int32
	Offset    int64
	Received  time.Time // when Kafka took the event
}

// ID is "topic/partition/offset" of the event decided: unique, and where to find it.
func (d *Decision) ID() string { return PositionID(d.Topic, d.Partition, d.Offset) }

// PositionID writes a position as "topic/partition/offset".
func PositionID(topic string, partition int32, offset int64) string {
	b := make([]byte, 0, len(topic)+16)
	b = append(b, topic...)
	b = append(b, '/')
	b = strconv.AppendInt(b, int64(partition), 10)
	b = append(b, '/')
	b = strconv.AppendInt(b, offset, 10)
	return string(b)
}

// ParsePositionID reads what PositionID wrote; false if it did not write that.
func ParsePositionID(id string) (topic string, partition int32, offset int64, ok bool) {
	parts := strings.Split(id, "/")
	if len(parts) != 3 {
		return "", 0, 0, false
	}
	p, err := strconv.ParseInt(parts[1], 10, 32)
	offset, err2 := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || err2 != nil || PositionID(parts[0], int32(p), offset) != id || p < 0 || offset < 0 {
		return "", 0, 0, false
	}
	return parts[0], int32(p), offset, true
}

// EncodeDecision writes a decision for its decided topic, in CloudEvents binary mode with Protobuf data.
func EncodeDecision(d *Decision) ([]Header, []byte, error) {
	e := &d.Event
	m := &eventsv1.Decision{
		DecisionId: d.ID(), Verdict: eventsv1.Verdict(d.Verdict), Score: d.Score, Ruleset: d.Ruleset, Tier: d.Tier,
		EventId: e.ID, EventSource: e.Source, EventType: e.Kind.String(), EventTimeUs: e.Time.UnixMicro(), Label: e.Label,
		Topic: d.Topic, Partition: d.Partition, Offset: d.Offset, ReceivedUs: d.Received.UnixMicro(),
		Hits: encodeHits(d.Hits), Snoozed: d.Snoozed, Trace: d.Trace,
	}
	if d.Route.Channel != "" || d.Route.Reason != "" {
		m.Route = &eventsv1.Route{Channel: d.Route.Channel, Reason: d.Route.Reason, Fallbacks: d.Route.Fallbacks}
	}
	for i := range d.Evidence {
		m.Evidence = append(m.Evidence, &eventsv1.Value{Name: d.Evidence[i].Name, Value: d.Evidence[i].Text})
	}
	switch e.Kind.Family() {
	case Payment:
		m.Data = &eventsv1.Decision_Payment{Payment: e.payment()}
	case Loan:
		m.Data = &eventsv1.Decision_Loan{Loan: e.loan()}
	case Behavior:
		m.Data = &eventsv1.Decision_Behavior{Behavior: e.behavior()}
	}
	value, err := proto.Marshal(m)
	if err != nil {
		return nil, nil, fmt.Errorf("encode decision %s: %w", m.DecisionId, err)
	}
	return []Header{
		{"ce_specversion", headerSpec}, {"ce_id", []byte(m.DecisionId)}, {"ce_source", []byte("sluice/gate")},
		{"ce_type", []byte(e.Kind.Family().String() + ".decided")}, {"ce_time", e.Time.UTC().AppendFormat(nil, time.RFC3339Nano)},
		{"content-type", headerProtobuf}, {"verdict", []byte(d.Verdict.String())},
	}, value, nil
}

// DecodeDecision reads a record of a decided topic. An error is a *Rejection: only the gate writes there, so it means
// that something else did.
func DecodeDecision(value []byte) (Decision, error) {
	var m eventsv1.Decision
	if err := proto.Unmarshal(value, &m); err != nil {
		return Decision{}, reject(CodeUnreadable, "", "not a Decision: %v", err)
	}
	d := Decision{
		Event: Event{ID: m.EventId, Source: m.EventSource, Kind: ParseKind(m.EventType),
			Time: time.UnixMicro(m.EventTimeUs).UTC(), Label: m.Label},
		Verdict: Verdict(m.Verdict), Score: m.Score, Ruleset: m.Ruleset, Tier: m.Tier,
		Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Received: time.UnixMicro(m.ReceivedUs).UTC(),
		Hits: decodeHits(m.Hits), Snoozed: m.Snoozed, Trace: m.Trace,
	}
	if m.Route != nil {
		d.Route = Route{m.Route.Channel, m.Route.Reason, m.Route.Fallbacks}
	}
	if d.Verdict == NoVerdict || d.Verdict > Duplicate {
		return Decision{}, reject(CodeInvalid, "verdict", "%d is no verdict", m.Verdict)
	}
	for _, v := range m.Evidence {
		d.Evidence = append(d.Evidence, Value{v.Name, v.Value})
	}
	if got := dataFamily(&m); got == NoFamily || got != d.Event.Kind.Family() {
		return Decision{}, reject(CodeInvalid, "event_type", "%q does not fit the data, which is of family %s", clip(m.EventType, 60), got)
	}
	var rej *Rejection
	switch data := m.Data.(type) {
	case *eventsv1.Decision_Payment:
		rej = paymentFields(&d.Event, data.Payment)
	case *eventsv1.Decision_Loan:
		rej = loanFields(&d.Event, data.Loan)
	case *eventsv1.Decision_Behavior:
		rej = behaviorFields(&d.Event, data.Behavior)
	}
	if rej != nil {
		return Decision{}, rej
	}
	return d, nil
}

func dataFamily(m *eventsv1.Decision) Family {
	switch m.Data.(type) {
	case *eventsv1.Decision_Payment:
		return Payment
	case *eventsv1.Decision_Loan:
		return Loan
	case *eventsv1.Decision_Behavior:
		return Behavior
	}
	return NoFamily
}

func encodeHits(hits []Hit) []*eventsv1.Hit {
	var m []*eventsv1.Hit
	for i := range hits {
		m = append(m, &eventsv1.Hit{RuleId: hits[i].Rule, Score: hits[i].Score, Reason: hits[i].Reason, Braked: hits[i].Braked})
	}
	return m
}

func decodeHits(m []*eventsv1.Hit) []Hit {
	var hits []Hit
	for _, h := range m {
		hits = append(hits, Hit{h.RuleId, h.Score, h.Reason, h.Braked})
	}
	return hits
}
