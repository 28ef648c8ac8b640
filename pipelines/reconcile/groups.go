package reconcile

import (
	"cmp"
	"slices"

	"sluice/schemas/events"
)

// grouped finds lines that several lines of the other side make up: first among those with its reference, then, for
// collective lines, among those of the days before it.
func (m *matcher) grouped() {
	m.byReference(false)
	m.byDay(m.there, m.here, func(one int32, many []int32) { m.match(OneToMany, many, []int32{one}) })
	m.byDay(m.here, m.there, func(one int32, many []int32) { m.match(ManyToOne, []int32{one}, many) })
}

// byReference looks for parts among the lines of one reference; exact: that make up a line to the minor unit, which goes before a
// single line within the tolerances.
func (m *matcher) byReference(exact bool) {
	eachReference(m.sorted(m.here, normalised), m.sorted(m.there, normalised), func(here, there []item) {
		if len(here)+len(there) < 3 || min(len(here), len(there)) > MaxCandidates {
			return
		}
		for i := range there {
			if many := m.partsOf(&there[i], m.there, here, m.here, exact); many != nil {
				m.match(OneToMany, many, []int32{there[i].index})
			}
		}
		for i := range here {
			if many := m.partsOf(&here[i], m.here, there, m.there, exact); many != nil {
				m.match(ManyToOne, []int32{here[i].index}, many)
			}
		}
	})
}

// eachReference calls f for each reference that both sides have, with its lines.
func eachReference(here, there []item, f func(here, there []item)) {
	for len(here) > 0 && len(there) > 0 {
		switch order := here[0].compareRef(&there[0]); {
		case order < 0:
			here = here[run(here):]
		case order > 0:
			there = there[run(there):]
		default:
			h, t := run(here), run(there)
			f(here[:h], there[:t])
			here, there = here[h:], there[t:]
		}
	}
}

// run is how many items at the front share their reference.
func run(items []item) int {
	n := 1
	for n < len(items) && items[n].compareRef(&items[0]) == 0 {
		n++
	}
	return n
}

// partsOf returns which free lines among many, no further than the tolerances, make up one; nil if none do for certain.
func (m *matcher) partsOf(one *item, of *side, many []item, other *side, exact bool) []int32 {
	if of.taken[one.index] {
		return nil
	}
	window := Day(max(m.options.Days, m.options.GroupDays))
	var lines []int32
	for i := range many {
		if p := &many[i]; !other.taken[p.index] && p.after == one.after && abs(p.day-one.day) <= window {
			lines = append(lines, p.index)
		}
	}
	if m.wholeAgrees(&of.lines[one.index], of == m.there, other, lines, exact) {
		return lines
	}
	return m.selection(&of.lines[one.index], other, lines)
}

// wholeAgrees says whether all of the lines together make up one, exactly or within the tolerance. there says that one is the
// statement's.
func (m *matcher) wholeAgrees(one *Line, there bool, other *side, lines []int32, exact bool) bool {
	if len(lines) < 2 || one.Count > 0 && one.Count != len(lines) {
		return false
	}
	var sum total
	for _, i := range lines {
		sum.add(other.lines[i].gross())
	}
	if exact {
		return !sum.beyond && sum.amount == one.gross()
	}
	return m.sumAgrees(one, there, sum)
}

func (m *matcher) sumAgrees(one *Line, there bool, sum total) bool {
	if sum.beyond {
		return false
	}
	if there {
		return m.options.agrees(sum.amount, one.gross())
	}
	return m.options.agrees(one.gross(), sum.amount)
}

// total is a sum that notices when it leaves the range of what can be compared: 2^61, so that a difference of two and a
// fee on it fit an int64.
type total struct {
	amount int64
	beyond bool
}

func (t *total) add(n int64) {
	const most = 1 << 61
	t.amount += n
	if t.amount > most || t.amount < -most {
		t.amount, t.beyond = 0, true
	}
}

// selection returns the only two or more of the lines that make up one's amount to the minor unit; nil if there is no such
// selection or more than one, and if there are more than MaxParts lines. Of the lines' 2^n selections each is the sum of
// one of 2^(n/2) in the first half and one of 2^(n/2) in the second (Horowitz and Sahni 1974).
func (m *matcher) selection(one *Line, other *side, lines []int32) []int32 {
	if len(lines) < 3 || len(lines) > MaxParts || m.searches >= MaxSearches {
		return nil
	}
	m.searches++
	half := len(lines) / 2
	first, second := sums(other, lines[:half]), sums(other, lines[half:])
	slices.SortFunc(second, func(a, b chosen) int { return cmp.Compare(a.sum, b.sum) })
	var found []int32
	for _, a := range first {
		at, _ := slices.BinarySearchFunc(second, one.gross()-a.sum, func(b chosen, want int64) int { return cmp.Compare(b.sum, want) })
		for ; at < len(second) && second[at].sum == one.gross()-a.sum; at++ {
			n := a.count + second[at].count
			if n < 2 || one.Count > 0 && one.Count != n {
				continue
			}
			if found != nil {
				return nil
			}
			found = append(pick(lines[:half], a.which), pick(lines[half:], second[at].which)...)
		}
	}
	return found
}

