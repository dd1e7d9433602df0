package agenttest

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/prose-im/prose-image/firstboot/status"
)

// stateDirs are where the agent keeps what it knows and what it has made.
var stateDirs = []string{"etc/letsencrypt", "etc/nftables.d/prose.d", "etc/prose", "etc/prose-firstboot.d", "etc/prosody/certs", "run/prose-firstboot", "var/lib/prose-firstboot"}

// save keeps the state under a name; restore brings it back. Engine, Pod, NGINX
// and Prosody go on meanwhile.
func (b *box) save(t testing.TB, name string) {
	t.Helper()
	b.Run(t, append([]string{"sh", "-ec", `to=/root/saved/$1; shift; rm -rf "$to"; mkdir -p "$to"; cd /; cp -a --parents "$@" "$to"`, "sh", name}, stateDirs...)...)
}

func (b *box) restore(t testing.TB, name string) {
	t.Helper()
	b.Run(t, append([]string{"sh", "-ec", `from=/root/saved/$1; shift; cd /; for d; do find "$d" -mindepth 1 -delete; cp -a "$from/$d/." "$d/"; done`, "sh", name}, stateDirs...)...)
}

// unset takes away all that the agent has made besides the Pod and what it has
// read.
func (b *box) unset(t testing.TB) {
	t.Helper()
	b.Run(t, "sh", "-ec", `find /etc/letsencrypt /etc/prosody/certs -mindepth 1 -delete
find /var/lib/prose-firstboot /etc/nftables.d/prose.d /run/prose-firstboot -type f -delete
rm -rf /var/lib/prose-firstboot/acme`)
}

// A journey is what the agent does on a machine in a certain state.
type journey struct {
	name string
	from string            // a saved state
	dns  map[string]string // addresses that are not the machine's, by name
	more func(b *box)      // what happens before the agent looks
	end  int               // exit code of status in the end
	made []string          // names that get a certificate
}

var journeys = []journey{
	{name: "first certificates", from: "unset", made: names},
	{name: "DNS comes late", from: "waiting", made: names},
	{name: "apex elsewhere", from: "unset", dns: map[string]string{domain: elsewhere}, end: 3, made: names[1:]},
	{name: "renewal", from: "ready", more: func(b *box) { b.agent("renew", "prose."+domain, domain) }, made: []string{domain, "prose." + domain}},
	{name: "other settings", from: "ready", more: func(b *box) { b.settings("company: Another\nfederation: false\n") }},
	{name: "first boot", from: "unset", made: names, more: func(b *box) {
		b.Run(b.t, "sh", "-c", `docker ps --all --quiet | xargs -r docker rm --force --volumes
docker network ls --quiet --filter label=com.docker.compose.project=prose | xargs -r docker network rm
docker volume ls --quiet --filter label=com.docker.compose.project=prose | xargs -r docker volume rm
rm -rf /etc/prose/prose.toml /var/lib/prosody/* /var/lib/prose-pod-server/* /var/lib/prose-pod-api/*`)
	}},
	{name: "first account", from: "ready", more: func(b *box) {
		b.Try("docker", "exec", "prose-server-1", "prosodyctl", "shell", "user", "delete", "bob@"+domain)
		b.Try("sh", "-c", "nginx -s reload")
		b.settings("admin:\n  username: bob\n  password: " + password + "\n")
	}},
}

