package packer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2/hcldec"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/plugin"
	"github.com/hashicorp/packer-plugin-sdk/rpc"
	"github.com/zclconf/go-cty/cty"

	"github.com/prose-im/prose-image/builder"
)

// With Packer's cookie this test binary is the plugin, as Packer starts it.
func TestMain(m *testing.M) {
	if os.Getenv(plugin.MagicCookieKey) != "" {
		if err := Set().Run(); err != nil {
			log.Fatal(err)
		}
		return
	}
	log.SetOutput(io.Discard) // the SDK tells each message it sends
	os.Exit(m.Run())
}

// start starts the plugin as a process and speaks to its builder, in dir.
func start(t *testing.T, dir string, protobuf bool) packersdk.Builder {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"start", "builder", plugin.DEFAULT_NAME}
	if protobuf {
		args = append(args, "--protobuf")
	}
	cmd := exec.Command(exe, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), plugin.MagicCookieKey+"="+plugin.MagicCookieValue, "XDG_CACHE_HOME="+filepath.Join(dir, "cache"))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the plugin said:\n%s", &said)
		}
	})
	// "5|0|unix|/path": the SDK's plugin/server.go.
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Split(strings.TrimSpace(line), "|")
	if len(f) != 4 || f[0] != "5" || f[1] != "0" {
		t.Fatalf("the plugin's first line is %q", line)
	}
	conn, err := net.Dial(f[2], f[3])
	if err != nil {
		t.Fatal(err)
	}
	client, err := rpc.NewClient(conn)
	if err != nil {
		t.Fatal(err)
	}
	client.UseProto = protobuf
	t.Cleanup(func() { _ = client.Close() })
	return client.Builder()
}

