package names

import (
	"math/bits"
	"unicode/utf8"

	"sluice/rules"
)

// Index holds names under ids and finds the one most like a given name. Any number of goroutines may ask; none may Add or
// Remove meanwhile.
//
// A name is looked up by its words, its neighbouring words as one, and all of them as one. Words that are alike share a
// spelling with at most one letter left out of the first six (the symmetric deletions of W. Garbe's SymSpell), or their
// Soundex (R. C. Russell, US patent 1,261,167, 1918). Names that score less than Floor are not looked for; of those that
// score more, a few in a thousand are missed: those whose words are all spelled quite differently.
type Index struct {
	entries []entry
	byKey   map[string]int32 // of the name's form
	byID    map[string]int32
	dead    int // entries without ids
	words   dictionary
	wholes  dictionary
}

// entry is one form of a name, with the ids that have it.
type entry struct {
	name  name
	ids   []string
	terms []int32 // of words, as in the dictionary
}

// dictionary finds the terms like a word, and what they stand in.
type dictionary struct {
	terms []term
	byID  map[string]int32 // by text
	like  map[uint64][]int32
}

type term struct {
	word word
	in   []int32 // entries
}

// New returns an empty index.
func New() *Index {
	return &Index{byKey: map[string]int32{}, byID: map[string]int32{}, words: newDictionary(), wholes: newDictionary()}
}

func newDictionary() dictionary {
	return dictionary{byID: map[string]int32{}, like: map[uint64][]int32{}}
}

// Len is how many ids the index holds.
func (x *Index) Len() int { return len(x.byID) }

// Add puts a name under an id; a name that the id had is replaced. A name without a letter is like none.
func (x *Index) Add(id, s string) {
	x.Remove(id)
	n := parse(s)
	at, ok := x.byKey[n.key]
	if !ok {
		at = int32(len(x.entries))
		x.byKey[n.key] = at
		x.entries = append(x.entries, entry{name: n})
		x.register(at)
	}
	e := &x.entries[at]
	if len(e.ids) == 0 && ok {
		x.dead--
	}
	e.ids = append(e.ids, id)
	x.byID[id] = at
}

// Remove takes an id out; one that is not there is no matter.
func (x *Index) Remove(id string) {
	at, ok := x.byID[id]
	if !ok {
		return
	}
	delete(x.byID, id)
	e := &x.entries[at]
	for i := range e.ids {
		if e.ids[i] == id {
			e.ids = append(e.ids[:i], e.ids[i+1:]...)
			break
		}
	}
	if len(e.ids) == 0 {
		x.dead++
		x.sweep()
	}
}

// sweep builds the index anew when more than half of it is dead.
func (x *Index) sweep() {
	if x.dead < 1000 || x.dead < len(x.entries)/2 {
		return
	}
	old := x.entries
	*x = *New()
	for i := range old {
		if len(old[i].ids) == 0 {
			continue
		}
		at := int32(len(x.entries))
		x.entries = append(x.entries, entry{name: old[i].name, ids: old[i].ids})
		x.byKey[old[i].name.key] = at
		for _, id := range old[i].ids {
			x.byID[id] = at
		}
		x.register(at)
	}
}

// register enters an entry's words in the dictionaries.
func (x *Index) register(at int32) {
	n := &x.entries[at].name
	if n.empty() {
		return
	}
	x.wholes.add(whole(n), at)
	if turns(n.han) {
		turned := n.turned()
		x.wholes.add(whole(&turned), at)
		x.registerWords(&turned, at)
	}
	x.registerWords(n, at)
}

func (x *Index) registerWords(n *name, at int32) {
	if len(n.words) == 1 {
		return
	}
	eachPart(n, func(w *word, _ int) {
		x.entries[at].terms = append(x.entries[at].terms, x.words.add(*w, at))
	})
}

// whole is a name as one word.
func whole(n *name) word {
	if len(n.words) == 1 {
		return n.words[0]
	}
	return merge(n.words, 0, len(n.words))[0]
}

