package overlays

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests below judge our files in a real Debian 13 with exactly our packages,
// a kernel, and our files over them, as a bake lays them. The packages are
// installed once and kept as a tar in the test cache (PROSE_TEST_CACHE, else the
// user's cache directory); each run of the tests unpacks it anew.
//
// As root, or in a user namespace with the caller's subordinate ids.

const kernel = "linux-image-cloud-" + runtime.GOARCH

// A machine is that Debian, unpacked.
type machine struct {
	once sync.Once
	dir  string
	err  error

	orphans []string // our files whose directory is neither Debian's nor ours
}

var debian13 machine

func TestMain(m *testing.M) {
	code := m.Run()
	if debian13.dir != "" {
		if out, err := inNamespace("rm", "-rf", debian13.dir).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "removing %s: %v: %s\n", debian13.dir, err, out)
			code = 1
		}
	}
	os.Exit(code)
}

// run runs a shell script in the machine, in namespaces of its own: no network
// but loopback, its own processes. It returns what was printed.
func run(t *testing.T, script string) (string, error) {
	t.Helper()
	debian13.once.Do(func() { debian13.err = debian13.make() })
	if debian13.err != nil {
		t.Fatal(debian13.err)
	}
	const enter = `set -e
mount --make-rprivate /
mount --bind "$0" "$0"
mount -t proc proc "$0/proc"
mount -t sysfs sysfs "$0/sys"
mount -t tmpfs tmpfs "$0/run"
mount --rbind /dev "$0/dev"
ip link set lo up
# Not chroot: whoever joins the namespace of a container in here would find
# himself outside.
cd "$0"
pivot_root . mnt
cd /
umount --lazy /mnt
exec /bin/sh -c "$1"`
	// The longest, with a real engine, takes a minute on an idle machine.
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	cmd := inNamespaceUntil(ctx, "sh", "-c", enter, debian13.dir, script)
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("waiting for a script in the machine: %w", ctx.Err())
	}
	return string(out), err
}

// mustRun is run where the script has to succeed.
func mustRun(t *testing.T, script string) string {
	t.Helper()
	out, err := run(t, script)
	if err != nil {
		t.Fatalf("%.200s\n%v\n%s", script, err, out)
	}
	return out
}

func (m *machine) make() error {
	for tool, pkg := range map[string]string{"mmdebstrap": "mmdebstrap", "unshare": "util-linux", "tar": "tar", "zstd": "zstd", "ip": "iproute2"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed: apt-get install %s", tool, pkg)
		}
	}
	base, err := installed()
	if err != nil {
		return err
	}
	if m.dir, err = os.MkdirTemp("", "prose-overlays-"); err != nil {
		return err
	}
	if err := os.Chmod(m.dir, 0o755); err != nil {
		return err
	}
	if out, err := inNamespace("tar", "--extract", "--zstd", "--numeric-owner", "--preserve-permissions",
		"--exclude=./dev/*", "--file", base, "--directory", m.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unpacking %s: %w: %s", base, err, out)
	}
	over, err := Base()
	if err != nil {
		return err
	}
	pod, err := Pod("default")
	if err != nil {
		return err
	}
	for _, d := range Deletions() {
		if out, err := inNamespace("rm", filepath.Join(m.dir, d)).CombinedOutput(); err != nil {
			return fmt.Errorf("deleting %s: %w: %s", d, err, out)
		}
	}
	ours := map[string]bool{}
	for _, f := range append(over, pod...) {
		ours[f.Path] = f.Type == Dir
		parent := filepath.Dir(f.Path)
		if s, err := os.Lstat(filepath.Join(m.dir, parent)); !ours[parent] && (err != nil || !s.IsDir()) {
			m.orphans = append(m.orphans, f.Path)
		}
	}
	archive, err := pack(append(over, pod...))
	if err != nil {
		return err
	}
	cmd := inNamespace("tar", "--extract", "--numeric-owner", "--preserve-permissions", "--no-overwrite-dir", "--keep-directory-symlink", "--directory", m.dir)
	cmd.Stdin = archive
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("unpacking our files: %w: %s", err, out)
	}
	for _, a := range Accounts() {
		add := fmt.Sprintf("groupadd --gid %d %s && useradd --uid %d --gid %d --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin %s",
			a.ID, a.Name, a.ID, a.ID, a.Name)
		if out, err := inNamespace("chroot", m.dir, "/bin/sh", "-c", add).CombinedOutput(); err != nil {
			return fmt.Errorf("making account %s: %w: %s", a.Name, err, out)
		}
	}
	return nil
}

