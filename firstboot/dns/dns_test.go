package dns

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func name(s string) dnsmessage.Name { return dnsmessage.MustNewName(s) }

// message is an answer about h.example. with these records.
func message(t testing.TB, h dnsmessage.Header, qtype dnsmessage.Type, answers ...dnsmessage.Resource) []byte {
	h.Response = true
	m := dnsmessage.Message{Header: h, Questions: []dnsmessage.Question{{Name: name("h.example."), Type: qtype, Class: dnsmessage.ClassINET}}, Answers: answers}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func record(owner string, kind dnsmessage.Type, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name(owner), Type: kind, Class: dnsmessage.ClassINET, TTL: 1}, Body: body}
}

func TestParse(t *testing.T) {
	a := func(owner string) dnsmessage.Resource {
		return record(owner, A, &dnsmessage.AResource{A: [4]byte{1, 2, 3, 4}})
	}
	alias := record("H.example.", dnsmessage.TypeCNAME, &dnsmessage.CNAMEResource{CNAME: name("x.example.")})
	caa := record("h.example.", CAA, &dnsmessage.UnknownResource{Type: CAA, Data: []byte("\x80\x05ISSUEca.example")})
	for _, c := range []struct {
		what    string
		message []byte
		kind    dnsmessage.Type
		want    Answer
		err     string
		cut     bool
	}{
		{what: "one", message: message(t, dnsmessage.Header{ID: 7}, A, a("h.example.")), kind: A, want: Answer{Exists: true, Addresses: []netip.Addr{netip.MustParseAddr("1.2.3.4")}}},
		{what: "alias", message: message(t, dnsmessage.Header{ID: 7}, A, alias, a("x.example.")), kind: A, want: Answer{Exists: true, Alias: "x.example", Addresses: []netip.Addr{netip.MustParseAddr("1.2.3.4")}}},
		{what: "somebody else's", message: message(t, dnsmessage.Header{ID: 7}, A, a("y.example.")), kind: A, want: Answer{Exists: true}},
		{what: "none", message: message(t, dnsmessage.Header{ID: 7, RCode: dnsmessage.RCodeNameError}, A), kind: A},
		{what: "CAA", message: message(t, dnsmessage.Header{ID: 7}, CAA, caa), kind: CAA, want: Answer{Exists: true, Properties: []Property{{true, "issue", "ca.example"}}}},
		{what: "CAA cut short", message: message(t, dnsmessage.Header{ID: 7}, CAA, record("h.example.", CAA, &dnsmessage.UnknownResource{Type: CAA, Data: []byte{0, 9, 'a'}})), kind: CAA, err: "cut short"},
		{what: "SRV", message: message(t, dnsmessage.Header{ID: 7}, SRV, record("h.example.", SRV, &dnsmessage.SRVResource{Priority: 1, Weight: 5, Port: 5222, Target: name("X.example.")})), kind: SRV, want: Answer{Exists: true, Services: []Service{{1, 5, 5222, "x.example"}}}},
		{what: "TXT of several strings", message: message(t, dnsmessage.Header{ID: 7}, TXT, record("h.example.", TXT, &dnsmessage.TXTResource{TXT: []string{"ca.example; ", "accounturi=x"}}), record("h.example.", TXT, &dnsmessage.TXTResource{TXT: []string{"y"}})), kind: TXT, want: Answer{Exists: true, Texts: []string{"ca.example; accounturi=x", "y"}}},
		{what: "failure", message: message(t, dnsmessage.Header{ID: 7, RCode: dnsmessage.RCodeServerFailure}, A), kind: A, err: "SERVFAIL for h.example A"},
		{what: "another id", message: message(t, dnsmessage.Header{ID: 8}, A, a("h.example.")), kind: A, err: errOther.Error()},
		{what: "another question", message: message(t, dnsmessage.Header{ID: 7}, AAAA), kind: A, err: errOther.Error()},
		{what: "truncated", message: message(t, dnsmessage.Header{ID: 7, Truncated: true}, A), kind: A, cut: true},
		{what: "nothing", message: nil, kind: A, err: "reading"},
	} {
		got, cut, err := parse(c.message, 7, "h.example", c.kind)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", c.what, err, c.err)
			}
			continue
		}
		if err != nil || cut != c.cut || got.Exists != c.want.Exists || got.Alias != c.want.Alias || !slices.Equal(got.Addresses, c.want.Addresses) || !slices.Equal(got.Properties, c.want.Properties) || !slices.Equal(got.Services, c.want.Services) || !slices.Equal(got.Texts, c.want.Texts) {
			t.Errorf("%s: %+v %v %v, want %+v", c.what, got, cut, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(message(f, dnsmessage.Header{ID: 7}, CAA, record("h.example.", CAA, &dnsmessage.UnknownResource{Type: CAA, Data: []byte("\x00\x05issueca")})))
	f.Add(message(f, dnsmessage.Header{ID: 7}, A, record("h.example.", dnsmessage.TypeCNAME, &dnsmessage.CNAMEResource{CNAME: name("h.example.")})))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kind := range []dnsmessage.Type{A, AAAA, CAA, SRV, TXT} {
			a, _, err := parse(b, 7, "h.example", kind)
			if err == nil && (kind != CAA && len(a.Properties) > 0 || kind != SRV && len(a.Services) > 0 || kind != TXT && len(a.Texts) > 0) || kind == CAA && len(a.Addresses) > 0 {
				t.Errorf("%+v", a)
			}
		}
	})
}

// A forged datagram is passed over, a truncated one leads to TCP, and a server
// that is silent to the next one.
func TestExchange(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	at := tcp.Addr().(*net.TCPAddr).AddrPort()
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	go func() {
		buf := make([]byte, 1500)
		n, from, err := udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		m.Unpack(buf[:n])
		udp.WriteToUDPAddrPort(message(t, dnsmessage.Header{ID: m.ID + 1}, A), from)
		udp.WriteToUDPAddrPort(message(t, dnsmessage.Header{ID: m.ID, Truncated: true}, A), from)
		c, err := tcp.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		n, _ = c.Read(buf)
		m.Unpack(buf[2:n])
		b := message(t, dnsmessage.Header{ID: m.ID}, A, record("h.example.", A, &dnsmessage.AResource{A: [4]byte{1, 2, 3, 4}}))
		c.Write(append([]byte{byte(len(b) >> 8), byte(len(b))}, b...))
	}()
	closed := netip.MustParseAddrPort("127.0.0.1:1")
	got, err := Client{[]netip.AddrPort{closed, at}}.Lookup(t.Context(), "h.example", A)
	if err != nil || len(got.Addresses) != 1 {
		t.Errorf("%+v %v", got, err)
	}
}

func TestSystem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	os.WriteFile(path, []byte("# x\nsearch a\nnameserver 127.0.0.53\nnameserver bad\nnameserver ::1\n"), 0o644)
	got, err := System(path)
	if err != nil || len(got) != 2 || got[0].String() != "127.0.0.53:53" || got[1].String() != "[::1]:53" {
		t.Errorf("%v %v", got, err)
	}
	os.WriteFile(path, nil, 0o644)
	if _, err := System(path); err == nil {
		t.Error("no name server is no error")
	}
}
