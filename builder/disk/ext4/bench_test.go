package ext4

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// zeroFree gives bytes that no file system leaves out.
type zeroFree struct{ *rand.ChaCha8 }

func (r zeroFree) Read(p []byte) (int, error) {
	n, err := r.ChaCha8.Read(p)
	return n, err
}

// rootLike is a layer file like a Debian root: 12,600 files, 650 MiB, a
// few of them large.
func rootLike(b testing.TB, dir string) (*tree.Tree, string) {
	b.Helper()
	p := filepath.Join(dir, "layer")
	f, err := os.Create(p)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	w, err := layer.NewWriter(f, nil)
	if err != nil {
		b.Fatal(err)
	}
	random := zeroFree{rand.NewChaCha8([32]byte{})}
	r := rand.New(rand.NewPCG(1, 1))
	add := func(e layer.Entry) {
		e.ModTime = time.Unix(1700000000, 0)
		if err := w.Write(e, random); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 1400 {
		d := fmt.Sprintf("d%d", i)
		add(layer.Entry{Path: d, Type: layer.Dir, Mode: 0o755})
		for j := range 9 {
			size := r.Int64N(40_000)
			if r.IntN(100) == 0 {
				size = r.Int64N(6_600_000)
			}
			add(layer.Entry{Path: fmt.Sprintf("%s/%d", d, j), Mode: 0o644, Size: size})
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	l, err := layer.Read("root", f, st.Size())
	if err != nil {
		b.Fatal(err)
	}
	from, err := tree.Merge(l)
	if err != nil {
		b.Fatal(err)
	}
	return from, p
}

// BenchmarkWrite measures and writes a root file system, synced; BenchmarkCopy
// is the floor: cp of as many bytes, synced.
func BenchmarkWrite(b *testing.B) {
	dir := b.TempDir()
	from, _ := rootLike(b, dir)
	for b.Loop() {
		l, err := Measure(from, options)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(l.Need)
		p := filepath.Join(dir, "image")
		f, err := os.Create(p)
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Truncate(l.Size); err != nil {
			b.Fatal(err)
		}
		if err := Write(context.Background(), f, l); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		f.Close()
		b.StopTimer()
		os.Remove(p)
		b.StartTimer()
	}
}

func BenchmarkCopy(b *testing.B) {
	dir := b.TempDir()
	_, p := rootLike(b, dir)
	st, err := os.Stat(p)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(st.Size())
	for b.Loop() {
		to := filepath.Join(dir, "copy")
		for _, c := range [][]string{{"cp", "--reflink=never", p, to}, {"sync", to}} {
			if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
				b.Fatalf("%v: %v: %s", c, err, out)
			}
		}
		b.StopTimer()
		os.Remove(to)
		b.StartTimer()
	}
}

// BenchmarkMemory lays out and writes 250,000 entries and says what that holds
// beyond the tree.
func BenchmarkMemory(b *testing.B) {
	t := newBuilder(b)
	for i := range 2500 {
		d := fmt.Sprintf("directory-%d", i)
		t.dir(d)
		for j := range 99 {
			t.file(fmt.Sprintf("%s/some-file-name-%d", d, j), "x")
		}
	}
	from := t.tree()
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	before := heap()
	for b.Loop() {
		l, err := Measure(from, options)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(heap()-before, "MiB-layout")
		f, err := os.Create(filepath.Join(b.TempDir(), "image"))
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Truncate(l.Size); err != nil {
			b.Fatal(err)
		}
		var m0, m1 runtime.MemStats
		runtime.ReadMemStats(&m0)
		if err := Write(context.Background(), f, l); err != nil {
			b.Fatal(err)
		}
		runtime.ReadMemStats(&m1)
		b.ReportMetric(float64(m1.TotalAlloc-m0.TotalAlloc)/(1<<20), "MiB-alloc-write")
		b.ReportMetric(heap()-before, "MiB-after")
		f.Close()
		runtime.KeepAlive(l)
	}
}
