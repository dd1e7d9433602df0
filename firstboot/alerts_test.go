package firstboot

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/alert"
	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/settings"
	"github.com/prose-im/prose-image/firstboot/status"
)

// The system trusts httptest's authority. Go reads SSL_CERT_FILE once.
func TestMain(m *testing.M) {
	s := httptest.NewTLSServer(nil)
	dir, err := os.MkdirTemp("", "firstboot")
	if err == nil {
		path := filepath.Join(dir, "ca.pem")
		err = errors.Join(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600), os.Setenv("SSL_CERT_FILE", path))
	}
	s.Close()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func TestMatters(t *testing.T) {
	failing := func(host string, left time.Duration, failures int) func(*world) {
		return func(w *world) {
			cert(w, host, func(st *certificate.State) {
				st.Live.NotAfter = w.now.Add(left)
				st.Live.NotBefore = st.Live.NotAfter.Add(-90 * 24 * time.Hour)
				for range failures {
					st.Record.Failures = append(st.Record.Failures, certificate.Failure{At: w.now, Why: "no such name"})
				}
			})
		}
	}
	const day = 24 * time.Hour
	record := func(name string, s status.RecordState) []status.Record {
		return []status.Record{{Name: name, Type: "A", Data: "192.0.2.1", State: s, For: "everything"}}
	}
	full := func(free uint64) func(*world) { return func(w *world) { w.disk = disk{Size: 1000, Free: free} } }
	for _, c := range []struct {
		name    string
		change  func(*world)
		records []status.Record
		was     string
		right   []string
		want    string
	}{
		{"all is well", func(w *world) {}, nil, "", nil, ""},
		{"the Pod is down", func(w *world) { w.pod = podSeen{err: errors.New("x")} }, nil, "", nil, "pod"},
		{"the Pod is coming up", func(w *world) { w.pod = podSeen{busy: true} }, nil, "", nil, "pod"},
		{"the owner has stopped it", func(w *world) { w.pod, w.off = podSeen{}, true }, nil, "", nil, ""},
		{"settings are wrong", func(w *world) { w.report.Problems = make([]settings.Problem, 1) }, nil, "", nil, "settings"},
		{"a record was right", func(w *world) {}, record("x.example.org", status.Missing), "", []string{"A x.example.org"}, "record A x.example.org"},
		{"a record is another", func(w *world) {}, record("x.example.org", status.Wrong), "", []string{"A x.example.org"}, "record A x.example.org"},
		{"a record was never right", func(w *world) {}, record("x.example.org", status.Missing), "", nil, ""},
		{"DNS says nothing", func(w *world) {}, record("x.example.org", status.Unknown), "", []string{"A x.example.org"}, ""},
		{"DNS says nothing any more", func(w *world) {}, record("x.example.org", status.Unknown), "record A x.example.org", []string{"A x.example.org"}, "record A x.example.org"},
		{"a record is right again", func(w *world) {}, record("x.example.org", status.Present), "record A x.example.org", []string{"A x.example.org"}, ""},
		{"a renewal has failed, and is not due", failing(domain, 40*day, 3), nil, "", nil, ""},
		{"a renewal fails since some hours", failing(domain, 30*day-5*time.Hour, 3), nil, "", nil, ""},
		{"a renewal fails since two days", failing(domain, 28*day, 3), nil, "", nil, "certificate example.org"},
		{"nothing failed, but it was due long ago", failing(domain, 11*day, 0), nil, "", nil, ""},
		{"nothing failed, but it ends soon", failing(domain, 9*day, 0), nil, "", nil, "certificate example.org"},
		{"it has ended", failing(domain, -day, 0), nil, "", nil, "certificate example.org"},
		{"only one for the time being", func(w *world) { cert(w, domain, unsigned) }, nil, "", nil, "certificate example.org"},
		{"rooms that nobody needs one for", failing("groups."+domain, -day, 1), nil, "", nil, ""},
		{"85 % of the disk", full(150), nil, "", nil, ""},
		{"86 % of the disk", full(140), nil, "", nil, "disk"},
		{"81 % of a disk that was full", full(190), nil, "disk", nil, "disk"},
		{"80 % of a disk that was full", full(200), nil, "disk", nil, ""},
		{"a restart", func(w *world) { w.reboot = true }, nil, "", nil, "reboot"},
	} {
		w := settled()
		c.change(w)
		list := items(seen{w, next(w, nil), nil, c.records})
		var keys []string
		for _, m := range matters(w, list, c.records, func(key string) bool { return key == c.was }, c.right) {
			keys = append(keys, m.Key)
			if m.Title == "" || !strings.HasSuffix(m.What, ".") || m.Do == "" {
				t.Errorf("%s: a matter without words: %+v", c.name, m)
			}
		}
		if got := strings.Join(keys, ", "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A hook is a real https server that alerts are posted to.
type hook struct {
	mu    sync.Mutex
	said  []string
	code  int
	token string
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	var m alert.Message
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := json.Unmarshal(b, &m); err != nil || r.URL.Path != "/"+h.token || m.Domain != domain {
		h.said = append(h.said, "rubbish")
	}
	for _, c := range m.Matters {
		h.said = append(h.said, string(c.Turn)+" "+c.Key)
	}
	w.WriteHeader(h.code)
}

func (h *hook) wants(t *testing.T, want ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.said, want) {
		t.Errorf("%q was posted, and should have been %q", h.said, want)
	}
	h.said = nil
}

// Runs of a machine that was ready, each with what it remembers from the disk.
func TestAlerts(t *testing.T) {
	const token, password = "T0kenC4nary", "p4sswordC4nary"
	h := &hook{code: http.StatusNoContent, token: token}
	server := httptest.NewTLSServer(h)
	defer server.Close()
	now := t0
	m := &machine{at: t.TempDir(), clock: func() time.Time { return now }}
	if err := os.MkdirAll(m.path(stateDir), 0o700); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	var last status.Status
	run := func(n int, change func(*world)) {
		t.Helper()
		for range n {
			a := newAlerter(m, func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) })
			w := settled()
			w.now = now
			w.settings.Alerts = settings.Alerts{Mail: "owner@example.net", Webhook: settings.NewSecret(server.URL + "/" + token)}
			// Nobody listens there.
			w.settings.SMTP = settings.SMTP{Host: "127.0.0.1", Port: 1, Username: "me@example.org", Password: settings.NewSecret(password), Encrypt: true}
			change(w)
			w.untold = a.troubles()
			last = status.Status{Domain: domain, Items: items(seen{world: w, step: next(w, nil)})}
			last.State = overall(w, last.Items)
			a.look(t.Context(), w, last)
			a.wait(t.Context())
			now = now.Add(time.Minute)
		}
	}
	down := func(w *world) { w.pod = podSeen{err: errors.New("it is broken")} }
	well := func(*world) {}
	path := m.path(alertsPath)

	run(15, func(w *world) { down(w); w.state.Ready = time.Time{} })
	h.wants(t)
	if _, err := os.Stat(path); err == nil {
		t.Error("something is remembered of a machine that was never ready")
	}
	run(30, down)
	h.wants(t, "began pod")
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("what is remembered: %v, %v", info.Mode(), err)
	}
	// The mail that does not leave is a point, and no more.
	i := slices.IndexFunc(last.Items, func(it status.Item) bool { return it.Key == itemAlerts })
	if i < 0 || len(last.Items[i].Points) != 1 || !strings.Contains(last.Items[i].Points[0], "connection refused") || last.Items[i].Again.IsZero() {
		t.Errorf("the status does not say that mail does not leave: %+v", last.Items)
	}
	run(15, well)
	h.wants(t, "over pod")
	if last.State != status.Degraded && last.State != status.Ready {
		t.Errorf("the machine is %s", last.State)
	}

	// A mistake in the settings takes who is told away from them.
	run(15, func(w *world) {
		w.report.Problems = []settings.Problem{{Key: "domain", Message: "x"}}
		w.settings.Alerts, w.settings.SMTP = settings.Alerts{}, settings.SMTP{}
	})
	h.wants(t, "began settings")
	run(15, well)
	h.wants(t, "over settings")

	// An error of the other side, and later none.
	h.code = http.StatusInternalServerError
	run(12, down)
	h.wants(t, "began pod", "began pod")
	h.code = http.StatusOK
	run(5, down)
	h.wants(t, "began pod")
	run(15, well)
	h.wants(t, "over pod")

	// What is broken on the disk costs one message, and no run.
	run(15, down)
	h.wants(t, "began pod")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(15, down)
	h.wants(t, "began pod")

	// Nobody wants to be told any more: no secret stays.
	run(1, func(w *world) { w.settings.Alerts = settings.Alerts{} })
	b, err := os.ReadFile(path)
	if err != nil || bytes.Contains(b, []byte(token)) || bytes.Contains(b, []byte(password)) {
		t.Errorf("%v: %s", err, b)
	}
	said, err := json.Marshal(last)
	if err != nil {
		t.Fatal(err)
	}
	for _, canary := range []string{token, password, "owner@example.net"} {
		if strings.Contains(log.String(), canary) || bytes.Contains(said, []byte(canary)) {
			t.Errorf("%s is in the log or the status:\n%s\n%s", canary, log.String(), said)
		}
	}
	if !strings.Contains(log.String(), "alert by webhook: began: pod") || !strings.Contains(log.String(), "connection refused") {
		t.Errorf("the log says too little:\n%s", log.String())
	}
}

