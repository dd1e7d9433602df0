// Package timeline reads what a machine tells of its boot, and draws it.
package timeline

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Timeline is one boot. All times are seconds after power-on.
type Timeline struct {
	Title   string
	Spans   []Span // by their begin
	Moments []Span // what somebody elsewhere saw; To is From
}

// A Span is something that took a while.
type Span struct {
	Name     string
	Kind     Kind
	From, To float64
}

// Kind is who did it.
type Kind string

// The kinds, in the order of the picture's legend.
const (
	System    Kind = "system"    // firmware, kernel, systemd's units
	Container Kind = "container" // creation to start
	Ours      Kind = "step"      // a step of the agent or of the guide's script
)

// Parse reads what poweron's scripts print: properties of systemd, one unit a
// line, containers, and the journal of the agent or the guide with monotonic
// times. on is how long the machine had run, since power-on, when it printed
// its first uptime, which is the first line of out. What began after end is
// left out: it was not waited for.
func Parse(out string, on, end float64) (Timeline, error) {
	var t Timeline
	fail := func(line string, err error) (Timeline, error) {
		return Timeline{}, fmt.Errorf("reading the timeline: %q: %w", line, err)
	}
	before := -1.0        // power-on to the kernel's start
	var clock, up float64 // two names of one moment
	in := bufio.NewScanner(strings.NewReader(out))
	in.Buffer(nil, 1<<20)
	var steps []Span
	for in.Scan() {
		line := strings.TrimSpace(in.Text())
		if line == "" || strings.HasPrefix(line, "-- ") {
			continue
		}
		if before < 0 {
			first, _, _ := strings.Cut(line, " ")
			s, err := number(first)
			if err != nil || s > on {
				return fail(line, errors.New("not an uptime of this boot"))
			}
			before = on - s
			continue
		}
		var err error
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "clock":
			clock, err = number(value)
		case "uptime":
			up, err = number(value)
		case "UserspaceTimestampMonotonic":
			var s float64
			if s, err = microseconds(value); err == nil {
				t.Spans = append(t.Spans, Span{"firmware and GRUB", System, 0, before}, Span{"kernel and initrd", System, before, before + s})
			}
		case "container":
			var c Span
			if c, err = container(value, func(at time.Time) float64 { return before + up + float64(at.UnixNano())/1e9 - clock }); err == nil {
				t.Spans = append(t.Spans, c)
			}
		default:
			if strings.Contains(line, "Id=") {
				var u Span
				var ok bool
				if u, ok, err = unit(line); ok {
					u.From, u.To = u.From+before, u.To+before
					t.Spans = append(t.Spans, u)
				}
			} else if s, ok := entry(line); ok {
				s.From += before
				steps = append(steps, s)
			}
		}
		if err != nil {
			return fail(line, err)
		}
	}
	if before < 0 || len(t.Spans) == 0 {
		return Timeline{}, errors.New("reading the timeline: the machine has told nothing")
	}
	// A step ends where the next begins.
	for i := range steps {
		steps[i].To = max(end, steps[i].From)
		if i+1 < len(steps) {
			steps[i].To = steps[i+1].From
		}
		if steps[i].To > steps[i].From {
			t.Spans = append(t.Spans, steps[i])
		}
	}
	t.Spans = slices.DeleteFunc(t.Spans, func(s Span) bool { return s.From >= end })
	slices.SortStableFunc(t.Spans, func(a, b Span) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return t, nil
}

// number reads seconds that a picture can have.
func number(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err == nil && !(math.Abs(n) < 1e12) { // nor NaN
		err = errors.New("no time")
	}
	return n, err
}

func microseconds(s string) (float64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	return float64(n) / 1e6, err
}

// unit reads the properties of a unit on one line. One that was never started,
// or runs on without having said that it is up, has no span.
func unit(line string) (Span, bool, error) {
	p := map[string]string{}
	for _, f := range strings.Fields(line) {
		k, v, _ := strings.Cut(f, "=")
		p[k] = v
	}
	from, err := microseconds(p["InactiveExitTimestampMonotonic"])
	if err != nil {
		return Span{}, false, err
	}
	to, err := microseconds(p["ActiveEnterTimestampMonotonic"])
	if err != nil {
		return Span{}, false, err
	}
	return Span{strings.TrimSuffix(p["Id"], ".service"), System, from, to}, from > 0 && to >= from, nil
}

// container reads "/NAME CREATED STARTED".
func container(value string, at func(time.Time) float64) (Span, error) {
	f := strings.Fields(value)
	if len(f) != 3 {
		return Span{}, errors.New("not a name and two times")
	}
	made, err := time.Parse(time.RFC3339Nano, f[1])
	if err != nil {
		return Span{}, err
	}
	started, err := time.Parse(time.RFC3339Nano, f[2])
	if err != nil {
		return Span{}, err
	}
	return Span{"container " + strings.TrimPrefix(f[0], "/"), Container, at(made), at(started)}, nil
}

// entry reads a line of journalctl --output=short-monotonic.
func entry(line string) (Span, bool) {
	rest, ok := strings.CutPrefix(line, "[")
	stamp, text, found := strings.Cut(rest, "]")
	at, err := number(strings.TrimSpace(stamp))
	_, said, says := strings.Cut(text, "]: ")
	if !says {
		_, said, says = strings.Cut(text, ": ")
	}
	return Span{Name: said, Kind: Ours, From: at}, ok && found && says && err == nil
}
