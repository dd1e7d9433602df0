// Command packer-plugin-prose is the Packer plugin.
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/prose-im/prose-image/builder"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "version" {
		fmt.Printf("packer-plugin-prose %s %s %s/%s\n", builder.ToolVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return
	}
	fmt.Fprintln(os.Stderr, "usage: packer-plugin-prose version")
	os.Exit(2)
}
