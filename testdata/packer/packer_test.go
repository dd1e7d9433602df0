package packertest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/builder/boot"
)

// The template of the docs, as it is, from the plugin's file to a login.
func TestDemo(t *testing.T) {
	w := newWorld(t)
	w.install()
	template := filepath.Join(top, "testdata/packer/demo.pkr.hcl")
	if said := w.ok("validate", template); strings.Contains(said, "Warning") || !strings.Contains(said, "The configuration is valid.") {
		t.Errorf("validate says:\n%s", said)
	}
	if said := w.ok("inspect", template); !strings.Contains(said, "prose.demo") {
		t.Errorf("inspect says:\n%s", said)
	}
	said := w.ok("build", template)
	for _, want := range []string{"==> prose.demo: bake     base ", "==> prose.demo: convert  prose-0-generic-amd64.qcow2 ", "--> prose.demo: prose 0 for amd64, release "} {
		if !strings.Contains(said, want) {
			t.Errorf("build does not say %q:\n%s", want, said)
		}
	}
	out := filepath.Join(w.dir, "output-demo")
	image := filepath.Join(out, "prose-0-generic-amd64.qcow2")
	made := manifest(t, out)
	if len(made.Artifacts) != 1 || made.Artifacts[0].SHA256 != sum(t, image) {
		t.Errorf("%s is not what the manifest says: %+v", image, made.Artifacts)
	}
	// A post-processor of Packer's own took the artifact.
	if b, err := os.ReadFile(filepath.Join(out, "checksums")); err != nil || !strings.HasPrefix(string(b), made.Artifacts[0].SHA256+"\t") {
		t.Errorf("checksum wrote %q, %v", b, err)
	}

	// It was recorded, and published once.
	published := filepath.Join(w.dir, "published/prose/0/prose-0-generic-amd64.qcow2")
	if sum(t, published) != made.Artifacts[0].SHA256 {
		t.Errorf("%s is another file", published)
	}
	show := exec.Command(filepath.Join(top, "bin/prose-image"), "catalog", "show", made.Release, "--json")
	show.Env = w.env
	if b, err := show.Output(); err != nil || !strings.Contains(string(b), published) || !strings.Contains(string(b), image) {
		t.Errorf("the catalog has %s, %v", b, err)
	}

	// prose-image bakes the same bytes of the same recipe as a file.
	cli := filepath.Join(t.TempDir(), "out")
	if said, err := exec.Command(filepath.Join(top, "bin/prose-image"), "bake", filepath.Join(top, "testdata/recipes/demo.toml"), "-o", cli).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if other := manifest(t, cli); other.Release != made.Release || other.Artifacts[0].SHA256 != made.Artifacts[0].SHA256 {
		t.Errorf("prose-image bakes %s %+v, the plugin %s %+v", other.Release, other.Artifacts, made.Release, made.Artifacts)
	}

	// What is there stays, unless packer is forced.
	w.fails([]string{"output_directory: output-demo is not empty", "packer build -force"}, "build", template)
	if said := w.ok("build", "-force", template); !strings.Contains(said, "convert  prose-0-generic-amd64.qcow2 cached") {
		t.Errorf("the same image was made again:\n%s", said)
	}
	if found, err := filepath.Glob(filepath.Join(w.dir, "published/prose/*/*.qcow2")); err != nil || len(found) == 0 {
		t.Errorf("published: %q, %v", found, err)
	} else if releases, err := os.ReadDir(filepath.Join(w.dir, "published/prose")); err != nil || !onlyOne(releases) {
		t.Errorf("published twice: %v, %v", releases, err)
	}

	toLogin(t, image)
}

// toLogin boots an image until it asks who is there.
func toLogin(t *testing.T, image string) {
	t.Helper()
	ctx := context.Background()
	vm, err := boot.Start(ctx, boot.Options{Image: image, Log: filepath.Join(t.TempDir(), "console")})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if err := vm.Wait(ctx, boot.LoginPrompt, vm.Accel.Budget(boot.ToLogin)); err != nil {
		t.Fatal(err)
	}
}

// Everything that is wrong comes at once, in Packer's own output.
func TestInvalid(t *testing.T) {
	w := newWorld(t)
	w.install()
	w.write("bad.toml", "nmae = \"x\"\n[base]\nkernel = \"cloudy\"\n")
	w.write("bad.pkr.hcl", `
source "prose" "fields" {
  name    = "a b"
  formats = ["qcow", "raw", "raw"]
  base {
    suite    = "bookworm"
    packages = ["Htop"]
  }
  disk { free = "much" }
  output_directory = "bad.toml"
}
source "prose" "file" {
  recipe = "bad.toml"
  name   = "x"
}
source "prose" "missing" {
  overlays = ["nowhere"]
  base { run = ["no.sh"] }
  pod { bundle = "nodir" }
}
build { sources = ["prose.fields", "prose.file", "prose.missing"] }
`)
	want := []string{
		"7 error(s) occurred", `* name: "a b" cannot be part of a file name`, `* formats: "qcow" is not one of`, `* formats: "raw" comes twice`,
		`* base.suite: "bookworm" is not one of trixie`, `* base.packages: "Htop"`, `* disk.free: "much" is no size`, "* output_directory: bad.toml is there",
		"* name: recipe names a file", `* recipe: bad.toml:1:1: unknown key "nmae" (did you mean "name"?)`, `* recipe: bad.toml:3:10: "cloudy"`,
		"* overlays: reading nowhere", "* base.run: reading script: open no.sh", "* pod.bundle: open nodir/compose.yaml",
	}
	for _, verb := range []string{"validate", "build"} {
		w.fails(want, verb, "bad.pkr.hcl")
	}
	// Packer knows the attributes.
	w.write("unknown.pkr.hcl", `
source "prose" "x" {
  nmae = "x"
  base { sweet = "x" }
}
build { sources = ["prose.x"] }
`)
	w.fails([]string{`An argument named "nmae" is not expected here. Did you mean "name"?`, `An argument named "sweet" is not expected here.`}, "validate", "unknown.pkr.hcl")
	if files := left(t, filepath.Join(w.dir, "output-missing")); files != nil {
		t.Errorf("left: %q", files)
	}
}

