package preflight

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var (
	ca  = Issuer{[]string{"ca.example", "ca.example.net"}, "https://ca.example/acct/1", "dns-persist-01"}
	now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
)

// What Pebble 2.10 takes and refuses (its va.go) is taken and refused here.
func TestPersisted(t *testing.T) {
	const right = "ca.example; accounturi=https://ca.example/acct/1"
	for _, c := range []struct {
		texts []string
		want  string
	}{
		{[]string{right}, ""},
		{[]string{PersistValue(ca)}, ""},
		{[]string{"ca.example;accounturi=https://ca.example/acct/1;policy=wildcard"}, ""},
		{[]string{" \tca.example.net ; AccountURI = https://ca.example/acct/1 ; persistUntil = 1780315201 "}, ""},
		{[]string{"v=spf1 -all", "other.example; accounturi=https://other.example/7", right}, ""},
		{[]string{"ca.example; accounturi=https://ca.example/acct/2", right}, ""},
		{[]string{"ca.example", right}, ""},
		{nil, "no such TXT record"},
		{[]string{"other.example; accounturi=https://ca.example/acct/1"}, `for "other.example"`},
		{[]string{"ca.example; accounturi=https://ca.example/acct/2", "other.example"}, "for the account https://ca.example/acct/2"},
		{[]string{"ca.example"}, "names no account"},
		{[]string{"ca.example; accounturi="}, "names no account"},
		{[]string{right + ";"}, "semicolon too many"},
		{[]string{right + "; x"}, "no tag"},
		{[]string{right + "; accounturi=https://ca.example/acct/1"}, "accounturi twice"},
		{[]string{`"` + right + `"`}, "quotation marks"},
		{[]string{`\"` + right + `\"`}, "quotation marks"},
		{[]string{`ca.example; accounturi="https://ca.example/acct/1"`}, "quotation marks"},
		{[]string{"“" + right + "”"}, "quotation marks"},
		{[]string{"CA.example; accounturi=https://ca.example/acct/1"}, `names "CA.example"`},
		{[]string{"ca.example; accounturi=https://ca.example/ acct/1"}, "space"},
		{[]string{right + "; persistUntil=1780315200"}, "has ended on 1 June 2026"},
		{[]string{right + "; persistuntil=-1"}, "has ended"},
		{[]string{right + "; persistUntil=soon"}, "seconds since 1970"},
		{[]string{right + "; persistUntil="}, "seconds since 1970"},
		{[]string{""}, `for ""`},
	} {
		if got := Persisted(c.texts, ca, now); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%q: %q, want %q", c.texts, got, c.want)
		}
	}
	if got := Persisted([]string{right}, Issuer{Account: ca.Account}, now); got == "" {
		t.Error("an issuer without a name may sign")
	}
}

func TestTXTData(t *testing.T) {
	long := strings.Repeat("x", 300)
	for text, want := range map[string]string{
		"":            `""`,
		"a; b":        `"a; b"`,
		`say "x" \ y`: `"say \"x\" \\ y"`,
		long:          `"` + long[:255] + `" "` + long[255:] + `"`,
		long[:255]:    `"` + long[:255] + `"`,
	} {
		if got := TXTData(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
		// Another reader of zones reads the text again.
		rr, err := dns.NewRR("x.example. 3600 IN TXT " + TXTData(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if got := strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(strings.Join(rr.(*dns.TXT).Txt, "")); got != text {
			t.Errorf("%q is read as %q", text, got)
		}
	}
}

func FuzzPersisted(f *testing.F) {
	f.Add("ca.example; accounturi=https://ca.example/acct/1; persistUntil=1780315201")
	f.Add(`"ca.example; accounturi=x`)
	f.Fuzz(func(t *testing.T, text string) {
		why := Persisted([]string{text}, ca, now)
		if why == "" && (!strings.Contains(text, ca.Account) || !strings.Contains(text, "ca.example")) {
			t.Errorf("%q lets us", text)
		}
		// Nothing beside it takes a right record's force.
		if why := Persisted([]string{text, PersistValue(ca)}, ca, now); why != "" {
			t.Errorf("beside %q: %s", text, why)
		}
	})
}
