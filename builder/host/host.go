// Package host is the one door to the machine that bakes: every outside
// command goes through it, and nothing else imports os/exec.
//
// A command that fails is an [Error] that holds the command line and the end of
// what it printed. A tool that is not installed is a [MissingTool] that knows
// the Debian package to install. Secrets never belong in Args: pass them by
// Stdin or a file.
package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Command is one run of an outside program.
type Command struct {
	Args    []string   // program and arguments
	Env     []string   // KEY=VALUE, added to a small fixed environment
	Dir     string     // working directory; empty: the caller's
	Stdin   io.Reader  // nil: nothing
	Stdout  io.Writer  // nil: kept for the error
	Stderr  io.Writer  // nil: kept for the error; otherwise both
	Tied    bool       // it gets SIGKILL when this process ends, however that ends
	Within  string     // directory of its files: if this process is killed, the command and its children get SIGTERM, then that is removed
	Files   []*os.File // its file descriptors from 3 on
	Umask   bool       // it runs with umask 022 instead of the caller's
	Network bool       // it gets a network namespace of its own, with nothing in it
	Mounts  bool       // it gets a mount namespace of its own; for root alone
	// Fsync and its like do nothing in it, when we are root: what it writes need
	// not survive a crash of this machine. Not with Tied.
	Unsynced bool
}

// packages names the Debian package of each tool the project calls.
var packages = map[string]string{
	"apt-get":             "apt",
	"dpkg-deb":            "dpkg",
	"mmdebstrap":          "mmdebstrap",
	"qemu-system-aarch64": "qemu-system-arm",
	"qemu-system-x86_64":  "qemu-system-x86",
	"qemu-img":            "qemu-utils",
	"ip":                  "iproute2",
	"rsync":               "rsync",
	"newuidmap":           "uidmap",
}

// A MissingTool is the error for a program that is not installed.
type MissingTool struct{ Name, Package string }

func (e *MissingTool) Error() string { return fmt.Sprintf("%s is not installed", e.Name) }

// Hint is the next thing to type.
func (e *MissingTool) Hint() string {
	if e.Package == "" {
		return "install " + e.Name + " and put it on PATH"
	}
	return "apt-get install " + e.Package
}

// An Error is a command that ran and failed.
type Error struct {
	Args   []string
	Output string // the end of what it printed, at most 4 KiB
	Err    error
}

func (e *Error) Error() string {
	line := quote(e.Args)
	if len(line) > 200 {
		line = line[:150] + " … " + line[len(line)-45:]
	}
	s := fmt.Sprintf("running %s: %v", line, e.Err)
	if e.Output != "" {
		s += "\n" + e.Output
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Look reports whether a tool is installed: nil, or a [MissingTool].
func Look(name string) error {
	_, err := find(name)
	return err
}

// find also searches the directories of system tools, which an ordinary user's
// PATH leaves out on Debian.
func find(name string) (string, error) {
	p, err := exec.LookPath(name)
	if err == nil {
		return p, nil
	}
	if !strings.Contains(name, "/") {
		for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
			if p, err := exec.LookPath(dir + "/" + name); err == nil {
				return p, nil
			}
		}
	}
	return "", &MissingTool{Name: name, Package: packages[name]}
}

// Run runs a command to its end. When ctx ends first, the command and its
// children get SIGTERM, and SIGKILL ten seconds later.
func Run(ctx context.Context, c Command) error {
	p, err := Start(ctx, c)
	if err != nil {
		return err
	}
	return p.Wait()
}

// Output runs a command and returns what it wrote to its standard output.
func Output(ctx context.Context, c Command) ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := Run(ctx, c)
	return out.Bytes(), err
}

// A Process is a started command.
type Process struct {
	ctx     context.Context
	cmd     *exec.Cmd
	args    []string
	tail    *tail
	done    chan struct{} // closed by Wait, if it is not nil
	watcher *watcher      // dismissed by Wait, if it is not nil
}

