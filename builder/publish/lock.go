package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const lockName = "lock"

// A holder is what a lock says of who has it.
type holder struct {
	Owner string `json:"owner"` // a number of its own
	Where string `json:"where"` // kernel and process namespace in which PID means something; empty: not known
	PID   int    `json:"pid"`
}

func (h holder) encode() []byte {
	b, err := json.Marshal(h)
	if err != nil {
		panic("BUG: " + err.Error()) // strings and a number
	}
	return b
}

// here names this machine's boot and the namespace of our process id.
func here() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(boot)) + " " + space
}

// dead tells for sure that the holder's process has ended.
func (h holder) dead() bool {
	return h.Where != "" && h.Where == here() && h.PID > 0 && errors.Is(unix.Kill(h.PID, 0), unix.ESRCH)
}

func (d *directory) lockPath() string { return filepath.Join(d.root, hidden, lockName) }

// deadLock is what is in the lock when the process that took it has ended, or
// when it is ours and could not be given back.
func (d *directory) deadLock() []byte {
	b, err := os.ReadFile(d.lockPath())
	var h holder
	if err != nil || json.Unmarshal(b, &h) != nil || h != d.me && !h.dead() {
		return nil
	}
	return b
}

// locked runs work while no other process that is well writes the indexes of
// this directory. The lock is a file that link(2) makes, which NFS does for one
// of many; one that did not change for a while has lost its owner, and is moved
// away. Should that owner only have slept and write after all, what it writes
// is made from the same records: the next look finds what is missing.
func (d *directory) locked(ctx context.Context, img Image, work func() error) error {
	dir := d.staging(img)
	lock := d.lockPath()
	mine := d.me.encode()
	if err := d.files.mkdirs(d.root, dir); err != nil {
		return err
	}
	temp, _, err := d.files.temp(ctx, dir, bytes.NewReader(mine))
	if err != nil {
		return err
	}
	defer os.Remove(temp)

	var (
		last  []byte
		since time.Time
		start = time.Now()
	)
	for {
		if err := d.take(temp, lock); err == nil || holds(lock, mine) {
			break
		} else if !errors.Is(err, fs.ErrExist) {
			return err
		}
		now, err := os.ReadFile(lock)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if since.IsZero() || !bytes.Equal(now, last) {
			last, since = now, time.Now()
		}
		var h holder
		if json.Unmarshal(now, &h) == nil && h.dead() || time.Since(since) > d.stale {
			if err := d.takeAway(lock, filepath.Join(dir, d.me.Owner+".stale.part"), now); err != nil {
				return err
			}
			since = time.Time{}
			continue
		}
		if time.Since(start) > 5*time.Minute {
			return fmt.Errorf("waiting for %s: others had it for five minutes, last %s", lock, now)
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	defer func() {
		if b, err := os.ReadFile(lock); err == nil && bytes.Equal(b, mine) {
			_ = d.files.op("unlock", lock, func() error { return os.Remove(lock) })
		}
	}()
	return work()
}

// take makes the lock. Where there are no links, it is a copy.
func (d *directory) take(temp, lock string) error {
	err := d.files.op("lock", lock, func() error { return os.Link(temp, lock) })
	// The answer of a server may have been lost: two names tell.
	if info, serr := os.Stat(temp); err != nil && serr == nil {
		other, oerr := os.Stat(lock)
		if oerr == nil && os.SameFile(info, other) {
			return nil
		}
	}
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	b, err := os.ReadFile(temp)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(lock, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// takeAway removes the lock that was seen, and not another that came since.
func (d *directory) takeAway(lock, temp string, seen []byte) error {
	err := d.files.op("unlock", lock, func() error { return os.Rename(lock, temp) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil // its owner, or another, was quicker
	}
	if err != nil {
		return err
	}
	if b, err := os.ReadFile(temp); err == nil && !bytes.Equal(b, seen) {
		_ = os.Link(temp, lock)
	}
	return os.Remove(temp)
}
