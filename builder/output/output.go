// Package output makes files that appear whole or not at all, and says plainly
// when there is no room for them.
package output

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A File is a file on its way to a path. Until [File.Commit] nothing is to be
// seen at the path; what was there before stays.
type File struct {
	*os.File
	path string
	temp string // its name until then; empty while it has none
}

// Create starts a file that will be at path, with mode 0666 before umask.
// Where the file system can, the file has no name at all until it is complete,
// so that even a killed process leaves nothing behind.
func Create(path string) (*File, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("creating %s: it is there and is no regular file", path)
	}
	// Without /proc a file with no name could not get one.
	if _, err := os.Stat("/proc/self/fd"); err == nil {
		fd, err := unix.Open(filepath.Dir(path), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o666)
		if err == nil {
			return &File{File: os.NewFile(uintptr(fd), path), path: path}, nil
		}
	}
	return createNamed(path)
}

func createNamed(path string) (*File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.part")
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", path, err)
	}
	// The mode that an ordinary new file would have: umask can only be read by
	// making one.
	temp := f.Name()
	f.Close()
	if err := os.Remove(temp); err != nil {
		return nil, fmt.Errorf("creating %s: %w", path, err)
	}
	f, err = os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", path, err)
	}
	return &File{File: f, path: path, temp: temp}, nil
}

// Rename says that the file will be at another path in the same directory.
func (f *File) Rename(path string) { f.path = path }

// Commit brings the file to disk and to its path, in place of what was there,
// and closes it. After an error the path is as it was, but for one of syncing
// the directory: then a power cut may still undo the change.
func (f *File) Commit() error {
	defer f.Discard()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", f.path, err)
	}
	if err := f.CommitDraft(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(f.path))
}

// CommitDraft is Commit for a file that a power cut may take.
func (f *File) CommitDraft() error {
	defer f.Discard()
	if f.temp == "" {
		if err := f.link(); err != nil {
			return fmt.Errorf("naming %s: %w", f.path, err)
		}
	}
	if err := os.Rename(f.temp, f.path); err != nil {
		return err
	}
	f.temp = ""
	return nil
}

// link gives the file a temporary name. rename(2) needs one, and link(2) cannot
// replace what is at the path.
func (f *File) link() error {
	from := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	const tries = 1000 // against names that others took
	for i := range tries {
		temp := filepath.Join(filepath.Dir(f.path), fmt.Sprintf(".%s.%d.%d.part", filepath.Base(f.path), os.Getpid(), i))
		err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, temp, unix.AT_SYMLINK_FOLLOW)
		if err == nil {
			f.temp = temp
			return nil
		}
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return unix.EEXIST
}

// Discard closes the file and removes what is there of it. After Commit it does
// nothing, so that it can be deferred.
func (f *File) Discard() {
	_ = f.Close()
	if f.temp != "" {
		_ = os.Remove(f.temp)
		f.temp = ""
	}
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", name, err)
	}
	return nil
}
