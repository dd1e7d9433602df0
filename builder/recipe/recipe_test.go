package recipe

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite goldens")

func TestStarterMeansTheEmptyRecipe(t *testing.T) {
	empty, problems := Parse(nil)
	if problems != nil {
		t.Fatal(problems)
	}
	started, problems := Parse([]byte(Starter()))
	if problems != nil {
		t.Fatalf("%+v", problems)
	}
	if !reflect.DeepEqual(empty, started) {
		t.Errorf("empty recipe: %+v\nstarter: %+v", empty, started)
	}
	uncommented := []string{}
	for line := range strings.Lines(Starter()) {
		if rest, ok := strings.CutPrefix(line, "# "); ok && strings.Contains(rest, " = ") && !strings.Contains(rest, "{") {
			line = rest
		}
		uncommented = append(uncommented, line)
	}
	if full, problems := Parse([]byte(strings.Join(uncommented, ""))); problems != nil || !reflect.DeepEqual(full, empty) {
		t.Errorf("the starter's lines, uncommented, mean something else: %+v %+v", full, problems)
	}
}

func TestEveryKeyIsSet(t *testing.T) {
	r, problems := Parse([]byte(`
name = "a"
version = "1.2"
arch = "amd64"
platforms = ["generic"]
overlays = ["own", "/srv/more"]
formats = ["raw", "qcow2"]
[base]
suite = "trixie"
kernel = "generic"
mirrors = ["http://mirror.example.org/debian"]
packages = ["htop"]
run = ["tune.sh"]
[pod]
bundle = "2025"
images = {"docker.io/a/b" = "docker.io/a/b:2"}
[pod.mirror]
"docker.io/proseim" = "127.0.0.1:5000/proseim"
[disk]
free = "1GiB"
size = "4 GiB"
`))
	if problems != nil {
		t.Fatalf("%+v", problems)
	}
	want := &Recipe{Name: "a", Version: "1.2", Arch: "amd64", Platforms: []string{"generic"}, Overlays: []string{"own", "/srv/more"},
		Formats: []string{"raw", "qcow2"}, Suite: "trixie", Kernel: "generic",
		Mirrors: []string{"http://mirror.example.org/debian"}, Packages: []string{"htop"}, Run: []string{"tune.sh"}, Bundle: "2025",
		Images: map[string]string{"docker.io/a/b": "docker.io/a/b:2"}, Mirror: map[string]string{"docker.io/proseim": "127.0.0.1:5000/proseim"},
		Free: 1 << 30, Size: 4 << 30}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got  %+v\nwant %+v", r, want)
	}
	v := reflect.ValueOf(*r)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name != "Dir" && v.Field(i).IsZero() {
			t.Errorf("no key of this recipe sets %s", name)
		}
	}
}

// Each file under testdata/bad is a recipe with mistakes; beside it stands what
// the user is shown.
func TestProblemsAreDrawn(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatal("no bad recipes", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, problems := Parse(src)
			if problems == nil {
				t.Fatal("no problem found")
			}
			got := (&Invalid{File: filepath.Base(file), Source: src, Problems: problems}).Draw()
			golden := strings.TrimSuffix(file, ".toml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"kernal", "kernel", 1}, {"qcow", "qcow2", 1}, {"raw", "war", 2}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(Starter()))
	f.Add([]byte("a = {b = [1, 'x']}\n[[c]]\n[pod.mirror]\n'x'='y'"))
	files, _ := filepath.Glob("testdata/bad/*.toml")
	for _, file := range files {
		src, _ := os.ReadFile(file)
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		r, problems := Parse(src)
		if (r == nil) == (problems == nil) {
			t.Fatalf("recipe %v with problems %v", r, problems)
		}
		(&Invalid{File: "f", Source: src, Problems: problems}).Draw()
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Errorf("problem without a place: %+v", p)
			}
		}
		if r != nil && r.Arch != "amd64" && r.Arch != "arm64" {
			t.Errorf("arch %q passed", r.Arch)
		}
	})
}

// docs/recipe.md is made from the table; make golden rewrites it.
func TestReference(t *testing.T) {
	const file = "../../docs/recipe.md"
	if *update {
		if err := os.WriteFile(file, []byte(Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != Reference() {
		t.Errorf("%s is not what the keys say: make golden", file)
	}
}
