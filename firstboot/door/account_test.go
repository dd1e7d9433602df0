package door

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// A pod answers as upstream's API does to who asks about accounts.
type pod struct {
	*httptest.Server
	mu      sync.Mutex
	account bool
	down    bool         // the server behind the API
	odd     http.Handler // in the place of all of it
	asked   int
}

func newPod(t *testing.T) *pod {
	p := &pod{}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *pod) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *pod) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	odd, account, down := p.odd, p.account, p.down
	p.asked++
	p.mu.Unlock()
	switch {
	case odd != nil:
		odd.ServeHTTP(w, r)
	case r.Method == "HEAD" && r.URL.Path == "/v1/init/first-account" && (!account || down):
		w.WriteHeader(204)
	case r.Method == "HEAD" && r.URL.Path == "/v1/init/first-account", r.Method == "GET" && r.URL.Path == "/pod/version" && !down:
		w.WriteHeader(200)
	default:
		w.WriteHeader(500)
	}
}

func (v *visitor) account(exists bool) { v.pod.set(func() { v.pod.account = exists }) }

// Once an account exists the API checks who comes, except where it does not.
func TestAnAccountOpensTheDashboard(t *testing.T) {
	v := newVisitor(t)
	c := v.cookie()
	unused := v.link()
	v.account(true)
	v.wants(204, "GET", accountPath)
	v.wants(401, "GET", cookiePath)
	v.wants(204, "GET", cookiePath, c) // the owner still names the workspace
	v.wants(403, "POST", unused)
}

// What opened the door before a factory reset opens nothing in the next request,
// whichever that is, and never again.
func TestReset(t *testing.T) {
	for _, first := range []string{accountPath, cookiePath, "claim"} {
		for _, restarted := range []bool{false, true} {
			v := newVisitor(t)
			c, unused := v.cookie(), v.link()
			v.account(true)
			v.wants(204, "GET", accountPath, c)
			v.account(false)
			if restarted {
				v.restart()
			}
			if first == "claim" {
				v.wants(403, "POST", unused)
			} else {
				v.wants(401, "GET", first, c)
			}
			for range 2 {
				v.wants(401, "GET", accountPath, c)
				v.wants(401, "GET", cookiePath, c)
				v.wants(403, "POST", unused)
				v.restart()
			}
			if err := Usable(v.d.Key, v.d.State, unused, v.now); err != errForged {
				t.Errorf("the agent shows a link of before: %v", err)
			}
			again := v.cookie()
			v.wants(204, "GET", cookiePath, again)
			v.wants(401, "GET", cookiePath, c)
			v.wants(204, "GET", cookiePath, c, again)
		}
	}
}

// Killed between the two writes of a reset, the door begins one more epoch.
func TestResetHalfWritten(t *testing.T) {
	v := newVisitor(t)
	c := v.cookie()
	v.account(true)
	v.wants(204, "GET", accountPath)
	v.account(false)
	if err := put(v.d.State, epochFile, []byte("half")); err != nil {
		t.Fatal(err)
	}
	v.restart()
	v.wants(401, "GET", accountPath, c)
	if before, err := seen(v.d.State); before || err != nil {
		t.Errorf("an account is still seen: %v", err)
	}
}

// The API says "no account" when it cannot ask its server, too.
func TestServerDownIsNoReset(t *testing.T) {
	v := newVisitor(t)
	c := v.cookie()
	v.account(true)
	v.wants(204, "GET", accountPath)
	v.pod.set(func() { v.pod.down = true })
	v.wants(503, "GET", accountPath)
	v.wants(503, "GET", cookiePath, c)
	v.pod.set(func() { v.pod.down = false })
	v.wants(204, "GET", accountPath)
	v.wants(204, "GET", cookiePath, c)
}

