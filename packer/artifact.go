package packer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	registry "github.com/hashicorp/packer-plugin-sdk/packer/registry/image"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/progress"
)

// An Artifact is what the builder made: files in one directory, and the
// manifest that says what they are.
type Artifact struct {
	dir    string
	result *builder.Result
	data   map[string]any // for templates, by the names in generated
}

// BuilderId tells post-processors who made it.
func (a *Artifact) BuilderId() string { return BuilderID }

// Id is the release, the same for the same recipe and lock.
func (a *Artifact) Id() string { return a.result.Release }

// Files are the paths of the images, without that of the manifest:
// post-processors take each for one.
func (a *Artifact) Files() []string {
	var files []string
	for _, f := range a.result.Artifacts {
		files = append(files, filepath.Join(a.dir, f.File))
	}
	return files
}

func (a *Artifact) String() string {
	var files []string
	for _, f := range a.result.Artifacts {
		files = append(files, fmt.Sprintf("%s (%s)", f.File, progress.Size(f.Size)))
	}
	return fmt.Sprintf("%s %s for %s, release %.16s, in %s: %s", a.result.Name, a.result.Version, a.result.Arch, a.result.Release, a.dir, strings.Join(files, ", "))
}

// State answers what post-processors ask: "generated_data", the image for a
// registry of HashiCorp's, and "manifest", the path of ours.
func (a *Artifact) State(name string) any {
	switch name {
	case "generated_data":
		return a.data
	case registry.ArtifactStateURI:
		image, err := registry.FromArtifact(a, registry.WithProvider("prose"), registry.WithRegion(a.dir), registry.SetLabels(a.labels()))
		if err != nil {
			return nil
		}
		return image
	case "manifest":
		return a.data["Manifest"]
	}
	return nil
}

// labels are the images' sums, by format and platform.
func (a *Artifact) labels() map[string]any {
	labels := map[string]any{"name": a.result.Name, "version": a.result.Version, "arch": a.result.Arch}
	for _, f := range a.result.Artifacts {
		labels["sha256_"+f.Platform+"_"+f.Format] = f.SHA256
	}
	return labels
}

// Destroy removes the files, and their directory when nothing else is in it.
func (a *Artifact) Destroy() error {
	var problems []error
	for _, name := range a.result.Files() {
		if err := os.Remove(filepath.Join(a.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, err)
		}
	}
	_ = os.Remove(a.dir)
	return errors.Join(problems...)
}
