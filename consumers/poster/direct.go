package poster

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pipelines/payments"
	"sluice/pipelines/posting"
	"sluice/schemas"
)

// Direct posts decided payments into one shard without Kafka: what a poster does from its records in memory to the
// durable commit. For benchmarks; a poster that owns the shard is fenced by it. It is not safe for concurrent use.
type Direct struct {
	session *session
	at      part
	owner   ownership
	options options
}

// NewDirect connects to a migrated book and takes the shard over.
func NewDirect(ctx context.Context, postgres string, shard int32) (*Direct, error) {
	conn, err := connect(ctx, postgres, "sluice-direct", DefaultBatchTimeout, nil)
	if err != nil {
		return nil, err
	}
	at := part{schemas.PaymentsDecided, shard}
	owned, err := own(ctx, conn, []part{at})
	if err != nil {
		closeConn(conn)
		return nil, err
	}
	d := &Direct{newSession(conn), at, owned[at], options{posting.Standard(), DefaultBatchTimeout, func(topic string) string { return topic }}}
	return d, nil
}

// Postings says which transfers follow from payments from now on; without it those of posting.Standard do.
func (d *Direct) Postings(p payments.Postings) { d.options.postings = p }

// Post brings records of the shard, in order of offset, into the book in one transaction and returns how many transfers
// that made. After an error the Direct is to be closed.
func (d *Direct) Post(ctx context.Context, records []*kgo.Record) (transfers int, err error) {
	if len(records) == 0 {
		return 0, nil
	}
	next := records[len(records)-1].Offset + 1
	b := newBatch(records, []claim{{d.at.topic, d.at.partition, d.owner.epoch, d.owner.next, next}})
	if err := d.session.post(ctx, b, d.options); err != nil {
		return 0, fmt.Errorf("post %d decisions: %w", len(records), err)
	}
	d.owner.next = next
	return b.transfers(), nil
}

// Close ends the connection.
func (d *Direct) Close() { closeConn(d.session.conn) }
