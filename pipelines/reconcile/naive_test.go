package reconcile

import (
	"cmp"
	"slices"
	"strings"
)

// naive says what Run must say, by comparing every line with every other. It is for some lines only.
type naive struct {
	o           Options
	here, there []*naiveLine
	matches     []string
	breaks      []string
}

type naiveLine struct {
	Line
	ref   string
	gross int64
	taken bool
}

func runNaive(here, there []Line, o Options) (matches, breaks []string) {
	n := &naive{o: o.fill(), here: naiveLines(here), there: naiveLines(there)}
	raw := func(a, b *naiveLine) bool { return a.Reference == b.Reference && a.Reference != "" }
	alike := func(a, b *naiveLine) bool { return a.ref == b.ref && a.ref != "" }
	for before := -1; before < len(n.matches); {
		before = len(n.matches)
		n.nearest(Exact, raw, 0)
		n.nearest(Tolerant, alike, 0)
		n.nearest(Tolerant, alike, Day(n.o.Days))
		n.net()
		n.byReference(true)
		n.similar(false)
		n.byReference(false)
		n.byDay(n.there, n.here, true)
		n.byDay(n.here, n.there, false)
		n.late()
		n.absorb()
	}
	n.timing()
	n.similar(true)
	n.duplicates()
	n.amounts()
	n.duplicates()
	for _, h := range n.here {
		n.breakOff(MissingThere, h, nil, nil)
	}
	for _, t := range n.there {
		n.breakOff(MissingHere, nil, t, nil)
	}
	slices.Sort(n.matches)
	slices.Sort(n.breaks)
	return n.matches, n.breaks
}

