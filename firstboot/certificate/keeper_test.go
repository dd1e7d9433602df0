package certificate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/beneath"
	"github.com/prose-im/prose-image/firstboot/preflight"
)

func TestFourNames(t *testing.T) {
	w := newWorld(t)
	w.rightDNS()
	done := w.settle()
	t.Log(strings.Join(done, ", "))
	w.good()
	if n := w.proxy.count(); n != 4 {
		t.Errorf("%d orders for four names", n)
	}
	if again := w.settle(); len(again) != 0 {
		t.Errorf("a second look does %v", again)
	}
	// What was there is put back without an order.
	live := w.observe()["prose.example.org"].Live.Serial
	if err := w.keeper.interim("prose.example.org"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(w.keeper.Paths.Prosody, domain)); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(w.settle(), ", "), "restore prose.example.org, copy example.org"; got != want {
		t.Errorf("after damage: %s, want %s", got, want)
	}
	if got := w.observe()["prose.example.org"].Live.Serial; got != live || w.proxy.count() != 4 {
		t.Errorf("serial %s, want %s; %d orders", got, live, w.proxy.count())
	}
	for _, file := range []string{"privkey.pem", "fullchain.pem"} {
		info, err := os.Lstat(filepath.Join(w.keeper.Paths.Prosody, domain, file))
		if err != nil || info.Mode() != 0o600 || info.Sys().(*syscall.Stat_t).Uid != 1001 {
			t.Errorf("%s of Prosody: %v %v", file, info, err)
		}
	}
	for _, path := range []string{w.keeper.Paths.Live, w.keeper.Paths.State} {
		filepath.Walk(path, func(path string, info os.FileInfo, err error) error {
			if err != nil || info.Mode()&os.ModeSymlink == 0 && info.Mode()&0o077 != 0 {
				t.Errorf("%s: %v %v", path, info.Mode(), err)
			}
			return nil
		})
	}
	if left, _ := os.ReadDir(w.keeper.Settings.Preflight.Webroot); len(left) != 0 {
		t.Errorf("the webroot still holds %v", left)
	}
}

// one keeps a single name, so that a test is short.
func (w *world) one() string {
	w.keeper.Settings.Names = Names(domain, false)[2:3]
	return w.keeper.Settings.Names[0].Host
}

func TestWrongDNSCostsNoOrder(t *testing.T) {
	w := newWorld(t)
	host := w.one()
	foreign := &http.Server{Addr: fmt.Sprintf("127.0.0.2:%d", w.http), Handler: http.NotFoundHandler()}
	go foreign.ListenAndServe()
	t.Cleanup(func() { foreign.Close() })
	for _, c := range []struct {
		name   string
		a      []string
		aaaa   []string
		caa    string
		kind   preflight.Kind
		found  string
		wanted string
	}{
		{"nothing", nil, nil, "", preflight.NoAddress, "", host + ". 3600 IN A 127.0.0.1"},
		{"another machine", []string{"127.0.0.2"}, nil, "", preflight.Foreign, "127.0.0.2", host + ". 3600 IN A 127.0.0.1"},
		{"one of two", []string{"127.0.0.1", "127.0.0.2"}, nil, "", preflight.Foreign, "127.0.0.2", host + ". 3600 IN A 127.0.0.1"},
		{"nobody's AAAA", []string{"127.0.0.1"}, []string{"::1"}, "", preflight.Silent, "::1", ""},
		{"private", []string{"10.255.255.1"}, nil, "", preflight.Special, "10.255.255.1", host + ". 3600 IN A 127.0.0.1"},
		{"metadata", []string{"169.254.169.254"}, nil, "", preflight.Special, "169.254.169.254", host + ". 3600 IN A 127.0.0.1"},
		{"CAA", []string{"127.0.0.1"}, nil, "other.example", preflight.Forbidden, `issue "other.example"`, `. 3600 IN CAA 0 issue "pebble.letsencrypt.org"`},
	} {
		w.address(host, "a", c.a...)
		w.address(host, "aaaa", c.aaaa...)
		w.set("/clear-caa", map[string]any{"host": domain})
		if c.caa != "" {
			w.set("/add-caa", map[string]any{"host": domain, "policies": []map[string]string{{"tag": "issue", "value": c.caa}}})
		}
		w.clock += time.Minute
		if done := w.settle(); strings.Join(done, ", ") != "check "+host {
			t.Errorf("%s: %v", c.name, done)
		}
		r := w.observe()[host].Record.Preflight
		if len(r.Findings) != 1 || r.Findings[0].Kind != c.kind || strings.Join(r.Findings[0].Found, " ") != c.found || !strings.HasSuffix(r.Findings[0].Wanted, c.wanted) {
			t.Errorf("%s: %+v", c.name, r.Findings)
			continue
		}
		t.Logf("%s: %v", c.name, r.Findings[0])
	}
	w.set("/set-servfail", map[string]any{"host": host})
	w.clock += time.Minute
	w.settle()
	if r := w.observe()[host].Record.Preflight; r.Ready() || r.Findings[0].Kind != preflight.Resolver {
		t.Errorf("SERVFAIL: %+v", r)
	}
	w.set("/clear-servfail", map[string]any{"host": host})
	if n := w.proxy.count(); n != 0 {
		t.Errorf("%d orders while DNS was wrong", n)
	}
	w.set("/clear-caa", map[string]any{"host": domain})
	w.address(host, "a", "127.0.0.1")
	w.address(host, "aaaa")
	w.clock += time.Minute
	w.settle()
	w.good()
	if n := w.proxy.count(); n != 1 {
		t.Errorf("%d orders", n)
	}
}

