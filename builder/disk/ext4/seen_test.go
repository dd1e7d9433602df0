package ext4

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
	"golang.org/x/sys/unix"
)

// A seen is what a reader sees at one path.
type seen struct {
	Type         layer.Type
	Mode         uint16
	UID, GID     uint32
	Links        int
	Size         int64
	Time         string // with nanoseconds
	Target       string
	Major, Minor uint32
	Same         string // the first path of the same inode
	Sum          string // of the content
	Xattrs       map[string]string
}

func stampText(sec, nsec int64) string { return fmt.Sprintf("%d.%09d", sec, nsec) }

func digest(r io.Reader) string {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

// short keeps messages legible.
func short(value string) string {
	if len(value) <= 20 {
		return fmt.Sprintf("%x", value)
	}
	return digest(strings.NewReader(value)) + fmt.Sprintf("/%d", len(value))
}

// maxSum bounds what readers compare of a content: the head of a sparse giant.
const maxSum = 64 << 20

func seeTree(t testing.TB, from *tree.Tree) map[string]seen {
	t.Helper()
	all := map[string]seen{}
	subdirs := map[string]int{}
	err := from.Walk(func(p string, n *tree.Inode) error {
		s := seen{
			Type: n.Type, Mode: n.Mode, UID: n.UID, GID: n.GID, Links: n.Links, Size: n.Size,
			Time: stampText(n.ModTime.Unix(), int64(n.ModTime.Nanosecond())), Target: n.Target,
			Major: n.Major, Minor: n.Minor, Xattrs: map[string]string{},
		}
		if n.ModTime.IsZero() {
			s.Time = stampText(options.Time.Unix(), 0)
		}
		for name, value := range n.Xattrs {
			s.Xattrs[name] = short(value)
		}
		switch n.Type {
		case layer.File:
			s.Sum = digest(io.LimitReader(n.Open(), maxSum))
		case layer.Symlink:
			s.Size = int64(len(n.Target))
		case layer.Dir:
			s.Size, s.Links = 0, 0
			if p != "." {
				subdirs[path.Dir(p)]++
			}
		}
		s.Same = fmt.Sprintf("%p", n)
		all[p] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := all["lost+found"]; !ok {
		subdirs["."]++
	}
	link(all)
	for p, s := range all {
		if s.Type == layer.Dir {
			s.Links = 2 + subdirs[p]
			if s.Links > 65000 {
				s.Links = 1
			}
			all[p] = s
		}
	}
	return all
}

// link turns what a reader knows an inode by into the first path of the inode.
func link(all map[string]seen) {
	first := map[string]string{}
	for _, p := range slices.Sorted(maps.Keys(all)) {
		s := all[p]
		if first[s.Same] == "" {
			first[s.Same] = p
		}
		s.Same = first[s.Same]
		all[p] = s
	}
}

// compare fails with the differences. A reader that cannot see some fields
// clears them in both with blind.
func compare(t testing.TB, what string, want, got map[string]seen, blind func(*seen)) {
	t.Helper()
	bad := 0
	report := func(format string, args ...any) {
		if bad++; bad <= 10 {
			t.Errorf(what+": "+format, args...)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(want)) {
		w := want[p]
		g, ok := got[p]
		if !ok {
			report("%.200q is missing", p)
			continue
		}
		if blind != nil {
			blind(&w)
			blind(&g)
		}
		for i := range reflect.TypeFor[seen]().NumField() {
			a, b := reflect.ValueOf(w).Field(i), reflect.ValueOf(g).Field(i)
			if !reflect.DeepEqual(a.Interface(), b.Interface()) {
				report("%.200q: %s: want %.200s, got %.200s", p, reflect.TypeFor[seen]().Field(i).Name, fmt.Sprint(a), fmt.Sprint(b))
			}
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok && p != "lost+found" {
			report("%.200q was not in the tree", p)
		}
	}
	if bad > 0 {
		t.Fatalf("%s: %d differences at %d paths", what, bad, len(want))
	}
}

// seeDir looks at a mounted file system.
func seeDir(t testing.TB, root string) map[string]seen {
	t.Helper()
	all := map[string]seen{}
	err := filepath.WalkDir(root, func(full string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		p, err := filepath.Rel(root, full)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(full, &st); err != nil {
			return err
		}
		s := seen{
			Mode: uint16(st.Mode & 0o7777), UID: st.Uid, GID: st.Gid, Links: int(st.Nlink), Size: st.Size,
			Time: stampText(st.Mtim.Sec, st.Mtim.Nsec), Xattrs: map[string]string{},
		}
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			f, err := os.Open(full)
			if err != nil {
				return err
			}
			s.Sum = digest(io.LimitReader(f, maxSum))
			f.Close()
		case syscall.S_IFDIR:
			s.Type, s.Size = layer.Dir, 0
		case syscall.S_IFLNK:
			s.Type = layer.Symlink
			if s.Target, err = os.Readlink(full); err != nil {
				return err
			}
		case syscall.S_IFCHR, syscall.S_IFBLK:
			s.Type = layer.Char
			if st.Mode&syscall.S_IFMT == syscall.S_IFBLK {
				s.Type = layer.Block
			}
			s.Major, s.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
		case syscall.S_IFIFO:
			s.Type = layer.Fifo
		}
		s.Same = fmt.Sprint(st.Ino)
		buf := make([]byte, 64<<10)
		n, err := unix.Llistxattr(full, buf)
		if err != nil {
			return fmt.Errorf("listing attributes of %s: %w", full, err)
		}
		for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
			if name == "" {
				continue
			}
			value := make([]byte, 64<<10)
			n, err := unix.Lgetxattr(full, name, value)
			if err != nil {
				return fmt.Errorf("%s of %s: %w", name, full, err)
			}
			s.Xattrs[name] = short(string(value[:n]))
		}
		all[p] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	link(all)
	return all
}
