package agenttest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/status"
	"github.com/prose-im/prose-image/testdata/machine"
)

// serves looks from outside whether the machine does all that it is for.
func (b *box) serves(t testing.TB) {
	t.Helper()
	visitor := b.world.visitor()
	for url, want := range map[string]int{
		"https://prose." + domain + "/":                     200,
		"https://" + domain + "/.well-known/host-meta":      200,
		"https://" + domain + "/.well-known/host-meta.json": 200,
		"http://prose." + domain + "/":                      301,
	} {
		if code, err := ask(visitor, "GET", url, ""); code != want {
			t.Errorf("%s: status %d, want %d (%v)", url, code, want, err)
		}
	}
	if err := b.world.startTLS(); err != nil {
		t.Errorf("STARTTLS: %v", err)
	}
}

// guarded are the routes that make somebody the owner.
var guarded = [][2]string{{"PUT", "/api/v1/init/first-account"}, {"PUT", "/api/v1/workspace"}, {"POST", "/api/reload"}}

// door looks from outside whether strangers are kept from the dashboard, and
// always from what makes somebody the owner.
func (b *box) door(t testing.TB, open bool) {
	t.Helper()
	visitor := b.world.visitor()
	want := http.StatusForbidden
	if open {
		want = http.StatusOK
	}
	code, err := ask(visitor, "GET", admin+"/", "")
	// NGINX's workers of before answer for a moment after it was told.
	for begin := time.Now(); code != want && time.Since(begin) < 10*time.Second; time.Sleep(100 * time.Millisecond) {
		code, err = ask(visitor, "GET", admin+"/", "")
	}
	if code != want {
		t.Errorf("the dashboard answers a stranger with status %d, want %d (%v)", code, want, err)
	}
	for _, g := range guarded {
		want := http.StatusForbidden
		if open && g[1] == "/api/reload" {
			want = http.StatusUnauthorized // the API's own
		}
		if code, err := ask(visitor, g[0], admin+g[1], `{"name":"Mallory's"}`); code != want {
			t.Errorf("%s %s answers a stranger with status %d (%v)", g[0], g[1], code, err)
		}
	}
}

const admin = "https://admin.prose." + domain

// ask is one request, with JSON unless that is empty.
func ask(c *http.Client, method, url, send string, cookies ...*http.Cookie) (int, error) {
	code, _, err := talk(c, method, url, send, cookies...)
	return code, err
}

func talk(c *http.Client, method, url, send string, cookies ...*http.Cookie) (int, *http.Response, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(send))
	if err != nil {
		return 0, nil, err
	}
	if send != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, k := range cookies {
		req.AddCookie(k)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err == nil && res.StatusCode >= 400 {
		err = fmt.Errorf("%s", body)
	}
	res.Body = io.NopCloser(strings.NewReader(string(body)))
	return res.StatusCode, res, err
}

// serials are what NGINX shows for each name, as long as the authority has
// signed it.
func (b *box) serials() (map[string]string, error) {
	out := map[string]string{}
	for _, n := range names {
		if strings.HasPrefix(n, "groups.") {
			continue // for other servers, which there are none of
		}
		conn, err := machine.Dialer(b.world.pid)(b.t.Context(), "tcp", address+":443")
		if err != nil {
			return nil, err
		}
		c := tls.Client(conn, &tls.Config{RootCAs: b.world.roots, ServerName: n})
		err = c.Handshake()
		if err == nil {
			out[n] = c.ConnectionState().PeerCertificates[0].SerialNumber.Text(16)
		}
		conn.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n, err)
		}
	}
	return out, nil
}

// containers says of each which it is and since when it runs.
func (b *box) containers(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(b.Run(t, "sh", "-c", `docker ps --all --quiet | xargs -r docker inspect --format '{{.Name}} {{.Id}} {{.State.Status}} {{.State.StartedAt}}'`)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		out[strings.TrimSuffix(strings.TrimPrefix(name, "/prose-"), "-1")] = rest
	}
	return out
}

// kept are the directories whose files the agent keeps; what runs writes
// elsewhere.
var kept = []string{"etc", "usr", "root", "var/lib/prose-firstboot", "var/lib/prose-door"}

// files says of every kept file what it is and when it was written.
func (b *box) files(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, top := range kept {
		err := filepath.WalkDir(b.path(top), func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			st, _ := info.Sys().(*syscall.Stat_t)
			out[strings.TrimPrefix(p, b.Root)] = fmt.Sprint(info.Mode(), st.Uid, st.Gid, info.Size(), info.ModTime().UnixNano(), st.Ino)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// differences are the paths that two looks do not agree on.
func differences(before, after map[string]string) []string {
	var out []string
	for p := range before {
		if before[p] != after[p] {
			out = append(out, p)
		}
	}
	for p := range after {
		if _, ok := before[p]; !ok {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// item is one of the list that people see.
func item(s status.Status, key string) status.Item {
	for _, it := range s.Items {
		if it.Key == key {
			return it
		}
	}
	return status.Item{}
}

// secret looks where a secret must not be: in what was said and logged, in the
// containers' environments and in every file but these.
func (b *box) secret(t testing.TB, secret string, except ...string) {
	t.Helper()
	if strings.Contains(b.log.String(), secret) {
		t.Error("the agent has said the secret")
	}
	if log, _ := os.ReadFile(b.Log); strings.Contains(string(log), secret) {
		t.Error("the secret is in the daemons' log")
	}
	found := b.Run(t, "sh", "-c", `find /etc /run /tmp /root /var/lib/prose-firstboot /var/lib/prose-door /var/lib/prose-pod-api /var/lib/prose-pod-server /var/log \
	-path /run/docker -prune -o -path /run/containerd -prune -o -type f -exec grep -lF -e "$1" {} +
for c in $(docker ps --all --quiet); do docker logs "$c" 2>&1 | grep -F -e "$1"; docker inspect "$c" | grep -F -e "$1"; done
true`, "sh", secret)
	for line := range strings.Lines(found) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(except, line) {
			t.Errorf("the secret is in %s", line)
		}
	}
}

// leaf reads the first certificate of a file in the machine.
func (b *box) leaf(name string) (*x509.Certificate, error) {
	text, err := os.ReadFile(b.path(name))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", name)
	}
	return x509.ParseCertificate(block.Bytes)
}
