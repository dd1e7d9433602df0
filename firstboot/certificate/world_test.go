package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/beneath"
	"github.com/prose-im/prose-image/firstboot/dns"
	"github.com/prose-im/prose-image/firstboot/preflight"
)

const domain = "example.org"

var tools string // directory with pebble and pebble-challtestsrv

func TestMain(m *testing.M) {
	if k := os.Getenv("DIE_FINALIZED"); k != "" {
		dieFinalized([]byte(k))
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "certificate-tools-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-modfile=../../testdata/tools/go.mod", "-o", dir+"/",
			"github.com/letsencrypt/pebble/v2/cmd/pebble", "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building Pebble: %v\n%s", err, out)
			return 1
		}
		tools = dir
		return m.Run()
	}())
}

// world is an authority, its DNS, NGINX and an XMPP server on loopback.
type world struct {
	t         *testing.T
	dir       string
	keeper    *Keeper
	proxy     *proxy
	dns       string // URL of challtestsrv's management
	http      uint16
	xmpp      *xmppServer
	clock     time.Duration // added to the clock that the keeper sees
	nginx     func(args ...string) *exec.Cmd
	reloads   map[Action]int
	directory string
	// management is a URL, and amnesia has Pebble forget everything.
	management string
	amnesia    func()
}

// proxy stands before Pebble: it counts orders and can fail.
type proxy struct {
	mu     sync.Mutex
	orders []map[string]any // payloads of newOrder
	fail   func(w http.ResponseWriter, r *http.Request) bool
	// rewrite changes answers, when there is one. Set it between steps.
	rewrite func(path string, body []byte) []byte
	// answered is called when Pebble has answered and nobody knows it yet.
	answered func(path string)
	made     int // orders that Pebble has made
}

func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.orders)
}

func (p *proxy) set(fail func(w http.ResponseWriter, r *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = fail
}

// free is a port that nobody has, below those that the kernel gives to
// connections (ip(7), ip_local_port_range): one of them could be taken before
// the program that is to listen there has it. None is given twice.
func free(t *testing.T) uint16 {
	t.Helper()
	for range 1000 {
		port := uint16(10000 + (uint32(os.Getpid())*331+ports.Add(1))%22000)
		l, err := net.Listen("tcp", loop(port).String())
		if err != nil {
			continue
		}
		l.Close()
		return port
	}
	t.Fatal("no port is free")
	return 0
}

var ports atomic.Uint32

func loop(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
}

// start runs a program until it is stopped or the test ends.
func start(t *testing.T, cmd *exec.Cmd) (stop func()) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", cmd.Path, err)
	}
	stop = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM) // NGINX has workers to end
		cmd.Wait()
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() && testing.Verbose() {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), out.String())
		}
	})
	return stop
}

// listening waits until a port takes connections.
func listening(t *testing.T, what string, port uint16) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", loop(port).String()); err == nil {
			c.Close()
			return
		}
	}
	t.Fatalf("waited 20 s for %s to listen on port %d", what, port)
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// newWorld starts everything. Extra is Pebble's environment.
func newWorld(t *testing.T, extra ...string) *world {
	t.Helper()
	return newWorldOf(t, nil, extra...)
}

