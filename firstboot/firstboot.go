// Package firstboot is the agent that runs in the image.
package firstboot

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// Run is the whole program as a function of its arguments and streams. It
// returns the exit code.
func Run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 1 && (args[0] == "version" || args[0] == "--version") {
		fmt.Fprintf(stdout, "prose-firstboot %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return 0
	}
	fmt.Fprintln(stderr, "usage: prose-firstboot version")
	return 2
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
