// Command bench measures bakes of the demo recipe, and boots of its image, and
// writes docs/benchmarks.md. Every figure that matters is a ratio of two things
// measured in one run.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

func main() {
	if trace := os.Getenv(traceFile); trace != "" {
		os.Exit(traced(trace, os.Args))
	}
	if err := bench(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// count is the number that the environment gives for name, or n.
func count(name string, n int) int {
	if given, err := strconv.Atoi(os.Getenv(name)); err == nil && given > 0 {
		return given
	}
	return n
}

// runs is how often a bake is measured.
func runs() int { return count("RUNS", 5) }

func bench(ctx context.Context) error {
	only := os.Getenv("BENCH")
	if only != "" && only != "bake" && only != "poweron" {
		return fmt.Errorf("BENCH=%s: it is bake, poweron or nothing", only)
	}
	work, err := os.MkdirTemp("out", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b := &benchmark{work: work}
	if err := b.recipe(0); err != nil {
		return err
	}
	// The first bake fills what is not cached yet; it is not measured.
	if _, err := b.bake("raw", "qcow2"); err != nil {
		return err
	}
	var p measured
	if only != "poweron" {
		rows, seconds, err := b.bakes(ctx)
		if err != nil {
			return err
		}
		p.rows, p.seconds = rows, seconds
	}
	if only == "" {
		rows, err := b.others()
		if err != nil {
			return err
		}
		p.rows = append(p.rows, rows...)
	}
	if only != "bake" {
		rows, boots, err := b.powerOn(ctx)
		if err != nil {
			return err
		}
		p.rows, p.boots = append(p.rows, rows...), boots
	}
	for _, r := range p.rows {
		fmt.Print(r)
	}
	return p.write(only == "")
}

// others are the figures of what is neither a bake nor a machine.
func (b *benchmark) others() ([]row, error) {
	kept, err := b.catalog()
	if err != nil {
		return nil, err
	}
	rows := []row{kept}
	for _, arch := range []string{"amd64", "arm64"} {
		info, err := os.Stat("bin/prose-firstboot-linux-" + arch)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{"agent, stripped, " + arch, fmt.Sprintf("%.1f MiB", float64(info.Size())/(1<<20)), "at most 9 MiB"})
	}
	costs, err := agent()
	if err != nil {
		return nil, err
	}
	rows = append(rows, costs...)
	images, _ := filepath.Glob(filepath.Join(b.work, "out", "*.qcow2"))
	for _, name := range images {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{"demo image, qcow2, with the pod double", fmt.Sprintf("%.0f MiB", float64(info.Size())/(1<<20)), "350 MiB without containers"})
	}
	return rows, nil
}
