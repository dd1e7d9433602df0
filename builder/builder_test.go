package builder

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/debian"
	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/recipe"
	"github.com/prose-im/prose-image/builder/tree"
	"github.com/prose-im/prose-image/overlays"
)

var update = flag.Bool("update", false, "rewrite goldens")

// inputs are those of the empty recipe with a small lock.
func inputs(t *testing.T) *Inputs {
	t.Helper()
	r, problems := recipe.Parse(nil)
	if problems != nil {
		t.Fatal(problems)
	}
	in := &Inputs{Recipe: r, Agent: Agent{Binary: []byte("agent"), Version: "1.0"}, Engine: "26.1.5"}
	var err error
	if in.Bundle, err = loadBundle(r); err != nil {
		t.Fatal(err)
	}
	in.Initrd = []overlays.File{{Path: "etc/initrd", Content: []byte("i")}}
	in.Base = []overlays.File{{Path: "etc/base", Mode: 0o644, Content: []byte("b")}}
	in.Lock = &Lock{
		Schema: 1, Date: time.Unix(1700000000, 0).UTC(), Suite: "trixie", Arch: "amd64", Request: in.request(), Sources: "deb x\n",
		Packages: []debian.Package{{Name: "docker.io", Version: "26.1.5", Arch: "amd64", Size: 1, SHA256: strings.Repeat("a", 64), URI: "u"}},
	}
	for _, name := range in.imageNames() {
		in.Lock.Images = append(in.Lock.Images, Image{Name: name, Digest: "sha256:" + strings.Repeat("1", 64), Manifest: "sha256:" + strings.Repeat("2", 64)})
	}
	return in
}

