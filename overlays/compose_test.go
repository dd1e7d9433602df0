package overlays

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// composed is what Debian's "docker compose" makes of a bundle's files.
type composed struct {
	Services map[string]struct {
		Image       string
		User        string
		Restart     string
		CapDrop     []string `json:"cap_drop"`
		CapAdd      []string `json:"cap_add"`
		SecurityOpt []string `json:"security_opt"`
		Healthcheck struct{ Disable bool }
		Logging     struct{ Options map[string]string }
		Environment map[string]string
		Ports       []struct {
			HostIP    string `json:"host_ip"`
			Target    int
			Published string
		}
		Volumes []struct{ Type, Source, Target string }
	}
	Networks map[string]struct {
		IPv6 bool `json:"enable_ipv6"`
	}
}

func compose(t *testing.T, name string, files []File) composed {
	t.Helper()
	var script strings.Builder
	fmt.Fprintf(&script, "set -e; mkdir /run/%s && cd /run/%s\n", name, name)
	for _, f := range files {
		if path.Dir(f.Path) == PodDir {
			fmt.Fprintf(&script, "cat > %s <<'END'\n%sEND\n", path.Base(f.Path), f.Content)
		}
	}
	// As prose.service calls it, but for the directory.
	script.WriteString(`echo 'services: {}' > compose.images.yaml
export DOCKER_CONFIG=/run/none COMPOSE_FILE=compose.yaml:compose.override.yaml:compose.images.yaml
docker compose --project-directory . --env-file compose.env config --format json
`)
	out := mustRun(t, script.String())
	var c composed
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return c
}

// upstreamLike has the layout of upstream's own file, with all its open doors.
const upstreamLike = `name: prose
services:
  app:
    image: proseim/prose-app-web:0.14.1
    ports: ["8080:8080"]
  dashboard:
    image: proseim/prose-pod-dashboard:0.3.2
    ports: ["8081:8080"]
    networks: [prose-network]
  api:
    image: proseim/prose-pod-api:0.20.0
    user: "1001:1001"
    networks: [prose-network]
    env_file: ${PROSE_POD_API_ENV_FILE:-/etc/prose/prose.env}
  server:
    image: proseim/prose-pod-server:0.4.3
    user: "1001:1001"
    env_file: ${PROSODY_ENV_FILE:-/etc/prose/prose.env}
    ports: ["0.0.0.0:5222:5222", "0.0.0.0:5269:5269", "127.0.0.1:5280:5280", "0.0.0.0:5281:5281"]
    networks: [prose-network]
    volumes: ["/etc/prosody/:/etc/prosody/", "/var/lib/prosody/:/var/lib/prosody/"]
networks:
  prose-network:
    enable_ipv6: true
`