// A Pod that does not say how it stands lets nobody in, and nobody's link is
// used up.
func TestPodThatTalksNonsense(t *testing.T) {
	status := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
		})
	}
	odd := map[string]http.Handler{
		"hangs up":      http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
		"never answers": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
		"says garbage": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
				c.Write([]byte("200 OK, trust me\r\n\r\n"))
				c.Close()
			}
		}),
	}
	for _, code := range []int{201, 206, 301, 302, 401, 403, 404, 410, 412, 500, 502, 503, 504} {
		odd[http.StatusText(code)] = status(code)
	}
	for name, h := range odd {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVisitor(t)
			c, path := v.cookie(), v.link()
			v.pod.set(func() { v.pod.odd = h })
			var all sync.WaitGroup
			all.Go(func() { v.wants(503, "GET", accountPath) })
			all.Go(func() { v.wants(503, "GET", accountPath, c) })
			all.Go(func() { v.wants(503, "GET", cookiePath, c) })
			all.Go(func() { v.wants(503, "POST", path) })
			all.Go(func() { v.wants(401, "GET", cookiePath) })
			all.Wait()
			v.pod.set(func() { v.pod.odd = nil })
			v.wants(303, "POST", path)
		})
	}
	t.Run("is away", func(t *testing.T) {
		v := newVisitor(t)
		c := v.cookie()
		v.pod.Close()
		v.wants(503, "GET", accountPath, c)
	})
}

// Without a place for what it must remember the door stays closed.
func TestNothingCanBeRemembered(t *testing.T) {
	v := newVisitor(t)
	c := v.cookie()
	path := v.link()
	block := func(name string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(v.d.State, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	block(".account")
	v.account(true)
	v.wants(503, "GET", accountPath)
	os.Remove(filepath.Join(v.d.State, ".account"))
	v.wants(204, "GET", accountPath)
	block(".epoch")
	v.account(false)
	v.wants(503, "GET", accountPath, c)
	v.wants(503, "GET", cookiePath, c)
	v.wants(503, "POST", path)
	os.Remove(filepath.Join(v.d.State, ".epoch"))
	v.wants(401, "GET", cookiePath, c)

	v = newVisitor(t)
	path = v.link()
	os.RemoveAll(v.d.State)
	v.wants(503, "POST", path)
}

// Who comes while the Pod is asked does not get an answer that is older.
func TestAnswersAreNotOlderThanRequests(t *testing.T) {
	v := newVisitor(t)
	v.account(true)
	v.wants(204, "GET", accountPath)
	begun, release := make(chan bool), make(chan bool)
	v.pod.set(func() {
		v.pod.odd = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begun <- true
			<-release
			w.WriteHeader(200)
		})
	})
	var all sync.WaitGroup
	all.Go(func() { v.wants(204, "GET", accountPath) })
	<-begun
	v.pod.set(func() { v.pod.odd, v.pod.account = nil, false })
	for range 20 {
		all.Go(func() { v.wants(401, "GET", accountPath) })
	}
	release <- true
	all.Wait()
}

// However many come, the Pod is asked one question at a time.
func TestManyVisitorsAskOnce(t *testing.T) {
	v := newVisitor(t)
	v.account(true)
	var mu sync.Mutex
	now, most := 0, 0
	v.pod.set(func() {
		v.pod.odd = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
			w.WriteHeader(200)
		})
	})
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() { v.wants(204, "GET", accountPath) })
	}
	all.Wait()
	if most != 1 || v.pod.asked > 200 {
		t.Errorf("at most %d at once, %d in all", most, v.pod.asked)
	}
}

// A clock that goes back gives nothing more life than it was made with.
func TestClocks(t *testing.T) {
	v := newVisitor(t)
	v.now = t0.Add(20 * 365 * 24 * time.Hour) // ahead, as after a dead battery
	c, path := v.cookie(), v.link()
	v.wants(204, "GET", cookiePath, c)
	v.now = t0
	v.wants(401, "GET", cookiePath, c)
	v.wants(403, "POST", path)
	if err := Usable(v.d.Key, v.d.State, path, v.now); err != errExpired {
		t.Errorf("the agent shows a link of a clock that was ahead: %v", err)
	}
	// A used link stays used, whatever the time.
	path = v.link()
	v.wants(303, "POST", path)
	v.now = t0.Add(-time.Minute)
	v.wants(403, "POST", path)
}

// Resets and claims from all sides: nobody gets in with what is older than a
// reset that is over.
func TestResetsAndClaimsAtOnce(t *testing.T) {
	v := newVisitor(t)
	for range 10 {
		c, path := v.cookie(), v.link()
		v.account(true)
		v.wants(204, "GET", accountPath)
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { v.do("GET", accountPath, c) })
			all.Go(func() { v.do("POST", path) })
		}
		v.account(false)
		for range 10 {
			all.Go(func() { v.wants(401, "GET", cookiePath, c) })
			all.Go(func() { v.wants(401, "GET", accountPath, c) })
		}
		all.Wait()
		v.now = v.now.Add(2 * time.Minute) // old links count as guesses
	}
}
