package risk

import (
	"slices"

	"sluice/rules"
	"sluice/schemas/events"
)

// Cycles of money. Each account keeps the accounts whose money has come to it within the window: over how many hops, in which
// tile it left there and in which it came. A transfer from A to B gives B all that has come to A, one hop on, and A itself; it
// closes a cycle if some of B's money has come to A. Of one account's paths, those are kept than which none is both shorter
// and younger. The money moves in time order, by tile: no transfer of a cycle lies in an earlier tile than the one before it.
//
// What is kept by an account is, like any shared entity, a part for each partition of the payers. Each part keeps the 256
// paths that started last. So a cycle can be missed, or a longer one be found in its place, when more money has come to
// an account, when what another gate has seen is not here yet, or when a transfer comes late, after others that carried its money
// on. A cycle found is one, but for accounts with the same 48 bits of hash, and for its start, which may lie one tile
// before the window.

// isEdge says whether money moves from one account to another; to oneself it does not.
func isEdge(e *events.Event) bool {
	payee := rules.Counterparty.Of(e)
	return payee != "" && payee != e.CustomerID
}

// carry adds the transfer in hand to the payee's series: what has come to the payer goes on.
func (s *State) carry(d *definition, payee *working) {
	s.come(d)
	r := &s.reading
	from := [1]member{{hash: hashOf(s.now.event.CustomerID), hops: 1, first: r.last, last: r.last}}
	r.join(from[:])
	into := payee.entity.open(d, 0)
	into.advance(r.last)
	r.join(into.members)
	into.members = append(into.members[:0], r.paths...)
	into.bound()
}

// cycle reads how many hops the shortest cycle has that the transfer in hand closes.
func (s *State) cycle(d *definition) rules.Value {
	e := s.now.event
	if !isEdge(e) || !d.of.Has(e.Kind) || d.where != nil && d.where.Eval(s.askers[d.set].frame) != rules.True {
		return rules.Value{}
	}
	s.come(d)
	return s.reading.value(e.Currency)
}

// come gathers what has come to the payer.
func (s *State) come(d *definition) {
	s.reading.begin(d, s.now.ms)
	s.reading.payee = hashOf(rules.Counterparty.Of(s.now.event))
	s.payer, _ = appendKey(s.payer[:0], d.by, rules.Key{First: rules.Customer}, s.now.event)
	s.gather(s.payer, true, d, 0)
}

// gatherPaths adds one part of what has come to the payer: the paths that can go on, and in a the hops of the shortest cycle.
func (r *reading) gatherPaths(s *series) {
	r.part = r.part[:0]
	for i := range s.members {
		m := &s.members[i]
		switch {
		case m.first < r.first || m.last > r.last:
		case m.hash == r.payee:
			if closed := int64(m.hops) + 1; r.a == 0 || closed < r.a {
				r.a = closed
			}
		case m.hops+1 < r.def.hops:
			r.part = append(r.part, member{hash: m.hash, hops: m.hops + 1, first: m.first, last: r.last})
		}
	}
	r.join(r.part)
}

// join merges paths into those gathered; both are in the order of a series, and none of either is useless beside the others.
func (r *reading) join(more []member) {
	if len(more) == 0 {
		return
	}
	r.paths, r.spare = r.spare[:0], r.paths
	have := r.spare
	for len(have)+len(more) > 0 {
		if len(more) == 0 || len(have) > 0 && have[0].before(&more[0]) {
			r.keep(have[0])
			have = have[1:]
		} else {
			r.keep(more[0])
			more = more[1:]
		}
	}
}

// keep adds a path that is next in order, unless the one before it is as short and as young.
func (r *reading) keep(m member) {
	if n := len(r.paths); n > 0 && r.paths[n-1].hash == m.hash && r.paths[n-1].first >= m.first {
		return
	}
	r.paths = append(r.paths, m)
}

// before is the order of paths. Between equal ones, that which came first can carry a late transfer too.
func (m *member) before(n *member) bool {
	switch {
	case m.hash != n.hash:
		return m.hash < n.hash
	case m.hops != n.hops:
		return m.hops < n.hops
	case m.first != n.first:
		return m.first > n.first
	}
	return m.last < n.last
}

// bound forgets the paths beyond maxMembers that started first, and among these the longest.
func (s *series) bound() {
	surplus := len(s.members) - maxMembers
	if surplus <= 0 {
		return
	}
	const tiles, lengths = tilesPerWindow + 1, rules.MaxHops
	var many [tiles * lengths]int // how many paths by rank: the oldest and longest have the highest
	rank := func(m *member) int {
		ago := min(max(s.newest-m.first, 0), tiles-1)
		return int(ago)*lengths + min(int(m.hops), lengths-1)
	}
	for i := range s.members {
		many[rank(&s.members[i])]++
	}
	border := len(many) // the ranks from here on go, and some of the one before
	for surplus > 0 {
		border--
		surplus -= many[border]
	}
	stay := -surplus
	s.members = slices.DeleteFunc(s.members, func(m member) bool {
		at := rank(&m)
		if at == border && stay > 0 {
			stay--
			return false
		}
		return at >= border
	})
}
