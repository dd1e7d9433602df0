package firstboot

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/alert"
	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/engine"
	"github.com/prose-im/prose-image/firstboot/settings"
	"github.com/prose-im/prose-image/firstboot/status"
)

// keyPair is a certificate of the domain with its key, in PEM.
func keyPair(t *testing.T) (chain, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{domain}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", b)
}

// An engine whose containers' logs have what must not get out.
func chatty(t *testing.T, log string) *engine.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case strings.HasSuffix(path, "/version"):
			io.WriteString(w, `{"Version":"26.1.5","ApiVersion":"1.45"}`)
		case strings.HasSuffix(path, "/containers/json"):
			io.WriteString(w, `[{"Id":"abc"}]`)
		case strings.HasSuffix(path, "/abc/json"):
			io.WriteString(w, `{"Id":"abc","Name":"/prose-api-1","State":{"Status":"running"}}`)
		case strings.HasSuffix(path, "/abc/logs"):
			w.Header().Set("Content-Type", "application/vnd.docker.raw-stream")
			io.WriteString(w, log)
		default:
			http.NotFound(w, r)
		}
	})}}
	s.Start()
	t.Cleanup(s.Close)
	return engine.New(socket)
}

func TestSupport(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("it needs root")
	}
	chain, key := keyPair(t)
	_, orderKey := keyPair(t)
	hook := "https://hooks.example.com/c4naryHook/T0ken?key=c4naryQuery"
	secrets := map[string]string{
		"smtp.password": `c4nary pass"w/rd+1`, "admin.password": "c4nary-admin-password", "acme.eab.hmac": base64.RawURLEncoding.EncodeToString([]byte("c4nary-hmac-of-an-account")),
		"apex.key": key, "alerts.webhook": hook,
	}
	for _, k := range settings.Keys {
		if k.Secret && secrets[k.Name] == "" {
			t.Errorf("no canary for %s", k.Name)
		}
	}
	said := map[string]any{
		"domain":  domain,
		"smtp":    map[string]any{"host": "smtp.example.org", "username": "me@example.org", "password": secrets["smtp.password"]},
		"admin":   map[string]any{"username": "alice", "password": secrets["admin.password"]},
		"acme":    map[string]any{"eab": map[string]any{"kid": "kid-1", "hmac": secrets["acme.eab.hmac"]}},
		"apex":    map[string]any{"method": "own", "chain": chain, "key": key},
		"alerts":  map[string]any{"webhook": hook, "mail": "owner@example.net"},
		"company": "Example & Sons",
	}
	var logs strings.Builder
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		fmt.Fprintf(&logs, "I was told %s, in quotes %q, in base64 %s\n", secrets[name], secrets[name], base64.StdEncoding.EncodeToString([]byte(secrets[name])))
	}
	const claim = "AAAAAGmFZ40x9QZk2n8T0cJm3bVYq1oWpEo5rS7uHdLfGyXa6NvKtRiCjBPzMwQeDlUhOg"
	fmt.Fprintf(&logs, "GET https://admin.prose.example.org/claim/%s 200\nAuthorization: Bearer c4nary-bearer\nCookie: __Host-prose-claim=c4nary-cookie\ninvitation_token: \"c4nary-invitation\"\nalice@example.org has joined\nposting to https://old.example/c4naryOldHook\n", claim)

	now := t0
	m := &machine{at: t.TempDir(), clock: func() time.Time { return now }, engine: chatty(t, logs.String())}
	m.paths = certificate.Paths{State: m.path(stateDir + "/acme"), Live: m.path("/etc/letsencrypt")}
	write := func(path string, v any) {
		t.Helper()
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(m.path(filepath.Dir(path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.path(path), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("/etc/prose-firstboot.d/10-owner.json", said)
	write(statePath, state{Schema: 1, Domain: domain})
	write(statusPath, status.Status{Schema: 1, State: status.Ready, Domain: domain, At: now, Items: []status.Item{{Key: itemPod, Title: title(itemPod), Progress: status.Done, What: "It says " + secrets["admin.password"] + "."}}})
	write(answersPath, rememberedAnswers{now, nil, map[string]answer{domain: {Addresses: addrs("192.0.2.77")}}})
	write(stateDir+"/acme/names/"+domain+".json", certificate.Record{Host: domain, Order: &certificate.Order{URL: "https://ca.example/order/7", Key: orderKey}})
	write(alertsPath, alert.Memory{Schema: 1, To: alert.To{Webhook: alert.Webhook{URL: "https://old.example/c4naryOldHook"}}})

	out := filepath.Join(t.TempDir(), "bundle.tar.gz")
	var stdout, stderr bytes.Buffer
	code := support(t.Context(), &call{[]string{"-o", out}, nil, &stdout, &stderr, m})
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	if info, err := os.Stat(out); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v: %v", info.Mode(), err)
	}
	files := unpack(t, out)
	if len(files) < 11 {
		t.Errorf("only %q are in it", slices.Sorted(maps.Keys(files)))
	}
	for name, want := range map[string]string{
		"status.txt": "ready: example.org is ready.", "status.json": `"schema":1`, "dns.json": "192.0.2.77", "certificates.json": "https://ca.example/order/7",
		"versions.txt": "engine 26.1.5", "df.txt": "%", "containers.txt": "prose-api-1: running", "logs/prose-api-1.txt": "alice@example.org has joined",
		"settings.txt": `smtp.password: *** (/etc/prose-firstboot.d/10-owner.json`, "nginx.txt": "", "journal.txt": "",
	} {
		text, ok := files["prose-support-example.org-20260314T092653Z/"+name]
		if !ok || !strings.Contains(text, want) {
			t.Errorf("%s has no %q:\n%s", name, want, text)
		}
		if !strings.Contains(stdout.String(), "  "+name+" ") {
			t.Errorf("nobody is told of %s:\n%s", name, stdout.String())
		}
	}
	if !strings.Contains(stdout.String(), "Look at it before you send it") {
		t.Errorf("nobody is told to look at it:\n%s", stdout.String())
	}
	canaries := []string{"c4nary", claim, "PRIVATE KEY", "hooks.example.com"}
	for _, k := range []string{key, orderKey} {
		canaries = append(canaries, strings.Split(k, "\n")[1], base64.StdEncoding.EncodeToString([]byte(k))[:80])
	}
	for _, s := range secrets {
		canaries = append(canaries, base64.RawStdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)))
	}
	for name, text := range files {
		for _, c := range canaries {
			if strings.Contains(text, c) {
				t.Errorf("%s has %s:\n%s", name, c, text)
			}
		}
	}

	// Not by the redactor alone.
	set, report := settings.Load(m.at)
	for _, l := range settings.Shown(&set, report) {
		if secrets[l.Key] != "" && l.Value != "***" {
			t.Errorf("%s is shown", l.Key)
		}
	}
	if text, err := m.records(); err != nil || strings.Contains(text, "PRIVATE KEY") {
		t.Errorf("%v: %s", err, text)
	}

	// What is there is left alone.
	if err := os.Truncate(out, 0); err != nil {
		t.Fatal(err)
	}
	if code := support(t.Context(), &call{[]string{"-o", out}, nil, &stdout, &stderr, m}); code != 1 || !strings.Contains(stderr.String(), "exists") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	if info, err := os.Stat(out); err != nil || info.Size() != 0 {
		t.Errorf("what was there is overwritten: %v", err)
	}
}

// unpack reads a bundle with another program's eyes.
func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if h.Mode != 0o600 || h.Uid != 0 {
				t.Errorf("%s has mode %o and owner %d", h.Name, h.Mode, h.Uid)
			}
			files[h.Name] = string(b)
		}
	}
}
