package pod

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestStart(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	begin := time.Now()
	p.start("server")
	seen := p.seeStarting()
	for range 2 { // on a busy machine the moment may pass unseen
		if !seen {
			p.containers["server"].restart()
			seen = p.seeStarting()
		}
	}
	if !seen {
		t.Error("the server never said that it starts")
	}
	p.start("api", "dashboard", "app")
	p.await(10*time.Second, "the API", func() error { // not through the dashboard, which logs that it fails
		if status, _, body := p.get("api", "/health"); status != 200 {
			return fmt.Errorf("status %d: %s", status, body)
		}
		return nil
	})
	p.ready()
	t.Logf("ready after %v", time.Since(begin).Round(time.Millisecond))

	var versions map[string]struct{ Tag string }
	if err := json.Unmarshal([]byte(p.want(200, "GET", "api", "/v1/pod/version", "")), &versions); err != nil {
		t.Fatal(err)
	}
	if versions["api"].Tag != "0.20.0" || versions["server"].Tag != "0.4.3" {
		t.Errorf("versions %v", versions)
	}
	for _, path := range []string{"/health", "/healthz", "/version", "/v1/version", "/server/version"} {
		p.want(200, "GET", "api", path, "")
	}
	p.want(404, "GET", "api", "/v1/health", "")
	for _, path := range []string{"/health", "/backend/health", "/config-health", "/frontend/health"} {
		p.want(200, "GET", "server", path, "")
	}
	for port, open := range map[int]bool{5222: true, 5280: true, 5269: false, 5281: false, 8080: true} {
		if p.open("server", port) != open {
			t.Errorf("port %d: open is %t", port, !open)
		}
	}
	for service, title := range map[string]string{"app": "<title>Prose</title>", "dashboard": "<title>Prose Pod Dashboard</title>"} {
		for _, path := range []string{"/", "/some/where"} {
			if body := p.want(200, "GET", service, path, ""); !strings.Contains(body, title) {
				t.Errorf("%s of %s: %s", path, service, body)
			}
		}
	}

	if salt := p.read("/var/lib/prose-pod-server/salt.bin"); len(salt) != 256 {
		t.Errorf("the salt has %d bytes", len(salt))
	}
	if text := p.read("/etc/prosody/prosody.cfg.lua"); !strings.HasPrefix(text, "-- Prose Pod Server\n") || !strings.Contains(text, `"websocket"`) {
		t.Errorf("Prosody's configuration is not the full one:\n%s", text)
	}
	for _, name := range []string{"/etc/prosody/prosody.cfg.lua", "/var/lib/prose-pod-server/salt.bin"} {
		info, err := os.Stat(p.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != uid {
			t.Errorf("%s belongs to %d", name, owner)
		}
	}
	p.cleanLogs()
	// An orderly stop is quick and clean.
	for _, name := range []string{"dashboard", "app", "api", "server"} {
		c := p.containers[name]
		c.signal(syscall.SIGTERM)
		if code := c.wait(5 * time.Second); code != 0 {
			t.Errorf("%s: exit code %d", name, code)
		}
	}
	if _, err := os.Stat(p.path("/var/lib/prose-pod-api/database.sqlite-wal")); err == nil {
		t.Error("the database's companions outlive an orderly stop")
	}
}

// cleanLogs is upstream's own check of what the containers print.
func (p *pod) cleanLogs() {
	p.t.Helper()
	bad := regexp.MustCompile(`[^:]error[^:]`)
	for _, c := range p.containers {
		if line := bad.FindString(c.log.String()); line != "" {
			p.t.Errorf("%s logs %q:\n%s", c.name, line, c.log)
		}
	}
}

// The configuration and environment of upstream's test of its compose file.
func TestTalkativeStart(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.write("/etc/prose/prose.toml", minimal+"[log]\nlevel = \"debug\"\ntimer = \"uptime\"\n")
	p.env = []string{"PROSE_LOG__FORMAT=full", "PROSE_LOG__WITH_ANSI=true"}
	p.start("server", "api")
	p.await(10*time.Second, "the API", func() error {
		if status, _, body := p.get("api", "/pod/version"); status != 200 {
			return fmt.Errorf("status %d: %s", status, body)
		}
		return nil
	})
	p.cleanLogs()
	for _, name := range []string{"server", "api"} {
		if log := p.containers[name].log.String(); !strings.Contains(log, " DEBUG prose_pod_"+name+": ") {
			t.Errorf("%s says nothing of level debug:\n%s", name, log)
		}
	}
}

// seeStarting reports whether the server says that it starts before it runs:
// Prosody must live for 250 ms, so there is time to see it.
func (p *pod) seeStarting() (seen bool) {
	p.t.Helper()
	p.await(10*time.Second, "the server", func() error {
		status, header, body := p.get("server", "/health")
		switch status {
		case 200:
			return nil
		case 425:
			if header.Get("Retry-After") != "1" || !strings.Contains(body, `"code":"SERVER_STARTING"`) {
				p.t.Errorf("Retry-After %q, %s", header.Get("Retry-After"), body)
			}
			seen = true
		}
		return fmt.Errorf("status %d: %s", status, body)
	})
	return seen
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		service string
		toml    string
		env     []string
		log     string // empty: it must not stop at the configuration
	}{
		{"no domain", "api", "", nil, "missing field `server.domain`"},
		{"no domain", "server", "", nil, "missing field `server.domain`"},
		{"domain from the environment", "server", "", []string{"PROSE_SERVER__DOMAIN=test.local"}, ""},
		{"no TOML", "api", "[server", nil, "TOML parse error"},
		{"no TOML", "server", "[server", nil, "TOML parse error"},
		{"not a domain", "api", "[server]\ndomain = \"a b\"\n", nil, "invalid value"},
		{"unknown table", "api", minimal + "[nonsense]\nx = 1\n", nil, "unknown field: found `nonsense`"},
		{"unknown table", "server", minimal + "[nonsense]\nx = 1\n", nil, ""},
		{"unknown key", "api", minimal + "[log]\nlvl = \"info\"\n", nil, "unknown field: found `lvl`, expected one of"},
		{"analytics", "api", minimal + "[vendor_analytics]\nenabled = false\n", nil, "unknown field: found `vendor_analytics`"},
		{"analytics", "server", minimal + "[vendor_analytics]\nenabled = false\n", nil, ""},
		{"analytics by environment", "api", minimal, []string{"PROSE_VENDOR_ANALYTICS__ENABLED=false"}, "unknown field: found `vendor_analytics`"},
		{"unknown key in analytics", "server", minimal + "[vendor_analytics]\nnonsense = 1\n", nil, "unknown field: found `nonsense`"},
		{"compose variable", "api", minimal, []string{"PROSE_UID=1001"}, "unknown field: found `uid`"},
		{"compose variable", "server", minimal, []string{"PROSE_UID=1001"}, ""},
		{"bootstrap password", "api", minimal, []string{"PROSE_BOOTSTRAP__PROSE_POD_API_XMPP_PASSWORD=x"}, "unknown field: found `prose_pod_api_xmpp_password`"},
		{"numeric password", "api", minimal + "[notifiers.email]\nsmtp_host = \"h\"\n", []string{"PROSE_NOTIFIERS__EMAIL__SMTP_PASSWORD=12345"}, "invalid type: found signed int `12345`, expected a string"},
		{"mail without host", "api", minimal + "[notifiers.email]\nsmtp_port = 25\n", nil, "missing field `smtp_host`"},
		{"address without dashboard", "api", minimal + "[pod.address]\nipv4 = \"192.0.2.1\"\n", nil, "missing field `dashboard.url`"},
		{"short minimum", "api", minimal + "[auth]\nmin_password_length = 7\n", nil, "invalid value 7"},
		{"trace", "api", minimal + "log_level = \"trace\"\n", nil, "unknown variant: found `trace`"},
		{"trace", "server", minimal + "log_level = \"trace\"\n", nil, ""},
		{"skip what is not there", "api", minimal + "[debug_use_at_your_own_risk]\nskip_startup_actions = [\"x\"]\n", nil, "unknown startup action `x`"},
	}
	for _, test := range tests {
		t.Run(test.service+"/"+test.name, func(t *testing.T) {
			p := newPod(t)
			p.write("/etc/prose/prose.toml", test.toml)
			p.env = test.env
			c := p.containers[test.service]
			c.start()
			if test.log == "" {
				p.await(10*time.Second, "the server", func() error {
					if status, _, body := p.get("server", "/health"); status != 200 {
						return fmt.Errorf("status %d: %s", status, body)
					}
					return nil
				})
				return
			}
			if code := c.wait(5 * time.Second); code != 1 {
				t.Errorf("exit code %d", code)
			}
			if log := c.log.String(); !strings.Contains(log, "Invalid 'prose.toml' configuration file: ") || !strings.Contains(unquoted(log), test.log) {
				t.Errorf("the log does not say %q:\n%s", test.log, log)
			}
		})
	}
}

