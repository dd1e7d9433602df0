package publish_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/builder/publish"
	"github.com/prose-im/prose-image/builder/publish/publishtest"
)

// testImage makes files of an image: a few thousand bytes, with a hole.
func testImage(t *testing.T, fill byte) publish.Image {
	t.Helper()
	img := publish.Image{Name: "prose", Version: "1.0", Channel: "latest"}
	for _, format := range []string{"qcow2", "raw"} {
		b := make([]byte, 5500)
		for i := range b {
			if i < 1000 || i > 4000 {
				b[i] = fill + byte(i%251)
			}
		}
		b = append(b, format...)
		name := "prose-1.0-generic-amd64." + format
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		img.Files = append(img.Files, publish.File{
			Path: path, Name: name, Arch: "amd64", Platform: "generic", Format: format,
			Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:]),
		})
	}
	return img
}

// deadPID is the number of a process that has ended.
func deadPID(t *testing.T) int {
	t.Helper()
	c := exec.Command("true")
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid
}

// processOf is a process that publishes to a directory and may end in any of
// its operations.
func processOf(root string, pid int, f *publishtest.Faults) publish.Target {
	return publish.Hooked(root, pid, func(op, path string, run func() error) error {
		form, err := f.Strike(op + " " + path)
		if err != nil {
			return err
		}
		switch form {
		case publishtest.Before:
			return errors.New("struck before")
		case publishtest.After:
			return errors.Join(run(), errors.New("struck after"))
		}
		return run()
	})
}

// memory is a directory in memory where there is one: the contract syncs some
// ten thousand times, and nothing in it cuts the power.
func memory(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("/dev/shm", "prose-publish-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	return root
}

func directoryWorld(t *testing.T) *publishtest.World {
	root := memory(t)
	img := testImage(t, 1)
	dead := deadPID(t)
	return &publishtest.World{
		Address: "file://" + root,
		Image:   img, Other: testImage(t, 2),
		Clock: publishtest.NewClock(),
		Forms: []publishtest.Form{publishtest.Before, publishtest.After},
		Process: func(f *publishtest.Faults) publish.Target {
			pid := os.Getpid()
			if f.Dies {
				pid = dead
			}
			return processOf(root, pid, f)
		},
		Check: func() error { return checkDirectory(root, img) },
		Public: func() (n int) {
			for _, f := range img.Files {
				if _, err := os.Stat(filepath.Join(root, img.Name, img.Version, f.Name)); err == nil {
					n++
				}
			}
			return n
		},
		Refuse: func(call string) error {
			if strings.HasPrefix(call, "rename ") && strings.HasSuffix(call, ".raw") {
				return unix.ENOSPC
			}
			return nil
		},
	}
}

// checkDirectory compares every name below root with what must be there, and
// has sha256sum judge the sums.
func checkDirectory(root string, img publish.Image) error {
	var names []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if name, rerr := filepath.Rel(root, path); rerr == nil && !e.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	dir := filepath.Join(img.Name, img.Version)
	want := []string{"index.json", "prose/latest", "prose/latest.json", filepath.Join(dir, "manifest.json"), filepath.Join(dir, "SHA256SUMS")}
	for _, f := range img.Files {
		want = append(want, filepath.Join(dir, f.Name), filepath.Join(dir, ".records", f.Name+".json"))
	}
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		return fmt.Errorf("there are\n%s\nand should be\n%s", strings.Join(names, "\n"), strings.Join(want, "\n"))
	}
	for _, f := range img.Files {
		b, err := os.ReadFile(filepath.Join(root, dir, f.Name))
		if sum := sha256.Sum256(b); err != nil || hex.EncodeToString(sum[:]) != f.SHA256 {
			return fmt.Errorf("%s has other bytes: %v", f.Name, err)
		}
	}
	c := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	c.Dir = filepath.Join(root, "prose", "latest")
	if out, err := c.CombinedOutput(); err != nil || strings.Count(string(out), ": OK\n") != len(img.Files) {
		return fmt.Errorf("sha256sum: %v\n%s", err, out)
	}
	var x publish.Index
	if err := readJSON(filepath.Join(root, "index.json"), &x); err != nil {
		return err
	}
	if len(x.Releases) != 1 || x.Releases[0].Version != img.Version || len(x.Releases[0].Files) != len(img.Files) {
		return fmt.Errorf("the index has %+v", x)
	}
	for i, f := range x.Releases[0].Files {
		if f.SHA256 != img.Files[i].SHA256 {
			return fmt.Errorf("the index says %s of %s", f.SHA256, f.File)
		}
		if _, err := os.Stat(filepath.Join(root, f.File)); err != nil {
			return err
		}
	}
	var p publish.Pointer
	if err := readJSON(filepath.Join(root, "prose", "latest.json"), &p); err != nil {
		return err
	}
	if p.Version != img.Version {
		return fmt.Errorf("latest is %+v", p)
	}
	_, err = os.Stat(filepath.Join(root, "prose", p.Manifest))
	return err
}

