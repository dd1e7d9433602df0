package layer

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// deletionsKey is the global pax record that lists a layer's deletions.
const deletionsKey = "PROSE.deletions"

// xattrPrefix is the pax record prefix under which star(1), GNU tar and
// archive/tar keep extended attributes.
const xattrPrefix = "SCHILY.xattr."

// A Writer writes one layer.
type Writer struct {
	tw   *tar.Writer
	seen map[string]Type
	err  error
}

// NewWriter starts a layer on w that deletes the given paths from the layers
// below it.
func NewWriter(w io.Writer, deletions []string) (*Writer, error) {
	lw := &Writer{tw: tar.NewWriter(w), seen: map[string]Type{}}
	sorted := slices.Clone(deletions)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	for _, p := range sorted {
		if err := CheckPath(p); err != nil {
			return nil, fmt.Errorf("deletion: %w", err)
		}
		if p == "." {
			return nil, fmt.Errorf("deletion: the root cannot be deleted")
		}
	}
	if sorted == nil {
		sorted = []string{}
	}
	list, err := json.Marshal(sorted)
	if err != nil {
		return nil, fmt.Errorf("encoding deletions: %w", err)
	}
	err = lw.tw.WriteHeader(&tar.Header{
		Typeflag:   tar.TypeXGlobalHeader,
		Name:       "layer",
		PAXRecords: map[string]string{deletionsKey: string(list)},
		Format:     tar.FormatPAX,
	})
	if err != nil {
		return nil, fmt.Errorf("writing layer header: %w", err)
	}
	return lw, nil
}

// Write adds one entry. content is read to exactly e.Size bytes and may be nil
// when that is zero. After an error the writer is of no more use.
func (w *Writer) Write(e Entry, content io.Reader) error {
	if w.err != nil {
		return w.err
	}
	w.err = w.write(e, content)
	return w.err
}

func (w *Writer) write(e Entry, content io.Reader) error {
	if err := e.check(); err != nil {
		return fmt.Errorf("writing layer: %w", err)
	}
	if _, twice := w.seen[e.Path]; twice {
		return fmt.Errorf("writing layer: %s comes twice", e.Path)
	}
	if e.Type == HardLink {
		target, ok := w.seen[e.Link]
		if !ok {
			return fmt.Errorf("writing layer: hard link %s names %s, which is not earlier in this layer", e.Path, e.Link)
		}
		if target == Dir {
			return fmt.Errorf("writing layer: hard link %s names a directory", e.Path)
		}
	}
	w.seen[e.Path] = e.Type
	if err := w.tw.WriteHeader(header(e)); err != nil {
		return fmt.Errorf("writing layer: %s: %w", e.Path, err)
	}
	if e.Size == 0 {
		return nil
	}
	if _, err := io.CopyN(w.tw, content, e.Size); err != nil {
		return fmt.Errorf("writing layer: %s: %w", e.Path, err)
	}
	return nil
}

// Close ends the layer. It does not close what lies below it.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if err := w.tw.Close(); err != nil {
		return fmt.Errorf("closing layer: %w", err)
	}
	return nil
}

var tarTypes = [...]byte{
	File: tar.TypeReg, Dir: tar.TypeDir, Symlink: tar.TypeSymlink, HardLink: tar.TypeLink,
	Char: tar.TypeChar, Block: tar.TypeBlock, Fifo: tar.TypeFifo,
}

func header(e Entry) *tar.Header {
	h := &tar.Header{
		Typeflag: tarTypes[e.Type],
		Name:     e.Path,
		Linkname: e.Link,
		Mode:     int64(e.Mode),
		Uid:      int(e.UID),
		Gid:      int(e.GID),
		ModTime:  e.ModTime,
		Size:     e.Size,
		Devmajor: int64(e.Major),
		Devminor: int64(e.Minor),
		Format:   tar.FormatPAX,
	}
	if e.Type == Dir && !strings.HasSuffix(h.Name, "/") {
		h.Name += "/"
	}
	if len(e.Xattrs) > 0 {
		h.PAXRecords = make(map[string]string, len(e.Xattrs))
		for k, v := range e.Xattrs {
			h.PAXRecords[xattrPrefix+k] = v
		}
	}
	return h
}