// unquoted undoes what JSON does to quotes in a log line.
func unquoted(s string) string { return strings.ReplaceAll(s, `\"`, `"`) }

func TestServerNeedsItsDirectories(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"/etc/prosody", "/var/lib/prosody", "/var/lib/prose-pod-server"} {
		p := newPod(t)
		// As the engine makes a directory that is missing.
		p.must(os.Chown(p.path(dir), 0, 0))
		p.must(os.Chmod(p.path(dir), 0o755))
		p.start("server")
		if code := p.containers["server"].wait(15 * time.Second); code != 1 {
			t.Errorf("%s not writable: exit code %d", dir, code)
		}
	}
}

func TestAPIGivesUpAfterTenSeconds(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	begin := time.Now()
	p.start("api")
	if code := p.containers["api"].wait(15 * time.Second); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(begin); took < 9500*time.Millisecond {
		t.Errorf("it gave up after %v", took)
	}
}

func TestAPIWaitsForTheServer(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.start("api")
	time.Sleep(5 * time.Second)
	if p.open("api", 8080) {
		t.Error("the API listens before the server is there")
	}
	p.start("server", "dashboard")
	p.ready()
}

// A zombie is a process that runs and listens on nothing.
func zombie(t *testing.T, c *container, message string) {
	t.Helper()
	c.pod.await(15*time.Second, "the panic", func() error {
		if !strings.Contains(c.log.String(), message) {
			return fmt.Errorf("not in the log: %q", message)
		}
		return nil
	})
	time.Sleep(time.Second)
	if !c.runs() {
		t.Error("the process has ended")
	}
	if c.pod.open(c.name, 8080) {
		t.Error("it listens")
	}
}

