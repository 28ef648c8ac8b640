package gate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/schemas"
)

// adopt makes the state that of the partitions the group has given: what is gone is revoked (its shared entities stay, and
// are followed from here on), what is new is restored from gate.state, what stays is brought up to date.
//
// A restored partition is read up to its high watermark, not only to its last stable offset. The offsets of the previous
// owner's last transaction are stable by now, so that transaction is decided (see assigned); but its marker is written to
// each partition on its own, so gate.state[p] may for a moment still count it as open. Waiting until everything below the high
// watermark is decided restores exactly the committed transactions: all of them, and no aborted one. What a dead
// owner left open holds this up for at most transactionTimeout.
func (g *gate) adopt(ctx context.Context, a *assignment) error {
	if a == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.ctx, cancel)()
	g.stopFollowing()
	g.lag.forget()
	// No transaction is open: this only makes the session forget the rebalance, for which it would abort the next one.
	if _, err := g.session.End(ctx, kgo.TryAbort); err != nil && ctx.Err() == nil {
		return fmt.Errorf("begin an assignment: %w", err)
	}
	err := g.restore(ctx, a.partitions)
	if err == nil {
		err = g.followOthers(ctx)
	}
	if err != nil && a.ctx.Err() != nil {
		return nil // revoked meanwhile: the next assignment goes on where this one was
	}
	if err != nil {
		return err
	}
	close(a.restored)
	g.metrics.entities.Set(float64(g.state.Entities()))
	if g.Ready != nil {
		g.Ready()
	}
	return nil
}

// restore makes exactly these partitions owned and complete.
func (g *gate) restore(ctx context.Context, partitions []int32) error {
	started := time.Now()
	for p, complete := range g.owned {
		if slices.Contains(partitions, p) {
			continue
		}
		delete(g.owned, p)
		if complete {
			g.state.Revoke(p)
		} else { // half restored: what it would share is wrong
			g.forget(p)
		}
	}
	added := 0
	for _, p := range partitions {
		if _, ok := g.owned[p]; !ok {
			g.state.Assign(p) // what was followed of it goes; it is part of what is restored
			delete(g.at[schemas.GateState], p)
			g.owned[p] = false
			added++
		}
	}
	err := g.replay(ctx, schemas.GateState, partitions, everything, func(r *kgo.Record) error {
		return g.state.Restore(r.Partition, r.Key, r.Value)
	})
	if err != nil {
		return fmt.Errorf("restore the aggregates of partitions %v: %w", partitions, err)
	}
	for _, p := range partitions {
		g.owned[p] = true
	}
	g.Log.Info("partitions assigned", "partitions", len(partitions), "restored", added,
		"entities", g.state.Entities(), "took", time.Since(started).Round(time.Millisecond))
	return nil
}

// followOthers reads what the other partitions share, as far as it is committed now, and follows it from there.
func (g *gate) followOthers(ctx context.Context) error {
	var unknown []int32
	for p := range g.partitions {
		_, owned := g.owned[p]
		_, known := g.at[schemas.GateState][p]
		if !owned && !known {
			unknown = append(unknown, p)
		}
	}
	err := g.replay(ctx, schemas.GateState, unknown, committed, func(r *kgo.Record) error {
		return g.state.Follow(r.Partition, r.Key, r.Value)
	})
	if err != nil {
		for _, p := range unknown { // what was not read to its end is read again
			g.forget(p)
		}
		return fmt.Errorf("read what partitions %v share: %w", unknown, err)
	}
	return g.follow()
}

// forget drops what is known of a partition; it is read from its start the next time.
func (g *gate) forget(p int32) {
	g.state.Drop(p)
	delete(g.at[schemas.GateState], p)
}