// dieFinalized is another run of this binary: it orders and kills itself once
// the authority has signed.
func dieFinalized(data []byte) {
	k := &Keeper{Clock: time.Now, finalized: func() { syscall.Kill(os.Getpid(), syscall.SIGKILL) }}
	if err := json.Unmarshal(data, k); err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	fmt.Println(k.Do(context.Background(), Step{Action: GetOne, Host: os.Getenv("DIE_HOST")}))
	os.Exit(4)
}

func TestCrashResumesTheOrder(t *testing.T) {
	w := newWorld(t)
	host := w.one()
	w.rightDNS()
	data, err := json.Marshal(map[string]any{"Settings": w.keeper.Settings, "Paths": w.keeper.Paths, "Ports": w.keeper.Ports})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DIE_FINALIZED="+string(data), "DIE_HOST="+host)
	out, err := cmd.CombinedOutput()
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
		t.Fatalf("the run was to die: %v\n%s", err, out)
	}
	if st := w.observe()[host]; st.Live.Signed || st.Record.Order == nil {
		t.Fatalf("before: %+v", st)
	}
	// NGINX's old worker may take a connection more while the new one comes.
	done := slices.DeleteFunc(w.settle(), func(s string) bool { return s == "reload-nginx "+host })
	if strings.Join(done, ", ") != "order "+host+", ask "+host {
		t.Errorf("after the crash: %v", done)
	}
	w.good()
	if n := w.proxy.count(); n != 1 {
		t.Errorf("%d orders", n)
	}
}

func TestBadNonces(t *testing.T) {
	w := newWorld(t, "PEBBLE_WFE_NONCEREJECT=40")
	w.one()
	w.rightDNS()
	for i := 0; i < 3 && !w.observe()[w.one()].Live.Signed; i++ {
		t.Log(w.settle())
		w.clock += 2 * time.Minute
	}
	w.good()
	if n := w.observe()[w.one()].Record; n.Issued == nil || n.Order != nil {
		t.Errorf("%+v", n)
	}
}

