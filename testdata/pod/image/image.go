// Package image makes the pod double's container images: four images under
// upstream's names whose programs keep upstream's contract. The server image
// holds the real Prosody of Debian; the others share one base layer.
//
// Equal inputs give equal digests: the Debian packages in the cache, the sources
// of the programs and the Go toolchain.
package image

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/prose-im/prose-image/builder/host"
	"github.com/prose-im/prose-image/testdata/pod/version"
)

// Suite is the Debian release that Prosody comes from.
const Suite = "trixie"

// Registry is the registry of upstream's names.
const Registry = "docker.io"

// created is the time of the images and of everything newer in them.
var created = func() time.Time {
	t, err := time.Parse(time.RFC3339, version.Timestamp)
	if err != nil {
		panic(err)
	}
	return t
}()

//go:embed modules/*.lua
var modules embed.FS

// Config says what to make.
type Config struct {
	Cache    string    // directory for what is slow to make
	Module   string    // directory inside this Go module; empty: the current one
	Arches   []string  // Debian's names; empty: amd64
	Progress io.Writer // one line per slow step; nil: silent
}

// An Image is one name with an index over the architectures.
type Image struct {
	Repository string // such as proseim/prose-pod-api
	Tag        string
	Digest     v1.Hash // of the index
	Index      v1.ImageIndex
}

// Reference is the image's full name under upstream's registry.
func (i Image) Reference() string { return Registry + "/" + i.Repository + ":" + i.Tag }

// A blueprint is what differs between the images.
type blueprint struct {
	repository string
	tag        string
	source     string // package below testdata/pod
	program    string // where the binary lies
	server     bool   // on Debian with Prosody instead of the shared base
	config     v1.Config
}

const binPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func ports(list ...string) map[string]struct{} {
	m := map[string]struct{}{}
	for _, p := range list {
		m[p] = struct{}{}
	}
	return m
}

var blueprints = []blueprint{
	{
		repository: "proseim/prose-app-web", tag: version.App, source: "app", program: "usr/local/bin/prose-app-web",
		config: v1.Config{
			Entrypoint: []string{"prose-app-web"}, ExposedPorts: ports("80/tcp", "8080/tcp"), StopSignal: "SIGQUIT",
		},
	},
	{
		repository: "proseim/prose-pod-dashboard", tag: version.Dashboard, source: "dashboard", program: "usr/local/bin/prose-pod-dashboard",
		config: v1.Config{
			Entrypoint: []string{"prose-pod-dashboard"}, ExposedPorts: ports("80/tcp", "8080/tcp"), StopSignal: "SIGQUIT",
		},
	},
	{
		repository: "proseim/prose-pod-api", tag: version.API, source: "api", program: "usr/local/bin/prose-pod-api",
		config: v1.Config{
			Cmd: []string{"prose-pod-api"}, ExposedPorts: ports("8080/tcp"), WorkingDir: "/usr/share/prose-pod-api",
			Volumes: ports("/etc/prose/", "/var/lib/prose-pod-api/"),
		},
	},
	{
		repository: "proseim/prose-pod-server", tag: version.Server, source: "server", program: "usr/local/bin/prose-pod-server", server: true,
		config: v1.Config{
			User: "prosody:prosody", Entrypoint: []string{"prose-pod-server"}, WorkingDir: "/usr/share/prose-pod-server",
			ExposedPorts: ports("5222/tcp", "5269/tcp", "5280/tcp", "8080/tcp"),
			Volumes:      ports("/etc/prosody/", "/var/lib/prosody/", "/usr/share/prose/", "/etc/prose/"),
		},
	},
}

// Build makes the four images.
func Build(ctx context.Context, c Config) ([]Image, error) {
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	if len(c.Arches) == 0 {
		c.Arches = []string{"amd64"}
	}
	images := make([]Image, len(blueprints))
	for i, b := range blueprints {
		images[i] = Image{Repository: b.repository, Tag: b.tag, Index: mutate.IndexMediaType(empty.Index, types.OCIImageIndex)}
	}
	for _, arch := range c.Arches {
		if err := addArch(ctx, c, arch, images); err != nil {
			return nil, err
		}
	}
	for i := range images {
		digest, err := images[i].Index.Digest()
		if err != nil {
			return nil, err
		}
		images[i].Digest = digest
	}
	return images, nil
}

