// Package disk writes a [tree.Tree] as one raw, partitioned disk that boots
// with BIOS, UEFI and UEFI Secure Boot. It is file writes at known places: no
// loop device, no mount, no root, no outside command. Equal input gives equal
// bytes.
//
// # Layout
//
// Sectors of 512 bytes and a GPT (UEFI specification, chapter 5). The numbers
// of the partitions are those of Debian's cloud images; root is last on the
// disk, so that it can grow.
//
//	number  starts at    what
//	14      1 MiB        BIOS boot: GRUB's core.img (amd64 only)
//	15      4 MiB        ESP: shim, GRUB and a pointer to root; 16 MiB or more
//	1       20 MiB       root, ext4
//
// The first MiB holds nothing but GRUB's boot.img and the table: some clouds
// write there.
package disk

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/prose-im/prose-image/builder/disk/ext4"
	"github.com/prose-im/prose-image/builder/disk/fat"
	"github.com/prose-im/prose-image/builder/output"
	"github.com/prose-im/prose-image/builder/tree"
)

const (
	mib = 1 << 20

	biosStart = 1 * mib
	biosSize  = espStart - biosStart
	espStart  = 4 * mib
	espSize   = 64 * mib // at least; below 33 MiB there is no FAT32, which several clouds ask for

	tail = 1 * mib // after root, for the second copy of the table
)

// Options say what the tree does not.
type Options struct {
	Arch       string    // amd64 or arm64
	IDs        IDs       // see [Derive]
	Label      string    // of the root file system
	Time       time.Time // of everything that has a time and is not in the tree
	Size       int64     // least bytes of the disk; 0: as small as fits
	Free       int64     // bytes to leave free in the root file system, at least
	InodeRatio int64     // see [ext4.Options]
	BootImage  string    // path of GRUB's boot.img in the tree; empty: usr/lib/prose/grub/boot.img
	CoreImage  string    // path of GRUB's core.img in the tree; empty: usr/lib/prose/grub/core.img
	Draft      bool      // it need not outlive a power cut
}

// fat are the options of the ESP's file system.
func (o *Options) fat() fat.Options {
	return fat.Options{VolumeID: o.IDs.Volume, Label: "ESP", Bits: 32, Time: o.Time, Hidden: espStart / sector}
}

// A Partition is one partition of a disk; Start and Size are in bytes.
type Partition struct {
	Number      int
	Name        string
	Start, Size int64
	Type        string // GUID
	ID          UUID
}

// A Result describes a disk that was written.
type Result struct {
	Size       int64       // bytes, holes included; a multiple of 1 MiB
	Partitions []Partition // in disk order
}

// Write writes t as a disk to path, which appears when it is complete. On any
// error, or when ctx ends, path is as it was. A full disk is an
// [output.NoSpaceError].
func Write(ctx context.Context, path string, t *tree.Tree, o Options) (Result, error) {
	r, err := write(ctx, path, t, o)
	if err != nil {
		return Result{}, fmt.Errorf("writing disk %s: %w", filepath.Base(path), err)
	}
	return r, nil
}

// layOut decides where everything on the disk will lie.
func layOut(t *tree.Tree, o Options) (load loaders, root ext4.Layout, r Result, err error) {
	a, ok := arches[o.Arch]
	if !ok {
		return load, root, r, fmt.Errorf("architecture %q is neither amd64 nor arm64", o.Arch)
	}
	if load, err = newLoaders(t, a, o); err != nil {
		return load, root, r, err
	}
	rootStart := espStart + load.espSize
	if root, err = measure(t, o, rootStart); err != nil {
		return load, root, r, err
	}
	r.Size = max(roundUp(rootStart+root.Size+tail, mib), roundUp(o.Size, mib))
	if a.bios {
		r.Partitions = append(r.Partitions, Partition{14, "BIOS boot", biosStart, biosSize, string(gpt.BIOSBoot), o.IDs.BIOS})
	}
	r.Partitions = append(r.Partitions,
		Partition{15, "EFI system", espStart, load.espSize, string(gpt.EFISystemPartition), o.IDs.ESP},
		Partition{1, "root", rootStart, r.Size - tail - rootStart, string(a.root), o.IDs.Root})
	return load, root, r, nil
}

