package builder

import (
	"fmt"
	"strings"
	"testing"
	"time"

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

// A layer is compared with the last of its own architecture.
func TestExplainArchitectures(t *testing.T) {
	made := func(arch, packages string, used int64) cache.Layer {
		return cache.Layer{Used: time.Unix(used, 0), Record: cache.Record{Kind: "base", Inputs: []Input{text("revision", fmt.Sprint(lookupKind("base").revision)), text("arch", arch), text("packages", packages)}}}
	}
	for name, c := range map[string]struct {
		known []cache.Layer
		want  string
	}{
		"an older one of its own": {[]cache.Layer{made("arm64", "one", 1), made("amd64", "two", 2)}, "packages: one became three"},
		"others alone":            {[]cache.Layer{made("amd64", "two", 2)}, "no layer of its kind is cached"},
	} {
		t.Run(name, func(t *testing.T) {
			e := &explaining{dir: t.TempDir(), known: c.known, baking: baking{tree: tree.New()}}
			if err := e.layer(Layer{Kind: "base", Inputs: []Input{text("arch", "arm64"), text("packages", "three")}}, ""); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(e.list[0].Reasons, "; "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
