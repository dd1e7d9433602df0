package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/publish"
)

var publishVerb = verb{
	name: "publish", args: "IMAGE TARGET", atLeast: 2, atMost: 2,
	short: "bring an image to where people get it",
	long: `
Publishes what a bake made: IMAGE is the directory of a bake, for all artifacts
in it, or one of the files there. Nothing is to be seen at the target until all
of it is there and was read back; the index and the channel's pointer come last.

Interrupt it at any time: the same command goes on from there. The same bytes
are published once, however often it runs. Other bytes under the same name and
version are an error, and what is published stays.

Exit codes: 0 published, 1 failed, 2 wrong input or a conflict, 77 published in
part; run it again.

` + targetHelp(),
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		version := f.String("version", "", "version to publish as; the bake's unless given")
		channel := f.String("channel", "latest", "pointer that is to lead to this version, unless it leads to a newer one; \"\" for none")
		dry := f.Bool("dry-run", false, "print what would be done and change nothing")
		asJSON := f.Bool("json", false, "print progress and the result as JSON")
		dir := catalogFlag(f)
		return func(ctx context.Context, t *term, args []string) error {
			p := builder.Publication{Image: args[0], Version: *version, Channel: *channel, Address: args[1], Catalog: *dir}
			if *dry {
				p, err := p.Look(ctx)
				if err != nil {
					return err
				}
				if *asJSON {
					return json.NewEncoder(t.out).Encode(p)
				}
				t.printf("%s %s %s\n", p.Target, p.Name, p.Version)
				for _, s := range p.Steps {
					t.printf("  %-8s %-40s %s\n", s.Stage, s.Name(), s.State)
				}
				return nil
			}
			p.Progress = t.progress(*asJSON)
			return t.publish(ctx, p, *asJSON)
		}
	},
}

// publish publishes and prints where things went.
func (t *term) publish(ctx context.Context, p builder.Publication, asJSON bool) error {
	r, err := p.Publish(ctx)
	t.stopProgress()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return &stoppedError{err}
	}
	if r != nil && asJSON {
		err = errors.Join(err, json.NewEncoder(t.out).Encode(r))
	} else if r != nil {
		t.printf("%s %s %s\n", r.Target, r.Name, r.Version)
		for _, p := range r.Published {
			t.printf("  %s\n", p.ID)
		}
	}
	if err == nil && r.Steps == 0 {
		t.notef("all of it was there already")
	}
	return err
}

// A stoppedError is a publish that Ctrl-C ended.
type stoppedError struct{ err error }

func (e *stoppedError) Error() string { return "interrupted" }
func (e *stoppedError) Unwrap() error { return e.err }
func (e *stoppedError) Hint() string {
	return "run the same command again: it goes on from here"
}

func targetHelp() string {
	var b strings.Builder
	b.WriteString("Targets:\n")
	for _, k := range publish.Kinds {
		fmt.Fprintf(&b, "  %-10s %s\n             %s\n", k.Name, k.Address, k.Doc)
	}
	return b.String()
}
