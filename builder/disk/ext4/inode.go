package ext4

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

const (
	flagIndex   = 0x1000
	flagExtents = 0x80000

	maxLinks  = 65000 // EXT4_LINK_MAX
	maxTarget = blockSize - 1
	fastLink  = 60 // bytes from which a symlink's target needs a block
	maxFile   = 1<<32 - 1
)

// kinds gives the format bits of i_mode and the type in directory entries.
var kinds = [...]struct {
	mode  uint16
	entry byte
}{
	layer.File:    {0x8000, 1},
	layer.Dir:     {0x4000, 2},
	layer.Symlink: {0xa000, 7},
	layer.Char:    {0x2000, 3},
	layer.Block:   {0x6000, 4},
	layer.Fifo:    {0x1000, 5},
}

// A record is an inode as it is stored. See
// Documentation/filesystems/ext4/inodes.rst.
type record struct {
	mode     uint16
	uid, gid uint32
	links    uint32
	size     uint64
	sectors  uint64 // of 512 bytes, of content, extent tree and attributes
	flags    uint32
	block    [60]byte // extent tree root, symlink or device
	attrs    []attr   // those in the inode
	acl      uint64   // block of the other attributes, or 0
	time     time.Time
	created  time.Time
}

// encode writes the record of inode ino to b, which is inodeSize zero bytes.
func (r *record) encode(b []byte, ino, seed uint32) {
	le := binary.LittleEndian
	le.PutUint16(b[0x00:], r.mode)
	le.PutUint16(b[0x02:], uint16(r.uid))
	le.PutUint32(b[0x04:], uint32(r.size))
	le.PutUint16(b[0x18:], uint16(r.gid))
	le.PutUint16(b[0x1a:], uint16(r.links))
	le.PutUint32(b[0x1c:], uint32(r.sectors))
	le.PutUint32(b[0x20:], r.flags)
	copy(b[0x28:], r.block[:])
	le.PutUint32(b[0x68:], uint32(r.acl))
	le.PutUint32(b[0x6c:], uint32(r.size>>32))
	le.PutUint16(b[0x74:], uint16(r.sectors>>32))
	le.PutUint16(b[0x76:], uint16(r.acl>>32))
	le.PutUint16(b[0x78:], uint16(r.uid>>16))
	le.PutUint16(b[0x7a:], uint16(r.gid>>16))
	le.PutUint16(b[0x80:], extraSize)
	sec, extra := stamp(r.time)
	for _, at := range [][2]int{{0x08, 0x8c}, {0x0c, 0x84}, {0x10, 0x88}} { // access, change, content
		le.PutUint32(b[at[0]:], sec)
		le.PutUint32(b[at[1]:], extra)
	}
	sec, extra = stamp(r.created)
	le.PutUint32(b[0x90:], sec)
	le.PutUint32(b[0x94:], extra)
	if len(r.attrs) > 0 {
		le.PutUint32(b[xattrBodyAt:], xattrMagic)
		putAttrs(b[xattrBodyAt+4:inodeSize], r.attrs, 0, false)
	}
	sum := crc32c(inodeSeed(seed, ino), b)
	le.PutUint16(b[0x7c:], uint16(sum))
	le.PutUint16(b[0x82:], uint16(sum>>16))
}

// Times that an inode can hold: 34 bits of seconds, from 1901 to 2446.
var (
	firstTime = time.Unix(-1<<31, 0)
	lastTime  = time.Unix(1<<34-1<<31-1, 999999999)
)

// stamp splits a time in the low 32 bits of its seconds and the extra word: 2
// more bits, then nanoseconds. A time that does not fit becomes the nearest that
// does, as the kernel does it.
func stamp(t time.Time) (sec, extra uint32) {
	if t.Before(firstTime) {
		t = firstTime
	}
	if t.After(lastTime) {
		t = lastTime
	}
	s := t.Unix()
	epoch := uint32((s-int64(int32(s)))>>32) & 3
	return uint32(s), uint32(t.Nanosecond())<<2 | epoch
}

// newRecord fills in what does not depend on where things lie.
func newRecord(n *tree.Inode, created time.Time) record {
	r := record{
		mode: kinds[n.Type].mode | n.Mode, uid: n.UID, gid: n.GID, links: uint32(n.Links),
		time: n.ModTime, created: created,
	}
	if n.ModTime.IsZero() {
		r.time = created
	}
	switch n.Type {
	case layer.File:
		r.size = uint64(n.Size)
		r.flags = flagExtents
	case layer.Dir:
		r.flags = flagExtents
	case layer.Symlink:
		r.size = uint64(len(n.Target))
		if len(n.Target) < fastLink {
			copy(r.block[:], n.Target)
		} else {
			r.flags = flagExtents
		}
	case layer.Char, layer.Block:
		putDevice(r.block[:], n.Major, n.Minor)
	}
	return r
}

// putDevice stores a device number: the first word holds those of 8 and 8 bits,
// the second word all others, as in include/linux/kdev_t.h.
func putDevice(b []byte, major, minor uint32) {
	if major < 256 && minor < 256 {
		binary.LittleEndian.PutUint32(b, major<<8|minor)
		return
	}
	binary.LittleEndian.PutUint32(b[4:], minor&0xff|major<<8|(minor&^0xff)<<12)
}

// checkInode reports what ext4 cannot store of an inode other than its
// attributes.
func checkInode(n *tree.Inode) error {
	switch {
	case int(n.Type) >= len(kinds) || kinds[n.Type].mode == 0:
		return fmt.Errorf("ext4 stores no %s", n.Type)
	case n.Mode > 0o7777:
		return fmt.Errorf("mode %#o has more than permission bits", n.Mode)
	case n.Size < 0 || n.Size > maxFile*blockSize:
		return fmt.Errorf("a size of %d bytes is not between 0 and %d", n.Size, int64(maxFile*blockSize))
	case n.Type != layer.Dir && n.Links > maxLinks:
		return fmt.Errorf("%d links, at most %d fit", n.Links, maxLinks)
	case n.Type == layer.Symlink && (n.Target == "" || len(n.Target) > maxTarget):
		return fmt.Errorf("a symlink target of %d bytes, 1 to %d fit", len(n.Target), maxTarget)
	case (n.Type == layer.Char || n.Type == layer.Block) && (n.Major >= 1<<12 || n.Minor >= 1<<20):
		return fmt.Errorf("device %d:%d is above 4095:1048575", n.Major, n.Minor)
	}
	return nil
}
