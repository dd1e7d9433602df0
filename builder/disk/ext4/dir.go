package ext4

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

const (
	dirTail     = 12                   // struct ext4_dir_entry_tail
	dirRoom     = blockSize - dirTail  // bytes of entries in a block
	dotsSize    = 24                   // . and ..
	dxRoot      = (blockSize - 40) / 8 // entries of the index in the first block
	dxNode      = (blockSize - 16) / 8 // entries in a further index block
	halfMD4Hash = 1
)

func entrySize(name string) int { return (8 + len(name) + 3) &^ 3 }

// A dirLayout says which name goes to which block of a directory.
//
// A directory that fits one block is a list of entries. A larger one is hashed
// (Documentation/filesystems/ext4/directory.rst): an index in the first block,
// a second level of index blocks behind it if it takes more than dxRoot leaves,
// then leaves whose names rise by hash.
type dirLayout struct {
	d      *dir
	order  []int32  // of d.entries, as they are stored
	starts []int32  // where in order each leaf starts
	keys   []uint32 // lowest hash of each leaf; odd: its first hash also ends the leaf before
	nodes  int      // index blocks besides the first
}

func newDirLayout(d *dir, seed [4]uint32) *dirLayout {
	l := &dirLayout{d: d, order: make([]int32, len(d.entries))}
	size := dotsSize
	for i := range d.entries {
		l.order[i] = int32(i)
		size += entrySize(d.entries[i].name)
	}
	if size <= dirRoom {
		return l
	}
	hashes := make([]nameHash, len(d.entries))
	for i := range d.entries {
		hashes[i] = hashName(d.entries[i].name, seed)
	}
	slices.SortFunc(l.order, func(a, b int32) int {
		switch x, y := hashes[a], hashes[b]; {
		case x.major != y.major:
			return sign(x.major < y.major)
		case x.minor != y.minor:
			return sign(x.minor < y.minor)
		}
		return strings.Compare(d.entries[a].name, d.entries[b].name)
	})
	room := 0
	for i, e := range l.order {
		n := entrySize(d.entries[e].name)
		if n > room {
			key := hashes[e].major
			if i > 0 && hashes[l.order[i-1]].major == key {
				key |= 1
			}
			l.starts = append(l.starts, int32(i))
			l.keys = append(l.keys, key)
			room = dirRoom
		}
		room -= n
	}
	if len(l.starts) > dxRoot {
		l.nodes = (len(l.starts) + dxNode - 1) / dxNode
	}
	return l
}

func sign(less bool) int {
	if less {
		return -1
	}
	return 1
}

func (l *dirLayout) hashed() bool { return l.starts != nil }

// blocks counts the blocks of the directory. Without the feature large_dir an
// index has at most two levels.
func (l *dirLayout) blocks() (uint32, error) {
	if l.nodes > dxRoot {
		return 0, fmt.Errorf("%d names are more than a directory holds", len(l.order))
	}
	return uint32(1 + l.nodes + len(l.starts)), nil
}

// write gives the blocks of the directory, one by one, in a buffer that is used
// again. seed is that of the directory's inode.
func (l *dirLayout) write(parent, seed uint32, put func(b []byte) error) error {
	b := make([]byte, blockSize)
	if !l.hashed() {
		at := l.putDots(b, parent)
		l.putEntries(b, at, l.order)
		if err := put(seal(b, seed)); err != nil {
			return err
		}
		for i := uint32(1); i < l.d.blocks; i++ { // lost+found
			clear(b)
			binary.LittleEndian.PutUint16(b[4:], dirRoom)
			if err := put(seal(b, seed)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := l.writeIndex(b, parent, seed, put); err != nil {
		return err
	}
	for i, start := range l.starts {
		end := len(l.order)
		if i+1 < len(l.starts) {
			end = int(l.starts[i+1])
		}
		clear(b)
		l.putEntries(b, 0, l.order[start:end])
		if err := put(seal(b, seed)); err != nil {
			return err
		}
	}
	return nil
}

// writeIndex gives the first block (struct dx_root in fs/ext4/namei.c) and the
// index blocks behind it (struct dx_node).
func (l *dirLayout) writeIndex(b []byte, parent, seed uint32, put func(b []byte) error) error {
	le := binary.LittleEndian
	leaf := uint32(1 + l.nodes)
	keys, first := l.keys, leaf
	l.putDots(b, parent)
	le.PutUint16(b[16:], blockSize-12) // .. spans the index
	b[28], b[29] = halfMD4Hash, 8
	if l.nodes > 0 {
		b[30] = 1 // indirect_levels
		keys, first = nil, 1
		for i := 0; i < len(l.keys); i += dxNode {
			keys = append(keys, l.keys[i])
		}
	}
	putIndex(b, 32, dxRoot, keys, first, seed)
	if err := put(b); err != nil {
		return err
	}
	for i := range l.nodes {
		clear(b)
		le.PutUint16(b[4:], blockSize) // an empty entry over the whole block
		keys := l.keys[i*dxNode : min((i+1)*dxNode, len(l.keys))]
		putIndex(b, 8, dxNode, keys, leaf, seed)
		leaf += uint32(len(keys))
		if err := put(b); err != nil {
			return err
		}
	}
	return nil
}

// putIndex writes index entries from byte at on, for consecutive blocks from
// first. The hash of the first is implied: its place holds limit and count.
func putIndex(b []byte, at, limit int, keys []uint32, first, seed uint32) {
	le := binary.LittleEndian
	for i, key := range keys {
		e := b[at+8*i:]
		le.PutUint32(e, key)
		le.PutUint32(e[4:], first+uint32(i))
	}
	le.PutUint16(b[at:], uint16(limit))
	le.PutUint16(b[at+2:], uint16(len(keys)))
	sum := crc32c(seed, b[:at+8*len(keys)])
	sum = crc32c(sum, make([]byte, 8)) // struct dx_tail, its sum zero
	le.PutUint32(b[at+8*limit+4:], sum)
}

func (l *dirLayout) putDots(b []byte, parent uint32) int {
	at := putEntry(b, 0, ".", l.d.ino, 2)
	return putEntry(b, at, "..", parent, 2)
}

// putEntries writes entries from byte at on and stretches the last one to the
// end of the block's room.
func (l *dirLayout) putEntries(b []byte, at int, list []int32) {
	last := at - entrySize("..")
	for _, i := range list {
		e := &l.d.entries[i]
		last = at
		at = putEntry(b, at, e.name, e.ino, e.kind)
	}
	binary.LittleEndian.PutUint16(b[last+4:], uint16(dirRoom-last))
}

func putEntry(b []byte, at int, name string, ino uint32, kind byte) int {
	le := binary.LittleEndian
	size := entrySize(name)
	le.PutUint32(b[at:], ino)
	le.PutUint16(b[at+4:], uint16(size))
	b[at+6], b[at+7] = byte(len(name)), kind
	copy(b[at+8:], name)
	return at + size
}

// seal ends a block of entries with its checksum, which looks like an unused
// entry of type 0xde.
func seal(b []byte, seed uint32) []byte {
	le := binary.LittleEndian
	tail := b[dirRoom:]
	clear(tail)
	le.PutUint16(tail[4:], dirTail)
	tail[7] = 0xde
	le.PutUint32(tail[8:], crc32c(seed, b[:dirRoom]))
	return b
}
