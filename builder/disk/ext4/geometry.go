package ext4

import (
	"fmt"
	"slices"
)

const (
	blockSize      = 4096
	blocksPerGroup = 8 * blockSize // what one bitmap block covers
	inodeSize      = 256
	inodesPerBlock = blockSize / inodeSize
	maxInodes      = 8 * blockSize // in a group
	descSize       = 64            // with the 64bit feature
	logFlex        = 4
	flexGroups     = 1 << logFlex
	maxBlocks      = 1 << 32 // 16 TiB
	minSlack       = 50      // blocks of use that a last, short group must have
)

// A span is a range of blocks.
type span struct{ start, end uint64 }

// A geometry says where the fixed metadata lies. With flex_bg the bitmaps and
// inode tables of 16 groups lie together at the start of the first of them, see
// Documentation/filesystems/ext4/blockgroup.rst.
type geometry struct {
	blocks         uint64
	groups         uint32
	inodesPerGroup uint32
	tableBlocks    uint64 // of one inode table
	descBlocks     uint64 // of one copy of the group descriptors
	journal        uint64 // blocks
	metadata       uint64 // blocks of all that is fixed, without the journal

	blockBitmap, inodeBitmap, inodeTable []uint64 // by group
	fixed                                []span   // sorted, not touching
}

// fit finds the geometry for a plan.
func fit(p *plan, o Options) (geometry, error) {
	if o.Size != 0 {
		blocks := uint64(o.Size / blockSize)
		free := o.Size - int64(p.blocks)*blockSize
		g, err := newGeometry(blocks, p.wantInodes(o, blocks, max(free, 0)))
		if err != nil {
			return g, err
		}
		if uint64(p.inodes()) > uint64(g.groups)*uint64(g.inodesPerGroup) {
			return g, fmt.Errorf("%d inodes do not fit %d bytes, which hold at most %d", p.inodes(), o.Size, uint64(g.groups)*maxInodes)
		}
		if least := p.fixedBlocks + g.journal + g.metadata; least > g.blocks {
			return g, fmt.Errorf("the tree needs %d bytes without its contents, the size is %d", least*blockSize, o.Size)
		}
		return g, nil
	}
	need := p.blocks + uint64(o.Free+blockSize-1)/blockSize
	for blocks := max(need, 1024); ; {
		// A group holds at most maxInodes: many empty files ask for groups.
		inodes := p.wantInodes(o, blocks, o.Free)
		if least := (inodes + maxInodes - 1) / maxInodes; blocks < (least-1)*blocksPerGroup+1 {
			blocks = (least-1)*blocksPerGroup + 1
		}
		table := tableBlocks(inodesPerGroup(inodes, groupsOf(blocks)))
		if tail := blocks % blocksPerGroup; tail != 0 && tail < leastGroup(blocks, table) {
			blocks += leastGroup(blocks, table) - tail
			continue
		}
		g, err := newGeometry(blocks, inodes)
		if err != nil {
			return g, err
		}
		all := need + g.journal + g.metadata
		if all <= g.blocks {
			return g, nil
		}
		blocks = max(all, blocks+1)
	}
}

// wantInodes is the count that the text of [Layout] describes.
func (p *plan) wantInodes(o Options, blocks uint64, free int64) uint64 {
	return max(groupsOf(blocks)*(blocksPerGroup*blockSize/uint64(o.InodeRatio)), p.inodes()+uint64(free/o.InodeRatio))
}

func groupsOf(blocks uint64) uint64 { return (blocks + blocksPerGroup - 1) / blocksPerGroup }

func inodesPerGroup(inodes, groups uint64) uint64 {
	n := (inodes + groups - 1) / groups
	return min(max((n+inodesPerBlock-1)/inodesPerBlock*inodesPerBlock, inodesPerBlock), maxInodes)
}

func tableBlocks(inodesPerGroup uint64) uint64 { return inodesPerGroup / inodesPerBlock }

func descBlocks(groups uint64) uint64 { return (groups*descSize + blockSize - 1) / blockSize }

