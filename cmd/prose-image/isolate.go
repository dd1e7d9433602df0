package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/prose-im/prose-image/builder/host"
	"github.com/prose-im/prose-image/builder/scenario"
)

// An exitError is an end about which everything is said.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// ways are the ports of a kept machine that the host's 127.0.0.1 leads to. The
// listeners are handed over in this order.
var ways = []int{22, 80, 443, 5222}

// isolate runs this program again in a network namespace of its own.
func (c *testConfig) isolate(ctx context.Context, t *term) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("looking for this program: %w", err)
	}
	args := []string{exe, "test", "--inside", "--logs", c.logs, "--tools", c.tools}
	for _, s := range c.scenarios {
		args = append(args, "--scenario", s)
	}
	for flag, value := range map[string]string{"--firmware": c.firmware, "--junit": c.junit, "--json": c.json} {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	command := host.Command{Stdout: t.out.Writer, Stderr: t.err, Network: true, Tied: true}
	if c.goOn {
		args = append(args, "--go-on")
	}
	if c.keep {
		args = append(args, "--keep")
		for range ways {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return fmt.Errorf("listening for the kept machine: %w", err)
			}
			defer l.Close()
			file, err := l.(*net.TCPListener).File()
			if err != nil {
				return fmt.Errorf("listening for the kept machine: %w", err)
			}
			defer file.Close()
			command.Files = append(command.Files, file)
		}
		// The end of our input is told by the end of a pipe: the program in the
		// namespace is no reader of the terminal.
		in, out, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("passing on the input: %w", err)
		}
		defer in.Close()
		command.Stdin = in
		go func() { // it may outlive us, in a read that nothing can end
			_, _ = io.Copy(io.Discard, t.in)
			out.Close()
		}()
	}
	command.Args = append(args, "--", c.image)
	p, err := host.Start(ctx, command)
	if err != nil {
		return err
	}
	if err := p.Wait(); err != nil {
		if code := p.ExitCode(); code >= 0 {
			return &exitError{code}
		}
		return err
	}
	return nil
}

// inherited are the listeners that isolate has handed over.
func inherited() (map[int]net.Listener, error) {
	all := map[int]net.Listener{}
	for i, port := range ways {
		file := os.NewFile(uintptr(3+i), "listener")
		l, err := net.FileListener(file)
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("taking over a listener: %w", err)
		}
		all[port] = l
	}
	return all, nil
}

// keep tells how to reach the machine and waits until nobody wants it any more.
func keep(ctx context.Context, t *term, k scenario.Kept, logs string) {
	ca := filepath.Join(logs, "authority.pem")
	if err := os.WriteFile(ca, []byte(k.CA), 0o644); err != nil {
		t.notef("writing the authority's certificate: %v", err)
	}
	t.notef(`the machine goes on; Ctrl-C ends it
    ssh -i %s -p %d -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no %s@127.0.0.1
    curl --cacert %s --connect-to ::127.0.0.1:%d https://prose.%s/
    XMPP (STARTTLS) is 127.0.0.1:%d, HTTP is 127.0.0.1:%d`,
		k.Key, k.Ports[22], k.User, ca, k.Ports[443], k.Domain, k.Ports[5222], k.Ports[80])
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, t.in)
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}
