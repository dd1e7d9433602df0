package dockerstore

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/prose-im/prose-image/builder/checksum"
)

// scan reads a layer once: its diff, the record from which the engine can make
// the same tar again, and whether it is what its DiffID says.
func (s *store) scan(ctx context.Context, l Layer) (*diff, []byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	blob, err := s.open(ctx, l)
	if err != nil {
		return nil, nil, err
	}
	defer blob.Close()
	// gzip of this module, not of the standard library, whose output changes
	// with the release of Go.
	var split bytes.Buffer
	zw := gzip.NewWriter(&split)
	hash := sha256.New()
	raw := &rawReader{r: io.TeeReader(blob, hash)}
	in, err := asm.NewInputTarStream(raw, storage.NewJSONPacker(zw), &putter{raw: raw, FilePutter: storage.NewDiscardFilePutter()})
	if err != nil {
		return nil, nil, err
	}
	d, err := scan(in, s.time)
	if err != nil {
		cancel()
	}
	// To the end: the record has what follows the last entry too, and the
	// stream's goroutine ends.
	if _, drained := io.Copy(io.Discard, in); err == nil {
		err = drained
	}
	if errors.Is(err, storage.ErrDuplicatePath) {
		err = &DuplicateError{Path: "a path"}
	}
	if err != nil {
		return nil, nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, nil, err
	}
	if got := sumOf(hash); got != l.DiffID {
		return nil, nil, &DigestError{What: "the tar in blob " + l.Digest, Where: "the cache " + s.cache.dir, Want: l.DiffID, Got: got}
	}
	return d, split.Bytes(), nil
}

// A putter refuses files that are longer than what was read for them: tar-split
// would spend for ever on the hole of a sparse file.
type putter struct {
	storage.FilePutter
	raw *rawReader
}

func (p *putter) Put(name string, r io.Reader) (int64, []byte, error) {
	return p.FilePutter.Put(name, &honestReader{r: r, raw: p.raw, start: p.raw.n})
}

type rawReader struct {
	r io.Reader
	n int64
}

func (r *rawReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	return n, err
}

type honestReader struct {
	r        io.Reader
	raw      *rawReader
	start, n int64
}

func (r *honestReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if r.n += int64(n); r.n > r.raw.n-r.start {
		return 0, errSparse
	}
	return n, err
}

// open gives the uncompressed tar of a layer. What a blob is compressed with is
// read from its first bytes, as the engine does.
func (s *store) open(ctx context.Context, l Layer) (io.ReadCloser, error) {
	f, err := s.cache.open(l.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotCachedError{Image: "layer " + l.Digest, Cache: s.cache.dir}
	}
	if err != nil {
		return nil, err
	}
	r, closeReader, err := decompress(checksum.Reader(ctx, f))
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("decompressing %s: %w", f.Name(), err)
	}
	return &tarStream{Reader: r, close: func() error {
		closeReader()
		return f.Close()
	}}, nil
}

type tarStream struct {
	io.Reader
	close func() error
}

func (t *tarStream) Close() error { return t.close() }

// maxWindow is how much of a zstd stream its decoder may have to remember: what
// zstd itself accepts without --long (RFC 8878 section 3.1.1.1.2).
const maxWindow = 128 << 20

func decompress(r io.Reader) (io.Reader, func(), error) {
	br := bufio.NewReaderSize(r, 1<<20)
	magic, err := br.Peek(4)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, nil, err
		}
		return z, func() { z.Close() }, nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return br, func() {}, nil
}
