package cache

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// A Cleaning says what may go.
type Cleaning struct {
	Keep   int64         // bytes that may stay; negative: any number
	Older  time.Duration // what was not used for so long goes; zero: nothing for its age
	DryRun bool          // nothing is removed
}

// A Removal is one entry that went, or would go.
type Removal struct {
	Entry
	Why string `json:"why"`
}

// Clean removes what interrupted bakes left, what is too old, and of the rest
// what was used longest ago until the budget is kept. While a bake uses the
// cache the error is an [InUseError] and nothing goes. What has gone is told
// also with an error.
func Clean(ctx context.Context, dir string, c Cleaning) ([]Removal, error) {
	release, err := alone(dir)
	if err != nil {
		return nil, err
	}
	defer release()
	left, err := leftovers(dir)
	if err != nil {
		return nil, err
	}
	entries, err := list(dir)
	if err != nil {
		return nil, err
	}
	gone := []Removal{}
	for _, r := range choose(left, entries, c, time.Now()) {
		if ctx.Err() != nil {
			return gone, context.Cause(ctx)
		}
		if !c.DryRun {
			if err := r.Entry.remove(); err != nil {
				return gone, fmt.Errorf("cleaning: %w", err)
			}
		}
		gone = append(gone, r)
	}
	return gone, nil
}

// choose decides what goes, the least recently used first.
func choose(left, entries []Entry, c Cleaning, now time.Time) []Removal {
	var list []Removal
	for _, e := range left {
		list = append(list, Removal{e, "an interrupted bake left it"})
	}
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.Used.Compare(b.Used) })
	var total int64
	for _, e := range entries {
		total += e.Size
	}
	for _, e := range entries {
		switch {
		case c.Older > 0 && now.Sub(e.Used) > c.Older:
			list = append(list, Removal{e, fmt.Sprintf("it was not used for %s", age(now.Sub(e.Used)))})
		case c.Keep >= 0 && total > c.Keep:
			list = append(list, Removal{e, "other entries were used later"})
		default:
			return list // the rest is younger, and fits
		}
		total -= e.Size
	}
	return list
}

func age(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// remove removes the entry before its record, so that what a kill leaves of the
// two is found again.
func (e Entry) remove() error {
	if err := os.RemoveAll(e.path); err != nil {
		return err
	}
	if e.beside != "" {
		return remove(e.beside)
	}
	return nil
}
