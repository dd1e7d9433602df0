package packer

import (
	"fmt"
	"strings"

	"github.com/prose-im/prose-image/builder/recipe"
)

// own documents the attributes that are not keys of a recipe; every other one
// is.
var own = []struct{ name, form, standard, doc string }{
	{"recipe", "string", "none", "A recipe file, instead of the attributes that are named like its keys; of these only `formats` may be said again."},
	{"lock", "string", "beside the recipe, or `NAME.prose.lock`", "The lock, where NAME is that of the source. A build without one finds the newest packages and containers and writes it."},
	{"output_directory", "string", "`output-NAME`", "Where the images go. It must be empty or not there, unless `packer build -force` bakes over it."},
	{"cache_directory", "string", "the user's own", "Where layers and downloads are kept. prose-image has the same."},
	{"agent_directory", "string", "in the plugin", "The directory of `prose-firstboot-linux-ARCH`, to try another agent."},
	{"catalog_directory", "string", "the user's own", "The directory of [the catalog](catalog.md) that keeps a record of the bake. A plugin that was built without the catalog keeps none, and refuses this attribute."},
}

// ofPublish documents the attributes of the post-processor.
var ofPublish = []struct{ name, form, standard, doc string }{
	{"target", "string", "none, needed", "Where the images go, as for [`prose-image publish`](publishing.md): a directory, for example, which must be there."},
	{"version", "string", "the image's", "The version to publish as."},
	{"channel", "string", "`latest`", "The pointer that is to lead to this version, unless it leads to a newer one; empty for none."},
	{"catalog_directory", "string", "the user's own", "The directory of the catalog that keeps the journal, and where the images went."},
}

// Reference is the documentation of the plugin, in Markdown, around a template
// that was built.
func Reference(template string) string {
	var b strings.Builder
	b.WriteString(`# Packer

` + "`packer-plugin-prose`" + ` bakes the images of ` + "`prose-image bake`" + ` from a Packer template: the same engine, cache and lock, and the same bytes. It
works in its own process. There is no machine, so there is no communicator; what a machine would be provisioned with is in the recipe, and
provisioners that work on this machine, such as ` + "`shell-local`" + `, run when the images are there. Tests run it under Packer 1.11.2.

The machine that runs ` + "`packer build`" + ` needs what ` + "`prose-image bake`" + ` needs: Linux and mmdebstrap.

    make plugin        # bin/plugin: the plugin under the name Packer looks for, as .zip, and SHA256SUMS;
                       # PLUGIN_TAGS=libsqlite3 gives it the catalog, and the need of its C library
    packer plugins install --path bin/plugin/packer-plugin-prose_vX.Y.Z_x5.0_linux_amd64 github.com/prose-im/prose
    packer build testdata/packer/demo.pkr.hcl

A build from a commit tagged vX.Y.Z is that release; any other is X.Y.Z-dev, which ` + "`packer init`" + ` does not fetch. For ` + "`packer init`" + ` the files of
` + "`bin/plugin`" + ` go to a release vX.Y.Z of the repository github.com/prose-im/packer-plugin-prose.

## A template

The demo image. ` + "`make test`" + ` builds and boots exactly this file.

`)
	for line := range strings.Lines(template) {
		if line != "\n" {
			line = "    " + line
		}
		b.WriteString(line)
	}
	b.WriteString(`
## The builder "prose"

Every attribute is optional, and the empty source bakes the standard appliance. Relative paths start in the working directory of packer; those in
a recipe file start beside that file. A block stands for a table of [the recipe](recipe.md): ` + "`base.suite`" + ` is ` + "`suite`" + ` in the block ` + "`base`" + `.

| attribute | value | default | meaning |
|---|---|---|---|
`)
	for _, a := range own {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", a.name, a.form, a.standard, a.doc)
	}
	for _, k := range recipe.Keys {
		doc := strings.ToUpper(k.Doc[:1]) + k.Doc[1:] + "."
		if len(k.OneOf) > 1 {
			doc += " One of `" + strings.Join(k.OneOf, "`, `") + "`."
		}
		standard := "none"
		if k.Default != "" {
			standard = "`" + k.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Name, k.Kind, standard, strings.ReplaceAll(doc, "|", `\|`))
	}
	b.WriteString(`
` + "`packer validate`" + ` says everything that is wrong with a source at once, each problem with its attribute, and needs no network.

The artifact's files are the images; its id is the release, the same for the same recipe and lock. Provisioners and post-processors get
` + "`build.Release`, `build.OutputDirectory` and `build.Manifest`" + `, the path of ` + "`manifest.json`" + ` with size and sha256 of every image. A build that fails or is
interrupted leaves no image.
`)
	b.WriteString(`
## The post-processor "prose-publish"

Publishes what the builder made, once, however often it runs, and goes on where an interrupted build ended. It is ` + "`prose-image publish`" + `.

| attribute | value | default | meaning |
|---|---|---|---|
`)
	for _, a := range ofPublish {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", a.name, a.form, a.standard, a.doc)
	}
	return b.String()
}
