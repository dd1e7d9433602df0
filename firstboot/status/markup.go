package status

import (
	"bytes"
	"html"
	"strings"
)

// markup is HTML that we wrote. Only constants become markup by themselves, so
// a value cannot slip in unescaped.
type markup string

// A sheet is HTML in the making.
type sheet struct{ bytes.Buffer }

// put writes m with each {} in it replaced by the next value, escaped for text
// and for quoted attributes.
func (h *sheet) put(m markup, values ...string) {
	rest := string(m)
	for _, v := range values {
		before, after, _ := strings.Cut(rest, "{}")
		h.WriteString(before)
		h.WriteString(html.EscapeString(clean(v)))
		rest = after
	}
	h.WriteString(rest)
}
