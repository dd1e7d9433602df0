package scenario

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/boot"
)

// signed is a certificate that signs itself, and who trusts it.
func signed(t *testing.T, serial int64, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func listen(t *testing.T, port string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(Address, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// xmppServer offers STARTTLS with what certificate points to, or not.
func xmppServer(l net.Listener, certificate *tls.Certificate, offer bool) {
	talk := func(c net.Conn) {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		r := bufio.NewReader(c)
		until := func(end string) bool {
			for seen := ""; !strings.HasSuffix(seen, end); {
				b, err := r.ReadByte()
				if err != nil {
					return false
				}
				seen += string(b)
			}
			return true
		}
		if !until("version='1.0'>") {
			return
		}
		features := ""
		if offer {
			features = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
		}
		fmt.Fprintf(c, "<stream:stream id='1'><stream:features>%s</stream:features>", features)
		if !until("xmpp-tls'/>") {
			return
		}
		io.WriteString(c, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*certificate}})
		if s.Handshake() == nil {
			_, _ = io.Copy(io.Discard, s)
		}
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go talk(c)
	}
}

func fails(t *testing.T, what, want string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: error %v, want %q", what, err, want)
	}
}

// The outside sees what a machine at Address would show it, and only that.
func TestOutside(t *testing.T) {
	if !inNetwork(t) {
		return
	}
	ctx := t.Context()
	if err := network(ctx); err != nil {
		t.Fatal(err)
	}
	s := defaults()
	certificate, pool := signed(t, 1, s.Domain, "prose."+s.Domain, "admin.prose."+s.Domain, "groups."+s.Domain)
	r := &run{Scenario: s, config: Config{Accel: boot.KVM}, outside: newOutside(pool), saved: map[string]string{}}

	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Host", r.Host)
		body, _ := io.ReadAll(r.Body)
		cookie := ""
		if c, err := r.Cookie("claim"); err == nil {
			cookie = c.Value
		}
		fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Header.Get("Content-Type"), body, cookie)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://else.example/", http.StatusMovedPermanently)
	})
	plain, https := &http.Server{Handler: mux}, &http.Server{Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	go plain.Serve(listen(t, "80"))
	go https.ServeTLS(listen(t, "443"), "", "")
	t.Cleanup(func() { plain.Close(); https.Close() })

	do := func(line string) error {
		step, _, err := parseStep(line)
		if err != nil {
			t.Fatal(err)
		}
		return r.step(ctx, step)
	}
	r.replace = replacer(s, "")
	r.outside.cookies = []*http.Cookie{{Name: "claim", Value: "mine"}}
	for _, line := range []string{
		`http 200 GET https://prose.{domain}/ header X-Host "^prose\.chat\.example$" body ^GET`,
		`http 200 PUT https://{domain}/ send '{"a":1}' claimed body "^PUT application/json {.a.:1} mine$"`,
		`http 301 GET http://{domain}/moved`,
		`redirects http://{domain}/moved https://else.example/`,
	} {
		if err := do(line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	fails(t, "status", "status 200: GET", do(`http 404 GET https://{domain}/`))
	fails(t, "header", `header X-Host: there is no "prose"`, do(`http 200 GET http://{domain}/ header X-Host prose`))
	fails(t, "body", `there is no "POST"`, do(`http 200 GET http://{domain}/ body POST`))
	fails(t, "no cookie unless asked", "there is no", do(`http 200 GET http://{domain}/ body mine`))
	fails(t, "another name", "certificate is valid for", do(`http 200 GET https://other.example/`))
	fails(t, "redirect to elsewhere", `Location "https://else.example/"`, do(`redirects http://{domain}/moved https://{domain}/`))
	fails(t, "within", "still: status 200", do(`within 1s http 404 GET http://{domain}/`))
	_, other := signed(t, 2, s.Domain)
	fails(t, "another authority", "unknown authority", doHTTP(ctx, &run{outside: newOutside(other)}, []string{"200", "GET", "https://" + s.Domain + "/"}))

	// 8080 is silent, 8081 is not.
	quiet := listen(t, "8080")
	go func() {
		for {
			if _, err := quiet.Accept(); err != nil {
				return
			}
		}
	}()
	go plain.Serve(listen(t, "8081"))
	if err := doClosed(ctx, r, []string{"8080"}); err != nil {
		t.Error(err)
	}
	fails(t, "open port", "port 8081 answers", doClosed(ctx, r, []string{"8080", "8081"}))
	fails(t, "no way to the port", "connection refused", doClosed(ctx, r, []string{"5280"}))

	go xmppServer(listen(t, "5222"), &certificate, true)
	if err := do("starttls {domain}"); err != nil {
		t.Error(err)
	}
	fails(t, "another name over XMPP", "certificate is valid for", do("starttls other.example"))
	_, err := (&outside{roots: other}).startTLS(ctx, s.Domain, (&outside{roots: other}).trust(s.Domain))
	fails(t, "another authority over XMPP", "unknown authority", err)

	// Serials: the same, then others.
	fails(t, "nothing remembered", "no step before", do("same-serials"))
	before, err := r.serials(ctx)
	if err != nil || len(before) != 5 {
		t.Fatal(before, err)
	}
	for at, serial := range before {
		r.saved["serial."+at] = serial
	}
	if err := do("same-serials"); err != nil {
		t.Error(err)
	}
	fails(t, "no new serial", "still serves 1", do("new-serial {domain}"))
	for _, at := range []string{s.Domain + ":443", "prose." + s.Domain + ":443"} {
		r.saved["serial."+at] = "f"
	}
	if err := do("new-serial prose.{domain}"); err != nil {
		t.Error(err)
	}
	fails(t, "Prosody has the old one", ":5222 still serves", do("new-serial {domain}"))
	fails(t, "other serials", "before it was f", do("same-serials"))
	renewed, _ := signed(t, 3, s.Domain)
	certificate = renewed // NGINX has the old one in its configuration
	fails(t, "two serials", "NGINX serves 1, Prosody 3", do("new-serial {domain}"))
}

func TestNoSTARTTLS(t *testing.T) {
	if !inNetwork(t) {
		return
	}
	if err := network(context.Background()); err != nil {
		t.Fatal(err)
	}
	go xmppServer(listen(t, "5222"), nil, false)
	_, err := newOutside(nil).startTLS(t.Context(), "x", &tls.Config{InsecureSkipVerify: true})
	fails(t, "no STARTTLS", "offers no STARTTLS", err)
}
