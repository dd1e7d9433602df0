package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder/boot"
	"github.com/prose-im/prose-image/builder/host"
	"github.com/prose-im/prose-image/builder/scenario"
)

var testVerb = verb{
	name: "test", args: "IMAGE", atLeast: 1, atMost: 1,
	short: "boot an image and try what scenarios say",
	long: `
Boots an image once for each scenario and each of its kinds of firmware, in a
network of its own where a certificate authority and DNS stand in for the
internet, and does and looks at what the scenario's steps say. The image is not
written to.

Exit codes: 0 every step passed, 3 one failed, 2 the input is wrong, 1 it could
not be tried.

Steps:
` + scenario.Help(),
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		c := testConfig{}
		f.StringArrayVar(&c.scenarios, "scenario", nil, "scenario file; may be repeated")
		f.StringVar(&c.firmware, "firmware", "", "firmware instead of the scenario's: "+join(boot.Firmwares))
		f.StringVar(&c.junit, "junit", "", "file that gets the results as JUnit's XML")
		f.StringVar(&c.json, "json", "", "file that gets the results as JSON, with seconds since power-on")
		f.StringVar(&c.logs, "logs", "out/test", "directory that keeps console, journal and the like of what failed")
		f.StringVar(&c.tools, "tools", "", "directory of pebble and pebble-challtestsrv; the program's own unless given")
		f.BoolVar(&c.keep, "keep", false, "leave the last machine running after its steps, until Ctrl-C or the end of standard input")
		f.BoolVar(&c.goOn, "go-on", false, "do the steps after one that failed, too")
		f.BoolVar(&c.inside, "inside", false, "")
		_ = f.MarkHidden("inside")
		return func(ctx context.Context, t *term, args []string) error {
			c.image = args[0]
			all, err := c.check()
			if err != nil {
				return err
			}
			if c.inside {
				return c.run(ctx, t, all)
			}
			return c.isolate(ctx, t)
		}
	},
}

// testConfig is the command line of test.
type testConfig struct {
	image, firmware, junit, json, logs, tools string
	scenarios                                 []string
	keep, goOn                                bool
	inside                                    bool // in the namespace
}

// check reads the scenarios and finds all that is wrong with the input.
func (c *testConfig) check() ([]*scenario.Scenario, error) {
	if len(c.scenarios) == 0 {
		return nil, &usageError{"test", errors.New("--scenario is missing")}
	}
	if c.firmware != "" && !slices.Contains(boot.Firmwares, boot.Firmware(c.firmware)) {
		return nil, &usageError{"test", fmt.Errorf("--firmware %q is not one of %s", c.firmware, join(boot.Firmwares))}
	}
	var all []*scenario.Scenario
	var problems []error
	for _, name := range c.scenarios {
		s, err := scenario.Load(name)
		if err != nil {
			problems = append(problems, asInput(err))
			continue
		}
		if c.firmware != "" {
			s.Firmware = []boot.Firmware{boot.Firmware(c.firmware)}
		}
		all = append(all, s)
	}
	if err := lookForImage(c.image); err != nil {
		problems = append(problems, err)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if c.tools == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("looking for this program: %w", err)
		}
		c.tools = filepath.Dir(exe)
	}
	return all, scenario.LookTools(c.tools)
}

// asInput marks what the user can mend.
func asInput(err error) error {
	if is[*fs.PathError](err) {
		return &inputError{err: err}
	}
	return err
}

// lookForImage refuses what cannot be one.
func lookForImage(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", path)
	}
	if err != nil {
		return &inputError{fmt.Errorf("looking for the image: %w", err), "prose-image bake makes one"}
	}
	return nil
}

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

