package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/recipe"
)

var bakeVerb = verb{
	name: "bake", args: "RECIPE", atLeast: 1, atMost: 1,
	short: "make an image from a recipe",
	long: `
Makes the artifacts of a recipe and prints their paths. What an earlier bake
left in the cache is used again. The first bake of a recipe writes its lock;
later ones obey it. The catalog keeps a record of each bake, and of where its
artifacts went with --publish.

An interrupted bake leaves no artifact behind.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		out := f.StringP("out", "o", "out", "directory of the artifacts")
		formats := f.StringArray("format", nil, "format of an artifact, instead of the recipe's; may be repeated: "+strings.Join(recipe.Formats, ", "))
		asJSON := f.Bool("json", false, "print progress and the manifest as JSON")
		c := configFlags(f)
		f.BoolVar(&c.Offline, "offline", false, "use no network: the recipe has a lock, and the cache what it says")
		f.StringVar(&c.Key, "sign", "", "private key of ssh-keygen, to sign SHA256SUMS with")
		targets := f.StringArray("publish", nil, "target to publish the artifacts to when they are made, as publish does; may be repeated")
		dir := catalogFlag(f)
		return func(ctx context.Context, t *term, args []string) (err error) {
			for _, name := range *formats {
				if !slices.Contains(recipe.Formats, name) {
					return &usageError{"bake", fmt.Errorf("--format %q is not one of %s", name, strings.Join(recipe.Formats, ", "))}
				}
			}
			c.Recipe, c.Out = args[0], *out
			if len(*formats) > 0 {
				c.Formats = slices.Compact(slices.Sorted(slices.Values(*formats)))
			}
			record, err := builder.NewRecorder(ctx, *dir)
			if err != nil {
				return err
			}
			defer record.Close()
			c.Progress = t.progress(*asJSON)
			r, err := builder.Bake(ctx, *c)
			if err != nil {
				return err
			}
			t.stopProgress()
			if *asJSON {
				err = json.NewEncoder(t.out).Encode(r)
			}
			for _, a := range r.Artifacts {
				if !*asJSON {
					t.printf("%s\n", filepath.Join(*out, a.File))
				}
			}
			if failed := record.Record(ctx, *out, r); failed != nil && *dir == "" {
				// The image is there, and nobody asked for this catalog.
				t.warningf("%v", failed)
			} else if failed != nil {
				return failed
			}
			for _, target := range *targets {
				err = errors.Join(err, t.publish(ctx, builder.Publication{Image: *out, Channel: "latest", Address: target, Catalog: *dir, Progress: t.progress(*asJSON)}, *asJSON))
			}
			return err
		}
	},
}

// configFlags are the flags of every verb that looks at recipe and lock.
func configFlags(f *pflag.FlagSet) *builder.Config {
	c := &builder.Config{}
	f.StringVar(&c.Lock, "lock", "", "path of the lock; beside the recipe unless given")
	f.StringVar(&c.Cache, "cache", "", "directory of the cache; the user's own unless given")
	f.StringVar(&c.Agent, "agent", "", "directory of prose-firstboot-linux-ARCH; the program's own unless given")
	return c
}
