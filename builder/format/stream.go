package format

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"io"
	"os"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// A block is a piece of a disk on its way through a compressor.
type block struct {
	plain  []byte
	packed bytes.Buffer
	last   bool
}

// compress gives all of src, in blocks of size bytes each, to pack, several at
// a time, and their packed form to dst in order.
func compress(ctx context.Context, dst io.Writer, src *os.File, size, blockSize int64, pack func(*block) error, done func(*block)) error {
	// Much of a disk is zeros: packing them once is enough.
	zero := block{plain: make([]byte, blockSize)}
	if err := pack(&zero); err != nil {
		return err
	}
	at := int64(0)
	return ordered(ctx,
		func() *block { return &block{plain: make([]byte, blockSize)} },
		func(b *block) (bool, error) {
			if at == size {
				return false, nil
			}
			b.plain = b.plain[:min(blockSize, size-at)]
			if err := readAt(src, b.plain, at); err != nil {
				return false, err
			}
			at += int64(len(b.plain))
			b.last = at == size
			b.packed.Reset()
			return true, nil
		},
		func(b *block) error {
			if !b.last && isZero(b.plain) {
				b.packed.Write(zero.packed.Bytes())
				return nil
			}
			return pack(b)
		},
		func(b *block) error {
			done(b)
			_, err := dst.Write(b.packed.Bytes())
			return err
		})
}

// writeGzip writes one member (RFC 1952), which every reader understands,
// although its blocks are compressed apart from each other: each but the last
// ends with an empty stored block, which brings it to a whole byte.
func writeGzip(ctx context.Context, dst, src *os.File, size int64, _ Options) ([]byte, error) {
	const level = 5
	compressors := make(chan *flate.Writer, maxWorkers)
	for range cap(compressors) {
		w, err := flate.NewWriter(nil, level)
		if err != nil {
			return nil, err
		}
		compressors <- w
	}
	pack := func(b *block) error {
		w := <-compressors
		defer func() { compressors <- w }()
		w.Reset(&b.packed)
		if _, err := w.Write(b.plain); err != nil {
			return err
		}
		if b.last {
			return w.Close()
		}
		return w.Flush()
	}
	out := hashing{dst, sha256.New()}
	// No name, no time; made on Unix.
	if _, err := out.Write([]byte{0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3}); err != nil {
		return nil, err
	}
	crc := crc32.NewIEEE()
	err := compress(ctx, out, src, size, chunk, pack, func(b *block) { _, _ = crc.Write(b.plain) })
	if err != nil {
		return nil, err
	}
	end := binary.LittleEndian.AppendUint32(nil, crc.Sum32())
	end = binary.LittleEndian.AppendUint32(end, uint32(size))
	if _, err := out.Write(end); err != nil {
		return nil, err
	}
	return out.sum.Sum(nil), nil
}

// writeZstd writes one frame (RFC 8878) after the other, each with its size and
// a checksum; readers give their contents in a row, and some in parallel.
func writeZstd(ctx context.Context, dst, src *os.File, size int64, _ Options) ([]byte, error) {
	const frame = 4 * chunk
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithEncoderConcurrency(workers()), zstd.WithWindowSize(frame), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	defer e.Close()
	pack := func(b *block) error {
		b.packed.Write(e.EncodeAll(b.plain, b.packed.AvailableBuffer()))
		return nil
	}
	out := hashing{dst, sha256.New()}
	if err := compress(ctx, out, src, size, frame, pack, func(*block) {}); err != nil {
		return nil, err
	}
	return out.sum.Sum(nil), nil
}

// A hashing writer keeps the sum of what goes through it.
type hashing struct {
	w   io.Writer
	sum hash.Hash
}

func (h hashing) Write(p []byte) (int, error) {
	h.sum.Write(p)
	return h.w.Write(p)
}