// eachPart yields the plain words of a name, and neighbouring words as one; place is the first word's.
func eachPart(n *name, yield func(w *word, place int)) {
	for i := range n.words {
		if n.words[i].kind == plain {
			yield(&n.words[i], i)
		}
		if i+1 < len(n.words) && len(n.words) > 2 {
			yield(&merge(n.words, i, i+2)[i], i)
		}
	}
}

// add enters a word of an entry and returns the term it is.
func (d *dictionary) add(w word, at int32) int32 {
	id, ok := d.byID[w.text]
	if !ok {
		id = int32(len(d.terms))
		d.byID[w.text] = id
		w.letters = lettersOf(w.text)
		d.terms = append(d.terms, term{word: w})
		eachKey(w.text, func(key uint64) { d.like[key] = append(d.like[key], id) })
	}
	in := &d.terms[id].in
	if n := len(*in); n == 0 || (*in)[n-1] != at {
		*in = append(*in, at)
	}
	return id
}

// keyLetters is how many letters of a word its keys are made of.
const keyLetters = 6

// eachKey yields the keys under which words alike meet: the start, the start with one letter left out, the Soundex, and for
// a romanised surname what it may be in Pinyin. A key is a hash: two words that share one by chance are compared in vain.
func eachKey(text string, yield func(uint64)) {
	start, n := text, 0
	for i := range text {
		if n == keyLetters {
			start = text[:i]
			break
		}
		n++
	}
	yield(hash(spelt, start, ""))
	if n > 2 {
		last := rune(0)
		for i, r := range start {
			if r != last { // of two equal letters, leaving out either is the same
				yield(hash(spelt, start[:i], start[i+utf8.RuneLen(r):]))
			}
			last = r
		}
	}
	code := soundex(text)
	yield(uint64(heard) | code<<8)
	for _, p := range pinyinOf[text] {
		yield(hash(called, p, ""))
	}
	if surnames[text] {
		yield(hash(called, text, ""))
	}
}

// What a key is made of: the spelling, the Soundex, the surname.
const spelt, heard, called = 1, 2, 3

// hash is FNV-1a of two strings as one.
func hash(of uint64, a, b string) uint64 {
	h := uint64(14695981039346656037) ^ of
	for _, s := range [2]string{a, b} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
	}
	return h
}

// soundexLetters is one more than Soundex has: in a list of 100,000 names four are shared by too many.
const soundexLetters = 5

// soundex is the first letter and the digits of up to four consonants that follow, "M5300".
func soundex(text string) uint64 {
	const digits = "01230120022455012623010202" // a to z; 0: not coded
	code := [soundexLetters]byte{'0', '0', '0', '0', '0'}
	n, last := 0, byte('0')
	for i := 0; i < len(text) && n < len(code); i++ {
		c := text[i]
		if c < 'a' || c > 'z' {
			continue
		}
		d := digits[c-'a']
		switch {
		case n == 0:
			code[0] = c - 'a' + 'A'
			n++
		case d != '0' && d != last:
			code[n] = d
			n++
		}
		if c != 'h' && c != 'w' { // h and w do not part two consonants of one digit
			last = d
		}
	}
	var packed uint64
	for _, c := range code {
		packed = packed<<8 | uint64(c)
	}
	return packed
}

// similar lists the terms like a word, those that align would pair it with.
func (d *dictionary) similar(w *word, chinese bool) []int32 {
	var found []int32
	seen := map[int32]bool{}
	asked := *w
	asked.letters = lettersOf(w.text)
	w = &asked
	eachKey(w.text, func(key uint64) {
		for _, id := range d.like[key] {
			if !seen[id] {
				seen[id] = true
				if d.mayPair(w, &d.terms[id].word, chinese) {
					found = append(found, id)
				}
			}
		}
	})
	return found
}

// mayPair says whether two words could be paired in some names: as words, or as Pinyin if the name asked for is Chinese.
func (d *dictionary) mayPair(a, b *word, chinese bool) bool {
	if !chinese && a.pinyin == nil && b.pinyin == nil && tooFew(a, b) {
		return false
	}
	return pairing{}.word(a, b) >= leastWord || chinese && pairing{sound: true, chinese: true}.word(a, b) >= leastWord
}

