package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// refName is the annotation of the OCI image layout that holds an image's name.
const refName = "org.opencontainers.image.ref.name"

// WriteLayout writes the images as one OCI image layout directory, each with its
// full reference. What was at dir before is replaced when all is written, and
// left alone when it holds the same images.
func WriteLayout(dir string, images []Image) error {
	if holds(dir, images) {
		return nil
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("writing layout %s: %w", dir, err)
	}
	tmp, err := os.MkdirTemp(parent, ".layout-")
	if err != nil {
		return fmt.Errorf("writing layout %s: %w", dir, err)
	}
	defer os.RemoveAll(tmp)
	fresh := filepath.Join(tmp, "new")
	p, err := layout.Write(fresh, empty.Index)
	if err != nil {
		return fmt.Errorf("writing layout %s: %w", dir, err)
	}
	for _, i := range images {
		err := p.AppendIndex(i.Index, layout.WithAnnotations(map[string]string{refName: i.Reference()}))
		if err != nil {
			return fmt.Errorf("writing layout %s: %s: %w", dir, i.Repository, err)
		}
	}
	if err := os.Rename(dir, filepath.Join(tmp, "old")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("writing layout %s: %w", dir, err)
	}
	if err := os.Rename(fresh, dir); err != nil {
		return fmt.Errorf("writing layout %s: %w", dir, err)
	}
	return nil
}

// holds reports whether the layout at dir holds exactly images. A layout appears
// whole, so its index speaks for its blobs.
func holds(dir string, images []Image) bool {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return false
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != len(images) {
		return false
	}
	for n, d := range manifest.Manifests {
		if d.Digest != images[n].Digest || d.Annotations[refName] != images[n].Reference() {
			return false
		}
	}
	return true
}

// Serve serves the images on listener as a registry in memory, under their
// repositories and tags. It calls ready once all can be pulled, and returns
// when ctx ends.
func Serve(ctx context.Context, listener net.Listener, images []Image, ready func() error) error {
	server := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	defer server.Close()
	for _, i := range images {
		to, err := name.NewTag(listener.Addr().String()+"/"+i.Repository+":"+i.Tag, name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.WriteIndex(to, i.Index, remote.WithContext(ctx)); err != nil {
			return fmt.Errorf("filling the registry: %s: %w", i.Repository, err)
		}
	}
	if err := ready(); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}
