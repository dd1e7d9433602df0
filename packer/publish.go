package packer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/hashicorp/hcl/v2/hcldec"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/progress"
	"github.com/prose-im/prose-image/builder/publish"
)

// A Publisher brings what the builder made to a target: the whole of
// "prose-image publish". An interrupted one goes on when it runs again.
type Publisher struct{ config PublishConfig }

// ConfigSpec is what a template may say.
func (p *Publisher) ConfigSpec() hcldec.ObjectSpec { return p.config.FlatMapstructure().HCL2Spec() }

// Configure reads and checks the post-processor's body. It needs no network.
func (p *Publisher) Configure(raws ...any) error {
	err := config.Decode(&p.config, &config.DecodeOpts{PluginType: BuilderID + ".publish", Interpolate: true, InterpolateContext: &interpolate.Context{}}, raws...)
	if err != nil {
		return err
	}
	if p.config.Target == "" {
		return errors.New("target: it is missing (name a directory, for example)")
	}
	if _, _, err := publish.Open(p.config.Target); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	return nil
}

// PostProcess publishes the artifact's images, and keeps them.
func (p *Publisher) PostProcess(ctx context.Context, ui packersdk.Ui, from packersdk.Artifact) (packersdk.Artifact, bool, bool, error) {
	manifest, ok := from.State("manifest").(string)
	if !ok {
		return nil, false, false, fmt.Errorf("publishing: the artifact is of %s, and only those of %s say what they are", from.BuilderId(), BuilderID)
	}
	channel := "latest"
	if p.config.Channel != nil {
		channel = *p.config.Channel
	}
	report, err := builder.Publication{
		Image: filepath.Dir(manifest), Version: p.config.Version, Channel: channel, Address: p.config.Target,
		Catalog: p.config.CatalogDirectory, Progress: progress.Lines(lines{ui}),
	}.Publish(ctx)
	if report != nil {
		for _, went := range report.Published {
			ui.Say("published " + went.ID)
		}
	}
	if err != nil {
		return nil, true, true, fmt.Errorf("publishing: %w", err)
	}
	return from, true, true, nil
}
