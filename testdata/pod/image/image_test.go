package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// once makes the images with what earlier runs left in the user's cache.
var once = sync.OnceValues(func() ([]Image, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	return Build(context.Background(), Config{Cache: filepath.Join(cache, "prose-image", "pod")})
})

func build(t *testing.T) []Image {
	t.Helper()
	images, err := once()
	if err != nil {
		t.Fatal(err)
	}
	return images
}

// readAll reads every blob below an index and holds it against its descriptor.
func readAll(index v1.ImageIndex) error {
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, d := range manifest.Manifests {
		if d.MediaType.IsIndex() {
			child, err := index.ImageIndex(d.Digest)
			if err != nil {
				return err
			}
			if err := readAll(child); err != nil {
				return err
			}
			continue
		}
		img, err := index.Image(d.Digest)
		if err != nil {
			return err
		}
		inner, err := img.Manifest()
		if err != nil {
			return err
		}
		config, err := img.RawConfigFile()
		if err != nil {
			return err
		}
		if err := matches(inner.Config, bytes.NewReader(config)); err != nil {
			return err
		}
		for _, l := range inner.Layers {
			layer, err := img.LayerByDigest(l.Digest)
			if err != nil {
				return err
			}
			r, err := layer.Compressed()
			if err != nil {
				return err
			}
			err = matches(l, r)
			r.Close()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func matches(d v1.Descriptor, r io.Reader) error {
	digest, size, err := v1.SHA256(r)
	if err == nil && (digest != d.Digest || size != d.Size) {
		err = fmt.Errorf("%d bytes with digest %s, want %d and %s", size, digest, d.Size, d.Digest)
	}
	return err
}

// amd64 returns the image for that platform, and all manifests of the index.
func amd64(t *testing.T, i Image) (v1.Image, []v1.Descriptor) {
	t.Helper()
	manifest, err := i.Index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range manifest.Manifests {
		if d.Platform.String() == "linux/amd64" {
			img, err := i.Index.Image(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			return img, manifest.Manifests
		}
	}
	t.Fatalf("%s has no linux/amd64", i.Repository)
	return nil, nil
}

// Two bakes from nothing, in other places, give the same digests.
func TestReproducible(t *testing.T) {
	var digests [2][]string
	for n := range digests {
		images, err := Build(t.Context(), Config{Cache: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range images {
			digests[n] = append(digests[n], i.Reference()+"@"+i.Digest.String())
		}
	}
	if !slices.Equal(digests[0], digests[1]) {
		t.Errorf("first bake:\n%s\nsecond bake:\n%s", strings.Join(digests[0], "\n"), strings.Join(digests[1], "\n"))
	}
}

func TestImages(t *testing.T) {
	images := build(t)
	var names []string
	bottoms := map[string][]string{}
	for _, i := range images {
		names = append(names, i.Reference())
		if err := readAll(i.Index); err != nil {
			t.Errorf("%s: %v", i.Repository, err)
		}
		img, manifests := amd64(t, i)
		if len(manifests) != 2 || manifests[1].Platform.OS != "unknown" {
			t.Errorf("%s: an attestation should stand beside the image: %v", i.Repository, manifests)
		}
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		bottom, err := layers[0].Digest()
		if err != nil {
			t.Fatal(err)
		}
		bottoms[bottom.Hex] = append(bottoms[bottom.Hex], i.Repository)
	}
	want := []string{
		"docker.io/proseim/prose-app-web:0.14.1", "docker.io/proseim/prose-pod-dashboard:0.3.2",
		"docker.io/proseim/prose-pod-api:0.20.0", "docker.io/proseim/prose-pod-server:0.4.3",
	}
	if !slices.Equal(names, want) {
		t.Errorf("names %v", names)
	}
	if len(bottoms) != 2 {
		t.Errorf("three images share their lowest layer: %v", bottoms)
	}

	server, _ := amd64(t, images[3])
	file, err := server.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := file.Config
	if c.User != "prosody:prosody" || !slices.Equal(c.Entrypoint, []string{"prose-pod-server"}) || len(c.Volumes) != 4 || c.WorkingDir != "/usr/share/prose-pod-server" {
		t.Errorf("server: %+v", c)
	}
}

// What is in the server image, and what must not be: anything unique, secret or
// able to raise rights.
func TestServerFiles(t *testing.T) {
	img, _ := amd64(t, build(t)[3])
	content := mutate.Extract(img)
	defer content.Close()
	seen := map[string]*tar.Header{}
	var total int64
	for tr := tar.NewReader(content); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		seen[name] = h
		total += h.Size
		if h.Mode&0o6000 != 0 {
			t.Errorf("%s has mode %o", name, h.Mode)
		}
		if h.ModTime.After(created) {
			t.Errorf("%s is from %v", name, h.ModTime)
		}
		if h.Typeflag == tar.TypeBlock || h.Typeflag == tar.TypeChar {
			t.Errorf("%s is a device", name)
		}
		for _, bad := range []string{"etc/machine-id", "etc/prosody/", "etc/ssl/private/", "var/log", "var/cache", "var/lib/apt", "var/lib/dpkg", "usr/share/doc", "var/lib/prosody/"} {
			if strings.HasPrefix(h.Name, bad) && name+"/" != bad {
				t.Errorf("%s should not be there", name)
			}
		}
	}
	for _, want := range []string{"usr/bin/prosody", "usr/bin/prosodyctl", "usr/bin/lua5.4", "usr/local/bin/prose-pod-server", "usr/lib/prosody/modules/mod_websocket.lua", "usr/local/lib/prosody/modules/mod_prose_version.lua"} {
		if seen[want] == nil {
			t.Errorf("no %s", want)
		}
	}
	for _, dir := range []string{"run/prosody", "var/lib/prosody"} {
		if h := seen[dir]; h == nil || h.Uid != 1001 || h.Gid != 1001 {
			t.Errorf("%s: %+v", dir, h)
		}
	}
	if total > 130<<20 {
		t.Errorf("the server image unpacks to %d bytes", total)
	}
}

func TestLayout(t *testing.T) {
	images := build(t)
	dir := filepath.Join(t.TempDir(), "a", "layout")
	for range 2 { // anew, and over itself
		if err := WriteLayout(dir, images); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want []Image) {
		t.Helper()
		index, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := readAll(index); err != nil {
			t.Error(err)
		}
		manifest, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		var got, references []string
		for _, d := range manifest.Manifests {
			got = append(got, d.Annotations["org.opencontainers.image.ref.name"]+"@"+d.Digest.String())
		}
		for _, i := range want {
			references = append(references, i.Reference()+"@"+i.Digest.String())
		}
		if !slices.Equal(got, references) {
			t.Errorf("got %v, want %v", got, references)
		}
	}
	check(images)
	other := slices.Clone(images) // one with the same name and another content
	other[0].Index = mutate.Annotations(images[0].Index, map[string]string{"a": "b"}).(v1.ImageIndex)
	var err error
	if other[0].Digest, err = other[0].Index.Digest(); err != nil {
		t.Fatal(err)
	}
	if err := WriteLayout(dir, other); err != nil {
		t.Fatal(err)
	}
	check(other)
	if err := WriteLayout(dir, images[1:]); err != nil {
		t.Fatal(err)
	}
	check(images[1:])
	rest, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(rest) != 1 {
		t.Errorf("left beside the layout: %v, %v", rest, err)
	}
}

func TestServe(t *testing.T) {
	images := build(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pulled := errors.New("nothing was pulled")
	err = Serve(ctx, listener, images, func() error {
		defer cancel()
		pulled = pull(ctx, listener.Addr().String(), images)
		return nil
	})
	if err != nil || pulled != nil {
		t.Errorf("serving: %v; pulling: %v", err, pulled)
	}
}

// pull reads every image by its tag and by its digest.
func pull(ctx context.Context, registry string, images []Image) error {
	for _, i := range images {
		for _, reference := range []string{":" + i.Tag, "@" + i.Digest.String()} {
			ref, err := name.ParseReference(registry+"/"+i.Repository+reference, name.Insecure)
			if err != nil {
				return err
			}
			index, err := remote.Index(ref, remote.WithContext(ctx))
			if err != nil {
				return err
			}
			digest, err := index.Digest()
			if err != nil {
				return err
			}
			if digest != i.Digest {
				return fmt.Errorf("%s has digest %s, want %s", ref, digest, i.Digest)
			}
			if err := readAll(index); err != nil {
				return err
			}
		}
	}
	return nil
}