func TestZombies(t *testing.T) {
	t.Parallel()
	t.Run("no database", func(t *testing.T) {
		p := newPod(t)
		p.must(os.Remove(p.path("/var/lib/prose-pod-api/database.sqlite")))
		p.start("server", "api")
		zombie(t, p.containers["api"], "Could not connect to the database.")
		// A signal gives it another try.
		p.write("/var/lib/prose-pod-api/database.sqlite", "")
		p.containers["api"].signal(syscall.SIGHUP)
		p.start("dashboard")
		p.ready()
	})
	t.Run("directory not writable", func(t *testing.T) {
		p := newPod(t)
		p.must(os.Chown(p.path("/var/lib/prose-pod-api"), 0, uid))
		p.start("server", "api")
		zombie(t, p.containers["api"], "Could not connect to the database.")
	})
	t.Run("unknown health", func(t *testing.T) {
		p := newPod(t)
		p.up()
		p.containers["api"].stop()
		// Without a configuration the server stops, and says so with a code that
		// the API does not know.
		p.want(http.StatusResetContent, "POST", "server", "/lifecycle/factory-reset", "")
		p.write("/etc/prose/prose.toml", minimal)
		p.start("api")
		zombie(t, p.containers["api"], "Unexpected code: SERVER_STOPPED")
	})
	t.Run("address in use", func(t *testing.T) {
		p := newPod(t)
		p.write("/etc/prose/prose.toml", minimal+"[api]\naddress = \"192.0.2.1\"\n")
		p.start("server", "api")
		zombie(t, p.containers["api"], "cannot assign requested address")
	})
}

func TestDatabaseMustBeOne(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.write("/var/lib/prose-pod-api/database.sqlite", "not a database")
	p.start("api")
	if code := p.containers["api"].wait(5 * time.Second); code != 1 {
		t.Errorf("exit code %d", code)
	}
}

