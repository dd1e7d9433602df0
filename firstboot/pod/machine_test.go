package pod_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/testdata/pod/image"
)

// A machine is a Debian 13 with Docker in namespaces of its own, and a network
// that has nothing but loopback, the containers and a registry with the pod
// double. It ends with the test.
type machine struct {
	t    *testing.T
	dir  string // on a file system that overlay2 can use
	init *os.Process
	root string // the machine's root, as seen from here
	log  string // of dockerd
	end  chan struct{}
}

// The packages and the key are those of builder/dockerstore/dockerdtest, so that
// one tree serves both.
var packages = []string{"ca-certificates", "containerd", "docker-cli", "docker-compose", "docker.io"}

const suite = "trixie"

func debian(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test starts a real dockerd: run it as root")
	}
	for tool, pkg := range map[string]string{"mmdebstrap": "mmdebstrap", "nsenter": "util-linux", "ip": "iproute2"} {
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
	key := sha256.Sum256([]byte(suite + " " + strings.Join(packages, " ")))
	root := filepath.Join(cache, fmt.Sprintf("debian-docker-%x", key[:6]))
	if _, err := os.Stat(root); err == nil {
		return root
	}
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
	// Another test may have been first; its tree is as good.
	if err := os.Rename(filepath.Join(tmp, "root"), root); err != nil {
		if _, err := os.Stat(root); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// setup is the first process of the namespaces. It ends, and with it everything
// inside, when its standard input does. What is written to the root goes to
// memory.
const setup = `set -e
root=$1 dir=$2
mount --make-rprivate /
mount -t tmpfs tmpfs "$dir/top"
mkdir "$dir/top/upper" "$dir/top/work" "$dir/top/root"
mount -t overlay -o "lowerdir=$root,upperdir=$dir/top/upper,workdir=$dir/top/work" overlay "$dir/top/root"
data=$dir
ip link set lo up
cd "$dir/top/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p etc/docker var/lib/docker var/lib/containerd
mount --bind "$data/docker" var/lib/docker
mount --bind "$data/containerd" var/lib/containerd
# Not chroot: the engine joins namespaces of containers.
pivot_root . mnt
cd /
echo ready
read end || true
`

func start(t *testing.T) *machine {
	t.Helper()
	tree := debian(t)
	dir, err := os.MkdirTemp(filepath.Dir(tree), ".tmp-pod-")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, log: filepath.Join(dir, "log")}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, d := range []string{"top", "docker", "containerd"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o711); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-c", setup, "sh", tree, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatalf("making namespaces: %v", err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("mounting inside the namespaces: %v\n%s", err, said.String())
	}
	m.init = cmd.Process
	m.root = fmt.Sprintf("/proc/%d/root", m.init.Pid)
	group := "/sys/fs/cgroup/" + m.cgroup()
	t.Cleanup(func() {
		m.try("sh", "-c", "[ ! -d "+group+" ] || find "+group+" -depth -type d -exec rmdir {} +")
	})
	return m
}

func (m *machine) cgroup() string { return filepath.Base(m.dir)[1:] }

func (m *machine) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", fmt.Sprint(m.init.Pid), "-m", "-p", "-n"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"}
	return cmd
}

func (m *machine) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out, err := m.command(ctx, args...).CombinedOutput()
	return string(out), err
}

func (m *machine) run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := m.try(args...)
	if err != nil {
		b, _ := os.ReadFile(m.log)
		t.Fatalf("%s: %v\n%s\n%s", strings.Join(args, " "), err, out, b[max(0, len(b)-3000):])
	}
	return out
}

func (m *machine) write(name, content string) {
	m.t.Helper()
	to := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(to, []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// spawn starts a daemon and waits until it is there.
func (m *machine) spawn(ready []string, args ...string) chan struct{} {
	m.t.Helper()
	log, err := os.OpenFile(m.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := m.command(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	end := make(chan struct{})
	go func() {
		cmd.Wait()
		log.Close()
		close(end)
	}()
	deadline := time.After(time.Minute)
	for {
		if _, err := m.try(ready...); err == nil {
			return end
		}
		select {
		case <-end:
		case <-deadline:
		case <-time.After(100 * time.Millisecond):
			continue
		}
		b, _ := os.ReadFile(m.log)
		m.t.Fatalf("waiting for %s: it ended, or nothing in a minute\n%s", args[0], b[max(0, len(b)-3000):])
	}
}

func (m *machine) startDocker() {
	m.t.Helper()
	m.end = m.spawn([]string{"docker", "version"}, "dockerd", "--containerd", "/run/containerd/containerd.sock", "--cgroup-parent", m.cgroup())
}

func (m *machine) stopDocker() {
	m.t.Helper()
	m.run(m.t, "sh", "-c", "kill $(cat /run/docker.pid)")
	select {
	case <-m.end:
	case <-time.After(time.Minute):
		m.t.Fatal("waiting for dockerd to end: still there after a minute")
	}
}

// inside runs f with the machine's network. What f opens stays there.
func (m *machine) inside(f func() error) error {
	done := make(chan error)
	go func() {
		// The thread dies with the goroutine: it never goes back.
		runtime.LockOSThread()
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", m.init.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func (m *machine) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = m.inside(func() error {
			var d net.Dialer
			conn, err = d.DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}}}
}

// serve makes the pod double's images and hands them out inside, at an address
// that it returns.
func (m *machine) serve() (string, []image.Image) {
	m.t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		m.t.Fatal(err)
	}
	images, err := image.Build(m.t.Context(), image.Config{Cache: filepath.Join(cache, "prose-image", "pod"), Arches: []string{runtime.GOARCH}})
	if err != nil {
		m.t.Fatal(err)
	}
	outer, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	filled := make(chan error, 2)
	go func() {
		filled <- image.Serve(m.t.Context(), outer, images, func() error { filled <- nil; return nil })
	}()
	if err := <-filled; err != nil {
		m.t.Fatal(err)
	}
	var inner net.Listener
	if err := m.inside(func() (err error) { inner, err = net.Listen("tcp", "127.0.0.1:0"); return err }); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { inner.Close() })
	go func() {
		for {
			in, err := inner.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", outer.Addr().String())
			if err != nil {
				in.Close()
				continue
			}
			go func() { io.Copy(out, in); out.Close() }()
			go func() { io.Copy(in, out); in.Close() }()
		}
	}()
	return inner.Addr().String(), images
}

// daemon is the image's own daemon.json, with a mirror for Docker's registry.
func daemon(t *testing.T, mirror string) string {
	t.Helper()
	b, err := os.ReadFile("../../overlays/base/etc/docker/daemon.json")
	if err != nil {
		t.Fatal(err)
	}
	var conf map[string]any
	if err := json.Unmarshal(b, &conf); err != nil {
		t.Fatal(err)
	}
	conf["registry-mirrors"] = []string{"http://" + mirror}
	b, err = json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
