package door

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

var t0 = time.Unix(1700000000, 0)

type visitor struct {
	t   *testing.T
	d   *Door
	pod *pod
	now time.Time
}

func newVisitor(t *testing.T) *visitor {
	v := &visitor{t: t, now: t0, pod: newPod(t)}
	v.d = &Door{Key: NewKey(), State: t.TempDir(), API: v.pod.URL, Now: func() time.Time { return v.now }, Log: func(err error) { t.Log(err) }}
	return v
}

// restart is another process with what is on the disk.
func (v *visitor) restart() {
	v.d = &Door{Key: v.d.Key, State: v.d.State, API: v.d.API, Now: v.d.Now, Log: v.d.Log}
}

// link is the path of a new link.
func (v *visitor) link() string {
	v.t.Helper()
	path, err := Path(v.d.Key, v.d.State, v.now)
	if err != nil {
		v.t.Fatal(err)
	}
	return path
}

// cookie claims the Pod.
func (v *visitor) cookie() *http.Cookie {
	v.t.Helper()
	r := v.wants(303, "POST", v.link())
	if len(r.Cookies()) != 1 {
		v.t.Fatalf("answer %v", r.Header)
	}
	return r.Cookies()[0]
}

func (v *visitor) do(method, path string, cookies ...*http.Cookie) *http.Response {
	v.t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	v.d.ServeHTTP(w, r)
	return w.Result()
}

func (v *visitor) wants(code int, method, path string, cookies ...*http.Cookie) *http.Response {
	v.t.Helper()
	r := v.do(method, path, cookies...)
	if r.StatusCode != code {
		v.t.Errorf("%s %s: %d, want %d", method, path, r.StatusCode, code)
	}
	return r
}

func TestClaim(t *testing.T) {
	v := newVisitor(t)
	path := v.link()
	v.wants(401, "GET", accountPath)
	v.wants(401, "GET", cookiePath)
	// Looking does not use it up.
	v.wants(200, "GET", path)
	v.wants(200, "HEAD", path)
	r := v.wants(303, "POST", path)
	if len(r.Cookies()) != 1 || r.Header.Get("Location") != "/" {
		t.Fatalf("answer %v", r.Header)
	}
	c := r.Cookies()[0]
	if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || !strings.HasPrefix(c.Name, "__Host-") {
		t.Errorf("cookie %v", c)
	}
	v.wants(204, "GET", accountPath, c)
	v.wants(204, "GET", cookiePath, c)
	v.wants(204, "GET", cookiePath, &http.Cookie{Name: cookieName, Value: "old"}, c)
	v.wants(403, "POST", path)
	v.wants(403, "GET", path)

	// Not after its time, not with another key, not as something else.
	v.now = t0.Add(CookieLife)
	v.wants(401, "GET", cookiePath, c)
	v.now = t0
	other := newVisitor(t)
	other.wants(401, "GET", cookiePath, c)
	other.wants(403, "POST", path)
	v.wants(401, "GET", cookiePath, &http.Cookie{Name: cookieName, Value: strings.TrimPrefix(v.link(), claimPath)})
	v.wants(403, "POST", claimPath+c.Value)
	late := v.link()
	v.now = t0.Add(LinkLife)
	v.wants(403, "POST", late)
}

func TestUsable(t *testing.T) {
	v := newVisitor(t)
	path := v.link()
	usable := func(key []byte, path string, at time.Time) error { return Usable(key, v.d.State, path, at) }
	if err := usable(v.d.Key, path, v.now); err != nil {
		t.Error(err)
	}
	if err := usable(NewKey(), path, v.now); err != errForged {
		t.Errorf("with another key: %v", err)
	}
	if err := usable(v.d.Key, "/elsewhere", v.now); err != errForged {
		t.Errorf("another path: %v", err)
	}
	if err := usable(v.d.Key, path, v.now.Add(LinkLife)); err != errExpired {
		t.Errorf("too late: %v", err)
	}
	v.wants(303, "POST", path)
	if err := usable(v.d.Key, path, v.now); err != errUsed {
		t.Errorf("once used: %v", err)
	}
}

func TestAfterRestartAUsedLinkStaysUsed(t *testing.T) {
	v := newVisitor(t)
	path := v.link()
	v.wants(303, "POST", path)
	v.restart()
	v.wants(403, "POST", path)
}

func TestOfManyAtOnceOneGetsIn(t *testing.T) {
	v := newVisitor(t)
	path := v.link()
	var mu sync.Mutex
	in := 0
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if v.do("POST", path).StatusCode == 303 {
				mu.Lock()
				in++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if in != 1 {
		t.Errorf("%d got in", in)
	}
	// Both have seen that it is not used.
	nonce := newNonce()
	if err := v.d.use(nonce); err != nil {
		t.Error(err)
	}
	if err := v.d.use(nonce); err != errUsed {
		t.Errorf("the second of two: %v", err)
	}
}

// Every single changed character of a link makes it worthless.
func TestForged(t *testing.T) {
	v := newVisitor(t)
	good := strings.TrimPrefix(v.link(), claimPath)
	for i := range good {
		b := []byte(good)
		b[i] = 'A'
		if b[i] == good[i] {
			b[i] = 'B'
		}
		if _, err := (signer{v.d.Key, ""}).open(link, string(b), v.now); err == nil {
			t.Errorf("a link with another character %d is taken", i)
		}
	}
	for _, text := range []string{"", "x", good[:len(good)-1], good + "A", good + "="} {
		if _, err := (signer{v.d.Key, ""}).open(link, text, v.now); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// Nobody guesses 128 bits, and strangers who try must not keep the owner out.
func TestGuessesLockNobodyOut(t *testing.T) {
	v := newVisitor(t)
	good := v.link()
	for range 100 {
		v.wants(403, "POST", claimPath+"guess")
	}
	v.wants(303, "POST", good)
}

func TestAnswersHoldNoSecret(t *testing.T) {
	v := newVisitor(t)
	path := v.link()
	for _, r := range []*http.Response{v.do("GET", path), v.do("GET", claimPath+"<script>"), v.do("GET", "/"), v.do("PUT", path)} {
		var b bytes.Buffer
		b.ReadFrom(r.Body)
		if strings.Contains(b.String(), strings.TrimPrefix(path, claimPath)) || strings.Contains(b.String(), "<script") {
			t.Errorf("answer: %s", &b)
		}
		if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("headers %v", r.Header)
		}
	}
}

func FuzzOpen(f *testing.F) {
	first := signer{bytes.Repeat([]byte{7}, KeySize), ""}
	f.Add(first.token(link, [nonceSize]byte{1}, t0))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := first.open(link, text, time.Unix(1, 0)); err == nil && text != first.token(link, [nonceSize]byte{1}, t0) {
			t.Errorf("%q is taken", text)
		}
	})
}
