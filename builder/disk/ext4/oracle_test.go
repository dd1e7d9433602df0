package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
	"golang.org/x/sys/unix"
)

// unpack makes the tree below dir.
func unpack(t testing.TB, from *tree.Tree, dir string) {
	t.Helper()
	seenAt := map[*tree.Inode]string{}
	var times []func() error
	err := from.Walk(func(p string, n *tree.Inode) error {
		at := filepath.Join(dir, p)
		if first := seenAt[n]; first != "" {
			return os.Link(first, at)
		}
		seenAt[n] = at
		var err error
		switch n.Type {
		case layer.File:
			var f *os.File
			if f, err = os.Create(at); err == nil {
				_, err = io.Copy(f, n.Open())
				f.Close()
			}
		case layer.Dir:
			if p != "." {
				err = os.Mkdir(at, 0o700)
			}
		case layer.Symlink:
			err = os.Symlink(n.Target, at)
		case layer.Char:
			err = unix.Mknod(at, unix.S_IFCHR, int(unix.Mkdev(n.Major, n.Minor)))
		case layer.Block:
			err = unix.Mknod(at, unix.S_IFBLK, int(unix.Mkdev(n.Major, n.Minor)))
		case layer.Fifo:
			err = unix.Mknod(at, unix.S_IFIFO, 0)
		}
		if err != nil {
			return err
		}
		if err := os.Lchown(at, int(n.UID), int(n.GID)); err != nil {
			return err
		}
		if n.Type != layer.Symlink {
			if err := unix.Chmod(at, uint32(n.Mode)); err != nil {
				return err
			}
		}
		for name, value := range n.Xattrs {
			if name == "system.posix_acl_default" {
				continue // what is made in a directory inherits it
			}
			if err := unix.Lsetxattr(at, name, []byte(value), 0); err != nil {
				return fmt.Errorf("%s of %s: %w", name, p, err)
			}
		}
		times = append(times, func() error {
			if value, ok := n.Xattrs["system.posix_acl_default"]; ok {
				if err := unix.Lsetxattr(at, "system.posix_acl_default", []byte(value), 0); err != nil {
					return fmt.Errorf("the default ACL of %s: %w", p, err)
				}
			}
			ts := unix.NsecToTimespec(n.ModTime.UnixNano())
			return unix.UtimesNanoAt(unix.AT_FDCWD, at, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
		})
		return nil
	})
	for _, set := range slices.Backward(times) {
		if err == nil {
			err = set()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// mke2fs makes a file system with our features of what is in dir. It is
// that of Debian 13.
func mke2fs(t testing.TB, dir string, size int64, o Options) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "oracle.ext4")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	uuid := fmt.Sprintf("%x-%x-%x-%x-%x", o.UUID[:4], o.UUID[4:6], o.UUID[6:8], o.UUID[8:10], o.UUID[10:])
	cmd := trixie(t, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-i", "16384", "-m", "1", "-U", uuid, "-L", o.Label,
		"-E", fmt.Sprintf("hash_seed=%s,lazy_itable_init=1,root_owner=%d:%d", uuid, os.Getuid(), os.Getgid()), "-O", "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum",
		"-d", dir, image)
	cmd.Env = append(os.Environ(), "MKE2FS_CONFIG=/dev/null")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%.4000s", err, out)
	}
	return image
}

// TestOracle compares with what mke2fs makes of the same tree.
func TestOracle(t *testing.T) {
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	b := newBuilder(t)
	add := func(e layer.Entry, content string) {
		e.UID, e.GID = uid, gid
		b.add(e, content)
	}
	add(layer.Entry{Path: ".", Type: layer.Dir, Mode: 0o755}, "")
	for i := range 12 {
		d := fmt.Sprintf("d%d", i)
		add(layer.Entry{Path: d, Type: layer.Dir, Mode: 0o2750}, "")
		for j := range i * i {
			name := fmt.Sprintf("%s/%s-%d", d, strings.Repeat("f", j%200), j)
			add(layer.Entry{Path: name, Mode: 0o4711, ModTime: time.Unix(1e9+int64(j), 0)}, strings.Repeat(name, j*7))
		}
		add(layer.Entry{Path: d + "/short", Type: layer.Symlink, Mode: 0o777, Link: strings.Repeat("s", 59)}, "")
		add(layer.Entry{Path: d + "/long", Type: layer.Symlink, Mode: 0o777, Link: strings.Repeat("l", 60+i)}, "")
		add(layer.Entry{Path: d + "/attr", Mode: 0o600, Xattrs: map[string]string{"user.a": "b", "user.c": strings.Repeat("x", 100*i)}}, "a")
		add(layer.Entry{Path: d + "/link", Type: layer.HardLink, Link: d + "/attr"}, "")
		add(layer.Entry{Path: d + "/fifo", Type: layer.Fifo, Mode: 0o640}, "")
	}
	if uid == 0 {
		add(layer.Entry{Path: "null", Type: layer.Char, Mode: 0o666, Major: 1, Minor: 3}, "")
		add(layer.Entry{Path: "whiteout", Type: layer.Char}, "")
		add(layer.Entry{Path: "disk", Type: layer.Block, Mode: 0o660, Major: 259, Minor: 70000}, "")
		add(layer.Entry{Path: "ping", Mode: 0o755, Xattrs: map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}}, "ping")
		add(layer.Entry{Path: "opaque", Type: layer.Dir, Mode: 0o755, Xattrs: map[string]string{"trusted.overlay.opaque": "y"}}, "")
	}
	from := b.tree()
	ours, l := write(t, from, options)
	dir := t.TempDir()
	unpack(t, from, dir)
	theirs := mke2fs(t, dir, l.Size, options)
	want, got := seeDebugfs(t, theirs), seeDebugfs(t, ours)
	for _, p := range []string{".", "lost+found"} { // mke2fs takes the clock's
		s := want[p]
		s.Time = got[p].Time
		want[p] = s
	}
	compare(t, "mke2fs", want, got, nil)

	// The superblocks tell the same, but for what follows from placement and time.
	head := func(image string) map[string]string {
		m := map[string]string{}
		for line := range strings.Lines(run(t, "dumpe2fs", "-h", image)) {
			if name, value, ok := strings.Cut(line, ":"); ok {
				m[name] = strings.TrimSpace(value)
			}
		}
		return m
	}
	a, z := head(theirs), head(ours)
	same := 0
	for _, name := range slices.Sorted(maps.Keys(a)) {
		switch name {
		case "Free blocks", "Free inodes", "Filesystem created", "Last write time", "Last checked", "Checksum", "Journal checksum",
			"Lifetime writes", "Overhead clusters", "Directory Hash Seed", "Filesystem flags", "Inode count", "Inodes per group", "Inode blocks per group",
			"Total journal size", "Total journal blocks", "Max transaction length":
			continue
		}
		same++
		if a[name] != z[name] {
			t.Errorf("dumpe2fs: %s: mke2fs has %q, we have %q", name, a[name], z[name])
		}
	}
	if same < 30 {
		t.Errorf("dumpe2fs gave only %d fields to compare", same)
	}

	attrs := func(image string) []byte {
		_, rest, _ := strings.Cut(debugfs(t, image, []string{"stat d11/attr"})[0], "File ACL: ")
		var place int64
		if _, err := fmt.Sscan(rest, &place); err != nil || place == 0 {
			t.Fatalf("no block of attributes in %s", image)
		}
		f, err := os.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, blockSize)
		if _, err := f.ReadAt(b, place*blockSize); err != nil {
			t.Fatal(err)
		}
		clear(b[0x0c:0x14]) // mke2fs makes no hash, and the checksum depends on the place
		return b
	}
	if a, z := attrs(theirs), attrs(ours); !bytes.Equal(a, z) {
		t.Errorf("block of attributes: mke2fs has\n%x\nwe have\n%x", a[:64], z[:64])
	}

	journal := func(image string) []byte {
		to := filepath.Join(t.TempDir(), "journal")
		debugfs(t, image, []string{"dump <8> " + to})
		b, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		copy(b[0x10:], "size") // follows from ours
		if len(bytes.Trim(b[blockSize:], "\x00")) != 0 {
			t.Errorf("the journal of %s is not empty", image)
		}
		return b[:blockSize]
	}
	if a, z := journal(theirs), journal(ours); !bytes.Equal(a, z) {
		t.Errorf("journal superblock: mke2fs has\n%x\nwe have\n%x", a[:256], z[:256])
	}
}

