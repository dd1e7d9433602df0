// Package dockerstore turns container images into the entries of Docker's own
// overlay2 store, so that an engine that starts on them finds the images as if
// it had pulled them: no daemon, no root, no import at first boot.
//
// A [Source] resolves a reference, as a compose file says it, to exact digests
// ([Pinned]), from an OCI registry, an OCI layout directory or a docker
// archive, and fetches the blobs into a content-addressed cache. [Write] reads
// nothing but that cache and emits the store into a layer.
//
// # The store
//
// Internal to the engine, unchanged from 20.10 to 28 ([CheckEngine]), used when
// daemon.json sets "storage-driver": "overlay2". Below the data root:
//
//	image/overlay2/repositories.json                 names and digests -> image
//	image/overlay2/imagedb/content/sha256/IMAGEID    the config, byte for byte
//	image/overlay2/layerdb/sha256/CHAINID/           diff cache-id size parent tar-split.json.gz
//	image/overlay2/distribution/                     layer blob digest <-> DiffID, so pulls of
//	                                                 newer images know which layers are there
//	overlay2/CACHEID/{diff,link,lower,work,committed}
//	overlay2/l/LINK -> ../CACHEID/diff
//
// IMAGEID is the sha256 of the config, a DiffID that of an uncompressed layer
// tar, a ChainID that of its ancestors and itself. CACHEID and LINK are free,
// and here derived from the ChainID. Sources: moby 26.1.5 layer/filestore.go,
// image/fs.go, reference/store.go, daemon/graphdriver/overlay2/overlay.go,
// distribution/metadata.
//
// The containerd store (engine 29 and later) and an archive for docker load
// take the same cache and the same Pinned; each would be a function beside
// [Write].
package dockerstore

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// A Pinned is an image resolved to exact content: what a lock records.
// Reference, Digest and Manifest suffice for [Source.Fetch] and [Write]; the
// rest is for people and plans. Digests are written "sha256:HEX".
type Pinned struct {
	Reference string  // as the compose file says it: NAME[:TAG][@sha256:HEX]
	Digest    string  // of what the name stands for: an index or a manifest
	Manifest  string  // of the manifest for the platform; equal to Digest when that is no index
	Config    string  // of the image config; Docker's image id
	Layers    []Layer // bottom first
}

// A Layer is one layer of an image.
type Layer struct {
	Digest string // of the blob as it is stored, usually compressed
	DiffID string // of the uncompressed tar
	Size   int64  // bytes of the blob
}

// digestPrefix is the only hash algorithm that Docker's stores name.
const digestPrefix = "sha256:"

// encoded returns the 64 hex digits of a digest.
func encoded(digest string) (string, error) {
	h, ok := strings.CutPrefix(digest, digestPrefix)
	if !ok || len(h) != hex.EncodedLen(sha256.Size) || strings.ToLower(h) != h {
		return "", fmt.Errorf("%q is not a digest of the form sha256:HEX", digest)
	}
	if _, err := hex.DecodeString(h); err != nil {
		return "", fmt.Errorf("%q is not a digest of the form sha256:HEX", digest)
	}
	return h, nil
}

// digestOf hashes b.
func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return digestPrefix + hex.EncodeToString(sum[:])
}