// run runs the scenarios, in the namespace.
func (c *testConfig) run(ctx context.Context, t *term, all []*scenario.Scenario) error {
	arch, err := boot.ArchOf(ctx, c.image)
	if err != nil {
		return err
	}
	if c.firmware != "" && !slices.Contains(arch.Firmwares(), boot.Firmware(c.firmware)) {
		return &usageError{"test", fmt.Errorf("--firmware %q: the image is for %s, whose machines have %s", c.firmware, arch, join(arch.Firmwares()))}
	}
	accel, why, err := boot.Probe(ctx, arch)
	if err != nil {
		return err
	}
	if why != "" {
		t.notef("no KVM (%s): emulated, many times slower", why)
	}
	config := scenario.Config{Image: c.image, Tools: c.tools, Logs: c.logs, Accel: accel, Out: t.out, GoOn: c.goOn, Live: func(k scenario.Case) { showCase(t, k) }}
	var results []scenario.Result
	var failed error
	for i, s := range all {
		s.Firmware = firmwareFor(arch, s.Firmware)
		for j, firmware := range s.Firmware {
			if c.keep && i == len(all)-1 && j == len(s.Firmware)-1 {
				if config.Ways, err = inherited(); err != nil {
					return err
				}
				config.Keep = func(ctx context.Context, k scenario.Kept) { keep(ctx, t, k, c.logs) }
			}
			r, err := scenario.Run(ctx, config, s, firmware)
			if len(r.Cases) > 0 {
				results = append(results, r)
			}
			failed = errors.Join(failed, err)
			if r.Logs != "" {
				t.notef("logs are kept in %s", r.Logs)
			}
			if ctx.Err() != nil {
				break
			}
		}
	}
	// Once more and last, where the end of a long log is all that is kept.
	if len(results) > 1 {
		for _, r := range results {
			showResult(t, r)
		}
	}
	if err := c.report(results); err != nil {
		failed = errors.Join(failed, err)
	}
	switch {
	case ctx.Err() != nil && failed != nil:
		t.errorf("interrupted")
		return &exitError{exitFailed}
	case failed != nil:
		return failed
	case slices.ContainsFunc(results, scenario.Result.Failed):
		return &exitError{exitFindings}
	}
	return nil
}

// firmwareFor puts UEFI in the place of BIOS where machines have none, once.
func firmwareFor(arch boot.Arch, asked []boot.Firmware) (all []boot.Firmware) {
	for _, f := range asked {
		if f = arch.Firmware(f); !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

// showResult tells in a line how a machine ended, and of one that failed why.
func showResult(t *term, r scenario.Result) {
	failures := 0
	for _, k := range r.Cases {
		if k.Reason == "" || k.Skipped {
			continue
		}
		failures++
		k.Reason = begin(k.Reason, 6)
		showCase(t, k)
	}
	if failures == 0 {
		last := r.Cases[len(r.Cases)-1]
		t.notef("%-12s %-10s %6.1f s  ok      all of %d steps", last.Scenario, last.Firmware, last.At, len(r.Cases))
	}
}

// begin is the first lines of a text. A journal that follows a reason was shown
// when the step failed.
func begin(text string, lines int) string {
	all := strings.SplitN(strings.TrimSpace(text), "\n", lines+1)
	return strings.Join(all[:min(len(all), lines)], "\n")
}

func showCase(t *term, k scenario.Case) {
	name := k.Line
	if r := []rune(name); len(r) > 76 {
		name = string(r[:75]) + "…"
	}
	at := fmt.Sprintf("%-12s %-10s %6.1f s", k.Scenario, k.Firmware, k.At)
	switch {
	case k.Skipped:
	case k.Reason == "":
		t.notef("%s  ok      %s", at, name)
	default:
		t.notef("%s  FAILED  %s\n    %s", at, k.Line, strings.ReplaceAll(strings.TrimSpace(k.Reason), "\n", "\n    "))
	}
}

// report writes the files that were asked for.
func (c *testConfig) report(results []scenario.Result) error {
	write := func(path string, how func(io.Writer) error) error {
		if path == "" {
			return nil
		}
		var b strings.Builder
		if err := how(&b); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			return fmt.Errorf("writing the results: %w", err)
		}
		return nil
	}
	return errors.Join(
		write(c.junit, func(w io.Writer) error { return scenario.WriteJUnit(w, results) }),
		write(c.json, func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			return e.Encode(results)
		}))
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
