// Package fat writes FAT16 and FAT32 file systems, such as an EFI system
// partition: all files at once, in one pass, equal bytes for equal input.
//
// The formats are those of Microsoft's "FAT32 File System Specification",
// version 1.03 (fatgen103), which the UEFI specification, section 13.3, adopts.
// Names that are not 8.3 in capitals get VFAT long-name entries and an 8.3
// alias made by the rules of that document.
package fat

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

const sector = 512

// A File is one file of the file system. The directories above it are made as
// needed.
type File struct {
	Path    string      // relative, clean, slash-separated
	Size    int64       // bytes of content, less than 4 GiB
	Content io.ReaderAt // may be nil when Size is zero
}

// Options are the properties of a file system that do not follow from its
// files.
type Options struct {
	VolumeID uint32
	Label    string    // at most 11 characters, letters in capitals; empty: none
	Time     time.Time // of every file and directory, in steps of two seconds from 1980; kept in UTC
	Hidden   uint32    // sectors of 512 bytes before the partition on its disk
	Bits     int       // 16 or 32; 0: 16 below 512 MiB, 32 from there
}

// A TooSmallError says that the files do not fit.
type TooSmallError struct {
	Need, Room int64 // bytes, in whole clusters
}

func (e *TooSmallError) Error() string {
	return fmt.Sprintf("the files need %d bytes and it has room for %d", e.Need, e.Room)
}

// Check reports why files cannot be written as a file system of size bytes; a
// [TooSmallError] when a larger size would do.
func Check(size int64, files []File, o Options) error {
	_, err := plan(size, files, o)
	if err != nil {
		return fmt.Errorf("planning FAT file system: %w", err)
	}
	return nil
}

// Write writes a file system of size bytes with the given files. What it does
// not write must read as zeros from w, as it does in a file that was just
// truncated to its size.
func Write(w io.WriterAt, size int64, files []File, o Options) error {
	l, err := plan(size, files, o)
	if err != nil {
		return fmt.Errorf("planning FAT file system: %w", err)
	}
	if err := l.write(w); err != nil {
		return fmt.Errorf("writing FAT file system: %w", err)
	}
	return nil
}

// A layout is a file system with every cluster in its place.
type layout struct {
	geometry
	Options
	root *node
	next uint32 // first cluster not in use
}

func plan(size int64, files []File, o Options) (*layout, error) {
	g, err := newGeometry(size, o.Bits)
	if err != nil {
		return nil, err
	}
	if err := checkLabel(o.Label); err != nil {
		return nil, err
	}
	root, err := newTree(files)
	if err != nil {
		return nil, err
	}
	l := &layout{geometry: g, Options: o, root: root, next: 2}
	need := l.place(root)
	if room := int64(g.clusters); need > room {
		return nil, &TooSmallError{Need: need * g.clusterSize(), Room: room * g.clusterSize()}
	}
	if n := root.entries(o.Label != ""); g.bits == 16 && n > rootEntries {
		return nil, fmt.Errorf("the root directory would have %d entries and has room for %d", n, rootEntries)
	}
	return l, nil
}

// place gives n and everything below it consecutive clusters, and returns how
// many it takes. It goes on past the end of the file system, so that the error
// can say what is needed.
func (l *layout) place(n *node) int64 {
	bytes := n.size
	if n.dir {
		bytes = int64(n.entries(n.parent == nil && l.Label != "")) * entrySize
		if n.parent == nil && l.bits == 16 {
			bytes = 0 // it has a place of its own before the first cluster
		}
	}
	n.clusters = (bytes + l.clusterSize() - 1) / l.clusterSize()
	if n.parent == nil && l.bits == 32 {
		n.clusters = max(n.clusters, 1)
	}
	if n.clusters > 0 {
		n.first = l.next
		l.next += uint32(n.clusters)
	}
	total := n.clusters
	for _, c := range n.children {
		total += l.place(c)
	}
	return total
}

func (l *layout) write(w io.WriterAt) error {
	table := l.table()
	for i := range int64(fats) {
		if _, err := w.WriteAt(table, (l.reserved+i*l.fatSectors)*sector); err != nil {
			return err
		}
	}
	if err := l.writeNode(w, l.root, make([]byte, 1<<20)); err != nil {
		return err
	}
	boot := l.bootSector()
	if l.bits == 32 {
		info := l.infoSector()
		for _, s := range []struct {
			at int64
			b  []byte
		}{{infoAt, info}, {backupAt, boot}, {backupAt + infoAt, info}} {
			if _, err := w.WriteAt(s.b, s.at*sector); err != nil {
				return err
			}
		}
	}
	_, err := w.WriteAt(boot, 0)
	return err
}

func (l *layout) writeNode(w io.WriterAt, n *node, buf []byte) error {
	at := l.offset(n.first)
	if n.parent == nil && l.bits == 16 {
		at = (l.reserved + fats*l.fatSectors) * sector
	}
	if !n.dir {
		if n.size == 0 {
			return nil
		}
		got, err := io.CopyBuffer(io.NewOffsetWriter(w, at), io.NewSectionReader(n.content, 0, n.size), buf)
		if err == nil && got != n.size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("%s: %w", n.path(), err)
		}
		return nil
	}
	if b := n.directory(l.Options); len(b) > 0 {
		if _, err := w.WriteAt(b, at); err != nil {
			return fmt.Errorf("%s: %w", n.path(), err)
		}
	}
	for _, c := range n.children {
		if err := l.writeNode(w, c, buf); err != nil {
			return err
		}
	}
	return nil
}

// table is the used part of a file allocation table; the rest is zero, which
// means free.
func (l *layout) table() []byte {
	t := make([]byte, int(l.next)*l.bits/8)
	put := func(cluster, value uint32) {
		if l.bits == 16 {
			binary.LittleEndian.PutUint16(t[cluster*2:], uint16(value))
		} else {
			binary.LittleEndian.PutUint32(t[cluster*4:], value&0x0FFFFFFF)
		}
	}
	const end = 0xFFFFFFFF
	put(0, 0xFFFFFF00|media)
	put(1, end) // also: cleanly unmounted, no read errors
	var chain func(n *node)
	chain = func(n *node) {
		for i := range uint32(n.clusters) {
			put(n.first+i, n.first+i+1)
		}
		if n.clusters > 0 {
			put(n.first+uint32(n.clusters)-1, end)
		}
		for _, c := range n.children {
			chain(c)
		}
	}
	chain(l.root)
	return t
}
