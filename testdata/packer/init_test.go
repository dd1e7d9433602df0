package packertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tag is the release that is made here. Of a module without a major version in its
// path Go takes v0 and v1 only.
const tag = "v1.8.7"

// "packer init" fetches what "make plugin" makes of a tagged commit, and refuses
// what is not what SHA256SUMS says.
func TestInit(t *testing.T) {
	release := t.TempDir()
	if err := makePlugin(tagged(t), release, "GOFLAGS=-buildvcs=true"); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.env = append(w.env, github(t, release)...)
	template := filepath.Join(top, "testdata/packer/demo.pkr.hcl")
	w.fails(nil, "validate", template) // there is no plugin
	if said := w.ok("init", template); !strings.Contains(said, "Installed plugin github.com/prose-im/prose "+tag) {
		t.Errorf("init says:\n%s", said)
	}
	installed := filepath.Join(w.plugins(), "github.com/prose-im/prose", "packer-plugin-prose_"+tag+"_x5.0_linux_amd64")
	if said := w.ok("plugins", "installed"); strings.TrimSpace(said) != installed {
		t.Errorf("installed:\n%s\nwant %s", said, installed)
	}
	// It is one file that needs nothing beside it: the agent is in it.
	w.ok("validate", template)

	sums := filepath.Join(release, "packer-plugin-prose_"+tag+"_SHA256SUMS")
	b, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sums, append([]byte(strings.Repeat("0", 64)), b[64:]...), 0o644); err != nil {
		t.Fatal(err)
	}
	other := newWorld(t)
	other.env = append(other.env, github(t, release)...)
	other.fails([]string{"Checksums"}, "init", template)
	if files := left(t, other.plugins()); files != nil {
		t.Errorf("installed in spite of its checksum: %q", files)
	}
}

// tagged is a clone of the sources as they are here, at a tagged commit.
func tagged(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script := `set -eu
git -C "$1" ls-files -z | tar -C "$1" --null --verbatim-files-from -T - -c | tar -x
git init -q .
git add -A
git -c user.name=test -c user.email=test@test.invalid commit -qm test
git tag "$2"
`
	cmd := exec.Command("sh", "-c", script, "sh", top, tag)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cloning the sources: %v\n%s", err, out)
	}
	return dir
}

// github serves the files in dir as a release of the plugin's repository, and
// returns the environment in which github.com is there: a proxy and its
// certificate. What is asked for is what Packer 1.11 asks.
func github(t *testing.T, dir string) (env []string) {
	t.Helper()
	const repository = "/prose-im/packer-plugin-prose"
	mux := http.NewServeMux()
	mux.HandleFunc("GET api.github.com/repos"+repository+"/git/matching-refs/tags", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode([]map[string]string{{"ref": "refs/tags/" + tag}})
	})
	mux.Handle("GET github.com"+repository+"/releases/download/"+tag+"/", http.StripPrefix(repository+"/releases/download/"+tag, http.FileServer(http.Dir(dir))))
	quiet := log.New(io.Discard, "", 0)
	site := httptest.NewUnstartedServer(mux)
	cert := certificate(t, "github.com", "api.github.com")
	site.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	site.Config.ErrorLog = quiet
	site.StartTLS()
	t.Cleanup(site.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
			return
		}
		far, err := net.Dial("tcp", site.Listener.Addr().String())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		near, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			far.Close()
			return
		}
		_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(far, near); far.Close() }()
		go func() { _, _ = io.Copy(near, far); near.Close() }()
	}))
	t.Cleanup(proxy.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"HTTPS_PROXY=" + proxy.URL, "https_proxy=" + proxy.URL, "NO_PROXY=", "no_proxy=", "SSL_CERT_FILE=" + ca, "PACKER_GITHUB_API_TOKEN="}
}

func certificate(t *testing.T, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