func naiveLines(lines []Line) []*naiveLine {
	var all []*naiveLine
	for _, l := range lines {
		all = append(all, &naiveLine{Line: l, taken: l.Settled, ref: Normalise(l.Reference), gross: l.Amount + l.Fee})
	}
	slices.SortFunc(all, func(a, b *naiveLine) int {
		return cmp.Or(cmp.Compare(a.Date, b.Date), cmp.Compare(a.ref, b.ref), cmp.Compare(a.gross, b.gross), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// nearest pairs each line here, by day and id, with the first there that fits.
func (n *naive) nearest(stage Stage, same func(a, b *naiveLine) bool, window Day) {
	inOrder := slices.Clone(n.here)
	byID := func(a, b *naiveLine) int { return cmp.Or(cmp.Compare(a.Date, b.Date), cmp.Compare(a.ID, b.ID)) }
	slices.SortFunc(inOrder, byID)
	other := slices.Clone(n.there)
	slices.SortFunc(other, byID)
	for _, h := range inOrder {
		for _, t := range other {
			if !h.taken && !t.taken && same(h, t) && h.gross == t.gross && h.Currency == t.Currency && abs(h.Date-t.Date) <= window && n.after(h) == n.after(t) {
				n.match(stage, []*naiveLine{h}, []*naiveLine{t})
			}
		}
	}
}

func (n *naive) after(l *naiveLine) bool { return l.Date > n.o.To }

func (n *naive) match(stage Stage, here, there []*naiveLine) {
	n.matches = append(n.matches, stage.String()+" "+take(here)+" = "+take(there))
}

func take(lines []*naiveLine) string {
	var ids []string
	for _, l := range lines {
		l.taken = true
		ids = append(ids, l.ID)
	}
	slices.Sort(ids)
	return strings.Join(ids, "+")
}

func (n *naive) breakOff(class Class, h, t, twin *naiveLine) {
	if h != nil && h.taken || t != nil && t.taken {
		return
	}
	text, in := class.String(), false
	for _, l := range []*naiveLine{h, t} {
		if l != nil {
			text += " " + l.ID
			l.taken = true
			in = in || l.Date >= n.o.From && l.Date <= n.o.To
		}
	}
	if twin != nil {
		text += " like " + twin.ID
	}
	if in {
		n.breaks = append(n.breaks, text)
	}
}

// rank is how well two references go together, -1 for not at all.
func rank(h, t *naiveLine) int {
	switch {
	case h.ref != "" && h.ref == t.ref:
		return sameReference
	case h.ref != "" && (slices.Contains(words(t.Reference), h.ref) || slices.Contains(words(t.Text), h.ref)):
		return withinText
	case len(h.ref) >= MinPartial && len(t.ref) >= MinPartial && (strings.HasPrefix(h.ref, t.ref) || strings.HasSuffix(h.ref, t.ref) ||
		strings.HasPrefix(t.ref, h.ref) || strings.HasSuffix(t.ref, h.ref)):
		return inPart
	}
	return -1
}

func (n *naive) similar(astride bool) {
	type pair struct {
		rank int
		h, t *naiveLine
	}
	var pairs []pair
	for _, t := range n.there {
		var partial []pair
		for _, h := range n.here {
			r := rank(h, t)
			if (n.after(h) != n.after(t)) != astride || h.taken || t.taken || r < 0 || h.Currency != t.Currency || !n.o.agrees(h.gross, t.gross) || abs(h.Date-t.Date) > Day(n.o.Days) {
				continue
			}
			if r == inPart {
				partial = append(partial, pair{r, h, t})
			} else {
				pairs = append(pairs, pair{r, h, t})
			}
		}
		// A line that is within the text may begin alike too; then it counts here as one that fits.
		fits := 0
		for _, h := range n.here {
			if (n.after(h) != n.after(t)) == astride && !h.taken && !t.taken && h.Currency == t.Currency && n.o.agrees(h.gross, t.gross) && abs(h.Date-t.Date) <= Day(n.o.Days) && h.ref != t.ref &&
				rank(&naiveLine{ref: h.ref}, &naiveLine{ref: t.ref}) == inPart {
				fits++
			}
		}
		if fits == 1 {
			pairs = append(pairs, partial...)
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(abs(a.h.gross-a.t.gross), abs(b.h.gross-b.t.gross)), cmp.Compare(abs(a.h.Date-a.t.Date), abs(b.h.Date-b.t.Date)),
			cmp.Compare(a.t.Date, b.t.Date), cmp.Compare(a.t.ID, b.t.ID), cmp.Compare(a.h.Date, b.h.Date), cmp.Compare(a.h.ID, b.h.ID))
	})
	for _, p := range pairs {
		switch {
		case p.h.taken || p.t.taken:
		case astride:
			n.breakOff(Timing, p.h, p.t, nil)
		default:
			n.match(Tolerant, []*naiveLine{p.h}, []*naiveLine{p.t})
		}
	}
}

// subset returns the parts of one among lines: all, else the only selection.
func (n *naive) subset(one *naiveLine, there, exact bool, lines []*naiveLine) []*naiveLine {
	agrees := func(sum int64) bool {
		if exact {
			return sum == one.gross
		}
		if there {
			return n.o.agrees(sum, one.gross)
		}
		return n.o.agrees(one.gross, sum)
	}
	if len(lines) >= 2 && (one.Count == 0 || one.Count == len(lines)) && agrees(sumOf(lines)) {
		return lines
	}
	return n.only(one, lines)
}

func (n *naive) only(one *naiveLine, lines []*naiveLine) []*naiveLine {
	var found [][]*naiveLine
	for which := range 1 << len(lines) {
		var some []*naiveLine
		for i, l := range lines {
			if which&(1<<i) != 0 {
				some = append(some, l)
			}
		}
		if len(some) >= 2 && sumOf(some) == one.gross && (one.Count == 0 || one.Count == len(some)) && len(lines) > 2 {
			found = append(found, some)
		}
	}
	if len(found) != 1 {
		return nil
	}
	return found[0]
}

func sumOf(lines []*naiveLine) (sum int64) {
	for _, l := range lines {
		sum += l.gross
	}
	return sum
}

func (n *naive) byReference(exact bool) {
	refs := map[string]bool{}
	for _, t := range n.there {
		refs[t.Currency.Code()+t.ref] = t.ref != ""
	}
	for ref, ok := range refs { // no line has two references, so the order does not matter
		if !ok {
			continue
		}
		n.parts(n.there, n.here, ref, true, exact)
		n.parts(n.here, n.there, ref, false, exact)
	}
}

func (n *naive) parts(of, other []*naiveLine, ref string, there, exact bool) {
	ones := slices.Clone(of)
	slices.SortFunc(ones, func(a, b *naiveLine) int {
		return cmp.Or(cmp.Compare(a.gross, b.gross), cmp.Compare(a.Date, b.Date), cmp.Compare(a.ID, b.ID))
	})
	for _, one := range ones {
		if one.taken || one.Currency.Code()+one.ref != ref {
			continue
		}
		var lines []*naiveLine
		for _, l := range other {
			if !l.taken && n.after(l) == n.after(one) && l.Currency == one.Currency && l.ref == one.ref && abs(l.Date-one.Date) <= Day(max(n.o.Days, n.o.GroupDays)) {
				lines = append(lines, l)
			}
		}
		n.takeParts(one, n.subset(one, there, exact, lines), there)
	}
}

func (n *naive) takeParts(one *naiveLine, many []*naiveLine, there bool) {
	switch {
	case many == nil:
	case there:
		n.match(OneToMany, many, []*naiveLine{one})
	default:
		n.match(ManyToOne, []*naiveLine{one}, many)
	}
}

func (n *naive) byDay(of, other []*naiveLine, there bool) {
	ones := slices.Clone(of)
	slices.SortStableFunc(ones, func(a, b *naiveLine) int {
		return cmp.Or(cmp.Compare(a.Date, b.Date), cmp.Compare(a.Currency, b.Currency))
	})
	for _, one := range ones {
		if one.taken || !one.Collective {
			continue
		}
		within := func(from, to Day) (lines []*naiveLine) {
			for _, l := range other {
				if !l.taken && n.after(l) == n.after(one) && !l.Collective && l.Currency == one.Currency && l.Date >= from && l.Date <= to {
					lines = append(lines, l)
				}
			}
			return lines
		}
		n.takeParts(one, n.inDays(one, there, within), there)
	}
}

func (n *naive) inDays(one *naiveLine, there bool, within func(from, to Day) []*naiveLine) []*naiveLine {
	whole := *n
	for back := Day(0); back <= Day(n.o.GroupDays); back++ {
		if lines := within(one.Date-back, one.Date-back); len(lines) >= 2 {
			if got := whole.subset(one, there, false, lines); len(got) == len(lines) {
				return lines
			}
		}
	}
	for back := Day(0); back <= Day(n.o.GroupDays); back++ {
		if lines := within(one.Date-back, one.Date); len(lines) >= 2 {
			if got := whole.subset(one, there, false, lines); len(got) == len(lines) {
				return lines
			}
		}
	}
	return n.only(one, within(one.Date-Day(n.o.GroupDays), one.Date))
}

func (n *naive) late() {
	used := map[*naiveLine]bool{} // paired, though not to be matched
	n.sameMoney(func(h, t *naiveLine) {
		if used[h] || used[t] || n.after(h) != n.after(t) {
			return
		}
		used[h], used[t] = true, true
		if h.Open || t.Open {
			n.match(Late, []*naiveLine{h}, []*naiveLine{t})
		}
	})
}

func (n *naive) timing() { n.sameMoney(func(h, t *naiveLine) { n.breakOff(Timing, h, t, nil) }) }

func (n *naive) sameMoney(f func(h, t *naiveLine)) {
	byID := func(a, b *naiveLine) int { return cmp.Or(cmp.Compare(a.Date, b.Date), cmp.Compare(a.ID, b.ID)) }
	here, there := slices.SortedFunc(slices.Values(n.here), byID), slices.SortedFunc(slices.Values(n.there), byID)
	for _, h := range here {
		for _, t := range there {
			if !h.taken && !t.taken && h.ref != "" && h.ref == t.ref && h.gross == t.gross && h.Currency == t.Currency {
				f(h, t)
			}
		}
	}
}

func (n *naive) duplicates() {
	for _, side := range [][]*naiveLine{n.here, n.there} {
		var taken []*naiveLine
		for _, l := range side {
			if l.taken {
				taken = append(taken, l)
			}
		}
		for _, l := range side {
			if l.taken || l.ref == "" {
				continue
			}
			var best *naiveLine
			for _, x := range taken {
				if x.ref != l.ref || x.gross != l.gross || x.Currency != l.Currency || abs(x.Date-l.Date) > Day(n.o.Days) {
					continue
				}
				if best == nil || cmp.Or(cmp.Compare(abs(x.Date-l.Date), abs(best.Date-l.Date)), cmp.Compare(x.Date, best.Date), cmp.Compare(x.ID, best.ID)) < 0 {
					best = x
				}
			}
			if best != nil {
				if slices.Contains(n.here, l) {
					n.breakOff(Duplicate, l, nil, best)
				} else {
					n.breakOff(Duplicate, nil, l, best)
				}
			}
		}
	}
}

func (n *naive) amounts() {
	for {
		var bestH, bestT *naiveLine
		less := func(h, t *naiveLine) bool {
			return bestH == nil || cmp.Or(cmp.Compare(abs(h.gross-t.gross), abs(bestH.gross-bestT.gross)), cmp.Compare(abs(h.Date-t.Date), abs(bestH.Date-bestT.Date)),
				cmp.Compare(t.Date, bestT.Date), cmp.Compare(t.ID, bestT.ID), cmp.Compare(h.Date, bestH.Date), cmp.Compare(h.ID, bestH.ID)) < 0
		}
		for _, h := range n.here {
			for _, t := range n.there {
				if !h.taken && !t.taken && h.ref != "" && h.ref == t.ref && h.Currency == t.Currency && (h.gross < 0) == (t.gross < 0) &&
					abs(h.Date-t.Date) <= Day(n.o.Days) && less(h, t) {
					bestH, bestT = h, t
				}
			}
		}
		if bestH == nil {
			return
		}
		n.breakOff(Amount, bestH, bestT, nil)
	}
}

// net cancels out what a reroute took away, or brought.
func (n *naive) net() {
	groups := map[string][]*naiveLine{}
	for _, h := range n.here {
		if !h.taken && !h.Cost && h.ref != "" {
			groups[h.Currency.Code()+h.ref] = append(groups[h.Currency.Code()+h.ref], h)
		}
	}
	for _, lines := range groups { // each line is in one
		if !slices.ContainsFunc(lines, func(l *naiveLine) bool { return l.Rerouted }) || len(lines) < 2 {
			continue
		}
		if sumOf(lines) == 0 {
			n.match(OneToMany, lines, nil)
			continue
		}
		slices.SortFunc(lines, func(a, b *naiveLine) int {
			return cmp.Or(cmp.Compare(a.gross, b.gross), compareBool(n.after(a), n.after(b)), cmp.Compare(a.Date, b.Date), cmp.Compare(a.ID, b.ID))
		})
		for _, a := range lines {
			for _, b := range lines {
				if a != b && a.Rerouted && !a.taken && !b.taken && a.gross+b.gross == 0 {
					n.match(OneToMany, []*naiveLine{a, b}, nil)
				}
			}
		}
	}
}

// absorb takes free costs as the fee that is stated of the same payment, or as a part of what is missing of it.
func (n *naive) absorb() {
	for _, cost := range n.here {
		if cost.taken || !cost.Cost || cost.ref == "" {
			continue
		}
		var free []*naiveLine
		var book, costs, statement, fee int64
		stated := false
		for _, h := range n.here {
			if h.ref != cost.ref || h.Currency != cost.Currency || !h.taken && !h.Cost {
				continue
			}
			if h.Cost {
				costs -= h.gross
			}
			if h.taken {
				book += h.gross
			} else {
				free = append(free, h)
			}
		}
		for _, t := range n.there {
			if t.taken && t.ref == cost.ref && t.Currency == cost.Currency {
				stated, statement, fee = true, statement+t.gross, fee+t.Fee
			}
		}
		kept := -sumOf(free)
		if stated && (fee != 0 && abs(costs-fee) <= n.o.Amount || fee == 0 && kept > 0 && book-kept >= statement) {
			for _, f := range free {
				n.match(Exact, []*naiveLine{f}, nil)
			}
		}
	}
}
