package status

import (
	"slices"
	"sync/atomic"
	"time"

	"sluice/schemas/events"
)

const (
	// keptDecisions is how many decisions the page lists.
	keptDecisions = 50
	// keptHits of them at most are decisions that hit a rule, so that a bad day still shows what passes.
	keptHits = 40
	// plainEvery is the least time between two listed decisions that hit no rule: a person reads no faster.
	plainEvery = 200 * time.Millisecond
)

// recent keeps the last decisions worth a look, without locks: a slot is one pointer, and a writer takes the next slot by
// adding one. Two writers that meet in a slot 50 decisions apart lose one of the two, which nobody misses.
type recent struct {
	order     atomic.Uint64 // numbers the kept decisions, so that both rings can be merged
	lastPlain atomic.Int64  // Unix nanoseconds
	hits      ring
	plain     ring
}

type ring struct {
	next  atomic.Uint64
	slots [keptDecisions]atomic.Pointer[Decision]
}

func (r *ring) add(d *Decision) { r.slots[(r.next.Add(1)-1)%keptDecisions].Store(d) }

func (r *ring) all() []*Decision {
	out := make([]*Decision, 0, keptDecisions)
	for i := range r.slots {
		if d := r.slots[i].Load(); d != nil {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, newestFirst)
	return out
}

func newestFirst(a, b *Decision) int {
	if a.order > b.order {
		return -1
	}
	return 1
}

func (r *recent) observe(d *events.Decision, now time.Time, reason func(string) string) {
	if len(d.Hits) > 0 {
		r.hits.add(r.view(d, now, reason))
		return
	}
	if d.Event.Kind.Family() == events.Behavior {
		return // asks nothing and is most of the traffic
	}
	last := r.lastPlain.Load()
	if now.UnixNano()-last >= int64(plainEvery) && r.lastPlain.CompareAndSwap(last, now.UnixNano()) {
		r.plain.add(r.view(d, now, reason))
	}
}

// view copies what the page shows; strings are shared, they never change.
func (r *recent) view(d *events.Decision, now time.Time, reason func(string) string) *Decision {
	e := &d.Event
	v := &Decision{
		ID: d.ID(), Time: e.Time, Decided: now, Customer: e.CustomerID, Kind: e.Kind.String(), Channel: e.Source,
		Verdict: d.Verdict.String(), Score: d.Score, Ruleset: d.Ruleset, Tier: d.Tier, Hits: []Hit{}, order: r.order.Add(1),
	}
	if e.Currency.Code() != "" {
		v.Amount, v.Currency = events.FormatAmount(e.Amount, e.Currency), e.Currency.Code()
	}
	for _, h := range d.Hits {
		v.Hits = append(v.Hits, Hit{Rule: h.Rule, Score: h.Score, Reason: h.Reason, Say: reason(h.Reason)})
	}
	return v
}

// list returns at most keptDecisions decisions, newest first: up to keptHits that hit a rule, more if little else passed.
func (r *recent) list() []*Decision {
	hits, plain := r.hits.all(), r.plain.all()
	room := max(keptHits, keptDecisions-len(plain))
	hits = hits[:min(len(hits), room)]
	plain = plain[:min(len(plain), keptDecisions-len(hits))]
	all := append(hits, plain...)
	slices.SortFunc(all, newestFirst)
	return all
}
