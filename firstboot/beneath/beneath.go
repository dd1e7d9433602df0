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
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

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

// Mkdir makes a directory below d with mode and owner; name has no "..", here and
// in all methods. One that is there is opened as it is, and gets mode and owner
// when they differ. A link in its place is replaced.
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

// Short is err, and of a full disk says how much was to be written into dir and
// how much there is room for, in bytes.
func Short(err error, dir *os.File, need int) error {
	var st unix.Statfs_t
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) || unix.Fstatfs(int(dir.Fd()), &st) != nil {
		return err
	}
	return fmt.Errorf("%w: %d bytes are needed, and %d are free", err, need, st.Bavail*uint64(st.Bsize))
}
