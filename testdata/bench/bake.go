package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prose-im/prose-image/builder/progress"
)

// A sample is one run of a command.
type sample struct {
	seconds float64 // of the whole command
	write   float64 // of writing the disk
	memory  float64 // MiB, peak
	spans   []span  // where the time went, in order
}

// A span is one part of a bake.
type span struct {
	name    string
	seconds float64
}

type benchmark struct{ work string }

// recipe writes the demo recipe with an overlay of one file of the given
// content. The lock stays.
func (b *benchmark) recipe(n int) error {
	mirror, err := filepath.Abs("bin/pod")
	if err != nil {
		return err
	}
	lock, err := os.ReadFile("testdata/recipes/demo.lock")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"bench.toml":       fmt.Sprintf("overlays = [\"own\"]\n[pod.mirror]\n\"docker.io/proseim\" = \"oci:%s\"\n", mirror),
		"bench.lock":       string(lock),
		"own/etc/bench":    fmt.Sprintf("run %d of %d\n", n, os.Getpid()),
		"own/etc/.ignored": "",
	} {
		name = filepath.Join(b.work, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// bake bakes with the user's cache.
func (b *benchmark) bake(formats ...string) (sample, error) {
	return b.command(nil, "-o", filepath.Join(b.work, "out"), formats)
}

// cold bakes a raw disk with nothing but package files and container images in
// its cache.
func (b *benchmark) cold() (sample, error) {
	dir := filepath.Join(b.work, "cold")
	defer os.RemoveAll(dir)
	user, err := userCache()
	if err != nil {
		return sample{}, err
	}
	for _, d := range []string{"cache", "path"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return sample{}, err
		}
	}
	for _, d := range []string{"packages", "blobs"} {
		if err := os.Symlink(filepath.Join(user, d), filepath.Join(dir, "cache", d)); err != nil {
			return sample{}, err
		}
	}
	env, trace, err := tracing(dir)
	if err != nil {
		return sample{}, err
	}
	s, err := b.command(env, "-o", filepath.Join(dir, "out"), []string{"raw"}, "--cache", filepath.Join(dir, "cache"))
	if err != nil {
		return s, err
	}
	parts, err := readTrace(trace)
	s.spans = within(s.spans, "bake base", parts)
	return s, err
}

func (b *benchmark) command(env []string, o, out string, formats []string, more ...string) (sample, error) {
	args := append([]string{"bake", filepath.Join(b.work, "bench.toml"), o, out, "--json"}, more...)
	for _, f := range formats {
		args = append(args, "--format", f)
	}
	cmd := exec.Command("bin/prose-image", args...)
	if env != nil {
		cmd.Env = append(os.Environ(), env...)
	}
	var events bytes.Buffer
	cmd.Stderr = &events
	// What an earlier run has left to be written is not this one's.
	syscall.Sync()
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return sample{}, fmt.Errorf("%v: %w\n%s", cmd.Args, err, &events)
	}
	s := sample{seconds: time.Since(start).Seconds()}
	s.memory = float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) / 1024
	for d := json.NewDecoder(&events); ; {
		var e progress.Event
		if d.Decode(&e) != nil {
			return s, nil
		}
		if e.State != progress.Done {
			continue
		}
		if e.Stage == "write" {
			s.write = e.Elapsed.Seconds()
		}
		// Names of files are of no interest, but for what sets them apart.
		name := e.Name
		if e.Stage == "convert" {
			name = "to " + strings.TrimPrefix(filepath.Ext(e.Name), ".")
		} else if e.Stage == "write" {
			name = "the disk"
		}
		s.spans = append(s.spans, span{e.Stage + " " + name, e.Elapsed.Seconds()})
	}
}

// copy copies the raw disk, holes kept, and syncs it.
func (b *benchmark) copy() (sample, error) {
	raws, _ := filepath.Glob(filepath.Join(b.work, "out", "*.raw"))
	if len(raws) != 1 {
		return sample{}, fmt.Errorf("%d raw disks where one was expected", len(raws))
	}
	to := filepath.Join(b.work, "copy")
	defer os.Remove(to)
	syscall.Sync()
	start := time.Now()
	for _, args := range [][]string{{"cp", "--reflink=never", "--sparse=auto", raws[0], to}, {"sync", to}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return sample{}, fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	return sample{seconds: time.Since(start).Seconds()}, nil
}

func (b *benchmark) median(measure func(i int) (sample, error)) (sample, error) {
	var all []sample
	for i := range runs() {
		s, err := measure(i)
		if err != nil {
			return s, err
		}
		all = append(all, s)
	}
	return middling(all), nil
}

// middling is the run that was neither quick nor slow.
func middling(all []sample) sample {
	slices.SortFunc(all, func(x, y sample) int { return cmp.Compare(x.seconds, y.seconds) })
	return all[len(all)/2]
}

func userCache() (string, error) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "prose-image"), err
}
