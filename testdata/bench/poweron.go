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
	"slices"
	"strings"

	"github.com/prose-im/prose-image/testdata/bench/guide"
	"github.com/prose-im/prose-image/testdata/bench/timeline"
)

// powerOns is how often each machine is started: a boot takes minutes. Where a
// machine is emulated beside other work STARTS=1 may have to do.
func powerOns() int { return count("STARTS", 3) }

// A started is one boot of a machine, in seconds after power-on.
type started struct {
	ports, ready       float64 // ready is 0 where nobody waits for it
	portsCPU, readyCPU float64 // processor time that the emulator had had by then
	timeline           timeline.Timeline
}

// machines are those that are compared, ours first. The scenario of each has
// its name.
var machines = []struct{ name, title string }{
	{"ours", "this image"},
	{"guide", "the guide on Debian with its packages installed"},
	{"store", "Debian's settings with our store"},
}

// powerOn measures how long machines take from power-on until people can use
// them, in turns, and draws the middle boot of each.
func (b *benchmark) powerOn(ctx context.Context) ([]row, string, error) {
	images := map[string]string{}
	ours, err := filepath.Glob(filepath.Join(b.work, "out", "*.qcow2"))
	if err != nil || len(ours) != 1 {
		return nil, "", fmt.Errorf("%d images where one was expected", len(ours))
	}
	images["ours"] = ours[0]
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, "", err
	}
	for _, kind := range []guide.Kind{guide.Guide, guide.Store} {
		images[string(kind)] = filepath.Join(b.work, string(kind)+".raw")
		c := guide.Config{Kind: kind, Domain: "chat.example", Lock: "testdata/recipes/demo.lock", Layout: "bin/pod", Cache: filepath.Join(cache, "prose-image")}
		if err := guide.Bake(ctx, c, images[string(kind)]); err != nil {
			return nil, "", err
		}
	}
	all := map[string][]started{}
	starts := powerOns()
	for i := range starts {
		for _, m := range machines {
			s, err := b.start(m.name, images[m.name])
			if err != nil {
				return nil, "", err
			}
			fmt.Fprintf(os.Stderr, "power-on %d of %d, %s: ports after %.0f s (%.0f s of processors), ready after %.0f s (%.0f s)\n", i+1, starts, m.name, s.ports, s.portsCPU, s.ready, s.readyCPU)
			s.timeline.Title = m.title
			all[m.name] = append(all[m.name], s)
		}
	}
	ready := func(s started) float64 { return s.ready }
	ports := func(s started) float64 { return s.ports }
	// Beside other work on this machine the processor time says more than the
	// time that passed.
	ratio := func(a, b float64) string { return fmt.Sprintf("%.0f s / %.0f s = %.2f", a, b, a/b) }
	var rows []row
	for _, r := range []struct {
		what, than, goal string
		by               func(started) float64
	}{
		{"power-on to Ready, against the guide on an untuned image with its packages installed", "guide", "at most 0.45", ready},
		{"the same in processor time", "guide", "", func(s started) float64 { return s.readyCPU }},
		{"power-on to ports that answer, against Debian's settings with the same store", "store", "at most 0.5", ports},
		{"the same ports in processor time", "store", "", func(s started) float64 { return s.portsCPU }},
	} {
		rows = append(rows, row{r.what, ratio(r.by(middle(all["ours"], r.by)), r.by(middle(all[r.than], r.by))), r.goal})
	}
	drawn := []timeline.Timeline{middle(all["ours"], ready).timeline, middle(all["guide"], ready).timeline, middle(all["store"], ports).timeline}
	var picture bytes.Buffer
	if err := timeline.SVG(&picture, drawn); err != nil {
		return nil, "", err
	}
	if err := os.WriteFile("docs/poweron.svg", picture.Bytes(), 0o644); err != nil {
		return nil, "", err
	}
	return rows, timeline.Text(drawn), nil
}

// middle is the boot that was neither quick nor slow.
func middle(all []started, by func(started) float64) started {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b started) int { return cmp.Compare(by(a), by(b)) })
	return sorted[len(sorted)/2]
}

// start starts a machine once, in a network of its own.
func (b *benchmark) start(name, image string) (started, error) {
	report := filepath.Join(b.work, "poweron.json")
	cmd := exec.Command("bin/prose-image", "test", image, "--scenario", "testdata/bench/poweron/"+name+".toml", "--json", report, "--logs", "out/poweron")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return started{}, fmt.Errorf("%v: %w\n%s", cmd.Args, err, &errs)
	}
	data, err := os.ReadFile(report)
	if err != nil {
		return started{}, err
	}
	return read(data, out.String())
}

// read reads what prose-image test has written: when each step was over, and
// what the machine told.
func read(report []byte, told string) (started, error) {
	var results []struct {
		Cases []struct {
			Line string  `json:"line"`
			At   float64 `json:"at"`
			CPU  float64 `json:"cpu"`
		} `json:"cases"`
	}
	if err := json.Unmarshal(report, &results); err != nil || len(results) != 1 {
		return started{}, fmt.Errorf("reading the report of a boot: %w", cmp.Or(err, fmt.Errorf("%d results", len(results))))
	}
	var s started
	var moments []timeline.Span
	uptime := 0.0
	for _, c := range results[0].Cases {
		word, _, _ := strings.Cut(c.Line, " ")
		switch word {
		case "ports":
			s.ports, s.portsCPU = c.At, c.CPU
			moments = append(moments, timeline.Span{Name: "ports", From: c.At, To: c.At})
		case "trusted":
			moments = append(moments, timeline.Span{Name: "trusted", From: c.At, To: c.At})
		case "within":
			s.ready, s.readyCPU = c.At, c.CPU
			moments = append(moments, timeline.Span{Name: "Ready", From: c.At, To: c.At})
		case "print":
			if uptime == 0 {
				uptime = c.At
			}
		}
	}
	if s.ports == 0 || uptime == 0 {
		return started{}, fmt.Errorf("the report of a boot lacks a step")
	}
	var err error
	s.timeline, err = timeline.Parse(told, uptime, max(s.ports, s.ready))
	s.timeline.Moments = moments
	return s, err
}
