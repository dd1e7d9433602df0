package dockerstore

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocilayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/prose-im/prose-image/builder/dockerstore/imagetest"
	"github.com/prose-im/prose-image/builder/output"
)

// testImage is an image of two layers for an architecture.
func testImage(t testing.TB, arch string) v1.Image {
	return imagetest.Image(t, arch, []string{"/x"},
		imagetest.Gzip(t, imagetest.Tar(t, imagetest.Dir("etc"), imagetest.File("etc/base", strings.Repeat("base ", 100_000)))),
		imagetest.Zstd(t, imagetest.Tar(t, imagetest.File("etc/arch", arch))))
}

// reads counts GETs of a registry, and lets a test change its answers.
type reads struct {
	mu    sync.Mutex
	paths []string
	serve func(w http.ResponseWriter, r *http.Request, next http.Handler)
}

func watch(r *imagetest.Registry) *reads {
	c := &reads{}
	next := r.Config.Handler
	r.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c.mu.Lock()
		if req.Method == http.MethodGet && req.URL.Path != "/v2/" {
			c.paths = append(c.paths, req.URL.Path)
		}
		c.mu.Unlock()
		if c.serve != nil {
			c.serve(w, req, next)
			return
		}
		next.ServeHTTP(w, req)
	})
	return c
}

func (c *reads) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	paths := c.paths
	c.paths = nil
	return paths
}

func newSource(t *testing.T, m Mirror) *Source {
	return &Source{Cache: t.TempDir(), Platform: "linux/amd64", Mirror: m}
}

func resolve(t *testing.T, s *Source, ref string) Pinned {
	t.Helper()
	p, err := s.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// wantCached checks that the cache holds each blob of an image, whole, and
// nothing unfinished.
func wantCached(t *testing.T, s *Source, p Pinned) {
	t.Helper()
	for _, d := range []string{p.Manifest, p.Config, p.Layers[0].Digest, p.Layers[1].Digest} {
		b, err := os.ReadFile(filepath.Join(s.Cache, "blobs/sha256", strings.TrimPrefix(d, digestPrefix)))
		if err != nil || digestOf(b) != d {
			t.Errorf("the cache has %s instead of %s: %v", digestOf(b), d, err)
		}
	}
	noRemains(t, s.Cache)
}

func noRemains(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	if err != nil {
		t.Fatal(err)
	}
	hidden, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, hidden...) {
		if len(filepath.Base(f)) != 64 {
			t.Errorf("the cache holds %s", f)
		}
	}
}

