// Package checksum takes the SHA-256 of files and streams, and stops when it is
// told to: an image has gigabytes.
package checksum

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// Of is the length in bytes and the SHA-256, in hexadecimal, of what is left of
// r. When ctx ends, the error is its cause.
func Of(ctx context.Context, r io.Reader) (size int64, sum string, err error) {
	h := sha256.New()
	size, err = io.CopyBuffer(h, Reader(ctx, r), make([]byte, 1<<20))
	return size, hex.EncodeToString(h.Sum(nil)), err
}

// File is the same of a whole file.
func File(ctx context.Context, path string) (size int64, sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	if size, sum, err = Of(ctx, f); err != nil && ctx.Err() == nil {
		err = fmt.Errorf("reading %s: %w", path, err)
	}
	return size, sum, err
}

// Reader reads from r until ctx ends; then the error is its cause.
func Reader(ctx context.Context, r io.Reader) io.Reader { return &reader{ctx, r} }

type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
