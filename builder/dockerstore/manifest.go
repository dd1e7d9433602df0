package dockerstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Media types of manifests: OCI image-spec v1.1 media-types.md, and Docker
// image manifest version 2, schema 2.
const (
	ociIndex       = "application/vnd.oci.image.index.v1+json"
	ociManifest    = "application/vnd.oci.image.manifest.v1+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerTar      = "application/vnd.docker.image.rootfs.diff.tar"
)

// A descriptor points at a blob.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Size        int64             `json:"size"`
	Digest      string            `json:"digest"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

func (p platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

func parsePlatform(s string) (platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != "linux" || parts[1] == "" {
		return platform{}, fmt.Errorf("platform %q is not linux/ARCH", s)
	}
	p := platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// runs reports whether an image for have runs on p. The first variants of
// amd64 and arm64 are what every such machine is, and seldom written.
func (p platform) runs(have platform) bool {
	base := func(v platform) string {
		if v.Architecture == "amd64" && v.Variant == "v1" || v.Architecture == "arm64" && v.Variant == "v8" {
			return ""
		}
		return v.Variant
	}
	return p.OS == have.OS && p.Architecture == have.Architecture && base(p) == base(have)
}

// A manifest is an index or an image manifest.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"` // of an index
	Config        descriptor   `json:"config"`    // of a manifest
	Layers        []descriptor `json:"layers"`    // of a manifest
}

func (m *manifest) isIndex() bool {
	return m.MediaType == ociIndex || m.MediaType == dockerIndex ||
		m.MediaType == "" && m.Config.Digest == "" && m.Manifests != nil
}

func parseManifest(b []byte) (*manifest, error) {
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("the manifest is not JSON: %w", err)
	}
	if m.SchemaVersion == 1 {
		return nil, errors.New("the manifest has schema version 1, which has no digests of content: push the image again with a newer tool")
	}
	if m.isIndex() {
		for _, d := range m.Manifests {
			if _, err := encoded(d.Digest); err != nil {
				return nil, fmt.Errorf("the index: %w", err)
			}
		}
		return &m, nil
	}
	if _, err := encoded(m.Config.Digest); err != nil {
		return nil, fmt.Errorf("the manifest's config: %w", err)
	}
	for _, d := range m.Layers {
		if _, err := encoded(d.Digest); err != nil {
			return nil, fmt.Errorf("the manifest's layers: %w", err)
		}
		if d.Size < 0 {
			return nil, fmt.Errorf("the manifest's layer %s has a negative size", d.Digest)
		}
	}
	return &m, nil
}

// choose finds the manifest for p in an index. Entries for the platform
// unknown/unknown are attestations.
func (m *manifest) choose(image string, p platform) (descriptor, error) {
	var have []string
	for _, d := range m.Manifests {
		if d.Platform == nil {
			// Only the config tells; it is checked later.
			if len(m.Manifests) == 1 {
				return d, nil
			}
			continue
		}
		if p.runs(*d.Platform) {
			return d, nil
		}
		if d.Platform.OS != "unknown" {
			have = append(have, d.Platform.String())
		}
	}
	if have == nil {
		have = []string{"no platform"}
	}
	return descriptor{}, &PlatformError{Image: image, Want: p.String(), Have: have}
}

// A config is what the store needs of an image config. Its bytes are what
// counts; they are never written again from this.
type config struct {
	platform
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

func parseConfig(b []byte) (*config, error) {
	var c config
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("the config is not JSON: %w", err)
	}
	if c.OS == "" && c.Architecture == "" && c.RootFS.DiffIDs == nil {
		return nil, errors.New("the config is not that of a container image")
	}
	for _, d := range c.RootFS.DiffIDs {
		if _, err := encoded(d); err != nil {
			return nil, fmt.Errorf("the config's diff_ids: %w", err)
		}
	}
	return &c, nil
}

// maxLayers is moby's maxLayerDepth (layer/layer_store.go). The kernel takes
// 128 lower layers from overlay2, and a container adds its init layer.
const maxLayers = 125

// layers pairs the layers of a manifest with the DiffIDs of its config.
func pairLayers(m *manifest, c *config) ([]Layer, error) {
	if len(m.Layers) != len(c.RootFS.DiffIDs) {
		return nil, fmt.Errorf("the manifest has %d layers and the config %d", len(m.Layers), len(c.RootFS.DiffIDs))
	}
	if len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("it has %d layers, and Docker's overlay2 store takes at most %d", len(m.Layers), maxLayers)
	}
	layers := make([]Layer, len(m.Layers))
	for i, d := range m.Layers {
		layers[i] = Layer{Digest: d.Digest, DiffID: c.RootFS.DiffIDs[i], Size: d.Size}
	}
	return layers, nil
}