// newWorldOf likewise, with more in Pebble's configuration.
func newWorldOf(t *testing.T, more map[string]any, extra ...string) *world {
	t.Helper()
	t.Parallel()
	w := &world{t: t, dir: t.TempDir(), reloads: map[Action]int{}}
	live, webroot := filepath.Join(w.dir, "letsencrypt"), filepath.Join(w.dir, "www/challenge")
	if err := os.MkdirAll(webroot, 0o755); err != nil {
		t.Fatal(err)
	}
	w.http = free(t)
	https, acmePort, management, dnsPort, dnsManagement := free(t), free(t), free(t), free(t), free(t)

	start(t, exec.Command(filepath.Join(tools, "pebble-challtestsrv"), "-dnsserver", loop(dnsPort).String(),
		"-management", loop(dnsManagement).String(), "-defaultIPv4", "", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""))
	w.dns = "http://" + loop(dnsManagement).String()

	chain, key, err := SelfSigned([]string{"localhost", "127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]any{
		"listenAddress": loop(acmePort).String(), "managementListenAddress": loop(management).String(),
		"certificate": write(t, w.dir+"/pebble/cert.pem", string(chain)), "privateKey": write(t, w.dir+"/pebble/key.pem", string(key)),
		"httpPort": w.http, "tlsPort": free(t), "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		// One: of more, Pebble draws one by lot for who asks for none.
		"profiles": map[string]any{"default": map[string]any{"description": "ninety days", "validityPeriod": 7776000}},
	}
	maps.Copy(settings, more)
	config, _ := json.Marshal(map[string]any{"pebble": settings})
	pebble := func() (stop func()) {
		cmd := exec.Command(filepath.Join(tools, "pebble"), "-config", write(t, w.dir+"/pebble/config.json", string(config)), "-dnsserver", loop(dnsPort).String())
		// Nothing by lot either: half of the proofs would be taken from an order before.
		cmd.Env = append(append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0"), extra...)
		stop = start(t, cmd)
		listening(t, "Pebble", acmePort)
		return stop
	}
	stop := pebble()
	w.amnesia = func() { stop(); stop = pebble() }
	w.management = "https://" + loop(management).String()

	w.proxy = &proxy{}
	target := &url.URL{Scheme: "https", Host: loop(acmePort).String()}
	pass := httputil.NewSingleHostReverseProxy(target) // keeps the Host, from which Pebble makes its URLs
	pass.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	pass.ModifyResponse = func(res *http.Response) error {
		if res.Request.URL.Path == "/order-plz" && res.StatusCode == http.StatusCreated {
			w.proxy.made++
		}
		if w.proxy.answered != nil {
			w.proxy.answered(res.Request.URL.Path)
			if res.Request.Context().Err() == nil {
				time.Sleep(100 * time.Millisecond) // the client goes away
			}
		}
		if w.proxy.rewrite == nil {
			return nil
		}
		body, err := io.ReadAll(res.Body)
		body = w.proxy.rewrite(res.Request.URL.Path, body)
		res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		res.Header.Set("Content-Length", fmt.Sprint(len(body)))
		return err
	}
	front := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		w.proxy.mu.Lock()
		fail := w.proxy.fail
		w.proxy.mu.Unlock()
		if fail != nil && fail(rw, r) {
			return
		}
		if r.URL.Path == "/order-plz" {
			w.proxy.mu.Lock()
			w.proxy.orders = append(w.proxy.orders, payload(body))
			w.proxy.mu.Unlock()
		}
		pass.ServeHTTP(rw, r)
	}))
	t.Cleanup(front.Close)
	w.directory = front.URL + "/dir"

	conf := fmt.Sprintf(`user root; daemon off; worker_processes 1; pid %[1]s/nginx.pid; error_log %[1]s/nginx.log;
events { worker_connections 64; }
http {
	access_log off;
	server { listen 127.0.0.1:%[2]d; location ^~ /.well-known/acme-challenge/ { alias %[3]s/; default_type text/plain; } }
	server { listen 127.0.0.1:%[4]d ssl default_server; server_name _; ssl_reject_handshake on; }
	include %[1]s/sites/*.conf;
}
`, w.dir, w.http, webroot, https)
	for _, n := range Names(domain, false) {
		if n.HTTPS {
			write(t, filepath.Join(w.dir, "sites", n.Host+".conf"), fmt.Sprintf("server { listen 127.0.0.1:%d ssl; server_name %s; ssl_certificate %s/live/%[2]s/fullchain.pem; ssl_certificate_key %[3]s/live/%[2]s/privkey.pem; }\n", https, n.Host, live))
		}
	}
	w.nginx = func(args ...string) *exec.Cmd {
		return exec.Command("nginx", append([]string{"-c", write(t, w.dir+"/nginx.conf", conf), "-p", w.dir, "-e", w.dir + "/nginx.log"}, args...)...)
	}

	w.xmpp = newXMPP(t, filepath.Join(w.dir, "prosody"))
	w.keeper = &Keeper{
		Settings: Settings{
			Names:     Names(domain, false),
			Directory: w.directory,
			Roots:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}),
			Preflight: preflight.Settings{
				DNS:       dns.Client{Servers: []netip.AddrPort{loop(dnsPort)}},
				Webroot:   webroot,
				Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
				Allow:     []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
				HTTPPort:  w.http, HTTPSPort: https,
			},
		},
		Paths:        Paths{Live: live, State: filepath.Join(w.dir, "acme"), Prosody: filepath.Join(w.dir, "prosody")},
		Ports:        Ports{HTTPS: loop(https), Client: w.xmpp.at},
		Clock:        func() time.Time { return time.Now().Add(w.clock) },
		WriteProsody: ForProsody(filepath.Join(w.dir, "prosody"), beneath.Owner{UID: 1001, GID: 1001}),
		ReloadNGINX: func(context.Context) error {
			w.reloads[ReloadNGINX]++
			if out, err := w.nginx("-s", "reload").CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		},
		ReloadProsody: func(context.Context) error { w.reloads[ReloadProsody]++; return w.xmpp.load() },
	}
	listening(t, "challtestsrv", dnsManagement)

	// NGINX does not start without certificates.
	for step := w.step(); step.Action == Interim; step = w.step() {
		w.do(step)
	}
	start(t, w.nginx())
	listening(t, "NGINX", w.http)
	return w
}

