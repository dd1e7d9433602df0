package door

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Files of the door's directory, besides one for each link that was used.
const (
	epochFile   = "epoch"   // the epoch, as opaque text; missing: the first one
	accountFile = "account" // there once an account was seen in this epoch
)

// readEpoch gives the epoch. Root reads it too: no link is followed, and nothing
// that is put there makes it wait.
func readEpoch(state string) (string, error) {
	f, err := os.OpenFile(filepath.Join(state, epochFile), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the door's epoch: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return "", fmt.Errorf("reading the door's epoch: %w", err)
	}
	return string(b), nil
}

// seen reports whether an account was seen in this epoch.
func seen(state string) (bool, error) {
	_, err := os.Lstat(filepath.Join(state, accountFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// note remembers what the Pod has said, and gives the epoch. An account that is
// gone ends the epoch. What it remembers is on disk before anybody gets in by it.
func note(state string, exists bool) (string, error) {
	before, err := seen(state)
	switch {
	case err != nil:
		return "", fmt.Errorf("looking at the door's notes: %w", err)
	case exists && !before:
		if err := put(state, accountFile, nil); err != nil {
			return "", err
		}
	case !exists && before:
		// In this order: killed in between, it begins one more epoch.
		nonce := newNonce()
		if err := put(state, epochFile, []byte(hex.EncodeToString(nonce[:]))); err != nil {
			return "", err
		}
		if err := os.Remove(filepath.Join(state, accountFile)); err != nil {
			return "", fmt.Errorf("beginning the door's epoch: %w", err)
		}
	}
	return readEpoch(state)
}

// put writes a file of the door's directory as a whole, and to the disk.
func put(state, name string, data []byte) error {
	temporary := filepath.Join(state, "."+name)
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("writing the door's %s: %w", name, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(temporary, filepath.Join(state, name))
	}
	if err == nil {
		err = syncDir(state)
	}
	if err != nil {
		return fmt.Errorf("writing the door's %s: %w", name, err)
	}
	return nil
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
