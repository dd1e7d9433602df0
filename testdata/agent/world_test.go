package agenttest

import (
	"bufio"
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
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/prose-im/prose-image/testdata/machine"
)

// The addresses belong to somebody else, which does not matter: they exist in
// our namespaces only, and the agent takes them for public.
const (
	address   = "1.2.3.4" // the machine's
	elsewhere = "1.2.3.5" // another machine's, where nobody answers
	outside   = "1.2.3.1" // where the authority and the name server are

	acmeAddress      = outside + ":14000" // ours, before Pebble
	pebbleAddress    = outside + ":14001" // never asked by the agent
	pebbleManagement = outside + ":15000" // its root
	dnsManagement    = outside + ":8055"  // challtestsrv's
	behind           = outside + ":5353"  // where that answers, but for services
	domain           = "example.org"      // of the machine
	directory        = "https://" + acmeAddress + "/dir"
)

var names = []string{domain, "groups." + domain, "prose." + domain, "admin.prose." + domain}

// A world is what is around a machine: a network with an ACME authority and a
// name server, from which the machine is seen as by everybody.
type world struct {
	t     testing.TB
	tools string // directory of Pebble's programs
	pid   int    // whose network it is
	ca    string
	roots *x509.CertPool

	mu     sync.Mutex
	orders []string // the name of each order that the authority has made
	at     []string // and the end of its URL
	srv    []string // lines of a zone: challtestsrv has no services
	later  int      // requests after the last of them
	pass   *httputil.ReverseProxy

	onOrder    func(name string) // before the agent hears of its order; may be nil
	finalizing func(name string) // before an order is finalized; may be nil
}

// newWorld starts one. Programs are in the directory tools.
func newWorld(t testing.TB, tools string) *world {
	t.Helper()
	w := &world{t: t, tools: tools}
	holder := exec.Command("sh", "-c", "ip link set lo up && echo ready && read end || true")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatalf("making a network: %v", err)
	}
	t.Cleanup(func() { stdin.Close(); holder.Wait() })
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("making a network: %v", err)
	}
	w.pid = holder.Process.Pid
	for _, a := range []string{outside + "/32", elsewhere + "/32"} {
		w.ip("address", "add", a, "dev", "lo")
	}

	dir := t.TempDir()
	w.start(dir, "pebble-challtestsrv", nil, "-dnsserver", behind, "-management", dnsManagement,
		"-defaultIPv4", "", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "")
	ca, chain, key := serverCertificate(t)
	w.ca = string(ca)
	file := func(name string, content []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	chainFile, keyFile := file("acme.pem", chain), file("acme.key", key)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": pebbleAddress, "managementListenAddress": pebbleManagement,
		"certificate": chainFile, "privateKey": keyFile,
		"httpPort": 80, "tlsPort": 443, "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 0}, // seconds: a machine has other things to wait for
		"profiles":   map[string]any{"default": map[string]any{"description": "ninety days", "validityPeriod": 90 * 86400}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.listening("the name server", dnsManagement)
	w.nameServer()
	w.start(dir, "pebble", []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0"}, "-config", file("pebble.json", config), "-dnsserver", outside+":53")
	w.listening("the authority", pebbleAddress)
	w.listening("the authority's management", pebbleManagement)

	own := x509.NewCertPool()
	own.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: own}, DialContext: machine.Dialer(w.pid)}
	w.pass = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: pebbleAddress}) // keeps the Host, from which Pebble makes its URLs
	w.pass.Transport, w.pass.ErrorLog = transport, log.New(io.Discard, "", 0)
	var l net.Listener
	if err := machine.InNetwork(w.pid, func() (err error) { l, err = net.Listen("tcp", acmeAddress); return err }); err != nil {
		t.Fatal(err)
	}
	front := &http.Server{Handler: w, ErrorLog: log.New(io.Discard, "", 0)}
	go front.ServeTLS(l, chainFile, keyFile)
	t.Cleanup(func() { front.Close() })

	// Pebble makes a new root at each start.
	res, err := (&http.Client{Transport: transport}).Get("https://" + pebbleManagement + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	root, err := io.ReadAll(res.Body)
	w.roots = x509.NewCertPool()
	if err != nil || !w.roots.AppendCertsFromPEM(root) {
		t.Fatalf("the authority's root is no certificate: %v", err)
	}
	return w
}

// nameServer answers for services and passes everything else on.
func (w *world) nameServer() {
	w.t.Helper()
	handler := dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg)
		answer.SetReply(q)
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeSRV {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, line := range w.srv {
				if rr, err := dns.NewRR(line); err == nil && strings.EqualFold(rr.Header().Name, q.Question[0].Name) {
					answer.Answer = append(answer.Answer, rr)
				}
			}
		} else if conn, err := machine.Dialer(w.pid)(context.Background(), "udp", behind); err == nil {
			defer conn.Close()
			if got, _, err := new(dns.Client).ExchangeWithConn(q, &dns.Conn{Conn: conn}); err == nil {
				answer = got
			} else {
				answer.Rcode = dns.RcodeServerFailure
			}
		}
		rw.WriteMsg(answer)
	})
	var udp net.PacketConn
	var tcp net.Listener
	err := machine.InNetwork(w.pid, func() (err error) {
		if udp, err = net.ListenPacket("udp", outside+":53"); err == nil {
			tcp, err = net.Listen("tcp", outside+":53")
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: handler}, {Listener: tcp, Handler: handler}} {
		go s.ActivateAndServe()
		w.t.Cleanup(func() { s.Shutdown() })
	}
}

