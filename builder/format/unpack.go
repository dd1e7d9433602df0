package format

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/prose-im/prose-image/builder/host"
)

// Unpack writes the disk in the file at path, of the named format, to a new
// sparse file. Reading qcow2 needs qemu-img; without it the error is a
// [host.MissingTool].
func Unpack(ctx context.Context, name, path, to string) error {
	var unpack func(io.Reader) (io.Reader, error)
	switch name {
	case "raw.gz":
		unpack = func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }
	case "raw.zst":
		unpack = func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r, zstd.WithDecoderConcurrency(1)) }
	default:
		_, err := host.Output(ctx, host.Command{Args: []string{"qemu-img", "convert", "-f", name, "-O", "raw", path, to}})
		return err
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := unpack(in)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer out.Close()
	buf := make([]byte, 1<<20)
	for at := int64(0); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// Not io.ReadFull, which hides that a file ends too early.
		n := 0
		var err error
		for n < len(buf) && err == nil {
			var m int
			m, err = r.Read(buf[n:])
			n += m
		}
		if err == io.EOF && at+int64(n) == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("reading %s: %w", path, err)
		}
		if !isZero(buf[:n]) {
			if _, err := out.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if err != nil {
			return out.Truncate(at)
		}
	}
}
