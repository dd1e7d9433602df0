package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// chunk is how much of a disk is read at a time.
const chunk = 1 << 20

// An extent is a range of a file, in bytes.
type extent struct{ start, end int64 }

// extents gives the ranges of the first size bytes of f that hold data, in
// order, widened to whole units and never touching each other. What lies
// between them reads as zeros. On a file system that knows no holes it is the
// whole.
func extents(f *os.File, size, unit int64) iter.Seq2[extent, error] {
	return func(yield func(extent, error) bool) {
		var last extent // not given yet
		for at := int64(0); at < size; {
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
				yield(extent{}, fmt.Errorf("looking for data in %s: %w", f.Name(), err))
				return
			}
			if start >= size {
				break
			}
			at = end
			e := extent{start / unit * unit, min((end+unit-1)/unit*unit, size)}
			if e.start <= last.end && last.end > 0 {
				last.end = max(last.end, e.end)
				continue
			}
			if last.end > 0 && !yield(last, nil) {
				return
			}
			last = e
		}
		if last.end > 0 {
			yield(last, nil)
		}
	}
}

// used is how many of the first size bytes of f hold data, as far as can be
// known.
func used(f *os.File, size int64) int64 {
	n := int64(0)
	for e, err := range extents(f, size, 1) {
		if err != nil {
			return size
		}
		n += e.end - e.start
	}
	return n
}

// readAt fills b; a file that ends before is an error.
func readAt(f *os.File, b []byte, off int64) error {
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

func isZero(b []byte) bool {
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