// chosen is a selection of lines: a bit for each.
type chosen struct {
	sum   int64
	which uint32
	count int
}

// sums returns every selection of the lines. MaxParts amounts fit an int64.
func sums(of *side, lines []int32) []chosen {
	all := make([]chosen, 1, 1<<len(lines))
	for k, i := range lines {
		for _, c := range all {
			all = append(all, chosen{c.sum + of.lines[i].gross(), c.which | 1<<k, c.count + 1})
		}
	}
	return all
}

func pick(lines []int32, which uint32) []int32 {
	var picked []int32
	for k, i := range lines {
		if which&(1<<k) != 0 {
			picked = append(picked, i)
		}
	}
	return picked
}

// currencyDay is where a part may stand.
type currencyDay struct {
	currency events.Currency
	day      Day
}

// days are the free lines of a side by day, each day's sorted.
type days struct {
	side *side
	at   map[currencyDay]*dayLines
}

type dayLines struct {
	lines []int32
	sum   total
}

// byDay finds for each collective line of one side what makes it up on the other: all of a day, the nearest first, all of
// the last days up to and with a day, or the only selection of them.
func (m *matcher) byDay(of, other *side, take func(one int32, many []int32)) {
	collective := m.everyItem(of)
	collective = slices.DeleteFunc(collective, func(i item) bool { return !of.lines[i.index].Collective })
	if len(collective) == 0 {
		return
	}
	slices.SortFunc(collective, func(a, b item) int { return cmp.Or(cmp.Compare(a.day, b.day), a.compare(&b)) })
	x := m.newDays(other)
	for i := range collective {
		c := &collective[i]
		if many := m.partsInDays(x, &of.lines[c.index], of == m.there); many != nil {
			take(c.index, many)
			x.drop(many)
		}
	}
}

func (m *matcher) newDays(s *side) *days {
	x := &days{side: s, at: map[currencyDay]*dayLines{}}
	items := slices.DeleteFunc(m.everyItem(s), func(i item) bool { return s.lines[i.index].Collective })
	slices.SortFunc(items, func(a, b item) int { return cmp.Or(cmp.Compare(a.day, b.day), a.compare(&b)) })
	for i := range items {
		key := currencyDay{items[i].currency, items[i].day}
		if x.at[key] == nil {
			x.at[key] = &dayLines{}
		}
		x.at[key].add(&items[i])
	}
	return x
}

func (d *dayLines) add(i *item) {
	d.lines = append(d.lines, i.index)
	d.sum.add(i.gross)
}

// drop forgets lines that have been taken.
func (x *days) drop(taken []int32) {
	touched := map[currencyDay]bool{}
	for _, i := range taken {
		touched[currencyDay{x.side.lines[i].Currency, x.side.lines[i].Date}] = true
	}
	for key := range touched {
		d := x.at[key]
		d.lines = slices.DeleteFunc(d.lines, func(i int32) bool { return x.side.taken[i] })
		d.sum = total{}
		for _, i := range d.lines {
			d.sum.add(x.side.lines[i].gross())
		}
	}
}

func (m *matcher) partsInDays(x *days, one *Line, there bool) []int32 {
	window := make([]*dayLines, 0, m.options.GroupDays+1)
	for back := Day(0); back <= Day(m.options.GroupDays); back++ {
		if one.Date > m.options.To && one.Date-back <= m.options.To {
			break // the parts are of this period, the whole of the next
		}
		if d := x.at[currencyDay{one.Currency, one.Date - back}]; d != nil && len(d.lines) > 0 {
			window = append(window, d)
		}
	}
	fits := func(sum total, n int) bool {
		return n >= 2 && (one.Count == 0 || one.Count == n) && m.sumAgrees(one, there, sum)
	}
	for _, d := range window {
		if fits(d.sum, len(d.lines)) {
			return slices.Clone(d.lines)
		}
	}
	var sum total
	n := 0
	for k, d := range window {
		sum.add(d.sum.amount)
		sum.beyond = sum.beyond || d.sum.beyond
		if n += len(d.lines); fits(sum, n) {
			return together(window[:k+1])
		}
	}
	if n > MaxParts {
		return nil
	}
	return m.selection(one, x.side, together(window))
}

func together(window []*dayLines) []int32 {
	var all []int32
	for _, d := range window {
		all = append(all, d.lines...)
	}
	return all
}
