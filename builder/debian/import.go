package debian

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/builder/layer"
)

// leftOut are directories whose content belongs to the machine that runs, not
// to the image.
var leftOut = []string{"dev/", "proc/", "sys/", "run/", "tmp/"}

// keptXattrs are the extended attributes a Debian package may set: file
// capabilities. Others come from the file system we were baked on.
var keptXattrs = []string{"security.capability"}

// Import writes the tar of a root file system as a layer: sorted by path,
// times clamped to epoch, nothing under /dev, /proc, /sys, /run and /tmp, and
// nothing that drop names, if there is one.
func Import(f *os.File, w *layer.Writer, epoch time.Time, drop func(path string, kind layer.Type) bool) error {
	type found struct {
		layer.Entry
		offset int64
	}
	var all []found
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("importing packages: %w", err)
	}
	section := io.NewSectionReader(f, 0, size)
	for tr := tar.NewReader(section); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("importing packages: %w", err)
		}
		e, err := layer.FromTar(h)
		if err != nil {
			return fmt.Errorf("importing packages: %w", err)
		}
		if drop != nil && drop(e.Path, e.Type) || slices.ContainsFunc(leftOut, func(dir string) bool { return strings.HasPrefix(e.Path, dir) }) {
			continue
		}
		if e.ModTime.After(epoch) {
			e.ModTime = epoch
		}
		for name := range e.Xattrs {
			if !slices.Contains(keptXattrs, name) {
				delete(e.Xattrs, name)
			}
		}
		offset, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return fmt.Errorf("importing packages: %w", err)
		}
		all = append(all, found{e, offset})
	}
	slices.SortFunc(all, func(a, b found) int { return strings.Compare(a.Path, b.Path) })
	// Of the names of one file, the first in this order holds the content.
	file := make(map[string]found)
	for _, e := range all {
		if e.Type != layer.HardLink && e.Type != layer.Dir {
			file[e.Path] = e
		}
	}
	holder := make(map[string]string)
	for i, e := range all {
		first := e.Path
		if e.Type == layer.HardLink {
			first = e.Link
		}
		if h, ok := holder[first]; ok {
			all[i] = found{Entry: layer.Entry{Path: e.Path, Type: layer.HardLink, Link: h}}
			continue
		}
		if e.Type == layer.HardLink {
			target, ok := file[first]
			if !ok {
				return fmt.Errorf("importing packages: hard link %s names %s, which is not there", e.Path, e.Link)
			}
			target.Path = e.Path
			all[i] = target
		}
		holder[first] = e.Path
	}
	for i := range all {
		if err := w.Write(all[i].Entry, io.NewSectionReader(f, all[i].offset, all[i].Size)); err != nil {
			return fmt.Errorf("importing packages: %w", err)
		}
	}
	return nil
}
