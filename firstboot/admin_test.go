package firstboot

import (
	"context"
	"encoding/json"
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

// An api is what the agent and the door ask of the Pod, with upstream's answers.
type api struct {
	mu        sync.Mutex
	workspace string // its name
	broken    bool
	accounts  []string
	said      []string // requests in order
}

func (p *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var body struct{ Name, Username, Password, Nickname string }
	json.NewDecoder(r.Body).Decode(&body)
	what := r.Method + " " + r.URL.Path
	p.said = append(p.said, what)
	code := http.StatusNotFound
	switch {
	case p.broken:
		code = http.StatusInternalServerError
	case what == "HEAD /api/v1/init/first-account" && len(p.accounts) > 0, what == "GET /api/pod/version":
		code = http.StatusOK
	case what == "HEAD /api/v1/init/first-account":
		code = http.StatusNoContent
	case what == "HEAD /api/v1/workspace" && r.Header.Get("If-Match") != "*":
		code = http.StatusBadRequest
	case what == "HEAD /api/v1/workspace" && p.workspace == "":
		code = http.StatusPreconditionFailed
	case what == "HEAD /api/v1/workspace":
		code = http.StatusNoContent
	case what == "PUT /api/v1/workspace":
		p.workspace, code = body.Name, http.StatusCreated
	case what == "PUT /api/v1/init/first-account" && len(p.accounts) > 0:
		code = http.StatusConflict
	case what == "PUT /api/v1/init/first-account":
		p.accounts, code = append(p.accounts, body.Username), http.StatusCreated
	}
	w.WriteHeader(code)
}

// newMachine is one with a door and a Pod's API, and nothing else.
func newMachine(t *testing.T) (*machine, *api) {
	t.Helper()
	p := &api{}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	m := &machine{at: t.TempDir(), clock: time.Now, dashboard: server.URL}
	for _, d := range []string{doorState, filepath.Dir(door.Socket)} {
		if err := os.MkdirAll(m.path(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", m.path(door.Socket))
	if err != nil {
		t.Fatal(err)
	}
	d := &http.Server{Handler: &door.Door{Key: door.NewKey(), State: m.path(doorState), API: server.URL + "/api"}}
	go d.Serve(l)
	t.Cleanup(func() { d.Close() })
	return m, p
}

func supervised(m *machine) *agent {
	a := &agent{machine: m}
	a.pod = newSupervisor(context.Background(), m, func(string, ...any) {})
	return a
}

func TestCreateAdmin(t *testing.T) {
	w := settled()
	w.settings.Admin.Username, w.settings.Admin.Nickname = "alice", "Alice"
	m, p := newMachine(t)
	a := supervised(m)
	if err := a.createAdmin(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if seen := a.pod.seen().account; seen == nil || !*seen {
		t.Errorf("an account: %v", seen)
	}
	want := []string{"HEAD /api/v1/workspace", "PUT /api/v1/workspace", "PUT /api/v1/init/first-account"}
	if got := p.said[:3]; !slices.Equal(got, want) || p.workspace != domain || !slices.Equal(p.accounts, []string{"alice"}) {
		t.Errorf("%v, %q, %v", p.said, p.workspace, p.accounts)
	}
	// A name that is there stays, and a long one is cut.
	p.accounts = nil
	w.settings.Company = "Another"
	if err := a.createAdmin(t.Context(), w); err != nil || p.workspace != domain {
		t.Errorf("%v, %q", err, p.workspace)
	}
	p.accounts, p.workspace = nil, ""
	w.settings.Company = strings.Repeat("ü", 60)
	if err := a.createAdmin(t.Context(), w); err != nil || p.workspace != strings.Repeat("ü", 48) {
		t.Errorf("%v, %q", err, p.workspace)
	}
	// Nothing is made in a Pod that does not say how it stands.
	p.accounts, p.workspace, p.broken = nil, "", true
	if err := a.createAdmin(t.Context(), w); err == nil || len(p.accounts) > 0 {
		t.Errorf("%v, %v", err, p.accounts)
	}
}

// Visitors with the link and the agent with user-data make the first account at
// once: one does, and the agent takes the other's for an answer.
func TestFirstAccountFromTwoSides(t *testing.T) {
	for range 20 {
		w := settled()
		w.settings.Admin.Username = "alice"
		m, p := newMachine(t)
		a := supervised(m)
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if _, _, err := m.tellPod(t.Context(), http.MethodPut, "/v1/init/first-account", map[string]string{"username": "visitor"}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Go(func() {
			if err := a.createAdmin(t.Context(), w); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		if seen := a.pod.seen().account; len(p.accounts) != 1 || seen == nil || !*seen {
			t.Errorf("accounts %v, seen %v", p.accounts, seen)
		}
	}
}

// A link that is made after a reset is of the epoch that begins with it, whoever
// has seen the reset first.
func TestLinkAfterReset(t *testing.T) {
	m, p := newMachine(t)
	p.accounts = []string{"alice"}
	if exists, err := m.account(t.Context()); err != nil || !exists {
		t.Fatal(exists, err)
	}
	before, err := door.Path(make([]byte, door.KeySize), m.path(doorState), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.accounts = nil
	p.mu.Unlock()
	if exists, err := m.account(t.Context()); err != nil || exists {
		t.Fatal(exists, err)
	}
	if door.Usable(make([]byte, door.KeySize), m.path(doorState), before, time.Now()) == nil {
		t.Error("a link of before is usable")
	}
}
