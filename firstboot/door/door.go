package door

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	claimPath   = "/claim/"
	accountPath = "/check/account"
	cookiePath  = "/check/claim"
	cookieName  = "__Host-prose-claim" // the prefix binds it to this host, RFC 6265bis section 4.1.3
)

// A Door answers NGINX.
type Door struct {
	Key   []byte
	State string           // directory: the epoch, and one file for each link that was used
	API   string           // URL of the Pod's, without a slash at its end
	Now   func() time.Time // nil: time.Now
	Log   func(error)      // why the door stays closed to everybody; may be nil

	mu     sync.Mutex
	logged time.Time
	next   *question  // not begun yet
	asking sync.Mutex // held while the Pod is asked
}

// ServeHTTP answers what NGINX asks for every request to the dashboard, with 204,
// 401 or, when the Pod does not say how it stands, 503: /check/account lets in
// everybody once an account exists, because then the API checks who it is, and
// before that only the claim; /check/claim always only the claim. It answers GET
// of a link with a page that asks, and POST of it by using the link up and
// opening the door to this browser. A GET uses nothing up, because mail filters
// and chat previews fetch links too.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	text, claim := strings.CutPrefix(r.URL.Path, claimPath)
	switch {
	case r.URL.Path == accountPath, r.URL.Path == cookiePath:
		w.WriteHeader(d.check(r))
	case claim && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		d.show(w, text)
	case claim && r.Method == http.MethodPost:
		d.claim(w, r, text)
	default:
		http.NotFound(w, r)
	}
}

func (d *Door) clock() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

// check is the status for a request that NGINX asks about.
func (d *Door) check(r *http.Request) int {
	cookies := r.CookiesNamed(cookieName)
	claimed := func(epoch string) bool {
		return slices.ContainsFunc(cookies, func(c *http.Cookie) bool {
			_, err := signer{d.Key, epoch}.open(cookie, c.Value, d.clock())
			return err == nil
		})
	}
	if r.URL.Path == cookiePath {
		// A stranger is refused without asking the Pod.
		if epoch, err := readEpoch(d.State); err == nil && !claimed(epoch) {
			return http.StatusUnauthorized
		}
	}
	exists, epoch, err := d.now(r.Context())
	switch {
	case err != nil:
		d.log(err)
		return http.StatusServiceUnavailable
	case exists && r.URL.Path == accountPath, claimed(epoch):
		return http.StatusNoContent
	}
	return http.StatusUnauthorized
}

// log says why the door stays closed, at most once a minute.
func (d *Door) log(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := d.clock(); d.Log != nil && (now.Before(d.logged) || now.Sub(d.logged) >= time.Minute) {
		d.logged = now
		d.Log(err)
	}
}

func (d *Door) show(w http.ResponseWriter, text string) {
	epoch, err := readEpoch(d.State)
	if err == nil {
		_, err = d.usable(epoch, text)
	}
	if err != nil {
		d.refuse(w, err)
		return
	}
	page(w, http.StatusOK, `<p>This link makes you the owner of a new Prose Pod. It works once.</p>
<form method="post"><button>Claim this Pod</button></form>`)
}

func (d *Door) claim(w http.ResponseWriter, r *http.Request, text string) {
	epoch, err := readEpoch(d.State)
	if err == nil {
		_, err = d.usable(epoch, text) // who guesses does not get to the Pod
	}
	if err != nil {
		d.refuse(w, err)
		return
	}
	exists, epoch, err := d.now(r.Context())
	switch {
	case err != nil:
		d.log(err)
		refuse(w, http.StatusServiceUnavailable, "The Pod does not answer yet. This link still works: try again in a minute.")
		return
	case exists:
		refuse(w, http.StatusForbidden, `This Pod has an owner. <a href="/">Log in</a> instead.`)
		return
	}
	nonce, err := d.usable(epoch, text)
	if err == nil {
		err = d.use(nonce)
	}
	if err != nil {
		d.refuse(w, err)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: signer{d.Key, epoch}.token(cookie, newNonce(), d.clock().Add(CookieLife)),
		Path: "/", MaxAge: int(CookieLife.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	w.Header().Set("Location", "/")
	w.WriteHeader(http.StatusSeeOther)
}

var errUsed = errors.New("it was used already")

func (d *Door) usable(epoch, text string) (nonce [nonceSize]byte, err error) {
	if nonce, err = (signer{d.Key, epoch}).open(link, text, d.clock()); err != nil {
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
	return syncDir(d.State)
}

func (d *Door) usedPath(nonce [nonceSize]byte) string {
	return filepath.Join(d.State, hex.EncodeToString(nonce[:]))
}

func (d *Door) refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errForged):
		refuse(w, http.StatusForbidden, "This link does not open this machine, or not any more. Copy it again, whole, or see on the machine's console which does.")
	case errors.Is(err, errExpired):
		refuse(w, http.StatusForbidden, "This link has expired. The machine's console shows how to get a new one.")
	case errors.Is(err, errUsed):
		refuse(w, http.StatusForbidden, "This link was used already. If that was not you, log in to the machine and look.")
	default:
		d.log(err)
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
