package dockerstore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prose-im/prose-image/builder/layer"
)

// Options say where and how [Write] writes.
type Options struct {
	Cache string    // the Source's
	Root  string    // data root in the image; empty: var/lib/docker
	Time  time.Time // of the store's own files; what is in the images keeps its own
}

// DefaultRoot is the engine's data root when daemon.json names none.
const DefaultRoot = "var/lib/docker"

// Write writes the images, whose blobs [Source.Fetch] has put into the cache,
// as one overlay2 store. It writes the data root and what is below it, not its
// parents. Equal images give equal bytes, whatever their order. The content of
// every layer is checked against its DiffID before any of it is written.
func Write(ctx context.Context, w *layer.Writer, images []Pinned, opts Options) error {
	s := &store{ctx: ctx, w: w, cache: cache{opts.Cache}, root: opts.Root, time: opts.Time}
	if s.root == "" {
		s.root = DefaultRoot
	}
	if s.time.IsZero() {
		s.time = time.Unix(0, 0)
	}
	if err := layer.CheckPath(s.root); err != nil {
		return fmt.Errorf("writing the docker store: %w", err)
	}
	var loaded []*image
	for _, p := range images {
		i, err := load(s.cache, p)
		if err != nil {
			return fmt.Errorf("writing image %s: %w", p.Reference, err)
		}
		loaded = append(loaded, i)
	}
	slices.SortFunc(loaded, func(a, b *image) int {
		return cmp.Or(strings.Compare(a.ref.String(), b.ref.String()), strings.Compare(a.Digest, b.Digest), strings.Compare(a.Manifest, b.Manifest))
	})
	if err := s.write(loaded); err != nil {
		return fmt.Errorf("writing the docker store: %w", err)
	}
	return nil
}

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

// A store is one writing of a store.
type store struct {
	ctx   context.Context
	w     *layer.Writer
	cache cache
	root  string
	time  time.Time
}

func (s *store) write(images []*image) error {
	chains, blobs := plan(images)
	repositories, err := repositories(images)
	if err != nil {
		return err
	}
	for _, d := range []struct {
		path string
		mode uint16
	}{
		{".", 0o710},
		{"image", 0o700},
		{"image/overlay2", 0o700},
		{"image/overlay2/distribution", 0o700},
		{"image/overlay2/distribution/diffid-by-digest", 0o755},
		{"image/overlay2/distribution/diffid-by-digest/sha256", 0o755},
		{"image/overlay2/distribution/v2metadata-by-diffid", 0o755},
		{"image/overlay2/distribution/v2metadata-by-diffid/sha256", 0o755},
		{"image/overlay2/imagedb", 0o700},
		{"image/overlay2/imagedb/content", 0o700},
		{"image/overlay2/imagedb/content/sha256", 0o700},
		{"image/overlay2/imagedb/metadata", 0o700},
		{"image/overlay2/imagedb/metadata/sha256", 0o700},
		{"image/overlay2/layerdb", 0o700},
		{"image/overlay2/layerdb/sha256", 0o755},
		{"overlay2", 0o710},
		{"overlay2/l", 0o700},
	} {
		if err := s.dir(d.path, d.mode); err != nil {
			return err
		}
	}
	if err := s.file("image/overlay2/repositories.json", 0o600, repositories); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, i := range images {
		if seen[i.Config] {
			continue
		}
		seen[i.Config] = true
		h, err := encoded(i.Config)
		if err != nil {
			return err
		}
		if err := s.file("image/overlay2/imagedb/content/sha256/"+h, 0o600, i.config); err != nil {
			return err
		}
	}
	if err := s.distribution(blobs); err != nil {
		return err
	}
	return s.layers(chains)
}

// A chain is a layer on its ancestors: what the engine calls a layer.
type chain struct {
	Layer
	id     string // ChainID
	parent *chain
}

func (c *chain) cacheID() string {
	sum := c.sum()
	return hex.EncodeToString(sum[:])
}

// link is the short name of the layer's diff in mount options, which have to
// fit into a page.
func (c *chain) link() string {
	sum := c.sum()
	return base32.StdEncoding.EncodeToString(sum[:])[:26]
}

func (c *chain) sum() [sha256.Size]byte { return sha256.Sum256([]byte("prose-image overlay2 " + c.id)) }

// plan lists each chain once, parents first, and for each blob the names of the
// repositories that have it.
func plan(images []*image) ([]*chain, map[Layer][]string) {
	var chains []*chain
	known := map[string]*chain{}
	blobs := map[Layer][]string{}
	for _, i := range images {
		var parent *chain
		for _, l := range i.Layers {
			blobs[l] = append(blobs[l], i.ref.Name())
			id := l.DiffID
			if parent != nil {
				id = digestOf([]byte(parent.id + " " + l.DiffID))
			}
			c := known[id]
			if c == nil {
				c = &chain{Layer: l, id: id, parent: parent}
				known[id] = c
				chains = append(chains, c)
			}
			parent = c
		}
	}
	return chains, blobs
}

// repositories makes repositories.json. References are sorted and names of the
// form the engine shows; a tag can be one image only.
func repositories(images []*image) ([]byte, error) {
	var all struct{ Repositories map[string]map[string]string }
	all.Repositories = map[string]map[string]string{}
	for _, i := range images {
		name := i.ref.Familiar()
		if all.Repositories[name] == nil {
			all.Repositories[name] = map[string]string{}
		}
		keys := []string{name + "@" + i.Digest}
		if i.ref.Tag != "" {
			keys = append(keys, name+":"+i.ref.Tag)
		}
		for _, key := range keys {
			if other, ok := all.Repositories[name][key]; ok && other != i.Config {
				return nil, fmt.Errorf("%s is two images, %s and %s", key, other, i.Config)
			}
			all.Repositories[name][key] = i.Config
		}
	}
	return json.Marshal(all)
}

