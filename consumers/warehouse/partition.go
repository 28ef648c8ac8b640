package warehouse

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type flag = atomic.Bool

// position names a partition of a topic, as the brokers know it.
type position struct {
	topic     string
	partition int32
}

func (p position) String() string { return p.topic + "/" + strconv.Itoa(int(p.partition)) }

// unknown is the next offset of a partition that was never committed, until its first record arrives.
const unknown int64 = -1

// partition is what this member knows of a partition it owns.
type partition struct {
	position
	next    int64 // everything below is in ClickHouse
	epoch   int32 // leader epoch of the record before next, -1 unknown
	planned int64 // end (exclusive) of the range planned from next; 0 none
	resend  bool  // the plan is another's: it may be in ClickHouse, in whole or in part
	dirty   bool  // next has moved since the last commit

	records []*kgo.Record // polled and not in ClickHouse; the first are the planned ones
	bytes   int           // of their keys and values

	writing context.CancelFunc // gives up the batch being written; nil when none is
	written chan struct{}      // closed when writing has ended
}

// restore takes up what was committed.
func (p *partition) restore(o kadm.OffsetResponse) error {
	if o.Err != nil {
		return fmt.Errorf("read the plan of %s: %w", p.position, o.Err)
	}
	if o.At < 0 {
		return nil
	}
	until, err := parsePlan(o.At, o.Metadata)
	if err != nil {
		return fmt.Errorf("%s: %w", p.position, err)
	}
	p.next, p.epoch, p.planned, p.resend = o.At, o.LeaderEpoch, until, until > 0
	return nil
}

// keep adds polled records.
func (p *partition) keep(records []*kgo.Record) {
	for _, r := range records {
		if r.Offset < p.next {
			continue // cannot be after a consume from next; a broker that says otherwise would be counted twice
		}
		if p.next == unknown {
			p.next = r.Offset
		}
		p.records = append(p.records, r)
		p.bytes += len(r.Key) + len(r.Value)
	}
}

// plan decides what is written next: the range that is planned already as soon as all of it is here, or up to limit
// records. It returns how many of the first records that are.
func (p *partition) plan(limit int) int {
	if len(p.records) == 0 || p.writing != nil {
		return 0
	}
	if p.planned > 0 && p.records[0].Offset >= p.planned {
		// The brokers have deleted the range meanwhile; there is nothing left to send.
		p.next, p.planned, p.resend = p.records[0].Offset, 0, false
	}
	if p.planned == 0 {
		n := min(limit, len(p.records))
		p.planned = p.records[n-1].Offset + 1
		return n
	}
	if p.records[len(p.records)-1].Offset < p.planned-1 {
		return 0
	}
	n := 0
	for n < len(p.records) && p.records[n].Offset < p.planned {
		n++
	}
	return n
}

// done says that the first n records, the planned ones, are in ClickHouse.
func (p *partition) done(n int) {
	if n > 0 {
		p.epoch = p.records[n-1].LeaderEpoch
	}
	for _, r := range p.records[:n] {
		p.bytes -= len(r.Key) + len(r.Value)
	}
	rest := copy(p.records, p.records[n:])
	clear(p.records[rest:])
	p.records = p.records[:rest]
	p.next, p.planned, p.resend, p.dirty = p.planned, 0, false, true
}

// planPrefix starts the metadata of a commit that holds a plan; another program's metadata is none.
const planPrefix = "plan until "

// metadata writes a plan for the offset commit: the range goes from the committed offset to until, exclusive.
func metadata(until int64) string {
	if until == 0 {
		return ""
	}
	return planPrefix + strconv.FormatInt(until, 10)
}

// parsePlan reads what metadata wrote; 0 is no plan.
func parsePlan(committed int64, text string) (int64, error) {
	rest, ok := strings.CutPrefix(text, planPrefix)
	if !ok {
		return 0, nil
	}
	until, err := strconv.ParseInt(rest, 10, 64)
	if err != nil || until <= committed || committed < 0 {
		return 0, fmt.Errorf("the plan %q committed at offset %d is not one", text, committed)
	}
	return until, nil
}

// token identifies a planned range for good: ClickHouse inserts it once per table. The last record's timestamp tells a
// topic from one of the same name that was deleted and created again, whose offsets start over.
func token(base string, p position, first, until, lastTimestamp int64) string {
	return fmt.Sprintf("%s/%d/%d-%d@%d", base, p.partition, first, until-1, lastTimestamp)
}
