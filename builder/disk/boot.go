package disk

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/prose-im/prose-image/builder/disk/fat"
	"github.com/prose-im/prose-image/builder/tree"
)

// An arch is what a disk needs to boot on one processor architecture.
type arch struct {
	root      gpt.Type // of the root partition, from the Discoverable Partitions Specification
	bios      bool
	shim      string // in the tree, signed by Microsoft
	grub      string // in the tree, signed by Debian
	removable string // name of shim on the ESP: what firmware starts without a boot entry (UEFI specification, section 3.5.1.1)
	second    string // name of GRUB beside it, which shim has built in
}

var arches = map[string]arch{
	"amd64": {
		root:      gpt.LinuxRootX86_64,
		bios:      true,
		shim:      "usr/lib/shim/shimx64.efi.signed",
		grub:      "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
		removable: "BOOTX64.EFI",
		second:    "grubx64.efi",
	},
	"arm64": {
		root:      gpt.LinuxRootArm64,
		shim:      "usr/lib/shim/shimaa64.efi.signed",
		grub:      "usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed",
		removable: "BOOTAA64.EFI",
		second:    "grubaa64.efi",
	},
}

// BIOS reports whether machines of an architecture may have a BIOS, for which a
// disk needs the images of GRUB that [Options] name.
func BIOS(arch string) bool { return arches[arch].bios }

// Where the base layer puts GRUB's images for BIOS.
const (
	bootImage = "usr/lib/prose/grub/boot.img"
	coreImage = "usr/lib/prose/grub/core.img"
)

// loaders are the parts of a disk that start the system on root.
type loaders struct {
	boot, core []byte // patched; nil where there is no BIOS
	esp        []fat.File
	espSize    int64
}

func newLoaders(t *tree.Tree, a arch, o Options) (loaders, error) {
	var l loaders
	if a.bios {
		boot, err := t.ReadFile(or(o.BootImage, bootImage))
		if err != nil {
			return l, err
		}
		if l.boot, err = patchBoot(boot, biosStart/sector); err != nil {
			return l, fmt.Errorf("%s: %w", or(o.BootImage, bootImage), err)
		}
		core, err := t.ReadFile(or(o.CoreImage, coreImage))
		if err != nil {
			return l, err
		}
		if l.core, err = patchCore(core, biosStart/sector, biosSize); err != nil {
			return l, fmt.Errorf("%s: %w", or(o.CoreImage, coreImage), err)
		}
	}
	shim, err := t.ReadFile(a.shim)
	if err != nil {
		return l, err
	}
	grub, err := t.ReadFile(a.grub)
	if err != nil {
		return l, err
	}
	config := espConfig(o.IDs.Filesystem)
	l.esp = []fat.File{
		{Path: "EFI/BOOT/" + a.removable, Size: int64(len(shim)), Content: bytes.NewReader(shim)},
		{Path: "EFI/BOOT/" + a.second, Size: int64(len(grub)), Content: bytes.NewReader(grub)},
		{Path: "EFI/debian/grub.cfg", Size: int64(len(config)), Content: strings.NewReader(config)},
	}
	// An upgrade of shim or GRUB writes new files beside the old ones, twice
	// when it also keeps the removable path: two thirds stay free for that.
	for l.espSize = espSize; int64(len(shim)+len(grub))*3 > l.espSize; {
		l.espSize *= 2
	}
	return l, fat.Check(l.espSize, l.esp, o.fat())
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
