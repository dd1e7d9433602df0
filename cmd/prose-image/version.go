package main

import (
	"context"
	"runtime"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder"
)

var versionVerb = verb{
	name: "version", args: "",
	short: "print the program's version",
	long: `
Prints the version of the program, of the Go it was built with, and what it was
built for.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		return func(_ context.Context, t *term, _ []string) error {
			t.printf("prose-image %s %s %s/%s\n", builder.ToolVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		}
	},
}
