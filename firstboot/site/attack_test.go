package site

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/door"
)

const host = "admin.prose." + domain

// owners are the requests for what only the claim may do, of those that the
// dashboard got.
func owners(asked []string) []string {
	return slices.DeleteFunc(slices.Clone(asked), func(a string) bool {
		method, path, _ := strings.Cut(a, " ")
		init := strings.HasPrefix(path, "/api/v1/init") && method != "GET" && method != "HEAD" && method != "OPTIONS"
		workspace := path == "/api/v1/workspace" && (method == "PUT" || method == "POST")
		return !init && !workspace
	})
}

// What a stranger sends as bytes, with an account and without.
func TestBytes(t *testing.T) {
	s := newStage(t)
	const inner = "PUT /api/v1/init/first-account HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 2\r\n\r\n{}"
	head := func(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(inner), inner)
	length := fmt.Sprintf("Content-Length: %d", len(inner))
	end := "GET /end HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"
	for name, text := range map[string]string{
		"plain":                                inner + end,
		"pipelined":                            head("GET / HTTP/1.1", "Host: "+host) + inner + end,
		"absolute":                             head("PUT https://"+host+"/api/v1/init/first-account HTTP/1.1", "Host: "+host, "Content-Length: 0") + end,
		"absolute, another host in the header": head("PUT https://"+host+"/api/v1/init/first-account HTTP/1.1", "Host: prose."+domain, "Content-Length: 0") + end,
		"absolute, of another host":            head("PUT https://elsewhere.test/api/v1/init/first-account HTTP/1.1", "Host: "+host, "Content-Length: 0") + end,
		"by port":                              head("PUT /api/v1/init/first-account HTTP/1.1", "Host: "+host+":8081", "Content-Length: 0") + end,
		"with a dot":                           head("PUT /api/v1/init/first-account HTTP/1.1", "Host: "+host+".", "Content-Length: 0") + end,
		"in capitals":                          head("PUT /api/v1/init/first-account HTTP/1.1", "Host: "+strings.ToUpper(host), "Content-Length: 0") + end,
		"two hosts":                            head("PUT /api/v1/init/first-account HTTP/1.1", "Host: "+host, "Host: localhost", "Content-Length: 0") + end,
		"forwarded host":                       head("PUT /api/v1/init/first-account HTTP/1.1", "Host: "+host, "X-Forwarded-Host: localhost", "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1", "Content-Length: 0") + end,
		"original path":                        head("PUT /api/v1/init/first-account HTTP/1.1", "Host: "+host, "X-Original-URI: /", "X-Original-URL: /", "X-Rewrite-URL: /", "Content-Length: 0") + end,
		"original method":                      head("PUT /api/v1/init/first-account HTTP/1.1", "Host: "+host, "X-Original-Method: GET", "Content-Length: 0") + end,
		"method by header":                     head("POST /api/v1/workspace HTTP/1.1", "Host: "+host, "X-HTTP-Method-Override: PUT", "Content-Length: 0") + end,
		"method by header of an allowed one":   head("PATCH /api/v1/workspace HTTP/1.1", "Host: "+host, "X-HTTP-Method-Override: PUT", "X-HTTP-Method: PUT", "X-Method-Override: PUT", "Content-Length: 0") + end,
		"path by header":                       head("POST /api/v1/login HTTP/1.1", "Host: "+host, "X-Original-URI: /api/v1/init/first-account", "X-HTTP-Method-Override: PUT", "Content-Length: 0") + end,
		"upgrade":                              head("GET / HTTP/1.1", "Host: "+host, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA") + inner + end,
		"connect":                              head("CONNECT 127.0.0.1:8081 HTTP/1.1", "Host: "+host) + inner + end,
		"connect to a path":                    head("CONNECT /api/v1/init/first-account HTTP/1.1", "Host: "+host) + end,
		"a body in a length":                   head("POST /api/v1/login HTTP/1.1", "Host: "+host, length) + inner + end,
		"a body in chunks":                     head("POST /api/v1/login HTTP/1.1", "Host: "+host, "Transfer-Encoding: chunked") + chunk + end,
		"a body of length and chunks":          head("POST /api/v1/login HTTP/1.1", "Host: "+host, "Content-Length: 4", "Transfer-Encoding: chunked") + chunk + end,
		"chunks and then a length":             head("POST /api/v1/login HTTP/1.1", "Host: "+host, "Transfer-Encoding: chunked", length) + "0\r\n\r\n" + inner + end,
		"chunks with a space":                  head("POST /api/v1/login HTTP/1.1", "Host: "+host, "Transfer-Encoding : chunked", length) + "0\r\n\r\n" + inner + end,
		"chunks of an odd kind":                head("POST /api/v1/login HTTP/1.1", "Host: "+host, "Transfer-Encoding: xchunked", length) + "0\r\n\r\n" + inner + end,
		"two kinds of chunks":                  head("POST /api/v1/login HTTP/1.1", "Host: "+host, "Transfer-Encoding: chunked", "Transfer-Encoding: identity", length) + "0\r\n\r\n" + inner + end,
		"two lengths":                          head("POST /api/v1/login HTTP/1.1", "Host: "+host, "Content-Length: 0", length) + inner + end,
		"a signed length":                      head("POST /api/v1/login HTTP/1.1", "Host: "+host, "Content-Length: +0") + inner + end,
		"bare line feeds":                      strings.ReplaceAll(head("POST /api/v1/login HTTP/1.1", "Host: "+host, "Content-Length: 0"), "\r\n", "\n") + inner + end,
		"a folded header":                      head("POST /api/v1/login HTTP/1.1", "Host: "+host, "Transfer-Encoding:", " chunked", length) + "0\r\n\r\n" + inner + end,
		"a line feed in the path":              head("GET /x%0d%0aPUT%20/api/v1/init/first-account HTTP/1.1", "Host: "+host) + end,
		"HTTP/0.9":                             "PUT /api/v1/init/first-account\r\n",
		"a body that expects":                  head("PUT /api/v1/init/first-account HTTP/1.1", "Host: "+host, "Expect: 100-continue", "Content-Length: 2") + "{}" + end,
		"authorised by what the API does not read": head("PUT /api/v1/init/first-account HTTP/1.1", "Host: "+host, "Authorization: Bearer x", "Content-Length: 0") + end,
	} {
		for _, account := range []bool{false, true} {
			s.pod(account, false)
			// NGINX may refuse by hanging up.
			conn, err := tls.Dial("tcp", s.https, &tls.Config{InsecureSkipVerify: true, ServerName: host})
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			io.WriteString(conn, text)
			said, _ := io.ReadAll(conn)
			conn.Close()
			asked := s.asked()
			if got := owners(asked); len(got) > 0 {
				t.Errorf("%s, account: %v: the dashboard was asked for %v\n%s", name, account, asked, said)
			}
			if !account && len(asked) > 0 {
				t.Errorf("%s: without an account the dashboard was asked for %v", name, asked)
			}
			if slices.Contains(asked, "told otherwise") {
				t.Errorf("%s: the dashboard was told of another method or path: %v", name, asked)
			}
		}
	}
	// The same name elsewhere leads nowhere.
	for _, name := range []string{"prose." + domain, domain, "groups." + domain} {
		if said := s.say(name, inner+end); len(owners(s.asked())) > 0 {
			t.Errorf("by the name %s the dashboard is reached: %s", name, said)
		}
	}
}

// What is said over HTTP/2, where a path is a field of its own.
func TestHTTP2(t *testing.T) {
	s := newStage(t)
	c := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return net.Dial("tcp", s.https) },
	}}
	defer c.CloseIdleConnections()
	for _, account := range []bool{false, true} {
		s.pod(account, false)
		for _, path := range append(spellings("init"), "/api/v1/init/first-account", "/api/v1/workspace") {
			if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "\\#") {
				continue // Go's client does not send it
			}
			req, err := http.NewRequest("PUT", "https://"+host+"/", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			req.URL.Opaque = "//" + host + path
			res, err := c.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			res.Body.Close()
			if res.ProtoMajor != 2 {
				t.Fatalf("the answer is of %s", res.Proto)
			}
			for _, got := range s.asked() {
				if !account || strings.HasPrefix(got, "PUT /api/v1/init") || strings.HasPrefix(got, "PUT /api/init") || got == "PUT /api/v1/workspace" {
					t.Errorf("account: %v: %s got past the door as %s", account, path, got)
				}
			}
		}
	}
}

