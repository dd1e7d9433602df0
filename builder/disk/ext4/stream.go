package ext4

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"
)

const (
	bufferSize  = 2 << 20
	bufferCount = 3
)

var (
	errFull  = errors.New("the file system is full")
	errWrite = errors.New("an earlier write failed")
	zeros    [blockSize]byte
)

// A stream hands out blocks in rising order, around the fixed metadata, and
// writes what goes there in large pieces, one of them while the next is filled.
type stream struct {
	ctx   context.Context
	next  uint64 // the next block to hand out
	limit uint64 // blocks of the file system
	fixed []span // those that next has not passed

	buf  []byte
	fill int    // bytes in buf, whole blocks
	base uint64 // block of buf[0], if fill > 0

	full   chan piece
	empty  chan []byte
	done   chan error
	failed atomic.Bool
}

type piece struct {
	b  []byte
	at int64
}

func newStream(ctx context.Context, w io.WriterAt, g *geometry) *stream {
	s := &stream{
		ctx: ctx, limit: g.blocks, fixed: g.fixed,
		full: make(chan piece, bufferCount), empty: make(chan []byte, bufferCount), done: make(chan error, 1),
	}
	for range bufferCount - 1 {
		s.empty <- make([]byte, bufferSize)
	}
	s.buf = make([]byte, bufferSize)
	go func() {
		var err error
		for p := range s.full {
			if err == nil {
				if _, err = w.WriteAt(p.b, p.at); err != nil {
					s.failed.Store(true)
				}
			}
			s.empty <- p.b[:bufferSize]
		}
		s.done <- err
	}()
	return s
}

// close waits for all that was flushed.
func (s *stream) close() error {
	close(s.full)
	return <-s.done
}

func (s *stream) flush() error {
	if s.fill > 0 {
		s.full <- piece{s.buf[:s.fill], int64(s.base) * blockSize}
		s.buf, s.fill = <-s.empty, 0
	}
	if s.failed.Load() {
		return errWrite
	}
	return s.ctx.Err()
}

// room steps to the next free block and says how many can be handed out, and
// have a place in the buffer, in one piece; 0 when the file system is full.
func (s *stream) room() (uint64, error) {
	for len(s.fixed) > 0 && s.fixed[0].start <= s.next {
		s.next = s.fixed[0].end
		s.fixed = s.fixed[1:]
	}
	if s.fill == len(s.buf) || s.fill > 0 && s.base+uint64(s.fill/blockSize) != s.next {
		if err := s.flush(); err != nil {
			return 0, err
		}
	}
	if s.fill == 0 {
		s.base = s.next
	}
	end := s.limit
	if len(s.fixed) > 0 {
		end = s.fixed[0].start
	}
	return min(end-s.next, uint64(len(s.buf)-s.fill)/blockSize), nil
}

// put writes one block and says where it lies.
func (s *stream) put(b []byte) (place uint64, err error) {
	return s.putAt(func(uint64) []byte { return b })
}

// putAt is put for a block that depends on where it lies.
func (s *stream) putAt(block func(place uint64) []byte) (place uint64, err error) {
	room, err := s.room()
	if err != nil {
		return 0, err
	}
	if room == 0 {
		return 0, errFull
	}
	copy(s.buf[s.fill:], block(s.next)[:blockSize])
	return s.take(1), nil
}

// take hands out the next n blocks, which the buffer holds already.
func (s *stream) take(n uint64) uint64 {
	place := s.next
	s.next += n
	s.fill += int(n) * blockSize
	return place
}

// skip hands out n blocks that stay as they are: zero.
func (s *stream) skip(n uint64, got func(place, n uint64)) error {
	for n > 0 {
		if err := s.flush(); err != nil {
			return err
		}
		if _, err := s.room(); err != nil {
			return err
		}
		end := s.limit
		if len(s.fixed) > 0 {
			end = s.fixed[0].start
		}
		m := min(n, end-s.next)
		if m == 0 {
			return errFull
		}
		got(s.next, m)
		s.next += m
		n -= m
	}
	return nil
}

// content writes a file. Blocks of zeros become holes.
func (s *stream) content(t *extentTree, r *io.SectionReader) (blocks uint64, err error) {
	size := r.Size()
	for off := int64(0); off < size; {
		room, err := s.room()
		if err != nil {
			return 0, err
		}
		full := room == 0
		if full { // still, what is left may be zeros
			room = uint64(len(s.buf)-s.fill) / blockSize
		}
		chunk := s.buf[s.fill:][:min(int64(room)*blockSize, (size-off+blockSize-1)&^(blockSize-1))]
		n := min(int64(len(chunk)), size-off)
		if _, err := io.ReadFull(r, chunk[:n]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, fmt.Errorf("reading byte %d to %d of %d: %w", off, off+n, size, err)
		}
		clear(chunk[n:])
		kept := uint64(0)
		for at := 0; at < len(chunk); {
			from := at
			for at < len(chunk) && [blockSize]byte(chunk[at:]) != zeros {
				at += blockSize
			}
			if at == from {
				at += blockSize
				continue
			}
			if full {
				return 0, errFull
			}
			if to := s.buf[s.fill:]; &to[0] != &chunk[from] {
				copy(to, chunk[from:at])
			}
			count := uint64(at-from) / blockSize
			t.add(uint32((off+int64(from))/blockSize), s.take(count), count)
			kept += count
		}
		blocks += kept
		off += n
		if err := t.spill(); err != nil {
			return 0, err
		}
		if kept == 0 && off < size {
			if off, err = nextData(r, off); err != nil {
				return 0, err
			}
			if _, err := r.Seek(off, io.SeekStart); err != nil {
				return 0, err
			}
		}
	}
	return blocks, nil
}

// nextData skips holes of the file that holds the content, if it lies in one:
// it gives the place, off or a whole block behind it, before which there are
// only zeros. It does not read, and moves the offset of the file, which nobody
// who reads by ReadAt sees.
func nextData(r *io.SectionReader, off int64) (int64, error) {
	const seekData = 3 // SEEK_DATA, lseek(2)
	if runtime.GOOS != "linux" {
		return off, nil
	}
	base := int64(0)
	var at io.ReaderAt = r
	for {
		section, ok := at.(*io.SectionReader)
		if !ok {
			break
		}
		var start int64
		at, start, _ = section.Outer()
		base += start
	}
	f, ok := at.(*os.File)
	if !ok {
		return off, nil
	}
	data, err := f.Seek(base+off, seekData)
	if err != nil { // ENXIO: no data up to the end; or a file system that cannot say
		return off, nil
	}
	return min(max(off, (data-base)&^(blockSize-1)), r.Size()), nil
}
