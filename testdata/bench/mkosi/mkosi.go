// Package mkosi has mkosi build, in a Debian 13, the image that is nearest to
// one that a bake has made: from the same package files, with the same initrd
// settings, container store and files. The directory files is its
// configuration.
//
// See mkosi(1) of the version that Debian 13 has.
package mkosi

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/debian"
	"github.com/prose-im/prose-image/overlays"
	"github.com/prose-im/prose-image/testdata/chroot"
)

//go:embed files
var files embed.FS

// packages are what mkosi needs for a disk with GRUB, beyond what it depends on.
var packages = []string{"mkosi", "debian-archive-keyring", "grub-common", "grub-pc-bin"}

// work is where the directory of a build is in the chroot.
const work = "/work"

// A Config says what to build from.
type Config struct {
	Dir   string // of the build; made when it is missing
	Cache string // of the bake
	Lock  string // of the bake
	Out   string // of the bake: its manifest names the layers
}

// A Build is a directory that mkosi builds in.
type Build struct {
	Version string // of mkosi
	dir     string // absolute
	root    chroot.Root
}

// Prepare makes the chroot, when there is none of an earlier run, and the
// directory of the build.
func Prepare(ctx context.Context, c Config) (*Build, error) {
	fail := func(err error) (*Build, error) { return nil, fmt.Errorf("preparing mkosi: %w", err) }
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return fail(err)
	}
	b := &Build{dir: dir}
	if b.root, err = chroot.Make(ctx, filepath.Join(c.Cache, "chroot"), "trixie", packages); err != nil {
		return fail(err)
	}
	if b.Version, err = b.root.Version(ctx, "mkosi"); err != nil {
		return fail(err)
	}
	lock, err := builder.ReadLock(c.Lock)
	if err != nil {
		return fail(err)
	}
	made, err := builder.ReadManifest(c.Out)
	if err != nil {
		return fail(err)
	}
	if err := b.configure(lock); err != nil {
		return fail(err)
	}
	if err := mirror(ctx, filepath.Join(dir, "mirror"), c.Cache, lock); err != nil {
		return fail(err)
	}
	for _, l := range made.Layers {
		if l.Kind == "containers" || l.Kind == "files" || l.Kind == "agent" {
			if err := debian.Place(cache.LayerPath(c.Cache, l.Key), filepath.Join(dir, l.Kind+".tar")); err != nil {
				return fail(err)
			}
		}
	}
	return b, b.Change("0")
}

// configure writes the configuration and what makes the initrd.
func (b *Build) configure(lock *builder.Lock) error {
	conf, err := fs.Sub(files, "files")
	if err != nil {
		return err
	}
	if err := os.CopyFS(b.dir, conf); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Join(b.dir, "mkosi.postinst.chroot"), 0o755); err != nil {
		return err
	}
	for _, d := range []string{"out", "cache", "packages", "workspace", "initrd", "own/etc"} {
		if err := os.MkdirAll(filepath.Join(b.dir, d), 0o755); err != nil {
			return err
		}
	}
	initrd, err := overlays.Initrd()
	if err != nil {
		return err
	}
	for _, f := range initrd {
		name := filepath.Join(b.dir, "initrd", f.Path)
		if f.Type == overlays.Dir {
			if err := os.MkdirAll(name, os.FileMode(f.Mode)); err != nil {
				return err
			}
			continue
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, f.Content, os.FileMode(f.Mode))); err != nil {
			return err
		}
	}
	text := "[Content]\nPackages=" + strings.Join(lock.Request, "\n         ") + "\n"
	return os.WriteFile(filepath.Join(b.dir, "packages.conf"), []byte(text), 0o644)
}

// Change writes the one file of an extra tree that is different in each build.
func (b *Build) Change(text string) error {
	return os.WriteFile(filepath.Join(b.dir, "own/etc/bench"), []byte(text+"\n"), 0o644)
}

// Cold builds the image from the packages and returns how long mkosi took.
func (b *Build) Cold(ctx context.Context) (time.Duration, error) {
	return b.run(ctx, "--force", "build")
}

// Incremental is the same with the tree that an earlier incremental build has
// cached; the first one caches it.
func (b *Build) Incremental(ctx context.Context) (time.Duration, error) {
	return b.run(ctx, "--incremental", "--force", "build")
}

func (b *Build) run(ctx context.Context, args ...string) (time.Duration, error) {
	cmd := b.root.Command(ctx, []chroot.Bind{{From: b.dir, To: work}}, append([]string{"mkosi", "--directory", work}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("mkosi %s: %w\n%s", strings.Join(args, " "), err, &out)
	}
	took := time.Since(start)
	if info, err := os.Stat(b.Image()); err != nil || info.ModTime().Before(start.Add(-time.Second)) {
		return 0, fmt.Errorf("mkosi %s: it left no new image\n%s", strings.Join(args, " "), &out)
	}
	return took, nil
}

// Image is the path of the raw disk that was built last.
func (b *Build) Image() string { return filepath.Join(b.dir, "out/image.raw") }
