package builder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prose-im/prose-image/builder/evidence"
	"github.com/prose-im/prose-image/builder/format"
	"github.com/prose-im/prose-image/builder/publish"
)

// A NoManifestError is a path that is no finished bake, nor part of one.
type NoManifestError struct{ Path, Why string }

func (e *NoManifestError) Error() string {
	return fmt.Sprintf("%s is no baked image: %s", e.Path, e.Why)
}

// Hint is the next thing to do.
func (e *NoManifestError) Hint() string {
	return "give the directory that prose-image bake wrote to, or a file in it"
}

// OpenImage reads what a bake made, for publishing: path is the directory of a
// bake, for all its artifacts, or one of the files in it. A version other than
// the bake's is put into the names of the files too. With a directory comes the
// evidence of the bake, where it wrote any. The artifacts themselves are not
// read.
func OpenImage(path, version string) (publish.Image, error) {
	dir, only, r, err := openBake(path)
	if err != nil {
		return publish.Image{}, err
	}
	img := publish.Image{Name: r.Name, Version: r.Version}
	if version != "" {
		img.Version = version
	}
	disks := map[string]string{} // by key: the raw artifact is the disk
	for _, a := range r.Artifacts {
		if a.Format == format.All[0].Name {
			disks[a.Key] = a.SHA256
		}
	}
	for _, a := range r.Artifacts {
		if only != "" && a.File != only {
			continue
		}
		name := a.File
		if rest, ok := strings.CutPrefix(name, r.Name+"-"+r.Version+"-"); ok {
			name = img.Name + "-" + img.Version + "-" + rest
		}
		img.Files = append(img.Files, publish.File{
			Path: filepath.Join(dir, filepath.Base(a.File)), Name: name, Arch: r.Arch, Platform: a.Platform, Format: a.Format,
			Size: a.Size, SHA256: a.SHA256, Disk: disks[a.Key], Release: r.Release, Date: r.Date,
		})
	}
	if only == "" {
		said, err := evidenceFiles(dir, r, img.Version)
		if err != nil {
			return publish.Image{}, &NoManifestError{path, err.Error()}
		}
		img.Files = append(img.Files, said...)
	}
	if len(img.Files) == 0 {
		return publish.Image{}, &NoManifestError{path, fmt.Sprintf("%s does not list it", filepath.Join(dir, ManifestName))}
	}
	return img, nil
}

// openBake finds the manifest for a path: the directory of a bake, or the file
// only in it.
func openBake(path string) (dir, only string, r *Result, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil, &NoManifestError{path, "it is not there"}
	}
	if err != nil {
		return "", "", nil, fmt.Errorf("reading the image: %w", err)
	}
	dir, only = filepath.Clean(path), ""
	if !info.IsDir() {
		dir, only = filepath.Dir(path), filepath.Base(path)
	}
	r, err = ReadManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil, &NoManifestError{path, fmt.Sprintf("%s has no %s", dir, ManifestName)}
	}
	if err != nil {
		return "", "", nil, &NoManifestError{path, err.Error()}
	}
	return dir, only, r, nil
}

// evidenceFiles are what the bake in dir wrote beside its artifacts. Further
// bakes may be published under one version, of another platform or format, so
// that each name says of which bake it is, by the hash of its list of hashes.
func evidenceFiles(dir string, r *Result, version string) (files []publish.File, err error) {
	sums, err := os.ReadFile(filepath.Join(dir, evidence.SumsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	listed, err := evidence.ParseSums(sums)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", evidence.SumsName, err)
	}
	of := evidence.Bake{Name: r.Name, Version: r.Version, Arch: r.Arch}
	as := evidence.Bake{Name: r.Name, Version: version, Arch: r.Arch}
	stem := as.Stem() + "-" + sumOfFile("", sums).SHA256[:8] + "."
	for _, e := range []struct{ file, format string }{
		{of.SBOMName(), "spdx.json"}, {of.ProvenanceName(), "intoto.json"}, {ManifestName, "manifest.json"}, {evidence.SumsName, "sha256sums"}, {evidence.SignatureName, "sig"},
	} {
		content, err := os.ReadFile(filepath.Join(dir, e.file))
		if errors.Is(err, fs.ErrNotExist) && e.file == evidence.SignatureName {
			continue
		}
		if err != nil {
			return nil, err
		}
		f := publish.File{Path: filepath.Join(dir, e.file), Name: stem + e.format, Arch: r.Arch, Format: e.format,
			Size: int64(len(content)), SHA256: sumOfFile("", content).SHA256, Release: r.Release, Date: r.Date}
		if i := slices.IndexFunc(listed, func(l evidence.File) bool { return l.Name == e.file }); i >= 0 {
			f.SHA256 = listed[i].SHA256 // publishing says so when the file is another
		}
		if e.file == evidence.SignatureName {
			f.Name = stem + f.SHA256[:8] + ".sig" // not each key signs the same alike
		}
		files = append(files, f)
	}
	return files, nil
}

// ReadManifest reads the manifest of a bake from the directory of its
// artifacts. One that is not there gives an error that is [fs.ErrNotExist].
func ReadManifest(dir string) (*Result, error) {
	b, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if err != nil {
		return nil, fmt.Errorf("reading manifest: %w", err)
	}
	r := &Result{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("reading manifest %s: %w", filepath.Join(dir, ManifestName), err)
	}
	if r.Schema != 1 {
		return nil, fmt.Errorf("reading manifest %s: its schema is %d, this program writes 1", filepath.Join(dir, ManifestName), r.Schema)
	}
	return r, nil
}
