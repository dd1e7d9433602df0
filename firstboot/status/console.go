package status

import (
	"fmt"
	"slices"
	"strings"
)

// columns of a text console.
const columns = 80

// MOTD is the message of the day: at most eleven lines with the state, what
// waits for the owner first, and the next command to type.
func MOTD(s Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n", short(headline(s), columns-1))
	pending(&b, s, 5)
	next := "prose-firstboot status"
	if typed := firstCommand(s); typed != "" && typed != next {
		fmt.Fprintf(&b, "\nNext:       %s\nEverything: %s\n", typed, next)
	} else {
		fmt.Fprintf(&b, "\nEverything: %s\n", next)
	}
	return b.String()
}

// Console is a file for agetty (issue(5)), which shows it above the login on
// a text console. link is the one-time link, or empty; it is shown only while
// no account exists. A line of a link is as long as it is: the console breaks
// it, and a serial terminal can copy it.
func Console(s Status, link string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n", short(headline(s), columns-1))
	pending(&b, s, 3)
	if link != "" && s.Locked {
		fmt.Fprintf(&b, "\nTo make the first account, open this link. It works once:\n%s\n", clean(link))
	}
	if c, ok := interim(s); ok {
		fmt.Fprintf(&b, "\n%s\n", short("The browser warns, for "+c.Name+" has no signed certificate yet.", columns))
		b.WriteString("Go on only if it shows this SHA-256 fingerprint:\n")
		for _, line := range fingerprint(c.Fingerprint) {
			fmt.Fprintf(&b, "  %s\n", short(line, columns-2))
		}
	}
	b.WriteString("\n")
	return issue(b.String())
}

// issue makes text mean itself to agetty, where a backslash begins an escape,
// and leaves only what the fonts of all consoles have.
func issue(text string) string {
	text = strings.Map(func(r rune) rune {
		if r != '\n' && (r < ' ' || r > '~') {
			return '?'
		}
		return r
	}, text)
	return strings.ReplaceAll(text, `\`, `\\`)
}

// pending lists what is not done, at most n items and the owner's first.
func pending(b *strings.Builder, s Status, n int) {
	var all []Item
	for _, p := range urgency {
		if p != Done {
			all = append(all, by(s.Items, p)...)
		}
	}
	for i, it := range all {
		if i == n {
			fmt.Fprintf(b, "        and %s.\n", count(len(all)-n, "more thing", "more things"))
			break
		}
		fmt.Fprintf(b, "%6s  %s\n", mark(it.Progress), short(it.Title+": "+it.What, columns-8))
	}
}

// firstCommand is what the most urgent item wants typed, when that is a
// command and not a line for another place.
func firstCommand(s Status) string {
	for _, p := range urgency {
		for _, it := range by(s.Items, p) {
			for _, line := range it.Type {
				if strings.HasPrefix(line, "sudo ") || strings.HasPrefix(line, "prose-firstboot ") {
					return short(line, 2*columns)
				}
			}
		}
	}
	return ""
}

// interim is the certificate that the owner meets first: the dashboard's while
// no account exists, else any that is not signed.
func interim(s Status) (Certificate, bool) {
	var some []Certificate
	for _, c := range s.Certificates {
		if !c.Signed && c.Fingerprint != "" {
			some = append(some, c)
		}
	}
	if i := slices.IndexFunc(some, func(c Certificate) bool { return strings.HasPrefix(c.Name, "admin.") }); i >= 0 {
		return some[i], true
	}
	if len(some) > 0 {
		return some[0], true
	}
	return Certificate{}, false
}

// short cuts text to a number of columns, between words where it can.
func short(text string, width int) string {
	r := []rune(clean(text))
	if len(r) <= width {
		return string(r)
	}
	cut := string(r[:width-3])
	if i := strings.LastIndexByte(cut, ' '); i > len(cut)/2 {
		cut = cut[:i]
	}
	return strings.TrimRight(cut, " ,.;:") + "..."
}
