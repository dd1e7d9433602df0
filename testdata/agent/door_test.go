package agenttest

import (
	"context"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/status"
	"github.com/prose-im/prose-image/overlays"
	"github.com/prose-im/prose-image/testdata/machine"
)

// visitorFrom is a visitor with one of the world's addresses.
func (w *world) visitorFrom(from string) *http.Client {
	c := w.visitor()
	c.Transport.(*http.Transport).DialContext = func(_ context.Context, network, at string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(at)
		if err != nil {
			return nil, err
		}
		return w.dialFrom(from, port)
	}
	return c
}

func (w *world) dialFrom(from, port string) (conn net.Conn, err error) {
	err = machine.InNetwork(w.pid, func() error {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 2 * time.Second}
		conn, err = d.Dial("tcp", net.JoinHostPort(address, port))
		return err
	})
	return conn, err
}

// A machine whose door somebody tries.
func TestDoor(t *testing.T) {
	b := newBox(t)
	b.world.records(address, names...)
	b.settings("")
	visitor := b.world.visitor()
	link := func() string {
		t.Helper()
		out := b.agent("link").out
		link := regexp.MustCompile(`https://\S+/claim/\S+`).FindString(out)
		if link == "" {
			t.Fatalf("there is no link: %s", out)
		}
		return link
	}
	for _, j := range []struct {
		name string
		try  func(t *testing.T)
	}{
		{"no order before the door is seen closed", func(t *testing.T) {
			// Something of the owner's answers for the dashboard, and is open.
			_, chain, key := serverCertificate(t)
			for name, text := range map[string]string{
				"etc/nginx/open.pem": string(chain), "etc/nginx/open.key": string(key),
				"etc/nginx/conf.d/00-open.conf": "server { listen 443 ssl; server_name admin.prose." + domain + "; ssl_certificate open.pem; ssl_certificate_key open.key; location / { return 200; } }\n",
			} {
				b.lay([]overlays.File{{Path: name, Mode: 0o600, Content: []byte(text)}})
			}
			b.Run(t, "nginx", "-s", "reload")
			b.until(t, "all other names have certificates", func(s status.Status, _ int) bool {
				return strings.Contains(item(s, "certificates").Why, "is not seen to be closed") && len(b.world.orders) >= len(names)-1
			})
			b.agent("run")
			if of, _ := b.world.ordered(); of["admin.prose."+domain] != 0 {
				t.Errorf("with an open dashboard its name was ordered: %v", of)
			}
			b.Run(t, "sh", "-c", "rm /etc/nginx/conf.d/00-open.conf && nginx -s reload")
			// From when its name can be known on, strangers are refused.
			seen := 0
			b.world.onOrder = func(name string) {
				if name != "admin.prose."+domain {
					return
				}
				seen++
				stranger := b.world.visitor()
				stranger.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true // nobody has signed it yet
				for _, g := range append([][2]string{{"GET", "/"}}, guarded...) {
					if code, err := ask(stranger, g[0], admin+g[1], `{"name":"Mallory's"}`); code != http.StatusForbidden && code != http.StatusServiceUnavailable {
						t.Errorf("while its name is ordered, %s %s: status %d (%v)", g[0], g[1], code, err)
					}
				}
			}
			b.ready(t)
			b.world.onOrder = nil
			if of, _ := b.world.ordered(); of["admin.prose."+domain] != 1 || seen != 1 {
				t.Errorf("orders: %v, seen %d", of, seen)
			}
			b.door(t, false)
		}},
		{"another key", func(t *testing.T) {
			before := link()
			b.Run(t, "sh", "-c", "head -c 32 /dev/urandom >/var/lib/prose-firstboot/door.key")
			said := b.until(t, "the machine is ready", func(_ status.Status, code int) bool { return code == 0 })
			if !strings.Contains(said, "mending the door") {
				t.Errorf("the agent has not mended the door:\n%s", said)
			}
			if code, _ := ask(visitor, "GET", before, ""); code != http.StatusForbidden {
				t.Errorf("a link of the key before: status %d", code)
			}
			if code, err := ask(visitor, "GET", link(), ""); code != http.StatusOK {
				t.Errorf("a link of the new key: status %d (%v)", code, err)
			}
		}},
		{"nowhere to remember", func(t *testing.T) {
			to := link()
			for _, mode := range []string{"0755", "0700"} { // it reads, but does not write; it does neither
				b.Run(t, "sh", "-ec", "chown root:root /var/lib/prose-door && chmod "+mode+" /var/lib/prose-door")
				if code, err := ask(b.world.visitor(), "POST", to, ""); code != http.StatusServiceUnavailable {
					t.Errorf("mode %s: the claim: status %d (%v)", mode, code, err)
				}
				if code, _ := ask(b.world.visitor(), "GET", admin+"/", ""); code != http.StatusForbidden && code != http.StatusServiceUnavailable {
					t.Errorf("mode %s: the dashboard: status %d", mode, code)
				}
			}
			b.Run(t, "sh", "-ec", "chown prose-door:prose-door /var/lib/prose-door")
			if code, err := ask(visitor, "GET", to, ""); code != http.StatusOK {
				t.Errorf("the link is used up: status %d (%v)", code, err)
			}
		}},
		{"listed networks", func(t *testing.T) {
			text, err := os.ReadFile(b.path("etc/prose-firstboot.d/10-owner.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			var l net.Listener
			if err := machine.InNetwork(b.Pid, func() (err error) { l, err = net.Listen("tcp", address+":22"); return err }); err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			look := func(when string, from string, in bool) {
				t.Helper()
				c, err := b.world.dialFrom(from, "22")
				if err == nil {
					c.Close()
				}
				if (err == nil) != in {
					t.Errorf("%s: SSH from %s: %v", when, from, err)
				}
				words := "some networks only"
				if in {
					words = "one-time link"
				}
				// NGINX's workers of before answer for a moment after it was told.
				for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
					code, err := ask(b.world.visitorFrom(from), "GET", admin+"/", "")
					if code == http.StatusForbidden && strings.Contains(err.Error(), words) {
						break
					}
					if time.Since(begin) > 10*time.Second {
						t.Errorf("%s: the dashboard from %s: status %d (%v)", when, from, code, err)
						break
					}
				}
				if code, err := ask(b.world.visitorFrom(from), "GET", "https://prose."+domain+"/", ""); code != http.StatusOK {
					t.Errorf("%s: the web app from %s: status %d (%v)", when, from, code, err)
				}
			}
			look("without a list", outside, true)
			look("without a list", elsewhere, true)
			listed := string(text) + "allow:\n  ssh: [" + elsewhere + ", \"2001:db8::/32\"]\n  dashboard: [" + elsewhere + "/32]\n"
			b.owner(listed)
			b.ready(t)
			look("listed", outside, false)
			look("listed", elsewhere, true)
			// The authority is not in the list.
			if r := b.agent("renew", "admin.prose."+domain); r.code != 0 {
				t.Fatal(r.out)
			}
			before, _ := b.serials()
			b.ready(t)
			if after, err := b.serials(); err != nil || len(differences(before, after)) != 1 {
				t.Errorf("the dashboard's certificate was not renewed: %v", err)
			}
			b.owner(strings.Replace(listed, elsewhere+"/32", "elsewhere", 1))
			b.until(t, "the mistake is shown", func(s status.Status, code int) bool {
				return code == 2 && strings.Contains(strings.Join(item(s, "settings").Points, "\n"), "allow.dashboard")
			})
			look("with a mistake", outside, false)
			look("with a mistake", elsewhere, true)
			b.owner(strings.Replace(strings.ReplaceAll(listed, elsewhere, outside), outside+"/32", "0.0.0.0/0", 1))
			b.ready(t)
			if c, err := b.world.dialFrom(elsewhere, "22"); err == nil {
				c.Close()
				t.Error("another list: SSH from elsewhere")
			}
			b.owner(string(text))
			b.ready(t)
			look("without a list again", outside, true)
			look("without a list again", elsewhere, true)
		}},
	} {
		begin := time.Now()
		if !t.Run(strings.ReplaceAll(j.name, " ", "_"), j.try) {
			t.Logf("the agent's part of it:\n%s", b.log.String()[max(0, b.log.Len()-8000):])
			return
		}
		t.Logf("%-20s %v", j.name, time.Since(begin).Round(100*time.Millisecond))
	}
}
