package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder/catalog"
)

var catalogChannelVerb = verb{
	name: "catalog channel", args: "[NAME [RELEASE]]", atMost: 2,
	short: "show channels, or lead one to a release",
	long: `
A channel is a name that leads to a release, such as stable or candidate. With
no argument all channels are listed, with one the history of a channel, newest
first. With two the channel is led to the release, which is the beginning of an
id or another channel. What a channel leads to is kept when the catalog is
cleaned.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		remove := f.Bool("remove", false, "end the channel; its history stays")
		asJSON := f.Bool("json", false, "print channels as JSON")
		dir := catalogFlag(f)
		return func(ctx context.Context, t *term, args []string) error {
			if *remove && len(args) != 1 {
				return &usageError{"catalog channel", errors.New("--remove takes one NAME")}
			}
			return withCatalog(ctx, *dir, func(c *catalog.Catalog) error {
				if *remove {
					return c.RemoveChannel(ctx, args[0])
				}
				channels, err := channelsOf(ctx, c, args)
				if err != nil {
					return err
				}
				if *asJSON {
					return json.NewEncoder(t.out).Encode(channels)
				}
				return t.table(func(row func(...any)) {
					for _, ch := range channels {
						release := short(ch.Release)
						if release == "" {
							release = "removed"
						}
						row(ch.Name, release, when(ch.At))
					}
				})
			})
		}
	},
}

// channelsOf does what the number of arguments asks for.
func channelsOf(ctx context.Context, c *catalog.Catalog, args []string) ([]catalog.Channel, error) {
	switch len(args) {
	case 0:
		return c.Channels(ctx)
	case 1:
		return c.History(ctx, args[0])
	}
	channel, err := c.SetChannel(ctx, args[0], args[1])
	return []catalog.Channel{channel}, err
}
