// Package command is the one door through which the agent runs programs.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// limit is for programs that hang: all that are run here take seconds, on
// emulated processors too.
const limit = 90 * time.Second

// most is how much of a program's output an error shows.
const most = 4 << 10

// An Error is a program that did not end well.
type Error struct {
	Args   []string
	Output string // the end of what it wrote, both streams
	Err    error
}

func (e *Error) Error() string {
	s := fmt.Sprintf("running %s: %v", strings.Join(e.Args, " "), e.Err)
	if e.Output != "" {
		s += ": " + e.Output
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Run runs a program with nothing on its standard input and no environment but
// a path. Arguments may be seen by every process: no secrets.
func Run(ctx context.Context, args ...string) error {
	_, err := Output(ctx, 0, args...)
	return err
}

// Output is Run, and gives the end of what the program wrote, both streams as
// they came: at most limit bytes, of a program that failed as well.
func Output(ctx context.Context, limit int, args ...string) (string, error) {
	out, err := output(ctx, args...)
	end := out[max(0, len(out)-limit):]
	if err == nil {
		return string(end), nil
	}
	return string(end), &Error{args, strings.TrimSpace(string(out[max(0, len(out)-most):])), err}
}

func output(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it has not ended after %v", limit))
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = errors.Join(cause, err)
	}
	return out.Bytes(), err
}
