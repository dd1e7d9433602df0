package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder/catalog"
)

// catalogFlag says which catalog, in every verb that has to do with one.
func catalogFlag(f *pflag.FlagSet) *string {
	return f.String("catalog", "", "directory of the catalog; the user's own unless given")
}

// withCatalog runs work on a catalog that is there.
func withCatalog(ctx context.Context, dir string, work func(*catalog.Catalog) error) error {
	if dir == "" {
		var err error
		if dir, err = catalog.DefaultDir(); err != nil {
			return err
		}
	}
	c, err := catalog.OpenExisting(ctx, dir)
	if err != nil {
		return err
	}
	defer c.Close()
	return work(c)
}

// table prints columns that are as wide as they must be.
func (t *term) table(rows func(row func(cells ...any))) error {
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	rows(func(cells ...any) {
		fmt.Fprintln(w, strings.TrimRight(strings.Join(texts(cells), "\t"), "\t"))
	})
	return w.Flush()
}

func texts(cells []any) []string {
	var s []string
	for _, c := range cells {
		s = append(s, fmt.Sprint(c))
	}
	return s
}

// short is enough of a release's id for people.
func short(release string) string { return fmt.Sprintf("%.16s", release) }

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

var catalogListVerb = verb{
	name: "catalog ls", args: "",
	short: "list what was baked",
	long: `
Lists the releases in the catalog, the last baked first: a release is one
recipe with one lock. The others of the catalog's commands take the beginning
of its id, or the name of a channel that leads to it.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		asJSON := f.Bool("json", false, "print the releases as JSON")
		dir := catalogFlag(f)
		return func(ctx context.Context, t *term, _ []string) error {
			return withCatalog(ctx, *dir, func(c *catalog.Catalog) error {
				releases, err := c.Releases(ctx)
				if err != nil {
					return err
				}
				if *asJSON {
					return json.NewEncoder(t.out).Encode(releases)
				}
				return t.table(func(row func(...any)) {
					row("release", "name", "version", "arch", "baked", "artifacts", "channels")
					for _, r := range releases {
						row(short(r.Release), r.Name, r.Version, r.Arch, when(r.Bakes[0].At), len(r.Artifacts), strings.Join(r.Channels, " "))
					}
				})
			})
		}
	},
}

var catalogShowVerb = verb{
	name: "catalog show", args: "RELEASE", atLeast: 1, atMost: 1,
	short: "show all that is known of a release",
	long: `
Shows the bakes, artifacts, channels and references of one release. RELEASE is
the beginning of its id or a channel.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		asJSON := f.Bool("json", false, "print the release as JSON")
		dir := catalogFlag(f)
		return func(ctx context.Context, t *term, args []string) error {
			return withCatalog(ctx, *dir, func(c *catalog.Catalog) error {
				r, err := c.Find(ctx, args[0])
				if err != nil {
					return err
				}
				if *asJSON {
					return json.NewEncoder(t.out).Encode(r)
				}
				return t.table(func(row func(...any)) {
					row("release", r.Release)
					row("image", fmt.Sprintf("%s %s for %s", r.Name, r.Version, r.Arch))
					row("recipe", r.Bakes[0].Recipe)
					row("lock", r.Bakes[0].Lock)
					if len(r.Channels) > 0 {
						row("channels", strings.Join(r.Channels, " "))
					}
					for _, b := range r.Bakes {
						row("baked", fmt.Sprintf("%s by %s", when(b.At), b.Tool))
					}
					for _, a := range r.Artifacts {
						row("artifact", fmt.Sprintf("%s (%s, %d bytes, sha256 %s)", a.Path, a.Platform, a.Size, a.SHA256))
					}
					for _, ref := range r.References {
						row("reference", strings.Join(strings.Fields(strings.Join([]string{ref.Target, ref.Region, ref.ID, ref.URL}, " ")), " "))
					}
				})
			})
		}
	},
}
