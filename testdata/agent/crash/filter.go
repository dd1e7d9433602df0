package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// filtered is how the tool calls itself to become the program.
const filtered = "filtered"

// become turns this process into the program, whose calls of our kinds stop for
// the tracer; all others run at full speed. A filter holds for what the program
// starts too, where such a call fails once there is no tracer: trace stays.
func become(args []string) error {
	runtime.LockOSThread()
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	// struct seccomp_data, seccomp(2): the number is at 0, arguments from 16.
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		set   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		give  = unix.BPF_RET | unix.BPF_K
	)
	numbers := slices.Sorted(maps.Keys(kinds))
	filter := []unix.SockFilter{{Code: load, K: 0}}
	for i, n := range numbers {
		rest := uint8(len(numbers) - i - 1) // of the comparisons
		to := rest + 1                      // past "allow", to "trace"
		if n == unix.SYS_OPENAT {
			to = rest + 2 // to the look at its flags
		}
		filter = append(filter, unix.SockFilter{Code: equal, Jt: to, K: uint32(n)})
	}
	filter = append(filter,
		unix.SockFilter{Code: give, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: give, K: unix.SECCOMP_RET_TRACE},
		unix.SockFilter{Code: load, K: 16 + 8*2},
		unix.SockFilter{Code: set, Jt: 1, K: unix.O_ACCMODE | unix.O_CREAT},
		unix.SockFilter{Code: give, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: give, K: unix.SECCOMP_RET_TRACE},
	)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); e != 0 {
		return fmt.Errorf("setting the filter: %w", e)
	}
	return syscall.Exec(path, args, os.Environ())
}