// leastGroup is how many blocks a last, short group needs: a superblock with
// descriptors, two bitmaps, an inode table, and a little of use.
func leastGroup(blocks, table uint64) uint64 {
	return 1 + descBlocks(groupsOf(blocks)) + 2 + table + minSlack
}

// newGeometry lays out a file system of the given blocks and at least the given
// inodes, as far as groups can hold them. A last group that is too short for
// its own metadata is left out.
func newGeometry(blocks, inodes uint64) (geometry, error) {
	if blocks > maxBlocks {
		return geometry{}, fmt.Errorf("%d bytes are above the limit of 16 TiB", blocks*blockSize)
	}
	perGroup := inodesPerGroup(inodes, max(groupsOf(blocks), 1))
	if tail := blocks % blocksPerGroup; tail != 0 && tail < leastGroup(blocks, tableBlocks(perGroup)) {
		blocks -= tail
		if blocks == 0 {
			return geometry{}, fmt.Errorf("%d bytes are too few for an ext4 file system", tail*blockSize)
		}
		perGroup = inodesPerGroup(inodes, groupsOf(blocks))
	}
	groups := groupsOf(blocks)
	g := geometry{
		blocks:         blocks,
		groups:         uint32(groups),
		inodesPerGroup: uint32(perGroup),
		tableBlocks:    tableBlocks(perGroup),
		descBlocks:     descBlocks(groups),
		journal:        journalBlocks(blocks),
		blockBitmap:    make([]uint64, groups),
		inodeBitmap:    make([]uint64, groups),
		inodeTable:     make([]uint64, groups),
	}
	for i := uint64(0); i < groups; i += flexGroups {
		if err := g.placeFlex(i, min(i+flexGroups, groups)); err != nil {
			return g, err
		}
	}
	g.mergeFixed()
	return g, nil
}

// placeFlex places the bitmaps and inode tables of groups [first, end), around
// the superblock copies that lie among them.
func (g *geometry) placeFlex(first, end uint64) error {
	var supers []span
	for i := first; i < end; i++ {
		if hasSuper(uint32(i)) {
			start := i * blocksPerGroup
			supers = append(supers, span{start, start + 1 + g.descBlocks})
		}
	}
	g.fixed = append(g.fixed, supers...)
	at, limit := first*blocksPerGroup, min(end*blocksPerGroup, g.blocks)
	place := func(n uint64) (uint64, error) {
		for _, s := range supers {
			if at < s.end && at+n > s.start {
				at = s.end
			}
		}
		if at+n > limit {
			return 0, fmt.Errorf("the metadata of groups %d to %d does not fit them", first, end-1)
		}
		start := at
		at += n
		g.fixed = append(g.fixed, span{start, at})
		return start, nil
	}
	n := end - first
	bitmaps, err := place(2 * n)
	if err != nil {
		return err
	}
	for i := first; i < end; i++ {
		g.blockBitmap[i] = bitmaps + i - first
		g.inodeBitmap[i] = bitmaps + n + i - first
		if g.inodeTable[i], err = place(g.tableBlocks); err != nil {
			return err
		}
	}
	return nil
}

func (g *geometry) mergeFixed() {
	slices.SortFunc(g.fixed, func(a, b span) int {
		if a.start < b.start {
			return -1
		}
		return 1
	})
	merged := g.fixed[:0]
	for _, s := range g.fixed {
		g.metadata += s.end - s.start
		if n := len(merged); n > 0 && merged[n-1].end == s.start {
			merged[n-1].end = s.end
			continue
		}
		merged = append(merged, s)
	}
	g.fixed = merged
}

// hasSuper says which groups hold a copy of superblock and descriptors under
// sparse_super: 0, 1 and the powers of 3, 5 and 7.
func hasSuper(group uint32) bool {
	if group <= 1 {
		return true
	}
	for _, base := range []uint32{3, 5, 7} {
		n := group
		for n%base == 0 {
			n /= base
		}
		if n == 1 {
			return true
		}
	}
	return false
}
