package builder

import (
	"context"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// A kind is a kind of layer: how it is planned and how it is made.
type kind struct {
	name        string
	revision    int // counted up when make gives something else for equal inputs
	perPlatform bool
	alone       bool // make looks at nothing below
	plan        func(in *Inputs, p *Plan, platform string) Layer
	make        func(ctx context.Context, m *making) error
}

// making is what a kind is given to make one layer.
type making struct {
	in       *Inputs
	plan     *Plan
	platform string
	cache    string
	offline  bool
	below    *tree.Tree // the layers below, merged; not to be changed
	// create begins the layer; deletions are paths to remove from below.
	create createFunc
}

type createFunc func(deletions []string) (*layer.Writer, error)

// kinds lists the layers in order, later over earlier.
var kinds = []kind{base, containers, accounts, files, agent, platform, scrub}

func lookupKind(name string) kind {
	for _, k := range kinds {
		if k.name == name {
			return k
		}
	}
	panic("BUG: no layer kind " + name)
}
