package main

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder"
)

var checkVerb = verb{
	name: "check", args: "RECIPE", atLeast: 1, atMost: 1,
	short: "say everything that is wrong with a recipe",
	long: `
Reads a recipe, the files it names and its lock if there is one, and says
everything that is wrong with them. It changes nothing and needs no network.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		agent := f.String("agent", "", "directory of prose-firstboot-linux-ARCH; the program's own unless given")
		return func(_ context.Context, t *term, args []string) error {
			if err := builder.Check(builder.Config{Recipe: args[0], Agent: *agent}); err != nil {
				return err
			}
			t.notef("%s is a good recipe", args[0])
			return nil
		}
	},
}
