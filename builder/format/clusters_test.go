package format

import (
	"os"
	"path/filepath"
	"testing"
)

// knownDeflater lets a test keep clusters: a test's binary does not know the
// versions of its modules.
func knownDeflater(t *testing.T, name string) {
	t.Helper()
	before := deflater
	deflater = func() string { return name }
	t.Cleanup(func() { deflater = before })
}

func qcow2With(t *testing.T, src, store string) Artifact {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "out.qcow2")
	a, err := Convert(t.Context(), lookup(t, "qcow2"), src, dst, Options{Clusters: store})
	if err != nil {
		t.Fatal(err)
	}
	checkQcow2(t, dst, src)
	a.Path = ""
	return a
}

// The same bytes come out with no store, an empty one, a full one, one of much
// the same disk, and a damaged one.
func TestClustersChangeNothing(t *testing.T) {
	knownDeflater(t, "a")
	spots := []spot{{0, 1 << 20, "text"}, {3 << 20, 5 << 20, "noise"}, {9<<20 + 4096, 7 << 20, "half"}, {20 << 20, 3 << 20, "far"}}
	src := disk(t, 24<<20+512, spots...)
	spots[1].at += 4096
	other := disk(t, 24<<20+512, spots...)
	want := qcow2With(t, src, "")
	store := filepath.Join(t.TempDir(), "clusters")
	for _, when := range []string{"empty", "full"} {
		if got := qcow2With(t, src, store); got != want {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	if got, _ := os.ReadDir(store); len(got) != 1 {
		t.Errorf("the same disk twice made %v", got)
	}
	if got := qcow2With(t, other, store); got == want {
		t.Error("another disk became the same")
	}
	made, _ := filepath.Glob(filepath.Join(store, "*"))
	if len(made) != 2 {
		t.Errorf("two disks made %q", made)
	}
	if got := qcow2With(t, src, store); got != want {
		t.Errorf("after another: %+v, want %+v", got, want)
	}
	for _, path := range made {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("damage"), 1000); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if got := qcow2With(t, src, store); got != want {
		t.Errorf("damaged: %+v, want %+v", got, want)
	}
}

// Clusters that are kept are those that are written, and another deflater's are
// left alone.
func TestClustersAreUsed(t *testing.T) {
	store := t.TempDir()
	src := disk(t, 2<<20, spot{0, 1 << 20, "text"}, spot{1 << 20, 1 << 20, "noise"})
	f, err := os.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pack := func() (fresh int) {
		s, err := openStore(store)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		next, stop := batches(f, 2<<20)
		defer stop()
		w, err := newDeflate()
		if err != nil {
			t.Fatal(err)
		}
		b := &batch{plain: make([]byte, batchClusters*clusterSize)}
		for {
			more, err := next(b)
			if err == nil && more {
				err = b.pack(w, s)
			}
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				if err := s.Commit(); err != nil {
					t.Fatal(err)
				}
				return fresh
			}
			b.keep(s)
			for _, is := range b.fresh {
				if is {
					fresh++
				}
			}
		}
	}
	for _, c := range []struct {
		deflater string
		fresh    int
	}{{"a", 32}, {"a", 0}, {"b", 32}, {"a", 0}, {"b", 0}} {
		knownDeflater(t, c.deflater)
		if got := pack(); got != c.fresh {
			t.Errorf("%s deflates %d clusters, want %d", c.deflater, got, c.fresh)
		}
	}
	knownDeflater(t, "")
	if s, err := openStore(store); s != nil || err != nil {
		t.Errorf("with an unknown deflater: %v, %v", s, err)
	}
}
