package dockerstore

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/dockerstore/imagetest"
	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

var made = time.Unix(1_700_000_000, 0)

// unpack translates a layer tar to a tree whose root is the layer's.
func unpack(tarBytes []byte) (*tree.Tree, *diff, error) {
	d, err := scan(bytes.NewReader(tarBytes), made)
	if err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	w, err := layer.NewWriter(&out, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := w.Write(layer.Entry{Path: "root", Type: layer.Dir, Mode: 0o755}, nil); err != nil {
		return nil, nil, err
	}
	if err := d.write(w, "root", bytes.NewReader(tarBytes)); err != nil {
		return nil, nil, fmt.Errorf("second pass: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, nil, err
	}
	l, err := layer.Read("layer", bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		return nil, nil, fmt.Errorf("reading back: %w", err)
	}
	tr, err := tree.Merge(l)
	if err != nil {
		return nil, nil, fmt.Errorf("merging: %w", err)
	}
	return tr, d, nil
}

// show lists a tree below root, one line for each name.
func show(t testing.TB, tr *tree.Tree) string {
	var b strings.Builder
	err := tr.Walk(func(p string, n *tree.Inode) error {
		p, ok := strings.CutPrefix(p, "root/")
		if !ok {
			return nil
		}
		fmt.Fprintf(&b, "%s %s", p, n.Type)
		if n.Type != layer.Dir || n.Mode != 0o755 {
			fmt.Fprintf(&b, " %#o", n.Mode)
		}
		if n.UID != 0 || n.GID != 0 {
			fmt.Fprintf(&b, " %d:%d", n.UID, n.GID)
		}
		if n.Links > 1 {
			fmt.Fprintf(&b, " x%d", n.Links)
		}
		if n.ModTime.Equal(made) {
			b.WriteString(" made")
		}
		if n.Target != "" {
			fmt.Fprintf(&b, " -> %s", n.Target)
		}
		if n.Major != 0 || n.Minor != 0 {
			fmt.Fprintf(&b, " %d,%d", n.Major, n.Minor)
		}
		for _, k := range slices.Sorted(maps.Keys(n.Xattrs)) {
			fmt.Fprintf(&b, " %s=%s", k, n.Xattrs[k])
		}
		if n.Type == layer.File {
			content, err := io.ReadAll(n.Open())
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", content)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var unpackCases = []struct {
	name    string
	entries []imagetest.Entry
	want    string
}{
	{"plain", []imagetest.Entry{
		imagetest.Dir("./"), imagetest.Dir("a/"), {Name: "a/f", Mode: 0o4711, UID: 1, GID: 2, Content: "x"}, imagetest.Symlink("a/l", "/f"),
	}, "a dir\na/f file 04711 1:2 \"x\"\na/l symlink 0777 -> /f\n"},
	{"names are taken below the root", []imagetest.Entry{
		imagetest.File("/abs", ""), imagetest.File("./a/../b", ""), imagetest.File("c//d", ""), imagetest.File("/../e", ""),
	}, "abs file 0644 \"\"\nb file 0644 \"\"\nc dir made\nc/d file 0644 \"\"\ne file 0644 \"\"\n"},
	{"a directory after what is in it", []imagetest.Entry{
		imagetest.File("a/b/f", ""), {Name: "a", Type: tar.TypeDir, Mode: 0o700, UID: 3},
	}, "a dir 0700 3:0\na/b dir made\na/b/f file 0644 \"\"\n"},
	{"whiteouts", []imagetest.Entry{
		imagetest.Dir("d"), {Name: "d/.wh.x", UID: 5, GID: 6}, imagetest.File(".wh.y", ""), imagetest.File("e/f/.wh.z", ""),
	}, "d dir\nd/x char 0 5:6\ne dir made\ne/f dir made\ne/f/z char 0\ny char 0\n"},
	{"opaque directories", []imagetest.Entry{
		imagetest.File("d/n", ""), imagetest.File("d/.wh..wh..opq", ""), imagetest.Dir("d"), imagetest.File("e/f/.wh..wh..opq", ""),
	}, "d dir trusted.overlay.opaque=y\nd/n file 0644 \"\"\ne dir made\ne/f dir made trusted.overlay.opaque=y\n"},
	{"removed and made anew", []imagetest.Entry{
		imagetest.File(".wh.file", ""), imagetest.File("file", "new"),
		imagetest.File("file2", "new"), imagetest.File(".wh.file2", ""),
		imagetest.File(".wh.dir", ""), imagetest.Dir("dir"), imagetest.File("dir/n", ""),
		imagetest.File(".wh.implied", ""), imagetest.File("implied/n", ""),
	}, "dir dir trusted.overlay.opaque=y\ndir/n file 0644 \"\"\nfile file 0644 \"new\"\nfile2 file 0644 \"new\"\nimplied dir made trusted.overlay.opaque=y\nimplied/n file 0644 \"\"\n"},
	{"hard links", []imagetest.Entry{
		{Name: "a", Mode: 0o600, UID: 1, Content: "x"}, {Name: "b", Type: tar.TypeLink, Link: "./a", Mode: 0o640, UID: 2}, {Name: "d/c", Type: tar.TypeLink, Link: "/b", Mode: 0o644, UID: 3},
		imagetest.Symlink("s", "a"), imagetest.HardLink("s2", "s"),
	}, "a file 0644 3:0 x3 \"x\"\nb file 0644 3:0 x3 \"x\"\nd dir made\nd/c file 0644 3:0 x3 \"x\"\ns symlink 0777 x2 -> a\ns2 symlink 0777 x2 -> a\n"},
	{"through symlinks, below the root", []imagetest.Entry{
		imagetest.Symlink("lib", "usr/lib"), imagetest.File("lib/a", ""), imagetest.Symlink("abs", "/usr"), imagetest.File("abs/lib/b", ""),
		imagetest.Dir("d"), imagetest.Symlink("d/up", "../../../etc"), imagetest.File("d/up/shadow", ""), imagetest.HardLink("h", "lib/a"),
		imagetest.HardLink("lib2", "lib"), imagetest.File("lib2/.wh.w", ""), imagetest.File("lib2/.wh..wh..opq", ""),
	}, "abs symlink 0777 -> /usr\nd dir\nd/up symlink 0777 -> ../../../etc\netc dir made\netc/shadow file 0644 \"\"\nh file 0644 x2 \"\"\n" +
		"lib symlink 0777 x2 -> usr/lib\nlib2 symlink 0777 x2 -> usr/lib\nusr dir made\nusr/lib dir made trusted.overlay.opaque=y\nusr/lib/a file 0644 x2 \"\"\nusr/lib/b file 0644 \"\"\nusr/lib/w char 0\n"},
	{"devices", []imagetest.Entry{
		{Name: "c", Type: tar.TypeChar, Major: 1, Minor: 3, Mode: 0o666}, {Name: "b", Type: tar.TypeBlock, Major: 8, Minor: 300}, {Name: "p", Type: tar.TypeFifo},
	}, "b block 0644 8,300\nc char 0666 1,3\np fifo 0644\n"},
	{"attributes", []imagetest.Entry{
		{Name: "f", Xattrs: map[string]string{"security.capability": "c", "user.a": "b", "trusted.overlay.opaque": "y", "trusted.x": "y", "security.selinux": "z", "system.posix_acl_access": "p"}},
		{Name: "d", Type: tar.TypeDir, Xattrs: map[string]string{"user.d": "e", "trusted.overlay.redirect": "/"}},
		{Name: "s", Type: tar.TypeSymlink, Link: "f", Xattrs: map[string]string{"user.s": "no"}},
		{Name: "c", Type: tar.TypeChar, Major: 1, Xattrs: map[string]string{"user.c": "no"}},
		{Name: "h", Content: "x", Xattrs: map[string]string{"security.capability": "c"}}, {Name: "h2", Type: tar.TypeLink, Link: "h", Mode: 0o755, Xattrs: map[string]string{"user.h": "2"}},
	}, "c char 0644 1,0\nd dir user.d=e\nf file 0644 security.capability=c user.a=b \"\"\nh file 0755 x2 security.capability=c user.h=2 \"x\"\nh2 file 0755 x2 security.capability=c user.h=2 \"x\"\ns symlink 0777 -> f\n"},
	{"odd names", []imagetest.Entry{
		imagetest.File("sp ace\nline", ""), imagetest.File("latin\xe9", ""), imagetest.File("wh.x", ""), imagetest.File("..x", ""), imagetest.File(".whx", ""),
	}, "..x file 0644 \"\"\n.whx file 0644 \"\"\nlatin\xe9 file 0644 \"\"\nsp ace\nline file 0644 \"\"\nwh.x file 0644 \"\"\n"},
}

func TestUnpack(t *testing.T) {
	for _, c := range unpackCases {
		t.Run(c.name, func(t *testing.T) {
			tr, _, err := unpack(imagetest.Tar(t, c.entries...))
			if err != nil {
				t.Fatal(err)
			}
			if got := show(t, tr); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestUnpackRefuses(t *testing.T) {
	for _, c := range []struct {
		says    string
		entries []imagetest.Entry
	}{
		{`"../x" leaves the layer`, []imagetest.Entry{imagetest.File("../x", "")}},
		{`"a/../../x" leaves the layer`, []imagetest.Entry{imagetest.File("a/../../x", "")}},
		{`"../../etc/shadow" leaves the layer`, []imagetest.Entry{imagetest.HardLink("x", "../../etc/shadow")}},
		{"the root of a layer is not a directory", []imagetest.Entry{imagetest.Symlink(".", "/etc")}},
		{"f comes twice", []imagetest.Entry{imagetest.File("f", "1"), imagetest.File("./f", "2")}},
		{"d comes twice", []imagetest.Entry{imagetest.Dir("d"), imagetest.Dir("d/")}},
		{"d comes twice", []imagetest.Entry{imagetest.File("d/f", ""), imagetest.Symlink("d", "/etc")}},
		{".wh.x comes twice", []imagetest.Entry{imagetest.File(".wh.x", ""), imagetest.File("/.wh.x", "")}},
		{"something lies below f", []imagetest.Entry{imagetest.File("f", ""), imagetest.File("f/x", "")}},
		{"a hard link to nowhere", []imagetest.Entry{imagetest.HardLink("x", "nowhere")}},
		{"a hard link to d,", []imagetest.Entry{imagetest.Dir("d"), imagetest.HardLink("x", "d")}},
		{"a hard link to x,", []imagetest.Entry{imagetest.HardLink("x", "x")}},
		{"a whiteout of nothing", []imagetest.Entry{imagetest.File("d/.wh.", "")}},
		{"a whiteout of nothing", []imagetest.Entry{imagetest.File(".wh...", "")}},
		{"too many symlinks", []imagetest.Entry{imagetest.Symlink("a", "b"), imagetest.Symlink("b", "a"), imagetest.File("a/x", "")}},
		{"longer than 255", []imagetest.Entry{imagetest.File(strings.Repeat("x", 256), "")}},
		{"too long", []imagetest.Entry{imagetest.File(strings.Repeat("x/", 2050)+"f", "")}},
		{"out of range", []imagetest.Entry{{Name: "x", UID: 1<<32 - 1}}},
		{"out of range", []imagetest.Entry{{Name: ".wh.x", GID: 1 << 40}}},
	} {
		_, _, err := unpack(imagetest.Tar(t, c.entries...))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("want %q, got %v", c.says, err)
		}
	}
	var twice *DuplicateError
	if _, _, err := unpack(imagetest.Tar(t, imagetest.File("f", ""), imagetest.File("f", ""))); !errors.As(err, &twice) || twice.Path != "f" {
		t.Errorf("want a DuplicateError, got %v", err)
	}
}

func TestUnpackSize(t *testing.T) {
	_, d, err := unpack(imagetest.Tar(t, imagetest.File("a", "12345"), imagetest.HardLink("b", "a"), imagetest.Symlink("c", "123"),
		imagetest.Dir("d"), imagetest.File(".wh.e", ""), imagetest.File("f", "67")))
	if err != nil {
		t.Fatal(err)
	}
	if d.size != 5+3+2 {
		t.Errorf("size %d", d.size)
	}
}

// bomb is a tar whose one file, of GNU's sparse format 0.1, has size bytes in
// no block.
func bomb(t testing.TB, size int64) []byte {
	t.Helper()
	var pax strings.Builder
	for _, r := range []string{"GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.name=hole", fmt.Sprintf("GNU.sparse.size=%d", size),
		"GNU.sparse.numblocks=1", fmt.Sprintf("GNU.sparse.map=%d,0", size)} {
		n := len(r) + 2 // the space and the newline
		n += len(fmt.Sprint(n + len(fmt.Sprint(n))))
		fmt.Fprintf(&pax, "%d %s\n", n, r)
	}
	// archive/tar writes no such records: a file of another type becomes 'x'.
	b := imagetest.Tar(t, imagetest.File("PaxHeaders/x", pax.String()), imagetest.File("x", ""))
	b[156] = tar.TypeXHeader
	sum := 0
	for i, c := range b[:512] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func TestUnpackSparse(t *testing.T) {
	b := bomb(t, 1<<40)
	h, err := tar.NewReader(bytes.NewReader(b)).Next()
	if err != nil || h.Name != "hole" || h.Size != 1<<40 {
		t.Fatalf("the bomb is none: %+v, %v", h, err)
	}
	if _, _, err := unpack(b); !errors.Is(err, errSparse) {
		t.Errorf("got %v", err)
	}
}

// FuzzUnpack: whatever the bytes, what comes out is a tree below its root,
// both passes agree, and no attribute is there that an image may not have.
func FuzzUnpack(f *testing.F) {
	for _, c := range unpackCases {
		f.Add(imagetest.Tar(f, c.entries...))
	}
	f.Add(bomb(f, 1<<20))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := scan(bytes.NewReader(b), made); err != nil {
			return
		}
		tr, _, err := unpack(b)
		if err != nil {
			// The content may be cut off, which only the second pass reads.
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return
			}
			t.Fatal(err)
		}
		err = tr.Walk(func(p string, n *tree.Inode) error {
			if p != "." && p != "root" && !strings.HasPrefix(p, "root/") {
				t.Errorf("%q is not below the root", p)
			}
			for k, v := range n.Xattrs {
				if k != "security.capability" && !strings.HasPrefix(k, "user.") && (k != opaqueXattr || v != opaqueValue || n.Type != layer.Dir) {
					t.Errorf("%q has %s", p, k)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
