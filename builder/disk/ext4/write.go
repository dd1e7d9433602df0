package ext4

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// Write writes a measured file system to w, whose offset 0 is its start and
// which has [Layout].Size zero bytes. Only what is not zero is written; the
// superblock comes last. Calls of w.WriteAt overlap in time, not in place.
//
// Write fails, with what it wrote left behind, when a content cannot be read in
// full, when ctx ends, and when the contents do not fit a given size.
func Write(ctx context.Context, w io.WriterAt, l Layout) error {
	if l.plan == nil {
		return fmt.Errorf("writing ext4: the layout was not measured")
	}
	return newWriter(ctx, w, &l).write()
}

func newWriter(ctx context.Context, w io.WriterAt, l *Layout) *writer {
	return &writer{
		Layout:  l,
		w:       w,
		seed:    crc32c(^uint32(0), l.options.UUID[:]),
		dirData: make([]dirData, len(l.plan.dirs)),
		table:   newTable(w, &l.geo),
		stream:  newStream(ctx, w, &l.geo),
	}
}

func (w *writer) write() error {
	err := w.contents()
	closed := w.stream.close()
	if closed != nil && (err == nil || errors.Is(err, errWrite)) {
		err = closed
	}
	if err == nil {
		err = w.finish()
	}
	if errors.Is(err, errFull) {
		err = fmt.Errorf("%w: it has %d bytes, the tree needs up to %d", err, w.Size, w.Need)
	}
	if err != nil {
		return fmt.Errorf("writing ext4: %w", err)
	}
	return nil
}

type writer struct {
	*Layout
	w       io.WriterAt
	seed    uint32 // of all metadata checksums
	stream  *stream
	table   *table
	dirData []dirData // by index in plan.dirs
	// placed, if set, is told where the blocks of each inode come to lie.
	placed func(ino uint32, start, count uint64)

	journalRoot [60]byte
	dirCount    []uint32 // by group
}

// A dirData is what a directory's inode says of its blocks.
type dirData struct {
	root   [60]byte
	blocks uint64 // with those of the extent tree
	hashed bool
}

