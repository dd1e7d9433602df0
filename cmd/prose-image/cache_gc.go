package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/progress"
	"github.com/prose-im/prose-image/builder/recipe"
)

var cacheCleanVerb = verb{
	name: "cache gc", args: "",
	short: "remove what the cache needs no longer",
	long: `
Removes what interrupted bakes left over. With --older also what no bake used
for so long, and with --keep what was used longest ago, until the rest is no
larger than SIZE.

While a bake uses the cache nothing is removed, and the exit code is 1.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		keep := f.String("keep", "", "`SIZE` that the cache may have, such as 20GiB")
		older := f.String("older", "", "`AGE` since the last use, such as 30d or 12h")
		dryRun := f.Bool("dry-run", false, "only say what would go")
		asJSON := f.Bool("json", false, "print what went as JSON")
		dir := cacheFlag(f)
		return func(ctx context.Context, t *term, _ []string) error {
			c := cache.Cleaning{Keep: -1, DryRun: *dryRun}
			var err error
			if f.Changed("keep") {
				if c.Keep, err = recipe.ParseSize(*keep); err != nil {
					return &usageError{"cache gc", fmt.Errorf("--keep %w", err)}
				}
			}
			if f.Changed("older") {
				if c.Older, err = parseAge(*older); err != nil {
					return &usageError{"cache gc", fmt.Errorf("--older %w", err)}
				}
			}
			dir, err := dir()
			if err != nil {
				return err
			}
			gone, err := cache.Clean(ctx, dir, c)
			if gone == nil {
				return err
			}
			if *asJSON {
				return errors.Join(err, json.NewEncoder(t.out).Encode(gone))
			}
			var size int64
			for _, r := range gone {
				size += r.Size
				t.printf("%s/%s  %s: %s\n", r.Kind, r.Name, progress.Size(r.Size), r.Why)
			}
			verb := "removed"
			if *dryRun {
				verb = "would remove"
			}
			t.notef("%s %s, %s", verb, entries(len(gone)), progress.Size(size))
			return err
		}
	},
}

// parseAge reads a time as time.ParseDuration does, or a number of days.
func parseAge(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if digits, ok := strings.CutSuffix(s, "d"); ok {
		var days int64
		days, err = strconv.ParseInt(digits, 10, 32)
		d = time.Duration(days) * 24 * time.Hour
		if err == nil && days > 100*365 {
			err = fmt.Errorf("longer than anything was used")
		}
	}
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is no age: write a number and d, h, m or s, such as 30d", s)
	}
	return d, nil
}
