package pod

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	password     = "correct horse battery staple"
	firstAccount = `{"username":"alice","password":"` + password + `","nickname":"Alice"}`
)

func basic(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// token logs an account in.
func (p *pod) token(user string) string {
	p.t.Helper()
	var out struct{ Token string }
	body := p.want(200, "POST", "api", "/v1/login", "", basic(user, password))
	p.must(json.Unmarshal([]byte(body), &out))
	return "Authorization: Bearer " + out.Token
}

func TestInit(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.up()
	p.want(400, "HEAD", "api", "/v1/workspace", "")
	p.want(412, "HEAD", "api", "/v1/workspace", "", "If-Match: *")
	p.want(422, "PUT", "api", "/v1/workspace", `{"name":""}`)
	p.want(422, "PUT", "api", "/v1/workspace", `{"name":"x","nonsense":1}`)
	p.want(400, "PUT", "api", "/v1/workspace", `{`)
	p.want(415, "PUT", "api", "/v1/workspace", `{"name":"x"}`, "Content-Type: text/plain")
	if body := p.want(201, "PUT", "dashboard", "/api/v1/workspace", `{"name":"Team","accent_color":"#ff8800"}`); !strings.Contains(body, `"name":"Team"`) {
		t.Errorf("workspace: %s", body)
	}
	p.want(204, "HEAD", "api", "/v1/workspace", "", "If-Match: *")

	p.want(204, "HEAD", "api", "/v1/init/first-account", "")
	if body := p.want(400, "PUT", "api", "/v1/init/first-account", `{"username":"alice","password":"14-characters!","nickname":"A"}`); !strings.Contains(body, `"invalid_password"`) {
		t.Errorf("short password: %s", body)
	}
	p.want(422, "PUT", "api", "/v1/init/first-account", `{"username":"a b","password":"`+password+`","nickname":"A"}`)
	p.want(422, "PUT", "api", "/v1/init/first-account", `{"username":"alice","password":"`+password+`","nickname":""}`)
	p.want(204, "HEAD", "api", "/v1/init/first-account", "")
	status, header, body := p.do("PUT", "dashboard", "/api/v1/init/first-account", firstAccount)
	if status != 201 || header.Get("Location") != "/v1/members/alice@test.local" || !strings.Contains(body, `"jid":"alice@test.local"`) {
		t.Errorf("first account: status %d, Location %q, %s", status, header.Get("Location"), body)
	}
	p.want(200, "HEAD", "api", "/v1/init/first-account", "")
	if body := p.want(409, "PUT", "api", "/v1/init/first-account", strings.ReplaceAll(firstAccount, "alice", "mallory")); !strings.Contains(body, `"first_account_already_created"`) {
		t.Errorf("second first account: %s", body)
	}
	p.want(409, "PUT", "server", "/init/first-account", `{"username":"mallory","password":"x"}`)
	// An admin does not close this route; a member does.
	p.want(201, "PUT", "api", "/v1/workspace", `{"name":"Mallory's"}`)
	p.addMember("bob")
	p.want(409, "PUT", "api", "/v1/workspace", `{"name":"Mallory's"}`)

	p.want(401, "POST", "api", "/v1/login", "")
	p.want(401, "POST", "api", "/v1/login", "", basic("alice@test.local", "wrong"))
	p.want(401, "POST", "api", "/v1/login", "", basic("alice@other.local", password))
	p.want(404, "POST", "api", "/login", "", basic("alice@test.local", password))

	p.want(401, "POST", "api", "/reload", "")
	p.want(401, "POST", "api", "/reload", "", "Authorization: Bearer nonsense")
	p.want(403, "POST", "api", "/reload", "", p.token("bob@test.local"))
	p.want(202, "POST", "api", "/reload", "", p.token("alice@test.local"))
	p.ready()

	// What was said survives both programs.
	p.containers["server"].restart()
	p.containers["api"].restart()
	p.ready()
	p.want(200, "HEAD", "api", "/v1/init/first-account", "")
	p.want(204, "HEAD", "api", "/v1/workspace", "", "If-Match: *")
	if body := p.want(200, "GET", "api", "/v1/workspace", ""); !strings.Contains(body, `Mallory`) {
		t.Errorf("workspace: %s", body)
	}
	p.token("alice@test.local")
}

// addMember creates an account as an administrator of the machine does.
func (p *pod) addMember(name string) {
	p.t.Helper()
	out, err := p.containers["server"].exec("/usr/bin/prosodyctl", "shell", "user", "create", name+"@test.local", password, "prosody:member")
	if err != nil {
		p.t.Fatalf("creating %s: %v: %s", name, err, out)
	}
}

func TestUnknownAccountCountsAsNone(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.up()
	p.want(201, "PUT", "api", "/v1/init/first-account", firstAccount)
	p.containers["server"].stop()
	// The trap for whoever takes this answer for the truth.
	p.want(204, "HEAD", "api", "/v1/init/first-account", "")
}

func TestDomainIsForGood(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.up()
	p.want(201, "PUT", "api", "/v1/init/first-account", firstAccount)
	p.write("/etc/prose/prose.toml", "[server]\ndomain = \"other.local\"\n")
	if body := p.want(503, "POST", "server", "/lifecycle/reload", ""); !strings.Contains(body, `"code":"BAD_CONFIGURATION"`) {
		t.Errorf("reload: %s", body)
	}
	api := p.containers["api"]
	api.stop()
	api.start()
	if code := api.wait(15 * time.Second); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if log := api.log.String(); !strings.Contains(log, "the server domain cannot be changed after the first startup") {
		t.Errorf("log:\n%s", log)
	}
}

// reset goes through both steps of a factory reset.
func (p *pod) reset() {
	p.t.Helper()
	auth := p.token("alice@test.local")
	p.want(401, "DELETE", "api", "/", `{"password":"x"}`)
	p.want(401, "DELETE", "api", "/", `{"password":"wrong"}`, auth)
	p.want(400, "DELETE", "api", "/", `{"confirmation":"wrong"}`, auth)
	code := p.want(202, "DELETE", "api", "/", `{"password":"`+password+`"}`, auth)
	p.want(205, "DELETE", "api", "/", code, auth)
}

// isEmpty reports what a directory still holds.
func (p *pod) isEmpty(dir string) {
	p.t.Helper()
	entries, err := os.ReadDir(p.path(dir))
	p.must(err)
	if len(entries) > 0 {
		p.t.Errorf("%s still holds %v", dir, entries)
	}
}

func TestFactoryReset(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.certificate("test.local")
	p.up()
	p.want(201, "PUT", "api", "/v1/workspace", `{"name":"Team"}`)
	p.want(201, "PUT", "api", "/v1/init/first-account", firstAccount)
	salt := p.read("/var/lib/prose-pod-server/salt.bin")
	p.reset()

	p.isEmpty("/etc/prosody")
	p.isEmpty("/var/lib/prosody")
	if text := p.read("/var/lib/prose-pod-api/database.sqlite"); text != "" {
		t.Errorf("the database holds %q", text)
	}
	if text := p.read("/etc/prose/prose.toml"); strings.Contains(text, "domain") || text == "" {
		t.Errorf("prose.toml holds %q", text)
	}
	if p.read("/var/lib/prose-pod-server/salt.bin") != salt {
		t.Error("the salt is another")
	}
	// Both run, and wait for a configuration. Anyone may reload now.
	p.await(5*time.Second, "the API's utility routes", func() error {
		if status, _, body := p.get("api", "/health"); status != 200 {
			return fmt.Errorf("status %d: %s", status, body)
		}
		return nil
	})
	p.want(404, "GET", "api", "/pod/version", "")
	p.want(200, "GET", "api", "/version", "")
	p.want(503, "GET", "server", "/health", "")
	p.want(503, "GET", "server", "/config-health", "")
	if p.open("server", 5222) {
		t.Error("Prosody still runs")
	}
	p.want(202, "POST", "api", "/reload", "")
	time.Sleep(time.Second)
	p.want(200, "GET", "api", "/health", "") // still no configuration

	p.write("/etc/prose/prose.toml", minimal)
	p.want(202, "POST", "dashboard", "/api/reload", "")
	p.ready()
	p.want(204, "HEAD", "api", "/v1/init/first-account", "") // the door is open again
	p.want(412, "HEAD", "api", "/v1/workspace", "", "If-Match: *")
	p.want(401, "POST", "api", "/v1/login", "", basic("alice@test.local", password))
}

func TestFactoryResetWithDomainInTheEnvironment(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.write("/etc/prose/prose.toml", "")
	p.env = []string{"PROSE_SERVER__DOMAIN=test.local"}
	p.up()
	p.want(201, "PUT", "api", "/v1/init/first-account", firstAccount)
	p.reset()
	p.ready() // by itself
	p.want(204, "HEAD", "api", "/v1/init/first-account", "")
}

func TestReloadOfTheAPI(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.up()
	api := p.containers["api"]
	p.write("/etc/prose/prose.toml", minimal+"[nonsense]\nx = 1\n")
	api.signal(syscall.SIGHUP)
	p.await(10*time.Second, "the utility routes", func() error {
		if status, _, _ := p.get("api", "/pod/version"); status != 404 {
			return fmt.Errorf("status %d", status)
		}
		return nil
	})
	if !api.runs() {
		t.Error("the API has ended")
	}
	p.write("/etc/prose/prose.toml", minimal+"[server.defaults]\nfederation_enabled = true\n[prosody.global.overrides]\nmotd_text = \"a\\\"\\\\b\\n\"\n")
	api.signal(syscall.SIGHUP)
	p.ready()
	if !p.open("server", 5269) {
		t.Error("federation is on and 5269 is closed")
	}
}
