package reconcile

import (
	"cmp"
	"slices"

	"sluice/schemas/events"
)

// Run matches the book's lines with the statement's and classifies what is left. The outcome depends on the lines alone,
// not on their order: ids decide between lines that are alike. It takes n log n of the lines, and keeps about 200 bytes a line.
func Run(here, there []Line, o Options) Result {
	m := &matcher{options: o.fill(), here: newSide(here), there: newSide(there)}
	m.pair(rawReference, 0, Exact)
	m.normalise()
	m.pair(normalised, 0, Tolerant)
	m.pair(normalised, Day(m.options.Days), Tolerant)
	m.similar()
	m.grouped()
	m.classify()
	return m.result
}

// side is one of the two lists.
type side struct {
	lines []Line
	taken []bool   // in a match or a break
	refs  []string // normalised references; of free lines only, once there are
	free  []int32  // not taken, in the order given; kept by compact
}

func newSide(lines []Line) *side {
	s := &side{lines: lines, taken: make([]bool, len(lines)), free: make([]int32, len(lines))}
	for i := range s.free {
		s.free[i] = int32(i)
	}
	return s
}

// compact drops from free what has been taken.
func (s *side) compact() {
	s.free = slices.DeleteFunc(s.free, func(i int32) bool { return s.taken[i] })
}

type matcher struct {
	options     Options
	here, there *side
	result      Result
	indices     []int32 // what the matches' slices are cut from
	searches    int
}

// item is what a free line is found by.
type item struct {
	ref      string
	gross    int64
	id       string
	index    int32
	day      Day
	currency events.Currency
}

// compare orders items by what they are found by, then by day and id, so that the order of the lines does not matter.
func (a *item) compare(b *item) int {
	return cmp.Or(a.compareKey(b), cmp.Compare(a.day, b.day), cmp.Compare(a.id, b.id))
}

func (a *item) compareKey(b *item) int {
	return cmp.Or(a.compareRef(b), cmp.Compare(a.gross, b.gross))
}

func (a *item) compareRef(b *item) int {
	return cmp.Or(cmp.Compare(a.currency, b.currency), cmp.Compare(a.ref, b.ref))
}

func rawReference(s *side, i int32) string { return s.lines[i].Reference }
func normalised(s *side, i int32) string   { return s.refs[i] }

// items returns the free lines of both sides that have a reference, sorted.
func (m *matcher) items(reference func(*side, int32) string) (here, there []item) {
	return m.here.items(reference), m.there.items(reference)
}

func (s *side) items(reference func(*side, int32) string) []item {
	s.compact()
	items := make([]item, 0, len(s.free))
	for _, i := range s.free {
		if ref := reference(s, i); ref != "" {
			l := &s.lines[i]
			items = append(items, item{ref: ref, gross: l.gross(), id: l.ID, index: i, day: l.Date, currency: l.Currency})
		}
	}
	slices.SortFunc(items, func(a, b item) int { return a.compare(&b) })
	return items
}

// normalise finds out the references of what is free.
func (m *matcher) normalise() {
	for _, s := range []*side{m.here, m.there} {
		s.compact()
		s.refs = make([]string, len(s.lines))
		for _, i := range s.free {
			s.refs[i] = Normalise(s.lines[i].Reference)
		}
	}
}

// pair takes as the same what has the same reference and amount and stands no further apart than window days: each line
// here with the first line there that fits.
func (m *matcher) pair(reference func(*side, int32) string, window Day, stage Stage) {
	here, there := m.items(reference)
	eachPair(here, there, window, func(h, t int32) { m.same(stage, h, t) })
}

// eachPair walks two sorted lists.
func eachPair(here, there []item, window Day, f func(h, t int32)) {
	for h, t := 0, 0; h < len(here) && t < len(there); {
		a, b := &here[h], &there[t]
		order := a.compareKey(b)
		switch {
		case order < 0 || order == 0 && a.day < b.day-window:
			h++
		case order > 0 || b.day < a.day-window:
			t++
		default:
			f(a.index, b.index)
			h++
			t++
		}
	}
}

// same records that two lines are the same money: a match, unless the period ends between them.
func (m *matcher) same(stage Stage, h, t int32) {
	if m.after(m.here, h) != m.after(m.there, t) {
		m.breakOff(Timing, h, t)
		return
	}
	m.match(stage, []int32{h}, []int32{t})
}

func (m *matcher) after(s *side, i int32) bool { return s.lines[i].Date > m.options.To }

// match takes lines as the same money.
func (m *matcher) match(stage Stage, here, there []int32) {
	m.result.Matches = append(m.result.Matches, Match{Stage: stage, Here: m.take(m.here, here), There: m.take(m.there, there)})
}

// take marks lines as taken and keeps their indices.
func (m *matcher) take(s *side, lines []int32) []int32 {
	for _, i := range lines {
		s.taken[i] = true
	}
	start := len(m.indices)
	m.indices = append(m.indices, lines...)
	return m.indices[start:len(m.indices):len(m.indices)]
}
