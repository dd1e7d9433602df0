package cloudinit

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckDomain(t *testing.T) {
	long := strings.Repeat("a", 63)
	tests := []struct {
		domain, what, hint string // what: empty when the domain is good
	}{
		{"example.org", "", ""},
		{"chat.example.co.uk", "", ""},
		{"xn--bcher-kva.example", "", ""},
		{"example.xn--p1ai", "", ""},
		{"3com.net", "", ""},
		{"a-b.c--d.example", "", ""},
		{"1.2.3.example", "", ""},
		{long + ".org", "", ""},
		{strings.Repeat("a.", 119) + "org", "", ""}, // 241 characters
		{strings.Repeat("a.", 118) + "info.org", `has 244 characters`, ""},
		{"", "is empty", "example.org"},
		{"localhost", "has no dot", "localhost.org"},
		{"Example.org", "capital", "write example.org"},
		{"example.org.", "ends in a dot", "write example.org"},
		{".example.org", "empty name", "one dot"},
		{"a..org", "empty name", "one dot"},
		{"-a.org", "hyphen", ""},
		{"a-.org", "hyphen", ""},
		{"ab--c.org", "two hyphens", ""},
		{"a_b.org", `'_'`, "underscore"},
		{"bücher.example", `'ü'`, "idn2 bücher.example"},
		{"a b.org", `' '`, ""},
		{"a.org\nx", `'\n'`, ""},
		{long + "a.org", "64 characters", ""},
		{"*.example.org", "wildcard", "without"},
		{"https://example.org/", "web page", "scheme"},
		{"me@example.org", "person", "follows the @"},
		{"example.org:443", "port", ""},
		{"192.0.2.1", "IP address", "people's addresses"},
		{"2001:db8::1", "IPv6", ""},
		{"1.e5", "top-level", ""},
		{"example.o-g", "top-level", ""},
		{"42", "number", ""},
	}
	for _, tt := range tests {
		err := CheckDomain(tt.domain)
		if tt.what == "" {
			if err != nil {
				t.Errorf("CheckDomain(%q) = %v", tt.domain, err)
			}
			continue
		}
		var e *DomainError
		if !errors.As(err, &e) {
			t.Errorf("CheckDomain(%q) = %v, want a DomainError with %q", tt.domain, err, tt.what)
			continue
		}
		if !strings.Contains(e.Error(), tt.what) || !strings.Contains(e.Hint(), tt.hint) {
			t.Errorf("CheckDomain(%q): error %q, hint %q; want %q and %q", tt.domain, e, e.Hint(), tt.what, tt.hint)
		}
	}
}

// FuzzCheckDomain: whatever is let through is safe to paste into YAML, TOML, a
// shell and a path.
func FuzzCheckDomain(f *testing.F) {
	for _, s := range []string{"example.org", "a_b", "xn--a.b", "..", "-", "é.org"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if CheckDomain(s) != nil {
			return
		}
		if strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || strings.Contains(s, "..") ||
			s[0] == '-' || s[0] == '.' || len(s) > 241 || !strings.Contains(s, ".") {
			t.Errorf("CheckDomain(%q) = nil", s)
		}
	})
}
