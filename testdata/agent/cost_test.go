package agenttest

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

// TestCost measures a first boot and runs with nothing to do. It prints lines
// that begin with "cost:", for benchmarks, and fails only when a run does.
func TestCost(t *testing.T) {
	b := newBox(t)
	b.world.records(address, names...)
	b.settings("")
	measure := func() (cpu, rss int64) {
		t.Helper()
		if r := b.call("crash", "cost", "/root/cost", "prose-firstboot", "run"); r.code != 0 {
			t.Fatalf("exit code %d\n%s", r.code, r.out)
		}
		text, err := os.ReadFile(b.path("root/cost"))
		if err == nil {
			_, err = fmt.Sscan(string(text), &cpu, &rss)
		}
		if err != nil {
			t.Fatal(err)
		}
		return cpu, rss
	}
	tell := func(what string, cpu, rss int64) {
		fmt.Printf("cost: %s: %d ms of processor, %.1f MiB\n", what, (cpu+500)/1000, float64(rss)/(1<<20))
	}
	cpu, rss := measure()
	tell("the first run, with the programs that it starts", cpu, rss)
	b.ready(t)
	var cpus, sizes []int64
	for range 7 {
		cpu, rss := measure()
		cpus, sizes = append(cpus, cpu), append(sizes, rss)
	}
	slices.Sort(cpus)
	slices.Sort(sizes)
	tell("a run with nothing to do, median of seven", cpus[3], sizes[3])
	info, err := os.Stat(b.path("usr/bin/prose-firstboot"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("cost: the stripped binary: %.1f MiB\n", float64(info.Size())/(1<<20))
}
