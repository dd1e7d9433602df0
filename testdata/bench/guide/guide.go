// Package guide makes the machines that ours is measured against: Debian 13
// with Debian's own settings and the packages that the guide wants installed.
//
//   - [Guide] has an archive of the Pod's images and a script of the guide's
//     commands, for cloud-init to run.
//   - [Store] has the Pod's images in the engine's store, as our image does,
//     and all that the guide would have written, with certificates that nobody
//     has signed: its Pod starts with the machine.
//
// Both are the best that the guide can be: everything that it downloads is on
// the disk already.
package guide

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/debian"
	"github.com/prose-im/prose-image/builder/disk"
	"github.com/prose-im/prose-image/builder/dockerstore"
	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// Kind is which machine.
type Kind string

// The machines.
const (
	Guide Kind = "guide"
	Store Kind = "store"
)

// A Config says what to make and from what.
type Config struct {
	Kind   Kind
	Domain string // of the Pod; [Store] has it on its disk
	Lock   string // of the image that it is compared with: the same images
	Layout string // OCI layout of those images
	Cache  string // package files, and Debian between runs
}

// Bake writes the machine's disk, raw, to path.
func Bake(ctx context.Context, c Config, path string) error {
	fail := func(err error) error { return fmt.Errorf("making the machine %q: %w", c.Kind, err) }
	lock, err := builder.ReadLock(c.Lock)
	if err != nil {
		return fail(err)
	}
	t := tree.New()
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	add := func(name string, fill func(*layer.Writer) error) error {
		l, f, err := cached(c.Cache, name, fill)
		if err != nil {
			return err
		}
		files = append(files, f)
		return t.Add(l)
	}
	base, err := resolve(ctx, lock)
	if err != nil {
		return fail(err)
	}
	sum := sha256.Sum256(fmt.Append(nil, base))
	if err := add(fmt.Sprintf("plain-%x", sum[:8]), func(w *layer.Writer) error { return install(ctx, c.Cache, base, w) }); err != nil {
		return fail(err)
	}
	ids := disk.Derive(sha256.Sum256([]byte(c.Kind)))
	list, err := c.files(t, ids, lock)
	if err != nil {
		return fail(err)
	}
	if err := add("", func(w *layer.Writer) error { return write(w, list, base.Epoch) }); err != nil {
		return fail(err)
	}
	if c.Kind == Store {
		err := add("", func(w *layer.Writer) error { return store(ctx, c, lock, w) })
		if err != nil {
			return fail(err)
		}
	}
	_, err = disk.Write(ctx, path, t, disk.Options{Arch: "amd64", IDs: ids, Label: "root", Time: base.Epoch, Free: 512 << 20})
	if err != nil {
		return fail(err)
	}
	return nil
}

// resolve asks apt for the packages' versions.
func resolve(ctx context.Context, lock *builder.Lock) (debian.Base, error) {
	r, err := debian.Resolve(ctx, debian.Request{Suite: lock.Suite, Arch: "amd64", Packages: packages})
	if err != nil {
		return debian.Base{}, err
	}
	return debian.Base{Suite: lock.Suite, Arch: "amd64", Sources: r.Sources, Locked: r.Packages, Packages: packages, Run: []string{bootScript}, Epoch: r.Date}, nil
}

func install(ctx context.Context, cache string, base debian.Base, w *layer.Writer) error {
	if err := debian.Fetch(ctx, cache, base.Locked); err != nil {
		return err
	}
	spool, err := os.CreateTemp(cache, "plain-*.tar")
	if err != nil {
		return err
	}
	defer os.Remove(spool.Name())
	defer spool.Close()
	if err := debian.Bootstrap(ctx, cache, base, spool); err != nil {
		return err
	}
	return debian.Import(spool, w, base.Epoch, nil)
}

// store puts the images into the engine's store, as a bake does.
func store(ctx context.Context, c Config, lock *builder.Lock, w *layer.Writer) error {
	source := &dockerstore.Source{Cache: c.Cache, Mirror: dockerstore.Mirror{"docker.io/proseim": "oci:" + c.Layout}, Platform: "linux/amd64"}
	var all []dockerstore.Pinned
	for _, i := range lock.Images {
		p := dockerstore.Pinned{Reference: i.Name, Digest: i.Digest, Manifest: i.Manifest}
		if err := source.Fetch(ctx, p); err != nil {
			return err
		}
		all = append(all, p)
	}
	return dockerstore.Write(ctx, w, all, dockerstore.Options{Cache: c.Cache, Time: time.Unix(0, 0)})
}

// cached opens a layer that an earlier run has left under its name, or makes
// it. One without a name is made each time and kept nowhere.
func cached(dir, name string, fill func(*layer.Writer) error) (_ *layer.Layer, _ *os.File, err error) {
	path := filepath.Join(dir, "bench", name+".tar")
	if name != "" {
		f, err := os.Open(path)
		if err == nil {
			return open(name, f)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "new-*")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w, err := layer.NewWriter(f, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(fill(w), w.Close()); err != nil {
		return nil, nil, err
	}
	if name == "" {
		err = os.Remove(f.Name())
	} else {
		err = errors.Join(f.Sync(), os.Rename(f.Name(), path))
	}
	if err != nil {
		return nil, nil, err
	}
	return open(strings.TrimSuffix(filepath.Base(path), ".tar"), f)
}

func open(name string, f *os.File) (*layer.Layer, *os.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	l, err := layer.Read(name, f, info.Size())
	if err != nil {
		f.Close()
	}
	return l, f, err
}
