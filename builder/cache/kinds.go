package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/prose-im/prose-image/builder/clusters"
	"github.com/prose-im/prose-image/builder/host"
)

// A kind is a kind of entry.
type kind struct {
	name     string
	dir      string   // below the cache
	own      bool     // made by a bake, not fetched: a [Fresh] cache has none
	suffix   string   // of an entry's file, after its 64 hex digits
	beside   string   // suffix of a file that goes with each entry; empty: none
	leftover []string // patterns below the cache of what killed bakes leave
	verify   func(ctx context.Context, path string) error
	describe func(ctx context.Context, path string) string // what it is; empty: unknown
}

// kinds lists all that the cache holds. What is none of them is not touched.
var kinds = []kind{
	{name: "layers", dir: layersDir, own: true, suffix: layerSuffix, beside: recordSuffix, verify: verifyLayer, describe: describeLayer,
		leftover: []string{"base-*.tar", "layers/.*.part", "layers/*" + claimSuffix, freshPrefix + "*"}},
	{name: "packages", dir: "packages/sha256", suffix: ".deb", verify: verifyName, describe: describePackage,
		leftover: []string{"packages/incoming-*", "packages/sha256/.*.part"}},
	{name: "blobs", dir: "blobs/sha256", verify: verifyName, describe: describeBlob,
		leftover: []string{"blobs/sha256/.*.part"}},
	{name: "clusters", dir: clustersDir, own: true, suffix: clusters.Suffix, verify: verifyName, describe: describeClusters,
		leftover: []string{clustersDir + "/.*.part"}},
}

const clustersDir = "clusters"

// ClustersPath is the directory of the store of deflated clusters, see the
// package clusters.
func ClustersPath(dir string) string { return filepath.Join(dir, clustersDir) }

func describeClusters(_ context.Context, path string) string {
	n, err := clusters.Count(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d clusters of qcow2, deflated", n)
}

// verifyName hashes a file that is named by its hash.
func verifyName(ctx context.Context, path string) error {
	want := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	return verifySum(ctx, path, want)
}

// verifySum hashes a file.
func verifySum(ctx context.Context, path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, &contextReader{ctx, f}); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return &DamagedError{path, fmt.Sprintf("its sha256 is %s, not %s", got, want)}
	}
	return nil
}

// describePackage asks dpkg what a package file is.
func describePackage(ctx context.Context, path string) string {
	out, err := host.Output(ctx, host.Command{Args: []string{"dpkg-deb", "--show", "--showformat=${Package} ${Version} ${Architecture}", path}})
	if err != nil {
		return ""
	}
	return string(out)
}

// describeBlob tells parts of container images apart by their first bytes.
func describeBlob(_ context.Context, path string) string {
	const most = 8 << 20 // as dockerstore, which holds manifests in memory
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 4)
	if _, err := io.ReadFull(f, head); err != nil {
		return ""
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "image layer, gzip"
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "image layer, zstd"
	case head[0] != '{':
		return "image layer"
	}
	var m struct {
		Manifests, Layers []json.RawMessage
		RootFS            json.RawMessage
	}
	if json.NewDecoder(io.LimitReader(io.MultiReader(bytes.NewReader(head), f), most)).Decode(&m) != nil {
		return ""
	}
	switch {
	case m.Manifests != nil:
		return "image index"
	case m.Layers != nil:
		return "image manifest"
	case m.RootFS != nil:
		return "image config"
	}
	return ""
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
