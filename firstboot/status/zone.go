package status

import (
	"fmt"
	"strings"
)

// Zone is a fragment of a zone file (RFC 1035 section 5) with the records that
// are not there as they should be. What is there instead stands in a comment
// below the record that replaces it. Without such records it is empty.
func Zone(s Status) string { return zone(open(s.Records)) }

// WholeZone is the same with every record.
func WholeZone(s Status) string { return zone(s.Records) }

// open gives the records that are not present, those that nothing waits for
// last.
func open(records []Record) []Record {
	var needed, optional []Record
	for _, r := range records {
		switch {
		case r.State == Present:
		case r.Optional:
			optional = append(optional, r)
		default:
			needed = append(needed, r)
		}
	}
	return append(needed, optional...)
}

// zone writes lines that begin in the first column: a space there would mean
// the name of the line above.
func zone(records []Record) string {
	var name, kind, ttl int
	for _, r := range records {
		name = max(name, len(zoneName(r.Name)))
		ttl = max(ttl, len(fmt.Sprint(r.TTL)))
		kind = max(kind, len(zoneName(r.Type))-1)
	}
	var b strings.Builder
	optional := false
	for _, r := range records {
		if r.Optional && !optional {
			b.WriteString("; Nothing waits for these:\n")
		}
		optional = r.Optional
		var line strings.Builder
		if r.Data == "" {
			line.WriteString("; ") // not for pasting as it is
		}
		fmt.Fprintf(&line, "%-*s %*d IN %-*s %s", name, zoneName(r.Name), ttl, r.TTL, kind, strings.TrimSuffix(zoneName(r.Type), "."), zoneData(r))
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
		if r.State == Wrong {
			for _, found := range r.Found {
				fmt.Fprintf(&b, "; found: %s\n", clean(found))
			}
		}
	}
	return b.String()
}

func zoneData(r Record) string {
	if r.Data != "" {
		return clean(r.Data)
	}
	if r.Hint != "" {
		return clean(r.Hint)
	}
	return "..."
}

// zoneName writes a name in full, with the last dot. What no host name has is
// escaped (RFC 1035 section 5.1).
func zoneName(name string) string {
	var b strings.Builder
	for _, c := range []byte(strings.TrimSuffix(name, ".")) {
		if c == '-' || c == '_' || c == '.' || c == '*' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\%03d`, c)
		}
	}
	return b.String() + "."
}

// host is a name as the forms of DNS providers want it: relative to the
// domain, @ for the domain itself.
func host(name, domain string) string {
	name, domain = strings.TrimSuffix(name, "."), strings.TrimSuffix(domain, ".")
	if strings.EqualFold(name, domain) {
		return "@"
	}
	if n := len(name) - len(domain) - 1; n > 0 && name[n] == '.' && strings.EqualFold(name[n+1:], domain) {
		return name[:n]
	}
	return name
}
