package warehouse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// handover is how long a partition that is taken away may take to finish the batch being written, before it is left
	// to the next owner. It is far below the rebalance timeout.
	handover = 4 * time.Second
	// commitTimeout bounds one commit.
	commitTimeout = 5 * time.Second
	// commitAttempts bounds how often a commit is tried while the group rebalances.
	commitAttempts = 20
	// commitPause is the pause between.
	commitPause = 100 * time.Millisecond
)

// assigned reads where the partitions stand: the committed offsets and the plans beside them.
func (w *warehouse) assigned(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	committed, err := w.admin.FetchOffsets(ctx, w.c.Group(part))
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("read the plans of group %s: %w", w.c.Group(part), err)
	}
	w.owning.Lock()
	defer w.owning.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for topic, partitions := range offsets {
		for id := range partitions {
			p := &partition{position: position{topic, id}, next: unknown, epoch: -1}
			if o, ok := committed.Lookup(topic, id); ok {
				if err := p.restore(o); err != nil {
					return nil, err
				}
			}
			if p.next != unknown {
				partitions[id] = kgo.NewOffset().At(p.next).WithEpoch(p.epoch)
			}
			w.drop(w.partitions[p.position])
			w.partitions[p.position] = p
		}
	}
	return offsets, nil
}

// drop gives up what is being written for a partition. The caller holds mu.
func (w *warehouse) drop(p *partition) {
	if p == nil {
		return
	}
	delete(w.partitions, p.position)
	if p.writing != nil {
		p.writing()
	}
}

// revoked hands partitions over: what is being written may end, and is committed if it does.
func (w *warehouse) revoked(ctx context.Context, _ *kgo.Client, lost map[string][]int32) {
	gone := w.forget(lost)
	deadline := time.After(handover)
	for _, p := range gone {
		w.await(p, deadline)
	}
	if w.failed.Load() {
		return
	}
	w.mu.Lock()
	var moved []*partition
	for _, p := range gone {
		if p.dirty {
			moved = append(moved, p)
		}
	}
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, handover)
	defer cancel()
	if err := w.commit(ctx, moved); err != nil {
		// The plan stands: the next owner sends the range again, which counts once.
		w.c.Log.Warn("partitions handed over without commit; their next owner sends their last batch again", "error", err)
	}
}

// lost forgets partitions that another may own already.
func (w *warehouse) lost(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	for _, p := range w.forget(lost) {
		w.mu.Lock()
		if p.writing != nil {
			p.writing()
		}
		w.mu.Unlock()
	}
}

// forget takes partitions out of what is planned from now on.
func (w *warehouse) forget(lost map[string][]int32) []*partition {
	w.owning.Lock()
	defer w.owning.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	var gone []*partition
	for topic, ids := range lost {
		for _, id := range ids {
			if p := w.partitions[position{topic, id}]; p != nil {
				delete(w.partitions, p.position)
				gone = append(gone, p)
			}
		}
	}
	return gone
}

// await waits until a partition's batch is written, and gives it up at the deadline.
func (w *warehouse) await(p *partition, deadline <-chan time.Time) {
	w.mu.Lock()
	cancel, written := p.writing, p.written
	w.mu.Unlock()
	if cancel == nil {
		return
	}
	select {
	case <-written:
	case <-deadline:
		cancel()
		<-written
	}
}

// commit commits next and plan of partitions, all in one request. It fails if one of them is refused: another member
// owns it, and this one must stop.
func (w *warehouse) commit(ctx context.Context, partitions []*partition) error {
	if len(partitions) == 0 {
		return nil
	}
	offsets := map[string]map[int32]kgo.EpochOffset{}
	plans := map[position]string{}
	w.mu.Lock()
	for _, p := range partitions {
		if offsets[p.topic] == nil {
			offsets[p.topic] = map[int32]kgo.EpochOffset{}
		}
		offsets[p.topic][p.partition] = kgo.EpochOffset{Epoch: p.epoch, Offset: p.next}
		plans[p.position] = metadata(p.planned)
	}
	w.mu.Unlock()
	var err error
	for range commitAttempts {
		if err = w.commitOnce(ctx, offsets, plans); !errors.Is(err, kerr.RebalanceInProgress) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(commitPause):
		}
	}
	if err != nil {
		return fmt.Errorf("commit the plans of %d partitions: %w", len(partitions), err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range partitions {
		p.dirty = false
	}
	return nil
}

func (w *warehouse) commitOnce(ctx context.Context, offsets map[string]map[int32]kgo.EpochOffset, plans map[position]string) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			t := &req.Topics[i]
			for j := range t.Partitions {
				plan := plans[position{t.Topic, t.Partitions[j].Partition}]
				t.Partitions[j].Metadata = &plan
			}
		}
		return nil
	})
	var failure error
	w.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if failure = err; err != nil {
			return
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					failure = fmt.Errorf("%s/%d: %w", t.Topic, p.Partition, err)
					return
				}
			}
		}
	})
	return failure
}
