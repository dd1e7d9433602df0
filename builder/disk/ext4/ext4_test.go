package ext4

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

var options = Options{
	UUID:  [16]byte{0x50, 0x72, 0x6f, 0x73, 0x65, 0, 0x40, 0, 0x80, 0, 1, 2, 3, 4, 5, 6},
	Label: "root",
	Time:  time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC),
	Free:  16 << 20,
}

// A builder makes a tree out of one layer that is held in memory.
type builder struct {
	t     testing.TB
	b     bytes.Buffer
	w     *layer.Writer
	files int
}

func newBuilder(t testing.TB) *builder {
	b := &builder{t: t}
	w, err := layer.NewWriter(&b.b, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.w = w
	return b
}

func (b *builder) add(e layer.Entry, content string) {
	b.t.Helper()
	e.Size = int64(len(content))
	if e.ModTime.IsZero() {
		e.ModTime = time.Unix(1700000000, 0)
	}
	if err := b.w.Write(e, strings.NewReader(content)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *builder) dir(path string)           { b.add(layer.Entry{Path: path, Type: layer.Dir, Mode: 0o755}, "") }
func (b *builder) file(path, content string) { b.add(layer.Entry{Path: path, Mode: 0o644}, content) }

func (b *builder) tree() *tree.Tree {
	b.t.Helper()
	if err := b.w.Close(); err != nil {
		b.t.Fatal(err)
	}
	l, err := layer.Read("test", bytes.NewReader(b.b.Bytes()), int64(b.b.Len()))
	if err != nil {
		b.t.Fatal(err)
	}
	t, err := tree.Merge(l)
	if err != nil {
		b.t.Fatal(err)
	}
	return t
}

// write makes an image of the tree and has e2fsck judge it.
func write(t testing.TB, from *tree.Tree, o Options) (string, Layout) {
	t.Helper()
	l, err := Measure(from, o)
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "root.ext4")
	f, err := os.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(l.Size); err != nil {
		t.Fatal(err)
	}
	if err := Write(context.Background(), f, l); err != nil {
		t.Fatal(err)
	}
	fsck(t, p)
	return p, l
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func fsck(t testing.TB, image string) {
	t.Helper()
	run(t, "e2fsck", "-fn", image)
}

func readAll(t testing.TB, n *tree.Inode) []byte {
	t.Helper()
	b, err := io.ReadAll(n.Open())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEmpty(t *testing.T) {
	p, l := write(t, tree.New(), options)
	t.Logf("%+v", l.geo)
	t.Log(run(t, "dumpe2fs", p))
}
