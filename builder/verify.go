package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/tree"
)

// A Verification is what making an image a second time showed.
type Verification struct {
	Release  string    `json:"release"`
	Files    []string  `json:"files"`    // that were compared
	Findings []Finding `json:"findings"` // none: every one of them is, byte for byte, what was made again
}

// A Finding is one difference between an image and what was made again. File,
// Layer and Path say where, as far as it is known.
type Finding struct {
	File  string `json:"file,omitempty"`  // beside the manifest
	Layer string `json:"layer,omitempty"` // kind of the first layer that differs
	Path  string `json:"path,omitempty"`  // in the image
	Text  string `json:"text"`
}

// An OtherRecipeError says that an image was not made from the recipe and the
// lock that are at hand.
type OtherRecipeError struct {
	Manifest string
	Reasons  []string
}

func (e *OtherRecipeError) Error() string {
	return fmt.Sprintf("%s is of another bake: %s", e.Manifest, strings.Join(e.Reasons, "; "))
}

// Hint is what to look for.
func (e *OtherRecipeError) Hint() string {
	return "give the recipe and the lock that the image was made from: --lock FILE"
}

// Verify makes an image again and compares: path is the directory of a bake, for
// all that it left there, or one of its artifacts. No cached layer is used;
// package files and container images are, for they are known by their hashes.
// c.Out is not used.
func Verify(ctx context.Context, c Config, path string) (_ *Verification, err error) {
	dir, only, given, err := openBake(path)
	if err != nil {
		return nil, err
	}
	c.Formats, c.Out = nil, ""
	v := &verifying{dir: dir, given: given, whole: only == ""}
	for _, a := range given.Artifacts {
		if only == "" || a.File == only {
			v.files = append(v.files, a.File)
			c.Formats = append(c.Formats, a.Format)
		}
	}
	if v.files == nil {
		return nil, &NoManifestError{path, fmt.Sprintf("%s does not list it", filepath.Join(dir, ManifestName))}
	}
	c.Formats = slices.Compact(slices.Sorted(slices.Values(c.Formats)))
	if err := c.fill(); err != nil {
		return nil, err
	}
	if err := v.fits(ctx, c); err != nil {
		return nil, err
	}
	shared := c.Cache
	fresh, release, err := cache.Fresh(ctx, shared)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	c.Cache, c.Out = fresh, filepath.Join(fresh, "out")
	v.c, v.shared = c, shared
	if v.made, err = Bake(ctx, c); err != nil {
		return nil, err
	}
	return v.compare(ctx)
}

// verifying is one run of [Verify].
type verifying struct {
	c      Config // of the bake that is made
	dir    string // of the image
	shared string // the user's cache
	given  *Result
	made   *Result
	files  []string // artifacts to compare
	whole  bool     // compare all that a bake leaves
}

// fits looks whether recipe and lock are those of the manifest, before anything
// is made.
func (v *verifying) fits(ctx context.Context, c Config) error {
	c.Offline = true // no lock is made
	in, err := load(ctx, &c)
	if err != nil {
		return err
	}
	recipe, lock, err := in.sums(&c)
	if err != nil {
		return err
	}
	var reasons []string
	for _, s := range []struct{ what, given, here string }{{"recipe " + c.Recipe, v.given.Recipe, recipe}, {"lock " + c.Lock, v.given.Lock, lock}} {
		if s.given != s.here {
			reasons = append(reasons, fmt.Sprintf("the sha256 of the %s is %s, the image's had %s", s.what, brief(s.here), brief(s.given)))
		}
	}
	if reasons != nil {
		return &OtherRecipeError{filepath.Join(v.dir, ManifestName), reasons}
	}
	return nil
}

func brief(sum string) string { return sum[:min(len(sum), 12)] }

func (v *verifying) compare(ctx context.Context) (*Verification, error) {
	r := &Verification{Release: v.given.Release, Findings: []Finding{}}
	layer, err := v.layers(ctx)
	if err != nil {
		return nil, err
	}
	if layer != nil {
		r.Findings = append(r.Findings, *layer)
	}
	differs := layer != nil
	for _, name := range v.files {
		r.Files = append(r.Files, name)
		found, err := v.artifact(ctx, name)
		if err != nil {
			return nil, err
		}
		if found != nil {
			differs = true
			r.Findings = append(r.Findings, *found)
		}
	}
	if differs && v.given.Tool != v.made.Tool {
		r.Findings = append(r.Findings, Finding{Text: fmt.Sprintf("the image is of version %s of prose-image, this is %s", v.given.Tool, v.made.Tool)})
	}
	if !v.whole {
		return r, nil
	}
	for _, name := range v.made.Files() {
		if slices.Contains(v.files, name) {
			continue
		}
		is, err := os.ReadFile(filepath.Join(v.c.Out, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a signature
		}
		if err != nil {
			return nil, err
		}
		r.Files = append(r.Files, name)
		was, err := os.ReadFile(filepath.Join(v.dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			r.Findings = append(r.Findings, Finding{File: name, Text: "it is not there"})
		case err != nil:
			return nil, err
		case !bytes.Equal(was, is):
			r.Findings = append(r.Findings, Finding{File: name, Text: fmt.Sprintf("line %d differs", line(was, is))})
		}
	}
	return r, nil
}

// assemble lays the layers that were made over each other again.
func (v *verifying) assemble(ctx context.Context, platform string) (*baking, Disk, error) {
	c := v.c
	c.Offline = true
	in, err := load(ctx, &c)
	if err != nil {
		return nil, Disk{}, err
	}
	plan, err := NewPlan(in)
	if err != nil {
		return nil, Disk{}, err
	}
	at := slices.IndexFunc(plan.Disks, func(d Disk) bool { return d.Platform == platform })
	if at < 0 {
		return nil, Disk{}, fmt.Errorf("BUG: no disk for platform %s", platform)
	}
	b := &baking{c: c, in: in, plan: plan, tree: tree.New()}
	for _, l := range slices.Concat(plan.Layers, plan.Disks[at].Layers) {
		if err := b.layer(ctx, l, platform); err != nil {
			b.close()
			return nil, Disk{}, err
		}
	}
	return b, plan.Disks[at], nil
}