func TestRegistry(t *testing.T) {
	r := imagetest.Serve(t)
	img := testImage(t, "amd64")
	digest := r.Push(t, "p/a:1", img)
	c := watch(r)
	s := newSource(t, Mirror{"docker.io/proseim": r.Host + "/p"})
	var last, total int64
	s.Progress = func(done, all int64) { last, total = done, all }

	p := resolve(t, s, "proseim/a:1")
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if p.Reference != "proseim/a:1" || p.Digest != digest || p.Manifest != digest || p.Config != config.String() || len(p.Layers) != 2 {
		t.Errorf("pinned %+v", p)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range layers {
		d, _ := l.Digest()
		id, _ := l.DiffID()
		size, _ := l.Size()
		if want := (Layer{d.String(), id.String(), size}); p.Layers[i] != want {
			t.Errorf("layer %d is %+v, want %+v", i, p.Layers[i], want)
		}
	}
	if got := c.take(); len(got) != 2 {
		t.Errorf("resolving read %v, want a manifest and a config", got)
	}
	if err := s.Fetch(t.Context(), p, p); err != nil {
		t.Fatal(err)
	}
	if got := c.take(); len(got) != 2 {
		t.Errorf("fetching read %v, want two layers", got)
	}
	if want := p.Layers[0].Size + p.Layers[1].Size; last != want || total != want {
		t.Errorf("progress ended at %d of %d, want %d", last, total, want)
	}
	wantCached(t, s, p)

	// What the lock has is enough for everything else, with no network.
	r.Close()
	s.Offline = true
	locked := Pinned{Reference: p.Reference, Digest: p.Digest, Manifest: p.Manifest}
	if err := s.Fetch(t.Context(), locked); err != nil {
		t.Error(err)
	}
	if full, err := load(cache{s.Cache}, locked); err != nil || fmt.Sprint(full.Pinned) != fmt.Sprint(p) {
		t.Errorf("loaded %+v, %v", full, err)
	}
	pinned := "proseim/a@" + digest
	if again := resolve(t, s, pinned); again.Digest != digest || again.Config != p.Config {
		t.Errorf("resolved offline: %+v", again)
	}
	var missing *NotCachedError
	if _, err := s.Resolve(t.Context(), "proseim/a:1"); !errors.As(err, &missing) {
		t.Errorf("a tag was resolved offline: %v", err)
	}
}

func TestIndex(t *testing.T) {
	r := imagetest.Serve(t)
	images := map[string]v1.Image{"amd64": testImage(t, "amd64"), "arm64": testImage(t, "arm64")}
	digest := r.Push(t, "a:1", imagetest.Index(t, images))
	ref := r.Host + "/a:1@" + digest
	for arch, img := range images {
		s := newSource(t, nil)
		s.Platform = "linux/" + arch
		want, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if p := resolve(t, s, ref); p.Digest != digest || p.Manifest != want.String() {
			t.Errorf("%s: %+v, want the manifest %s", arch, p, want)
		}
	}
	s := newSource(t, nil)
	s.Platform = "linux/riscv64"
	var other *PlatformError
	if _, err := s.Resolve(t.Context(), ref); !errors.As(err, &other) || strings.Join(other.Have, " ") != "linux/amd64 linux/arm64" || other.Want != "linux/riscv64" {
		t.Errorf("an image for another platform: %v", err)
	}
	r.Push(t, "b:1", images["arm64"])
	s.Platform = "linux/amd64"
	if _, err := s.Resolve(t.Context(), r.Host+"/b:1"); !errors.As(err, &other) || strings.Join(other.Have, " ") != "linux/arm64" {
		t.Errorf("an image for another platform, with no index: %v", err)
	}
}

// Each kind of failure is an error of its own, that names what a person needs.
func TestErrors(t *testing.T) {
	r := imagetest.Serve(t)
	digest := r.Push(t, "a:1", testImage(t, "amd64"))
	s := newSource(t, nil)
	resolving := func(ref string) error {
		_, err := s.Resolve(t.Context(), ref)
		if err == nil {
			t.Errorf("%s was resolved", ref)
		} else if !strings.Contains(err.Error(), ref) {
			t.Errorf("the error does not name the image: %v", err)
		}
		noRemains(t, s.Cache)
		return err
	}

	for _, ref := range []string{r.Host + "/nothing:1", r.Host + "/a:2", r.Host + "/a@" + someDigest} {
		var missing *NotFoundError
		if err := resolving(ref); !errors.As(err, &missing) || missing.Image != ref || missing.Where != "registry "+r.Host || missing.Hint() == "" {
			t.Errorf("an unknown image: %v", err)
		}
	}

	gone := httptest.NewServer(nil)
	host := strings.TrimPrefix(gone.URL, "http://")
	gone.Close()
	var unreachable *UnreachableError
	if err := resolving(host + "/a:1"); !errors.As(err, &unreachable) || unreachable.Registry != host || unreachable.Hint() == "" {
		t.Errorf("an unreachable registry: %v", err)
	}

	c := watch(r)
	c.serve = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		http.Error(w, "busy", http.StatusServiceUnavailable)
	}
	if err := resolving(r.Host + "/a:1"); !errors.As(err, &unreachable) || !strings.Contains(err.Error(), "busy") {
		t.Errorf("a registry that cannot serve: %v", err)
	}
	c.serve = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		http.Error(w, "no", http.StatusUnauthorized)
	}
	var denied *DeniedError
	if err := resolving(r.Host + "/a:1"); !errors.As(err, &denied) || denied.Registry != r.Host || denied.Hint() == "" {
		t.Errorf("a registry that refuses: %v", err)
	}
	c.serve = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			io.WriteString(w, `{"schemaVersion": 2}`)
			return
		}
		next.ServeHTTP(w, r)
	}
	var wrong *DigestError
	if err := resolving(r.Host + "/a@" + digest); !errors.As(err, &wrong) || wrong.Want != digest || wrong.Got != digestOf([]byte(`{"schemaVersion": 2}`)) || wrong.Where != "registry "+r.Host || wrong.Hint() == "" {
		t.Errorf("another manifest: %v", err)
	}
	c.serve = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			io.WriteString(w, "forged")
			return
		}
		next.ServeHTTP(w, r)
	}
	if err := resolving(r.Host + "/a@" + digest); !errors.As(err, &wrong) || wrong.Got != digestOf([]byte("forged")) {
		t.Errorf("another config: %v", err)
	}
	c.serve = nil
	p := resolve(t, s, r.Host+"/a@"+digest)
	c.serve = func(w http.ResponseWriter, r *http.Request, next http.Handler) { io.WriteString(w, "forged") }
	if err := s.Fetch(t.Context(), p); !errors.As(err, &wrong) || wrong.Got != digestOf([]byte("forged")) || !strings.Contains(err.Error(), r.Host+"/a") {
		t.Errorf("another layer: %v", err)
	}
	noRemains(t, s.Cache)

	for what, manifest := range map[string]string{
		"schema version 1":     `{"schemaVersion": 1, "fsLayers": []}`,
		"not JSON":             `{"schemaVersion": 2`,
		"config":               `{"schemaVersion": 2, "config": {"digest": "x"}}`,
		"layers":               `{"schemaVersion": 2, "config": {"digest": "` + someDigest + `"}, "layers": [{"digest": "../../../etc/shadow"}]}`,
		"negative size":        `{"schemaVersion": 2, "config": {"digest": "` + someDigest + `"}, "layers": [{"digest": "` + someDigest + `", "size": -1}]}`,
		"the index":            `{"schemaVersion": 2, "mediaType": "` + ociIndex + `", "manifests": [{"digest": "sha256:"}]}`,
		"only for no platform": `{"schemaVersion": 2, "mediaType": "` + ociIndex + `", "manifests": []}`,
		"larger than":          strings.Repeat(" ", maxSmall+1),
	} {
		c.serve = func(w http.ResponseWriter, r *http.Request, next http.Handler) { io.WriteString(w, manifest) }
		if err := resolving(r.Host + "/a:1"); err != nil && !strings.Contains(err.Error(), what) {
			t.Errorf("want %q: %v", what, err)
		}
	}
}

