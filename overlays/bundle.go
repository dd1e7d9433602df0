package overlays

import (
	"fmt"
	"path"
)

// PodDir is where a Pod bundle lies in the image, root's alone.
const PodDir = "usr/lib/prose/pod"

// ImagesFile is the Compose file that the builder writes beside a bundle: each
// service's image with its digest.
const ImagesFile = PodDir + "/compose.images.yaml"

// Placeholder is what stands for the domain in a bundle's templates, as in
// upstream's own.
const Placeholder = "{your_domain}"

// A bundle is the files of one generation of the Pod. What runs beside Compose
// is the same for all.
type bundle struct {
	name string
	rows []bundleRow
}

// A bundleRow takes a file of [PodDir] from the directory that has it.
type bundleRow struct{ name, from string }

var bundles = []bundle{
	// Upstream's current architecture.
	{"default", []bundleRow{
		{"api.env", "pod"},
		{"compose.env", "pod"},
		{"compose.override.yaml", "pod"},
		{"compose.yaml", "pod"},
		{"prose.toml.tmpl", "pod"},
		{"server.env", "pod"},
	}},
	// The guide of June 2025, with the override of today.
	{"2025", []bundleRow{
		{"api.env", "pod-2025"},
		{"compose.env", "pod"},
		{"compose.override.yaml", "pod"},
		{"compose.yaml", "pod-2025"},
		{"prose.toml.tmpl", "pod-2025"},
		{"server.env", "pod-2025"},
	}},
}

func (b bundle) files() ([]File, error) {
	out := []File{{Path: PodDir, Type: Dir, Mode: 0o755}}
	for _, r := range b.rows {
		c, err := content.ReadFile(path.Join(r.from, r.name))
		if err != nil {
			return nil, fmt.Errorf("reading bundle %q: %w", b.name, err)
		}
		out = append(out, File{Path: path.Join(PodDir, r.name), Mode: 0o644, Content: c})
		if r.name == "compose.yaml" {
			// For the owner to read, where the guide has it. Nothing obeys it.
			out = append(out, File{Path: "etc/prose/compose.yaml", Mode: 0o644, UID: prose.uid, GID: prose.gid, Content: c})
		}
	}
	sortFiles(out)
	return out, nil
}
