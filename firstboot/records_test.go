package firstboot

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/dns"
	"github.com/prose-im/prose-image/firstboot/preflight"
	"github.com/prose-im/prose-image/firstboot/status"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func TestWantedRecords(t *testing.T) {
	var at apex
	lines := func(federated bool, addresses ...string) []string {
		var out []string
		for _, r := range wantedRecords(domain, federated, addrs(addresses...), at) {
			line := fmt.Sprintf("%s %s %s", strings.TrimSuffix(r.Name, domain), r.Type, or(r.Data, r.Hint))
			if r.Optional {
				line = "(" + line + ")"
			}
			out = append(out, line)
		}
		return out
	}
	at = apex{elsewhere: true}
	elsewhere := lines(true, "1.2.3.4")
	at = apex{away: true, persist: true}
	early := lines(false, "1.2.3.4")
	at.issuer = preflight.Issuer{Names: []string{"ca.example"}, Account: "https://ca.example/1"}
	persist := lines(false, "1.2.3.4")
	at = apex{}
	for _, c := range []struct{ got, want []string }{
		{elsewhere, []string{"prose. A 1.2.3.4", "admin.prose. CNAME prose.example.org.", "( A 1.2.3.4)", "groups. CNAME prose.example.org.",
			"_xmpp-client._tcp. SRV 0 5 5222 prose.example.org.", "_xmpp-server._tcp. SRV 0 5 5269 prose.example.org.",
			"(_xmpp-server._tcp.groups. SRV 0 5 5269 prose.example.org.)"}},
		{early[2:3], []string{"_validation-persist. TXT known once the machine has an account at the authority"}},
		{persist, []string{"prose. A 1.2.3.4", "admin.prose. CNAME prose.example.org.", `_validation-persist. TXT "ca.example; accounturi=https://ca.example/1"`,
			"(groups. CNAME prose.example.org.)", "_xmpp-client._tcp. SRV 0 5 5222 prose.example.org."}},
		{lines(false, "1.2.3.4", "2a01::1", "5.6.7.8"), []string{"prose. A 1.2.3.4", "prose. AAAA 2a01::1", "admin.prose. CNAME prose.example.org.",
			" A 1.2.3.4", " AAAA 2a01::1", "(groups. CNAME prose.example.org.)", "(_xmpp-client._tcp. SRV 0 5 5222 prose.example.org.)"}},
		{lines(true, "1.2.3.4"), []string{"prose. A 1.2.3.4", "admin.prose. CNAME prose.example.org.", " A 1.2.3.4", "groups. CNAME prose.example.org.",
			"(_xmpp-client._tcp. SRV 0 5 5222 prose.example.org.)", "(_xmpp-server._tcp. SRV 0 5 5269 prose.example.org.)",
			"(_xmpp-server._tcp.groups. SRV 0 5 5269 prose.example.org.)"}},
		{lines(false)[:1], []string{"prose. A the machine's public address"}},
		{lines(false, "10.0.0.2", "fec0::1", "fd00::1")[:1], []string{"prose. A the machine's public address; its own network knows it as 10.0.0.2"}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(c.got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

func TestJudgeRecords(t *testing.T) {
	a := status.Record{Name: "prose." + domain, Type: "A", Data: "1.2.3.4"}
	six := status.Record{Name: a.Name, Type: "AAAA", Data: "2a01::1"}
	alias := status.Record{Name: a.Name, Type: "CNAME", Data: "x."}
	srv := status.Record{Name: "_xmpp-client._tcp." + domain, Type: "SRV", Data: "0 5 5222 prose.example.org."}
	foreign := []preflight.Finding{{Kind: preflight.Foreign, Type: "A", Found: []string{"5.6.7.8"}}}
	for _, c := range []struct {
		name   string
		record status.Record
		answer answer
		look   []preflight.Finding
		want   status.RecordState
		found  string
	}{
		{"ours", a, answer{Addresses: addrs("1.2.3.4")}, nil, status.Present, ""},
		{"translated: nobody knows better", a, answer{Addresses: addrs("9.9.9.9")}, nil, status.Present, ""},
		{"none", a, answer{}, nil, status.Missing, ""},
		{"no answer", a, answer{Failed: true}, nil, status.Unknown, ""},
		{"another machine answers", a, answer{Addresses: addrs("5.6.7.8")}, foreign, status.Wrong, "5.6.7.8"},
		{"it was wrong and is gone", a, answer{}, foreign, status.Missing, ""},
		{"ours and another", a, answer{Addresses: addrs("1.2.3.4", "5.6.7.8")}, nil, status.Wrong, "1.2.3.4 5.6.7.8"},
		{"only the other family", six, answer{Addresses: addrs("1.2.3.4")}, nil, status.Missing, ""},
		{"the other family's fault", six, answer{Addresses: addrs("1.2.3.4", "2a01::1")}, foreign, status.Present, ""},
		{"an alias that leads to somebody", alias, answer{Addresses: addrs("5.6.7.8")}, foreign, status.Wrong, "5.6.7.8"},
		{"an address does for an alias", alias, answer{Addresses: addrs("1.2.3.4")}, nil, status.Present, ""},
		{"a service", srv, answer{Services: []dns.Service{{Priority: 10, Weight: 1, Port: 5222, Target: "prose.example.org"}}}, nil, status.Present, ""},
		{"another service", srv, answer{Services: []dns.Service{{Port: 5223, Target: "prose.example.org"}}}, nil, status.Wrong, "0 0 5223 prose.example.org."},
		{"no service", srv, answer{}, nil, status.Missing, ""},
	} {
		certs := certificate.Observed{c.record.Name: {Record: certificate.Record{Preflight: preflight.Result{Findings: c.look}}}}
		got := judgeRecords([]status.Record{c.record}, map[string]answer{c.record.Name: c.answer}, addrs("1.2.3.4", "2a01::1"), certs, t0)[0]
		if got.State != c.want || strings.Join(got.Found, " ") != c.found {
			t.Errorf("%s: %s %q, want %s %q", c.name, got.State, got.Found, c.want, c.found)
		}
	}
	// A CAA record in the way is listed, once.
	caa := preflight.Finding{Name: domain, Kind: preflight.Forbidden, Found: []string{`issue "x"`}, Wanted: domain + `. 3600 IN CAA 0 issue "ca.example"`}
	certs := certificate.Observed{}
	for _, h := range []string{domain, "prose." + domain} {
		certs[h] = certificate.State{Record: certificate.Record{Preflight: preflight.Result{Findings: []preflight.Finding{caa}}}}
	}
	got := judgeRecords(nil, nil, nil, certs, t0)
	if len(got) != 1 || got[0].Type != "CAA" || got[0].Data != `0 issue "ca.example"` || got[0].State != status.Wrong {
		t.Errorf("%+v", got)
	}
	// The TXT record is judged as the authority judges it.
	issuer := &preflight.Issuer{Names: []string{"ca.example"}, Account: "https://ca.example/1"}
	txt := status.Record{Name: preflight.PersistLabel + domain, Type: "TXT"}
	right := preflight.PersistValue(*issuer)
	for _, c := range []struct {
		name   string
		answer answer
		issuer *preflight.Issuer
		want   status.RecordState
		found  string
	}{
		{"right", answer{Texts: []string{"x", right}}, issuer, status.Present, ""},
		{"none", answer{}, issuer, status.Missing, ""},
		{"no answer", answer{Failed: true}, issuer, status.Unknown, ""},
		{"no account", answer{Texts: []string{right}}, nil, status.Unknown, ""},
		{"another's", answer{Texts: []string{right + `"1`}}, issuer, status.Wrong, `"ca.example; accounturi=https://ca.example/1\"1"`},
	} {
		certs := certificate.Observed{domain: {Record: certificate.Record{Issuer: c.issuer}}}
		got := judgeRecords([]status.Record{txt}, map[string]answer{txt.Name: c.answer}, nil, certs, t0)[0]
		if got.State != c.want || strings.Join(got.Found, " ") != c.found {
			t.Errorf("TXT, %s: %s %q, want %s %q", c.name, got.State, got.Found, c.want, c.found)
		}
	}
}
