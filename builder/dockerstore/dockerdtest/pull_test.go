package dockerdtest

import (
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prose-im/prose-image/builder/dockerstore/imagetest"
)

// testPull checks that pulls know what our store has: the same image is up to
// date, and of a newer one only the new layer comes over the wire.
func testPull(t *testing.T, m *engine, f *fixture) {
	var mu sync.Mutex
	var blobs []string
	inner := f.registry.Config.Handler
	f.registry.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i := strings.Index(r.URL.Path, "/blobs/"); i >= 0 && r.Method == http.MethodGet {
			mu.Lock()
			blobs = append(blobs, r.URL.Path[i+len("/blobs/"):])
			mu.Unlock()
		}
		inner.ServeHTTP(w, r)
	})
	defer func() { f.registry.Config.Handler = inner }()

	web := f.pinned[4]
	out := m.docker(t, "pull", web.Reference)
	if !strings.Contains(out, "Image is up to date") || len(blobs) != 0 {
		t.Errorf("pulling what is there read %v:\n%s", blobs, out)
	}

	base, err := f.upstream["web"].Layers()
	if err != nil {
		t.Fatal(err)
	}
	newer := imagetest.Gzip(t, imagetest.Tar(t, imagetest.File("etc/name", "web, newer")))
	img := imagetest.Image(t, runtime.GOARCH, []string{"/bin/probe", "wait"}, base[0], newer)
	f.registry.Push(t, "up/web:2", img)
	blobs = nil
	name := strings.TrimSuffix(web.Reference, ":1") + ":2"
	m.docker(t, "pull", name)
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := newer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{config.String(), digest.String()}
	slices.Sort(want)
	slices.Sort(blobs)
	if !slices.Equal(blobs, want) {
		t.Errorf("pulling a newer image read %v, want its config and its one new layer %v", blobs, want)
	}
	m.docker(t, "image", "rm", name)
}
