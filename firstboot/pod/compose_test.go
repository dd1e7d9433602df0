package pod

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// bundle reads files of a Pod bundle as prose.service has them.
func bundle(t *testing.T, names ...string) []File {
	t.Helper()
	var files []File
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join("../../overlays", n))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, File{"/usr/lib/prose/pod/" + filepath.Base(n), b})
	}
	return append(files, File{"/usr/lib/prose/pod/compose.images.yaml", []byte(images)})
}

const images = `services:
  server: {image: "docker.io/proseim/prose-pod-server@sha256:1111111111111111111111111111111111111111111111111111111111111111", pull_policy: missing}
`

func parse(t *testing.T, env map[string]string, files ...File) *Project {
	t.Helper()
	p, err := Parse("/usr/lib/prose/pod", files, env)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBundles(t *testing.T) {
	for _, first := range []string{"pod/compose.yaml", "pod-2025/compose.yaml"} {
		p := parse(t, nil, bundle(t, first, "pod/compose.override.yaml")...)
		if p.Name != "prose" || len(p.Services) != 4 || !p.Networks["prose-network"].IPv6 || len(p.Networks) != 2 || p.Volumes["server-share"] == nil {
			t.Errorf("%s: %+v", first, p)
		}
		srv, app := p.Services["server"], p.Services["app"]
		if want := []Port{{"", 5222, 5222, "tcp"}, {"", 5269, 5269, "tcp"}, {"127.0.0.1", 5280, 5280, "tcp"}}; !slices.Equal(srv.Ports, want) {
			t.Errorf("%s: ports %v", first, srv.Ports)
		}
		if !strings.HasSuffix(srv.Image, strings.Repeat("1", 64)) || srv.User != "1001:1001" || srv.Tty || srv.Restart != "unless-stopped" ||
			!srv.NoHealthcheck || !slices.Equal(srv.CapDrop, []string{"ALL"}) || *srv.PidsLimit != 1024 || srv.Logging.Options["max-file"] != "3" {
			t.Errorf("%s: %+v", first, srv)
		}
		if last := srv.Mounts[len(srv.Mounts)-1]; last != (Mount{Volume: true, Source: "server-share", Target: "/usr/share/prose"}) {
			t.Errorf("%s: %+v", first, srv.Mounts)
		}
		if app.User != "0:0" || !slices.Equal(app.CapAdd, []string{"CHOWN", "KILL", "SETGID", "SETUID"}) || !slices.Equal(app.Ports, []Port{{"127.0.0.1", 8080, 8080, "tcp"}}) {
			t.Errorf("%s: %+v", first, app)
		}
	}
}

// Upstream's own layout, with every form that its file has.
const upstream = `name: prose
services:
  app:
    image: ${PROSE_APP_WEB_IMAGE:-proseim/prose-app-web}:${PROSE_APP_WEB_VERSION:-0.14.1}
    user: ${PROSE_APP_WEB_UID:-${PROSE_UID-0}}:${PROSE_APP_WEB_GID:-${PROSE_GID-0}}
    depends_on: [server]
    ports:
      - "${PROSE_APP_WEB_PORT:-8080}:8080"
    tty: "${PROSE_APP_WEB_IS_TTY:-${PROSE_POD_IS_TTY:-false}}"
  server:
    image: server
    env_file: "${PROSODY_ENV_FILE:-${PROSE_ENV_FILE:-${PROSE_CONFIG_DIR:-/etc/prose}/prose.env}}"
    volumes:
      - "${PROSE_POD_SERVER_DATA_DIR:-/var/lib/prose-pod-server}:/var/lib/prose-pod-server/"
    ports:
      - "${PROSE_POD_SERVER_INTERFACE_HTTPS:-0.0.0.0}:${PROSE_POD_SERVER_PORT_HTTPS:-5281}:5281"
`

func TestUpstream(t *testing.T) {
	p := parse(t, map[string]string{"PROSE_APP_WEB_PORT": "127.0.0.1:9", "PROSE_GID": "", "PROSE_POD_IS_TTY": "true"}, File{"up", []byte(upstream)})
	app, srv := p.Services["app"], p.Services["server"]
	if app.Image != "proseim/prose-app-web:0.14.1" || app.User != "0:" || !app.Tty || app.Ports[0] != (Port{"127.0.0.1", 9, 8080, "tcp"}) {
		t.Errorf("%+v", app)
	}
	if srv.EnvFiles[0] != (EnvFile{"/etc/prose/prose.env", true}) || srv.Ports[0] != (Port{"0.0.0.0", 5281, 5281, "tcp"}) ||
		srv.Mounts[0] != (Mount{false, "/var/lib/prose-pod-server", "/var/lib/prose-pod-server", false}) {
		t.Errorf("%+v", srv)
	}
}

func TestExpand(t *testing.T) {
	env := map[string]string{"A": "a", "E": "", "B": "${A}"}
	for in, want := range map[string]string{
		"$A ${A} $$A $": "!", "$A-${A}-$$A": "a-a-$A", "${X}$X": "", "${X-d}": "d", "${E-d}": "", "${E:-d}": "d", "${X:-${E:-$A}}": "a", "${X-${Y-}}": "",
		"${A+s}${X+s}${E+s}${E:+s}": "ss", "${B}": "${A}", "${A?no}": "a", "${X?no}": "!", "${E:?no}": "!", "${E?no}": "", "${": "!", "${A": "!", "${A/b}": "!", "${1}": "!",
		"}": "}", "${X:-}}": "}", "${X-a:b}": "a:b", "é$A": "éa",
	} {
		got, err := expand(in, env)
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%s: %q, want %q (%v)", in, got, want, err)
		}
	}
}

