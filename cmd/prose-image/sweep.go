package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/publish"
)

var sweepVerb = verb{
	name: "sweep", args: "TARGET", atLeast: 1, atMost: 1,
	short: "remove what interrupted publishing left at a target",
	long: `
Removes what publishing made at a target and did not get to use: only what
carries its mark, is not public, and is older than --age, or belongs to a
publishing that has ended. Prints what it removed.

` + targetHelp(),
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		age := f.Duration("age", 24*time.Hour, "leave alone what was written to more recently")
		dry := f.Bool("dry-run", false, "print what would be removed and remove nothing")
		dir := catalogFlag(f)
		asJSON := f.Bool("json", false, "print what was removed as JSON")
		return func(ctx context.Context, t *term, args []string) error {
			if *age <= 0 {
				return &usageError{"sweep", fmt.Errorf("--age %s would take away what is in use", *age)}
			}
			gone, err := builder.Sweep(ctx, *dir, publish.SweepConfig{Address: args[0], Age: *age, DryRun: *dry})
			if *asJSON {
				for _, l := range gone {
					if err := json.NewEncoder(t.out).Encode(l); err != nil {
						return err
					}
				}
				return err
			}
			for _, l := range gone {
				t.printf("%s  %s, from %s\n", l.ID, l.What, l.Made.UTC().Format(time.RFC3339))
			}
			return err
		}
	},
}
