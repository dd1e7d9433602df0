package recipe

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// A Diagnostic is one problem of a recipe and where it stands. Line and Column
// count from 1, columns and Length in bytes, those of a byte order mark at the
// beginning of the file left out.
type Diagnostic struct {
	Line, Column, Length int
	Message, Hint        string
}

// Invalid is the error for a recipe with problems.
type Invalid struct {
	File     string
	Source   []byte
	Problems []Diagnostic
}

func (e *Invalid) Error() string {
	if len(e.Problems) == 1 {
		return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Problems[0].Line, e.Problems[0].Column, e.Problems[0].Message)
	}
	return fmt.Sprintf("%s has %d problems", e.File, len(e.Problems))
}

// maxDrawn bounds how many problems are shown: a file with more is no recipe.
const maxDrawn = 100

// Draw shows every problem, or the first hundred, with its line of the source
// and a caret below it.
func (e *Invalid) Draw() string {
	var b strings.Builder
	lines := bytes.Split(withoutMark(e.Source), []byte("\n"))
	for i, d := range e.Problems {
		if i == maxDrawn {
			fmt.Fprintf(&b, "\nand %d more\n", len(e.Problems)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s:%d:%d: %s\n", e.File, d.Line, d.Column, d.Message)
		if d.Line >= 1 && d.Line <= len(lines) {
			line, caret := drawLine(bytes.TrimRight(lines[d.Line-1], "\r"), d.Column-1, d.Length)
			margin := fmt.Sprintf("%5d", d.Line)
			fmt.Fprintf(&b, "%s | %s\n%s | %s\n", margin, line, strings.Repeat(" ", len(margin)), caret)
		}
		if d.Hint != "" {
			fmt.Fprintf(&b, "      = %s\n", d.Hint)
		}
	}
	return b.String()
}

// Of a longer line, what is drawn begins at most so many cells before the caret
// and ends so many after its beginning.
const cellsBefore, cellsAfter = 70, 50

// drawLine is a line as a terminal can show it, and carets below length bytes
// from column on.
func drawLine(line []byte, column, length int) (text, caret string) {
	column = min(max(column, 0), len(line))
	start := column
	for cells := 0; start > 0; {
		r, n := utf8.DecodeLastRune(line[:start])
		_, w := drawRune(r)
		if cells += w; cells > cellsBefore {
			break
		}
		start -= n
	}
	var t, c strings.Builder
	if start > 0 {
		t.WriteString("…")
		c.WriteByte(' ')
	}
	for at, after := start, 0; at < len(line); {
		r, n := utf8.DecodeRune(line[at:])
		s, w := drawRune(r)
		if at >= column {
			if after += w; after > cellsAfter {
				t.WriteString("…")
				break
			}
		}
		t.WriteString(s)
		switch {
		case at < column:
			c.WriteString(strings.Repeat(" ", w))
		case at < column+length:
			c.WriteString(strings.Repeat("^", w))
		}
		at += n
	}
	caret = c.String()
	if !strings.HasSuffix(caret, "^") {
		caret += "^"
	}
	return t.String(), caret
}

// drawRune is what stands for a character, and the cells of a terminal that it
// takes. What would move the cursor or change colours stands as a sign of its
// own.
func drawRune(r rune) (string, int) {
	switch {
	case r == '\t':
		return " ", 1
	case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.In(r, unicode.Zl, unicode.Zp):
		return "\uFFFD", 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return string(r), 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return string(r), 2
	}
	return string(r), 1
}

// withoutMark leaves out the byte order mark that some editors begin files
// with.
func withoutMark(src []byte) []byte { return bytes.TrimPrefix(src, []byte("\xef\xbb\xbf")) }
