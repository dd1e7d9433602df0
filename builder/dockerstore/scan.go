package dockerstore

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
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
