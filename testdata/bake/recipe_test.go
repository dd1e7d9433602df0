package bake

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/testdata/oracle"
)

// archive makes a signed repository with one package and serves it. It gives
// its address, the key that signed it and one that did not.
func archive(t *testing.T) (address, key, other string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "gpg-") // for a socket, whose path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", dir, "--kill", "all").Run()
		os.RemoveAll(dir)
	})
	gpg := func(args ...string) {
		t.Helper()
		oracle.Run(t, append([]string{"gpg", "--homedir", dir, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	}
	repo, tree := filepath.Join(dir, "repo"), filepath.Join(dir, "tree")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	control := "Package: owners-extra\nVersion: 1.5\nArchitecture: all\nMaintainer: Test <test@example.org>\nDescription: a package of the owner's own\n"
	write(tree+"/DEBIAN/control", control)
	write(tree+"/usr/share/owners-extra/file", "of a repository\n")
	if err := os.MkdirAll(repo, 0o755); err != nil {
		t.Fatal(err)
	}
	deb := repo + "/owners-extra_1.5_all.deb"
	oracle.Run(t, "dpkg-deb", "--root-owner-group", "--build", tree, deb)
	sum := func(name string) (string, int) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(b)), len(b)
	}
	hash, size := sum(deb)
	write(repo+"/Packages", fmt.Sprintf("%sFilename: ./%s\nSize: %d\nSHA256: %s\n", control, filepath.Base(deb), size, hash))
	hash, size = sum(repo + "/Packages")
	date := time.Now().UTC().Add(-30 * 24 * time.Hour).Format(time.RFC1123) // the lock's is Debian's
	write(repo+"/Release", fmt.Sprintf("Origin: Owner\nDate: %s\nSHA256:\n %s %d Packages\n", date, hash, size))
	for _, who := range []string{"signer", "other"} {
		gpg("--quick-gen-key", who, "ed25519", "sign", "never")
		gpg("--armor", "--output", filepath.Join(dir, who+".asc"), "--export", who)
	}
	gpg("--local-user", "signer", "--clearsign", "--output", repo+"/InRelease", repo+"/Release")
	if err := os.Chmod(dir, 0o755); err != nil { // apt reads keys as a user of its own
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(repo))}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return "http://" + l.Addr().String(), dir + "/signer.asc", dir + "/other.asc"
}

// Packages of a repository of one's own are locked and installed, if its key is
// the one that was named. Scripts run after that, without a network; one that
// fails is an error, and leaves nothing. The kernel is the one that was asked
// for.
func TestOwnPackagesAndScripts(t *testing.T) {
	program, _, _ := demo(t)
	debian, err := builder.ReadLock(filepath.Join(top, "testdata/recipes/demo.lock"))
	if err != nil {
		t.Fatal(err)
	}
	address, key, other := archive(t)
	dir, err := os.MkdirTemp("/var/tmp", "prose-image-recipe-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil && !strings.Contains(string(mounts), dir) {
			os.RemoveAll(dir) // not when the machine's own may be mounted there
		}
	})
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	recipe := func(key string, run ...string) string {
		t.Helper()
		var mirrors []string
		for line := range strings.Lines(debian.Sources) {
			mirrors = append(mirrors, fmt.Sprintf("%q", strings.TrimSpace(line)))
		}
		mirrors = append(mirrors, fmt.Sprintf("%q", "deb [signed-by="+key+"] "+address+" ./"))
		write("own.toml", fmt.Sprintf("[base]\nkernel = \"generic\"\npackages = [\"owners-extra\"]\nmirrors = [%s]\nrun = [\"%s\"]\n\n[pod.mirror]\n\"docker.io/proseim\" = \"oci:%s\"\n",
			strings.Join(mirrors, ", "), strings.Join(run, `", "`), filepath.Join(filepath.Dir(program), "pod")))
		return filepath.Join(dir, "own.toml")
	}
	write("good", `#!/bin/sh
set -e
dpkg-query -W owners-extra > /usr/share/owners-extra/script
tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' >> /usr/share/owners-extra/script
`)
	write("bad", "#!/bin/sh\necho 'this went wrong' >&2\nexit 7\n")

	run(t, exec.Command(program, "lock", recipe(other, "good"))).fails(t, 1, "(NO_PUBKEY|not signed|verified)", "signed-by=")
	if _, err := os.Stat(dir + "/own.lock"); err == nil {
		t.Fatal("there is a lock of a repository that is not trusted")
	}
	own := recipe(key, "good")
	if o := run(t, exec.Command(program, "lock", own)); o.code != 0 {
		t.Fatalf("lock: exit %d:\n%s", o.code, o.stderr)
	}
	locked, err := builder.ReadLock(dir + "/own.lock")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, p := range locked.Packages {
		if p.Name == "owners-extra" && p.Version == "1.5" && strings.HasPrefix(p.URI, address) || strings.HasPrefix(p.Name, "linux-image-6") && !strings.Contains(p.Name, "cloud") {
			found++
		}
	}
	if found != 2 {
		t.Errorf("the lock has %d of the package and the kernel", found)
	}

	cache, temp := cacheWith(t, "packages", "blobs"), filepath.Join(dir, "tmp")
	if err := os.Mkdir(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	bake := func(recipe string) outcome {
		cmd := bakeRaw(program, recipe, dir+"/out", cache, "--catalog", dir+"/catalog")
		cmd.Env = append(os.Environ(), "TMPDIR="+temp)
		return run(t, cmd)
	}
	o := bake(recipe(key, "good", "bad"))
	o.fails(t, 1, "running script 2 of base.run: ", "have no network")
	if !strings.Contains(o.stderr, "\nthis went wrong\n") {
		t.Errorf("what the script printed is not told:\n%s", o.stderr)
	}
	if left, _ := filepath.Glob(dir + "/out/*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	r := append(remains(t, temp), left(t, cache)...)
	r = slices.DeleteFunc(r, func(path string) bool { return filepath.Dir(path) == cache+"/layers" })
	if len(r) != 2 { // the links
		t.Errorf("left behind: %q", r)
	}
	looksGood(t, cache+"/layers")
	if o := bake(recipe(key, "good")); o.code != 0 {
		t.Fatalf("exit %d:\n%s", o.code, o.stderr)
	}
	image := oracle.Root(t, dir+"/out/prose-0-generic-amd64.raw")
	for name, want := range map[string]string{
		"/usr/share/owners-extra/file":   "of a repository\n",
		"/usr/share/owners-extra/script": "owners-extra\t1.5\nlo\n",
	} {
		if got := oracle.Debugfs(t, image, "cat "+name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if boot := oracle.Debugfs(t, image, "ls -p /boot"); !strings.Contains(boot, "/vmlinuz-6") || strings.Contains(boot, "cloud") {
		t.Errorf("in /boot:\n%s", boot)
	}
}
