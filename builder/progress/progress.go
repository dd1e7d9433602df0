// Package progress says what a long job is doing. The job sends an [Event] at
// each change; drawing it is the business of a [Func]: [Lines] for a pipe,
// [Live] for a terminal, [JSON] for a machine.
package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// A State is how far a piece of work is.
type State string

// The states of a piece of work.
const (
	Started State = "started"
	Cached  State = "cached"  // it was there already
	Damaged State = "damaged" // it was there, and cannot be used
	Done    State = "done"
	Failed  State = "failed"
)

// An Event is one change.
type Event struct {
	Stage   string        `json:"stage"` // an arrow of the flow: lock, bake, write, convert
	Name    string        `json:"name"`  // what it works on
	State   State         `json:"state"`
	Elapsed time.Duration `json:"elapsed_ns,omitempty"`
	Bytes   int64         `json:"bytes,omitempty"` // size of what was made
	Note    string        `json:"note,omitempty"`
}

// A Func takes events. It is called from one goroutine at a time.
type Func func(Event)

// Discard takes events and does nothing.
func Discard(Event) {}

// Shared is f for several goroutines.
func (f Func) Shared() Func {
	var mu sync.Mutex
	return func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		f(e)
	}
}

// Do reports the start and the end of one piece of work.
func (f Func) Do(stage, name string, work func() (bytes int64, err error)) error {
	f(Event{Stage: stage, Name: name, State: Started})
	start := time.Now()
	n, err := work()
	e := Event{Stage: stage, Name: name, State: Done, Elapsed: time.Since(start), Bytes: n}
	if err != nil {
		e.State = Failed
	}
	f(e)
	return err
}

// Lines writes one line at each end of work.
func Lines(w io.Writer) Func {
	return func(e Event) {
		if e.State != Started {
			fmt.Fprintln(w, Line(e))
		}
	}
}

// JSON writes each event as one line of JSON.
func JSON(w io.Writer) Func {
	enc := json.NewEncoder(w)
	return func(e Event) { _ = enc.Encode(e) }
}

// Live repaints one line with the time that the work in hand has taken, the
// oldest when there are several, and leaves a line behind for each piece that
// ended. The returned stop must be
// called before anything else is printed.
func Live(w io.Writer) (f Func, stop func()) {
	type work struct {
		stage, name string
		since       time.Time
	}
	var (
		mu   sync.Mutex
		hand []work
		quit = make(chan struct{})
		once sync.Once
	)
	paint := func() {
		if len(hand) > 0 {
			fmt.Fprintf(w, "\r\x1b[K%s %s … %s", hand[0].stage, hand[0].name, Elapsed(time.Since(hand[0].since)))
		}
	}
	go func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				mu.Lock()
				paint()
				mu.Unlock()
			}
		}
	}()
	f = func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.State == Started {
			hand = append(hand, work{e.Stage, e.Name, time.Now()})
			paint()
			return
		}
		hand = slices.DeleteFunc(hand, func(w work) bool { return w.stage == e.Stage && w.name == e.Name })
		fmt.Fprintf(w, "\r\x1b[K%s\n", Line(e))
	}
	return f, func() {
		once.Do(func() {
			close(quit)
			mu.Lock()
			defer mu.Unlock()
			if len(hand) > 0 {
				fmt.Fprint(w, "\r\x1b[K")
				hand = nil
			}
		})
	}
}

// Line is an event as one line of text.
func Line(e Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %-24s ", e.Stage, e.Name)
	switch e.State {
	case Done:
		b.WriteString(Elapsed(e.Elapsed))
	default:
		b.WriteString(string(e.State))
	}
	if e.Bytes > 0 {
		b.WriteString("  " + Size(e.Bytes))
	}
	if e.Note != "" {
		b.WriteString("  " + e.Note)
	}
	return b.String()
}

// Elapsed is a duration in seconds, with a tenth below a minute.
func Elapsed(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
}

// Size is a number of bytes in the unit of IEC 80000-13 that leaves it at
// least 1.
func Size(n int64) string {
	for _, u := range []struct {
		name string
		n    int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.n {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.n), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
