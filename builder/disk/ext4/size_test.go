package ext4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// counts gives what the superblock says is free: bytes and inodes.
func counts(t testing.TB, image string) (free, inodes int64) {
	t.Helper()
	for line := range strings.Lines(run(t, "dumpe2fs", "-h", image)) {
		for name, to := range map[string]*int64{"Free blocks:": &free, "Free inodes:": &inodes} {
			if rest, ok := strings.CutPrefix(line, name); ok {
				if _, err := fmt.Sscan(rest, to); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return free * blockSize, inodes
}

// TestSize measures: what was asked to be free is free, nothing is wasted, a
// given size is kept.
func TestSize(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	b := newBuilder(t)
	for i := range 300 {
		b.file(fmt.Sprint(i), strings.Repeat("x", 1+r.IntN(30000)))
	}
	from := b.tree()
	for _, free := range []int64{0, 1, 10 << 20, 120 << 20, 128 << 20, 129<<20 + 5, 900 << 20, 1 << 30, 3 << 30, 9 << 30} {
		for _, ratio := range []int64{0, 4096, 1 << 20} {
			o := options
			o.Free, o.InodeRatio = free, ratio
			image, l := write(t, from, o)
			got, inodes := counts(t, image)
			if inodes != l.Inodes-l.UsedInodes {
				t.Errorf("free %d, ratio %d: %d inodes free, measured were %d of %d used", free, ratio, inodes, l.UsedInodes, l.Inodes)
			}
			// A last group of the least size may be what it takes.
			if got < free || got > free+40<<20 {
				t.Errorf("free %d, ratio %d: got %d bytes free of %d", free, ratio, got, l.Size)
			}
			if l.Size-l.Need != got {
				t.Errorf("free %d, ratio %d: needs %d of %d, but %d are free", free, ratio, l.Need, l.Size, got)
			}
			if ratio == 0 {
				ratio = 16384
			}
			if l.Inodes < l.Size/ratio {
				t.Errorf("free %d, ratio %d: %d inodes in %d bytes", free, ratio, l.Inodes, l.Size)
			}
		}
	}
	for range 300 { // without writing
		o := options
		o.Free = r.Int64N(1 << r.IntN(37))
		o.InodeRatio = 4096 << r.IntN(6)
		l, err := Measure(from, o)
		if err != nil {
			t.Fatal(err)
		}
		if left := l.Size - l.Need - o.Free; left < 0 || left > 40<<20 || int64(l.geo.blocks)*blockSize != l.Size {
			t.Errorf("free %d, ratio %d: %d more are free of %d", o.Free, o.InodeRatio, left, l.Size)
		}
	}
	for _, size := range []int64{20 << 20, 128<<20 - 4096, 128 << 20, 128<<20 + 4096, 129 << 20, 2<<30 + 12288} {
		o := options
		o.Size = size
		_, l := write(t, from, o)
		if l.Size != size {
			t.Errorf("size %d: got %d", size, l.Size)
		}
	}
}

// TestManyInodes has more files than a group or the ratio holds.
func TestManyInodes(t *testing.T) {
	b := newBuilder(t)
	for i := range 70000 {
		if i%1000 == 0 {
			b.dir(fmt.Sprint(i / 1000))
		}
		b.file(fmt.Sprintf("%d/%d", i/1000, i), "")
	}
	o := options
	o.Free = 0
	_, l := write(t, b.tree(), o)
	if l.Inodes < l.UsedInodes || l.UsedInodes != 70000+70+11 {
		t.Errorf("%d of %d inodes", l.UsedInodes, l.Inodes)
	}
}

// TestSame writes equal trees that were made in different ways.
func TestSame(t *testing.T) {
	make := func(backwards bool) [32]byte {
		b := newBuilder(t)
		names := []string{}
		for i := range 400 {
			names = append(names, fmt.Sprintf("f%d", i))
		}
		if backwards {
			for i := range names[:200] {
				names[i], names[399-i] = names[399-i], names[i]
			}
		}
		for _, n := range names {
			b.add(layer.Entry{Path: n, Mode: 0o644, Xattrs: map[string]string{"user.a": n, "user.b": n, "trusted.c": n, "user.d": strings.Repeat(n, 9)}}, n)
		}
		image, _ := write(t, b.tree(), options)
		f, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(f)
	}
	first := make(false)
	if first != make(false) {
		t.Error("two runs differ")
	}
	if first != make(true) {
		t.Error("the order of a layer shows")
	}
}

// TestUnwritten looks for blocks that need not be written: an image takes
// little more than what is in it.
func TestUnwritten(t *testing.T) {
	b := newBuilder(t)
	b.file("zeros", strings.Repeat("\x00", 50<<20))
	b.file("data", strings.Repeat("x", 1<<20))
	o := options
	o.Free = 4 << 30
	image, _ := write(t, b.tree(), o)
	st, err := os.Stat(image)
	if err != nil {
		t.Fatal(err)
	}
	if took := st.Sys().(*syscall.Stat_t).Blocks * 512; took > 2<<20 {
		t.Errorf("1 MiB of data took %d bytes", took)
	}
}

// A failing file is full after some bytes.
type failing struct {
	mu    sync.Mutex
	after int
}

func (f *failing) WriteAt(b []byte, _ int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.after -= len(b); f.after < 0 {
		return 0, syscall.ENOSPC
	}
	return len(b), nil
}

// A shrinking file is cut short after it was indexed. It counts what is read.
type shrinking struct {
	r          io.ReaderAt
	size, read int64
}

func (s *shrinking) ReadAt(b []byte, off int64) (int, error) {
	s.read += int64(len(b))
	return io.NewSectionReader(s.r, 0, s.size).ReadAt(b, off)
}

func TestWriteErrors(t *testing.T) {
	b := newBuilder(t)
	for i := range 50 {
		b.file(fmt.Sprint(i), strings.Repeat("x", 1<<20))
	}
	from := b.tree()
	l, err := Measure(from, options)
	if err != nil {
		t.Fatal(err)
	}
	all := &failing{after: 1 << 30}
	if err := Write(context.Background(), all, l); err != nil {
		t.Fatal(err)
	}
	for _, after := range []int{0, 5 << 20, 50 << 20, 1<<30 - all.after - 1} {
		if err := Write(context.Background(), &failing{after: after}, l); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a write that fails after %d bytes: %v", after, err)
		}
	}
	source := &shrinking{r: bytes.NewReader(b.b.Bytes()), size: int64(b.b.Len())}
	whole, err := layer.Read("counted", source, source.size)
	if err != nil {
		t.Fatal(err)
	}
	if from, err = tree.Merge(whole); err != nil {
		t.Fatal(err)
	}
	if l, err = Measure(from, options); err != nil {
		t.Fatal(err)
	}
	source.read = 0
	if err := Write(context.Background(), &failing{}, l); err == nil || source.read > 20<<20 {
		t.Errorf("after a write had failed, it read on to %d bytes: %v", source.read, err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Write(ctx, &failing{after: 1 << 30}, l); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := Write(context.Background(), &failing{after: 1 << 30}, Layout{}); err == nil {
		t.Error("an unmeasured layout was written")
	}

	short := newBuilder(t)
	short.file("whole", "x")
	short.file("dir-less", strings.Repeat("x", 100000))
	if err := short.w.Close(); err != nil {
		t.Fatal(err)
	}
	source = &shrinking{r: bytes.NewReader(short.b.Bytes()), size: int64(short.b.Len())}
	if whole, err = layer.Read("short", source, source.size); err != nil {
		t.Fatal(err)
	}
	source.size -= 50000
	if from, err = tree.Merge(whole); err != nil {
		t.Fatal(err)
	}
	if l, err = Measure(from, options); err != nil {
		t.Fatal(err)
	}
	if err := Write(context.Background(), &failing{after: 1 << 30}, l); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "dir-less") {
		t.Errorf("a content cut short: %v", err)
	}
}
