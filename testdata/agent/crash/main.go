// Command crash runs a program and kills it at one of its system calls: those
// that change files, ask somebody or start a program, counted over all threads.
//
//	crash list FILE PROGRAM [ARGUMENT]...
//	crash kill FILE N CALL PROGRAM [ARGUMENT]...
//	crash cost FILE PROGRAM [ARGUMENT]...
//
// The first writes each call to FILE, a line each, without the names that are
// made up, and kills nothing. The other sends SIGKILL to the whole program when it
// enters the N-th such CALL, from 1, which then is not made, and writes it; nothing
// when the program has ended before. What it has started is let go, and waited for.
// The last lets the program alone and writes what it cost, with what it has
// started and waited for: microseconds of processor, and bytes of memory of the
// largest process.
//
// It is not strace, whose injections count each thread's calls for themselves:
// which thread of a Go program makes a call is different each time.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
)

func main() {
	runtime.LockOSThread() // the tracer is a thread
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: crash list|cost FILE PROGRAM [ARGUMENT]..., or crash kill FILE N CALL PROGRAM [ARGUMENT]...")
		os.Exit(2)
	}
	if os.Args[1] == filtered {
		fmt.Fprintln(os.Stderr, "error:", become(os.Args[3:]))
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
	args, target, nth := os.Args[3:], "", 0
	if os.Args[1] == "kill" && len(args) > 2 {
		nth, _ = strconv.Atoi(args[0])
		target, args = args[1], args[2:]
	}
	if os.Args[1] != "list" && nth < 1 {
		fmt.Fprintln(os.Stderr, "error: neither list nor which call to kill at")
		os.Exit(2)
	}
	code, seen, err := trace(args, target, nth)
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
