package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prose-im/prose-image/builder"
)

// traceFile is the variable that has this program stand for mmdebstrap and say
// there when it said what.
const traceFile = "BENCH_TRACE"

// tracing is an environment in which mmdebstrap is traced, and the file of the
// trace. Programs of a bake get little of its environment: the trace's name is
// in the script that they find in the place of mmdebstrap.
func tracing(dir string) (env []string, trace string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, "", err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	path := os.Getenv("PATH")
	trace = filepath.Join(dir, "trace")
	script := fmt.Sprintf("#!/bin/sh\n%s='%s' PATH='%s' exec '%s' \"$@\"\n", traceFile, trace, path, self)
	return []string{"PATH=" + filepath.Join(dir, "path") + ":" + path}, trace, os.WriteFile(filepath.Join(dir, "path", "mmdebstrap"), []byte(script), 0o755)
}

// traced runs the real mmdebstrap.
func traced(trace string, args []string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "error: tracing:", err)
		return 1
	}
	f, err := os.Create(trace)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	cmd := exec.Command("mmdebstrap", args[1:]...)
	cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
	said, err := cmd.StderrPipe()
	if err != nil {
		return fail(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	for s := bufio.NewScanner(io.TeeReader(said, os.Stderr)); s.Scan(); {
		fmt.Fprintf(f, "%f %s\n", time.Since(start).Seconds(), s.Text())
	}
	err = cmd.Wait()
	fmt.Fprintf(f, "%f I: end\n", time.Since(start).Seconds())
	if cmd.ProcessState == nil {
		return fail(err)
	}
	return cmd.ProcessState.ExitCode()
}

// readTrace reads how long mmdebstrap took from each thing it said it does to
// the next.
func readTrace(name string) ([]span, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var parts []span
	last := 0.0
	for line := range strings.Lines(string(b)) {
		at, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		what, ok := strings.CutPrefix(text, "I: ")
		if !ok {
			continue
		}
		seconds, err := strconv.ParseFloat(at, 64)
		if err != nil {
			return nil, fmt.Errorf("reading when mmdebstrap said what: %w", err)
		}
		if n := len(parts); n > 0 {
			parts[n-1].seconds = seconds - last
		}
		last = seconds
		// Not the paths that follow: they are of this machine.
		what, _, _ = strings.Cut(what, " in shell: ")
		what, _, _ = strings.Cut(what, " /")
		parts = append(parts, span{name: strings.TrimRight(what, ".")})
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("mmdebstrap said nothing of what it does")
	}
	return slices.DeleteFunc(parts, func(s span) bool { return s.seconds < 0.05 }), nil
}

// within puts parts below the span of the name.
func within(all []span, name string, parts []span) []span {
	var list []span
	for _, s := range all {
		list = append(list, s)
		if s.name == name {
			for _, p := range parts {
				list = append(list, span{indent + p.name, p.seconds})
			}
		}
	}
	return list
}

// indent sets a part of a span apart.
const indent = "&emsp;"

// spans is the table of where three bakes' time went.
func spans(cold, raw, qcow2 sample) string {
	bakes := []sample{cold, raw, qcow2}
	var names []string
	seconds := make([]map[string]float64, len(bakes))
	for i, s := range bakes {
		seconds[i] = map[string]float64{}
		sum := 0.0
		for _, p := range s.spans {
			seconds[i][p.name] += p.seconds
			if !slices.Contains(names, p.name) {
				names = append(names, p.name)
			}
			if !strings.HasPrefix(p.name, indent) {
				sum += p.seconds
			}
		}
		seconds[i]["between them"], seconds[i]["all"] = s.seconds-sum, s.seconds
	}
	var b strings.Builder
	b.WriteString("| what | cold, raw | one file changed, raw | one file changed, qcow2 |\n|---|---|---|---|\n")
	for _, name := range append(names, "between them", "all") {
		fmt.Fprintf(&b, "| %s |", name)
		for _, s := range seconds {
			if v, ok := s[name]; ok {
				fmt.Fprintf(&b, " %.2f |", v)
			} else {
				b.WriteString(" |")
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// profiles bakes in this process after one file has changed and says which
// functions the processors' time went to.
func (b *benchmark) profiles(ctx context.Context) (string, error) {
	var text strings.Builder
	for i, format := range []string{"raw", "qcow2"} {
		if err := b.recipe(200 + i); err != nil {
			return "", err
		}
		name := filepath.Join(b.work, format+".pprof")
		if err := b.profile(ctx, name, format); err != nil {
			return "", err
		}
		top, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=10", name).Output()
		if err != nil {
			return "", fmt.Errorf("reading the profile: %w", err)
		}
		fmt.Fprintf(&text, "\nProcessors' time of the bake to %s, by function:\n\n", format)
		for line := range strings.Lines(string(top)) {
			// The first lines name files and times of this machine.
			if word, _, _ := strings.Cut(line, ":"); word == "File" || word == "Build ID" || word == "Type" || word == "Time" {
				continue
			}
			text.WriteString("    " + line)
		}
	}
	return text.String(), nil
}

func (b *benchmark) profile(ctx context.Context, name, format string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	_, err = builder.Bake(ctx, builder.Config{Recipe: filepath.Join(b.work, "bench.toml"), Out: filepath.Join(b.work, "profiled"), Agent: "bin", Formats: []string{format}})
	return err
}
