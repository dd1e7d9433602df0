package disk

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// A UUID is 16 bytes in the order in which they are printed.
type UUID [16]byte

// String is the usual form, in small letters.
func (u UUID) String() string {
	s := hex.EncodeToString(u[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// ID derives the UUID of one named thing of a release: a custom one, version 8
// of RFC 9562, section 5.8.
func ID(release [32]byte, name string) UUID {
	sum := sha256.Sum256(append(release[:], name...))
	u := UUID(sum[:16])
	u[6] = u[6]&0x0F | 0x80
	u[8] = u[8]&0x3F | 0x80
	return u
}

// IDs are all identifiers on a disk.
type IDs struct {
	Disk, BIOS, ESP, Root UUID   // of the partition table and partitions
	Filesystem            UUID   // of the root file system; GRUB finds it by this
	HashSeed              UUID   // of its directories
	Volume                uint32 // of the ESP's file system
}

// Derive gives the identifiers of a release.
func Derive(release [32]byte) IDs {
	volume := ID(release, "esp volume")
	return IDs{
		Disk:       ID(release, "disk"),
		BIOS:       ID(release, "bios boot partition"),
		ESP:        ID(release, "esp partition"),
		Root:       ID(release, "root partition"),
		Filesystem: ID(release, "root file system"),
		HashSeed:   ID(release, "root hash seed"),
		Volume:     binary.LittleEndian.Uint32(volume[:]),
	}
}
