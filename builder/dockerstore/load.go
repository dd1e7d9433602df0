package dockerstore

import (
	"errors"
	"fmt"
	"io/fs"
)

// An image is a Pinned with what the cache knows of it.
type image struct {
	Pinned
	ref    Reference
	config []byte
}

// load completes a Pinned of which only Reference, Digest and Manifest are
// known.
func load(c cache, p Pinned) (*image, error) {
	i := &image{Pinned: p}
	var err error
	if i.ref, err = ParseReference(p.Reference); err != nil {
		return nil, err
	}
	if _, err := encoded(p.Digest); err != nil {
		return nil, err
	}
	if i.ref.Digest != "" && i.ref.Digest != p.Digest {
		return nil, &DigestError{What: "image " + p.Reference, Where: "the lock", Want: i.ref.Digest, Got: p.Digest}
	}
	read := func(digest string) ([]byte, error) {
		b, err := c.read(digest)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &NotCachedError{Image: p.Reference, Cache: c.dir}
		}
		return b, err
	}
	raw, err := read(p.Manifest)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	if m.isIndex() {
		return nil, fmt.Errorf("%s is an index, not the manifest for one platform", p.Manifest)
	}
	i.Config = m.Config.Digest
	if i.config, err = read(i.Config); err != nil {
		return nil, err
	}
	parsed, err := parseConfig(i.config)
	if err != nil {
		return nil, err
	}
	i.Layers, err = pairLayers(m, parsed)
	return i, err
}
