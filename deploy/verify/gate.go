package verify

import (
	"context"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/consumers/deadletter"
	"sluice/consumers/stream"
	"sluice/schemas"
	"sluice/schemas/events"
)

// inputs are the topics the gate reads.
var inputs = []string{schemas.Payments, schemas.Loans, schemas.Behaviors}

// decided is what the decided topics hold, kept for the checks further down the stream.
type decided struct {
	verdict  map[events.Verdict]int64   // how many of each
	expected map[string]marks           // input topic → verdict at each offset whose decision the poster has passed
	counts   map[string]map[int32]int64 // decided topic → partition → number of records up to the warehouse's position
	amounts  map[string]map[int32]int64 // the same, sum of amounts in minor units
	letters  int64                      // dead letters up to the warehouse's position
	upTo     map[string]ends            // the warehouse's positions, read before the topics
	poster   map[string]ends            // the poster's positions, read before the topics
	gate     map[string]ends            // the gate's positions, by input topic, read before the topics
	live     map[string]marks           // input topic → verdict at each offset
	oldest   map[string]ends            // input topic → offset of the oldest decision that retention has left
}

// What an input offset has met.
const (
	published byte = 1 << iota // an event stands there
	answered                   // a decision or a dead letter names it

	standing byte = 1 << 7 // retention has left the offset, whatever it is
)

// gate proves that each event has exactly one verdict or dead letter.
func (v *verifier) gate(ctx context.Context) (*decided, []Row, error) {
	seen := &decided{expected: map[string]marks{}, amounts: map[string]map[int32]int64{}, counts: map[string]map[int32]int64{},
		upTo: map[string]ends{}, poster: map[string]ends{}, verdict: map[events.Verdict]int64{},
		live: map[string]marks{}, oldest: map[string]ends{}}
	positions := map[string]ends{}
	for _, topic := range inputs {
		var err error
		if positions[topic], err = v.groupPositions(ctx, "gate", topic); err != nil {
			return nil, nil, err
		}
	}
	seen.gate = positions
	for _, topic := range warehouseTopics {
		var err error
		if seen.upTo[topic], err = v.groupPositions(ctx, "warehouse", topic); err != nil {
			return nil, nil, err
		}
	}
	if err := v.posterPositions(ctx, seen); err != nil {
		return nil, nil, err
	}
	f := finding{promise: "each event has one verdict"}
	marked := map[string]marks{}
	var events int64
	for _, topic := range inputs {
		n, err := v.published(ctx, topic, positions[topic], marked)
		if err != nil {
			return nil, nil, err
		}
		events += n
	}
	for _, topic := range inputs {
		if err := v.verdicts(ctx, topic, positions[topic], marked[topic], seen, &f); err != nil {
			return nil, nil, err
		}
	}
	letters, err := v.letters(ctx, positions, marked, seen, &f)
	if err != nil {
		return nil, nil, err
	}
	unanswered(marked, positions, &f)
	f.checked = events
	return seen, []Row{f.row("%s events in = %s verdicts (%s) + %s dead letters", thousands(events), thousands(events-letters), mix(seen.verdict), thousands(letters))}, nil
}

func mix(n map[events.Verdict]int64) string {
	text := ""
	for _, verdict := range []events.Verdict{events.Approve, events.Review, events.Decline, events.Observed, events.Duplicate} {
		if n[verdict] > 0 {
			if text != "" {
				text += ", "
			}
			text += fmt.Sprintf("%s %s", verdict, thousands(n[verdict]))
		}
	}
	return text
}

// published marks every event up to the gate's positions.
func (v *verifier) published(ctx context.Context, topic string, until ends, marked map[string]marks) (int64, error) {
	v.c.Progress("reading " + topic)
	m := marks{}
	marked[topic] = m
	var n int64
	err := v.scan(ctx, topic, nil, until, func(r *kgo.Record) {
		if n++; len(m[r.Partition]) == 0 { // the oldest that retention has left
			m.stand(r.Partition, r.Offset, until[r.Partition])
		}
		*m.at(r.Partition, r.Offset) = published
	})
	return n, err
}