// contents writes all that the stream hands out blocks for, and the inodes.
func (w *writer) contents() error {
	hashSeed := seedWords(w.options.HashSeed)
	for i := range w.plan.dirs {
		if err := w.directory(int32(i), hashSeed); err != nil {
			return fmt.Errorf("%s: %w", w.plan.path(int32(i)), err)
		}
	}
	w.dirCount = make([]uint32, w.geo.groups)
	if err := w.inode(inoRoot, 0, w.plan.dirs[0].inode); err != nil {
		return err
	}
	if err := w.journal(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for i := range w.plan.dirs {
		if w.plan.dirs[i].ino == inoLostFound {
			if err := w.inode(inoLostFound, int32(i), w.plan.dirs[i].inode); err != nil {
				return err
			}
		}
	}
	for i := range w.plan.nodes {
		n := &w.plan.nodes[i]
		if err := w.inode(inoFirst+uint32(i), n.dir, n.inode); err != nil {
			return fmt.Errorf("%s: %w", w.plan.nodePath(n), err)
		}
	}
	if err := w.stream.flush(); err != nil {
		return err
	}
	return w.table.flush()
}

func (w *writer) tree(ino uint32) *extentTree {
	t := &extentTree{seed: inodeSeed(w.seed, ino), put: w.stream.put}
	if w.placed != nil {
		t.placed = func(start, count uint64) { w.placed(ino, start, count) }
	}
	return t
}

func (w *writer) directory(i int32, hashSeed [4]uint32) error {
	d := &w.plan.dirs[i]
	parent := w.plan.dirs[d.parent].ino
	layout := newDirLayout(d, hashSeed)
	tree := w.tree(d.ino)
	logical := uint32(0)
	err := layout.write(parent, tree.seed, func(b []byte) error {
		place, err := w.stream.put(b)
		if err != nil {
			return err
		}
		tree.add(logical, place, 1)
		logical++
		return tree.spill()
	})
	if err != nil {
		return err
	}
	out := &w.dirData[i]
	out.root, err = tree.finish()
	out.blocks = uint64(d.blocks) + tree.blocks
	out.hashed = layout.hashed()
	return err
}

func (w *writer) journal() error {
	n := w.geo.journal
	tree := w.tree(inoJournal)
	place, err := w.stream.put(journalSuper(w.options.UUID, n))
	if err != nil {
		return err
	}
	tree.add(0, place, 1)
	logical := uint32(1)
	err = w.stream.skip(n-1, func(place, n uint64) {
		tree.add(logical, place, n)
		logical += uint32(n)
	})
	if err != nil {
		return err
	}
	r := record{
		mode: kinds[layer.File].mode | 0o600, links: 1, flags: flagExtents,
		size: n * blockSize, time: w.options.Time, created: w.options.Time,
	}
	if r.block, err = tree.finish(); err != nil {
		return err
	}
	r.sectors = (n + tree.blocks) * (blockSize / 512)
	w.journalRoot = r.block
	return w.put(inoJournal, &r)
}

// inode writes an inode and, unless it is a directory, its content.
func (w *writer) inode(ino uint32, dir int32, n *tree.Inode) error {
	if err := w.stream.ctx.Err(); err != nil {
		return err
	}
	r := newRecord(n, w.options.Time)
	body, block, err := attrs(n.Xattrs)
	if err != nil {
		return err
	}
	r.attrs = body
	blocks := uint64(0)
	if block != nil {
		r.acl, err = w.stream.putAt(func(place uint64) []byte { return attrBlock(block, place, w.seed) })
		if err != nil {
			return err
		}
		blocks++
	}
	switch {
	case n.Type == layer.Dir:
		d := &w.dirData[dir]
		r.block, r.links = d.root, w.plan.dirs[dir].links
		r.size = uint64(w.plan.dirs[dir].blocks) * blockSize
		blocks += d.blocks
		if d.hashed {
			r.flags |= flagIndex
		}
		w.dirCount[(ino-1)/w.geo.inodesPerGroup]++
	case n.Type == layer.File, n.Type == layer.Symlink && r.flags&flagExtents != 0:
		tree := w.tree(ino)
		count := uint64(1)
		if n.Type == layer.File {
			count, err = w.stream.content(tree, n.Open())
		} else {
			err = w.symlink(tree, n.Target)
		}
		if err != nil {
			return err
		}
		if r.block, err = tree.finish(); err != nil {
			return err
		}
		blocks += count + tree.blocks
	}
	r.sectors = blocks * (blockSize / 512)
	return w.put(ino, &r)
}

func (w *writer) symlink(t *extentTree, target string) error {
	b := make([]byte, blockSize)
	copy(b, target)
	place, err := w.stream.put(b)
	t.add(0, place, 1)
	return err
}

func (w *writer) put(ino uint32, r *record) error {
	b, err := w.table.next(ino)
	if err != nil {
		return err
	}
	r.encode(b, ino, w.seed)
	return nil
}

// A table writes the inode tables, in rising order.
type table struct {
	w     io.WriterAt
	g     *geometry
	buf   []byte
	fill  int
	at    int64  // of buf[0], if fill > 0
	group uint32 // of the last inode
}

func newTable(w io.WriterAt, g *geometry) *table {
	return &table{w: w, g: g, buf: make([]byte, 1<<20)}
}

// next gives the zeroed place of an inode. Unused inodes between it and the one
// before it become zero.
func (t *table) next(ino uint32) ([]byte, error) {
	group, index := (ino-1)/t.g.inodesPerGroup, (ino-1)%t.g.inodesPerGroup
	at := int64(t.g.inodeTable[group])*blockSize + int64(index)*inodeSize
	if apart := group != t.group && at != t.at+int64(t.fill); apart || at+inodeSize-t.at > int64(len(t.buf)) {
		if err := t.flush(); err != nil {
			return nil, err
		}
	}
	t.group = group
	if t.fill == 0 {
		t.at = at
	}
	from := int(at - t.at)
	clear(t.buf[t.fill : from+inodeSize])
	t.fill = from + inodeSize
	return t.buf[from:t.fill], nil
}

func (t *table) flush() error {
	if t.fill == 0 {
		return nil
	}
	_, err := t.w.WriteAt(t.buf[:t.fill], t.at)
	t.fill = 0
	return err
}

// finish writes bitmaps, descriptors and superblocks.
func (w *writer) finish() error {
	g := &w.geo
	groups := make([]usage, g.groups)
	written := g.foreign()
	freeBlocks, freeInodes := uint64(0), uint64(0)
	fixed := g.fixed
	for i := range groups {
		u := &groups[i]
		u.flags = groupZeroed
		u.dirs = w.dirCount[i]

		first := uint64(i) * blocksPerGroup
		end := min(first+blocksPerGroup, g.blocks)
		bitmap := make([]byte, blockSize)
		used := setBits(bitmap, 0, int(min(max(w.stream.next, first), end)-first))
		for len(fixed) > 0 && fixed[0].end <= first {
			fixed = fixed[1:]
		}
		for _, s := range fixed {
			if s.start >= end {
				break
			}
			used += setBits(bitmap, int(max(s.start, first)-first), int(min(s.end, end)-first))
		}
		u.freeBlocks = uint32(int(end-first) - used)
		if i == 0 || i == len(groups)-1 || written[i] || w.stream.next > first {
			setBits(bitmap, int(end-first), blocksPerGroup)
			u.blockSum = crc32c(w.seed, bitmap)
			if _, err := w.w.WriteAt(bitmap, int64(g.blockBitmap[i])*blockSize); err != nil {
				return err
			}
		} else {
			u.flags |= groupBlockUnused
		}

		perGroup := uint64(g.inodesPerGroup)
		inodes := min(max(w.plan.inodes(), uint64(i)*perGroup)-uint64(i)*perGroup, perGroup)
		u.freeInodes = uint32(perGroup - inodes)
		u.tableUnused = u.freeInodes
		if inodes > 0 {
			clear(bitmap)
			setBits(bitmap, 0, int(inodes))
			setBits(bitmap, int(perGroup), 8*blockSize)
			u.inodeSum = crc32c(w.seed, bitmap[:perGroup/8])
			if _, err := w.w.WriteAt(bitmap, int64(g.inodeBitmap[i])*blockSize); err != nil {
				return err
			}
		} else {
			u.flags |= groupInodeUnused
		}
		freeBlocks += uint64(u.freeBlocks)
		freeInodes += uint64(u.freeInodes)
	}
	table := g.descriptors(groups, w.seed)
	for i := len(groups) - 1; i >= 0; i-- {
		if !hasSuper(uint32(i)) {
			continue
		}
		at := int64(i) * blocksPerGroup * blockSize
		if _, err := w.w.WriteAt(table, at+blockSize); err != nil {
			return err
		}
		if i == 0 {
			at += 1024
		}
		if _, err := w.w.WriteAt(w.super(uint32(i), freeBlocks, freeInodes, w.journalRoot), at); err != nil {
			return err
		}
	}
	return nil
}

// foreign says which groups hold bitmaps or inode tables of other groups. Their
// own bitmaps cannot be left for the kernel to work out.
func (g *geometry) foreign() []bool {
	found := make([]bool, g.groups)
	for i := range g.groups {
		mark := func(start, n uint64) {
			for in := start / blocksPerGroup; in <= (start+n-1)/blocksPerGroup; in++ {
				if in != uint64(i) {
					found[in] = true
				}
			}
		}
		mark(g.blockBitmap[i], 1)
		mark(g.inodeBitmap[i], 1)
		mark(g.inodeTable[i], g.tableBlocks)
	}
	return found
}

// setBits sets bits from up to end, lowest bit of each byte first, and counts
// those that were clear.
func setBits(b []byte, from, end int) (n int) {
	for ; from < end && from%8 != 0; from++ {
		n += setBit(b, from)
	}
	for ; from+8 <= end; from += 8 {
		if b[from/8] == 0 {
			b[from/8] = 0xff
			n += 8
			continue
		}
		for i := range 8 {
			n += setBit(b, from+i)
		}
	}
	for ; from < end; from++ {
		n += setBit(b, from)
	}
	return n
}

func setBit(b []byte, i int) int {
	mask := byte(1) << (i % 8)
	if b[i/8]&mask != 0 {
		return 0
	}
	b[i/8] |= mask
	return 1
}
