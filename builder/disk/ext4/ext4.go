// Package ext4 fills a file, or a section of a disk, with an ext4 file system
// made from a [tree.Tree]: in process, in one pass over the contents, with no
// mount, no loop device and no outside command. Equal input gives equal bytes.
//
// # Format
//
// Documentation/filesystems/ext4 and fs/ext4 of the kernel describe what is
// written here: 4 KiB blocks, groups of 32768 blocks, 256-byte inodes, extents,
// flexible groups of 16, checksums on all metadata, a journal. The features are
// those that every kernel, GRUB and e2fsprogs of the supported releases read;
// the group descriptors have no reserve, so growing past 64 groups (8 GiB)
// relies on the kernel's conversion to meta_bg, which resize2fs asks for.
//
// # Placement
//
// Blocks are handed out in one rising sequence that steps over the fixed
// metadata: directories first, then the journal, then contents, extended
// attributes and long symlinks in inode order. So whatever lies below the last
// block handed out is in use, and bitmaps need no memory. Inodes are numbered
// directory by directory, the other files of a directory right behind it, and
// the inode table is written in the same pass.
package ext4

import (
	"fmt"
	"time"

	"github.com/prose-im/prose-image/builder/tree"
)

// Options say what the tree does not.
type Options struct {
	UUID       [16]byte  // of the file system; all metadata checksums start from it
	HashSeed   [16]byte  // of directory hashes; zero: the UUID
	Label      string    // at most 16 bytes
	Time       time.Time // of the superblock, journal and lost+found; creation time of every inode
	Size       int64     // bytes, a multiple of 4096; 0: as small as the tree fits, plus Free
	Free       int64     // bytes to leave free when Size is 0
	InodeRatio int64     // bytes per inode, at least 4096; 0: 16384
}

// A Layout is a measured file system, ready for [Write]. It keeps the tree it
// was measured from, which must not change before it is written.
//
// # Where the size comes from
//
// Need is the sum, in whole blocks, of directories, contents as if they held no
// zero block, extended attributes that do not fit the inode, symlinks of 60
// bytes and more, extent tree blocks, lost+found, journal, superblock and its
// backups, group descriptors, bitmaps and inode tables. With [Options].Size 0,
// Size is the smallest at which that leaves Free bytes. With a given Size, Need
// may be larger, which is no error here: zero blocks of the contents take no
// room, and only [Write] sees them.
//
// # Where the inode count comes from
//
// Inodes is the larger of one per InodeRatio bytes of all groups, the last one
// taken as if it were whole, and UsedInodes + free bytes / InodeRatio, which
// leaves room beside a tree of many small files; spread evenly over the groups,
// rounded up to a whole block of inodes, at most 32768 in a group. Groups that
// are added when the file system grows have as many.
type Layout struct {
	Size       int64 // bytes of the file system; the file must have as many
	Need       int64 // bytes that are taken when no content has a zero block
	Inodes     int64 // inodes that the file system has
	UsedInodes int64 // inodes taken, the eleven reserved ones included
	Journal    int64 // bytes of the journal

	options Options
	plan    *plan
	geo     geometry
}

// Measure lays the tree out. It reads no content. It fails when the tree holds
// something that ext4 cannot: a name above 255 bytes, an attribute too large or
// of an unknown kind, a file above 16 TiB, more than 65000 links to a file.
func Measure(t *tree.Tree, o Options) (Layout, error) {
	if err := o.check(); err != nil {
		return Layout{}, err
	}
	if o.HashSeed == ([16]byte{}) {
		o.HashSeed = o.UUID
	}
	if o.InodeRatio == 0 {
		o.InodeRatio = 16384
	}
	p, err := newPlan(t, o)
	if err != nil {
		return Layout{}, fmt.Errorf("measuring ext4: %w", err)
	}
	g, err := fit(p, o)
	if err != nil {
		return Layout{}, fmt.Errorf("measuring ext4: %w", err)
	}
	size := o.Size
	if size == 0 {
		size = int64(g.blocks) * blockSize
	}
	return Layout{
		Size:       size,
		Need:       int64(p.blocks+g.journal+g.metadata) * blockSize,
		Inodes:     int64(g.groups) * int64(g.inodesPerGroup),
		UsedInodes: int64(p.inodes()),
		Journal:    int64(g.journal) * blockSize,
		options:    o,
		plan:       p,
		geo:        g,
	}, nil
}

func (o *Options) check() error {
	switch {
	case o.UUID == [16]byte{}:
		return fmt.Errorf("measuring ext4: no UUID")
	case len(o.Label) > 16:
		return fmt.Errorf("measuring ext4: label %q has %d bytes, at most 16 fit", o.Label, len(o.Label))
	case o.Time.Unix() < 0 || o.Time.After(lastTime):
		return fmt.Errorf("measuring ext4: time %v is not between 1970 and 2446", o.Time)
	case o.Size < 0 || o.Size%blockSize != 0:
		return fmt.Errorf("measuring ext4: size %d is no multiple of %d", o.Size, blockSize)
	case o.Free < 0:
		return fmt.Errorf("measuring ext4: free space %d is negative", o.Free)
	case o.InodeRatio != 0 && o.InodeRatio < blockSize:
		return fmt.Errorf("measuring ext4: inode ratio %d is below %d", o.InodeRatio, blockSize)
	}
	return nil
}
