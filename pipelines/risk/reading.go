package risk

import (
	"slices"

	"sluice/rules"
	"sluice/schemas/events"
)

// reading gathers one aggregate over the partial sums of an entity. The window is the tile of the event's time, less the
// delay, and those before it that make up a window; so its far edge lies at most one tile too far back. Tiles later than
// that are left out; within the last one, what is later than the window's end is not told apart.
type reading struct {
	def         *definition
	ms          int64 // the event's time
	end         int64 // the window's
	first, last int64 // tiles
	a, b        int64
	squares     uint128
	any         bool
	members     []uint64 // distinct values other than customers, which may be in more than one partial

	// For cycle:
	payee       uint64
	paths       []member // what can go on to the payee, in the order of a series
	part, spare []member // scratch
}

// begin turns to an aggregate, for an event at ms.
func (r *reading) begin(d *definition, ms int64) {
	last := (ms - d.delay) / d.tile
	*r = reading{def: d, ms: ms, end: ms - d.delay, first: last - d.span, last: last, members: r.members[:0],
		paths: r.paths[:0], part: r.part, spare: r.spare}
}

// gather adds one partial.
func (r *reading) gather(s *series) {
	switch r.def.fn {
	case rules.Distinct:
		r.gatherMembers(s)
		return
	case rules.Age:
		r.gatherAge(s)
		return
	case rules.Cycle:
		r.gatherPaths(s)
		return
	}
	for i := len(s.tiles) - 1; i >= 0 && s.tiles[i].index >= r.first; i-- {
		if t := &s.tiles[i]; t.index <= r.last {
			r.gatherTile(t)
			r.any = true
		}
	}
}

func (r *reading) gatherTile(t *tile) {
	switch r.def.fn {
	case rules.Count, rules.Sum, rules.Avg:
		r.a += t.a
		r.b = saturatingAdd(r.b, t.b)
	case rules.Stddev:
		r.a += t.a
		r.b = saturatingAdd(r.b, t.b)
		r.squares = r.squares.add(t.squares)
	case rules.Min:
		if !r.any || t.b < r.b {
			r.b = t.b
		}
	case rules.Max:
		r.b = max(r.b, t.b)
	case rules.Since:
		start := t.index * r.def.tile
		for _, at := range [2]int64{start + t.a, start + t.b} {
			if at <= r.end {
				r.b = max(r.b, at)
			}
		}
	}
}

func (r *reading) gatherAge(s *series) {
	for i := range s.tiles {
		t := &s.tiles[i]
		if t.index < r.first || t.a > r.end {
			continue
		}
		if !r.any || t.a < r.a {
			r.a = t.a
		}
		r.any = true
	}
}

// gatherMembers counts the values seen in the window. A value seen before the window and again after it counts too: only
// its first and last sighting are kept.
func (r *reading) gatherMembers(s *series) {
	for i := range s.members {
		m := &s.members[i]
		if m.last < r.first || m.first > r.last {
			continue
		}
		if r.def.field == rules.Customer { // lives in one partition
			r.a++
		} else {
			r.members = append(r.members, m.hash)
		}
	}
}

// value is what the aggregate comes to.
func (r *reading) value(currency events.Currency) rules.Value {
	whole := func(n int64) rules.Value { return rules.Value{Decimal: rules.Int(n), Known: true} }
	money := func(known bool) rules.Value {
		return rules.Value{Decimal: rules.Decimal{Coefficient: r.b, Exponent: uint8(currency.Exponent())}, Known: known}
	}
	switch r.def.fn {
	case rules.Count:
		return whole(r.a)
	case rules.Distinct:
		if r.def.field != rules.Customer {
			slices.Sort(r.members)
			r.a = int64(len(slices.Compact(r.members)))
		}
		return whole(r.a)
	case rules.Sum:
		return money(true)
	case rules.Min, rules.Max:
		return money(r.any)
	case rules.Avg:
		v := money(r.any)
		if v.Known {
			v.Decimal, v.Known = v.Decimal.Divide(rules.Int(r.a))
		}
		return v
	case rules.Stddev:
		n, ok := deviation(r.a, r.b, r.squares)
		return rules.Value{Decimal: rules.Decimal{Coefficient: n, Exponent: uint8(currency.Exponent()) + deviationDecimals}, Known: ok}
	case rules.Cycle:
		return rules.Value{Decimal: rules.Int(r.a), Known: r.a > 0}
	case rules.Since:
		return rules.Value{Decimal: milliseconds(r.ms - r.b), Known: r.b > 0}
	}
	return rules.Value{Decimal: milliseconds(r.ms - r.a), Known: r.any}
}

func milliseconds(n int64) rules.Decimal { return rules.Decimal{Coefficient: n, Exponent: 3} }
