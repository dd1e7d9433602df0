package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder/recipe"
)

var initVerb = verb{
	name: "init", args: "[RECIPE]", atMost: 1,
	short: "write a commented recipe to begin with",
	long: `
Writes a recipe in which every key stands at its default, commented out, with
what it means. The name is recipe.toml unless one is given; a file that is there
is not touched.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		return func(_ context.Context, t *term, args []string) error {
			name := "recipe.toml"
			if len(args) == 1 {
				name = args[0]
			}
			out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if errors.Is(err, fs.ErrExist) {
				return &inputError{fmt.Errorf("%s is there already", name), "give another name: prose-image init NAME.toml"}
			}
			if err != nil {
				return fmt.Errorf("writing recipe: %w", err)
			}
			_, err = out.WriteString(recipe.Starter())
			if cerr := out.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				_ = os.Remove(name)
				return fmt.Errorf("writing recipe: %w", err)
			}
			t.printf("%s\n", name)
			return nil
		}
	},
}
