package verify

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/schemas"
	"sluice/schemas/events"
)

// shadows proves that what a shadow ruleset says belongs to a decision, is said once, and is one row in ClickHouse.
func (v *verifier) shadows(ctx context.Context, seen *decided) ([]Row, error) {
	v.c.Progress("reading " + schemas.VerdictsShadow)
	f := finding{promise: "a shadow speaks once of a decision"}
	end, err := v.stableEnds(ctx, schemas.VerdictsShadow)
	if err != nil {
		return nil, err
	}
	s := said{seen: seen, of: map[string]marks{}, first: ends{}, rows: map[int32]int64{}, f: &f}
	if err := v.scan(ctx, schemas.VerdictsShadow, nil, end, s.hear); err != nil {
		return nil, err
	}
	if err := v.shadowRows(ctx, &s); err != nil {
		return nil, err
	}
	return []Row{f.row("%s verdicts of shadows, each beside the live one, each one row in ClickHouse", thousands(f.checked))}, nil
}

// said is what shadows have said so far.
type said struct {
	seen  *decided
	of    map[string]marks // by shadow and input topic
	first ends             // the oldest record of each partition that retention has left
	rows  map[int32]int64  // records up to the warehouse's position, by partition
	f     *finding
}

func (s *said) hear(r *kgo.Record) {
	s.f.checked++
	if _, ok := s.first[r.Partition]; !ok {
		s.first[r.Partition] = r.Offset
	}
	if r.Offset < s.seen.upTo[schemas.VerdictsShadow][r.Partition] {
		s.rows[r.Partition]++
	}
	here := events.PositionID(schemas.VerdictsShadow, r.Partition, r.Offset)
	shadow, err := events.DecodeShadowVerdict(r.Value)
	if err != nil {
		s.f.breach("%s is no shadow verdict: %v", here, err)
		return
	}
	topic, partition, offset, ok := events.ParsePositionID(shadow.DecisionID)
	live := s.seen.live[topic]
	switch {
	case !ok || live == nil:
		s.f.breach("%s is about %q, which is no decision", here, shadow.DecisionID)
		return
	case offset >= s.seen.gate[topic][partition] || offset < s.seen.oldest[topic][partition]:
		return // decided after the positions were read, or gone by retention
	}
	name := shadow.Shadow + "/" + topic
	if s.of[name] == nil {
		s.of[name] = marks{}
	}
	if mark := s.of[name].at(partition, offset); *mark != 0 {
		s.f.breach("the shadow %s has spoken twice of %s", shadow.Shadow, shadow.DecisionID)
	} else {
		*mark = published
	}
	if verdict := events.Verdict(live.get(partition, offset)); verdict != shadow.LiveVerdict {
		s.f.breach("the shadow %s takes the verdict on %s for %s, it is %s", shadow.Shadow, shadow.DecisionID, shadow.LiveVerdict, verdict)
	}
}

// shadowRows holds the rows in ClickHouse against the records.
func (v *verifier) shadowRows(ctx context.Context, s *said) error {
	for partition, end := range s.seen.upTo[schemas.VerdictsShadow] {
		first, ok := s.first[partition]
		if !ok {
			continue
		}
		var rows, distinct uint64
		const query = "SELECT count(), uniqExact(shadow, topic, partition, offset) FROM shadow_verdicts WHERE shadow_partition = ? AND shadow_offset >= ? AND shadow_offset < ?"
		if err := v.ch.QueryRow(ctx, query, partition, first, end).Scan(&rows, &distinct); err != nil {
			return fmt.Errorf("count shadow_verdicts in ClickHouse: %w", err)
		}
		if want := s.rows[partition]; int64(rows) != want || int64(distinct) != want {
			s.f.breach("shadow_verdicts partition %d: %d rows, %d distinct; Kafka has %d", partition, rows, distinct, want)
		}
	}
	return nil
}