func TestCookies(t *testing.T) {
	s := newStage(t)
	good := s.cookie()
	value := strings.TrimPrefix(good, "Cookie: __Host-prose-claim=")
	other := &door.Door{Key: door.NewKey(), State: t.TempDir(), API: s.door.API}
	path, err := door.Path(other.Key, other.State, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	other.ServeHTTP(w, httptest.NewRequest("POST", path, nil))
	foreign := w.Result().Cookies()[0].Value
	link, err := door.Path(s.door.Key, s.door.State, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	forged := []byte(value)
	forged[len(forged)/2] ^= 1
	for name, c := range map[string]struct {
		headers []string
		want    int
	}{
		"none":                      {nil, 403},
		"the right one":             {[]string{good}, 200},
		"after an old one":          {[]string{"Cookie: __Host-prose-claim=old; __Host-prose-claim=" + value}, 200},
		"before one of a neighbour": {[]string{"Cookie: __Host-prose-claim=" + value + "; __Host-prose-claim=" + foreign}, 200},
		"two headers":               {[]string{"Cookie: a=b", good}, 200},
		"of another machine":        {[]string{"Cookie: __Host-prose-claim=" + foreign}, 403},
		"forged":                    {[]string{"Cookie: __Host-prose-claim=" + string(forged)}, 403},
		"half":                      {[]string{"Cookie: __Host-prose-claim=" + value[:len(value)/2]}, 403},
		"a link":                    {[]string{"Cookie: __Host-prose-claim=" + strings.TrimPrefix(link, "/claim/")}, 403},
		"another name":              {[]string{"Cookie: prose-claim=" + value}, 403},
		"in small letters":          {[]string{"Cookie: __host-prose-claim=" + value}, 403},
		"in a header of its own":    {[]string{"__Host-prose-claim: " + value, "Authorization: Bearer " + value}, 403},
		"long":                      {[]string{"Cookie: __Host-prose-claim=" + strings.Repeat("A", 7000)}, 403},
		"many":                      {[]string{"Cookie: " + strings.Repeat("__Host-prose-claim=x; ", 300)}, 403},
	} {
		for _, q := range [][2]string{{"GET", "/"}, {"PUT", "/api/v1/init/first-account"}} {
			if code, _, body := s.ask(q[0], host, q[1], c.headers...); code != c.want {
				t.Errorf("%s: %s %s: %d %q, want %d", name, q[0], q[1], code, body, c.want)
			}
		}
	}
}

// With no door, a door that hangs, and NGINX started while there is none: nobody
// gets in, and the next request after the door is back does.
func TestNoDoor(t *testing.T) {
	s := newStage(t)
	cookie := s.cookie()
	closed := func(when string) {
		t.Helper()
		for _, account := range []bool{false, true} {
			s.pod(account, false)
			for _, q := range [][2]string{{"GET", "/"}, {"GET", "/api/v1/workspace"}, {"PUT", "/api/v1/init/first-account"}, {"PUT", "/api/v1/workspace/name"}, {"POST", "/api/reload"}} {
				for _, header := range []string{cookie, "X: y"} {
					if code, _, body := s.ask(q[0], host, q[1], header); code != 503 || !strings.Contains(body, "does not answer") {
						t.Errorf("%s: %s %s: %d %q", when, q[0], q[1], code, body)
					}
				}
			}
		}
		if asked := s.asked(); len(asked) > 0 {
			t.Errorf("%s: the dashboard was asked for %v", when, asked)
		}
	}
	open := func(when string) {
		t.Helper()
		s.pod(true, false)
		if code, _, body := s.ask("GET", host, "/"); code != 200 {
			t.Errorf("%s: %d %q", when, code, body)
		}
		s.asked()
	}
	open("at first")
	s.killDoor()
	closed("killed")
	s.stopNGINX()
	s.startNGINX()
	closed("NGINX restarted")
	s.openDoor()
	open("back")
	s.killDoor()
	if err := os.WriteFile(s.socket, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	closed("a file in the place of the socket")
	os.Remove(s.socket)
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	if code, _, _ := s.ask("PUT", host, "/api/v1/init/first-account", cookie); code != 503 {
		t.Errorf("a door that hangs: %d", code)
	}
	l.Close()
	for _, answer := range []string{"HTTP/1.1 200 OK", "nonsense"} {
		if l, err = net.Listen("unix", s.socket); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, answer) // and no more
				c.Close()
			}
		}()
		if code, _, _ := s.ask("PUT", host, "/api/v1/init/first-account", cookie); code != 503 {
			t.Errorf("a door that says %q: %d", answer, code)
		}
		l.Close()
	}
	s.openDoor()
	open("back again")
}

