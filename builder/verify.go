package builder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/checksum"
	"github.com/prose-im/prose-image/builder/disk"
	"github.com/prose-im/prose-image/builder/format"
	"github.com/prose-im/prose-image/builder/layer"
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

// line is the number of the first line that differs.
func line(a, b []byte) int {
	return 1 + bytes.Count(a[:firstDifference(a, b)], []byte("\n"))
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	if bytes.Equal(a[:n], b[:n]) {
		return n
	}
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// layers compares the layers that the manifest lists with those that were made,
// and returns the first that differs, with the first file in it where the cache
// still has the one of before.
func (v *verifying) layers(ctx context.Context) (*Finding, error) {
	for _, made := range v.made.Layers {
		at := slices.IndexFunc(v.given.Layers, func(m Made) bool { return m.Kind == made.Kind && m.Platform == made.Platform })
		if at < 0 {
			return &Finding{Layer: made.Kind, Text: "the manifest does not list this layer"}, nil
		}
		given := v.given.Layers[at]
		if given.Key != made.Key {
			return v.inputs(made, given)
		}
		if given.SHA256 == "" || given.SHA256 == made.SHA256 {
			continue
		}
		found := &Finding{Layer: made.Kind, Text: fmt.Sprintf("the layer's sha256 was %s, and is %s when it is made again", brief(given.SHA256), brief(made.SHA256))}
		was, err := v.cached(ctx, v.shared, given)
		if was == nil {
			return found, err
		}
		defer was.file.Close()
		is, err := v.cached(ctx, v.c.Cache, made)
		if is == nil {
			return found, err
		}
		defer is.file.Close()
		path, what, err := differEntries(was.Layer, is.Layer)
		if err != nil {
			return nil, fmt.Errorf("comparing layer %s: %w", made.Kind, err)
		}
		if path != "" {
			found.Path, found.Text = path, what
		}
		return found, nil
	}
	return nil, nil
}

// inputs is the finding that a layer was made from something else.
func (v *verifying) inputs(made, given Made) (*Finding, error) {
	found := &Finding{Layer: made.Kind, Text: "what goes into the layer is not the same"}
	known, err := cache.Layers(v.shared)
	if err != nil {
		return nil, err
	}
	fresh, err := cache.Layers(v.c.Cache)
	if err != nil {
		return nil, err
	}
	is := func(key string) func(cache.Layer) bool { return func(l cache.Layer) bool { return l.Key == key } }
	was, now := slices.IndexFunc(known, is(given.Key)), slices.IndexFunc(fresh, is(made.Key))
	if was >= 0 && now >= 0 {
		if lines := differences(known[was].Inputs, fresh[now].Inputs, false); len(lines) > 0 {
			found.Text = lines[0]
		}
	}
	return found, nil
}

// cached opens the layer that a manifest lists, or returns nil when the cache
// has it no longer, or another content under its key.
func (v *verifying) cached(ctx context.Context, dir string, m Made) (*cachedLayer, error) {
	var key Key
	if b, err := hex.DecodeString(m.Key); err != nil || copy(key[:], b) != len(key) {
		return nil, nil
	}
	l, err := openLayer(dir, m.Kind, key)
	var damaged *cache.DamagedError
	if errors.Is(err, fs.ErrNotExist) || errors.As(err, &damaged) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if l.record.SHA256 != m.SHA256 || l.record.Check(ctx, l.file) != nil {
		l.file.Close()
		return nil, ctx.Err()
	}
	return l, nil
}

// differEntries finds the first path, in byte order, at which two layers differ,
// and says how. The path is empty when they hold the same.
func differEntries(was, is *layer.Layer) (path, what string, err error) {
	if !slices.Equal(was.Deletions, is.Deletions) {
		return ".", "the list of what is removed differs", nil
	}
	index := func(l *layer.Layer) map[string]int {
		m := make(map[string]int, len(l.Entries))
		for i := range l.Entries {
			m[l.Entries[i].Path] = i
		}
		return m
	}
	a, b := index(was), index(is)
	paths := slices.Collect(maps.Keys(a))
	for p := range b {
		if _, ok := a[p]; !ok {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	for _, p := range paths {
		i, inA := a[p]
		j, inB := b[p]
		switch {
		case !inB:
			return p, "it is not made again", nil
		case !inA:
			return p, "it was not in the image", nil
		}
		if what := differEntry(was.Entries[i], is.Entries[j]); what != "" {
			return p, what, nil
		}
		same, err := sameContent(was.Content(i), is.Content(j))
		if err != nil {
			return "", "", err
		}
		if !same {
			return p, "the content differs", nil
		}
	}
	return "", "", nil
}

func differEntry(was, is layer.Entry) string {
	for _, f := range []struct {
		what    string
		was, is any
	}{
		{"type", was.Type, is.Type},
		{"mode", fmt.Sprintf("%04o", was.Mode), fmt.Sprintf("%04o", is.Mode)},
		{"owner", fmt.Sprintf("%d:%d", was.UID, was.GID), fmt.Sprintf("%d:%d", is.UID, is.GID)},
		{"target", was.Link, is.Link},
		{"device", fmt.Sprintf("%d:%d", was.Major, was.Minor), fmt.Sprintf("%d:%d", is.Major, is.Minor)},
		{"size", was.Size, is.Size},
		{"time", was.ModTime.UTC().String(), is.ModTime.UTC().String()},
	} {
		if f.was != f.is {
			return fmt.Sprintf("its %s was %v, and is %v when it is made again", f.what, f.was, f.is)
		}
	}
	if !maps.Equal(was.Xattrs, is.Xattrs) {
		return "its extended attributes differ"
	}
	return ""
}

func sameContent(a, b io.Reader) (bool, error) {
	at, err := compareReaders(a, b)
	return at < 0, err
}

// compareReaders returns the first offset at which two differ, or -1.
func compareReaders(a, b io.Reader) (int64, error) {
	x, y := make([]byte, 1<<18), make([]byte, 1<<18)
	for at := int64(0); ; {
		n, err := io.ReadFull(a, x)
		m, err2 := io.ReadFull(b, y)
		if d := firstDifference(x[:n], y[:m]); d < max(n, m) {
			return at + int64(d), nil
		}
		at += int64(n)
		if err != nil || err2 != nil {
			for _, e := range []error{err, err2} {
				if e != nil && e != io.EOF && e != io.ErrUnexpectedEOF {
					return 0, e
				}
			}
			return -1, nil
		}
	}
}

// artifact compares one artifact with the one that was made.
func (v *verifying) artifact(ctx context.Context, name string) (*Finding, error) {
	of := func(r *Result) *Artifact {
		for i := range r.Artifacts {
			if r.Artifacts[i].File == name {
				return &r.Artifacts[i]
			}
		}
		return nil
	}
	given, made := of(v.given), of(v.made)
	if made == nil {
		return &Finding{File: name, Text: "it is not made again"}, nil
	}
	path := filepath.Join(v.dir, name)
	_, sum, err := checksum.File(ctx, path)
	if err != nil {
		return nil, err
	}
	if sum == made.SHA256 {
		return nil, nil
	}
	found := &Finding{File: name, Text: fmt.Sprintf("its sha256 is %s, that of what is made again %s", brief(sum), brief(made.SHA256))}
	if sum != given.SHA256 {
		found.Text = fmt.Sprintf("it is not the file of the manifest: its sha256 is %s, not %s", brief(sum), brief(given.SHA256))
	}
	where, file, err := v.locate(ctx, *made, path)
	if err != nil {
		return nil, err
	}
	found.Path = file
	if where != "" {
		found.Text += "; " + where
	}
	return found, nil
}

// locate says where the disk in the artifact at path differs first from the one
// that was made.
func (v *verifying) locate(ctx context.Context, made Artifact, path string) (where, file string, err error) {
	is := filepath.Join(v.c.Out, made.File)
	if made.Format != "raw" {
		for _, p := range []*string{&path, &is} {
			raw := filepath.Join(v.c.Out, fmt.Sprintf("%s.%x.disk", made.File, sha256.Sum256([]byte(*p))))
			if err := format.Unpack(ctx, made.Format, *p, raw); ctx.Err() != nil {
				return "", "", context.Cause(ctx)
			} else if err != nil {
				return fmt.Sprintf("where is not known: %v", err), "", nil
			}
			*p = raw
		}
	}
	a, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer a.Close()
	b, err := os.Open(is)
	if err != nil {
		return "", "", err
	}
	defer b.Close()
	at, err := compareReaders(a, b)
	if err != nil {
		return "", "", fmt.Errorf("comparing %s: %w", made.File, err)
	}
	if at < 0 {
		return "the disk in it is the same", "", nil
	}
	where = fmt.Sprintf("the disk differs first at byte %d", at)
	own, d, err := v.assemble(ctx, made.Platform)
	if err != nil {
		return "", "", err
	}
	defer own.close()
	partition, file, err := disk.Locate(ctx, own.tree, own.diskOptions(d), at)
	if err != nil {
		return "", "", err
	}
	if partition != "" {
		where += ", in partition " + partition
	}
	return where, file, nil
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