func TestCompose(t *testing.T) {
	cases := map[string][]File{}
	for _, b := range Bundles() {
		files, err := Pod(b)
		if err != nil {
			t.Fatal(err)
		}
		cases[b] = files
	}
	upstream := slices.Clone(cases["default"])
	for i := range upstream {
		if path.Base(upstream[i].Path) == "compose.yaml" {
			upstream[i].Content = []byte(upstreamLike)
		}
	}
	cases["upstream"] = upstream

	for name, files := range cases {
		t.Run(name, func(t *testing.T) {
			c := compose(t, name, files)
			want := map[string][]string{
				"app":       {"127.0.0.1:8080:8080"},
				"dashboard": {"127.0.0.1:8081:8080"},
				"server":    {":5222:5222", ":5269:5269", "127.0.0.1:5280:5280"},
				"api":       nil,
			}
			if len(c.Services) != len(want) {
				t.Errorf("%d services", len(c.Services))
			}
			for s, ports := range want {
				got := c.Services[s]
				var open []string
				for _, p := range got.Ports {
					open = append(open, fmt.Sprintf("%s:%s:%d", p.HostIP, p.Published, p.Target))
				}
				if !slices.Equal(open, ports) {
					t.Errorf("%s publishes %v, want %v", s, open, ports)
				}
				if got.Restart != "unless-stopped" || !slices.Equal(got.CapDrop, []string{"ALL"}) || !slices.Contains(got.SecurityOpt, "no-new-privileges:true") ||
					!got.Healthcheck.Disable || got.Logging.Options["max-size"] == "" || got.Logging.Options["max-file"] == "" {
					t.Errorf("%s is not hardened: %+v", s, got)
				}
				if web := s == "app" || s == "dashboard"; web != (len(got.CapAdd) != 0) || !web && got.User != "1001:1001" {
					t.Errorf("%s runs as %s and gets %v", s, got.User, got.CapAdd)
				}
				// Figures are off unless the owner asks for them. Else nothing: Compose
				// reads env files as root, from our directory only.
				environment := map[string]string{}
				if s == "server" {
					environment["PROSE_VENDOR_ANALYTICS__ENABLED"] = "false"
				}
				if !maps.Equal(got.Environment, environment) {
					t.Errorf("%s has environment %v, want %v", s, got.Environment, environment)
				}
			}
			// Every volume that the images declare has a mount.
			declared := map[string][]string{
				"server": {"/etc/prosody", "/var/lib/prosody", "/usr/share/prose"},
			}
			if name == "default" {
				declared["server"] = append(declared["server"], "/etc/prose", "/var/lib/prose-pod-server")
			}
			if name != "upstream" {
				declared["api"] = []string{"/etc/prose", "/etc/prosody", "/var/lib/prose-pod-api"}
			}
			for s, targets := range declared {
				var mounts []string
				for _, v := range c.Services[s].Volumes {
					mounts = append(mounts, strings.TrimSuffix(v.Target, "/"))
				}
				for _, v := range targets {
					if !slices.Contains(mounts, v) {
						t.Errorf("%s leaves a volume behind for %s: %v", s, v, mounts)
					}
				}
			}
			if !c.Networks["prose-network"].IPv6 {
				t.Error("no IPv6")
			}
		})
	}
}

// Whatever compose.env and the unit name must be in the bundle or be written by
// the builder.
func TestNamedFilesAreThere(t *testing.T) {
	for _, b := range Bundles() {
		files, err := Pod(b)
		if err != nil {
			t.Fatal(err)
		}
		there := map[string]bool{"/" + ImagesFile: true}
		text := ""
		for _, f := range files {
			there["/"+f.Path] = true
			if path.Base(f.Path) == "compose.env" {
				text = string(f.Content)
			}
		}
		unit, err := content.ReadFile("base/usr/lib/systemd/system/prose.service")
		if err != nil {
			t.Fatal(err)
		}
		named := 0
		for _, word := range strings.FieldsFunc(text+string(unit), func(r rune) bool { return strings.ContainsRune(" \n=:", r) }) {
			if strings.HasPrefix(word, "/"+PodDir+"/") {
				named++
				if !there[word] {
					t.Errorf("bundle %s: %s is not there", b, word)
				}
			}
		}
		if named < 6 {
			t.Errorf("found only %d names", named)
		}
	}
}

// NGINX in a container of the override can do its work: Debian's stands in for
// the images' own.
func TestWebCapabilities(t *testing.T) {
	files, err := Pod("default")
	if err != nil {
		t.Fatal(err)
	}
	serve := func(caps []string) string {
		set := "-all"
		for _, c := range caps {
			set += ",+" + strings.ToLower(c)
		}
		out, _ := run(t, `mkdir -p /run/web && cd /run/web
printf 'user www-data; pid /run/web/pid; error_log /run/web/log; events {} http { client_body_temp_path /run/web/body; access_log off; server { listen 8080; return 200 hello; } }' > conf
setpriv --bounding-set `+set+` --inh-caps -all --no-new-privs nginx -c /run/web/conf && curl --silent --max-time 5 http://127.0.0.1:8080
before=$(pgrep -u www-data nginx | head -1)
setpriv --bounding-set `+set+` --inh-caps -all nginx -c /run/web/conf -s reload; sleep 1
[ -n "$before" ] && [ "$before" != "$(pgrep -u www-data nginx | head -1)" ] && echo reloaded
cat log; stat -c '%U' body`)
		return out
	}
	caps := compose(t, "caps", files).Services["app"].CapAdd
	if out := serve(caps); !strings.Contains(out, "hello") || !strings.Contains(out, "reloaded") || !strings.Contains(out, "www-data\n") {
		t.Errorf("with %v:\n%s", caps, out)
	}
	if out := serve(nil); strings.Contains(out, "hello") {
		t.Errorf("with none:\n%s", out)
	}
}