// The door gets another key while requests run.
func TestAnotherKey(t *testing.T) {
	s := newStage(t)
	cookie := s.cookie()
	var all sync.WaitGroup
	stop := make(chan bool)
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if code, _, body := s.ask("PUT", host, "/api/v1/workspace", cookie); code != 200 && code != 403 && code != 503 {
					t.Errorf("%d %q", code, body)
				}
			}
		})
	}
	s.killDoor()
	s.door = &door.Door{Key: door.NewKey(), State: s.door.State, API: s.door.API}
	s.openDoor()
	for range 20 {
		if code, _, body := s.ask("PUT", host, "/api/v1/workspace", cookie); code != 403 {
			t.Errorf("with a cookie of the key before: %d %q", code, body)
		}
	}
	close(stop)
	all.Wait()
}

// Fifty browsers use one link at once, through NGINX.
func TestOneOfFifty(t *testing.T) {
	s := newStage(t)
	path, err := door.Path(s.door.Key, s.door.State, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	got := map[int]int{}
	for range 50 {
		all.Go(func() {
			code, _, _ := s.ask("POST", host, path)
			mu.Lock()
			got[code]++
			mu.Unlock()
		})
	}
	all.Wait()
	if got[303] != 1 {
		t.Errorf("%v", got)
	}
	if log, err := os.ReadFile(filepath.Join(s.dir, "access.log")); err != nil || strings.Contains(string(log), strings.TrimPrefix(path, "/claim/")) {
		t.Errorf("the log has the link, or cannot be read: %v", err)
	}
}

// A visitor who guesses is soon not heard any more, and the owner, elsewhere, is.
func TestGuesses(t *testing.T) {
	s := newStage(t)
	path, err := door.Path(s.door.Key, s.door.State, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]int{}
	for range 30 {
		code, _, _ := s.ask("POST", host, "/claim/guess")
		got[code]++
	}
	// Ten a minute, and six at once.
	if got[403] < 6 || got[403] > 16 || got[403]+got[503] != 30 {
		t.Errorf("guesses: %v", got)
	}
	conn, err := tls.DialWithDialer(&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}, "tcp", s.https, &tls.Config{InsecureSkipVerify: true, ServerName: host})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", path, host)
	line := make([]byte, len("HTTP/1.1 303"))
	if _, err := io.ReadFull(conn, line); err != nil || string(line) != "HTTP/1.1 303" {
		t.Errorf("the owner's link: %q, %v", line, err)
	}
}

