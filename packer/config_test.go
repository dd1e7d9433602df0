package packer

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hcldec"

	"github.com/prose-im/prose-image/builder/recipe"
)

var update = flag.Bool("update", false, "rewrite what is generated")

// The schema has what a recipe has, the plugin's own attributes and Packer's,
// and nothing else.
func TestEveryKeyHasAnAttribute(t *testing.T) {
	want := map[string]bool{}
	for _, k := range recipe.Keys {
		want[k.Name] = true
		if (&Config{}).values()[k.Name] == nil {
			t.Errorf("the document leaves out %s", k.Name)
		}
	}
	for _, a := range own {
		want[a.name] = true
	}
	got := map[string]bool{}
	for name, typ := range hcldec.ImpliedType((&Builder{}).ConfigSpec()).AttributeTypes() {
		switch {
		case strings.HasPrefix(name, "packer_"):
		case typ.IsObjectType():
			for member := range typ.AttributeTypes() {
				got[name+"."+member] = true
			}
		default:
			got[name] = true
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// Attributes mean what the same keys mean in a file.
func TestDocument(t *testing.T) {
	c := Config{Name: "a", Version: "1.2", Arch: "amd64", Platforms: []string{"generic"}, Overlays: []string{"own", "it's \"more\"\n\a\x7f\t\\é"}, Formats: []string{"raw", "qcow2"},
		Base: Base{Suite: "trixie", Kernel: "generic", Mirrors: []string{"http://m.example/debian"}, Packages: []string{"htop"}, Run: []string{"tune.sh"}},
		Pod:  Pod{Bundle: "2025", Images: map[string]string{"docker.io/a/b": "docker.io/a/b:2"}, Mirror: map[string]string{"docker.io/x": "oci:a'b", "c\n\"d\"": "e"}},
		Disk: Disk{Free: "1GiB", Size: "4 GiB"}}
	src, attributes := c.document()
	got, problems := recipe.Parse(src)
	if problems != nil {
		t.Fatalf("%+v\n%s", problems, src)
	}
	want := &recipe.Recipe{Name: "a", Version: "1.2", Arch: "amd64", Platforms: c.Platforms, Overlays: c.Overlays, Formats: c.Formats,
		Suite: "trixie", Kernel: "generic", Mirrors: c.Base.Mirrors, Packages: c.Base.Packages, Run: c.Base.Run, Bundle: "2025",
		Images: c.Pod.Images, Mirror: c.Pod.Mirror, Free: 1 << 30, Size: 4 << 30}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	v := reflect.ValueOf(*got)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name != "Dir" && v.Field(i).IsZero() {
			t.Errorf("this configuration does not set %s", name)
		}
	}
	if n := strings.Count(string(src), "\n"); n != len(attributes) {
		t.Errorf("%d lines and %d attributes", n, len(attributes))
	}
	if src, attributes := (&Config{}).document(); src == nil || len(src) != 0 || attributes != nil {
		t.Errorf("nothing said gives %q, %q", src, attributes)
	}
}

// However strange a value is, it stays in its own line and comes out as it was,
// or is what is wrong.
func FuzzDocument(f *testing.F) {
	f.Add("raw", "docker.io/a", "oci:b", "a")
	f.Add("'''\n", "\"\"\"", "\x00", "]\nname = \"b\"")
	f.Add("\\u0000", "a.b", "\u2028\r\n", "\xff")
	f.Fuzz(func(t *testing.T, overlay, key, value, name string) {
		// Strings of HCL and JSON are UTF-8.
		for _, s := range []*string{&overlay, &key, &value, &name} {
			*s = strings.ToValidUTF8(*s, "?")
		}
		c := Config{Name: name, Overlays: []string{overlay}, Pod: Pod{Mirror: map[string]string{key: value}}}
		src, attributes := c.document()
		if n := strings.Count(string(src), "\n"); n != len(attributes) {
			t.Fatalf("%d lines and %d attributes:\n%s", n, len(attributes), src)
		}
		r, problems := recipe.Parse(src)
		for _, err := range diagnostics(problems, attributes) {
			if strings.HasPrefix(err.Error(), "recipe: ") {
				t.Errorf("a problem without an attribute: %v", err)
			}
		}
		if problems == nil && (r.Overlays[0] != overlay || r.Mirror[key] != value || len(r.Mirror) != 1 || name != "" && r.Name != name) {
			t.Errorf("%+v is read as %+v", c, r)
		}
	})
}

// What packer-sdc makes of the configuration is what lies here; "go generate"
// rewrites it.
func TestGenerated(t *testing.T) {
	const file = "config.hcl2spec.go"
	src, err := os.ReadFile("config.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(src), "//go:generate ")
	line, _, ok := strings.Cut(rest, "\n")
	if !ok {
		t.Fatal("config.go has no //go:generate")
	}
	made := filepath.Join(t.TempDir(), file)
	args := strings.Fields(line)
	cmd := exec.Command(args[0], args[1:]...)
	// It reads the package here and writes beside the file of this name.
	cmd.Env = append(os.Environ(), "GOFILE="+filepath.Join(filepath.Dir(made), "config.go"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	same(t, file, read(t, made), "go generate ./packer")
}

// docs/packer.md is made from the tables and the template that is built in
// tests.
func TestReference(t *testing.T) {
	same(t, "../docs/packer.md", Reference(read(t, "../testdata/packer/demo.pkr.hcl")), "make golden")
}

func same(t *testing.T, file, want, hint string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, file); got != want {
		t.Errorf("%s is not what it is made from: %s", file, hint)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(fmt.Errorf("reading what is compared: %w", err))
	}
	return string(b)
}