// A server that never answers holds up nothing but the end of a run.
func TestAlertsHoldUpNothing(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	now := t0
	m := &machine{at: t.TempDir(), clock: func() time.Time { return now }}
	if err := os.MkdirAll(m.path(stateDir), 0o700); err != nil {
		t.Fatal(err)
	}
	a := newAlerter(m, t.Logf)
	for range 30 {
		w := settled()
		w.now, w.reboot = now, true
		w.settings.Alerts.Webhook = settings.NewSecret(server.URL)
		a.look(t.Context(), w, status.Status{}) // would not return
		now = now.Add(time.Minute)
	}
	if a.memory.Channels["webhook"] != nil {
		t.Error("a delivery that has not ended is taken for one that has")
	}
	close(release)
	a.wait(t.Context())
	if c := a.memory.Channels["webhook"]; c == nil || c.Error != "" || len(c.Told) != 1 {
		t.Errorf("%+v", c)
	}
}

func TestDisk(t *testing.T) {
	for _, c := range []struct {
		d    disk
		want int
	}{{disk{}, 0}, {disk{100, 100}, 0}, {disk{100, 0}, 100}, {disk{1000, 149}, 86}, {disk{1000, 150}, 85}, {disk{10, 20}, 0}} {
		if got := c.d.percent(); got != c.want {
			t.Errorf("%+v: %d, want %d", c.d, got, c.want)
		}
	}
	m := &machine{at: t.TempDir()}
	if d := m.disk(); d != (disk{}) || m.rebootDue() {
		t.Errorf("of nothing: %+v", d)
	}
	for _, dir := range []string{"/var/lib", "/run"} {
		if err := os.MkdirAll(m.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if d := m.disk(); d.Size < 1<<20 || d.Free > d.Size {
		t.Errorf("of this machine: %+v", d)
	}
	if err := os.WriteFile(m.path("/run/reboot-required"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if !m.rebootDue() {
		t.Error("the mark of Debian is not seen")
	}
}
