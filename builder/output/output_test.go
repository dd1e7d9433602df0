package output

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// creators are both ways of making a file; which one Create takes depends on
// the file system.
var creators = map[string]func(string) (*File, error){"nameless or named": Create, "named": createNamed}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestCommit(t *testing.T) {
	for kind, create := range creators {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x")
			for _, content := range []string{"old", "new"} {
				before, _ := os.ReadFile(path)
				f, err := create(path)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Discard()
				if _, err := f.WriteString(content); err != nil {
					t.Fatal(err)
				}
				if now, _ := os.ReadFile(path); string(now) != string(before) {
					t.Errorf("%q is at the path before Commit", now)
				}
				if err := f.Commit(); err != nil {
					t.Fatal(err)
				}
				f.Discard()
				if b, err := os.ReadFile(path); err != nil || string(b) != content {
					t.Errorf("got %q, %v, want %q", b, err, content)
				}
			}
			if names := list(t, dir); len(names) != 1 {
				t.Errorf("the directory holds %q", names)
			}
			plain := filepath.Join(dir, "plain")
			if err := os.WriteFile(plain, nil, 0o666); err != nil {
				t.Fatal(err)
			}
			a, _ := os.Stat(path)
			b, _ := os.Stat(plain)
			if a.Mode() != b.Mode() {
				t.Errorf("mode %v, an ordinary file has %v", a.Mode(), b.Mode())
			}
		})
	}
}

func TestDiscard(t *testing.T) {
	for kind, create := range creators {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			f, err := create(filepath.Join(dir, "x"))
			if err != nil {
				t.Fatal(err)
			}
			f.Discard()
			if names := list(t, dir); len(names) != 0 {
				t.Errorf("the directory holds %q", names)
			}
			if err := f.Commit(); err == nil {
				t.Error("Commit after Discard worked")
			}
		})
	}
}

// A rename that cannot be done leaves nothing behind.
func TestCommitFails(t *testing.T) {
	for kind, create := range creators {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "x")
			f, err := create(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := f.Commit(); err == nil {
				t.Error("a directory was replaced")
			}
			if names := list(t, dir); len(names) != 1 {
				t.Errorf("the directory holds %q", names)
			}
		})
	}
}

func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Create(dir); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Create(filepath.Join(dir, "missing", "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

func TestSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := CheckSpace(path, 1); err != nil {
		t.Error(err)
	}
	err := CheckSpace(path, 1<<62)
	var full *NoSpaceError
	if !errors.As(err, &full) || full.Need != 1<<62 || full.Free <= 0 {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{path, "4611686018427387904 bytes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if !strings.Contains(full.Hint(), filepath.Dir(path)) {
		t.Error(full.Hint())
	}
	if err := CheckSpace(filepath.Join(path, "missing", "y"), 1); err == nil {
		t.Error("a directory that is not there has space")
	}
}

func TestExplain(t *testing.T) {
	full := fmt.Errorf("writing: %w", &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC})
	err := Explain(full, "/out/x", 7)
	var e *NoSpaceError
	if !errors.As(err, &e) || !errors.Is(err, syscall.ENOSPC) || err.Error() != "no space for /out/x: it needs 7 bytes" {
		t.Error(err)
	}
	if again := Explain(err, "/out/y", 8); again != err {
		t.Error(again)
	}
	other := errors.New("other")
	if Explain(other, "x", 1) != other || Explain(nil, "x", 1) != nil {
		t.Error("another error was explained")
	}
}

// A killed process leaves nothing, where files can be without a name. The test
// runs itself again to have a process to kill.
func TestKilled(t *testing.T) {
	if path := os.Getenv("TEST_OUTPUT"); path != "" {
		f, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("half"); err != nil {
			t.Fatal(err)
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	dir := t.TempDir()
	f, err := Create(filepath.Join(dir, "x"))
	if err != nil {
		t.Fatal(err)
	}
	nameless := f.temp == ""
	f.Discard()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "TEST_OUTPUT="+filepath.Join(dir, "x"))
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process was not killed: %v", err)
	}
	names := list(t, dir)
	if nameless && len(names) != 0 {
		t.Errorf("left behind: %q", names)
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); err == nil {
		t.Error("half a file is at the path")
	}
}

func TestLink(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	for _, p := range []string{from, to} {
		if err := os.WriteFile(p, []byte(p), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time they are one file already
		if err := Link(from, to); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(to); err != nil || string(b) != from {
			t.Errorf("got %q, %v", b, err)
		}
		if names := list(t, dir); len(names) != 2 {
			t.Errorf("the directory holds %q", names)
		}
	}
	if err := Link(filepath.Join(dir, "missing"), to); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := Link(from, dir); err == nil {
		t.Error("a directory was replaced")
	}
	if names := list(t, dir); len(names) != 2 {
		t.Errorf("the directory holds %q", names)
	}
}
