package status

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// A Layout is what a text is written for.
type Layout struct {
	Width  int  // columns to break sentences at; 0: never, for pipes
	Colour bool // marks in colour, for terminals
}

// Text is the whole status for people: the state in the first line, the list,
// and what belongs to it. Lines to copy are never broken, and records begin in
// the first column, so that they can be pasted into a zone file as they are.
func Text(s Status, l Layout) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s.\n", clean(string(s.State)), clean(headline(s)))
	if len(s.Items) > 0 {
		b.WriteByte('\n')
	}
	for _, it := range s.Items {
		l.item(&b, it, s)
	}
	if some := open(s.Records); len(some) > 0 {
		fmt.Fprintf(&b, "\n%s:\n\n%s", clean(recordsTitle(s)), zone(some))
	}
	if len(s.Links) > 0 {
		var rows [][]string
		for _, link := range s.Links {
			rows = append(rows, []string{link.Title, link.URL})
		}
		table(&b, "Links", rows)
	}
	if len(s.Certificates) > 0 {
		var rows [][]string
		for _, c := range s.Certificates {
			rows = append(rows, []string{c.Name, signature(c)})
			if !c.Signed && c.Fingerprint != "" {
				for _, line := range fingerprint(c.Fingerprint) {
					rows = append(rows, []string{"", line})
				}
			}
		}
		table(&b, "Certificates", rows)
	}
	if s.Pod != nil {
		table(&b, "Versions", [][]string{{"API", s.Pod.API}, {"Server", s.Pod.Server}})
	}
	if !s.At.IsZero() {
		fmt.Fprintf(&b, "\nLooked at %s.", stamp(s.At))
		if !s.Again.IsZero() {
			fmt.Fprintf(&b, " Looks again at %s.", clock(s.Again, s.At))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// item writes one point of the list. Its sentences stand below each other, to
// the right of the marks.
func (l Layout) item(b *strings.Builder, it Item, s Status) {
	const indent = 8
	l.sentence(b, l.mark(it.Progress), indent, it.Title+": "+it.What)
	gap := strings.Repeat(" ", indent)
	if it.Why != "" {
		l.sentence(b, gap, indent, "Why: "+it.Why)
	}
	for _, point := range it.Points {
		l.sentence(b, gap+"- ", indent+2, point)
	}
	if it.Do != "" {
		l.sentence(b, gap, indent, "Do: "+it.Do)
	}
	for _, line := range it.Type {
		fmt.Fprintf(b, "%s    %s\n", gap, clean(line))
	}
	for _, way := range it.Ways {
		l.sentence(b, gap+"- ", indent+2, way.Title)
		for _, line := range way.Type {
			fmt.Fprintf(b, "%s    %s\n", gap, clean(line))
		}
	}
	if !it.Again.IsZero() {
		l.sentence(b, gap, indent, "The machine tries again at "+clock(it.Again, s.At)+".")
	}
}

// mark is six columns and two spaces wide, whatever the colour.
func (l Layout) mark(p Progress) string {
	word := fmt.Sprintf("%6s", mark(p))
	if l.Colour {
		// ECMA-48 section 8.3.117: green, yellow, cyan, bold magenta, bold red.
		colour, ok := map[Progress]string{Done: "32", Warning: "33", Doing: "36", Owner: "1;35"}[p]
		if !ok {
			colour = "1;31"
		}
		word = "\x1b[" + colour + "m" + word + "\x1b[0m"
	}
	return word + "  "
}

// sentence writes text after first, broken at spaces.
func (l Layout) sentence(b *strings.Builder, first string, indent int, text string) {
	b.WriteString(first)
	for i, line := range wrap(clean(text), l.Width-indent, l.Width > 0) {
		if i > 0 {
			b.WriteString(strings.Repeat(" ", indent))
		}
		b.WriteString(line + "\n")
	}
}

// wrap breaks text into lines of at most width columns where it can; a longer
// word stays whole, for it may be an address to copy.
func wrap(text string, width int, broken bool) []string {
	words := strings.Fields(text)
	if !broken || len(words) == 0 {
		return []string{strings.Join(words, " ")}
	}
	lines := words[:1:1]
	for _, w := range words[1:] {
		last := &lines[len(lines)-1]
		if utf8.RuneCountInString(*last)+1+utf8.RuneCountInString(w) <= width {
			*last += " " + w
		} else {
			lines = append(lines, w)
		}
	}
	return lines
}

// table writes rows of two columns below a title.
func table(b *strings.Builder, title string, rows [][]string) {
	width := 0
	for _, r := range rows {
		width = max(width, utf8.RuneCountInString(clean(r[0])))
	}
	fmt.Fprintf(b, "\n%s:\n\n", title)
	for _, r := range rows {
		b.WriteString(strings.TrimRight(fmt.Sprintf("  %-*s  %s", width, clean(r[0]), clean(r[1])), " ") + "\n")
	}
}

func recordsTitle(s Status) string {
	title := "DNS records that would make it better"
	for _, r := range s.Records {
		switch {
		case r.Optional || r.State == Present:
		case r.State == Unknown:
			title = "DNS records that " + s.Domain + " needs"
		default:
			return "DNS records that " + s.Domain + " still needs"
		}
	}
	return title
}

func signature(c Certificate) string {
	switch {
	case !c.Signed && c.Fingerprint == "":
		return "not signed yet"
	case !c.Signed:
		return "not signed yet, SHA-256:"
	}
	by := "by " + c.Issuer
	if c.Issuer == "" {
		by = "by an authority"
	}
	if !c.NotAfter.IsZero() {
		by += " until " + c.NotAfter.UTC().Format(time.DateOnly)
	}
	if !c.Renew.IsZero() {
		by += ", renewal " + c.Renew.UTC().Format(time.DateOnly)
	}
	return by
}
