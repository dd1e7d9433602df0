package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/prose-im/prose-image/builder/catalog"
)

// known is how many releases the measured catalog holds.
const known = 1000

// catalog measures what it takes to open a catalog and to let go of it, in a
// process that runs its node.
func (b *benchmark) catalog() (row, error) {
	ctx := context.Background()
	dir := filepath.Join(b.work, "catalog")
	c, err := catalog.Open(ctx, dir)
	if err != nil {
		return row{}, err
	}
	for i := range known {
		release := fmt.Sprintf("%064x", i)
		err := c.Record(ctx, catalog.Bake{Release: release, Name: "prose", Version: "0", Arch: "amd64", Recipe: release, Lock: release, At: time.Now(),
			Artifacts: []catalog.Artifact{{Platform: "generic", Format: "qcow2", Path: "/srv/images/" + release, Size: 1, SHA256: release}}})
		if err != nil {
			return row{}, err
		}
	}
	if err := c.Close(); err != nil {
		return row{}, err
	}
	var closing float64
	opening, err := b.median(func(int) (sample, error) {
		start := time.Now()
		c, err := catalog.Open(ctx, dir)
		if err != nil {
			return sample{}, err
		}
		s := sample{seconds: time.Since(start).Seconds()}
		start = time.Now()
		err = c.Close()
		closing = max(closing, time.Since(start).Seconds())
		return s, err
	})
	return row{fmt.Sprintf("catalog of %d releases opened", known), fmt.Sprintf("%.0f ms, and closed in %.0f ms or less", opening.seconds*1000, closing*1000), "at most 200 ms"}, err
}
