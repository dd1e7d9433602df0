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

// How an image layer says what it removes (OCI image-spec v1.1, layer.md,
// "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
)

// How overlayfs says it (Linux, Documentation/filesystems/overlayfs.rst,
// "whiteouts and opaque directories"): a whiteout is a character device 0:0.
const (
	opaqueXattr = "trusted.overlay.opaque"
	opaqueValue = "y"
)

// Limits of the kernel: NAME_MAX, PATH_MAX and MAXSYMLINKS.
const (
	maxComponent = 255
	maxPath      = 4095
	maxFollowed  = 40
)

// A diff is what one pass over an image layer tells about it: everything whose
// place in the stream does not matter. A second pass writes the rest.
//
// Both passes follow moby's pkg/archive.Unpack with the overlay whiteout
// format, in its result and in its sanitizing: names are taken below the
// layer's root, symlinks in the middle of a name are followed below it, parents
// that are not named are made. Where moby's result depends on the order of
// entries, the OCI specification decides.
type diff struct {
	dirs      map[string]layer.Entry // the root is not among them
	whiteouts map[string]layer.Entry
	opaque    map[string]bool        // directories; "." is the root
	symlinks  map[string]string      // to follow in names
	shared    map[string]layer.Entry // for a file with more names, what the last one says of it
	size      int64                  // as moby's pkg/directory.Size counts it
}

// scan makes the diff of a layer. Directories that are not named get the time
// made.
func scan(r io.Reader, made time.Time) (*diff, error) {
	d := &diff{
		dirs:      map[string]layer.Entry{},
		whiteouts: map[string]layer.Entry{},
		opaque:    map[string]bool{},
		symlinks:  map[string]string{},
		shared:    map[string]layer.Entry{},
	}
	s := &scanner{diff: d, made: made, kinds: map[string]kind{}, links: map[string]string{}}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := s.add(h); err != nil {
			return nil, err
		}
	}
	// Something that the layer both removes and has is new: nothing of what
	// lies below may show through.
	for p := range d.whiteouts {
		switch s.kinds[p] {
		case isDir, isImplied:
			d.opaque[p] = true
			delete(d.whiteouts, p)
		case isOther:
			delete(d.whiteouts, p)
		}
	}
	return d, nil
}

type kind uint8

const (
	isNothing kind = iota
	isDir
	isImplied // a directory that is there because something is in it
	isOther
)

type scanner struct {
	*diff
	made  time.Time
	kinds map[string]kind   // of every path
	links map[string]string // hard link -> first name
}

func (s *scanner) add(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	p, err := s.locate(h.Name)
	if err != nil {
		return err
	}
	if p == "." {
		// The engine keeps the root directory of a layer as it made it.
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root of a layer is not a directory")
		}
		return nil
	}
	if err := s.imply(path.Dir(p)); err != nil {
		return err
	}
	dir, base := path.Split(p)
	if base == opaqueName {
		s.opaque[path.Clean(dir)] = true
		return nil
	}
	if name, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
		if name == "" || name == "." || name == ".." {
			return fmt.Errorf("%s: a whiteout of nothing", p)
		}
		e := layer.Entry{Path: dir + name, Type: layer.Char, ModTime: modTime(h.ModTime)}
		if e.UID, e.GID, err = owner(h); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if _, twice := s.whiteouts[e.Path]; twice {
			return &DuplicateError{Path: p}
		}
		s.whiteouts[e.Path] = e
		return nil
	}

	e, err := entry(h, p)
	if err != nil {
		return err
	}
	if was := s.kinds[p]; was != isNothing && !(was == isImplied && e.Type == layer.Dir) {
		return &DuplicateError{Path: p}
	}
	switch e.Type {
	case layer.Dir:
		s.kinds[p] = isDir
		s.dirs[p] = e
		return nil
	case layer.Symlink:
		s.symlinks[p] = e.Link
		s.size += int64(len(e.Link))
	case layer.HardLink:
		if e.Link, err = s.locate(h.Linkname); err != nil {
			return fmt.Errorf("%s: hard link: %w", p, err)
		}
		if s.kinds[e.Link] != isOther {
			return fmt.Errorf("%s: a hard link to %s, which is no earlier file of the layer", p, e.Link)
		}
		first, ok := s.links[e.Link]
		if !ok {
			first = e.Link
		}
		s.links[p] = first
		s.shared[first] = e
		if target, ok := s.symlinks[first]; ok {
			s.symlinks[p] = target
		}
	default:
		s.size += e.Size
	}
	s.kinds[p] = isOther
	return nil
}

// imply makes the directories that p needs.
func (s *scanner) imply(p string) error {
	if p == "." {
		return nil
	}
	switch s.kinds[p] {
	case isDir, isImplied:
		return nil
	case isOther:
		return fmt.Errorf("something lies below %s, which is no directory", p)
	}
	if err := s.imply(path.Dir(p)); err != nil {
		return err
	}
	s.kinds[p] = isImplied
	s.dirs[p] = layer.Entry{Path: p, Type: layer.Dir, Mode: 0o755, ModTime: s.made}
	return nil
}

// locate turns a name in the tar into a path below the layer's root. Its last
// part is not followed.
func (d *diff) locate(name string) (string, error) {
	if strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("the name %q holds a NUL", name)
	}
	p := path.Clean(name)
	if p == ".." || strings.HasPrefix(p, "../") {
		return "", fmt.Errorf("%q leaves the layer", name)
	}
	if p = strings.TrimPrefix(p, "/"); p == "" {
		p = "."
	}
	followed := 0
	for i := 0; i < len(p); i++ {
		if p[i] != '/' {
			continue
		}
		target, ok := d.symlinks[p[:i]]
		if !ok {
			continue
		}
		if followed++; followed > maxFollowed {
			return "", fmt.Errorf("%s: too many symlinks", name)
		}
		if !path.IsAbs(target) {
			target = path.Join("/", path.Dir(p[:i]), target)
		}
		p = strings.TrimPrefix(path.Join(target, p[i:]), "/")
		i = -1
	}
	if len(p) > maxPath {
		return "", fmt.Errorf("a name of %d bytes is too long", len(p))
	}
	for part := range strings.SplitSeq(p, "/") {
		if len(part) > maxComponent {
			return "", fmt.Errorf("%s: a part of the name is longer than %d bytes", p, maxComponent)
		}
	}
	return p, nil
}

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
