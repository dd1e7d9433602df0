package builder

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/debian"
	"github.com/prose-im/prose-image/builder/dockerstore"
	"github.com/prose-im/prose-image/builder/progress"
)

// A NoLockError says that a recipe has no lock where one is needed.
type NoLockError struct {
	Path   string // where it would be
	Recipe string
}

func (e *NoLockError) Error() string { return fmt.Sprintf("there is no lock %s", e.Path) }

// Hint is what makes it.
func (e *NoLockError) Hint() string { return "with a network: prose-image lock " + e.Recipe }

// An OfflineError lists what a bake without a network lacks.
type OfflineError struct {
	Cache    string
	Recipe   string
	Packages []debian.Package
	Images   []*dockerstore.NotCachedError
}

func (e *OfflineError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "baking offline: the cache %s lacks %s and %s", e.Cache, count(len(e.Packages), "package"), count(len(e.Images), "image"))
	for _, p := range e.Packages {
		fmt.Fprintf(&b, "\n  package %s %s %s, %s, from %s", p.Name, p.Version, p.Arch, progress.Size(p.Size), p.URI)
	}
	for _, i := range e.Images {
		fmt.Fprintf(&b, "\n  image %s, from %s", i.Image, i.Where)
	}
	return b.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Hint is what gets them.
func (e *OfflineError) Hint() string {
	return "with a network: prose-image bake " + e.Recipe + "; or copy packages and blobs into it from the cache of a machine that baked this lock"
}

// lacks finds all that a bake of the plan would have to fetch. A layer that is
// cached needs none of what it was made from.
func (in *Inputs) lacks(ctx context.Context, c *Config, plan *Plan) error {
	e := &OfflineError{Cache: c.Cache, Recipe: c.Recipe}
	for _, l := range plan.Layers {
		if l.Kind != base.name && l.Kind != containers.name || in.has(c, l) {
			continue
		}
		if l.Kind == base.name {
			var err error
			if e.Packages, err = debian.Missing(ctx, c.Cache, in.Lock.Packages); err != nil {
				return err
			}
			continue
		}
		source := in.images(c.Cache)
		source.Offline = true
		for _, p := range in.Lock.pinned() {
			var missing *dockerstore.NotCachedError
			if err := source.Fetch(ctx, p); errors.As(err, &missing) {
				missing.Image = p.Reference // as the lock says it
				e.Images = append(e.Images, missing)
			} else if err != nil {
				return err
			}
		}
	}
	if e.Packages != nil || e.Images != nil {
		return e
	}
	return nil
}

// has reports whether a layer that reads nothing of others is cached.
func (in *Inputs) has(c *Config, l Layer) bool {
	inputs, err := l.resolved(nil, nil)
	if err != nil {
		return false
	}
	f, record, err := cache.OpenLayer(c.Cache, layerKey(l.Kind, inputs).String())
	if err != nil {
		return false
	}
	f.Close()
	return record.Kind == l.Kind
}
