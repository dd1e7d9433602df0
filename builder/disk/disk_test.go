package disk

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/output"
	"github.com/prose-im/prose-image/builder/tree"
)

var when = time.Date(2026, 3, 4, 5, 6, 8, 0, time.UTC)

func options(arch string) Options {
	return Options{Arch: arch, IDs: Derive([32]byte{1, 2, 3}), Label: "root", Time: when, Free: 8 * mib}
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	var s [32]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	rand.NewChaCha8(s).Read(b)
	return b
}

// grubBoot is a boot sector with what grub-mkimage leaves in boot.img.
func grubBoot() []byte {
	b := random(1, sector)
	binary.LittleEndian.PutUint64(b[0x5C:], 1)
	b[0x64] = 0xFF
	copy(b[0x66:], []byte{0xEB, 0x05})
	copy(b[510:], []byte{0x55, 0xAA})
	return b
}

// grubCore is n bytes with the block list that grub-mkimage leaves in core.img.
func grubCore(n int) []byte {
	b := random(2, n)
	copy(b[0x1F4:], []byte{2, 0, 0, 0, 0, 0, 0, 0})
	binary.LittleEndian.PutUint16(b[0x1FC:], uint16((n+sector-1)/sector-1))
	binary.LittleEndian.PutUint16(b[0x1FE:], 0x820)
	return b
}

// content is the files of a tree, directories made as needed.
type content map[string][]byte

func system() content {
	return content{
		bootImage:                         grubBoot(),
		coreImage:                         grubCore(174546),
		"usr/lib/shim/shimx64.efi.signed": random(3, 1036152),
		"usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed":     random(4, 2684352),
		"usr/lib/shim/shimaa64.efi.signed":                      random(5, 900000),
		"usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed":     random(6, 2500000),
		"boot/prose/grub.cfg":                                   []byte("linux /vmlinuz\n"),
		"usr/share/sparse":                                      make([]byte, 8*mib),
		"usr/share/long " + strings.Repeat("directory name", 9): nil,
	}
}

func (c content) tree(t *testing.T) *tree.Tree {
	t.Helper()
	merged, err := tree.Merge(c.layer(t))
	if err != nil {
		t.Fatal(err)
	}
	return merged
}

