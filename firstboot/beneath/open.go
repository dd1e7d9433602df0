package beneath

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

const below = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

func (d *Dir) join(name string) string { return d.path + "/" + name }

func (d *Dir) open(name string, flags uint64, mode uint32) (*os.File, error) {
	if !fs.ValidPath(name) {
		return nil, errors.New("not a plain relative path")
	}
	return open(int(d.f.Fd()), name, flags, mode, below)
}

// parent opens the directory that name lies in.
func (d *Dir) parent(name string) (*os.File, string, error) {
	if !fs.ValidPath(name) || name == "." {
		return nil, "", errors.New("not a plain relative path")
	}
	f, err := d.open(path.Dir(name), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return f, path.Base(name), err
}

func open(at int, name string, flags uint64, mode uint32, resolve uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC | unix.O_NOFOLLOW, Mode: uint64(mode), Resolve: resolve}
	// EAGAIN is a rename somewhere in the system while the kernel looked; the
	// one who can cause it at will must not stop us for ever.
	var fd int
	err := error(unix.EAGAIN)
	for try := 0; try < 1000 && (err == unix.EAGAIN || err == unix.EINTR); try++ {
		fd, err = unix.Openat2(at, name, &how)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
