package names

import (
	"slices"
	"strings"
)

// syllableTable is every syllable of Hanyu Pinyin without tone (GB/T 16159, annex), by initial; ü is v.
const syllableTable = `:a ai an ang ao e ei en eng er o ou
b:a ai an ang ao ei en eng i ian iao ie in ing o u
p:a ai an ang ao ei en eng i ian iao ie in ing o ou u
m:a ai an ang ao e ei en eng i ian iao ie in ing iu o ou u
f:a an ang ei en eng o ou u
d:a ai an ang ao e ei en eng i ia ian iao ie ing iu ong ou u uan ui un uo
t:a ai an ang ao e eng i ian iao ie ing ong ou u uan ui un uo
n:a ai an ang ao e ei en eng i ian iang iao ie in ing iu ong ou u uan uo v ve
l:a ai an ang ao e ei eng i ia ian iang iao ie in ing iu o ong ou u uan un uo v ve
g:a ai an ang ao e ei en eng ong ou u ua uai uan uang ui un uo
k:a ai an ang ao e ei en eng ong ou u ua uai uan uang ui un uo
h:a ai an ang ao e ei en eng ong ou u ua uai uan uang ui un uo
j:i ia ian iang iao ie in ing iong iu u uan ue un
q:i ia ian iang iao ie in ing iong iu u uan ue un
x:i ia ian iang iao ie in ing iong iu u uan ue un
zh:a ai an ang ao e ei en eng i ong ou u ua uai uan uang ui un uo
ch:a ai an ang ao e en eng i ong ou u ua uai uan uang ui un uo
sh:a ai an ang ao e ei en eng i ou u ua uai uan uang ui un uo
r:an ang ao e en eng i ong ou u ua uan ui un uo
z:a ai an ang ao e ei en eng i ong ou u uan ui un uo
c:a ai an ang ao e en eng i ong ou u uan ui un uo
s:a ai an ang ao e en eng i ong ou u uan ui un uo
y:a an ang ao e i in ing o ong ou u uan ue un
w:a ai an ang ei en eng o u`

// longestSyllable is zhuang's.
const longestSyllable = 6

var isSyllable = func() map[string]bool {
	m := map[string]bool{}
	for line := range strings.Lines(syllableTable) {
		first, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		for _, final := range strings.Fields(rest) {
			m[first+final] = true
		}
	}
	return m
}()

// syllables takes a word apart into Pinyin syllables, long ones first; nil if it is not made of them.
func syllables(text string) []string {
	for n := min(longestSyllable, len(text)); n > 0; n-- {
		if !isSyllable[text[:n]] {
			continue
		}
		if n == len(text) {
			return []string{text}
		}
		if rest := syllables(text[n:]); rest != nil {
			return append([]string{text[:n]}, rest...)
		}
	}
	return nil
}

// maxPinyinSyllables bounds a Chinese person's name in Pinyin: a surname of two syllables, a given name of two.
const maxPinyinSyllables = 4

// isPinyinName says whether words are a Chinese person's name in Pinyin: syllables only, a surname first or last.
func isPinyinName(words []word) bool {
	total := 0
	for i := range words {
		if len(words[i].syllables) == 0 {
			return false
		}
		total += len(words[i].syllables)
	}
	return len(words) > 0 && total >= 2 && total <= maxPinyinSyllables &&
		(surnames[words[0].text] || surnames[words[len(words)-1].text] || len(words) == 1)
}

// likeSyllables compares two words of Pinyin, syllable by syllable: one letter makes another name.
func likeSyllables(a, b *word) int {
	if a.text == b.text {
		return one
	}
	if len(a.syllables) != len(b.syllables) {
		return 0
	}
	sum := 0
	for i, s := range a.syllables {
		switch t := b.syllables[i]; {
		case s == t:
			sum += one
		case sound(s) == sound(t):
			sum += nearSound
		}
	}
	return sum / len(a.syllables)
}

// sound is a syllable with what is often confused made alike: zh, ch, sh and z, c, s; ng and n; ü and u.
func sound(s string) string {
	if len(s) > 2 && s[1] == 'h' {
		s = s[:1] + s[2:]
	}
	s = strings.TrimSuffix(s, "g")
	return strings.ReplaceAll(s, "v", "u")
}

// pinyinOf lists what a romanised surname may be in Pinyin.
var pinyinOf = func() map[string][]string {
	m := map[string][]string{}
	for _, entry := range strings.Fields(romanisations) {
		spelling, all, _ := strings.Cut(entry, ":")
		for _, p := range strings.Split(all, ",") {
			if p != spelling {
				m[spelling] = append(m[spelling], p)
			}
		}
	}
	return m
}()

// sameSurname says whether two words can be one surname in two romanisations.
func sameSurname(a, b *word) bool {
	for _, p := range a.pinyin {
		if p == b.text || slices.Contains(b.pinyin, p) {
			return true
		}
	}
	return slices.Contains(b.pinyin, a.text)
}
