package ext4

import (
	"encoding/binary"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c continues crc over b the way the kernel's crc32c does: with no
// inversion before or after. A new sum starts from ^0.
func crc32c(crc uint32, b []byte) uint32 { return ^crc32.Update(^crc, castagnoli, b) }

func crc32cLE32(crc uint32, v uint32) uint32 {
	return crc32c(crc, binary.LittleEndian.AppendUint32(nil, v))
}

// inodeSeed is where checksums of an inode, its extent blocks and its directory
// blocks start; the generation is always 0.
func inodeSeed(seed, ino uint32) uint32 {
	return crc32cLE32(crc32cLE32(seed, ino), 0)
}
