package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/prose-im/prose-image/firstboot/preflight"
)

// Each fault is the authority's. In each the machine spends no more than it
// must, says what is wrong, and has its certificate once the fault is over.

// record is what is remembered of the one name.
func (w *world) record() Record { return w.observe()[w.keeper.Settings.Names[0].Host].Record }

// within lets time pass in steps of a minute until the name is certified, and
// fails if that takes longer than limit.
func (w *world) within(limit time.Duration) {
	w.t.Helper()
	host := w.keeper.Settings.Names[0].Host
	for begin := w.clock; ; w.clock += time.Minute {
		w.settle()
		if st := w.observe()[host]; st.Live.Signed && st.Live.Valid(w.keeper.Clock()) {
			w.good()
			w.t.Logf("healed after %v", w.clock-begin)
			return
		}
		if w.clock-begin > limit {
			w.t.Fatalf("no certificate after %v: %+v", limit, w.record())
		}
	}
}

func problem(rw http.ResponseWriter, status int, kind string) bool {
	rw.Header().Set("Content-Type", "application/problem+json")
	rw.WriteHeader(status)
	fmt.Fprintf(rw, `{"type":"urn:ietf:params:acme:error:%s","detail":"a test","status":%d}`, kind, status)
	return true
}

func TestEverySecondNonceIsBad(t *testing.T) {
	w := newWorld(t)
	w.one()
	w.rightDNS()
	var n, bad atomic.Int32
	w.proxy.set(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || n.Add(1)%2 == 0 {
			return false
		}
		bad.Add(1)
		return problem(rw, 400, "badNonce")
	})
	w.settle()
	w.good()
	if r := w.record(); bad.Load() < 5 || len(r.Tries) != 1 {
		t.Errorf("%d bad nonces, %+v", bad.Load(), r)
	}
}

// A certificate that takes longer than a step is fetched by a later one.
func TestSlowFinalize(t *testing.T) {
	w := newWorld(t)
	host := w.one()
	w.rightDNS()
	w.do(w.step())
	w.proxy.rewrite = func(path string, body []byte) []byte {
		if strings.HasPrefix(path, "/my-order/") || strings.HasPrefix(path, "/finalize-order/") {
			return bytes.Replace(body, []byte(`"status": "valid"`), []byte(`"status": "processing"`), 1)
		}
		return body
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := w.keeper.Do(ctx, Step{Action: GetOne, Host: host})
	if r := w.record(); !errors.Is(err, context.DeadlineExceeded) || r.Order == nil || r.Lost != 0 {
		t.Fatalf("%v, %+v", err, r)
	}
	w.proxy.rewrite = nil
	w.within(5 * time.Minute)
	if n := w.proxy.count(); n != 1 {
		t.Errorf("%d orders", n)
	}
}

// client is the test's own, with the machine's account.
func (w *world) client() (*authority, func()) {
	w.t.Helper()
	a, err := open(w.t.Context(), w.keeper.Settings, w.keeper.Paths)
	if err == nil {
		err = a.register(w.t.Context(), w.keeper.Settings)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return a, a.close
}

// stuck brings the one name to an order whose authorizations cannot be read.
func (w *world) stuck(after string) acme.Order {
	w.t.Helper()
	var seen atomic.Bool
	seen.Store(after == "")
	w.proxy.set(func(rw http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/authZ/") && seen.Load() {
			http.Error(rw, "not now", http.StatusBadGateway)
			return true
		}
		if after != "" && strings.HasPrefix(r.URL.Path, after) {
			seen.Store(true)
		}
		return false
	})
	w.settle()
	w.proxy.set(nil)
	r := w.record()
	if r.Order == nil || r.Order.URL == "" || r.Lost != 0 {
		w.t.Fatalf("no order is stuck: %+v", r)
	}
	a, done := w.client()
	defer done()
	o, err := a.client.GetOrder(w.t.Context(), a.account, acme.Order{Location: r.Order.URL})
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

func TestAuthorizationIsGone(t *testing.T) {
	w := newWorld(t)
	w.one()
	w.rightDNS()
	o := w.stuck("")
	a, done := w.client()
	if _, err := a.client.DeactivateAuthorization(t.Context(), a.account, o.Authorizations[0]); err != nil {
		t.Fatal(err)
	}
	done()
	w.within(10 * time.Minute)
	if r := w.record(); len(r.Tries) != 2 || r.Lost != 0 {
		t.Errorf("%+v", r)
	}
	// One that has expired, as authorities say it of those that nobody used.
	if err := w.keeper.Renew(w.keeper.Settings.Names[0].Host); err != nil {
		t.Fatal(err)
	}
	w.stuck("")
	w.proxy.rewrite = func(path string, body []byte) []byte {
		if strings.HasPrefix(path, "/authZ/") {
			return bytes.Replace(body, []byte(`"status": "pending"`), []byte(`"status": "expired"`), 1)
		}
		return body
	}
	w.clock += 2 * time.Minute
	w.settle()
	if r := w.record(); r.Lost != 0 || r.Order != nil || !strings.Contains(r.Failures[len(r.Failures)-1].Why, "expired") {
		t.Errorf("%+v", r)
	}
	w.proxy.rewrite = nil
	w.clock += 10 * time.Minute
	w.settle()
	if r := w.record(); r.Renew {
		t.Errorf("%+v", r)
	}
}

// The proof has failed while nobody looked.
func TestOrderIsInvalidAfterACrash(t *testing.T) {
	w := newWorld(t)
	host := w.one()
	w.rightDNS()
	w.do(w.step())
	w.address(host, "a", "127.0.0.9")
	w.stuck("/chalZ/")
	for begin := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		a, done := w.client()
		o, err := a.client.GetOrder(t.Context(), a.account, acme.Order{Location: w.record().Order.URL})
		done()
		if err == nil && o.Status == acme.StatusInvalid {
			break
		}
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("waited 30 s for an invalid order: %+v %v", o, err)
		}
	}
	w.address(host, "a", "127.0.0.1")
	w.within(10 * time.Minute)
	if n := w.proxy.count(); n != 2 {
		t.Errorf("%d orders", n)
	}
}

