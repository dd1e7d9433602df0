// Package dockerdtest proves with a real engine that what dockerstore writes
// is what the engine would have written: Debian 13's dockerd, in namespaces of
// its own, on a store that we made.
package dockerdtest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/prose-im/prose-image/builder/dockerstore"
	"github.com/prose-im/prose-image/builder/dockerstore/imagetest"
	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// A fixture is the images of the test, in a registry and as our store.
type fixture struct {
	registry *imagetest.Registry
	upstream map[string]v1.Image // familiar name -> image
	pinned   []dockerstore.Pinned
	server   map[string]*node // what a container of the server image shows
	tree     *tree.Tree
	source   *dockerstore.Source
}

const dataRoot = "var/lib/docker"

func makeFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{registry: imagetest.Serve(t), upstream: map[string]v1.Image{}}
	arch := runtime.GOARCH
	bin := probe(t)
	base, lower := imagetest.Tar(t, baseLayer(bin)...), imagetest.Tar(t, lowerLayer(bin)...)
	upper, anew := imagetest.Tar(t, upperLayer()...), imagetest.Tar(t, newLayer()...)
	f.server = flatten(baseLayer(bin), lowerLayer(bin), upperLayer(), newLayer())
	wait := []string{"/bin/probe", "wait"}
	own := func(name string) []byte { return imagetest.Tar(t, imagetest.File("etc/name", name)) }
	images := map[string]v1.Image{
		"proseim/prose-pod-server": imagetest.Image(t, arch, wait,
			imagetest.Gzip(t, base), imagetest.Zstd(t, lower), imagetest.Plain(t, upper), imagetest.Gzip(t, anew)),
		"proseim/plain": imagetest.Image(t, arch, wait,
			imagetest.Gzip(t, base), imagetest.Zstd(t, lower), imagetest.Plain(t, upper)),
		"proseim/prose-pod-api":       imagetest.Image(t, arch, wait, imagetest.Gzip(t, base), imagetest.Gzip(t, own("api"))),
		"proseim/prose-pod-dashboard": imagetest.Image(t, arch, wait, imagetest.Gzip(t, base), imagetest.Gzip(t, own("dashboard"))),
		"example.test/app":            imagetest.Image(t, arch, wait, imagetest.Gzip(t, base), imagetest.Gzip(t, own("app"))),
		"web":                         imagetest.Image(t, arch, wait, imagetest.Gzip(t, base), imagetest.Gzip(t, own("web"))),
	}
	f.upstream = images
	server := f.registry.Push(t, "proseim/prose-pod-server:1.0", images["proseim/prose-pod-server"])
	f.registry.Push(t, "proseim/plain:1.0", images["proseim/plain"])
	other := "arm64"
	if arch == other {
		other = "amd64"
	}
	api := f.registry.Push(t, "proseim/prose-pod-api:1.0", imagetest.Index(t, map[string]v1.Image{
		arch: images["proseim/prose-pod-api"], other: imagetest.Image(t, other, wait, imagetest.Gzip(t, own("other")))}))
	f.registry.Push(t, "proseim/prose-pod-dashboard:2", images["proseim/prose-pod-dashboard"])
	f.registry.Push(t, "elsewhere/app:1.0", images["example.test/app"])
	f.registry.Push(t, "up/web:1", images["web"])

	f.source = &dockerstore.Source{
		Cache: t.TempDir(), Platform: "linux/" + arch,
		Mirror: dockerstore.Mirror{"docker.io/proseim": f.registry.Host + "/proseim", "example.test": f.registry.Host + "/elsewhere"},
	}
	for _, ref := range []string{
		"proseim/prose-pod-server:1.0@" + server,
		"proseim/prose-pod-api@" + api,
		"proseim/prose-pod-dashboard:2",
		"example.test/app:1.0",
		f.registry.Host + "/up/web:1",
	} {
		p, err := f.source.Resolve(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		f.pinned = append(f.pinned, p)
	}
	if err := f.source.Fetch(t.Context(), f.pinned...); err != nil {
		t.Fatal(err)
	}
	f.tree = store(t, f.source.Cache, f.pinned)
	return f
}

