package dockerstore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/builder/layer"
)

// Options say where and how [Write] writes.
type Options struct {
	Cache string    // the Source's
	Root  string    // data root in the image; empty: var/lib/docker
	Time  time.Time // of the store's own files; what is in the images keeps its own
}

// DefaultRoot is the engine's data root when daemon.json names none.
const DefaultRoot = "var/lib/docker"

// Write writes the images, whose blobs [Source.Fetch] has put into the cache,
// as one overlay2 store. It writes the data root and what is below it, not its
// parents. Equal images give equal bytes, whatever their order. The content of
// every layer is checked against its DiffID before any of it is written.
func Write(ctx context.Context, w *layer.Writer, images []Pinned, opts Options) error {
	s := &store{ctx: ctx, w: w, cache: cache{opts.Cache}, root: opts.Root, time: opts.Time}
	if s.root == "" {
		s.root = DefaultRoot
	}
	if s.time.IsZero() {
		s.time = time.Unix(0, 0)
	}
	if err := layer.CheckPath(s.root); err != nil {
		return fmt.Errorf("writing the docker store: %w", err)
	}
	var loaded []*image
	for _, p := range images {
		i, err := load(s.cache, p)
		if err != nil {
			return fmt.Errorf("writing image %s: %w", p.Reference, err)
		}
		loaded = append(loaded, i)
	}
	slices.SortFunc(loaded, func(a, b *image) int {
		return cmp.Or(strings.Compare(a.ref.String(), b.ref.String()), strings.Compare(a.Digest, b.Digest), strings.Compare(a.Manifest, b.Manifest))
	})
	if err := s.write(loaded); err != nil {
		return fmt.Errorf("writing the docker store: %w", err)
	}
	return nil
}

// A store is one writing of a store.
type store struct {
	ctx   context.Context
	w     *layer.Writer
	cache cache
	root  string
	time  time.Time
}

func (s *store) write(images []*image) error {
	chains, blobs := plan(images)
	repositories, err := repositories(images)
	if err != nil {
		return err
	}
	for _, d := range []struct {
		path string
		mode uint16
	}{
		{".", 0o710},
		{"image", 0o700},
		{"image/overlay2", 0o700},
		{"image/overlay2/distribution", 0o700},
		{"image/overlay2/distribution/diffid-by-digest", 0o755},
		{"image/overlay2/distribution/diffid-by-digest/sha256", 0o755},
		{"image/overlay2/distribution/v2metadata-by-diffid", 0o755},
		{"image/overlay2/distribution/v2metadata-by-diffid/sha256", 0o755},
		{"image/overlay2/imagedb", 0o700},
		{"image/overlay2/imagedb/content", 0o700},
		{"image/overlay2/imagedb/content/sha256", 0o700},
		{"image/overlay2/imagedb/metadata", 0o700},
		{"image/overlay2/imagedb/metadata/sha256", 0o700},
		{"image/overlay2/layerdb", 0o700},
		{"image/overlay2/layerdb/sha256", 0o755},
		{"overlay2", 0o710},
		{"overlay2/l", 0o700},
	} {
		if err := s.dir(d.path, d.mode); err != nil {
			return err
		}
	}
	if err := s.file("image/overlay2/repositories.json", 0o600, repositories); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, i := range images {
		if seen[i.Config] {
			continue
		}
		seen[i.Config] = true
		h, err := encoded(i.Config)
		if err != nil {
			return err
		}
		if err := s.file("image/overlay2/imagedb/content/sha256/"+h, 0o600, i.config); err != nil {
			return err
		}
	}
	if err := s.distribution(blobs); err != nil {
		return err
	}
	return s.layers(chains)
}

func (s *store) path(p string) string { return path.Join(s.root, p) }

func (s *store) dir(p string, mode uint16) error {
	return s.w.Write(layer.Entry{Path: s.path(p), Type: layer.Dir, Mode: mode, ModTime: s.time}, nil)
}

func (s *store) file(p string, mode uint16, content []byte) error {
	e := layer.Entry{Path: s.path(p), Type: layer.File, Mode: mode, ModTime: s.time, Size: int64(len(content))}
	return s.w.Write(e, bytes.NewReader(content))
}
