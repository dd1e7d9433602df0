package main

import (
	"context"
	"encoding/json"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/progress"
)

// cacheFlag says which cache, in every verb that looks after one.
func cacheFlag(f *pflag.FlagSet) func() (string, error) {
	dir := f.String("cache", "", "directory of the cache; the user's own unless given")
	return func() (string, error) {
		if *dir != "" {
			return *dir, nil
		}
		return cache.DefaultDir()
	}
}

var cacheListVerb = verb{
	name: "cache ls", args: "",
	short: "say what the cache holds",
	long: `
Says how much of each kind the cache holds, and when a bake last used any of
it: layers, package files, parts of container images, deflated clusters, and
what interrupted bakes left over. With --all each entry, and what it is, the
last used first.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		all := f.Bool("all", false, "list every entry")
		asJSON := f.Bool("json", false, "print JSON")
		dir := cacheFlag(f)
		return func(ctx context.Context, t *term, _ []string) error {
			dir, err := dir()
			if err != nil {
				return err
			}
			if *all {
				return t.cacheEntries(ctx, dir, *asJSON)
			}
			totals, err := cache.Totals(dir)
			if err != nil {
				return err
			}
			if *asJSON {
				return json.NewEncoder(t.out).Encode(totals)
			}
			return t.table(func(row func(...any)) {
				row("kind", "entries", "size", "last used")
				for _, k := range totals {
					used := ""
					if k.Used != nil {
						used = when(*k.Used)
					}
					row(k.Kind, k.Entries, progress.Size(k.Size), used)
				}
			})
		}
	},
}

func (t *term) cacheEntries(ctx context.Context, dir string, asJSON bool) error {
	entries, err := cache.List(ctx, dir)
	if err != nil {
		return err
	}
	if asJSON {
		if entries == nil {
			entries = []cache.Entry{}
		}
		return json.NewEncoder(t.out).Encode(entries)
	}
	return t.table(func(row func(...any)) {
		row("kind", "name", "size", "last used", "what")
		for _, e := range entries {
			row(e.Kind, short(e.Name), progress.Size(e.Size), when(e.Used), e.What)
		}
	})
}

var cacheVerifyVerb = verb{
	name: "cache verify", args: "",
	short: "hash everything in the cache",
	long: `
Hashes every entry of the cache and names those that are damaged; exit code 3
says that there are any. With --remove they go, and the next bake makes or
fetches them anew. A bake looks at what it uses by itself.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		drop := f.Bool("remove", false, "remove what is damaged")
		asJSON := f.Bool("json", false, "print what was found as JSON")
		dir := cacheFlag(f)
		return func(ctx context.Context, t *term, _ []string) error {
			dir, err := dir()
			if err != nil {
				return err
			}
			r, err := cache.Verify(ctx, dir, *drop)
			if r == nil {
				return err
			}
			if *asJSON {
				if err := json.NewEncoder(t.out).Encode(r); err != nil {
					return err
				}
			} else {
				t.verified(r)
			}
			if err == nil && len(r.Damaged) > 0 {
				err = &exitError{exitFindings}
			}
			return err
		}
	},
}

func (t *term) verified(r *cache.Report) {
	for _, d := range r.Damaged {
		what := d.Why
		if d.What != "" {
			what = d.What + ": " + what
		}
		if d.Removed {
			what += ", removed"
		}
		t.printf("%s/%s  %s\n", d.Kind, d.Name, what)
	}
	t.notef("%s, %s, %d damaged", entries(r.Entries), progress.Size(r.Size), len(r.Damaged))
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return count(n, "entrie")
}