// store writes images as a store, and reads it back as a tree.
func store(t *testing.T, cache string, images []dockerstore.Pinned) *tree.Tree {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "layer"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	w, err := layer.NewWriter(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"var", "var/lib"} {
		if err := w.Write(layer.Entry{Path: dir, Type: layer.Dir, Mode: 0o755}, nil); err != nil {
			t.Fatal(err)
		}
	}
	err = dockerstore.Write(t.Context(), w, images, dockerstore.Options{Cache: cache, Time: time.Unix(1_700_000_000, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	l, err := layer.Read("containers", file, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Merge(l)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

const compose = `name: prose
services:
  server: {image: "%s", network_mode: none, restart: unless-stopped}
  api: {image: "%s", network_mode: none}
  dashboard: {image: "%s", network_mode: host}
  app: {image: "%s", network_mode: none}
  web: {image: "%s", network_mode: none}
`

func TestDockerd(t *testing.T) {
	f := makeFixture(t)
	m := start(t)
	apply(t, f.tree, dataRoot, m.data)
	m.StartDocker()

	digests := func() []string {
		lines := strings.Split(strings.TrimSpace(m.docker(t, "images", "--all", "--digests", "--no-trunc", "--format", "{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}}")), "\n")
		slices.Sort(lines)
		return lines
	}
	var listed []string
	for _, p := range f.pinned {
		r, err := dockerstore.ParseReference(p.Reference)
		if err != nil {
			t.Fatal(err)
		}
		tag := r.Tag
		if tag == "" {
			tag = "<none>"
		}
		listed = append(listed, fmt.Sprintf("%s %s %s %s", r.Familiar(), tag, p.Digest, p.Config))
	}
	slices.Sort(listed)

	server, api, dashboard, app, web := f.pinned[0], f.pinned[1], f.pinned[2], f.pinned[3], f.pinned[4]
	run := func(t *testing.T, args ...string) string {
		return m.docker(t, append([]string{"run", "--rm", "--pull", "never", "--network", "none"}, args...)...)
	}

	t.Run("images", func(t *testing.T) {
		version := strings.TrimSpace(m.docker(t, "version", "--format", "{{.Server.Version}}"))
		if err := dockerstore.CheckEngine(version); err != nil {
			t.Error(err)
		}
		t.Logf("engine %s", version)
		if got := m.docker(t, "info", "--format", "{{.Driver}} {{.Images}}"); got != "overlay2 5\n" {
			t.Errorf("driver and number of images: %s", got)
		}
		if got := digests(); !slices.Equal(got, listed) {
			t.Errorf("the engine has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(listed, "\n"))
		}
		if log := m.log(t); strings.Contains(log, "Failed to load layer") || strings.Contains(log, "level=error") {
			t.Errorf("the engine complains:\n%s", log)
		}
	})

	t.Run("files", func(t *testing.T) {
		compare(t, run(t, server.Reference, "/bin/probe", "walk"), f.server)
	})

	t.Run("setuid", func(t *testing.T) {
		if got := run(t, "--user", "1001", server.Reference, "/bin/setuid", "id"); got != "1001 0\n" {
			t.Errorf("uid and effective uid: %s", got)
		}
	})

	t.Run("capability", func(t *testing.T) {
		// Without the file's capability this is EPERM.
		run(t, "--user", "1001", server.Reference, "/bin/capable", "chown", "/data/empty", "1001")
	})

	t.Run("compose", func(t *testing.T) {
		yaml := fmt.Sprintf(compose, server.Reference, api.Reference, "proseim/prose-pod-dashboard:2@"+dashboard.Digest, app.Reference, web.Reference)
		m.Write("etc/docker/compose.yaml", yaml)
		m.docker(t, "compose", "-f", "/etc/docker/compose.yaml", "up", "-d", "--pull", "never")
		got := strings.Fields(m.docker(t, "compose", "-f", "/etc/docker/compose.yaml", "ps", "--format", "{{.Service}}={{.State}}"))
		slices.Sort(got)
		if want := "api=running app=running dashboard=running server=running web=running"; strings.Join(got, " ") != want {
			t.Errorf("services: %v", got)
		}
	})

	t.Run("pull", func(t *testing.T) { testPull(t, m, f) })

	var saved string
	t.Run("save", func(t *testing.T) {
		args := []string{"save"}
		for _, p := range f.pinned {
			args = append(args, p.Config)
		}
		saved = m.docker(t, args...)
		checkSaved(t, saved, f.pinned)
	})

	t.Run("load", func(t *testing.T) {
		before := list(t, m.data, "overlay2", "image/overlay2/layerdb/sha256", "image/overlay2/imagedb/content/sha256")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := m.Command(ctx, "docker", "load", "--quiet")
		cmd.Stdin = strings.NewReader(saved)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("docker load: %v\n%s", err, out)
		}
		if got := digests(); !slices.Equal(got, listed) {
			t.Errorf("after docker load the engine has\n%s", strings.Join(got, "\n"))
		}
		if after := list(t, m.data, "overlay2", "image/overlay2/layerdb/sha256", "image/overlay2/imagedb/content/sha256"); !slices.Equal(before, after) {
			t.Errorf("docker load changed the store:\n%s\nbefore:\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
		}
	})

	// Before the layers are counted: saving layers that images share leaves
	// references to them behind until the engine restarts (moby 26.1.5
	// image/tarexport/save.go, saveLayer).
	t.Run("restart", func(t *testing.T) {
		m.StopDocker()
		m.StartDocker()
		if got := digests(); !slices.Equal(got, listed) {
			t.Errorf("after a restart the engine has\n%s", strings.Join(got, "\n"))
		}
		for begin := time.Now(); m.docker(t, "inspect", "prose-server-1", "--format", "{{.State.Status}}") != "running\n"; time.Sleep(100 * time.Millisecond) {
			if time.Since(begin) > time.Minute {
				t.Fatal("waiting for the server container to come back: nothing in a minute")
			}
		}
		compare(t, run(t, server.Reference, "/bin/probe", "walk"), f.server)
	})

	t.Run("remove", func(t *testing.T) {
		m.docker(t, "compose", "-f", "/etc/docker/compose.yaml", "down", "-t", "1")
		before := len(list(t, m.data, "overlay2/l"))
		m.docker(t, "image", "rm", "proseim/prose-pod-server:1.0")
		if got := m.docker(t, "images", "--digests", "proseim/prose-pod-server", "--quiet"); got != "" {
			t.Errorf("after image rm the engine still has %s", got)
		}
		// Three of its four layers are its own.
		if after := len(list(t, m.data, "overlay2/l")); after != before-3 {
			t.Errorf("image rm left %d of %d layers, want three less", after, before)
		}
		run(t, app.Reference, "/bin/probe", "id")
		m.docker(t, "image", "prune", "--all", "--force")
		if got := list(t, m.data, "overlay2", "overlay2/l", "image/overlay2/layerdb/sha256", "image/overlay2/imagedb/content/sha256"); !slices.Equal(got, []string{"overlay2/l"}) {
			t.Errorf("image prune left %v", got)
		}
	})

	m.StopDocker()
}

// list names what is in directories of the engine's data root.
func list(t testing.TB, data string, dirs ...string) []string {
	t.Helper()
	names := []string{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(filepath.Join(data, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, dir+"/"+e.Name())
		}
	}
	return names
}

// checkSaved checks that an archive holds each image's layers and config byte
// for byte.
func checkSaved(t *testing.T, saved string, images []dockerstore.Pinned) {
	t.Helper()
	members := map[string][]byte{}
	tr := tar.NewReader(strings.NewReader(saved))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		members[h.Name] = b
		if name, ok := strings.CutPrefix(h.Name, "blobs/sha256/"); ok && len(b) > 0 {
			if got := fmt.Sprintf("%x", sha256.Sum256(b)); got != name {
				t.Errorf("blob %s has the sha256 %s", name, got)
			}
		}
	}
	var manifest []struct {
		Config string
		Layers []string
	}
	if err := json.NewDecoder(bytes.NewReader(members["manifest.json"])).Decode(&manifest); err != nil {
		t.Fatal(err)
	}
	sum := func(member string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(members[member])) }
	found := map[string]bool{}
	for _, m := range manifest {
		i := slices.IndexFunc(images, func(p dockerstore.Pinned) bool { return p.Config == sum(m.Config) })
		if i < 0 {
			t.Errorf("the archive has a config %s of no image", sum(m.Config))
			continue
		}
		found[images[i].Reference] = true
		if len(m.Layers) != len(images[i].Layers) {
			t.Errorf("%s: %d layers saved of %d", images[i].Reference, len(m.Layers), len(images[i].Layers))
			continue
		}
		for j, name := range m.Layers {
			if got := sum(name); got != images[i].Layers[j].DiffID {
				t.Errorf("%s: layer %d was saved as %s, want %s", images[i].Reference, j, got, images[i].Layers[j].DiffID)
			}
		}
	}
	if len(found) != len(images) {
		t.Errorf("%d images were saved of %d", len(found), len(images))
	}
}
