package dockerstore

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"sync"

	"github.com/prose-im/prose-image/builder/checksum"
)

// An archive is a tar as docker save writes it: manifest.json names configs
// and uncompressed layers. It holds no registry manifest, so one is made from
// them: its digest is the same on every host, but is not the registry's.
type archive struct {
	loc   location
	image Reference
	exact bool
	file  *os.File

	members map[string]member

	mu        sync.Mutex
	indexed   bool
	images    []archiveImage
	manifests [][]byte          // made, one for each image
	blobs     map[string]string // digest -> member
}

type member struct {
	offset, size int64
	link         string // of a symlink or hard link: the member it stands for
}

// archiveImage is one element of manifest.json.
type archiveImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func openArchive(loc location, image Reference, exact bool) (_ origin, err error) {
	f, err := os.Open(loc.path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", loc, err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	a := &archive{loc: loc, image: image, exact: exact, file: f, members: map[string]member{}}
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: it is not an uncompressed tar: %w", loc, err)
		}
		m := member{size: h.Size}
		switch h.Typeflag {
		case tar.TypeReg:
			if m.offset, err = f.Seek(0, io.SeekCurrent); err != nil {
				return nil, fmt.Errorf("reading %s: %w", loc, err)
			}
		case tar.TypeSymlink:
			m.link = path.Join(path.Dir(h.Name), h.Linkname)
		case tar.TypeLink:
			m.link = path.Clean(h.Linkname)
		default:
			continue
		}
		a.members[path.Clean(h.Name)] = m
	}
}

func (a *archive) close() { a.file.Close() }

// member opens a member, through at most one link: engines before 25 save a
// layer that two images share once and link to it.
func (a *archive) member(name string) (*io.SectionReader, error) {
	m, ok := a.members[path.Clean(name)]
	if ok && m.link != "" {
		m, ok = a.members[m.link]
	}
	if !ok || m.link != "" {
		return nil, fmt.Errorf("reading %s: no member %s", a.loc, name)
	}
	return io.NewSectionReader(a.file, m.offset, m.size), nil
}

// index hashes what manifest.json names and makes the manifests, once.
func (a *archive) index(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.indexed {
		return nil
	}
	r, err := a.member("manifest.json")
	if err != nil {
		return err
	}
	b, err := readSmall(r)
	if err != nil {
		return fmt.Errorf("reading %s: %w", a.loc, err)
	}
	a.images, a.manifests, a.blobs = nil, nil, map[string]string{}
	if err := json.Unmarshal(b, &a.images); err != nil {
		return fmt.Errorf("reading %s: manifest.json: %w", a.loc, err)
	}
	for _, image := range a.images {
		b, err := a.make(ctx, image)
		if err != nil {
			return fmt.Errorf("reading %s: %w", a.loc, err)
		}
		a.manifests = append(a.manifests, b)
	}
	a.indexed = true
	return nil
}

// manifest returns the manifest made for the image with the tag or digest.
func (a *archive) manifest(ctx context.Context, tagOrDigest string) ([]byte, error) {
	if err := a.index(ctx); err != nil {
		return nil, err
	}
	if _, err := encoded(tagOrDigest); err != nil {
		for i, image := range a.images {
			if a.tagged(image, tagOrDigest) {
				return a.manifests[i], nil
			}
		}
		return nil, &NotFoundError{Image: a.image.String(), Where: a.loc.String()}
	}
	var got string
	for i, b := range a.manifests {
		digest := digestOf(b)
		if digest == tagOrDigest {
			return b, nil
		}
		if a.tagged(a.images[i], a.image.Tag) {
			got = digest
		}
	}
	if got != "" {
		return nil, &DigestError{What: "image " + a.image.String(), Where: a.loc.String(), Want: tagOrDigest, Got: got}
	}
	return nil, &NotFoundError{Image: a.image.String(), Where: a.loc.String()}
}

func (a *archive) tagged(image archiveImage, tag string) bool {
	for _, t := range image.RepoTags {
		if sameTag(t, a.image, tag) {
			return true
		}
	}
	return a.exact && len(a.images) == 1 && len(image.RepoTags) == 0
}

func (a *archive) make(ctx context.Context, image archiveImage) ([]byte, error) {
	m := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}{SchemaVersion: 2, MediaType: dockerManifest, Layers: []descriptor{}}
	var err error
	if m.Config, err = a.describe(ctx, dockerConfig, image.Config); err != nil {
		return nil, err
	}
	for _, name := range image.Layers {
		d, err := a.describe(ctx, dockerTar, name)
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, d)
	}
	return json.Marshal(m)
}

func (a *archive) describe(ctx context.Context, mediaType, name string) (descriptor, error) {
	r, err := a.member(name)
	if err != nil {
		return descriptor{}, err
	}
	size, sum, err := checksum.Of(ctx, r)
	if err != nil {
		return descriptor{}, err
	}
	d := descriptor{MediaType: mediaType, Size: size, Digest: digestPrefix + sum}
	a.blobs[d.Digest] = name
	return d, nil
}

func (a *archive) blob(ctx context.Context, digest string) (io.ReadCloser, error) {
	if err := a.index(ctx); err != nil {
		return nil, err
	}
	name, ok := a.blobs[digest]
	if !ok {
		return nil, &NotFoundError{Image: a.image.String() + " (blob " + digest + ")", Where: a.loc.String()}
	}
	r, err := a.member(name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(r), nil
}
