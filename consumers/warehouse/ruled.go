package warehouse

import (
	"regexp"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/rules"
	"sluice/schemas/events"
)

// askedRows has the columns of events that may ask for a verdict: who is screened, and how the rules came to it.
type askedRows struct {
	customerName, trace []string
	braked, snoozed     [][]string
}

func (a *askedRows) bind(t *table) {
	t.column("customer_name", &a.customerName)
	t.column("braked", &a.braked)
	t.column("snoozed", &a.snoozed)
	t.column("trace", &a.trace)
}

func (a *askedRows) add(d *events.Decision) {
	a.customerName = append(a.customerName, d.Event.CustomerName)
	a.braked = append(a.braked, braked(d.Hits))
	a.snoozed = append(a.snoozed, d.Snoozed)
	a.trace = append(a.trace, string(d.Trace))
}

func braked(hits []events.Hit) []string {
	var ids []string
	for i := range hits {
		if hits[i].Braked {
			ids = append(ids, hits[i].Rule)
		}
	}
	return ids
}

// shadowRows is what shadow rulesets say.
type shadowRows struct {
	table
	eventTime, decided                                 []time.Time
	eventID, customer, trace                           []string
	source, kind, label, topic                         words
	shadow, ruleset, verdict, liveRuleset, liveVerdict words
	score, liveScore, partition, shadowPartition       []int32
	offset, shadowOffset                               []int64
	rules, reasons, braked, snoozed                    [][]string
	ruleScores                                         [][]int32
}

func (t *shadowRows) bind() {
	t.name = "shadow_verdicts"
	t.column("event_time", &t.eventTime)
	t.column("event_id", &t.eventID)
	t.column("source", &t.source)
	t.column("type", &t.kind)
	t.column("customer_id", &t.customer)
	t.column("shadow", &t.shadow)
	t.column("ruleset", &t.ruleset)
	t.column("verdict", &t.verdict)
	t.column("score", &t.score)
	t.column("rules", &t.rules)
	t.column("rule_scores", &t.ruleScores)
	t.column("reasons", &t.reasons)
	t.column("braked", &t.braked)
	t.column("snoozed", &t.snoozed)
	t.column("trace", &t.trace)
	t.column("live_ruleset", &t.liveRuleset)
	t.column("live_verdict", &t.liveVerdict)
	t.column("live_score", &t.liveScore)
	t.column("label", &t.label)
	t.column("decided_time", &t.decided)
	t.column("topic", &t.topic)
	t.column("partition", &t.partition)
	t.column("offset", &t.offset)
	t.column("shadow_partition", &t.shadowPartition)
	t.column("shadow_offset", &t.shadowOffset)
}

// add adds a record of the topic verdicts.shadow.
func (t *shadowRows) add(r *kgo.Record) error {
	v, err := events.DecodeShadowVerdict(r.Value)
	if err != nil {
		return err
	}
	topic, partition, offset, ok := events.ParsePositionID(v.DecisionID)
	if !ok {
		return &events.Rejection{Code: events.CodeInvalid, Field: "decision_id", Detail: strconv.Quote(v.DecisionID) + " is not topic/partition/offset"}
	}
	if !fits(v.EventTime) {
		return &events.Rejection{Code: events.CodeTime, Field: "event_time_us", Detail: "the event's time is outside 1970 to 2200"}
	}
	t.rows++
	t.eventTime = append(t.eventTime, v.EventTime)
	t.eventID = append(t.eventID, v.EventID)
	t.source = append(t.source, t.word(v.EventSource))
	t.kind = append(t.kind, kindWords[v.Kind])
	t.customer = append(t.customer, v.CustomerID)
	t.shadow = append(t.shadow, t.word(v.Shadow))
	t.ruleset = append(t.ruleset, t.word(v.Ruleset))
	t.verdict = append(t.verdict, verdictWords[v.Verdict])
	t.score = append(t.score, v.Score)
	rules, reasons, scores := splitHits(v.Hits)
	t.rules, t.reasons, t.ruleScores = append(t.rules, rules), append(t.reasons, reasons), append(t.ruleScores, scores)
	t.braked = append(t.braked, braked(v.Hits))
	t.snoozed = append(t.snoozed, v.Snoozed)
	t.trace = append(t.trace, string(v.Trace))
	t.liveRuleset = append(t.liveRuleset, t.word(v.LiveRuleset))
	t.liveVerdict = append(t.liveVerdict, verdictWords[v.LiveVerdict])
	t.liveScore = append(t.liveScore, v.LiveScore)
	t.label = append(t.label, t.word(v.Label))
	t.decided = append(t.decided, clamp(r.Timestamp))
	t.topic = append(t.topic, t.word(topic))
	t.partition = append(t.partition, partition)
	t.offset = append(t.offset, offset)
	t.shadowPartition = append(t.shadowPartition, r.Partition)
	t.shadowOffset = append(t.shadowOffset, r.Offset)
	return nil
}

// rulesetRows is the rulesets published.
type rulesetRows struct {
	table
	id, key, named, source []string
	version, offset        []int64
	published              []time.Time
}

func (t *rulesetRows) bind() {
	t.name = "rulesets"
	t.column("id", &t.id)
	t.column("key", &t.key)
	t.column("name", &t.named)
	t.column("version", &t.version)
	t.column("source", &t.source)
	t.column("published", &t.published)
	t.column("rules_offset", &t.offset)
}

// add adds a record of the topic rules; a tombstone ends a ruleset, whose source is still needed.
func (t *rulesetRows) add(r *kgo.Record) error {
	if len(r.Value) == 0 {
		return nil
	}
	name, version, err := head(r.Value)
	if err != nil {
		return &events.Rejection{Code: events.CodeUnreadable, Field: "ruleset", Detail: err.Error()}
	}
	t.rows++
	t.id = append(t.id, name+"@"+strconv.FormatInt(version, 10))
	t.key = append(t.key, string(r.Key))
	t.named = append(t.named, name)
	t.version = append(t.version, version)
	t.source = append(t.source, string(r.Value))
	t.published = append(t.published, clamp(r.Timestamp))
	t.offset = append(t.offset, r.Offset)
	return nil
}

// How the name and the version of a ruleset look in its file.
var (
	nameLine    = regexp.MustCompile(`(?m)^ruleset:[ \t]*["']?([a-z][a-z0-9-]{0,63})["']?[ \t]*(?:#.*)?\r?$`)
	versionLine = regexp.MustCompile(`(?m)^version:[ \t]*([0-9]{1,9})[ \t]*(?:#.*)?\r?$`)
)

// head reads name and version of a ruleset, also of one in a newer language than this program knows.
func head(source []byte) (name string, version int64, err error) {
	rs, err := rules.Load("published ruleset", source)
	if err == nil {
		return rs.Name, int64(rs.Version), nil
	}
	n, v := nameLine.FindSubmatch(source), versionLine.FindSubmatch(source)
	if n == nil || v == nil {
		return "", 0, err
	}
	version, _ = strconv.ParseInt(string(v[1]), 10, 64)
	return string(n[1]), version, nil
}
