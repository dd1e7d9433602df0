package dockerstore

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/builder/layer"
)

// write emits the layer below the directory at root, which the caller has
// written. r gives the same bytes as scan read.
func (d *diff) write(w *layer.Writer, root string, r io.Reader) error {
	for _, p := range slices.Sorted(maps.Keys(d.dirs)) {
		e := d.dirs[p]
		if d.opaque[p] {
			e.Xattrs = maps.Clone(e.Xattrs)
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[opaqueXattr] = opaqueValue
		}
		e.Path = path.Join(root, p)
		if err := w.Write(e, nil); err != nil {
			return err
		}
	}
	for _, p := range slices.Sorted(maps.Keys(d.whiteouts)) {
		e := d.whiteouts[p]
		e.Path = path.Join(root, p)
		if err := w.Write(e, nil); err != nil {
			return err
		}
	}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader || h.Typeflag == tar.TypeDir {
			continue
		}
		p, err := d.locate(h.Name)
		if err != nil {
			return err
		}
		if strings.HasPrefix(path.Base(p), whiteoutPrefix) {
			continue
		}
		e, err := entry(h, p)
		if err != nil {
			return err
		}
		if e.Type == layer.HardLink {
			if e.Link, err = d.locate(h.Linkname); err != nil {
				return err
			}
			e.Link = path.Join(root, e.Link)
		} else if last, ok := d.shared[p]; ok {
			e.UID, e.GID = last.UID, last.GID
			if e.Type != layer.Symlink {
				e.Mode, e.ModTime = last.Mode, last.ModTime
			}
			for k, v := range last.Xattrs {
				if e.Xattrs == nil {
					e.Xattrs = map[string]string{}
				}
				e.Xattrs[k] = v
			}
			e.Xattrs = keep(e.Xattrs, e.Type)
		}
		e.Path = path.Join(root, p)
		if err := w.Write(e, tr); err != nil {
			return err
		}
	}
}

// entry translates a header that is no whiteout. The path is p.
func entry(h *tar.Header, p string) (layer.Entry, error) {
	if isSparse(h) {
		return layer.Entry{}, fmt.Errorf("%s: %w", p, errSparse)
	}
	e, err := layer.FromTar(h)
	if err != nil {
		return e, err
	}
	if e.UID, e.GID, err = owner(h); err != nil {
		return e, fmt.Errorf("%s: %w", p, err)
	}
	e.Path = p
	e.ModTime = modTime(h.ModTime)
	if e.Type == layer.Symlink {
		e.Mode = 0o777
		if len(e.Link) > maxPath || strings.ContainsRune(e.Link, 0) || e.Link == "" {
			return e, fmt.Errorf("%s: its target is no path", p)
		}
	}
	e.Xattrs = keep(e.Xattrs, e.Type)
	return e, nil
}

// Of a sparse file a few bytes can stand for any number. No builder of images
// writes them: the engine could not save such a layer as it was.
var errSparse = errors.New("it is a sparse file of GNU tar, which an image layer should not have")

func isSparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// keep drops the attributes that an image has no business with, above all
// overlayfs's own, and those that the kernel would refuse: user attributes
// belong to files and directories only (xattr(7)).
func keep(xattrs map[string]string, t layer.Type) map[string]string {
	for name := range xattrs {
		user := strings.HasPrefix(name, "user.") && t != layer.Symlink && t != layer.Char && t != layer.Block && t != layer.Fifo
		if !user && name != "security.capability" {
			delete(xattrs, name)
		}
	}
	if len(xattrs) == 0 {
		return nil
	}
	return xattrs
}

func owner(h *tar.Header) (uid, gid uint32, err error) {
	// -1 means no change to chown(2), so no file can have it.
	const most = 1<<32 - 2
	if h.Uid < 0 || h.Uid > most || h.Gid < 0 || h.Gid > most {
		return 0, 0, fmt.Errorf("owner %d:%d is out of range", h.Uid, h.Gid)
	}
	return uint32(h.Uid), uint32(h.Gid), nil
}

// modTime is moby's pkg/system.Chtimes: a time that the kernel's 64-bit
// nanoseconds do not hold becomes the epoch.
func modTime(t time.Time) time.Time {
	epoch := time.Unix(0, 0)
	if t.Before(epoch) || t.After(time.Unix(0, 1<<63-1)) {
		return epoch
	}
	return t
}

// A DuplicateError is a path that comes twice in one layer. The engine cannot
// store such a layer either (tar-split: duplicates of file paths not
// supported).
type DuplicateError struct{ Path string }

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("%s comes twice in one layer, which Docker's overlay2 store cannot hold", e.Path)
}

// Hint is the next thing to do.
func (e *DuplicateError) Hint() string {
	return "build the image with a tool that writes each path once"
}