// A request that comes while an account exists, and whose body comes slowly, is
// refused before its body: it could not be checked when that is there.
func TestSlowBody(t *testing.T) {
	s := newStage(t)
	s.pod(true, false)
	for _, path := range []string{"/api/v1/init/first-account", "/api/v1/workspace"} {
		conn, err := tls.Dial("tcp", s.https, &tls.Config{InsecureSkipVerify: true, ServerName: host})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 10\r\n\r\n{", path, host)
		line := make([]byte, len("HTTP/1.1 403"))
		if _, err := io.ReadFull(conn, line); err != nil || string(line) != "HTTP/1.1 403" {
			t.Errorf("%s: %q, %v", path, line, err)
		}
		s.pod(false, false)
		io.WriteString(conn, "        }")
		if asked := s.asked(); len(asked) > 0 {
			t.Errorf("the dashboard was asked for %v", asked)
		}
		s.pod(true, false)
	}
}

// The first request after a reset, whichever it is, and with whatever was good
// before.
func TestNextRequestAfterAReset(t *testing.T) {
	for _, q := range [][2]string{{"GET", "/"}, {"GET", "/assets/index.js"}, {"PUT", "/api/v1/init/first-account"}, {"PUT", "/api/v1/workspace"}, {"PUT", "/api/v1/workspace/name"}, {"POST", "/api/reload"}} {
		s := newStage(t)
		cookie := s.cookie()
		s.pod(true, false)
		if code, _, body := s.ask("GET", host, "/"); code != 200 {
			t.Fatalf("with an account: %d %q", code, body)
		}
		s.asked()
		s.pod(false, false)
		if code, _, body := s.ask(q[0], host, q[1], cookie); code != 403 {
			t.Errorf("%s %s: %d %q", q[0], q[1], code, body)
		}
		if asked := s.asked(); len(asked) > 0 {
			t.Errorf("the dashboard was asked for %v", asked)
		}
	}
}