// An authority that stumbles over the field of RFC 9773 gets an order without it.
func TestRenewalWithoutReplaces(t *testing.T) {
	w := newWorld(t)
	w.keeper.Settings.Names = Names(domain, false)[:1]
	w.rightDNS()
	w.settle()
	before := w.observe()[domain].Live.Serial
	refused := 0
	w.proxy.set(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/order-plz" {
			return false
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if payload(body)["replaces"] == nil {
			return false
		}
		refused++
		rw.Header().Set("Content-Type", "application/problem+json")
		rw.WriteHeader(http.StatusInternalServerError)
		io.WriteString(rw, `{"type":"urn:ietf:params:acme:error:serverInternal","status":500}`)
		return true
	})
	if err := w.keeper.Renew(domain); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.good()
	if after := w.observe()[domain]; after.Live.Serial == before || refused == 0 || after.Record.Issued.Replaces != "" {
		t.Errorf("serial %s, %d refused, %+v", after.Live.Serial, refused, after.Record.Issued)
	}
}

// The second order needs no proof: the authority takes the one of the first.
func TestRenewal(t *testing.T) {
	w := newWorldOf(t, map[string]any{"profiles": map[string]any{
		"default":    map[string]any{"description": "ninety days", "validityPeriod": 7776000},
		"shortlived": map[string]any{"description": "six days", "validityPeriod": 518400},
	}}, "PEBBLE_AUTHZREUSE=100")
	w.keeper.Settings.Names = Names(domain, false)[:1]
	w.keeper.Settings.Profile = "golden"
	w.rightDNS()
	w.settle()
	w.good()
	before := w.observe()[domain]
	if !strings.Contains(before.Record.Note, `no profile "golden"`) {
		t.Errorf("note %q", before.Record.Note)
	}
	if r := before.Record.Renewal; r.Chosen.IsZero() || r.Chosen.Before(r.Start) || r.Chosen.After(r.End) {
		t.Errorf("renewal %+v", r)
	}
	w.keeper.Settings.Profile = "shortlived"
	if err := w.keeper.Renew(domain); err != nil {
		t.Fatal(err)
	}
	w.settle()
	w.good()
	after := w.observe()[domain]
	if after.Live.Serial == before.Live.Serial || after.Record.Renew {
		t.Errorf("serial %s as before", after.Live.Serial)
	}
	if last := w.proxy.orders[w.proxy.count()-1]; last["replaces"] == nil || last["profile"] != "shortlived" || after.Record.Issued.Replaces != last["replaces"] {
		t.Errorf("order %v, record %+v", last, after.Record.Issued)
	}
	if life := after.Live.NotAfter.Sub(after.Live.NotBefore); life > 7*day {
		t.Errorf("the profile gave %v", life)
	}
	if w.reloads[ReloadProsody] < 2 || w.reloads[ReloadNGINX] < 2 {
		t.Errorf("reloads %v", w.reloads)
	}
}

func TestDirectoryDown(t *testing.T) {
	w := newWorld(t)
	host := w.one()
	w.rightDNS()
	w.proxy.set(func(rw http.ResponseWriter, r *http.Request) bool {
		http.Error(rw, "gone fishing", http.StatusServiceUnavailable)
		return true
	})
	if done := w.settle(); !slices.Equal(done, []string{"check " + host}) {
		t.Errorf("down: %v", done)
	}
	if r := w.observe()[host].Record.Preflight; len(r.Findings) != 1 || r.Findings[0].Kind != preflight.Authority {
		t.Errorf("down: %+v", r)
	}
	// Then it comes back, but wants peace for two hours.
	w.proxy.set(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/order-plz" {
			return false
		}
		rw.Header().Set("Retry-After", "7200")
		rw.Header().Set("Content-Type", "application/problem+json")
		rw.WriteHeader(429)
		fmt.Fprint(rw, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many","status":429}`)
		return true
	})
	w.clock += time.Minute
	w.settle()
	s := w.step()
	if wait := s.Until.Sub(w.keeper.Clock()); s.Action != Idle || wait < 119*time.Minute || wait > 2*time.Hour {
		t.Errorf("limited: %+v, %v", s, wait)
	}
	w.proxy.set(nil)
	w.clock += time.Hour
	if done := w.settle(); len(done) != 0 {
		t.Errorf("too early: %v", done)
	}
	w.clock += time.Hour
	w.settle()
	w.good()
}