// agentDir is a directory with an agent: any Go program stands for it.
func agentDir(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(exe, filepath.Join(dir, "prose-firstboot-linux-amd64")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDescribe(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "describe")
	cmd.Env = append(os.Environ(), plugin.MagicCookieKey+"="+plugin.MagicCookieValue)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got plugin.SetDescription
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got.APIVersion != "x5.0" || !slices.Equal(got.Builders, []string{plugin.DEFAULT_NAME}) || got.ProtocolVersion != "v2" {
		t.Errorf("%s", out)
	}
}

// The schema comes over the wire as it is here, in either encoding.
func TestSchemaOverRPC(t *testing.T) {
	want := (&Builder{}).ConfigSpec()
	for _, protobuf := range []bool{false, true} {
		got := start(t, t.TempDir(), protobuf).ConfigSpec()
		if !hcldec.ImpliedType(got).Equals(hcldec.ImpliedType(want)) {
			t.Errorf("protobuf %v: got %#v", protobuf, got)
		}
	}
}

// What HCL gives is a value with everything, most of it null.
func body(t *testing.T, set map[string]cty.Value) cty.Value {
	t.Helper()
	all := map[string]cty.Value{}
	for name, typ := range hcldec.ImpliedType((&Builder{}).ConfigSpec()).AttributeTypes() {
		all[name] = cty.NullVal(typ)
	}
	for name, v := range set {
		if _, ok := all[name]; !ok {
			t.Fatalf("the schema has no %s", name)
		}
		all[name] = v
	}
	return cty.ObjectVal(all)
}

func object(t *testing.T, spec hcldec.ObjectSpec, block string, set map[string]cty.Value) cty.Value {
	t.Helper()
	all := map[string]cty.Value{}
	for name, typ := range hcldec.ImpliedType(spec).AttributeType(block).AttributeTypes() {
		all[name] = cty.NullVal(typ)
	}
	for name, v := range set {
		all[name] = v
	}
	return cty.ObjectVal(all)
}

func TestPrepareOverRPC(t *testing.T) {
	agent := cty.StringVal(agentDir(t))
	text := func(s ...string) cty.Value {
		var list []cty.Value
		for _, e := range s {
			list = append(list, cty.StringVal(e))
		}
		return cty.ListVal(list)
	}
	spec := (&Builder{}).ConfigSpec()
	for _, c := range []struct {
		name  string
		files map[string]string
		set   map[string]cty.Value
		warn  string   // the only warning begins so; empty: none
		want  []string // what the problems begin with, in order; nil: a good one
	}{
		{name: "nothing said", warn: "lock: demo.prose.lock is not there"},
		{name: "a recipe", files: map[string]string{"x.toml": "name = 'x'"}, set: map[string]cty.Value{"recipe": cty.StringVal("x.toml"), "formats": text("raw")},
			warn: "lock: x.lock is not there"},
		{name: "every kind of mistake", files: map[string]string{"output-demo": ""}, set: map[string]cty.Value{
			"name": cty.StringVal("a b"), "formats": text("raw", "qcow", "raw"),
			"base": object(t, spec, "base", map[string]cty.Value{"packages": text("Htop")}),
			"pod":  object(t, spec, "pod", map[string]cty.Value{"mirror": cty.MapVal(map[string]cty.Value{"docker.io/x": cty.StringVal("")})}),
			"disk": object(t, spec, "disk", map[string]cty.Value{"free": cty.StringVal("much")}),
		}, want: []string{`name: "a b" cannot`, `formats: "qcow" is not one of`, `formats: "raw" comes twice`, `base.packages: "Htop" is no`,
			`pod.mirror["docker.io/x"]: the value is empty`, `disk.free: "much" is no size`, "output_directory: output-demo is there and is no"}},
		{name: "no formats", set: map[string]cty.Value{"formats": cty.ListValEmpty(cty.String)}, want: []string{"formats: formats needs at least one"}},
		{name: "said in two places", files: map[string]string{"x.toml": "nmae = 'x'\n[base]\nkernel = 'cloudy'\n"}, set: map[string]cty.Value{
			"recipe": cty.StringVal("x.toml"), "name": cty.StringVal("x"), "formats": text("vhd"),
			"pod": object(t, spec, "pod", map[string]cty.Value{"images": cty.MapVal(map[string]cty.Value{"a": cty.StringVal("b"), "c": cty.StringVal("d")})}),
		}, want: []string{"name: recipe names a file", "pod.images: recipe names a file", `formats: "vhd" is not`, `recipe: x.toml:1:1: unknown key "nmae" (did`, `recipe: x.toml:3:10: "cloudy"`}},
		{name: "no such recipe", set: map[string]cty.Value{"recipe": cty.StringVal("no.toml")}, want: []string{"recipe: reading recipe: open no.toml"}},
		{name: "files that are not there", files: map[string]string{"bad.lock": "schema = 9"}, set: map[string]cty.Value{
			"overlays": text("more"), "agent_directory": cty.StringVal("nope"), "lock": cty.StringVal("bad.lock"),
			"base": object(t, spec, "base", map[string]cty.Value{"run": text("no.sh")}),
			"pod":  object(t, spec, "pod", map[string]cty.Value{"bundle": cty.StringVal("nodir")}),
		}, want: []string{"base.run: reading script: open no.sh", "overlays: reading more", "pod.bundle: open nodir/compose.yaml", "agent_directory: reading agent: open nope/prose-firstboot-linux-amd64", "lock: reading lock bad.lock"}},
		{name: "a lock of something else", files: map[string]string{"demo.prose.lock": "schema = 1\nsuite = 'bookworm'\narch = 'amd64'\n"},
			want: []string{"lock: demo.prose.lock: it is for suite bookworm, not trixie; it has no package"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range c.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			set := map[string]cty.Value{"agent_directory": agent}
			for name, v := range c.set {
				set[name] = v
			}
			b := start(t, dir, true)
			vars, warnings, err := b.Prepare(body(t, set), map[string]any{"packer_build_name": "demo", "packer_builder_type": "prose"})
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(vars, generated) {
					t.Errorf("generated data: %q", vars)
				}
				if len(warnings) != 1 || !strings.HasPrefix(warnings[0], c.warn) {
					t.Errorf("warnings: %q", warnings)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			_, list, ok := strings.Cut(err.Error(), "error(s) occurred:\n\n* ")
			got := strings.Split(list, "\n* ")
			if !ok || len(got) != len(c.want) {
				t.Fatalf("want %d problems:\n%v", len(c.want), err)
			}
			for i, want := range c.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("problem %d is %q, want %q", i+1, got[i], want)
				}
			}
		})
	}
}

