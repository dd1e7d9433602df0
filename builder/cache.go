package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/output"
	"github.com/prose-im/prose-image/builder/progress"
)

// A Key names a layer by everything that goes into it.
type Key [sha256.Size]byte

func (k Key) String() string { return hex.EncodeToString(k[:]) }

// A cachedLayer is a layer and the file that it lies in, which stays open as
// long as the layer is used.
type cachedLayer struct {
	*layer.Layer
	key     Key
	file    *os.File
	record  *cache.Record
	checked bool // that its content is as it was made
}

// openLayer indexes a cached layer. Not being there gives an error that is
// [fs.ErrNotExist], a broken structure one that is a [cache.DamagedError].
func openLayer(dir, name string, k Key) (*cachedLayer, error) {
	f, record, err := cache.OpenLayer(dir, k.String())
	if err != nil {
		return nil, err
	}
	l, err := layer.Read(name, f, record.Size)
	if err != nil {
		f.Close()
		return nil, &cache.DamagedError{Path: f.Name(), Why: err.Error()}
	}
	return &cachedLayer{Layer: l, key: k, file: f, record: record}, nil
}

// makeLayer runs fill to make the layer for key.
func makeLayer(ctx context.Context, dir string, k Key, r cache.Record, fill func(createFunc) error) error {
	return cache.MakeLayer(ctx, dir, k.String(), r, func(to io.Writer) error {
		var w *layer.Writer
		err := fill(func(deletions []string) (*layer.Writer, error) {
			if w != nil {
				return nil, fmt.Errorf("BUG: a layer is begun twice")
			}
			var err error
			w, err = layer.NewWriter(to, deletions)
			return w, err
		})
		if err != nil {
			return err
		}
		if w == nil {
			return fmt.Errorf("BUG: a layer was not begun")
		}
		return w.Close()
	})
}

// find opens a layer of the cache. One that is broken goes, and is as one that
// is not there: [fs.ErrNotExist].
func (b *baking) find(kind string, k Key) (*cachedLayer, error) {
	found, err := openLayer(b.c.Cache, kind, k)
	var damaged *cache.DamagedError
	if errors.As(err, &damaged) {
		if err := drop(b.c, kind, k, damaged); err != nil {
			return nil, err
		}
		return nil, fs.ErrNotExist
	}
	return found, err
}

// make makes a layer over the tree, unless another bake does so first, and opens
// it.
func (b *baking) make(ctx context.Context, l Layer, platform string, inputs []Input, k Key) (found *cachedLayer, cached bool, err error) {
	release, err := cache.Claim(ctx, b.c.Cache, k.String())
	if err != nil {
		return nil, false, fmt.Errorf("baking layer %s: %w", l.Kind, output.Explain(err, cache.LayerPath(b.c.Cache, k.String()), 0))
	}
	defer release()
	if found, err = b.find(l.Kind, k); err == nil {
		b.c.Progress(progress.Event{Stage: "bake", Name: l.Kind, State: progress.Cached})
		return found, true, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	err = b.c.Progress.Do("bake", l.Kind, func() (int64, error) {
		record := cache.Record{Kind: l.Kind, Platform: platform, Inputs: inputs}
		err := makeLayer(ctx, b.c.Cache, k, record, func(create createFunc) error {
			return lookupKind(l.Kind).make(ctx, &making{in: b.in, plan: b.plan, platform: platform, cache: b.c.Cache, offline: b.c.Offline, below: b.tree, create: create})
		})
		if err != nil {
			return 0, fmt.Errorf("baking layer %s: %w", l.Kind, output.Explain(err, cache.LayerPath(b.c.Cache, k.String()), 0))
		}
		if found, err = openLayer(b.c.Cache, l.Kind, k); err != nil {
			return 0, fmt.Errorf("baking layer %s: %w", l.Kind, err)
		}
		found.checked = true
		return found.record.Size, nil
	})
	return found, false, err
}

// A damagedLayerError is a layer whose content is not what was made.
type damagedLayerError struct {
	kind string
	key  Key
	err  *cache.DamagedError
}

func (e *damagedLayerError) Error() string { return e.err.Error() }

// check reads the layers that came from the cache for damage.
func (b *baking) check(ctx context.Context) error {
	for _, l := range b.layers {
		if l.checked {
			continue
		}
		var damaged *cache.DamagedError
		if err := l.record.Check(ctx, l.file); errors.As(err, &damaged) {
			return &damagedLayerError{l.Name, l.key, damaged}
		} else if err != nil {
			return err
		}
		l.checked = true
	}
	return nil
}

// drop removes a damaged layer and says so.
func drop(c Config, kind string, k Key, why *cache.DamagedError) error {
	c.Progress(progress.Event{Stage: "bake", Name: kind, State: progress.Damaged, Note: "it is made anew: " + why.Why})
	if err := cache.DropLayer(c.Cache, k.String()); err != nil {
		return fmt.Errorf("removing the damaged layer %s: %w", kind, err)
	}
	return nil
}