// TestOracleOnAnything compares with what mke2fs makes of generated trees.
func TestOracleOnAnything(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("not root: a tree with all owners and devices cannot be unpacked")
		return
	}
	for seed := range uint64(2) {
		from := generate(t, 100+seed, 400, names{long: 255})
		o := options
		o.Free = 40 << 20
		ours, l := write(t, from, o)
		dir := t.TempDir()
		unpack(t, from, dir)
		theirs := mke2fs(t, dir, l.Size, o)
		want, got := seeDebugfs(t, theirs), seeDebugfs(t, ours)
		for _, p := range []string{".", "lost+found"} { // mke2fs makes its own
			delete(want, p)
			delete(got, p)
		}
		compare(t, "mke2fs", want, got, func(s *seen) { // it stores 32 bits of whole seconds
			if s.Type == layer.Symlink {
				s.Mode = 0 // always 0777 where it was unpacked
			}
			var sec int64
			if _, err := fmt.Sscan(strings.Split(s.Time, ".")[0], &sec); err != nil {
				t.Fatal(err)
			}
			if s.Time = stampText(sec, 0); sec <= math.MinInt32 || sec >= math.MaxInt32 {
				s.Time = "outside"
			}
		})
	}
}

// TestBackups breaks what has a copy, and has e2fsck repair it from there.
func TestBackups(t *testing.T) {
	from := generate(t, 21, 300, names{long: 100})
	o := options
	o.Free = 500 << 20
	image, l := write(t, from, o)
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := func(at int64) []byte {
		b := make([]byte, 1024)
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		return b
	}
	wipe := func(at, n int64) {
		if _, err := f.WriteAt(make([]byte, n), at); err != nil {
			t.Fatal(err)
		}
	}
	copies := 0
	for group := int64(1); group < int64(l.geo.groups); group++ {
		want, got := read(1024), read(group*blocksPerGroup*blockSize)
		if !hasSuper(uint32(group)) {
			continue
		}
		copies++
		if in := int64(binary.LittleEndian.Uint16(got[0x5a:])); in != group {
			t.Errorf("the superblock in group %d says it is in %d", group, in)
		}
		clear(got[0x5a:0x5c])
		if !bytes.Equal(want[:0x3fc], got[:0x3fc]) {
			t.Errorf("the superblock in group %d differs", group)
		}
	}
	if copies < 2 {
		t.Errorf("%d copies", copies)
	}
	at := int64(l.geo.inodeTable[0])*blockSize + (inoJournal-1)*inodeSize
	inode, super := read(at), read(1024)
	if !bytes.Equal(super[0x10c:0x148], inode[0x28:0x64]) || !bytes.Equal(super[0x148:0x14c], inode[0x6c:0x70]) || !bytes.Equal(super[0x14c:0x150], inode[0x04:0x08]) {
		t.Errorf("s_jnl_blocks is %x", super[0x10c:0x150])
	}
	before := seeDebugfs(t, image)
	repair := func(args ...string) {
		t.Helper()
		out, err := exec.Command("e2fsck", append(args, "-fy", image)...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 { // repaired
			t.Fatalf("e2fsck %v: %v\n%s", args, err, out)
		}
		fsck(t, image)
		compare(t, "repaired", before, seeDebugfs(t, image), nil)
	}
	wipe(0, 3*blockSize)
	repair("-b", "32768", "-B", "4096")
	wipe(at, inodeSize)
	repair()
}