func TestMail(t *testing.T) {
	t.Parallel()
	mail := func(p *pod, port int, more string) {
		p.write("/etc/prose/prose.toml", fmt.Sprintf("%s[notifiers.email]\nsmtp_host = %q\nsmtp_port = %d\n%s", minimal, p.address(1), port, more))
	}
	t.Run("unreachable", func(t *testing.T) {
		p := newPod(t)
		mail(p, 1, "")
		p.start("server", "api")
		if code := p.containers["api"].wait(15 * time.Second); code != 1 {
			t.Errorf("exit code %d", code)
		}
		if log := p.containers["api"].log.String(); !strings.Contains(log, "SMTP server unreachable") {
			t.Errorf("log:\n%s", log)
		}
	})
	t.Run("skipped", func(t *testing.T) {
		p := newPod(t)
		mail(p, 1, "[debug_use_at_your_own_risk]\nskip_startup_actions = [\"test_services_reachability\"]\n")
		p.up()
	})
	t.Run("reachable", func(t *testing.T) {
		p := newPod(t)
		listener, err := net.Listen("tcp", p.address(1)+":0")
		p.must(err)
		defer listener.Close()
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(conn, "220 mail.test\r\n")
				for buf := make([]byte, 512); ; {
					if _, err := conn.Read(buf); err != nil {
						break
					}
					fmt.Fprint(conn, "250 mail.test\r\n")
				}
				conn.Close()
			}
		}()
		port := listener.Addr().(*net.TCPAddr).Port
		mail(p, port, "smtp_encrypt = false\n")
		p.up()
		// Encryption is wanted unless the configuration says otherwise.
		mail(p, port, "")
		p.containers["api"].stop()
		p.start("api")
		if code := p.containers["api"].wait(15 * time.Second); code != 1 {
			t.Errorf("without STARTTLS: exit code %d", code)
		}
	})
}

func TestRestartOfTheServerAlone(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.up()
	p.containers["server"].restart()
	p.await(10*time.Second, "the server", func() error {
		if status, _, body := p.get("server", "/health"); status != 200 {
			return fmt.Errorf("status %d: %s", status, body)
		}
		return nil
	})
	// The container runs, its health is good, and yet nobody can log in.
	if text := p.read("/etc/prosody/prosody.cfg.lua"); !strings.Contains(text, "bootstrap configuration") {
		t.Errorf("Prosody's configuration is not the bootstrap one:\n%s", text)
	}
	p.want(200, "GET", "api", "/health", "")
	if body := p.want(500, "GET", "dashboard", "/api/pod/version", ""); strings.TrimSpace(body) != `{"error":"internal_server_error"}` {
		t.Errorf("error body %s", body)
	}
	p.containers["api"].restart()
	p.ready()
}

func TestDeadProsodyGoesUnnoticed(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	p.up()
	// One process besides process 1.
	if out, err := p.containers["server"].exec("/usr/bin/sh", "-c", "kill -9 $(ps -o pid,comm | awk '$2 ~ /lua/ {print $1}')"); err != nil {
		if out2, err := p.containers["server"].exec("/usr/bin/busybox", "killall", "-9", "lua5.4"); err != nil {
			t.Fatalf("%v: %s %s", err, out, out2)
		}
	}
	p.await(5*time.Second, "the version to fail", func() error {
		if status, _, _ := p.get("api", "/pod/version"); status != 500 {
			return fmt.Errorf("status %d", status)
		}
		return nil
	})
	if !p.containers["server"].runs() {
		t.Error("the server has ended")
	}
	p.want(200, "GET", "server", "/health", "")
}

func TestDashboardResolvesOnce(t *testing.T) {
	t.Parallel()
	p := newPod(t)
	dashboard, api := p.containers["dashboard"], p.containers["api"]
	dashboard.start()
	if code := dashboard.wait(12 * time.Second); code != 1 {
		t.Errorf("without an API: exit code %d", code)
	}
	if log := dashboard.log.String(); !strings.Contains(log, `host not found in upstream "prose-pod-api:8080"`) {
		t.Errorf("log:\n%s", log)
	}
	p.start("server", "api", "dashboard")
	p.ready()

	api.stop()
	p.wantNoUpstream()
	p.want(200, "GET", "dashboard", "/", "")
	p.mu.Lock()
	api.last = 13 // a new container, a new address
	p.mu.Unlock()
	api.start()
	p.await(15*time.Second, "the API", func() error {
		if status, _, body := p.get("api", "/pod/version"); status != 200 {
			return fmt.Errorf("status %d: %s", status, body)
		}
		return nil
	})
	p.wantNoUpstream()
	dashboard.restart()
	p.ready()
}

// wantNoUpstream fails unless the dashboard has nobody to hand requests on to.
// Which of the two it says depends on whether the kernel gives up on an address
// without an owner before the proxy does.
func (p *pod) wantNoUpstream() {
	p.t.Helper()
	if status, _, body := p.get("dashboard", "/api/health"); status != 502 && status != 504 {
		p.t.Errorf("the dashboard reaches an API: status %d: %s", status, body)
	}
}
