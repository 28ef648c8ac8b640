package reconcile

import (
	"cmp"
	"slices"

	"sluice/schemas/events"
)

// classify says what is wrong with each line that is left.
func (m *matcher) classify() {
	m.timing()
	m.duplicates(m.here)
	m.duplicates(m.there)
	m.amounts()
	m.duplicates(m.here)
	m.duplicates(m.there)
	m.missing()
	slices.SortFunc(m.result.Breaks, func(a, b Break) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.Date, b.Date), cmp.Compare(m.there.id(a.There), m.there.id(b.There)),
			cmp.Compare(m.here.id(a.Here), m.here.id(b.Here)))
	})
}

func (s *side) id(i int32) string {
	if i == None {
		return ""
	}
	return s.lines[i].ID
}

// late pairs what has the same reference and amount, however far apart, if one of the two has been reported as missing.
func (m *matcher) late() {
	here, there := m.items(normalised)
	eachPair(here, there, LastDay, (*item).compareKey, func(h, t int32) {
		if m.here.lines[h].Open || m.there.lines[t].Open {
			m.match(Late, []int32{h}, []int32{t})
		}
	})
}

// timing finds what both sides have, but between whose dates the period ends, or more days than the tolerance lie.
func (m *matcher) timing() {
	here, there := m.items(normalised)
	eachPair(here, there, LastDay, (*item).compareMoney, func(h, t int32) { m.breakOff(Timing, h, t) })
	m.similar(true)
}

// inPeriod says whether a line may be a break.
func (m *matcher) inPeriod(s *side, i int32) bool {
	return i != None && s.lines[i].Date >= m.options.From && s.lines[i].Date <= m.options.To
}

// breakOff takes one or two lines as a break, if one of them is in the period.
func (m *matcher) breakOff(class Class, h, t int32) {
	b := Break{Class: class, Here: h, There: t, Twin: None, Date: LastDay}
	for _, at := range [2]struct {
		side *side
		i    int32
	}{{m.here, h}, {m.there, t}} {
		if at.i != None {
			at.side.taken[at.i] = true
			l := &at.side.lines[at.i]
			b.Amount, b.Currency, b.Date = l.gross(), l.Currency, min(b.Date, l.Date)
		}
	}
	if class == Amount {
		b.Amount = m.there.lines[t].gross() - m.here.lines[h].gross()
	}
	if m.inPeriod(m.here, h) || m.inPeriod(m.there, t) {
		m.result.Breaks = append(m.result.Breaks, b)
	}
}

// money is what a duplicate has in common with its twin, beside a date within the tolerance.
type money struct {
	ref      string
	gross    int64
	currency events.Currency
}

func (i *item) money() money { return money{i.ref, i.gross, i.currency} }

// duplicates finds the free lines of a side that repeat a line of the same side which is taken.
func (m *matcher) duplicates(s *side) {
	free := m.sorted(s, normalised)
	if len(free) == 0 {
		return
	}
	wanted := make(map[money]bool, len(free))
	for i := range free {
		wanted[free[i].money()] = true
	}
	var twins []item
	for i := range s.lines {
		if s.taken[i] && s.lines[i].Reference != "" {
			if twin := m.item(s, int32(i), Normalise(s.lines[i].Reference)); wanted[twin.money()] {
				twins = append(twins, twin)
			}
		}
	}
	slices.SortFunc(twins, func(a, b item) int { return a.compare(&b) })
	for i := range free {
		if twin := nearest(&free[i], twins, Day(m.options.Days)); twin != None {
			m.duplicate(s, free[i].index, twin)
		}
	}
}

// nearest returns the line alike and nearest in time, the earlier of two; None if none is within the window.
func nearest(like *item, twins []item, window Day) int32 {
	first := *like
	first.id = "" // before every line of its day
	at, _ := slices.BinarySearchFunc(twins, &first, func(a item, b *item) int { return a.compare(b) })
	best := int32(None)
	if at < len(twins) && twins[at].compareMoney(like) == 0 && twins[at].day-like.day <= window {
		best, window = twins[at].index, twins[at].day-like.day
	}
	if at > 0 && twins[at-1].compareMoney(like) == 0 && like.day-twins[at-1].day <= window {
		first.day, first.after = twins[at-1].day, twins[at-1].after // the first line of that day
		at, _ = slices.BinarySearchFunc(twins, &first, func(a item, b *item) int { return a.compare(b) })
		best = twins[at].index
	}
	return best
}

func (m *matcher) duplicate(s *side, i, twin int32) {
	n := len(m.result.Breaks)
	if s == m.here {
		m.breakOff(Duplicate, i, None)
	} else {
		m.breakOff(Duplicate, None, i)
	}
	if len(m.result.Breaks) > n {
		m.result.Breaks[n].Twin = twin
	}
}

// amounts pairs what has the same reference and direction and a date within the tolerance: the nearest amounts first.
func (m *matcher) amounts() {
	here, there := m.items(normalised)
	var edges []edge
	eachReference(here, there, func(here, there []item) {
		if len(here) > MaxCandidates || len(there) > MaxCandidates {
			return
		}
		for i := range there {
			for j := range here {
				h, t := &here[j], &there[i]
				if (h.gross < 0) == (t.gross < 0) && abs(h.day-t.day) <= Day(m.options.Days) {
					edges = append(edges, edge{0, abs(h.gross - t.gross), abs(h.day - t.day), h, t})
				}
			}
		}
	})
	slices.SortFunc(edges, func(a, b edge) int { return a.compare(&b) })
	for i := range edges {
		if h, t := edges[i].here.index, edges[i].there.index; !m.here.taken[h] && !m.there.taken[t] {
			m.breakOff(Amount, h, t)
		}
	}
}

// missing reports what neither has a counterpart nor repeats another line.
func (m *matcher) missing() {
	m.here.compact()
	m.there.compact()
	for _, h := range m.here.free {
		m.breakOff(MissingThere, h, None)
	}
	for _, t := range m.there.free {
		m.breakOff(MissingHere, None, t)
	}
}
