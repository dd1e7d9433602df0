package output

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A NoSpaceError says that the disk under a path is too full.
type NoSpaceError struct {
	Path string
	Need int64 // bytes that the file takes
	Free int64 // bytes that there were; negative: not known
	Err  error // what the system said, if it was asked to write
}

func (e *NoSpaceError) Error() string {
	if e.Free < 0 {
		return fmt.Sprintf("no space for %s: it needs %d bytes", e.Path, e.Need)
	}
	return fmt.Sprintf("no space for %s: it needs %d bytes, %d are free", e.Path, e.Need, e.Free)
}

func (e *NoSpaceError) Unwrap() error { return e.Err }

// Hint is the next thing to do.
func (e *NoSpaceError) Hint() string {
	return fmt.Sprintf("free %.1f GiB under %s, or choose another directory",
		float64(max(e.Need-max(e.Free, 0), 0))/(1<<30), filepath.Dir(e.Path))
}

// CheckSpace returns a [NoSpaceError] when a file at path that takes need bytes
// of disk, holes not counted, has no room.
func CheckSpace(path string, need int64) error {
	free, err := freeSpace(path)
	if err != nil {
		return err
	}
	if need > free {
		return &NoSpaceError{Path: path, Need: need, Free: free}
	}
	return nil
}

func freeSpace(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &s); err != nil {
		return -1, fmt.Errorf("looking for free space in %s: %w", filepath.Dir(path), err)
	}
	free := int64(s.Bavail) * s.Bsize
	if free < 0 || s.Bsize != 0 && free/s.Bsize != int64(s.Bavail) {
		free = 1<<63 - 1 // some network file systems say "as much as you like"
	}
	return free, nil
}

// Explain turns an error that means a full disk, or a quota, into a
// [NoSpaceError]. Other errors and nil stay as they are.
func Explain(err error, path string, need int64) error {
	var known *NoSpaceError
	if errors.As(err, &known) {
		return err
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &NoSpaceError{Path: path, Need: need, Free: -1, Err: err}
	}
	return err
}
