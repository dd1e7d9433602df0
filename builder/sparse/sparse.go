// Package sparse reads files with holes, without reading the holes.
package sparse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// An Extent is a range of a file, in bytes.
type Extent struct{ Start, End int64 }

// Extents gives the ranges of the first size bytes of f that hold data, in
// order, widened to whole units and never touching each other. What lies
// between them reads as zeros. On a file system that knows no holes it is the
// whole.
func Extents(f *os.File, size, unit int64) iter.Seq2[Extent, error] {
	return extents(f, 0, size, unit)
}

// extents is Extents from a place on.
func extents(f *os.File, from, size, unit int64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		var last Extent // not given yet
		for at := from; at < size; {
			start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) {
				break // only a hole is left
			}
			end := size
			if errors.Is(err, unix.EINVAL) {
				start, err = at, nil
			} else if err == nil {
				end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
			}
			if err != nil {
				yield(Extent{}, fmt.Errorf("looking for data in %s: %w", f.Name(), err))
				return
			}
			if start >= size {
				break
			}
			at = end
			e := Extent{start / unit * unit, min((end+unit-1)/unit*unit, size)}
			if e.Start <= last.End && last.End > 0 {
				last.End = max(last.End, e.End)
				continue
			}
			if last.End > 0 && !yield(last, nil) {
				return
			}
			last = e
		}
		if last.End > 0 {
			yield(last, nil)
		}
	}
}

// Used is how many of the first size bytes of f hold data, as far as can be
// known.
func Used(f *os.File, size int64) int64 {
	n := int64(0)
	for e, err := range Extents(f, size, 1) {
		if err != nil {
			return size
		}
		n += e.End - e.Start
	}
	return n
}

// ReadAt fills b; a file that ends before is an error.
func ReadAt(f *os.File, b []byte, off int64) error {
	_, err := io.ReadFull(io.NewSectionReader(f, off, int64(len(b))), b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("reading %s at %d: %w", f.Name(), off, err)
	}
	return nil
}

var zeros [64 << 10]byte

// IsZero says whether b holds only zeros.
func IsZero(b []byte) bool {
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