func readJSON(name string, v any) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func TestDirectory(t *testing.T) {
	cases += publishtest.Run(t, directoryWorld)
}

// between publishes first, and second just before the last call of first that
// begins with op.
func between(t *testing.T, op string, first, second publish.Image) (root string, err error) {
	t.Helper()
	run := func(root string, img publish.Image, f *publishtest.Faults) error {
		clock := publishtest.NewClock()
		_, err := publish.Run(t.Context(), publish.Config{
			Image: img, Address: "file://" + root, Target: processOf(root, os.Getpid(), f), Now: clock.Now, Sleep: clock.Sleep,
		})
		return err
	}
	count := &publishtest.Faults{}
	if err := run(memory(t), first, count); err != nil {
		t.Fatal(err)
	}
	root = memory(t)
	f := &publishtest.Faults{At: func() {
		if err := run(root, second, &publishtest.Faults{}); err != nil {
			t.Error(err)
		}
	}}
	for i, call := range count.Calls() {
		if strings.HasPrefix(call, op+" ") {
			f.N = i + 1
		}
	}
	if f.N == 0 {
		t.Fatalf("there is no %s", op)
	}
	return root, run(root, first, f)
}

// Two publish other bytes under one name: the name is of whom it was first.
func TestDirectoryRaceForName(t *testing.T) {
	img, other := testImage(t, 1), testImage(t, 2)
	img.Files, other.Files = img.Files[1:], other.Files[1:]
	root, err := between(t, "place", other, img)
	var conflict *publish.ConflictError
	if !errors.As(err, &conflict) {
		t.Errorf("the second: %v", err)
	}
	got, err := os.ReadFile(filepath.Join(root, "prose", "1.0", img.Files[0].Name))
	want, werr := os.ReadFile(img.Files[0].Path)
	if err != nil || werr != nil || string(got) != string(want) {
		t.Errorf("what was there first is gone: %v, %v", err, werr)
	}
}

// An older version that comes to the pointer late leaves it at the newer one.
func TestDirectoryRaceForPointer(t *testing.T) {
	newer := testImage(t, 2)
	newer.Version = "1.1"
	root, err := between(t, "lock", testImage(t, 1), newer)
	if err != nil {
		t.Fatal(err)
	}
	var p publish.Pointer
	if err := readJSON(filepath.Join(root, "prose", "latest.json"), &p); err != nil || p.Version != "1.1" {
		t.Errorf("latest is %+v, %v", p, err)
	}
	if link, err := os.Readlink(filepath.Join(root, "prose", "latest")); err != nil || link != "1.1" {
		t.Errorf("latest leads to %s, %v", link, err)
	}
}

// NFS knows no rename that does not replace, and some file systems no links at
// all. A process dies where these take another way, and one comes after it.
func TestDirectoryOtherFileSystems(t *testing.T) {
	img := testImage(t, 1)
	dead := deadPID(t)
	for name, lacks := range map[string]map[string]error{
		"no rename that does not replace": {"place": unix.EINVAL},
		"no link for a lock":              {"lock": unix.EPERM},
		"no symbolic link":                {"symlink": unix.EPERM},
	} {
		run := func(root string, pid int, f *publishtest.Faults) error {
			clock := publishtest.NewClock()
			target := publish.Hooked(root, pid, func(op, path string, run func() error) error {
				form, err := f.Strike(op + " " + path)
				if err == nil && lacks[op] != nil {
					return lacks[op]
				}
				if err != nil || form == publishtest.Before {
					return errors.Join(err, publishtest.ErrDead)
				}
				if err = run(); form == publishtest.After {
					return publishtest.ErrDead
				}
				return err
			})
			_, err := publish.Run(t.Context(), publish.Config{Image: img, Address: "file://" + root, Target: target, Now: clock.Now, Sleep: clock.Sleep})
			return err
		}
		check := func(root string) error {
			if lacks["symlink"] != nil {
				if err := os.Symlink("1.0", filepath.Join(root, "prose", "latest")); err != nil {
					return err
				}
			}
			return checkDirectory(root, img)
		}
		count := &publishtest.Faults{}
		root := memory(t)
		if err := errors.Join(run(root, os.Getpid(), count), check(root)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for n, call := range count.Calls() {
			op, _, _ := strings.Cut(call, " ")
			if op == "sync" || op == "write" || op == "create" {
				continue
			}
			for _, form := range []publishtest.Form{publishtest.Before, publishtest.After} {
				cases++
				root := memory(t)
				f := &publishtest.Faults{N: n + 1, Form: form, Dies: true}
				_ = run(root, dead, f)
				if !f.Dead() {
					t.Fatalf("%s: the process did not end at %s", name, call)
				}
				if err := errors.Join(run(root, os.Getpid(), &publishtest.Faults{}), check(root)); err != nil {
					t.Errorf("%s, %s %s: %v", name, form, call, err)
				}
				if left, err := publish.NewDirectory(root).Leftovers(t.Context()); err != nil || len(left) > 0 {
					t.Errorf("%s, %s %s: left over %v, %v", name, form, call, left, err)
				}
			}
		}
	}
}
