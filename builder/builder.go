// Package builder bakes images:
//
//	Recipe --lock--> Lock --plan--> Plan --bake--> Layers --merge--> Tree --write--> Disk --convert--> Artifact
//
// [Bake] is that flow and reads top to bottom. Each arrow is a function of its
// own: [LoadInputs] and [Resolve] read the outside world, [NewPlan] decides,
// the rest makes bytes. Layers are cached by the hash of what goes into them,
// so a bake does again only what changed.
package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/disk"
	"github.com/prose-im/prose-image/builder/format"
	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/output"
	"github.com/prose-im/prose-image/builder/progress"
	"github.com/prose-im/prose-image/builder/tree"
)

// A Config says what to bake and where.
type Config struct {
	Recipe   string        // path of the recipe
	Document []byte        // the recipe itself; nil: the file's content. Else the file needs not exist
	Lock     string        // path of the lock; empty: beside the recipe
	Out      string        // directory of the artifacts; it is made when missing
	Cache    string        // directory of the cache; empty: the user's own
	Agent    string        // directory of the agent's binaries; empty: see Agents
	Agents   fs.FS         // the agent's binaries when Agent is empty; nil: those beside this program
	Formats  []string      // instead of the recipe's; nil: the recipe's
	Offline  bool          // what is not in the cache, and not on this machine, is an OfflineError
	Key      string        // path of a private key as ssh-keygen writes it, to sign with; empty: no signature
	Progress progress.Func // nil: nobody watches
}

// A Result is what a bake made; as JSON it is the manifest.
type Result struct {
	Schema    int        `json:"schema"` // 1
	Name      string     `json:"name"`
	Version   string     `json:"version"`
	Arch      string     `json:"arch"`
	Release   string     `json:"release"`
	Recipe    string     `json:"recipe"` // sha256 of the file
	Lock      string     `json:"lock"`   // sha256 of what it says
	Tool      string     `json:"tool"`   // version of the program
	Date      time.Time  `json:"date"`   // of the lock
	Layers    []Made     `json:"layers"`
	Artifacts []Artifact `json:"artifacts"`
}

// Made is one layer of a bake.
type Made struct {
	Kind     string `json:"kind"`
	Platform string `json:"platform,omitempty"`
	Key      string `json:"key"`
	Entries  int    `json:"entries"`
	SHA256   string `json:"sha256"` // of its tar; empty in the manifest of a bake before this was kept
	Cached   bool   `json:"-"`
}

// An Artifact is one finished file.
type Artifact struct {
	Platform string `json:"platform"`
	Format   string `json:"format"`
	File     string `json:"file"` // name in the output directory
	Size     int64  `json:"size"` // bytes
	SHA256   string `json:"sha256"`
	Key      string `json:"key"` // of the disk it was made from
}

// diskRevision is counted up when the packages disk and format give other bytes
// for an equal tree, so that artifacts of an earlier bake are made again.
const diskRevision = 2

// ManifestName is the file of the manifest, beside the artifacts.
const ManifestName = "manifest.json"

func (c *Config) fill() error {
	if c.Lock == "" {
		c.Lock = LockPath(c.Recipe)
	}
	if c.Progress == nil {
		c.Progress = progress.Discard
	}
	if c.Cache == "" {
		dir, err := cache.DefaultDir()
		if err != nil {
			return err
		}
		c.Cache = dir
	}
	for _, dir := range []string{c.Cache, c.Out} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the directory %s: %w", dir, err)
		}
	}
	return nil
}

// findAgent fills in Agents.
func (c *Config) findAgent() error {
	if c.Agent == "" && c.Agents == nil {
		exe, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding the agent: %w", err)
		}
		c.Agent = filepath.Dir(exe)
	}
	if c.Agent != "" {
		c.Agents = os.DirFS(c.Agent)
	}
	return nil
}

