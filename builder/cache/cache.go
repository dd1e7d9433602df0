// Package cache keeps what bakes use again. It is a directory that several
// bakes may share:
//
//	layers/KEY.tar            a layer, named by the hash of all that goes into it
//	layers/KEY.json           its [Record]: what that was, and what the tar hashes to
//	packages/sha256/HEX.deb   a Debian package file
//	blobs/sha256/HEX          a part of a container image
//	clusters/HEX.pack         deflated parts of disks
//
// An entry appears whole, by rename. The packages debian, dockerstore and
// clusters put theirs here themselves; this package keeps layers, and looks after everything:
// [List], [Clean] and [Verify].
//
// The time of an entry's last change is that of its last use ([Touch]). A bake
// holds a shared flock(2) of the directory ([Use]) and removing takes an
// exclusive one, so nothing goes that a bake counts on; the kernel gives the
// lock back when a process is killed.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultDir is the user's own cache.
func DefaultDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache: %w", err)
	}
	return filepath.Join(dir, "prose-image"), nil
}

// Touch notes that the entry at path is used now. A cache that this process may
// not write is used without notes.
func Touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}

// removing is how long a bake waits for a clean-up that goes on. That only
// unlinks files.
const removing = 2 * time.Minute

// Use says that a bake counts on what is in dir, until release is called. Where
// the file system has no locks it says so to nobody, and nothing can be removed
// there either.
func Use(ctx context.Context, dir string) (release func(), err error) {
	f, err := open(dir)
	if err != nil {
		return nil, err
	}
	if err := waitFor(ctx, f, unix.LOCK_SH, removing); err != nil {
		f.Close()
		return nil, fmt.Errorf("waiting for a clean-up of the cache %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// A NoCacheError says that there is no cache where one is looked for.
type NoCacheError struct{ Dir string }

func (e *NoCacheError) Error() string { return "there is no cache in " + e.Dir }

// Hint is what makes one.
func (e *NoCacheError) Hint() string { return "the first bake makes it: prose-image bake RECIPE" }

func open(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NoCacheError{dir}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the cache: %w", err)
	}
	return f, nil
}

// An InUseError says that a bake counts on what is in a cache.
type InUseError struct{ Dir string }

func (e *InUseError) Error() string { return fmt.Sprintf("a bake is using the cache %s", e.Dir) }

// Hint is the next thing to do.
func (e *InUseError) Hint() string { return "wait for its end, and run the same command again" }

// alone keeps bakes out until release is called. It does not wait for those
// that run: then the error is an [InUseError].
func alone(dir string) (release func(), err error) {
	f, err := open(dir)
	if err != nil {
		return nil, err
	}
	switch err := flock(f, unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		f.Close()
		return nil, &InUseError{dir}
	case err != nil:
		f.Close()
		return nil, fmt.Errorf("locking the cache %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// waitFor takes a lock of f, at most for the given time. A file system that has
// no locks gives none, which is no error.
func waitFor(ctx context.Context, f *os.File, how int, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		if err := flock(f, how|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is still locked after %v", f.Name(), limit)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// A DamagedError is an entry whose content is not what it should be.
type DamagedError struct{ Path, Why string }

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %s", e.Path, e.Why) }

// Hint is the next thing to type.
func (e *DamagedError) Hint() string { return "prose-image cache verify --remove" }

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
