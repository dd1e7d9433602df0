package writelog

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// record makes a record with sectors of 512 bytes. An entry without flags has
// its number in every byte of its data.
func record(entries ...Entry) []byte {
	le := binary.LittleEndian
	b := make([]byte, 512)
	le.PutUint64(b, magic)
	le.PutUint64(b[8:], version)
	le.PutUint64(b[16:], uint64(len(entries)))
	le.PutUint32(b[24:], 512)
	for i, e := range entries {
		h := make([]byte, 512)
		le.PutUint64(h, e.Sector)
		le.PutUint64(h[8:], e.Sectors)
		le.PutUint64(h[16:], uint64(e.Flags))
		b = append(b, h...)
		if e.Flags&(Discard|Mark) == 0 {
			b = append(b, bytes.Repeat([]byte{byte(i + 1)}, int(e.Sectors)*512)...)
		}
	}
	return b
}

func parse(t *testing.T, b []byte) *Log {
	t.Helper()
	l, err := Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestRead(t *testing.T) {
	good := record(Entry{Sector: 8, Sectors: 2}, Entry{Flags: Mark}, Entry{Sector: 1, Sectors: 7, Flags: Discard}, Entry{Flags: Flush}, Entry{Sector: 3, Sectors: 1, Flags: FUA})
	l := parse(t, good)
	want := []Entry{{8, 2, 0, 1024}, {0, 0, Mark, 2560}, {1, 7, Discard, 3072}, {0, 0, Flush, 3584}, {3, 1, FUA, 4096}}
	if len(l.Entries) != len(want) {
		t.Fatalf("%+v", l.Entries)
	}
	for i := range want {
		if l.Entries[i] != want[i] {
			t.Errorf("entry %d is %+v, want %+v", i, l.Entries[i], want[i])
		}
	}
	if b, err := l.Content(4); err != nil || !bytes.Equal(b, bytes.Repeat([]byte{5}, 512)) {
		t.Errorf("content: %v, %v", b, err)
	}
	// One that is still being written has more than its super block says.
	more := append(bytes.Clone(good), "and so on"...)
	if n := len(parse(t, more).Entries); n != 5 {
		t.Errorf("%d entries", n)
	}
	change := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want string
	}{
		{"nothing", nil, "unexpected EOF"},
		{"another file", []byte("QFI\xfb" + strings.Repeat("\x00", 100)), "begins with"},
		{"another version", change(8, 2), "version 2"},
		{"sectors of 513 bytes", change(24, 1), "513 bytes"},
		{"an unknown flag", change(512+16, 32), "no flag 0x20"},
		{"far away", change(512+7, 0x80), "on no disk"},
		{"cut in data", good[:1400], "entry 0 of 5, at 1024: unexpected EOF"},
		{"cut in an entry", good[:3700], "entry 4 of 5, at 3584: unexpected EOF"},
		{"a long mark", change(2048+25, 2), "a mark has 512 bytes"},
	} {
		if _, err := Read(bytes.NewReader(tt.b), int64(len(tt.b))); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// QEMU itself writes the record here.
func TestQEMU(t *testing.T) {
	dir := t.TempDir()
	disk, log := filepath.Join(dir, "disk"), filepath.Join(dir, "log")
	for name, size := range map[string]int64{disk: 1 << 20, log: 0} {
		if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("qemu-io", "--image-opts", "-t", "writeback", "-d", "unmap",
		"-c", "write -P 1 0 64k", "-c", "write -P 2 4k 1k", "-c", "flush", "-c", "write -P 3 8k 4k", "-c", "discard 32k 32k", "-c", "write -z 16k 4k",
		"driver=blklogwrites,file.driver=file,file.filename="+disk+",file.discard=unmap,log.driver=file,log.filename="+log+",log-sector-size=512,log-super-update-interval=1").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	l := parse(t, b)
	got := &memory{make([]byte, 1<<20)}
	d, err := NewDisk(l, got, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	// It flushes at its end, so that everything is there for good.
	if n := len(l.Entries); l.Settled(n) < n-1 {
		t.Fatalf("%d of %d are settled: %+v", l.Settled(n), n, l.Entries)
	}
	if err := d.To(Point{Entries: len(l.Entries)}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.b, want) {
		t.Error("the replayed disk is another one than QEMU's")
	}
	if want[4096] != 2 || want[8192] != 3 || want[0] != 1 || want[40000] != 0 || want[16384] != 0 {
		t.Errorf("QEMU has not done what it was told: %d %d %d %d %d", want[4096], want[8192], want[0], want[40000], want[16384])
	}
	if i := l.Settled(3); i != 3 || l.Entries[2].Flags != Flush {
		t.Errorf("the flush is not the third entry: %+v", l.Entries)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(record(Entry{Sector: 8, Sectors: 2}, Entry{Flags: Flush}, Entry{Flags: Mark}, Entry{Sector: 1, Sectors: 7, Flags: Discard}, Entry{Sector: 3, Sectors: 1, Flags: FUA}), uint64(1), 3)
	f.Add(record(), uint64(0), 0)
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, n int) {
		l, err := Read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		const size = 1 << 16
		m := &memory{make([]byte, size)}
		d, err := NewDisk(l, m, size)
		if err != nil {
			return
		}
		if n = min(max(n, 0), len(l.Entries)); n > 0 && l.Entries[n-1].Flags&Mark == 0 {
			if _, err := l.Content(n - 1); err != nil {
				t.Errorf("content: %v", err)
			}
		}
		if err := d.To(Point{n, seed}); err != nil {
			t.Errorf("replaying: %v", err)
		}
		if err := d.To(Point{len(l.Entries), seed}); err != nil {
			t.Errorf("replaying on: %v", err)
		}
	})
}
