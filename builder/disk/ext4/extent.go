package ext4

import "encoding/binary"

// Extent trees, see Documentation/filesystems/ext4/ifork.rst.
const (
	extentMagic  = 0xf30a
	extentMax    = 32768                 // blocks in one extent
	extentInline = 4                     // entries in an inode
	extentLeaf   = (blockSize - 16) / 12 // entries in a block: a header, a checksum
)

// An extent maps blocks of a file to blocks of the disk.
type extent struct {
	logical uint32
	count   uint32
	start   uint64
}

// An extentTree collects the extents of one file in rising order. Full leaves
// are written on the way, so a file of any size takes little memory.
type extentTree struct {
	leaf   []extent // not yet written
	index  []extent // written leaves: first logical block, place
	blocks uint64   // of the tree itself, written
	seed   uint32   // of the inode
	put    func(b []byte) (place uint64, err error)
	placed func(start, count uint64) // nil: nobody asks
}

// add appends count blocks. They may join the extent before them.
func (t *extentTree) add(logical uint32, start, count uint64) {
	if t.placed != nil {
		t.placed(start, count)
	}
	if n := len(t.leaf); n > 0 {
		last := &t.leaf[n-1]
		if last.logical+last.count == logical && last.start+uint64(last.count) == start {
			more := min(count, uint64(extentMax-last.count))
			last.count += uint32(more)
			logical, start, count = logical+uint32(more), start+more, count-more
		}
	}
	for count > 0 {
		n := min(count, extentMax)
		t.leaf = append(t.leaf, extent{logical, uint32(n), start})
		logical, start, count = logical+uint32(n), start+n, count-n
	}
}

// spill writes full leaves, keeping the last extent, which may still grow.
func (t *extentTree) spill() error {
	for len(t.leaf) > extentLeaf {
		if err := t.flush(&t.index, t.leaf[:extentLeaf], 0); err != nil {
			return err
		}
		t.leaf = t.leaf[:copy(t.leaf, t.leaf[extentLeaf:])]
	}
	return nil
}

func (t *extentTree) flush(index *[]extent, entries []extent, depth int) error {
	b := make([]byte, blockSize)
	putExtents(b, entries, extentLeaf, depth)
	binary.LittleEndian.PutUint32(b[blockSize-4:], crc32c(t.seed, b[:blockSize-4]))
	place, err := t.put(b)
	if err != nil {
		return err
	}
	t.blocks++
	*index = append(*index, extent{logical: entries[0].logical, start: place})
	return nil
}

// finish writes what is left and gives the root for the inode.
func (t *extentTree) finish() (root [60]byte, err error) {
	if err := t.spill(); err != nil {
		return root, err
	}
	if t.index == nil && len(t.leaf) <= extentInline {
		putExtents(root[:], t.leaf, extentInline, 0)
		return root, nil
	}
	if err := t.flush(&t.index, t.leaf, 0); err != nil {
		return root, err
	}
	level, depth := t.index, 1
	for ; len(level) > extentInline; depth++ {
		var above []extent
		for i := 0; i < len(level); i += extentLeaf {
			if err := t.flush(&above, level[i:min(i+extentLeaf, len(level))], depth); err != nil {
				return root, err
			}
		}
		level = above
	}
	putExtents(root[:], level, extentInline, depth)
	return root, nil
}

// putExtents writes one node of the tree: extents at depth 0, above that
// pointers to nodes.
func putExtents(b []byte, entries []extent, limit, depth int) {
	le := binary.LittleEndian
	le.PutUint16(b[0:], extentMagic)
	le.PutUint16(b[2:], uint16(len(entries)))
	le.PutUint16(b[4:], uint16(limit))
	le.PutUint16(b[6:], uint16(depth))
	for i, e := range entries {
		p := b[12+12*i:]
		le.PutUint32(p, e.logical)
		if depth == 0 {
			le.PutUint16(p[4:], uint16(e.count))
			le.PutUint16(p[6:], uint16(e.start>>32))
			le.PutUint32(p[8:], uint32(e.start))
			continue
		}
		le.PutUint32(p[4:], uint32(e.start))
		le.PutUint16(p[8:], uint16(e.start>>32))
	}
}

// treeBlocks is the most blocks that an extent tree over the given blocks takes
// beyond what its holes save.
//
// Extents end at holes, at extentMax and at fixed metadata, which begins at most
// once per group. A hole saves a block and adds an extent; it takes more than
// that only when it makes a leaf and an index block at once.
func treeBlocks(blocks uint64) uint64 {
	if blocks <= blocksPerGroup {
		return 0
	}
	entries := 2*(blocks+blocksPerGroup-1)/blocksPerGroup + 2
	total := uint64(3)
	for entries > extentInline {
		entries = (entries + extentLeaf - 1) / extentLeaf
		total += entries
	}
	return total
}
