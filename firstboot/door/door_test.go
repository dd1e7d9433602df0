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
	now time.Time
}

func newVisitor(t *testing.T) *visitor {
	v := &visitor{t: t, now: t0}
	v.d = &Door{Key: NewKey(), Used: t.TempDir(), Now: func() time.Time { return v.now }}
	return v
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
	path := Path(v.d.Key, v.now)
	v.wants(401, "GET", "/check")
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
	v.wants(204, "GET", "/check", c)
	v.wants(204, "GET", "/check", &http.Cookie{Name: cookieName, Value: "old"}, c)
	v.wants(403, "POST", path)
	v.wants(403, "GET", path)

	// Not after its time, not with another key, not as something else.
	v.now = t0.Add(CookieLife)
	v.wants(401, "GET", "/check", c)
	v.now = t0
	other := newVisitor(t)
	other.wants(401, "GET", "/check", c)
	other.wants(403, "POST", path)
	v.wants(401, "GET", "/check", &http.Cookie{Name: cookieName, Value: strings.TrimPrefix(Path(v.d.Key, v.now), claimPath)})
	v.wants(403, "POST", claimPath+c.Value)
	late := Path(v.d.Key, v.now)
	v.now = t0.Add(LinkLife)
	v.wants(403, "POST", late)
}

func TestUsable(t *testing.T) {
	v := newVisitor(t)
	path := Path(v.d.Key, v.now)
	usable := func(key []byte, path string, at time.Time) error { return Usable(key, v.d.Used, path, at) }
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
	path := Path(v.d.Key, v.now)
	v.wants(303, "POST", path)
	v.d = &Door{Key: v.d.Key, Used: v.d.Used, Now: v.d.Now}
	v.wants(403, "POST", path)
}

func TestOfManyAtOnceOneGetsIn(t *testing.T) {
	v := newVisitor(t)
	path := Path(v.d.Key, v.now)
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
}

// Every single changed character of a link makes it worthless.
func TestForged(t *testing.T) {
	v := newVisitor(t)
	good := strings.TrimPrefix(Path(v.d.Key, v.now), claimPath)
	for i := range good {
		b := []byte(good)
		b[i] = 'A'
		if b[i] == good[i] {
			b[i] = 'B'
		}
		if _, err := open(v.d.Key, link, string(b), v.now); err == nil {
			t.Errorf("a link with another character %d is taken", i)
		}
	}
	for _, text := range []string{"", "x", good[:len(good)-1], good + "A", good + "="} {
		if _, err := open(v.d.Key, link, text, v.now); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestGuessingIsSlow(t *testing.T) {
	v := newVisitor(t)
	good := Path(v.d.Key, v.now)
	for range mostWrong {
		v.wants(403, "POST", claimPath+"guess")
	}
	v.wants(429, "POST", claimPath+"guess")
	v.wants(429, "POST", good)
	v.now = t0.Add(61 * time.Second)
	v.wants(303, "POST", good)
}

func TestAnswersHoldNoSecret(t *testing.T) {
	v := newVisitor(t)
	path := Path(v.d.Key, v.now)
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
	key := bytes.Repeat([]byte{7}, KeySize)
	f.Add(token(key, link, [nonceSize]byte{1}, t0))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := open(key, link, text, time.Unix(1, 0)); err == nil && text != token(key, link, [nonceSize]byte{1}, t0) {
			t.Errorf("%q is taken", text)
		}
	})
}
