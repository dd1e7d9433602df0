package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestClaim has many make one layer: one at a time, and nothing is left.
func TestClaim(t *testing.T) {
	dir, key := t.TempDir(), strings.Repeat("a", 64)
	var inside, most atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			release, err := Claim(t.Context(), dir, key)
			if err != nil {
				t.Error(err)
				return
			}
			if n := inside.Add(1); n > most.Load() {
				most.Store(n)
			}
			inside.Add(-1)
			release()
		})
	}
	all.Wait()
	if most.Load() != 1 {
		t.Errorf("%d at a time", most.Load())
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "layers")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	release, err := Claim(t.Context(), dir, key)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Claim(ctx, dir, key); !errors.Is(err, context.Canceled) {
		t.Errorf("while another has it, cancelled: %v", err)
	}
}
