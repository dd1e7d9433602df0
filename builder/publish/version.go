package publish

import (
	"cmp"
	"strings"
)

func compareText(a, b string) int { return strings.Compare(a, b) }

// CompareVersions orders versions as people do: numbers by value, a part that
// begins with "-" or "~" before its absence (1.0-rc1 before 1.0), all else as
// text.
func CompareVersions(a, b string) int {
	a0, b0 := a, b
	for a != "" && b != "" {
		x, y := run1(a), run1(b)
		a, b = a[len(x):], b[len(y):]
		if x == y {
			continue
		}
		if digit(x[0]) && digit(y[0]) {
			p, q := strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := cmp.Or(cmp.Compare(len(p), len(q)), strings.Compare(p, q)); c != 0 {
				return c
			}
			continue
		}
		if c := cmp.Compare(rank(x), rank(y)); c != 0 {
			return c
		}
		return strings.Compare(x, y)
	}
	if c := cmp.Compare(rank(a), rank(b)); c != 0 {
		return c
	}
	return strings.Compare(a0, b0)
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// run1 is the digits that s begins with, or its first byte.
func run1(s string) string {
	n := 0
	for n < len(s) && digit(s[n]) {
		n++
	}
	return s[:max(n, 1)]
}

// rank orders what may follow equal beginnings: before the end, the end, more.
func rank(s string) int {
	switch {
	case s == "":
		return 1
	case s[0] == '-' || s[0] == '~':
		return 0
	}
	return 2
}
