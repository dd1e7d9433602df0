package dockerstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	shared "github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/checksum"
	"github.com/prose-im/prose-image/builder/output"
)

// A cache holds blobs by their digest: <dir>/blobs/sha256/<hex>. A blob is
// there whole or not at all. Several processes may share a cache.
type cache struct{ dir string }

func (c cache) path(digest string) (string, error) {
	h, err := encoded(digest)
	if err != nil {
		return "", err
	}
	return filepath.Join(c.dir, "blobs", "sha256", h), nil
}

// has reports whether the cache holds the blob, by hashing it. What is damaged
// counts as absent, and put replaces it.
func (c cache) has(ctx context.Context, digest string) (bool, error) {
	f, err := c.open(digest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	_, sum, err := checksum.Of(ctx, f)
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", f.Name(), err)
	}
	return digestPrefix+sum == digest, nil
}

func (c cache) open(digest string) (*os.File, error) {
	p, err := c.path(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(p)
	if err == nil {
		shared.Touch(p)
	}
	return f, err
}

// read returns a whole small blob, verified. The error is fs.ErrNotExist when
// it is not there.
func (c cache) read(digest string) ([]byte, error) {
	f, err := c.open(digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := readSmall(f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", f.Name(), err)
	}
	if got := digestOf(b); got != digest {
		return nil, &DigestError{What: "blob", Where: f.Name(), Want: digest, Got: got}
	}
	return b, nil
}

// put stores what r gives, size bytes if known, under digest. When it is
// something else nothing is stored, and the digest that it has is returned with
// errDigest.
func (c cache) put(digest string, size int64, r io.Reader) (got string, err error) {
	p, err := c.path(digest)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return "", fmt.Errorf("making the image cache: %w", output.Explain(err, p, size))
	}
	f, err := output.Create(p)
	if err != nil {
		return "", output.Explain(err, p, size)
	}
	defer f.Discard()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, h), r); err != nil {
		return "", output.Explain(err, p, size)
	}
	if got = sumOf(h); got != digest {
		return got, errDigest
	}
	return got, output.Explain(f.Commit(), p, size)
}

var errDigest = errors.New("another digest")

func sumOf(h hash.Hash) string { return digestPrefix + hex.EncodeToString(h.Sum(nil)) }

// maxSmall bounds manifests and configs, which are held in memory. Docker Hub
// refuses manifests above 4 MiB.
const maxSmall = 8 << 20

func readSmall(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSmall+1))
	if err == nil && len(b) > maxSmall {
		err = fmt.Errorf("it is larger than %d bytes", maxSmall)
	}
	return b, err
}
