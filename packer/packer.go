// Package packer is the Packer plugin: components over package builder, which
// does the work in the plugin's own process. There is no machine to reach and
// no communicator.
//
// A component is one file and one line in the table of [Set]. Packer talks to it
// by the plugin SDK, https://github.com/hashicorp/packer-plugin-sdk; what it
// understands in a template is the code that "go generate" makes from the
// component's configuration.
package packer

import (
	"github.com/hashicorp/packer-plugin-sdk/plugin"
	pluginversion "github.com/hashicorp/packer-plugin-sdk/version"

	"github.com/prose-im/prose-image/builder"
)

// Set is the plugin: a table of components by the name that follows "prose-" in
// templates, where the default name is "prose" itself. A post-processor finds the
// images of the builder in the artifact's files, and what they are in the manifest
// whose path is the artifact's state "manifest".
func Set() *plugin.Set {
	s := plugin.NewSet()
	s.SetVersion(pluginversion.NewRawVersion(pluginVersion(builder.ToolVersion())))
	s.RegisterBuilder(plugin.DEFAULT_NAME, &Builder{})
	s.RegisterPostProcessor("publish", &Publisher{})
	return s
}
