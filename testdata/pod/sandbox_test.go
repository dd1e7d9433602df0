package pod

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/testdata/pod/image"
)

// The tests run in three generations of one binary. The first builds the images,
// with the network. It starts the second in a network and mount namespace of its
// own (and a user namespace unless it is root), where the tests run. That starts
// a third for each container, which becomes the container's program.
const (
	envImages    = "POD_TEST_IMAGES"
	envContainer = "POD_TEST_CONTAINER"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(envContainer) != "":
		fmt.Fprintln(os.Stderr, becomeContainer())
		os.Exit(125)
	case os.Getenv(envImages) != "":
		os.Exit(inside(m))
	}
	code, err := outside()
	if err != nil {
		fmt.Fprintln(os.Stderr, "preparing the tests:", err)
		code = 1
	}
	os.Exit(code)
}

// outside builds the images and runs the tests in namespaces.
func outside() (int, error) {
	for _, tool := range []string{"unshare", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			return 1, fmt.Errorf("%s is not installed: apt-get install util-linux iproute2 uidmap mmdebstrap", tool)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return 1, err
	}
	images, err := image.Build(context.Background(), image.Config{Cache: filepath.Join(cache, "prose-image", "pod"), Progress: os.Stderr})
	if err != nil {
		return 1, err
	}
	// Not a directory that only root may enter: the containers have other users.
	dir, err := os.MkdirTemp("", "pod-test-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return 1, err
	}
	if err := image.WriteLayout(filepath.Join(dir, "images"), images); err != nil {
		return 1, err
	}
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	args := []string{"--net", "--mount", "--propagation=private"}
	if os.Getuid() != 0 {
		args = append(args, "--user", "--map-root-user", "--map-auto")
	}
	cmd := exec.Command("unshare", append(append(args, "--", self), os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), envImages+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	// What the tests left belongs to the users of the namespace.
	return 0, err
}

// roots are the unpacked images, by the last part of their names.
var roots = map[string]root{}

type root struct {
	dir    string
	config v1.Config
}

// inside unpacks the images and runs the tests.
func inside(m *testing.M) int {
	dir := os.Getenv(envImages)
	if err := unpack(dir); err != nil {
		fmt.Fprintln(os.Stderr, "unpacking the images:", err)
		return 1
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "preparing the network: %v\n%s", err, out)
		return 1
	}
	defer os.RemoveAll(filepath.Join(dir, "roots"))
	return m.Run()
}

func unpack(dir string) error {
	index, err := layout.ImageIndexFromPath(filepath.Join(dir, "images"))
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range manifest.Manifests {
		reference := d.Annotations["org.opencontainers.image.ref.name"]
		name, _, _ := strings.Cut(reference[strings.LastIndexByte(reference, '/')+1:], ":")
		inner, err := index.ImageIndex(d.Digest)
		if err != nil {
			return err
		}
		list, err := inner.IndexManifest()
		if err != nil {
			return err
		}
		img, err := inner.Image(list.Manifests[0].Digest)
		if err != nil {
			return err
		}
		file, err := img.ConfigFile()
		if err != nil {
			return err
		}
		r := root{dir: filepath.Join(dir, "roots", name), config: file.Config}
		content := mutate.Extract(img)
		err = untar(content, r.dir)
		content.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		// As the engine does before it mounts over them.
		for _, file := range []string{"etc/hosts", "etc/resolv.conf", "etc/hostname"} {
			if err := os.WriteFile(filepath.Join(r.dir, file), nil, 0o644); err != nil {
				return err
			}
		}
		for _, dir := range []string{"proc", "dev", "sys", "etc/prose", "var/lib/prose-pod-api", "var/lib/prose-pod-server", "etc/prosody"} {
			if err := os.MkdirAll(filepath.Join(r.dir, dir), 0o755); err != nil {
				return err
			}
		}
		roots[name] = r
	}
	return nil
}