// installed gives the path of a tar with our packages installed, and installs
// them if the cache has none. Other test processes wait for it.
func installed() (string, error) {
	cache := os.Getenv("PROSE_TEST_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("finding the test cache: %w", err)
		}
		cache = filepath.Join(dir, "prose-image", "test")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	early, err := Initrd()
	if err != nil {
		return "", err
	}
	archive, err := pack(early)
	if err != nil {
		return "", err
	}
	packages := strings.Join(append(Packages(runtime.GOARCH), kernel), ",")
	options, err := DpkgOptions()
	if err != nil {
		return "", err
	}
	args := []string{"--quiet", "--variant=apt", "--format=tar", "--mode=auto", "--architectures=" + runtime.GOARCH, "--include=" + packages}
	for _, o := range options {
		args = append(args, "--dpkgopt="+o)
	}
	h := sha256.New()
	fmt.Fprintln(h, args)
	h.Write(archive.Bytes())
	name := filepath.Join(cache, fmt.Sprintf("trixie-%x.tar.zst", h.Sum(nil)[:8]))

	lock, err := os.Create(filepath.Join(cache, "trixie.lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("waiting for %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	work, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil {
		return "", err
	}
	ours := filepath.Join(work, "initrd.tar")
	if err := os.WriteFile(ours, archive.Bytes(), 0o644); err != nil {
		return "", err
	}
	made, err := os.Create(filepath.Join(work, "root.tar"))
	if err != nil {
		return "", err
	}
	defer made.Close()
	cmd := exec.Command("mmdebstrap", append(args, "--setup-hook=tar-in "+ours+" /", "trixie", "-")...)
	cmd.Stdout = made
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("installing %s: %w\n%s", packages, err, &said)
	}
	if out, err := exec.Command("zstd", "--quiet", "-3", "-T0", made.Name(), "-o", made.Name()+".zst").CombinedOutput(); err != nil {
		return "", fmt.Errorf("compressing %s: %w: %s", made.Name(), err, out)
	}
	return name, os.Rename(made.Name()+".zst", name)
}

// inNamespace is a command as root with mounts, processes and network of its
// own. A caller who is not root becomes it in a user namespace.
func inNamespace(args ...string) *exec.Cmd {
	return inNamespaceUntil(context.Background(), args...)
}

func inNamespaceUntil(ctx context.Context, args ...string) *exec.Cmd {
	unshare := []string{"--mount", "--pid", "--fork", "--kill-child", "--net"}
	if os.Getuid() != 0 {
		unshare = append(unshare, "--user", "--map-root-user", "--map-auto")
	}
	return exec.CommandContext(ctx, "unshare", append(unshare, args...)...)
}

// pack makes a tar of files.
func pack(files []File) (*bytes.Buffer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.Path, Mode: int64(f.Mode), Uid: int(f.UID), Gid: int(f.GID), Linkname: f.Link, Size: int64(len(f.Content))}
		switch f.Type {
		case Regular:
			h.Typeflag = tar.TypeReg
		case Dir:
			h.Typeflag = tar.TypeDir
		case Symlink:
			h.Typeflag = tar.TypeSymlink
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("packing %s: %w", f.Path, err)
		}
		if _, err := io.Copy(w, bytes.NewReader(f.Content)); err != nil {
			return nil, fmt.Errorf("packing %s: %w", f.Path, err)
		}
	}
	return &b, w.Close()
}
