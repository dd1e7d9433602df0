package certificate

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/prose-im/prose-image/firstboot/beneath"
)

// writeFile replaces a file as a whole, and returns once it would survive a
// power cut. The directory must be root's alone.
func writeFile(path string, data []byte, mode os.FileMode) (err error) {
	defer func() {
		if err == nil {
			return
		}
		if d, e := os.Open(filepath.Dir(path)); e == nil {
			err = beneath.Short(err, d, len(data))
			d.Close()
		}
	}()
	// One name, so that killed runs leave one such file at most.
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", path, err)
	}
	return nil
}
