package reconcile

import "sluice/schemas/events"

// net cancels out what a payment brought to a channel and a reroute took away again, or the other way round: that channel did not
// carry it. What is in the book and on the statement has been paired before.
func (m *matcher) net() {
	items := m.sorted(m.here, normalised)
	for len(items) > 0 {
		n := run(items)
		m.netOne(items[:n])
		items = items[n:]
	}
}

// netOne cancels out all lines of a reference, or each rerouted one with the first that is its opposite.
func (m *matcher) netOne(items []item) {
	var lines []int32
	var sum total
	rerouted := false
	for i := range items {
		l := &m.here.lines[items[i].index]
		if l.Cost {
			continue
		}
		lines = append(lines, items[i].index)
		sum.add(l.gross())
		rerouted = rerouted || l.Rerouted
	}
	switch {
	case !rerouted || len(lines) < 2 || len(lines) > MaxCandidates:
		return
	case sum == total{}:
		m.match(OneToMany, lines, nil)
		return
	}
	for _, i := range lines {
		for _, j := range lines {
			if m.here.lines[i].Rerouted && i != j && !m.here.taken[i] && !m.here.taken[j] && m.here.lines[i].gross() == -m.here.lines[j].gross() {
				m.match(OneToMany, []int32{i, j}, nil)
			}
		}
	}
}

// payment is what the costs of one payment are held against.
type payment struct {
	currency events.Currency
	ref      string
}

// costs is what is known of a payment whose cost is in the book and by itself not on the statement.
type costs struct {
	free        []int32
	open, known int64 // what the channel keeps by the book: by free lines, and by those that are matched
	fee         int64 // what the matched lines there state as their fee
	here, there int64 // gross of what is matched
	stated      bool  // something there is matched
}

// absorb takes the costs of a payment as what its lines there state as their fee; or, where they state none, as a part of what they
// fall short.
func (m *matcher) absorb() {
	free := m.sorted(m.here, normalised)
	all := map[payment]*costs{}
	var order []payment
	for i := range free {
		l := &m.here.lines[free[i].index]
		if !l.Cost {
			continue
		}
		key := payment{l.Currency, free[i].ref}
		if all[key] == nil {
			all[key] = &costs{}
			order = append(order, key)
		}
		all[key].free = append(all[key].free, free[i].index)
		all[key].open -= l.gross()
	}
	if len(order) == 0 {
		return
	}
	m.matchedOf(all)
	for _, key := range order {
		if c := all[key]; c.fits(m.options.Amount) {
			for _, i := range c.free {
				m.match(Exact, []int32{i}, nil)
			}
		}
	}
}

// matchedOf adds what is matched of payments on either side.
func (m *matcher) matchedOf(all map[payment]*costs) {
	for i := range m.here.lines {
		l := &m.here.lines[i]
		if c := all[payment{l.Currency, Normalise(l.Reference)}]; c != nil && m.here.taken[i] {
			c.here += l.gross()
			if l.Cost {
				c.known -= l.gross()
			}
		}
	}
	for i := range m.there.lines {
		l := &m.there.lines[i]
		if c := all[payment{l.Currency, Normalise(l.Reference)}]; c != nil && m.there.taken[i] {
			c.stated = true
			c.there += l.gross()
			c.fee += l.Fee
		}
	}
}

// fits says whether the statement has the free costs within what is matched. tolerance is in minor units.
func (c *costs) fits(tolerance int64) bool {
	switch {
	case !c.stated:
		return false
	case c.fee != 0:
		return abs(c.known+c.open-c.fee) <= tolerance
	}
	return c.open > 0 && c.open <= c.here-c.there
}