func TestFailedProof(t *testing.T) {
	w := newWorld(t)
	host := w.one()
	w.rightDNS()
	// Preflight sees us, then the world changes before the authority looks.
	w.do(w.step())
	w.address(host, "a", "127.0.0.9")
	w.settle()
	r := w.observe()[host].Record
	if len(r.Failures) != 1 || !r.Failures[0].Order || r.Failures[0].Wait != time.Minute || r.Order != nil {
		t.Fatalf("%+v", r)
	}
	t.Log(r.Failures[0].Why)
	w.address(host, "a", "127.0.0.1")
	w.clock += 2 * time.Minute
	w.settle()
	w.good()
	if n := w.proxy.count(); n != 2 {
		t.Errorf("%d orders", n)
	}
}

func TestInstalledPairIsNeverMixed(t *testing.T) {
	p := Paths{Live: t.TempDir()}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	put := func() error {
		chain, key, err := SelfSigned([]string{domain}, time.Now())
		if err != nil {
			return err
		}
		number, err := p.store(domain, chain, key, false)
		if err != nil {
			return err
		}
		return p.point(domain, number)
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	bad, reads := make(chan error, 1), 0
	go func() {
		defer close(bad)
		for ctx.Err() == nil {
			if _, _, _, err := readPair(p.liveDir(domain), domain); err != nil && !os.IsNotExist(err) {
				bad <- err
				return
			} else if _, err := os.Stat(p.liveDir(domain) + "/privkey.pem"); err != nil {
				bad <- err
				return
			}
			reads++
		}
	}()
	writes := 0
	for ctx.Err() == nil {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		writes++
	}
	if err := <-bad; err != nil {
		t.Error(err)
	}
	t.Logf("%d reads, %d writes", reads, writes)
	if reads < 10 || writes < 10 {
		t.Error("too few to tell")
	}
	if entries, _ := os.ReadDir(p.archiveDir(domain)); len(entries) > 3 {
		t.Errorf("%d pairs are kept", len(entries))
	}
}

// Certbot's own directory gives way, in one exchange.
func TestCertbotsDirectory(t *testing.T) {
	p := Paths{Live: t.TempDir()}
	write(t, p.liveDir(domain)+"/fullchain.pem", "old")
	chain, key, err := SelfSigned([]string{domain}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	number, err := p.store(domain, chain, key, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.point(domain, number); err != nil {
		t.Fatal(err)
	}
	if pair, _, _, err := readPair(p.liveDir(domain), domain); err != nil || pair.Serial != number {
		t.Errorf("%+v %v", pair, err)
	}
	if left, _ := os.ReadDir(filepath.Join(p.Live, "live")); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// The owner of Prosody's directory plants links where we write.
func TestPlantedLinks(t *testing.T) {
	root := t.TempDir()
	outside := write(t, filepath.Join(root, "outside/privkey.pem"), "root's")
	certs := filepath.Join(root, "prosody/certs")
	if err := os.Mkdir(filepath.Dir(certs), 0o755); err != nil {
		t.Fatal(err)
	}
	put := ForProsody(certs, beneath.Owner{UID: 1001, GID: 1001})
	if err := put(domain+"/privkey.pem", []byte("key")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(certs, domain, "privkey.pem")
	os.Remove(file)
	if err := os.Symlink(outside, file); err != nil {
		t.Fatal(err)
	}
	if err := put(domain+"/privkey.pem", []byte("key")); err != nil {
		t.Error(err) // the link gives way
	}
	os.RemoveAll(filepath.Join(certs, domain))
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(certs, domain)); err != nil {
		t.Fatal(err)
	}
	if err := put(domain+"/privkey.pem", []byte("key")); err != nil {
		t.Error(err) // so does a link in the place of the directory
	}
	if info, err := os.Lstat(filepath.Join(certs, domain)); err != nil || !info.IsDir() {
		t.Errorf("there is %v, %v", info, err)
	}
	if data, err := os.ReadFile(outside); string(data) != "root's" {
		t.Errorf("outside: %q %v", data, err)
	}
	if pair, _, _, err := readPair(filepath.Join(certs, domain), domain); err == nil {
		t.Errorf("read %+v", pair)
	}
}
