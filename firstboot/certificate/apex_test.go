package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/preflight"
)

// website is somebody else's web server, at another address. With redirect, it
// sends on what the owner is told to send on.
type website struct{ redirect bool }

func (w *world) website() *website {
	s := &website{}
	server := &http.Server{Addr: fmt.Sprintf("127.0.0.2:%d", w.http), Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if s.redirect && strings.HasPrefix(r.URL.Path, "/.well-known/acme-challenge/") {
			http.Redirect(rw, r, fmt.Sprintf("http://prose.%s:%d%s", domain, w.http, r.URL.Path), http.StatusFound)
			return
		}
		http.NotFound(rw, r)
	})}
	go server.ListenAndServe()
	w.t.Cleanup(func() { server.Close() })
	return s
}

func (w *world) apex(m Method) {
	w.keeper.Settings.Names = Names(domain, false)
	w.keeper.Settings.Names[0].Method = m
}

func TestForeignApexByRedirect(t *testing.T) {
	w := newWorld(t)
	w.rightDNS()
	w.address(domain, "a", "127.0.0.2")
	site := w.website()
	t.Log(w.settle())
	// The other three do not wait, and nothing is spent for the domain.
	for host, st := range w.observe() {
		if st.Live.Signed == (host == domain) {
			t.Errorf("%s: signed is %v", host, st.Live.Signed)
		}
	}
	r := w.observe()[domain].Record
	if n := w.proxy.count(); n != 3 || !r.Preflight.Elsewhere() || r.Preflight.Delegated || len(r.Tries) != 0 {
		t.Errorf("%d orders, %+v", n, r)
	}
	// What the owner may paste instead is known already.
	if r.Issuer == nil || !strings.HasPrefix(preflight.PersistValue(*r.Issuer), "pebble.letsencrypt.org; accounturi=https://") {
		t.Errorf("issuer %+v", r.Issuer)
	}
	site.redirect = true
	w.clock += time.Minute
	t.Log(w.settle())
	w.good()
	if r := w.observe()[domain].Record; !r.Preflight.Delegated || w.proxy.count() != 4 || r.Lost != 0 {
		t.Errorf("%d orders, %+v", w.proxy.count(), r)
	}
}

func (w *world) txt(values ...string) {
	w.set("/clear-txt", map[string]any{"host": "_validation-persist." + domain + "."})
	for _, v := range values {
		w.set("/set-txt", map[string]any{"host": "_validation-persist." + domain + ".", "value": v})
	}
}

func TestForeignApexByTXT(t *testing.T) {
	w := newWorld(t)
	w.apex(DNSPersist01)
	w.rightDNS()
	w.address(domain, "a") // nobody asks for it
	w.settle()
	st := w.observe()[domain]
	if n := w.proxy.count(); n != 3 || st.Live.Signed || st.Record.Issuer == nil {
		t.Fatalf("%d orders, %+v", n, st.Record)
	}
	right := preflight.PersistValue(*st.Record.Issuer)
	t.Log(right)
	f := st.Record.Preflight.Findings
	if len(f) != 1 || f[0].Kind != preflight.Unpersisted || f[0].Wanted != "_validation-persist."+domain+`. 3600 IN TXT "`+right+`"` {
		t.Errorf("%+v", f)
	}
	for _, wrong := range []string{
		"", `"` + right + `"`, right + "0", right + "; persistUntil=1000000000", "other.example; accounturi=https://other.example/1", strings.Split(right, ";")[0],
	} {
		if w.txt(); wrong != "" {
			w.txt(wrong)
		}
		w.clock += time.Minute
		if done := w.settle(); !slices.Equal(done, []string{"check " + domain}) {
			t.Errorf("%q: %v", wrong, done)
		}
		t.Log(w.observe()[domain].Record.Preflight.Findings[0].Why)
	}
	// A CAA record that wants another method.
	w.set("/add-caa", map[string]any{"host": domain, "policies": []map[string]string{{"tag": "issue", "value": "pebble.letsencrypt.org; validationmethods=http-01"}}})
	w.txt(right)
	w.clock += time.Minute
	w.settle()
	if f := w.observe()[domain].Record.Preflight.Findings; len(f) != 1 || f[0].Kind != preflight.Forbidden {
		t.Errorf("CAA: %+v", f)
	}
	if n := w.proxy.count(); n != 3 {
		t.Errorf("%d orders while the record was wrong", n)
	}
	w.set("/clear-caa", map[string]any{"host": domain})
	w.set("/add-caa", map[string]any{"host": domain, "policies": []map[string]string{{"tag": "issue", "value": right}}})
	w.txt("v=spf1 -all", right)
	w.clock += time.Minute
	w.settle()
	w.good()
	if r := w.observe()[domain].Record; w.proxy.count() != 4 || r.Lost != 0 || r.Issued == nil {
		t.Errorf("%d orders, %+v", w.proxy.count(), r)
	}
	// The account is lost: the record is for the old one, and costs nothing.
	w.amnesia()
	if err := w.keeper.Renew(domain); err != nil {
		t.Fatal(err)
	}
	w.clock += time.Minute
	for range 3 {
		w.settle()
		w.clock += 15 * time.Minute
	}
	r := w.observe()[domain].Record
	if fresh := preflight.PersistValue(*r.Issuer); fresh == right || r.Lost != 0 || len(r.Preflight.Findings) != 2 || !strings.Contains(r.Preflight.Findings[1].Why, "for the account") {
		t.Errorf("after the account was lost: %+v", r)
	}
	w.txt(preflight.PersistValue(*r.Issuer))
	w.set("/clear-caa", map[string]any{"host": domain})
	w.clock += time.Minute
	w.settle()
	w.good()
	if r := w.observe()[domain].Record; r.Renew || len(r.Tries) != 3 {
		t.Errorf("%+v", r)
	}
}

