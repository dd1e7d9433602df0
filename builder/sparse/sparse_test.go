package sparse

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// file makes a sparse file of size bytes with x at the given ranges.
func file(t *testing.T, size int64, data ...Extent) (*os.File, []byte) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, e := range data {
		if _, err := f.WriteAt(bytes.Repeat([]byte("x"), int(e.End-e.Start)), e.Start); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return f, whole
}

func TestSum(t *testing.T) {
	const size = 9<<20 + 77
	f, whole := file(t, size, Extent{5, 6}, Extent{1 << 20, 3<<20 + 5}, Extent{7 << 20, 8 << 20})
	for _, steps := range [][]int64{{size}, {0, 10, 10, 1 << 20, 2 << 20, size}, {6 << 20, 5 << 20, size}, {8<<20 + 1, size}} {
		s := NewSum(f)
		for _, end := range steps {
			if err := s.Reach(t.Context(), end); err != nil {
				t.Fatal(err)
			}
		}
		if want := sha256.Sum256(whole); !bytes.Equal(s.Sum(), want[:]) {
			t.Errorf("in steps %v it is another", steps)
		}
	}
	// What is added is not read: here the file has something else.
	s := NewSum(f)
	if err := s.Reach(t.Context(), 2<<20); err != nil {
		t.Fatal(err)
	}
	s.Add([]byte("else"))
	if err := s.Reach(t.Context(), size); err != nil {
		t.Fatal(err)
	}
	copy(whole[2<<20:], "else")
	if want := sha256.Sum256(whole); !bytes.Equal(s.Sum(), want[:]) {
		t.Error("with an addition it is another")
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := NewSum(f).Reach(ctx, size); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestExtents(t *testing.T) {
	const unit = 1 << 16
	f, _ := file(t, 40*unit+5, Extent{3*unit + 1, 3*unit + 2}, Extent{4 * unit, 5 * unit}, Extent{20 * unit, 21*unit + 1}, Extent{40 * unit, 40*unit + 5})
	var got []Extent
	for e, err := range Extents(f, 40*unit+5, unit) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if want := []Extent{{3 * unit, 5 * unit}, {20 * unit, 22 * unit}, {40 * unit, 40*unit + 5}}; len(got) != 3 || [3]Extent(got) != [3]Extent(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := Used(f, 40*unit+5); n < 3*4096 || n > 5*unit {
		t.Errorf("%d bytes are used", n)
	}
	if err := ReadAt(f, make([]byte, 10), 40*unit); err == nil {
		t.Error("it was read beyond its end")
	}
	if b := make([]byte, 3*unit+1); !IsZero(b) || IsZero(append(b, 1)) {
		t.Error("zeros are something else")
	}
}
