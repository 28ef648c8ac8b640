package risk

import (
	"strings"

	"sluice/pipelines/routing"
	"sluice/rules"
	"sluice/schemas/events"
)

// carrierKey is what the health of payment channels is kept by.
var carrierKey = rules.Key{First: rules.Carrier}

// carrierPrefix starts the keys of payment channels.
var carrierPrefix = rules.Carrier.String() + string(keySeparator)

// routes is a table of payment channels made ready: which aggregates tell how its channels fare.
type routes struct {
	table     *routing.Table
	good, bad *definition
}

func newRoutes(e *Engine, table *routing.Table) *routes {
	health := table.Health()
	return &routes{table, e.keep(&health.Aggregates[routing.Good], 0), e.keep(&health.Aggregates[routing.Bad], 0)}
}

// router chooses payment channels for a State. Beside the partial sums of each partition it keeps what they come to over all
// partitions, so that a choice does not decode every part of every channel: see health.
type router struct {
	*routes
	state   *State
	chooser *routing.Chooser
	health  []health // by channel of the table
}

// health is what a channel has answered, over all partitions. It is derived: what is counted here is added to it, and
// whatever else may change it makes it stale, to be added up anew when it is asked for.
type health struct {
	key       string
	good, bad series
	fresh     bool

	// What was read of it last: good until an answer comes or the time leaves the tile.
	read      bool
	tile      int64
	well, all int64
}

// newRouter returns nil where nothing is routed.
func newRouter(s *State, r *routes) *router {
	if r == nil {
		return nil
	}
	out := &router{routes: r, state: s, chooser: r.table.NewChooser(), health: make([]health, len(r.table.Channels))}
	for i := range out.health {
		out.health[i].key = carrierPrefix + r.table.Channels[i].Name
	}
	return out
}

// forget notes that a partition's part of an entity may have changed. A nil router has nothing to forget.
func (r *router) forget(key string) {
	if r == nil {
		return
	}
	if name, ok := strings.CutPrefix(key, carrierPrefix); ok {
		if i := r.table.Index(name); i >= 0 {
			r.health[i].fresh = false
		}
	}
}

func (r *router) forgetAll() {
	if r == nil {
		return
	}
	for i := range r.health {
		r.health[i].fresh = false
	}
}

// add counts an answer that was just staged.
func (r *router) add(d *definition, channel string, ms int64) {
	i := r.table.Index(channel)
	if i < 0 || !r.health[i].fresh {
		return
	}
	h := &r.health[i]
	h.read = false
	switch d {
	case r.good:
		h.good.include(ms/d.tile, 1)
	case r.bad:
		h.bad.include(ms/d.tile, 1)
	}
}

// include adds to a tile, unless the series has moved on from it.
func (s *series) include(index, n int64) {
	s.advance(index)
	if index < s.newest-s.def.keep {
		return
	}
	t, _ := s.at(index)
	t.a += n
}

// merge adds all tiles of a part.
func (s *series) merge(part *series) {
	for i := range part.tiles {
		s.include(part.tiles[i].index, part.tiles[i].a)
	}
}

// Answers is routing.Health, for the event in hand.
func (r *router) Answers(channel int) (good, all int64) {
	h := &r.health[channel]
	s := r.state
	if !h.fresh {
		r.refresh(h)
	}
	if tile := s.now.ms / r.good.tile; !h.read || h.tile != tile {
		s.reading.begin(r.good, s.now.ms)
		s.reading.gather(&h.good)
		h.well = s.reading.a
		s.reading.begin(r.bad, s.now.ms)
		s.reading.gather(&h.bad)
		h.all, h.read, h.tile = h.well+s.reading.a, true, tile
	}
	return h.well, h.all
}

// refresh adds up the parts of all partitions, as gather does: what is idle in an owned partition counts as forgotten.
func (r *router) refresh(h *health) {
	s := r.state
	h.good.clear(r.good, 0)
	h.bad.clear(r.bad, 0)
	for _, id := range s.order {
		p := s.owned[id]
		if w := p.staged[h.key]; w != nil {
			r.take(h, p.now(), func(d *definition) *series { return w.entity.find(d.id, 0) })
		}
	}
	for _, part := range s.shared[h.key] {
		now := int64(0)
		if p := s.owned[part.partition]; p != nil {
			if p.staged[h.key] != nil {
				continue
			}
			now = p.now()
		}
		r.take(h, now, func(d *definition) *series {
			if s.scratch.decodeOne(part.blob, d, 0) {
				return &s.scratch
			}
			return nil
		})
	}
	h.fresh, h.read = true, false
}

// take adds one partition's part, whose newest event was at ms; 0 if that is not known.
func (r *router) take(h *health, ms int64, find func(*definition) *series) {
	if part := find(r.good); part != nil && !part.idle(ms) {
		h.good.merge(part)
	}
	if part := find(r.bad); part != nil && !part.idle(ms) {
		h.bad.merge(part)
	}
}

// route chooses the payment channel of an approved payment. Where none can carry it there is nothing to approve. Nor is
// a payment moved to, or its money held by, a channel that the table does not have.
func (s *State) route(d *events.Decision) {
	e := s.now.event
	switch {
	case d.Verdict == events.Approve && routing.Begins(e):
		d.Route = s.router.chooser.Choose(e, rules.Context{Tier: d.Tier, Lists: s.lists}, s.router)
	case d.Verdict == events.Observed && e.PaymentChannel != "" && (e.Kind == events.PaymentRerouted || e.Kind == events.PaymentAuthorized) &&
		s.router.table.Index(e.PaymentChannel) < 0:
		d.Route = s.router.table.Unknown(e.PaymentChannel)
	default:
		return
	}
	if d.Route.Channel == "" {
		d.Verdict = events.Decline
		d.Hits = append(d.Hits, events.Hit{Rule: routing.RoutingRule, Reason: routing.NoRoute})
	}
}

// Answered is how a payment channel of the table has answered in the window that ends at the newest event of the owned
// partitions; false where the table has no such channel.
func (s *State) Answered(channel string) (good, all int64, ok bool) {
	if s.router == nil {
		return 0, 0, false
	}
	i := s.router.table.Index(channel)
	if i < 0 {
		return 0, 0, false
	}
	s.now.ms = 0
	for _, p := range s.owned {
		s.now.ms = max(s.now.ms, p.now())
	}
	good, all = s.router.Answers(i)
	return good, all, true
}
