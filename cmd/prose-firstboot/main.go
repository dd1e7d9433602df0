// Command prose-firstboot is the agent in the image.
package main

import (
	"os"

	"github.com/prose-im/prose-image/firstboot"
)

func main() {
	os.Exit(firstboot.Run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