// An authority that does not offer the challenge shows it with the first order
// for any name. Then nothing is ordered for the domain.
func TestTXTNotOffered(t *testing.T) {
	w := newWorld(t)
	w.apex(DNSPersist01)
	w.rightDNS()
	w.proxy.rewrite = func(path string, body []byte) []byte {
		return []byte(strings.ReplaceAll(string(body), `"dns-persist-01"`, `"dns-persist-99"`))
	}
	w.settle()
	w.clock += time.Minute
	w.settle()
	r := w.observe()[domain].Record
	if len(r.Preflight.Findings) != 1 || r.Preflight.Findings[0].Kind != preflight.Unoffered || w.proxy.count() != 3 {
		t.Errorf("%d orders, %+v", w.proxy.count(), r)
	}
	t.Log(r.Preflight.Findings)
	// Nothing is known any more, and the record is there: one order tells.
	dirs, _ := filepath.Glob(w.keeper.Paths.State + "/*/offer.json")
	if len(dirs) != 1 || os.Remove(dirs[0]) != nil {
		t.Fatal(dirs)
	}
	w.txt(preflight.PersistValue(*r.Issuer))
	w.clock += time.Minute
	for range 4 {
		w.settle()
		w.clock += time.Hour
	}
	if r := w.observe()[domain].Record; w.proxy.count() != 4 || r.Lost != 0 || r.Order != nil || r.Preflight.Findings[0].Kind != preflight.Unoffered {
		t.Errorf("%d orders, %+v", w.proxy.count(), r)
	}
	// A week later it may offer it.
	w.proxy.rewrite = nil
	w.clock += 8 * day
	w.settle()
	if st := w.observe()[domain]; !st.Live.Signed || len(st.Record.Tries) != 2 {
		t.Errorf("%+v", st.Record)
	}
}

// ownPair makes a pair of another authority, with any serial.
func ownPair(t *testing.T, serial int64, from time.Time, life time.Duration, names ...string) OwnPair {
	t.Helper()
	key := func() (*ecdsa.PrivateKey, []byte) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return k, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	}
	caKey, _ := key()
	leafKey, leafPEM := key()
	top := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Own authority"}, IsCA: true, BasicConstraintsValid: true}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, NotBefore: from, NotAfter: from.Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, leaf, top, leafKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	return OwnPair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), leafPEM}
}

func TestForeignApexByOwnPair(t *testing.T) {
	w := newWorld(t)
	w.rightDNS()
	w.address(domain, "a")
	give := func(p OwnPair) {
		w.apex(Owned)
		w.keeper.Settings.Own = p
		if p.Covers("groups." + domain) {
			w.keeper.Settings.Names[1].Method = Owned
		}
	}
	give(ownPair(t, 7, time.Now().Add(-time.Hour), 30*day, domain))
	t.Log(w.settle())
	w.good()
	shown := func() string {
		c, err := tls.Dial("tcp", w.keeper.Ports.HTTPS.String(), &tls.Config{ServerName: domain, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return fingerprint(c.ConnectionState().PeerCertificates[0])
	}
	first := w.observe()[domain]
	if !first.Live.Own || first.Live.Serial != "7" || shown() != first.Live.print || first.XMPP.print != first.Live.print || w.proxy.count() != 3 {
		t.Errorf("%+v, %d orders", first, w.proxy.count())
	}
	// A new one takes effect, though its authority counts to one.
	give(ownPair(t, 7, time.Now().Add(-time.Hour), 60*day, domain, "groups."+domain))
	t.Log(w.settle())
	w.good()
	second := w.observe()
	if second[domain].Live.print == first.Live.print || shown() != second[domain].Live.print || !second["groups."+domain].Live.Own {
		t.Errorf("%+v", second)
	}
	// One for another name changes nothing for the domain; its rooms are ordered
	// as usual.
	give(ownPair(t, 8, time.Now().Add(-time.Hour), 60*day, "www."+domain))
	w.settle()
	if st := w.observe()[domain]; st.Live.print != second[domain].Live.print || !strings.Contains(st.OwnWhy, domain) || len(st.Record.Tries) != 0 || w.proxy.count() != 4 {
		t.Errorf("%+v, %d orders", st, w.proxy.count())
	}
	// At its end it stays until there is another; never an order.
	give(ownPair(t, 9, time.Now().Add(-2*day), day, domain))
	w.clock += 61 * day
	w.settle()
	if st := w.observe()[domain]; st.Live.print != second[domain].Live.print || len(st.Record.Tries) != 0 {
		t.Errorf("%+v", st)
	}
	w.clock = 0
	give(ownPair(t, 10, time.Now().Add(-time.Hour), 60*day, domain))
	w.settle()
	// And the way back.
	w.apex(HTTP01)
	w.address(domain, "a", "127.0.0.1")
	w.settle()
	w.good()
	if st := w.observe()[domain]; st.Live.Own || len(st.Record.Tries) != 1 {
		t.Errorf("%+v", st)
	}
	self, key, err := SelfSigned([]string{domain}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if (OwnPair{self, key}).Covers(domain) {
		t.Error("a self-signed one is taken")
	}
	if s := fmt.Sprintf("%v %+v %#v %s", OwnPair{Key: []byte("secret")}, Settings{Own: OwnPair{Key: []byte("secret")}}, OwnPair{Key: []byte("secret")}, OwnPair{Key: []byte("secret")}); strings.Contains(s, "secret") || strings.Contains(s, "115 101") {
		t.Errorf("the key is shown: %s", s)
	}
}
