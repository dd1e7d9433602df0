package main

import (
	"context"
	"encoding/json"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder"
)

var planVerb = verb{
	name: "plan", args: "RECIPE", atLeast: 1, atMost: 1,
	short: "show what a bake would do",
	long: `
Shows the layers of an image in order and what goes into each, the disks and
their formats. A recipe without a lock gets one.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		asJSON := f.Bool("json", false, "print the plan as JSON")
		c := configFlags(f)
		return func(ctx context.Context, t *term, args []string) error {
			c.Recipe = args[0]
			c.Progress = t.progress(*asJSON)
			p, err := builder.Prepare(ctx, *c)
			if err != nil {
				return err
			}
			t.stopProgress()
			if *asJSON {
				return json.NewEncoder(t.out).Encode(p)
			}
			t.printf("%s", p.Text())
			return nil
		}
	},
}
