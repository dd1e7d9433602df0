// Command bench measures bakes of the demo recipe and writes docs/benchmarks.md.
// Every figure that matters is a ratio of two things measured in one run.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prose-im/prose-image/builder/progress"
)

const runs = 5

func main() {
	if err := bench(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func bench() error {
	work, err := os.MkdirTemp("out", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b := &benchmark{work: work}
	if err := b.recipe(0); err != nil {
		return err
	}
	if only := os.Getenv("BENCH"); only != "" && only != "poweron" {
		return fmt.Errorf("BENCH=%s: it is poweron or nothing", only)
	}
	// The first bake fills what is not cached yet; it is not measured.
	if _, err := b.bake("raw", "qcow2"); err != nil {
		return err
	}
	if os.Getenv("BENCH") == "poweron" {
		rows, boots, err := b.powerOn(context.Background())
		if err != nil {
			return err
		}
		fmt.Print(table(rows))
		return replace(rows, boots)
	}
	rows := []row{}
	same, err := b.median(func(int) (sample, error) { return b.bake("raw") })
	if err != nil {
		return err
	}
	rows = append(rows, row{"nothing changed", fmt.Sprintf("%.2f s", same.seconds), "at most 0.3 s"})

	raw, err := b.median(func(i int) (sample, error) {
		if err := b.recipe(i + 1); err != nil {
			return sample{}, err
		}
		return b.bake("raw")
	})
	if err != nil {
		return err
	}
	rows = append(rows, row{"one overlay file changed, raw", fmt.Sprintf("%.2f s", raw.seconds), "at most 0.05 of mkosi --incremental"})
	qcow2, err := b.median(func(i int) (sample, error) {
		if err := b.recipe(100 + i); err != nil {
			return sample{}, err
		}
		return b.bake("qcow2")
	})
	if err != nil {
		return err
	}
	rows = append(rows, row{"one overlay file changed, qcow2", fmt.Sprintf("%.2f s", qcow2.seconds), "at most 0.15 of mkosi --incremental"})

	copied, err := b.median(func(int) (sample, error) { return b.copy() })
	if err != nil {
		return err
	}
	rows = append(rows,
		row{"disk written and synced, against cp --reflink=never and sync of the same file",
			fmt.Sprintf("%.2f s / %.2f s = %.2f", raw.write, copied.seconds, raw.write/copied.seconds), "at most 1.5"},
		row{"peak memory of the process, raw and qcow2", fmt.Sprintf("%.0f MiB, %.0f MiB", raw.memory, qcow2.memory), "at most 256 MiB"})
	kept, err := b.catalog()
	if err != nil {
		return err
	}
	rows = append(rows, kept)
	for _, arch := range []string{"amd64", "arm64"} {
		info, err := os.Stat("bin/prose-firstboot-linux-" + arch)
		if err != nil {
			return err
		}
		rows = append(rows, row{"agent, stripped, " + arch, fmt.Sprintf("%.1f MiB", float64(info.Size())/(1<<20)), "at most 9 MiB"})
	}
	costs, err := agent()
	if err != nil {
		return err
	}
	rows = append(rows, costs...)
	images, _ := filepath.Glob(filepath.Join(work, "out", "*.qcow2"))
	for _, name := range images {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		rows = append(rows, row{"demo image, qcow2, with the pod double", fmt.Sprintf("%.0f MiB", float64(info.Size())/(1<<20)), "350 MiB without containers"})
	}
	starts, boots, err := b.powerOn(context.Background())
	if err != nil {
		return err
	}
	text := table(append(rows, starts...))
	fmt.Print(text)
	return os.WriteFile(page, []byte(text+timelines+boots), 0o644)
}

// page is what is written.
const page = "docs/benchmarks.md"

// timelines is the head of the part with the boots.
const timelines = `
## Timelines

Three machines start in turns in the same emulator (or in KVM where there is it) with 2 processors and 2 GiB, DNS right from the start, and somebody
elsewhere says when they answer: ports once the web app, the dashboard and STARTTLS on 5222 answer with any certificate, trusted with the authority's, Ready
once the versions of API and server are told. Nobody logs in before that.

The guide's machine is Debian with its own settings, with the guide's packages installed and all that it downloads on the disk, the images as an archive;
cloud-init runs the guide's commands without a pause. It differs from the guide where the guide would fail: certbot answers through NGINX, which is running
already, the Pod's network has an IPv6 pool, and containers that gave up are started again after ten seconds. The third machine has our store, the guide's
files with unsigned certificates, and starts its Pod at boot.

Seconds after power-on, of each machine's middle boot:

![the boots side by side](poweron.svg)
`

// replace puts rows in the place of those of the page that are about the same,
// and leaves the others as they were measured.
func replace(rows []row, boots string) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	head, _, _ := strings.Cut(string(old), "\n## Timelines\n")
	var b strings.Builder
	for line := range strings.Lines(head) {
		if !slices.ContainsFunc(rows, func(r row) bool { return strings.HasPrefix(line, "| "+r.what+" |") }) {
			b.WriteString(line)
		}
	}
	for _, r := range rows {
		b.WriteString(r.String())
	}
	return os.WriteFile(page, []byte(b.String()+timelines+boots), 0o644)
}

type row struct{ what, measured, goal string }

func (r row) String() string { return fmt.Sprintf("| %s | %s | %s |\n", r.what, r.measured, r.goal) }

func table(rows []row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Benchmarks\n\nWritten by `make bench`. %d processors, %s, %s. Medians of %d runs, of %d for power-on; the page cache is warm.\nSeconds are this machine's: judge by the ratios.\n\n",
		runtime.NumCPU(), cpu(), runtime.Version(), runs, powerOns())
	b.WriteString("| what | measured | goal |\n|---|---|---|\n")
	for _, r := range rows {
		b.WriteString(r.String())
	}
	return b.String()
}

func cpu() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

type sample struct {
	seconds float64 // of the whole command
	write   float64 // of writing the disk
	memory  float64 // MiB, peak
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

func (b *benchmark) bake(formats ...string) (sample, error) {
	args := []string{"bake", filepath.Join(b.work, "bench.toml"), "-o", filepath.Join(b.work, "out"), "--json"}
	for _, f := range formats {
		args = append(args, "--format", f)
	}
	cmd := exec.Command("bin/prose-image", args...)
	var events bytes.Buffer
	cmd.Stderr = &events
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
		if e.Stage == "write" && e.State == progress.Done {
			s.write = e.Elapsed.Seconds()
		}
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
	for i := range runs {
		s, err := measure(i)
		if err != nil {
			return s, err
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(x, y sample) int { return cmp.Compare(x.seconds, y.seconds) })
	return all[runs/2], nil
}
