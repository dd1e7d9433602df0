// Package writelog reads the record of a disk's writes and makes of it what a
// disk may hold after the power was cut.
//
// The format is that of Linux's dm-log-writes, which QEMU's driver blklogwrites
// writes too (Documentation/admin-guide/device-mapper/log-writes.rst and
// drivers/md/dm-log-writes.c of Linux, block/blklogwrites.c of QEMU). The first
// sector is a super block, then each entry is one sector that describes a write
// and as many that hold its data. All numbers are little-endian.
//
//	super block   magic u64, version u64 (1), entries u64, bytes of a sector u32
//	entry         sector u64, sectors u64, flags u64, bytes of a mark's text u64
package writelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

const (
	magic       = 0x6a736677736872
	version     = 1
	superLength = 28
	entryLength = 32
	maxSector   = 1 << 16
)

// Flags say what an entry is; none of them is a write that may still be in the
// disk's memory.
type Flags uint64

const (
	Flush   Flags = 1 << iota // what was written before is on the disk for good
	FUA                       // this write is, too, but those before it need not be
	Discard                   // the content is given up; there is no data
	Mark                      // a text of whoever records
)

const known = Flush | FUA | Discard | Mark

// An Entry is one thing that was told to the disk, in the order in which the
// disk said that it was done.
type Entry struct {
	Sector  uint64 // of the disk, in units of [Log.Sector]
	Sectors uint64
	Flags   Flags
	Data    int64 // where in the log it is
}

// A Log is a record.
type Log struct {
	Sector  int64 // bytes
	Entries []Entry

	r io.ReaderAt
}

// Count is how many entries a record has that is still being written.
func Count(r io.ReaderAt) (int, error) {
	n, _, err := super(r)
	if err != nil {
		return 0, fmt.Errorf("reading the record of writes: %w", err)
	}
	return n, nil
}

func super(r io.ReaderAt) (entries int, sector int64, err error) {
	b := make([]byte, superLength)
	if _, err := r.ReadAt(b, 0); err != nil {
		return 0, 0, fmt.Errorf("the super block: %w", noEnd(err))
	}
	if got := binary.LittleEndian.Uint64(b); got != magic {
		return 0, 0, fmt.Errorf("the super block begins with %#x, not with %#x", got, uint64(magic))
	}
	if got := binary.LittleEndian.Uint64(b[8:]); got != version {
		return 0, 0, fmt.Errorf("it has version %d, not %d", got, version)
	}
	n, size := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint32(b[24:])
	if size < 512 || size > maxSector || bits.OnesCount32(size) != 1 {
		return 0, 0, fmt.Errorf("a sector has %d bytes", size)
	}
	if n > 1<<40 {
		return 0, 0, fmt.Errorf("it has %d entries", n)
	}
	return int(n), int64(size), nil
}

// noEnd is the error for something that ends too early.
func noEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Read reads a record of size bytes. Data stays in r and is read when it is
// asked for.
func Read(r io.ReaderAt, size int64) (*Log, error) {
	fail := func(err error) (*Log, error) { return nil, fmt.Errorf("reading the record of writes: %w", err) }
	n, sector, err := super(r)
	if err != nil {
		return fail(err)
	}
	l := &Log{Sector: sector, r: r}
	b := make([]byte, entryLength)
	at := sector
	for i := range n {
		failed := func(err error) (*Log, error) { return fail(fmt.Errorf("entry %d of %d, at %d: %w", i, n, at, err)) }
		if size-at < sector {
			return failed(io.ErrUnexpectedEOF)
		}
		if _, err := r.ReadAt(b, at); err != nil {
			return failed(noEnd(err))
		}
		at += sector
		e := Entry{
			Sector: binary.LittleEndian.Uint64(b), Sectors: binary.LittleEndian.Uint64(b[8:]),
			Flags: Flags(binary.LittleEndian.Uint64(b[16:])), Data: at,
		}
		if e.Flags&^known != 0 {
			return failed(fmt.Errorf("there is no flag %#x", uint64(e.Flags&^known)))
		}
		// Of the disk, not of the log: an offset in bytes must have a sign.
		if most := uint64(1<<62) / uint64(sector); e.Sector > most || e.Sectors > most {
			return failed(fmt.Errorf("%d sectors at %d are on no disk", e.Sectors, e.Sector))
		}
		switch {
		case e.Flags&Mark != 0:
			text := binary.LittleEndian.Uint64(b[24:])
			if text > uint64(sector-entryLength) {
				return failed(fmt.Errorf("a mark has %d bytes", text))
			}
			e.Sector, e.Sectors = 0, 0 // its text is in its own sector
		case e.Flags&Discard != 0:
		default:
			if uint64(size-at)/uint64(sector) < e.Sectors {
				return failed(io.ErrUnexpectedEOF)
			}
			at += int64(e.Sectors) * sector
		}
		l.Entries = append(l.Entries, e)
	}
	return l, nil
}

// Content is the data of an entry.
func (l *Log) Content(i int) ([]byte, error) {
	e := l.Entries[i]
	if e.Flags&(Discard|Mark) != 0 {
		return nil, nil
	}
	b := make([]byte, int64(e.Sectors)*l.Sector)
	if _, err := l.r.ReadAt(b, e.Data); err != nil {
		return nil, fmt.Errorf("reading entry %d of the record of writes: %w", i, noEnd(err))
	}
	return b, nil
}
