package preflight

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/dns"
)

func TestReachable(t *testing.T) {
	s := Settings{Allow: []netip.Prefix{netip.MustParsePrefix("192.168.7.0/24")}}
	local := []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.1.1")}
	for address, want := range map[string]bool{
		"1.1.1.1": true, "2606:4700::1": true, "10.1.2.3": true, "192.168.7.9": true,
		"10.1.2.4": false, "192.168.8.1": false, "127.0.0.1": false, "::1": false, "169.254.169.254": false, "169.254.1.1": false,
		"fd00:ec2::254": false, "fe80::1": false, "100.100.100.200": false, "0.0.0.0": false, "224.0.0.1": false,
		"::ffff:127.0.0.1": false, "64:ff9b::7f00:1": false, "2001:db8::1": false,
	} {
		if got := s.reachable(netip.MustParseAddr(address), local); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

func TestJudge(t *testing.T) {
	ours := Issuer{[]string{"ca.example"}, "https://ca.example/acct/1", ""}
	issue := func(v string) []dns.Property { return []dns.Property{{Tag: "issue", Value: v}} }
	for _, c := range []struct {
		set  []dns.Property
		want string
	}{
		{issue("ca.example"), ""},
		{issue(" CA.example ; accounturi=https://ca.example/acct/1; validationmethods=dns-01,http-01"), ""},
		{issue("ca.example; accounturi=https://ca.example/acct/2"), "for the account"},
		{issue("ca.example; validationmethods=dns-01"), "method http-01"},
		{issue(";"), "do not allow ca.example"},
		{issue("other.example"), "do not allow ca.example"},
		{append(issue("other.example"), issue("ca.example")...), ""},
		{[]dns.Property{{Tag: "iodef", Value: "mailto:x"}}, ""},
		{[]dns.Property{{Tag: "issuewild", Value: ";"}}, ""},
		{issue("ca.example; validationmethods=http-01"), ""},
		{append(issue("ca.example"), dns.Property{Critical: true, Tag: "tbs"}), "critical"},
		{[]dns.Property{{Critical: true, Tag: "tbs"}}, "critical"},
	} {
		if got := judge(c.set, ours); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%v: %q, want %q", c.set, got, c.want)
		}
	}
	persist := ours
	persist.Method = "dns-persist-01"
	if got := judge(issue("ca.example; validationmethods=http-01"), persist); !strings.Contains(got, "method dns-persist-01") {
		t.Errorf("another method: %q", got)
	}
}

// Redirects are followed as an authority follows them, and not into the
// machine's own network.
func TestRedirects(t *testing.T) {
	webroot := t.TempDir()
	var to func(r *http.Request) string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u := to(r); u != "" {
			http.Redirect(w, r, u, http.StatusFound)
			return
		}
		data, err := os.ReadFile(filepath.Join(webroot, filepath.Base(r.URL.Path)))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Write(data)
	}))
	defer server.Close()
	u, _ := url.Parse(server.URL)
	at := netip.MustParseAddrPort(u.Host)
	s := Settings{Webroot: webroot, HTTPPort: at.Port(), Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/24")}}
	for _, c := range []struct {
		what, want string
		to         func(*http.Request) string
	}{
		{"none", "", func(*http.Request) string { return "" }},
		{"once", "", func(r *http.Request) string {
			if r.URL.Query().Has("x") {
				return ""
			}
			return server.URL + r.URL.Path + "?x"
		}},
		{"for ever", "more than 5", func(r *http.Request) string { return server.URL + r.URL.Path }},
		{"another port", "not on port 80 or 443", func(r *http.Request) string { return "http://127.0.0.1:22/" }},
		{"another scheme", "not on port 80 or 443", func(r *http.Request) string { return "ftp://127.0.0.1/" }},
		{"metadata", "special-purpose", func(r *http.Request) string { return "http://169.254.169.254:" + u.Port() + "/" }},
		{"loopback", "special-purpose", func(r *http.Request) string { return "http://127.0.1.1:" + u.Port() + "/" }},
		{"elsewhere", "not ours", func(r *http.Request) string { return "" }},
	} {
		to = c.to
		n, err := s.serve()
		if err != nil {
			t.Fatal(err)
		}
		if c.what == "elsewhere" {
			os.WriteFile(n.file, []byte(strings.Repeat("x", 4096)), 0o644)
		}
		redirected, err := s.fetch(t.Context(), "h.example", at.Addr(), n, nil)
		n.remove()
		var other *otherAnswer
		if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &other) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
		if want := c.what != "none" && c.what != "elsewhere"; redirected != want && err == nil {
			t.Errorf("%s: redirected is %v", c.what, redirected)
		}
	}
	// A killed run's nonce goes with the next.
	old := filepath.Join(webroot, prefix+"old")
	os.WriteFile(old, nil, 0o644)
	os.Chtimes(old, time.Time{}, time.Now().Add(-2*time.Hour))
	if n, err := s.serve(); err != nil {
		t.Fatal(err)
	} else {
		n.remove()
	}
	if left, _ := os.ReadDir(webroot); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// An address that is ours but cannot be reached from here lacks only a proof.
func TestSoft(t *testing.T) {
	for _, c := range []struct {
		kinds []Kind
		want  bool
	}{{nil, false}, {[]Kind{Unproven}, true}, {[]Kind{Unproven, Foreign}, false}, {[]Kind{Foreign}, false}} {
		var r Result
		for _, k := range c.kinds {
			r.Findings = append(r.Findings, Finding{Kind: k})
		}
		if r.Soft() != c.want {
			t.Errorf("%v: %v", c.kinds, r.Soft())
		}
	}
}