func addArch(ctx context.Context, c Config, arch string, images []Image) error {
	roots, err := debian(ctx, c.Cache, Suite, arch, c.Progress)
	if err != nil {
		return err
	}
	bins, err := os.MkdirTemp(c.Cache, "pod-bin-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bins)
	fmt.Fprintf(c.Progress, "compiling the programs for %s\n", arch)
	if err := compile(ctx, c.Module, bins, arch); err != nil {
		return err
	}
	for i, b := range blueprints {
		img, err := b.image(roots, bins, arch)
		if err != nil {
			return fmt.Errorf("making %s: %w", b.repository, err)
		}
		proof, err := attestation(img, b)
		if err != nil {
			return fmt.Errorf("making %s: %w", b.repository, err)
		}
		digest, err := img.Digest()
		if err != nil {
			return err
		}
		images[i].Index = mutate.AppendManifests(images[i].Index,
			mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}},
			mutate.IndexAddendum{Add: proof, Descriptor: v1.Descriptor{
				Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"},
				Annotations: map[string]string{
					"vnd.docker.reference.type":   "attestation-manifest",
					"vnd.docker.reference.digest": digest.String(),
				},
			}},
		)
	}
	return nil
}

// compile builds all programs at once; go names the binaries after the packages.
func compile(ctx context.Context, module, out, arch string) error {
	args := []string{"go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out + "/"}
	for _, b := range blueprints {
		args = append(args, "github.com/prose-im/prose-image/testdata/pod/"+b.source)
	}
	var env []string
	for _, kv := range os.Environ() {
		if strings.HasPrefix(kv, "GO") && !strings.HasPrefix(kv, "GOFLAGS=") {
			env = append(env, kv)
		}
	}
	env = append(env, "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=")
	return host.Run(ctx, host.Command{Args: args, Env: env, Dir: module})
}

func (b *blueprint) image(roots rootfs, bins, arch string) (v1.Image, error) {
	root := roots.base
	if b.server {
		root = roots.server
	}
	bottom, err := tarball.LayerFromFile(root, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	binary, err := os.ReadFile(filepath.Join(bins, b.source))
	if err != nil {
		return nil, err
	}
	entries := []entry{{name: b.program, mode: 0o755, data: binary}}
	if dir := strings.TrimPrefix(b.config.WorkingDir, "/"); dir != "" {
		entries = append(entries, entry{name: dir + "/", mode: 0o755})
	}
	if b.server {
		more, err := serverFiles()
		if err != nil {
			return nil, err
		}
		entries = append(entries, more...)
	}
	top, err := smallLayer(entries)
	if err != nil {
		return nil, err
	}
	history := func(by string) v1.History {
		return v1.History{Created: v1.Time{Time: created}, CreatedBy: by, Comment: "pod double"}
	}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	img, err = mutate.Append(img,
		mutate.Addendum{Layer: bottom, History: history("unpack Debian packages"), MediaType: types.OCILayer},
		mutate.Addendum{Layer: top, History: history("add " + path.Base(b.program)), MediaType: types.OCILayer},
	)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Created = v1.Time{Time: created}
	file.OS, file.Architecture = "linux", arch
	file.Config = b.config
	file.Config.Env = []string{binPath}
	return mutate.ConfigFile(img, file)
}

// serverFiles are what the server image has besides Debian and the program.
func serverFiles() ([]entry, error) {
	about, err := json.Marshal(version.Of(version.Server))
	if err != nil {
		return nil, err
	}
	entries := []entry{
		{name: "usr/lib/prosody/prose_version.json", mode: 0o644, data: about},
		{name: "usr/share/prose/", mode: 0o755},
		{name: "etc/prosody/", mode: 0o755},
		{name: "run/prosody/", mode: 0o755, uid: 1001},
		{name: "var/lib/prosody/", mode: 0o755, uid: 1001},
	}
	files, err := modules.ReadDir("modules")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		text, err := modules.ReadFile("modules/" + f.Name())
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{name: "usr/local/lib/prosody/modules/" + f.Name(), mode: 0o644, data: text})
	}
	return entries, nil
}

// attestation is the manifest that BuildKit puts beside each image: whoever
// picks an image from the index has to pass it by.
func attestation(img v1.Image, b blueprint) (v1.Image, error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	statement, err := json.Marshal(map[string]any{
		"_type":         "https://in-toto.io/Statement/v0.1",
		"predicateType": "https://slsa.dev/provenance/v0.2",
		"subject":       []any{map[string]any{"name": b.repository, "digest": map[string]string{"sha256": digest.Hex}}},
		"predicate":     map[string]any{"buildType": "pod double"},
	})
	if err != nil {
		return nil, err
	}
	proof := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	proof = mutate.ConfigMediaType(proof, types.OCIConfigJSON)
	proof, err = mutate.Append(proof, mutate.Addendum{
		Layer:       static.NewLayer(statement, "application/vnd.in-toto+json"),
		Annotations: map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"},
	})
	if err != nil {
		return nil, err
	}
	file, err := proof.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "unknown", "unknown"
	return mutate.ConfigFile(proof, file)
}
