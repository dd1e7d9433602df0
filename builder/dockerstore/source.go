package dockerstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
)

// A Source finds images and fetches them into a cache. Its methods may be
// called at the same time, and processes may share the cache.
type Source struct {
	Cache    string // directory: blobs/sha256/HEX
	Platform string // linux/amd64, linux/arm64
	Mirror   Mirror // nil: every image is where its name says
	Offline  bool   // what is neither in the cache nor on this machine is a NotCachedError
	Jobs     int    // downloads at a time; 0: four

	// Progress, if not nil, is told how many bytes of layers Fetch has read,
	// of how many it must. Calls do not overlap.
	Progress func(done, total int64)
}

// A NotCachedError is content that should be in the cache and is not.
type NotCachedError struct {
	Image string
	Cache string // directory
	Where string // it would be fetched from, if that is known
}

func (e *NotCachedError) Error() string {
	return fmt.Sprintf("image %s is not whole in the cache %s", e.Image, e.Cache)
}

// Hint is the next thing to do.
func (e *NotCachedError) Hint() string {
	return "bake once with a network, so that the cache is filled"
}

// An origin is a place that an image can be read from.
type origin interface {
	// manifest returns the manifest or index that a tag or digest names. The
	// bytes are not verified.
	manifest(ctx context.Context, tagOrDigest string) ([]byte, error)
	// blob opens a blob. The bytes are not verified.
	blob(ctx context.Context, digest string) (io.ReadCloser, error)
	close()
}

// Resolve finds out what a reference stands for, and puts the manifests and
// the config into the cache. A reference with a digest that the cache knows
// needs no network.
func (s *Source) Resolve(ctx context.Context, reference string) (Pinned, error) {
	r, err := ParseReference(reference)
	if err != nil {
		return Pinned{}, err
	}
	want, err := parsePlatform(s.Platform)
	if err != nil {
		return Pinned{}, fmt.Errorf("resolving image %s: %w", reference, err)
	}
	p := Pinned{Reference: reference, Digest: r.Digest}
	if err := s.resolve(ctx, r, want, &p); err != nil {
		return Pinned{}, fmt.Errorf("resolving image %s: %w", reference, err)
	}
	return p, nil
}

func (s *Source) resolve(ctx context.Context, r Reference, want platform, p *Pinned) error {
	in := &session{source: s, image: r}
	defer in.close()
	var raw []byte
	var err error
	if p.Digest == "" {
		if raw, p.Digest, err = in.tag(ctx); err != nil {
			return err
		}
	} else if raw, err = in.small(ctx, p.Digest, true); err != nil {
		return err
	}
	p.Manifest = p.Digest
	m, err := parseManifest(raw)
	if err != nil {
		return err
	}
	// An index may hold indexes; the bound is there for one that holds itself.
	for depth := 0; m.isIndex(); depth++ {
		if depth == 4 {
			return errors.New("indexes within indexes")
		}
		d, err := m.choose(p.Reference, want)
		if err != nil {
			return err
		}
		p.Manifest = d.Digest
		if raw, err = in.small(ctx, d.Digest, true); err != nil {
			return err
		}
		if m, err = parseManifest(raw); err != nil {
			return err
		}
	}
	p.Config = m.Config.Digest
	if raw, err = in.small(ctx, p.Config, false); err != nil {
		return err
	}
	c, err := parseConfig(raw)
	if err != nil {
		return err
	}
	if !want.runs(c.platform) {
		return &PlatformError{Image: p.Reference, Want: want.String(), Have: []string{c.platform.String()}}
	}
	p.Layers, err = pairLayers(m, c)
	return err
}

// Fetch puts the manifest, config and layers of every image into the cache,
// several at a time. Nothing is read again that is there and sound.
func (s *Source) Fetch(ctx context.Context, images ...Pinned) error {
	sessions := make([]*session, len(images))
	for i, p := range images {
		r, err := ParseReference(p.Reference)
		if err != nil {
			return err
		}
		sessions[i] = &session{source: s, image: r}
		defer sessions[i].close()
	}

	type job struct {
		in    *session
		layer descriptor
	}
	var jobs []job
	seen := map[string]bool{}
	progress := &counter{tell: s.Progress}
	manifests := make([]*manifest, len(images))
	err := s.each(ctx, len(images), func(ctx context.Context, i int) error {
		m, err := sessions[i].manifest(ctx, images[i].Manifest)
		if err != nil {
			return fmt.Errorf("fetching image %s: %w", images[i].Reference, err)
		}
		manifests[i] = m
		return nil
	})
	if err != nil {
		return err
	}
	for i, m := range manifests {
		for _, d := range m.Layers {
			if !seen[d.Digest] {
				seen[d.Digest] = true
				jobs = append(jobs, job{sessions[i], d})
				progress.total += d.Size
			}
		}
	}
	return s.each(ctx, len(jobs), func(ctx context.Context, i int) error {
		if err := jobs[i].in.layer(ctx, jobs[i].layer, progress); err != nil {
			return fmt.Errorf("fetching image %s: %w", jobs[i].in.image, err)
		}
		return nil
	})
}