// mail is a mail server that says yes to everything: the API does not start
// without one.
func (w *world) mail(name string) {
	w.t.Helper()
	w.records(outside, name)
	var l net.Listener
	if err := machine.InNetwork(w.pid, func() (err error) { l, err = net.Listen("tcp", outside+":587"); return err }); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "220 %s ESMTP\r\n", name)
				for lines := bufio.NewScanner(c); lines.Scan() && !strings.HasPrefix(lines.Text(), "QUIT"); {
					fmt.Fprint(c, "250 of course\r\n")
				}
				fmt.Fprint(c, "221 bye\r\n")
			}()
		}
	}()
}

// ip is a command about the network outside.
func (w *world) ip(args ...string) {
	w.t.Helper()
	if out, err := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(w.pid), "-n", "ip"}, args...)...).CombinedOutput(); err != nil {
		w.t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// start starts a program of the world.
func (w *world) start(dir, name string, env []string, args ...string) {
	w.t.Helper()
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(w.pid), "-n", filepath.Join(w.tools, name)}, args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
	})
}

// listening waits until something takes connections.
func (w *world) listening(what, at string) {
	w.t.Helper()
	for begin := time.Now(); time.Since(begin) < 30*time.Second; time.Sleep(20 * time.Millisecond) {
		if c, err := machine.Dialer(w.pid)(w.t.Context(), "tcp", at); err == nil {
			c.Close()
			return
		}
	}
	w.t.Fatalf("waiting for %s to listen on %s: 30 s are over", what, at)
}

// ServeHTTP is the authority as the machine sees it: Pebble, with its orders
// counted once it has made them.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if id, ok := strings.CutPrefix(r.URL.Path, "/finalize-order/"); ok && w.finalizing != nil { // Pebble's path
		w.mu.Lock()
		if i := slices.Index(w.at, id); i >= 0 {
			w.finalizing(w.orders[i])
		}
		w.mu.Unlock()
	}
	pass := *w.pass
	if r.Method == http.MethodPost {
		w.mu.Lock()
		w.later++
		w.mu.Unlock()
	}
	pass.ModifyResponse = func(res *http.Response) error {
		switch { // Pebble's paths
		case r.URL.Path == "/order-plz" && res.StatusCode == http.StatusCreated:
			w.mu.Lock()
			w.orders, w.later = append(w.orders, nameIn(body)), 0
			w.at = append(w.at, path.Base(res.Header.Get("Location")))
			w.mu.Unlock()
			if w.onOrder != nil {
				w.onOrder(nameIn(body))
			}
		case strings.HasPrefix(r.URL.Path, "/finalize-order/") && res.Header.Get("Retry-After") == "":
			res.Header.Set("Retry-After", "0") // it signs within milliseconds, and cannot be configured to say so
		}
		return nil
	}
	pass.ServeHTTP(rw, r)
}

// nameIn is the name in a signed newOrder, RFC 8555 sections 6.2 and 7.4.
func nameIn(jws []byte) string {
	var outer struct{ Payload string }
	var inner struct{ Identifiers []struct{ Value string } }
	json.Unmarshal(jws, &outer)
	data, _ := base64.RawURLEncoding.DecodeString(outer.Payload)
	json.Unmarshal(data, &inner)
	var all []string
	for _, i := range inner.Identifiers {
		all = append(all, i.Value)
	}
	return strings.Join(all, "+")
}

// ordered is how many orders there were for each name, and in all.
func (w *world) ordered() (of map[string]int, all int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	of = map[string]int{}
	for _, n := range w.orders {
		of[n]++
	}
	return of, len(w.orders)
}

// since is how many requests there were after the last order, besides those for
// nonces.
func (w *world) since() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.later
}

// records replaces the addresses of names; none removes them.
func (w *world) records(to string, names ...string) {
	w.t.Helper()
	for _, n := range names {
		w.post("/clear-a", map[string]any{"host": n})
		if to != "" {
			w.post("/add-a", map[string]any{"host": n, "addresses": []string{to}})
		}
	}
}

// post tells challtestsrv something.
func (w *world) post(path string, body any) {
	w.t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: machine.Dialer(w.pid)}}
	data, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := client.Post("http://"+dnsManagement+path, "application/json", bytes.NewReader(data))
	if err != nil {
		w.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		w.t.Fatalf("telling the name server %s: %s", path, res.Status)
	}
}

// serverCertificate makes a certificate for the ACME server, and who signed it.
func serverCertificate(t testing.TB) (ca, chain, key []byte) {
	t.Helper()
	now := time.Now()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	top := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test"},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(10 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, top, top, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "ACME server"},
		NotBefore: top.NotBefore, NotAfter: top.NotAfter, IPAddresses: []net.IP{net.ParseIP(outside)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, top, leafKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return block("CERTIFICATE", caDER), block("CERTIFICATE", leafDER), block("PRIVATE KEY", secret)
}

// A visitor looks at the machine from outside, and trusts the authority alone.
func (w *world) visitor() *http.Client { return w.visitorAt(address) }

// startTLS negotiates TLS on port 5222, RFC 6120 section 5.
func (w *world) startTLS() error {
	conn, err := machine.Dialer(w.pid)(w.t.Context(), "tcp", address+":5222")
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(15 * time.Second))
	fmt.Fprintf(conn, "<?xml version='1.0'?><stream:stream to='%s' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>", domain)
	for _, step := range []struct{ want, send string }{
		{"</stream:features>", "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"}, {"<proceed", ""},
	} {
		var seen bytes.Buffer
		for buf := make([]byte, 4096); !strings.Contains(seen.String(), step.want); {
			n, err := conn.Read(buf)
			seen.Write(buf[:n])
			if err != nil {
				return fmt.Errorf("waiting for %s after %q: %w", step.want, seen.String(), err)
			}
		}
		io.WriteString(conn, step.send)
	}
	return tls.Client(conn, &tls.Config{RootCAs: w.roots, ServerName: domain}).Handshake()
}
