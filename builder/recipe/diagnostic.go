package recipe

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Diagnostic is one problem of a recipe and where it stands. Line and Column
// count from 1, columns and Length in bytes.
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

// Draw shows every problem with its line of the source and a caret below it.
func (e *Invalid) Draw() string {
	var b strings.Builder
	lines := strings.Split(string(e.Source), "\n")
	for i, d := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s:%d:%d: %s\n", e.File, d.Line, d.Column, d.Message)
		if d.Line >= 1 && d.Line <= len(lines) {
			line := strings.TrimRight(lines[d.Line-1], "\r")
			margin := fmt.Sprintf("%5d", d.Line)
			fmt.Fprintf(&b, "%s | %s\n", margin, strings.ReplaceAll(line, "\t", " "))
			before := line[:min(max(d.Column-1, 0), len(line))]
			under := line[len(before):]
			if d.Length < len(under) {
				under = under[:d.Length]
			}
			fmt.Fprintf(&b, "%s | %s%s\n", strings.Repeat(" ", len(margin)),
				strings.Repeat(" ", utf8.RuneCountInString(before)), strings.Repeat("^", max(1, utf8.RuneCountInString(under))))
		}
		if d.Hint != "" {
			fmt.Fprintf(&b, "      = %s\n", d.Hint)
		}
	}
	return b.String()
}
