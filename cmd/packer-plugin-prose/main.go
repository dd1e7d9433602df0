// Command packer-plugin-prose is the Packer plugin.
package main

import (
	"fmt"
	"os"

	"github.com/prose-im/prose-image/packer"
)

func main() {
	if err := packer.Set().Run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}
