// Package seed writes NoCloud seeds: the small ISO 9660 image, labelled
// cidata, from which cloud-init and the agent read user-data where there is no
// metadata service. Proxmox, libvirt and QEMU attach it as a drive.
//
// It has a writer of its own because a seed is a few small files in one
// directory and must be the same bytes for the same content.
package seed

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A Seed is the content of the files of a NoCloud seed.
type Seed struct {
	UserData      []byte // user-data: "#cloud-config" and so on
	MetaData      []byte // meta-data, YAML; empty: an instance-id from the other files' hash
	NetworkConfig []byte // network-config, version 1 or 2; nil: no such file
	VendorData    []byte // vendor-data; nil: no such file
}

// Label is the volume label by which NoCloud finds a seed.
const Label = "cidata"

// MaxFile is the most bytes one file may have: what the agent reads.
const MaxFile = 1 << 20

// epoch is the only date in a seed. It is not the epoch of Unix, which some
// tools show as "no date".
var epoch = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// Encode returns the seed as an ISO 9660 image. The same seed gives the same
// bytes.
func (s Seed) Encode() ([]byte, error) {
	meta := s.MetaData
	if len(bytes.TrimSpace(meta)) == 0 {
		h := sha256.New()
		for _, b := range [][]byte{s.UserData, s.NetworkConfig, s.VendorData} {
			fmt.Fprintf(h, "%d\n", len(b))
			h.Write(b)
		}
		meta = fmt.Appendf(nil, "instance-id: seed-%x\n", h.Sum(nil)[:8])
	}
	// user-data and meta-data must both be there, however empty, or cloud-init
	// takes the drive for something else.
	files := []file{{name: "user-data", data: s.UserData}, {name: "meta-data", data: meta}}
	if s.NetworkConfig != nil {
		files = append(files, file{name: "network-config", data: s.NetworkConfig})
	}
	if s.VendorData != nil {
		files = append(files, file{name: "vendor-data", data: s.VendorData})
	}
	for _, f := range files {
		if len(f.data) > MaxFile {
			return nil, fmt.Errorf("making a seed: %s has %d bytes, %d are the most", f.name, len(f.data), MaxFile)
		}
	}
	return encode(Label, files, epoch), nil
}

// Write writes the seed to a file that appears when it is complete. Only its
// owner may read it: user-data can hold passwords.
func Write(path string, s Seed) error {
	img, err := s.Encode()
	if err != nil {
		return err
	}
	if err := write(path, img); err != nil {
		return fmt.Errorf("writing seed %s: %w", path, err)
	}
	return nil
}

func write(path string, data []byte) (err error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return errors.New("it is a directory")
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	var named *fs.PathError
	if errors.As(err, &named) {
		return named.Err // nobody knows the temporary name
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil // written; only a power cut could still undo it
	}
	defer dir.Close()
	_ = dir.Sync()
	return nil
}
