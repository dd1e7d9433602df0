package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/prose-im/prose-image/testdata/machine"
)

var options = Options{VolumeID: 0x1234ABCD, Label: "ESP", Time: time.Date(2026, 3, 4, 5, 6, 8, 0, time.UTC), Hidden: 8192}

func files(contents map[string]string) []File {
	var list []File
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		list = append(list, File{Path: name, Size: int64(len(contents[name])), Content: strings.NewReader(contents[name])})
	}
	return list
}

// write makes an image in a temporary file.
func write(t *testing.T, size int64, list []File, o Options) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fat.img")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := Write(f, size, list, o); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != size {
		t.Fatalf("image of %d bytes, %v; want %d", info.Size(), err, size)
	}
	return name
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "MTOOLSRC=/dev/null")
	if cmd.Err != nil {
		p, err := exec.LookPath("/usr/sbin/" + args[0])
		if err != nil {
			t.Fatalf("%s is not installed: install the Debian packages dosfstools and mtools", args[0])
		}
		cmd.Path, cmd.Err = p, nil
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// check has fsck.fat look at an image, and mcopy read back every byte.
func check(t *testing.T, image string, want map[string]string) {
	t.Helper()
	fsck := run(t, "fsck.fat", "-n", "-v", image)
	out13, err := machine.Program(machine.Programs(t, "dosfstools"), "usr/sbin/fsck.fat", "-n", "-v", image).CombinedOutput()
	if err != nil {
		t.Errorf("fsck.fat of Debian 13: %v", err)
	}
	fsck += string(out13)
	for _, bad := range []string{"Orphan", "differ", "Free cluster", "wrong", "invalid", "Invalid", "dirty bit", "label "} {
		if strings.Contains(fsck, bad) {
			t.Errorf("fsck.fat says %q:\n%s", bad, fsck)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	if len(want) > 0 {
		run(t, "mcopy", "-s", "-Q", "-n", "-i", image, "::*", out)
	}
	got := map[string]string{}
	err = filepath.WalkDir(out, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		name, _ := filepath.Rel(out, p)
		got[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if b, ok := got[name]; !ok || b != want[name] {
			t.Errorf("%s: there %v, %d bytes, want %d", name, ok, len(b), len(want[name]))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files came back, want %d: %q", len(got), len(want), slices.Sorted(maps.Keys(got)))
	}
}

func random(seed uint64, n int) string {
	b := make([]byte, n)
	var s [32]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	rand.NewChaCha8(s).Read(b)
	return string(b)
}

var esp = map[string]string{
	"EFI/BOOT/BOOTX64.EFI": random(1, 1036152),
	"EFI/BOOT/grubx64.efi": random(2, 2684352),
	"EFI/debian/grub.cfg":  "search.fs_uuid x root\n",
}

func TestSizes(t *testing.T) {
	small := map[string]string{"EFI/BOOT/BOOTX64.EFI": random(3, 1<<20), "EFI/debian/grub.cfg": "x", "empty": ""}
	for _, c := range []struct {
		mib            int64
		bits           int // asked for
		is, perCluster int // what comes out
	}{
		{3, 0, 16, 1}, {4, 0, 16, 1}, {5, 0, 16, 2}, {8, 0, 16, 2}, {16, 0, 16, 2}, {17, 0, 16, 4}, {32, 0, 16, 4},
		{33, 0, 16, 4}, {64, 0, 16, 4}, {127, 0, 16, 4}, {128, 0, 16, 4}, {129, 0, 16, 8}, {256, 0, 16, 8},
		{300, 0, 16, 16}, {511, 0, 16, 16}, {512, 16, 16, 16}, {1023, 16, 16, 32}, {1024, 16, 16, 64}, {2047, 16, 16, 64},
		{33, 32, 32, 1}, {34, 32, 32, 1}, {64, 32, 32, 1}, {100, 32, 32, 1}, {260, 32, 32, 1}, {300, 32, 32, 8},
		{512, 0, 32, 8}, {1000, 0, 32, 8}, {2048, 0, 32, 8}, {8192, 0, 32, 8}, {8193, 0, 32, 16}, {40000, 0, 32, 64},
	} {
		t.Run(fmt.Sprintf("%d MiB FAT%d", c.mib, c.bits), func(t *testing.T) {
			t.Parallel()
			o := options
			o.Bits = c.bits
			image := write(t, c.mib<<20, files(small), o)
			check(t, image, small)
			out := run(t, "fsck.fat", "-n", "-v", image)
			for _, want := range []string{
				fmt.Sprintf("%d bytes per cluster", c.perCluster*512),
				fmt.Sprintf("2 FATs, %d bit entries", c.is),
				"8192 hidden sectors",
				fmt.Sprintf("%d sectors total", c.mib<<11),
			} {
				if !strings.Contains(out, want) {
					t.Errorf("fsck.fat does not say %q:\n%s", want, out)
				}
			}
		})
	}
}

func TestSizeLimits(t *testing.T) {
	for _, c := range []struct {
		size int64
		bits int
		want string
	}{
		{0, 0, "too small for FAT16"},
		{2 << 20, 0, "too small for FAT16"},
		{32 << 20, 32, "too small for FAT32"},
		{2048 << 20, 16, "too large for FAT16"},
		{2 << 40, 32, "too large for FAT32"},
		{16<<20 + 1, 0, "sectors of 512"},
		{16 << 20, 12, "no FAT12"},
	} {
		o := options
		o.Bits = c.bits
		err := Write(nil, c.size, nil, o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("size %d, FAT%d: error %v, want %q", c.size, c.bits, err, c.want)
		}
	}
}

// Every size either has a geometry that adds up, or is refused.
func TestGeometry(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	made := 0
	for range 3000 {
		size := (r.Int64N(1<<r.IntN(42)) + 1) * sector
		bits := []int{16, 32}[r.IntN(2)]
		g, err := newGeometry(size, bits)
		if err != nil {
			continue
		}
		made++
		if end := g.offset(2) + g.clusters*g.clusterSize(); end > size || size-end >= g.clusterSize() {
			t.Errorf("FAT%d of %d bytes: clusters end at %d", bits, size, end)
		}
		if g.fatSectors*sector*8 < (g.clusters+2)*int64(bits) {
			t.Errorf("FAT%d of %d bytes: %d clusters, tables of %d sectors", bits, size, g.clusters, g.fatSectors)
		}
		if bits == 16 != (g.clusters < 65525) || g.clusters < 4085 {
			t.Errorf("FAT%d of %d bytes: %d clusters", bits, size, g.clusters)
		}
	}
	if made < 500 {
		t.Errorf("only %d sizes had a geometry", made)
	}
}

func TestESP(t *testing.T) {
	image := write(t, 16<<20, files(esp), options)
	check(t, image, esp)
	dir := run(t, "mdir", "-a", "-i", image, "::/EFI/BOOT")
	for _, want := range []string{
		"Volume in drive : is ESP", "Volume Serial Number is 1234-ABCD",
		"BOOTX64  EFI   1036152 2026-03-04   5:06", "GRUBX64  EFI   2684352 2026-03-04   5:06  grubx64.efi",
	} {
		if !strings.Contains(dir, want) {
			t.Errorf("mdir does not say %q:\n%s", want, dir)
		}
	}
}

func TestNoLabel(t *testing.T) {
	o := options
	o.Label = ""
	for _, bits := range []int{16, 32} {
		o.Bits = bits
		image := write(t, 64<<20, nil, o)
		check(t, image, nil)
		if dir := run(t, "minfo", "-i", image, "::"); !strings.Contains(dir, `disk label="NO NAME    "`) {
			t.Error(dir)
		}
	}
}

// names gives names of every kind, in a number that makes directories of many
// clusters.
func names(r *rand.Rand, n int) map[string]string {
	alphabet := []rune("abcXYZ019 ._-+,;=[]~é漢") // mtools reads no name outside the basic plane
	contents := map[string]string{}
	folded := map[string]bool{}
	for len(contents) < n {
		name := make([]rune, 1+r.IntN([]int{5, 12, 60, 240}[r.IntN(4)]))
		for i := range name {
			name[i] = alphabet[r.IntN(len(alphabet))]
		}
		s := strings.TrimRight(strings.Trim(string(name), " "), ". ")
		if checkName(s) != nil || len(s) > 255 || folded[fold(s)] {
			continue // more bytes than the file system of the test can hold
		}
		folded[fold(s)] = true
		contents[[]string{"a/", "B/long directory name/", "B/"}[r.IntN(3)]+s] = random(r.Uint64(), r.IntN(3000))
	}
	return contents
}

func TestNames(t *testing.T) {
	want := names(rand.New(rand.NewPCG(3, 4)), 600)
	for i := range 40 {
		want[fmt.Sprintf("B/a name whose alias is taken %d.text", i)] = fmt.Sprint(i)
	}
	want["B/anamew~1.tex"] = "the very alias of another"
	want["LETTERS.TXT"], want["Mixed.Txt"], want["no-ext"], want["UPPER"] = "1", "2", "3", "4"
	for _, bits := range []int{16, 32} {
		o := options
		o.Bits = bits
		image := write(t, 64<<20, files(want), o)
		check(t, image, want)
	}
}

// TestAnything has disks of many sizes, with as many files as fit and with deep
// paths, judged.
func TestAnything(t *testing.T) {
	full := 0
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 7))
		o := options
		o.Bits = []int{0, 16, 32}[r.IntN(3)]
		o.VolumeID = r.Uint32()
		size := (3<<20 + r.Int64N(60<<20)) / sector * sector
		if o.Bits == 32 {
			size += 33 << 20
		}
		want := names(r, r.IntN(250))
		deep := strings.Repeat("deep down/", 1+r.IntN(20))
		for len(want) < 400 {
			want[fmt.Sprintf("%s%d", deep, len(want))] = random(r.Uint64(), r.IntN(60000))
			if err := Check(size, files(want), o); err != nil {
				var small *TooSmallError
				if !errors.As(err, &small) {
					t.Fatalf("seed %d: %v", seed, err)
				}
				delete(want, fmt.Sprintf("%s%d", deep, len(want)-1))
				full++
				break
			}
		}
		check(t, write(t, size, files(want), o), want)
		if t.Failed() {
			t.Fatalf("seed %d, %d bytes, FAT%d", seed, size, o.Bits)
		}
	}
	if full == 0 || full == 30 {
		t.Errorf("%d of 30 were full", full)
	}
}

// The aliases of one directory, in the order of their names.
func TestAliases(t *testing.T) {
	for _, c := range []struct{ name, alias, long string }{
		{"BOOTX64.EFI", "BOOTX64 EFI", ""},
		{"EFI", "EFI        ", ""},
		{"grubx64.efi", "GRUBX64 EFI", "grubx64.efi"},
		{"TextFile.Mine.txt", "TEXTFI~1TXT", "TextFile.Mine.txt"},
		{"TextFile1.Mine.txt", "TEXTFI~2TXT", "TextFile1.Mine.txt"},
		{"textfi~3.txt", "TEXTFI~3TXT", "textfi~3.txt"},
		{"textfile2.txt", "TEXTFI~4TXT", "textfile2.txt"},
		{"a+b", "A_B~1      ", "a+b"},
		{".profile", "PROFIL~1   ", ".profile"},
		{"é", "_~1        ", "é"},
		{"a.jpeg", "A~1     JPE", "a.jpeg"},
		{"9.LONG", "9~1     LON", "9.LONG"},
		{"a b", "AB~1       ", "a b"},
	} {
		want := map[string]string{"TextFile.Mine.txt": "", "TextFile1.Mine.txt": "", "textfi~3.txt": "", "textfile2.txt": ""}
		want[c.name] = ""
		root, err := newTree(files(want))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range root.children {
			if n.name != c.name {
				continue
			}
			if string(n.short[:]) != c.alias || !slices.Equal(n.long, utf16s(c.long)) {
				t.Errorf("%s: alias %q, long name %q, want %q", c.name, n.short, string(utf16.Decode(n.long)), c.alias)
			}
		}
	}
	var many []File
	for i := range 1200 {
		many = append(many, File{Path: fmt.Sprintf("textfile number %d", i)})
	}
	root, err := newTree(many)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[11]byte]bool{}
	for _, n := range root.children {
		if seen[n.short] || !regexp.MustCompile(`^TEX[TFI]*~[0-9]+ *$`).Match(n.short[:]) {
			t.Errorf("%s: alias %q", n.name, n.short)
		}
		seen[n.short] = true
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct {
		files []File
		label string
		want  string
	}{
		{[]File{{Path: ""}}, "", "no name"},
		{[]File{{Path: "a//b"}}, "", "no name"},
		{[]File{{Path: "../b"}}, "", "no name"},
		{[]File{{Path: "a:b"}}, "", `':'`},
		{[]File{{Path: "a\nb"}}, "", `'\n'`},
		{[]File{{Path: "a."}}, "", "drops"},
		{[]File{{Path: "a\xff"}}, "", "UTF-8"},
		{[]File{{Path: strings.Repeat("漢", 256)}}, "", "longer than 255"},
		{[]File{{Path: "A"}, {Path: "a"}}, "", "same name"},
		{[]File{{Path: "a"}, {Path: "a/b"}}, "", "same name"},
		{[]File{{Path: "a/b"}, {Path: "a"}}, "", "same name"},
		{[]File{{Path: "EFI/a"}, {Path: "efi/b"}}, "", "same name"},
		{[]File{{Path: "a", Size: 1 << 32}}, "", "cannot have"},
		{[]File{{Path: "a", Size: 1}}, "", "no content"},
		{nil, "esp", "label"},
		{nil, "TWELVE CHARS", "label"},
	} {
		o := options
		o.Label = c.label
		err := Write(nil, 16<<20, c.files, o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40v: error %v, want %q", c.files, err, c.want)
		}
	}
	var many []File
	for i := range rootEntries {
		many = append(many, File{Path: fmt.Sprint(i)})
	}
	if err := Check(16<<20, many, options); err == nil || !strings.Contains(err.Error(), "513 entries") {
		t.Errorf("too many entries in the root: %v", err)
	}
	if err := Check(16<<20, many[1:], options); err != nil {
		t.Errorf("a full root directory: %v", err)
	}
}

func TestTooSmall(t *testing.T) {
	g, err := newGeometry(16<<20, 16)
	if err != nil {
		t.Fatal(err)
	}
	most := g.clusters * g.clusterSize()
	full := func(n int64) []File {
		return []File{{Path: "FULL", Size: n, Content: strings.NewReader(random(5, int(n)))}}
	}
	image := write(t, 16<<20, full(most), options)
	check(t, image, map[string]string{"FULL": random(5, int(most))})
	err = Check(16<<20, full(most+1), options)
	var small *TooSmallError
	if !errors.As(err, &small) || small.Need != most+g.clusterSize() || small.Room != most {
		t.Errorf("one byte too much: %v", err)
	}
	// A full FAT32 has no next free cluster.
	o := options
	o.Bits = 32
	if g, err = newGeometry(34<<20, 32); err != nil {
		t.Fatal(err)
	}
	most = (g.clusters - 1) * g.clusterSize() // the root directory takes one
	image = write(t, 34<<20, full(most), o)
	check(t, image, map[string]string{"FULL": random(5, int(most))})
}

func TestShortContent(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = Write(f, 16<<20, []File{{Path: "a/b", Size: 10, Content: strings.NewReader("short")}}, options)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "a/b") {
		t.Error(err)
	}
}

func TestDeterminism(t *testing.T) {
	list := files(names(rand.New(rand.NewPCG(5, 6)), 200))
	first, err := os.ReadFile(write(t, 32<<20, list, options))
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(list)
	o := options
	o.Time = o.Time.In(time.FixedZone("", 3600))
	second, err := os.ReadFile(write(t, 32<<20, list, o))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the same files in another order, and the same time in another zone, gave other bytes")
	}
}

func TestTimes(t *testing.T) {
	for _, c := range []struct {
		in, want time.Time
	}{
		{time.Unix(0, 0), time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)},
		{time.Date(2026, 12, 31, 23, 59, 59, 5, time.UTC), time.Date(2026, 12, 31, 23, 59, 58, 0, time.UTC)},
		{time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC)},
	} {
		d, k := dosTime(c.in)
		got := time.Date(int(d>>9)+1980, time.Month(d>>5&15), int(d&31), int(k>>11), int(k>>5&63), int(k&31)*2, 0, time.UTC)
		if !got.Equal(c.want) {
			t.Errorf("%v became %v, want %v", c.in, got, c.want)
		}
	}
}
