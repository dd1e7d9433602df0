package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prose-im/prose-image/builder/boot"
)

// A Config says how to run scenarios.
type Config struct {
	Image string
	Tools string     // directory of [Tools]
	Logs  string     // directory that gets a directory of each run that failed
	Accel boot.Accel // see [boot.Probe]
	Out   io.Writer  // gets what steps print
	Live  func(Case) // is told each step when it is over; may be nil
	GoOn  bool       // do the steps after one that failed, too
	// Ways lead from listeners of the caller to ports of the machine. They are
	// used when Keep is set: it is called after the last step, with the machine
	// running, and what is around it ends when it returns.
	Ways map[int]net.Listener
	Keep func(context.Context, Kept)
	// Writes is a file that records what the machine writes to its disk, see
	// [boot.Options]; empty: none.
	Writes string
	// Finalizing is called when the authority is asked to finalize an order for
	// this name, before it is; may be nil.
	Finalizing func(name string)
}

// Kept is a machine that was left running.
type Kept struct {
	Domain string
	User   string      // whom Key lets in over SSH
	Key    string      // file, as ssh(1) reads it
	CA     string      // PEM of the root of its certificates
	Ports  map[int]int // ports of the machine, and the caller's that lead there
	Seed   string      // the NoCloud seed that it has

	r *run
}

// Orders are the names of the orders that the authority has seen, in order.
func (k Kept) Orders() []string {
	var names []string
	for _, o := range k.r.world.authority.seen() {
		names = append(names, o.Names...)
	}
	return names
}

// Cut cuts the power.
func (k Kept) Cut() { k.r.machine.close() }

// On puts a disk image into the machine in the place of its own, which is gone
// then, switches it on, logs in and does steps, as a scenario file has them.
// Whatever is around the machine stays as it is.
func (k Kept) On(ctx context.Context, image string, lines ...string) error {
	k.Cut()
	m := k.r.machine
	if err := os.RemoveAll(m.options.Dir); err != nil {
		return fmt.Errorf("taking the disk out: %w", err)
	}
	m.options.Image, m.options.Writes = image, ""
	// Its power is cut by Cut, and not by ctx.
	if err := m.start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	all := []Step{{Line: "log in", Command: &login}}
	for _, line := range lines {
		s, _, err := parseStep(line)
		if err != nil {
			return fmt.Errorf("step %q: %w", line, err)
		}
		all = append(all, s)
	}
	for _, s := range all {
		if err := k.r.step(ctx, s); err != nil {
			return errors.Join(fmt.Errorf("step %q: %w", s.Line, err), m.keepLogs(context.WithoutCancel(ctx), filepath.Dir(m.options.Log)))
		}
	}
	return nil
}

// run is one scenario at work.
type run struct {
	*Scenario
	config  Config
	world   *world
	machine *machine
	outside *outside
	replace *strings.Replacer
	saved   map[string]string // values that steps keep for later ones
	output  string            // what the last script wrote
}

// names are the names that the Pod has in DNS.
func (r *run) names() []string {
	return []string{r.Domain, "groups." + r.Domain, "prose." + r.Domain, "admin.prose." + r.Domain}
}

var prepare = sync.OnceValue(func() error { return network(context.Background()) })

