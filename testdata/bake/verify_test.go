package bake

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// ordinary is a user with nothing but ids for a user namespace.
func ordinary(t *testing.T) *syscall.Credential {
	t.Helper()
	const name = "prose-image-test"
	if _, err := user.Lookup(name); err != nil {
		if out, err := exec.Command("useradd", "--no-create-home", "--home-dir=/nonexistent", name).CombinedOutput(); err != nil {
			t.Fatalf("making a user: %v\n%s", err, out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command("userdel", name).CombinedOutput(); err != nil {
				t.Errorf("removing the user: %v\n%s", err, out)
			}
		})
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// What root made, an ordinary user makes again from nothing but the packages:
// at another time, on another path, with another umask, time zone and locale,
// without a network. One byte that somebody changed in it is found, and the
// file it is in.
func TestVerifiedByAnOrdinaryUser(t *testing.T) {
	program, recipe, lock := demo(t)
	dir, err := os.MkdirTemp("/var/tmp", "prose-image-verify-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	image := filepath.Join(dir, "image")
	if r := run(t, exec.Command(program, "bake", recipe, "-o", image, "--format", "raw", "--offline", "--catalog", dir+"/catalog")); r.code != 0 {
		t.Fatalf("bake: %+v", r)
	}
	page, err := os.ReadFile(filepath.Join(top, "overlays/base/usr/share/prose/www/index.html"))
	if err != nil {
		t.Fatal(err)
	}
	change(t, filepath.Join(image, "prose-0-generic-amd64.raw"), page)

	if err := os.Remove(filepath.Join(image, "prose-0-amd64.spdx.json")); err != nil {
		t.Fatal(err)
	}

	for _, d := range []string{"src/bin", "src/testdata/recipes", "cache", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Dir(program)
	for from, to := range map[string]string{
		program: "src/bin", bin + "/prose-firstboot-linux-amd64": "src/bin", bin + "/pod": "src/bin", recipe: "src/testdata/recipes", lock: "src/testdata/recipes",
		userCache(t) + "/packages": "cache", userCache(t) + "/blobs": "cache",
	} {
		if out, err := exec.Command("cp", "-rL", from, filepath.Join(dir, to)).CombinedOutput(); err != nil {
			t.Fatalf("copying: %v\n%s", err, out)
		}
	}
	who := ordinary(t)
	if out, err := exec.Command("chown", "-R", strconv.Itoa(int(who.Uid))+":"+strconv.Itoa(int(who.Gid)), dir+"/src", dir+"/cache", dir+"/tmp").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	verify := func(who *syscall.Credential, cache string) outcome {
		cmd := exec.Command("sh", "-c", `umask 077 && exec "$@"`, "sh", dir+"/src/bin/prose-image", "verify", image, "src/testdata/recipes/demo.toml", "--offline", "--cache", cache)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "TZ=Pacific/Kiritimati", "LC_ALL=tr_TR.UTF-8", "TMPDIR=" + dir + "/tmp"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
		return run(t, cmd)
	}
	// What keeps an ordinary user from it is said.
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	cache := filepath.Join(dir, "nobody")
	if err := errors.Join(os.Mkdir(cache, 0o755), os.Symlink("../cache/packages", cache+"/packages"), os.Symlink("../cache/blobs", cache+"/blobs"), os.Chown(cache, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"/tmp", 0o777); err != nil {
		t.Fatal(err)
	}
	if r := verify(nobody, cache); r.code != 1 || !strings.Contains(r.stderr, "installing packages as nobody: no range of ids in /etc/subuid\n") || !strings.Contains(r.stderr, "hint: run as root, or allow user namespaces: ") {
		t.Errorf("nobody: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if err := os.Chmod(dir+"/tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	if r := verify(who, dir+"/cache"); r.code != 1 || !strings.Contains(r.stderr, "the users in the image cannot get to "+dir+"/tmp\n") || !strings.Contains(r.stderr, "hint: TMPDIR=/var/tmp") {
		t.Errorf("a private directory: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if err := os.Chmod(dir+"/tmp", 0o711); err != nil {
		t.Fatal(err)
	}
	r := verify(who, dir+"/cache")
	const want = "prose-0-generic-amd64.raw: /usr/share/prose/www/index.html: it is not the file of the manifest"
	if r.code != 3 || !strings.HasPrefix(r.stdout, want) || !strings.HasSuffix(r.stdout, "\nprose-0-amd64.spdx.json: it is not there\n") ||
		strings.Count(r.stdout, "\n") != 2 || !strings.Contains(r.stderr, "5 files compared, 2 differences") {
		t.Errorf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if left, _ := filepath.Glob(dir + "/cache/fresh-*"); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

// change changes one byte of the content in the file.
func change(t *testing.T, file string, content []byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := content[:4096] // contents begin at a block
	buf := make([]byte, 16<<20)
	for at := int64(0); ; at += int64(len(buf)) {
		n, err := f.ReadAt(buf, at)
		for b := 0; b+len(block) <= n; b += len(block) {
			if bytes.Equal(buf[b:b+len(block)], block) {
				if _, err := f.WriteAt([]byte{^block[99]}, at+int64(b)+99); err != nil {
					t.Fatal(err)
				}
				return
			}
		}
		if err != nil {
			t.Fatalf("the content is not in %s: %v", file, err)
		}
	}
}

// Somebody else's recipe or lock is told apart before anything is made.
func TestVerifyWithAnotherRecipe(t *testing.T) {
	program, recipe, lock := demo(t)
	dir := t.TempDir()
	if r := run(t, exec.Command(program, "bake", recipe, "-o", dir+"/image", "--format", "raw", "--offline", "--catalog", dir+"/catalog")); r.code != 0 {
		t.Fatalf("bake: %+v", r)
	}
	text, err := os.ReadFile(recipe)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte("oci:../../bin/pod"), []byte("oci:"+filepath.Join(filepath.Dir(program), "pod")))
	if err := os.WriteFile(dir+"/other.toml", append(text, "# more\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	r := run(t, exec.Command(program, "verify", dir+"/image", dir+"/other.toml", "--lock", lock))
	if r.code != 2 || !strings.Contains(r.stderr, "manifest.json is of another bake: the sha256 of the recipe") || !strings.Contains(r.stderr, "\nhint: give the recipe and the lock") || r.stdout != "" {
		t.Errorf("%+v", r)
	}
}
