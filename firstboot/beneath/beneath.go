// Package beneath lets root write below directories that someone else owns.
//
// The Pod's user may change everything in its directories at any moment, also
// between two of our system calls: put a link to a file of root where we are
// about to write, or swap one directory for another. So no path is resolved
// twice: every step starts at a descriptor, openat2 (Linux 5.6) refuses
// symbolic links and whatever leads out, and owner and mode are set on the
// descriptor of a file that we made ourselves.
package beneath

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// An Owner is who a file will belong to.
type Owner struct{ UID, GID int }

// A Dir is an open directory.
type Dir struct {
	f    *os.File
	path string // for messages only
}

// Open opens the directory at an absolute path without a symbolic link in it.
// Those above it must be root's.
func Open(path string) (*Dir, error) {
	f, err := open(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY, 0, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, fmt.Errorf("opening directory %s: %w", path, err)
	}
	return &Dir{f, path}, nil
}

// Close closes the directory.
func (d *Dir) Close() error { return d.f.Close() }

// Sub opens a directory below d. name has no "..", here and in all methods.
func (d *Dir) Sub(name string) (*Dir, error) {
	f, err := d.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("opening directory %s: %w", d.join(name), err)
	}
	return &Dir{f, d.join(name)}, nil
}

// Mkdir makes a directory below d with mode and owner. One that is there is
// opened as it is, and gets mode and owner when they differ. A link in its place
// is replaced.
func (d *Dir) Mkdir(name string, mode fs.FileMode, owner Owner) (*Dir, error) {
	fail := func(err error) (*Dir, error) { return nil, fmt.Errorf("making directory %s: %w", d.join(name), err) }
	parent, base, err := d.parent(name)
	if err != nil {
		return fail(err)
	}
	defer parent.Close()
	made := unix.Mkdirat(int(parent.Fd()), base, 0o700)
	if made != nil && made != unix.EEXIST {
		return fail(made)
	}
	f, err := open(int(parent.Fd()), base, unix.O_RDONLY|unix.O_DIRECTORY, 0, below)
	if err != nil && isLink(parent, base) {
		// The link itself goes, wherever it leads. Once: whoever puts one there
		// again at once gets an error.
		if err = unix.Unlinkat(int(parent.Fd()), base, 0); err == nil {
			if made = unix.Mkdirat(int(parent.Fd()), base, 0o700); made != nil {
				return fail(made)
			}
			f, err = open(int(parent.Fd()), base, unix.O_RDONLY|unix.O_DIRECTORY, 0, below)
		}
	}
	if err != nil {
		return fail(err)
	}
	if err := own(f, mode, owner); err != nil {
		f.Close()
		return fail(err)
	}
	if made == nil {
		if err := parent.Sync(); err != nil {
			f.Close()
			return fail(err)
		}
	}
	return &Dir{f, d.join(name)}, nil
}

func isLink(parent *os.File, base string) bool {
	var st unix.Stat_t
	return unix.Fstatat(int(parent.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

// WriteFile makes the file at name have this content, mode and owner, and
// reports whether it had to be written. A reader sees the old file or the new
// one, and so does who looks after a power cut. Whatever was at name, a link
// also, is replaced; only a directory is an error.
func (d *Dir) WriteFile(name string, data []byte, mode fs.FileMode, owner Owner) (changed bool, err error) {
	parent, base, err := d.parent(name)
	if err != nil {
		return false, fmt.Errorf("writing %s: %w", d.join(name), err)
	}
	defer parent.Close()
	if same(parent, base, data, mode, owner) {
		return false, nil
	}
	if err := replace(parent, base, data, mode, owner); err != nil {
		return false, fmt.Errorf("writing %s: %w", d.join(name), Short(err, parent, len(data)))
	}
	return true, nil
}

// Is reports whether the file at name is what WriteFile would make of it.
func (d *Dir) Is(name string, data []byte, mode fs.FileMode, owner Owner) bool {
	parent, base, err := d.parent(name)
	if err != nil {
		return false
	}
	defer parent.Close()
	return same(parent, base, data, mode, owner)
}

// Create makes an empty file with mode and owner where there is nothing, and
// reports whether it did. A file that is there keeps its content, whatever it
// is; one that is no regular file is an error. It gets its name only once it is
// its owner's: nobody would look at its owner again.
func (d *Dir) Create(name string, mode fs.FileMode, owner Owner) (created bool, err error) {
	fail := func(err error) (bool, error) { return false, fmt.Errorf("creating %s: %w", d.join(name), err) }
	parent, base, err := d.parent(name)
	if err != nil {
		return fail(err)
	}
	defer parent.Close()
	err = taken(parent, base)
	if err == unix.ENOENT {
		if err = place(parent, base, nil, mode, owner, unix.RENAME_NOREPLACE); err == nil {
			return true, nil
		}
		if err == unix.EEXIST {
			err = taken(parent, base)
		}
	}
	if err != nil {
		return fail(err)
	}
	return false, nil
}

// taken is nil when there is a regular file.
func taken(parent *os.File, base string) error {
	f, err := open(int(parent.Fd()), base, unix.O_PATH, 0, below)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("there is something that is no regular file")
	}
	return err
}

// ReadFile reads a regular file of at most limit bytes that belongs to user
// uid. Another user's may lie elsewhere too, and be read through us.
func (d *Dir) ReadFile(name string, limit int64, uid int) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("reading %s: %w", d.join(name), err) }
	f, err := d.open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	if kind, err := ordinary(f, uid); err != nil {
		return fail(err)
	} else if kind == unix.S_IFDIR {
		return fail(unix.EISDIR)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return fail(err)
	}
	if int64(len(b)) > limit {
		return fail(fmt.Errorf("larger than %d bytes", limit))
	}
	return b, nil
}

