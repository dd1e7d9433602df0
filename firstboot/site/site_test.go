package site

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/door"
)

const domain = "example.test"

// nginx is Debian's program; make setup installs it without starting it.
const nginx = "/usr/sbin/nginx"

// A stage is NGINX with rendered sites and the door, before servers that say what
// they were asked.
type stage struct {
	t           *testing.T
	dir         string
	https, http string
	from        string // address of who asks; empty: the machine's
	client      *http.Client
	nginx       *exec.Cmd

	door   *door.Door // as its unit runs it
	socket string
	now    *http.Server // that serves the door

	mu      sync.Mutex
	account bool     // what the API says to the door
	away    bool     // it says nothing
	reached []string // requests that the dashboard got, with what headers mean
}

func echo(name string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s host=%s upgrade=%s", name, r.Method, r.RequestURI, r.Host, r.Header.Get("Upgrade"))
	}))
}

// free is an address that nobody has, with a port below those that the kernel
// gives to connections (ip(7), ip_local_port_range): one of them could be taken
// before NGINX has it. None is given twice.
func free(t *testing.T) string {
	t.Helper()
	for range 1000 {
		at := fmt.Sprintf("127.0.0.1:%d", 10000+(uint32(os.Getpid())*331+ports.Add(1))%22000)
		if l, err := net.Listen("tcp", at); err == nil {
			l.Close()
			return at
		}
	}
	t.Fatal("no port is free")
	return ""
}

var ports atomic.Uint32