func untar(r io.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// Upper layers come first in an extracted image: directories below may come
	// after what is in them.
	modes := map[string]fs.FileMode{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		name := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			if err := os.MkdirAll(name, 0o755); err != nil {
				return err
			}
			modes[name] = h.FileInfo().Mode()
		case tar.TypeSymlink:
			if err := os.Symlink(h.Linkname, name); err != nil {
				return err
			}
		case tar.TypeLink:
			if err := os.Link(filepath.Join(dir, h.Linkname), name); err != nil {
				return err
			}
		case tar.TypeReg:
			f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			_, err = io.Copy(f, tr)
			err = errors.Join(err, f.Chmod(h.FileInfo().Mode()), f.Close())
			if err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s: type %q", h.Name, h.Typeflag)
		}
		if err := os.Lchown(name, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	for name, mode := range modes {
		if err := os.Chmod(name, mode); err != nil {
			return err
		}
	}
	return nil
}

// A spec is what the third generation needs to become a container.
type spec struct {
	Root  string
	Uid   int
	Args  []string
	Env   []string
	Dir   string
	Binds map[string]string // path in the container to path on the host
}

// becomeContainer sets up the mounts, drops rights and executes the program. It
// returns only when that fails.
func becomeContainer() error {
	var s spec
	if err := json.Unmarshal([]byte(os.Getenv(envContainer)), &s); err != nil {
		return err
	}
	// Until the other side has put the network in place.
	if _, err := io.ReadAll(os.NewFile(3, "ready")); err != nil {
		return err
	}
	mount := func(source, target, kind string, flags uintptr, data string) error {
		if err := unix.Mount(source, filepath.Join(s.Root, target), kind, flags, data); err != nil {
			return fmt.Errorf("mounting %s: %w", target, err)
		}
		return nil
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	// The root is read-only: the programs must not need more than the engine's
	// volumes and what lies in memory.
	err := mount(s.Root, "", "", unix.MS_BIND|unix.MS_REC, "")
	if err == nil {
		err = mount("proc", "proc", "proc", 0, "")
	}
	if err == nil {
		err = mount("tmpfs", "dev", "tmpfs", 0, "mode=755")
	}
	if err != nil {
		return err
	}
	for _, node := range []string{"null", "zero", "full", "random", "urandom"} {
		if err := os.WriteFile(filepath.Join(s.Root, "dev", node), nil, 0o666); err != nil {
			return err
		}
		if err := mount("/dev/"+node, "dev/"+node, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	info, statErr := os.Stat(filepath.Join(s.Root, "run/prosody"))
	err = errors.Join(mount("tmpfs", "tmp", "tmpfs", 0, "mode=1777"), mount("tmpfs", "run", "tmpfs", 0, "mode=755"))
	if err != nil {
		return err
	}
	if statErr == nil {
		dir := filepath.Join(s.Root, "run/prosody")
		owner := info.Sys().(*syscall.Stat_t)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, int(owner.Uid), int(owner.Gid))); err != nil {
			return err
		}
	}
	for target, source := range s.Binds {
		if err := mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	if err := mount("", "", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return err
	}
	if err := errors.Join(unix.Chroot(s.Root), unix.Chdir(s.Dir)); err != nil {
		return err
	}
	program := s.Args[0]
	for _, dir := range []string{"/usr/local/bin", "/usr/bin"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err == nil {
			program = filepath.Join(dir, program)
			break
		}
	}
	err = errors.Join(
		syscall.Setgroups(nil), syscall.Setgid(s.Uid), syscall.Setuid(s.Uid),
		unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
	)
	if err != nil {
		return err
	}
	return syscall.Exec(program, s.Args, s.Env)
}

// A pod is one set of the four containers on a bridge of its own, with the
// directories that the appliance gives them.
type pod struct {
	t      *testing.T
	dir    string // root of the host's directories
	number int    // of the bridge
	env    []string

	mu         sync.Mutex // guards which containers run, and their addresses
	containers map[string]*container
	dns        net.PacketConn
}

// A container is one service. Its zero address is not assigned.
type container struct {
	pod   *pod
	name  string // of the service
	image string
	alias string
	uid   int
	binds []string // absolute paths, the same on both sides
	last  byte     // of the address

	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{} // closed when the process has ended
}

var pods atomic.Int32

// uid is that of the account prose on the appliance.
const uid = 1001

const minimal = "[server]\ndomain = \"test.local\"\n"

// newPod makes the tree of a fresh installation with the minimal configuration.
func newPod(t *testing.T) *pod {
	t.Helper()
	p := &pod{t: t}
	p.number = int(pods.Add(1))
	p.dir = filepath.Join(os.Getenv(envImages), fmt.Sprintf("pod%d", p.number))
	for _, dir := range []string{"/etc/prose", "/etc/prosody", "/etc/prosody/certs", "/var/lib/prosody", "/var/lib/prose-pod-api", "/var/lib/prose-pod-server"} {
		p.must(os.MkdirAll(p.path(dir), 0o755))
		p.must(os.Chmod(p.path(dir), 0o750))
		p.must(os.Chown(p.path(dir), uid, uid))
	}
	p.write("/var/lib/prose-pod-api/database.sqlite", "")
	p.write("/etc/prose/prose.toml", minimal)
	p.must(os.WriteFile(p.path("/hosts"), []byte("127.0.0.1 localhost\n"), 0o644))
	p.must(os.WriteFile(p.path("/resolv.conf"), []byte("nameserver "+p.address(1)+"\n"), 0o644))

	bridge := p.bridge()
	// A bridge without an address of its own takes that of a port, and another
	// one when the port goes.
	p.run("ip", "link", "add", bridge, "address", p.hardware(1), "type", "bridge")
	p.run("ip", "address", "add", p.address(1)+"/24", "dev", bridge)
	p.run("ip", "link", "set", bridge, "up")
	p.must(p.resolve())

	p.containers = map[string]*container{}
	p.add("server", "prose-pod-server", uid, 2, "/etc/prose", "/var/lib/prose-pod-server", "/etc/prosody", "/var/lib/prosody")
	p.add("api", "prose-pod-api", uid, 3, "/etc/prose", "/etc/prosody", "/var/lib/prose-pod-api")
	p.add("dashboard", "prose-pod-dashboard", 0, 4)
	p.add("app", "prose-app-web", 0, 5)
	t.Cleanup(p.close)
	return p
}

func (p *pod) add(name, image string, uid int, last byte, binds ...string) {
	p.containers[name] = &container{pod: p, name: name, image: image, alias: image, uid: uid, last: last, binds: binds, log: &logBuffer{}}
}

func (p *pod) bridge() string           { return fmt.Sprintf("pod%d", p.number) }
func (p *pod) path(name string) string  { return filepath.Join(p.dir, name) }
func (p *pod) address(last byte) string { return fmt.Sprintf("172.30.%d.%d", p.number, last) }

// hardware is the MAC address that goes with an IP address.
func (p *pod) hardware(last byte) string {
	return fmt.Sprintf("02:00:00:00:%02x:%02x", p.number, last)
}

func (p *pod) must(err error) {
	if err != nil {
		p.t.Helper()
		p.t.Fatal(err)
	}
}

func (p *pod) run(args ...string) {
	p.t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// write writes a file that the Pod's user owns.
func (p *pod) write(name, text string) {
	p.t.Helper()
	p.must(os.MkdirAll(filepath.Dir(p.path(name)), 0o750))
	p.must(os.WriteFile(p.path(name), []byte(text), 0o640))
	p.must(os.Chown(p.path(name), uid, uid))
}

func (p *pod) read(name string) string {
	p.t.Helper()
	text, err := os.ReadFile(p.path(name))
	p.must(err)
	return string(text)
}

func (p *pod) close() {
	for _, c := range p.containers {
		c.kill()
		if p.t.Failed() {
			p.t.Logf("log of %s:\n%s", c.name, c.log)
		}
	}
	p.dns.Close()
	p.run("ip", "link", "delete", p.bridge())
	os.RemoveAll(p.dir)
}

// start starts services in the given order without waiting for them.
func (p *pod) start(names ...string) {
	p.t.Helper()
	for _, name := range names {
		p.containers[name].start()
	}
}

// up starts all and waits for the Pod to be ready.
func (p *pod) up() {
	p.t.Helper()
	p.start("server", "api", "dashboard", "app")
	p.ready()
}

// ready waits for what readiness means: both versions, through the dashboard.
func (p *pod) ready() {
	p.t.Helper()
	p.await(30*time.Second, "/api/pod/version", func() error {
		status, _, body := p.get("dashboard", "/api/pod/version")
		if status != http.StatusOK {
			return fmt.Errorf("status %d: %s", status, body)
		}
		return nil
	})
}

// await calls try every 50 ms until it succeeds.
func (p *pod) await(limit time.Duration, what string, try func() error) {
	p.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("waiting %v for %s: %v", limit, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *container) start() {
	p := c.pod
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.cmd != nil {
		p.t.Fatalf("%s runs already", c.name)
	}
	image := roots[c.image]
	s := spec{
		Root: image.dir, Uid: c.uid, Dir: "/" + strings.TrimPrefix(image.config.WorkingDir, "/"),
		Args: append(slices.Clone(image.config.Entrypoint), image.config.Cmd...),
		Env:  append(slices.Clone(image.config.Env), c.home()),
		Binds: map[string]string{
			"/etc/hosts": p.path("/hosts"), "/etc/resolv.conf": p.path("/resolv.conf"),
		},
	}
	for _, bind := range c.binds {
		s.Binds[bind] = p.path(bind)
	}
	if c.name == "server" || c.name == "api" { // what has an env_file
		s.Env = append(s.Env, p.env...)
	}
	text, err := json.Marshal(s)
	p.must(err)
	ready, release, err := os.Pipe()
	p.must(err)
	defer release.Close()
	defer ready.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{envContainer + "=" + string(text)}
	cmd.ExtraFiles = []*os.File{ready}
	cmd.Stdout, cmd.Stderr = c.log, c.log
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	p.must(cmd.Start())
	c.network(cmd.Process.Pid)
	c.cmd, c.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		cmd.Wait()
		close(done)
	}(c.done)
}

// home is what the engine takes from the image's passwd.
func (c *container) home() string {
	if c.uid == 0 {
		return "HOME=/root"
	}
	return "HOME=/var/lib/prosody"
}

// network gives the process its address on the bridge. The hardware address
// follows from it, so that neighbours need not learn a new one.
func (c *container) network(pid int) {
	p := c.pod
	p.t.Helper()
	peer := fmt.Sprintf("%s.%d", p.bridge(), c.last)
	exec.Command("ip", "link", "delete", peer).Run() // of an earlier life that has not ended yet
	p.run("ip", "link", "add", peer, "type", "veth", "peer", "name", "eth0", "address", p.hardware(c.last), "netns", fmt.Sprint(pid))
	p.run("ip", "link", "set", peer, "master", p.bridge(), "up")
	p.run("nsenter", "--target", fmt.Sprint(pid), "--net", "sh", "-c",
		fmt.Sprintf("ip link set lo up && ip address add %s/24 dev eth0 && ip link set eth0 up && ip route add default via %s", p.address(c.last), p.address(1)))
}

// signal sends a signal to the container's process 1.
func (c *container) signal(s syscall.Signal) {
	c.pod.t.Helper()
	if c.cmd == nil {
		c.pod.t.Fatalf("%s does not run", c.name)
	}
	c.pod.must(c.cmd.Process.Signal(s))
}

// wait waits for the end and returns the exit code.
func (c *container) wait(limit time.Duration) int {
	c.pod.t.Helper()
	select {
	case <-c.done:
	case <-time.After(limit):
		c.pod.t.Fatalf("%s still runs after %v", c.name, limit)
	}
	code := c.cmd.ProcessState.ExitCode()
	c.gone()
	return code
}

// runs reports whether the process is alive.
func (c *container) runs() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

func (c *container) gone() {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	c.cmd = nil
}

// stop is an orderly stop, with ten seconds of grace as the engine has.
func (c *container) stop() {
	c.pod.t.Helper()
	c.signal(syscall.SIGTERM)
	c.wait(10 * time.Second)
}

func (c *container) kill() {
	if c.cmd == nil {
		return
	}
	c.cmd.Process.Kill()
	<-c.done
	c.gone()
}

func (c *container) restart() {
	c.pod.t.Helper()
	c.stop()
	c.start()
}

// exec runs a program in the container, as the engine's exec does.
func (c *container) exec(args ...string) (string, error) {
	enter := []string{"--target", fmt.Sprint(c.cmd.Process.Pid), "--mount", "--pid", "--net", "--ipc", "--uts", "--root", "--wd",
		"--setuid", fmt.Sprint(c.uid), "--setgid", fmt.Sprint(c.uid)}
	cmd := exec.Command("nsenter", append(enter, args...)...)
	cmd.Env = append(slices.Clone(roots[c.image].config.Env), c.home())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// logBuffer collects what a container prints.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Requests

var web = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// do sends a request to a service's port 8080. Status 0 means no answer.
func (p *pod) do(method, service, path, body string, headers ...string) (status int, header http.Header, text string) {
	p.t.Helper()
	req, err := http.NewRequest(method, "http://"+net.JoinHostPort(p.address(p.containers[service].last), "8080")+path, strings.NewReader(body))
	p.must(err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := web.Do(req)
	if err != nil {
		return 0, nil, err.Error()
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	p.must(err)
	return res.StatusCode, res.Header, string(out)
}

func (p *pod) get(service, path string) (int, http.Header, string) {
	p.t.Helper()
	return p.do(http.MethodGet, service, path, "")
}

// want sends a request and fails unless the status is right.
func (p *pod) want(status int, method, service, path, body string, headers ...string) string {
	p.t.Helper()
	got, _, text := p.do(method, service, path, body, headers...)
	if got != status {
		p.t.Errorf("%s %s of %s: status %d, want %d: %s", method, path, service, got, status, text)
	}
	return text
}

// open reports whether a TCP port of a service takes connections.
func (p *pod) open(service string, port int) bool {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(p.address(p.containers[service].last), fmt.Sprint(port)), time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// own gives a directory to the Pod's user.
func (p *pod) own(dir string) {
	p.t.Helper()
	p.must(os.Chown(p.path(dir), uid, uid))
}
