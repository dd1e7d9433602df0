package machine

import (
	"bytes"
	"context"
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
)

// A Machine is a tree with processes, mounts, network and a host name of its
// own. It ends with the test.
type Machine struct {
	Dir  string // outside, on a file system that overlay2 can use
	Root string // the machine's root, as seen from outside
	Log  string // of its daemons
	Pid  int    // of its first process, as seen from outside

	t       testing.TB
	dockerd chan struct{}
}

// setup is the first process of the namespaces. It ends, and with it everything
// inside, when its standard input does. What is written to the root goes to
// memory, or to a device with an ext4 file system.
const setup = `set -e
root=$1 dir=$2
mount --make-rprivate /
if [ -n "$3" ]; then mount -t ext4 "$3" "$dir/top"; else mount -t tmpfs tmpfs "$dir/top"; fi
mkdir -p "$dir/top/upper" "$dir/top/work" "$dir/top/root"
chmod 755 "$dir/top" "$dir/top/upper"
mount -t overlay -o "lowerdir=$root,upperdir=$dir/top/upper,workdir=$dir/top/work" overlay "$dir/top/root"
data=$dir
ip link set lo up # up already, when it is the test's own
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

// Start starts a machine on a tree of [Debian]. Its engine begins with a copy
// of the store, a directory, unless that is empty. Its network has nothing but
// loopback.
func Start(t testing.TB, tree, store string) *Machine {
	t.Helper()
	return start(t, tree, store, "", syscall.CLONE_NEWNET)
}

// StartHere is Start with the network of the test, whose servers it reaches.
func StartHere(t testing.TB, tree string) *Machine {
	t.Helper()
	return start(t, tree, "", "", 0)
}

// StartOn is Start on a machine whose writes to its root go to "upper" of the
// ext4 file system on a device; those of its engine do not.
func StartOn(t testing.TB, tree, store, device string) *Machine {
	t.Helper()
	return start(t, tree, store, device, syscall.CLONE_NEWNET)
}

func start(t testing.TB, tree, store, device string, network uintptr) *Machine {
	t.Helper()
	dir, err := os.MkdirTemp(Cache(t), ".tmp-machine-")
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{Dir: dir, Log: filepath.Join(dir, "log"), t: t}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, d := range []string{"top", "docker", "containerd"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o711); err != nil {
			t.Fatal(err)
		}
	}
	if store != "" {
		if out, err := exec.Command("cp", "--archive", "--reflink=auto", store+"/.", m.Dir+"/docker").CombinedOutput(); err != nil {
			t.Fatalf("copying the engine's store: %v\n%s", err, out)
		}
	}
	cmd := exec.Command("sh", "-c", setup, "sh", tree, dir, device)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | network}
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
	m.Pid = cmd.Process.Pid
	m.Root = fmt.Sprintf("/proc/%d/root", m.Pid)
	group := "/sys/fs/cgroup/" + m.cgroup()
	t.Cleanup(func() {
		m.Try("sh", "-c", "[ ! -d "+group+" ] || find "+group+" -depth -type d -exec rmdir {} +")
	})
	return m
}

func (m *Machine) cgroup() string { return filepath.Base(m.Dir)[1:] }

// Command is a command inside.
func (m *Machine) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", fmt.Sprint(m.Pid), "-m", "-p", "-n", "-u"}, args...)...)
	cmd.WaitDelay = 5 * time.Second // when what it started outlives it
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"}
	return cmd
}

// Try runs a command inside, for at most three minutes, and returns what it
// wrote to both streams.
func (m *Machine) Try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out, err := m.Command(ctx, args...).CombinedOutput()
	return string(out), err
}

// Run is Try where the command has to succeed.
func (m *Machine) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := m.Try(args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", strings.Join(args, " "), err, out, m.tail())
	}
	return out
}

// tail is what daemons said last.
func (m *Machine) tail() []byte {
	b, _ := os.ReadFile(m.Log)
	return b[max(0, len(b)-3000):]
}

// Write makes a file inside, readable by all, with its directories.
func (m *Machine) Write(name, content string) {
	m.t.Helper()
	to := filepath.Join(m.Root, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(to, []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// Spawn starts a daemon and waits until the command ready says that it is
// there. The channel is closed at its end.
func (m *Machine) Spawn(ready []string, args ...string) chan struct{} {
	m.t.Helper()
	log, err := os.OpenFile(m.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := m.Command(context.Background(), args...)
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
		if _, err := m.Try(ready...); err == nil {
			return end
		}
		select {
		case <-end:
		case <-deadline:
		case <-time.After(50 * time.Millisecond):
			continue
		}
		m.t.Fatalf("waiting for %s: it ended, or nothing in a minute\n%s", args[0], m.tail())
	}
}

// StartContainerd starts what dockerd needs.
func (m *Machine) StartContainerd() {
	m.t.Helper()
	m.Spawn([]string{"test", "-S", "/run/containerd/containerd.sock"}, "containerd")
}

// StartDocker starts the engine.
func (m *Machine) StartDocker() {
	m.t.Helper()
	m.dockerd = m.Spawn([]string{"docker", "version"}, "dockerd", "--containerd", "/run/containerd/containerd.sock", "--cgroup-parent", m.cgroup())
}

// StopDocker ends the engine, in peace.
func (m *Machine) StopDocker() {
	m.t.Helper()
	m.Run(m.t, "sh", "-c", "kill $(cat /run/docker.pid)")
	select {
	case <-m.dockerd:
	case <-time.After(time.Minute):
		m.t.Fatal("waiting for dockerd to end: still there after a minute")
	}
}

// Inside runs f with the machine's network. What f opens stays there.
func (m *Machine) Inside(f func() error) error { return InNetwork(m.Pid, f) }

// InNetwork runs f with the network of a process.
func InNetwork(pid int, f func() error) error {
	done := make(chan error)
	go func() {
		// The thread dies with the goroutine: it never goes back.
		runtime.LockOSThread()
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
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

// Client asks from inside.
func (m *Machine) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: Dialer(m.Pid)}}
}

// Dialer makes connections in the network of a process.
func Dialer(pid int) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = InNetwork(pid, func() error {
			var d net.Dialer
			conn, err = d.DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}
