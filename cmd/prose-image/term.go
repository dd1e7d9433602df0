package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/catalog"
	"github.com/prose-im/prose-image/builder/debian"
	"github.com/prose-im/prose-image/builder/progress"
	"github.com/prose-im/prose-image/builder/publish"
	"github.com/prose-im/prose-image/builder/recipe"
)

// What the program says, and the only file that says it:
//
//   - results go to standard output, everything else to standard error;
//   - a problem is one line "error: …" and, when there is something to do about
//     it, one line "hint: …" with the next thing to type;
//   - messages begin with a small letter and end without a full stop;
//   - progress is one live line on a terminal, and one line at each change in a
//     pipe; --json makes it and the result lines of JSON.

// term is where the program speaks.
type term struct {
	in   io.Reader
	out  *results
	err  io.Writer
	stop func()
}

func newTerm(in io.Reader, out, err io.Writer) *term {
	return &term{in: in, out: &results{Writer: out}, err: err}
}

// results is standard output, and why it took nothing more.
type results struct {
	io.Writer
	err error
}

func (r *results) Write(b []byte) (int, error) {
	n, err := r.Writer.Write(b)
	r.err = cmp.Or(r.err, err)
	return n, err
}

// printf prints a result.
func (t *term) printf(format string, args ...any) { fmt.Fprintf(t.out, format, args...) }

// notef tells people something.
func (t *term) notef(format string, args ...any) { fmt.Fprintf(t.err, format+"\n", args...) }

func (t *term) warningf(format string, args ...any) {
	fmt.Fprintf(t.err, "warning: "+format+"\n", args...)
}

func (t *term) errorf(format string, args ...any) { fmt.Fprintf(t.err, "error: "+format+"\n", args...) }

// progress gives the way to show progress that suits where we print.
func (t *term) progress(json bool) progress.Func {
	if json {
		return progress.JSON(t.err)
	}
	if f, ok := t.err.(*os.File); ok && isTerminal(f) {
		show, stop := progress.Live(t.err)
		t.stop = stop
		return show
	}
	return progress.Lines(t.err)
}

func (t *term) stopProgress() {
	if t.stop != nil {
		t.stop()
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// problem prints an error, each of its parts with its hint.
func (t *term) problem(err error) {
	if parts, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range parts.Unwrap() {
			t.problem(e)
		}
		return
	}
	var invalid *recipe.Invalid
	if errors.As(err, &invalid) {
		fmt.Fprint(t.err, invalid.Draw())
		t.errorf("%s has %s", invalid.File, count(len(invalid.Problems), "problem"))
		return
	}
	t.errorf("%s", strings.TrimSpace(err.Error()))
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		if h := hinted.Hint(); h != "" {
			fmt.Fprintf(t.err, "hint: %s\n", h)
		}
	}
}

// exitCode tells what the user can mend in the input from what failed.
func exitCode(err error) int {
	if is[*publish.IncompleteError](err) {
		return exitIncomplete
	}
	for _, wrong := range inputErrors {
		if wrong(err) {
			return exitUsage
		}
	}
	return exitFailed
}

// inputErrors are those of wrong input and usage.
var inputErrors = []func(error) bool{
	is[*usageError], is[*inputError],
	is[*recipe.Invalid], is[*recipe.UnreadableError], is[*builder.BundleError], is[*builder.OwnedError], is[*builder.KeyError], is[*debian.UnknownPackageError],
	is[*builder.StaleLockError], is[*builder.OtherRecipeError], is[*builder.UnknownLayerError], is[*builder.NoManifestError],
	is[*catalog.UnknownReleaseError], is[*catalog.UnknownChannelError], is[*catalog.ChannelNameError],
	is[*publish.ConflictError], is[*publish.BadAddressError], is[*publish.BadImageError], is[*publish.ChangedError],
}

func is[T error](err error) bool {
	var e T
	return errors.As(err, &e)
}

// An inputError is something wrong with what the user gave.
type inputError struct {
	err  error
	hint string
}

func (e *inputError) Error() string { return e.err.Error() }
func (e *inputError) Unwrap() error { return e.err }
func (e *inputError) Hint() string  { return e.hint }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
