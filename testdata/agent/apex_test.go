package agenttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/status"
	"github.com/prose-im/prose-image/testdata/machine"
)

// ownPair is a certificate of the domain by somebody else's authority, and the
// authority.
func ownPair(t testing.TB) (root, chain, key []byte) {
	t.Helper()
	now := time.Now()
	make := func(template, parent *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			by = k
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, k.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		return der, k
	}
	top := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "The owner's authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(100 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	rootDER, rootKey := make(top, top, nil)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(7), DNSNames: []string{domain}, NotBefore: top.NotBefore, NotAfter: now.Add(60 * 24 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leafDER, leafKey := make(leaf, top, rootKey)
	secret, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return block("CERTIFICATE", rootDER), block("CERTIFICATE", leafDER), block("PRIVATE KEY", secret)
}

// indented is PEM as a value in YAML.
func indented(text []byte) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n    ") + "\n"
}

// A machine whose domain leads to a website, in the three ways to go on.
func TestForeignApex(t *testing.T) {
	b := newBox(t)
	b.world.records(address, names[1:]...)
	b.world.records(elsewhere, domain)
	var redirects atomic.Bool
	var l net.Listener
	if err := machine.InNetwork(b.world.pid, func() (err error) { l, err = net.Listen("tcp", elsewhere+":80"); return err }); err != nil {
		t.Fatal(err)
	}
	website := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if redirects.Load() && strings.HasPrefix(r.URL.Path, "/.well-known/acme-challenge/") {
			http.Redirect(rw, r, "http://prose."+domain+r.URL.Path, http.StatusFound)
			return
		}
		fmt.Fprint(rw, "Welcome to our shop")
	})}
	go website.Serve(l)
	t.Cleanup(func() { website.Close() })

	signed := func(s status.Status) string {
		var names []string
		for _, c := range s.Certificates {
			if c.Signed {
				names = append(names, c.Name)
			}
		}
		return strings.Join(names, " ")
	}
	ordered := func(t *testing.T, want int) {
		t.Helper()
		if of, all := b.world.ordered(); all != want {
			t.Errorf("%d orders, want %d: %v", all, want, of)
		}
	}
	text, pairs := "", status.Status{}
	b.settings("")
	t.Run("a website", func(t *testing.T) {
		b.until(t, "the others are certified and the domain waits for its owner", func(s status.Status, code int) bool {
			pairs = s
			return code == 3 && signed(s) == strings.Join(names[1:], " ") && item(s, "apex").Progress == status.Owner && strings.Contains(fmt.Sprint(item(s, "apex").Ways), "accounturi=")
		})
		ordered(t, 3)
		if it := item(pairs, "dns"); strings.Contains(it.What, "wrong") {
			t.Errorf("the website is called wrong: %+v", it)
		}
		code, err := ask(b.world.visitor(), "GET", "http://"+address+"/", "")
		if code != 200 {
			t.Errorf("the page: %d, %v", code, err)
		}
		page, err := os.ReadFile(b.path("var/lib/prose-firstboot/www/status/index.html"))
		if err != nil || !strings.Contains(string(page), "location ^~ /.well-known/acme-challenge/ {") || !strings.Contains(string(page), "_validation-persist."+domain) {
			t.Errorf("the page lacks the ways: %v\n%s", err, page)
		}
		text = b.agent("status").out
		for _, line := range []string{"location ^~ /.well-known/acme-challenge/ { return 302 http://prose." + domain + "$request_uri; }", "RedirectMatch 302",
			"_validation-persist." + domain + ". 3600 IN TXT \"pebble.letsencrypt.org; accounturi=https://" + outside, "--apex-method own", "_xmpp-client._tcp." + domain + ".", "0 5 5222 prose." + domain + "."} {
			if !strings.Contains(text, line) {
				t.Errorf("the status lacks %s:\n%s", line, text)
			}
		}
	})
	t.Run("redirects", func(t *testing.T) {
		redirects.Store(true)
		b.until(t, "all are certified, and an app would not find us yet", func(s status.Status, code int) bool {
			return code == 3 && signed(s) == strings.Join(names, " ") && item(s, "apex").Progress == status.Done
		})
		b.world.mu.Lock()
		b.world.srv = []string{"_xmpp-client._tcp." + domain + ". 1 IN SRV 0 5 5222 prose." + domain + "."}
		b.world.mu.Unlock()
		b.ready(t)
		ordered(t, 4)
		if err := b.world.startTLS(); err != nil {
			t.Error(err)
		}
	})
	root, chain, key := ownPair(t)
	t.Run("own", func(t *testing.T) {
		redirects.Store(false)
		b.settings("apex:\n  method: own\n  chain: |\n" + indented(chain) + "  key: |\n" + indented(key))
		b.until(t, "the owner's certificate is shown", func(s status.Status, code int) bool {
			return code == 0 && item(s, "apex").Progress == status.Done && b.world.startTLS() != nil
		})
		b.world.roots.AppendCertsFromPEM(root)
		if err := b.world.startTLS(); err != nil {
			t.Error(err)
		}
		leaf, err := b.leaf("etc/letsencrypt/live/" + domain + "/fullchain.pem")
		if err != nil || leaf.SerialNumber.Int64() != 7 {
			t.Errorf("%v, %v", leaf, err)
		}
		to, err := os.Readlink(b.path("etc/letsencrypt/live/" + domain))
		if err != nil {
			t.Fatal(err)
		}
		b.secret(t, strings.Split(string(key), "\n")[1], "/etc/prose-firstboot.d/10-owner.yaml",
			path.Join("/etc/letsencrypt/live", to, "privkey.pem"), "/etc/prosody/certs/"+domain+"/privkey.pem")
		ordered(t, 4)
	})
	t.Run("TXT record", func(t *testing.T) {
		b.settings("apex:\n  method: dns-persist-01\n")
		var record status.Record
		b.until(t, "the record is asked for", func(s status.Status, code int) bool {
			for _, r := range s.Records {
				if r.Type == "TXT" {
					record = r
				}
			}
			return code == 2 && record.State == status.Missing && item(s, "apex").Progress == status.Owner
		})
		ordered(t, 4)
		var value string
		if err := json.Unmarshal([]byte(record.Data), &value); err != nil { // one string, quoted as JSON quotes
			t.Fatal(err)
		}
		b.world.post("/set-txt", map[string]any{"host": record.Name + ".", "value": value})
		b.ready(t)
		ordered(t, 5)
		leaf, err := b.leaf("etc/letsencrypt/live/" + domain + "/fullchain.pem")
		if err != nil || leaf.SerialNumber.Int64() == 7 {
			t.Errorf("%v, %v", leaf, err)
		}
		if err := b.world.startTLS(); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.Logf("the agent's part of it:\n%s", b.log.String()[max(0, b.log.Len()-8000):])
	}
}
