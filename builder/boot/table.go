package boot

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prose-im/prose-image/builder/host"
)

// A guid is one as it lies on a disk: the first three fields little-endian.
type guid [16]byte

// Types of root partitions, from the Discoverable Partitions Specification.
var (
	rootAMD64 = guid{0xE3, 0xBC, 0x68, 0x4F, 0xCD, 0xE8, 0xB1, 0x4D, 0x96, 0xE7, 0xFB, 0xCA, 0xF9, 0x84, 0xB7, 0x09}
	rootARM64 = guid{0x45, 0xB0, 0x21, 0xB9, 0xF0, 0x1D, 0xC3, 0x41, 0xAF, 0x44, 0x4C, 0x6F, 0x28, 0x0D, 0x3F, 0xAE}
)

// ArchOf is the architecture that an image is for, as the type of its root
// partition tells. Of an image that does not tell it is amd64.
func ArchOf(ctx context.Context, image string) (Arch, error) {
	format, err := sniff(image)
	if err != nil {
		return "", err
	}
	head, err := readHead(ctx, image, format)
	if err != nil {
		return "", err
	}
	return parseArch(head), nil
}

// The first copy of a GPT: UEFI specification, sections 5.3.2 and 5.3.3.
const (
	sector   = 512
	headSize = 34 * sector // as much as a table of 128 partitions takes
)

// parseArch looks for a root partition in the first bytes of a disk.
func parseArch(head []byte) Arch {
	if len(head) < 2*sector || !bytes.HasPrefix(head[sector:], []byte("EFI PART")) {
		return AMD64
	}
	header, le := head[sector:], binary.LittleEndian
	start, count, size := le.Uint64(header[72:]), le.Uint32(header[80:]), le.Uint32(header[84:])
	if start > headSize/sector || size < 128 || size > sector {
		return AMD64
	}
	for at := start * sector; count > 0 && at+uint64(size) <= uint64(len(head)); at, count = at+uint64(size), count-1 {
		for _, a := range Arches {
			if guid(head[at:at+16]) == machines[a].root {
				return a
			}
		}
	}
	return AMD64
}

// readHead reads the first bytes of a disk; fewer are no error.
func readHead(ctx context.Context, image, format string) ([]byte, error) {
	if format == "qcow2" {
		dir, err := os.MkdirTemp("", "prose-boot-")
		if err != nil {
			return nil, fmt.Errorf("reading the partition table of %s: %w", filepath.Base(image), err)
		}
		defer os.RemoveAll(dir)
		raw := filepath.Join(dir, "head")
		err = host.Run(ctx, host.Command{Args: []string{"qemu-img", "dd", "-f", format, "-O", "raw",
			fmt.Sprintf("bs=%d", sector), fmt.Sprintf("count=%d", headSize/sector), "if=" + image, "of=" + raw}})
		if err != nil {
			return nil, fmt.Errorf("reading the partition table of %s: %w", filepath.Base(image), err)
		}
		image = raw
	}
	f, err := os.Open(image)
	if err != nil {
		return nil, fmt.Errorf("reading the partition table: %w", err)
	}
	defer f.Close()
	head := make([]byte, headSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && n == 0 {
		return nil, fmt.Errorf("reading the partition table of %s: %w", filepath.Base(image), err)
	}
	return head[:n], nil
}
