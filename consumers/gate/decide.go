package gate

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/rules"
	"sluice/schemas"
	"sluice/schemas/events"
)

// inOrder calls fn for each record of a poll, partition number by partition number, and notes where each input partition
// begins. The inputs of one partition number are merged by record timestamp, each in its own order: payments, loans and
// behaviours of a customer meet as nearly in the order they were published as one poll can tell.
func inOrder(fetches kgo.Fetches, t *transaction, fn func(*kgo.Record)) {
	queues := map[int32][][]*kgo.Record{}
	var order []int32
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if len(p.Records) == 0 {
			return
		}
		if queues[p.Partition] == nil {
			order = append(order, p.Partition)
		}
		queues[p.Partition] = append(queues[p.Partition], p.Records)
		t.begin(p.Records[0])
	})
	for _, p := range order {
		merge(queues[p], fn)
	}
}

// begin notes the first record of an input partition.
func (t *transaction) begin(r *kgo.Record) {
	if t.first[r.Topic] == nil {
		t.first[r.Topic] = map[int32]int64{}
	}
	if first, ok := t.first[r.Topic][r.Partition]; !ok || r.Offset < first {
		t.first[r.Topic][r.Partition] = r.Offset
	}
}

// merge calls fn with the records of all queues, always the one whose timestamp is smallest among the heads.
func merge(queues [][]*kgo.Record, fn func(*kgo.Record)) {
	for {
		best := -1
		for i, q := range queues {
			if len(q) > 0 && (best < 0 || q[0].Timestamp.Before(queues[best][0].Timestamp)) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		fn(queues[best][0])
		queues[best] = queues[best][1:]
	}
}

// decide stages the decision on one input record, or its dead letter.
func (g *gate) decide(ctx context.Context, t *transaction, r *kgo.Record) {
	if g.misrouted(r) {
		t.misrouted++
	}
	in := g.FromKafka(r, g.headers)
	g.headers = in.Headers
	ev, err := events.Decode(&in)
	if err != nil {
		var rejection *events.Rejection
		if errors.As(err, &rejection) {
			t.letters = append(t.letters, rejection.Code)
		}
		g.session.Produce(ctx, g.DeadLetter(r, part, err), t.produced)
		return
	}
	t.decisions = append(t.decisions, g.state.Decide(r.Partition, &ev))
	d := &t.decisions[len(t.decisions)-1]
	d.Topic, d.Partition, d.Offset, d.Received = g.inputs[r.Topic], r.Partition, r.Offset, r.Timestamp
	headers, value, err := events.EncodeDecision(d)
	if err != nil {
		t.produced(r, fmt.Errorf("encode the decision: %w", err))
		return
	}
	out := g.ToKafka(schemas.DecidedTopic(d.Topic), ev.CustomerID, headers, value)
	out.Partition = r.Partition
	g.session.Produce(ctx, out, t.produced)
	g.shadow(ctx, t, d)
}

// A shadowVerdict is what is counted of it.
type shadowVerdict struct {
	ruleset string
	verdict events.Verdict
}

// shadow stages what the shadow rulesets say of an event that asks for a verdict, of them or of the live one.
func (g *gate) shadow(ctx context.Context, t *transaction, d *events.Decision) {
	if !rules.Asks(d.Event.Kind) || d.Verdict == events.Duplicate {
		return
	}
	for i, said := range g.state.Shadows() {
		if said.Verdict == events.Observed && d.Verdict == events.Observed {
			continue
		}
		v := events.ShadowVerdict{
			DecisionID: d.ID(), Shadow: g.ruling.asked[i].name, Ruleset: said.Ruleset, Verdict: said.Verdict, Score: said.Score, Hits: said.Hits, Snoozed: said.Snoozed, Trace: said.Trace,
			LiveRuleset: d.Ruleset, LiveVerdict: d.Verdict, LiveScore: d.Score,
			EventID: d.Event.ID, EventSource: d.Event.Source, Kind: d.Event.Kind, CustomerID: d.Event.CustomerID, EventTime: d.Event.Time, Label: d.Event.Label,
		}
		headers, value, err := events.EncodeShadowVerdict(&v)
		if err != nil {
			t.produced(&kgo.Record{Topic: schemas.VerdictsShadow}, err)
			return
		}
		out := g.ToKafka(schemas.VerdictsShadow, v.CustomerID, headers, value)
		out.Partition = d.Partition
		g.session.Produce(ctx, out, t.produced)
		t.shadows = append(t.shadows, shadowVerdict{v.Ruleset, v.Verdict})
	}
}

// misrouted says whether a record stands in another partition than its key belongs in, as Kafka's own clients compute it
// (murmur2). Its customer's aggregates are then split over partitions; it is decided all the same.
func (g *gate) misrouted(r *kgo.Record) bool {
	return len(r.Key) > 0 && g.router.Partition(r, int(g.partitions)) != int(r.Partition)
}
