//go:build embed_agent

package packer

import (
	"embed"
	"io/fs"
)

// A plugin that Packer has fetched is one file alone, so it carries the agents.
// "make plugin" puts them here.
//
//go:embed agent/prose-firstboot-linux-*
var embedded embed.FS

var agents = func() fs.FS {
	dir, err := fs.Sub(embedded, "agent")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return dir
}()
