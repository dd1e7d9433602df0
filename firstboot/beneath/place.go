package beneath

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

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
