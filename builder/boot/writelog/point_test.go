package writelog

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// memory is a disk that has an end.
type memory struct{ b []byte }

func (m *memory) ReadAt(p []byte, at int64) (int, error) {
	return bytes.NewReader(m.b).ReadAt(p, at)
}

func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(p)) > int64(len(m.b)) {
		return 0, errors.New("beyond the end")
	}
	return copy(m.b[at:], p), nil
}

var _ File = (*memory)(nil)
var _ io.ReaderAt = (*memory)(nil)

func TestSettled(t *testing.T) {
	l := parse(t, record(Entry{Sectors: 1}, Entry{Flags: Flush}, Entry{Sectors: 1}, Entry{Sectors: 1, Flags: FUA}, Entry{Flags: Flush}, Entry{Sectors: 1}))
	for n, want := range []int{0, 0, 2, 2, 2, 5, 5, 5} {
		if got := l.Settled(n); got != want {
			t.Errorf("of %d entries %d are settled, want %d", n, got, want)
		}
	}
}

// What comes of each write, over many coins.
func TestPieces(t *testing.T) {
	// 0 settled, 1 flush, 2 of two blocks, 3 FUA, 4 discard, 5 after the point.
	l := parse(t, record(Entry{Sector: 0, Sectors: 8}, Entry{Flags: Flush}, Entry{Sector: 8, Sectors: 16}, Entry{Sector: 40, Sectors: 8, Flags: FUA},
		Entry{Sector: 48, Sectors: 8, Flags: Discard}, Entry{Sector: 56, Sectors: 8}))
	whole, lost, torn, sector := 0, 0, 0, 0
	for seed := range uint64(400) {
		p := Point{5, seed}
		all := l.Pieces(p)
		bytesOf := map[int]int64{}
		last := -1
		for _, piece := range all {
			if piece.Entry < last {
				t.Fatalf("%+v: out of order: %+v", p, all)
			}
			last = piece.Entry
			bytesOf[piece.Entry] += piece.Length
			if piece.Length == 512 {
				sector++
			}
		}
		if bytesOf[0] != 0 || bytesOf[1] != 0 || bytesOf[5] != 0 {
			t.Fatalf("%+v: pieces of what is settled or never happened: %+v", p, all)
		}
		if bytesOf[3] != 4096 {
			t.Fatalf("%+v: a write with FUA was lost: %+v", p, all)
		}
		if n := bytesOf[4]; n != 0 && n != 4096 {
			t.Fatalf("%+v: half a discard: %+v", p, all)
		}
		switch bytesOf[2] {
		case 0:
			lost++
		case 8192:
			whole++
		default:
			torn++
		}
	}
	if whole < 20 || lost < 20 || torn < 20 || sector < 20 {
		t.Errorf("whole %d, lost %d, torn %d, %d pieces of a sector", whole, lost, torn, sector)
	}
}

func TestDisk(t *testing.T) {
	l := parse(t, record(Entry{Sector: 0, Sectors: 8}, Entry{Flags: Flush}, Entry{Sector: 0, Sectors: 16}, Entry{Sector: 4, Sectors: 4}, Entry{Flags: Flush}, Entry{Sector: 0, Sectors: 2, Flags: Discard}))
	m := &memory{bytes.Repeat([]byte{9}, 16*512)}
	d, err := NewDisk(l, m, int64(len(m.b)))
	if err != nil {
		t.Fatal(err)
	}
	want := func(when string, sectors string) {
		t.Helper()
		for i := range 16 {
			if got := m.b[i*512] + '0'; got != sectors[i] {
				t.Fatalf("%s: sector %d has %c, want %c", when, i, got, sectors[i])
			}
		}
	}
	// The second write changes the disk with many coins; afterwards nothing is
	// left of that.
	changed := false
	for seed := range uint64(50) {
		if err := d.To(Point{3, seed}); err != nil {
			t.Fatal(err)
		}
		changed = changed || m.b[15*512] == 3
		if err := d.Back(); err != nil {
			t.Fatal(err)
		}
		want("taken back", "1111111199999999")
	}
	if !changed {
		t.Error("no coin has kept a write")
	}
	if err := d.To(Point{5, 1}); err != nil {
		t.Fatal(err)
	}
	want("all", "3333444433333333")
	if err := d.To(Point{3, 1}); err == nil || !strings.Contains(err.Error(), "comes after") {
		t.Errorf("going back in time: %v", err)
	}
	if _, err := NewDisk(l, m, 15*512); err == nil || !strings.Contains(err.Error(), "entry 2 has 16 sectors") {
		t.Errorf("a disk that is too small: %v", err)
	}
}
