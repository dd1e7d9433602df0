package builder

import (
	"context"

	"github.com/prose-im/prose-image/builder/dockerstore"
)

// containers is the Pod's images, in Docker's own store.
var containers = kind{
	name:     "containers",
	revision: 1,
	alone:    true,
	plan: func(in *Inputs, p *Plan, _ string) Layer {
		l := Layer{Kind: "containers", Inputs: []Input{
			text("arch", in.Lock.Arch),
			text("engine", in.Engine),
			epoch(p),
		}}
		for _, i := range in.Lock.Images {
			l.Inputs = append(l.Inputs, Input{Name: "image", Value: i.Name + " " + i.Manifest, Sum: i.Name + " " + i.Digest + " " + i.Manifest})
		}
		return l
	},
	make: func(ctx context.Context, m *making) error {
		pinned := m.in.Lock.pinned()
		source := m.in.images(m.cache)
		source.Offline = m.offline
		for _, p := range pinned {
			if err := source.Fetch(ctx, p); err != nil {
				return err
			}
		}
		w, err := m.create(nil)
		if err != nil {
			return err
		}
		return dockerstore.Write(ctx, w, pinned, dockerstore.Options{Cache: m.cache, Time: m.plan.Epoch})
	},
}

// pinned are the images as the store takes them.
func (l *Lock) pinned() (pinned []dockerstore.Pinned) {
	for _, i := range l.Images {
		pinned = append(pinned, dockerstore.Pinned{Reference: i.Name, Digest: i.Digest, Manifest: i.Manifest})
	}
	return pinned
}
