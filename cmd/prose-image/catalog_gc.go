package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder/catalog"
)

var catalogCleanVerb = verb{
	name: "catalog gc", args: "",
	short: "forget what is gone or old",
	long: `
Removes the records of artifacts whose files are gone or were replaced, and of
releases that have no others. With --keep N older releases go too, but for the
last N of each name and architecture.

What a channel leads to and what was published is never removed, and does not
count among the N. Files are not touched.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		keep := f.Int("keep", -1, "how many releases to keep; all unless given")
		dryRun := f.Bool("dry-run", false, "only say what would go")
		asJSON := f.Bool("json", false, "print what went as JSON")
		dir := catalogFlag(f)
		return func(ctx context.Context, t *term, _ []string) error {
			if f.Changed("keep") && *keep < 0 {
				return &usageError{"catalog gc", errors.New("--keep takes a number that is not negative")}
			}
			return withCatalog(ctx, *dir, func(c *catalog.Catalog) error {
				removals, err := c.Clean(ctx, catalog.Cleaning{Keep: *keep, DryRun: *dryRun})
				if err != nil {
					return err
				}
				if *asJSON {
					return json.NewEncoder(t.out).Encode(removals)
				}
				return t.table(func(row func(...any)) {
					for _, r := range removals {
						what := fmt.Sprintf("%s %s for %s: %s", r.Name, r.Version, r.Arch, r.Why)
						if r.Path != "" {
							what = r.Path + ": " + r.Why
						}
						row(short(r.Release), what)
					}
				})
			})
		}
	},
}
