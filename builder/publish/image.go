package publish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/prose-im/prose-image/builder/checksum"
)

// An Image is what is published under one version: one file, or one for each
// platform and format.
type Image struct {
	Name    string
	Version string
	Channel string // the pointer that is to lead here, such as "latest"; empty: none
	Files   []File
}

// A File is one artifact.
type File struct {
	Path     string // on this machine
	Name     string // at the target
	Arch     string
	Platform string
	Format   string
	Size     int64     // bytes
	SHA256   string    // of the file, 64 hexadecimal digits
	Disk     string    // SHA-256 of the raw disk in it; empty: not known
	Release  string    // id of recipe and lock; empty: not known
	Date     time.Time // of the lock; zero: not known
}

var (
	safeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,199}$`)
	hexSum   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Check says everything that is wrong with what the image says of itself.
func (img Image) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	names := []struct{ what, value string }{{"name", img.Name}, {"version", img.Version}}
	if img.Channel != "" {
		names = append(names, struct{ what, value string }{"channel", img.Channel})
		if img.Channel == img.Version {
			bad("channel and version are both %q", img.Version)
		}
	}
	for _, n := range names {
		if !safeName.MatchString(n.value) {
			bad("%s %q is not made of letters, digits and . _ + ~ -, with a letter or digit first", n.what, n.value)
		}
	}
	if len(img.Files) == 0 {
		bad("there is no file to publish")
	}
	var seen []string
	for _, f := range img.Files {
		if !safeName.MatchString(f.Name) {
			bad("file name %q is not made of letters, digits and . _ + ~ -, with a letter or digit first", f.Name)
		}
		if slices.Contains(seen, f.Name) {
			bad("two files are called %s", f.Name)
		}
		if slices.Contains(reserved, f.Name) {
			bad("a file may not be called %s", f.Name)
		}
		seen = append(seen, f.Name)
		if !hexSum.MatchString(f.SHA256) {
			bad("sha256 of %s is %q, not 64 hexadecimal digits", f.Name, f.SHA256)
		}
		if f.Disk != "" && !hexSum.MatchString(f.Disk) {
			bad("sha256 of the disk in %s is %q, not 64 hexadecimal digits", f.Name, f.Disk)
		}
		if f.Size <= 0 {
			bad("size of %s is %d", f.Name, f.Size)
		}
	}
	return errors.Join(errs...)
}

// Operation names one image at one target. It is made of what they are, so that
// every process that publishes the same thing to the same place means the same
// operation.
func Operation(target string, img Image) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q\n", target, img.Name, img.Version)
	files := slices.Clone(img.Files)
	slices.SortFunc(files, func(a, b File) int { return compareText(a.Name, b.Name) })
	for _, f := range files {
		fmt.Fprintf(h, "%q %s\n", f.Name, f.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// A ChangedError is a file that is not what its manifest says.
type ChangedError struct{ Path, Why string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s is not what its manifest says: %s", e.Path, e.Why)
}

// Hint is the next thing to do.
func (e *ChangedError) Hint() string {
	return "bake it again, or fetch it again from where it was baked"
}

// checkFiles reads every file of the image and compares.
func checkFiles(ctx context.Context, img Image) error {
	var errs []error
	for _, f := range img.Files {
		in, err := os.Open(f.Path)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading the image: %w", err))
			continue
		}
		n, sum, err := checksum.Of(ctx, in)
		in.Close()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			errs = append(errs, fmt.Errorf("reading %s: %w", f.Path, err))
		case n != f.Size:
			errs = append(errs, &ChangedError{f.Path, fmt.Sprintf("it has %d bytes, not %d", n, f.Size)})
		case sum != f.SHA256:
			errs = append(errs, &ChangedError{f.Path, fmt.Sprintf("its sha256 is %s, not %s", sum, f.SHA256)})
		}
	}
	return errors.Join(errs...)
}
