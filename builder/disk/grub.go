package disk

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// The BIOS loads boot.img from the first sector, that loads the first sector of
// core.img, and that loads the rest by its block list. Both come from
// grub-mkimage's side of GRUB without knowing where they will lie; what is
// patched here is what grub-bios-setup would. Offsets: grub-core/boot/i386/pc/
// boot.S and diskboot.S, include/grub/i386/pc/boot.h of GRUB 2.12.
const (
	sector = 512

	bootCode     = 440   // bytes of boot.img before the disk id and partition table
	bootCore     = 0x05C // u64, LBA of core.img
	bootDrive    = 0x064 // u8, the drive to load from; 0xFF: the one the BIOS booted from
	bootDriveFix = 0x066 // 2 bytes, a jump over the correction of a wrong drive

	coreList    = 0x1F4 // u64 LBA, u16 sectors, u16 segment: first and only entry of the block list
	coreSegment = 0x820
)

// patchBoot returns the code for the first sector of a disk whose core.img lies
// at LBA core.
func patchBoot(boot []byte, core uint64) ([]byte, error) {
	if len(boot) != sector || boot[510] != 0x55 || boot[511] != 0xAA {
		return nil, fmt.Errorf("it is no boot sector of %d bytes", sector)
	}
	b := slices.Clone(boot[:bootCode])
	// Anything else means another GRUB with other offsets, and a disk that
	// would not boot.
	if got := binary.LittleEndian.Uint64(b[bootCore:]); got != 1 {
		return nil, fmt.Errorf("it is no boot.img of GRUB: core.img at sector %d instead of 1", got)
	}
	if b[bootDrive] != 0xFF {
		return nil, fmt.Errorf("it is no boot.img of GRUB: boot drive %#x instead of 0xff", b[bootDrive])
	}
	if got := [2]byte(b[bootDriveFix:]); got != [2]byte{0xEB, 0x05} {
		return nil, fmt.Errorf("it is no boot.img of GRUB: % x instead of a jump at %#x", got, bootDriveFix)
	}
	binary.LittleEndian.PutUint64(b[bootCore:], core)
	copy(b[bootDriveFix:], []byte{0x90, 0x90}) // two no-ops
	return b, nil
}

// patchCore returns core.img, in whole sectors, as it is at LBA at. It must fit
// into room bytes.
func patchCore(core []byte, at uint64, room int64) ([]byte, error) {
	sectors := (len(core) + sector - 1) / sector
	if sectors < 2 {
		return nil, fmt.Errorf("it is no core.img of GRUB: only %d bytes", len(core))
	}
	if int64(sectors)*sector > room {
		return nil, fmt.Errorf("its %d bytes do not fit the BIOS boot partition of %d", len(core), room)
	}
	b := make([]byte, sectors*sector)
	copy(b, core)
	le := binary.LittleEndian
	lba, rest, segment := le.Uint64(b[coreList:]), le.Uint16(b[coreList+8:]), le.Uint16(b[coreList+10:])
	if lba != 2 || int(rest) != sectors-1 || segment != coreSegment {
		return nil, fmt.Errorf("it is no core.img of GRUB: block list (%d, %d, %#x) instead of (2, %d, %#x)",
			lba, rest, segment, sectors-1, coreSegment)
	}
	le.PutUint64(b[coreList:], at+1)
	return b, nil
}

// espConfig is the configuration that Debian's signed GRUB looks for on the
// ESP, in EFI/debian. The real one is on root, where upgrades reach it.
func espConfig(root UUID) string {
	return fmt.Sprintf("search.fs_uuid %s root\nset prefix=($root)/boot/prose\nconfigfile $prefix/grub.cfg\n", root)
}
