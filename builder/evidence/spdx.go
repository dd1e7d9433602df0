package evidence

import (
	"strings"
	"time"
)

// SBOM lists the Debian packages and container images of the image, as SPDX 2.3
// in JSON (https://spdx.github.io/spdx-spec/v2.3/).
func (b *Bake) SBOM() ([]byte, error) {
	const image = "SPDXRef-Image"
	d := spdxDocument{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: b.Stem(),
		Namespace: "https://github.com/prose-im/prose-image/spdx/" + escape(b.Stem()) + "-" + b.Release,
		Creation:  spdxCreation{Created: b.Date.UTC().Format(time.RFC3339), Creators: []string{"Tool: prose-image-" + b.Tool}},
	}
	d.add("SPDXRef-DOCUMENT", "DESCRIBES", spdxPackage{ID: image, Name: b.Name, Version: b.Version, Download: noAssertion, Purpose: "OPERATING-SYSTEM"})
	files := map[[3]string]Package{}
	for _, p := range b.Packages {
		files[[3]string{p.Name, p.Version, p.Arch}] = p
	}
	for _, i := range b.Installed {
		p := spdxPackage{ID: "SPDXRef-Package-" + spdxID(i.Name+"-"+i.Arch), Name: i.Name, Version: i.Version, Download: noAssertion,
			Purpose: "INSTALL", Source: "built from the source package " + i.Source}
		if f, ok := files[[3]string{i.Name, i.Version, i.Arch}]; ok {
			if at := public(f.URI); at != "" {
				p.Download = at
			}
			p.Checksums = []spdxChecksum{{"SHA256", f.SHA256}}
			p.References = purl(debURL(b.Suite, i.Name, i.Version, i.Arch))
		} else {
			// Not of an archive: ours.
			p.References = purl("pkg:generic/" + escape(i.Name) + "@" + escape(i.Version))
		}
		d.add(image, "CONTAINS", p)
	}
	for _, i := range b.Images {
		name, tag := i.split()
		d.add(image, "CONTAINS", spdxPackage{ID: "SPDXRef-Container-" + spdxID(name) + "-" + strings.TrimPrefix(i.Manifest, "sha256:"), Name: name, Version: tag,
			Download: noAssertion, Purpose: "CONTAINER", Checksums: []spdxChecksum{{"SHA256", strings.TrimPrefix(i.Manifest, "sha256:")}}, References: purl(ociURL(i))})
	}
	return encode("SBOM", d)
}

// noAssertion says that the document says nothing.
const noAssertion = "NOASSERTION"

type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	License       string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID         string          `json:"SPDXID"`
	Name       string          `json:"name"`
	Version    string          `json:"versionInfo,omitempty"`
	Purpose    string          `json:"primaryPackagePurpose"`
	Download   string          `json:"downloadLocation"`
	Analyzed   bool            `json:"filesAnalyzed"`
	Source     string          `json:"sourceInfo,omitempty"`
	Concluded  string          `json:"licenseConcluded"`
	Declared   string          `json:"licenseDeclared"`
	Copyright  string          `json:"copyrightText"`
	Checksums  []spdxChecksum  `json:"checksums,omitempty"`
	References []spdxReference `json:"externalRefs,omitempty"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxReference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

func (d *spdxDocument) add(from, relationship string, p spdxPackage) {
	p.Concluded, p.Declared, p.Copyright = noAssertion, noAssertion, noAssertion
	d.Packages = append(d.Packages, p)
	d.Relationships = append(d.Relationships, spdxRelationship{from, relationship, p.ID})
}

func purl(locator string) []spdxReference {
	return []spdxReference{{"PACKAGE-MANAGER", "purl", locator}}
}

// spdxID writes a name with what identifiers may have: letters, digits, "." and
// "-". Names of packages and images are in small letters, so that "P" for "+",
// "U" for "_" and "S" for the rest make no two of them one.
func spdxID(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '-':
			return r
		case r == '+':
			return 'P'
		case r == '_':
			return 'U'
		}
		return 'S'
	}, name)
}
