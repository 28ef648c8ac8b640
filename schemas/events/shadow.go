package events

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	eventsv1 "sluice/schemas/events/v1"
)

// ShadowVerdict is what a shadow ruleset says of an event that the live ruleset decided: what travels on verdicts.shadow.
// DecisionID and Shadow together identify it.
type ShadowVerdict struct {
	DecisionID string // of the live decision
	Shadow     string // name it was published under
	Ruleset    string // "fraud@4"
	Verdict    Verdict
	Score      int32
	Hits       []Hit
	Snoozed    []string // as in Decision
	Trace      []byte   // as in Decision, of the shadow ruleset

	LiveRuleset string
	LiveVerdict Verdict
	LiveScore   int32

	EventID     string
	EventSource string
	Kind        Kind
	CustomerID  string
	EventTime   time.Time
	Label       string // ground truth of a simulated event
}

// EncodeShadowVerdict writes a shadow's verdict for its topic, in CloudEvents binary mode with Protobuf data.
func EncodeShadowVerdict(v *ShadowVerdict) ([]Header, []byte, error) {
	value, err := proto.Marshal(&eventsv1.ShadowVerdict{
		DecisionId: v.DecisionID, Shadow: v.Shadow, Ruleset: v.Ruleset, Verdict: eventsv1.Verdict(v.Verdict), Score: v.Score,
		Hits: encodeHits(v.Hits), Snoozed: v.Snoozed, Trace: v.Trace,
		LiveRuleset: v.LiveRuleset, LiveVerdict: eventsv1.Verdict(v.LiveVerdict), LiveScore: v.LiveScore,
		EventId: v.EventID, EventSource: v.EventSource, EventType: v.Kind.String(), CustomerId: v.CustomerID,
		EventTimeUs: v.EventTime.UnixMicro(), Label: v.Label,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("encode the verdict of shadow %s on %s: %w", v.Shadow, v.DecisionID, err)
	}
	return []Header{
		{"ce_specversion", headerSpec}, {"ce_id", []byte(v.DecisionID + "#" + v.Shadow)}, {"ce_source", []byte("sluice/gate")},
		{"ce_type", []byte(v.Kind.Family().String() + ".shadowed")}, {"ce_time", v.EventTime.UTC().AppendFormat(nil, time.RFC3339Nano)},
		{"content-type", headerProtobuf}, {"verdict", []byte(v.Verdict.String())},
	}, value, nil
}

// DecodeShadowVerdict reads a record of verdicts.shadow. An error is a *Rejection: only the gate writes there, so it means
// that something else did.
func DecodeShadowVerdict(value []byte) (ShadowVerdict, error) {
	var m eventsv1.ShadowVerdict
	if err := proto.Unmarshal(value, &m); err != nil {
		return ShadowVerdict{}, reject(CodeUnreadable, "", "not a ShadowVerdict: %v", err)
	}
	v := ShadowVerdict{
		DecisionID: m.DecisionId, Shadow: m.Shadow, Ruleset: m.Ruleset, Verdict: Verdict(m.Verdict), Score: m.Score,
		Hits: decodeHits(m.Hits), Snoozed: m.Snoozed, Trace: m.Trace,
		LiveRuleset: m.LiveRuleset, LiveVerdict: Verdict(m.LiveVerdict), LiveScore: m.LiveScore,
		EventID: m.EventId, EventSource: m.EventSource, Kind: ParseKind(m.EventType), CustomerID: m.CustomerId,
		EventTime: time.UnixMicro(m.EventTimeUs).UTC(), Label: m.Label,
	}
	switch {
	case v.DecisionID == "" || v.Shadow == "" || v.Ruleset == "":
		return ShadowVerdict{}, reject(CodeMissing, "decision_id, shadow, ruleset", "a shadow's verdict has all of them")
	case v.Kind.Family() == NoFamily:
		return ShadowVerdict{}, reject(CodeInvalid, "event_type", "%q is no type of event", clip(m.EventType, 60))
	case m.Verdict <= 0 || v.Verdict > Duplicate || m.LiveVerdict <= 0 || v.LiveVerdict > Duplicate:
		return ShadowVerdict{}, reject(CodeInvalid, "verdict, live_verdict", "%d or %d is no verdict", m.Verdict, m.LiveVerdict)
	}
	return v, nil
}
