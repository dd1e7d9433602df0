package bake

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// One command bakes, records and publishes; the same again publishes nothing.
func TestBakeRecordPublish(t *testing.T) {
	program, recipe, lock := demo(t)
	out, target, data := t.TempDir(), t.TempDir(), t.TempDir()
	bake := func() outcome {
		c := exec.Command(program, "bake", recipe, "--lock", lock, "-o", out, "--publish", target)
		c.Env = append(os.Environ(), "XDG_DATA_HOME="+data)
		return run(t, c)
	}
	first := bake()
	if first.code != 0 || !strings.Contains(first.stdout, filepath.Join(target, "prose/0/prose-0-generic-amd64.qcow2")) {
		t.Fatalf("exit %d\n%s\n%s", first.code, first.stdout, first.stderr)
	}
	var made struct {
		Release   string
		Artifacts []struct{ File, SHA256 string }
	}
	read(t, filepath.Join(out, "manifest.json"), &made)
	var latest struct{ Version string }
	read(t, filepath.Join(target, "prose/latest.json"), &latest)
	if latest.Version != "0" || len(made.Artifacts) != 1 {
		t.Errorf("latest is %+v, the bake made %+v", latest, made)
	}
	// What is said of the image goes with it: another one of the same version
	// would have other names.
	for _, pattern := range []string{"spdx.json", "intoto.json", "manifest.json", "sha256sums"} {
		if found, _ := filepath.Glob(filepath.Join(target, "prose/0/prose-0-amd64-????????."+pattern)); len(found) != 1 {
			t.Errorf("%d files of %s are published", len(found), pattern)
		}
	}
	sums := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	sums.Dir = filepath.Join(target, "prose/0")
	if o := run(t, sums); o.code != 0 {
		t.Errorf("SHA256SUMS: %s%s", o.stdout, o.stderr)
	}
	show := exec.Command(program, "catalog", "show", made.Release, "--json")
	show.Env = append(os.Environ(), "XDG_DATA_HOME="+data)
	if o := run(t, show); o.code != 0 || !strings.Contains(o.stdout, made.Artifacts[0].SHA256) || !strings.Contains(o.stdout, target) {
		t.Errorf("exit %d, the catalog has %s%s", o.code, o.stdout, o.stderr)
	}
	// The same disk in another format is of the same version.
	more := exec.Command(program, "bake", recipe, "--lock", lock, "-o", t.TempDir(), "--format", "raw", "--publish", target)
	more.Env = append(os.Environ(), "XDG_DATA_HOME="+data)
	if o := run(t, more); o.code != 0 {
		t.Errorf("another format: exit %d\n%s", o.code, o.stderr)
	}
	if found, _ := filepath.Glob(filepath.Join(target, "prose/0/*.spdx.json")); len(found) != 2 {
		t.Errorf("of two bakes: %v", found)
	}
	if again := bake(); again.code != 0 || !strings.Contains(again.stderr, "all of it was there already") {
		t.Errorf("again: exit %d\n%s", again.code, again.stderr)
	}
}

func read(t *testing.T, name string, v any) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}
