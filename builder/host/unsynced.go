package host

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// syncCalls are the system calls that do nothing in an unsynced command.
var syncCalls = []uint32{unix.SYS_FSYNC, unix.SYS_FDATASYNC, unix.SYS_SYNC, unix.SYS_SYNCFS, unix.SYS_SYNC_FILE_RANGE}

// auditArch is what the kernel calls the processor: the numbers of calls are
// its own.
var auditArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// syncFilter answers the calls with success, see seccomp(2).
func syncFilter(arch uint32) []unix.SockFilter {
	const nr, archAt = 0, 4 // in struct seccomp_data
	n := uint8(len(syncCalls))
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	equal := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	answer := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
	}
	filter := []unix.SockFilter{load(archAt), equal(arch, 0, n+1), load(nr)}
	for i, call := range syncCalls {
		filter = append(filter, equal(call, n-uint8(i), 0))
	}
	return append(filter, answer(unix.SECCOMP_RET_ALLOW), answer(unix.SECCOMP_RET_ERRNO))
}

// unsynced calls start, which starts a command, from a thread whose children
// wait for no disk. The thread ends after that, and no other has its filter:
// the runtime makes no threads from one that a goroutine keeps.
func unsynced(start func() error) error {
	arch, ok := auditArch[runtime.GOARCH]
	if !ok {
		return start()
	}
	filter := syncFilter(arch)
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good
		program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
		// A root that may not do this, as in some containers, waits.
		if err != nil && err != unix.EACCES && err != unix.EINVAL && err != unix.EPERM && err != unix.ENOSYS {
			started <- fmt.Errorf("keeping it from waiting for the disk: %w", err)
			return
		}
		started <- start()
	}()
	return <-started
}
