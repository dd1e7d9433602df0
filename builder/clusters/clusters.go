// Package clusters keeps deflated clusters of disks, so that a disk that is much
// like an earlier one is not deflated again. What it gives is what deflating
// would give: whether a cluster is kept changes the time of a bake and no byte
// of it.
//
// # Format
//
// A store is a directory of packs, which are never changed. A pack is named by
// its own SHA-256 and holds, all numbers little-endian:
//
//	data     the deflated clusters, one after the other
//	records  48 bytes each, in the order of the data:
//	           SHA-256 of the plain cluster
//	           8 bytes: where its data starts
//	           4 bytes: length of the data; 0: deflating makes it no smaller
//	           4 bytes: CRC-32C of the data
//	trailer  56 bytes:
//	           SHA-256 of the name of what deflated
//	           8 bytes: number of records
//	           4 bytes: CRC-32C of the records
//	           4 bytes: CRC-32C of the trailer up to here
//	           8 bytes: "prosepk1"
package clusters

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// A Key is the SHA-256 of a plain cluster.
type Key [sha256.Size]byte

const (
	// Suffix ends the name of each pack, after 64 hex digits.
	Suffix = ".pack"

	recordSize  = 48
	trailerSize = 56
	magic       = "prosepk1"

	// maxRecords bounds what a pack, and all packs of a store, hold in memory;
	// clusters of 16 GiB of data.
	maxRecords = 1 << 18
	// maxLength is of the data of one cluster.
	maxLength = 2 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A record says where the data of a cluster is.
type record struct {
	key    Key
	offset int64
	length uint32
	crc    uint32
}

// An index is what the end of a pack says.
type index struct {
	coder   [sha256.Size]byte
	records []record
}

// readIndex reads the end of a pack of size bytes. What is no whole pack is an
// error.
func readIndex(r io.ReaderAt, size int64) (index, error) {
	var x index
	if size < trailerSize {
		return x, errors.New("it is too short for a pack")
	}
	t := make([]byte, trailerSize)
	if err := readAt(r, t, size-trailerSize); err != nil {
		return x, err
	}
	le := binary.LittleEndian
	if string(t[48:]) != magic || crc32.Checksum(t[:44], castagnoli) != le.Uint32(t[44:]) {
		return x, errors.New("it does not end as a pack")
	}
	n := le.Uint64(t[32:])
	if n > maxRecords || int64(n)*recordSize > size-trailerSize {
		return x, fmt.Errorf("it claims %d records", n)
	}
	b := make([]byte, n*recordSize)
	end := size - trailerSize - int64(len(b)) // of the data
	if err := readAt(r, b, end); err != nil {
		return x, err
	}
	if crc32.Checksum(b, castagnoli) != le.Uint32(t[40:]) {
		return x, errors.New("its records are not those that were written")
	}
	copy(x.coder[:], t)
	x.records = make([]record, n)
	at := int64(0)
	for i := range x.records {
		b := b[i*recordSize:]
		r := &x.records[i]
		copy(r.key[:], b)
		r.offset, r.length, r.crc = int64(le.Uint64(b[32:])), le.Uint32(b[40:]), le.Uint32(b[44:])
		if r.offset != at || r.length > maxLength {
			return x, fmt.Errorf("record %d has %d bytes at %d", i, r.length, r.offset)
		}
		at += int64(r.length)
	}
	if at != end {
		return x, fmt.Errorf("its records stand for %d bytes of %d", at, end)
	}
	return x, nil
}

// encode is the end of a pack.
func (x *index) encode() []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, len(x.records)*recordSize+trailerSize)
	for _, r := range x.records {
		b = append(b, r.key[:]...)
		b = le.AppendUint64(b, uint64(r.offset))
		b = le.AppendUint32(b, r.length)
		b = le.AppendUint32(b, r.crc)
	}
	sum := crc32.Checksum(b, castagnoli)
	start := len(b)
	b = append(b, x.coder[:]...)
	b = le.AppendUint64(b, uint64(len(x.records)))
	b = le.AppendUint32(b, sum)
	b = le.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	return append(b, magic...)
}

func readAt(r io.ReaderAt, b []byte, off int64) error {
	_, err := io.ReadFull(io.NewSectionReader(r, off, int64(len(b))), b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Count says how many clusters the pack at path holds.
func Count(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	x, err := readIndex(f, info.Size())
	if err != nil {
		return 0, fmt.Errorf("reading the pack %s: %w", path, err)
	}
	return len(x.records), nil
}