// each calls do for 0 to n-1, several at a time, until one fails.
func (s *Source) each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := s.Jobs
	if jobs <= 0 {
		jobs = 4
	}
	queue := make(chan int)
	var workers sync.WaitGroup
	for range min(n, jobs) {
		workers.Go(func() {
			for i := range queue {
				if ctx.Err() != nil {
					continue
				}
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		queue <- i
	}
	close(queue)
	workers.Wait()
	return context.Cause(ctx)
}

// A session reads one image from its origin, which it opens when the cache
// does not do.
type session struct {
	source *Source
	image  Reference

	once   sync.Once
	origin origin
	where  string
	err    error
}

func (in *session) open(ctx context.Context) (origin, error) {
	in.once.Do(func() {
		loc, exact, err := in.source.Mirror.find(in.image)
		if err != nil {
			in.err = err
			return
		}
		in.where = loc.String()
		switch loc.kind {
		case atLayout:
			in.origin, in.err = openLayout(loc, in.image, exact)
		case atArchive:
			in.origin, in.err = openArchive(loc, in.image, exact)
		default:
			if in.source.Offline {
				in.err = &NotCachedError{Image: in.image.String(), Cache: in.source.Cache, Where: in.where}
				return
			}
			in.origin, in.err = openRegistry(ctx, loc, in.image)
		}
	})
	return in.origin, in.err
}

func (in *session) close() {
	if in.origin != nil {
		in.origin.close()
	}
}

func (in *session) cache() cache { return cache{in.source.Cache} }

// tag asks the origin what the image's tag stands for.
func (in *session) tag(ctx context.Context) (raw []byte, digest string, err error) {
	o, err := in.open(ctx)
	if err != nil {
		return nil, "", err
	}
	if raw, err = o.manifest(ctx, in.image.Tag); err != nil {
		return nil, "", err
	}
	digest = digestOf(raw)
	_, err = in.cache().put(digest, int64(len(raw)), bytes.NewReader(raw))
	return raw, digest, err
}

// small returns a manifest or config, from the cache or through it.
func (in *session) small(ctx context.Context, digest string, isManifest bool) ([]byte, error) {
	b, err := in.cache().read(digest)
	var damaged *DigestError
	if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &damaged) {
		return b, err
	}
	o, err := in.open(ctx)
	if err != nil {
		return nil, err
	}
	if isManifest {
		b, err = o.manifest(ctx, digest)
	} else {
		b, err = in.readBlob(ctx, o, digest)
	}
	if err != nil {
		return nil, err
	}
	if got, err := in.cache().put(digest, int64(len(b)), bytes.NewReader(b)); err != nil {
		return nil, in.digestError(err, digest, got, isManifest)
	}
	return b, nil
}

// manifest brings an image's manifest and config into the cache.
func (in *session) manifest(ctx context.Context, digest string) (*manifest, error) {
	raw, err := in.small(ctx, digest, true)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(raw)
	if err != nil {
		return nil, err
	}
	if m.isIndex() {
		return nil, fmt.Errorf("%s is an index, not the manifest for one platform", digest)
	}
	_, err = in.small(ctx, m.Config.Digest, false)
	return m, err
}

func (in *session) readBlob(ctx context.Context, o origin, digest string) ([]byte, error) {
	r, err := o.blob(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := readSmall(r)
	if err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	return b, nil
}

func (in *session) layer(ctx context.Context, d descriptor, progress *counter) error {
	ok, err := in.cache().has(ctx, d.Digest)
	if err != nil {
		return err
	}
	if ok {
		progress.add(d.Size)
		return nil
	}
	o, err := in.open(ctx)
	if err != nil {
		return err
	}
	r, err := o.blob(ctx, d.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	// One byte more than it should have is enough to see that it is another.
	got, err := in.cache().put(d.Digest, d.Size, &countingReader{r: io.LimitReader(r, d.Size+1), c: progress})
	if err != nil {
		return in.digestError(err, d.Digest, got, false)
	}
	return nil
}

func (in *session) digestError(err error, want, got string, isManifest bool) error {
	if !errors.Is(err, errDigest) {
		return fmt.Errorf("blob %s: %w", want, err)
	}
	what := "image " + in.image.String()
	if !isManifest {
		what = "a part of " + what
	}
	return &DigestError{What: what, Where: in.where, Want: want, Got: got}
}

// A counter adds up progress.
type counter struct {
	mu          sync.Mutex
	done, total int64
	tell        func(done, total int64)
}

func (c *counter) add(n int64) {
	if c.tell == nil || n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += n
	c.tell(c.done, c.total)
}

type countingReader struct {
	r io.Reader
	c *counter
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.c.add(int64(n))
	return n, err
}
