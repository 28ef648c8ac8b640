package names

import (
	"slices"
	"strings"
)

// likeWords compares two names word by word. Where one has more words than the other, neighbours are also tried as one:
// Xiao Ming is Xiaoming.
func likeWords(a, b *name) int {
	if len(a.words) > len(b.words) {
		a, b = b, a
	}
	p := pairing{sound: a.sound && b.sound, chinese: a.sound || b.sound}
	score := p.align(a.words, b.words)
	if len(b.words) > maxMerged {
		return score
	}
	return max(score, p.merged(a.words, b.words))
}

// maxMerged bounds the words of a name whose neighbours are tried as one: more are a company's, which keep apart.
const maxMerged = 5

// merged is the best score with neighbours of the longer name as one, until both have as many words.
func (p pairing) merged(a, b []word) int {
	score := 0
	if len(b) <= len(a) {
		return 0
	}
	for i := range len(b) - 1 {
		shorter := merge(b, i, i+2)
		score = max(score, p.align(a, shorter), p.merged(a, shorter))
	}
	return score
}

// merge makes one word of words[from:to].
func merge(words []word, from, to int) []word {
	merged := word{}
	var text strings.Builder
	for i := from; i < to; i++ {
		text.WriteString(words[i].text)
		merged.syllables = append(merged.syllables, words[i].syllables...)
		if len(words[i].syllables) == 0 {
			merged.syllables = nil
		}
	}
	merged.text = text.String()
	out := append(make([]word, 0, len(words)), words[:from]...)
	return append(append(out, merged), words[to:]...)
}

// pairing is how the words of two names are compared.
type pairing struct {
	sound   bool // both are Chinese names
	chinese bool // one is
}

// pair is a word of each name, and how alike they are.
type pair struct{ i, j, score int }

// align pairs the words that are most alike first and weighs what is left over. It is the same for (a, b) and (b, a).
func (p pairing) align(a, b []word) int {
	a, b = a[:min(len(a), maxWords)], b[:min(len(b), maxWords)]
	var like [maxWords][maxWords]int
	for i := range a {
		for j := range b {
			like[i][j] = p.word(&a[i], &b[j])
		}
	}
	var partner [maxWords]int // of a's words: 1 + b's, 0: none
	var taken [maxWords]bool
	for {
		best := pair{score: leastWord - 1}
		for i := range a {
			for j := range b {
				if next := (pair{i, j, like[i][j]}); partner[i] == 0 && !taken[j] && next.before(best) {
					best = next
				}
			}
		}
		if best.score < leastWord {
			break
		}
		partner[best.i], taken[best.j] = best.j+1, true
	}
	var t tally
	for i := range a {
		if j := partner[i] - 1; j >= 0 {
			t.match(&a[i], &b[j], j, like[i][j])
		}
	}
	for i := range a {
		if partner[i] == 0 {
			t.left.alone(p, &a[i], i == 0 || i == len(a)-1)
		}
	}
	for j := range b {
		if !taken[j] {
			t.right.alone(p, &b[j], j == 0 || j == len(b)-1)
		}
	}
	return t.score(len(a), len(b))
}

// before orders pairs: the more alike, then the nearer in place, then the earlier.
func (x pair) before(y pair) bool {
	if x.score != y.score {
		return x.score > y.score
	}
	if dx, dy := apart(x), apart(y); dx != dy {
		return dx < dy
	}
	return x.i+x.j < y.i+y.j
}

func apart(p pair) int { return max(p.i-p.j, p.j-p.i) }

// word is how alike two words are, in thousandths.
func (p pairing) word(a, b *word) int {
	switch {
	case a.text == b.text:
		return one
	case a.kind == initial || b.kind == initial:
		if a.kind != particle && b.kind != particle && a.text[0] == b.text[0] {
			return initialWord
		}
		return 0
	case sameSurname(a, b):
		return romanised
	case p.sound || p.chinese && len(a.syllables) > 0 && len(b.syllables) > 0:
		return likeSyllables(a, b)
	}
	return jaroWinkler(a.text, b.text)
}

// side is what each word of one name that has no partner costs.
type side struct {
	costs [maxWords]int
	n     int
}

// tally sums up an alignment.
type tally struct {
	sum, weight int // of matched words, weighted
	words       int // plain words matched
	initials    int
	last        int // the other's place of the newest match, from 1
	turned      bool
	left, right side
}

func (t *tally) match(a, b *word, at, like int) {
	weight := 10
	switch {
	case a.kind == particle || b.kind == particle:
		weight = 3
	case a.kind == initial || b.kind == initial:
		weight = 5
		t.initials++
	default:
		t.words++
	}
	t.sum, t.weight = t.sum+weight*like, t.weight+weight
	if at+1 < t.last {
		t.turned = true
	}
	t.last = max(t.last, at+1)
}

// alone notes a word that only one name has.
func (s *side) alone(p pairing, w *word, atEnd bool) {
	cost := missing
	switch {
	case w.kind != plain:
		cost = missingPart
	case p.sound:
		cost = missingHan
	case atEnd && !p.chinese:
		cost = missingEnd
	}
	s.costs[s.n] = cost
	s.n++
}

// score weighs the sum; of and than are how many words the names have.
func (t *tally) score(of, than int) int {
	if t.weight == 0 {
		return 0
	}
	score := t.sum / t.weight
	longer, pairs := &t.left, min(t.left.n, t.right.n)
	if t.right.n > t.left.n {
		longer = &t.right
	}
	for range pairs {
		score = score * conflict / one
	}
	// The dearest count, so that the order of the words does not matter.
	costs := longer.costs[:longer.n]
	slices.Sort(costs)
	for _, cost := range costs[:longer.n-pairs] {
		score = score * cost / one
	}
	if t.turned {
		score = score * swapped / one
	}
	switch {
	case t.words >= 2 || of == 1 && than == 1:
		return score
	case t.words == 1 && t.initials > 0:
		return min(score, oneInitial)
	}
	return min(score, oneWord)
}
