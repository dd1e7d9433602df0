package dockerstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A layout is an OCI image layout directory (OCI image-spec v1.1,
// image-layout.md).
type layout struct {
	loc   location
	image Reference
	exact bool // the layout was named for this image
	index manifest
}

// Names under which tools note a tag in index.json: the first by the OCI
// specification, either a tag or a whole reference, the second by containerd,
// always a whole reference.
const (
	refNameAnnotation   = "org.opencontainers.image.ref.name"
	imageNameAnnotation = "io.containerd.image.name"
)

func openLayout(loc location, image Reference, exact bool) (origin, error) {
	b, err := readSmallFile(filepath.Join(loc.path, "index.json"))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", loc, err)
	}
	l := &layout{loc: loc, image: image, exact: exact}
	if err := json.Unmarshal(b, &l.index); err != nil {
		return nil, fmt.Errorf("reading %s: index.json: %w", loc, err)
	}
	return l, nil
}

func (l *layout) close() {}

func (l *layout) manifest(ctx context.Context, tagOrDigest string) ([]byte, error) {
	digest := tagOrDigest
	if _, err := encoded(digest); err != nil {
		d, ok := l.find(tagOrDigest)
		if !ok {
			return nil, &NotFoundError{Image: l.image.String(), Where: l.loc.String()}
		}
		digest = d.Digest
	}
	r, err := l.blob(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readSmall(r)
}

// find looks a tag up in the index. A layout with one image and no names is
// that image, when it was named for it alone.
func (l *layout) find(tag string) (descriptor, bool) {
	named := false
	for _, d := range l.index.Manifests {
		for _, key := range []string{imageNameAnnotation, refNameAnnotation} {
			v, ok := d.Annotations[key]
			if !ok {
				continue
			}
			named = true
			if l.exact && key == refNameAnnotation && v == tag {
				return d, true
			}
			// A bare word is a tag, though it could be read as an image's name.
			if strings.ContainsAny(v, "/:") && sameTag(v, l.image, tag) {
				return d, true
			}
		}
	}
	if l.exact && !named && len(l.index.Manifests) == 1 {
		return l.index.Manifests[0], true
	}
	return descriptor{}, false
}

func sameTag(s string, image Reference, tag string) bool {
	r, err := ParseReference(s)
	return err == nil && r.Name() == image.Name() && r.Tag == tag
}

func (l *layout) blob(_ context.Context, digest string) (io.ReadCloser, error) {
	h, err := encoded(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(l.loc.path, "blobs", "sha256", h))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{Image: l.image.String() + " (blob " + digest + ")", Where: l.loc.String()}
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", l.loc, err)
	}
	return f, nil
}

func readSmallFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readSmall(f)
}
