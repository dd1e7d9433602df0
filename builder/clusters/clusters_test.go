package clusters

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func key(i int) Key { return sha256.Sum256(fmt.Append(nil, "plain ", i)) }

// data is what cluster i deflates to; of some, nothing.
func data(i int) []byte {
	if i%5 == 4 {
		return nil
	}
	return bytes.Repeat(fmt.Append(nil, i), 100+i)
}

func open(t *testing.T, dir, coder string) *Store {
	t.Helper()
	s, err := Open(dir, coder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// fill makes a pack of the clusters from first up to end.
func fill(t *testing.T, dir, coder string, first, end int) {
	t.Helper()
	s := open(t, dir, coder)
	for i := first; i < end; i++ {
		s.Add(key(i), data(i))
		s.Add(key(i), []byte("twice"))
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
}

func packs(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, e := range entries {
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	return paths
}

// missing says which of the first n clusters s has not; a wrong one is an error.
func missing(t *testing.T, s *Store, n int) []int {
	t.Helper()
	var none []int
	for i := range n {
		got, ok := s.Get(key(i), []byte("before "))
		want := "before "
		if ok {
			want += string(data(i))
		} else {
			none = append(none, i)
		}
		if string(got) != want {
			t.Errorf("cluster %d is %.30q, want %.30q", i, got, want)
		}
	}
	return none
}

func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "clusters")
	if got := missing(t, open(t, dir, "a"), 3); len(got) != 3 {
		t.Errorf("an empty store has not %v", got)
	}
	fill(t, dir, "a", 0, 10)
	fill(t, dir, "a", 10, 13)
	fill(t, dir, "b", 13, 14)
	all := packs(t, dir)
	if len(all) != 3 {
		t.Errorf("there is %q", all)
	}
	n := 0
	for _, path := range all {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		if want := hex.EncodeToString(sum[:]) + Suffix; filepath.Base(path) != want {
			t.Errorf("%s has the sum of %s", path, want)
		}
		more, err := Count(path)
		if err != nil {
			t.Error(err)
		}
		n += more
	}
	if n != 14 {
		t.Errorf("%d clusters, want 14", n)
	}
	others := filepath.Join(dir, "notes"+Suffix)
	if err := os.WriteFile(others, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, "a")
	if _, err := os.Stat(others); err != nil {
		t.Errorf("what others put there: %v", err)
	}
	if got := fmt.Sprint(missing(t, s, 15)); got != "[13 14]" {
		t.Errorf("coder a has not %s", got)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { missing(t, s, 15) })
	}
	wg.Wait()
	if got := len(missing(t, open(t, dir, "b"), 15)); got != 14 {
		t.Errorf("coder b has not %d", got)
	}
}

// What one disk used is kept longer than what it did not.
func TestUse(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, "a", 0, 1)
	one := packs(t, dir)[0]
	fill(t, dir, "a", 1, 2)
	long := time.Now().Add(-time.Hour)
	for _, path := range packs(t, dir) {
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir, "a")
	if _, ok := s.Get(key(0), nil); !ok {
		t.Error("cluster 0 is not there")
	}
	if err := s.Commit(); err != nil {
		t.Error(err)
	}
	for _, path := range packs(t, dir) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if now := info.ModTime().After(long.Add(time.Minute)); now != (path == one) {
			t.Errorf("%s was last used at %v", path, info.ModTime())
		}
	}
}

// A byte that changed anywhere never comes out, and its pack goes.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, "a", 0, 6)
	path := packs(t, dir)[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x10
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, "a")
		if got := missing(t, s, 6); len(got) == 0 {
			t.Fatalf("byte %d changed, and nothing is missing", at)
		}
		s.Close()
		if left := packs(t, dir); len(left) != 0 {
			t.Fatalf("byte %d changed, and there is %q", at, left)
		}
	}
	for _, cut := range []int{0, 1, trailerSize - 1, trailerSize, len(whole) - 1} {
		if err := os.WriteFile(path, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		if got := missing(t, open(t, dir, "a"), 6); len(got) != 6 {
			t.Errorf("cut to %d, and only %v are missing", cut, got)
		}
	}
}

// A place that cannot be written keeps nothing and stops nobody.
func TestUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(*Store){
		"nothing is added": func(*Store) {},
		"something is":     func(s *Store) { s.Add(key(0), data(0)) },
	} {
		s, err := Open(filepath.Join(filepath.Dir(file), "none"), "a")
		if err != nil {
			t.Fatal(err)
		}
		s.dir = filepath.Join(file, "below")
		do(s)
		if err, want := s.Commit(), name == "something is"; (err != nil) != want {
			t.Errorf("%s: %v", name, err)
		}
		s.Close()
	}
	var none *Store
	none.Add(key(0), nil)
	if _, ok := none.Get(key(0), nil); ok || none.Commit() != nil {
		t.Error("no store has something")
	}
	none.Close()
}

// What was not committed leaves nothing.
func TestClose(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "a")
	s.Add(key(0), data(0))
	s.Close()
	if left := packs(t, dir); len(left) != 0 {
		t.Errorf("there is %q", left)
	}
}

// Not more packs are open than may be, and those used last come first.
func TestManyPacks(t *testing.T) {
	dir := t.TempDir()
	for i := range maxPacks + 2 {
		before := packs(t, dir)
		fill(t, dir, "a", i, i+1)
		for _, path := range packs(t, dir) {
			if !strings.Contains(strings.Join(before, " "), path) {
				when := time.Now().Add(time.Duration(i-1000) * time.Minute)
				if err := os.Chtimes(path, when, when); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if got := fmt.Sprint(missing(t, open(t, dir, "a"), maxPacks+2)); got != "[0 1]" {
		t.Errorf("%s are missing", got)
	}
}

func FuzzIndex(f *testing.F) {
	x := index{records: []record{{key(0), 0, 3, 1}, {key(1), 3, 0, 2}}}
	f.Add(append([]byte("abc"), x.encode()...))
	f.Add((&index{}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := readIndex(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if end := x.encode(); !bytes.HasSuffix(b, end) {
			t.Errorf("%x was read from %x", end, b)
		}
	})
}
