package builder

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/recipe"
	"github.com/prose-im/prose-image/builder/tree"
)

// A Plan is what a bake will do: the layers in order, the disks and the
// formats. It is pure data, made from the inputs alone; equal inputs give equal
// plans.
type Plan struct {
	Name    string
	Version string
	Arch    string
	Release Key       // hash of recipe and lock; ids on the disk derive from it
	Epoch   time.Time // SOURCE_DATE_EPOCH
	Layers  []Layer   // those every platform shares
	Disks   []Disk
}

// A Disk is one bootable disk: the shared layers and those of its platform.
type Disk struct {
	Platform string
	Layers   []Layer
	Free     int64    // bytes left free in the root file system
	Size     int64    // least size in bytes
	Formats  []string // of its artifacts
}

// A Layer is one layer to make: of what kind, and from what.
type Layer struct {
	Kind   string
	Inputs []Input
	Reads  []string // files of the layers below that it reads
	// ReadsAll says that it looks at everything below, so that it is made anew
	// when any layer below changes.
	ReadsAll bool
}

// An Input is one thing that a layer is made from.
type Input = cache.Input

// text is an input whose value is its own sum.
func text(name, value string) Input { return Input{Name: name, Value: value, Sum: value} }

// content is an input shown by its size and counted by its hash.
func content(name string, b []byte) Input {
	sum := sha256.Sum256(b)
	return Input{Name: name, Value: fmt.Sprintf("%d bytes, sha256 %.12x…", len(b), sum), Sum: hex.EncodeToString(sum[:])}
}

// epoch is the input of every layer that has times of its own.
func epoch(p *Plan) Input { return text("epoch", fmt.Sprint(p.Epoch.Unix())) }

// NewPlan lists what a bake of in does, in order.
func NewPlan(in *Inputs) (*Plan, error) {
	release, err := releaseID(in.Recipe, in.Lock)
	if err != nil {
		return nil, err
	}
	p := &Plan{Name: in.Recipe.Name, Version: in.Recipe.Version, Arch: in.Recipe.Arch, Release: release, Epoch: in.Lock.Date}
	for _, k := range kinds {
		if k.perPlatform {
			continue
		}
		p.Layers = append(p.Layers, k.plan(in, p, ""))
	}
	for _, platform := range in.Recipe.Platforms {
		d := Disk{Platform: platform, Free: in.Recipe.Free, Size: in.Recipe.Size, Formats: in.Recipe.Formats}
		for _, k := range kinds {
			if k.perPlatform {
				d.Layers = append(d.Layers, k.plan(in, p, platform))
			}
		}
		p.Disks = append(p.Disks, d)
	}
	return p, nil
}

// releaseID hashes what a recipe means, not how it is written, and its lock.
func releaseID(r *recipe.Recipe, l *Lock) (Key, error) {
	sum, err := l.Sum()
	if err != nil {
		return Key{}, err
	}
	meaning := *r
	meaning.Dir = ""     // where it lies
	meaning.Mirror = nil // where the same content comes from
	meaning.Mirrors = nil
	meaning.Formats = nil // how the same disk is wrapped
	h := newHash("release")
	h.add("recipe", fmt.Sprintf("%+v", meaning))
	h.add("lock", hex.EncodeToString(sum[:]))
	return h.sum(), nil
}

// resolved are all inputs of the layer: those that the plan knows, and what it
// reads of the tree below.
func (l Layer) resolved(below *tree.Tree, lower []lowerLayer) ([]Input, error) {
	inputs := []Input{text("revision", fmt.Sprint(lookupKind(l.Kind).revision))}
	inputs = append(inputs, l.Inputs...)
	for _, path := range l.Reads {
		b, err := below.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("planning layer %s: %w", l.Kind, err)
		}
		inputs = append(inputs, content(path, b))
	}
	if l.ReadsAll {
		for _, below := range lower {
			inputs = append(inputs, Input{Name: "layer " + below.kind, Value: below.key.String(), Sum: below.key.String()})
		}
	}
	return inputs, nil
}

// A lowerLayer is a layer that others are laid over.
type lowerLayer struct {
	kind string
	key  Key
}

// layerKey names a layer by all its inputs.
func layerKey(kind string, inputs []Input) Key {
	h := newHash("layer " + kind)
	for _, in := range inputs {
		h.add(in.Name, in.Sum)
	}
	return h.sum()
}

// Text shows the plan to people.
func (p *Plan) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s for %s, release %.16s, times at %s\n", p.Name, p.Version, p.Arch, p.Release, p.Epoch.Format(time.RFC3339))
	writeLayers(&b, p.Layers)
	for _, d := range p.Disks {
		fmt.Fprintf(&b, "disk %s as %s\n", d.Platform, strings.Join(d.Formats, ", "))
		writeLayers(&b, d.Layers)
	}
	return b.String()
}

func writeLayers(w io.Writer, layers []Layer) {
	for _, l := range layers {
		fmt.Fprintf(w, "  layer %s\n", l.Kind)
		for _, in := range l.Inputs {
			fmt.Fprintf(w, "    %-12s %s\n", in.Name, in.Value)
		}
		if len(l.Reads) > 0 {
			fmt.Fprintf(w, "    %-12s %s\n", "reads", strings.Join(l.Reads, " "))
		}
		if l.ReadsAll {
			fmt.Fprintf(w, "    %-12s every layer below\n", "reads")
		}
	}
}

// A hash hashes named values so that no two lists of them run together.
type hash struct{ b []byte }

func newHash(domain string) *hash {
	h := &hash{}
	h.add("prose-image", domain)
	return h
}

func (h *hash) add(name, value string) {
	for _, s := range []string{name, value} {
		h.b = binary.AppendUvarint(h.b, uint64(len(s)))
		h.b = append(h.b, s...)
	}
}

func (h *hash) sum() Key { return sha256.Sum256(h.b) }