// Start starts a command and returns at once.
func Start(ctx context.Context, c Command) (*Process, error) {
	name, err := find(c.Args[0])
	if err != nil {
		return nil, err
	}
	if err := keepFiles(); err != nil {
		return nil, err
	}
	args := c.Args[1:]
	if c.Umask {
		name, args = "/bin/sh", append([]string{"-c", `umask 022 && exec "$@"`, "sh", name}, args...)
	}
	p := &Process{ctx: ctx, cmd: exec.CommandContext(ctx, name, args...), args: c.Args, tail: &tail{}}
	p.cmd.Dir = c.Dir
	p.cmd.Env = append(environ(), c.Env...)
	p.cmd.Stdin = c.Stdin
	p.cmd.Stdout = c.Stdout
	if c.Stdout == nil {
		p.cmd.Stdout = p.tail
	}
	p.cmd.Stderr = p.tail
	if c.Stderr != nil {
		p.cmd.Stderr = io.MultiWriter(c.Stderr, p.tail)
	}
	// A process group of its own, so that Ctrl-C reaches us first and the end
	// of ctx reaches the command's children too.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.ExtraFiles = c.Files
	if c.Mounts {
		p.cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	if c.Network {
		namespace(p.cmd.SysProcAttr)
	}
	p.cmd.Cancel = func() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM) }
	p.cmd.WaitDelay = 10 * time.Second
	start := p.cmd.Start
	if c.Tied {
		p.done = make(chan struct{})
		start = p.startTied
	} else if c.Unsynced && os.Geteuid() == 0 {
		start = func() error { return unsynced(p.cmd.Start) }
	}
	if err := start(); err != nil {
		return nil, &Error{Args: c.Args, Err: err}
	}
	if c.Within != "" {
		if p.watcher, err = startWatcher(p.cmd.Process.Pid, c.Within); err != nil {
			_ = p.cmd.Cancel()
			_ = p.cmd.Wait()
			return nil, err
		}
	}
	return p, nil
}

// namespace asks for a network namespace. An ordinary user may have one in a
// user namespace only, as its root.
func namespace(a *syscall.SysProcAttr) {
	a.Cloneflags = syscall.CLONE_NEWNET
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
}

// keepFiles marks the files that this process was started with as its own. Go
// does so for those it opens; but Packer hands its pipes down to plugins, and
// when mmdebstrap's get numbers from 10 on, dash cannot redirect to them.
func keepFiles() error {
	err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if err != nil && err != unix.ENOSYS && err != unix.EINVAL { // Linux before 5.11
		return fmt.Errorf("closing inherited files: %w", err)
	}
	return nil
}

// startTied starts the command from a thread that lives as long as the
// command does: the kernel takes the end of the thread for the end of us
// (prctl(2), PR_SET_PDEATHSIG).
func (p *Process) startTied() error {
	p.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			<-p.done
		}
	}()
	return <-started
}

// Wait waits for the end of the command.
func (p *Process) Wait() error {
	err := p.cmd.Wait()
	if p.watcher != nil {
		p.watcher.dismiss()
	}
	if p.done != nil {
		close(p.done)
	}
	// Whatever of its group is still there would outlive us.
	if p.ctx.Err() != nil {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		return fmt.Errorf("running %s: %w", p.args[0], context.Cause(p.ctx))
	}
	if err != nil {
		return &Error{Args: p.args, Output: p.tail.String(), Err: err}
	}
	return nil
}

// CPU is how much time all threads of the command have had of a processor,
// without its children. It is an error once the command has ended.
func (p *Process) CPU() (time.Duration, error) {
	// The clock of a process, as clock_getcpuclockid(3) makes it.
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|2), &t); err != nil {
		return 0, fmt.Errorf("asking for the processor time of %s: %w", p.args[0], err)
	}
	return time.Duration(t.Nano()), nil
}

// ExitCode is what the command ended with, -1 before its end and when a signal
// ended it.
func (p *Process) ExitCode() int {
	if p.cmd.ProcessState == nil {
		return -1
	}
	return p.cmd.ProcessState.ExitCode()
}

// environ is what commands see of our environment: what they need to find
// files, temporary space and the network, in the C locale and UTC.
func environ() []string {
	env := []string{"LC_ALL=C.UTF-8", "TZ=UTC", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, key := range []string{"HOME", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR",
		"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"} {
		if v, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+v)
		}
	}
	return env
}

// tail keeps the end of what is written to it. Standard output and standard
// error may be written by two goroutines.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 2*tailSize {
		t.b = append(t.b[:0], t.b[len(t.b)-tailSize:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.b
	if len(b) > tailSize {
		b = b[len(b)-tailSize:]
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			b = b[i+1:]
		}
	}
	return strings.TrimSpace(string(b))
}

func quote(args []string) string {
	var b strings.Builder
	for i, a := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		if a == "" || strings.ContainsAny(a, " \t\n'\"\\$`*?[](){}<>|&;#~") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		b.WriteString(a)
	}
	return b.String()
}

// IsMissing reports whether err is about a tool that is not installed.
func IsMissing(err error) (*MissingTool, bool) {
	var m *MissingTool
	ok := errors.As(err, &m)
	return m, ok
}