// A download that breaks off goes on where it was, also when the registry
// knows no ranges; one that never goes on fails.
func TestBrokenDownload(t *testing.T) {
	r := imagetest.Serve(t)
	r.Push(t, "a:1", testImage(t, "amd64"))
	c := watch(r)
	for _, ranges := range []bool{true, false} {
		s := newSource(t, nil)
		p := resolve(t, s, r.Host+"/a:1")
		var broken atomic.Int32
		c.serve = func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			rec := httptest.NewRecorder()
			plain := req.Clone(req.Context())
			plain.Header.Del("Range")
			next.ServeHTTP(rec, plain)
			body := rec.Body.Bytes()
			if from := req.Header.Get("Range"); from != "" && ranges {
				var n int
				if _, err := fmt.Sscanf(from, "bytes=%d-", &n); err != nil || n <= 0 || n > len(body) {
					t.Errorf("range %q", from)
				}
				body = body[n:]
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			if req.Header.Get("Range") != "" && ranges {
				w.WriteHeader(http.StatusPartialContent)
			}
			// Ever more of it, so that it ends even without ranges.
			n := min(int(broken.Add(1))*100, len(body))
			w.Write(body[:n])
		}
		if err := s.Fetch(t.Context(), p); err != nil {
			t.Fatalf("with ranges %v: %v", ranges, err)
		}
		c.serve = nil
		wantCached(t, s, p)
		if broken.Load() < 4 {
			t.Errorf("only %d answers", broken.Load())
		}
	}

	for _, ranges := range []bool{true, false} {
		s := newSource(t, nil)
		p := resolve(t, s, r.Host+"/a:1")
		var answers atomic.Int32
		c.serve = func(w http.ResponseWriter, req *http.Request, next http.Handler) {
			if req.URL.Path == "/v2/" {
				return
			}
			answers.Add(1)
			w.Header().Set("Content-Length", "1000")
			if req.Header.Get("Range") == "" {
				w.Write([]byte("x"))
			} else if ranges {
				w.WriteHeader(http.StatusPartialContent)
			}
			w.(http.Flusher).Flush()
		}
		s.Jobs = 1
		var unreachable *UnreachableError
		if err := s.Fetch(t.Context(), p); !errors.As(err, &unreachable) {
			t.Errorf("a download that never ends, with ranges %v: %v", ranges, err)
		}
		if got := answers.Load(); got != attempts {
			t.Errorf("with ranges %v it asked %d times, want %d", ranges, got, attempts)
		}
		c.serve = nil
		noRemains(t, s.Cache)
	}
}