// verdicts reads the decisions on an input topic's events.
func (v *verifier) verdicts(ctx context.Context, input string, until ends, marked marks, seen *decided, f *finding) error {
	topic := schemas.DecidedTopic(input)
	v.c.Progress("reading " + topic)
	end, err := v.stableEnds(ctx, topic)
	if err != nil {
		return err
	}
	expected, live, oldest := marks{}, marks{}, ends{}
	seen.live[input], seen.oldest[input] = live, oldest
	seen.expected[input], seen.amounts[topic], seen.counts[topic] = expected, map[int32]int64{}, map[int32]int64{}
	return v.scan(ctx, topic, nil, end, func(r *kgo.Record) {
		d, err := events.DecodeDecision(r.Value)
		if err != nil {
			f.breach("%s is no decision: %v", events.PositionID(topic, r.Partition, r.Offset), err)
			return
		}
		if _, ok := oldest[d.Partition]; !ok {
			oldest[d.Partition] = d.Offset
		}
		*live.at(d.Partition, d.Offset) = byte(d.Verdict)
		if r.Offset < seen.poster[topic][r.Partition] {
			*expected.at(d.Partition, d.Offset) = byte(d.Verdict)
		}
		if r.Offset < seen.upTo[topic][r.Partition] {
			seen.counts[topic][r.Partition]++
			seen.amounts[topic][r.Partition] += d.Event.Amount
		}
		if d.Topic != input || d.Offset >= until[d.Partition] {
			return // decided after the positions were read
		}
		seen.verdict[d.Verdict]++
		answer(marked, d.Partition, d.Offset, d.ID(), f)
	})
}

// letters reads the dead letters; those of the gate answer an event.
func (v *verifier) letters(ctx context.Context, until map[string]ends, marked map[string]marks, seen *decided, f *finding) (int64, error) {
	v.c.Progress("reading " + schemas.DeadLetters)
	end, err := v.stableEnds(ctx, schemas.DeadLetters)
	if err != nil {
		return 0, err
	}
	var n int64
	err = v.scan(ctx, schemas.DeadLetters, nil, end, func(r *kgo.Record) {
		if _, replayed := deadletter.Mark(r); replayed {
			return // says that a dead letter was published again
		}
		if r.Offset < seen.upTo[schemas.DeadLetters][r.Partition] {
			seen.letters++
		}
		h := headers(r)
		partition, err1 := strconv.ParseInt(h[stream.HeaderPartition], 10, 32)
		offset, err2 := strconv.ParseInt(h[stream.HeaderOffset], 10, 64)
		topic := h[stream.HeaderTopic]
		if err1 != nil || err2 != nil {
			f.breach("dead letter %d/%d does not say where it stood", r.Partition, r.Offset)
			return
		}
		if h[stream.HeaderPart] != "gate" || offset >= until[topic][int32(partition)] {
			return
		}
		n++
		answer(marked[topic], int32(partition), offset, events.PositionID(topic, int32(partition), offset), f)
	})
	return n, err
}

func headers(r *kgo.Record) map[string]string {
	h := map[string]string{}
	for _, header := range r.Headers {
		if _, ok := h[header.Key]; !ok {
			h[header.Key] = string(header.Value)
		}
	}
	return h
}

// answer marks an input offset as answered. An event that retention has removed cannot be held against its verdict.
func answer(m marks, partition int32, offset int64, id string, f *finding) {
	switch at := m.get(partition, offset); {
	case at&answered != 0:
		f.breach("%s has two verdicts", id)
	case at == published:
		*m.at(partition, offset) |= answered
	case at == standing:
		f.breach("%s has a verdict but is no event", id)
	}
}

func unanswered(marked map[string]marks, until map[string]ends, f *finding) {
	for topic, m := range marked {
		for partition, offsets := range m {
			for offset, b := range offsets {
				if b == published && int64(offset) < until[topic][partition] {
					f.breach("%s has no verdict", events.PositionID(topic, partition, int64(offset)))
				}
			}
		}
	}
}
