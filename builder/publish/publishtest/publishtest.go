package publishtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/publish"
)

// A World is a place to publish to, new and empty.
type World struct {
	Address string
	Image   publish.Image // of at least two parts
	Other   publish.Image // the same name and version, other bytes
	Clock   *Clock
	Forms   []Form // in which its calls can go wrong
	// Process gives the target to a new process.
	Process func(*Faults) publish.Target
	// Check says what is wrong with the place: anything but Image, once and
	// public in all its parts, made public once, with nothing beside it.
	Check func() error
	// Public is how many parts are public.
	Public func() int
	// Refuse makes one part fail for good.
	Refuse func(call string) error
}

// config is for a process with faults.
func (w *World) config(f *Faults, j publish.Journal) publish.Config {
	return publish.Config{
		Image: w.Image, Address: w.Address, Target: w.Process(f), Journal: j,
		Now: w.Clock.Now, Sleep: w.Clock.Sleep,
	}
}

// Run holds a target to the contract. It returns the number of cases, each of
// which ended in one image.
func Run(t *testing.T, world func(t *testing.T) *World) int {
	s := &suite{t: t, world: world}
	calls, entries := s.fresh()
	if s.calls = calls; t.Failed() {
		return s.cases
	}
	s.kills(calls)
	s.journalKills(entries)
	s.interleaved(calls)
	s.overtaken(calls)
	s.together()
	s.conflict()
	s.partial()
	s.sweep(calls)
	t.Logf("%d calls and %d entries of the journal in one publishing, %d cases", calls, entries, s.cases)
	return s.cases
}

type suite struct {
	t     *testing.T
	world func(t *testing.T) *World
	cases int
	calls int // in one publishing; 0: not known yet
}

// do is one case.
func (s *suite) do(name string, test func(t *testing.T, w *World)) {
	s.cases++
	s.t.Run(name, func(t *testing.T) {
		if s.calls > 0 {
			t.Parallel()
		}
		test(t, s.world(t))
	})
}

// finish runs new processes until one ends well.
func finish(t *testing.T, w *World, j publish.Journal) {
	t.Helper()
	for range 3 {
		if _, err := publish.Run(t.Context(), w.config(&Faults{}, j)); err == nil {
			return
		} else {
			t.Logf("run again after: %v", err)
		}
	}
	t.Fatal("three processes in a row did not get it done")
}

func check(t *testing.T, w *World) {
	t.Helper()
	if err := w.Check(); err != nil {
		t.Error(err)
	}
}

// nothingLeft asks sweep without patience.
func nothingLeft(t *testing.T, w *World, j publish.Journal) {
	t.Helper()
	left, err := publish.Sweep(t.Context(), publish.SweepConfig{
		Target: w.Process(&Faults{}), Journal: j, Age: time.Nanosecond, DryRun: true,
		Now: func() time.Time { return w.Clock.Now().Add(time.Hour) },
	})
	if err != nil || len(left) > 0 {
		t.Errorf("sweep finds %+v, %v", left, err)
	}
}

