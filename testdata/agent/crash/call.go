package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
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
// an entry that a filter has stopped.
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
	entry          = 3 // PTRACE_SYSCALL_INFO_SECCOMP
)

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