// Chown gives a directory mode and owner, or a regular file that belongs to
// owner.UID already mode and group. The file of another user may be one that
// lies elsewhere too; [Dir.WriteFile] makes it anew.
func (d *Dir) Chown(name string, mode fs.FileMode, owner Owner) error {
	f, err := d.open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err == nil {
		if _, err = ordinary(f, owner.UID); err == nil {
			err = own(f, mode, owner)
		}
		f.Close()
	}
	if err != nil {
		return fmt.Errorf("changing the owner of %s: %w", d.join(name), err)
	}
	return nil
}

// Remove takes away a file or an empty directory, or the link itself; nothing
// there is no error.
func (d *Dir) Remove(name string) error {
	parent, base, err := d.parent(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer parent.Close()
		err = unix.Unlinkat(int(parent.Fd()), base, 0)
		if err == unix.EISDIR {
			err = unix.Unlinkat(int(parent.Fd()), base, unix.AT_REMOVEDIR)
		}
		if err == unix.ENOENT {
			return nil
		}
	}
	if err == nil {
		err = parent.Sync()
	}
	if err != nil {
		return fmt.Errorf("removing %s: %w", d.join(name), err)
	}
	return nil
}

// Short is err, and of a full disk says how much was to be written into dir and
// how much there is room for, in bytes.
func Short(err error, dir *os.File, need int) error {
	var st unix.Statfs_t
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) || unix.Fstatfs(int(dir.Fd()), &st) != nil {
		return err
	}
	return fmt.Errorf("%w: %d bytes are needed, and %d are free", err, need, st.Bavail*uint64(st.Bsize))
}

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

func create(parent *os.File, base string) (*os.File, error) {
	return open(int(parent.Fd()), base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600, below)
}

// same reports whether the file is already what WriteFile would make of it.
func same(parent *os.File, base string, data []byte, mode fs.FileMode, owner Owner) bool {
	f, err := open(int(parent.Fd()), base, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0, below)
	if err != nil {
		return false
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Mode != unix.S_IFREG|uint32(mode) || st.Nlink != 1 ||
		int(st.Uid) != owner.UID || int(st.Gid) != owner.GID || st.Size != int64(len(data)) {
		return false
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(len(data))+1))
	return err == nil && bytes.Equal(b, data)
}

func replace(parent *os.File, base string, data []byte, mode fs.FileMode, owner Owner) error {
	return place(parent, base, data, mode, owner, 0)
}

// place writes a file under a hidden name and renames it, with flags of
// renameat2(2).
func place(parent *os.File, base string, data []byte, mode fs.FileMode, owner Owner, flags uint) error {
	if mode&^0o777 != 0 {
		return fmt.Errorf("mode %v has more than permissions", mode)
	}
	// One name, so that a crash leaves one such file at most. Hidden, so that
	// Prosody does not take it for a certificate.
	temp := "." + base + ".new"
	err := unix.Unlinkat(int(parent.Fd()), temp, 0)
	if err != nil && err != unix.ENOENT {
		temp = "." + base + "." + rand.Text()[:12]
	}
	f, err := create(parent, temp)
	if err == unix.EEXIST {
		temp = "." + base + "." + rand.Text()[:12]
		f, err = create(parent, temp)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(data)
	if err == nil {
		err = own(f, mode, owner)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = unix.Renameat2(int(parent.Fd()), temp, int(parent.Fd()), base, flags)
	}
	if err != nil {
		// Of no harm when the name is something else's by now: it is not ours.
		_ = unix.Unlinkat(int(parent.Fd()), temp, 0)
		return err
	}
	if err := isNow(parent, base, f); err != nil {
		return err
	}
	return parent.Sync()
}

// isNow reports whether base is f, and not what somebody put under the
// temporary name while we wrote.
func isNow(parent *os.File, base string, f *os.File) error {
	var at, of unix.Stat_t
	if err := unix.Fstatat(int(parent.Fd()), base, &at, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := unix.Fstat(int(f.Fd()), &of); err != nil {
		return err
	}
	if at.Dev != of.Dev || at.Ino != of.Ino {
		return errors.New("somebody else replaced it at the same time")
	}
	return nil
}

// own sets owner and mode of a directory, or of a file that is known to be the
// owner's or ours. The owner comes first: changing it takes mode bits away.
func own(f *os.File, mode fs.FileMode, owner Owner) error {
	if mode&^0o777 != 0 {
		return fmt.Errorf("mode %v has more than permissions", mode)
	}
	var st unix.Stat_t
	fd := int(f.Fd())
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if int(st.Uid) != owner.UID || int(st.Gid) != owner.GID {
		if err := unix.Fchown(fd, owner.UID, owner.GID); err != nil {
			return err
		}
	}
	if st.Mode&0o7777 != uint32(mode) {
		return unix.Fchmod(fd, uint32(mode))
	}
	return nil
}

// ordinary refuses what somebody may have planted: anything but a directory or
// a file of user uid. The number of a file's names tells an honest mistake, but
// is no wall: a second name can be gone again when it is counted.
func ordinary(f *os.File, uid int) (kind uint32, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, err
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFDIR:
		return kind, nil
	case kind != unix.S_IFREG:
		return 0, errors.New("neither a regular file nor a directory")
	case int(st.Uid) != uid:
		return 0, fmt.Errorf("belongs to user %d, not %d", st.Uid, uid)
	case st.Nlink > 1:
		return 0, errors.New("the file has another name elsewhere")
	}
	return unix.S_IFREG, nil
}
