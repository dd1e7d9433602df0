package firstboot

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/preflight"
	"github.com/prose-im/prose-image/firstboot/status"
)

// What the owner reads in each case, and what can be pasted.
func TestApexItem(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*world)
		want   status.Progress
		says   []string
	}{
		{"here", func(w *world) {}, "", nil},
		{"elsewhere", func(w *world) { cert(w, domain, foreign) }, status.Owner, []string{"Another machine answers",
			"location ^~ /.well-known/acme-challenge/", "RedirectMatch 302", "http://example.org/.well-known/acme-challenge/*  ->  http://prose.example.org/.well-known/acme-challenge/*", "--apex-method dns-persist-01", "--apex-method own"}},
		{"all names lead there", func(w *world) {
			cert(w, domain, foreign)
			cert(w, "prose."+domain, foreign)
		}, "", nil},
		{"elsewhere, with an account", func(w *world) {
			cert(w, domain, func(st *certificate.State) {
				foreign(st)
				st.Record.Issuer = &preflight.Issuer{Names: []string{"ca.example"}, Account: "https://ca.example/1"}
			})
		}, status.Owner, []string{`_validation-persist.example.org. 3600 IN TXT "ca.example; accounturi=https://ca.example/1"`}},
		{"no TXT record", func(w *world) { persist(w, preflight.Unpersisted) }, status.Owner, []string{"y"}},
		{"not offered", func(w *world) { persist(w, preflight.Unoffered) }, status.Owner, []string{"location ^~", "--apex-method http-01", "--apex-method own"}},
		{"TXT record", func(w *world) { persist(w, "") }, status.Done, []string{`IN CAA 0 issue "ca.example; accounturi=https://ca.example/1"`}},
		{"own", func(w *world) { own(w, 40) }, status.Done, []string{"23 April 2026"}},
		{"own, near its end", func(w *world) { own(w, 20) }, status.Warning, []string{"ends on 3 April 2026", "--apex-chain-file"}},
		{"own, over", func(w *world) { own(w, -1) }, status.Owner, []string{"ended on 13 March 2026"}},
	} {
		w := settled()
		c.change(w)
		it := apexItem(seen{world: w})
		text := fmt.Sprintf("%+v", it)
		if it.Progress != c.want {
			t.Errorf("%s: %s", c.name, text)
		}
		for _, s := range c.says {
			if !strings.Contains(text, s) {
				t.Errorf("%s does not say %s: %s", c.name, s, text)
			}
		}
		// Nobody is told to make a record that is on purpose not there.
		if it := fmt.Sprint(dnsItem(seen{world: w, records: []status.Record{{Name: domain, Type: "A", State: status.Wrong, Optional: true}}})); strings.HasPrefix(c.name, "elsewhere") && (strings.Contains(it, "wrong") || strings.Contains(it, "better")) {
			t.Errorf("%s: the website's address is to go: %s", c.name, it)
		}
	}
}

// The rules for NGINX are tried in NGINX: what the authority fetches comes here,
// and so does what web pages look for.
func TestRedirectRules(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	conf := fmt.Sprintf(`daemon off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/log;
events {}
http { access_log off; server { listen %[2]s; server_name %[3]s;
%[4]s
location / { return 404; } } }
`, dir, at, domain, strings.Join(ways(domain, nil)[0].Type, "\n"))
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	nginx := exec.Command("nginx", "-c", dir+"/conf", "-p", dir, "-e", dir+"/log")
	if err := nginx.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { nginx.Process.Signal(syscall.SIGTERM); nginx.Wait() }()
	client := &http.Client{CheckRedirect: noRedirects}
	for path, want := range map[string]string{
		"/.well-known/acme-challenge/a-_B1": "http://prose.example.org/.well-known/acme-challenge/a-_B1",
		"/.well-known/host-meta":            "https://prose.example.org/.well-known/host-meta",
		"/.well-known/host-meta.json":       "https://prose.example.org/.well-known/host-meta.json",
		"/":                                 "",
	} {
		var res *http.Response
		for begin := time.Now(); time.Since(begin) < 20*time.Second; time.Sleep(50 * time.Millisecond) {
			if res, err = client.Get("http://" + at + path); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatalf("waited 20 s for NGINX: %v", err)
		}
		res.Body.Close()
		if got := res.Header.Get("Location"); got != want {
			t.Errorf("%s leads to %q, want %q", path, got, want)
		}
	}
}
