package reconcile

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
)

// Normalise returns a reference as it is compared: letters in upper case and digits alone, and of a number no zeros ahead.
func Normalise(reference string) string {
	clean := true
	for i := 0; i < len(reference) && clean; i++ {
		c := reference[i]
		clean = c >= '0' && c <= '9' || c >= 'A' && c <= 'Z'
	}
	if !clean {
		reference = strings.Map(func(r rune) rune {
			if unicode.IsLetter(r) || unicode.IsDigit(r) {
				return unicode.ToUpper(r)
			}
			return -1
		}, reference)
	}
	if rest := strings.TrimLeft(reference, "0"); rest != "" && strings.Trim(rest, "0123456789") == "" {
		return rest
	}
	return reference
}

// words returns the parts of a text that may be references, normalised: what stands between blanks and punctuation, of at
// least MinPartial letters and digits.
func words(text string) []string {
	var found []string
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_./", r)
	}) {
		if w := Normalise(word); len(w) >= MinPartial {
			found = append(found, w)
		}
		if len(found) == MaxTokens {
			break
		}
	}
	return found
}

// How well a reference there points to one here, best first.
const (
	sameReference = iota
	withinText    // it is a word of the reference or the text
	inPart        // one of the two begins or ends with the other, and only one line fits
)

// edge is a pair that may be the same money.
type edge struct {
	rank        int
	off         int64 // amounts apart
	days        Day   // dates apart
	here, there *item
}

func (a *edge) compare(b *edge) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.off, b.off), cmp.Compare(a.days, b.days),
		cmp.Compare(a.there.day, b.there.day), cmp.Compare(a.there.id, b.there.id), cmp.Compare(a.here.day, b.here.day), cmp.Compare(a.here.id, b.here.id))
}

// similar pairs what has a like reference, an amount that agrees and a date within the tolerance: the likest first. Pairs
// between which the period ends are breaks of timing, and found when astride is said.
func (m *matcher) similar(astride bool) {
	here, there := m.sorted(m.here, normalised), m.everyItem(m.there)
	if len(here) == 0 || len(there) == 0 {
		return
	}
	x := newReferences(here)
	var edges []edge
	for i := range there {
		edges = m.candidates(edges, x, &there[i], astride)
	}
	slices.SortFunc(edges, func(a, b edge) int { return a.compare(&b) })
	for i := range edges {
		e := &edges[i]
		switch h, t := e.here.index, e.there.index; {
		case m.here.taken[h] || m.there.taken[t]:
		case astride:
			m.breakOff(Timing, h, t)
		default:
			m.match(Tolerant, []int32{h}, []int32{t})
		}
	}
}

// everyItem returns the free lines, also those without a reference: their text may have one.
func (m *matcher) everyItem(s *side) []item {
	s.compact()
	items := make([]item, len(s.free))
	for k, i := range s.free {
		items[k] = m.item(s, i, s.refs[i])
	}
	return items
}

// candidates appends the edges of one line there.
func (m *matcher) candidates(edges []edge, x *references, t *item, astride bool) []edge {
	add := func(rank int, h *item) {
		if (h.after != t.after) == astride && m.options.agrees(h.gross, t.gross) && abs(h.day-t.day) <= Day(m.options.Days) {
			edges = append(edges, edge{rank, abs(h.gross - t.gross), abs(h.day - t.day), h, t})
		}
	}
	same := x.equal(t, t.ref)
	for i := range same {
		add(sameReference, &same[i])
	}
	l := &m.there.lines[t.index]
	for _, text := range [2]string{l.Reference, l.Text} {
		for _, w := range words(text) {
			if found := x.equal(t, w); w != t.ref {
				for i := range found {
					add(withinText, &found[i])
				}
			}
		}
	}
	start := len(edges)
	x.inPart(t, func(h *item) { add(inPart, h) })
	for i := start + 1; i < len(edges); i++ {
		if edges[i].here != edges[start].here {
			return edges[:start]
		}
	}
	return edges
}

// references finds lines by their references.
type references struct {
	forward  []item // sorted by currency and reference
	backward []item // the same by the reference read backward, and that is what ref holds
	original []int32
	lengths  [maxReference]bool // that references have
}

func newReferences(items []item) *references {
	x := &references{forward: items, backward: make([]item, len(items)), original: make([]int32, len(items))}
	order := make([]int32, len(items))
	turned := make([]string, len(items))
	for i := range items {
		order[i], turned[i] = int32(i), reversed(items[i].ref)
		x.lengths[min(len(items[i].ref), maxReference-1)] = true
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(items[a].currency, items[b].currency), cmp.Compare(turned[a], turned[b]), cmp.Compare(a, b))
	})
	for k, i := range order {
		x.backward[k] = items[i]
		x.backward[k].ref = turned[i]
		x.original[k] = i
	}
	return x
}

func reversed(s string) string {
	r := []rune(s)
	slices.Reverse(r)
	return string(r)
}

// equal returns the lines with a reference, none if there are more than MaxCandidates.
func (x *references) equal(like *item, ref string) []item {
	from, to := span(x.forward, like, ref, func(s string) int { return cmp.Compare(s, ref) })
	return x.forward[from:to]
}

// inPart calls f for each line whose reference begins or ends with like's, or the other way round.
func (x *references) inPart(like *item, f func(*item)) {
	if len(like.ref) < MinPartial {
		return
	}
	backward := reversed(like.ref)
	x.eachPart(x.forward, like, like.ref, func(i int) { f(&x.forward[i]) })
	x.eachPart(x.backward, like, backward, func(i int) { f(&x.forward[x.original[i]]) })
}

// eachPart calls f for the items that begin with ref, and for those that ref begins with; not for those that are equal.
func (x *references) eachPart(items []item, like *item, ref string, f func(int)) {
	from, to := span(items, like, ref, func(s string) int {
		if strings.HasPrefix(s, ref) {
			return 0
		}
		return cmp.Compare(s, ref)
	})
	for i := from; i < to; i++ {
		if items[i].ref != ref {
			f(i)
		}
	}
	for n := MinPartial; n < min(len(ref), maxReference); n++ {
		if !x.lengths[n] {
			continue
		}
		from, to := span(items, like, ref[:n], func(s string) int { return cmp.Compare(s, ref[:n]) })
		for i := from; i < to; i++ {
			f(i)
		}
	}
}

// maxReference bounds the length up to which a longer reference is looked up in part, in bytes.
const maxReference = 128

// span returns the range of sorted items of like's currency for which order is 0, an empty one if that is more than
// MaxCandidates or ref is empty. order says how an item's reference stands to what is looked for.
func span(items []item, like *item, ref string, order func(string) int) (from, to int) {
	if ref == "" {
		return 0, 0
	}
	find := func(items []item, least int) int {
		at, _ := slices.BinarySearchFunc(items, least, func(i item, least int) int {
			if c := cmp.Compare(i.currency, like.currency); c != 0 {
				return c
			}
			if order(i.ref) >= least {
				return 1
			}
			return -1
		})
		return at
	}
	from = find(items, 0)
	to = from + find(items[from:], 1)
	if to-from > MaxCandidates {
		return 0, 0
	}
	return from, to
}