func newStage(t *testing.T, allow ...string) *stage {
	t.Helper()
	s := &stage{t: t, http: free(t), https: free(t), dir: t.TempDir()}
	pair := selfSigned(t, s.dir)
	c := Config{Domain: domain, Certificates: map[string]Pair{}}
	for _, a := range allow {
		c.Allow = append(c.Allow, netip.MustParsePrefix(a))
	}
	for _, name := range Names(domain) {
		c.Certificates[name] = pair
	}
	text, err := Render(c)
	if err != nil {
		t.Fatal(err)
	}
	web, dash, xmpp := echo("web"), httptest.NewServer(s), echo("prosody")
	for _, e := range []*httptest.Server{web, dash, xmpp} {
		t.Cleanup(e.Close)
	}
	// NGINX's workers are www-data; t.TempDir is root's.
	s.socket = filepath.Join(s.dir, "door.sock")
	s.door = &door.Door{Key: door.NewKey(), State: t.TempDir(), API: dash.URL + "/api"}
	s.openDoor()
	xmlFile, jsonFile := HostMeta(domain)
	files := map[string]string{
		"nginx.conf": fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr; user root;
events {}
http {
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	include %[2]s/etc/nginx/conf.d/prose.conf;
	include sites.conf;
}`, s.dir, overlay(t)),
		"www/well-known/host-meta":      string(xmlFile),
		"www/well-known/host-meta.json": string(jsonFile),
		"www/challenge/token":           "proof",
	}
	places := strings.NewReplacer(
		"listen 80;", "listen "+s.http+";", "listen [::]:80;", "", "listen [::]:443 ssl;", "",
		"listen 443 ssl;", "listen "+s.https+" ssl http2;", "http2 on;", "", // as Debian 12's NGINX has it
		"proxy_read_timeout 20s;", "proxy_read_timeout 2s;",
		webApp, strings.TrimPrefix(web.URL, "http://"), dashboard, strings.TrimPrefix(dash.URL, "http://"), prosody, strings.TrimPrefix(xmpp.URL, "http://"),
		doorSocket, "unix:"+s.socket, "/var/log/nginx/access.log", filepath.Join(s.dir, "access.log"),
		"/var/lib/prose-firstboot/www", filepath.Join(s.dir, "www"), "/etc/nginx/snippets/", filepath.Join(s.dir, "snippets")+"/",
	)
	files["sites.conf"] = places.Replace(string(text))
	snippets, _ := filepath.Glob(filepath.Join(overlay(t), "etc/nginx/snippets/*.conf"))
	if len(snippets) == 0 {
		t.Fatal("no snippets")
	}
	for _, name := range snippets {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files["snippets/"+filepath.Base(name)] = places.Replace(string(b))
	}
	for name, text := range files {
		name = filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.startNGINX()
	t.Cleanup(s.stopNGINX)
	s.client = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s
}

func (s *stage) startNGINX() {
	s.t.Helper()
	s.nginx = exec.Command(nginx, "-p", s.dir, "-c", filepath.Join(s.dir, "nginx.conf"))
	var said strings.Builder
	s.nginx.Stderr = &said
	if err := s.nginx.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", s.https); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			s.nginx.Process.Kill()
			s.nginx.Wait()
			s.t.Fatalf("waiting for NGINX to listen: 10 s are over:\n%s", &said)
		}
	}
}

func (s *stage) stopNGINX() { s.nginx.Process.Signal(os.Interrupt); s.nginx.Wait() }

// openDoor has the door answer on its socket.
func (s *stage) openDoor() {
	s.t.Helper()
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		s.t.Fatal(err)
	}
	s.now = &http.Server{Handler: s.door}
	go s.now.Serve(l)
	s.t.Cleanup(s.killDoor)
}

func (s *stage) killDoor() { s.now.Close() } // removes the socket too

// pod says how the Pod stands.
func (s *stage) pod(account, away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account, s.away = account, away
}

// cookie is what a claim of the Pod gives.
func (s *stage) cookie() string {
	s.t.Helper()
	// As the agent does before it gives out a link.
	s.door.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/check/account", nil))
	path, err := door.Path(s.door.Key, s.door.State, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.door.ServeHTTP(w, httptest.NewRequest("POST", path, nil))
	c := w.Result().Cookies()
	if len(c) != 1 {
		s.t.Fatalf("claiming: %d %s", w.Code, w.Body)
	}
	return "Cookie: " + c[0].Name + "=" + c[0].Value
}

// ServeHTTP is the dashboard: to the door, which comes by address, the API; to
// visitors, who come by name, it says what they asked.
func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := netip.ParseAddrPort(r.Host); err == nil {
		switch {
		case s.away:
			w.WriteHeader(503)
		case r.Method == "HEAD" && r.URL.Path == "/api/v1/init/first-account" && !s.account:
			w.WriteHeader(204)
		}
		return
	}
	if r.Header.Get("X-HTTP-Method-Override")+r.Header.Get("X-Original-URI") != "" {
		s.reached = append(s.reached, "told otherwise")
	}
	s.reached = append(s.reached, r.Method+" "+r.URL.Path)
	fmt.Fprintf(w, "dashboard %s %s host=%s ", r.Method, r.RequestURI, r.Host)
}

// asked is what the dashboard was asked since the last time.
func (s *stage) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.reached
	s.reached = nil
	return out
}

// overlay is what else NGINX reads on the machine.
func overlay(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../overlays/base")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func selfSigned(t *testing.T, dir string) Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: domain}, NotAfter: time.Now().Add(time.Hour), DNSNames: Names(domain)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := Pair{filepath.Join(dir, "chain"), filepath.Join(dir, "key")}
	for name, block := range map[string]*pem.Block{p.Chain: {Type: "CERTIFICATE", Bytes: der}, p.Key: {Type: "EC PRIVATE KEY", Bytes: b}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// ask makes a request with the path as it is spelled and returns code and body.
func (s *stage) ask(method, host, target string, header ...string) (int, http.Header, string) {
	s.t.Helper()
	said := s.say(host, fmt.Sprintf("%s %s HTTP/1.0\r\nHost: %s\r\n%s\r\n", method, target, host, strings.Join(append(header, ""), "\r\n")))
	head, body, _ := strings.Cut(said, "\r\n\r\n")
	code := 0
	fmt.Sscanf(head, "HTTP/1.1 %d", &code)
	h := http.Header{}
	for line := range strings.Lines(head) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			h.Add(k, v)
		}
	}
	return code, h, body
}

// say sends bytes and returns what came until NGINX hung up.
func (s *stage) say(name, text string) string {
	s.t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(s.from)}}
	conn, err := tls.DialWithDialer(dialer, "tcp", s.https, &tls.Config{InsecureSkipVerify: true, ServerName: name})
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, text) // NGINX may hang up before it has heard all
	b, err := io.ReadAll(conn)
	if err != nil && len(b) == 0 {
		s.t.Fatal(err)
	}
	return string(b)
}

func TestSites(t *testing.T) {
	s := newStage(t)
	s.pod(true, false)
	for _, c := range []struct {
		method, host, target string
		code                 int
		body                 string // a pattern
	}{
		{"GET", "prose." + domain, "/", 200, `^web GET / host=example.test `},
		{"GET", "prose." + domain, "/websocket", 200, `^prosody GET /xmpp-websocket host=example.test `},
		{"PUT", "prose." + domain, "/upload/a/b.png", 200, `^prosody PUT /upload/a/b.png host=upload.prose.local `},
		{"GET", "admin.prose." + domain, "/", 200, `^dashboard GET / host=admin.prose.example.test `},
		{"GET", "admin.prose." + domain, "/api/pod/version?x=1", 200, `^dashboard GET /api/pod/version\?x=1 `},
		{"POST", "admin.prose." + domain, "/api/login", 200, `^dashboard POST /api/login `},
		{"GET", "admin.prose." + domain, "/claim/abc", 403, `does not open this machine`},
		{"GET", "admin.prose." + domain, "/-/account", 404, ``},
		{"GET", "admin.prose." + domain, "/-/claim", 404, ``},
		{"GET", "admin.prose." + domain, "/-/init", 404, ``},
		{"GET", domain, "/.well-known/host-meta", 200, `wss://prose.example.test/websocket/`},
		{"GET", domain, "/", 404, ``},
		{"GET", "groups." + domain, "/", 404, ``},
	} {
		code, _, body := s.ask(c.method, c.host, c.target)
		if code != c.code || !regexp.MustCompile(c.body).MatchString(body) {
			t.Errorf("%s https://%s%s: %d %q, want %d %s", c.method, c.host, c.target, code, body, c.code, c.body)
		}
	}
	if _, h, _ := s.ask("GET", domain, "/.well-known/host-meta.json"); h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Content-Type") != "application/json" {
		t.Errorf("host-meta.json: %v", h)
	}
	if _, _, body := s.ask("GET", "prose."+domain, "/websocket", "Upgrade: websocket", "Connection: Upgrade"); !strings.Contains(body, "upgrade=websocket") {
		t.Errorf("websocket: %q", body)
	}

	// Port 80 redirects, challenges excepted.
	get := func(path string) (int, string, string) {
		r, _ := http.NewRequest("GET", "http://"+s.http+path, nil)
		r.Host = "prose." + domain
		res, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, res.Header.Get("Location"), string(b)
	}
	if code, to, _ := get("/x?y=z"); code != 301 || to != "https://prose."+domain+"/x?y=z" {
		t.Errorf("port 80: %d to %q", code, to)
	}
	if code, _, body := get("/.well-known/acme-challenge/token"); code != 200 || body != "proof" {
		t.Errorf("challenge: %d %q", code, body)
	}
}

