package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/prose-im/prose-image/testdata/pod/podlog"
)

// prosody is the child process.
type prosody struct {
	log  *podlog.Logger
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// start starts Prosody and waits until it has lived for 250 ms.
func (p *prosody) start(key string) error {
	cmd := exec.Command("prosody", "--no-daemonize")
	cmd.Env = append(os.Environ(), "POD_ACCOUNTS_KEY="+key)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("starting prosody: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting prosody: %w", err)
	}
	done := make(chan struct{})
	go func() {
		p.relay(out)
		cmd.Wait()
		close(done)
	}()
	select {
	case <-done:
		return fmt.Errorf("starting prosody: exited early (%v)", cmd.ProcessState)
	case <-time.After(250 * time.Millisecond):
	}
	p.cmd, p.done = cmd, done
	return nil
}

// relay turns Prosody's lines, "source, tab, level, tab, message", into ours.
func (p *prosody) relay(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		source, rest, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		level, message, ok := strings.Cut(strings.TrimSpace(rest), "\t")
		switch {
		case !ok:
			p.log.Line("info", "prosody", "%s", lines.Text())
		case level == "debug", level == "info", level == "warn", level == "error":
			p.log.Line(level, "prosody", "%s: %s", source, message)
		default:
			p.log.Line("info", "prosody", "%s: [%s] %s", source, level, message)
		}
	}
}

// stop kills Prosody, as upstream does: no goodbye to the clients.
func (p *prosody) stop() {
	if p.cmd == nil {
		return
	}
	p.cmd.Process.Kill()
	<-p.done
	p.cmd = nil
}

// hangup makes Prosody read its configuration again.
func (p *prosody) hangup() error {
	if p.cmd == nil {
		return errors.New("prosody is stopped")
	}
	return p.cmd.Process.Signal(syscall.SIGHUP)
}

// until calls try every 50 ms until it succeeds, Prosody refuses or ends, or
// limit is over.
func (p *prosody) until(limit time.Duration, what string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		err := try(ctx)
		var refused *statusError
		if err == nil || errors.As(err, &refused) {
			return err
		}
		select {
		case <-p.done:
			return fmt.Errorf("waiting for %s: prosody ended (%v)", what, p.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("waiting %v for %s: %w", limit, what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
