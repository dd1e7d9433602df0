package cloudinit

import (
	"fmt"
	"strings"
)

// longestDomain leaves room for "admin.prose.", the longest name that a Pod
// serves below its domain, within the 253 characters of a DNS name.
const longestDomain = 253 - len("admin.prose.")

// A DomainError says what is wrong with a domain and what to write instead.
type DomainError struct {
	Domain string
	What   string // what is wrong
	Fix    string // the next thing to try; may be empty
}

func (e *DomainError) Error() string { return fmt.Sprintf("domain %q %s", e.Domain, e.What) }

// Hint is the next thing to try, or empty.
func (e *DomainError) Hint() string { return e.Fix }

// CheckDomain reports whether a Pod can live at a domain: nil, or a
// [*DomainError]. A domain is the part of people's addresses after the @, in
// the form that DNS and certificates use: lower-case letters, digits and
// hyphens (RFC 1123 section 2.1, RFC 5890 for A-labels), two labels or more.
func CheckDomain(domain string) error {
	wrong := func(fix, what string, args ...any) error {
		return &DomainError{Domain: domain, What: fmt.Sprintf(what, args...), Fix: fix}
	}
	switch {
	case domain == "":
		return wrong("write the part of your addresses after the @, for example example.org", "is empty")
	case strings.Contains(domain, "://"):
		return wrong("leave out the scheme and the path: example.org", "is an address of a web page")
	case strings.Contains(domain, "@"):
		return wrong("write only what follows the @: example.org", "is an address of a person")
	case strings.ContainsAny(domain, ":[]/"):
		return wrong("write the name alone: example.org", "has a port, a path or an IPv6 address in it")
	case strings.HasPrefix(domain, "*."):
		return wrong("write it without the *.: the names below it are known", "is a wildcard")
	case strings.HasSuffix(domain, "."):
		return wrong("write "+strings.TrimRight(domain, "."), "ends in a dot")
	case strings.ToLower(domain) != domain:
		return wrong("write "+strings.ToLower(domain), "has capital letters")
	case len(domain) > longestDomain:
		return wrong("", "has %d characters: admin.prose.DOMAIN must fit in 253, so %d are the most", len(domain), longestDomain)
	}
	labels := strings.Split(domain, ".")
	for _, label := range labels {
		switch {
		case label == "":
			return wrong("write one dot between two names", "has an empty name between two dots")
		case len(label) > 63:
			return wrong("", "has %q in it: %d characters, and 63 are the most between two dots", label, len(label))
		case label[0] == '-' || label[len(label)-1] == '-':
			return wrong("", "has %q in it, which begins or ends in a hyphen", label)
		case len(label) > 3 && label[2:4] == "--" && !strings.HasPrefix(label, "xn--"):
			return wrong("", "has %q in it: only xn-- names have two hyphens there", label)
		}
		for _, r := range label {
			switch {
			case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			case r > 127:
				return wrong("write it as DNS has it: `idn2 "+domain+"` prints the xn-- form", "has %q in it, which is not ASCII", r)
			case r == '_':
				return wrong("names of hosts have no underscore", "has %q in it", r)
			default:
				return wrong("letters, digits, hyphens and dots are what a domain has", "has %q in it", r)
			}
		}
	}
	last := labels[len(labels)-1]
	switch {
	case strings.Trim(domain, "0123456789.") == "":
		return wrong("write the domain that people's addresses will have", "is an IP address or a number")
	case len(labels) < 2:
		return wrong("write the whole domain, for example "+domain+".org", "has no dot")
	// Top-level domains are letters or A-labels, never more (RFC 1123 section
	// 2.1). It also keeps YAML from reading a name like 1.e5 as a number.
	case !strings.HasPrefix(last, "xn--") && strings.Trim(last, "abcdefghijklmnopqrstuvwxyz") != "":
		return wrong("", "ends in %q, which is no top-level domain", last)
	}
	return nil
}
