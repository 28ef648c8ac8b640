package rules

import (
	"slices"
	"strings"
)

// suggest says which word may have been meant, or which there are when there are few.
func suggest(word string, words []string) string {
	sorted := slices.Clone(words)
	slices.Sort(sorted)
	best, least := "", max(2, len(word)/3)+1
	for _, w := range sorted {
		if w == "" {
			continue
		}
		if d := distance(strings.ToLower(word), w); d < least {
			best, least = w, d
		}
	}
	switch {
	case best != "":
		return "; did you mean " + best + "?"
	case len(sorted) <= 12:
		return "; it is one of " + strings.Join(slices.DeleteFunc(sorted, func(w string) bool { return w == "" }), ", ")
	}
	return ""
}

// distance is how many letters must be inserted, dropped, replaced or swapped with their neighbour to get from a to b
// (optimal string alignment). Words longer than maxWord are not compared.
func distance(a, b string) int {
	const maxWord = 64
	if len(a) > maxWord || len(b) > maxWord {
		return maxWord
	}
	var before, previous, row [maxWord + 1]int
	for j := range b {
		previous[j+1] = j + 1
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(previous[j+1]+1, row[j]+1, previous[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, previous = previous, row
	}
	return previous[len(b)]
}
