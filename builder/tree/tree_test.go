package tree

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/builder/layer"
)

// l makes a layer from lines: "dir PATH", "file PATH CONTENT", "link PATH
// TARGET", "hard PATH OTHER", "del PATH".
func l(t *testing.T, name string, lines ...string) *layer.Layer {
	t.Helper()
	var b bytes.Buffer
	var deletions []string
	for _, line := range lines {
		if p, ok := strings.CutPrefix(line, "del "); ok {
			deletions = append(deletions, p)
		}
	}
	w, err := layer.NewWriter(&b, deletions)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		f := append(strings.Fields(line), "")
		e := layer.Entry{Path: f[1], Mode: 0o644}
		switch f[0] {
		case "del":
			continue
		case "dir":
			e.Type, e.Mode = layer.Dir, 0o755
		case "private":
			e.Type, e.Mode = layer.Dir, 0o700
		case "file":
			e.Size = int64(len(f[2]))
		case "link":
			e.Type, e.Link = layer.Symlink, f[2]
		case "hard":
			e.Type, e.Link = layer.HardLink, f[2]
		}
		if err := w.Write(e, strings.NewReader(f[2])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := layer.Read(name, bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// show lists a tree, one line a name.
func show(t *testing.T, tr *Tree) string {
	var b strings.Builder
	err := tr.Walk(func(p string, n *Inode) error {
		content, err := io.ReadAll(n.Open())
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s %o %s%s", p, n.Type, n.Mode, n.Target, content)
		if n.Links > 1 {
			fmt.Fprintf(&b, " x%d", n.Links)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestMerge(t *testing.T) {
	for _, c := range []struct {
		name   string
		layers [][]string
		want   string // lines, or the error
	}{
		{"later over earlier", [][]string{{"dir a", "file a/x 1", "file a/y 2"}, {"file a/x 3"}},
			". dir 755 \na dir 755 \na/x file 644 3\na/y file 644 2\n"},
		{"a directory keeps its children", [][]string{{"dir a", "file a/x 1"}, {"private a"}},
			". dir 755 \na dir 700 \na/x file 644 1\n"},
		{"parents first, siblings by bytes", [][]string{{"dir b", "file b/x", "file b.c", "file a"}},
			". dir 755 \na file 644 \nb dir 755 \nb/x file 644 \nb.c file 644 \n"},
		{"deletions come first", [][]string{{"dir a", "file a/x 1"}, {"del a", "file a new"}},
			". dir 755 \na file 644 new\n"},
		{"hard links share", [][]string{{"file a 1", "hard b a"}},
			". dir 755 \na file 644 1 x2\nb file 644 1 x2\n"},
		{"a survivor inherits", [][]string{{"file a 1", "hard b a", "hard c a"}, {"file a 2"}},
			". dir 755 \na file 644 2\nb file 644 1 x2\nc file 644 1 x2\n"},
		{"a survivor of a deletion", [][]string{{"file a 1", "hard b a"}, {"del a"}},
			". dir 755 \nb file 644 1\n"},
		{"a survivor of a deleted directory", [][]string{{"dir d", "file d/a 1", "hard b d/a"}, {"del d"}},
			". dir 755 \nb file 644 1\n"},
		{"whiteout names are content", [][]string{{"file .wh.a 1", "file a 2"}},
			". dir 755 \n.wh.a file 644 1\na file 644 2\n"},
		{"a link over a file", [][]string{{"file a 1"}, {"link a b"}},
			". dir 755 \na symlink 644 b\n"},

		{"no parent", [][]string{{"file a/x"}}, "merging layer 0: a/x: its parent a is not there"},
		{"a symlink parent", [][]string{{"dir real", "link a real"}, {"file a/x"}}, "merging layer 1: a/x: its parent a is a symlink to real"},
		{"a file parent", [][]string{{"file a", "file a/x"}}, "merging layer 0: a/x: its parent a is a file"},
		{"dir over file", [][]string{{"file a"}, {"dir a"}}, "merging layer 1: a: a dir would replace a file: delete it first"},
		{"file over dir", [][]string{{"dir a"}, {"file a"}}, "merging layer 1: a: a file would replace a dir: delete it first"},
		{"nothing to delete", [][]string{{"dir a"}, {"del b"}}, "merging layer 1: deleting b: it is not there"},
		{"delete below a symlink", [][]string{{"dir a", "file a/x", "link b a"}, {"del b/x"}}, "merging layer 1: deleting: b/x: its parent b is a symlink to a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var layers []*layer.Layer
			for i, lines := range c.layers {
				layers = append(layers, l(t, fmt.Sprint(i), lines...))
			}
			tr, err := Merge(layers...)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = show(t, tr)
				if n := strings.Count(got, "\n"); n != tr.Len() {
					t.Errorf("Len is %d, there are %d", tr.Len(), n)
				}
			}
			if got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func TestReadFileFollowsLinks(t *testing.T) {
	tr, err := Merge(l(t, "0", "dir usr", "dir usr/lib", "file usr/lib/os 1", "link lib usr/lib", "dir etc", "link etc/os ../lib/os", "link etc/abs /lib/os", "link etc/loop loop", "link etc/out ../../../lib/os", "dir etc/d"))
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{"usr/lib/os": "1", "lib/os": "1", "etc/os": "1", "etc/abs": "1", "etc/out": "1", "etc/loop": "", "etc/none": "", "etc/d": "", "etc/os/x": ""} {
		b, err := tr.ReadFile(p)
		if string(b) != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q %v", p, b, err)
		}
	}
	if got := tr.Children("etc"); !slices.Equal(got, []string{"abs", "d", "loop", "os", "out"}) {
		t.Errorf("children %q", got)
	}
	if got := tr.Children("etc/os"); len(got) != 0 {
		t.Errorf("children of a link %q", got)
	}
}

func BenchmarkMerge(b *testing.B) {
	var buf bytes.Buffer
	w, _ := layer.NewWriter(&buf, nil)
	for i := range 500 {
		_ = w.Write(layer.Entry{Path: fmt.Sprintf("d%d", i), Type: layer.Dir, Mode: 0o755}, nil)
		for j := range 500 {
			_ = w.Write(layer.Entry{Path: fmt.Sprintf("d%d/file%d", i, j), Mode: 0o644}, nil)
		}
	}
	_ = w.Close()
	for b.Loop() {
		lay, err := layer.Read("bench", bytes.NewReader(buf.Bytes()), int64(buf.Len()))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Merge(lay); err != nil {
			b.Fatal(err)
		}
	}
}
