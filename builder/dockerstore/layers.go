package dockerstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/prose-im/prose-image/builder/layer"
)

// layers scans each layer while the one before it is written.
func (s *store) layers(chains []*chain) error {
	type scanned struct {
		chain    *chain
		diff     *diff
		tarSplit []byte
		err      error
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	next := make(chan scanned)
	go func() {
		defer close(next)
		for _, c := range chains {
			d, split, err := s.scan(ctx, c.Layer)
			if err != nil {
				err = fmt.Errorf("reading layer %s: %w", c.Digest, err)
			}
			select {
			case next <- scanned{c, d, split, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for n := range next {
		if n.err != nil {
			return n.err
		}
		if err := s.layer(n.chain, n.diff, n.tarSplit); err != nil {
			return fmt.Errorf("writing layer %s: %w", n.chain.Digest, err)
		}
	}
	return context.Cause(s.ctx)
}

// layer writes one layer into layerdb and overlay2.
func (s *store) layer(c *chain, d *diff, tarSplit []byte) error {
	id, err := encoded(c.id)
	if err != nil {
		return err
	}
	db := "image/overlay2/layerdb/sha256/" + id
	home := "overlay2/" + c.cacheID()
	if err := s.dir(db, 0o700); err != nil {
		return err
	}
	files := []struct {
		path    string
		mode    uint16
		content string
	}{
		{db + "/cache-id", 0o644, c.cacheID()},
		{db + "/diff", 0o644, c.DiffID},
		{db + "/size", 0o644, strconv.FormatInt(d.size, 10)},
		{db + "/tar-split.json.gz", 0o644, string(tarSplit)},
		{home + "/committed", 0o600, ""},
		{home + "/link", 0o644, c.link()},
	}
	if c.parent != nil {
		var lower []string
		for p := c.parent; p != nil; p = p.parent {
			lower = append(lower, "l/"+p.link())
		}
		files = append(files, []struct {
			path    string
			mode    uint16
			content string
		}{
			{db + "/parent", 0o644, c.parent.id},
			{home + "/lower", 0o644, strings.Join(lower, ":")},
		}...)
	}
	if err := s.dir(home, 0o710); err != nil {
		return err
	}
	for _, f := range files {
		if err := s.file(f.path, f.mode, []byte(f.content)); err != nil {
			return err
		}
	}
	if c.parent != nil {
		if err := s.dir(home+"/work", 0o700); err != nil {
			return err
		}
	}
	link := layer.Entry{Path: s.path("overlay2/l/" + c.link()), Type: layer.Symlink, Mode: 0o777, ModTime: s.time, Link: "../" + c.cacheID() + "/diff"}
	if err := s.w.Write(link, nil); err != nil {
		return err
	}
	root := layer.Entry{Path: s.path(home + "/diff"), Type: layer.Dir, Mode: 0o755, ModTime: s.time}
	// As the engine does, though the kernel does not look at it in the root of a
	// layer.
	if d.opaque["."] {
		root.Xattrs = map[string]string{opaqueXattr: opaqueValue}
	}
	if err := s.w.Write(root, nil); err != nil {
		return err
	}
	blob, err := s.open(s.ctx, c.Layer)
	if err != nil {
		return err
	}
	defer blob.Close()
	return d.write(s.w, root.Path, blob)
}
