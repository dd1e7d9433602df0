package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// A Report says what [Verify] found.
type Report struct {
	Entries int      `json:"entries"` // that were hashed
	Size    int64    `json:"bytes"`
	Damaged []Damage `json:"damaged"`
}

// Damage is one entry that is not what it should be.
type Damage struct {
	Entry
	Why     string `json:"why"`
	Removed bool   `json:"removed"`
}

// Verify hashes every entry. Bakes may go on meanwhile, but with drop, which
// removes what is damaged: then it waits for no bake, and the error is an
// [InUseError] that comes with the report.
func Verify(ctx context.Context, dir string, drop bool) (*Report, error) {
	release, err := Use(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { release() }()
	entries, err := list(dir)
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(entries))
	parallel(len(entries), func(i int) { errs[i] = entries[i].verify(ctx) })
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	r := &Report{Damaged: []Damage{}}
	for i, e := range entries {
		var bad *DamagedError
		switch {
		case errors.As(errs[i], &bad):
			e.What = lookup(e.Kind).describe(ctx, e.path)
			r.Damaged = append(r.Damaged, Damage{Entry: e, Why: bad.Why})
		case errors.Is(errs[i], fs.ErrNotExist):
			continue // another process found it damaged
		case errs[i] != nil:
			return nil, fmt.Errorf("verifying the cache: %w", errs[i])
		}
		r.Entries++
		r.Size += e.Size
	}
	if !drop || len(r.Damaged) == 0 {
		return r, nil
	}
	release()
	if release, err = alone(dir); err != nil {
		release = func() {}
		return r, fmt.Errorf("removing what is damaged: %w", err)
	}
	for i := range r.Damaged {
		d := &r.Damaged[i]
		// A bake may have made it anew since.
		var bad *DamagedError
		if err := d.verify(ctx); !errors.As(err, &bad) {
			continue
		}
		if err := d.remove(); err != nil {
			return r, fmt.Errorf("removing what is damaged: %w", err)
		}
		d.Removed = true
	}
	return r, nil
}

func (e Entry) verify(ctx context.Context) error { return lookup(e.Kind).verify(ctx, e.path) }