func TestCancel(t *testing.T) {
	r := imagetest.Serve(t)
	r.Push(t, "a:1", testImage(t, "amd64"))
	c := watch(r)
	s := newSource(t, nil)
	p := resolve(t, s, r.Host+"/a:1")
	stopped := errors.New("stopped by a test")
	ctx, cancel := context.WithCancelCause(t.Context())
	c.serve = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		w.Header().Set("Content-Length", "1000000")
		w.(http.Flusher).Flush()
		cancel(stopped)
		<-r.Context().Done()
	}
	if err := s.Fetch(ctx, p); !errors.Is(err, stopped) {
		t.Errorf("got %v", err)
	}
	noRemains(t, s.Cache)
}

// A damaged blob in the cache is replaced, and many may fetch at once.
func TestCache(t *testing.T) {
	r := imagetest.Serve(t)
	r.Push(t, "a:1", testImage(t, "amd64"))
	s := newSource(t, nil)
	p := resolve(t, s, r.Host+"/a:1")
	if err := s.Fetch(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{p.Manifest, p.Config, p.Layers[0].Digest, p.Layers[1].Digest} {
		file, err := cache{s.Cache}.path(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("damaged"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	errs := make(chan error)
	for range 8 {
		go func() { errs <- (&Source{Cache: s.Cache, Platform: s.Platform}).Fetch(t.Context(), p) }()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	wantCached(t, s, p)

	c := watch(r)
	if err := s.Fetch(t.Context(), p); err != nil || len(c.take()) != 0 {
		t.Errorf("what is there was fetched again: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	r := imagetest.Serve(t)
	r.Push(t, "a:1", testImage(t, "amd64"))
	s := newSource(t, nil)
	p := resolve(t, s, r.Host+"/a:1")
	var full *output.NoSpaceError
	c := cache{s.Cache}
	if _, err := c.put(p.Layers[0].Digest, p.Layers[0].Size, failing{syscall.ENOSPC}); !errors.As(err, &full) || full.Need != p.Layers[0].Size || !strings.HasPrefix(full.Path, s.Cache) {
		t.Errorf("got %v", err)
	}
	noRemains(t, s.Cache)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// The credentials are those that docker login left.
func TestCredentials(t *testing.T) {
	r := imagetest.Serve(t)
	r.Push(t, "a:1", testImage(t, "amd64"))
	c := watch(r)
	c.serve = func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if user, password, _ := req.BasicAuth(); user != "prose" || password != "hunter2" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, req)
	}
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	login := func(password string) {
		auth := base64.StdEncoding.EncodeToString([]byte("prose:" + password))
		if err := os.WriteFile(filepath.Join(dir, "config.json"), fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, r.Host, auth), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	login("hunter2")
	s := newSource(t, nil)
	if err := s.Fetch(t.Context(), resolve(t, s, r.Host+"/a:1")); err != nil {
		t.Error(err)
	}
	login("hunter3")
	var denied *DeniedError
	if _, err := s.Resolve(t.Context(), r.Host+"/a:1"); !errors.As(err, &denied) || strings.Contains(err.Error(), "hunter") {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestPlainHTTP(t *testing.T) {
	req := httptest.NewRequest(http.MethodGet, "http://registry.test/v2/", nil)
	if _, err := (httpsOnly{http.DefaultTransport}).RoundTrip(req); err == nil || !strings.Contains(err.Error(), "http://") {
		t.Errorf("got %v", err)
	}
}

func TestLayout(t *testing.T) {
	img := testImage(t, "amd64")
	index := imagetest.Index(t, map[string]v1.Image{"amd64": img, "arm64": testImage(t, "arm64")})
	digest := func(h v1.Hash, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return h.String()
	}
	many, one := t.TempDir(), t.TempDir()
	l, err := ocilayout.Write(many, imagetest.Index(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []map[string]string{
		{"org.opencontainers.image.ref.name": "docker.io/proseim/a:1"},
		{"io.containerd.image.name": "docker.io/library/short:2", "org.opencontainers.image.ref.name": "2"},
	} {
		if err := l.AppendImage(img, ocilayout.WithAnnotations(a)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.AppendIndex(index, ocilayout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "multi"})); err != nil {
		t.Fatal(err)
	}
	l, err = ocilayout.Write(one, imagetest.Index(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	s := newSource(t, Mirror{"docker.io": "oci:" + many, "example.test/m": "oci:" + many, "example.test/one": "oci:" + one})
	for ref, want := range map[string]string{
		"proseim/a:1":                      digest(img.Digest()),
		"short:2":                          digest(img.Digest()),
		"any/name@" + digest(img.Digest()): digest(img.Digest()),
		"example.test/m:multi":             digest(index.Digest()),
		"example.test/m:1@" + digest(index.Digest()): digest(index.Digest()),
		"example.test/one:whatever":                  digest(img.Digest()),
	} {
		p := resolve(t, s, ref)
		if p.Digest != want || p.Manifest != digest(img.Digest()) {
			t.Errorf("%s: %+v", ref, p)
		}
		if err := s.Fetch(t.Context(), p); err != nil {
			t.Error(err)
		}
		wantCached(t, s, p)
	}
	var missing *NotFoundError
	for _, ref := range []string{"proseim/a:2", "a:1", "multi", "short:1", "x@" + someDigest} {
		if _, err := s.Resolve(t.Context(), ref); !errors.As(err, &missing) || missing.Where != "OCI layout "+many {
			t.Errorf("%s: %v", ref, err)
		}
	}
	hex := strings.TrimPrefix(digest(img.Digest()), digestPrefix)
	if err := os.WriteFile(filepath.Join(one, "blobs/sha256", hex), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Cache = t.TempDir()
	var wrong *DigestError
	if _, err := s.Resolve(t.Context(), "example.test/one@"+digest(img.Digest())); !errors.As(err, &wrong) {
		t.Errorf("a damaged layout: %v", err)
	}
}

func TestArchive(t *testing.T) {
	img := imagetest.Image(t, "amd64", nil,
		imagetest.Plain(t, imagetest.Tar(t, imagetest.File("a", "1"))), imagetest.Plain(t, imagetest.Tar(t, imagetest.File("b", "2"))))
	dir := t.TempDir()
	file := filepath.Join(dir, "saved.tar")
	tag, err := name.NewTag("docker.io/proseim/a:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatal(err)
	}
	s := newSource(t, Mirror{"docker.io/proseim": "docker-archive:" + file})
	p := resolve(t, s, "proseim/a:1")
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if p.Config != config.String() || p.Layers[0].DiffID != p.Layers[0].Digest {
		t.Errorf("pinned %+v", p)
	}
	if err := s.Fetch(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	wantCached(t, s, p)
	// The same archive gives the same manifest, so a lock can name it.
	s.Cache = t.TempDir()
	if again := resolve(t, s, "proseim/a:1@"+p.Digest); again.Manifest != p.Manifest {
		t.Errorf("resolved by its digest: %+v", again)
	}
	s.Cache = t.TempDir()
	if err := s.Fetch(t.Context(), p); err != nil {
		t.Error(err)
	}
	wantCached(t, s, p)
	var wrong *DigestError
	if _, err := s.Resolve(t.Context(), "proseim/a:1@"+someDigest); !errors.As(err, &wrong) || wrong.Want != someDigest || wrong.Got != p.Digest {
		t.Errorf("another digest: %v", err)
	}
	var missing *NotFoundError
	if _, err := s.Resolve(t.Context(), "proseim/b:1"); !errors.As(err, &missing) || missing.Where != "docker archive "+file {
		t.Errorf("another image: %v", err)
	}

	// Engines before 25 save a shared layer once, and link to it.
	layer := imagetest.Tar(t, imagetest.File("a", "1"))
	manifest, err := json.Marshal([]archiveImage{{Config: "c.json", Layers: []string{"2/layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	raw := fmt.Sprintf(`{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":[%q]}}`, digestOf(layer))
	old := imagetest.Tar(t, imagetest.File("1/layer.tar", string(layer)), imagetest.Entry{Name: "2/layer.tar", Type: tar.TypeSymlink, Link: "../1/layer.tar"},
		imagetest.File("c.json", raw), imagetest.File("manifest.json", string(manifest)))
	if err := os.WriteFile(filepath.Join(dir, "old.tar"), old, 0o644); err != nil {
		t.Fatal(err)
	}
	s.Mirror = Mirror{"old": "docker-archive:" + filepath.Join(dir, "old.tar")}
	if err := s.Fetch(t.Context(), resolve(t, s, "old:3")); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]byte{nil, layer, old[:len(old)/2], bytes.Replace(old, []byte("2/layer.tar"), []byte("3/layer.tar"), 1)} {
		if err := os.WriteFile(filepath.Join(dir, "old.tar"), bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if p, err := s.Resolve(t.Context(), "old:4"); err == nil {
			t.Errorf("a damaged archive gave %+v", p)
		}
	}
}

// FuzzManifest: no bytes of a registry make the parsers panic, and every digest
// that they let through is one.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"`+someDigest+`"},"layers":[{"digest":"`+someDigest+`","size":1}]}`), []byte(`{"os":"linux","rootfs":{"diff_ids":["`+someDigest+`"]}}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"`+someDigest+`","platform":{"os":"linux","architecture":"amd64"}}]}`), []byte(`{}`))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		m, err := parseManifest(manifest)
		if err != nil {
			return
		}
		if m.isIndex() {
			d, err := m.choose("image", platform{OS: "linux", Architecture: "amd64"})
			if err == nil {
				if _, err := encoded(d.Digest); err != nil {
					t.Error(err)
				}
			}
			return
		}
		c, err := parseConfig(config)
		if err != nil {
			return
		}
		layers, err := pairLayers(m, c)
		if err != nil {
			return
		}
		for _, l := range layers {
			if _, err := encoded(l.Digest); err != nil {
				t.Error(err)
			}
			if _, err := encoded(l.DiffID); err != nil {
				t.Error(err)
			}
		}
	})
}
