// Package packertest runs the plugin under a real Packer, from the template that
// the docs show to a login. It lies under testdata so that "go test ./..." passes
// it by: it takes minutes, and what "make build" and "make test" leave behind.
//
//	go test -count=1 -timeout 30m ./testdata/packer
//
// Packer itself is built once, from the versions in testdata/tools/packer, and
// kept in the user's cache.
package packertest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder"
)

var (
	top     string // of the sources
	packer  string // the program
	plugins string // what "make plugin" makes
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	err := func() (err error) {
		if top, err = filepath.Abs("../.."); err != nil {
			return err
		}
		if packer, err = buildPacker(); err != nil {
			return err
		}
		plugins, err = os.MkdirTemp("", "packer-plugin-")
		return err
	}()
	if err == nil {
		defer os.RemoveAll(plugins)
		err = makePlugin(top, plugins, "PLUGIN_TAGS=libsqlite3") // with the catalog
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return m.Run()
}

// buildPacker builds Packer unless an earlier run has.
func buildPacker() (string, error) {
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(top, "testdata/tools/packer", name))
		if err != nil {
			return "", err
		}
		h.Write(b)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "prose-image", "tools", fmt.Sprintf("packer-%.8x", h.Sum(nil)))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fmt.Fprintln(os.Stderr, "building Packer, once: this takes minutes")
	part := fmt.Sprintf("%s.%d.part", path, os.Getpid())
	defer os.Remove(part)
	// One package at a time: some take a gigabyte.
	cmd := exec.Command("nice", "-n", "10", "go", "build", "-p", "1", "-trimpath", "-ldflags=-s -w", "-o", part, "github.com/hashicorp/packer")
	cmd.Dir = filepath.Join(top, "testdata/tools/packer")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Packer: %w\n%s", err, out)
	}
	return path, os.Rename(part, path)
}

// makePlugin makes the plugin from the sources in dir as "make plugin" does.
func makePlugin(dir, out string, env ...string) error {
	cmd := exec.Command("testdata/scripts/plugin", filepath.Join(top, "bin"), out)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making the plugin: %w\n%s", err, said)
	}
	return nil
}

// A world is a user of Packer: a working directory and what Packer keeps.
type world struct {
	t    *testing.T
	dir  string // working directory of packer
	home string
	env  []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), home: t.TempDir()}
	w.env = append(os.Environ(), "PACKER_CONFIG_DIR="+w.home, "PACKER_PLUGIN_PATH="+w.plugins(), "PACKER_CACHE_DIR="+filepath.Join(w.home, "cache"),
		"CHECKPOINT_DISABLE=1", "PACKER_NO_COLOR=1", "XDG_DATA_HOME="+filepath.Join(w.home, "data"))
	// The demo template publishes.
	for _, dir := range []string{w.plugins(), filepath.Join(w.dir, "published")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) plugins() string { return filepath.Join(w.home, "plugins") }

// install installs the plugin that was made.
func (w *world) install() {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(plugins, "packer-plugin-prose_v*_x5.0_linux_amd64"))
	if err != nil || len(found) != 1 {
		w.t.Fatalf("plugins that were made: %q, %v", found, err)
	}
	w.ok("plugins", "install", "--path", found[0], "github.com/prose-im/prose")
}

func (w *world) write(name, content string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(packer, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	return cmd
}

// packer runs it and returns what it said and its exit code.
func (w *world) packer(args ...string) (said string, code int) {
	w.t.Helper()
	cmd := w.command(args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (w *world) ok(args ...string) string {
	w.t.Helper()
	said, code := w.packer(args...)
	if code != 0 {
		w.t.Fatalf("packer %q: exit %d\n%s", args, code, said)
	}
	return said
}

// fails runs packer, which must fail and say all of this.
func (w *world) fails(say []string, args ...string) string {
	w.t.Helper()
	said, code := w.packer(args...)
	if code != 1 {
		w.t.Errorf("packer %q: exit %d, want 1\n%s", args, code, said)
	}
	for _, want := range say {
		if !strings.Contains(said, want) {
			w.t.Errorf("packer %q does not say %q:\n%s", args, want, said)
		}
	}
	return said
}

// source is a source of the demo image with more attributes.
func source(name, more string) string {
	return fmt.Sprintf(`
source "prose" %q {
  pod {
    mirror = { "docker.io/proseim" = "oci:%s" }
  }
  lock = %q
  %s
}
`, name, filepath.Join(top, "bin/pod"), filepath.Join(top, "testdata/recipes/demo.lock"), more)
}

// cacheWith is an empty cache that shares the given parts of the user's own.
func cacheWith(t *testing.T, parts ...string) string {
	t.Helper()
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, part := range parts {
		if err := os.Symlink(filepath.Join(user, "prose-image", part), filepath.Join(dir, part)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// manifest reads the record of a bake.
func manifest(t *testing.T, dir string) *builder.Result {
	t.Helper()
	r, err := builder.ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sum(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// left lists the files below dir; there may be no dir.
func left(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !d.IsDir() {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func readJSON(t *testing.T, name string, to any) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(b, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// interrupt runs packer and, when it has come so far, presses Ctrl-C: a
// terminal sends the signal to every process of the group.
func (w *world) interrupt(soFar func(said string) bool, args ...string) string {
	w.t.Helper()
	cmd := w.command(args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log := filepath.Join(w.home, "said")
	f, err := os.Create(log)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	defer syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	said := func() string {
		b, _ := os.ReadFile(log)
		return string(bytes.ToValidUTF8(b, nil))
	}
	deadline := time.Now().Add(3 * time.Minute)
	for !soFar(said()) {
		select {
		case <-ended:
			w.t.Fatalf("packer ended before it was interrupted:\n%s", said())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("waiting for the moment to interrupt: 3 minutes are over:\n%s", said())
		}
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		w.t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(2 * time.Minute):
		w.t.Fatalf("waiting for packer to end after Ctrl-C: 2 minutes are over:\n%s", said())
	}
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		w.t.Errorf("exit %d, want 1:\n%s", code, said())
	}
	return said()
}

// running lists processes whose command line has text in it.
func running(t *testing.T, text string) (found []string) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil && bytes.Contains(b, []byte(text)) {
			found = append(found, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return slices.Compact(found)
}
