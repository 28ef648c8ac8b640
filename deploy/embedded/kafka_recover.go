//go:build !noembed && (linux || darwin)

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// recoverLimit bounds what is asked of a broker in this process while nobody else may ask.
const recoverLimit = 30 * time.Second

// openMark is a file that is there while the log is open, and afterwards if it was not closed in order.
func (o kafkaOrder) openMark() string { return o.Dir + ".open" }

// markOpen marks the log as open and says whether it was closed in order. If not, snapshots of partitions may be older
// than the log and are removed, so that the broker reads it all.
func markOpen(o kafkaOrder) (inOrder bool, err error) {
	f, err := os.OpenFile(o.openMark(), os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		return true, f.Close()
	}
	if !errors.Is(err, os.ErrExist) {
		return false, fmt.Errorf("open Kafka's log: %w", err)
	}
	snapshots, err := filepath.Glob(filepath.Join(o.Dir, "partitions", "*", "snapshot.json"))
	if err != nil {
		return false, fmt.Errorf("recover Kafka's log: %w", err)
	}
	for _, path := range snapshots {
		if err := os.Remove(path); err != nil {
			return false, fmt.Errorf("recover Kafka's log: %w", err)
		}
	}
	return false, nil
}

// closeKafka closes the log in order.
func closeKafka(c *kfake.Cluster, o kafkaOrder) {
	c.Close()
	_ = os.Remove(o.openMark()) // left behind, it only makes the next start slower
}

// errClosed is what requests get while a broker starts or ends; it closes their connection.
var errClosed = errors.New("the broker is starting or ending")

// closedExcept lets the broker answer requests of the given kinds only, until it is lifted.
func closedExcept(c *kfake.Cluster, kinds ...kmsg.Key) (lift func()) {
	var lifted atomic.Bool
	c.Control(func(r kmsg.Request) (kmsg.Response, error, bool) { //nolint:staticcheck // the library's signature
		c.KeepControl()
		if lifted.Load() {
			c.DropControl()
			return nil, nil, false
		}
		if slices.Contains(kinds, kmsg.Key(r.Key())) {
			return nil, nil, false
		}
		return nil, errClosed, true
	})
	return func() { lifted.Store(true) }
}

// kafkaAddress is the first address of a broker in this process.
func kafkaAddress(c *kfake.Cluster) string { return c.ListenAddrs()[0] }

// abortForgotten writes down the aborts of transactions that were open when the log was last left without closing it.
// The broker takes them for aborted but writes no marker, so that the producer's next commit would, after another crash,
// commit them too. Which partitions they wrote to is not known, so all that hold records get a marker. accept is called
// once the broker may take connections: it refuses what does not belong to this.
func abortForgotten(c *kfake.Cluster, accept func()) error {
	defer closedExcept(c, kmsg.ApiVersions, kmsg.Metadata, kmsg.FindCoordinator, kmsg.ListTransactions, kmsg.ListOffsets, kmsg.WriteTxnMarkers)()
	accept()
	client, err := kgo.NewClient(kgo.SeedBrokers(kafkaAddress(c)))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), recoverLimit)
	defer cancel()
	admin := kadm.NewClient(client)
	producers, err := admin.ListTransactions(ctx, nil, nil)
	if err != nil || len(producers) == 0 {
		return err
	}
	ends, err := admin.ListEndOffsets(ctx)
	if err != nil {
		return err
	}
	written := kadm.TopicsSet{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			written.Add(o.Topic, o.Partition)
		}
	})
	if len(written) == 0 {
		return nil
	}
	var markers []kadm.TxnMarkers
	for _, p := range producers {
		markers = append(markers, kadm.TxnMarkers{ProducerID: p.ProducerID, Topics: written})
	}
	answers, err := admin.WriteTxnMarkers(ctx, markers...)
	if err != nil {
		return err
	}
	answers.EachPartition(func(p kadm.TxnMarkersPartitionResponse) { err = errors.Join(err, p.Err) })
	return err
}

// abortOpen aborts the transactions that are open, by opening each transactional id anew. Nobody can begin one meanwhile,
// or afterwards: the broker stays closed.
func abortOpen(c *kfake.Cluster) error {
	closedExcept(c, kmsg.ApiVersions, kmsg.Metadata, kmsg.FindCoordinator, kmsg.ListTransactions, kmsg.InitProducerID)
	client, err := kgo.NewClient(kgo.SeedBrokers(kafkaAddress(c)))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), recoverLimit)
	defer cancel()
	open, err := kadm.NewClient(client).ListTransactions(ctx, nil, []string{"Ongoing"})
	if err != nil {
		return err
	}
	for _, id := range open.TransactionalIDs() {
		r := kmsg.NewPtrInitProducerIDRequest()
		r.TransactionalID, r.TransactionTimeoutMillis = &id, int32(recoverLimit.Milliseconds())
		r.ProducerID, r.ProducerEpoch = -1, -1
		answer, err := r.RequestWith(ctx, client)
		if err == nil {
			err = kerr.ErrorForCode(answer.ErrorCode)
		}
		if err != nil {
			return fmt.Errorf("transactional id %s: %w", id, err)
		}
	}
	return nil
}
