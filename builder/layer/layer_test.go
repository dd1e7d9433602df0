package layer

import (
	"archive/tar"
	"bytes"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

var when = time.Unix(1700000000, 0).UTC()

// everything is one entry of each kind, with what is hard to carry.
func everything() ([]Entry, map[string]string) {
	entries := []Entry{
		{Path: ".", Type: Dir, Mode: 0o755, ModTime: when},
		{Path: "etc", Type: Dir, Mode: 0o1777, UID: 70000, GID: 70001, ModTime: when},
		{Path: "etc/file", Mode: 0o4755, Size: 5, ModTime: when.Add(123456789), Xattrs: map[string]string{"security.capability": "\x01\x00\x00\x02"}},
		{Path: "etc/other", Type: HardLink, Link: "etc/file"},
		{Path: "etc/link", Type: Symlink, Mode: 0o777, Link: "/no/where", ModTime: time.Unix(-1, 0).UTC()},
		{Path: "etc/.wh.gone", Mode: 0o644, ModTime: when},
		{Path: "etc/whiteout", Type: Char, ModTime: when},
		{Path: "etc/block", Type: Block, Mode: 0o660, Major: 259, Minor: 1 << 18, ModTime: when},
		{Path: "etc/fifo", Type: Fifo, Mode: 0o600, ModTime: when},
		{Path: strings.Repeat("d", 255), Type: Dir, Mode: 0o700, ModTime: time.Unix(1<<33, 0).UTC(), Xattrs: map[string]string{"trusted.overlay.opaque": "y"}},
		{Path: strings.Repeat("d", 255) + "/\xff\xfe", Mode: 0o644, ModTime: when, Size: 1},
	}
	return entries, map[string]string{"etc/file": "hello", strings.Repeat("d", 255) + "/\xff\xfe": "x"}
}

func write(t *testing.T, deletions []string, entries []Entry, content map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, deletions)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := w.Write(e, strings.NewReader(content[e.Path])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	entries, content := everything()
	b := write(t, []string{"z", "a/b", "z"}, entries, content)
	if again := write(t, []string{"a/b", "z"}, entries, content); !bytes.Equal(b, again) {
		t.Error("equal layers are not equal bytes")
	}
	l, err := Read("test", bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a/b", "z"}; !reflect.DeepEqual(l.Deletions, want) {
		t.Errorf("deletions %q, want %q", l.Deletions, want)
	}
	if len(l.Entries) != len(entries) {
		t.Fatalf("%d entries, want %d", len(l.Entries), len(entries))
	}
	for i, want := range entries {
		got := l.Entries[i]
		if want.Type == HardLink {
			want.ModTime, got.ModTime = time.Time{}, time.Time{}
		}
		if !got.ModTime.Equal(want.ModTime) {
			t.Errorf("%.20q: time %v, want %v", want.Path, got.ModTime, want.ModTime)
		}
		got.ModTime = want.ModTime
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		b, err := io.ReadAll(l.Content(i))
		if err != nil || string(b) != content[want.Path] {
			t.Errorf("%.20q: content %q %v", want.Path, b, err)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	for name, entries := range map[string][]Entry{
		"absolute":         {{Path: "/etc"}},
		"unclean":          {{Path: "etc//x"}},
		"leaving":          {{Path: "../x"}},
		"empty":            {{}},
		"twice":            {{Path: "a"}, {Path: "a"}},
		"link to nothing":  {{Path: "b", Type: HardLink, Link: "a"}},
		"link to dir":      {{Path: "a", Type: Dir}, {Path: "b", Type: HardLink, Link: "a"}},
		"symlink nowhere":  {{Path: "b", Type: Symlink}},
		"dir with content": {{Path: "b", Type: Dir, Size: 1}},
		"file with target": {{Path: "b", Link: "x"}},
		"type bits":        {{Path: "b", Mode: 0o100644}},
		"root as file":     {{Path: "."}},
		"short content":    {{Path: "b", Size: 9}},
	} {
		w, err := NewWriter(io.Discard, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			err = w.Write(e, strings.NewReader("short"))
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if w.Close() == nil {
			t.Errorf("%s: the layer was closed as if it were whole", name)
		}
	}
	for _, d := range []string{".", "/a", "a/../b", ""} {
		if _, err := NewWriter(io.Discard, []string{d}); err == nil {
			t.Errorf("deletion %q: no error", d)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	entries, content := everything()
	whole := write(t, nil, entries, content)
	foreign := func(h tar.Header) []byte {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		tw.Close()
		return b.Bytes()
	}
	one := write(t, nil, []Entry{{Path: "a", Size: 2000}}, map[string]string{"a": strings.Repeat("x", 2000)})
	for name, b := range map[string][]byte{
		"nothing":                 nil,
		"cut in the last content": one[:len(one)-1024-100],
		"cut":                     whole[:len(whole)/2],
		"no header":               foreign(tar.Header{Name: "a", Typeflag: tar.TypeReg}),
	} {
		if _, err := Read(name, bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	w, _ := NewWriter(&b, []string{"gone"})
	_ = w.Write(Entry{Path: "a", Size: 3}, strings.NewReader("abc"))
	_ = w.Write(Entry{Path: "b", Type: HardLink, Link: "a"}, nil)
	_ = w.Close()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Read("fuzz", bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for i, e := range l.Entries {
			if err := CheckPath(e.Path); err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, l.Content(i)); err != nil {
				t.Errorf("%s: %v", e.Path, err)
			}
		}
	})
}
