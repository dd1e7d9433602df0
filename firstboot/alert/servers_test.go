package alert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// The canaries: no error and no log may have them.
const (
	password = "c4nary-mail-p4ssword"
	token    = "T0K3Nc4nary"
	username = "machine@example.org"
	mailbox  = "owner.c4nary@example.net"
)

// pair is of an authority that this test's system trusts, for servers here.
var pair tls.Certificate

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "alert")
	if err != nil {
		log.Fatal(err)
	}
	if pair, err = trusted(dir); err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// trusted makes a certificate that is its own authority. Go reads the system's
// list where SSL_CERT_FILE says, once.
func trusted(dir string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	path := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return tls.Certificate{}, err
	}
	if err := os.Setenv("SSL_CERT_FILE", path); err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// A mailServer is one that wants STARTTLS and a login, unless told otherwise.
type mailServer struct {
	port int

	mu     sync.Mutex
	mails  []received
	hellos []string
	way    string // of logging in
	refuse string // recipients are refused with that
	ways   []string
}

type received struct {
	from, to string
	text     string
	login    string
	secret   bool // over TLS
}

func startMail(t *testing.T, change func(*smtp.Server, *mailServer)) *mailServer {
	t.Helper()
	s := &mailServer{ways: []string{sasl.Plain}}
	srv := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hellos = append(s.hellos, c.Hostname())
		return &session{s: s, c: c}, nil
	}))
	srv.Domain, srv.TLSConfig = "localhost", &tls.Config{Certificates: []tls.Certificate{pair}}
	srv.ErrorLog = log.New(io.Discard, "", 0)
	change(srv, s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return s
}

type session struct {
	s    *mailServer
	c    *smtp.Conn
	mail received
}

func (x *session) AuthMechanisms() []string { return x.s.ways }

func (x *session) Auth(way string) (sasl.Server, error) {
	check := func(name, pass string) error {
		x.s.mu.Lock()
		x.s.way = way
		x.s.mu.Unlock()
		if name != username || pass != password {
			// As real ones do: they repeat what was said.
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "no " + name + " with " + pass + " here"}
		}
		x.mail.login = name
		return nil
	}
	if way == sasl.Login {
		return &loginServer{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, name, pass string) error { return check(name, pass) }), nil
}

// loginServer is LOGIN, which has no RFC: two questions.
type loginServer struct {
	check func(name, pass string) error
	said  []string
}

func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	if response != nil {
		l.said = append(l.said, string(response))
	}
	switch len(l.said) {
	case 0:
		return []byte("Username:"), false, nil
	case 1:
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.said[0], l.said[1])
}

func (x *session) Mail(from string, _ *smtp.MailOptions) error {
	if len(x.s.ways) > 0 && x.mail.login == "" {
		return smtp.ErrAuthRequired
	}
	x.mail.from = from
	return nil
}

func (x *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if x.s.refuse != "" {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "<" + to + "> " + x.s.refuse}
	}
	x.mail.to = to
	return nil
}

func (x *session) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	x.mail.text = string(b)
	_, x.mail.secret = x.c.TLSConnectionState()
	x.s.mu.Lock()
	x.s.mails = append(x.s.mails, x.mail)
	x.s.mu.Unlock()
	return err
}

func (x *session) Reset()        {}
func (x *session) Logout() error { return nil }

// harmless fails on an error that gives anything away.
func harmless(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, canary := range []string{password, token, mailbox, username, "c4nary"} {
		if strings.Contains(err.Error(), canary) {
			t.Errorf("the error gives %s away: %v", canary, err)
		}
	}
	if errors.Unwrap(err) != nil {
		t.Errorf("the error wraps one that may give something away: %#v", err)
	}
}
