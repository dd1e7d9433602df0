package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Exit codes, as README.md tells them.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2 // wrong input or usage
	exitFindings = 3 // test: a step failed; cache verify: something is damaged; verify: something differs

	exitIncomplete = 77 // published in part; running it again goes on
)

// A verb is one command of the program.
type verb struct {
	name    string // one word, or two: those of a group share the first
	args    string // its arguments, as usage shows them
	short   string
	long    string // ends in a worked example
	atLeast int    // arguments
	atMost  int
	// flags declares the verb's flags and returns what runs it.
	flags func(f *pflag.FlagSet) func(ctx context.Context, t *term, args []string) error
}

// verbs lists the commands in the order of a first use.
var verbs = []verb{initVerb, checkVerb, planVerb, lockVerb, bakeVerb, explainVerb, verifyVerb, seedVerb, bootVerb, testVerb, publishVerb, sweepVerb,
	catalogListVerb, catalogShowVerb, catalogChannelVerb, catalogCleanVerb,
	cacheListVerb, cacheCleanVerb, cacheVerifyVerb, versionVerb}

// A usageError is a command line that is not understood.
type usageError struct {
	verb string
	err  error
}

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Hint() string {
	if e.verb == "" {
		return "prose-image --help"
	}
	return "prose-image " + e.verb + " --help"
}

// run is the whole program as a function of its arguments and streams.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	t := newTerm(stdin, stdout, stderr)
	err := dispatch(ctx, t, args)
	t.stopProgress()
	if err == nil && t.out.err != nil {
		err = fmt.Errorf("writing the results: %w", t.out.err)
	}
	if err == nil {
		return exitDone
	}
	var silent *exitError
	if errors.As(err, &silent) {
		return silent.code
	}
	var stopped *stoppedError
	if ctx.Err() != nil && errors.Is(err, context.Canceled) && !errors.As(err, &stopped) {
		t.errorf("interrupted")
		return exitFailed
	}
	t.problem(err)
	return exitCode(err)
}

func dispatch(ctx context.Context, t *term, args []string) error {
	if len(args) == 0 {
		return &usageError{err: errors.New("no command given")}
	}
	switch args[0] {
	case "help", "--help", "-h":
		if len(args) > 1 {
			return dispatch(ctx, t, append(args[1:len(args):len(args)], "--help"))
		}
		t.printf("%s", overview())
		return nil
	case "--version":
		args = []string{"version"}
	}
	var group []verb
	for _, v := range verbs {
		words := strings.Fields(v.name)
		if words[0] == args[0] {
			group = append(group, v)
		}
		if len(args) < len(words) || !slices.Equal(args[:len(words)], words) {
			continue
		}
		f := pflag.NewFlagSet(v.name, pflag.ContinueOnError)
		f.SetOutput(io.Discard)
		f.SortFlags = false
		work := v.flags(f)
		if err := f.Parse(args[len(words):]); err != nil {
			if errors.Is(err, pflag.ErrHelp) {
				t.printf("%s", help(v, f))
				return nil
			}
			return &usageError{v.name, flagError(err)}
		}
		if n := f.NArg(); n < v.atLeast || n > v.atMost {
			return &usageError{v.name, fmt.Errorf("%s takes %s, not %s", v.name, orNothing(v.args), count(n, "argument"))}
		}
		return work(ctx, t, f.Args())
	}
	if group != nil {
		if len(args) > 1 && slices.Contains([]string{"help", "--help", "-h"}, args[1]) {
			t.printf("%s", overviewOf(args[0], group))
			return nil
		}
		var words []string
		for _, v := range group {
			words = append(words, strings.TrimPrefix(v.name, args[0]+" "))
		}
		return &usageError{args[0], fmt.Errorf("%s needs one of %s after it", args[0], strings.Join(words, ", "))}
	}
	return &usageError{err: fmt.Errorf("unknown command %q", args[0])}
}

// flagError says in words of ours what is wrong with a flag's value.
func flagError(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	kind := bad.GetFlag().Value.Type()
	return fmt.Errorf("--%s %q is not %s", bad.GetFlag().Name, bad.GetValue(), cmp.Or(map[string]string{
		"bool": "true or false", "int": "a whole number", "int64": "a whole number", "duration": "a time such as 90m or 24h",
	}[kind], "a "+kind))
}

func orNothing(args string) string {
	if args == "" {
		return "nothing"
	}
	return args
}

func overview() string {
	return "prose-image bakes ready-to-boot images of a Prose Pod.\n\nUsage: prose-image COMMAND\n\n" + lines(verbs) +
		"\nprose-image COMMAND --help says more of one.\n\n" + overviewExample
}

// overviewOf is of the verbs that begin with one word. The first has the example.
func overviewOf(word string, group []verb) string {
	return "Usage: prose-image " + word + " COMMAND\n\n" + lines(group) +
		"\nprose-image " + word + " COMMAND --help says more of one.\n\nExample:\n" + examples[group[0].name]
}

func lines(verbs []verb) string {
	var b strings.Builder
	for _, v := range verbs {
		fmt.Fprintf(&b, "  %-15s %s\n", v.name, v.short)
	}
	return b.String()
}

func help(v verb, f *pflag.FlagSet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s\n\n%s", strings.TrimSpace("prose-image "+v.name+" "+v.args), strings.TrimLeft(v.long, "\n"))
	if f.HasFlags() {
		b.WriteString("\nFlags:\n" + f.FlagUsages())
	}
	b.WriteString("\nExample:\n" + examples[v.name])
	return b.String()
}
