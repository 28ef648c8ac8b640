package stream

import (
	"errors"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/schemas"
	"sluice/schemas/events"
)

// The headers of a dead letter, before the original record's own. Key and value are the original's.
const (
	HeaderReason    = "dl_reason"    // the events.Code, or a part's own word
	HeaderDetail    = "dl_detail"    // one line for a person
	HeaderPart      = "dl_part"      // who could not read or apply it
	HeaderTopic     = "dl_topic"     // where it stood, without prefix
	HeaderPartition = "dl_partition" // decimal
	HeaderOffset    = "dl_offset"    // decimal
	HeaderTimestamp = "dl_timestamp" // the original record's timestamp, Unix milliseconds, decimal
)

// maxDetail bounds the words of a dead letter, in bytes.
const maxDetail = 500

// DeadLetter returns the record that keeps r for a person to look at and to replay: its bytes, why it could not be
// applied, and where it stood. A full card number in it is masked, which is the one case where the bytes differ.
func (c Config) DeadLetter(r *kgo.Record, part string, why error) *kgo.Record {
	code, detail := "failed", why.Error()
	value := r.Value
	var rej *events.Rejection
	if errors.As(why, &rej) {
		code = string(rej.Code)
		if rej.Code == events.CodeCardNumber {
			value = events.MaskCardNumbers(value)
		}
	}
	if len(detail) > maxDetail {
		detail = detail[:maxDetail]
	}
	h := func(key, value string) kgo.RecordHeader { return kgo.RecordHeader{Key: key, Value: []byte(value)} }
	headers := []kgo.RecordHeader{
		h(HeaderReason, code), h(HeaderDetail, detail), h(HeaderPart, part), h(HeaderTopic, c.Base(r.Topic)),
		h(HeaderPartition, strconv.Itoa(int(r.Partition))), h(HeaderOffset, strconv.FormatInt(r.Offset, 10)),
		h(HeaderTimestamp, strconv.FormatInt(r.Timestamp.UnixMilli(), 10)),
	}
	return &kgo.Record{
		Topic: c.Topic(schemas.DeadLetters), Partition: r.Partition, Key: r.Key, Value: value,
		Headers: append(headers, r.Headers...),
	}
}
