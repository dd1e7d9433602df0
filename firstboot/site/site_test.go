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
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const domain = "example.test"

// nginx is Debian's program; make setup installs it without starting it.
const nginx = "/usr/sbin/nginx"

// A stage is NGINX with rendered sites before servers that say what they were
// asked.
type stage struct {
	t        *testing.T
	https    string
	http     string
	unlocked bool // what the door answers
	client   *http.Client
}

func echo(name string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s host=%s upgrade=%s", name, r.Method, r.RequestURI, r.Host, r.Header.Get("Upgrade"))
	}))
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func newStage(t *testing.T, locked bool) *stage {
	t.Helper()
	s := &stage{t: t, http: free(t), https: free(t)}
	dir := t.TempDir()
	pair := selfSigned(t, dir)
	c := Config{Domain: domain, Locked: locked, Certificates: map[string]Pair{}}
	for _, name := range Names(domain) {
		c.Certificates[name] = pair
	}
	text, err := Render(c)
	if err != nil {
		t.Fatal(err)
	}
	web, dash, xmpp := echo("web"), echo("dashboard"), echo("prosody")
	sock := filepath.Join(dir, "door.sock")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(sock, 0o666); err != nil {
		t.Fatal(err)
	}
	door := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/check":
			fmt.Fprintf(w, "door %s", r.URL.Path)
		case s.unlocked:
			w.WriteHeader(204)
		default:
			w.WriteHeader(401)
		}
	})}
	go door.Serve(l)
	for _, close := range []func(){web.Close, dash.Close, xmpp.Close, func() { door.Close() }} {
		t.Cleanup(close)
	}
	xmlFile, jsonFile := HostMeta(domain)
	files := map[string]string{
		"nginx.conf": fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr; user root;
events {}
http {
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	include %[2]s/etc/nginx/conf.d/prose.conf;
	include sites.conf;
}`, dir, overlay(t)),
		"www/well-known/host-meta":      string(xmlFile),
		"www/well-known/host-meta.json": string(jsonFile),
		"www/challenge/token":           "proof",
	}
	places := strings.NewReplacer(
		"listen 80;", "listen "+s.http+";", "listen 443 ssl;", "listen "+s.https+" ssl;", "listen [::]:80;", "", "listen [::]:443 ssl;", "",
		"http2 on;", "", // not in Debian 12's NGINX
		webApp, strings.TrimPrefix(web.URL, "http://"), dashboard, strings.TrimPrefix(dash.URL, "http://"), prosody, strings.TrimPrefix(xmpp.URL, "http://"),
		doorSocket, "unix:"+sock, "/var/log/nginx/access.log", filepath.Join(dir, "access.log"),
		"/var/lib/prose-firstboot/www", filepath.Join(dir, "www"), "/etc/nginx/snippets/", filepath.Join(dir, "snippets")+"/",
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
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(nginx, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(os.Interrupt); cmd.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", s.https); err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			cmd.Process.Kill()
			cmd.Wait()
			t.Fatalf("waiting for NGINX to listen: 10 s are over:\n%s", &said)
		}
	}
	s.client = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s
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
	conn, err := tls.Dial("tcp", s.https, &tls.Config{InsecureSkipVerify: true, ServerName: host})
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "%s %s HTTP/1.0\r\nHost: %s\r\n%s\r\n", method, target, host, strings.Join(append(header, ""), "\r\n"))
	b, err := io.ReadAll(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(b), "\r\n\r\n")
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

func TestSites(t *testing.T) {
	s := newStage(t, false)
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
		{"GET", "admin.prose." + domain, "/claim/abc", 200, `^door /claim/abc`},
		{"GET", "admin.prose." + domain, "/-/door", 404, ``},
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
		"/api/" + route + "%2f", "/api%2f" + route, "/api/v%31/" + route,
	}
}

func TestTheDoor(t *testing.T) {
	// reached reports whether the dashboard saw a request that means the route.
	means := func(route, body string) bool {
		return regexp.MustCompile(`^dashboard \S+ /api/(v1/)?` + route).MatchString(body)
	}
	for _, locked := range []bool{false, true} {
		s := newStage(t, locked)
		for _, route := range guarded {
			for _, target := range spellings(route) {
				for _, method := range []string{"PUT", "POST", "DELETE", "PATCH", "put", "PROPFIND"} {
					s.unlocked = false
					code, _, body := s.ask(method, "admin.prose."+domain, target)
					if means(route, body) {
						t.Errorf("locked=%v: %s %s got past the door: %d %q", locked, method, target, code, body)
					}
				}
			}
			s.unlocked = true
			if code, _, body := s.ask("PUT", "admin.prose."+domain, "/api/"+route); code != 200 || !means(route, body) {
				t.Errorf("locked=%v: with the claim: %d %q", locked, code, body)
			}
			s.unlocked = false
			code, _, body := s.ask("HEAD", "admin.prose."+domain, "/api/"+route)
			if want := map[bool]int{false: 200, true: 403}[locked]; code != want {
				t.Errorf("locked=%v: HEAD %s: %d %q, want %d", locked, route, code, body, want)
			}
		}
		code, _, body := s.ask("GET", "admin.prose."+domain, "/")
		if locked && (code != 403 || !strings.Contains(body, "prose-firstboot link")) || !locked && code != 200 {
			t.Errorf("locked=%v: GET /: %d %q", locked, code, body)
		}
		// The rest of the Pod is nobody's secret.
		if code, _, _ := s.ask("GET", "prose."+domain, "/"); code != 200 {
			t.Errorf("locked=%v: the web app: %d", locked, code)
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
