package catalog

import (
	"reflect"
	"testing"
)

func TestDecide(t *testing.T) {
	art := func(path, sum string, bake int64) Artifact {
		return Artifact{Path: path, Size: 4, SHA256: sum, bake: bake}
	}
	rel := func(id string, artifacts ...Artifact) Release {
		return Release{Release: id, Name: "prose", Arch: "amd64", Artifacts: artifacts}
	}
	in := func(r Release, channels ...string) Release { r.Channels = channels; return r }
	at := func(r Release) Release { r.References = []Reference{{Target: "aws"}}; return r }
	arm := func(r Release) Release { r.Arch = "arm64"; return r }

	for _, test := range []struct {
		name     string
		releases []Release // newest first
		there    map[string]int64
		keep     int
		want     []string // release or release:path
	}{
		{"all there", []Release{rel("b", art("b", "b", 2)), rel("a", art("a", "a", 1))}, map[string]int64{"a": 4, "b": 4}, -1, nil},
		{"all gone", []Release{rel("b", art("b", "b", 2)), rel("a", art("a", "a", 1))}, nil, -1, []string{"b", "a"}},
		{"one of two gone", []Release{rel("a", art("a.raw", "a", 1), art("a.qcow2", "q", 1))}, map[string]int64{"a.raw": 4}, -1, []string{"a:a.qcow2"}},
		{"a bake of nothing", []Release{rel("a")}, nil, -1, []string{"a"}},
		{"another size", []Release{rel("a", art("a", "a", 1))}, map[string]int64{"a": 5}, -1, []string{"a"}},
		{"overwritten by a newer one", []Release{rel("b", art("x", "b", 2)), rel("a", art("x", "a", 1))}, map[string]int64{"x": 4}, -1, []string{"a"}},
		{"overwritten by an older one baked again", []Release{rel("a", art("x", "a", 3)), rel("b", art("x", "b", 2))}, map[string]int64{"x": 4}, -1, []string{"b"}},
		{"the same bytes twice", []Release{rel("b", art("x", "s", 2)), rel("a", art("x", "s", 1))}, map[string]int64{"x": 4}, -1, nil},
		{"gone, but in a channel or published", []Release{in(rel("b", art("b", "b", 2)), "stable"), at(rel("a", art("a", "a", 1)))}, nil, 0, nil},
		{"keep one", []Release{rel("c", art("c", "c", 3)), rel("b", art("b", "b", 2)), rel("a", art("a", "a", 1))},
			map[string]int64{"a": 4, "b": 4, "c": 4}, 1, []string{"b", "a"}},
		{"keep none", []Release{rel("b", art("b", "b", 2)), in(rel("a", art("a", "a", 1)), "stable")}, map[string]int64{"a": 4, "b": 4}, 0, []string{"b"}},
		{"needed ones are kept beside", []Release{in(rel("c", art("c", "c", 3)), "stable"), rel("b", art("b", "b", 2)), rel("a", art("a", "a", 1))},
			map[string]int64{"a": 4, "b": 4, "c": 4}, 1, []string{"a"}},
		{"gone ones are not kept", []Release{rel("c", art("c", "c", 3)), rel("b", art("b", "b", 2)), rel("a", art("a", "a", 1))},
			map[string]int64{"a": 4, "b": 4}, 1, []string{"c", "a"}},
		{"each architecture by itself", []Release{rel("b", art("b", "b", 2)), arm(rel("a", art("a", "a", 1)))}, map[string]int64{"a": 4, "b": 4}, 1, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, r := range decide(test.releases, test.there, test.keep) {
				s := r.Release
				if r.Path != "" {
					s += ":" + r.Path
				}
				got = append(got, s)
				if r.Why == "" {
					t.Errorf("%s goes without a reason", s)
				}
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("%q go, want %q", got, test.want)
			}
		})
	}
}

func FuzzCheckMetadata(f *testing.F) {
	f.Add([]byte{}, []byte{1})
	f.Add(append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 23)...), []byte(nil))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		dir := t.TempDir()
		writeFile(t, dir, "metadata1", one)
		writeFile(t, dir, "metadata2", two)
		err := checkMetadata(dir)
		if short := len(one) < 32 && len(two) < 32; short && err != nil {
			t.Errorf("files that do not count: %v", err)
		}
	})
}
