package ext4

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestNextData looks for data from every block of a file with holes, through
// sections as layers nest them: it must get ahead, and never past data.
func TestNextData(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 1 << 20
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 65536, 65536 + 4096, 500 << 10, 700<<10 + 777, size - 1} {
		if _, err := f.WriteAt([]byte("x"), at); err != nil {
			t.Fatal(err)
		}
	}
	for _, base := range []int64{0, 512, 4096, 1536} {
		r := io.NewSectionReader(io.NewSectionReader(f, base/2, size-base/2), base-base/2, size-base)
		var steps int
		for off := int64(0); off < r.Size(); off += blockSize {
			next, err := nextData(r, off)
			if err != nil {
				t.Fatal(err)
			}
			if next < off || next > r.Size() || next%blockSize != 0 && next != r.Size() {
				t.Fatalf("base %d: from %d to %d of %d", base, off, next, r.Size())
			}
			skipped := make([]byte, next-off)
			if _, err := r.ReadAt(skipped, off); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if len(bytes.Trim(skipped, "\x00")) > 0 {
				t.Fatalf("base %d: data between %d and %d was skipped", base, off, next)
			}
			if next > off {
				steps++
			}
		}
		if steps < 200 {
			t.Errorf("base %d: only %d of %d blocks were in a hole", base, steps, r.Size()/blockSize)
		}
	}
	whole := io.NewSectionReader(bytes.NewReader(make([]byte, size)), 0, size)
	if next, err := nextData(whole, blockSize); next != blockSize || err != nil {
		t.Errorf("in memory: %d, %v", next, err)
	}
}