// A ui keeps what is said.
type ui struct {
	packersdk.MockUi
	mu   sync.Mutex
	said []string
}

func (u *ui) Say(s string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.said = append(u.said, s)
}

// While a registry does not answer, a cancelled build ends, and leaves nothing.
func TestCancelOverRPC(t *testing.T) {
	asked := make(chan struct{}, 100)
	hang := make(chan struct{})
	registry := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-hang
	}))
	defer registry.Close()
	defer close(hang)
	dir := t.TempDir()
	b := start(t, dir, true)
	_, _, err := b.Prepare(body(t, map[string]cty.Value{
		"agent_directory": cty.StringVal(agentDir(t)),
		"pod": object(t, b.ConfigSpec(), "pod", map[string]cty.Value{"mirror": cty.MapVal(map[string]cty.Value{
			"docker.io/proseim": cty.StringVal(strings.TrimPrefix(registry.URL, "http://") + "/proseim")})}),
	}), map[string]any{"packer_build_name": "demo"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		a, err := b.Run(ctx, &ui{}, &packersdk.MockHook{})
		if a != nil {
			err = errors.New("there is an artifact")
		}
		ended <- err
	}()
	waitFor(t, asked, "the registry to be asked")
	select {
	case err := <-ended:
		t.Fatalf("it ended by itself: %v", err)
	default:
	}
	cancel()
	if err := waitFor(t, ended, "the build to end"); err == nil || err.Error() != "baking: context canceled" {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"output-demo", "demo.prose.lock"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
}

func waitFor[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(time.Minute):
		t.Fatalf("waiting for %s: a minute is over", what)
	}
	return v
}

