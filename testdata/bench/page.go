package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// page is what is written.
const page = "docs/benchmarks.md"

// Headings of the parts of the page after its table.
const (
	secondsHead   = "\n## Where the seconds go\n"
	timelinesHead = "\n## Timelines\n"
)

// timelines is the head of the part with the boots.
const timelines = timelinesHead + `
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

// measured is what a run found out.
type measured struct {
	rows    []row
	seconds string // the text below its heading; empty: not measured
	boots   string // likewise
}

type row struct{ what, measured, goal string }

func (r row) String() string { return fmt.Sprintf("| %s | %s | %s |\n", r.what, r.measured, r.goal) }

// write writes the page, or, when not everything was measured, puts what was
// in the place of what the page says of the same.
func (m measured) write(everything bool) error {
	if everything {
		var b strings.Builder
		b.WriteString(head())
		for _, r := range m.rows {
			b.WriteString(r.String())
		}
		return os.WriteFile(page, []byte(b.String()+secondsHead+m.seconds+timelines+m.boots), 0o644)
	}
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	table, boots, _ := strings.Cut(string(old), timelinesHead)
	table, seconds, _ := strings.Cut(table, secondsHead)
	var b strings.Builder
	for line := range strings.Lines(table) {
		if !slices.ContainsFunc(m.rows, func(r row) bool { return strings.HasPrefix(line, "| "+r.what+" |") }) {
			b.WriteString(line)
		}
	}
	for _, r := range m.rows {
		b.WriteString(r.String())
	}
	if m.seconds != "" {
		seconds = m.seconds
	}
	if seconds != "" {
		b.WriteString(secondsHead + seconds)
	}
	if m.boots != "" {
		b.WriteString(timelines + m.boots)
	} else if boots != "" {
		b.WriteString(timelinesHead + boots)
	}
	return os.WriteFile(page, []byte(b.String()), 0o644)
}

// head is the page down to the first row of its table.
func head() string {
	return fmt.Sprintf("# Benchmarks\n\nWritten by `make bench`. %d processors, %s, %s. Medians of %d runs, of %d for mkosi's cold builds, of %d for power-on; the page cache is warm.\nSeconds are this machine's: judge by the ratios.\n\n",
		runtime.NumCPU(), cpu(), runtime.Version(), runs(), colds(), powerOns()) + "| what | measured | goal |\n|---|---|---|\n"
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
