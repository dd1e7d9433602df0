package scenario

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// An authority is Pebble behind a proxy that counts orders and can fail.
type authority struct {
	CA    string         // PEM: who signed the certificate of the ACME server itself
	Roots *x509.CertPool // of the certificates that it issues
	root  string         // the same, as PEM

	mu     sync.Mutex
	orders []order
	down   bool

	finalizing func(name string) // set before the machine is there; may be nil
}

// An order is a request for a certificate.
type order struct {
	Names []string
	at    string // path of its URL
}

// newAuthority starts Pebble and what stands before it.
func newAuthority(w *world) (*authority, error) {
	fail := func(err error) (*authority, error) { return nil, fmt.Errorf("starting the authority: %w", err) }
	a := &authority{}
	ca, chain, key, err := serverCertificate()
	if err != nil {
		return fail(err)
	}
	a.CA = string(ca)
	chainFile, keyFile, configFile := filepath.Join(w.dir, "acme.pem"), filepath.Join(w.dir, "acme.key"), filepath.Join(w.dir, "pebble.json")
	// Pebble's config.go has the keys.
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": pebbleAddress, "managementListenAddress": pebbleManagement,
		"certificate": chainFile, "privateKey": keyFile,
		"httpPort": 80, "tlsPort": 443, "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		// One: of more, Pebble draws one by lot for who asks for none.
		"profiles": map[string]any{"default": map[string]any{"description": "ninety days", "validityPeriod": 90 * 86400}},
	}})
	if err != nil {
		return fail(err)
	}
	for name, content := range map[string][]byte{chainFile: chain, keyFile: key, configFile: config} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			return fail(err)
		}
	}
	env := []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0"}
	if err := w.start("pebble", env, "-config", configFile, "-dnsserver", dnsAddress); err != nil {
		return nil, err
	}
	own := x509.NewCertPool()
	own.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: own}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: pebbleAddress}) // keeps the Host, from which Pebble makes its URLs
	proxy.Transport = transport
	proxy.ModifyResponse = func(res *http.Response) error { a.answered(res); return nil }
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	front := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { a.pass(rw, r, proxy) }), ErrorLog: log.New(io.Discard, "", 0)}
	if err := w.serve("the authority", acmeAddress, front, chainFile, keyFile); err != nil {
		return nil, err
	}
	if err := listening(w.ctx, "the authority", pebbleManagement); err != nil {
		return nil, err
	}
	if err := listening(w.ctx, "the authority", pebbleAddress); err != nil {
		return nil, err
	}
	// Pebble makes a new root at each start.
	if a.root, err = get(w.ctx, &http.Client{Transport: transport}, "https://"+pebbleManagement+"/roots/0"); err != nil {
		return fail(err)
	}
	a.Roots = x509.NewCertPool()
	if !a.Roots.AppendCertsFromPEM([]byte(a.root)) {
		return fail(fmt.Errorf("its root is no certificate"))
	}
	return a, nil
}

func (a *authority) pass(rw http.ResponseWriter, r *http.Request, pebble http.Handler) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r = r.WithContext(context.WithValue(r.Context(), bodyOf{}, body))
	a.mu.Lock()
	down := a.down
	a.mu.Unlock()
	if down {
		// RFC 8555 section 6.7 and RFC 7807.
		rw.Header().Set("Content-Type", "application/problem+json")
		rw.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(rw, `{"type":"urn:ietf:params:acme:error:serverInternal","detail":"down for maintenance","status":503}`)
		return
	}
	a.asked(r.URL.Path)
	pebble.ServeHTTP(rw, r)
}

// asked tells of orders that are finalized.
func (a *authority) asked(path string) {
	id, ok := strings.CutPrefix(path, "/finalize-order/") // Pebble's; the order itself is at /my-order/
	if !ok || a.finalizing == nil {
		return
	}
	for _, o := range a.seen() {
		if strings.TrimPrefix(o.at, "/my-order/") == id {
			for _, name := range o.Names {
				a.finalizing(name)
			}
		}
	}
}

// bodyOf is the key of a request's body in its context.
type bodyOf struct{}

// answered counts the orders that Pebble has taken: what it refuses costs
// nobody anything.
func (a *authority) answered(res *http.Response) {
	if res.Request.URL.Path != "/order-plz" || res.StatusCode != http.StatusCreated { // Pebble's path of newOrder
		return
	}
	body, _ := res.Request.Context().Value(bodyOf{}).([]byte)
	a.mu.Lock()
	defer a.mu.Unlock()
	o := orderIn(body)
	if at, err := res.Location(); err == nil {
		o.at = at.Path
	}
	a.orders = append(a.orders, o)
}

// orderIn reads a signed newOrder, RFC 8555 sections 6.2 and 7.4.
func orderIn(jws []byte) order {
	var outer struct {
		Payload string `json:"payload"`
	}
	var inner struct {
		Identifiers []struct {
			Value string `json:"value"`
		} `json:"identifiers"`
	}
	_ = json.Unmarshal(jws, &outer)
	data, _ := base64.RawURLEncoding.DecodeString(outer.Payload)
	_ = json.Unmarshal(data, &inner)
	var o order
	for _, i := range inner.Identifiers {
		o.Names = append(o.Names, i.Value)
	}
	return o
}

// seen are the orders so far.
func (a *authority) seen() []order {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]order(nil), a.orders...)
}

func (a *authority) setDown(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
}

// serverCertificate makes a certificate for the addresses of the ACME server,
// and who signed it, as PEM.
func serverCertificate() (ca, chain, key []byte, err error) {
	now := time.Now()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	top := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Scenario"},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(10 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, top, top, caKey.Public(), caKey)
	if err != nil {
		return nil, nil, nil, err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "ACME server"},
		NotBefore: top.NotBefore, NotAfter: top.NotAfter,
		IPAddresses: []net.IP{net.IPv4(10, 0, 2, 2), net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, top, leafKey.Public(), caKey)
	if err != nil {
		return nil, nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		return nil, nil, nil, err
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return block("CERTIFICATE", caDER), block("CERTIFICATE", leafDER), block("PRIVATE KEY", secret), nil
}

// get fetches a small text.
func get(ctx context.Context, c *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s", url, res.Status)
	}
	return string(body), err
}
