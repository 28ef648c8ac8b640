// Package schemas names what crosses a boundary: the Kafka topics. Its folders hold the rest: events (what is said on the
// topics), ledger (the Postgres tables) and warehouse (the ClickHouse tables). It connects to nothing.
package schemas

import (
	"strings"
	"time"
)

// The topics. All of them are keyed by customer id and have the same number of partitions, so that a customer's payments,
// loans and behaviours meet in one place; exceptions are said at the topic.
const (
	Payments  = "payments"  // channels publish payment events
	Loans     = "loans"     // channels publish loan events
	Behaviors = "behaviors" // channels publish behaviour events

	PaymentsDecided  = "payments.decided"  // the gate's Decision on each payment event
	LoansDecided     = "loans.decided"     // the gate's Decision on each loan event
	BehaviorsDecided = "behaviors.decided" // each behaviour event once, verdict observed

	LedgerResults = "ledger.results" // the book's LedgerResult for each decision
	DeadLetters   = "deadletters"    // whatever cannot be read or applied; original bytes, reason and position

	CustomerTiers = "customers.tiers" // compacted: the value tier of each customer
	Lists         = "lists"           // compacted, one partition, key = list/kind/value: allow, deny and watch lists

	// Rules is compacted, with one partition: rulesets (YAML). Key "default" is the live one; ShadowKey of a name is one
	// that is asked beside it.
	Rules = "rules"

	// Channels is compacted, with one partition: the payment channels (YAML), under ChannelsKey. The text ChannelsOff there, or
	// nothing: the house chooses no payment channel.
	Channels = "channels"

	// VerdictsShadow has what each shadow ruleset says of each event that asks for a verdict.
	VerdictsShadow = "verdicts.shadow"

	// GateState is compacted: partition p holds the aggregates that the gate owning partition p of the inputs has kept,
	// key = entity. It restores state after a restart, and tells the other gates about shared entities.
	GateState = "gate.state"
)

// shadowPrefix starts the keys of shadow rulesets on the topic Rules.
const shadowPrefix = "shadow/"

// ShadowKey is the key of a shadow ruleset on the topic Rules: "shadow/NAME".
func ShadowKey(name string) string { return shadowPrefix + name }

// ShadowName is the name in such a key; false if the key is of no shadow.
func ShadowName(key string) (string, bool) {
	name, ok := strings.CutPrefix(key, shadowPrefix)
	return name, ok && name != ""
}

// What stands on the topic Channels. Routing is ended by a text, not by a deletion: a deletion is forgotten by the broker in
// time, and a topic whose last offset is gone keeps its readers waiting.
const (
	ChannelsKey = "default"
	ChannelsOff = "off"
)

// MaxRecordBytes bounds one record on any topic, key and headers included: what is larger is refused before it is sent.
const MaxRecordBytes = 1 << 20

// Retention of event topics: what the whole pipeline may lag behind, with room for a long weekend.
const Retention = 7 * 24 * time.Hour

// StateRetention bounds how long an idle entity stays in GateState: the longest window (30 days) and a day.
const StateRetention = 31 * 24 * time.Hour

// A Topic is what must exist before a part starts.
type Topic struct {
	Name       string
	Compacted  bool          // keep the newest record of each key
	Single     bool          // one partition instead of the configured number
	KeepFor    time.Duration // 0: for ever (compacted topics)
	MaxMessage int           // bytes
}

// Topics lists every topic of the house.
func Topics() []Topic {
	event := func(name string) Topic { return Topic{Name: name, KeepFor: Retention, MaxMessage: MaxRecordBytes} }
	return []Topic{
		event(Payments), event(Loans), event(Behaviors),
		event(PaymentsDecided), event(LoansDecided), event(BehaviorsDecided), event(VerdictsShadow),
		event(LedgerResults), event(DeadLetters),
		{Name: CustomerTiers, Compacted: true, MaxMessage: MaxRecordBytes},
		{Name: Rules, Compacted: true, Single: true, MaxMessage: MaxRecordBytes},
		{Name: Lists, Compacted: true, Single: true, MaxMessage: MaxRecordBytes},
		{Name: Channels, Compacted: true, Single: true, MaxMessage: MaxRecordBytes},
		{Name: GateState, Compacted: true, KeepFor: StateRetention, MaxMessage: 4 * MaxRecordBytes},
	}
}

// DecidedTopic returns the topic of the decisions on an input topic's events ("payments" → "payments.decided"), or "".
func DecidedTopic(input string) string {
	switch input {
	case Payments, Loans, Behaviors:
		return input + ".decided"
	}
	return ""
}
