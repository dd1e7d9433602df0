package disk

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestPatchBoot(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		core   uint64
		at     map[int]string // what stands at an offset afterwards
		err    string
	}{
		{name: "sector 2048", core: 2048, at: map[int]string{0x5C: "0008000000000000", 0x64: "ff", 0x66: "9090"}},
		{name: "a far sector", core: 0x123456789A, at: map[int]string{0x5C: "9a78563412000000"}},
		{name: "short", change: func(b []byte) []byte { return b[:511] }, err: "no boot sector"},
		{name: "two sectors", change: func(b []byte) []byte { return append(b, b...) }, err: "no boot sector"},
		{name: "unsigned", change: func(b []byte) []byte { b[511] = 0; return b }, err: "no boot sector"},
		{name: "patched already", change: func(b []byte) []byte { b[0x5D] = 8; return b }, err: "core.img at sector 2049 instead of 1"},
		{name: "fixed drive", change: func(b []byte) []byte { b[0x64] = 0x80; return b }, err: "boot drive 0x80"},
		{name: "no jump", change: func(b []byte) []byte { b[0x66] = 0x90; return b }, err: "90 05 instead of a jump at 0x66"},
		{name: "empty", change: func([]byte) []byte { return nil }, err: "no boot sector"},
	} {
		t.Run(c.name, func(t *testing.T) {
			boot := grubBoot()
			if c.change != nil {
				boot = c.change(boot)
			}
			given := slices.Clone(boot)
			got, err := patchBoot(boot, c.core)
			if !bytes.Equal(boot, given) {
				t.Error("the caller's bytes were changed")
			}
			check(t, got, err, boot, 440, c.at, c.err)
		})
	}
}

func TestPatchCore(t *testing.T) {
	for _, c := range []struct {
		name string
		core []byte
		size int // afterwards
		at   map[int]string
		err  string
	}{
		{name: "odd length", core: grubCore(174546), size: 341 * 512, at: map[int]string{0x1F4: "0108000000000000", 0x1FC: "54012008"}},
		{name: "whole sectors", core: grubCore(2 * 512), size: 2 * 512, at: map[int]string{0x1F4: "0108000000000000", 0x1FC: "01002008"}},
		{name: "as large as the partition", core: grubCore(3 * mib), size: 3 * mib, at: map[int]string{0x1F4: "0108000000000000"}},
		{name: "too large", core: grubCore(3*mib + 1), err: "its 3145729 bytes do not fit the BIOS boot partition of 3145728"},
		{name: "one sector", core: grubCore(1000)[:512], err: "only 512 bytes"},
		{name: "empty", err: "only 0 bytes"},
		{name: "cut off", core: grubCore(174546)[:100000], err: "block list (2, 340, 0x820) instead of (2, 195, 0x820)"},
		{name: "no block list", core: random(9, 174546), err: "no core.img of GRUB: block list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			given := slices.Clone(c.core)
			got, err := patchCore(c.core, 2048, biosSize)
			if !bytes.Equal(c.core, given) {
				t.Error("the caller's bytes were changed")
			}
			padded := append(slices.Clone(c.core), make([]byte, max(c.size-len(c.core), 0))...)
			check(t, got, err, padded, c.size, c.at, c.err)
		})
	}
}

// check looks at size bytes that should be as from but for what stands at some
// offsets.
func check(t *testing.T, got []byte, err error, from []byte, size int, at map[int]string, want string) {
	t.Helper()
	if want != "" {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != size {
		t.Fatalf("%d bytes, want %d", len(got), size)
	}
	rest := slices.Clone(got)
	for off, s := range at {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[off:off+len(b)], b) {
			t.Errorf("at %#x stands % x, want % x", off, got[off:off+len(b)], b)
		}
		copy(rest[off:], from[off:off+len(b)])
	}
	if size < 1<<20 && !bytes.Equal(rest, from[:size]) && len(at) > 1 {
		t.Error("other bytes were changed too")
	}
}

func FuzzPatch(f *testing.F) {
	f.Add(grubBoot())
	f.Add(grubCore(1024))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if boot, err := patchBoot(b, 2048); err == nil && len(boot) != 440 {
			t.Errorf("%d bytes", len(boot))
		}
		if core, err := patchCore(b, 2048, biosSize); err == nil && (len(core)%512 != 0 || len(core) < len(b)) {
			t.Errorf("%d bytes of %d", len(core), len(b))
		}
	})
}

func TestID(t *testing.T) {
	release := [32]byte{0xAB}
	a := ID(release, "disk")
	if got := a.String(); got != ID(release, "disk").String() || len(got) != 36 || got[14] != '8' || !strings.ContainsRune("89ab", rune(got[19])) {
		t.Errorf("%s is no UUID of version 8", got)
	}
	// Pinned: another derivation would give every release other disks.
	if got, want := a.String(), "b40443a7-b3a4-84be-9689-1e9ea5b46654"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	seen := map[string]string{}
	for _, r := range [][32]byte{release, {0xAC}} {
		ids := Derive(r)
		for i, id := range []UUID{ids.Disk, ids.BIOS, ids.ESP, ids.Root, ids.Filesystem, ids.HashSeed} {
			if other, ok := seen[id.String()]; ok {
				t.Errorf("%s is %s and %d of %x", id, other, i, r[0])
			}
			seen[id.String()] = fmt.Sprint(i, " of ", r[0])
		}
		if ids.Volume == 0 {
			t.Error("no volume id")
		}
	}
}
