//go:build !embed_agent

package packer

import "io/fs"

// agents are the agent's binaries that the plugin carries: none in a plain
// build, which looks for them beside itself.
var agents fs.FS
