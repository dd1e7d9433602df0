package cache

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// claimSuffix ends the names of files that bakes lock while they make a layer.
const claimSuffix = ".making"

// claiming is how long another process may take to make one layer.
const claiming = 2 * time.Hour

// Claim waits until no other process makes the layer for key, and keeps others
// from it until release is called. Whoever has waited should look whether the
// layer is there now. That two make the same layer does no harm: it is an error
// only after two hours.
func Claim(ctx context.Context, dir, key string) (release func(), err error) {
	layer := LayerPath(dir, key)
	if err := os.MkdirAll(filepath.Dir(layer), 0o755); err != nil {
		return nil, err
	}
	path := layer[:len(layer)-len(layerSuffix)] + claimSuffix
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		if err := waitFor(ctx, f, unix.LOCK_EX, claiming); err != nil {
			f.Close()
			return nil, fmt.Errorf("waiting for another bake to make a layer: %w", err)
		}
		// The one before has removed the file that it had locked.
		mine, err := f.Stat()
		if named, err2 := os.Stat(path); err == nil && err2 == nil && os.SameFile(mine, named) {
			return func() { os.Remove(path); f.Close() }, nil
		}
		f.Close()
	}
}