// Bake makes the artifacts of a recipe. When it fails, those that it had made
// until then are gone again.
func Bake(ctx context.Context, c Config) (*Result, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	release, err := cache.Use(ctx, c.Cache)
	if err != nil {
		return nil, err
	}
	defer release()
	// A cached layer is read for damage only before a disk is written from it,
	// and then those over it may be of no use either: begin again without it.
	const tries = 10 // against a disk that damages whatever it is given
	for range tries {
		r, err := bake(ctx, c)
		var layer *damagedLayerError
		if !errors.As(err, &layer) {
			return r, err
		}
		if err := drop(c, layer.kind, layer.key, layer.err); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("baking: the cache %s damages layers as soon as they are made", c.Cache)
}

func bake(ctx context.Context, c Config) (_ *Result, err error) {
	key, err := c.signer()
	if err != nil {
		return nil, err
	}

	// 1. What is asked, and exactly which parts that means.
	in, err := load(ctx, &c)
	if err != nil {
		return nil, err
	}

	// 2. What will be done.
	plan, err := NewPlan(in)
	if err != nil {
		return nil, err
	}

	if c.Offline {
		if err := in.lacks(ctx, &c, plan); err != nil {
			return nil, err
		}
	}

	// 3. The layers that all platforms share.
	b := &baking{c: c, in: in, plan: plan, tree: tree.New()}
	defer b.close()
	defer func() {
		if err != nil {
			b.withdraw()
		}
	}()
	ctx, stop := b.begin(ctx)
	defer stop()
	for _, l := range plan.Layers {
		if err := b.layer(ctx, l, ""); err != nil {
			return nil, b.ahead.reason(err)
		}
	}

	// 4. For each platform its own layers, the disk, the artifacts.
	result := &Result{Schema: 1, Name: plan.Name, Version: plan.Version, Arch: plan.Arch, Release: plan.Release.String(), Tool: ToolVersion(), Date: plan.Epoch}
	if result.Recipe, result.Lock, err = in.sums(&c); err != nil {
		return nil, err
	}
	// What an earlier bake left is of use when it can be read.
	old, _ := ReadManifest(c.Out)
	for i, d := range plan.Disks {
		own, err := b.branch(i == len(plan.Disks)-1)
		if err != nil {
			return nil, err
		}
		made, err := own.disk(ctx, d, old)
		b.made, b.open, b.wrote = own.made, own.open, own.wrote
		if err != nil {
			return nil, err
		}
		result.Artifacts = append(result.Artifacts, made...)
	}
	result.Layers = b.made

	// 5. What is said of it, and the record of it all, last.
	manifest, err := encodeManifest(result)
	if err != nil {
		return nil, err
	}
	if err := b.evidence(key, result, manifest); err != nil {
		return nil, err
	}
	if err := writeManifest(c.Out, manifest); err != nil {
		return nil, err
	}
	return result, nil
}

// baking is one run of [Bake] on its way to a disk.
type baking struct {
	c      Config
	in     *Inputs
	plan   *Plan
	tree   *tree.Tree     // the layers so far, merged
	layers []*cachedLayer // the same, apart
	keys   []lowerLayer   // of the same
	made   []Made
	open   []*cachedLayer // of all platforms
	ahead  *ahead         // layers that are made beside the first
	wrote  []string       // paths of artifacts
}

// branch starts the layers of a platform over the shared ones. The last
// platform may have the shared tree itself.
func (b *baking) branch(last bool) (*baking, error) {
	own := *b
	if last {
		return &own, nil
	}
	var layers []*layer.Layer
	for _, l := range b.layers {
		layers = append(layers, l.Layer)
	}
	var err error
	own.tree, err = tree.Merge(layers...)
	return &own, err
}

func (b *baking) close() {
	for _, l := range b.open {
		l.file.Close()
	}
	b.ahead.close()
}

// withdraw removes the artifacts of a bake that has no manifest.
func (b *baking) withdraw() {
	for _, path := range b.wrote {
		_ = os.Remove(path)
	}
}

// layer makes or finds one layer and lays it over the tree.
func (b *baking) layer(ctx context.Context, l Layer, platform string) error {
	inputs, err := l.resolved(b.tree, b.keys)
	if err != nil {
		return err
	}
	key := layerKey(l.Kind, inputs)
	found, err := b.ahead.take(key)
	if err != nil {
		return err
	}
	cached := false
	if found == nil {
		found, err = b.find(l.Kind, key)
		if cached = err == nil; cached {
			b.c.Progress(progress.Event{Stage: "bake", Name: l.Kind, State: progress.Cached})
		} else if errors.Is(err, fs.ErrNotExist) {
			found, cached, err = b.make(ctx, l, platform, inputs, key)
		}
		if err != nil {
			return err
		}
	}
	b.open = append(b.open, found)
	if err := b.tree.Add(found.Layer); err != nil {
		return err
	}
	b.layers = append(b.layers[:len(b.layers):len(b.layers)], found)
	b.keys = append(b.keys[:len(b.keys):len(b.keys)], lowerLayer{l.Kind, key})
	b.made = append(b.made, Made{Kind: l.Kind, Platform: platform, Key: key.String(), Entries: len(found.Entries), SHA256: found.record.SHA256, Cached: cached})
	return nil
}

// disk makes the artifacts of one platform. Those of an earlier bake that were
// made from the same disk stay as they are.
func (b *baking) disk(ctx context.Context, d Disk, old *Result) ([]Artifact, error) {
	for _, l := range d.Layers {
		if err := b.layer(ctx, l, d.Platform); err != nil {
			return nil, err
		}
	}
	h := newHash("disk")
	h.add("revision", fmt.Sprint(diskRevision))
	for _, k := range b.keys {
		h.add("layer", k.key.String())
	}
	h.add("release", b.plan.Release.String())
	h.add("free", fmt.Sprint(d.Free))
	h.add("size", fmt.Sprint(d.Size))
	key := h.sum().String()

	var artifacts []Artifact
	var missing []string
	for _, name := range d.Formats {
		if a := old.find(b.c.Out, name, key); a != nil {
			b.c.Progress(progress.Event{Stage: "convert", Name: a.File, State: progress.Cached})
			artifacts = append(artifacts, *a)
			continue
		}
		missing = append(missing, name)
	}
	if len(missing) == 0 {
		return artifacts, nil
	}
	if err := b.check(ctx); err != nil {
		return nil, err
	}
	// From here on the old record may be wrong about files of the same name.
	if err := removeFile(filepath.Join(b.c.Out, ManifestName)); err != nil {
		return nil, fmt.Errorf("removing the manifest of an earlier bake: %w", err)
	}

	// The raw disk is made under a name of its own: as an artifact it appears
	// when it is complete, and otherwise it goes when the others are made.
	stem := fmt.Sprintf("%s-%s-%s-%s", b.plan.Name, b.plan.Version, d.Platform, b.plan.Arch)
	raw := filepath.Join(b.c.Out, "."+stem+".raw.part")
	defer os.Remove(raw)
	err := b.c.Progress.Do("write", stem, func() (int64, error) {
		o := b.diskOptions(d)
		o.Draft = !slices.Contains(missing, "raw") // the others are made from it now
		r, err := disk.Write(ctx, raw, b.tree, o)
		return r.Size, err
	})
	if err != nil {
		return nil, err
	}
	for _, name := range missing {
		f, err := format.Lookup(name)
		if err != nil {
			return nil, err
		}
		file := stem + "." + f.Ext
		err = b.c.Progress.Do("convert", file, func() (int64, error) {
			to := filepath.Join(b.c.Out, file)
			made, err := format.Artifact{}, error(nil)
			if name == "raw" {
				// The disk's own name goes, so this one may share its bytes.
				made, err = format.Link(ctx, raw, to)
			} else {
				made, err = format.Convert(ctx, f, raw, to, format.Options{Clusters: cache.ClustersPath(b.c.Cache)})
			}
			if err != nil {
				return 0, err
			}
			b.wrote = append(b.wrote, to)
			artifacts = append(artifacts, Artifact{Platform: d.Platform, Format: name, File: file, Size: made.Size, SHA256: made.SHA256, Key: key})
			return made.Size, nil
		})
		if err != nil {
			return nil, err
		}
	}
	return artifacts, nil
}

func (b *baking) diskOptions(d Disk) disk.Options {
	return disk.Options{Arch: b.plan.Arch, IDs: disk.Derive(b.plan.Release), Label: "root", Time: b.plan.Epoch, Size: d.Size, Free: d.Free}
}

// find returns the artifact of an earlier bake that was made from the disk
// with this key, when its file is still there.
func (r *Result) find(out, formatName, key string) *Artifact {
	if r == nil {
		return nil
	}
	for _, a := range r.Artifacts {
		if a.Format != formatName || a.Key != key {
			continue
		}
		if info, err := os.Stat(filepath.Join(out, a.File)); err == nil && info.Size() == a.Size {
			return &a
		}
	}
	return nil
}

func encodeManifest(r *Result) ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding manifest: %w", err)
	}
	return append(b, '\n'), nil
}

func writeManifest(out string, manifest []byte) error {
	if err := output.WriteFile(filepath.Join(out, ManifestName), manifest); err != nil {
		return fmt.Errorf("writing manifest: %w", err)
	}
	return nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
