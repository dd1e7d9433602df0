package packer

import (
	"path/filepath"

	"github.com/hashicorp/packer-plugin-sdk/common"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/progress"
)

//go:generate go tool -modfile=../testdata/tools/packer-sdc/go.mod packer-sdc mapstructure-to-hcl2 -type Config,Base,Pod,Disk,PublishConfig

// A Config is the body of a source "prose" in a template: a recipe, as a file
// or as attributes named like its keys, and where things lie. As Packer has
// it, relative paths start in the working directory of packer; those in a
// recipe file start beside that.
type Config struct {
	common.PackerConfig `mapstructure:",squash"`

	Recipe           string `mapstructure:"recipe"`
	Lock             string `mapstructure:"lock"`
	OutputDirectory  string `mapstructure:"output_directory"`
	CacheDirectory   string `mapstructure:"cache_directory"`
	AgentDirectory   string `mapstructure:"agent_directory"`
	CatalogDirectory string `mapstructure:"catalog_directory"`

	Name      string   `mapstructure:"name"`
	Version   string   `mapstructure:"version"`
	Arch      string   `mapstructure:"arch"`
	Platforms []string `mapstructure:"platforms"`
	Overlays  []string `mapstructure:"overlays"`
	Formats   []string `mapstructure:"formats"`
	Base      Base     `mapstructure:"base"`
	Pod       Pod      `mapstructure:"pod"`
	Disk      Disk     `mapstructure:"disk"`
}

// Base is the recipe's table of that name, and so are the others.
type Base struct {
	Suite    string   `mapstructure:"suite"`
	Kernel   string   `mapstructure:"kernel"`
	Mirrors  []string `mapstructure:"mirrors"`
	Packages []string `mapstructure:"packages"`
	Run      []string `mapstructure:"run"`
}

type Pod struct {
	Bundle string            `mapstructure:"bundle"`
	Images map[string]string `mapstructure:"images"`
	Mirror map[string]string `mapstructure:"mirror"`
}

type Disk struct {
	Free string `mapstructure:"free"`
	Size string `mapstructure:"size"`
}

// A PublishConfig is the body of a post-processor "prose-publish".
type PublishConfig struct {
	common.PackerConfig `mapstructure:",squash"`

	Target           string  `mapstructure:"target" required:"true"`
	Version          string  `mapstructure:"version"`
	Channel          *string `mapstructure:"channel"`
	CatalogDirectory string  `mapstructure:"catalog_directory"`
}

// decode takes what Packer sends: a template's attributes and what it knows of
// the build.
func (c *Config) decode(raws ...any) error {
	err := config.Decode(c, &config.DecodeOpts{PluginType: BuilderID, Interpolate: true, InterpolateContext: &interpolate.Context{}}, raws...)
	if err != nil {
		return err
	}
	if c.OutputDirectory == "" {
		c.OutputDirectory = "output-" + c.PackerBuildName
	}
	return nil
}

// bake is what the engine is asked for.
func (c *Config) bake(show progress.Func) builder.Config {
	b := builder.Config{
		Recipe: c.Recipe, Lock: c.Lock, Out: c.OutputDirectory, Cache: c.CacheDirectory,
		Agent: c.AgentDirectory, Agents: agents, Formats: c.Formats, Progress: show,
	}
	if c.Recipe == "" {
		b.Document, _ = c.document()
		b.Recipe = filepath.Join(".", c.PackerBuildName+".prose.toml") // where it would lie
	}
	return b
}
