package main

import (
	"context"
	"encoding/json"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder"
)

var verifyVerb = verb{
	name: "verify", args: "IMAGE RECIPE", atLeast: 2, atMost: 2,
	short: "make an image again and compare",
	long: `
Makes an image again from the recipe and the lock that it was made from, and
compares byte by byte. IMAGE is the directory of a bake, for all that is in it,
or one of its files. No cached layer is used; packages and container images
are, for they are known by their hashes.

Exit code 3 says that something differs. What it is is named as exactly as it
is known: the first layer, and in it the first file.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		asJSON := f.Bool("json", false, "print progress and what was found as JSON")
		c := configFlags(f)
		f.BoolVar(&c.Offline, "offline", false, "use no network: the cache has the packages and images of the lock")
		return func(ctx context.Context, t *term, args []string) error {
			c.Recipe = args[1]
			c.Progress = t.progress(*asJSON)
			v, err := builder.Verify(ctx, *c, args[0])
			if err != nil {
				return err
			}
			t.stopProgress()
			if *asJSON {
				if err := json.NewEncoder(t.out).Encode(v); err != nil {
					return err
				}
			} else {
				t.findings(v)
			}
			if len(v.Findings) > 0 {
				return &exitError{exitFindings}
			}
			return nil
		}
	},
}

func (t *term) findings(v *builder.Verification) {
	for _, f := range v.Findings {
		where := f.File
		if f.Layer != "" {
			where = "layer " + f.Layer
		}
		if where != "" {
			where += ": "
		}
		if f.Path != "" {
			where += "/" + f.Path + ": "
		}
		t.printf("%s%s\n", where, f.Text)
	}
	if len(v.Findings) == 0 {
		for _, name := range v.Files {
			t.printf("same     %s\n", name)
		}
	}
	t.notef("%s compared, %s", count(len(v.Files), "file"), count(len(v.Findings), "difference"))
}
