package writelog

import (
	"errors"
	"fmt"
	"io"
)

// A File is what a disk is made in, as *os.File is one.
type File interface {
	io.ReaderAt
	io.WriterAt
}

// A Disk is a file that goes through the points of a record, each later than
// the one before. It begins as the disk was when recording began. Nothing is
// copied: what is uncertain at a point is taken back before the next one.
type Disk struct {
	log  *Log
	file File
	at   int // entries that are in the file for good
	undo []before
}

// before is what a piece has overwritten.
type before struct {
	offset int64
	data   []byte
}

// NewDisk returns the disk before the first entry. It has size bytes, and so
// has f.
func NewDisk(l *Log, f File, size int64) (*Disk, error) {
	sectors := uint64(size / l.Sector)
	for i, e := range l.Entries {
		if e.Sector > sectors || e.Sectors > sectors-e.Sector {
			return nil, fmt.Errorf("replaying writes: entry %d has %d sectors at %d, and the disk has only %d", i, e.Sectors, e.Sector, sectors)
		}
	}
	return &Disk{log: l, file: f}, nil
}

// To makes the disk what it is at a point. Whoever has changed it since the
// last one has changed it back.
func (d *Disk) To(p Point) error {
	if err := d.Back(); err != nil {
		return err
	}
	settled := d.log.Settled(p.Entries)
	if settled < d.at {
		return fmt.Errorf("replaying writes: point %d comes after one that had %d for good", p.Entries, d.at)
	}
	for ; d.at < settled; d.at++ {
		e := d.log.Entries[d.at]
		if err := d.write(Piece{d.at, 0, int64(e.Sectors) * d.log.Sector}, false); err != nil {
			return err
		}
	}
	for _, piece := range d.log.Pieces(p) {
		if err := d.write(piece, true); err != nil {
			return errors.Join(err, d.Back())
		}
	}
	return nil
}

// Back takes back what was uncertain.
func (d *Disk) Back() error {
	for len(d.undo) > 0 {
		b := d.undo[len(d.undo)-1]
		if _, err := d.file.WriteAt(b.data, b.offset); err != nil {
			return fmt.Errorf("taking back a write at %d: %w", b.offset, err)
		}
		d.undo = d.undo[:len(d.undo)-1]
	}
	return nil
}

const chunk = 1 << 20

// write writes a piece. What was discarded reads as zeros, as QEMU's disks do.
func (d *Disk) write(p Piece, undo bool) error {
	e := d.log.Entries[p.Entry]
	if e.Flags&Mark != 0 {
		return nil
	}
	for p.Length > 0 {
		b := make([]byte, min(p.Length, chunk))
		to := int64(e.Sector)*d.log.Sector + p.Offset
		fail := func(err error) error {
			return fmt.Errorf("replaying entry %d of the record of writes, at %d: %w", p.Entry, to, err)
		}
		if undo {
			old := make([]byte, len(b))
			if _, err := d.file.ReadAt(old, to); err != nil {
				return fail(noEnd(err))
			}
			d.undo = append(d.undo, before{to, old})
		}
		if e.Flags&Discard == 0 {
			if _, err := d.log.r.ReadAt(b, e.Data+p.Offset); err != nil {
				return fail(noEnd(err))
			}
		}
		if _, err := d.file.WriteAt(b, to); err != nil {
			return fail(err)
		}
		p.Offset, p.Length = p.Offset+int64(len(b)), p.Length-int64(len(b))
	}
	return nil
}
