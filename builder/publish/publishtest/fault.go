// Package publishtest holds what every target of publishing must pass: see
// [Run].
package publishtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prose-im/prose-image/builder/publish"
)

// A Form is how a call goes wrong.
type Form string

// The forms. Of the last three the answer arrives, and says so.
const (
	Before   Form = "before"   // it does not happen
	After    Form = "after"    // it happens, and nobody hears of it
	Torn     Form = "torn"     // it ends in its middle
	Throttle Form = "throttle" // a 429 with Retry-After: 7
	Broken   Form = "broken"   // a 500, and it did not happen
	Late     Form = "late"     // a 502, and it did happen
)

// silent tells that nothing is heard of the call's end.
func (f Form) silent() bool { return f == Before || f == After || f == Torn }

// ErrDead is what calls of a process give that has ended.
var ErrDead = errors.New("the process has ended")

// Faults are what goes wrong in one process. Doubles ask it at each call.
type Faults struct {
	N    int    // the call that it strikes, from 1; 0: none
	Form Form   // how
	Dies bool   // the process ends there
	At   func() // runs before call N
	// Refuse gives an error for good to some calls.
	Refuse func(call string) error

	mu    sync.Mutex
	calls []string
	dead  bool
}

// Strike is to be called at each call, with what tells it from others. It gives
// the form in which the call goes wrong; empty: not at all.
func (f *Faults) Strike(call string) (Form, error) {
	f.mu.Lock()
	if f.dead {
		f.mu.Unlock()
		return "", ErrDead
	}
	f.calls = append(f.calls, call)
	strikes := len(f.calls) == f.N
	f.dead = strikes && f.Dies
	f.mu.Unlock()
	if f.Refuse != nil {
		if err := f.Refuse(call); err != nil {
			return "", err
		}
	}
	if !strikes {
		return "", nil
	}
	if f.At != nil {
		f.At()
	}
	return f.Form, nil
}

// Calls lists the calls so far.
func (f *Faults) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Dead tells whether the process has ended.
func (f *Faults) Dead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

// A Clock goes on where somebody sleeps, and only there, so that equal cases
// make equal calls.
type Clock struct {
	mu    sync.Mutex
	start time.Time
	slip  time.Duration
}

// NewClock starts at the present time, which files are compared with.
func NewClock() *Clock { return &Clock{start: time.Now()} }

// Now is the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.start.Add(c.slip)
}

// Sleep returns at once, later.
func (c *Clock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slip += d
	return context.Cause(ctx)
}

// A journal of a process that may die at an entry.
type journal struct {
	publish.Journal
	faults *Faults
	n      int // entry at which it dies, from 1; 0: none
	after  bool
	count  int
}

func (j *journal) Append(ctx context.Context, e publish.Entry) error {
	if j.faults.Dead() {
		return ErrDead
	}
	j.count++
	if j.count != j.n {
		return j.Journal.Append(ctx, e)
	}
	if j.after {
		if err := j.Journal.Append(ctx, e); err != nil {
			return err
		}
	}
	j.faults.mu.Lock()
	j.faults.dead = true
	j.faults.mu.Unlock()
	return fmt.Errorf("at entry %d: %w", j.n, ErrDead)
}
