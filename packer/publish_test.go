package packer

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hcldec"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/prose-im/prose-image/builder"
)

// The post-processor's schema is what its documentation lists.
func TestEveryAttributeOfPublishIsDocumented(t *testing.T) {
	want := map[string]bool{}
	for _, a := range ofPublish {
		want[a.name] = true
	}
	got := map[string]bool{}
	for name := range hcldec.ImpliedType((&Publisher{}).ConfigSpec()).AttributeTypes() {
		if !strings.HasPrefix(name, "packer_") {
			got[name] = true
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

func TestPublishIsChecked(t *testing.T) {
	for body, want := range map[string]string{
		"":                     "target: it is missing",
		"gopher://example.org": "target: \"gopher://example.org\" is no target",
	} {
		if err := new(Publisher).Configure(map[string]any{"target": body}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", body, err, want)
		}
	}
	if err := new(Publisher).Configure(map[string]any{"target": t.TempDir(), "chanel": "x"}); err == nil || !strings.Contains(err.Error(), "chanel") {
		t.Errorf("an unknown attribute: %v", err)
	}
}

// baked is a bake that a test makes by hand: one file and its manifest.
func baked(t *testing.T, content string) *Artifact {
	t.Helper()
	dir := t.TempDir()
	r := &builder.Result{Schema: 1, Name: "prose", Version: "1.0", Arch: "amd64", Release: strings.Repeat("0a", 32), Artifacts: []builder.Artifact{{
		Platform: "generic", Format: "raw", File: "prose-1.0-generic-amd64.raw", Size: int64(len(content)), SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(content))), Key: "k"}}}
	b, err := json.Marshal(r)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, builder.ManifestName), b, 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, r.Artifacts[0].File), []byte(content), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &Artifact{dir: dir, result: r, data: map[string]any{"Manifest": filepath.Join(dir, builder.ManifestName)}}
}

func TestPublish(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	target := t.TempDir()
	publisher := func() *Publisher {
		p := &Publisher{}
		if err := p.Configure(map[string]any{"target": target}); err != nil {
			t.Fatal(err)
		}
		return p
	}
	a := baked(t, "a disk")
	for range 2 { // the second finds it there
		to, keep, force, err := publisher().PostProcess(t.Context(), packersdk.TestUi(t), a)
		if err != nil || to != packersdk.Artifact(a) || !keep || !force {
			t.Fatalf("%v %v %v %v", to, keep, force, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(target, "prose/1.0/prose-1.0-generic-amd64.raw"))
	if err != nil || string(b) != "a disk" {
		t.Errorf("%q %v", b, err)
	}
	if _, _, _, err := publisher().PostProcess(t.Context(), packersdk.TestUi(t), baked(t, "b disk")); err == nil || !strings.Contains(err.Error(), "other bytes") {
		t.Errorf("other bytes under the same version: %v", err)
	}
	other := &packersdk.MockArtifact{BuilderIdValue: "null"}
	if _, _, _, err := publisher().PostProcess(t.Context(), packersdk.TestUi(t), other); err == nil || !strings.Contains(err.Error(), "of null") {
		t.Errorf("somebody else's artifact: %v", err)
	}
}
