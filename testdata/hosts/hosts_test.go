// Package hosts bakes one recipe on two hosts and compares what comes out, byte
// by byte. It needs root, and what a bake of the demo recipe leaves in the
// cache.
package hosts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prose-im/prose-image/testdata/chroot"
)

const top = "../.."

// Debian 13 has other versions than Debian 12 of all that a bake starts:
// mmdebstrap, apt, dpkg, tar, the tools of user namespaces. On one side root
// bakes with this machine's tools and layers of earlier bakes; on the other an
// ordinary user bakes in Debian 13 from nothing but package files and container
// images, with another umask, time zone, locale, PATH, path and number of
// processors, and with directories whose files were made in the other order.
func TestTwoHosts(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "prose-image")
	other, err := chroot.Make(ctx, filepath.Join(cache, "chroot"), "trixie", []string{"mmdebstrap", "debian-archive-keyring", "passwd", "uidmap"})
	if err != nil {
		t.Fatal(err)
	}
	// Another run may be making the user at this moment.
	const baker = `id -u baker >/dev/null 2>&1 || useradd --no-create-home baker || sleep 1; id -u baker`
	if out, err := other.Command(ctx, nil, "sh", "-c", baker).CombinedOutput(); err != nil {
		t.Fatalf("making a user: %v\n%s", err, out)
	}

	dir, err := os.MkdirTemp("/var/tmp", "prose-image-hosts-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	here, there := filepath.Join(dir, "here"), filepath.Join(dir, "there")
	program(ctx, t, filepath.Join(dir, "bin"))
	names := slices.Sorted(maps.Keys(own))
	source(ctx, t, here, dir, names)
	slices.Reverse(names)
	source(ctx, t, there, dir, names)
	formats := []string{"--format", "raw", "--format", "qcow2", "--offline"}

	cmd := exec.CommandContext(ctx, filepath.Join(here, "bin/prose-image"), append([]string{"bake", "demo.toml", "-o", "out"}, formats...)...)
	cmd.Dir = filepath.Join(here, "recipe")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("baking on this machine: %v\n%s", err, out)
	}

	const at = "/srv/somewhere else"
	for _, d := range []string{"cache", "out"} {
		if err := os.Mkdir(filepath.Join(there, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const bake = `
for d in cache out; do chown baker "$1/$d"; done
cd "$1/recipe"
shift
exec setpriv --reuid=baker --regid=baker --clear-groups sh -ec 'umask 077; exec "$@"' sh "$@"`
	binds := []chroot.Bind{{From: there, To: at}, {From: filepath.Join(cache, "packages"), To: at + "/cache/packages"}, {From: filepath.Join(cache, "blobs"), To: at + "/cache/blobs"}}
	cmd = other.Command(ctx, binds, append([]string{"sh", "-ec", bake, "sh", at, "../bin/prose-image", "bake", "demo.toml", "-o", "../out", "--cache", "../cache"}, formats...)...)
	cmd.Env = []string{"PATH=/bin:/usr/bin:/sbin:/usr/sbin", "HOME=/nonexistent", "TZ=Pacific/Kiritimati", "LC_ALL=tr_TR.UTF-8", "TMPDIR=/var/tmp", "GOMAXPROCS=3"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("baking in Debian 13: %v\n%s", err, out)
	}

	want, got := sums(t, filepath.Join(here, "recipe/out")), sums(t, filepath.Join(there, "out"))
	if len(want) != 6 { // two disks, manifest, SBOM, provenance, sums
		t.Errorf("%d files were made: %v", len(want), want)
	}
	files := slices.AppendSeq(slices.Collect(maps.Keys(want)), maps.Keys(got))
	slices.Sort(files)
	for _, name := range slices.Compact(files) {
		if want[name] != got[name] {
			t.Errorf("%s: %q on this machine, %q in Debian 13", name, want[name], got[name])
		} else {
			t.Logf("%s %s", want[name], name)
		}
	}
	if !t.Failed() {
		return
	}
	// In which files of the image?
	cmd = exec.CommandContext(ctx, filepath.Join(here, "bin/prose-image"), "verify", filepath.Join(there, "out"), "demo.toml")
	cmd.Dir = filepath.Join(here, "recipe")
	out, err := cmd.CombinedOutput()
	t.Logf("%v: %v\n%s", cmd.Args, err, out)
}

// own are files of an overlay: names that sort differently by locale, and more
// of them than a directory's first block holds in order.
var own = func() map[string]string {
	files := map[string]string{"etc/own/I": "", "etc/own/ı": "", "etc/own/i": "", "etc/own/Ä": "", "etc/own/z": "", "usr/local/share/a-b/c": "", "usr/local/share/a/b": "", "usr/local/share/a.b": ""}
	for i := range 200 {
		files[fmt.Sprintf("usr/local/share/many/%x", sha256.Sum256([]byte{byte(i)}))] = ""
	}
	for name := range files {
		files[name] = name + "\n"
	}
	return files
}()

// program builds the program without C, whose libraries the other host may not
// have, and puts the agent beside it.
func program(ctx context.Context, t *testing.T, dir string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", dir+"/", "./cmd/prose-image")
	cmd.Dir = top
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	copyTo(ctx, t, dir, top+"/bin/prose-firstboot-linux-amd64")
}

// source makes the directories bin and recipe below dir: the program out of
// from, the demo's recipe and lock with an overlay, whose files are made in the
// order of names, and the container images.
func source(ctx context.Context, t *testing.T, dir, from string, names []string) {
	t.Helper()
	recipe := filepath.Join(dir, "recipe")
	if err := os.MkdirAll(recipe, 0o755); err != nil {
		t.Fatal(err)
	}
	copyTo(ctx, t, dir, filepath.Join(from, "bin"))
	copyTo(ctx, t, recipe, top+"/bin/pod", top+"/testdata/recipes/demo.lock")
	const text = "overlays = [\"own\"]\n[pod.mirror]\n\"docker.io/proseim\" = \"oci:pod\"\n"
	if err := os.WriteFile(filepath.Join(recipe, "demo.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := filepath.Join(recipe, "own", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(own[name]), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func copyTo(ctx context.Context, t *testing.T, dir string, from ...string) {
	t.Helper()
	if out, err := exec.CommandContext(ctx, "cp", append(append([]string{"-r"}, from...), dir)...).CombinedOutput(); err != nil {
		t.Fatalf("copying: %v\n%s", err, out)
	}
}

// sums are the sha256 of the files in dir, by name.
func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = hex.EncodeToString(h.Sum(nil))
	}
	return all
}
