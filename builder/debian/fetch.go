package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/prose-im/prose-image/builder/host"
)

// aptHelper downloads with apt's own configuration: its proxies, its mirrors'
// credentials, its hash checks.
const aptHelper = "/usr/lib/apt/apt-helper"

// CachePath is where the cache keeps a package file.
func CachePath(cache string, p Package) string {
	return filepath.Join(cache, "packages", "sha256", p.SHA256+".deb")
}

// Missing lists the packages whose files the cache does not have.
func Missing(cache string, packages []Package) []Package {
	var missing []Package
	for _, p := range packages {
		if info, err := os.Stat(CachePath(cache, p)); err != nil || info.Size() != p.Size {
			missing = append(missing, p)
		}
	}
	return missing
}

// Fetch brings the files that the cache lacks. A file enters the cache only
// when its sha256 is right.
func Fetch(ctx context.Context, cache string, packages []Package) error {
	missing := Missing(cache, packages)
	if len(missing) == 0 {
		return nil
	}
	dir := filepath.Join(cache, "packages", "sha256")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("fetching packages: %w", err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "incoming-")
	if err != nil {
		return fmt.Errorf("fetching packages: %w", err)
	}
	defer os.RemoveAll(temp)

	args := []string{aptHelper, "-qq", "-o", "Acquire::Retries=3", "-o", "APT::Sandbox::User=", "download-file"}
	for _, p := range missing {
		args = append(args, p.URI, filepath.Join(temp, p.SHA256), "SHA256:"+p.SHA256)
	}
	downloadErr := host.Run(ctx, host.Command{Args: args})
	if ctx.Err() != nil {
		return downloadErr
	}
	// One file that is gone must not cost the others: keep what came.
	var gone []error
	for _, p := range missing {
		if err := admit(filepath.Join(temp, p.SHA256), CachePath(cache, p), p); err != nil {
			if errors.Is(err, os.ErrNotExist) && downloadErr != nil {
				err = downloadErr
			}
			gone = append(gone, &GoneError{Package: p, Err: err})
		}
	}
	if len(gone) > 3 {
		gone = append(gone[:3], fmt.Errorf("and %d more packages", len(gone)-3))
	}
	return errors.Join(gone...)
}

// admit moves a downloaded file to its place when it is what it should be.
func admit(from, to string, p Package) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != p.SHA256 {
		return fmt.Errorf("its sha256 is %s", got)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(from, to)
}
