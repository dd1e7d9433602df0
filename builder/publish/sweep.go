package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A SweepConfig says what to sweep.
type SweepConfig struct {
	Address string
	Target  Target        // instead of the one at Address
	Journal Journal       // tells which operations have ended; nil: none
	Age     time.Duration // what is younger may be in use; zero: a day
	DryRun  bool          // only list
	Now     func() time.Time
}

// finished is the call of the entry that ends an operation.
const finished = "finished"

// Sweepable decides whether a leftover may go: when its operation has ended,
// and when it is too old for anyone to be still at it.
func Sweepable(l Leftover, ended []string, age time.Duration, now time.Time) bool {
	return l.Operation != "" && slices.Contains(ended, l.Operation) || now.Sub(l.Made) >= age
}

// Sweep removes what runs that never ended left at a target, and lists it.
func Sweep(ctx context.Context, c SweepConfig) ([]Leftover, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Age == 0 {
		c.Age = 24 * time.Hour
	}
	if c.Journal == nil {
		c.Journal = &Memory{}
	}
	if c.Target == nil {
		t, address, err := Open(c.Address)
		if err != nil {
			return nil, err
		}
		c.Target, c.Address = t, address
	}
	left, err := c.Target.Leftovers(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", c.Address, err)
	}
	var gone []Leftover
	var errs []error
	for _, l := range left {
		var ended []string
		if l.Operation != "" {
			entries, err := c.Journal.Entries(ctx, l.Operation)
			if err != nil {
				return gone, fmt.Errorf("reading the journal: %w", err)
			}
			if n := len(entries); n > 0 && entries[n-1].Call == finished {
				ended = append(ended, l.Operation)
			}
		}
		if !Sweepable(l, ended, c.Age, c.Now()) {
			continue
		}
		if !c.DryRun {
			if err := c.Target.Remove(ctx, l.ID); err != nil {
				errs = append(errs, fmt.Errorf("removing %s: %w", l.ID, err))
				continue
			}
		}
		gone = append(gone, l)
	}
	return gone, errors.Join(errs...)
}
