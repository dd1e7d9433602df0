package status

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Keys of the items that the views know. Others are shown as they come.
const (
	KeySettings = "settings"
	KeyDNS      = "dns"
	KeyAccount  = "account"
	KeyApex     = "apex"
)

// headline says in one sentence how the machine is, without a full stop.
func headline(s Status) string {
	who := s.Domain
	if who == "" {
		who = "This machine"
	}
	switch s.State {
	case Ready:
		return who + " is ready"
	case Degraded:
		return who + " works, but something needs a look"
	case Working:
		return who + " is being set up"
	case Waiting:
		return who + " is waiting for " + waitsFor(s)
	}
	if s.Domain == "" {
		return who + " cannot set itself up"
	}
	return who + " does not answer"
}

func waitsFor(s Status) string {
	if unconfigured(s) {
		return "its domain"
	}
	i := slices.IndexFunc(s.Items, func(it Item) bool { return it.Progress == Owner })
	if i < 0 {
		return "you"
	}
	switch s.Items[i].Key {
	case KeySettings:
		return "corrected settings"
	case KeyDNS:
		return "its DNS records"
	case KeyAccount:
		return "its first account"
	case KeyApex:
		return "a way to the domain's certificate"
	}
	return "you"
}

// unconfigured tells a machine that nobody told its domain from one that was
// told something it cannot use.
func unconfigured(s Status) bool {
	return s.Domain == "" && s.State == Waiting && !slices.ContainsFunc(s.Items, func(it Item) bool { return len(it.Points) > 0 })
}

// mark is a progress in one word of at most four letters, so that a list needs
// no colours and no legend.
func mark(p Progress) string {
	switch p {
	case Done:
		return "ok"
	case Warning:
		return "look"
	case Doing:
		return "wait"
	case Owner:
		return "you"
	}
	return "fail"
}

// urgency orders items by who has to act: the owner, then whoever looks.
var urgency = []Progress{Owner, Failed, Warning, Doing, Done}

// by gives the items with one progress, in their order.
func by(items []Item, p Progress) []Item {
	var some []Item
	for _, it := range items {
		if it.Progress == p {
			some = append(some, it)
		}
	}
	return some
}

// clock is a time for people who read it at another time: seconds while it is
// the same day, the day when it is another.
func clock(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format("15:04:05") + " UTC"
	}
	return t.Format("2 January 2006, 15:04") + " UTC"
}

// stamp is a time in full, so that a status that is old shows it.
func stamp(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04:05") + " UTC" }

func day(t time.Time) string { return t.UTC().Format("2 January 2006") }

// clean keeps what came from outside, such as data from DNS, from steering a
// terminal or reordering a line: only printable characters and spaces stay.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// fingerprint writes a SHA-256 as OpenSSL and browsers do, in lines of sixteen
// bytes. What is no hexadecimal comes back as it is.
func fingerprint(hex string) []string {
	digits := strings.ToUpper(strings.ReplaceAll(clean(hex), ":", ""))
	if len(digits) != 64 || strings.Trim(digits, "0123456789ABCDEF") != "" {
		return []string{clean(hex)}
	}
	var lines []string
	for half := range 2 {
		var pairs []string
		for i := range 16 {
			at := half*32 + i*2
			pairs = append(pairs, digits[at:at+2])
		}
		lines = append(lines, strings.Join(pairs, ":"))
	}
	return lines
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