func TestOutputThatIsThere(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "output-demo")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"manifest.json": `{"schema": 1, "artifacts": [{"file": "old.raw"}, {"file": "../kept"}, {"file": "same.raw"}]}`, "old.raw": "", "same.raw": "", "own": "", "../kept": ""} {
		if err := os.WriteFile(filepath.Join(out, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b := Builder{config: Config{OutputDirectory: out}}
	if _, err := b.Run(context.Background(), &ui{}, &packersdk.MockHook{}); err == nil || !strings.Contains(err.Error(), "is not empty") || !strings.Contains(err.Error(), "-force") {
		t.Errorf("got %v", err)
	}
	b.config.PackerForce = true
	old, err := b.claim()
	if err != nil || old == nil {
		t.Fatal(old, err)
	}
	sweep(out, old, &builder.Result{Artifacts: []builder.Artifact{{File: "same.raw"}}})
	for name, want := range map[string]bool{"old.raw": false, "same.raw": true, "own": true, "../kept": true} {
		if _, err := os.Stat(filepath.Join(out, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestArtifactOverRPC(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x.qcow2", "x.raw", builder.ManifestName} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	here := &Artifact{dir: dir, data: map[string]any{"Release": "beef", "Manifest": filepath.Join(dir, builder.ManifestName)}, result: &builder.Result{
		Name: "x", Version: "1", Arch: "amd64", Release: "beef", Artifacts: []builder.Artifact{
			{Platform: "generic", Format: "qcow2", File: "x.qcow2", Size: 1 << 20, SHA256: "aa"}, {Platform: "generic", Format: "raw", File: "x.raw", Size: 1, SHA256: "bb"}}}}
	far := overRPC(t, here)
	if far.BuilderId() != "prose-im.prose" || far.Id() != "beef" {
		t.Errorf("made by %q, id %q", far.BuilderId(), far.Id())
	}
	if want := []string{filepath.Join(dir, "x.qcow2"), filepath.Join(dir, "x.raw")}; !slices.Equal(far.Files(), want) {
		t.Errorf("files %q, want %q", far.Files(), want)
	}
	if s := far.String(); s != here.String() || !strings.Contains(s, "x.qcow2 (1.0 MiB)") {
		t.Errorf("said %q", s)
	}
	data, ok := far.State("generated_data").(map[any]any)
	if !ok || data["Release"] != "beef" {
		t.Errorf("generated data %#v", far.State("generated_data"))
	}
	image, ok := far.State("par.artifact.metadata").(map[any]any)
	if !ok || image["ImageID"] != "beef" || image["ProviderName"] != "prose" {
		t.Errorf("registry image %#v", far.State("par.artifact.metadata"))
	}
	if labels, ok := image["Labels"].(map[any]any); !ok || labels["sha256_generic_raw"] != "bb" {
		t.Errorf("labels %#v", image["Labels"])
	}
	if got := far.State("manifest"); got != filepath.Join(dir, builder.ManifestName) {
		t.Errorf("manifest %#v", got)
	}
	if got := far.State("nonsense"); got != nil {
		t.Errorf("an unknown state is %#v", got)
	}
	if err := far.Destroy(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is still there", dir)
	}
	if err := here.Destroy(); err != nil {
		t.Errorf("destroyed twice: %v", err)
	}
}

// overRPC gives an artifact as another process has it.
func overRPC(t *testing.T, a packersdk.Artifact) packersdk.Artifact {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if server, err := rpc.NewServer(conn); err == nil && server.RegisterArtifact(a) == nil {
			server.Serve()
		}
	}()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client, err := rpc.NewClient(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(); l.Close() })
	return client.Artifact()
}

// A hook plays provisioners.
type hook func(ctx context.Context, name string, comm packersdk.Communicator, data any) error

func (h hook) Run(ctx context.Context, name string, _ packersdk.Ui, comm packersdk.Communicator, data any) error {
	return h(ctx, name, comm, data)
}

func TestProvision(t *testing.T) {
	data := map[string]any{"Release": "beef"}
	var ran []string
	local := hook(func(_ context.Context, name string, _ packersdk.Communicator, got any) error {
		ran = append(ran, name)
		if !reflect.DeepEqual(got, data) {
			t.Errorf("data %#v", got)
		}
		return nil
	})
	if err := provision(context.Background(), &ui{}, local, data); err != nil || !slices.Equal(ran, []string{packersdk.HookProvision}) {
		t.Errorf("%q ran: %v", ran, err)
	}

	ran = nil
	fails := hook(func(_ context.Context, name string, _ packersdk.Communicator, _ any) error {
		ran = append(ran, name)
		return errors.New(name)
	})
	err := provision(context.Background(), &ui{}, fails, data)
	if err == nil || err.Error() != packersdk.HookProvision || !slices.Equal(ran, []string{packersdk.HookProvision, packersdk.HookCleanupProvision}) {
		t.Errorf("%q ran: %v", ran, err)
	}

	// Whatever wants a machine is ended at once, however long it would try.
	for name, try := range map[string]func(packersdk.Communicator) error{
		"Start":       func(c packersdk.Communicator) error { return c.Start(context.Background(), &packersdk.RemoteCmd{}) },
		"Upload":      func(c packersdk.Communicator) error { return c.Upload("", nil, nil) },
		"UploadDir":   func(c packersdk.Communicator) error { return c.UploadDir("", "", nil) },
		"Download":    func(c packersdk.Communicator) error { return c.Download("", nil) },
		"DownloadDir": func(c packersdk.Communicator) error { return c.DownloadDir("", "", nil) },
	} {
		tries := hook(func(ctx context.Context, _ string, comm packersdk.Communicator, _ any) error {
			if err := try(comm); err == nil {
				t.Errorf("%s succeeds", name)
			}
			waitFor(t, ctx.Done(), "the end of "+name)
			return ctx.Err()
		})
		if err := provision(context.Background(), &ui{}, tries, data); !errors.Is(err, errNoMachine) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPluginVersion(t *testing.T) {
	for tool, want := range map[string]string{
		"v1.2.3": "1.2.3", "v1.2.3+dirty": "1.2.3-dev", "(devel)": "0.0.0-dev", "": "0.0.0-dev",
		"v0.0.0-20260102030405-0123456789ab":         "0.0.0-dev",
		"v1.2.4-0.20260102030405-0123456789ab":       "1.2.4-dev",
		"v1.2.4-0.20260102030405-0123456789ab+dirty": "1.2.4-dev",
		"v1.2.3-rc1": "1.2.3-dev",
	} {
		if got := pluginVersion(tool); got != want {
			t.Errorf("%q gives %q, want %q", tool, got, want)
		}
	}
}
