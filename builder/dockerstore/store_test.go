package dockerstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/prose-im/prose-image/builder/dockerstore/imagetest"
	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// stash puts an image of uncompressed layers into a cache.
func stash(t testing.TB, dir, ref string, layers ...[]byte) Pinned {
	t.Helper()
	c := cache{dir}
	put := func(b []byte) string {
		if _, err := c.put(digestOf(b), int64(len(b)), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		return digestOf(b)
	}
	m := manifest{SchemaVersion: 2, MediaType: ociManifest}
	ids := []string{}
	for _, l := range layers {
		m.Layers = append(m.Layers, descriptor{MediaType: dockerTar, Digest: put(l), Size: int64(len(l))})
		ids = append(ids, digestOf(l))
	}
	config := fmt.Sprintf(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["%s"]},"x":%q}`, strings.Join(ids, `","`), ref)
	if len(ids) == 0 {
		config = strings.Replace(config, `[""]`, `[]`, 1)
	}
	m.Config = descriptor{MediaType: dockerConfig, Digest: put([]byte(config)), Size: int64(len(config))}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	digest := put(raw)
	return Pinned{Reference: ref, Digest: digest, Manifest: digest}
}

func write(ctx context.Context, out io.Writer, dir string, images ...Pinned) error {
	w, err := layer.NewWriter(out, nil)
	if err != nil {
		return err
	}
	if err := Write(ctx, w, images, Options{Cache: dir, Root: "docker", Time: made}); err != nil {
		return err
	}
	return w.Close()
}

func writeTree(t *testing.T, dir string, images ...Pinned) *tree.Tree {
	t.Helper()
	var b bytes.Buffer
	if err := write(t.Context(), &b, dir, images...); err != nil {
		t.Fatal(err)
	}
	l, err := layer.Read("containers", bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Merge(l)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func testLayers(t testing.TB) (base, own, other []byte) {
	return imagetest.Tar(t, imagetest.Dir("etc"), imagetest.File("etc/a", "a"), imagetest.HardLink("b", "etc/a"), imagetest.Symlink("c", "b")),
		imagetest.Tar(t, imagetest.File("etc/.wh.a", ""), imagetest.File("d", "own")),
		imagetest.Tar(t, imagetest.File("d", "other"))
}

// The whole of a small store, as text: what the engine finds.
func TestStore(t *testing.T) {
	dir := t.TempDir()
	base, own, other := testLayers(t)
	a, b := stash(t, dir, "proseim/a:1", base, own), stash(t, dir, "example.test/b", base, other)
	none := stash(t, dir, "none:2")
	tr := writeTree(t, dir, b, none, a)

	baseChain := digestOf(base)
	ownChain := digestOf([]byte(baseChain + " " + digestOf(own)))
	otherChain := digestOf([]byte(baseChain + " " + digestOf(other)))
	read := func(p string) string {
		content, err := tr.ReadFile("docker/" + p)
		if err != nil {
			t.Error(err)
		}
		return string(content)
	}
	hex := func(digest string) string { return strings.TrimPrefix(digest, digestPrefix) }
	for _, p := range []Pinned{a, b, none} {
		full, err := load(cache{dir}, p)
		if err != nil {
			t.Fatal(err)
		}
		if got := digestOf([]byte(read("image/overlay2/imagedb/content/sha256/" + hex(full.Config)))); got != full.Config {
			t.Errorf("config of %s has the digest %s", p.Reference, got)
		}
	}
	configOf := func(p Pinned) string {
		full, err := load(cache{dir}, p)
		if err != nil {
			t.Fatal(err)
		}
		return full.Config
	}
	want := fmt.Sprintf(`{"Repositories":{"example.test/b":{"example.test/b:latest":%q,%q:%q},"none":{"none:2":%q,%q:%q},"proseim/a":{"proseim/a:1":%q,%q:%q}}}`,
		configOf(b), "example.test/b@"+b.Digest, configOf(b), configOf(none), "none@"+none.Digest, configOf(none), configOf(a), "proseim/a@"+a.Digest, configOf(a))
	if got := read("image/overlay2/repositories.json"); got != want {
		t.Errorf("repositories.json\n%s\nwant\n%s", got, want)
	}
	if got := tr.Children("docker/image/overlay2/layerdb/sha256"); len(got) != 3 {
		t.Errorf("layers %v, want three: the base is shared", got)
	}
	links := map[string]string{}
	for chain, diffID := range map[string]string{baseChain: digestOf(base), ownChain: digestOf(own), otherChain: digestOf(other)} {
		db := "image/overlay2/layerdb/sha256/" + hex(chain) + "/"
		if got := read(db + "diff"); got != diffID {
			t.Errorf("diff of %s is %q", chain, got)
		}
		home := "overlay2/" + read(db+"cache-id") + "/"
		links[chain] = read(home + "link")
		if len(links[chain]) != 26 {
			t.Errorf("link %q", links[chain])
		}
		if n, ok := tr.Lookup("docker/overlay2/l/" + links[chain]); !ok || n.Target != "../"+path.Base(home)+"/diff" {
			t.Errorf("overlay2/l/%s: %+v", links[chain], n)
		}
		if n, ok := tr.Lookup("docker/" + home + "committed"); !ok || n.Size != 0 || n.Mode != 0o600 {
			t.Errorf("committed of %s: %+v", chain, n)
		}
		_, hasParent := tr.Lookup("docker/" + db + "parent")
		_, hasLower := tr.Lookup("docker/" + home + "lower")
		_, hasWork := tr.Lookup("docker/" + home + "work")
		if child := chain != baseChain; hasParent != child || hasLower != child || hasWork != child {
			t.Errorf("%s: parent %v, lower %v, work %v", chain, hasParent, hasLower, hasWork)
		}
	}
	db := "image/overlay2/layerdb/sha256/" + hex(ownChain) + "/"
	home := "overlay2/" + read(db+"cache-id") + "/"
	if got := read(db + "parent"); got != baseChain {
		t.Errorf("parent %q", got)
	}
	if got := read(home + "lower"); got != "l/"+links[baseChain] {
		t.Errorf("lower %q", got)
	}
	if got := read(db + "size"); got != "3" {
		t.Errorf("size %q", got)
	}
	if got := read("image/overlay2/layerdb/sha256/" + hex(baseChain) + "/size"); got != "2" {
		t.Errorf("size %q of a file with two names and a symlink of one byte", got)
	}

	// From the record and the files the engine makes the layer anew.
	z, err := gzip.NewReader(strings.NewReader(read("image/overlay2/layerdb/sha256/" + hex(baseChain) + "/tar-split.json.gz")))
	if err != nil {
		t.Fatal(err)
	}
	diffDir := "overlay2/" + read("image/overlay2/layerdb/sha256/"+hex(baseChain)+"/cache-id") + "/diff/"
	again := asm.NewOutputTarStream(getter(func(name string) string { return read(diffDir + path.Clean(name)) }), storage.NewJSONUnpacker(z))
	defer again.Close()
	if got, err := io.ReadAll(again); err != nil || !bytes.Equal(got, base) {
		t.Errorf("the layer made anew has %d bytes and the digest %s, want %s: %v", len(got), digestOf(got), digestOf(base), err)
	}

	// Nothing of ours has another time than the one given.
	err = tr.Walk(func(p string, n *tree.Inode) error {
		if !strings.Contains(p, "/diff/") && p != "." && !n.ModTime.Equal(made) {
			t.Errorf("%s has the time %s", p, n.ModTime)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

type getter func(name string) string

func (g getter) Get(name string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(g(name))), nil
}

// Equal images give equal bytes in any order. The sum changes only when the
// store is meant to: not with the release of Go, nor with the host.
func TestDeterminism(t *testing.T) {
	const want = "ed26d671ce2723a0937597615ef60a8dcf6b9db6e62ec4e3c74fc196b5cc4fb6"
	dir := t.TempDir()
	base, own, other := testLayers(t)
	images := []Pinned{stash(t, dir, "proseim/a:1", base, own), stash(t, dir, "example.test/b", base, other), stash(t, dir, "c:1", base, own, other)}
	h := sha256.New()
	err := writeTree(t, dir, images...).Walk(func(p string, n *tree.Inode) error {
		fmt.Fprintf(h, "%q %s %o %d %d %d %d %q %d %d %v %d\n", p, n.Type, n.Mode, n.UID, n.GID, n.ModTime.UnixNano(), n.Size, n.Target, n.Major, n.Minor, n.Xattrs, n.Links)
		_, err := io.Copy(h, n.Open())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != want {
		t.Errorf("the store has the sum %s, want %s", got, want)
	}
	var one, two bytes.Buffer
	if err := write(t.Context(), &one, dir, images...); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(images)
	if err := write(t.Context(), &two, dir, append(images, images[0])...); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("another order of the images gives another layer")
	}
}

// What a layer is compressed with does not show, but for the digest of its
// blob.
func TestCompression(t *testing.T) {
	base, _, _ := testLayers(t)
	var trees []string
	for _, l := range []interface {
		Compressed() (io.ReadCloser, error)
	}{imagetest.Plain(t, base), imagetest.Gzip(t, base), imagetest.Zstd(t, base)} {
		dir := t.TempDir()
		p := stash(t, dir, "a", base)
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		blob, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		// The reader tells by the bytes, so the blob may stand in for the plain one.
		file, err := cache{dir}.path(digestOf(base))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, blob, 0o644); err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		if err := write(t.Context(), h, dir, p); err != nil {
			t.Fatal(err)
		}
		trees = append(trees, fmt.Sprintf("%x", h.Sum(nil)))
	}
	if trees[0] != trees[1] || trees[0] != trees[2] {
		t.Errorf("plain, gzip and zstd give %v", trees)
	}
}

func TestWriteRefuses(t *testing.T) {
	dir := t.TempDir()
	base, own, other := testLayers(t)
	good := stash(t, dir, "a:1", base, own)
	refuse := func(what string, want string, images ...Pinned) error {
		t.Helper()
		err := write(t.Context(), io.Discard, dir, images...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", what, want, err)
		}
		return err
	}

	refuse("two images of one name", "a:1 is two images", good, stash(t, dir, "a:1", base, other))
	locked := good
	locked.Reference = "a@" + someDigest
	var wrong *DigestError
	if err := refuse("a lock of another digest", someDigest, locked); !errors.As(err, &wrong) || wrong.Want != someDigest {
		t.Errorf("got %v", err)
	}
	locked = good
	locked.Manifest = someDigest
	var missing *NotCachedError
	if err := refuse("no manifest", dir, locked); !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}
	locked.Manifest = "../../etc/passwd"
	refuse("a path for a digest", "not a digest", locked)

	var many [][]byte
	for i := range maxLayers {
		many = append(many, imagetest.Tar(t, imagetest.File(fmt.Sprint(i), "")))
	}
	if err := write(t.Context(), io.Discard, dir, stash(t, dir, "deep", many...)); err != nil {
		t.Error(err)
	}
	refuse("too many layers", "at most 125", stash(t, dir, "deeper", append(slices.Clone(many), base)...))

	var twice *DuplicateError
	if err := refuse("a path twice", "comes twice", stash(t, dir, "twice", imagetest.Tar(t, imagetest.File("f", ""), imagetest.File("f", "")))); !errors.As(err, &twice) {
		t.Errorf("got %v", err)
	}
	// tar-split sees these as one name too, and could not write them twice.
	if err := refuse("the root twice", "comes twice", stash(t, dir, "root", imagetest.Tar(t, imagetest.Dir("./"), imagetest.Dir(".")))); !errors.As(err, &twice) {
		t.Errorf("got %v", err)
	}
	refuse("a hole of a terabyte", "sparse", stash(t, dir, "bomb", bomb(t, 1<<40)))
	refuse("no tar", "reading layer", stash(t, dir, "junk", bytes.Repeat([]byte("junk"), 1000)))
	refuse("a tar cut off", "EOF", stash(t, dir, "short", base[:600]))

	replace := func(blob []byte) {
		file, err := cache{dir}.path(digestOf(own))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, blob, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	replace(other)
	if err := refuse("another layer", digestOf(other), good); !errors.As(err, &wrong) || wrong.Want != digestOf(own) {
		t.Errorf("got %v", err)
	}
	// The tar is the same to its end, and goes on.
	replace(append(slices.Clone(own), "tail"...))
	if err := refuse("a layer with a tail", "has digest", good); !errors.As(err, &wrong) {
		t.Errorf("got %v", err)
	}
	file, err := cache{dir}.path(digestOf(own))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := refuse("no layer", dir, good); !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}

}

func TestWriteStops(t *testing.T) {
	dir := t.TempDir()
	p := stash(t, dir, "big", imagetest.Tar(t, imagetest.File("big", strings.Repeat("x", 32<<20))))
	stopped := errors.New("stopped by a test")
	ctx, cancel := context.WithCancelCause(t.Context())
	out := &stopper{stop: func() { cancel(stopped) }}
	if err := write(ctx, out, dir, p); !errors.Is(err, stopped) {
		t.Errorf("got %v", err)
	}
	if out.n > 16<<20 {
		t.Errorf("it went on for %d bytes", out.n)
	}
}

// A stopper stops the writing of a layer at its first MiB.
type stopper struct {
	n    int
	stop func()
}

func (s *stopper) Write(p []byte) (int, error) {
	if s.n += len(p); s.n > 1<<20 {
		s.stop()
	}
	return len(p), nil
}

// A layer is never held in memory.
func TestMemory(t *testing.T) {
	dir := t.TempDir()
	const size = 96 << 20
	big := imagetest.Tar(t, imagetest.File("big", strings.Repeat("0123456789abcdef", size/16)))
	p := stash(t, dir, "big", big)
	big = nil
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := write(t.Context(), io.Discard, dir, p); err != nil {
		t.Fatal(err)
	}
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
		t.Errorf("writing %d MiB allocated %d MiB", size>>20, got>>20)
	}
}

func BenchmarkWrite(b *testing.B) {
	dir := b.TempDir()
	var entries []imagetest.Entry
	for i := range 5000 {
		entries = append(entries, imagetest.File(fmt.Sprintf("usr/lib/%d/%d", i%100, i), strings.Repeat(fmt.Sprint(i, " "), 4000)))
	}
	tarBytes := imagetest.Tar(b, entries...)
	p := stash(b, dir, "big", tarBytes)
	b.SetBytes(int64(len(tarBytes)))
	for b.Loop() {
		if err := write(b.Context(), io.Discard, dir, p); err != nil {
			b.Fatal(err)
		}
	}
}
