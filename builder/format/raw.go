package format

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/builder/output"
)

// writeRaw copies a disk with its holes: by sharing its blocks where the file
// system can (ioctl_ficlone(2)), else block for block.
func writeRaw(ctx context.Context, dst, src *os.File, size int64, _ Options) ([]byte, error) {
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return nil, nil
	}
	if err := output.CheckSpace(dst.Name(), used(src, size)); err != nil {
		return nil, err
	}
	if err := dst.Truncate(size); err != nil {
		return nil, err
	}
	buf := make([]byte, chunk)
	for e, err := range extents(src, size, holeUnit) {
		if err != nil {
			return nil, err
		}
		for at := e.start; at < e.end; {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			b := buf[:min(e.end-at, chunk)]
			if err := readAt(src, b, at); err != nil {
				return nil, err
			}
			if err := writeSparse(dst, b, at); err != nil {
				return nil, err
			}
			at += int64(len(b))
		}
	}
	return nil, nil
}

// holeUnit is the size of the holes that file systems commonly can keep.
const holeUnit = 4096

// writeSparse writes b at off, which is a multiple of holeUnit, but for the
// units that are zero.
func writeSparse(dst *os.File, b []byte, off int64) error {
	for len(b) > 0 {
		n, zero := 0, false
		for n < len(b) {
			unit := b[n:min(n+holeUnit, len(b))]
			if z := isZero(unit); n > 0 && z != zero {
				break
			} else {
				zero = z
			}
			n += len(unit)
		}
		if !zero {
			if _, err := dst.WriteAt(b[:n], off); err != nil {
				return err
			}
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
