// Command crash runs a program and kills it at one of its system calls: those
// that change files, ask somebody or start a program, counted over all threads.
//
//	crash list FILE PROGRAM [ARGUMENT]...
//	crash N FILE PROGRAM [ARGUMENT]...
//	crash cost FILE PROGRAM [ARGUMENT]...
//
// The first writes each call to FILE, a line each, and kills nothing. The other
// sends SIGKILL to the whole program when it enters call N, from 1, which then
// is not made, and writes that call alone; nothing when the program has ended
// before. What the program starts is let go. The last lets the program alone and
// writes what it cost, with what it has started and waited for: microseconds of
// processor, and bytes of memory of the largest process.
//
// It is not strace, whose injections count each thread's calls for themselves:
// which thread of a Go program makes a call is different each time.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A kind of call, with the places of what describes it among its arguments; -1
// is none.
type kind struct {
	name     string
	path     int // a path
	at       int // a descriptor that the path is relative to, or that the call is about
	writable int // flags of open: only if they write or create
}

var kinds = map[uint64]kind{
	unix.SYS_OPENAT:    {"openat", 1, 0, 2},
	unix.SYS_OPENAT2:   {"openat2", 1, 0, -1},
	unix.SYS_RENAMEAT:  {"renameat", 3, 2, -1},
	unix.SYS_RENAMEAT2: {"renameat2", 3, 2, -1},
	unix.SYS_UNLINKAT:  {"unlinkat", 1, 0, -1},
	unix.SYS_MKDIRAT:   {"mkdirat", 1, 0, -1},
	unix.SYS_SYMLINKAT: {"symlinkat", 2, 1, -1},
	unix.SYS_LINKAT:    {"linkat", 3, 2, -1},
	unix.SYS_FCHMODAT:  {"fchmodat", 1, 0, -1},
	unix.SYS_FCHOWNAT:  {"fchownat", 1, 0, -1},
	unix.SYS_UTIMENSAT: {"utimensat", 1, 0, -1},
	unix.SYS_FSYNC:     {"fsync", -1, 0, -1},
	unix.SYS_FCHMOD:    {"fchmod", -1, 0, -1},
	unix.SYS_FCHOWN:    {"fchown", -1, 0, -1},
	unix.SYS_FTRUNCATE: {"ftruncate", -1, 0, -1},
	unix.SYS_WRITE:     {"write", -1, 0, -1},
	unix.SYS_CONNECT:   {"connect", -1, 0, -1},
	unix.SYS_SENDTO:    {"sendto", -1, 0, -1},
	unix.SYS_CLONE3:    {"clone3", -1, -1, -1},
}

// callInfo is struct ptrace_syscall_info (ptrace(2), PTRACE_GET_SYSCALL_INFO) of
// an entry.
type callInfo struct {
	op     uint8
	_      [3]uint8
	arch   uint32
	ip, sp uint64
	nr     uint64
	args   [6]uint64
	_      uint64
}

const (
	getSyscallInfo = 0x420e
	entry          = 1 // PTRACE_SYSCALL_INFO_ENTRY
)

func main() {
	runtime.LockOSThread() // the tracer is a thread
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: crash list|N FILE PROGRAM [ARGUMENT]...")
		os.Exit(2)
	}
	if os.Args[1] == "cost" {
		code, text, err := cost(os.Args[3:])
		if err == nil {
			err = os.WriteFile(os.Args[2], []byte(text), 0o600)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(2)
		}
		os.Exit(code)
	}
	target, err := strconv.Atoi(os.Args[1])
	if err != nil && os.Args[1] != "list" {
		fmt.Fprintln(os.Stderr, "error: neither list nor a number:", os.Args[1])
		os.Exit(2)
	}
	code, seen, err := trace(os.Args[3:], target)
	if err == nil {
		err = os.WriteFile(os.Args[2], []byte(seen), 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(2)
	}
	os.Exit(code)
}

// cost runs the program and measures it. A process begins with the memory of
// the one that started it, which here is a small one.
func cost(args []string) (int, string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return 0, "", err
	}
	u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, "", fmt.Errorf("this system does not count")
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return cmd.ProcessState.ExitCode(), fmt.Sprintln(cpu.Microseconds(), u.Maxrss<<10), nil
}

