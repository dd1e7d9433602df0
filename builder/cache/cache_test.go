package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/clusters"
)

// put puts an entry of a kind whose names are hashes into the cache, used a
// while ago.
func put(t *testing.T, dir, kind, text string, ago time.Duration) string {
	t.Helper()
	k := lookup(kind)
	path := filepath.Join(dir, k.dir, fmt.Sprintf("%x", sha256.Sum256([]byte(text)))+k.suffix)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	used(t, path, ago)
	return path
}

func used(t *testing.T, path string, ago time.Duration) {
	t.Helper()
	at := time.Now().Add(-ago)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

var keyA, keyB = strings.Repeat("a", 64), strings.Repeat("b", 64)

func makeLayer(t *testing.T, dir, key, text string) string {
	t.Helper()
	err := MakeLayer(t.Context(), dir, key, Record{Kind: "files", Platform: "generic", Inputs: []Input{{Name: "x", Sum: text}}}, func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return LayerPath(dir, key)
}

// makePack makes a pack of two clusters and gives its size.
func makePack(t *testing.T, dir string) int64 {
	t.Helper()
	s, err := clusters.Open(ClustersPath(dir), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Add(clusters.Key{1}, []byte("one"))
	s.Add(clusters.Key{2}, []byte("two"))
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	made, err := filepath.Glob(filepath.Join(dir, "clusters", "*"))
	if err != nil || len(made) != 1 {
		t.Fatalf("%q, %v", made, err)
	}
	info, err := os.Stat(made[0])
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func names(t *testing.T, dir string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			found = append(found, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestLayer(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := OpenLayer(dir, keyA); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no layer: %v", err)
	}
	path := makeLayer(t, dir, keyA, "first")
	used(t, path, time.Hour)
	f, r, err := OpenLayer(dir, keyA)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := r.Check(t.Context(), f); err != nil || r.Kind != "files" || r.Size != 5 || r.SHA256 != fmt.Sprintf("%x", sha256.Sum256([]byte("first"))) {
		t.Errorf("record %+v, %v", r, err)
	}
	if info, err := os.Stat(path); err != nil || time.Since(info.ModTime()) > time.Minute {
		t.Errorf("the use was not noted: %v", err)
	}
	// Of two that were made for one key the first stays, with its own record.
	makeLayer(t, dir, keyA, "other")
	if b, err := os.ReadFile(path); err != nil || string(b) != "first" {
		t.Errorf("the layer became %q, %v", b, err)
	}
	// One that lost its record, or has that of another, is not used.
	if err := os.Remove(recordPath(path)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenLayer(dir, keyA); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a layer without a record: %v", err)
	}
	makeLayer(t, dir, keyA, "again")
	if b, err := os.ReadFile(path); err != nil || string(b) != "again" {
		t.Errorf("the layer without a record stayed: %q, %v", b, err)
	}
	var damaged *DamagedError
	if err := os.WriteFile(path, []byte("agaim"), 0o644); err != nil {
		t.Fatal(err)
	}
	g, r, err := OpenLayer(dir, keyA)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := r.Check(t.Context(), g); !errors.As(err, &damaged) {
		t.Errorf("a changed byte: %v", err)
	}
	for _, broken := range []string{"", "{", `{"schema": 2}`, `{"schema": 1, "size": -1}`} {
		if err := os.WriteFile(recordPath(path), []byte(broken), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := OpenLayer(dir, keyA); !errors.As(err, &damaged) {
			t.Errorf("record %q: %v", broken, err)
		}
	}
	if err := DropLayer(dir, keyA); err != nil {
		t.Fatal(err)
	}
	if left := names(t, dir); left != nil {
		t.Errorf("left: %q", left)
	}
}

// Bakes that make the same layer at the same time leave one with its record,
// whatever they made.
func TestLayersMadeAtOnce(t *testing.T) {
	dir := t.TempDir()
	done := make(chan error)
	for i := range 16 {
		go func() {
			done <- MakeLayer(context.Background(), dir, keyA, Record{}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "made by %02d", i)
				return err
			})
		}()
	}
	for range 16 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if r, err := Verify(t.Context(), dir, false); err != nil || r.Entries != 1 || len(r.Damaged) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if left := names(t, dir); len(left) != 2 {
		t.Errorf("there are %q", left)
	}
}

func TestListing(t *testing.T) {
	dir := t.TempDir()
	totals, err := Totals(dir)
	if err != nil || len(totals) != 5 || totals[0].Entries != 0 || totals[0].Used != nil {
		t.Errorf("of nothing: %+v, %v", totals, err)
	}
	makeLayer(t, dir, keyA, "layer")
	put(t, dir, "packages", "no package", time.Hour)
	pack := makePack(t, dir)
	for text := range map[string]int{`{"manifests": []}`: 1, `{"layers": []}`: 1, `{"rootfs": {}}`: 1, "\x1f\x8b\x08\x00": 1, "\x28\xb5\x2f\xfd": 1, "{}": 1, "{": 1} {
		put(t, dir, "blobs", text, 0)
	}
	for _, name := range []string{"blobs/sha256/README", "packages/sha256/" + keyA, "layers/" + strings.ToUpper(keyB) + ".tar", "test/x"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("of others"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if totals, err = Totals(dir); err != nil || totals[0].Entries != 1 || totals[1].Entries != 1 || totals[1].Size != 10 || totals[2].Entries != 7 || totals[3].Entries != 1 || totals[3].Size != pack || totals[4].Entries != 0 {
		t.Errorf("%+v, %v", totals, err)
	}
	entries, err := List(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var what []string
	for _, e := range entries {
		what = append(what, e.What)
	}
	slices.Sort(what)
	if want := []string{"", "", "", "2 clusters of qcow2, deflated", "files for generic", "image config", "image index", "image layer, gzip", "image layer, zstd", "image manifest"}; !slices.Equal(what, want) {
		t.Errorf("got  %q\nwant %q", what, want)
	}
}

func TestChoose(t *testing.T) {
	now := time.Now()
	entry := func(name string, size int64, days int) Entry {
		return Entry{Name: name, Size: size, Used: now.AddDate(0, 0, -days)}
	}
	left := []Entry{entry("left", 1000, 0)}
	all := []Entry{entry("new", 10, 1), entry("oldest", 20, 40), entry("old", 30, 20)}
	for _, c := range []struct {
		name string
		Cleaning
		want string
	}{
		{"leftovers alone", Cleaning{Keep: -1}, "left"},
		{"all of it", Cleaning{Keep: 0}, "left oldest old new"},
		{"what fits", Cleaning{Keep: 60}, "left"},
		{"the last used stays", Cleaning{Keep: 59}, "left oldest"},
		{"and more", Cleaning{Keep: 39}, "left oldest old"},
		{"by age", Cleaning{Keep: -1, Older: 30 * 24 * time.Hour}, "left oldest"},
		{"by both", Cleaning{Keep: 15, Older: 30 * 24 * time.Hour}, "left oldest old"},
	} {
		var got []string
		for _, r := range choose(left, all, c.Cleaning, now) {
			got = append(got, r.Name)
			if r.Why == "" {
				t.Errorf("%s: no reason", c.name)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q go, want %s", c.name, got, c.want)
		}
	}
}

func TestClean(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b]*c") // as it is, not as a pattern
	old := put(t, dir, "blobs", "old", 100*24*time.Hour)
	put(t, dir, "clusters", "old", 100*24*time.Hour)
	made := makeLayer(t, dir, keyA, "layer")
	recordOnly, layerOnly := makeLayer(t, dir, strings.Repeat("c", 64), "x"), makeLayer(t, dir, keyB, "y")
	for _, path := range []string{recordOnly, recordPath(layerOnly)} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"base-12.tar", "layers/.x.tar.1.0.part", "packages/incoming-1/file", "blobs/sha256/.y.part", "clusters/.z.part", "test/keep"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("part"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := names(t, dir)
	would, err := Clean(t.Context(), dir, Cleaning{Keep: -1, Older: time.Hour, DryRun: true})
	if err != nil || len(would) != 9 {
		t.Errorf("would remove %+v, %v", would, err)
	}
	if now := names(t, dir); !slices.Equal(before, now) {
		t.Errorf("a look changed something: %q", now)
	}
	// A bake that runs keeps everything, and a second one does not mind.
	release, err := Use(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Use(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	second()
	var busy *InUseError
	if gone, err := Clean(t.Context(), dir, Cleaning{Keep: 0}); !errors.As(err, &busy) || gone != nil {
		t.Errorf("removed during a bake: %v, %v", gone, err)
	}
	release()
	gone, err := Clean(t.Context(), dir, Cleaning{Keep: -1, Older: time.Hour})
	if err != nil || len(gone) != 9 {
		t.Errorf("removed %+v, %v", gone, err)
	}
	rel, _ := filepath.Rel(dir, made)
	want := []string{strings.TrimSuffix(rel, ".tar") + ".json", rel, "test/keep"}
	if now := names(t, dir); !slices.Equal(now, want) {
		t.Errorf("there are %q, without %s, want %q", now, old, want)
	}
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	made := makeLayer(t, dir, keyA, "layer")
	deb := put(t, dir, "packages", "package", 0)
	blob := put(t, dir, "blobs", "blob", 0)
	pack := put(t, dir, "clusters", "pack", 0)
	if r, err := Verify(t.Context(), dir, true); err != nil || r.Entries != 4 || len(r.Damaged) != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, path := range []string{made, deb, blob, pack} {
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, bytes.ToUpper(b), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := Verify(t.Context(), dir, false)
	if err != nil || len(r.Damaged) != 4 || r.Damaged[0].What != "files for generic" || r.Damaged[0].Removed {
		t.Errorf("%+v, %v", r, err)
	}
	release, err := Use(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var busy *InUseError
	if r, err = Verify(t.Context(), dir, true); !errors.As(err, &busy) || len(r.Damaged) != 4 {
		t.Errorf("during a bake: %+v, %v", r, err)
	}
	release()
	if r, err = Verify(t.Context(), dir, true); err != nil || !r.Damaged[3].Removed {
		t.Errorf("%+v, %v", r, err)
	}
	if left := names(t, dir); left != nil {
		t.Errorf("left: %q", left)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	makeLayer(t, dir, keyA, "layer")
	if _, err := Verify(ctx, dir, false); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// What bakes made is not in a fresh cache; what they fetched is.
func TestFresh(t *testing.T) {
	dir := t.TempDir()
	makeLayer(t, dir, keyA, "layer")
	makePack(t, dir)
	put(t, dir, "packages", "package", 0)
	put(t, dir, "blobs", "blob", 0)
	fresh, release, err := Fresh(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	totals, err := Totals(fresh)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range totals {
		if want := map[string]int{"packages": 1, "blobs": 1}[k.Kind]; k.Entries != want {
			t.Errorf("%d %s, want %d", k.Entries, k.Kind, want)
		}
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(fresh); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the fresh cache stays: %v", err)
	}
}

// A bake that comes while the cache is cleaned waits, and says for what when
// that takes too long.
func TestUseWaits(t *testing.T) {
	dir := t.TempDir()
	release, err := alone(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := waitFor(t.Context(), f, 1 /* LOCK_SH */, time.Nanosecond); err == nil {
		t.Error("a lock that another has was given")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Use(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	go release()
	use, err := Use(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	use()
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"schema": 1, "kind": "base", "size": 3, "sha256": "` + keyA + `", "crc32c": 1, "inputs": [{"name": "a", "parts": [{"name": "b"}]}]}`))
	dir := f.TempDir()
	path := LayerPath(dir, keyA)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(recordPath(path), b, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := readRecord(path)
		var damaged *DamagedError
		if err != nil && !errors.As(err, &damaged) || err == nil && r.Size < 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
