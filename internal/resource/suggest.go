package resource

import (
	"slices"
	"strings"
)

// nearest returns the known word that word was probably meant to be, or "".
func nearest(word string, known []string) string {
	const longest = 64 // longer words are not typing mistakes, and the distance is quadratic
	if len(word) > longest {
		return ""
	}
	word = strings.ToLower(word)
	best, bestDistance := "", max(2, len(word)/3)+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if len(k) > longest {
			continue
		}
		if d := editDistance(word, strings.ToLower(k)); d < bestDistance && d < len(word) {
			best, bestDistance = k, d
		}
	}
	return best
}

// editDistance is the number of single-byte edits (insert, delete, replace, or
// swap of two neighbours) between a and b.
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}

// didYouMean is the hint for a word that is not among the known ones.
func didYouMean(word string, known []string) string {
	if n := nearest(word, known); n != "" {
		return `did you mean "` + n + `"?`
	}
	return ""
}
