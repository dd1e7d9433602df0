package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/prose-im/prose-image/testdata/bench/mkosi"
)

// colds is how often mkosi builds from the packages.
func colds() int { return min(runs(), 3) }

// bakes measures bakes beside what they are compared with, in turns, and says
// where their time goes.
func (b *benchmark) bakes(ctx context.Context) ([]row, string, error) {
	same, err := b.median(func(int) (sample, error) { return b.bake("raw") })
	if err != nil {
		return nil, "", err
	}
	cache, err := userCache()
	if err != nil {
		return nil, "", err
	}
	m, err := mkosi.Prepare(ctx, mkosi.Config{Dir: filepath.Join(b.work, "mkosi"), Cache: cache, Lock: "testdata/recipes/demo.lock", Out: filepath.Join(b.work, "out")})
	if err != nil {
		return nil, "", err
	}
	all := map[string][]sample{}
	run := func(name string, measure func() (sample, error)) error {
		s, err := measure()
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s: %.2f s\n", name, s.seconds)
		all[name] = append(all[name], s)
		return nil
	}
	theirs := func(build func(context.Context) (time.Duration, error)) func() (sample, error) {
		return func() (sample, error) {
			syscall.Sync()
			took, err := build(ctx)
			return sample{seconds: took.Seconds()}, err
		}
	}
	for i := range runs() {
		if err := run("cold", b.cold); err != nil {
			return nil, "", err
		}
		if i < colds() {
			if err := run("mkosi", theirs(m.Cold)); err != nil {
				return nil, "", err
			}
		}
	}
	// The first one fills its cache.
	if _, err := m.Incremental(ctx); err != nil {
		return nil, "", err
	}
	changed := func(n int, format string) func() (sample, error) {
		return func() (sample, error) {
			if err := b.recipe(n); err != nil {
				return sample{}, err
			}
			return b.bake(format)
		}
	}
	for i := range runs() {
		if err := run("raw", changed(i+1, "raw")); err != nil {
			return nil, "", err
		}
		if err := run("cp", b.copy); err != nil {
			return nil, "", err
		}
		if err := run("qcow2", changed(100+i, "qcow2")); err != nil {
			return nil, "", err
		}
		if err := m.Change(strconv.Itoa(i + 1)); err != nil {
			return nil, "", err
		}
		if err := run("mkosi --incremental", theirs(m.Incremental)); err != nil {
			return nil, "", err
		}
	}
	profiles, err := b.profiles(ctx)
	if err != nil {
		return nil, "", err
	}
	mid := map[string]sample{}
	for name, list := range all {
		mid[name] = middling(list)
	}
	against := func(ours, theirs float64) string {
		return fmt.Sprintf("%.2f s / %.2f s = %.3f", ours, theirs, ours/theirs)
	}
	rows := []row{
		{"cold bake, raw, against mkosi with the same packages", against(mid["cold"].seconds, mid["mkosi"].seconds), "at most 0.5"},
		{"one overlay file changed, raw, against mkosi --incremental", against(mid["raw"].seconds, mid["mkosi --incremental"].seconds), "at most 0.05"},
		{"one overlay file changed, qcow2, against the same raw disk by mkosi --incremental", against(mid["qcow2"].seconds, mid["mkosi --incremental"].seconds), "at most 0.15"},
		{"nothing changed", fmt.Sprintf("%.2f s", same.seconds), "at most 0.3 s"},
		{"disk written and synced, against cp --reflink=never and sync of the same file", against(mid["raw"].write, mid["cp"].seconds), "at most 1.5"},
		{"peak memory of the process, raw and qcow2", fmt.Sprintf("%.0f MiB, %.0f MiB", mid["raw"].memory, mid["qcow2"].memory), "at most 256 MiB"},
	}
	return rows, fmt.Sprintf(beside, m.Version) + spans(mid["cold"], mid["raw"], mid["qcow2"]) + profiles, nil
}

// beside is the head of the part about bakes.
const beside = `
Measured beside mkosi %s, which runs as root in a chroot of Debian 13 and has the configuration in testdata/bench/mkosi/files: the package files of our
lock from a mirror on the disk, the same initrd, container store and files, and a disk with GRUB for BIOS, UEFI and Secure Boot. Everything else is its
default. They run in turns. Cold is with package files and container images in the cache and nothing else; changed is with everything in the cache and
one file of an overlay, or of mkosi's extra tree, changed. mkosi's figures are of a raw disk. It does not hash what it made, and writes no SBOM; the bakes
do.

Seconds of the middle run; indented are what mmdebstrap says it does, parts of the line above.

`
