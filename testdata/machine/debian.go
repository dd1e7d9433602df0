// Package machine gives tests a Debian 13 in namespaces of its own, with Docker
// and whatever packages they name: real programs at native speed, and nothing
// of it is left when the test ends.
package machine

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const suite = "trixie"

// Docker is the packages of an engine with Compose.
var Docker = []string{"ca-certificates", "containerd", "docker-cli", "docker-compose", "docker.io"}

// Cache is the directory for what is slow to make: PROSE_TEST_CACHE, else one
// in the user's cache.
func Cache(t testing.TB) string {
	t.Helper()
	cache := os.Getenv("PROSE_TEST_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "prose-image", "test")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(cache, &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		t.Fatalf("%s is on overlayfs, on which overlay2 cannot work: set PROSE_TEST_CACHE to a directory on ext4, xfs or tmpfs", cache)
	}
	sweep(cache)
	return cache
}

// sweep removes what tests that were killed have left.
func sweep(cache string) {
	left, _ := filepath.Glob(filepath.Join(cache, ".tmp-*"))
	for _, dir := range left {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			os.RemoveAll(dir)
		}
	}
}

// Debian gives the path of a tree with Docker and these packages, and makes it
// when the cache has none. Nobody may write to it.
func Debian(t testing.TB, packages ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test starts a real dockerd: run it as root")
	}
	for tool, pkg := range map[string]string{"mmdebstrap": "mmdebstrap", "nsenter": "util-linux", "ip": "iproute2"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt-get install %s", tool, pkg)
		}
	}
	packages = append(slices.Clone(Docker), packages...)
	key := sha256.Sum256([]byte(suite + " " + strings.Join(packages, " ")))
	return once(t, fmt.Sprintf("debian-docker-%x", key[:6]), func(dir string) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, "mmdebstrap", "--variant=apt", "--include="+strings.Join(packages, ","), suite, dir).CombinedOutput()
		if err != nil {
			t.Fatalf("making a Debian tree: %v\n%s", err, out)
		}
	})
}

// Programs gives the path of a tree with the files of these packages of Debian
// 13 and of what they need, and makes it when the cache has none: see
// [Program]. Nothing is set up, and no script has run.
func Programs(t testing.TB, packages ...string) string {
	t.Helper()
	key := sha256.Sum256([]byte(suite + " " + strings.Join(packages, " ")))
	return once(t, fmt.Sprintf("debian-programs-%x", key[:6]), func(dir string) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, "mmdebstrap", "--variant=extract", "--include="+strings.Join(packages, ","), suite, dir).CombinedOutput()
		if err != nil {
			t.Fatalf("fetching programs of Debian 13: %v\n%s", err, out)
		}
	})
}

// Program is the command that runs a program of such a tree here: by its own
// loader, with its own libraries. name is its path in the tree.
func Program(tree, name string, args ...string) *exec.Cmd {
	libraries, loader := "usr/lib/x86_64-linux-gnu", "ld-linux-x86-64.so.2"
	if runtime.GOARCH == "arm64" {
		libraries, loader = "usr/lib/aarch64-linux-gnu", "ld-linux-aarch64.so.1"
	}
	libraries = filepath.Join(tree, libraries)
	return exec.Command(filepath.Join(libraries, loader), append([]string{"--library-path", libraries, filepath.Join(tree, name)}, args...)...)
}

// once gives the path of a directory in the cache, and has it made when it is
// not there.
func once(t testing.TB, name string, fill func(dir string)) string {
	t.Helper()
	cache := Cache(t)
	dir := filepath.Join(cache, name)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	temp, err := os.MkdirTemp(cache, ".tmp-"+name+"-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(temp)
	fill(filepath.Join(temp, "made"))
	// Another test may have been first; its directory is as good.
	if err := os.Rename(filepath.Join(temp, "made"), dir); err != nil {
		if _, err := os.Stat(dir); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
