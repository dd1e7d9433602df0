package publish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/builder/checksum"
)

// files are the changes that the directory target makes, each one operation
// that a crash may fall before or after.
type files struct {
	// do runs an operation; tests end the process in it. nil: it just runs.
	do    func(op, path string, run func() error) error
	chunk int // bytes written at once
}

func (f files) op(op, path string, run func() error) error {
	if f.do == nil {
		return run()
	}
	return f.do(op, path, run)
}

// mkdirs makes dir below root, and each one durable in its parent.
func (f files) mkdirs(root, dir string) error {
	if dir == root || dir == "." || dir == "/" {
		return nil
	}
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := f.mkdirs(root, filepath.Dir(dir)); err != nil {
		return err
	}
	err := f.op("mkdir", dir, func() error { return os.Mkdir(dir, 0o777) })
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return f.syncDir(filepath.Dir(dir))
}

func (f files) syncDir(dir string) error {
	return f.op("sync", dir, func() error { return syncDir(dir) })
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}

// temp makes a synced file in dir, under a name of its own, from what r gives,
// with holes where there is a run of zeros. It returns the name and the SHA-256.
func (f files) temp(ctx context.Context, dir string, r io.Reader) (name, sum string, err error) {
	name = filepath.Join(dir, fmt.Sprintf("%d.%016x.part", os.Getpid(), rand.Uint64()))
	var out *os.File
	err = f.op("create", name, func() error {
		out, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		return err
	})
	if err != nil {
		return "", "", err
	}
	defer func() {
		out.Close()
		if err != nil {
			_ = os.Remove(name)
		}
	}()
	sum, err = f.fill(ctx, out, r)
	if err == nil {
		err = f.op("sync", name, out.Sync)
	}
	if err == nil {
		err = out.Close() // a network file system may tell only now
	}
	return name, sum, err
}

func (f files) fill(ctx context.Context, out *os.File, r io.Reader) (string, error) {
	h := sha256.New()
	buf, zeros := make([]byte, f.chunk), make([]byte, f.chunk)
	size := int64(0)
	for {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		n, err := io.ReadFull(r, buf)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return "", err
		}
		h.Write(buf[:n])
		if n > 0 && string(buf[:n]) != string(zeros[:n]) {
			if werr := f.op("write", out.Name(), func() error { _, err := out.WriteAt(buf[:n], size); return err }); werr != nil {
				return "", werr
			}
		}
		size += int64(n)
		if err != nil {
			break
		}
	}
	if err := f.op("truncate", out.Name(), func() error { return out.Truncate(size) }); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// replace renames from to to, in place of what is there.
func (f files) replace(from, to string) error {
	if err := f.op("rename", to, func() error { return os.Rename(from, to) }); err != nil {
		return err
	}
	return f.syncDir(filepath.Dir(to))
}

// place moves from to to, where nothing may be: then the error is
// [fs.ErrExist].
func (f files) place(from, to string) error {
	err := f.op("place", to, func() error {
		return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	})
	// NFS has no such rename, but link(2) does not replace anything either.
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		if err = f.op("link", to, func() error { return os.Link(from, to) }); err == nil {
			err = f.op("remove", from, func() error { return os.Remove(from) })
		}
	}
	if err != nil {
		return fmt.Errorf("placing %s: %w", to, err)
	}
	return f.syncDir(filepath.Dir(to))
}

// removeAll removes a tree or a file, as far as it is there.
func (f files) removeAll(name string) error {
	if err := f.op("remove", name, func() error { return os.RemoveAll(name) }); err != nil {
		return err
	}
	return f.syncDir(filepath.Dir(name))
}

// sumFile is the length and SHA-256 of a file as the disk or the server has it,
// not as it is still in memory.
func sumFile(ctx context.Context, name string) (int64, string, error) {
	in, err := os.Open(name)
	if err != nil {
		return 0, "", err
	}
	defer in.Close()
	_ = unix.Fadvise(int(in.Fd()), 0, 0, unix.FADV_DONTNEED)
	return checksum.Of(ctx, in)
}