// fresh publishes once, and again, and counts.
func (s *suite) fresh() (calls, entries int) {
	s.do("fresh", func(t *testing.T, w *World) {
		f := &Faults{}
		mem := &publish.Memory{}
		j := &journal{Journal: mem, faults: f}
		c := w.config(f, j)
		c.Target = &intended{c.Target, t, mem, publish.Operation(w.Address, w.Image)}
		r, err := publish.Run(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		check(t, w)
		nothingLeft(t, w, mem)
		calls, entries = len(f.Calls()), j.count
		if len(r.Published) < 2 || r.Steps == 0 || calls == 0 {
			t.Errorf("report %+v after %d calls", r, calls)
		}
		for _, again := range []publish.Journal{mem, &publish.Memory{}} {
			r, err = publish.Run(t.Context(), w.config(&Faults{}, again))
			if err != nil || r.Steps != 0 || len(r.Published) < 2 {
				t.Errorf("published again: %+v, %v", r, err)
			}
		}
		check(t, w)
	})
	return calls, entries
}

// intended sees that the journal has the intent of a step before it is done.
type intended struct {
	publish.Target
	t         *testing.T
	journal   publish.Journal
	operation string
}

func (i *intended) Do(ctx context.Context, img publish.Image, s publish.Step, seen map[string]publish.Seen) (json.RawMessage, error) {
	entries, err := i.journal.Entries(ctx, i.operation)
	if n := len(entries); err != nil || n == 0 || entries[n-1].Kind != publish.Intent || entries[n-1].Call != s.Call {
		i.t.Errorf("%s is done and the journal has no intent: %v, %v", s.Call, entries, err)
	}
	return i.Target.Do(ctx, img, s, seen)
}

// kills strikes each call in each form: the process ends there, or goes on and
// knows nothing of what became of the call. The next one has the journal, or
// nothing.
func (s *suite) kills(calls int) {
	forms := s.world(s.t).Forms
	for n := 1; n <= calls; n++ {
		for _, form := range forms {
			for _, next := range []string{"goes on", "dies", "dies with its journal"} {
				if next != "goes on" && !form.silent() {
					continue // it dies of nothing that it was told
				}
				s.do(fmt.Sprintf("call %d/%s/%s", n, form, next), func(t *testing.T, w *World) {
					mem := &publish.Memory{}
					f := &Faults{N: n, Form: form, Dies: next != "goes on"}
					_, err := publish.Run(t.Context(), w.config(f, &journal{Journal: mem, faults: f}))
					if len(f.Calls()) < n {
						t.Fatalf("only %d calls", len(f.Calls()))
					}
					switch next {
					case "goes on":
						if err != nil {
							t.Fatalf("%s: %v", f.Calls()[n-1], err)
						}
					case "dies":
						finish(t, w, mem)
					default:
						mem = &publish.Memory{}
						finish(t, w, mem)
						s.sweepUnknown(t, w)
					}
					check(t, w)
					nothingLeft(t, w, mem)
					if t.Failed() {
						t.Logf("struck: %s", f.Calls()[n-1])
					}
				})
			}
		}
	}
}

// sweepUnknown removes what nobody remembers, when all of it can be seen.
func (s *suite) sweepUnknown(t *testing.T, w *World) {
	t.Helper()
	_, err := publish.Sweep(t.Context(), publish.SweepConfig{
		Target: w.Process(&Faults{}), Now: func() time.Time { return w.Clock.Now().Add(25 * time.Hour) },
	})
	if err != nil {
		t.Error(err)
	}
}

// journalKills ends the process at each entry, before it is kept and after.
func (s *suite) journalKills(entries int) {
	for n := 1; n <= entries; n++ {
		for _, after := range []bool{false, true} {
			s.do(fmt.Sprintf("entry %d/kept %v", n, after), func(t *testing.T, w *World) {
				mem, f := &publish.Memory{}, &Faults{}
				_, err := publish.Run(t.Context(), w.config(f, &journal{Journal: mem, faults: f, n: n, after: after}))
				if !errors.Is(err, ErrDead) {
					t.Fatalf("the process did not end: %v", err)
				}
				finish(t, w, mem)
				check(t, w)
				nothingLeft(t, w, mem)
			})
		}
	}
}

// interleaved stops one process before each call, lets another do everything,
// and lets the first go on.
func (s *suite) interleaved(calls int) {
	for n := 1; n <= calls; n++ {
		s.do(fmt.Sprintf("other process before call %d", n), func(t *testing.T, w *World) {
			mem := &publish.Memory{}
			f := &Faults{N: n, At: func() {
				if _, err := publish.Run(t.Context(), w.config(&Faults{}, &publish.Memory{})); err != nil {
					t.Errorf("the second process: %v", err)
				}
			}}
			if _, err := publish.Run(t.Context(), w.config(f, mem)); err != nil {
				t.Fatalf("the first process, stopped before %s: %v", f.Calls()[n-1], err)
			}
			check(t, w)
			nothingLeft(t, w, mem)
		})
	}
}

// overtaken is the same, but the first process does that call and ends, and
// comes back.
func (s *suite) overtaken(calls int) {
	for n := 1; n <= calls; n++ {
		s.do(fmt.Sprintf("overtaken before call %d, and dead after", n), func(t *testing.T, w *World) {
			mem := &publish.Memory{}
			f := &Faults{N: n, Form: After, Dies: true, At: func() {
				if _, err := publish.Run(t.Context(), w.config(&Faults{}, &publish.Memory{})); err != nil {
					t.Errorf("the second process: %v", err)
				}
			}}
			_, _ = publish.Run(t.Context(), w.config(f, &journal{Journal: mem, faults: f}))
			finish(t, w, mem)
			check(t, w)
			nothingLeft(t, w, mem)
		})
	}
}

// together lets processes run at the same time.
func (s *suite) together() {
	for i := range 5 {
		s.do(fmt.Sprintf("at the same time %d", i), func(t *testing.T, w *World) {
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					if _, err := publish.Run(t.Context(), w.config(&Faults{}, &publish.Memory{})); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			s.sweepUnknown(t, w)
			check(t, w)
		})
	}
}

// conflict publishes other bytes under the same name.
func (s *suite) conflict() {
	s.do("other bytes", func(t *testing.T, w *World) {
		mem := &publish.Memory{}
		if _, err := publish.Run(t.Context(), w.config(&Faults{}, mem)); err != nil {
			t.Fatal(err)
		}
		c := w.config(&Faults{}, mem)
		c.Image = w.Other
		_, err := publish.Run(t.Context(), c)
		var conflict *publish.ConflictError
		if !errors.As(err, &conflict) || conflict.Hint() == "" {
			t.Errorf("other bytes: %v", err)
		}
		check(t, w)
		nothingLeft(t, w, mem)
	})
}

// partial makes one part fail, and mends it.
func (s *suite) partial() {
	s.do("one part fails", func(t *testing.T, w *World) {
		mem := &publish.Memory{}
		r, err := publish.Run(t.Context(), w.config(&Faults{Refuse: w.Refuse}, mem))
		var incomplete *publish.IncompleteError
		if !errors.As(err, &incomplete) || incomplete.Hint() == "" {
			t.Fatalf("a part failed, and what came of it is: %v", err)
		}
		if n := w.Public(); n == 0 || n != len(r.Published) || len(r.Failures) == 0 {
			t.Errorf("%d parts are public, the report is %+v", n, r)
		}
		if w.Check() == nil {
			t.Error("nothing is missing")
		}
		finish(t, w, mem)
		check(t, w)
		nothingLeft(t, w, mem)
	})
}

// sweep lets a process die at each call and nobody go on.
func (s *suite) sweep(calls int) {
	for n := 1; n <= calls; n++ {
		s.do(fmt.Sprintf("swept after call %d", n), func(t *testing.T, w *World) {
			mem, f := &publish.Memory{}, &Faults{N: n, Form: After, Dies: true}
			_, _ = publish.Run(t.Context(), w.config(f, &journal{Journal: mem, faults: f}))
			if !f.Dead() {
				t.Fatal("the process did not end")
			}
			public := w.Public()
			c := publish.SweepConfig{Target: w.Process(&Faults{}), Journal: mem, Now: w.Clock.Now}
			if gone, err := publish.Sweep(t.Context(), c); err != nil || len(gone) > 0 {
				t.Errorf("sweep took what may be in use: %v, %v", gone, err)
			}
			s.sweepUnknown(t, w)
			if n := w.Public(); n != public {
				t.Errorf("%d parts are public after sweep, %d were before", n, public)
			}
			if left, err := w.Process(&Faults{}).Leftovers(t.Context()); err != nil || len(left) > 0 {
				t.Errorf("sweep left %v, %v", left, err)
			}
			finish(t, w, mem)
			check(t, w)
			nothingLeft(t, w, mem)
		})
	}
}
