package pod_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/engine"
	"github.com/prose-im/prose-image/firstboot/pod"
	"github.com/prose-im/prose-image/testdata/machine"
)

const podDir = "/usr/lib/prose/pod"

var services = []string{"api", "app", "dashboard", "server"}

// The whole of it on a real engine, with the double's real programs.
func TestEngine(t *testing.T) {
	m := machine.Start(t, machine.Debian(t), "")
	images := machine.Images(t)
	daemon, err := os.ReadFile("../../overlays/base/etc/docker/daemon.json")
	if err != nil {
		t.Fatal(err)
	}
	m.Write("/etc/docker/daemon.json", machine.Daemon(t, daemon, m.Serve(images)))
	m.StartContainerd()
	m.StartDocker()

	pinned := machine.Pinned(images)
	var files []pod.File
	env := map[string][]byte{}
	for _, name := range []string{"compose.yaml", "compose.override.yaml", "compose.images.yaml", "compose.env", "server.env", "api.env"} {
		b := []byte(pinned)
		if name != "compose.images.yaml" {
			var err error
			if b, err = os.ReadFile(filepath.Join("../../overlays/pod", name)); err != nil {
				t.Fatal(err)
			}
		}
		full := path.Join(podDir, name)
		m.Write(full, string(b))
		env[full] = b
		if path.Ext(name) == ".yaml" {
			files = append(files, pod.File{Name: full, Content: b})
		}
	}
	m.Write("/etc/prose/prose.toml", "[server]\ndomain = \"example.org\"\n[api]\naddress = \"::\"\n")
	m.Write("/var/lib/prose-pod-api/database.sqlite", "")
	m.Run(t, "sh", "-c", `cd / && mkdir -p etc/prosody/certs var/lib/prosody var/lib/prose-pod-server
chown -R 1001:1001 etc/prose etc/prosody var/lib/prosody var/lib/prose-pod-server var/lib/prose-pod-api`)

	vars, err := pod.ParseEnv("compose.env", env[podDir+"/compose.env"], nil)
	if err != nil {
		t.Fatal(err)
	}
	want := func(files []pod.File) pod.Desired {
		p, err := pod.Parse(podDir, files, vars)
		if err != nil {
			t.Fatal(err)
		}
		d, err := pod.Want(p, env, vars)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	var told []string
	p := &pod.Pod{Desired: want(files), Engine: engine.New(m.Root + "/run/docker.sock"), HTTP: m.Client(),
		Log: func(s pod.Step) { told = append(told, s.String()) }}
	up := func(t *testing.T, within time.Duration) time.Duration {
		t.Helper()
		told = nil
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		begin := time.Now()
		s, err := p.Up(ctx)
		took := time.Since(begin).Round(100 * time.Millisecond)
		t.Logf("%v: %s", took, strings.Join(told, "; "))
		if err != nil {
			for _, s := range services {
				log, err := p.Engine.Logs(t.Context(), "prose-"+s+"-1", 15)
				t.Logf("%s: %v\n%s", s, err, log)
			}
			t.Fatal(err)
		}
		if s.Versions.API == "" || s.Versions.Server == "" {
			t.Errorf("versions %+v", s.Versions)
		}
		return took
	}
	compose := func(t *testing.T, args ...string) string {
		t.Helper()
		var f []string
		for _, c := range files {
			f = append(f, "-f", c.Name)
		}
		f = append([]string{"docker", "compose", "--progress", "plain", "--project-directory", podDir, "--env-file", podDir + "/compose.env"}, f...)
		return m.Run(t, append(f, args...)...)
	}
	inspect := func(t *testing.T) map[string]any {
		t.Helper()
		all := map[string]any{}
		for _, s := range services {
			var list []any
			if err := json.Unmarshal([]byte(m.Run(t, "docker", "inspect", "prose-"+s+"-1")), &list); err != nil {
				t.Fatal(err)
			}
			all[s] = list[0]
		}
		return all
	}
	starts := func(t *testing.T) string {
		t.Helper()
		return m.Run(t, "docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", "prose-server-1", "prose-api-1", "prose-dashboard-1", "prose-app-1")
	}

	if t.Run("pulls what is missing", func(t *testing.T) {
		up(t, 5*time.Minute)
		compose(t, "down", "--volumes", "--timeout", "1")
		if out := m.Run(t, "docker", "ps", "--all", "--quiet"); out != "" {
			t.Errorf("compose down leaves %s", out)
		}
	}); t.Failed() {
		return
	}

	var theirs map[string]any
	var composed time.Duration
	t.Run("compose", func(t *testing.T) {
		begin := time.Now()
		compose(t, "up", "--detach", "--remove-orphans", "--quiet-pull")
		client := m.Client()
		for {
			res, err := client.Get("http://127.0.0.1:8081/api/pod/version")
			if err == nil {
				res.Body.Close()
				if res.StatusCode == 200 {
					break
				}
			}
			if time.Since(begin) > 3*time.Minute {
				t.Fatal("waiting for compose's Pod to answer: nothing in three minutes")
			}
			time.Sleep(100 * time.Millisecond)
		}
		composed = time.Since(begin)
		theirs = inspect(t)
	})

	t.Run("takes over from compose", func(t *testing.T) { up(t, 3*time.Minute) })

	t.Run("from nothing", func(t *testing.T) {
		compose(t, "down", "--volumes", "--timeout", "1")
		took := up(t, 3*time.Minute)
		t.Logf("to Ready: %v, docker compose up: %v, ratio %.2f", took, composed.Round(100*time.Millisecond), took.Seconds()/composed.Seconds())
		differ(t, theirs, inspect(t))
	})

	t.Run("nothing to do", func(t *testing.T) {
		before := starts(t)
		up(t, time.Minute)
		if !slices.Equal(told, []string{"ready"}) || starts(t) != before {
			t.Errorf("it did %v", told)
		}
	})

	t.Run("compose ps", func(t *testing.T) {
		got := strings.Fields(compose(t, "ps", "--format", "{{.Service}}={{.State}}"))
		slices.Sort(got)
		if strings.Join(got, " ") != "api=running app=running dashboard=running server=running" {
			t.Errorf("%v", got)
		}
		if out := compose(t, "logs", "--tail", "1", "server"); !strings.Contains(out, "server-1") {
			t.Errorf("%s", out)
		}
	})

	for _, s := range services {
		t.Run("kill "+s, func(t *testing.T) {
			if err := p.Engine.Kill(t.Context(), "prose-"+s+"-1", "SIGKILL"); err != nil {
				t.Fatal(err)
			}
			up(t, time.Minute)
			if len(told) < 2 {
				t.Error("nothing was done")
			}
		})
		t.Run("crash "+s, func(t *testing.T) {
			// As when the program itself ends: the engine starts it again.
			before := starts(t)
			m.Run(t, "sh", "-c", "kill -9 $(docker inspect --format '{{.State.Pid}}' prose-"+s+"-1)")
			for begin := time.Now(); starts(t) == before; {
				if time.Since(begin) > time.Minute {
					t.Fatal("waiting for the engine to start it again: nothing in a minute")
				}
			}
			up(t, time.Minute)
		})
		t.Run("remove "+s, func(t *testing.T) {
			m.Run(t, "docker", "rm", "--force", "prose-"+s+"-1")
			up(t, time.Minute)
		})
	}

	t.Run("other settings", func(t *testing.T) {
		more := pod.File{Name: "more", Content: []byte("services: {api: {environment: {TZ: Etc/UTC}}}")}
		p.Desired = want(append(slices.Clone(files), more))
		up(t, time.Minute)
		if out := m.Run(t, "docker", "inspect", "--format", "{{.Config.Env}}", "prose-api-1"); !strings.Contains(out, "TZ=Etc/UTC") {
			t.Errorf("environment %s", out)
		}
		p.Desired = want(files)
		up(t, time.Minute)
	})

	t.Run("orphan", func(t *testing.T) {
		m.Run(t, "docker", "run", "--detach", "--name", "prose-old-1", "--label", "com.docker.compose.project=prose", "--label", "com.docker.compose.service=old",
			"--label", "com.docker.compose.oneoff=False", p.Desired.Containers[2].Config.Image)
		up(t, time.Minute)
		if out := m.Run(t, "docker", "ps", "--all", "--format", "{{.Names}}"); strings.Contains(out, "old") {
			t.Errorf("still there: %s", out)
		}
	})

	t.Run("new daemon", func(t *testing.T) {
		before := starts(t)
		m.StopDocker()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if _, err := p.Up(ctx); err == nil {
			t.Error("Ready without an engine")
		} else {
			t.Log(err)
		}
		cancel()
		m.StartDocker()
		up(t, time.Minute)
		if starts(t) != before {
			t.Errorf("it did %v", told)
		}
	})

	// As after a power cut: the engine comes back and starts them all at once.
	t.Run("all at once", func(t *testing.T) {
		m.Run(t, "sh", "-c", "kill -9 $(docker inspect --format '{{.State.Pid}}' prose-api-1 prose-dashboard-1 prose-server-1 prose-app-1)")
		up(t, time.Minute)
	})

	t.Run("errors", func(t *testing.T) {
		if err := p.Engine.Start(t.Context(), "nobody"); !isError(err, engine.ErrNotFound) {
			t.Errorf("%v", err)
		}
		if _, err := p.Engine.Create(t.Context(), "prose-api-1", p.Desired.Containers[0].Config); !isError(err, engine.ErrConflict) {
			t.Errorf("%v", err)
		}
	})
	m.Run(t, "sh", "-c", "docker rm --force $(docker ps --all --quiet)")
	m.StopDocker()
}

func isError(err, target error) bool { return err != nil && errors.Is(err, target) }

// allowed is where our containers may differ from Compose's, and why.
var allowed = []string{
	// Identities, times, addresses and places.
	".Id", ".Created", ".State.", ".HostnamePath", ".HostsPath", ".LogPath", ".ResolvConfPath", ".GraphDriver.", ".Config.Hostname",
	".NetworkSettings.SandboxID", ".NetworkSettings.SandboxKey", ".EndpointID", ".NetworkID", ".MacAddress", ".IPAddress", ".GlobalIPv6Address", ".DNSNames", ".RestartCount", "Gateway",
	// Compose names the container by its id too, which the engine does by itself.
	".Aliases",
	// Who made it, with what; no settings.
	".Config.Labels.com.docker.compose.config-hash", ".Config.Labels.com.docker.compose.project.environment_file", ".Config.Labels.com.docker.compose.version", ".Config.Labels.com.docker.compose.image",
	// We mount directories the strict way: one that is missing is an error, where
	// a bind makes it, root's. What comes out, .Mounts, is the same.
	".HostConfig.Binds", ".HostConfig.Mounts",
}

func differ(t *testing.T, theirs, ours map[string]any) {
	t.Helper()
	for _, s := range services {
		a, b := map[string]string{}, map[string]string{}
		flatten("", theirs[s], a)
		flatten("", ours[s], b)
		all := maps.Clone(a)
		maps.Copy(all, b)
		for _, k := range slices.Sorted(maps.Keys(all)) {
			if a[k] != b[k] && !slices.ContainsFunc(allowed, func(p string) bool { return strings.Contains(k, p) }) {
				t.Errorf("%s: %s is %q, Compose has %q", s, k, b[k], a[k])
			}
		}
	}
}

func flatten(at string, v any, to map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			flatten(at+"."+k, x, to)
		}
	case []any:
		// The order of mounts and the like says nothing.
		var all []string
		for _, x := range v {
			b, err := json.Marshal(x)
			if err != nil {
				panic(err)
			}
			all = append(all, strings.Replace(string(b), `"Mode":"rw"`, `"Mode":""`, 1))
		}
		slices.Sort(all)
		to[at] = strings.Join(all, " ")
	case nil:
	default:
		to[at] = fmt.Sprint(v)
	}
}
