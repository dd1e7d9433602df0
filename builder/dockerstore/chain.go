package dockerstore

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
)

// A chain is a layer on its ancestors: what the engine calls a layer.
type chain struct {
	Layer
	id     string // ChainID
	parent *chain
}

func (c *chain) cacheID() string {
	sum := c.sum()
	return hex.EncodeToString(sum[:])
}

// link is the short name of the layer's diff in mount options, which have to
// fit into a page.
func (c *chain) link() string {
	sum := c.sum()
	return base32.StdEncoding.EncodeToString(sum[:])[:26]
}

func (c *chain) sum() [sha256.Size]byte { return sha256.Sum256([]byte("prose-image overlay2 " + c.id)) }

// plan lists each chain once, parents first, and for each blob the names of the
// repositories that have it.
func plan(images []*image) ([]*chain, map[Layer][]string) {
	var chains []*chain
	known := map[string]*chain{}
	blobs := map[Layer][]string{}
	for _, i := range images {
		var parent *chain
		for _, l := range i.Layers {
			blobs[l] = append(blobs[l], i.ref.Name())
			id := l.DiffID
			if parent != nil {
				id = digestOf([]byte(parent.id + " " + l.DiffID))
			}
			c := known[id]
			if c == nil {
				c = &chain{Layer: l, id: id, parent: parent}
				known[id] = c
				chains = append(chains, c)
			}
			parent = c
		}
	}
	return chains, blobs
}
