package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder/boot"
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
