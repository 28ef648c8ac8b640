// Package names compares the names of people and companies, in Latin and Chinese script, for sanctions and watch lists. It
// knows no lists: an Index holds names under ids and finds the one most like a given name.
//
// Words are compared with Jaro–Winkler (W. E. Winkler, "String Comparator Metrics and Enhanced Decision Rules in the
// Fellegi–Sunter Model of Record Linkage", 1990) and then aligned, as in the hybrid measures of W. W. Cohen, P. Ravikumar and
// S. E. Fienberg, "A Comparison of String Distance Metrics for Name-Matching Tasks", 2003. All arithmetic is in whole
// numbers, so that every machine comes to the same score.
package names

import "sluice/rules"

// What a difference between two names costs, in thousandths. They were set by hand on the pairs in the tests.
const (
	one = 1000 // the same name

	// Default is the threshold from which two names are alike enough for a person to look: 0.900. See TestThreshold.
	Default = 900
	// Floor is the least score that Index.Best tells: below it names have a word in common, not more.
	Floor = 800

	leastWord   = 800 // two words less alike than this are different words
	otherScript = 960 // a Chinese name against letters: the letters do not say which characters they were
	swapped     = 980 // the same words in another order
	missing     = 960 // a word between others that only one name has, such as a middle name
	missingEnd  = 920 // a first or last word that only one name has
	missingPart = 980 // a particle or an initial that only one name has
	missingHan  = 800 // a syllable that only one Chinese name has: 张伟 and 张伟明 are two people
	conflict    = 800 // one word in each name that is like none of the other's
	initialWord = 850 // an initial against a word that starts with it
	romanised   = 950 // two spellings of one Chinese surname: Cheung and Zhang
	oneWord     = 790 // at most, when names of several words have only one in common; below Floor
	oneInitial  = 850 // at most, when they have one word and an initial in common
	sameReading = 600 // two Chinese characters that read alike: a reading is shared by dozens
	nearSound   = 850 // two syllables that are often confused: zhong and zong, min and ming
)

// Similarity is how alike two names are, from 0 to 1 in steps of 0.001. It is the same for (a, b) and (b, a), and 1 for two
// spellings of one name that differ in case, accents, punctuation, titles, company forms or traditional characters only. A
// name without a letter is like none.
func Similarity(a, b string) rules.Decimal {
	x, y := parse(a), parse(b)
	return decimal(x.similarity(&y))
}

func decimal(thousandths int) rules.Decimal {
	return rules.Decimal{Coefficient: int64(thousandths), Exponent: 3}
}

// similarity is in thousandths.
func (n *name) similarity(o *name) int {
	if n.empty() || o.empty() {
		return 0
	}
	if n.key == o.key {
		return one
	}
	if n.han != nil && o.han != nil {
		return likeHan(n, o)
	}
	score := likeWords(n, o)
	if (n.han != nil) != (o.han != nil) {
		score = score * otherScript / one
	}
	return score
}
