package builder

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/layer"
)

// layers compares the layers that the manifest lists with those that were made,
// and returns the first that differs, with the first file in it where the cache
// still has the one of before.
func (v *verifying) layers(ctx context.Context) (*Finding, error) {
	for _, made := range v.made.Layers {
		at := slices.IndexFunc(v.given.Layers, func(m Made) bool { return m.Kind == made.Kind && m.Platform == made.Platform })
		if at < 0 {
			return &Finding{Layer: made.Kind, Text: "the manifest does not list this layer"}, nil
		}
		given := v.given.Layers[at]
		if given.Key != made.Key {
			return v.inputs(made, given)
		}
		if given.SHA256 == "" || given.SHA256 == made.SHA256 {
			continue
		}
		found := &Finding{Layer: made.Kind, Text: fmt.Sprintf("the layer's sha256 was %s, and is %s when it is made again", brief(given.SHA256), brief(made.SHA256))}
		was, err := v.cached(ctx, v.shared, given)
		if was == nil {
			return found, err
		}
		defer was.file.Close()
		is, err := v.cached(ctx, v.c.Cache, made)
		if is == nil {
			return found, err
		}
		defer is.file.Close()
		path, what, err := differEntries(was.Layer, is.Layer)
		if err != nil {
			return nil, fmt.Errorf("comparing layer %s: %w", made.Kind, err)
		}
		if path != "" {
			found.Path, found.Text = path, what
		}
		return found, nil
	}
	return nil, nil
}

// inputs is the finding that a layer was made from something else.
func (v *verifying) inputs(made, given Made) (*Finding, error) {
	found := &Finding{Layer: made.Kind, Text: "what goes into the layer is not the same"}
	known, err := cache.Layers(v.shared)
	if err != nil {
		return nil, err
	}
	fresh, err := cache.Layers(v.c.Cache)
	if err != nil {
		return nil, err
	}
	is := func(key string) func(cache.Layer) bool { return func(l cache.Layer) bool { return l.Key == key } }
	was, now := slices.IndexFunc(known, is(given.Key)), slices.IndexFunc(fresh, is(made.Key))
	if was >= 0 && now >= 0 {
		if lines := differences(known[was].Inputs, fresh[now].Inputs, false); len(lines) > 0 {
			found.Text = lines[0]
		}
	}
	return found, nil
}

// cached opens the layer that a manifest lists, or returns nil when the cache
// has it no longer, or another content under its key.
func (v *verifying) cached(ctx context.Context, dir string, m Made) (*cachedLayer, error) {
	var key Key
	if b, err := hex.DecodeString(m.Key); err != nil || copy(key[:], b) != len(key) {
		return nil, nil
	}
	l, err := openLayer(dir, m.Kind, key)
	var damaged *cache.DamagedError
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &damaged) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if l.record.SHA256 != m.SHA256 || l.record.Check(ctx, l.file) != nil {
		l.file.Close()
		return nil, ctx.Err()
	}
	return l, nil
}

// differEntries finds the first path, in byte order, at which two layers differ,
// and says how. The path is empty when they hold the same.
func differEntries(was, is *layer.Layer) (path, what string, err error) {
	if !slices.Equal(was.Deletions, is.Deletions) {
		return ".", "the list of what is removed differs", nil
	}
	index := func(l *layer.Layer) map[string]int {
		m := make(map[string]int, len(l.Entries))
		for i := range l.Entries {
			m[l.Entries[i].Path] = i
		}
		return m
	}
	a, b := index(was), index(is)
	paths := slices.Collect(maps.Keys(a))
	for p := range b {
		if _, ok := a[p]; !ok {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	for _, p := range paths {
		i, inA := a[p]
		j, inB := b[p]
		switch {
		case !inB:
			return p, "it is not made again", nil
		case !inA:
			return p, "it was not in the image", nil
		}
		if what := differEntry(was.Entries[i], is.Entries[j]); what != "" {
			return p, what, nil
		}
		same, err := sameContent(was.Content(i), is.Content(j))
		if err != nil {
			return "", "", err
		}
		if !same {
			return p, "the content differs", nil
		}
	}
	return "", "", nil
}

func differEntry(was, is layer.Entry) string {
	for _, f := range []struct {
		what    string
		was, is any
	}{
		{"type", was.Type, is.Type},
		{"mode", fmt.Sprintf("%04o", was.Mode), fmt.Sprintf("%04o", is.Mode)},
		{"owner", fmt.Sprintf("%d:%d", was.UID, was.GID), fmt.Sprintf("%d:%d", is.UID, is.GID)},
		{"target", was.Link, is.Link},
		{"device", fmt.Sprintf("%d:%d", was.Major, was.Minor), fmt.Sprintf("%d:%d", is.Major, is.Minor)},
		{"size", was.Size, is.Size},
		{"time", was.ModTime.UTC().String(), is.ModTime.UTC().String()},
	} {
		if f.was != f.is {
			return fmt.Sprintf("its %s was %v, and is %v when it is made again", f.what, f.was, f.is)
		}
	}
	if !maps.Equal(was.Xattrs, is.Xattrs) {
		return "its extended attributes differ"
	}
	return ""
}

func sameContent(a, b io.Reader) (bool, error) {
	at, err := compareReaders(a, b)
	return at < 0, err
}
