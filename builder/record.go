package builder

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/prose-im/prose-image/builder/catalog"
)

// A Recorder keeps a bake in a catalog. It opens the catalog while the bake
// goes on, so that a bake that has little to do does not wait for it.
type Recorder struct {
	asked   bool          // for this catalog
	opened  chan struct{} // closed when the two below are set
	catalog *catalog.Catalog
	err     error
}

// NewRecorder opens the catalog in dir, which is asked for and must open. When
// dir is empty it is the user's own, and what is wrong with that is said by
// [Recorder.Record].
func NewRecorder(ctx context.Context, dir string) (*Recorder, error) {
	r := &Recorder{opened: make(chan struct{}), asked: dir != ""}
	go func() {
		defer close(r.opened)
		r.catalog, r.err = openCatalog(ctx, dir)
	}()
	if r.asked {
		<-r.opened
		return r, r.err
	}
	return r, nil
}

// openCatalog opens the catalog in dir, or the user's own.
func openCatalog(ctx context.Context, dir string) (*catalog.Catalog, error) {
	if dir == "" {
		var err error
		if dir, err = catalog.DefaultDir(); err != nil {
			return nil, err
		}
	}
	return catalog.Open(ctx, dir)
}

// Record keeps what a bake made in the directory out. In a program that was
// built without the catalog it does nothing.
func (r *Recorder) Record(ctx context.Context, out string, made *Result) error {
	<-r.opened
	if errors.Is(r.err, catalog.ErrUnavailable) && !r.asked {
		return nil
	}
	if r.err != nil {
		return r.err
	}
	b := catalog.Bake{Release: made.Release, Name: made.Name, Version: made.Version, Arch: made.Arch,
		Recipe: made.Recipe, Lock: made.Lock, Tool: made.Tool, At: time.Now()}
	for _, a := range made.Artifacts {
		path, err := filepath.Abs(filepath.Join(out, a.File))
		if err != nil {
			return fmt.Errorf("recording %s: %w", a.File, err)
		}
		b.Artifacts = append(b.Artifacts, catalog.Artifact{Platform: a.Platform, Format: a.Format, Path: path, Size: a.Size, SHA256: a.SHA256})
	}
	return r.catalog.Record(ctx, b)
}

// Close lets go of the catalog.
func (r *Recorder) Close() error {
	<-r.opened
	if r.catalog == nil {
		return nil
	}
	return r.catalog.Close()
}
