package pod

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"mellium.im/sasl"
	"mellium.im/xmlstream"
	"mellium.im/xmpp"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
	"mellium.im/xmpp/upload"
	"mellium.im/xmpp/websocket"
)

// certificate installs a new self-signed certificate for domain where Prosody
// looks, and returns its serial number.
func (p *pod) certificate(domain string) *big.Int {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p.must(err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	p.must(err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: domain}, DNSNames: []string{domain},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	p.must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	p.must(err)
	p.write("/etc/prosody/certs/"+domain+"/privkey.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	p.write("/etc/prosody/certs/"+domain+"/fullchain.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	p.own("/etc/prosody/certs/" + domain)
	return serial
}

// trust is a TLS configuration that trusts exactly the certificate installed
// for domain.
func (p *pod) trust(domain string) *tls.Config {
	p.t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(p.read("/etc/prosody/certs/" + domain + "/fullchain.pem"))) {
		p.t.Fatal("no certificate")
	}
	return &tls.Config{RootCAs: pool, ServerName: domain, MinVersion: tls.VersionTLS12}
}

// login opens a session over STARTTLS on 5222.
func (p *pod) login(ctx context.Context, user string) (*xmpp.Session, error) {
	address := net.JoinHostPort(p.address(p.containers["server"].last), "5222")
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return xmpp.NewClientSession(ctx, jid.MustParse(user+"@test.local"), conn,
		xmpp.StartTLS(p.trust("test.local")), xmpp.SASL("", password, sasl.ScramSha1), xmpp.BindResource())
}

func (p *pod) mustLogin(ctx context.Context, user string) *xmpp.Session {
	p.t.Helper()
	s, err := p.login(ctx, user)
	if err != nil {
		p.t.Fatalf("logging in as %s: %v", user, err)
	}
	return s
}

type message struct {
	stanza.Message
	Body string `xml:"body"`
}

// receive serves a session and hands over the bodies of messages.
func receive(s *xmpp.Session) <-chan string {
	bodies := make(chan string, 10)
	go s.Serve(xmpp.HandlerFunc(func(t xmlstream.TokenReadEncoder, start *xml.StartElement) error {
		if start.Name.Local != "message" {
			return nil
		}
		var m message
		if err := xml.NewTokenDecoder(xmlstream.MultiReader(xmlstream.Token(*start), t)).Decode(&m); err != nil {
			return err
		}
		if m.Body != "" {
			bodies <- m.From.Bare().String() + ": " + m.Body
		}
		return nil
	}))
	return bodies
}

// served returns the serial of the certificate that 5222 shows.
func (p *pod) served() (*big.Int, error) {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(p.address(p.containers["server"].last), "5222"), 5*time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	fmt.Fprint(conn, "<?xml version='1.0'?><stream:stream to='test.local' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>")
	for _, step := range []struct{ want, send string }{{"</stream:features>", "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"}, {"<proceed", ""}} {
		var seen bytes.Buffer
		for buf := make([]byte, 4096); !strings.Contains(seen.String(), step.want); {
			n, err := conn.Read(buf)
			if err != nil {
				return nil, fmt.Errorf("waiting for %s after %q: %w", step.want, seen.String(), err)
			}
			seen.Write(buf[:n])
		}
		fmt.Fprint(conn, step.send)
	}
	tc := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if err := tc.Handshake(); err != nil {
		return nil, err
	}
	return tc.ConnectionState().PeerCertificates[0].SerialNumber, nil
}

func (p *pod) wantServed(serial *big.Int) {
	p.t.Helper()
	p.await(5*time.Second, "the certificate", func() error {
		got, err := p.served()
		if err == nil && got.Cmp(serial) != 0 {
			err = fmt.Errorf("serial %v, want %v", got, serial)
		}
		return err
	})
}

func TestMessages(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := newPod(t)
	p.certificate("test.local")
	p.up()
	p.want(201, "PUT", "api", "/v1/init/first-account", firstAccount)
	p.addMember("bob")

	alice, bob := p.mustLogin(ctx, "alice"), p.mustLogin(ctx, "bob")
	defer alice.Conn().Close()
	defer bob.Conn().Close()
	bodies := receive(bob)
	receive(alice)
	p.must(bob.Send(ctx, stanza.Presence{Type: stanza.AvailablePresence}.Wrap(nil)))
	p.must(alice.Encode(ctx, message{Message: stanza.Message{To: bob.LocalAddr().Bare(), Type: stanza.ChatMessage}, Body: "hello"}))
	select {
	case got := <-bodies:
		if got != "alice@test.local: hello" {
			t.Errorf("received %q", got)
		}
	case <-ctx.Done():
		t.Fatal("no message")
	}

	t.Run("upload", func(t *testing.T) {
		content := bytes.Repeat([]byte("prose "), 1000)
		slot, err := upload.GetSlot(ctx, upload.File{Name: "a.txt", Size: len(content), Type: "text/plain"}, jid.MustParse("upload.prose.local"), alice)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(slot.PutURL.String(), "https://prose.test.local/upload/") {
			t.Errorf("slot %s", slot.PutURL)
		}
		// As the reverse proxy sends it on: the path kept, the host fixed.
		inside := func(method, path string, body io.Reader, host string) (int, []byte) {
			req, err := http.NewRequestWithContext(ctx, method, "http://"+net.JoinHostPort(p.address(p.containers["server"].last), "5280")+path, body)
			p.must(err)
			req.Host = host
			if body != nil {
				req.ContentLength = int64(len(content))
				req.Header = slot.Header.Clone()
				req.Header.Set("Content-Type", "text/plain")
			}
			res, err := web.Do(req)
			p.must(err)
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			p.must(err)
			return res.StatusCode, text
		}
		if status, _ := inside("PUT", slot.PutURL.RequestURI(), bytes.NewReader(content), "prose.test.local"); status != 404 {
			t.Errorf("PUT to another host: status %d", status)
		}
		if status, text := inside("PUT", slot.PutURL.RequestURI(), bytes.NewReader(content), "upload.prose.local"); status != 201 {
			t.Fatalf("PUT: status %d: %s", status, text)
		}
		if status, text := inside("GET", slot.GetURL.RequestURI(), nil, "upload.prose.local"); status != 200 || !bytes.Equal(text, content) {
			t.Errorf("GET: status %d, %d bytes", status, len(text))
		}
	})

	t.Run("websocket", func(t *testing.T) {
		conn, err := net.Dial("tcp", net.JoinHostPort(p.address(p.containers["server"].last), "5280"))
		p.must(err)
		defer conn.Close()
		s, err := websocket.NewClient(ctx, "wss://prose.test.local/", "wss://prose.test.local/xmpp-websocket", jid.MustParse("bob@test.local"), conn,
			xmpp.SASL("", password, sasl.ScramSha1), xmpp.BindResource())
		if err != nil {
			t.Fatal(err)
		}
		receive(s)
		p.must(s.Encode(ctx, message{Message: stanza.Message{To: bob.LocalAddr(), Type: stanza.ChatMessage}, Body: "over the web"}))
		select {
		case got := <-bodies:
			if got != "bob@test.local: over the web" {
				t.Errorf("received %q", got)
			}
		case <-ctx.Done():
			t.Fatal("no message")
		}
	})
}

func TestNewCertificateOnHangup(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	first := p.certificate("test.local")
	p.up()
	p.wantServed(first)
	second := p.certificate("test.local")
	p.wantServed(first) // nobody has told Prosody
	p.containers["server"].signal(syscall.SIGHUP)
	p.wantServed(second)
	p.want(200, "GET", "api", "/pod/version", "") // the full configuration is still there

	// After a bad prose.toml the server goes on and reloads nothing.
	third := p.certificate("test.local")
	p.write("/etc/prose/prose.toml", "[server")
	p.containers["server"].signal(syscall.SIGHUP)
	p.await(5*time.Second, "the misconfiguration", func() error {
		status, _, body := p.get("server", "/config-health")
		if status != 503 || !strings.Contains(body, `"code":"BAD_CONFIGURATION"`) {
			return fmt.Errorf("status %d: %s", status, body)
		}
		return nil
	})
	p.want(200, "GET", "server", "/health", "")
	p.want(503, "GET", "server", "/users-util/stats", "")
	time.Sleep(time.Second)
	p.wantServed(second)
	p.want(200, "GET", "api", "/pod/version", "")

	p.write("/etc/prose/prose.toml", minimal)
	p.containers["server"].signal(syscall.SIGHUP)
	p.wantServed(third)
	p.want(200, "GET", "server", "/config-health", "")
}

func TestNoLoginWithoutACertificate(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.up()
	if serial, err := p.served(); err == nil {
		t.Errorf("a certificate with serial %v is served, and there is none", serial)
	}
	// It comes later, as it does on a machine that waits for its DNS.
	serial := p.certificate("test.local")
	p.containers["server"].signal(syscall.SIGHUP)
	p.wantServed(serial)
}
