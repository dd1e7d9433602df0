// Package bake runs the built program against what goes wrong in a bake: a full
// disk, an interruption, content that is not what the lock says, a tool that is
// missing. Each is one clear error with a hint and leaves nothing half-made.
//
// It needs root, for file systems that are full, and the cache that a bake of
// the demo recipe has filled: "make test" bakes first.
package bake

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const top = "../.."

// program, recipe and lock are those of the demo.
func demo(t *testing.T) (program, recipe, lock string) {
	t.Helper()
	var paths []string
	for _, name := range []string{"bin/prose-image", "testdata/recipes/demo.toml", "testdata/recipes/demo.lock"} {
		p, err := filepath.Abs(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(p); err != nil {
			t.Fatalf("%v; make test makes it", err)
		}
		paths = append(paths, p)
	}
	return paths[0], paths[1], paths[2]
}

func userCache(t *testing.T) string {
	t.Helper()
	dir, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "prose-image")
}

// cacheWith is an empty cache that shares the given parts of the user's own.
func cacheWith(t *testing.T, parts ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, part := range parts {
		if err := os.Symlink(filepath.Join(userCache(t), part), filepath.Join(dir, part)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// full mounts a file system of the given size.
func full(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mounting a small file system: %v; these tests need root", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

type outcome struct {
	code           int
	stdout, stderr string
}

func run(t *testing.T, c *exec.Cmd) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if c.ProcessState == nil {
		t.Fatal(err)
	}
	return outcome{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// fails checks that a run ended with the code and an error and a hint that
// match.
func (o outcome) fails(t *testing.T, code int, message, hint string) {
	t.Helper()
	if o.code != code {
		t.Errorf("exit %d, want %d", o.code, code)
	}
	if o.stdout != "" {
		t.Errorf("standard output: %q", o.stdout)
	}
	for _, want := range []string{"(?m)^error: .*" + message, "(?m)^hint: .*" + hint} {
		if !regexp.MustCompile(want).MatchString(o.stderr) {
			t.Errorf("nothing matches %q in:\n%s", want, o.stderr)
		}
	}
}

// left lists the files below dir.
func left(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
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

func TestSecondBakeNeedsNothing(t *testing.T) {
	program, recipe, _ := demo(t)
	out := t.TempDir()
	// In a network namespace of its own there is no network, not even loopback.
	o := run(t, exec.Command("unshare", "--net", program, "bake", recipe, "-o", out))
	if o.code != 0 {
		t.Fatalf("exit %d:\n%s", o.code, o.stderr)
	}
	if regexp.MustCompile(`(?m)^bake .* [0-9]|^lock `).MatchString(o.stderr) {
		t.Errorf("layers were made again:\n%s", o.stderr)
	}
	if want := filepath.Join(out, "prose-0-generic-amd64.qcow2") + "\n"; o.stdout != want {
		t.Errorf("printed %q, want %q", o.stdout, want)
	}
	first, err := os.ReadFile(filepath.Join(out, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	// A third, in the same place, does not even write the disk.
	o = run(t, exec.Command(program, "bake", recipe, "-o", out))
	if o.code != 0 || strings.Contains(o.stderr, "write ") {
		t.Errorf("exit %d:\n%s", o.code, o.stderr)
	}
	if again, err := os.ReadFile(filepath.Join(out, "manifest.json")); err != nil || !bytes.Equal(first, again) {
		t.Errorf("the manifest changed: %v\n%s\n%s", err, first, again)
	}
	// What was damaged is made again.
	image := filepath.Join(out, "prose-0-generic-amd64.qcow2")
	if err := os.Truncate(image, 1000); err != nil {
		t.Fatal(err)
	}
	if o = run(t, exec.Command(program, "bake", recipe, "-o", out)); o.code != 0 || !strings.Contains(o.stderr, "write ") {
		t.Errorf("exit %d:\n%s", o.code, o.stderr)
	}
	if again, err := os.ReadFile(filepath.Join(out, "manifest.json")); err != nil || !bytes.Equal(first, again) {
		t.Errorf("the same disk gave another manifest: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	program, recipe, _ := demo(t)
	t.Run("for the disk", func(t *testing.T) {
		out := full(t, "20m")
		o := run(t, exec.Command(program, "bake", recipe, "-o", out))
		o.fails(t, 1, "no space for "+regexp.QuoteMeta(out)+`\S*: it needs [0-9]+ bytes`, "free .* GiB under "+regexp.QuoteMeta(out))
		if files := left(t, out); files != nil {
			t.Errorf("left behind: %q", files)
		}
	})
	t.Run("for the artifact", func(t *testing.T) {
		out := full(t, "900m")
		o := run(t, exec.Command(program, "bake", recipe, "-o", out, "--format", "raw", "--format", "raw.gz", "--format", "qcow2"))
		o.fails(t, 1, "no space for "+regexp.QuoteMeta(out), "free .* GiB under "+regexp.QuoteMeta(out))
		for _, f := range left(t, out) {
			if strings.Contains(f, ".part") || strings.HasSuffix(f, "manifest.json") {
				t.Errorf("left behind: %s", f)
			}
		}
	})
	t.Run("for the cache", func(t *testing.T) {
		cache := full(t, "20m")
		for _, part := range []string{"packages", "blobs"} {
			if err := os.Symlink(filepath.Join(userCache(t), part), filepath.Join(cache, part)); err != nil {
				t.Fatal(err)
			}
		}
		out := t.TempDir()
		o := run(t, exec.Command(program, "bake", recipe, "-o", out, "--cache", cache))
		o.fails(t, 1, "no space", "free ")
		if files := append(left(t, out), left(t, filepath.Join(cache, "layers"))...); files != nil {
			t.Errorf("left behind: %q", files)
		}
	})
}

func TestInterrupted(t *testing.T) {
	program, recipe, _ := demo(t)
	for _, c := range []struct {
		name  string
		cache []string
		until string // what is being done when the signal comes
	}{
		{"while packages are installed", []string{"packages", "blobs"}, "mmdebstrap"},
		{"while an artifact is written", []string{"packages", "blobs", "layers"}, "write    "},
		{"when one of two artifacts is there", []string{"packages", "blobs", "layers"}, "convert  prose-0-generic-amd64.qcow2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cache, out, temp := cacheWith(t, c.cache...), t.TempDir(), t.TempDir()
			cmd := exec.Command(program, "bake", recipe, "-o", out, "--cache", cache, "--format", "raw.gz", "--format", "qcow2")
			cmd.Env = append(os.Environ(), "TMPDIR="+temp)
			var stdout bytes.Buffer
			stderr := filepath.Join(t.TempDir(), "stderr")
			f, err := os.Create(stderr)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd.Stdout, cmd.Stderr = &stdout, f
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			deadline := time.Now().Add(2 * time.Minute)
			for {
				said, _ := os.ReadFile(stderr)
				if strings.Contains(string(said), c.until) || c.until == "mmdebstrap" && installing(temp) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("waiting for %q: 2 minutes are over:\n%s", c.until, said)
				}
				time.Sleep(50 * time.Millisecond)
			}
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_ = cmd.Wait()
			said, _ := os.ReadFile(stderr)
			if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.HasSuffix(string(said), "error: interrupted\n") || stdout.Len() > 0 {
				t.Errorf("exit %d after %v, standard output %q:\n%s", code, time.Since(start), &stdout, said)
			}
			for _, dir := range []string{out, temp} {
				if files := left(t, dir); files != nil {
					t.Errorf("left behind: %q", files)
				}
			}
			if len(c.cache) == 2 {
				// The links; and the containers' layer may have been finished.
				files := left(t, cache)
				rest := slices.DeleteFunc(slices.Clone(files), func(f string) bool {
					return regexp.MustCompile(`/layers/[0-9a-f]{64}\.(tar|json)$`).MatchString(f)
				})
				if layers := len(files) - len(rest); len(rest) != len(c.cache) || layers != 0 && layers != 2 {
					t.Errorf("left in the cache: %q", files)
				}
			}
			if ps, _ := exec.Command("pgrep", "-f", regexp.QuoteMeta(temp)).Output(); len(ps) > 0 {
				t.Errorf("still running: %s", ps)
			}
		})
	}
}

// installing reports whether mmdebstrap has made its root in dir.
func installing(dir string) bool {
	found, _ := filepath.Glob(filepath.Join(dir, "prose-image-base-*", "mmdebstrap.*", "usr"))
	return found != nil
}

func TestWrongDigest(t *testing.T) {
	program, recipe, lock := demo(t)
	text, err := os.ReadFile(lock)
	if err != nil {
		t.Fatal(err)
	}
	digest := regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	t.Run("that nobody has", func(t *testing.T) {
		other := filepath.Join(t.TempDir(), "other.lock")
		if err := os.WriteFile(other, digest.ReplaceAll(text, []byte("sha256:"+strings.Repeat("0", 64))), 0o644); err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		o := run(t, exec.Command(program, "bake", recipe, "-o", out, "--lock", other))
		o.fails(t, 1, "has no image .*"+strings.Repeat("0", 64), "check the name and the tag")
		if files := left(t, out); files != nil {
			t.Errorf("left behind: %q", files)
		}
	})
	t.Run("while packages are installed", func(t *testing.T) {
		other := filepath.Join(t.TempDir(), "other.lock")
		if err := os.WriteFile(other, digest.ReplaceAll(text, []byte("sha256:"+strings.Repeat("0", 64))), 0o644); err != nil {
			t.Fatal(err)
		}
		out, temp := t.TempDir(), t.TempDir()
		cmd := exec.Command(program, "bake", recipe, "-o", out, "--lock", other, "--cache", cacheWith(t, "packages"))
		cmd.Env = append(os.Environ(), "TMPDIR="+temp)
		o := run(t, cmd)
		o.fails(t, 1, "baking layer containers: .* has no image .*"+strings.Repeat("0", 64), "check the name and the tag")
		// That packages were not installed to the end is only its consequence.
		if !regexp.MustCompile(`(?m)^bake +base +failed$`).MatchString(o.stderr) || !strings.Contains(o.stderr, "\nerror: baking layer containers: ") {
			t.Errorf("%s", o.stderr)
		}
		if files := append(left(t, out), left(t, temp)...); files != nil {
			t.Errorf("left behind: %q", files)
		}
	})
	t.Run("of damaged content", func(t *testing.T) {
		cache := onlyBase(t, "1g")
		dir := t.TempDir()
		if out, err := exec.Command("cp", "-r", filepath.Join(top, "bin/pod"), filepath.Join(dir, "pod")).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		blobs, err := filepath.Glob(filepath.Join(dir, "pod/blobs/sha256/*"))
		if err != nil || len(blobs) == 0 {
			t.Fatal("no blobs", err)
		}
		for _, b := range blobs {
			if info, err := os.Stat(b); err == nil && info.Size() > 100_000 {
				f, err := os.OpenFile(b, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt([]byte("damage"), info.Size()/2); err != nil {
					t.Fatal(err)
				}
				f.Close()
			}
		}
		own := filepath.Join(dir, "own.toml")
		if err := os.WriteFile(own, []byte("[pod.mirror]\n\"docker.io/proseim\" = \"oci:pod\"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		o := run(t, exec.Command(program, "bake", own, "-o", out, "--lock", lock, "--cache", cache))
		o.fails(t, 1, "has digest sha256:[0-9a-f]{64}, not sha256:", "damaged or replaced")
		if files := left(t, out); files != nil {
			t.Errorf("left behind: %q", files)
		}
	})
}

func TestMissingTool(t *testing.T) {
	program, recipe, _ := demo(t)
	cmd := exec.Command(program, "lock", recipe, "--lock", filepath.Join(t.TempDir(), "new.lock"))
	cmd.Env = append(os.Environ(), "PATH=/nonexistent")
	run(t, cmd).fails(t, 1, "mmdebstrap is not installed", "apt-get install mmdebstrap")
}
