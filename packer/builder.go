package packer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2/hcldec"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/progress"
)

// BuilderID is what artifacts of the builder call their maker.
const BuilderID = "prose-im.prose"

// generated names what provisioners and post-processors may ask of a build, as
// build.Release and so on.
var generated = []string{"Release", "OutputDirectory", "Manifest"}

// A Builder makes images from a recipe. It is the whole of "prose-image bake"
// and gives the same bytes.
type Builder struct{ config Config }

// ConfigSpec is what a template may say.
func (b *Builder) ConfigSpec() hcldec.ObjectSpec { return b.config.FlatMapstructure().HCL2Spec() }

// Prepare reads and checks a template's source.
func (b *Builder) Prepare(raws ...any) ([]string, []string, error) {
	if err := b.config.decode(raws...); err != nil {
		return nil, nil, err
	}
	warnings, err := b.config.check()
	if err != nil {
		return nil, warnings, err
	}
	return generated, warnings, nil
}

// Run bakes. On an error, and when ctx ends, it leaves no artifact.
func (b *Builder) Run(ctx context.Context, ui packersdk.Ui, hook packersdk.Hook) (packersdk.Artifact, error) {
	dir := b.config.OutputDirectory
	old, err := b.claim()
	if err != nil {
		return nil, err
	}
	record, err := builder.NewRecorder(ctx, b.config.CatalogDirectory)
	if err != nil {
		return nil, fmt.Errorf("catalog_directory: %w", err)
	}
	defer record.Close()
	result, err := builder.Bake(ctx, b.config.bake(progress.Lines(lines{ui})))
	if err != nil {
		_ = os.Remove(dir) // when it is empty
		if ctx.Err() != nil {
			return nil, fmt.Errorf("baking: %w", context.Cause(ctx))
		}
		return nil, b.report(err)
	}
	a := &Artifact{dir: dir, result: result, data: map[string]any{
		"Release": result.Release, "OutputDirectory": dir, "Manifest": filepath.Join(dir, builder.ManifestName),
	}}
	sweep(dir, old, result)
	if err := record.Record(ctx, dir, result); err != nil && b.config.CatalogDirectory == "" {
		ui.Error(err.Error()) // the image is there, and nobody asked for this catalog
	} else if err != nil {
		return nil, errors.Join(err, a.Destroy())
	}
	if err := provision(ctx, ui, hook, a.data); err != nil {
		if b.config.PackerOnError == "abort" {
			return nil, err
		}
		return nil, errors.Join(err, a.Destroy())
	}
	return a, nil
}

// report makes one error of all that a bake says.
func (b *Builder) report(err error) error {
	var problems []error
	for _, e := range parts(err) {
		problems = append(problems, b.config.explain(e)...)
	}
	if len(problems) == 1 {
		return problems[0]
	}
	return packersdk.MultiErrorAppend(nil, problems...)
}

// claim makes sure of the output directory: what lies in it is not touched
// unless packer is forced. It returns the record of an earlier bake.
func (b *Builder) claim() (*builder.Result, error) {
	dir := b.config.OutputDirectory
	found, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("output_directory: %w", err)
	}
	if len(found) > 0 && !b.config.PackerForce {
		return nil, fmt.Errorf("output_directory: %s is not empty (remove it, name another, or bake over it with packer build -force)", dir)
	}
	old, _ := builder.ReadManifest(dir) // without one, nothing there is ours
	return old, nil
}

// sweep removes the artifacts of an earlier bake that were not made again.
func sweep(dir string, old, made *builder.Result) {
	if old == nil {
		return
	}
	for _, a := range old.Artifacts {
		still := slices.ContainsFunc(made.Artifacts, func(m builder.Artifact) bool { return m.File == a.File })
		if !still && filepath.IsLocal(a.File) && filepath.Base(a.File) == a.File {
			_ = os.Remove(filepath.Join(dir, a.File))
		}
	}
}

// lines says what is written to it, a line at a time.
type lines struct{ ui packersdk.Ui }

func (l lines) Write(p []byte) (int, error) {
	l.ui.Say(string(p[:len(p)-1]))
	return len(p), nil
}