func (c content) layer(t *testing.T) *layer.Layer {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "layer"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	w, err := layer.NewWriter(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]bool{}
	var mkdir func(p string)
	mkdir = func(p string) {
		if made[p] {
			return
		}
		made[p] = true
		if p != "." {
			mkdir(filepath.Dir(p))
		}
		if err := w.Write(layer.Entry{Path: p, Type: layer.Dir, Mode: 0o755, ModTime: when}, nil); err != nil {
			t.Fatal(err)
		}
	}
	mkdir(".")
	for _, name := range slices.Sorted(maps.Keys(c)) {
		mkdir(filepath.Dir(name))
		e := layer.Entry{Path: name, Mode: 0o644, ModTime: when, Size: int64(len(c[name]))}
		if err := w.Write(e, bytes.NewReader(c[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	l, err := layer.Read("test", f, end)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	name, err := exec.LookPath(args[0])
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if err != nil {
			name, err = exec.LookPath(dir + args[0])
		}
	}
	if err != nil {
		t.Fatalf("%s is not installed: install the Debian packages gdisk, fdisk, dosfstools, mtools and e2fsprogs", args[0])
	}
	cmd := exec.Command(name, args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC", "MTOOLSRC=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// make1 writes a disk into a directory of its own.
func make1(t *testing.T, tr *tree.Tree, o Options) (string, Result) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	r, err := Write(t.Context(), path, tr, o)
	if err != nil {
		t.Fatal(err)
	}
	return path, r
}

// extract copies a partition to a file.
func extract(t *testing.T, path string, p Partition) string {
	t.Helper()
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	b := make([]byte, p.Size)
	if _, err := in.ReadAt(b, p.Start); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), p.Name)
	if err := os.WriteFile(out, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDisk(t *testing.T) {
	for _, c := range []struct {
		arch  string
		size  int64
		want  []Partition // without what depends on the size of root
		files map[string]string
	}{
		{"amd64", 0, []Partition{
			{14, "BIOS boot", 2048 * sector, 3 * mib, "21686148-6449-6E6F-744E-656564454649", Derive([32]byte{1, 2, 3}).BIOS},
			{15, "EFI system", 8192 * sector, 64 * mib, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", Derive([32]byte{1, 2, 3}).ESP},
			{1, "root", 139264 * sector, 0, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", Derive([32]byte{1, 2, 3}).Root},
		}, map[string]string{
			"EFI/BOOT/BOOTX64.EFI": "usr/lib/shim/shimx64.efi.signed",
			"EFI/BOOT/grubx64.efi": "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
		}},
		{"arm64", 120*mib - 5, []Partition{
			{15, "EFI system", 8192 * sector, 64 * mib, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", Derive([32]byte{1, 2, 3}).ESP},
			{1, "root", 139264 * sector, 0, "B921B045-1DF0-41C3-AF44-4C6F280D3FAE", Derive([32]byte{1, 2, 3}).Root},
		}, map[string]string{
			"EFI/BOOT/BOOTAA64.EFI": "usr/lib/shim/shimaa64.efi.signed",
			"EFI/BOOT/grubaa64.efi": "usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed",
		}},
	} {
		t.Run(c.arch, func(t *testing.T) {
			o := options(c.arch)
			o.Size = c.size
			files := system()
			path, r := make1(t, files.tree(t), o)
			info, err := os.Stat(path)
			if err != nil || info.Size() != r.Size || r.Size%mib != 0 || r.Size < c.size || r.Size > c.size+100*mib {
				t.Errorf("result says %d bytes, the file has %d, asked for %d: %v", r.Size, info.Size(), c.size, err)
			}
			root := r.Partitions[len(r.Partitions)-1]
			if root.Start+root.Size+mib != r.Size {
				t.Errorf("root ends at %d of %d bytes", root.Start+root.Size, r.Size)
			}
			c.want[len(c.want)-1].Size = root.Size
			if !slices.Equal(r.Partitions, c.want) {
				t.Errorf("partitions\n%v, want\n%v", r.Partitions, c.want)
			}
			checkTable(t, path, o, r)
			checkESP(t, path, r.Partitions[len(r.Partitions)-2], o, files, c.files)
			checkRoot(t, path, root, o)
			checkBIOS(t, path, c.arch == "amd64", files)
		})
	}
}

func checkTable(t *testing.T, path string, o Options, r Result) {
	t.Helper()
	if out := run(t, "sgdisk", "-v", path); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	if out := run(t, "sfdisk", "--verify", path); !strings.Contains(out, "No errors detected") {
		t.Error(out)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := gpt.Read(file.New(f, true), sector, sector)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.EqualFold(table.GUID, o.IDs.Disk.String()) || !table.ProtectiveMBR || table.RecoveredFromBackup {
		t.Errorf("table %s, protective MBR %v, want %s", table.GUID, table.ProtectiveMBR, o.IDs.Disk)
	}
	var got []Partition
	for _, p := range table.Partitions {
		for _, want := range r.Partitions {
			if want.Number == p.Index && strings.EqualFold(p.GUID, want.ID.String()) {
				got = append(got, Partition{p.Index, p.Name, int64(p.Start) * sector, int64(p.Size), string(p.Type), want.ID})
			}
		}
	}
	slices.SortFunc(got, func(a, b Partition) int { return int(a.Start - b.Start) })
	if !slices.Equal(got, r.Partitions) {
		t.Errorf("the table says\n%v, the result\n%v", got, r.Partitions)
	}
}

func checkESP(t *testing.T, path string, p Partition, o Options, files content, want map[string]string) {
	t.Helper()
	image := extract(t, path, p)
	if out := run(t, "fsck.fat", "-n", "-v", image); !strings.Contains(out, "3 files") && !strings.Contains(out, "8192 hidden sectors") {
		t.Error(out)
	}
	for name, from := range want {
		if got := run(t, "mtype", "-i", image, "::/"+name); got != string(files[from]) {
			t.Errorf("%s is not %s", name, from)
		}
	}
	config := fmt.Sprintf("search.fs_uuid %s root\nset prefix=($root)/boot/prose\nconfigfile $prefix/grub.cfg\n", o.IDs.Filesystem)
	if got := run(t, "mtype", "-i", image, "::/EFI/debian/grub.cfg"); got != config {
		t.Errorf("grub.cfg is\n%s, want\n%s", got, config)
	}
}

func checkRoot(t *testing.T, path string, p Partition, o Options) {
	t.Helper()
	image := extract(t, path, p)
	run(t, "e2fsck", "-fn", image)
	head := run(t, "dumpe2fs", "-h", image)
	for _, want := range []string{"Filesystem volume name:   root", "Filesystem UUID:          " + o.IDs.Filesystem.String(), "Directory Hash Seed:      " + o.IDs.HashSeed.String()} {
		if !strings.Contains(head, want) {
			t.Errorf("dumpe2fs does not say %q:\n%s", want, head)
		}
	}
	if got := run(t, "debugfs", "-R", "cat /boot/prose/grub.cfg", image); !strings.Contains(got, "linux /vmlinuz\n") {
		t.Error(got)
	}
	// Not a byte of the partition is lost but what rounding to 1 MiB leaves.
	var blocks int64
	for line := range strings.Lines(head) {
		_, _ = fmt.Sscanf(line, "Block count: %d", &blocks)
	}
	if lost := p.Size - blocks*4096; lost < 0 || lost > mib {
		t.Errorf("the partition has %d bytes, the file system %d", p.Size, blocks*4096)
	}
}

func checkBIOS(t *testing.T, path string, bios bool, files content) {
	t.Helper()
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bios {
		if !allZero(disk[:bootCode]) || !allZero(disk[biosStart:espStart]) {
			t.Error("there is something for a BIOS")
		}
		return
	}
	boot := slices.Clone(files[bootImage][:bootCode])
	copy(boot[0x5C:], []byte{0, 8, 0, 0, 0, 0, 0, 0})
	copy(boot[0x66:], []byte{0x90, 0x90})
	if !bytes.Equal(disk[:bootCode], boot) || !bytes.Equal(disk[510:512], []byte{0x55, 0xAA}) {
		t.Errorf("the boot sector is\n% x, want\n% x", disk[:bootCode], boot)
	}
	core := slices.Clone(files[coreImage])
	copy(core[0x1F4:], []byte{1, 8, 0, 0, 0, 0, 0, 0})
	if !bytes.Equal(disk[biosStart:][:len(core)], core) || !allZero(disk[biosStart+len(core):espStart]) {
		t.Error("core.img is not where it should be")
	}
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// A block of zeros is a hole, so the disk takes no more than its data.
func TestSparse(t *testing.T) {
	o := options("amd64")
	o.Size = 4 << 30
	path, r := make1(t, system().tree(t), o)
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	// Two copies of shim and GRUB for amd64, one for arm64, the journal's and the
	// tables' few blocks.
	if s.Size != 4<<30 || r.Size != 4<<30 || s.Blocks*512 > 14*mib {
		t.Errorf("%d bytes take %d", s.Size, s.Blocks*512)
	}
}

func TestDeterminism(t *testing.T) {
	a, _ := make1(t, system().tree(t), options("amd64"))
	b, _ := make1(t, system().tree(t), options("amd64"))
	if err := exec.Command("cmp", a, b).Run(); err != nil {
		t.Errorf("written twice, the disks differ: %v", err)
	}
	o := options("amd64")
	o.IDs = Derive([32]byte{4})
	c, _ := make1(t, system().tree(t), o)
	if err := exec.Command("cmp", a, c).Run(); err == nil {
		t.Error("another release gave the same disk")
	}
}

// The ESP grows with what is on it.
func TestLargeESP(t *testing.T) {
	files := system()
	files["usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"] = random(7, 12*mib)
	o := options("amd64")
	path, r := make1(t, files.tree(t), o)
	if got := r.Partitions[1]; got.Size != 64*mib || r.Partitions[2].Start != got.Start+got.Size {
		t.Errorf("partitions %v", r.Partitions)
	}
	checkTable(t, path, o, r)
	checkESP(t, path, r.Partitions[1], o, files, map[string]string{"EFI/BOOT/grubx64.efi": "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"})
}

// What cannot be written is one clear error, and leaves what was there.
func TestErrors(t *testing.T) {
	cancelled, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("stopped by the test")
	cancel(stop)
	for _, c := range []struct {
		name   string
		ctx    context.Context
		change func(content)
		option func(*Options)
		want   string
		is     error
	}{
		{name: "cancelled", ctx: cancelled, want: "stopped by the test", is: stop},
		{name: "arch", option: func(o *Options) { o.Arch = "riscv64" }, want: `"riscv64" is neither`},
		{name: "no boot.img", change: func(c content) { delete(c, bootImage) }, want: bootImage},
		{name: "core.img elsewhere", option: func(o *Options) { o.CoreImage = "boot/core.img" }, want: "boot/core.img"},
		{name: "core.img too big", change: func(c content) { c[coreImage] = grubCore(3*mib + 1) }, want: coreImage + ": its 3145729 bytes do not fit"},
		{name: "foreign boot.img", change: func(c content) { c[bootImage] = make([]byte, sector) }, want: bootImage + ": it is no boot sector"},
		{name: "no shim", change: func(c content) { delete(c, "usr/lib/shim/shimx64.efi.signed") }, want: "shimx64"},
		{name: "no grub", change: func(c content) { delete(c, "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed") }, want: "grubx64"},
		{name: "no id", option: func(o *Options) { o.IDs = IDs{} }, want: "UUID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files, o, ctx := system(), options("amd64"), c.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			if c.change != nil {
				c.change(files)
			}
			if c.option != nil {
				c.option(&o)
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "disk.raw")
			if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Write(ctx, path, files.tree(t), o)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "writing disk disk.raw: ") {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v is not %v", err, c.is)
			}
			untouched(t, dir)
		})
	}
}

func untouched(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	// A file that has no name yet is still there as long as it is open.
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		if name, _ := os.Readlink(fd); strings.HasPrefix(name, dir) {
			t.Errorf("still open: %s", name)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "disk.raw")); err != nil || string(b) != "old" {
		t.Errorf("the old disk is %.20q, %v", b, err)
	}
}

// A context that ends while root is written stops the write.
func TestCancelWhileWriting(t *testing.T) {
	files := system()
	for i := range 40 {
		files[fmt.Sprintf("var/data%d", i)] = random(uint64(100+i), 4*mib)
	}
	tr := files.tree(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx := &countdown{Context: t.Context()}
	ctx.left.Store(30)
	_, err := Write(ctx, path, tr, options("amd64"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	untouched(t, dir)
}

// A countdown is a context that ends after it was asked a number of times.
type countdown struct {
	context.Context
	left atomic.Int32
}

func (c *countdown) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// padded is some bytes with zeros after them for ever.
type padded []byte

func (p padded) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	if off < int64(len(p)) {
		copy(b, p[off:])
	}
	return len(b), nil
}

// huge is a layer with one file of size bytes, none of which is stored.
func huge(t *testing.T, size int64) *layer.Layer {
	t.Helper()
	var b bytes.Buffer
	if _, err := layer.NewWriter(&b, nil); err != nil {
		t.Fatal(err)
	}
	b.Write(make([]byte, -b.Len()&(sector-1))) // what comes before the next header
	if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: "huge", Size: size, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	l, err := layer.Read("huge", padded(b.Bytes()), int64(b.Len())+size+2*sector)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A tree that is larger than the file system below is refused before a byte is
// written.
func TestNoSpace(t *testing.T) {
	tr, err := tree.Merge(system().layer(t), huge(t, 1<<43))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Write(t.Context(), path, tr, options("amd64"))
	var full *output.NoSpaceError
	if !errors.As(err, &full) || full.Need < 1<<43 || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), fmt.Sprint(full.Need)) {
		t.Errorf("error %v", err)
	}
	untouched(t, dir)
}
