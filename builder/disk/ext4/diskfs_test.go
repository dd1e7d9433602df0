package ext4

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/ext4"
	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// seeDiskfs looks at an image with go-diskfs. It does not read the contents of
// sparse: go-diskfs loses its way in a file with holes.
func seeDiskfs(t testing.TB, image string, sparse map[string]bool) map[string]seen {
	t.Helper()
	b, err := file.OpenFromPath(image, true)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	st, err := os.Stat(image)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := ext4.Read(b, st.Size(), 0, 512)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]seen{}
	if err := seeDiskfsDir(disk, ".", all, sparse); err != nil {
		t.Fatal(err)
	}
	link(all)
	return all
}

func seeDiskfsDir(disk *ext4.FileSystem, dir string, all map[string]seen, sparse map[string]bool) error {
	list, err := disk.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("listing %s: %w", dir, err)
	}
	for _, e := range list {
		p := path.Join(dir, e.Name())
		info, err := disk.Stat(p)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		st := info.Sys().(*ext4.StatT)
		mode := info.Mode()
		s := seen{
			Mode: uint16(mode.Perm()), UID: st.UID, GID: st.GID, Links: int(st.Nlink), Size: info.Size(),
			Time:  stampText(info.ModTime().Unix(), int64(info.ModTime().Nanosecond())),
			Major: st.Major, Minor: st.Minor, Same: fmt.Sprint(st.Ino), Xattrs: map[string]string{},
		}
		for bit, flag := range map[fs.FileMode]uint16{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
			if mode&bit != 0 {
				s.Mode |= flag
			}
		}
		switch mode.Type() {
		case 0:
			if sparse[p] {
				break
			}
			f, err := disk.OpenFile(p, os.O_RDONLY)
			if err != nil {
				return fmt.Errorf("opening %s: %w", p, err)
			}
			s.Sum = digest(io.LimitReader(f, maxSum))
		case fs.ModeDir:
			s.Type, s.Size = layer.Dir, 0
		case fs.ModeSymlink:
			s.Type, s.Target = layer.Symlink, st.LinkTarget
		case fs.ModeDevice | fs.ModeCharDevice, fs.ModeCharDevice:
			s.Type = layer.Char
		case fs.ModeDevice:
			s.Type = layer.Block
		case fs.ModeNamedPipe:
			s.Type = layer.Fifo
		default:
			return fmt.Errorf("%s: mode %v", p, mode)
		}
		xattrs, err := disk.GetXattr(p)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		for name, value := range xattrs {
			s.Xattrs[name] = short(string(value))
		}
		all[p] = s
		if s.Type == layer.Dir {
			if err := seeDiskfsDir(disk, p, all, sparse); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestDiskfs(t *testing.T) {
	from := generate(t, 8, 500, names{long: 247}) // it panics at names above 247 bytes, and wants UTF-8
	image, _ := write(t, from, options)
	want := seeTree(t, from)
	delete(want, ".") // which it does not give
	sparse := map[string]bool{}
	err := from.Walk(func(p string, n *tree.Inode) error {
		for b := range slices.Chunk(readAll(t, n), blockSize) {
			if len(bytes.Trim(b, "\x00")) == 0 {
				sparse[p] = true
				s := want[p]
				s.Sum = ""
				want[p] = s
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "go-diskfs", want, seeDiskfs(t, image, sparse), func(s *seen) {
		// It leaves out empty attributes, and gives ACLs as they lie on disk.
		maps.DeleteFunc(s.Xattrs, func(name, value string) bool {
			return value == "" || name == "system.posix_acl_default"
		})
	})
}