// Templates of before HCL are understood as well.
func TestJSON(t *testing.T) {
	w := newWorld(t)
	w.install()
	w.write("x.json", `{"variables": {"suite": "trixie"}, "builders": [{"type": "prose", "name": "x",
		"base": {"suite": "{{user \"suite\"}}", "packages": ["htop"]}, "pod": {"mirror": {"docker.io/proseim": "registry.example.org/proseim"}}}]}`)
	if said := w.ok("validate", "x.json"); !strings.Contains(said, "x.prose.lock is not there") {
		t.Errorf("validate says:\n%s", said)
	}
	w.write("bad.json", `{"builders": [{"type": "prose", "base": {"suite": "sid", "sweet": "x"}}]}`)
	w.fails([]string{"base.sweet"}, "validate", "bad.json")
}

// What runs after a bake: provisioners that need no machine, and Packer's
// post-processors. One that needs a machine ends the build at once.
func TestWithOthers(t *testing.T) {
	w := newWorld(t)
	w.install()
	// Every layer is made anew, under Packer.
	w.write("local.pkr.hcl", source("x", `
  formats         = ["raw.zst"]
  cache_directory = "`+cacheWith(t, "packages", "blobs")+`"`)+`
build {
  sources = ["prose.x"]
  provisioner "shell-local" {
    inline = ["cp ${build.OutputDirectory}/manifest.json seen.json", "echo it is ${build.Release}"]
  }
  post-processor "manifest" { output = "packer-manifest.json" }
}
`)
	said := w.ok("build", "local.pkr.hcl")
	if strings.Contains(said, "cached") {
		t.Errorf("not every layer was made:\n%s", said)
	}
	made := manifest(t, filepath.Join(w.dir, "output-x"))
	if !strings.Contains(said, "prose.x: it is "+made.Release) {
		t.Errorf("the provisioner was not told the release:\n%s", said)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "seen.json")); err != nil {
		t.Error(err)
	}
	var record struct {
		Builds []struct {
			ID    string `json:"artifact_id"`
			Type  string `json:"builder_type"`
			Files []struct {
				Name string
				Size int64
			}
		}
	}
	readJSON(t, filepath.Join(w.dir, "packer-manifest.json"), &record)
	if len(record.Builds) != 1 || record.Builds[0].ID != made.Release || record.Builds[0].Type != "prose" || len(record.Builds[0].Files) != 1 || record.Builds[0].Files[0].Size != made.Artifacts[0].Size {
		t.Errorf("Packer's manifest: %+v", record)
	}

	w.write("shell.pkr.hcl", source("y", `formats = ["raw"]`)+`
build {
  sources = ["prose.y"]
  provisioner "shell" { inline = ["true"] }
}
`)
	w.fails([]string{"the image is baked without a machine"}, "build", "shell.pkr.hcl")
	if files := left(t, filepath.Join(w.dir, "output-y")); files != nil {
		t.Errorf("left: %q", files)
	}
	// Who wants to look at what failed keeps it.
	w.fails(nil, "build", "-on-error=abort", "shell.pkr.hcl")
	if files := left(t, filepath.Join(w.dir, "output-y")); len(files) != 5 {
		t.Errorf("kept: %q, want the image, its manifest, SBOM, provenance and sums", files)
	}
}

func TestInterrupted(t *testing.T) {
	for _, c := range []struct {
		name  string
		cache []string // parts of the user's cache that are there
		soFar func(said, temp string) bool
	}{
		{"while packages are installed", []string{"packages", "blobs"}, func(_, temp string) bool {
			found, _ := filepath.Glob(filepath.Join(temp, "prose-image-base-*", "mmdebstrap.*", "usr"))
			return found != nil
		}},
		{"when one of two images is there", []string{"packages", "blobs", "layers"}, func(said, _ string) bool {
			return strings.Contains(said, "convert  prose-0-generic-amd64.qcow2")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.install()
			cache, temp := cacheWith(t, c.cache...), t.TempDir()
			w.env = append(w.env, "TMPDIR="+temp)
			w.write("x.pkr.hcl", source("x", `
  formats         = ["qcow2", "raw.gz"]
  cache_directory = "`+cache+`"`)+`
build { sources = ["prose.x"] }
`)
			said := w.interrupt(func(said string) bool { return c.soFar(said, temp) }, "build", "x.pkr.hcl")
			if !strings.Contains(said, "prose.x: baking: context canceled") && !strings.Contains(said, "Cancelling build") {
				t.Errorf("packer says:\n%s", said)
			}
			if files := left(t, filepath.Join(w.dir, "output-x")); files != nil {
				t.Errorf("left: %q", files)
			}
			if _, err := os.Stat(filepath.Join(w.dir, "output-x")); err == nil {
				t.Error("the empty output directory is left")
			}
			if files := left(t, temp); files != nil {
				t.Errorf("left in the directory for temporary files: %q", files)
			}
			if found := running(t, temp); found != nil {
				t.Errorf("still running: %q", found)
			}
		})
	}
}

// onlyOne says whether there is one version, besides the pointer and its file.
func onlyOne(entries []os.DirEntry) bool {
	n := 0
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "latest") && !strings.HasPrefix(e.Name(), ".") {
			n++
		}
	}
	return n == 1
}