func write(ctx context.Context, path string, t *tree.Tree, o Options) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, context.Cause(ctx)
	}
	load, root, r, err := layOut(t, o)
	if err != nil {
		return Result{}, err
	}
	need := root.Need + load.espSize + int64(len(load.core)) + 2*mib
	if err := output.CheckSpace(path, need); err != nil {
		return Result{}, err
	}
	f, err := output.Create(path)
	if err != nil {
		return Result{}, err
	}
	defer f.Discard()
	if err := fill(ctx, f.File, r, load, root, o); err != nil {
		if ctx.Err() != nil {
			return Result{}, context.Cause(ctx)
		}
		return Result{}, output.Explain(err, path, need)
	}
	commit := f.Commit
	if o.Draft {
		commit = f.CommitDraft
	}
	if err := commit(); err != nil {
		return Result{}, output.Explain(err, path, need)
	}
	return r, nil
}

// Locate says what the byte at offset of a disk that was written from t belongs
// to: a partition's name, and in the root file system a path, where it is a
// file's. Both are empty where it is of none.
func Locate(ctx context.Context, t *tree.Tree, o Options, offset int64) (partition, path string, err error) {
	_, root, r, err := layOut(t, o)
	if err != nil {
		return "", "", fmt.Errorf("locating byte %d: %w", offset, err)
	}
	for _, p := range r.Partitions {
		if offset < p.Start || offset-p.Start >= p.Size {
			continue
		}
		if p.Number == 1 {
			path, err = ext4.Locate(ctx, root, offset-p.Start)
		}
		return p.Name, path, err
	}
	return "", "", nil
}

// measure lays root out: as small as fits, or larger to fill a disk of the
// asked size.
func measure(t *tree.Tree, o Options, start int64) (ext4.Layout, error) {
	eo := ext4.Options{
		UUID: o.IDs.Filesystem, HashSeed: o.IDs.HashSeed, Label: o.Label, Time: o.Time,
		Free: o.Free, InodeRatio: o.InodeRatio,
	}
	l, err := ext4.Measure(t, eo)
	if given := roundUp(o.Size, mib) - tail - start; err == nil && given > l.Size {
		eo.Size = given
		l, err = ext4.Measure(t, eo)
	}
	return l, err
}

func fill(ctx context.Context, f *os.File, r Result, load loaders, root ext4.Layout, o Options) error {
	if err := f.Truncate(r.Size); err != nil {
		return err
	}
	table := gpt.Table{GUID: o.IDs.Disk.String(), ProtectiveMBR: true, LogicalSectorSize: sector, PhysicalSectorSize: sector}
	for _, p := range r.Partitions {
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: p.Number, Name: p.Name, Type: gpt.Type(p.Type), GUID: p.ID.String(),
			Start: uint64(p.Start) / sector, Size: uint64(p.Size),
		})
	}
	// Without its Sync method: nobody sees the file before the sync at the end.
	if err := table.Write(struct{ backend.WritableFile }{f}, r.Size); err != nil {
		return fmt.Errorf("partition table: %w", err)
	}
	for _, p := range r.Partitions {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		w := &section{f, p.Start, p.Size}
		var err error
		switch p.Number {
		case 14:
			if _, err = f.WriteAt(load.boot, 0); err == nil {
				_, err = w.WriteAt(load.core, 0)
			}
		case 15:
			err = fat.Write(w, p.Size, load.esp, o.fat())
		case 1:
			err = ext4.Write(ctx, w, root)
		}
		if err != nil {
			return fmt.Errorf("%s partition: %w", p.Name, err)
		}
	}
	return nil
}

// A section is a partition as a place to write to; it keeps its writer from
// writing over the others.
type section struct {
	w           io.WriterAt
	start, size int64
}

func (s *section) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > s.size || int64(len(p)) > s.size-off {
		return 0, fmt.Errorf("%d bytes at %d are outside of its %d bytes", len(p), off, s.size)
	}
	return s.w.WriteAt(p, s.start+off)
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
