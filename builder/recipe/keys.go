package recipe

import (
	"slices"
	"strings"
)

// A Kind is the form of a key's value.
type Kind string

// The forms of values.
const (
	String  Kind = "string"
	Strings Kind = "list of strings"
	Table   Kind = "table of strings"
	Bytes   Kind = `size, such as "512MiB"`
)

// A Key is one key of a recipe.
type Key struct {
	Name    string // dotted
	Kind    Kind
	Default string   // as TOML; empty for none
	Doc     string   // one sentence and its fragment, no full stop
	OneOf   []string // allowed values; nil: see check
	Others  string   // why there is no other value, for the hint; empty: nothing to say

	field func(*Recipe) any
	check func(value string) *problem
}

// Keys lists every key a recipe may have, in the order of the starter.
var Keys = []Key{
	{Name: "name", Kind: String, Default: `"prose"`, Doc: "name of the image; file names begin with it",
		field: func(r *Recipe) any { return &r.Name }, check: checkWord},
	{Name: "version", Kind: String, Default: `"0"`, Doc: "version of the image; file names go on with it",
		field: func(r *Recipe) any { return &r.Version }, check: checkWord},
	{Name: "arch", Kind: String, Default: `"amd64"`, Doc: "architecture; arm64 boots by UEFI only", OneOf: []string{"amd64", "arm64"},
		field: func(r *Recipe) any { return &r.Arch }},
	{Name: "platforms", Kind: Strings, Default: `["generic"]`, Doc: "what the image boots on; one disk for each", OneOf: Platforms,
		field: func(r *Recipe) any { return &r.Platforms }},
	{Name: "overlays", Kind: Strings, Default: `[]`, Doc: "directories of files of your own to lay over the image; owners are root, modes as they are on disk",
		field: func(r *Recipe) any { return &r.Overlays }, check: checkPath},
	{Name: "formats", Kind: Strings, Default: `["qcow2"]`, Doc: "formats of the artifacts", OneOf: Formats,
		field: func(r *Recipe) any { return &r.Formats }},

	{Name: "base.suite", Kind: String, Default: `"trixie"`, Doc: "Debian suite", OneOf: []string{"trixie"},
		Others: "the Pod needs Docker 26 and Compose 2.24, which Debian 12 and Ubuntu have only in Docker's own repository: that is not supported yet",
		field:  func(r *Recipe) any { return &r.Suite }},
	{Name: "base.kernel", Kind: String, Default: `"cloud"`, Doc: "kernel: cloud is smaller, generic also has drivers for hardware", OneOf: []string{"cloud", "generic"},
		field: func(r *Recipe) any { return &r.Kernel }},
	{Name: "base.mirrors", Kind: Strings, Default: `[]`, Doc: "package mirrors, as addresses or one-line apt sources, of which [signed-by=FILE] names the key (the image looks for it at the same path: put it there with an overlay); none means the suite's own",
		field: func(r *Recipe) any { return &r.Mirrors }, check: checkFilled},
	{Name: "base.packages", Kind: Strings, Default: `[]`, Doc: "packages beyond those of the appliance",
		field: func(r *Recipe) any { return &r.Packages }, check: checkPackage},
	{Name: "base.run", Kind: Strings, Default: `[]`, Doc: "scripts to run in the image after its packages are installed, as root and without a network",
		field: func(r *Recipe) any { return &r.Run }, check: checkPath},

	{Name: "pod.bundle", Kind: String, Default: `"default"`, Doc: `the Pod's compose file and templates: "default", "2025", or a directory`,
		field: func(r *Recipe) any { return &r.Bundle }, check: checkFilled},
	{Name: "pod.images", Kind: Table, Default: ``, Doc: "container images to use instead of the bundle's, by the bundle's name of each",
		field: func(r *Recipe) any { return &r.Images }, check: checkFilled},
	{Name: "pod.mirror", Kind: Table, Default: ``, Doc: `where to pull images from: an image name, or its beginning up to a slash, to a registry and path, or to "oci:DIRECTORY"`,
		field: func(r *Recipe) any { return &r.Mirror }, check: checkFilled},

	{Name: "disk.free", Kind: Bytes, Default: `"256MiB"`, Doc: "space left free in the root file system; it also grows at boot to what the disk has",
		field: func(r *Recipe) any { return &r.Free }},
	{Name: "disk.size", Kind: Bytes, Default: `"0"`, Doc: "least size of the disk; 0 is as small as fits",
		field: func(r *Recipe) any { return &r.Size }},
}

// Platforms and Formats are the names that the rest of the program knows; its
// tables are checked against them by a test.
var (
	Platforms = []string{"generic", "akamai", "aws", "azure", "digitalocean", "exoscale", "gce", "hetzner", "openstack", "oracle", "proxmox", "scaleway", "upcloud", "vmware", "vultr"}
	Formats   = []string{"raw", "qcow2", "raw.zst", "raw.gz"}
)

// find returns the key called name, or the table key that name lies in.
func find(name []string) (key *Key, member string) {
	for i := range Keys {
		k := &Keys[i]
		parts := strings.Split(k.Name, ".")
		switch {
		case slices.Equal(parts, name):
			return k, ""
		case k.Kind == Table && len(name) == len(parts)+1 && slices.Equal(parts, name[:len(parts)]):
			return k, name[len(parts)]
		}
	}
	return nil, ""
}
