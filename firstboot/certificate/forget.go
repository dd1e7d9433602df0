package certificate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/prose-im/prose-image/firstboot/preflight"
)

// Forget puts an end to all that another machine has begun at authorities, for
// a machine whose disk is a copy: its accounts and orders belong to the
// original, and two who act as one would get in each other's way. Certificates
// stay. The accounts go first: an order without its account is given up, while
// a new account with an old order would act for the original.
func (k *Keeper) Forget() error {
	entries, err := os.ReadDir(k.Paths.State)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting accounts: %w", err)
	}
	for _, e := range entries {
		dir := filepath.Join(k.Paths.State, e.Name())
		if _, err := os.Stat(filepath.Join(dir, "account.key")); err != nil {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("forgetting accounts: %w", err)
		}
	}
	for _, n := range k.Settings.Names {
		r, err := k.Paths.loadRecord(n.Host, k.Clock())
		if err != nil {
			return err
		}
		if r.Order == nil && r.Preflight.At.IsZero() && r.SoftSince.IsZero() {
			continue
		}
		// What was seen was seen from elsewhere. Tries and failures stay: the
		// authority counts them by name.
		r.Order, r.Preflight, r.SoftSince = nil, preflight.Result{}, time.Time{}
		if err := k.Paths.saveRecord(r); err != nil {
			return err
		}
	}
	return nil
}
