package timeline

import (
	"fmt"
	"strings"
)

// Text is a table for each boot, as Markdown.
func Text(boots []Timeline) string {
	var b strings.Builder
	for _, t := range boots {
		fmt.Fprintf(&b, "\n### %s\n\n| from | to | took | what |\n|---|---|---|---|\n", t.Title)
		for _, s := range t.Spans {
			fmt.Fprintf(&b, "| %.1f | %.1f | %.1f | %s |\n", s.From, s.To, s.To-s.From, cell(s.Name))
		}
		for _, m := range t.Moments {
			fmt.Fprintf(&b, "| %.1f | | | **%s** |\n", m.From, cell(m.Name))
		}
	}
	return b.String()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
