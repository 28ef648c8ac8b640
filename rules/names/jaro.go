package names

import "unicode/utf8"

// maxWord bounds the letters of a word that are compared; a longer one is cut off.
const maxWord = 64

// million is one, in the unit that Jaro–Winkler is computed in.
const million = 1_000_000

// jaroWinkler is how alike two words are, in thousandths, rounded down. Words are in lower case.
func jaroWinkler(a, b string) int {
	if a == b {
		return one
	}
	if len(a) > len(b) || len(a) == len(b) && a > b {
		a, b = b, a // which letters are taken as common can depend on the order
	}
	if isASCII(a) && isASCII(b) {
		var x, y [maxWord]byte
		return winkler(x[:copy(x[:], a)], y[:copy(y[:], b)])
	}
	x, y := []rune(a), []rune(b)
	return winkler(x[:min(len(x), maxWord)], y[:min(len(y), maxWord)])
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func winkler[letter byte | rune](x, y []letter) int {
	if len(x) == 0 || len(y) == 0 {
		return 0
	}
	j := jaro(x, y)
	prefix := 0
	for prefix < min(4, len(x), len(y)) && x[prefix] == y[prefix] {
		prefix++
	}
	// Winkler: a common start, up to four letters, closes a tenth of the rest each, where the words are alike at all.
	if j > 700_000 {
		j += prefix * (million - j) / 10
	}
	return j * one / million
}

// jaro counts the letters that two words have in common no further apart than half the longer one, and how many of these
// are in another order.
func jaro[letter byte | rune](x, y []letter) int {
	reach := max(len(x), len(y))/2 - 1
	var inX, inY uint64
	common := 0
	for i, r := range x {
		for j := max(0, i-reach); j < min(len(y), i+reach+1); j++ {
			if inY&(1<<j) == 0 && y[j] == r {
				inX, inY = inX|1<<i, inY|1<<j
				common++
				break
			}
		}
	}
	if common == 0 {
		return 0
	}
	moved, j := 0, 0
	for i, r := range x {
		if inX&(1<<i) == 0 {
			continue
		}
		for inY&(1<<j) == 0 {
			j++
		}
		if y[j] != r {
			moved++
		}
		j++
	}
	m := common * million
	return (m/len(x) + m/len(y) + (common-moved/2)*million/common) / 3
}
