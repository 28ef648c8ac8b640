package names

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Limits of a name that is compared.
const (
	// maxWords bounds the words of a name; what is beyond is left out. A Spanish or Arabic name has up to seven.
	maxWords = 10
	// maxHan bounds the characters of a Chinese name; a company's has some twenty.
	maxHan = 40
)

// wordKind says what a word tells about who is meant.
type wordKind uint8

const (
	plain    wordKind = iota
	particle          // de, bin, al: hardly anything
	initial           // one letter
)

// word is one word of a name, in lower case and without accents.
type word struct {
	text string
	kind wordKind
	// syllables are its Pinyin syllables if it is made of nothing else.
	syllables []string
	// pinyin is what a romanised surname may be in Pinyin.
	pinyin []string
	// letters is the set of its letters, in an index only.
	letters uint32
}

// character is a Chinese character, simplified, and how it is mostly read.
type character struct {
	is      rune
	reading string
}

// name is a name as it is compared.
type name struct {
	key   string      // the same for two spellings of one name
	words []word      // of a Chinese name: how it is read, surname first
	han   []character // nil if the name is not Chinese alone
	sound bool        // Chinese, or letters that are a Chinese name in Pinyin
}

func (n *name) empty() bool { return len(n.words) == 0 }

// parse brings a name into the form in which names are compared.
func parse(s string) name {
	latin, texts := split(reorder(s))
	latin = dropForms(latin)
	company, runs := false, make([][]character, 0, len(texts))
	for _, text := range texts {
		rest, cut := dropHanForms(text, len(texts) == 1)
		company = company || cut
		var run []character
		for _, r := range rest {
			run = append(run, character{r, reading(r)})
		}
		if run != nil {
			runs = append(runs, run)
		}
	}
	var n name
	for _, run := range runs {
		n.words = append(n.words, readHan(run, company || len(runs) > 1)...)
		n.han = append(n.han, run...)
	}
	if len(latin) > 0 {
		n.han = nil // in two scripts: the letters and the reading together
	}
	for _, text := range latin {
		if w := newWord(text); len(runs) == 0 || !hasWord(n.words, text) {
			n.words = append(n.words, w)
		}
	}
	n.words = n.words[:min(len(n.words), maxWords)]
	n.han = n.han[:min(len(n.han), maxHan)]
	n.sound = n.han != nil || isPinyinName(n.words)
	n.key = n.makeKey()
	return n
}

func hasWord(words []word, text string) bool {
	for i := range words {
		if words[i].text == text {
			return true
		}
	}
	return false
}

func (n *name) makeKey() string {
	var b strings.Builder
	for i := range n.han {
		b.WriteRune(n.han[i].is)
	}
	if n.han != nil {
		return b.String()
	}
	for i := range n.words {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(n.words[i].text)
	}
	return b.String()
}

func newWord(text string) word {
	w := word{text: text, syllables: syllables(text), pinyin: pinyinOf[text]}
	switch {
	case particles[text]:
		w.kind = particle
	case len(text) == 1:
		w.kind = initial
	}
	return w
}

// reorder turns "Smith, John Michael" around, as registers write it.
func reorder(s string) string {
	last, first, ok := strings.Cut(s, ",")
	if !ok || strings.Contains(first, ",") || forms[strings.Trim(strings.ToLower(first), " .")] {
		return s
	}
	return first + " " + last
}

// split takes a name apart into words of letters and runs of Chinese characters.
func split(s string) (latin, runs []string) {
	var text strings.Builder
	var run []rune
	end := func() {
		if text.Len() > 0 {
			latin = append(latin, text.String())
			text.Reset()
		}
		if len(run) > 0 {
			runs = append(runs, string(run))
			run = nil
		}
	}
	for _, r := range norm.NFKD.String(s) {
		switch {
		case unicode.Is(unicode.Han, r):
			if text.Len() > 0 {
				end()
			}
			run = append(run, simplify(r))
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			if len(run) > 0 {
				end()
			}
			writeFolded(&text, unicode.ToLower(r))
		case unicode.Is(unicode.Mn, r) || silent[r]:
			// An accent, or an apostrophe within a word: O'Hara is ohara.
		case r == ' ' && len(run) == 1 && len(runs) == 0:
			// "张 伟" is one name.
		default:
			end()
		}
	}
	end()
	return latin, runs
}

// silent are marks that part no words.
var silent = map[rune]bool{'\'': true, '’': true, '‘': true, '`': true, 'ʼ': true, 'ʻ': true}

// writeFolded writes a letter; those that Unicode does not take apart become what they are usually written as.
func writeFolded(b *strings.Builder, r rune) {
	if s, ok := folded[r]; ok {
		b.WriteString(s)
		return
	}
	b.WriteRune(r)
}

var folded = map[rune]string{'ß': "ss", 'æ': "ae", 'œ': "oe", 'ø': "o", 'ł': "l", 'đ': "d", 'ð': "d", 'þ': "th", 'ı': "i", 'ħ': "h"}

// dropForms leaves out titles and company forms, unless nothing would be left.
func dropForms(words []string) []string {
	kept := words[:0:0]
	for _, w := range words {
		if !forms[w] {
			kept = append(kept, w)
		}
	}
	if len(kept) == 0 {
		return words
	}
	return kept
}

// dropHanForms cuts 先生 or 有限公司 off the end, and says whether it was a company's form. If s is all of a name, something
// is left.
func dropHanForms(s string, all bool) (kept string, company bool) {
	for again := true; again; {
		again = false
		for _, form := range hanForms {
			if rest, ok := strings.CutSuffix(s, form.text); ok && (rest != "" || !all) {
				s, again, company = rest, true, company || form.company
			}
		}
	}
	return s, company
}
