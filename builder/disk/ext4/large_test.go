package ext4

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// names in one directory; `make soak` asks for more.
func manyNames(t testing.TB) int {
	s := os.Getenv("EXT4_NAMES")
	if s == "" {
		return 20000
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("EXT4_NAMES: %v", err)
	}
	return n
}

// TestManyNames has hashed directories of one and of two levels.
func TestManyNames(t *testing.T) {
	n := manyNames(t)
	b := newBuilder(t)
	b.dir("short")
	b.dir("long")
	b.file("long/first", "x")
	for i := range n {
		b.file(fmt.Sprintf("short/%d", i), "")
		b.add(layer.Entry{Path: fmt.Sprintf("long/%s%d", strings.Repeat("é", 120), i), Type: layer.HardLink, Link: fmt.Sprintf("short/%d", i)}, "")
	}
	from := b.tree()
	o := options
	o.Free = 128 << 20
	image, l := write(t, from, o)
	for _, d := range l.plan.dirs {
		switch d.name {
		case "short":
			if d.blocks < 2 {
				t.Errorf("short has %d blocks, wanted an index", d.blocks)
			}
		case "long":
			if d.blocks < dxRoot+2 {
				t.Errorf("long has %d blocks, wanted two levels", d.blocks)
			}
		}
	}
	dir, ok := mount(t, image, "rw")
	if !ok {
		return
	}
	compare(t, "kernel", seeTree(t, from), seeDir(t, dir), nil)
	for _, d := range []string{"short", "long"} {
		change(t, filepath.Join(dir, d), 2000)
		for i := 0; i < n; i += 2 {
			name := fmt.Sprint(i)
			if d == "long" {
				name = strings.Repeat("é", 120) + name
			}
			if err := os.Remove(filepath.Join(dir, d, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(t, "umount", dir)
	fsck(t, image)
}

// change makes n directories in dir and removes every second.
func change(t testing.TB, dir string, n int) {
	t.Helper()
	for i := range n {
		name := filepath.Join(dir, fmt.Sprintf("new%d", i))
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestManyDirs has more subdirectories in one than a link count holds.
func TestManyDirs(t *testing.T) {
	cases := map[int]uint32{maxLinks - 1: 1}
	if os.Getenv("EXT4_NAMES") != "" {
		cases[maxLinks-2] = maxLinks
	}
	for subdirs, want := range cases {
		b := newBuilder(t)
		b.dir("dirs")
		for i := range subdirs {
			b.dir(fmt.Sprintf("dirs/%d", i))
		}
		image, l := write(t, b.tree(), options)
		for _, d := range l.plan.dirs {
			if d.name == "dirs" && d.links != want {
				t.Errorf("%d subdirectories: link count %d, wanted %d", subdirs, d.links, want)
			}
		}
		if dir, ok := mount(t, image, "rw"); ok {
			change(t, filepath.Join(dir, "dirs"), 10)
			run(t, "umount", dir)
			fsck(t, image)
		}
	}
}

// A giant is a layer file with one file of a TiB that is nearly all hole, one
// of 300 MiB that is dense, and one that alternates blocks and holes.
func giant(t testing.TB) *tree.Tree {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "layer"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	var head bytes.Buffer
	if _, err := layer.NewWriter(&head, nil); err != nil {
		t.Fatal(err)
	}
	at := int64(0)
	put := func(b []byte) {
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		at += int64(len(b))
	}
	put(append(head.Bytes(), make([]byte, -head.Len()&511)...))
	entry := func(name string, size int64) {
		var b bytes.Buffer
		if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, Format: tar.FormatPAX}); err != nil {
			t.Fatal(err)
		}
		put(b.Bytes())
	}
	block := bytes.Repeat([]byte("block"), 1000)[:blockSize]
	const tib = 1 << 40
	entry("hole", tib)
	base := at
	for _, off := range []int64{0, 1<<32 - blockSize, 1 << 32, 500<<30 + 100, tib - blockSize} {
		at = base + off
		put(block)
	}
	entry("dense", 300<<20)
	base = at
	for i := range 300 {
		at = base + int64(i)<<20
		put(bytes.Repeat(block, 256))
	}
	entry("stripes", 8000*blockSize)
	base = at
	for i := range int64(4000) {
		at = base + 2*i*blockSize
		put(block)
	}
	at = base + 8000*blockSize
	put(make([]byte, 1024))
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	l, err := layer.Read("giant", f, size)
	if err != nil {
		t.Fatal(err)
	}
	from, err := tree.Merge(l)
	if err != nil {
		t.Fatal(err)
	}
	return from
}

// TestGiant writes a TiB of holes twice: to a file system that could hold it
// all, of 8000 groups, and to one that is given 1 GiB.
func TestGiant(t *testing.T) {
	from := giant(t)
	for _, size := range []int64{0, 1 << 30} {
		o := options
		o.Size = size
		image, l := write(t, from, o)
		if size == 0 && l.Size < 1<<40 || size != 0 && l.Size != size {
			t.Errorf("size %d for %d", l.Size, size)
		}
		var dump []string
		for _, name := range []string{"hole", "dense", "stripes"} {
			dump = append(dump, "stat "+name)
		}
		stats := debugfs(t, image, dump)
		for i, want := range []string{"(0):", "(0-", "(ETB0):"} {
			if !strings.Contains(stats[i], want) {
				t.Errorf("no %q in %s", want, stats[i])
			}
		}
		dir, ok := mount(t, image, "ro")
		if !ok {
			continue
		}
		compare(t, "kernel", seeTree(t, from), seeDir(t, dir), nil)
		h, err := os.Open(filepath.Join(dir, "hole"))
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 3*blockSize)
		for _, off := range []int64{1<<32 - 2*blockSize, 500<<30 - blockSize, 1<<40 - 3*blockSize} {
			n, _ := from.Lookup("hole")
			want := make([]byte, len(b))
			if _, err := n.Open().ReadAt(want, off); err != nil {
				t.Fatal(err)
			}
			if _, err := h.ReadAt(b, off); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b, want) {
				t.Errorf("the bytes at %d differ", off)
			}
		}
		h.Close()
		run(t, "umount", dir)
	}
}

// TestFull gives dense contents a size that measuring cannot refuse.
func TestFull(t *testing.T) {
	b := newBuilder(t)
	b.file("big", strings.Repeat("x", 20<<20))
	o := options
	o.Size = 16 << 20
	l, err := Measure(b.tree(), o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = Write(context.Background(), f, l)
	if !errors.Is(err, errFull) || !strings.Contains(err.Error(), "big") || !strings.Contains(err.Error(), fmt.Sprint(l.Need)) {
		t.Errorf("got %v", err)
	}
	if l.Need <= o.Size {
		t.Errorf("needs %d", l.Need)
	}
}

// TestCollision has two names of one hash, the first at the end of a leaf and
// the second at the start of the next, where only a bit in the index tells that
// the search goes on.
func TestCollision(t *testing.T) {
	seed := seedWords(options.UUID)
	name := func(i int) string { return fmt.Sprintf("%d%s", i, strings.Repeat("n", 247)) } // 15 in a leaf
	first := map[uint32]string{}
	var pair [2]string
	var below []string
	for i := 100000; pair[0] == ""; i++ {
		n := name(i)
		h := hashName(n, seed).major
		if other, ok := first[h]; ok && h > 1<<31 {
			pair = [2]string{other, n}
			for h2, n := range first {
				if h2 < h {
					below = append(below, n)
				}
			}
		}
		first[h] = n
	}
	split := false
	for fill := 30; fill < 46; fill++ {
		b := newBuilder(t)
		for _, n := range append(below[:fill:fill], pair[:]...) {
			b.file(n, n)
		}
		from := b.tree()
		l, err := Measure(from, options)
		if err != nil {
			t.Fatal(err)
		}
		d := newDirLayout(&l.plan.dirs[0], seed)
		at := d.starts[len(d.starts)-1]
		of := func(i int32) string { return l.plan.dirs[0].entries[d.order[i]].name }
		if a, b := of(at-1), of(at); (a != pair[0] || b != pair[1]) && (a != pair[1] || b != pair[0]) {
			continue
		}
		split = true
		image, _ := write(t, from, options)
		if dir, ok := mount(t, image, "ro"); ok {
			compare(t, "kernel", seeTree(t, from), seeDir(t, dir), nil)
		}
	}
	if !split {
		t.Error("no leaf ended between the two names")
	}
}
