// Package evidence writes what is said of a bake beside its artifacts, for those
// who did not see it: what is in the image, what it was made from, and that the
// files are those that were made. Equal bakes give equal bytes.
package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A Bake is what evidence is about.
type Bake struct {
	Name, Version string
	Arch          string // Debian's name
	Suite         string
	Release       string    // id, hex
	Date          time.Time // of the lock
	Recipe, Lock  string    // sha256, hex
	Tool          string    // version of the program
	Installed     []Installed
	Packages      []Package // of the lock
	Images        []Image
	Artifacts     []File
}

// A Package is a Debian package file that was installed.
type Package struct {
	Name, Version, Arch string
	SHA256              string // hex
	URI                 string // where it was found
}

// An Image is a container image.
type Image struct {
	Name     string // with its tag
	Digest   string // sha256:HEX of what the name meant, an index or a manifest
	Manifest string // sha256:HEX of the manifest for the image's architecture
}

// A File is a file and its hash.
type File struct {
	Name   string
	SHA256 string // hex
}

// SumsName is the file of hashes, and SignatureName its signature.
const (
	SumsName      = "SHA256SUMS"
	SignatureName = SumsName + ".sig"
)

// SBOMName and ProvenanceName are files of a bake.
func (b *Bake) SBOMName() string       { return b.Stem() + ".spdx.json" }
func (b *Bake) ProvenanceName() string { return b.Stem() + ".intoto.json" }

// Stem begins the names of files that are of this bake alone.
func (b *Bake) Stem() string { return b.Name + "-" + b.Version + "-" + b.Arch }

// Sums are the hashes of files as sha256sum(1) reads them.
func Sums(files []File) []byte {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	var out bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&out, "%s  %s\n", f.SHA256, f.Name)
	}
	return out.Bytes()
}

// ParseSums reads what [Sums] writes.
func ParseSums(text []byte) (files []File, err error) {
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if b, err := hex.DecodeString(sum); !ok || err != nil || len(b) != sha256.Size || name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("line %d is not HASH  FILE", n)
		}
		files = append(files, File{Name: name, SHA256: sum})
	}
	return files, nil
}

// Package URLs are of https://github.com/package-url/purl-spec, types deb and oci.

func debURL(suite, name, version, arch string) string {
	return fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s&distro=%s", escape(name), escape(version), escape(arch), escape(suite))
}

func ociURL(i Image) string {
	name, tag := i.split()
	short := name[strings.LastIndexByte(name, '/')+1:]
	u := fmt.Sprintf("pkg:oci/%s@%s?repository_url=%s", escape(short), strings.ReplaceAll(i.Manifest, ":", "%3A"), escape(name))
	if tag != "" {
		u += "&tag=" + escape(tag)
	}
	return u
}

// split separates a name from its tag; a digest in the name is left out.
func (i Image) split() (name, tag string) {
	name, _, _ = strings.Cut(i.Name, "@")
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
		return name[:at], name[at+1:]
	}
	return name, ""
}

func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "%3A", ":") }

// public takes user and password out of an address.
func public(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	u.User = nil
	return u.String()
}

func encode(what string, v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding the %s: %w", what, err)
	}
	return out.Bytes(), nil
}
