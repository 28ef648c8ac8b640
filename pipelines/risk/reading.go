package risk

import (
	"slices"

	"sluice/rules"
	"sluice/schemas/events"
)

// reading gathers one aggregate over the partial sums of an entity.
type reading struct {
	def     *definition
	ms      int64 // the event's time
	a, b    int64
	any     bool
	members []uint64 // distinct values other than customers, which may be in more than one partial
}

// gather adds one partial. The window is the tile of the event's time and the 96 before it, so its far edge lies at most
// one tile too far back. Tiles later than the event's are left out; within its own tile, what is later than a late event
// is not told apart.
func (r *reading) gather(s *series) {
	last := r.ms / r.def.tile
	first := last - tilesPerWindow
	if r.def.fn == rules.Distinct {
		r.gatherMembers(s, first, last)
		return
	}
	for i := range s.tiles {
		t := &s.tiles[i]
		if r.def.fn == rules.Age {
			r.gatherAge(t, first)
			continue
		}
		if t.index < first || t.index > last {
			continue
		}
		r.gatherTile(t)
		r.any = true
	}
}

func (r *reading) gatherTile(t *tile) {
	switch r.def.fn {
	case rules.Count, rules.Sum, rules.Avg:
		r.a += t.a
		r.b = saturatingAdd(r.b, t.b)
	case rules.Min:
		if !r.any || t.b < r.b {
			r.b = t.b
		}
	case rules.Max:
		r.b = max(r.b, t.b)
	case rules.Since:
		start := t.index * r.def.tile
		for _, at := range [2]int64{start + t.a, start + t.b} {
			if at <= r.ms {
				r.b = max(r.b, at)
			}
		}
	}
}

func (r *reading) gatherAge(t *tile, first int64) {
	if t.index < first || t.a > r.ms {
		return
	}
	if !r.any || t.a < r.a {
		r.a = t.a
	}
	r.any = true
}

// gatherMembers counts the values seen in the window. A value seen before a late event and again after it counts, though
// its earlier sighting may have left the window.
func (r *reading) gatherMembers(s *series, first, last int64) {
	for i := range s.members {
		m := &s.members[i]
		if m.last < first || m.first > last {
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
	case rules.Since:
		return rules.Value{Decimal: milliseconds(r.ms - r.b), Known: r.b > 0}
	}
	return rules.Value{Decimal: milliseconds(r.ms - r.a), Known: r.any}
}

func milliseconds(n int64) rules.Decimal { return rules.Decimal{Coefficient: n, Exponent: 3} }
