package builder

import (
	"strings"
	"testing"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// A cached layer may lie in a directory of one that is to be made first.
func TestExplainOverMissing(t *testing.T) {
	dir := t.TempDir()
	base, over := Layer{Kind: "base"}, Layer{Kind: "containers", Inputs: []Input{text("x", "1")}}
	inputs, err := over.resolved(tree.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = makeLayer(t.Context(), dir, layerKey(over.Kind, inputs), cache.Record{Schema: 1, Kind: over.Kind, Inputs: inputs}, func(create createFunc) error {
		w, err := create(nil)
		if err != nil {
			return err
		}
		return w.Write(layer.Entry{Path: "var/lib/docker", Type: layer.Dir, Mode: 0o710}, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	e := &explaining{dir: dir, baking: baking{tree: tree.New()}}
	defer func() { e.close() }()
	for _, l := range []Layer{base, over, {Kind: "scrub", ReadsAll: true}} {
		if err := e.layer(l, ""); err != nil {
			t.Fatal(err)
		}
	}
	var states []string
	for _, x := range e.list {
		states = append(states, x.Layer+" "+x.State)
	}
	if got := strings.Join(states, ", "); got != "base missing, containers cached, scrub waits" {
		t.Error(got)
	}
}
