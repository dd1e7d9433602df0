// Package imagetest makes container images for tests, entry by entry, and
// serves them.
package imagetest

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Time is the modification time of entries that name none.
var Time = time.Date(2021, 2, 3, 4, 5, 6, 0, time.UTC)

// An Entry is one entry of a layer tar.
type Entry struct {
	Name     string
	Type     byte   // tar.TypeReg when zero
	Mode     int64  // 0644, and 0755 for a directory, when zero
	UID, GID int    //
	Content  string //
	Link     string // of a link of either kind
	Xattrs   map[string]string
	Time     time.Time
	Major    int64
	Minor    int64
}

// Dir is a directory, 0755 root:root.
func Dir(name string) Entry { return Entry{Name: name, Type: tar.TypeDir} }

// File is a file, 0644 root:root.
func File(name, content string) Entry { return Entry{Name: name, Content: content} }

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{Name: name, Type: tar.TypeSymlink, Link: target}
}

// HardLink is another name for an entry before it.
func HardLink(name, target string) Entry { return Entry{Name: name, Type: tar.TypeLink, Link: target} }

// Tar is an uncompressed layer.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{
			Name: e.Name, Typeflag: e.Type, Mode: e.Mode, Uid: e.UID, Gid: e.GID, Size: int64(len(e.Content)),
			Linkname: e.Link, ModTime: e.Time, Devmajor: e.Major, Devminor: e.Minor, Format: tar.FormatPAX,
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if h.Typeflag == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if h.ModTime.IsZero() {
			h.ModTime = Time
		}
		for k, v := range e.Xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
		if _, err := io.WriteString(tw, e.Content); err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Plain, Gzip and Zstd make a layer blob of a tar.
func Plain(t testing.TB, tar []byte) v1.Layer {
	return static.NewLayer(tar, types.OCIUncompressedLayer)
}

// Gzip is a layer compressed with gzip.
func Gzip(t testing.TB, tar []byte) v1.Layer {
	return compressed(t, tar, compression.GZip, types.DockerLayer)
}

// Zstd is a layer compressed with zstd.
func Zstd(t testing.TB, tar []byte) v1.Layer {
	return compressed(t, tar, compression.ZStd, types.OCILayerZStd)
}

func compressed(t testing.TB, tar []byte, c compression.Compression, m types.MediaType) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tar)), nil },
		tarball.WithCompression(c), tarball.WithMediaType(m))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Image stacks layers into an image for linux/ARCH that runs cmd.
func Image(t testing.TB, arch string, cmd []string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layers...)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", arch
	file.Created = v1.Time{Time: Time}
	file.Config.Cmd = cmd
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// Index joins the images of several architectures, by arch.
func Index(t testing.TB, images map[string]v1.Image) v1.ImageIndex {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, arch := range []string{"amd64", "arm64", "riscv64"} {
		if img, ok := images[arch]; ok {
			index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img,
				Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
		}
	}
	return index
}

// A Registry is a registry on loopback, in memory.
type Registry struct {
	Host string // 127.0.0.1:PORT
	*httptest.Server
}

// Serve starts a registry that ends with the test.
func Serve(t testing.TB) *Registry {
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return &Registry{Host: strings.TrimPrefix(s.URL, "http://"), Server: s}
}

// Push puts an image or an index under NAME:TAG and returns its digest.
func (r *Registry) Push(t testing.TB, repository string, image remote.Taggable) string {
	t.Helper()
	ref, err := name.NewTag(r.Host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	var digest v1.Hash
	switch image := image.(type) {
	case v1.Image:
		err = remote.Write(ref, image)
		if err == nil {
			digest, err = image.Digest()
		}
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, image)
		if err == nil {
			digest, err = image.Digest()
		}
	default:
		t.Fatalf("cannot push a %T", image)
	}
	if err != nil {
		t.Fatalf("pushing %s: %v", ref, err)
	}
	return digest.String()
}
