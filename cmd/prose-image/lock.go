package main

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder"
)

var lockVerb = verb{
	name: "lock", args: "RECIPE", atLeast: 1, atMost: 1,
	short: "find exact versions for what a recipe leaves open",
	long: `
Writes the lock of a recipe, beside it: exact package files and container
digests. The first bake does the same. A lock that is there is kept unless
--update is given.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		update := f.Bool("update", false, "look for newer versions and replace the lock")
		c := configFlags(f)
		return func(ctx context.Context, t *term, args []string) error {
			c.Recipe = args[0]
			c.Progress = t.progress(false)
			path, err := builder.UpdateLock(ctx, *c, *update)
			if err != nil {
				return err
			}
			t.stopProgress()
			t.printf("%s\n", path)
			return nil
		}
	},
}
