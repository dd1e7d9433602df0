package builder

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// manifestSchema is the documented form of a manifest.
func manifestSchema(t *testing.T) (*jsonschema.Schema, string) {
	t.Helper()
	const path = "../docs/manifest.schema.json"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jsonschema.NewCompiler().Compile(path)
	if err != nil {
		t.Fatal(err)
	}
	return s, string(text)
}

// The manifest is what is documented, to the byte, and nothing else passes.
func TestManifestIsWhatIsDocumented(t *testing.T) {
	schema, text := manifestSchema(t)
	sum := func(s string) string { return strings.Repeat(s, 64) }
	r := &Result{Schema: 1, Name: "prose", Version: "0", Arch: "amd64", Release: sum("a"), Recipe: sum("b"), Lock: sum("c"), Tool: "v1.0.0", Date: time.Unix(1700000000, 0).UTC(),
		Artifacts: []Artifact{{Platform: "generic", Format: "qcow2", File: "prose-0-generic-amd64.qcow2", Size: 4096, SHA256: sum("d"), Key: sum("e")}}}
	for _, k := range kinds {
		m := Made{Kind: k.name, Key: sum("f"), Entries: 1, SHA256: sum("9"), Cached: true}
		if k.perPlatform {
			m.Platform = "generic"
		}
		r.Layers = append(r.Layers, m)
		if !strings.Contains(text, `"`+k.name+`"`) {
			t.Errorf("the schema has no layer %s", k.name)
		}
	}
	got, err := encodeManifest(r)
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/manifest.json"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	judge := func(b []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}
	if err := judge(got); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(m map[string]any){
		"a key more":         func(m map[string]any) { m["more"] = 1 },
		"a key less":         func(m map[string]any) { delete(m, "lock") },
		"another schema":     func(m map[string]any) { m["schema"] = 2 },
		"a short hash":       func(m map[string]any) { m["release"] = "abc" },
		"a path as a file":   func(m map[string]any) { m["artifacts"].([]any)[0].(map[string]any)["file"] = "../x" },
		"an unknown layer":   func(m map[string]any) { m["layers"].([]any)[0].(map[string]any)["kind"] = "x" },
		"an artifact's size": func(m map[string]any) { m["artifacts"].([]any)[0].(map[string]any)["size"] = "big" },
	} {
		var m map[string]any
		if err := json.Unmarshal(got, &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if judge(b) == nil {
			t.Errorf("%s passes", name)
		}
	}
}
