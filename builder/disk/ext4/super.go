package ext4

import "encoding/binary"

// Features, see Documentation/filesystems/ext4/super.rst.
const (
	compat   = 0x4 | 0x8 | 0x20                      // has_journal, ext_attr, dir_index
	incompat = 0x2 | 0x40 | 0x80 | 0x200             // filetype, extent, 64bit, flex_bg
	roCompat = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400 // sparse_super, large_file, huge_file, dir_nlink, extra_isize, metadata_csum

	groupInodeUnused = 0x1 // no inode of the group is in use, its bitmap is not written
	groupBlockUnused = 0x2 // likewise for blocks beyond its own metadata
	groupZeroed      = 0x4 // its inode table is zero where it is unused: the kernel need not write it
)

// A usage is what a group has left.
type usage struct {
	freeBlocks, freeInodes, dirs, tableUnused uint32
	flags                                     uint16
	blockSum, inodeSum                        uint32 // of the bitmaps, 0 when not written
}

// super is the superblock as it stands in the given group.
func (l *Layout) super(group uint32, freeBlocks, freeInodes uint64, journalRoot [60]byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, 1024)
	o, g := &l.options, &l.geo
	u16 := func(at int, v uint16) { le.PutUint16(b[at:], v) }
	u32 := func(at int, v uint32) { le.PutUint32(b[at:], v) }
	u64 := func(lo, hi int, v uint64) { u32(lo, uint32(v)); u32(hi, uint32(v>>32)) }
	sec := uint64(o.Time.Unix())

	u32(0x00, g.groups*g.inodesPerGroup)
	u64(0x04, 0x150, g.blocks)
	u64(0x08, 0x154, g.blocks/100) // reserved for root
	u64(0x0c, 0x158, freeBlocks)
	u32(0x10, uint32(freeInodes))
	u32(0x18, 2) // block size 1024<<2
	u32(0x1c, 2) // cluster size, the same
	u32(0x20, blocksPerGroup)
	u32(0x24, blocksPerGroup)
	u32(0x28, g.inodesPerGroup)
	u32(0x30, uint32(sec)) // s_wtime
	b[0x274] = byte(sec >> 32)
	u16(0x36, 0xffff) // no check after a number of mounts
	u16(0x38, 0xef53)
	u16(0x3a, 1)           // cleanly unmounted
	u16(0x3c, 1)           // errors=continue
	u32(0x40, uint32(sec)) // s_lastcheck
	b[0x277] = byte(sec >> 32)
	u32(0x4c, 1) // revision with features
	u32(0x54, inoLostFound)
	u16(0x58, inodeSize)
	u16(0x5a, uint16(group))
	u32(0x5c, compat)
	u32(0x60, incompat)
	u32(0x64, roCompat)
	copy(b[0x68:], o.UUID[:])
	copy(b[0x78:], o.Label)
	u32(0xe0, inoJournal)
	copy(b[0xec:], o.HashSeed[:])
	b[0xfc] = halfMD4Hash
	b[0xfd] = 1 // s_jnl_blocks is a copy of the journal inode's tree and size
	u16(0xfe, descSize)
	u32(0x100, 0x4|0x8)     // mount options user_xattr, acl
	u32(0x108, uint32(sec)) // s_mkfs_time
	b[0x276] = byte(sec >> 32)
	copy(b[0x10c:], journalRoot[:])
	journal := g.journal * blockSize
	u64(0x10c+16*4, 0x10c+15*4, journal)
	u16(0x15c, extraSize) // s_min_extra_isize
	u16(0x15e, extraSize) // s_want_extra_isize
	u32(0x160, 2)         // directory hashes are over unsigned bytes
	b[0x174] = logFlex
	b[0x175] = 1 // checksums are crc32c
	u32(0x3fc, crc32c(^uint32(0), b[:0x3fc]))
	return b
}

// descriptors is the table of group descriptors, see
// Documentation/filesystems/ext4/group_descr.rst.
func (g *geometry) descriptors(groups []usage, seed uint32) []byte {
	le := binary.LittleEndian
	table := make([]byte, g.descBlocks*blockSize)
	for i, u := range groups {
		b := table[i*descSize : (i+1)*descSize]
		u32 := func(lo, hi int, v uint64) { le.PutUint32(b[lo:], uint32(v)); le.PutUint32(b[hi:], uint32(v>>32)) }
		u16 := func(lo, hi int, v uint32) { le.PutUint16(b[lo:], uint16(v)); le.PutUint16(b[hi:], uint16(v>>16)) }
		u32(0x00, 0x20, g.blockBitmap[i])
		u32(0x04, 0x24, g.inodeBitmap[i])
		u32(0x08, 0x28, g.inodeTable[i])
		u16(0x0c, 0x2c, u.freeBlocks)
		u16(0x0e, 0x2e, u.freeInodes)
		u16(0x10, 0x30, u.dirs)
		le.PutUint16(b[0x12:], u.flags)
		u16(0x18, 0x38, u.blockSum)
		u16(0x1a, 0x3a, u.inodeSum)
		u16(0x1c, 0x32, u.tableUnused)
		le.PutUint16(b[0x1e:], uint16(crc32c(crc32cLE32(seed, uint32(i)), b)))
	}
	return table
}