// Run runs a scenario with one kind of firmware. What the machine did wrong is
// in the result; an error means that it could not be tried.
func Run(ctx context.Context, c Config, s *Scenario, firmware boot.Firmware) (result Result, err error) {
	result = Result{Scenario: s.Name, About: s.About, Firmware: firmware, Accel: c.Accel, Start: time.Now().UTC()}
	if err := prepare(); err != nil {
		return result, err
	}
	dir, err := os.MkdirTemp("/var/tmp", "prose-test-")
	if err != nil {
		return result, fmt.Errorf("making a directory for the scenario: %w", err)
	}
	defer os.RemoveAll(dir)
	logs := filepath.Join(c.Logs, s.Name+"-"+string(firmware))
	if err := errors.Join(os.RemoveAll(logs), os.MkdirAll(logs, 0o700)); err != nil {
		return result, fmt.Errorf("making a directory for logs: %w", err)
	}
	defer func() {
		if err == nil && !result.Failed() {
			os.RemoveAll(logs)
		} else {
			result.Logs = logs
		}
	}()

	r := &run{Scenario: s, config: c, saved: map[string]string{}}
	if r.world, err = newWorld(ctx, dir, logs, c.Tools); err != nil {
		return result, err
	}
	defer r.world.close()
	r.world.authority.finalizing = c.Finalizing
	r.outside = newOutside(r.world.authority.Roots)
	r.replace = replacer(s, r.world.authority.CA)
	if err := r.world.names.all(ctx, r.names(), s.DNS); err != nil {
		return result, err
	}
	if r.machine, err = newMachine(s, firmware, c.Accel, c.Image, dir, logs, r.replace); err != nil {
		return result, err
	}
	defer r.machine.close()
	r.machine.options.Writes = c.Writes
	// Its power is cut by us, after its journal was asked for, and not by ctx.
	if err := r.machine.start(context.WithoutCancel(ctx)); err != nil {
		return result, err
	}
	r.steps(ctx, &result)
	if result.Failed() {
		// The step may have failed because ctx ended; the logs matter then too.
		err = r.machine.keepLogs(context.WithoutCancel(ctx), logs)
	}
	if c.Keep != nil && ctx.Err() == nil {
		kept := Kept{Domain: s.Domain, User: user, Key: r.machine.keyFile, CA: r.world.authority.root, Ports: map[int]int{}, Seed: r.machine.options.Seed, r: r}
		for port, l := range c.Ways {
			kept.Ports[port] = l.Addr().(*net.TCPAddr).Port
			go forward(l, net.JoinHostPort(Address, strconv.Itoa(port)))
		}
		c.Keep(ctx, kept)
	}
	return result, errors.Join(err, context.Cause(ctx))
}

// login is the step that a scenario begins with unless its key login is false.
var login = Command{Name: "log in", do: func(ctx context.Context, r *run, _ []string) error {
	if err := r.machine.vm.Wait(ctx, boot.LoginPrompt, r.config.Accel.Budget(boot.ToLogin)); err != nil {
		return err
	}
	return r.machine.up(ctx)
}}

// steps runs the steps until one fails.
func (r *run) steps(ctx context.Context, result *Result) {
	all := r.Steps
	if r.Login {
		all = append([]Step{{Line: "log in", Command: &login}}, r.Steps...)
	}
	for i, s := range all {
		c := Case{Number: i, Line: s.Line, Scenario: r.Name, Firmware: result.Firmware, Skipped: ctx.Err() != nil || result.Failed() && (!r.config.GoOn || r.Login && result.Cases[0].Reason != "")}
		if !c.Skipped {
			start := time.Now()
			err := r.step(ctx, s)
			c.Seconds, c.At = time.Since(start).Seconds(), time.Since(r.machine.on).Seconds()
			c.CPU = r.machine.cpu()
			if err != nil {
				c.Reason = err.Error()
			}
		}
		result.Cases = append(result.Cases, c)
		if r.config.Live != nil {
			r.config.Live(c)
		}
	}
}

func (r *run) step(ctx context.Context, s Step) error {
	budget := max(r.Budget, s.Within)
	if s.Command == &login {
		budget = max(budget, r.config.Accel.Budget(boot.ToSSH))
	}
	budget = r.config.Accel.Scale(budget)
	ctx, cancel := context.WithTimeoutCause(ctx, budget, fmt.Errorf("%s are over", budget))
	defer cancel()
	args := make([]string, len(s.Args))
	for i, a := range s.Args {
		args[i] = r.expand(a)
	}
	if s.Within == 0 {
		return s.Command.do(ctx, r, args)
	}
	return again(ctx, r.config.Accel.Scale(s.Within), func(ctx context.Context) error { return s.Command.do(ctx, r, args) })
}

// again tries something until it works or the time is over.
func again(ctx context.Context, within time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("%s are over", within))
	defer cancel()
	var last error // of a try that was not cut short
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("%w, and still: %w", context.Cause(ctx), last)
		}
	}
}

// replacer puts in what is known before the machine runs.
func replacer(s *Scenario, ca string) *strings.Replacer {
	// JSON's form of a text is one of YAML's, on one line.
	quoted, err := json.Marshal(ca)
	if err != nil {
		panic("BUG: a text is no JSON: " + err.Error())
	}
	return strings.NewReplacer("{domain}", s.Domain, "{address}", Address, "{elsewhere}", elsewhere,
		"{acme.directory}", acmeDirectory, "{acme.ca}", ca, "{acme.ca.quoted}", string(quoted))
}

// expand puts in what steps have saved, too. What is no placeholder of ours
// stays: scripts have braces of their own.
func (r *run) expand(s string) string {
	s = r.replace.Replace(s)
	return placeholder.ReplaceAllStringFunc(s, func(p string) string {
		if v, ok := r.saved[p[1:len(p)-1]]; ok {
			return v
		}
		return p
	})
}
