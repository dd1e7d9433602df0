package door

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	claimPath  = "/claim/"
	checkPath  = "/check"
	cookieName = "__Host-prose-claim" // the prefix binds it to this host, RFC 6265bis section 4.1.3
)

// A Door answers NGINX.
type Door struct {
	Key  []byte
	Used string           // directory: one file for each link that was used
	Now  func() time.Time // nil: time.Now

	mu    sync.Mutex
	wrong []time.Time // claims that failed within the last minute
}

// mostWrong is how many claims may fail in a minute before none is looked at.
const mostWrong = 20

// ServeHTTP answers three requests: /check, which NGINX asks for every guarded
// one, with 204 or 401; GET of a link with a page that asks; and POST of it,
// which uses the link up and opens the door to this browser. A GET uses nothing
// up, because mail filters and chat previews fetch links too.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	text, claim := strings.CutPrefix(r.URL.Path, claimPath)
	switch {
	case r.URL.Path == checkPath:
		d.check(w, r)
	case claim && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		d.ask(w, text)
	case claim && r.Method == http.MethodPost:
		d.claim(w, text)
	default:
		http.NotFound(w, r)
	}
}

func (d *Door) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

func (d *Door) check(w http.ResponseWriter, r *http.Request) {
	for _, c := range r.CookiesNamed(cookieName) {
		if _, err := open(d.Key, cookie, c.Value, d.now()); err == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	w.WriteHeader(http.StatusUnauthorized)
}

func (d *Door) ask(w http.ResponseWriter, text string) {
	if !d.look() {
		refuse(w, http.StatusTooManyRequests, "Too many wrong links came. Wait a minute, then open yours again.")
		return
	}
	if _, err := d.usable(text); err != nil {
		d.refuse(w, err)
		return
	}
	page(w, http.StatusOK, `<p>This link makes you the owner of a new Prose Pod. It works once.</p>
<form method="post"><button>Claim this Pod</button></form>`)
}

func (d *Door) claim(w http.ResponseWriter, text string) {
	if !d.look() {
		refuse(w, http.StatusTooManyRequests, "Too many wrong links came. Wait a minute, then open yours again.")
		return
	}
	nonce, err := d.usable(text)
	if err == nil {
		err = d.use(nonce)
	}
	if err != nil {
		d.refuse(w, err)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: token(d.Key, cookie, newNonce(), d.now().Add(CookieLife)),
		Path: "/", MaxAge: int(CookieLife.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	w.Header().Set("Location", "/")
	w.WriteHeader(http.StatusSeeOther)
}

var errUsed = errors.New("it was used already")

func (d *Door) usable(text string) (nonce [nonceSize]byte, err error) {
	if nonce, err = open(d.Key, link, text, d.now()); err != nil {
		return nonce, err
	}
	if _, err := os.Lstat(d.usedPath(nonce)); err == nil {
		return nonce, errUsed
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nonce, err
	}
	return nonce, nil
}

// use makes the mark of a used link. Of two that come at once one makes it; the
// mark is on disk before the door opens.
func (d *Door) use(nonce [nonceSize]byte) error {
	f, err := os.OpenFile(d.usedPath(nonce), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return errUsed
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	dir, err := os.Open(d.Used)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func (d *Door) usedPath(nonce [nonceSize]byte) string {
	return filepath.Join(d.Used, hex.EncodeToString(nonce[:]))
}

// look reports whether another claim is looked at.
func (d *Door) look() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	since := d.now().Add(-time.Minute)
	for len(d.wrong) > 0 && d.wrong[0].Before(since) {
		d.wrong = d.wrong[1:]
	}
	return len(d.wrong) < mostWrong
}

func (d *Door) refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errForged):
		d.mu.Lock()
		d.wrong = append(d.wrong, d.now())
		d.mu.Unlock()
		refuse(w, http.StatusForbidden, "This link is not from this machine. Copy it again, whole.")
	case errors.Is(err, errExpired):
		refuse(w, http.StatusForbidden, "This link has expired. The machine's console shows how to get a new one.")
	case errors.Is(err, errUsed):
		refuse(w, http.StatusForbidden, "This link was used already. If that was not you, log in to the machine and look.")
	default:
		refuse(w, http.StatusServiceUnavailable, "The machine cannot check links now. Try again in a minute.")
	}
}

func refuse(w http.ResponseWriter, code int, text string) { page(w, code, "<p>"+text+"</p>") }

func page(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	fmt.Fprintf(w, `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Prose</title>
<style>
:root { color-scheme: light dark }
body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 15vh auto; padding: 0 1rem }
button { font: inherit; padding: .6em 1.2em }
</style>
<main>
<h1>Prose</h1>
%s
</main>
</html>
`, body)
}
