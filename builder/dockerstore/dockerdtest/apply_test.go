package dockerdtest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// apply makes the directory top of a tree real at dst, which exists.
func apply(t testing.TB, tr *tree.Tree, top, dst string) {
	t.Helper()
	names := map[*tree.Inode]string{}
	var dirs []func() error // times of directories come last, when they are full
	err := tr.Walk(func(p string, n *tree.Inode) error {
		rel, err := filepath.Rel(top, p)
		if err != nil || rel == ".." || len(rel) > 2 && rel[:3] == "../" {
			return nil
		}
		target := filepath.Join(dst, rel)
		if first, ok := names[n]; ok {
			return os.Link(first, target)
		}
		names[n] = target
		if err := create(target, n); err != nil {
			return err
		}
		if err := unix.Lchown(target, int(n.UID), int(n.GID)); err != nil {
			return fmt.Errorf("chown %s: %w", target, err)
		}
		if n.Type != layer.Symlink {
			if err := unix.Chmod(target, uint32(n.Mode)); err != nil {
				return fmt.Errorf("chmod %s: %w", target, err)
			}
		}
		for k, v := range n.Xattrs {
			if err := unix.Lsetxattr(target, k, []byte(v), 0); err != nil {
				return fmt.Errorf("setxattr %s %s: %w", target, k, err)
			}
		}
		if n.Type == layer.Dir {
			dirs = append(dirs, func() error { return touch(target, n.ModTime) })
			return nil
		}
		return touch(target, n.ModTime)
	})
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = dirs[i]()
	}
	if err != nil {
		t.Fatalf("making the tree real: %v", err)
	}
}

func create(target string, n *tree.Inode) error {
	switch n.Type {
	case layer.Dir:
		if err := os.Mkdir(target, 0o700); err != nil && !os.IsExist(err) {
			return err
		}
		return nil
	case layer.Symlink:
		return os.Symlink(n.Target, target)
	case layer.Char:
		return unix.Mknod(target, unix.S_IFCHR, int(unix.Mkdev(n.Major, n.Minor)))
	case layer.Block:
		return unix.Mknod(target, unix.S_IFBLK, int(unix.Mkdev(n.Major, n.Minor)))
	case layer.Fifo:
		return unix.Mknod(target, unix.S_IFIFO, 0)
	}
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, n.Open())
	return err
}

func touch(target string, when time.Time) error {
	ts, err := unix.TimeToTimespec(when)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, target, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}