func TestMerge(t *testing.T) {
	for name, c := range map[string]struct{ base, over, want string }{
		"scalar":       {`user: a`, `user: b`, `{"User":"b"}`},
		"null keeps":   {`user: a`, `user:`, `{"User":"a"}`},
		"append":       {`cap_add: [A, B]`, `cap_add: [B, C]`, `{"CapAdd":["A","B","C"]}`},
		"override":     {`cap_add: [A]`, `cap_add: !override [B]`, `{"CapAdd":["B"]}`},
		"reset":        {`{cap_add: [A], user: a}`, `cap_add: !reset []`, `{"User":"a"}`},
		"reset scalar": {`user: a`, `user: !reset null`, `{}`},
		"command":      {`command: [a, b]`, `command: c "d e" f\ g`, `{"Command":["c","d e","f g"]}`},
		"empty list":   {`entrypoint: [a]`, `entrypoint: []`, `{"Entrypoint":[]}`},
		"ports":        {`ports: ["80:80"]`, `ports: ["80:80/tcp", "127.0.0.1:80:80", "[::1]:80:80"]`, `{"Ports":[{"IP":"","Published":80,"Target":80,"Protocol":"tcp"},{"IP":"127.0.0.1","Published":80,"Target":80,"Protocol":"tcp"},{"IP":"::1","Published":80,"Target":80,"Protocol":"tcp"}]}`},
		"volumes":      {`volumes: ["/a:/x"]`, `volumes: ["/b:/x/:ro", "/c:/y"]`, `{"Mounts":[{"Volume":false,"Source":"/b","Target":"/x","ReadOnly":true},{"Volume":false,"Source":"/c","Target":"/y","ReadOnly":false}]}`},
		"environment":  {`environment: [A=1, B=2]`, `environment: {B: 3, C: }`, `{"Environment":{"A":"1","B":"3","C":null}}`},
		"env files":    {`env_file: a`, `env_file: [{path: /b, required: false}]`, `{"EnvFiles":[{"Path":"/d/a","Required":true},{"Path":"/b","Required":false}]}`},
		"driver":       {`logging: {driver: a, options: {x: 1}}`, `logging: {driver: b}`, `{"Logging":{"Driver":"b"}}`},
		"options":      {`logging: {driver: a, options: {x: 1}}`, `logging: {options: {y: 2}}`, `{"Logging":{"Driver":"a","Options":{"x":"1","y":"2"}}}`},
		"networks":     {`networks: [n]`, `networks: {n: {aliases: [a]}}`, `{"Networks":{"n":["a"]}}`},
		"tmpfs":        {`tmpfs: /a`, `tmpfs: ["/a/:size=1m", /b]`, `{"Tmpfs":["/a/:size=1m","/b"]}`},
		"anchors":      {`{x-a: &a {user: u, cap_drop: [ALL]}, <<: *a, cap_drop: [B]}`, `{x-b: &b {user: v, init: true}, x-c: &c {user: w, read_only: true}, <<: [*b, *c]}`, `{"User":"v","ReadOnly":true,"Init":true,"CapDrop":["B"]}`},
	} {
		t.Run(name, func(t *testing.T) {
			file := func(s string) File {
				return File{"f", []byte("name: p\nservices:\n  s: " + strings.ReplaceAll(braced(s), "\n", "\n    ") + "\nnetworks: {n: }\n")}
			}
			p, err := Parse("/d", []File{{"i", []byte("services: {s: {image: i}}")}, file(c.base), file(c.over)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			s := p.Services["s"]
			if s.Name, s.Image = "", ""; len(s.Networks) == 1 && s.Networks["default"] == nil {
				if _, ok := s.Networks["default"]; ok {
					s.Networks = nil
				}
			}
			// Only what is set.
			got := map[string]any{}
			v := reflect.ValueOf(*s)
			for i := range v.NumField() {
				f := v.Field(i)
				if f.IsZero() || f.Kind() == reflect.Map && f.Len() == 0 {
					continue
				}
				got[v.Type().Field(i).Name] = f.Interface()
			}
			var want, have any
			b, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			json.Unmarshal(b, &have)
			if err := json.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
			if l, ok := have.(map[string]any)["Logging"].(map[string]any); ok && l["Options"] == nil {
				delete(l, "Options")
			}
			if !reflect.DeepEqual(have, want) {
				t.Errorf("got  %s\nwant %s", b, c.want)
			}
		})
	}
}

func braced(s string) string {
	if strings.HasPrefix(s, "{") {
		return s
	}
	return "\n  " + s
}

// Every mistake is told, with its place, in one go.
func TestProblems(t *testing.T) {
	const text = `name: Prose
services:
  a:
    image: i
    privileged: true
    tty: perhaps
    ports: ["80-90:80", "x:1", {target: 80}]
    volumes: ["~/x:/y", "vol:/x:z", "/only"]
    depends_on: {b: {condition: service_healthy}}
    environment: {A: {}}
    restart: sometimes
    user: ${X?who}
    tty: true
  b: {imag: x}
networks:
  n: {external: true}
secrets: {s: {file: x}}
configs:
`
	_, err := Parse("/", []File{{"f.yaml", []byte(text)}}, nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"f.yaml:5:17: services.a.privileged: the key is not understood", "f.yaml:6:10: services.a.tty:", "services.a.ports[0]:", "services.a.ports[1]:", "services.a.ports[2]: a mapping",
		"services.a.volumes[0]:", "services.a.volumes[1]:", "services.a.volumes[2]:", "services.a.depends_on.b: conditions", "services.a.environment.A: a mapping",
		"services.a.restart: \"sometimes\"", "services.a.user: variable X is needed: who", "services.a.tty: the key is there twice", "services.b.imag: the key", "services.b: image is missing",
		"networks.n.external: the key", "secrets: the key", "configs: the key",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing: %s", want)
		}
	}
	if n := len(strings.Split(err.Error(), "\n")); n != 18 {
		t.Errorf("%d problems:\n%v", n, err)
	}
	for in, want := range map[string]string{
		"services: {a: {image: i, networks: [x]}}\nname: p":                                   "network x is not defined",
		"services: {a: {image: i, volumes: ['x:/x']}}\nname: p":                               "volume x is not defined",
		"services: {a: {image: i, depends_on: [b]}}\nname: p":                                 "which is no service",
		"services: {a: {image: i, depends_on: [b]}, b: {image: i, depends_on: [a]}}\nname: p": "depends on itself",
		"services: {}\nname: p":                                   "there is none",
		"services: {a: {image: i}}\nname: P":                      "name",
		"services: [a]":                                           "a list, want a mapping",
		"services: {a: {image: i, user: !!binary aGk=}}\nname: p": "tag",
		"a: 1\n---\nb: 2":                                         "more than one document",
		"a: [":                                                    "did not find",
		"x-a: &a [x, x, x, x, x, x, x, x, x, x]\nx-b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\nx-c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\nx-d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\nx-e: [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]": "too many values",
	} {
		if _, err := Parse("/", []File{{"f", []byte(in)}}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}

func TestParseEnv(t *testing.T) {
	got, err := ParseEnv("f", []byte("# c\n\nA=1\nexport B = two words # c\nC='$A #'\nD=\"$A\\n${B}\" # c\nE=\nF\nG=${H:-$F}\nI=a#b\nJ=\"\\$A\"\n"), map[string]string{"F": "f"})
	want := map[string]string{"A": "1", "B": "two words", "C": "$A #", "D": "1\ntwo words", "E": "", "F": "f", "G": "f", "I": "a#b", "J": "$A"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q %v", got, err)
	}
	if _, err := ParseEnv("f", []byte("a b=1\nA='x\nB=\"x\" y\n=\nC=${\n"), nil); err == nil || strings.Count(err.Error(), "\n") != 4 {
		t.Errorf("%v", err)
	}
}

func TestWant(t *testing.T) {
	p := parse(t, map[string]string{"PROSODY_ENV_FILE": "/s.env"}, bundle(t, "pod/compose.yaml", "pod/compose.override.yaml")...)
	files := map[string][]byte{"/s.env": []byte("B=2\nA=1\n"), "/usr/lib/prose/pod/api.env": nil}
	d, err := Want(p, files, nil)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, c := range d.Containers {
		order = append(order, c.Name)
	}
	if want := []string{"prose-server-1", "prose-api-1", "prose-app-1", "prose-dashboard-1"}; !slices.Equal(order, want) {
		t.Errorf("order %v", order)
	}
	srv := d.Containers[0].Config
	if !slices.Equal(srv.Env, []string{"A=1", "B=2", "PROSE_VENDOR_ANALYTICS__ENABLED=false"}) || srv.HostConfig.NetworkMode != "prose_prose-network" || srv.Labels[labelFiles] != strings.Join(p.Files, ",") ||
		!slices.Equal(srv.NetworkingConfig.EndpointsConfig["prose_prose-network"].Aliases, []string{"prose-server-1", "server", "prose-pod-server"}) {
		t.Errorf("%+v", srv)
	}
	// The hash moves with anything, and with nothing else.
	again, _ := Want(p, files, nil)
	files["/s.env"] = []byte("A=1\nB=3\n")
	other, _ := Want(p, files, nil)
	for i := range d.Containers {
		if d.Containers[i].Hash() != again.Containers[i].Hash() || (d.Containers[i].Hash() == other.Containers[i].Hash()) != (i != 0) {
			t.Errorf("hash of %s", d.Containers[i].Name)
		}
	}
	if _, err := Want(p, nil, nil); err == nil || !strings.Contains(err.Error(), "/s.env: the file is missing; service server") || !strings.Contains(err.Error(), "api.env") {
		t.Errorf("%v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{upstream, images, "x: &a [*a]", "<<: [a]", "services: {a: {ports: !override [':1', '::1:1', '1:2:3']}}", "name: ${A:-${B}}\nservices: {s: {image: i, command: 'a \\'}}"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		p, err := Parse("/d", []File{{"a", []byte(a)}, {"b", []byte(b)}}, map[string]string{"A": "1"})
		if err == nil {
			Want(p, nil, nil)
		}
		ParseEnv("e", []byte(a), nil)
	})
}
