package ext4

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
	"github.com/prose-im/prose-image/testdata/machine"
)

var options = Options{
	UUID:  [16]byte{0x50, 0x72, 0x6f, 0x73, 0x65, 0, 0x40, 0, 0x80, 0, 1, 2, 3, 4, 5, 6},
	Label: "root",
	Time:  time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC),
	Free:  16 << 20,
}

// A builder makes a tree out of one layer that is held in memory.
type builder struct {
	t testing.TB
	b bytes.Buffer
	w *layer.Writer
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
		t.Fatalf("%s %s: %v\n%.4000s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// fsck has e2fsck judge: this machine's, and that of Debian 13, which the image
// will have.
func fsck(t testing.TB, image string) {
	t.Helper()
	run(t, "e2fsck", "-fn", image)
	if out, err := trixie(t, "e2fsck", "-fn", image).CombinedOutput(); err != nil {
		t.Fatalf("e2fsck of Debian 13: %v\n%.4000s", err, out)
	}
}

// trixie is a command of Debian 13's e2fsprogs.
func trixie(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	return machine.Program(machine.Programs(t, "e2fsprogs"), "usr/sbin/"+name, args...)
}

func readAll(t testing.TB, n *tree.Inode) []byte {
	t.Helper()
	b, err := io.ReadAll(n.Open())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEmpty is the least there can be: what every file system holds is there,
// and nothing else.
func TestEmpty(t *testing.T) {
	image, l := write(t, tree.New(), options)
	got := seeDebugfs(t, image)
	if len(got) != 2 || got["."].Mode != 0o755 || got["lost+found"].Mode != 0o700 {
		t.Errorf("got %+v", got)
	}
	if l.UsedInodes != 11 || l.Journal != 4<<20 {
		t.Errorf("got %d inodes, a journal of %d bytes", l.UsedInodes, l.Journal)
	}
	if stat := debugfs(t, image, []string{"stat lost+found"})[0]; !strings.Contains(stat, "Inode: 11 ") || !strings.Contains(stat, "Size: 16384") {
		t.Errorf("lost+found: %s", stat)
	}
	for _, want := range []string{
		"Filesystem features:      has_journal ext_attr dir_index filetype extent 64bit flex_bg sparse_super large_file huge_file dir_nlink extra_isize metadata_csum\n",
		"Filesystem volume name:   root\n", "Filesystem UUID:          50726f73-6500-4000-8000-010203040506\n",
		"Default mount options:    user_xattr acl\n", "unsigned_directory_hash", "Filesystem state:         clean\n", "Checksum type:            crc32c\n",
	} {
		if head := run(t, "dumpe2fs", "-h", image); !strings.Contains(head, want) {
			t.Errorf("no %q in:\n%s", want, head)
		}
	}
}

// TestLostFound has the tree bring its own.
func TestLostFound(t *testing.T) {
	b := newBuilder(t)
	b.add(layer.Entry{Path: "lost+found", Type: layer.Dir, Mode: 0o750, Xattrs: map[string]string{"user.big": strings.Repeat("x", 300)}}, "")
	b.file("lost+found/#12", "found")
	from := b.tree()
	image, _ := write(t, from, options)
	compare(t, "debugfs", seeTree(t, from), seeDebugfs(t, image), nil)
}

// TestTimes has stored times that have no second reader: creation, and those of
// the superblock.
func TestTimes(t *testing.T) {
	b := newBuilder(t)
	b.file("a", "")
	o := options
	o.Time = time.Date(2150, 1, 2, 3, 4, 5, 678, time.UTC) // beyond 32 bits
	image, _ := write(t, b.tree(), o)
	stat := debugfs(t, image, []string{"stat a"})[0]
	if !strings.Contains(stat, "crtime: 0x5293b4a5:00000a99 -- Fri Jan  2 03:04:05 2150") {
		t.Errorf("got %s", stat)
	}
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	super := make([]byte, 1024)
	if _, err := f.ReadAt(super, 1024); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string][2]int{"s_mkfs_time": {0x108, 0x276}, "s_wtime": {0x30, 0x274}, "s_lastcheck": {0x40, 0x277}} {
		if got := int64(binary.LittleEndian.Uint32(super[at[0]:])) | int64(super[at[1]])<<32; got != o.Time.Unix() {
			t.Errorf("%s is %d, wanted %d", name, got, o.Time.Unix())
		}
	}
}

// TestRefused lists what ext4 cannot hold. Every message names the path.
func TestRefused(t *testing.T) {
	long := strings.Repeat("x", 300)
	attr := func(name, value string) func(*builder) {
		return func(b *builder) {
			b.add(layer.Entry{Path: "culprit", Xattrs: map[string]string{name: value}}, "")
		}
	}
	for want, make := range map[string]func(*builder){
		"a name of 300 bytes": func(b *builder) { b.dir("culprit"); b.file("culprit/"+long, "") },
		"a symlink target of 4096 bytes": func(b *builder) {
			b.add(layer.Entry{Path: "culprit", Type: layer.Symlink, Link: strings.Repeat("x", 4096)}, "")
		},
		"device 4096:0":          func(b *builder) { b.add(layer.Entry{Path: "culprit", Type: layer.Char, Major: 4096}, "") },
		"device 0:1048576":       func(b *builder) { b.add(layer.Entry{Path: "culprit", Type: layer.Block, Minor: 1 << 20}, "") },
		"ext4 stores user.":      attr("com.apple.quarantine", "x"),
		"has 300 bytes":          attr("user."+long, "x"),
		"has 0 bytes":            attr("security.", "x"),
		"do not fit":             attr("user.large", strings.Repeat("x", 4096)),
		"not an ACL":             attr("system.posix_acl_access", "x"),
		"unknown ACL tag":        attr("system.posix_acl_default", acl(1, 7, 3, 7)),
		"lost+found: it must be": func(b *builder) { b.file("lost+found", "culprit") },
		"65001 links, at most 65000": func(b *builder) {
			b.file("culprit", "")
			for i := range maxLinks {
				b.add(layer.Entry{Path: fmt.Sprint("more", i), Type: layer.HardLink, Link: "culprit"}, "")
			}
		},
	} {
		b := newBuilder(t)
		make(b)
		_, err := Measure(b.tree(), options)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "culprit") && !strings.Contains(want, "lost") {
			t.Errorf("%s: got %v", want, err)
		}
	}
	for want, change := range map[string]func(*Options){
		"no UUID":         func(o *Options) { o.UUID = [16]byte{} },
		"at most 16":      func(o *Options) { o.Label = long },
		"no multiple":     func(o *Options) { o.Size = 100000 },
		"is negative":     func(o *Options) { o.Free = -1 },
		"is below 4096":   func(o *Options) { o.InodeRatio = 100 },
		"time":            func(o *Options) { o.Time = time.Time{} },
		"too few":         func(o *Options) { o.Size = 4096 },
		"without its":     func(o *Options) { o.Size = 6 << 20 },
		"limit of 16 TiB": func(o *Options) { o.Free = 17 << 40 },
	} {
		o := options
		change(&o)
		if _, err := Measure(tree.New(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

// TestAttrLimits has attributes that just fit the inode, the block, and not.
func TestAttrLimits(t *testing.T) {
	const entry = 16 + 4 // of a name of up to 4 bytes
	body, block := xattrBody-4-entry, blockSize-32-4-entry
	b := newBuilder(t)
	for i := range 12 {
		value := strings.Repeat("v", body-6+i)
		b.add(layer.Entry{Path: fmt.Sprint("body", i), Mode: 0o600, Xattrs: map[string]string{"user.name": value}}, "")
		b.add(layer.Entry{Path: fmt.Sprint("two", i), Mode: 0o600, Xattrs: map[string]string{"user.name": value[:body/2], "user.n": value[:body/2-26+i]}}, "")
		value = strings.Repeat("w", block-11+i)
		b.add(layer.Entry{Path: fmt.Sprint("block", i), Mode: 0o600, Xattrs: map[string]string{"user.name": value}}, "")
	}
	from := b.tree()
	image, _ := write(t, from, options)
	compare(t, "debugfs", seeTree(t, from), seeDebugfs(t, image), nil)
	if dir, ok := mount(t, image, "ro"); ok {
		compare(t, "kernel", seeTree(t, from), seeDir(t, dir), nil)
	}
	for _, size := range []int{block, block + 1} {
		inInode, inBlock, err := attrs(map[string]string{"user.name": strings.Repeat("w", size)})
		if inInode != nil || (err == nil) != (size == block) || (inBlock != nil) != (err == nil) {
			t.Errorf("a value of %d bytes: %d, %d, %v", size, len(inInode), len(inBlock), err)
		}
	}
}

// FuzzACL gives ACLs of any form; what is stored must read back as it was.
func FuzzACL(f *testing.F) {
	f.Add([]byte(acl(1, 7, 4, 5, 0x20, 5)))
	f.Add([]byte(acl(1, 7, 2, 6, 2, 0, 8, 1, 0x10, 7, 0x20, 5)))
	f.Add([]byte{2, 0, 0, 0, 2})
	f.Fuzz(func(t *testing.T, v []byte) {
		stored, err := storedACL(string(v))
		if err != nil {
			return
		}
		s, back := []byte(stored), []byte("\x02\x00\x00\x00")
		for s = s[4:]; len(s) > 0; {
			id := []byte{0xff, 0xff, 0xff, 0xff}
			n := 4
			if s[0] == 2 || s[0] == 8 {
				id, n = s[4:8], 8
			}
			back = append(append(back, s[:4]...), id...)
			s = s[n:]
		}
		for i := 4; i < len(v); i += 8 { // ids that are not stored
			if v[i] != 2 && v[i] != 8 {
				copy(v[i+4:], "\xff\xff\xff\xff")
			}
		}
		if !bytes.Equal(back, v) {
			t.Errorf("%x became %x", v, back)
		}
	})
}