// The authority forgets account and order, or closes the account.
func TestAccountIsGone(t *testing.T) {
	w := newWorld(t)
	w.one()
	w.rightDNS()
	w.stuck("")
	w.amnesia()
	w.within(10 * time.Minute)
	key := func() string {
		files, _ := filepath.Glob(w.keeper.Paths.State + "/*/account.key")
		data, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	before := key()
	a, done := w.client()
	if _, err := a.client.UpdateAccount(t.Context(), acme.Account{Status: acme.StatusDeactivated, Location: a.account.Location, PrivateKey: a.account.PrivateKey}); err != nil {
		t.Fatal(err)
	}
	done()
	if err := w.keeper.Renew(w.keeper.Settings.Names[0].Host); err != nil {
		t.Fatal(err)
	}
	for range 12 {
		w.clock += time.Minute
		w.settle()
	}
	w.good()
	if r := w.record(); r.Renew || key() == before {
		t.Errorf("same key: %v, %+v", key() == before, r)
	}
}

// window has the authority answer with this when it is asked when to renew.
func (w *world) window(answer string) {
	w.t.Helper()
	leaf, err := w.keeper.Paths.liveLeaf(w.keeper.Settings.Names[0].Host)
	if err != nil {
		w.t.Fatal(err)
	}
	body, _ := json.Marshal(map[string]string{"Certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})), "ARIResponse": answer})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	res, err := client.Post(w.management+"/set-renewal-info/", "application/json", bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		w.t.Fatal(res.Status)
	}
}

func window(start, end time.Time) string {
	return fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q},"explanationURL":"https://ca.example/why"}`, start.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339))
}

func TestRenewalWindows(t *testing.T) {
	w := newWorldOf(t, map[string]any{"profiles": map[string]any{"default": map[string]any{"description": "d", "validityPeriod": 7776000}}})
	host := w.one()
	w.rightDNS()
	w.settle()
	first := w.observe()[host].Live
	begin := first.NotBefore
	look := func(answer string) Renewal {
		w.window(answer)
		w.clock += 13 * time.Hour
		w.settle()
		return w.record().Renewal
	}
	// What is no window changes nothing.
	for _, broken := range []string{"<html>", window(begin.Add(2*day), begin.Add(day))} {
		if r := look(broken); r.Error == "" || w.observe()[host].Live.Serial != first.Serial {
			t.Errorf("%q: %+v", broken, r)
		}
	}
	// Far in the future: not later than the last tenth.
	if r := look(window(begin.Add(900*day), begin.Add(901*day))); !RenewAt(first, r).Before(first.NotAfter.Add(-8 * day)) {
		t.Errorf("renewal at %v, the end is %v", RenewAt(first, r), first.NotAfter)
	}
	// Moved forward: chosen within, and not before.
	now := w.keeper.Clock()
	if r := look(window(now.Add(5*day), now.Add(6*day))); r.Chosen.Before(now.Add(5*day-time.Minute)) || r.Chosen.After(now.Add(6*day)) || r.Explanation == "" {
		t.Errorf("%+v", r)
	}
	// In the past: at once, and the successor names its predecessor.
	look(window(begin.Add(-2*day), begin.Add(-day)))
	w.good()
	if st := w.observe()[host]; st.Live.Serial == first.Serial || st.Record.Issued.Replaces == "" {
		t.Errorf("not renewed: %+v", st.Record)
	}
	// An authority that says so of each new one has an order a day, not a loop.
	w.proxy.rewrite = func(path string, body []byte) []byte {
		if strings.Contains(path, "renewalInfo") {
			return []byte(window(begin.Add(-2*day), begin.Add(-day)))
		}
		return body
	}
	before := w.proxy.count()
	for range 3 * 6 {
		w.clock += 4 * time.Hour
		w.settle()
	}
	if n := w.proxy.count() - before; n < 2 || n > 6 { // each is a request with the field and, where Pebble stumbles, one without
		t.Errorf("%d requests for orders in three days", n)
	}
}

func TestRefusedProfile(t *testing.T) {
	w := newWorld(t)
	w.one()
	w.keeper.Settings.Profile = "golden"
	w.rightDNS()
	w.proxy.rewrite = func(path string, body []byte) []byte {
		if path == "/dir" {
			return bytes.Replace(body, []byte(`"profiles": {`), []byte(`"profiles": {"golden": "g",`), 1)
		}
		return body
	}
	w.settle()
	w.good()
	if r := w.record(); !strings.Contains(r.Note, `refuses the profile "golden"`) || r.Lost != 0 {
		t.Errorf("%+v", r)
	}
}

func TestExternalAccount(t *testing.T) {
	const mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	w := newWorldOf(t, map[string]any{"externalAccountBindingRequired": true, "externalAccountMACKeys": map[string]string{"kid-1": mac}})
	w.one()
	w.rightDNS()
	for _, wrong := range []*EAB{nil, {"kid-2", mac}, {"kid-1", "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH"}, {"kid-1", "no base64url!"}} {
		w.keeper.Settings.EAB = wrong
		w.clock += 2 * time.Minute
		w.settle()
		f := w.record().Preflight.Findings
		if len(f) != 1 || f[0].Kind != preflight.Authority || strings.Contains(f[0].Why, mac) {
			t.Errorf("%+v", f)
			continue
		}
		t.Log(f[0].Why)
	}
	w.keeper.Settings.EAB = &EAB{"kid-1", mac}
	w.within(2 * time.Minute)
	if r := w.record(); len(r.Tries) != 1 {
		t.Errorf("%+v", r)
	}
}

// A portal or a broken front answers with pages, at length.
func TestDirectoryIsAPage(t *testing.T) {
	w := newWorld(t)
	w.one()
	w.rightDNS()
	for _, status := range []int{200, 403, 503} {
		for _, kind := range []string{"text/html; charset=utf-8", "text/plain"} {
			w.proxy.set(func(rw http.ResponseWriter, r *http.Request) bool {
				rw.Header().Set("Content-Type", kind)
				rw.WriteHeader(status)
				io.WriteString(rw, strings.Repeat("<p>Welcome to the hotel\n", 10000))
				return true
			})
			w.clock += 2 * time.Minute
			w.settle()
			f := w.record().Preflight.Findings
			if len(f) != 1 || f[0].Kind != preflight.Authority || len(f[0].Why) > 600 || strings.HasPrefix(kind, "text/html") && !strings.Contains(f[0].Why, fmt.Sprintf("a web page answers with status %d", status)) {
				t.Errorf("%d %s: %+v", status, kind, f)
			}
		}
	}
	w.proxy.set(nil)
	w.within(2 * time.Minute)
	if r := w.record(); len(r.Tries) != 1 {
		t.Errorf("%+v", r)
	}
}

// Retry-After is obeyed, in both forms, before an account is made and after.
func TestRetryAfter(t *testing.T) {
	w := newWorld(t)
	w.one()
	w.rightDNS()
	asked := 0
	limited := func(path, after string) {
		w.proxy.set(func(rw http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != path {
				return false
			}
			asked++
			rw.Header().Set("Retry-After", after)
			return problem(rw, 429, "rateLimited")
		})
	}
	for _, c := range []struct{ path, after string }{
		{"/sign-me-up", "10800"},
		{"/order-plz", time.Now().Add(w.clock + 3*time.Hour).UTC().Format(http.TimeFormat)},
	} {
		limited(c.path, c.after)
		asked = 0
		for range 17 {
			w.settle()
			w.clock += 10 * time.Minute
		}
		if asked != 1 {
			t.Errorf("%s was asked %d times in three hours", c.path, asked)
		}
		w.proxy.set(nil)
		w.clock += 20 * time.Minute
	}
	w.within(time.Minute)
}

// The clock jumps, and what an authority signs is not valid by it: there is one
// order, what it has led to is shown, and the clock is doubted.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{-5 * time.Hour, -400 * day, 200 * day} {
		t.Run(jump.String(), func(t *testing.T) {
			w := newWorld(t)
			host := w.one()
			w.rightDNS()
			w.clock = jump
			for range 26 {
				w.settle()
				w.clock += time.Hour
			}
			st := w.observe()[host]
			if w.proxy.count() != 1 || !st.Live.Signed || !st.Doubtful(w.keeper.Clock()) && jump < -6*time.Hour || st.HTTPS.Serial != st.Live.Serial {
				t.Errorf("%d orders, %+v", w.proxy.count(), st)
			}
			w.clock = 0
			w.settle()
			w.good()
			if n := w.proxy.count(); n != 1 {
				t.Errorf("%d orders after the clock was set", n)
			}
		})
	}
}

// A kill between the authority's answer and the disk: the order is found again
// where the authority lists orders, and costs one more where it does not.
func TestOrderThatADiedRunHasNotSeen(t *testing.T) {
	for _, c := range []struct {
		name   string
		listed bool
		orders int
	}{{"listed", true, 5}, {"not listed", false, 6}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.rightDNS()
			if !c.listed {
				w.proxy.rewrite = func(path string, body []byte) []byte {
					if path == "/sign-me-up" {
						return bytes.Replace(body, []byte(`"orders"`), []byte(`"sredro"`), 1)
					}
					return body
				}
			}
			w.settle() // four orders: the list has a second page
			host := domain
			if err := w.keeper.Renew(host); err != nil {
				t.Fatal(err)
			}
			w.do(Step{Action: CheckDNS, Host: host})
			ctx, kill := context.WithCancel(t.Context())
			defer kill()
			w.proxy.answered = func(path string) {
				if path == "/order-plz" {
					kill()
				}
			}
			err := w.keeper.Do(ctx, Step{Action: GetOne, Host: host})
			w.proxy.answered = nil
			if r := w.observe()[host].Record; !errors.Is(err, context.Canceled) || r.Order == nil || r.Order.URL != "" {
				t.Fatalf("%v, %+v", err, r)
			}
			w.clock += time.Minute
			done := w.settle()
			w.good()
			if !slices.Contains(done, "order "+host) || w.observe()[host].Record.Renew || w.proxy.made != c.orders {
				t.Errorf("%v, %d orders", done, w.proxy.made)
			}
		})
	}
}