func payload(jws []byte) map[string]any {
	var outer struct{ Payload string }
	json.Unmarshal(jws, &outer)
	data, _ := base64.RawURLEncoding.DecodeString(outer.Payload)
	var p map[string]any
	json.Unmarshal(data, &p)
	return p
}

// set changes DNS.
func (w *world) set(path string, body any) {
	w.t.Helper()
	data, _ := json.Marshal(body)
	resp, err := http.Post(w.dns+path, "application/json", bytes.NewReader(data))
	if err != nil {
		w.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		w.t.Fatalf("%s: %s", path, resp.Status)
	}
}

func (w *world) address(host, kind string, addresses ...string) {
	w.t.Helper()
	w.set("/clear-"+kind, map[string]any{"host": host})
	if len(addresses) > 0 {
		w.set("/add-"+kind, map[string]any{"host": host, "addresses": addresses})
	}
}

func (w *world) rightDNS() {
	w.t.Helper()
	for _, n := range w.keeper.Settings.Names {
		w.address(n.Host, "a", "127.0.0.1")
	}
}

func (w *world) observe() Observed {
	w.t.Helper()
	o, err := w.keeper.Observe(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

func (w *world) step() Step { w.t.Helper(); return w.keeper.Next(w.observe()) }

func (w *world) do(s Step) {
	w.t.Helper()
	if err := w.keeper.Do(w.t.Context(), s); err != nil {
		w.t.Fatalf("%s of %s: %v", s.Action, s.Host, err)
	}
}

// settle does steps until there is none, and returns them as words.
func (w *world) settle() []string {
	w.t.Helper()
	var done []string
	for range 60 {
		s := w.step()
		if s.Action == Idle {
			return done
		}
		done = append(done, string(s.Action)+" "+s.Host)
		if err := w.keeper.Do(w.t.Context(), s); err != nil {
			w.t.Logf("%s of %s: %v", s.Action, s.Host, err)
			done[len(done)-1] += " failed"
		}
	}
	w.t.Fatalf("60 steps and no end: %s", strings.Join(done, ", "))
	return nil
}

// good checks that every name is certified by Pebble and shown everywhere.
func (w *world) good() {
	w.t.Helper()
	// A worker of before a reload may still take a connection.
	stale := func() bool {
		for _, st := range w.observe() {
			if st.HTTPS != (Served{}) && st.HTTPS.Serial != st.Live.Serial {
				return true
			}
		}
		return false
	}
	for begin := time.Now(); stale() && time.Since(begin) < 5*time.Second; {
		time.Sleep(100 * time.Millisecond)
	}
	for host, st := range w.observe() {
		if !st.Live.Signed || !st.Live.Valid(w.keeper.Clock()) {
			w.t.Errorf("%s: the pair is not good: %+v", host, st.Live)
		}
		if st.HTTPS != (Served{}) && st.HTTPS.Serial != st.Live.Serial {
			w.t.Errorf("%s: NGINX shows %+v, the file is %s", host, st.HTTPS, st.Live.Serial)
		}
		if st.XMPP != (Served{}) && st.XMPP.Serial != st.Live.Serial {
			w.t.Errorf("%s: Prosody shows %+v, the file is %s", host, st.XMPP, st.Live.Serial)
		}
	}
}

// xmppServer offers STARTTLS with what lay in a directory at the last load.
type xmppServer struct {
	at   netip.AddrPort
	dir  string
	mu   sync.Mutex
	pair *tls.Certificate
}

func newXMPP(t *testing.T, dir string) *xmppServer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	x := &xmppServer{at: l.Addr().(*net.TCPAddr).AddrPort(), dir: dir}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go x.talk(c)
		}
	}()
	return x
}

func (x *xmppServer) load() error {
	dir := filepath.Join(x.dir, domain)
	pair, err := tls.LoadX509KeyPair(dir+"/fullchain.pem", dir+"/privkey.pem")
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pair = &pair
	return nil
}

func (x *xmppServer) talk(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	x.mu.Lock()
	pair := x.pair
	x.mu.Unlock()
	if await(c, "streams'>", "to='"+domain+"'") != nil {
		return
	}
	offer := "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
	if pair == nil {
		offer = ""
	}
	fmt.Fprintf(c, "<?xml version='1.0'?><stream:stream from='%s' id='1' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'><stream:features>%s</stream:features>", domain, offer)
	if pair == nil || await(c, "/>", "<starttls") != nil {
		return
	}
	io.WriteString(c, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
	s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*pair}})
	if s.Handshake() == nil {
		io.Copy(io.Discard, s)
	}
}
