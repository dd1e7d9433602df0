package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// trace runs the program, kills it at the nth of its calls that is target, and
// returns its exit code, 137 when it was killed, and the calls. It stays until
// everything that the program has started has ended too.
func trace(args []string, target string, nth int) (code int, seen string, err error) {
	cmd := exec.Command("/proc/self/exe", append([]string{filtered, ""}, args...)...)
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
	const options = unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(pid, options); err != nil {
		return 0, "", err
	}
	if err := unix.PtraceCont(pid, 0); err != nil {
		return 0, "", err
	}
	var begun bool        // the program itself runs
	own := map[int]bool{} // threads, and whether they are the program's
	code = -1
	repeated := map[string]int{}
	var lines strings.Builder
	for {
		tid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ECHILD {
			return code, lines.String(), nil
		}
		if err != nil {
			return 0, lines.String(), fmt.Errorf("waiting for the program: %w", err)
		}
		if status.Exited() || status.Signaled() {
			delete(own, tid)
			if tid == pid && status.Signaled() {
				code = 128 + int(status.Signal())
			} else if tid == pid {
				code = status.ExitStatus()
			}
			continue
		}
		signal := 0
		switch stop := status.StopSignal(); {
		case stop == unix.SIGTRAP && status.TrapCause() == unix.PTRACE_EVENT_EXEC:
			begun = begun || tid == pid
		case stop == unix.SIGTRAP && status.TrapCause() == unix.PTRACE_EVENT_SECCOMP:
			if _, known := own[tid]; !known {
				_, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", pid, tid))
				own[tid] = err == nil
			}
			if !begun || !own[tid] {
				break
			}
			what := call(tid)
			if what == "" {
				break
			}
			what = made.ReplaceAllString(what, "*")
			repeated[what]++
			if repeated[what] > most && !strings.Contains(what, "docker.sock") && !strings.Contains(what, authority) {
				break
			}
			at := what == target && repeated[what] == nth
			if nth == 0 || at {
				fmt.Fprintln(&lines, what)
			}
			if at {
				// It is pending before the call is made, which ends it.
				if err := unix.Kill(pid, unix.SIGKILL); err != nil {
					return 0, lines.String(), err
				}
			}
		case stop == unix.SIGTRAP, stop == unix.SIGSTOP:
			// A new thread, or its parent.
		default:
			signal = int(stop)
		}
		// A thread may be gone by now.
		_ = unix.PtraceCont(tid, signal)
	}
}

// Of calls that are the same but for made-up names, as many count; but every one
// to the engine and to the authority.
const (
	most      = 3
	authority = ":14000"
)

var made = regexp.MustCompile(`[0-9a-f]{12,}|\.new-[0-9]+|[A-Za-z0-9_-]{20,}(\.new)?$|\b172\.[0-9.]+`)