// TestCrashes kills the agent at its system calls, in journeys that matter, and
// has it go on. With AGENT_CRASHES=all at every fourth of
// them, else at every thirty-second.
func TestCrashes(t *testing.T) {
	const machines = 4 // most of the time is waiting
	every := 32
	if os.Getenv("AGENT_CRASHES") == "all" {
		every = 4
	}
	begin := time.Now()
	boxes := make([]*box, machines)
	for i := range boxes {
		boxes[i] = newBox(t)
	}
	var ready sync.WaitGroup
	for _, b := range boxes {
		ready.Go(func() { b.states(t) })
	}
	ready.Wait()
	if t.Failed() {
		return
	}
	t.Logf("%d machines in %v", machines, time.Since(begin).Round(time.Second))

	type point struct {
		journey *journey
		shape   map[string]string
		n       int
	}
	var points []point
	for i := range journeys {
		j := &journeys[i]
		calls, shape := boxes[0].reference(t, j)
		if t.Failed() {
			return
		}
		t.Logf("%-20s %d calls", j.name, len(calls))
		for n := 1 + i%every; n <= len(calls); n += every {
			points = append(points, point{j, shape, n})
		}
	}
	var mu sync.Mutex
	hits, bad := map[string]int{}, 0
	queue := make(chan point, len(points))
	for _, p := range points {
		queue <- p
	}
	close(queue)
	var workers sync.WaitGroup
	for _, b := range boxes {
		workers.Go(func() {
			for p := range queue {
				hit, err := b.crash(t, p.journey, p.n, p.shape)
				mu.Lock()
				hits[class(hit)]++
				if err != nil {
					bad++
					t.Errorf("%s, killed at call %d, %s: %v", p.journey.name, p.n, hit, err)
				}
				enough := bad > 20
				mu.Unlock()
				if enough {
					return
				}
			}
		})
	}
	workers.Wait()
	t.Logf("crashes: %d points in %v", len(points), time.Since(begin).Round(time.Second))
	for _, what := range slices.Sorted(maps.Keys(hits)) {
		t.Logf("crashes: %4d  %s", hits[what], what)
	}
}

// states brings a machine into the states that journeys begin with.
func (b *box) states(t testing.TB) {
	b.world.records(address, names...)
	b.settings("")
	b.ready(t)
	b.agent("run")
	b.save(t, "ready")
	b.unset(t)
	b.save(t, "unset")
	b.world.records("", names...)
	b.agent("run")
	b.save(t, "waiting")
	time.Sleep(31 * time.Second) // until DNS is to be looked at again
}

// begin brings the machine to the beginning of a journey.
func (b *box) begin(t testing.TB, j *journey) {
	t.Helper()
	b.log.Reset()
	b.restore(t, j.from)
	b.world.records(address, names...)
	for name, to := range j.dns {
		b.world.records(to, name)
	}
	if j.more != nil {
		j.more(b)
	}
}

// reference makes a journey in peace, and returns its calls and what there is
// in the end.
func (b *box) reference(t testing.TB, j *journey) ([]string, map[string]string) {
	t.Helper()
	b.begin(t, j)
	_, before := b.world.ordered()
	r := b.call("crash", "list", "/root/calls", "prose-firstboot", "run")
	b.until(t, j.name+" is at its end", func(_ status.Status, code int) bool { return code == j.end })
	if _, after := b.world.ordered(); r.code != 0 || after-before != len(j.made) {
		t.Fatalf("%s: exit code %d, %d orders\n%s", j.name, r.code, after-before, r.out)
	}
	text, err := os.ReadFile(b.path("root/calls"))
	if err != nil {
		t.Fatal(err)
	}
	shape, err := b.shape()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n"), shape
}

// crash kills the agent at call n of a journey, has it go on, and says which
// call that was and what is wrong in the end.
func (b *box) crash(t testing.TB, j *journey, n int, shape map[string]string) (hit string, err error) {
	t.Helper()
	b.begin(t, j)
	live := b.signed()
	before, _ := b.world.ordered()
	r := b.call("crash", fmt.Sprint(n), "/root/hit", "prose-firstboot", "run")
	text, _ := os.ReadFile(b.path("root/hit"))
	hit = strings.TrimSpace(string(text))
	if hit != "" && r.code != 137 {
		return hit, fmt.Errorf("it was not killed: exit code %d", r.code)
	}

	var errs []error
	for path, serial := range live {
		if _, err := tls.LoadX509KeyPair(b.path(path+"/fullchain.pem"), b.path(path+"/privkey.pem")); err != nil {
			errs = append(errs, fmt.Errorf("the certificate %s of %s is lost: %w", serial, path, err))
		}
	}
	begin := time.Now()
	said := ""
	for {
		r := b.agent("run")
		said += r.out
		if _, code := b.status(t); r.code == 0 && code == j.end {
			break
		}
		if time.Since(begin) > time.Minute {
			return hit, errors.Join(append(errs, fmt.Errorf("it does not come to an end:\n%s", said))...)
		}
		time.Sleep(500 * time.Millisecond)
	}
	after, _ := b.world.ordered()
	for _, name := range names {
		most := 0
		if slices.Contains(j.made, name) {
			most = 1
		}
		if got := after[name] - before[name]; got > most {
			errs = append(errs, fmt.Errorf("%d orders for %s, at most %d:\n%s", got, name, most, said))
		}
	}
	now, err := b.shape()
	errs = append(errs, err)
	for _, path := range differences(shape, now) {
		errs = append(errs, fmt.Errorf("%s is %q, not %q", path, now[path], shape[path]))
	}
	if j.end == 0 {
		if _, err := b.serials(); err != nil {
			errs = append(errs, fmt.Errorf("what NGINX shows: %w", err))
		}
		if err := b.world.startTLS(); err != nil {
			errs = append(errs, fmt.Errorf("STARTTLS: %w", err))
		}
	}
	return hit, errors.Join(errs...)
}