// tooFew says that two words have too few letters in common for leastWord, whatever their order: Winkler's prefix closes at most
// 0.4 of what Jaro leaves, so Jaro has to be 2/3, and the common letters as a share of each word have to add up to 1.
func tooFew(a, b *word) bool {
	if a.letters == 0 || b.letters == 0 {
		return false
	}
	common := min(len(a.text)-bits.OnesCount32(a.letters&^b.letters), len(b.text)-bits.OnesCount32(b.letters&^a.letters))
	return common*(len(a.text)+len(b.text)) < len(a.text)*len(b.text)
}

// lettersOf is the set of a word's letters, 0 if it has others than a to z or is too long.
func lettersOf(text string) uint32 {
	var set uint32
	for i := range len(text) {
		if text[i] < 'a' || text[i] > 'z' || i == maxWord {
			return 0
		}
		set |= 1 << (text[i] - 'a')
	}
	return set
}

// Best returns the highest score of the names in the index, and the id that has it, the first in order of bytes where several
// have. Below Floor it is 0 and "".
func (x *Index) Best(s string) (rules.Decimal, string) {
	return x.BestAmong(s, func(string) bool { return true })
}

// BestAmong is Best of the ids that hold: entries of a list that have not expired, say.
func (x *Index) BestAmong(s string, holds func(id string) bool) (rules.Decimal, string) {
	n := parse(s)
	if n.empty() {
		return decimal(0), ""
	}
	b := best{name: &n, holds: holds, index: x, score: Floor - 1}
	if at, ok := x.byKey[n.key]; ok {
		b.try(at)
	}
	if b.score < one {
		b.search(&n)
	}
	if b.score < one && turns(n.han) {
		turned := n.turned()
		b.search(&turned)
	}
	if b.id == "" && b.score < Floor {
		return decimal(0), ""
	}
	return decimal(b.score), b.id
}

// best is one search.
type best struct {
	index *Index
	name  *name
	holds func(id string) bool
	score int
	id    string
	tried map[int32]bool
}

// try scores one entry.
func (b *best) try(at int32) {
	if b.tried[at] {
		return
	}
	if b.tried == nil {
		b.tried = map[int32]bool{}
	}
	b.tried[at] = true
	e := &b.index.entries[at]
	score := b.name.similarity(&e.name)
	if score < b.score {
		return
	}
	for _, id := range e.ids {
		if (score > b.score || id < b.id) && b.holds(id) {
			b.score, b.id = score, id
		}
	}
}

// search tries every entry whose whole is like a name's, and every one that has two words alike.
func (b *best) search(n *name) {
	x := b.index
	w := whole(n)
	for _, id := range x.wholes.similar(&w, n.sound) {
		for _, at := range x.wholes.terms[id].in {
			b.try(at)
		}
	}
	if len(n.words) == 1 {
		return
	}
	p := newProbe(x, n)
	for i := range p.sets {
		if i == p.widest {
			continue // whoever has two words alike is found by the other
		}
		for _, id := range p.sets[i] {
			for _, at := range x.words.terms[id].in {
				if p.second(x.entries[at].terms, i) {
					b.try(at)
				}
			}
		}
	}
}

// probe is what a search knows of the name's words: the terms like each.
type probe struct {
	sets   [][]int32
	widest int              // the set with the most entries
	of     map[int32]uint32 // which sets a term is in
	may    [16]uint64       // a filter of the terms in any set, by their last ten bits
}

func newProbe(x *Index, n *name) *probe {
	p := &probe{of: map[int32]uint32{}}
	most := -1
	eachPart(n, func(w *word, _ int) {
		i := len(p.sets)
		if i == 2*maxWords {
			return
		}
		set := x.words.similar(w, n.sound)
		entries := 0
		for _, id := range set {
			p.of[id] |= 1 << i
			p.may[id%1024/64] |= 1 << (id % 64)
			entries += len(x.words.terms[id].in)
		}
		p.sets = append(p.sets, set)
		if entries > most {
			most, p.widest = entries, i
		}
	})
	return p
}

// second says whether one of an entry's terms is like a word other than i's.
func (p *probe) second(terms []int32, i int) bool {
	for _, id := range terms {
		if p.may[id%1024/64]&(1<<(id%64)) != 0 && p.of[id]&^(1<<i) != 0 {
			return true
		}
	}
	return false
}