// distribution writes which blob is which layer and where it is from, so that
// docker pull skips what is there.
func (s *store) distribution(blobs map[Layer][]string) error {
	// moby's distribution/metadata.V2Metadata, of an anonymous pull.
	type metadata struct{ Digest, SourceRepository, HMAC string }
	byDiffID := map[string][]metadata{}
	byDigest := map[string]string{}
	for l, names := range blobs {
		byDigest[l.Digest] = l.DiffID
		for _, name := range names {
			byDiffID[l.DiffID] = append(byDiffID[l.DiffID], metadata{Digest: l.Digest, SourceRepository: name})
		}
	}
	for _, digest := range sortedKeys(byDigest) {
		h, err := encoded(digest)
		if err != nil {
			return err
		}
		if err := s.file("image/overlay2/distribution/diffid-by-digest/sha256/"+h, 0o644, []byte(byDigest[digest])); err != nil {
			return err
		}
	}
	for _, diffID := range sortedKeys(byDiffID) {
		h, err := encoded(diffID)
		if err != nil {
			return err
		}
		list := byDiffID[diffID]
		slices.SortFunc(list, func(a, b metadata) int {
			return strings.Compare(a.SourceRepository+a.Digest, b.SourceRepository+b.Digest)
		})
		b, err := json.Marshal(slices.Compact(list))
		if err != nil {
			return err
		}
		if err := s.file("image/overlay2/distribution/v2metadata-by-diffid/sha256/"+h, 0o644, b); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// layers scans each layer while the one before it is written.
func (s *store) layers(chains []*chain) error {
	type scanned struct {
		chain    *chain
		diff     *diff
		tarSplit []byte
		err      error
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	next := make(chan scanned)
	go func() {
		defer close(next)
		for _, c := range chains {
			d, split, err := s.scan(ctx, c.Layer)
			if err != nil {
				err = fmt.Errorf("reading layer %s: %w", c.Digest, err)
			}
			select {
			case next <- scanned{c, d, split, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for n := range next {
		if n.err != nil {
			return n.err
		}
		if err := s.layer(n.chain, n.diff, n.tarSplit); err != nil {
			return fmt.Errorf("writing layer %s: %w", n.chain.Digest, err)
		}
	}
	return context.Cause(s.ctx)
}

// layer writes one layer into layerdb and overlay2.
func (s *store) layer(c *chain, d *diff, tarSplit []byte) error {
	id, err := encoded(c.id)
	if err != nil {
		return err
	}
	db := "image/overlay2/layerdb/sha256/" + id
	home := "overlay2/" + c.cacheID()
	if err := s.dir(db, 0o700); err != nil {
		return err
	}
	files := []struct {
		path    string
		mode    uint16
		content string
	}{
		{db + "/cache-id", 0o644, c.cacheID()},
		{db + "/diff", 0o644, c.DiffID},
		{db + "/size", 0o644, strconv.FormatInt(d.size, 10)},
		{db + "/tar-split.json.gz", 0o644, string(tarSplit)},
		{home + "/committed", 0o600, ""},
		{home + "/link", 0o644, c.link()},
	}
	if c.parent != nil {
		var lower []string
		for p := c.parent; p != nil; p = p.parent {
			lower = append(lower, "l/"+p.link())
		}
		files = append(files, []struct {
			path    string
			mode    uint16
			content string
		}{
			{db + "/parent", 0o644, c.parent.id},
			{home + "/lower", 0o644, strings.Join(lower, ":")},
		}...)
	}
	if err := s.dir(home, 0o710); err != nil {
		return err
	}
	for _, f := range files {
		if err := s.file(f.path, f.mode, []byte(f.content)); err != nil {
			return err
		}
	}
	if c.parent != nil {
		if err := s.dir(home+"/work", 0o700); err != nil {
			return err
		}
	}
	link := layer.Entry{Path: s.path("overlay2/l/" + c.link()), Type: layer.Symlink, Mode: 0o777, ModTime: s.time, Link: "../" + c.cacheID() + "/diff"}
	if err := s.w.Write(link, nil); err != nil {
		return err
	}
	root := layer.Entry{Path: s.path(home + "/diff"), Type: layer.Dir, Mode: 0o755, ModTime: s.time}
	// As the engine does, though the kernel does not look at it in the root of a
	// layer.
	if d.opaque["."] {
		root.Xattrs = map[string]string{opaqueXattr: opaqueValue}
	}
	if err := s.w.Write(root, nil); err != nil {
		return err
	}
	blob, err := s.open(s.ctx, c.Layer)
	if err != nil {
		return err
	}
	defer blob.Close()
	return d.write(s.w, root.Path, blob)
}

func (s *store) path(p string) string { return path.Join(s.root, p) }

func (s *store) dir(p string, mode uint16) error {
	return s.w.Write(layer.Entry{Path: s.path(p), Type: layer.Dir, Mode: mode, ModTime: s.time}, nil)
}

func (s *store) file(p string, mode uint16, content []byte) error {
	e := layer.Entry{Path: s.path(p), Type: layer.File, Mode: mode, ModTime: s.time, Size: int64(len(content))}
	return s.w.Write(e, bytes.NewReader(content))
}
