package ext4

import "encoding/binary"

// journalBlocks sizes the journal by the size of the file system, in blocks.
// 64 MiB, from 1 GiB on, is what a disk of tens of GiB has, which is what the
// file system grows to; the journal itself never grows.
func journalBlocks(blocks uint64) uint64 {
	switch {
	case blocks < 128<<20/blockSize:
		return 4 << 20 / blockSize
	case blocks < 1<<30/blockSize:
		return 16 << 20 / blockSize
	}
	return 64 << 20 / blockSize
}

// journalSuper is the first block of the journal: a version 2 superblock of
// an empty log, see struct journal_superblock_s in include/linux/jbd2.h. All of
// it is big-endian. The kernel sets the journal's features when it mounts.
func journalSuper(uuid [16]byte, blocks uint64) []byte {
	b := make([]byte, blockSize)
	be := binary.BigEndian
	be.PutUint32(b[0x00:], 0xc03b3998) // h_magic
	be.PutUint32(b[0x04:], 4)          // h_blocktype: superblock v2
	be.PutUint32(b[0x0c:], blockSize)
	be.PutUint32(b[0x10:], uint32(blocks))
	be.PutUint32(b[0x14:], 1) // s_first: first block of the log
	be.PutUint32(b[0x18:], 1) // s_sequence: first commit expected
	// s_start 0: the log is empty.
	copy(b[0x30:], uuid[:])
	be.PutUint32(b[0x40:], 1) // s_nr_users
	return b
}
