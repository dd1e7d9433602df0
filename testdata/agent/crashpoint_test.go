package agenttest

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/status"
)

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
	shape, err := b.shape(true)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n"), shape
}

// crash kills the agent at a point of a journey, has it go on, and says which
// call that was and what is wrong in the end.
func (b *box) crash(t testing.TB, j *journey, p point, shape map[string]string) (hit string, err error) {
	t.Helper()
	b.begin(t, j)
	live := b.signed()
	issued := b.records(j)
	before, _ := b.world.ordered()
	r := b.call("crash", "kill", "/root/hit", fmt.Sprint(p.n), p.call, "prose-firstboot", "run")
	text, _ := os.ReadFile(b.path("root/hit"))
	hit = strings.TrimSpace(string(text))
	if hit != "" && r.code != 137 {
		return hit, fmt.Errorf("it was not killed: exit code %d", r.code)
	}

	var errs []error
	if _, err := b.shape(false); err != nil {
		errs = append(errs, fmt.Errorf("after the kill: %w", err))
	}
	for path, serial := range live {
		if _, err := tls.LoadX509KeyPair(b.path(path+"/fullchain.pem"), b.path(path+"/privkey.pem")); err != nil {
			errs = append(errs, fmt.Errorf("the certificate %s of %s is lost: %w", serial, path, err))
		}
	}
	then, _ := b.world.ordered()
	for name, r := range b.records(j) {
		if then[name] > before[name] && r.Order == nil && r.Issued == issued[name].Issued {
			// An order that the agent has gone on with must be on the disk.
			if n := b.world.since(); n > 0 {
				errs = append(errs, fmt.Errorf("the order for %s is not kept, %d requests after it", name, n))
			}
		}
	}

	begin := time.Now()
	said := ""
	for {
		r, err := b.limited(2*time.Minute, "prose-firstboot", "run")
		said += r.out
		if err != nil {
			return hit, errors.Join(append(errs, fmt.Errorf("it does not come to an end: %w\n%s", err, said))...)
		}
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
	now, err := b.shape(true)
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

// A record is what the agent remembers of a name and its orders.
type record struct {
	Order  *struct{ URL string }
	Issued string
}

func (b *box) records(j *journey) map[string]record {
	out := map[string]record{}
	for _, name := range j.made {
		var r struct {
			Order  *struct{ URL string }
			Issued struct{ Serial string }
		}
		text, _ := os.ReadFile(b.path("var/lib/prose-firstboot/acme/names/" + name + ".json"))
		json.Unmarshal(text, &r)
		out[name] = record{r.Order, r.Issued.Serial}
	}
	return out
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