// treeOf holds the given files, with the directories above them.
func treeOf(t *testing.T, files map[string]string) *tree.Tree {
	t.Helper()
	var b bytes.Buffer
	w, err := layer.NewWriter(&b, nil)
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]bool{".": true}
	var mkdir func(string)
	mkdir = func(dir string) {
		if made[dir] {
			return
		}
		made[dir] = true
		mkdir(filepath.Dir(dir))
		if err := w.Write(layer.Entry{Path: dir, Type: layer.Dir, Mode: 0o755}, nil); err != nil {
			t.Fatal(err)
		}
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		mkdir(filepath.Dir(name))
		if strings.HasSuffix(name, "/.") {
			continue
		}
		err := w.Write(layer.Entry{Path: name, Mode: 0o640, GID: 42, Size: int64(len(files[name]))}, strings.NewReader(files[name]))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := layer.Read("below", bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Merge(l)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestPlanIsWhatIsReviewed(t *testing.T) {
	p, err := NewPlan(inputs(t))
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/plan.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(p.Text()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if p.Text() != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", p.Text(), want)
	}
}

// What goes into a key, and what does not.
func TestKeys(t *testing.T) {
	below := treeOf(t, map[string]string{dpkgStatus: "", "etc/passwd": "", "etc/group": "", "etc/shadow": "", "etc/gshadow": ""})
	keys := func(in *Inputs, below *tree.Tree) map[string]Key {
		p, err := NewPlan(in)
		if err != nil {
			t.Fatal(err)
		}
		keys := map[string]Key{"release": p.Release}
		var lower []lowerLayer
		for _, l := range slices.Concat(p.Layers, p.Disks[0].Layers) {
			inputs, err := l.resolved(below, lower)
			if err != nil {
				t.Fatal(err)
			}
			k := layerKey(l.Kind, inputs)
			keys[l.Kind] = k
			lower = append(lower, lowerLayer{l.Kind, k})
		}
		return keys
	}
	before := keys(inputs(t), below)
	for _, c := range []struct {
		name   string
		change func(*Inputs)
		want   []string // kinds that get another key
	}{
		{"nothing", func(in *Inputs) {}, nil},
		{"a format", func(in *Inputs) { in.Recipe.Formats = []string{"raw"} }, nil},
		{"a mirror", func(in *Inputs) { in.Recipe.Mirror["docker.io"] = "127.0.0.1:5000" }, nil},
		{"where the recipe lies", func(in *Inputs) { in.Recipe.Dir = "/elsewhere" }, nil},
		{"the agent", func(in *Inputs) { in.Agent.Binary = []byte("new") }, []string{"agent", "scrub"}},
		{"an overlay", func(in *Inputs) { in.Base[0].Content = []byte("c") }, []string{"files", "scrub"}},
		{"an overlay's mode", func(in *Inputs) { in.Base[0].Mode = 0o600 }, []string{"files", "scrub"}},
		{"what feeds the initrd", func(in *Inputs) { in.Initrd[0].Mode = 0o600 }, []string{"base", "files", "scrub"}},
		{"a run script", func(in *Inputs) { in.Run = [][]byte{[]byte("x")} }, []string{"base", "files", "scrub"}},
		{"a package", func(in *Inputs) { in.Lock.Packages[0].SHA256 = strings.Repeat("b", 64) }, []string{"base", "files", "platform", "release", "scrub"}},
		{"an image", func(in *Inputs) { in.Lock.Images[0].Digest = "sha256:" + strings.Repeat("3", 64) }, []string{"containers", "files", "platform", "release", "scrub"}},
		{"the version", func(in *Inputs) { in.Recipe.Version = "2" }, []string{"platform", "release", "scrub"}},
		{"the date", func(in *Inputs) { in.Lock.Date = in.Lock.Date.Add(time.Second) }, []string{"accounts", "agent", "base", "containers", "files", "platform", "release", "scrub"}},
	} {
		in := inputs(t)
		c.change(in)
		var changed []string
		for kind, k := range keys(in, below) {
			if k != before[kind] {
				changed = append(changed, kind)
			}
		}
		slices.Sort(changed)
		if !slices.Equal(changed, c.want) {
			t.Errorf("%s: keys of %q change, want %q", c.name, changed, c.want)
		}
	}
	other := treeOf(t, map[string]string{dpkgStatus: "x", "etc/passwd": "", "etc/group": "", "etc/shadow": "", "etc/gshadow": ""})
	if keys(inputs(t), other)["agent"] == before["agent"] {
		t.Error("what the agent's layer reads is not in its key")
	}
}

func TestHashedListsDoNotRunTogether(t *testing.T) {
	a, b := newHash("x"), newHash("x")
	a.add("ab", "c")
	b.add("a", "bc")
	if a.sum() == b.sum() {
		t.Error("ab+c is a+bc")
	}
}

// A recipe without a file means what it would mean at its path.
func TestDocument(t *testing.T) {
	dir := t.TempDir()
	exe, err := os.Executable() // any Go program stands for the agent
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, filepath.Join(dir, "prose-firstboot-linux-amd64")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tune.sh"), []byte("true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := Config{Recipe: filepath.Join(dir, "x.toml"), Document: []byte("name = \"x\"\nbase.run = [\"tune.sh\"]\n"), Agent: dir}
	in, err := loadInputs(&c)
	if err != nil {
		t.Fatal(err)
	}
	if in.Recipe.Name != "x" || len(in.Run) != 1 || string(in.Run[0]) != "true\n" {
		t.Errorf("name %q, run %q", in.Recipe.Name, in.Run)
	}
	if err := Check(c); err != nil {
		t.Error(err)
	}
	in.Lock = inputs(t).Lock
	in.Lock.Suite = "bookworm"
	if err := in.Lock.Write(filepath.Join(dir, "x.lock")); err != nil {
		t.Fatal(err)
	}
	var stale *StaleLockError
	if err := Check(c); !errors.As(err, &stale) {
		t.Errorf("the lock beside it was not read: %v", err)
	}
	// The empty document is the empty recipe, not the file.
	c.Document = []byte{}
	if in, err = loadInputs(&c); err != nil || in.Recipe.Name != "prose" {
		t.Errorf("the empty document: %v", err)
	}
}

func TestManifestOfAnEarlierBake(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadManifest(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no manifest: %v", err)
	}
	for _, text := range []string{"", "[]", `{"schema": 2}`} {
		if err := os.WriteFile(filepath.Join(dir, ManifestName), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if r, err := ReadManifest(dir); err == nil || r != nil {
			t.Errorf("%q: %v %v", text, r, err)
		}
	}
	want := &Result{Schema: 1, Name: "x", Date: time.Unix(1, 0).UTC(), Artifacts: []Artifact{{File: "x.raw", Size: 1}}}
	manifest, err := encodeManifest(want)
	if err == nil {
		err = writeManifest(dir, manifest)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadManifest(dir); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestLock(t *testing.T) {
	in := inputs(t)
	path := filepath.Join(t.TempDir(), "x.lock")
	if err := in.Lock.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := ReadLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, in.Lock) {
		t.Errorf("got  %+v\nwant %+v", got, in.Lock)
	}
	if err := got.fits(path, in.Recipe, in.request(), in.imageNames()); err != nil {
		t.Error(err)
	}
	in.Recipe.Packages = []string{"htop"}
	got.Images = got.Images[1:]
	got.Request = append(got.Request, "telnet")
	err = got.fits(path, in.Recipe, in.request(), in.imageNames())
	var stale *StaleLockError
	if !errors.As(err, &stale) || len(stale.Reasons) != 3 {
		t.Errorf("got %v, want three reasons", err)
	}
	for _, want := range []string{"it has no package htop", "package telnet is no longer asked for", "it has no container image " + in.imageNames()[0]} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
	for name, text := range map[string]string{
		"unknown key":  "schema = 1\ncolour = \"red\"\n",
		"other schema": "schema = 2\n",
		"no TOML":      "schema =\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadLock(path); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestInterpolate(t *testing.T) {
	env := map[string]string{"A": "a", "EMPTY": ""}
	for in, want := range map[string]string{
		"plain": "plain", "$A": "a", "${A}": "a", "${A}b$A-": "aba-", "$$A": "$A", "${NO}": "", "${NO-x}": "x", "${NO:-x}": "x",
		"${EMPTY-x}": "", "${EMPTY:-x}": "x", "${A:-x}": "a", "${NO:-${A}}:${NO-${NO:-z}}": "a:z",
		"${A": "error", "$": "error", "${}": "error", "$1": "error", "${A:?needed}": "error",
	} {
		got, err := interpolate(in, env)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %q %v, want %q", in, got, err, want)
		}
	}
}

func FuzzInterpolate(f *testing.F) {
	for _, s := range []string{"${A:-${B-c}}", "$$", "${", "$A$B", "${A:-}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := interpolate(s, map[string]string{"A": "1"})
		if err == nil && !strings.Contains(s, "$") && got != s {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func TestBundle(t *testing.T) {
	in := inputs(t)
	var services []string
	for _, s := range in.Bundle.Services {
		services = append(services, s.Name)
	}
	if want := []string{"api", "app", "dashboard", "server"}; !slices.Equal(services, want) {
		t.Errorf("services %q, want %q", services, want)
	}
	pinned, err := pins(in.Bundle.Services, in.Lock.Images)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(pinned, []byte("@sha256:"+strings.Repeat("1", 64))); n != 4 {
		t.Errorf("%d services are pinned:\n%s", n, pinned)
	}

	// A directory in upstream's layout: its file unchanged, our override.
	dir := t.TempDir()
	compose := "services:\n  only:\n    image: ${X:-docker.io/proseim/one}:${V:-1}\n"
	for name, text := range map[string]string{"compose.yaml": compose, "templates/prose.toml": "domain = \"{your_domain}\"\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := *in.Recipe
	r.Bundle = dir
	b, err := loadBundle(&r)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Service{{"only", "docker.io/proseim/one:1"}}; !slices.Equal(b.Services, want) {
		t.Errorf("services %q, want %q", b.Services, want)
	}
	has := func(path, content string) bool {
		return slices.ContainsFunc(b.Files, func(f overlays.File) bool { return f.Path == path && strings.Contains(string(f.Content), content) })
	}
	for path, content := range map[string]string{
		overlays.PodDir + "/compose.yaml": compose, overlays.PodDir + "/prose.toml.tmpl": "{your_domain}",
		overlays.PodDir + "/compose.override.yaml": "no-new-privileges", "etc/prose/compose.yaml": compose,
	} {
		if !has(path, content) {
			t.Errorf("%s is not in the bundle with %q", path, content)
		}
	}

	// Other images, by the bundle's names.
	r.Images = map[string]string{"docker.io/proseim/one": "registry.example/one:2"}
	if b, err = loadBundle(&r); err != nil || b.Services[0].Image != "registry.example/one:2" {
		t.Errorf("%+v %v", b, err)
	}
	var wrong *BundleError
	r.Images = map[string]string{"docker.io/proseim/two": "x"}
	if _, err = loadBundle(&r); !errors.As(err, &wrong) {
		t.Errorf("an image that no service runs: %v", err)
	}
	for name, text := range map[string]string{"no services": "name: x\n", "no image": "services:\n  a: {}\n", "no YAML": "\t", "bad variable": "services:\n  a:\n    image: ${\n"} {
		if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := loadBundle(&r); !errors.As(err, &wrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAccounts(t *testing.T) {
	list := []overlays.Account{{Name: "prose", ID: 1001, Gecos: "Prose"}}
	got, err := addAccounts([]byte("root:x:0:0:root:/root:/bin/bash"), accountFiles[0], list)
	if want := "root:x:0:0:root:/root:/bin/bash\nprose:x:1001:1001:Prose:/nonexistent:/usr/sbin/nologin\n"; err != nil || string(got) != want {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
	for _, taken := range []string{"other:x:1001:1001::/:/bin/sh\n", "prose:x:5:5::/:/bin/sh\n"} {
		if _, err := addAccounts([]byte(taken), accountFiles[0], list); err == nil {
			t.Errorf("%q: no error", taken)
		}
	}
	// Nobody can log in by password.
	for _, f := range accountFiles[2:] {
		if line := f.line(list[0]); !strings.HasPrefix(line, "prose:!") {
			t.Errorf("%s: %q is not locked", f.path, line)
		}
	}
}

func TestAgentIsAPackage(t *testing.T) {
	files := map[string]string{}
	for _, f := range agentFiles([]byte("Package: a\nStatus: install ok installed\n"), Agent{Binary: []byte("bin"), Version: "1.2"}, "amd64") {
		files[f.entry.Path] = string(f.content)
	}
	if want := "/.\n/usr\n/usr/bin\n/usr/bin/prose-firstboot\n/usr/share\n/usr/share/doc\n/usr/share/doc/prose-firstboot\n/usr/share/doc/prose-firstboot/copyright\n"; files["var/lib/dpkg/info/prose-firstboot.list"] != want {
		t.Errorf("list:\n%s", files["var/lib/dpkg/info/prose-firstboot.list"])
	}
	status := files[dpkgStatus]
	if !strings.HasPrefix(status, "Package: a\nStatus: install ok installed\n\nPackage: prose-firstboot\n") || !strings.Contains(status, "\nVersion: 1.2\n") || !strings.HasSuffix(status, "\n\n") {
		t.Errorf("status:\n%s", status)
	}
}

func TestOverlaysDoNotReplacePackages(t *testing.T) {
	below := treeOf(t, map[string]string{
		"var/lib/dpkg/info/nginx.list": "/.\n/etc\n/etc/nginx\n/etc/nginx/nginx.conf\n",
		"var/lib/dpkg/info/ssh.list":   "/etc/ssh/sshd_config\n",
		"var/lib/dpkg/diversions":      "/etc/ssh/sshd_config\n/etc/ssh/sshd_config.distrib\n:\n",
	})
	ours := []overlays.File{{Path: "etc/nginx", Type: overlays.Dir}, {Path: "etc/nginx/conf.d/x"}, {Path: "etc/ssh/sshd_config"}}
	if err := refuseOwned(below, ours); err != nil {
		t.Errorf("drop-ins, directories and what was diverted: %v", err)
	}
	var owned *OwnedError
	err := refuseOwned(below, append(ours, overlays.File{Path: "etc/nginx/nginx.conf"}))
	if !errors.As(err, &owned) || !slices.Equal(owned.Paths, []string{"/etc/nginx/nginx.conf (nginx)"}) {
		t.Errorf("got %v", err)
	}
}

func TestScrub(t *testing.T) {
	files := map[string]string{
		"etc/ssh/ssh_host_rsa_key": "k", "etc/ssh/sshd_config": "c", "var/log/dpkg.log": "l", "var/log/nginx/.": "", "var/log/nginx/access.log": "l",
		"var/log/apt/history.log": "l", "var/cache/apt/archives/x.deb": "d", "var/lib/apt/lists/partial/.": "", "etc/passwd-": "p", "etc/passwd": "p",
		"var/lib/dpkg/status-old": "s", "var/lib/dpkg/status": "s", "var/lib/ucf/hashfile.0": "h", "var/lib/ucf/hashfile": "h",
	}
	got := scrubPaths(treeOf(t, files))
	slices.Sort(got)
	want := []string{"etc/passwd-", "etc/ssh/ssh_host_rsa_key", "var/cache/apt/archives", "var/lib/apt/lists/partial", "var/lib/dpkg/status-old",
		"var/lib/ucf/hashfile.0", "var/log/apt/history.log", "var/log/dpkg.log", "var/log/nginx/access.log"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestCacheEntriesAreWhole(t *testing.T) {
	dir := t.TempDir()
	key := newHash("test").sum()
	record := cache.Record{Kind: "x", Inputs: []Input{text("suite", "trixie")}}
	broken := errors.New("broken")
	err := makeLayer(t.Context(), dir, key, record, func(create createFunc) error {
		w, err := create(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(layer.Entry{Path: "a", Size: 1}, strings.NewReader("a")); err != nil {
			t.Fatal(err)
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := openLayer(dir, "x", key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a layer that failed is in the cache: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "layers", "*")); left != nil {
		t.Errorf("left: %q", left)
	}
	err = makeLayer(t.Context(), dir, key, record, func(create createFunc) error {
		w, err := create([]string{"gone"})
		if err != nil {
			return err
		}
		return w.Write(layer.Entry{Path: "a", Size: 1}, strings.NewReader("a"))
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := openLayer(dir, "x", key)
	if err != nil {
		t.Fatal(err)
	}
	defer l.file.Close()
	if fmt.Sprint(l.Deletions) != "[gone]" || len(l.Entries) != 1 || !reflect.DeepEqual(l.record.Inputs, record.Inputs) {
		t.Errorf("%+v", l)
	}
	if err := l.record.Check(t.Context(), l.file); err != nil {
		t.Error(err)
	}
	// A broken structure is damage, of which a bake makes the layer anew.
	path := cache.LayerPath(dir, key.String())
	b, err := os.ReadFile(path)
	if err == nil {
		b[1024+150] ^= 1 // in the checksum of its header
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	var damaged *cache.DamagedError
	if _, err := openLayer(dir, "x", key); !errors.As(err, &damaged) {
		t.Errorf("a broken layer: %v", err)
	}
}

func TestDifferences(t *testing.T) {
	old := []Input{
		text("suite", "trixie"), content("script", []byte("a")), {Name: "rules", Value: "a table", Sum: "1"},
		{Name: "overlay", Value: "3 files", Sum: "1", Parts: []cache.Part{{Name: "etc/motd", Sum: "1"}, {Name: "etc/same", Sum: "1"}, {Name: "etc/old", Sum: "1"}}},
		{Name: "packages", Value: "1 locked", Sum: "1", Parts: []cache.Part{{Name: "curl:amd64", Value: "8.1", Sum: "1"}}},
		text("image", "api sha256:1"), text("image", "app sha256:1"), text("layer base", "1"),
	}
	now := []Input{
		text("suite", "forky"), content("script", []byte("a")), {Name: "rules", Value: "a table", Sum: "2"},
		{Name: "overlay", Value: "3 files", Sum: "2", Parts: []cache.Part{{Name: "etc/motd", Sum: "2"}, {Name: "etc/same", Sum: "1"}, {Name: "etc/new", Sum: "1"}}},
		{Name: "packages", Value: "1 locked", Sum: "2", Parts: []cache.Part{{Name: "curl:amd64", Value: "8.2", Sum: "2"}}},
		text("image", "api sha256:2"), text("image", "app sha256:1"),
	}
	want := []string{"suite: trixie became forky", "rules changed", "overlay: etc/motd changed", "overlay: etc/new is new", "overlay: etc/old is gone",
		"packages: curl:amd64 8.1 became 8.2", "image: api sha256:1 became sha256:2"}
	if got := differences(old, now, true); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := differences(now, now, false); got != nil {
		t.Errorf("the same differs: %q", got)
	}
	if got := differences(old, now, false); len(got) != len(want)+1 {
		t.Errorf("the layer below is not missed: %q", got)
	}
}
