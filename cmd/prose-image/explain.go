package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder"
)

var explainVerb = verb{
	name: "explain", args: "RECIPE [LAYER]", atLeast: 1, atMost: 2,
	short: "say why a bake would make a layer",
	long: `
Says of each layer of a recipe whether the cache has it and, when it has not,
what differs from the layer of the same kind that was used last. A layer that
reads others is known when those are made. The recipe needs a lock; nothing is
changed.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		asJSON := f.Bool("json", false, "print the layers as JSON")
		c := configFlags(f)
		return func(ctx context.Context, t *term, args []string) error {
			c.Recipe = args[0]
			only := ""
			if len(args) > 1 {
				only = args[1]
			}
			layers, err := builder.Explain(ctx, *c, only)
			if err != nil {
				return err
			}
			if *asJSON {
				return json.NewEncoder(t.out).Encode(layers)
			}
			for _, l := range layers {
				t.printf("%s\n", strings.TrimRight(fmt.Sprintf("%-11s %-8s %s", l.Layer, l.State, short(l.Key)), " "))
				for _, reason := range l.Reasons {
					t.printf("            %s\n", reason)
				}
			}
			return nil
		}
	},
}
