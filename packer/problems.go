package packer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/recipe"
)

// check says all that is wrong with a configuration, each problem with the name
// of its attribute, and what to know before it is used. It changes nothing and
// needs no network.
func (c *Config) check() (warnings []string, err error) {
	var problems []error
	if c.Recipe != "" {
		problems = append(problems, c.besideRecipe()...)
	}
	b := c.bake(nil)
	for _, e := range parts(builder.Check(b)) {
		problems = append(problems, c.explain(e)...)
	}
	if info, err := os.Stat(c.OutputDirectory); err == nil && !info.IsDir() {
		problems = append(problems, fmt.Errorf("output_directory: %s is there and is no directory", c.OutputDirectory))
	}
	if problems != nil {
		return nil, packersdk.MultiErrorAppend(nil, problems...)
	}
	lock := b.Lock
	if lock == "" {
		lock = builder.LockPath(b.Recipe)
	}
	if _, err := os.Stat(lock); errors.Is(err, fs.ErrNotExist) {
		warnings = append(warnings, fmt.Sprintf("lock: %s is not there: this build finds the newest packages and containers and writes it; keep it with the template, so that later builds make the same image", filepath.Clean(lock)))
	}
	return warnings, nil
}

// besideRecipe checks the attributes that are there when a recipe file is: it
// has the other keys, and only formats may be said again.
func (c *Config) besideRecipe() (problems []error) {
	only := *c
	only.Formats = nil
	_, attributes := only.document()
	var twice []string
	for _, a := range attributes {
		a, _, _ = strings.Cut(a, "[")
		twice = append(twice, a)
	}
	for _, a := range slices.Compact(twice) {
		problems = append(problems, fmt.Errorf("%s: recipe names a file, which has this key; write it there, or leave recipe out", a))
	}
	src, attributes := (&Config{Formats: c.Formats}).document()
	if _, bad := recipe.Parse(src); bad != nil {
		problems = append(problems, diagnostics(bad, attributes)...)
	}
	return problems
}

// explain makes of an error of the engine what the author of a template can
// mend.
func (c *Config) explain(err error) []error {
	var (
		invalid *recipe.Invalid
		missing *builder.MissingAgentError
		stale   *builder.StaleLockError
		lock    *builder.LockError
		bundle  *builder.BundleError
		file    *fs.PathError
	)
	switch {
	case errors.As(err, &invalid) && c.Recipe == "":
		_, attributes := c.document()
		return diagnostics(invalid.Problems, attributes)
	case errors.As(err, &invalid):
		var list []error
		for _, d := range invalid.Problems {
			list = append(list, fmt.Errorf("recipe: %s:%d:%d: %s%s", invalid.File, d.Line, d.Column, d.Message, brackets(d.Hint)))
		}
		return list
	case errors.As(err, &missing):
		return []error{fmt.Errorf("agent_directory: %w%s", missing, brackets("name the directory that holds "+filepath.Base(missing.Path)))}
	case errors.As(err, &stale):
		return []error{fmt.Errorf("lock: %s: %s%s", stale.Path, strings.Join(stale.Reasons, "; "), brackets("remove the file, and the next build writes a new one"))}
	case errors.As(err, &lock):
		return []error{fmt.Errorf("lock: %w", err)}
	case errors.As(err, &file) && file.Path == c.Recipe:
		return []error{fmt.Errorf("recipe: %w", err)}
	case errors.As(err, &bundle):
		return []error{fmt.Errorf("pod.bundle: %w%s", bundle.Err, brackets(bundle.Hint()))}
	}
	return []error{withHint(err)}
}

// diagnostics names the attribute of each line instead of the line.
func diagnostics(list []recipe.Diagnostic, attributes []string) (problems []error) {
	for _, d := range list {
		name := "recipe"
		if d.Line >= 1 && d.Line <= len(attributes) {
			name = attributes[d.Line-1]
		}
		problems = append(problems, fmt.Errorf("%s: %s%s", name, d.Message, brackets(d.Hint)))
	}
	return problems
}

// withHint puts the next thing to do behind what went wrong.
func withHint(err error) error {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return fmt.Errorf("%w%s", err, brackets(hinted.Hint()))
	}
	return err
}

func brackets(hint string) string {
	if hint == "" {
		return ""
	}
	return " (" + hint + ")"
}

// parts takes joined errors apart.
func parts(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var list []error
	for _, e := range joined.Unwrap() {
		list = append(list, parts(e)...)
	}
	return list
}
