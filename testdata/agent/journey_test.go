package agenttest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/status"
	"github.com/prose-im/prose-image/overlays"
)

const (
	password     = "correct horse battery staple"
	mailPassword = "the postman rings twice"
)

// The life of a machine whose owner did everything right, and then this and
// that to it.
func TestLife(t *testing.T) {
	b := newBox(t)
	b.world.records(address, names...)
	b.settings("")
	orders := 0 // so far
	ordered := func(t *testing.T, more int) {
		t.Helper()
		orders += more
		if of, all := b.world.ordered(); all != orders {
			t.Errorf("%d orders, want %d: %v", all, orders, of)
		}
	}
	journeys := []struct {
		name string
		try  func(t *testing.T)
	}{
		{"first boot", func(t *testing.T) {
			b.ready(t)
			b.serves(t)
			b.door(t, false)
			ordered(t, len(names))
			for _, p := range []string{"etc/prose/prose.toml", "etc/prosody/certs/" + domain + "/privkey.pem"} {
				info, err := os.Stat(b.path(p))
				if err != nil || info.Mode() != 0o600 {
					t.Errorf("%s: %v, %v", p, info, err)
				}
			}
		}},
		{"nothing to do", func(t *testing.T) {
			b.agent("run") // what Ready itself leaves to be told
			b.asked()
			files, containers := b.files(t), b.containers(t)
			r := b.agent("run")
			if r.out != "looking after the Pod\nstate: ready\n" || r.code != 0 {
				t.Errorf("exit code %d\n%s", r.code, r.out)
			}
			if d := differences(files, b.files(t)); len(d) > 0 {
				t.Errorf("it has changed %v", d)
			}
			if d := differences(containers, b.containers(t)); len(d) > 0 || len(containers) != 4 {
				t.Errorf("it has restarted %v", d)
			}
			if asked := b.asked(); asked != "" {
				t.Errorf("it has asked systemd to %s", asked)
			}
			ordered(t, 0)
		}},
		{"forced renewal", func(t *testing.T) {
			before, err := b.serials()
			if err != nil {
				t.Fatal(err)
			}
			containers := b.containers(t)
			if r := b.agent("renew", "prose."+domain); r.code != 0 {
				t.Fatalf("renew: %s", r.out)
			}
			b.ready(t)
			after, err := b.serials()
			if err != nil {
				t.Fatal(err)
			}
			if d := differences(before, after); len(d) != 1 || d[0] != "prose."+domain {
				t.Errorf("new certificates for %v", d)
			}
			ordered(t, 1)
			if r := b.agent("renew"); r.code != 0 {
				t.Fatalf("renew: %s", r.out)
			}
			b.ready(t)
			if after, err = b.serials(); err != nil || len(differences(before, after)) != len(after) {
				t.Errorf("of %v only %v are new, %v", before, differences(before, after), err)
			}
			ordered(t, len(names))
			b.serves(t)
			if d := differences(containers, b.containers(t)); len(d) > 0 {
				t.Errorf("a renewal has restarted %v", d)
			}
		}},
		{"planted links", func(t *testing.T) {
			shadow, err := os.ReadFile(b.path("etc/shadow"))
			if err != nil {
				t.Fatal(err)
			}
			b.asProse(t, `cd /etc/prose && rm prose.toml && ln -s /etc/shadow prose.toml
cd /etc/prosody/certs && mv `+domain+` gone && ln -s /etc/nginx `+domain)
			// A renewal does not wait for what the Pod has put in the way.
			if r := b.agent("renew", "prose."+domain); r.code != 0 {
				t.Fatal(r.out)
			}
			before := b.files(t)
			b.until(t, "prose.toml is a file again", func(status.Status, int) bool {
				info, err := os.Lstat(b.path("etc/prose/prose.toml"))
				return err == nil && info.Mode().IsRegular()
			})
			if after, err := os.ReadFile(b.path("etc/shadow")); err != nil || string(after) != string(shadow) {
				t.Errorf("/etc/shadow has changed: %v", err)
			}
			for _, p := range differences(before, b.files(t)) {
				// In /etc/prosody the link gives way to what belongs there.
				if !strings.HasPrefix(p, "/etc/prose") && !strings.HasPrefix(p, "/etc/prosody/") && !strings.HasPrefix(p, "/etc/letsencrypt/") && !strings.HasPrefix(p, "/var/lib/prose-firstboot") {
					t.Errorf("a planted link has moved %s", p)
				}
			}
			b.ready(t)
			b.serves(t)
			ordered(t, 1)
			if info, err := os.Lstat(b.path("etc/prosody/certs/" + domain)); err != nil || !info.IsDir() {
				t.Errorf("in the place of the link to /etc/nginx: %v, %v", info, err)
			}
		}},
		{"a container removed", func(t *testing.T) {
			for _, c := range []string{"api", "server"} {
				b.Run(t, "docker", "rm", "--force", "prose-"+c+"-1")
				b.ready(t)
				b.serves(t)
				if all := b.containers(t); len(all) != 4 {
					t.Errorf("containers: %v", all)
				}
			}
			ordered(t, 0)
		}},
		{"mail server", func(t *testing.T) {
			before := b.containers(t)
			b.world.mail("mail.example.net")
			b.settings("smtp:\n  host: mail.example.net\n  encrypt: false\n  username: prose\n  password: " + mailPassword + "\n")
			b.ready(t)
			config, err := os.ReadFile(b.path("etc/prose/prose.toml"))
			if err != nil || !strings.Contains(string(config), "mail.example.net") || !strings.Contains(string(config), mailPassword) {
				t.Errorf("prose.toml: %v\n%s", err, config)
			}
			info, err := os.Stat(b.path("etc/prose/prose.toml"))
			if err != nil {
				t.Fatal(err)
			}
			after := b.containers(t)
			fields := strings.Fields(after["api"])
			started, err := time.Parse(time.RFC3339Nano, fields[len(fields)-1])
			if err != nil || started.Before(info.ModTime()) || after["api"] == before["api"] {
				t.Errorf("the API has not read what was written at %v: %v, %v", info.ModTime(), after["api"], err)
			}
			if after["server"] != before["server"] {
				t.Error("the server was restarted")
			}
			b.secret(t, mailPassword, "/etc/prose-firstboot.d/10-owner.yaml", "/etc/prose/prose.toml")
			b.serves(t)
			ordered(t, 0)
		}},
		{"figures and resolvers", func(t *testing.T) {
			const variable = "PROSE_VENDOR_ANALYTICS__ENABLED="
			variables := func() string {
				return b.Run(t, "docker", "inspect", "--format", "{{.Name}} {{.Config.Env}}", "prose-server-1", "prose-api-1")
			}
			if all := variables(); strings.Count(all, variable) != 1 || !strings.Contains(all, variable+"false") {
				t.Errorf("nobody has asked for figures: %s", all)
			}
			text, err := os.ReadFile(b.path("etc/prose-firstboot.d/10-owner.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			b.asked()
			b.owner(string(text) + "analytics: true\nnetwork:\n  resolvers: [" + outside + "]\n")
			b.ready(t)
			if all := variables(); strings.Count(all, variable) != 1 || !strings.Contains(all, variable+"true") {
				t.Errorf("figures were asked for: %s", all)
			}
			const dropIn = "etc/systemd/resolved.conf.d/prose-firstboot.conf"
			got, err := os.ReadFile(b.path(dropIn))
			if err != nil || !strings.Contains(string(got), "DNS="+outside+"\n") {
				t.Errorf("what resolved has: %q, %v", got, err)
			}
			if asked := b.asked(); !strings.Contains(asked, "systemd-resolved") {
				t.Errorf("systemd was asked to %s", asked)
			}
			// A name server that is none is noticed, whatever resolv.conf says.
			b.owner(string(text) + "network:\n  resolvers: [" + elsewhere + "]\n")
			b.until(t, "it says that DNS does not answer", func(s status.Status, code int) bool {
				return code == 2 && item(s, "dns").Progress != status.Done
			})
			b.owner(string(text))
			b.ready(t)
			if got, err := os.ReadFile(b.path(dropIn)); err != nil || strings.Contains(string(got), "DNS=") {
				t.Errorf("what resolved has now: %q, %v", got, err)
			}
			b.serves(t)
			ordered(t, 0)
		}},
		{"a clock that was ahead", func(t *testing.T) {
			b.Run(t, "sed", "-i", `s/"config_at": "20[0-9][0-9]/"config_at": "2099/`, "/var/lib/prose-firstboot/state.json")
			before := b.containers(t)
			b.ready(t)
			settled := b.containers(t)
			if d := differences(before, settled); len(d) != 1 || d[0] != "api" {
				t.Errorf("restarted: %v", d)
			}
			b.ready(t)
			if d := differences(settled, b.containers(t)); len(d) > 0 {
				t.Errorf("restarted again: %v", d)
			}
		}},
		{"another domain", func(t *testing.T) {
			text, err := os.ReadFile(b.path("etc/prose-firstboot.d/10-owner.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			b.owner(strings.Replace(string(text), "domain: "+domain, "domain: other.example", 1))
			b.until(t, "the other domain is refused", func(s status.Status, code int) bool {
				return code == 2 && s.Domain == domain && strings.Contains(item(s, "settings").What, "other.example")
			})
			if r := b.agent("configure", "--domain", "other.example"); r.code == 0 || !strings.Contains(r.out, domain) {
				t.Errorf("configure takes another domain: %s", r.out)
			}
			b.serves(t)
			b.owner(string(text))
			b.ready(t)
			ordered(t, 0)
		}},
		{"mistakes", func(t *testing.T) {
			text, err := os.ReadFile(b.path("etc/prose-firstboot.d/10-owner.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			before, config := b.containers(t), b.files(t)["/etc/prose/prose.toml"]
			b.owner(string(text) + "federation: perhaps\ncolour: red\n")
			b.until(t, "both mistakes are shown", func(s status.Status, code int) bool {
				all := strings.Join(item(s, "settings").Points, "\n")
				return code == 2 && strings.Contains(all, "federation") && strings.Contains(all, "colour")
			})
			if d := differences(before, b.containers(t)); len(d) > 0 || b.files(t)["/etc/prose/prose.toml"] != config {
				t.Errorf("wrong settings were used: %v", d)
			}
			b.serves(t)
			b.owner(string(text))
			b.ready(t)
		}},
		{"switched off", func(t *testing.T) {
			b.Run(t, "sh", "-c", "rmdir /run/prose && docker stop --time 10 prose-api-1 prose-server-1 prose-dashboard-1 prose-app-1")
			for range 2 {
				b.until(t, "it says that the Pod is off", func(s status.Status, code int) bool {
					return code != 0 && strings.Contains(item(s, "pod").What, "switched off")
				})
			}
			for name, c := range b.containers(t) {
				if !strings.Contains(c, " exited ") {
					t.Errorf("%s is %s", name, c)
				}
			}
			b.Run(t, "mkdir", "/run/prose")
			b.ready(t)
			b.serves(t)
			ordered(t, 0)
		}},
		{"the owner's link", func(t *testing.T) { claimed = b.claim(t, false) }},
		{"factory reset", func(t *testing.T) {
			before, err := b.serials()
			if err != nil {
				t.Fatal(err)
			}
			b.reset(t)
			// From the next request on, before the agent has looked: first while the
			// API starts, then while it waits for its configuration.
			visitor := b.world.visitor()
			for range 20 {
				for _, cookies := range [][]*http.Cookie{nil, claimed} {
					if code, err := ask(visitor, "GET", admin+"/", "", cookies...); code != http.StatusForbidden && code != http.StatusServiceUnavailable {
						t.Errorf("after the reset the dashboard answers with status %d (%v)", code, err)
					}
					for _, g := range guarded {
						if code, err := ask(visitor, g[0], admin+g[1], `{"name":"Mallory's"}`, cookies...); code != http.StatusForbidden && code != http.StatusServiceUnavailable {
							t.Errorf("after the reset %s %s answers with status %d (%v)", g[0], g[1], code, err)
						}
					}
				}
				time.Sleep(50 * time.Millisecond)
			}
			b.until(t, "the machine is locked and ready again", func(s status.Status, code int) bool { return code == 0 && s.Locked })
			b.serves(t)
			b.door(t, false)
			config, err := os.ReadFile(b.path("etc/prose/prose.toml"))
			if err != nil || !strings.Contains(string(config), domain) {
				t.Errorf("prose.toml: %v\n%s", err, config)
			}
			after, err := b.serials()
			if d := differences(before, after); err != nil || len(d) > 0 {
				t.Errorf("a reset has changed the certificates of %v, %v", d, err)
			}
			ordered(t, 0)
			// Who was the owner is a stranger now.
			if code, _ := ask(visitor, "PUT", admin+"/api/v1/workspace", `{"name":"Mallory's"}`, claimed...); code != http.StatusForbidden {
				t.Errorf("the cookie of the owner before opens the door: status %d", code)
			}
			if code, _ := ask(visitor, "GET", admin+"/", "", claimed...); code != http.StatusForbidden {
				t.Errorf("the cookie of the owner before shows the dashboard: status %d", code)
			}
			b.claim(t, true)
		}},
	}
	for _, j := range journeys {
		begin := time.Now()
		if !t.Run(strings.ReplaceAll(j.name, " ", "_"), j.try) {
			t.Logf("the agent's part of it:\n%s", b.log.String()[max(0, b.log.Len()-8000):])
			return
		}
		t.Logf("%-20s %v", j.name, time.Since(begin).Round(100*time.Millisecond))
	}
}

var claimed []*http.Cookie // of the first owner

// owner replaces the owner's file.
func (b *box) owner(text string) {
	b.lay([]overlays.File{{Path: "etc/prose-firstboot.d/10-owner.yaml", Mode: 0o600, Content: []byte(text)}})
}

// asProse runs a script as the Pod's user, who may be anybody.
func (b *box) asProse(t testing.TB, script string) {
	t.Helper()
	b.Run(t, "setpriv", "--reuid", "1001", "--regid", "1001", "--clear-groups", "sh", "-ec", script)
}

// claim does as an owner with the one-time link, up to the first account, and
// returns the cookies of that. A second time it asks less, because NGINX limits
// one visitor's tries.
func (b *box) claim(t *testing.T, again bool) []*http.Cookie {
	t.Helper()
	visitor := b.world.visitor()
	link := regexp.MustCompile(`https://\S+/claim/\S+`).FindString(b.agent("link").out)
	if !strings.HasPrefix(link, admin+"/claim/") {
		t.Fatal("there is no link")
	}
	if again := b.agent("link").out; !strings.Contains(again, link) {
		t.Error("asked again, there is another link")
	}
	if !again {
		for range 2 { // looking uses nothing up
			if code, err := ask(visitor, "GET", link, ""); code != http.StatusOK {
				t.Errorf("looking at the link: status %d, %v", code, err)
			}
		}
	}
	code, res, err := talk(visitor, "POST", link, "")
	if code != http.StatusSeeOther || len(res.Cookies()) == 0 {
		t.Fatalf("using the link: status %d, %v", code, err)
	}
	cookies := res.Cookies()
	if code, _ := ask(visitor, "POST", link, ""); !again && code != http.StatusForbidden {
		t.Errorf("using the link twice: status %d", code)
	}
	for _, p := range []struct{ path, send string }{
		{"/api/v1/workspace", `{"name":"Example"}`},
		{"/api/v1/init/first-account", `{"username":"alice","password":"` + password + `","nickname":"Alice"}`},
	} {
		if code, err := ask(visitor, "PUT", admin+p.path, p.send, cookies...); code != http.StatusCreated {
			t.Errorf("PUT %s: status %d, %v", p.path, code, err)
		}
	}
	b.until(t, "the dashboard is open", func(s status.Status, code int) bool { return code == 0 && !s.Locked })
	b.door(t, true)
	return cookies
}

// reset does what the dashboard does for a factory reset.
func (b *box) reset(t *testing.T) {
	t.Helper()
	c := b.Client()
	const api = "http://127.0.0.1:8081/api"
	do := func(method, path, auth, send string, want int) string {
		t.Helper()
		req, err := http.NewRequest(method, api+path, strings.NewReader(send))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", auth)
		req.Header.Set("Content-Type", "application/json")
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var b strings.Builder
		res.Write(&b)
		if res.StatusCode != want {
			t.Fatalf("%s %s: %s", method, path, b.String())
		}
		_, body, _ := strings.Cut(b.String(), "\r\n\r\n")
		return body
	}
	var token struct{ Token string }
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("alice@"+domain+":"+password))
	body := do("POST", "/v1/login", basic, "", 200)
	if err := json.Unmarshal([]byte(body[strings.IndexByte(body, '{'):strings.LastIndexByte(body, '}')+1]), &token); err != nil {
		t.Fatal(err)
	}
	code := do("DELETE", "/", "Bearer "+token.Token, `{"password":"`+password+`"}`, 202)
	code = code[strings.IndexByte(code, '{') : strings.LastIndexByte(code, '}')+1]
	do("DELETE", "/", "Bearer "+token.Token, code, 205)
	if _, err := os.Stat(filepath.Join(b.path("etc/prosody/certs"), domain)); err == nil {
		t.Log("the reset leaves Prosody's certificates")
	}
}

// A machine whose owner comes late, and mistaken.
func TestLateOwner(t *testing.T) {
	b := newBox(t)
	const none = "nobody has made settings yet"
	b.until(t, none, func(s status.Status, code int) bool { return code == 3 && s.Domain == "" })
	if all := b.containers(t); len(all) != 0 {
		t.Errorf("without settings there are containers: %v", all)
	}
	if code, err := ask(b.world.visitor(), "GET", "http://"+address+"/", ""); code != 200 {
		t.Errorf("the page that says what to do: status %d, %v", code, err)
	}

	t.Run("mistakes", func(t *testing.T) {
		b.owner("domain: not a domain\nsmtp:\n  port: 25x\n")
		b.until(t, "all mistakes are shown", func(s status.Status, code int) bool {
			all := strings.Join(item(s, "settings").Points, "\n")
			return code == 3 && strings.Contains(all, "domain") && strings.Contains(all, "smtp.port")
		})
		if _, err := os.Stat(b.path("var/lib/prose-firstboot/state.json")); err == nil || len(b.containers(t)) != 0 {
			t.Error("with wrong settings something was set up")
		}
		os.Remove(b.path("etc/prose-firstboot.d/10-owner.yaml"))
	})
	t.Run("configure", func(t *testing.T) {
		b.Write("/root/ca.pem", b.world.ca)
		if r := b.agent("configure", "--domain", domain, "--acme-directory", directory, "--acme-ca-file", "/root/ca.pem"); r.code != 0 {
			t.Fatal(r.out)
		}
		if asked := b.asked(); asked != "start --no-block prose-firstboot.service\n" {
			t.Errorf("configure has asked systemd to %s", asked)
		}
		b.until(t, "it waits for DNS with a Pod that answers", func(s status.Status, code int) bool {
			return code == 3 && item(s, "pod").Progress == status.Done && item(s, "dns").Progress == status.Owner
		})
	})
	t.Run("wrong DNS", func(t *testing.T) {
		b.world.records(elsewhere, names...)
		b.until(t, "it shows what is wrong", func(s status.Status, code int) bool {
			wrong := 0
			for _, r := range s.Records {
				if r.State == status.Wrong && strings.Join(r.Found, "") == elsewhere {
					wrong++
				}
			}
			return code == 3 && wrong >= 3
		})
		if of, all := b.world.ordered(); all != 0 {
			t.Errorf("wrong DNS has cost orders: %v", of)
		}
	})
	t.Run("right DNS", func(t *testing.T) {
		b.world.records(address, names...)
		b.ready(t)
		b.serves(t)
		b.door(t, false)
		if of, all := b.world.ordered(); all != len(names) {
			t.Errorf("orders: %v", of)
		}
	})
	t.Run("first account", func(t *testing.T) {
		const secret = "a long one from user-data"
		b.owner("admin:\n  username: bob\n  password: " + secret + "\n")
		b.until(t, "the dashboard is open", func(s status.Status, code int) bool { return code == 0 && !s.Locked })
		b.door(t, true)
		req, _ := http.NewRequest("POST", admin+"/api/v1/login", nil)
		req.SetBasicAuth("bob@"+domain, secret)
		res, err := b.world.visitor().Do(req)
		if err != nil || res.StatusCode != 200 {
			t.Errorf("logging in: %v, %v", res, err)
		}
		// The dashboard lets nobody log in before the workspace has a name.
		req, _ = http.NewRequest("HEAD", admin+"/api/v1/workspace", nil)
		req.Header.Set("If-Match", "*")
		if res, err := b.world.visitor().Do(req); err != nil || res.StatusCode != http.StatusNoContent {
			t.Errorf("has the workspace begun: %v, %v", res, err)
		}
		b.secret(t, secret, "/etc/prose-firstboot.d/10-owner.yaml")
	})
	if t.Failed() {
		t.Logf("the agent's part of it:\n%s", b.log.String()[max(0, b.log.Len()-8000):])
	}
}