// signed are the live pairs, with their serials.
func (b *box) signed() map[string]string {
	out := map[string]string{}
	for _, name := range names {
		path := "etc/letsencrypt/live/" + name
		if leaf, err := b.leaf(path + "/fullchain.pem"); err == nil && leaf.Issuer.String() != leaf.Subject.String() {
			out[path] = leaf.SerialNumber.Text(16)
		}
	}
	return out
}

// serial is a directory of the archive.
var serial = regexp.MustCompile(`(/archive/[^/]+)/[0-9a-f]+`)

// replaced are hidden names that the next write takes for itself, and nonces,
// which go after an hour: another run's may be in use.
var replaced = regexp.MustCompile(`/\.[^/]+\.new$|/www/challenge/probe-[^/]+$`)

// shape says what there is in the state and checks that each file is whole.
func (b *box) shape() (map[string]string, error) {
	out := map[string]string{}
	var errs []error
	for _, top := range stateDirs {
		err := filepath.WalkDir(b.path(top), func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(p, b.Root)
			if replaced.MatchString(name) {
				return nil
			}
			st, _ := info.Sys().(*syscall.Stat_t)
			what := fmt.Sprint(info.Mode(), " ", st.Uid, ":", st.Gid)
			if info.Mode()&fs.ModeSymlink != 0 {
				to, err := os.Readlink(p)
				if err != nil {
					return err
				}
				what += " to " + serial.ReplaceAllString("/"+to, "$1/*")
				if _, err := os.Stat(p); err != nil {
					errs = append(errs, fmt.Errorf("%s leads nowhere", name))
				}
			} else if info.Mode().IsRegular() {
				errs = append(errs, whole(p, name))
			}
			out[serial.ReplaceAllString(name, "$1/*")] = what
			return nil
		})
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// whole checks that a file is what its name says.
func whole(path, name string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var v any
	switch filepath.Ext(name) {
	case ".json":
		err = json.Unmarshal(text, &v)
	case ".toml":
		err = toml.Unmarshal(text, &v)
	case ".pem":
		if filepath.Base(name) == "fullchain.pem" {
			_, err = tls.LoadX509KeyPair(path, filepath.Dir(path)+"/privkey.pem")
		} else if len(text) > 0 && !strings.HasPrefix(string(text), "-----BEGIN ") {
			err = errors.New("no PEM")
		}
	case ".key":
		if len(text) == 0 {
			err = errors.New("empty")
		}
	}
	if err != nil {
		return fmt.Errorf("%s is half-written: %w", name, err)
	}
	return nil
}

// class is what a call is about, for the summary.
func class(hit string) string {
	call, what, _ := strings.Cut(hit, " ")
	for _, c := range []struct{ has, name string }{
		{"docker.sock", "the engine"}, {acmeAddress, "the authority"}, {outside + ":53", "DNS"}, {"/etc/letsencrypt", "certificates for NGINX"},
		{"/etc/prosody", "certificates for Prosody"}, {"/etc/prose", "the Pod's settings"}, {"/acme", "what is remembered of the authority"},
		{"/nginx", "NGINX's sites"}, {"/www/challenge", "challenges"}, {"/www", "the page and discovery"}, {"nftables", "walls"},
		{"/run/", "what people see"}, {"/var/lib/prose-firstboot", "what is remembered"}, {"socket", "a socket"}, {"127.0.0.1", "servers of this machine"}, {address, "the machine from outside"},
	} {
		if strings.Contains(what, c.has) {
			return call + " of " + c.name
		}
	}
	if call == "" {
		return "the end came before"
	}
	return strings.TrimSpace(call + " " + what)
}
