package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/prose-im/prose-image/builder/cache"
)

// Check reads a recipe, what it names and its lock, and returns everything that
// is wrong with them. It writes nothing.
func Check(c Config) error {
	if c.Lock == "" {
		c.Lock = LockPath(c.Recipe)
	}
	in, err := loadInputs(&c)
	lock, lockErr := ReadLock(c.Lock)
	if errors.Is(lockErr, fs.ErrNotExist) {
		lockErr = nil
	}
	if err != nil || lockErr != nil {
		return errors.Join(err, lockErr)
	}
	if lock == nil {
		return nil
	}
	return lock.fits(c.Lock, in.Recipe, in.request(), in.imageNames())
}

// Prepare does what comes before the first layer of a bake and returns the
// plan.
func Prepare(ctx context.Context, c Config) (*Plan, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	release, err := cache.Use(ctx, c.Cache)
	if err != nil {
		return nil, err
	}
	defer release()
	in, err := load(ctx, &c)
	if err != nil {
		return nil, err
	}
	return NewPlan(in)
}

// UpdateLock writes the lock of a recipe and returns its path. One that is
// there is kept, when it fits, unless update is set.
func UpdateLock(ctx context.Context, c Config, update bool) (string, error) {
	if err := c.fill(); err != nil {
		return "", err
	}
	if _, err := os.Stat(c.Lock); err == nil && !update {
		return c.Lock, Check(c)
	}
	release, err := cache.Use(ctx, c.Cache)
	if err != nil {
		return "", err
	}
	defer release()
	in, err := loadInputs(&c)
	if err != nil {
		return "", err
	}
	if err := in.resolve(ctx, &c); err != nil {
		return "", fmt.Errorf("locking: %w", err)
	}
	return c.Lock, nil
}
