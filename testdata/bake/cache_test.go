package bake

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// onlyBase is a cache in memory that has the demo's base and no other layer.
func onlyBase(t *testing.T, size string) string {
	t.Helper()
	dir := full(t, size)
	if err := os.Mkdir(filepath.Join(dir, "layers"), 0o755); err != nil {
		t.Fatal(err)
	}
	records, err := filepath.Glob(filepath.Join(userCache(t), "layers", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range records {
		if kindOf(t, path) != "base" {
			continue
		}
		n++
		for _, file := range []string{path, strings.TrimSuffix(path, ".json") + ".tar"} {
			if err := os.Symlink(file, filepath.Join(dir, "layers", filepath.Base(file))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n == 0 {
		t.Fatal("no base is cached; make test makes it")
	}
	return dir
}

// kindOf reads which kind of layer a record is of; empty: it is no record.
func kindOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	var r struct{ Kind string }
	if err != nil || json.Unmarshal(b, &r) != nil {
		return ""
	}
	return r.Kind
}

// layer is the path of the one cached layer of a kind.
func layer(t *testing.T, cache, kind string) string {
	t.Helper()
	records, _ := filepath.Glob(filepath.Join(cache, "layers", "*.json"))
	for _, path := range records {
		if kindOf(t, path) == kind {
			return strings.TrimSuffix(path, ".json") + ".tar"
		}
	}
	t.Fatalf("no layer %s is cached", kind)
	return ""
}

// raw is the sha256 of the raw artifact that a bake made in out.
func raw(t *testing.T, out string) string {
	t.Helper()
	var made struct {
		Artifacts []struct{ Format, SHA256 string }
	}
	read(t, filepath.Join(out, "manifest.json"), &made)
	for _, a := range made.Artifacts {
		if a.Format == "raw" {
			return a.SHA256
		}
	}
	t.Fatal("no raw artifact")
	return ""
}

func bakeRaw(program, recipe, out, cache string, more ...string) *exec.Cmd {
	return exec.Command(program, append([]string{"bake", recipe, "-o", out, "--cache", cache, "--format", "raw"}, more...)...)
}

// Where there is no network, not even loopback, a bake makes what it can from
// the cache and from images on this machine, and says all that it lacks.
func TestOffline(t *testing.T) {
	program, recipe, lock := demo(t)
	t.Run("with what it needs", func(t *testing.T) {
		cache := onlyBase(t, "3g")
		bake := bakeRaw(program, recipe, filepath.Join(cache, "out"), cache, "--offline")
		o := run(t, exec.Command("unshare", append([]string{"--net"}, bake.Args...)...))
		if o.code != 0 || !regexp.MustCompile(`(?m)^bake     containers +[0-9]`).MatchString(o.stderr) {
			t.Errorf("exit %d:\n%s", o.code, o.stderr)
		}
	})
	t.Run("with nothing", func(t *testing.T) {
		text, err := os.ReadFile(lock)
		if err != nil {
			t.Fatal(err)
		}
		packages, images := bytes.Count(text, []byte("[[package]]")), bytes.Count(text, []byte("[[image]]"))
		dir := t.TempDir()
		own := filepath.Join(dir, "own.toml") // without a mirror on this machine
		if err := os.WriteFile(own, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, "out")
		bake := bakeRaw(program, own, out, filepath.Join(dir, "cache"), "--offline", "--lock", lock)
		o := run(t, exec.Command("unshare", append([]string{"--net"}, bake.Args...)...))
		o.fails(t, 1, "baking offline: the cache .* lacks "+strconv.Itoa(packages)+" packages and "+strconv.Itoa(images)+" images", "with a network: prose-image bake ")
		for want, n := range map[string]int{`(?m)^  package \S+ \S+ \S+, .*, from http\S+$`: packages, `(?m)^  image docker.io/proseim/\S+, from registry \S+$`: images} {
			if got := len(regexp.MustCompile(want).FindAllString(o.stderr, -1)); got != n {
				t.Errorf("%d lines match %s, want %d:\n%.2000s", got, want, n, o.stderr)
			}
		}
		if files := left(t, dir); len(files) != 1 {
			t.Errorf("left behind: %q", files)
		}
	})
}

// A layer that was damaged in the cache is made anew, with a word, and the
// image is the same.
func TestDamagedLayer(t *testing.T) {
	program, recipe, _ := demo(t)
	cache := onlyBase(t, "4g")
	out := filepath.Join(cache, "out")
	if o := run(t, bakeRaw(program, recipe, out, cache)); o.code != 0 {
		t.Fatalf("exit %d:\n%s", o.code, o.stderr)
	}
	want := raw(t, out)
	if o := run(t, exec.Command(program, "cache", "verify", "--cache", cache)); o.code != 0 {
		t.Errorf("verify: exit %d:\n%s%s", o.code, o.stdout, o.stderr)
	}
	for _, c := range []struct {
		name, kind, says string
		damage           func(b []byte) []byte
	}{
		{"content", "agent", "its CRC-32C is ", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }},
		{"structure", "files", "invalid tar header", func(b []byte) []byte { b[1024+150] ^= 1; return b }},
		{"size", "containers", "it has [0-9]+ bytes, not ", func(b []byte) []byte { return b[:len(b)-512] }},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := layer(t, cache, c.kind)
			b, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, c.damage(b), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			v := run(t, exec.Command(program, "cache", "verify", "--cache", cache))
			if v.code != 3 || !strings.Contains(v.stdout, c.kind) {
				t.Errorf("verify: exit %d:\n%s", v.code, v.stdout)
			}
			if err := os.RemoveAll(out); err != nil {
				t.Fatal(err)
			}
			o := run(t, bakeRaw(program, recipe, out, cache))
			if o.code != 0 || !regexp.MustCompile(`(?m)^bake     `+c.kind+` +damaged  it is made anew: .*`+c.says).MatchString(o.stderr) {
				t.Errorf("exit %d:\n%s", o.code, o.stderr)
			}
			if got := raw(t, out); got != want {
				t.Errorf("the disk is %s, was %s", got, want)
			}
		})
	}
}

// Two bakes at a time share a cache and are killed again and again, in the
// middle of layers and disks. What they leave is sound, is nothing that
// cleaning up does not take, and is of use: BAKE_CRASHES says how many kills.
func TestKilledBakes(t *testing.T) {
	program, recipe, _ := demo(t)
	kills := 50
	if n, err := strconv.Atoi(os.Getenv("BAKE_CRASHES")); err == nil {
		kills = n
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	whole := onlyBase(t, "3g")
	if o := run(t, bakeRaw(program, recipe, filepath.Join(whole, "out"), whole)); o.code != 0 {
		t.Fatalf("exit %d:\n%s", o.code, o.stderr)
	}
	want := raw(t, filepath.Join(whole, "out"))

	cache := onlyBase(t, "4g")
	killed, ended := 0, 0
	for killed < kills {
		// Some layers are made in this round, and in some rounds only disks.
		records, _ := filepath.Glob(filepath.Join(cache, "layers", "*.json"))
		for _, path := range records {
			if kindOf(t, path) != "base" && random.IntN(2) == 0 {
				for _, file := range []string{path, strings.TrimSuffix(path, ".json") + ".tar"} {
					if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
						t.Fatal(err)
					}
				}
			}
		}
		var bakes []*exec.Cmd
		for _, out := range []string{"one", "two"} {
			c := bakeRaw(program, recipe, filepath.Join(cache, out), cache)
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			bakes = append(bakes, c)
		}
		for _, c := range bakes {
			time.Sleep(time.Duration(random.Int64N(int64(600 * time.Millisecond))))
			_ = c.Process.Kill()
		}
		for _, c := range bakes {
			_ = c.Wait()
			if c.ProcessState.Exited() {
				if ended++; c.ProcessState.ExitCode() != 0 {
					t.Fatalf("a bake failed: exit %d", c.ProcessState.ExitCode())
				}
			} else {
				killed++
			}
		}
	}
	t.Logf("killed %d bakes, %d had ended", killed, ended)
	if v := run(t, exec.Command(program, "cache", "verify", "--cache", cache)); v.code != 0 {
		t.Errorf("verify: exit %d:\n%s%s", v.code, v.stdout, v.stderr)
	}
	for _, out := range []string{"one", "two"} {
		out = filepath.Join(cache, out)
		if o := run(t, bakeRaw(program, recipe, out, cache)); o.code != 0 {
			t.Fatalf("exit %d:\n%s", o.code, o.stderr)
		}
		if got := raw(t, out); got != want {
			t.Errorf("the disk is %s, undisturbed it is %s", got, want)
		}
		for _, f := range left(t, out) {
			if name := filepath.Base(f); strings.HasPrefix(name, ".") {
				t.Errorf("left behind: %s", f)
			}
		}
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
	}
	if g := run(t, exec.Command(program, "cache", "gc", "--cache", cache)); g.code != 0 {
		t.Errorf("gc: exit %d:\n%s", g.code, g.stderr)
	}
	entry := regexp.MustCompile(`/(layers/[0-9a-f]{64}\.(tar|json)|blobs/sha256/[0-9a-f]{64})$`)
	for _, f := range left(t, cache) {
		if !entry.MatchString(f) {
			t.Errorf("cleaning up left %s", f)
		}
	}
	if v := run(t, exec.Command(program, "cache", "verify", "--cache", cache)); v.code != 0 {
		t.Errorf("verify: exit %d:\n%s%s", v.code, v.stdout, v.stderr)
	}
}
