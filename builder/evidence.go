package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"github.com/prose-im/prose-image/builder/evidence"
	"github.com/prose-im/prose-image/builder/output"
)

// A KeyError is a file that cannot be signed with.
type KeyError = evidence.KeyError

// signer is the key of c, or nil.
func (c *Config) signer() (ssh.Signer, error) {
	if c.Key == "" {
		return nil, nil
	}
	return evidence.ReadKey(c.Key)
}

// evidence writes what is said of the bake beside its artifacts. The manifest
// comes last and is not here yet: its hash is known before.
func (b *baking) evidence(key ssh.Signer, r *Result, manifest []byte) error {
	status, err := b.tree.ReadFile(dpkgStatus)
	if err != nil {
		return fmt.Errorf("listing packages: %w", err)
	}
	of := evidence.Bake{Name: r.Name, Version: r.Version, Arch: r.Arch, Suite: b.in.Lock.Suite, Release: r.Release, Date: r.Date, Recipe: r.Recipe, Lock: r.Lock, Tool: r.Tool}
	if of.Installed, err = evidence.ParseStatus(status); err != nil {
		return fmt.Errorf("listing packages: %w", err)
	}
	for _, p := range b.in.Lock.Packages {
		of.Packages = append(of.Packages, evidence.Package{Name: p.Name, Version: p.Version, Arch: p.Arch, SHA256: p.SHA256, URI: p.URI})
	}
	for _, i := range b.in.Lock.Images {
		of.Images = append(of.Images, evidence.Image{Name: i.Name, Digest: i.Digest, Manifest: i.Manifest})
	}
	for _, a := range r.Artifacts {
		of.Artifacts = append(of.Artifacts, evidence.File{Name: a.File, SHA256: a.SHA256})
	}
	sbom, err := of.SBOM()
	if err != nil {
		return err
	}
	provenance, err := of.Provenance()
	if err != nil {
		return err
	}
	sums := evidence.Sums(append(of.Artifacts, sumOfFile(of.SBOMName(), sbom), sumOfFile(of.ProvenanceName(), provenance), sumOfFile(ManifestName, manifest)))
	for _, f := range []struct {
		name    string
		content []byte
	}{{of.SBOMName(), sbom}, {of.ProvenanceName(), provenance}, {evidence.SumsName, sums}} {
		if err := b.write(f.name, f.content); err != nil {
			return err
		}
	}
	if key == nil {
		return removeFile(filepath.Join(b.c.Out, evidence.SignatureName)) // of an earlier bake
	}
	signature, err := evidence.Sign(key, sums)
	if err != nil {
		return err
	}
	return b.write(evidence.SignatureName, signature)
}

// write writes a small file beside the artifacts.
func (b *baking) write(name string, content []byte) error {
	path := filepath.Join(b.c.Out, name)
	if err := output.WriteFile(path, content); err != nil {
		return fmt.Errorf("writing evidence: %w", output.Explain(err, path, int64(len(content))))
	}
	b.wrote = append(b.wrote, path)
	return nil
}

// Files are the names of all that a bake leaves in its directory; not each bake
// leaves a signature.
func (r *Result) Files() []string {
	var files []string
	for _, a := range r.Artifacts {
		files = append(files, a.File)
	}
	of := evidence.Bake{Name: r.Name, Version: r.Version, Arch: r.Arch}
	return append(files, of.SBOMName(), of.ProvenanceName(), evidence.SumsName, evidence.SignatureName, ManifestName)
}

func sumOfFile(name string, content []byte) evidence.File {
	sum := sha256.Sum256(content)
	return evidence.File{Name: name, SHA256: hex.EncodeToString(sum[:])}
}
