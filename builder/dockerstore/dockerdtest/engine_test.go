package dockerdtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// packages is what the Debian 13 tree holds beside Essential and apt.
var packages = []string{"ca-certificates", "containerd", "docker-cli", "docker-compose", "docker.io"}

const suite = "trixie"

// overlayMagic is OVERLAYFS_SUPER_MAGIC (linux/magic.h).
const overlayMagic = 0x794c7630

// debian returns the root of a Debian 13 tree with Docker. It is made once for
// each list of packages, below PROSE_TEST_CACHE or the user's cache directory.
func debian(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test starts a real dockerd: run it as root")
	}
	for tool, pkg := range map[string]string{"mmdebstrap": "mmdebstrap", "nsenter": "util-linux"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: apt-get install %s", tool, pkg)
		}
	}
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
	var fs syscall.Statfs_t
	if err := syscall.Statfs(cache, &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type == overlayMagic {
		t.Fatalf("%s is on overlayfs, on which overlay2 cannot work: set PROSE_TEST_CACHE to a directory on ext4, xfs or tmpfs", cache)
	}
	sweep(cache)
	key := sha256.Sum256([]byte(suite + " " + strings.Join(packages, " ")))
	root := filepath.Join(cache, fmt.Sprintf("debian-docker-%x", key[:6]))
	if _, err := os.Stat(root); err == nil {
		return root
	}
	t.Logf("making %s with mmdebstrap", root)
	tmp, err := os.MkdirTemp(cache, ".tmp-debian-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "mmdebstrap", "--variant=apt", "--include="+strings.Join(packages, ","),
		suite, filepath.Join(tmp, "root")).CombinedOutput()
	if err != nil {
		t.Fatalf("making a Debian tree: %v\n%s", err, out)
	}
	// Another test may have been first; then the rename fails and its tree is as good.
	if err := os.Rename(filepath.Join(tmp, "root"), root); err != nil {
		if _, err := os.Stat(root); err != nil {
			t.Fatal(err)
		}
	}
	return root
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

// A machine is a pair of namespaces, for mounts and processes, in which a
// Debian tree runs an engine. All of it ends with the test.
type machine struct {
	t    *testing.T
	root string // the tree; its changing directories are mounts from elsewhere
	data string // what is /var/lib/docker inside
	dir  string // for logs
	init *os.Process

	cgroup string // above the containers' own

	containerd, dockerd *process
}

// setup is the first process of the namespaces. It ends, and with it
// everything inside, when its standard input does.
const setup = `set -e
root=$1 dir=$2
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mkdir -p "$root/etc/docker" "$root/var/lib/docker" "$root/var/lib/containerd"
for d in etc/docker var/lib/docker var/lib/containerd; do mount --bind "$dir/$d" "$root/$d"; done
mount -t proc proc "$root/proc"
echo ready
read end || true
`

// daemon.json: no network of its own, so nothing of the host is changed.
const daemonJSON = `{"bridge": "none", "iptables": false, "ip6tables": false, "storage-driver": "overlay2"}`

func start(t *testing.T, root string) *machine {
	t.Helper()
	// Beside the tree, so that it is on a file system that overlay2 can use.
	dir, err := os.MkdirTemp(filepath.Dir(root), ".tmp-machine-")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, root: root, dir: dir, data: filepath.Join(dir, "var/lib/docker"),
		cgroup: filepath.Base(dir)[1:]}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, d := range []string{"etc/docker", "var/lib/docker", "var/lib/containerd"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/docker/daemon.json"), []byte(daemonJSON), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", setup, "sh", root, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("making namespaces: %v", err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	line := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(stdout, line); err != nil {
		t.Fatalf("mounting inside the namespaces: %v\n%s", err, stderr.String())
	}
	m.init = cmd.Process
	t.Cleanup(func() { m.try("rmdir", "/sys/fs/cgroup/"+m.cgroup) })
	m.containerd = m.spawn("containerd")
	m.await("containerd's socket", m.containerd, func() bool {
		return m.try("test", "-S", "/run/containerd/containerd.sock") == nil
	})
	return m
}

// command is a command inside.
func (m *machine) command(ctx context.Context, args ...string) *exec.Cmd {
	enter := []string{"-t", fmt.Sprint(m.init.Pid), "-m", "-p", "chroot", m.root}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"}
	return cmd
}

func (m *machine) try(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return m.command(ctx, args...).Run()
}

// run runs a command inside and returns what it writes.
func (m *machine) run(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := m.command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s\n%s", strings.Join(args, " "), err, out.String(), errs.String(), m.dockerd.tail())
	}
	return out.String()
}

func (m *machine) docker(t testing.TB, args ...string) string {
	t.Helper()
	return m.run(t, append([]string{"docker"}, args...)...)
}

// A process is a daemon inside.
type process struct {
	log  string
	done chan struct{}
}

func (p *process) tail() string {
	if p == nil {
		return ""
	}
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-4096):])
}

func (m *machine) spawn(args ...string) *process {
	m.t.Helper()
	p := &process{log: filepath.Join(m.dir, args[0]+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := m.command(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		log.Close()
		close(p.done)
	}()
	return p
}

func (m *machine) await(what string, p *process, ready func() bool) {
	m.t.Helper()
	deadline := time.After(time.Minute)
	for !ready() {
		select {
		case <-p.done:
			m.t.Fatalf("waiting for %s: its process ended\n%s", what, p.tail())
		case <-deadline:
			m.t.Fatalf("waiting for %s: nothing in a minute\n%s", what, p.tail())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (m *machine) startDocker() {
	m.t.Helper()
	m.dockerd = m.spawn("dockerd", "--containerd", "/run/containerd/containerd.sock", "--cgroup-parent", m.cgroup)
	m.await("dockerd", m.dockerd, func() bool { return m.try("docker", "version") == nil })
}

func (m *machine) stopDocker() {
	m.t.Helper()
	m.run(m.t, "sh", "-c", "kill $(cat /run/docker.pid)")
	select {
	case <-m.dockerd.done:
	case <-time.After(time.Minute):
		m.t.Fatalf("waiting for dockerd to end: still there after a minute\n%s", m.dockerd.tail())
	}
}
