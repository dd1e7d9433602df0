package boot

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"
)

// table is the start of a disk with one partition of a type, as number n.
func table(root guid, n int) []byte {
	b := make([]byte, headSize)
	le := binary.LittleEndian
	header := b[sector:]
	copy(header, "EFI PART")
	le.PutUint64(header[72:], 2)
	le.PutUint32(header[80:], 128)
	le.PutUint32(header[84:], 128)
	copy(b[2*sector:], "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b") // an ESP, unless n is 1
	copy(b[2*sector+128*(n-1):], root[:])
	return b
}

func TestArchOf(t *testing.T) {
	for _, c := range []struct {
		name string
		head []byte
		want Arch
	}{
		{"amd64", table(rootAMD64, 1), AMD64},
		{"arm64", table(rootARM64, 1), ARM64},
		{"arm64, last", table(rootARM64, 128), ARM64},
		{"another type", table(guid{1}, 1), AMD64},
		{"no table", make([]byte, headSize), AMD64},
		{"one sector", make([]byte, sector), AMD64},
	} {
		if got, err := ArchOf(t.Context(), image(t, c.head)); err != nil || got != c.want {
			t.Errorf("%s: %s, %v; want %s", c.name, got, err, c.want)
		}
	}
	if _, err := ArchOf(t.Context(), "/nowhere/disk"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no image: %v", err)
	}
}

func FuzzParseArch(f *testing.F) {
	f.Add(table(rootARM64, 1))
	f.Add(table(rootAMD64, 128)[:1500])
	for _, at := range []int{72, 80, 84} {
		b := table(rootARM64, 3)
		copy(b[sector+at:], "\xff\xff\xff\xff")
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if a := parseArch(b); !slices.Contains(Arches, a) {
			t.Errorf("%q", a)
		}
	})
}

func TestFirmwareOfArches(t *testing.T) {
	for _, c := range []struct {
		arch  Arch
		asked Firmware
		want  Firmware
		all   []Firmware
	}{
		{AMD64, BIOS, BIOS, Firmwares},
		{AMD64, SecureBoot, SecureBoot, Firmwares},
		{ARM64, BIOS, UEFI, []Firmware{UEFI, SecureBoot}},
		{ARM64, SecureBoot, SecureBoot, []Firmware{UEFI, SecureBoot}},
	} {
		if got := c.arch.Firmware(c.asked); got != c.want || !slices.Equal(c.arch.Firmwares(), c.all) {
			t.Errorf("%s, asked for %s: %s of %v", c.arch, c.asked, got, c.arch.Firmwares())
		}
	}
}
