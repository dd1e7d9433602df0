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
	"runtime"
	"sync"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/host"
)

// aptHelper downloads with apt's own configuration: its proxies, its mirrors'
// credentials, its hash checks.
const aptHelper = "/usr/lib/apt/apt-helper"

// CachePath is where the cache keeps a package file.
func CachePath(cache string, p Package) string {
	return filepath.Join(cache, "packages", "sha256", p.SHA256+".deb")
}

// Missing lists the packages whose files the cache does not have as the lock
// says, by hashing them; it notes the use of the others.
func Missing(ctx context.Context, dir string, packages []Package) ([]Package, error) {
	sound := make([]bool, len(packages))
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				path := CachePath(dir, packages[i])
				if ctx.Err() == nil && hashes(path, packages[i]) == nil {
					sound[i] = true
					cache.Touch(path)
				}
			}
		})
	}
	for i := range packages {
		next <- i
	}
	close(next)
	wg.Wait()
	var missing []Package
	for i, p := range packages {
		if !sound[i] {
			missing = append(missing, p)
		}
	}
	return missing, context.Cause(ctx)
}

// Fetch brings the files that the cache lacks. A file enters the cache only
// when its sha256 is right, and one that was damaged since is replaced.
func Fetch(ctx context.Context, cache string, packages []Package) error {
	missing, err := Missing(ctx, cache, packages)
	if err != nil || len(missing) == 0 {
		return err
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
	if err := hashes(from, p); err != nil {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// hashes reports how a file is not the package's.
func hashes(path string, p Package) error {
	f, err := os.Open(path)
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
	return nil
}
