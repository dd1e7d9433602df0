package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// freshPrefix begins the names of the caches that [Fresh] makes.
const freshPrefix = "fresh-"

// Fresh makes a cache inside the one in dir that shares its packages and blobs,
// which are hashed before each use, and has nothing that a bake made: all of that
// is made anew.
// Release removes it.
func Fresh(ctx context.Context, dir string) (fresh string, release func() error, err error) {
	used, err := Use(ctx, dir)
	if err != nil {
		return "", nil, err
	}
	release = func() error {
		defer used()
		if fresh == "" {
			return nil
		}
		return os.RemoveAll(fresh) // it does not follow links
	}
	if fresh, err = os.MkdirTemp(dir, freshPrefix); err == nil {
		err = share(dir, fresh)
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("making a cache without layers: %w", err), release())
	}
	return fresh, release, nil
}

func share(dir, fresh string) error {
	if err := os.Chmod(fresh, 0o755); err != nil {
		return err
	}
	for _, k := range kinds {
		if k.own {
			continue
		}
		if err := os.MkdirAll(filepath.Join(dir, k.dir), 0o755); err != nil {
			return err
		}
		top := filepath.Dir(k.dir)
		if err := os.Symlink(filepath.Join("..", top), filepath.Join(fresh, top)); err != nil {
			return err
		}
	}
	return nil
}
