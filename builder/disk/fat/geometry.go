package fat

import (
	"encoding/binary"
	"fmt"
)

const (
	fats        = 2
	rootEntries = 512  // of FAT16; a FAT32 root directory is a chain of clusters
	media       = 0xF8 // a fixed disk
	infoAt      = 1    // sector of the FSInfo structure of FAT32
	backupAt    = 6    // sector of the copy of the boot sector of FAT32

	// The number of clusters alone decides what a FAT file system is. The
	// specification asks to stay 16 clear of the limits, because many drivers
	// are off by a few.
	minFAT16 = 4085 + 16
	maxFAT16 = 65524 - 16
	minFAT32 = 65525 + 16
	maxFAT32 = 1<<28 - 16 - 16
)

// A geometry is where the parts of a file system lie; all in sectors.
type geometry struct {
	bits       int
	total      int64
	reserved   int64
	fatSectors int64 // of one table
	rootDir    int64 // of the fixed root directory of FAT16
	perCluster int64
	clusters   int64
}

// clusterSizes gives, for sizes up to and including MiB, the sectors per
// cluster that the specification recommends.
var clusterSizes = map[int][]struct{ mib, sectors int64 }{
	16: {{16, 2}, {128, 4}, {256, 8}, {512, 16}, {1024, 32}, {2048, 64}},
	32: {{260, 1}, {8 << 10, 8}, {16 << 10, 16}, {32 << 10, 32}, {2 << 20, 64}},
}

func newGeometry(size int64, bits int) (geometry, error) {
	if bits == 0 {
		bits = 16
		if size >= 512<<20 {
			bits = 32
		}
	}
	g := geometry{bits: bits, total: size / sector}
	least, most := int64(minFAT16), int64(maxFAT16)
	switch bits {
	case 16:
		g.reserved = 1
		g.rootDir = rootEntries * entrySize / sector
	case 32:
		g.reserved = 32
		least, most = minFAT32, maxFAT32
	default:
		return g, fmt.Errorf("there is no FAT%d here, only FAT16 and FAT32", bits)
	}
	if size%sector != 0 {
		return g, fmt.Errorf("size %d is not in sectors of %d bytes", size, sector)
	}
	for _, row := range clusterSizes[bits] {
		if size <= row.mib<<20 {
			g.perCluster = row.sectors
			break
		}
	}
	if g.perCluster == 0 || g.total >= 1<<32 {
		return g, fmt.Errorf("size %d is too large for FAT%d", size, bits)
	}
	// Near the ends of the rows the recommended size can miss the limits.
	for g.fit(); g.clusters < least && g.perCluster > 1; g.fit() {
		g.perCluster /= 2
	}
	for ; g.clusters > most && g.perCluster < 64; g.fit() {
		g.perCluster *= 2
	}
	if g.clusters < least {
		return g, fmt.Errorf("size %d is too small for FAT%d", size, bits)
	}
	if g.clusters > most {
		return g, fmt.Errorf("size %d is too large for FAT%d", size, bits)
	}
	return g, nil
}

// fit finds the smallest tables that have an entry for every cluster that they
// leave room for.
func (g *geometry) fit() {
	perSector := int64(sector * 8 / g.bits)
	for g.fatSectors = 1; ; g.fatSectors++ {
		g.clusters = (g.total - g.reserved - g.rootDir - fats*g.fatSectors) / g.perCluster
		if g.fatSectors*perSector >= g.clusters+2 {
			return
		}
	}
}

func (g *geometry) clusterSize() int64 { return g.perCluster * sector }

// offset is where a cluster starts, in bytes.
func (g *geometry) offset(cluster uint32) int64 {
	return (g.reserved + fats*g.fatSectors + g.rootDir + (int64(cluster)-2)*g.perCluster) * sector
}

// bootSector is the BIOS parameter block, with code that says to the BIOS that
// there is nothing to boot here.
func (l *layout) bootSector() []byte {
	b := make([]byte, sector)
	le := binary.LittleEndian
	copy(b[3:], "MSWIN4.1") // what the specification says breaks the fewest drivers
	le.PutUint16(b[11:], sector)
	b[13] = byte(l.perCluster)
	le.PutUint16(b[14:], uint16(l.reserved))
	b[16] = fats
	b[21] = media
	le.PutUint16(b[24:], 63)  // sectors per track and heads, of the geometry that
	le.PutUint16(b[26:], 255) // every BIOS pretends
	le.PutUint32(b[28:], l.Hidden)
	if l.bits == 16 && l.total < 1<<16 {
		le.PutUint16(b[19:], uint16(l.total))
	} else {
		le.PutUint32(b[32:], uint32(l.total))
	}
	tail := b[36:]
	if l.bits == 16 {
		le.PutUint16(b[17:], rootEntries)
		le.PutUint16(b[22:], uint16(l.fatSectors))
	} else {
		le.PutUint32(b[36:], uint32(l.fatSectors))
		le.PutUint32(b[44:], l.root.first)
		le.PutUint16(b[48:], infoAt)
		le.PutUint16(b[50:], backupAt)
		tail = b[64:]
	}
	tail[0] = 0x80 // first hard disk
	tail[2] = 0x29 // the three fields below are there
	le.PutUint32(tail[3:], l.VolumeID)
	copy(tail[7:], label(l.Label))
	copy(tail[18:], fmt.Sprintf("FAT%d   ", l.bits))
	code := []byte{0xCD, 0x18, 0xF4, 0xEB, 0xFD} // int 18h; hlt; jump to hlt
	at := len(b) - len(tail) + 26
	copy(b[at:], code)
	copy(b, []byte{0xEB, byte(at - 2), 0x90})
	b[510], b[511] = 0x55, 0xAA
	return b
}

// infoSector is the FSInfo structure of FAT32.
func (l *layout) infoSector() []byte {
	b := make([]byte, sector)
	le := binary.LittleEndian
	le.PutUint32(b, 0x41615252)
	le.PutUint32(b[484:], 0x61417272)
	le.PutUint32(b[488:], uint32(l.clusters)-(l.next-2))
	next := l.next
	if int64(next) >= l.clusters+2 {
		next = 0xFFFFFFFF // none
	}
	le.PutUint32(b[492:], next)
	b[510], b[511] = 0x55, 0xAA
	return b
}
