package reconcile

import (
	"cmp"
	"slices"

	"sluice/schemas/events"
)

// Run matches the book's lines with the statement's and classifies what is left. The outcome depends on the lines alone,
// not on their order: ids decide between lines that are alike. Run again on what is left, it finds nothing more. It takes
// n log n of the lines, and keeps about 200 bytes a line.
func Run(here, there []Line, o Options) Result {
	m := &matcher{options: o.fill(), here: newSide(here), there: newSide(there)}
	for range MaxRounds {
		before := len(m.result.Matches)
		m.round()
		if len(m.result.Matches) == before {
			break
		}
	}
	m.classify()
	return m.result
}

// round goes through the stages once.
func (m *matcher) round() {
	m.searches = 0
	m.pair(rawReference, 0, Exact)
	m.normalise()
	m.pair(normalised, 0, Tolerant)
	m.pair(normalised, Day(m.options.Days), Tolerant)
	m.net()
	m.byReference(true)
	m.similar(false)
	m.grouped()
	m.late()
	m.absorb()
}

// side is one of the two lists.
type side struct {
	lines []Line
	taken []bool   // in a match or a break, or settled before
	refs  []string // normalised references; of free lines only, once there are
	free  []int32  // not taken, in the order given; kept by compact
}

func newSide(lines []Line) *side {
	s := &side{lines: lines, taken: make([]bool, len(lines)), free: make([]int32, 0, len(lines))}
	for i := range lines {
		if s.taken[i] = lines[i].Settled; !lines[i].Settled {
			s.free = append(s.free, int32(i))
		}
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
	after    bool // the period: it waits for the next one, and so does its counterpart
}

// compare orders items by what they are found by, then by day and id, so that the order of the lines does not matter.
func (a *item) compare(b *item) int {
	return cmp.Or(a.compareKey(b), cmp.Compare(a.day, b.day), cmp.Compare(a.id, b.id))
}

func (a *item) compareKey(b *item) int {
	return cmp.Or(a.compareMoney(b), compareBool(a.after, b.after))
}

func (a *item) compareMoney(b *item) int {
	return cmp.Or(a.compareRef(b), cmp.Compare(a.gross, b.gross))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (a *item) compareRef(b *item) int {
	return cmp.Or(cmp.Compare(a.currency, b.currency), cmp.Compare(a.ref, b.ref))
}

func rawReference(s *side, i int32) string { return s.lines[i].Reference }
func normalised(s *side, i int32) string   { return s.refs[i] }

// items returns the free lines of both sides that have a reference, sorted.
func (m *matcher) items(reference func(*side, int32) string) (here, there []item) {
	return m.sorted(m.here, reference), m.sorted(m.there, reference)
}

func (m *matcher) sorted(s *side, reference func(*side, int32) string) []item {
	s.compact()
	items := make([]item, 0, len(s.free))
	for _, i := range s.free {
		if ref := reference(s, i); ref != "" {
			items = append(items, m.item(s, i, ref))
		}
	}
	slices.SortFunc(items, func(a, b item) int { return a.compare(&b) })
	return items
}

func (m *matcher) item(s *side, i int32, ref string) item {
	l := &s.lines[i]
	return item{ref: ref, gross: l.gross(), id: l.ID, index: i, day: l.Date, currency: l.Currency, after: l.Date > m.options.To}
}

// normalise finds out the references of what is free.
func (m *matcher) normalise() {
	for _, s := range []*side{m.here, m.there} {
		if s.compact(); s.refs != nil {
			continue
		}
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
	eachPair(here, there, window, (*item).compareKey, func(h, t int32) { m.match(stage, []int32{h}, []int32{t}) })
}

// eachPair walks two sorted lists. compare says what a pair must have in common.
func eachPair(here, there []item, window Day, compare func(a, b *item) int, f func(h, t int32)) {
	for h, t := 0, 0; h < len(here) && t < len(there); {
		a, b := &here[h], &there[t]
		order := compare(a, b)
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
