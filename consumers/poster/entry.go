package poster

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pipelines/ledger"
	"sluice/schemas"
	"sluice/schemas/events"
)

// entry is one record of a decided topic on its way through a batch.
type entry struct {
	record   *kgo.Record
	decision events.Decision
	reason   string // why it cannot be posted, a dead letter's reason; "" if it can
	detail   string // the same for a person
	shard    int32

	planned planned // of a payment, in this batch

	// What becomes of it.
	code          string
	sequence      int64
	firstTransfer int64
	transfers     int16
	first         int // index into the book's posted transfers
	steps         int // of holds
}

// Codes of results that the poster itself gives.
const (
	codeUnreadable = "unreadable" // the record is no decision the book could keep; it is a dead letter
	codeDuplicate  = "duplicate"
	codeIgnored    = "ignored"
	codeRecorded   = "recorded"
)

// The times the book keeps: what Postgres and every reader of it can represent.
var (
	earliest = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
)

// read fills the entry from its record.
func (e *entry) read(r *kgo.Record) {
	e.record, e.shard = r, r.Partition
	d, err := events.DecodeDecision(r.Value)
	if err == nil {
		err = keepable(&d)
	}
	if err != nil {
		e.refuse(codeUnreadable, err)
		return
	}
	e.decision = d
}

// refuse makes the entry a dead letter.
func (e *entry) refuse(reason string, why error) {
	e.reason, e.detail = reason, why.Error()
	if len(e.detail) > maxDetail {
		e.detail = e.detail[:maxDetail]
	}
	e.detail = strings.ToValidUTF8(strings.ReplaceAll(e.detail, "\x00", ""), "")
	e.decision = events.Decision{}
}

// maxDetail bounds the words of a dead letter, in bytes.
const maxDetail = 500

// keepable checks what DecodeDecision leaves to the gate, so that no record can make Postgres refuse its whole batch.
func keepable(d *events.Decision) error {
	e := &d.Event
	for _, f := range [...]struct{ name, value string }{{"event_id", e.ID}, {"event_source", e.Source}} {
		if f.value == "" || len(f.value) > events.MaxIDBytes || strings.IndexByte(f.value, 0) >= 0 {
			return fmt.Errorf("%s has %d bytes or a zero byte; it has 1 to %d", f.name, len(f.value), events.MaxIDBytes)
		}
	}
	if schemas.DecidedTopic(d.Topic) == "" || d.Partition < 0 || d.Offset < 0 {
		return fmt.Errorf("%.40q, partition %d, offset %d is no place an event stands", d.Topic, d.Partition, d.Offset)
	}
	if e.Time.Before(earliest) || e.Time.After(latest) {
		return fmt.Errorf("event time %d µs is outside %d to %d", e.Time.UnixMicro(), earliest.Year(), latest.Year())
	}
	return nil
}

// identity is what makes the event one.
type identity struct{ source, id string }

func (e *entry) identity() identity { return identity{e.decision.Event.Source, e.decision.Event.ID} }

// counts says whether the entry's event may count: it was read, and the gate saw it for the first time.
func (e *entry) counts() bool { return e.reason == "" && e.decision.Verdict != events.Duplicate }

// position is where the event stood; of what could not be read or counted before, where the record itself stands.
func (e *entry) position(base string) (topic string, partition int32, offset int64) {
	if e.reason != "" {
		return base, e.record.Partition, e.record.Offset
	}
	return e.decision.Topic, e.decision.Partition, e.decision.Offset
}

// when is the event's time, or the record's where there is no event.
func (e *entry) when() time.Time {
	t := e.decision.Event.Time
	if e.reason != "" {
		t = e.record.Timestamp
	}
	if t.Before(earliest) {
		return earliest
	}
	if t.After(latest) {
		return latest
	}
	return t
}

// post sets the entry's answer; posted are the book's transfers so far.
func (e *entry) answer(code string, first int, posted []ledger.Posted) {
	e.code, e.first, e.transfers = code, first, int16(len(posted)-first)
}
