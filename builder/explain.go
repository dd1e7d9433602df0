package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/tree"
)

// The states of a layer before a bake.
const (
	LayerCached  = "cached"  // a bake uses it
	LayerMissing = "missing" // a bake makes it
	LayerWaits   = "waits"   // it reads layers that are to be made first
)

// An Explanation says whether a bake would make a layer, and why.
type Explanation struct {
	Layer    string   `json:"layer"`
	Platform string   `json:"platform,omitempty"`
	Key      string   `json:"key,omitempty"` // empty: not known yet
	State    string   `json:"state"`
	Reasons  []string `json:"reasons"` // how it differs from the last used layer of its kind
}

// An UnknownLayerError is a name that no layer of a recipe has.
type UnknownLayerError struct{ Name string }

func (e *UnknownLayerError) Error() string { return fmt.Sprintf("%q is no layer", e.Name) }

// Hint lists those that there are.
func (e *UnknownLayerError) Hint() string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return "the layers are " + strings.Join(names, ", ")
}

// Explain says of each layer of a locked recipe, or of those with one name,
// whether it is cached and, when it is not, what differs from the layer of its
// kind that was used last. It writes nothing but the notes of use.
func Explain(ctx context.Context, c Config, only string) ([]Explanation, error) {
	if only != "" && !slices.ContainsFunc(kinds, func(k kind) bool { return k.name == only }) {
		return nil, &UnknownLayerError{only}
	}
	if err := c.fill(); err != nil {
		return nil, err
	}
	release, err := cache.Use(ctx, c.Cache)
	if err != nil {
		return nil, err
	}
	defer release()
	c.Offline = true // no lock is made
	in, err := load(ctx, &c)
	if err != nil {
		return nil, err
	}
	plan, err := NewPlan(in)
	if err != nil {
		return nil, err
	}
	known, err := cache.Layers(c.Cache)
	if err != nil {
		return nil, err
	}
	e := &explaining{dir: c.Cache, known: known, baking: baking{c: c, in: in, plan: plan, tree: tree.New()}}
	defer func() { e.close() }()
	for _, l := range plan.Layers {
		if err := e.layer(l, ""); err != nil {
			return nil, err
		}
	}
	shared := *e
	for i, d := range plan.Disks {
		own, err := shared.branch(i == len(plan.Disks)-1)
		if err != nil {
			return nil, err
		}
		own.open = e.open
		e.baking = *own
		e.waits = shared.waits
		for _, l := range d.Layers {
			if err := e.layer(l, d.Platform); err != nil {
				return nil, err
			}
		}
	}
	if only == "" {
		return e.list, nil
	}
	return slices.DeleteFunc(e.list, func(x Explanation) bool { return x.Layer != only }), nil
}

// explaining walks the layers as a bake does, as far as they are cached.
type explaining struct {
	baking
	dir   string
	known []cache.Layer
	waits []string // layers below that are not cached
	list  []Explanation
}

func (e *explaining) layer(l Layer, platform string) error {
	x := Explanation{Layer: l.Kind, Platform: platform, State: LayerMissing, Reasons: []string{}}
	known := l
	if len(e.waits) > 0 && (len(l.Reads) > 0 || l.ReadsAll) {
		// What it reads is not there yet; the rest can be compared.
		x.State = LayerWaits
		x.Reasons = append(x.Reasons, "it reads layers that are to be made first: "+strings.Join(e.waits, ", "))
		known.Reads, known.ReadsAll = nil, false
	}
	inputs, err := known.resolved(e.tree, e.keys)
	if err != nil {
		return err
	}
	if x.State == LayerMissing {
		key := layerKey(l.Kind, inputs)
		x.Key = key.String()
		found, err := openLayer(e.dir, l.Kind, key)
		var damaged *cache.DamagedError
		switch {
		case err == nil:
			e.open = append(e.open, found)
			e.keys = append(e.keys[:len(e.keys):len(e.keys)], lowerLayer{l.Kind, key})
			e.layers = append(e.layers[:len(e.layers):len(e.layers)], found)
			x.State = LayerCached
			e.list = append(e.list, x)
			if len(e.waits) > 0 {
				return nil // its parents may be missing; who reads the tree waits
			}
			return e.tree.Add(found.Layer)
		case errors.As(err, &damaged):
			x.Reasons = append(x.Reasons, "the cached one is damaged: "+damaged.Why)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	e.waits = append(e.waits[:len(e.waits):len(e.waits)], l.Kind)
	if last := e.last(l.Kind, platform, inputs); last == nil {
		x.Reasons = append(x.Reasons, "no layer of its kind is cached")
	} else {
		x.Reasons = append(x.Reasons, differences(last.Inputs, inputs, x.State == LayerWaits)...)
	}
	e.list = append(e.list, x)
	return nil
}

// last is the layer of a kind that was used last. One for another architecture
// differs in every package, which explains nothing.
func (e *explaining) last(kind, platform string, inputs []Input) *cache.Layer {
	var last *cache.Layer
	for i, l := range e.known {
		if l.Kind == kind && l.Platform == platform && slices.EqualFunc(named(l.Inputs, "arch"), named(inputs, "arch"), sameValue) && (last == nil || l.Used.After(last.Used)) {
			last = &e.known[i]
		}
	}
	return last
}

func sameValue(a, b Input) bool { return a.Value == b.Value }
