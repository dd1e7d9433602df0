package settings

import (
	"fmt"
	"slices"
	"strings"
)

// unknown reports a key that is none. What does not look like a name is not
// shown: it may be a secret that lost its place.
func (c *collector) unknown(at Place, name string) {
	if !nameLike.MatchString(name) {
		c.problem(at, "", "has an unknown key", "write one `key: value` per line, a space after the colon")
		return
	}
	var names []string
	for _, k := range Keys {
		names = append(names, k.Name)
		for i := range len(k.Name) {
			if k.Name[i] == '.' && !slices.Contains(names, k.Name[:i]) {
				names = append(names, k.Name[:i])
			}
		}
	}
	hint := "the settings are listed in docs/settings.md"
	near := nearest(name, names)
	for _, k := range Keys {
		if near == "" && k.Name[strings.LastIndexByte(k.Name, '.')+1:] == name[strings.LastIndexByte(name, '.')+1:] {
			near = k.Name
		}
	}
	if near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	}
	c.problem(at, name, "is no setting", hint)
}

// nearest finds what was probably meant: the name at the smallest edit
// distance, when that is at most a third of the word and one more.
func nearest(v string, names []string) string {
	best, most := "", len(v)/3+2
	for _, name := range names {
		if d := distance(v, name); d < most {
			best, most = name, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two short strings, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
