package evidence

import "strings"

// Provenance says what the artifacts were made from, as an in-toto Statement v1
// (https://in-toto.io/Statement/v1) with SLSA provenance v1
// (https://slsa.dev/spec/v1.0/provenance). Times of the bake are left out: equal
// bakes say equal things.
func (b *Bake) Provenance() ([]byte, error) {
	s := statement{Type: "https://in-toto.io/Statement/v1", PredicateType: "https://slsa.dev/provenance/v1"}
	for _, a := range b.Artifacts {
		s.Subject = append(s.Subject, descriptor{Name: a.Name, Digest: sha256Digest(a.SHA256)})
	}
	s.Predicate.Definition.BuildType = buildType
	s.Predicate.Definition.External = parameters{Recipe: recipeParameter{Name: b.Name, Version: b.Version, Arch: b.Arch, Suite: b.Suite, Digest: sha256Digest(b.Recipe)}}
	deps := []descriptor{{Name: "lock", Digest: sha256Digest(b.Lock)}}
	for _, p := range b.Packages {
		deps = append(deps, descriptor{Name: p.Name, URI: debURL(b.Suite, p.Name, p.Version, p.Arch), Digest: sha256Digest(p.SHA256), Location: public(p.URI)})
	}
	for _, i := range b.Images {
		deps = append(deps, descriptor{Name: i.Name, URI: ociURL(i), Digest: sha256Digest(strings.TrimPrefix(i.Manifest, "sha256:"))})
	}
	s.Predicate.Definition.Dependencies = deps
	s.Predicate.Details.Builder = builder{ID: builderID, Version: map[string]string{"prose-image": b.Tool}}
	s.Predicate.Details.Metadata = metadata{Invocation: b.Release}
	return encode("provenance", s)
}

const (
	builderID = "https://github.com/prose-im/prose-image"
	buildType = builderID + "/blob/main/docs/evidence.md#bake-v1"
)

type statement struct {
	Type          string       `json:"_type"`
	Subject       []descriptor `json:"subject"`
	PredicateType string       `json:"predicateType"`
	Predicate     struct {
		Definition definition `json:"buildDefinition"`
		Details    details    `json:"runDetails"`
	} `json:"predicate"`
}

// A descriptor is in-toto's ResourceDescriptor.
type descriptor struct {
	Name     string            `json:"name"`
	URI      string            `json:"uri,omitempty"`
	Digest   map[string]string `json:"digest"`
	Location string            `json:"downloadLocation,omitempty"`
}

type definition struct {
	BuildType    string       `json:"buildType"`
	External     parameters   `json:"externalParameters"`
	Dependencies []descriptor `json:"resolvedDependencies"`
}

type parameters struct {
	Recipe recipeParameter `json:"recipe"`
}

type recipeParameter struct {
	Name    string            `json:"name"`
	Version string            `json:"version"`
	Arch    string            `json:"arch"`
	Suite   string            `json:"suite"`
	Digest  map[string]string `json:"digest"`
}

type details struct {
	Builder  builder  `json:"builder"`
	Metadata metadata `json:"metadata"`
}

type builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version"`
}

type metadata struct {
	Invocation string `json:"invocationId"`
}

func sha256Digest(hex string) map[string]string { return map[string]string{"sha256": hex} }