// spellings are ways to write a guarded route that other servers have taken for
// it.
func spellings(route string) []string {
	return []string{
		"/api/" + route, "/api/v1/" + route, "//api//" + route, "/./api/./" + route, "/x/../api/" + route, "/api/%" + fmt.Sprintf("%02x", route[0]) + route[1:],
		"/%61pi/" + route, "/api/v1/../" + route, "/api/" + route + "/", "/api/" + route + "?x", "/api/" + route + "/first-account", "/api/v1/" + route + "/x",
		"/api/" + route + "%2f", "/api%2f" + route, "/api/v%31/" + route, "/API/" + route, "/api/" + strings.ToUpper(route), "/api/" + route + ";x",
		"/api;x/" + route, "/api/%2e/" + route, "/api/x/%2e%2e/" + route, "/api/v1%2f" + route, "/api/%25" + fmt.Sprintf("%02x", route[0]) + route[1:],
		"/api/" + route + "%3fx", "/api/" + route + "%00", "/api/" + route + "#x", "/api\\" + route, "/api/v1/workspace/name/../../" + route,
		"/api/v1/workspace/name/..%2f..%2f" + route, "https://admin.prose." + domain + "/api/v1/" + route, "http://elsewhere.test/api/v1/" + route,
	}
}

func TestTheDoor(t *testing.T) {
	s := newStage(t)
	for _, c := range []struct {
		name          string
		account, away bool
		// What strangers and the claim get: of pages, of routes that are for the
		// claim, and of those that the API guards.
		page, init, governed [2]int
	}{
		{"nobody has claimed it", false, false, [2]int{403, 200}, [2]int{403, 200}, [2]int{403, 200}},
		{"an account exists", true, false, [2]int{200, 200}, [2]int{403, 200}, [2]int{200, 200}},
		{"the Pod does not answer", true, true, [2]int{503, 503}, [2]int{403, 503}, [2]int{503, 503}},
	} {
		s.pod(false, false)
		cookie := s.cookie()
		s.pod(c.account, c.away)
		for i, header := range [][]string{nil, {cookie}} {
			for _, q := range []struct {
				method, target string
				want           [2]int
			}{
				{"GET", "/", c.page}, {"GET", "/assets/x.js", c.page}, {"POST", "/api/v1/login", c.page}, {"HEAD", "/api/v1/init/first-account", c.page},
				{"HEAD", "/api/v1/workspace", c.page}, {"GET", "/api/v1/workspace/icon", c.page}, {"DELETE", "/api/", c.page},
				{"PUT", "/api/v1/init/first-account", c.init}, {"PUT", "/api/v1/workspace", c.init}, {"PUT", "/api/v1/workspace/", c.init},
				{"POST", "/api/v1/workspace/other", c.init}, {"DELETE", "/api/init", c.init},
				{"PUT", "/api/v1/workspace/name", c.governed}, {"PUT", "/api/v1/workspace/icon", c.governed}, {"PUT", "/api/v1/workspace/accent-color", c.governed},
				{"PATCH", "/api/v1/workspace", c.governed}, {"POST", "/api/reload", c.governed},
			} {
				code, _, body := s.ask(q.method, "admin.prose."+domain, q.target, header...)
				if code != q.want[i] {
					t.Errorf("%s, with the claim: %v: %s %s: %d %q, want %d", c.name, i == 1, q.method, q.target, code, body, q.want[i])
				}
				if says := map[int]string{200: "dashboard " + q.method, 403: "prose-firstboot link", 503: "does not answer"}[code]; q.method != "HEAD" && !strings.Contains(body, says) {
					t.Errorf("%s: %s %s says %q", c.name, q.method, q.target, body)
				}
			}
		}
		// The rest of the Pod is nobody's secret.
		if code, _, _ := s.ask("GET", "prose."+domain, "/"); code != 200 {
			t.Errorf("%s: the web app: %d", c.name, code)
		}
	}
}