// trace runs the program, kills it at its call number target if that is not 0,
// and returns its exit code, 137 when it was killed, and the calls.
func trace(args []string, target int) (code int, seen string, err error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return 0, "", err
	}
	pid := cmd.Process.Pid
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
		return 0, "", err
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		return 0, "", err
	}
	if err := unix.PtraceSyscall(pid, 0); err != nil {
		return 0, "", err
	}
	count := 0
	repeated := map[string]int{}
	var lines strings.Builder
	for {
		tid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, lines.String(), fmt.Errorf("waiting for the program: %w", err)
		}
		signal := 0
		switch {
		case status.Exited() || status.Signaled():
			if tid == pid {
				if status.Signaled() {
					return 128 + int(status.Signal()), lines.String(), nil
				}
				return status.ExitStatus(), lines.String(), nil
			}
			continue
		case status.StopSignal() == unix.SIGTRAP|0x80:
			what := call(tid)
			if what == "" {
				break
			}
			if same := made.ReplaceAllString(what, "*"); !strings.Contains(what, "docker.sock") && !strings.Contains(what, authority) {
				repeated[same]++
				if repeated[same] > most {
					break
				}
			}
			count++
			if target == 0 || count == target {
				fmt.Fprintln(&lines, what)
			}
			if count == target {
				// It is pending before the call is made, which ends it.
				if err := unix.Kill(pid, unix.SIGKILL); err != nil {
					return 0, lines.String(), err
				}
			}
		case status.StopSignal() == unix.SIGTRAP, status.StopSignal() == unix.SIGSTOP:
			// A new thread, or its parent.
		default:
			signal = int(status.StopSignal())
		}
		// A thread may be gone by now.
		_ = unix.PtraceSyscall(tid, signal)
	}
}

// Of calls that differ in made-up names only, as many count; but every one to the
// engine and to the authority.
const (
	most      = 3
	authority = ":14000"
)

var made = regexp.MustCompile(`[0-9a-f]{12,}|\.new-[0-9]+|[A-Za-z0-9_-]{20,}$`)

// peers are the addresses that descriptors are connected to.
var peers = map[uint64]string{}

// call says what call a thread enters, if it is one that counts.
func call(tid int) string {
	var info callInfo
	if _, _, e := unix.Syscall6(unix.SYS_PTRACE, getSyscallInfo, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0); e != 0 || info.op != entry {
		return ""
	}
	k, ok := kinds[info.nr]
	if !ok || k.writable >= 0 && info.args[k.writable]&(unix.O_ACCMODE|unix.O_CREAT) == 0 {
		return ""
	}
	if k.name == "openat2" { // struct open_how begins with the flags
		if how := memory(tid, info.args[2], 8); len(how) < 8 || binary.NativeEndian.Uint64(how)&(unix.O_ACCMODE|unix.O_CREAT) == 0 {
			return ""
		}
	}
	what := k.name
	if k.at >= 0 {
		fd := int32(info.args[k.at])
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, fd))
		switch {
		case k.name == "write" && (fd < 3 || strings.HasPrefix(to, "anon_inode:") || strings.HasPrefix(to, "pipe:")):
			return "" // what it says, and the runtime's own
		case k.name == "connect":
			to = peer(memory(tid, info.args[1], int(min(info.args[2], 110))))
			peers[info.args[0]] = to
			if strings.HasPrefix(to, "127.0.0.1:") {
				return "" // only looks
			}
			what += " " + to
		case strings.HasPrefix(to, "socket:"):
			if to = peers[info.args[0]]; strings.HasPrefix(to, "127.0.0.1:") && !strings.HasSuffix(to, ":8081") {
				return ""
			}
			what += " " + to
		case k.path < 0:
			what += " " + to
		case fd >= 0 && to != "":
			what += " " + to + "/"
		default:
			what += " "
		}
	}
	if k.path >= 0 {
		name := memory(tid, info.args[k.path], 256)
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		what += string(name)
	}
	return what
}

// peer is the address of a connect: struct sockaddr_un, _in or _in6.
func peer(b []byte) string {
	if len(b) < 8 {
		return ""
	}
	switch binary.NativeEndian.Uint16(b) {
	case unix.AF_UNIX:
		return string(bytes.TrimRight(b[2:], "\x00"))
	case unix.AF_INET:
		return fmt.Sprintf("%d.%d.%d.%d:%d", b[4], b[5], b[6], b[7], binary.BigEndian.Uint16(b[2:]))
	case unix.AF_INET6:
		return fmt.Sprintf("[::]:%d", binary.BigEndian.Uint16(b[2:]))
	}
	return "netlink"
}

// memory reads up to n bytes of a thread's memory, to the end of a page at
// least.
func memory(tid int, at uint64, n int) []byte {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", tid))
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, n)
	got, err := f.ReadAt(b, int64(at))
	if err != nil && got == 0 {
		rest := 4096 - int(at%4096)
		if rest < n {
			got, _ = f.ReadAt(b[:rest], int64(at))
		}
	}
	return b[:got]
}
