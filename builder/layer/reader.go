package layer

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// A Layer is an index over a stored layer. The content stays where it is:
// [Layer.Content] gives a window on it.
type Layer struct {
	Name      string   // for messages
	Deletions []string // sorted
	Entries   []Entry  // in stored order

	r       io.ReaderAt
	offsets []int64
}

// Content returns the bytes of entry i.
func (l *Layer) Content(i int) *io.SectionReader {
	return io.NewSectionReader(l.r, l.offsets[i], l.Entries[i].Size)
}

// Read indexes the layer of size bytes in r. The layer keeps r; the caller
// closes it when no entry is read any more.
func Read(name string, r io.ReaderAt, size int64) (*Layer, error) {
	l := &Layer{Name: name, r: r}
	// tar.Reader skips content by Seek, and asks for the position only through
	// its reader: the section's own position after Next is where content starts.
	section := io.NewSectionReader(r, 0, size)
	tr := tar.NewReader(section)
	seen := map[string]Type{}
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading layer %s: %w", name, err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			if n != 0 {
				return nil, fmt.Errorf("reading layer %s: a second header", name)
			}
			if err := json.Unmarshal([]byte(h.PAXRecords[deletionsKey]), &l.Deletions); err != nil {
				return nil, fmt.Errorf("reading layer %s: its header: %w", name, err)
			}
			for _, p := range l.Deletions {
				if err := CheckPath(p); err != nil || p == "." {
					return nil, fmt.Errorf("reading layer %s: bad deletion %q", name, p)
				}
			}
			continue
		}
		if n == 0 {
			return nil, fmt.Errorf("reading layer %s: it has no header", name)
		}
		e, err := entry(h)
		if err == nil {
			err = e.check()
		}
		if err != nil {
			return nil, fmt.Errorf("reading layer %s: %w", name, err)
		}
		if _, twice := seen[e.Path]; twice {
			return nil, fmt.Errorf("reading layer %s: %s comes twice", name, e.Path)
		}
		if e.Type == HardLink {
			if t, ok := seen[e.Link]; !ok || t == Dir {
				return nil, fmt.Errorf("reading layer %s: hard link %s names %s, which is no earlier file", name, e.Path, e.Link)
			}
		}
		seen[e.Path] = e.Type
		offset, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, fmt.Errorf("reading layer %s: %w", name, err)
		}
		l.Entries = append(l.Entries, e)
		l.offsets = append(l.offsets, offset)
	}
	if len(seen) == 0 && l.Deletions == nil {
		return nil, fmt.Errorf("reading layer %s: %w", name, errors.New("it has no header"))
	}
	return l, nil
}

// FromTar translates a header of any tar, ours or a foreign one, to an entry
// whose path is relative and clean.
func FromTar(h *tar.Header) (Entry, error) { return entry(h) }

func entry(h *tar.Header) (Entry, error) {
	e := Entry{
		Path:    path.Clean(strings.TrimPrefix(path.Clean("/"+h.Name), "/")),
		Mode:    uint16(h.Mode & 0o7777),
		UID:     uint32(h.Uid),
		GID:     uint32(h.Gid),
		ModTime: h.ModTime,
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		e.Type, e.Size = File, h.Size
	case tar.TypeDir:
		e.Type = Dir
	case tar.TypeSymlink:
		e.Type, e.Link = Symlink, h.Linkname
	case tar.TypeLink:
		e.Type = HardLink
		e.Link = path.Clean(strings.TrimPrefix(path.Clean("/"+h.Linkname), "/"))
	case tar.TypeChar, tar.TypeBlock:
		e.Type = Char
		if h.Typeflag == tar.TypeBlock {
			e.Type = Block
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	case tar.TypeFifo:
		e.Type = Fifo
	default:
		return e, fmt.Errorf("%s: tar type %q is not one a root file system has", h.Name, h.Typeflag)
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, xattrPrefix); ok {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[name] = v
		}
	}
	return e, nil
}