func TestSpellings(t *testing.T) {
	s := newStage(t)
	for _, account := range []bool{false, true} {
		s.pod(account, false)
		for _, route := range guarded {
			means := regexp.MustCompile(`^\S+ /api/(v1/)?` + route.name)
			for _, target := range spellings(route.name) {
				for _, method := range []string{"PUT", "POST", "DELETE", "put", "PROPFIND", "CONNECT", "PATCH"} {
					if strings.Contains(route.open, method) {
						continue // for administrators
					}
					code, _, _ := s.ask(method, "admin.prose."+domain, target)
					for _, got := range s.asked() {
						if means.MatchString(got) {
							t.Errorf("account: %v: %s %s got past the door as %s: %d", account, method, target, got, code)
						}
					}
				}
			}
		}
	}
}

// Who may see the dashboard at all. 127.0.0.1 is the machine itself.
func TestAllow(t *testing.T) {
	for _, c := range []struct {
		allow []string
		from  string
		want  int
	}{
		{nil, "127.0.0.2", 200},
		{[]string{"192.0.2.0/24", "2001:db8::/32"}, "127.0.0.2", 403},
		{[]string{"192.0.2.0/24", "127.0.0.2/32"}, "127.0.0.2", 200},
		{[]string{"192.0.2.0/24", "127.0.0.2/32"}, "127.0.0.3", 403},
		{[]string{"192.0.2.0/24"}, "127.0.0.1", 200},
		{[]string{"::/0"}, "127.0.0.2", 403},
		{[]string{"0.0.0.0/0"}, "127.0.0.2", 200},
	} {
		s := newStage(t, c.allow...)
		s.pod(true, false)
		s.from = c.from
		for _, target := range []string{"/", "/api/v1/workspace", "/api/v1/workspace/name", "/claim/x"} {
			code, _, body := s.ask("GET", "admin.prose."+domain, target)
			if c.want == 403 && (code != 403 || !strings.Contains(body, "some networks only")) || c.want == 200 && code != 200 && target != "/claim/x" {
				t.Errorf("%v, from %s: %s: %d %q, want %d", c.allow, c.from, target, code, body, c.want)
			}
		}
		if asked := s.asked(); c.want == 403 && len(asked) > 0 {
			t.Errorf("%v, from %s: the dashboard was asked for %v", c.allow, c.from, asked)
		}
		// Chat is for everybody, and so is the authority's look.
		if code, _, _ := s.ask("GET", "prose."+domain, "/"); code != 200 {
			t.Errorf("%v, from %s: the web app: %d", c.allow, c.from, code)
		}
		r, _ := http.NewRequest("GET", "http://"+s.http+"/.well-known/acme-challenge/token", nil)
		r.Host = "admin.prose." + domain
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.from)}}
		client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if res.Body.Close(); res.StatusCode != 200 {
			t.Errorf("%v, from %s: the challenge: %d", c.allow, c.from, res.StatusCode)
		}
	}
}

func TestHostMetaParses(t *testing.T) {
	x, j := HostMeta(domain)
	var xrd struct {
		Link []struct {
			Rel  string `xml:"rel,attr"`
			Href string `xml:"href,attr"`
		}
	}
	if err := xml.Unmarshal(x, &xrd); err != nil || len(xrd.Link) != 1 || xrd.Link[0].Href != "wss://prose.example.test/websocket/" {
		t.Errorf("%v %+v", err, xrd)
	}
	var jrd struct{ Links []struct{ Rel, Href string } }
	if err := json.Unmarshal(j, &jrd); err != nil || len(jrd.Links) != 1 || jrd.Links[0].Href != xrd.Link[0].Href || jrd.Links[0].Rel != xrd.Link[0].Rel {
		t.Errorf("%v %+v", err, jrd)
	}
}

func TestRenderNeedsCertificates(t *testing.T) {
	if _, err := Render(Config{Domain: domain}); err == nil {
		t.Error("sites without certificates")
	}
}
